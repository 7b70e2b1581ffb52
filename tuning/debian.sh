# What the scripts of this project need of a Debian machine (12 or later). To be sourced, not run.

# What the build needs beside Rust: clang compiles the XDP program, libbpf is built from the source that its crate brings.
build_packages=(clang m4 libelf-dev zlib1g-dev pkg-config make gcc libc6-dev linux-libc-dev binutils ca-certificates)
# What a bed of namespaces with SIP phones needs.
bed_packages=(sip-tester iproute2 ethtool curl jq procps util-linux)

# The oldest Rust that builds Strowger: Cargo.toml's rust-version.
rust_minor_min=88

say() { printf '\n=== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Installs the packages that are missing; asks nothing, and touches nothing when none is.
install_packages() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    [ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: ${missing[*]}"
    say "installing ${missing[*]}"
    if [ -z "${package_lists_are_new-}" ]; then
        apt-get update -q
        package_lists_are_new=yes
    fi
    # Some bring a service (bind9): it is not started, since the tests run the program themselves.
    (
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    )
}

# Whether the cargo on the path is new enough.
has_rust() {
    local version
    version=$(cargo --version 2>/dev/null) || return 1
    [[ $version =~ ^cargo\ ([0-9]+)\.([0-9]+) ]] || return 1
    [ "${BASH_REMATCH[1]}" -gt 1 ] || [ "${BASH_REMATCH[2]}" -ge "$rust_minor_min" ]
}

# Sees to a cargo that is new enough: the one on the path or in ~/.cargo/bin, else Debian 12's rustc-web from its security updates.
install_rust() {
    if ! has_rust && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
    if has_rust; then return; fi
    install_packages cargo-web rustc-web
    hash -r
    has_rust || die "Rust 1.$rust_minor_min or later is needed; found: $(cargo --version 2>&1 || true). Install it from https://rustup.rs"
}
