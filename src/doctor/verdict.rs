//! The conclusion for a device: which backend a listener on it would get, and why.

use std::fmt;

use serde::Serialize;

use super::driver::Known;
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
    pub(super) fn af_xdp(features: Option<Features>, driver: &str, known: Option<Known>) -> Self {
        let (is_native, zero_copy) = match (features, known) {
            (Some(features), _) => (
                features.is_native(),
                features.is_native() && features.is_zero_copy(),
            ),
            (None, Some(known)) => (true, known.is_zero_copy),
            (None, None) => (false, false),
        };
        let reason = match (is_native, zero_copy) {
            (true, true) => None,
            (true, false) => Some(format!("{driver} copies each packet once into our memory")),
            (false, _) => Some(format!(
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
    use super::*;

    #[test]
    fn what_the_driver_says_counts_before_its_name() {
        let verdict = Verdict::af_xdp(
            Some(Features::of(true, false)),
            "ice",
            Some(Known { is_zero_copy: true }),
        );
        assert_eq!(
            (verdict.mode, verdict.zero_copy, verdict.certain),
            (Some("driver"), false, true)
        );
        let verdict = Verdict::af_xdp(None, "ice", Some(Known { is_zero_copy: true }));
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
    fn without_native_xdp_it_is_generic() {
        let verdict = Verdict::af_xdp(Some(Features::of(false, true)), "e1000", None);
        assert_eq!((verdict.mode, verdict.zero_copy), (Some("generic"), false));
        assert!(verdict.is_af_xdp());
        assert!(!Verdict::udp("no privilege").is_af_xdp());
    }
}
