#!/usr/bin/env bash
# Runs tuning/strowger.service under systemd: boots a virtual machine with Debian 12, systemd and the unit, and looks at what the service has
# and lacks, that it comes back after kill -9, and that it ends well. As root, on amd64, and only when somebody asks for it:
#
#     bash tests/unit.sh [--keep]      --keep leaves the logs where they are told
#
# The machine is that of tests/zero_copy.sh, so the server has AF_XDP with zero-copy. Exit status: 0 all was shown; 1 something was not; 3 kernel or
# Debian could not be had.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. tests/guest.sh

keep=
[ "${1-}" != --keep ] || keep=yes

# Bounded as a whole, as tests/zero_copy.sh is.
if [ -z "${unit_is_bounded-}" ]; then
    export unit_is_bounded=yes
    exec timeout --kill-after=30 1800 bash "tests/$(basename "$0")" "$@"
fi

main() {
    demand_root
    install_packages "${guest_packages[@]}" debootstrap
    begin
    bring_kernel
    make_guest
    make_link
    say "booting it, in software, at the lowest priority"
    boot "$scratch/initramfs" 3072 /init
    wait_until "the guest has looked at the service" 900 grep -aq PROBE-END "$scratch/console"
    judge
    say "the unit works: under systemd with four capabilities and AF_XDP, restarted after kill -9, stopped with 0, in $SECONDS s"
}

# Debian with systemd, the server, its unit, and a service that looks at it.
make_guest() {
    say "Debian 12 with systemd and the unit"
    local base=$cache/bookworm
    if [ ! -e "$base/done" ]; then
        rm -rf "$base"
        debootstrap --variant=minbase --include=systemd,systemd-sysv,iproute2,libelf1,zlib1g,procps,curl bookworm "$base" "$mirror" >"$scratch/debootstrap" 2>&1 ||
            cannot "Debian 12 cannot be had: $(tail -n 1 "$scratch/debootstrap")"
        rm -rf "$base"/var/cache/apt/* "$base"/var/lib/apt/lists/* "$base"/usr/share/{doc,locale,man,info}
        touch "$base/done"
    fi
    root=$scratch/guest
    cp -a "$base" "$root"
    put_modules "$root/modules" failover net_failover virtio_net xsk_diag
    cp /bin/busybox "$root/bin/busybox"
    install -m 0755 "$strowger" "$root/usr/local/bin/strowger"
    install -m 0644 tuning/strowger.service "$root/etc/systemd/system/"
    write_files
    local unit
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    for unit in strowger probe; do ln -s "../$unit.service" "$root/etc/systemd/system/multi-user.target.wants/"; done
    (cd "$root" && find . -xdev | cpio -o -H newc --quiet | gzip -1) >"$scratch/initramfs"
}

write_files() {
    mkdir -p "$root/etc/strowger"
    cat >"$root/etc/strowger/strowger.toml" <<'TOML'
[[listen]]
address = "10.77.0.1:5060"
backend = "af_xdp"
interface = "eth0"
queues = [0, 1]
mode = "driver"

[workers]
count = 2

[sip]
domains = ["example.com"]
secret_file = "/var/lib/strowger/strowger.key"
drain_s = 2

[store]
url = "sqlite:/var/lib/strowger/strowger.db"

[limits]
memory = "256 MiB"

[admin]
listen = "127.0.0.1:8060"
TOML
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
for name in failover net_failover virtio_net xsk_diag; do /bin/busybox insmod /modules/$name.ko; done
/bin/busybox ip link set lo up
/bin/busybox ip address add 10.77.0.1/24 dev eth0
/bin/busybox ip link set eth0 up
exec /lib/systemd/systemd
INIT
    chmod 755 "$root/init"
    cat >"$root/etc/systemd/system/probe.service" <<'UNIT'
[Unit]
After=strowger.service

[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/bash /probe

[Install]
WantedBy=multi-user.target
UNIT
    cat >"$root/probe" <<'PROBE'
serves() {
    for _ in $(seq 120); do
        if curl -s --max-time 5 http://127.0.0.1:8060/healthz; then echo && return; fi
        sleep 1
    done
}
echo "PROBE $(systemctl --version | head -n 1)"
serves
main=$(systemctl show -P MainPID strowger)
echo "PROBE before $main"
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$main/status"
echo "PROBE timerslack $(cat "/proc/$main/timerslack_ns") oom $(cat "/proc/$main/oom_score_adj") cgroup $(cat "/proc/$main/cgroup")"
ls -l /var/lib/private/strowger
ss --xdp --extended --no-header | grep umem
systemd-analyze security strowger --no-pager | tail -n 1
kill -9 "$main"
sleep 3
serves
echo "PROBE after $(systemctl show -P MainPID strowger) restarts $(systemctl show -P NRestarts strowger)"
systemctl stop strowger
echo "PROBE end $(systemctl show -P Result strowger) status $(systemctl show -P ExecMainStatus strowger) $(systemctl show -P ActiveState strowger)"
journalctl -u strowger --no-pager -o cat | tail -n 30
echo PROBE-END
sleep 1
systemctl poweroff --force --force
PROBE
}

judge() {
    say "what was seen"
    sed -n '/PROBE systemd/,/PROBE-END/p' "$scratch/console" | tr -d '\r'
    local user
    sees '^CapEff:\s000000c000003000$' "it was to have NET_ADMIN, NET_RAW, BPF and PERFMON, and nothing else"
    sees '^CapBnd:\s000000c000003000$' "nor to be able to get more"
    sees '^NoNewPrivs:\s1$' "it was to gain no privileges"
    sees '^Seccomp:\s2$' "its system calls were to be filtered"
    user=$(sed -n 's/^Uid:\s*\([0-9]*\).*/\1/p' "$scratch/console" | head -n 1)
    [ "${user:-0}" -gt 60000 ] || die "it was to run as a user of its own, not as ${user:-nobody}"
    sees 'PROBE timerslack 50000 oom -800 cgroup 0::/strowger.slice/strowger.service' "timers, the kernel's choice of a victim and the slice were to be the unit's"
    sees 'qid:0,zc:1' "the first queue was to have AF_XDP with zero-copy"
    sees 'qid:1,zc:1' "and the second"
    [ "$(grep -ac '"state":"serving"' "$scratch/console")" -ge 2 ] || die "it was to serve before and after the kill"
    sees 'PROBE after [1-9][0-9]* restarts 1' "it was to be restarted once"
    sees 'PROBE end success status 0 inactive' "it was to end well"
}

sees() { tr -d '\r' <"$scratch/console" | grep -aqE -- "$1" || die "$2"; }

main
