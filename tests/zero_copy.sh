#!/usr/bin/env bash
# Shows zero-copy at work: boots a virtual machine whose virtio-net device writes into the server's memory itself, and passes
# registrations and calls through Strowger in it. As root, on a Debian machine (amd64), and only when somebody asks for it:
#
#     bash tests/zero_copy.sh [--keep]      --keep leaves the logs where they are told
#
# The machine is emulated in software (no KVM is needed), at the lowest priority, so that it says what works and nothing about speed. Zero-copy in
# virtio_net takes kernel 7.3 or later: it comes from trixie-backports, from the mirror that this machine uses anyway, and is unpacked under
# target/zero_copy without being installed. STROWGER_GUEST_KERNEL=FOLDER takes another: FOLDER/vmlinuz and FOLDER/modules/ (virtio_net and what
# it needs, as .ko or .ko.xz). STROWGER_BINARY names the server; without it the release binary is built.
#
# Exit status: 0 all was shown; 1 something was not; 3 the kernel could not be had.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. tests/guest.sh

traffic_packages=(ethtool sip-tester curl jq)
keep=
[ "${1-}" != --keep ] || keep=yes

# Bounded as a whole: half an hour, of which a build from nothing takes ten minutes, the download one, the guest three.
if [ -z "${zero_copy_is_bounded-}" ]; then
    export zero_copy_is_bounded=yes
    exec timeout --kill-after=30 1800 bash "tests/$(basename "$0")" "$@"
fi

main() {
    demand_root
    install_packages "${guest_packages[@]}" "${traffic_packages[@]}"
    begin
    bring_kernel
    make_guest
    make_link
    serve
    register_and_call
    load_by_hundreds
    judge
    say "zero-copy works: both queues' sockets had it, and every registration and call went through them, in $SECONDS s"
}

# --- the guest ---------------------------------------------------------------------------------------------------

# A guest of four programs: busybox, the server, ss, which asks the kernel of each AF_XDP socket (xsk_diag) whether it has zero-copy, and
# ethtool, which counts what the driver gave to the sockets of each queue.
make_guest() {
    say "a guest with busybox, strowger, ss and ethtool"
    root=$scratch/guest
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,etc,modules,lib64}
    cp /bin/busybox "$root/bin/busybox"
    local program library
    cp "$strowger" "$root/bin/strowger"
    cp "$(command -v ss)" "$(command -v ethtool)" "$root/bin/"
    for program in "$root/bin/strowger" "$root/bin/ss" "$root/bin/ethtool"; do
        for library in $(ldd "$program" | grep -o '/[^ ]*'); do
            install -D "$library" "$root$library"
        done
    done
    put_modules "$root/modules" failover net_failover virtio_net xsk_diag
    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/token"
    chmod 600 "$root/etc/token"
    token=$(cat "$root/etc/token")
    write_configuration
    write_init
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$scratch/initramfs"
}

write_configuration() {
    cat >"$root/etc/strowger.toml" <<'TOML'
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
secret_file = "/tmp/strowger.key"

[store]
url = "none"

[limits]
memory = "256 MiB"

[admin]
listen = "10.77.0.1:8060"
token_file = "/etc/token"
TOML
}

write_init() {
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
for name in failover net_failover virtio_net xsk_diag; do insmod /modules/$name.ko || echo "GUEST no $name"; done
echo 32 > /proc/sys/vm/nr_hugepages
ip link set lo up
ip address add 10.77.0.1/24 dev eth0
ip link set eth0 up
echo "GUEST kernel $(uname -r), driver $(basename "$(readlink /sys/class/net/eth0/device/driver)"), queues $(ls /sys/class/net/eth0/queues | grep -c rx)"
strowger doctor --interface eth0
strowger run --config /etc/strowger.toml &
server=$!
# The witness that is not our code: what the kernel says of the sockets.
while sleep 5 && kill -0 $server 2>/dev/null; do
    ss --xdp --extended --no-header 2>&1 | sed 's/^/GUEST ss /'
    ethtool -S eth0 2>&1 | sed -n 's/^ *\(rx[0-9]_xdp_redirects\)/GUEST ethtool \1/p'
done
wait $server
echo "GUEST server ended with $?"
poweroff -f
INIT
    chmod 755 "$root/init"
}

serve() {
    say "booting it, in software, at the lowest priority"
    boot "$scratch/initramfs" 1024 /init
    wait_until "the server in the guest serves" 180 ask healthz
    grep GUEST "$scratch/console" | head -n 1
    grep '=>    backend' "$scratch/console" || true
}

# --- the traffic -------------------------------------------------------------------------------------------------

# Runs SIPp with a scenario of tests/system/scenarios.
phone() { # NAME SCENARIO PORT
    local name=$1 scenario=$2 local_port=$3 outcome=0
    timeout 120 ip netns exec "$phones" sipp 10.77.0.1:5060 -sf "tests/system/scenarios/$scenario.xml" -i 10.77.0.2 -p "$local_port" \
        -nostdin -m 1 -inf "$scratch/$name.csv" -key contact "10.77.0.2:$local_port" -key padding 0 -d 500 \
        -trace_err -error_file "$scratch/$name.err" >"$scratch/$name.out" 2>&1 &
    children+=($!)
    wait $! || outcome=$?
    if [ $outcome != 0 ]; then
        tail -n 40 "$scratch/$name.err" "$scratch/$name.out" "$scratch/console" >&2
        die "$name, as the $scenario of SIPp, came to grief"
    fi
}

register_and_call() {
    say "SIPp: two phones register, and one calls the other"
    local user port=5070
    for user in alice bob; do
        printf 'SEQUENTIAL\n%s;register\n' "$user" >"$scratch/register-$user.csv"
        phone "register-$user" register "$port"
        port=$((port + 1))
    done
    printf 'SEQUENTIAL\nbob;call\n' | tee "$scratch/bob.csv" >"$scratch/alice.csv"
    phone bob callee 5071 &
    local callee=$!
    children+=("$callee")
    sleep 1
    phone alice caller 5070
    wait "$callee" || die "bob did not see the end of the call"
    printf 'alice called bob: INVITE, 100, 180, 200, ACK, half a second of silence, BYE, 200\n'
}

load_by_hundreds() {
    say "strowger load: registrations and calls from 16 ports, so that both queues have their share"
    local kind options=(--target 10.77.0.1:5060 --from 10.77.0.2 --ports 16 --domain example.com --phones 200 --quiet --json)
    ip netns exec "$phones" "$strowger" load register "${options[@]}" --rate 20 --count 400 --time 60 >"$scratch/register.json" ||
        die "registrations failed: $(cat "$scratch/register.json")"
    ip netns exec "$phones" "$strowger" load invite "${options[@]}" --rate 5 --count 100 --hold 500 --time 60 >"$scratch/invite.json" ||
        die "calls failed: $(cat "$scratch/invite.json")"
    for kind in register invite; do
        jq -r --arg kind "$kind" '"\($kind): \(.successes) of \(.attempts) attempts succeeded"' "$scratch/$kind.json"
    done
}

# --- the judgement -----------------------------------------------------------------------------------------------

judge() {
    say "what the server got (/healthz), and what the guest's kernel says of its sockets (ss --xdp)"
    ask healthz | jq -c .listeners
    ask metrics >"$scratch/metrics"
    [ "$(ask healthz | jq -r '[.listeners[] | .zero_copy] | all')" = true ] || die "the server says that it did not get zero-copy"
    local tries sockets=0
    for tries in $(seq 1 60); do
        sockets=$(grep 'GUEST ss' "$scratch/console" | grep -o 'qid:[0-9]*,zc:1' | sort -u | wc -l)
        [ "$sockets" != 2 ] || break
        sleep 0.5
    done
    grep 'GUEST ss.*umem' "$scratch/console" | sort -u || true
    [ "$sockets" = 2 ] || die "two sockets with zero-copy were to be seen by ss, one a queue: $sockets were"
    # The last count is at most a look of the guest's old.
    sleep 12
    local queue count
    for queue in 0 1; do
        count=$(sed -n "s/^GUEST ethtool rx${queue}_xdp_redirects: *\([0-9]*\).*/\1/p" "$scratch/console" | tail -n 1)
        printf 'queue %s       %s packets redirected to its socket\n' "$queue" "${count:-no}"
        [ "${count:-0}" -gt 0 ] || die "queue $queue was to have its share"
    done
    local by_xdp by_kernel
    by_xdp=$(metric 'strowger_messages_received_total{backend="af_xdp"}')
    by_kernel=$(metric 'strowger_messages_received_total{backend="udp"}')
    printf 'messages      %s by AF_XDP, %s by the kernel\n' "$by_xdp" "$by_kernel"
    # 402 REGISTERs and those of the calls' phones, and six messages a call.
    [ "$by_xdp" -ge 1000 ] && [ "$by_kernel" = 0 ] || die "every message was to come by AF_XDP"
}

metric() { awk -v name="$1" 'index($0, name " ") == 1 {print $2; found = 1} END {if (!found) print 0}' "$scratch/metrics"; }


main
