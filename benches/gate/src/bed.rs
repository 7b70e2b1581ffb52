//! What the counted paths work on.

use strowger::sip::Index;

/// The state of all paths.
pub(crate) struct Bed {
    pub(crate) index: Index,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self {
            index: Index::new(),
        }
    }
}

/// What the processor offers that our code and its libraries ask for at run time: they take other ways on another one.
pub(crate) fn cpu() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return if is_x86_feature_detected!("avx2") {
        "x86_64-avx2"
    } else {
        "x86_64"
    };
    #[cfg(not(target_arch = "x86_64"))]
    return std::env::consts::ARCH;
}
