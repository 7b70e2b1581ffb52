//! The drivers known to run XDP programs and to have zero-copy AF_XDP, and since which kernel: for kernels that cannot be asked (before 6.3), and
//! for what a newer kernel would bring.
//!
//! The versions are those of the table "Driver support" at docs.ebpf.io (`BPF_PROG_TYPE_XDP`, as of Linux 6.19), whose entries name the commits. One
//! differs: that table gives virtio_net zero-copy since 6.11, but 6.12 refuses to bind, and 7.3 is what `tests/zero_copy.sh` shows at work.

use super::kernel::Version;

/// What a driver's XDP is known to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The kernel since which a program runs in the driver.
    pub(super) native: Version,
    /// The kernel since which the device writes into a socket's memory itself; `None` where none does.
    pub(super) zero_copy: Option<Version>,
}

/// Looks a driver up by the name in `/sys`, or a virtual device by its kind.
pub(super) fn known(name: &str) -> Option<Known> {
    let (.., native, zero_copy) = *DRIVERS.iter().find(|(known, ..)| *known == name)?;
    Some(Known { native, zero_copy })
}

impl Known {
    /// Whether a program runs in the driver of kernel `release`; taken for so where the kernel's number is not known.
    pub(super) fn is_native(self, release: Option<Version>) -> bool {
        release.is_none_or(|release| release >= self.native)
    }

    /// Whether the driver of kernel `release` has zero-copy.
    pub(super) fn is_zero_copy(self, release: Option<Version>) -> bool {
        let since = |since| release.is_none_or(|release| release >= since);
        self.zero_copy.is_some_and(since)
    }
}

/// Name, native XDP since, zero-copy since.
const DRIVERS: [(&str, Version, Option<Version>); 47] = [
    ("mlx4_en", (4, 8), None),
    ("mlx4_core", (4, 8), None),
    ("mlx5_core", (4, 9), Some((5, 3))),
    ("qede", (4, 10), None),
    ("nfp", (4, 10), Some((5, 18))),
    ("virtio_net", (4, 10), Some((7, 3))),
    ("bnxt_en", (4, 11), None),
    ("ixgbe", (4, 12), Some((4, 20))),
    ("nicvf", (4, 12), None),
    ("i40e", (4, 13), Some((4, 20))),
    ("tun", (4, 14), None),
    ("netdevsim", (4, 16), None),
    ("ixgbevf", (4, 17), None),
    ("veth", (4, 19), None),
    ("fsl_dpaa2_eth", (5, 0), Some((6, 2))),
    ("netsec", (5, 3), None),
    ("cpsw", (5, 3), None),
    ("sfc", (5, 5), None),
    ("ice", (5, 5), Some((5, 5))),
    ("mvneta", (5, 5), None),
    ("ena", (5, 6), None),
    ("hv_netvsc", (5, 6), None),
    ("mvpp2", (5, 9), None),
    ("xen_netfront", (5, 9), None),
    ("vif", (5, 9), None),
    ("igb", (5, 10), Some((6, 14))),
    ("fsl_dpa", (5, 11), None),
    ("igc", (5, 13), Some((5, 14))),
    ("stmmac", (5, 13), Some((5, 13))),
    ("intel-eth-pci", (5, 13), Some((5, 13))),
    ("fsl_enetc", (5, 13), None),
    ("bond", (5, 15), None),
    ("rvu_nicpf", (5, 16), None),
    ("rvu_nicvf", (5, 16), None),
    ("mana", (5, 17), None),
    ("funeth", (5, 18), None),
    ("atlantic", (5, 19), None),
    ("mtk_soc_eth", (6, 0), None),
    ("fec", (6, 2), None),
    ("lan966x-switch", (6, 2), None),
    ("tsnep", (6, 3), Some((6, 4))),
    ("gve", (6, 4), Some((6, 4))),
    ("vmxnet3", (6, 6), None),
    ("ionic", (6, 9), None),
    ("icssg-prueth", (6, 15), Some((6, 19))),
    ("idpf", (6, 18), Some((6, 18))),
    ("fbnic", (6, 18), None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_stands_once_and_zero_copy_never_came_before_xdp() {
        for (number, (name, native, zero_copy)) in DRIVERS.iter().enumerate() {
            assert!(
                DRIVERS
                    .iter()
                    .skip(number + 1)
                    .all(|(other, ..)| other != name)
            );
            assert!(zero_copy.is_none_or(|since| since >= *native), "{name}");
        }
        assert_eq!(known("e1000"), None);
    }

    #[test]
    fn the_kernel_decides_what_a_driver_can_do() {
        let igb = known("igb").expect("it is known");
        assert!(!igb.is_native(Some((5, 9))) && igb.is_native(Some((5, 10))));
        assert!(!igb.is_zero_copy(Some((6, 1))) && igb.is_zero_copy(Some((6, 14))));
        assert!(!known("veth").expect("it is known").is_zero_copy(None));
    }
}
