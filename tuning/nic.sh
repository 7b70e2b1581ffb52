#!/usr/bin/env bash
# Sets a NIC up for Strowger: queues, rings, the spread of UDP flows over the queues, coalescing, offloads, interrupts. As root:
#
#     bash tuning/nic.sh INTERFACE [--queues N] [--cpus 2,3] [--busy-poll] [--save FILE]    does what the device knows, and says what it does not
#     bash tuning/nic.sh INTERFACE --show                                     shows how the device stands
#     bash tuning/nic.sh INTERFACE --undo FILE                                puts back what --save wrote down (default: see below)
#
# Without --queues there is a queue for each processor of --cpus, or as many as the device has. Before it changes anything it writes
# what was to /run/strowger-nic.INTERFACE (--save). It never takes the device down by itself, though a driver may, for a second, when queues or
# rings change: do it before the server starts. --busy-poll is for `[workers] busy_poll = true`, and harms without it. Every value is explained in tuning/README.md.
set -euo pipefail

interface= queues= cpus= busy_poll= save= action=tune missed=0

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
say() { printf '%s\n' "$*"; }
die() { printf 'nic.sh: %s\n' "$*" >&2 && exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
    --queues) queues=${2-} && shift || die "--queues wants a number" ;;
    --cpus) cpus=${2-} && shift || die "--cpus wants a list, as 2,3" ;;
    --busy-poll) busy_poll=yes ;;
    --save) save=${2-} && shift || die "--save wants a file" ;;
    --undo) action=undo && save=${2-$save} && { [ $# -lt 2 ] || shift; } ;;
    --show) action=show ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) interface=$1 ;;
    esac
    shift
done
[ -n "$interface" ] || { usage >&2 && exit 2; }
[ -e "/sys/class/net/$interface" ] || die "there is no interface $interface: ip -brief link"
command -v ethtool >/dev/null || die "ethtool is missing: apt-get install ethtool"
[[ -z $queues || $queues =~ ^[1-9][0-9]*$ ]] || die "--queues wants a number, not '$queues'"
[[ -z $cpus || $cpus =~ ^[0-9]+(,[0-9]+)*$ ]] || die "--cpus wants a list as 2,3, not '$cpus'"
[ "$action" = show ] || [ "$(id -u)" = 0 ] || die "run it as root: it changes a device"
save=${save:-/run/strowger-nic.$interface}

# A figure of `ethtool -l` or `-g`: of which half ("Pre-set" or "Current"), of which line.
figure() {
    { ethtool "$1" "$interface" 2>/dev/null || true; } | awk -v half="$2" -v name="$3" \
        '/^Pre-set/ {now = "Pre-set"} /^Current/ {now = "Current"} now == half && index($0, name ":") == 1 {print $NF; exit}'
}

feature() { { ethtool -k "$interface" 2>/dev/null || true; } | awk -v name="$1:" '$1 == name {print $2; exit}'; }

# Runs one step: what it does, and the command. What a device does not know is said, and no failure.
attempt() {
    local what=$1 error
    shift
    if error=$("$@" 2>&1); then
        say "done      $what: $*"
    else
        missed=$((missed + 1))
        say "not here  $what: ${error##*$'\n'}"
    fi
}

# The interrupts of the receive queues, in the queues' order: `ice-eth0-TxRx-3`, `mlx5_comp3@pci:...`, `virtio2-input.3`. A virtio device has
# them from the PCI device above it.
interrupts() {
    local own=
    for own in "/sys/class/net/$interface/device/msi_irqs" "/sys/class/net/$interface/device/../msi_irqs" ""; do
        [ -n "$own" ] && [ -d "$own" ] && break
    done
    awk -v name="$interface" -v own="$([ -z "$own" ] || ls "$own" | tr '\n' ' ')" '
        BEGIN {count = split(own, numbers, " "); for (i = 1; i <= count; i++) known[numbers[i]] = 1}
        {
            number = $1; sub(":", "", number); action = $NF; sub("@.*", "", action)
            if (count ? !(number in known) : action !~ "(^|-)" name "(-|$)") next
            if (tolower(action) !~ /rx|input|comp|ntfy|queue/ || tolower(action) ~ /output|config|async|misc|fdir|control/) next
            if (match(action, /[0-9]+$/)) print substr(action, RSTART), number
        }' /proc/interrupts | sort -n | awk '!seen[$1]++ {print $2}'
}

remember() {
    [ ! -e "$save" ] || { say "kept      $save, which says how it was at first" && return; }
    local number
    {
        for name in Combined RX TX; do
            number=$(figure -l Current $name)
            [[ ! $number =~ ^[1-9] ]] || echo "ethtool -L $interface ${name,,} $number"
        done
        for name in RX TX; do
            number=$(figure -g Current $name)
            [[ ! $number =~ ^[1-9] ]] || echo "ethtool -G $interface ${name,,} $number"
        done
        for name in generic-receive-offload large-receive-offload rx-vlan-offload; do
            number=$(feature $name)
            [ -z "$number" ] || echo "ethtool -K $interface $name $number"
        done
        { ethtool -c "$interface" 2>/dev/null || true; } | awk -v i="$interface" '/^(rx|tx)-(usecs|frames):/ && $2 ~ /^[0-9]+$/ {sub(":", "", $1); print "ethtool -C " i " " $1 " " $2}'
        for flow in udp4 udp6; do
            { ethtool -n "$interface" rx-flow-hash $flow 2>/dev/null || true; } | awk -v i="$interface" -v f=$flow \
                '/IP SA/ {v = v "s"} /IP DA/ {v = v "d"} /L4 bytes 0/ {v = v "f"} /L4 bytes 2/ {v = v "n"} END {if (v) print "ethtool -N " i " rx-flow-hash " f " " v}'
        done
        for number in $(interrupts); do
            [ ! -r "/proc/irq/$number/smp_affinity_list" ] || echo "echo $(cat "/proc/irq/$number/smp_affinity_list") > /proc/irq/$number/smp_affinity_list"
        done
        for number in napi_defer_hard_irqs gro_flush_timeout; do
            echo "echo $(cat "/sys/class/net/$interface/$number") > /sys/class/net/$interface/$number"
        done
    } >"$save"
    say "kept      $save: how it was"
}

tune() {
    local kind=Combined most ring list count=0 number
    most=$(figure -l Pre-set Combined)
    if [[ ! $most =~ ^[1-9] ]]; then kind=RX && most=$(figure -l Pre-set RX); fi
    IFS=, read -r -a list <<<"$cpus"
    queues=${queues:-${#list[@]}}
    [ "$queues" != 0 ] || queues=${most:-1}
    if [[ $most =~ ^[0-9]+$ ]] && [ "$queues" -gt "$most" ]; then die "$interface has at most $most queues, not $queues"; fi
    remember
    attempt "queues, one a worker" ethtool -L "$interface" "${kind,,}" "$queues"
    for kind in RX TX; do
        ring=$(figure -g Pre-set $kind)
        [[ ! $ring =~ ^[1-9] ]] || attempt "the ${kind,,} ring as long as it goes, 4,096 at most" \
            ethtool -G "$interface" "${kind,,}" $((ring < 4096 ? ring : 4096))
    done
    attempt "an even spread over the queues" ethtool -X "$interface" equal "$queues"
    attempt "UDP over IPv4 spread by addresses and ports" ethtool -N "$interface" rx-flow-hash udp4 sdfn
    attempt "UDP over IPv6 spread by addresses and ports" ethtool -N "$interface" rx-flow-hash udp6 sdfn
    attempt "no merging of packets, which XDP does not take" ethtool -K "$interface" lro off
    attempt "tags left in the packets, where the program reads them" ethtool -K "$interface" rxvlan off
    attempt "interrupts at once when idle, at most each 20 us under load" ethtool -C "$interface" adaptive-rx off rx-usecs 20
    [ -z "$busy_poll" ] || attempt "interrupts are put off for a worker that polls" sh -c "echo 2 > /sys/class/net/$interface/napi_defer_hard_irqs && echo 200000 > /sys/class/net/$interface/gro_flush_timeout"
    if [ ${#list[@]} -gt 0 ]; then
        for number in $(interrupts); do
            attempt "interrupt $number beside its worker" sh -c "echo ${list[$((count % ${#list[@]}))]} > /proc/irq/$number/smp_affinity_list"
            count=$((count + 1))
        done
    fi
    say "$missed steps are not to be had on this device; undo all: bash $0 $interface --undo"
}

undo() {
    [ -r "$save" ] || die "$save is not there: nothing was kept, so nothing can be put back"
    local line
    while read -r line; do attempt "back" sh -c "$line"; done <"$save"
    rm -f "$save"
}

show() {
    ethtool -i "$interface" | grep -E '^(driver|version|firmware-version|bus-info)' || true
    printf 'queues     %s of %s combined, %s of %s receive\n' "$(figure -l Current Combined)" "$(figure -l Pre-set Combined)" \
        "$(figure -l Current RX)" "$(figure -l Pre-set RX)"
    printf 'rings      receive %s of %s, transmit %s of %s\n' "$(figure -g Current RX)" "$(figure -g Pre-set RX)" \
        "$(figure -g Current TX)" "$(figure -g Pre-set TX)"
    for name in generic-receive-offload large-receive-offload rx-vlan-offload; do printf '%-28s %s\n' "$name" "$(feature $name)"; done
    interrupts | while read -r number; do printf 'interrupt %s on %s\n' "$number" "$(cat "/proc/irq/$number/smp_affinity_list" 2>/dev/null)"; done
}

$action
