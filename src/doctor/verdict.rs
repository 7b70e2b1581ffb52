//! The conclusion for a device: which backend a listener on it would get, and why.

use std::fmt;

use serde::Serialize;

use super::driver::Known;
use super::kernel::Version;
use super::netdev::Features;

/// What `backend = "auto"` comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `af_xdp` or `udp`.
    backend: &'static str,
    /// For AF_XDP, where the program would run: `driver` or `generic`.
    mode: Option<&'static str>,
    /// For AF_XDP, whether the device would write into our memory itself.
    zero_copy: bool,
    /// Whether the driver itself said so; otherwise it is what is known of drivers of its name.
    certain: bool,
    /// Why it is not more.
    reason: Option<String>,
}

impl Verdict {
    /// The kernel's sockets, since `reason`.
    pub(super) fn udp(reason: &str) -> Self {
        Self {
            backend: "udp",
            mode: None,
            zero_copy: false,
            certain: true,
            reason: Some(reason.to_owned()),
        }
    }

    /// AF_XDP, as far as the driver goes: what it says itself, else what is known of it.
    pub(super) fn af_xdp(
        features: Option<Features>,
        driver: &str,
        known: Option<Known>,
        release: Option<Version>,
    ) -> Self {
        let (is_native, zero_copy) = match (features, known) {
            (Some(features), _) => (
                features.is_native(),
                features.is_native() && features.is_zero_copy(),
            ),
            (None, Some(known)) => (known.is_native(release), known.is_zero_copy(release)),
            (None, None) => (false, false),
        };
        // What a newer kernel would bring.
        let since = known
            .and_then(|known| known.zero_copy)
            .filter(|since| release.is_some_and(|release| release < *since));
        let is_known_native = known.is_some_and(|known| known.is_native(release));
        let later = since.map(|(major, minor)| format!("kernel {major}.{minor} or later"));
        let reason = match (is_native, zero_copy, later) {
            (true, true, None) => None,
            // A driver may claim it before the rest of the kernel lets a socket have it.
            (true, true, Some(later)) => Some(format!(
                "{driver} says so, and it has been seen at work with {later}"
            )),
            (true, false, None) => {
                Some(format!("{driver} copies each packet once into our memory"))
            }
            (true, false, Some(later)) => Some(format!(
                "{driver} copies each packet once into our memory; with {later} it need not"
            )),
            (false, ..) if is_known_native => Some(format!(
                "{driver} has XDP, but not for this device as it is set up now (its queues or its MTU)"
            )),
            (false, ..) => Some(format!(
                "{driver} has no XDP, so the program runs behind the kernel's own work for a packet"
            )),
        };
        Self {
            backend: "af_xdp",
            mode: Some(if is_native { "driver" } else { "generic" }),
            zero_copy,
            certain: features.is_some(),
            reason,
        }
    }

    /// Whether it is AF_XDP.
    #[must_use]
    pub fn is_af_xdp(&self) -> bool {
        self.backend == "af_xdp"
    }

    /// Whether the program would run in the driver.
    pub(super) fn is_native(&self) -> bool {
        self.mode == Some("driver")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend)?;
        if let Some(mode) = self.mode {
            write!(
                f,
                ", {mode} mode, {}",
                if self.zero_copy { "zero-copy" } else { "copy" }
            )?;
        }
        if !self.certain {
            f.write_str(" (by the driver's name: this kernel cannot be asked)")?;
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::driver::known;
    use super::*;

    #[test]
    fn what_the_driver_says_counts_before_its_name() {
        let features = Some(Features::of(true, false));
        let verdict = Verdict::af_xdp(features, "ice", known("ice"), Some((6, 12)));
        assert_eq!(
            (verdict.mode, verdict.zero_copy, verdict.certain),
            (Some("driver"), false, true)
        );
        let verdict = Verdict::af_xdp(None, "ice", known("ice"), Some((6, 1)));
        assert_eq!(
            (verdict.mode, verdict.zero_copy, verdict.certain),
            (Some("driver"), true, false)
        );
        assert!(
            verdict
                .to_string()
                .starts_with("af_xdp, driver mode, zero-copy (by the driver's name")
        );
    }

    #[test]
    fn what_a_newer_kernel_would_bring_is_told() {
        let features = Some(Features::of(true, false));
        let verdict = Verdict::af_xdp(features, "igb", known("igb"), Some((6, 12)));
        assert!(
            verdict.to_string().contains("with kernel 6.14 or later"),
            "{verdict}"
        );
        let verdict = Verdict::af_xdp(None, "igb", known("igb"), Some((5, 4)));
        assert_eq!(verdict.mode, Some("generic"));
        let claimed = Some(Features::of(true, true));
        let verdict = Verdict::af_xdp(claimed, "virtio_net", known("virtio_net"), Some((6, 18)));
        assert!(verdict.zero_copy && verdict.to_string().contains("seen at work with kernel 7.3"));
        let verdict = Verdict::af_xdp(
            Some(Features::of(false, false)),
            "veth",
            known("veth"),
            Some((6, 18)),
        );
        assert!(
            verdict
                .to_string()
                .contains("not for this device as it is set up now")
        );
    }

    #[test]
    fn without_native_xdp_it_is_generic() {
        let verdict = Verdict::af_xdp(Some(Features::of(false, true)), "e1000", None, None);
        assert_eq!((verdict.mode, verdict.zero_copy), (Some("generic"), false));
        assert!(verdict.is_af_xdp());
        assert!(!Verdict::udp("no privilege").is_af_xdp());
    }
}
