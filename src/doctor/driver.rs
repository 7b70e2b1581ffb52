//! The drivers known to run XDP programs, for kernels that cannot be asked (before 6.3).

/// What a driver's XDP is known to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Whether the device writes into a socket's memory itself, on some kernel before 6.3.
    pub(super) is_zero_copy: bool,
}

/// Looks a driver up by the name in `/sys`, or a virtual device by its kind.
pub(super) fn known(name: &str) -> Option<Known> {
    if ZERO_COPY.contains(&name) {
        Some(Known { is_zero_copy: true })
    } else {
        NATIVE.contains(&name).then_some(Known {
            is_zero_copy: false,
        })
    }
}

/// Native XDP and zero-copy.
const ZERO_COPY: [&str; 9] = [
    "i40e",
    "ice",
    "ixgbe",
    "igc",
    "mlx5_core",
    "nfp",
    "stmmac",
    "intel-eth-pci",
    "fsl_dpaa2_eth",
];
/// Native XDP alone.
const NATIVE: [&str; 21] = [
    "virtio_net",
    "veth",
    "tun",
    "bond",
    "ena",
    "igb",
    "ixgbevf",
    "mlx4_en",
    "mlx4_core",
    "bnxt_en",
    "qede",
    "sfc",
    "nicvf",
    "mvneta",
    "mvpp2",
    "hv_netvsc",
    "mana",
    "fsl_enetc",
    "rvu_nicpf",
    "gve",
    "xen_netfront",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_known_by_one_list_alone() {
        assert!(ZERO_COPY.iter().all(|name| !NATIVE.contains(name)));
        assert_eq!(
            known("veth"),
            Some(Known {
                is_zero_copy: false
            })
        );
        assert_eq!(known("e1000"), None);
    }
}
