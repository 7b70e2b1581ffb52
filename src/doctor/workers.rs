//! Which processors serve: those of the configuration, or what it would be without one.

use super::root::{Root, as_list, numbers};
use crate::config::Config;
use crate::config::budget::worker_count;
use crate::config::host::Host;
use crate::limits::WORKERS_MAX;

/// The workers, by the processor of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workers {
    /// The processor of each worker, in order.
    pub(super) cpus: Vec<usize>,
    /// Processors that this process may use.
    pub(super) allowed: Vec<usize>,
    /// Whether an idle worker has the kernel poll the device; `None` without a configuration.
    pub(super) busy_poll: Option<bool>,
}

impl Workers {
    /// Those of `config`; without one, one a queue of the device that has the most of `queues`.
    pub(super) fn find(root: &Root, config: Option<&Config>, queues: usize) -> Self {
        let allowed = allowed(root);
        let Some(config) = config else {
            let count = queues.clamp(1, WORKERS_MAX).min(allowed.len().max(1));
            return Self {
                cpus: allowed.iter().copied().take(count).collect(),
                allowed,
                busy_poll: None,
            };
        };
        let count = worker_count(config, &Host::read_under(root.path(), allowed.len()));
        let named = &config.workers.cpus;
        let cpus = if named.is_empty() {
            allowed.iter().copied().take(count).collect()
        } else {
            named.clone()
        };
        Self {
            cpus,
            allowed,
            busy_poll: Some(config.workers.busy_poll),
        }
    }

    /// Whether they were taken for granted rather than read.
    pub(super) fn is_assumed(&self) -> bool {
        self.busy_poll.is_none()
    }

    /// The processors as a list, and where they are from.
    pub(super) fn told(&self) -> String {
        let list = as_list(&self.cpus);
        if self.is_assumed() {
            format!("{list} (taken for the workers', since no --config names them)")
        } else {
            list
        }
    }
}

/// The processors that this process may use, or those that are online.
fn allowed(root: &Root) -> Vec<usize> {
    let status = root.read("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map(numbers);
    list.filter(|list| !list.is_empty())
        .or_else(|| root.list("/sys/devices/system/cpu/online"))
        .unwrap_or_default()
}
