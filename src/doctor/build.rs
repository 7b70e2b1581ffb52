//! This very program: whether the compiler knew what a server under load does.

use super::finding::Finding;
use super::root::Root;

/// What is to be said of it, where the host looked at is the one that it runs on.
pub(super) fn examine(root: &Root) -> Option<Finding> {
    root.is_this_host().then(|| told(cfg!(guided)))
}

fn told(is_guided: bool) -> Finding {
    let subject = "build";
    if is_guided {
        return Finding::ok(subject, "compiled by a training run's profile".to_owned());
    }
    let text = "compiled without a profile of a training run".to_owned();
    Finding::warn(subject, text, "bash tuning/release.sh".to_owned())
        .costing("a REGISTER or a call takes a third more of the processor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_build_without_a_profile_could_be_better() {
        assert_eq!(told(true).level, Level::Ok);
        assert_eq!(told(false).level, Level::Warn);
    }

    #[test]
    fn a_copy_of_another_host_says_nothing_of_this_program() {
        assert!(examine(&Root::at("copy".as_ref())).is_none());
        assert!(examine(&Root::host()).is_some());
    }
}
