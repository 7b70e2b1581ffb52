# A virtual machine for a test, emulated in software at the lowest priority: its kernel, its link, its end. To be sourced, not run.
#
# The kernel comes from trixie-backports, from the mirror that this machine uses anyway, and is unpacked under target/zero_copy without being
# installed; STROWGER_GUEST_KERNEL=FOLDER takes another (FOLDER/vmlinuz and FOLDER/modules/). STROWGER_BINARY names the server; without it the
# release binary is built.

guest_packages=(qemu-system-x86 busybox-static cpio xz-utils iproute2 procps)

demand_root() {
    [ "$(id -u)" = 0 ] || die "run it as root: it makes a network namespace and a tap device"
    [ "$(uname -m)" = x86_64 ] || die "the recipe is for amd64; this is $(uname -m)"
}

# Sees to the server's binary and to a place for all that is made, which is removed at the end. Sets `strowger`, `cache`, `phones`, `scratch`.
begin() {
    if [ -z "${STROWGER_BINARY-}" ]; then
        install_packages "${build_packages[@]}"
        install_rust
        say "building"
        cargo build --release
    fi
    strowger=${STROWGER_BINARY:-${CARGO_TARGET_DIR:-$PWD/target}/release/strowger}
    cache=${CARGO_TARGET_DIR:-$PWD/target}/zero_copy
    phones=stgzc$$-p
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-guest.XXXXXX")
    children=()
    trap remove EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# --- the kernel --------------------------------------------------------------------------------------------------

# A kernel that has zero-copy in virtio_net. Sets `mirror`, `vmlinuz` and `modules`.
bring_kernel() {
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null | grep -v -- -security | head -n 1)
    [ -n "$mirror" ] || die "apt knows no mirror of Debian here"
    if [ -n "${STROWGER_GUEST_KERNEL-}" ]; then
        vmlinuz=$STROWGER_GUEST_KERNEL/vmlinuz modules=$STROWGER_GUEST_KERNEL/modules
        [ -r "$vmlinuz" ] || die "STROWGER_GUEST_KERNEL: there is no $vmlinuz"
        return
    fi
    say "a kernel that has zero-copy in virtio_net (7.3 or later)"
    mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial"

    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie-backports main\n' "$mirror" >"$cache/apt/sources.list"
    own=(-q -o "Dir::Etc::sourcelist=$cache/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$cache/apt/lists"
        -o "Dir::Cache=$cache/apt" -o APT::Sandbox::User=root)
    apt-get "${own[@]}" update || cannot "trixie-backports cannot be read from this machine's mirror"
    local release
    release=$(apt-cache "${own[@]}" depends linux-image-cloud-amd64 | sed -n 's/.*Depends: linux-image-\([0-9].*\)$/\1/p' | head -n 1)
    [[ $release =~ ^([0-9]+)\.([0-9]+) ]] || cannot "trixie-backports has no linux-image-cloud-amd64"
    ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 7003)) || cannot "trixie-backports has kernel $release, whose virtio_net may have no zero-copy"
    unpack_kernel "$release"
}

unpack_kernel() { # RELEASE
    local release=$1 folder=$cache/$1 package
    if [ ! -e "$folder/done" ]; then
        rm -rf "$folder"
        mkdir -p "$folder/packages" "$folder/root"
        # Older kernels are one package; newer ones have the image and the modules apart.
        (
            cd "$folder/packages"
            for package in "linux-image-$release" "linux-binary-$release" "linux-modules-$release"; do
                if apt-cache "${own[@]}" show "$package" >/dev/null 2>&1; then apt-get "${own[@]}" download "$package"; fi
            done
            for package in *.deb; do dpkg-deb -x "$package" "$folder/root"; done
        ) || cannot "kernel $release cannot be fetched"
        rm -rf "$folder/packages"
        touch "$folder/done"
    fi
    modules=$folder/root/usr/lib/modules/$release
    if [ ! -d "$modules" ]; then modules=$folder/root/lib/modules/$release; fi
    vmlinuz=$modules/vmlinuz
    if [ ! -r "$vmlinuz" ]; then vmlinuz=$folder/root/boot/vmlinuz-$release; fi
    [ -r "$vmlinuz" ] || cannot "the packages of kernel $release hold no vmlinuz where it was looked for"
    printf 'kernel        %s\n' "$release"
}

# The one thing that is not this project's to mend.
cannot() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 3
}

# Puts modules into a guest's folder, uncompressed.
put_modules() { # FOLDER NAME...
    local folder=$1 name file
    shift
    mkdir -p "$folder"
    for name in "$@"; do
        file=$(find "$modules" -name "$name.ko" -o -name "$name.ko.xz" | head -n 1)
        [ -n "$file" ] || cannot "the kernel has no module $name"
        case $file in
        *.xz) xz -dc "$file" >"$folder/$name.ko" ;;
        *) cp "$file" "$folder/$name.ko" ;;
        esac
    done
}

# --- the machine -------------------------------------------------------------------------------------------------

# The guest's other end: a tap device with two queues, in a namespace of its own.
make_link() {
    ip netns add "$phones"
    ip -n "$phones" link set lo up
    ip -n "$phones" tuntap add dev tap0 mode tap multi_queue
    ip -n "$phones" address add 10.77.0.2/24 dev tap0
    ip -n "$phones" link set tap0 up
}

boot() { # INITRAMFS MEBIBYTES INIT
    # iommu_platform: the driver maps memory by the kernel's DMA interface, which is what a socket's memory goes by.
    setsid nice -n 19 sh -c 'echo 19 >/proc/self/autogroup 2>/dev/null; exec "$@"' sh \
        ip netns exec "$phones" qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m "$2" -no-reboot -display none -monitor none \
        -nodefaults -serial "file:$scratch/console" -kernel "$vmlinuz" -initrd "$1" \
        -append "console=ttyS0 quiet no_timer_check mitigations=off panic=-1 net.ifnames=0 rdinit=$3" \
        -netdev tap,id=link,ifname=tap0,script=no,downscript=no,vhost=off,queues=2 \
        -device virtio-net-pci,netdev=link,mq=on,vectors=6,disable-legacy=on,iommu_platform=on,romfile= >"$scratch/qemu" 2>&1 &
    guest_pid=$!
    children+=("$guest_pid")
}

wait_until() { # WHAT SECONDS COMMAND...
    local what=$1 tries
    for tries in $(seq 1 $(($2 * 2))); do
        if "${@:3}" >/dev/null 2>&1; then return; fi
        kill -0 "$guest_pid" 2>/dev/null || break
        sleep 0.5
    done
    tail -n 60 "$scratch/qemu" "$scratch/console" >&2
    die "it did not come about: $what"
}

ask() { ip netns exec "$phones" curl -sSf --max-time 10 -H "Authorization: Bearer $token" "http://10.77.0.1:8060/$1"; }

# Removes what was made: processes, the namespace with its device, files. The kernel stays under target/.
remove() {
    local child
    for child in "${children[@]}"; do
        kill -9 "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    for child in $(ip netns pids "$phones" 2>/dev/null || true); do kill -9 "$child" 2>/dev/null || true; done
    ip netns del "$phones" 2>/dev/null || true
    if [ -n "$keep" ]; then
        say "logs in $scratch"
    else
        rm -rf "$scratch"
    fi
}
