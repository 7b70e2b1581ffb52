//! What a container needs that holds a server of a configuration: its memory, huge pages, processors, and the manifest for Kubernetes.

use std::fmt::{self, Write};

use super::budget::Budget;
use super::host::Host;
use super::{Config, Memory, Mistakes, StoreUrl};
use crate::limits::FRAME_LEN;

/// What a container is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Mebibytes of memory: all that the budget admits, a tenth more, and the program itself.
    pub memory_mib: u64,
    /// Mebibytes in huge pages: the frames of the AF_XDP queues.
    pub huge_pages_mib: u64,
    /// Whole processors: the workers', and one for all other threads.
    pub cpus: u64,
}

impl Container {
    /// Computes what `config` needs; of `host` only the queues count, and what is not of the file.
    ///
    /// # Errors
    /// The counts that the file sets do not fit the memory that it gives.
    pub fn compute(config: &Config, host: &Host) -> Result<Self, Mistakes> {
        let mut host = host.clone();
        host.descriptors_max = DESCRIPTORS;
        let budget = Budget::compute(config, &host)?;
        let memory = budget.total() + budget.total() / 10 + PROGRAM;
        let huge = budget.frames * FRAME_LEN as u64;
        Ok(Self {
            memory_mib: memory.div_ceil(MIB),
            huge_pages_mib: huge.div_ceil(HUGE_PAGE) * (HUGE_PAGE / MIB),
            cpus: budget.workers as u64 + 1,
        })
    }

    /// The manifest for Kubernetes, with `text`, the file of `config`, in it.
    ///
    /// # Errors
    /// `[limits] memory` is a share: it would be one of the container that it is to size.
    pub fn manifest(&self, config: &Config, text: &str) -> Result<String, &'static str> {
        if matches!(config.limits.memory, Memory::Percent(_)) {
            return Err(
                "[limits] memory is a share, and would be one of the container that it is to size; name an amount, as \"4 GiB\"",
            );
        }
        let mut manifest = String::new();
        for warning in warnings(config) {
            let _ = writeln!(manifest, "# warning: {warning}");
        }
        let resources = self.to_string();
        let mut is_of_the_file = false;
        for line in TEMPLATE.lines() {
            let indent = &line[..line.len() - line.trim_start().len()];
            if line == "---" {
                is_of_the_file = false;
            }
            if is_of_the_file {
                continue;
            }
            let word = line.trim_start().split(' ').next().unwrap_or("");
            let _ = match word {
                "requests:" | "limits:" => writeln!(manifest, "{indent}{word} {{{resources}}}"),
                "terminationGracePeriodSeconds:" => {
                    let seconds = config.sip.drain.as_secs() + AFTER_DRAIN_S;
                    writeln!(manifest, "{indent}{word} {seconds}")
                }
                "httpGet:" | "tcpSocket:" => writeln!(manifest, "{}", probe(line, config)),
                "strowger.toml:" => {
                    is_of_the_file = true;
                    let indented = text.lines().map(|line| match line {
                        "" => "\n".to_owned(),
                        line => format!("    {line}\n"),
                    });
                    write!(manifest, "{line}\n{}", indented.collect::<String>())
                }
                _ => writeln!(manifest, "{line}"),
            };
        }
        Ok(manifest)
    }
}

impl fmt::Display for Container {
    /// As Kubernetes' resources.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu: \"{}\", memory: {}Mi", self.cpus, self.memory_mib)?;
        if self.huge_pages_mib > 0 {
            write!(f, ", hugepages-2Mi: {}Mi", self.huge_pages_mib)?;
        }
        Ok(())
    }
}

/// A probe, aimed at `[admin]`.
fn probe(line: &str, config: &Config) -> String {
    match &config.admin {
        Some(admin) => {
            let host = format!("host: {}", admin.listen.ip());
            let port = format!("port: {}", admin.listen.port());
            line.replace("host: 127.0.0.1", &host)
                .replace("port: 8060", &port)
        }
        None => line.to_owned(),
    }
}

/// What the file has that does not fit a container of this manifest.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let state = std::path::Path::new(STATE);
    if !config.sip.secret_file.starts_with(state) {
        warnings.push(format!("[sip] secret_file is not under {STATE}: the file system is read-only, and it is lost with the container"));
    }
    if let StoreUrl::Sqlite(path) = &config.store.url
        && !path.starts_with(state)
    {
        warnings.push(format!("[store] url is not under {STATE}: the same"));
    }
    if config.admin.is_none() {
        warnings.push("there is no [admin], so the probes find nobody".to_owned());
    }
    warnings
}

const TEMPLATE: &str = include_str!("../../tuning/kubernetes.yaml");
/// The only folder that the container may write.
const STATE: &str = "/var/lib/strowger";
const MIB: u64 = 1 << 20;
/// The page size that the manifest asks for.
const HUGE_PAGE: u64 = 2 << 20;
/// The program, its threads' stacks, and what the libraries hold.
const PROGRAM: u64 = 64 << 20;
/// What container runtimes give, and the unit: LimitNOFILE of `tuning/strowger.service`.
const DESCRIPTORS: u64 = 1 << 20;
/// From the end of draining to the store's last batch.
const AFTER_DRAIN_S: u64 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    /// The file within the manifest that the project ships.
    fn shipped() -> String {
        let lines = TEMPLATE
            .lines()
            .skip_while(|line| !line.contains("strowger.toml: |"));
        let block = lines.skip(1).take_while(|line| *line != "---");
        let lines = block.map(|line| line.strip_prefix("    ").unwrap_or(line));
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn host() -> Host {
        Host::read_under("/nonexistent".as_ref(), 8)
    }

    fn parse(text: &str) -> Config {
        Config::parse("/etc/strowger/strowger.toml".as_ref(), text).expect("good")
    }

    #[test]
    fn the_manifest_that_is_shipped_is_the_one_that_its_own_file_comes_to() {
        let text = shipped();
        let config = parse(&text);
        let container = Container::compute(&config, &host()).expect("it fits");
        let manifest = container.manifest(&config, &text);
        assert_eq!(manifest.expect("an amount"), TEMPLATE);
    }

    #[test]
    fn memory_is_all_that_the_budget_admits_and_a_tenth() {
        let text = "[[listen]]\naddress = \"192.0.2.1:5060\"\ninterface = \"eth0\"\nqueues = [0, 1]\n[workers]\ncount = 2\n[limits]\nmemory = \"1 GiB\"\n";
        let config = parse(text);
        let budget = Budget::compute(&config, &host()).expect("it fits");
        let container = Container::compute(&config, &host()).expect("it fits");
        assert!(container.memory_mib << 20 > budget.total() + budget.total() / 10);
        assert_eq!((container.cpus, container.huge_pages_mib), (3, 64));
        let manifest = container.manifest(&config, text).expect("an amount");
        assert!(
            manifest.starts_with("# warning: [sip] secret_file"),
            "{manifest}"
        );
        assert!(
            manifest.contains("terminationGracePeriodSeconds: 90\n"),
            "{manifest}"
        );
        assert!(
            manifest.contains("    [workers]\n    count = 2\n"),
            "{manifest}"
        );
    }

    #[test]
    fn a_share_of_the_container_sizes_no_container() {
        let text = "[[listen]]\naddress = \"192.0.2.1:5060\"\n[limits]\nmemory = \"80%\"\n";
        let config = parse(text);
        let container = Container::compute(&config, &host()).expect("it fits");
        assert!(container.manifest(&config, text).is_err());
    }
}
