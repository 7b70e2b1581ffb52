# The bed that servers are measured in: two namespaces and a veth pair, the server with its receive NAPI on one core, the load
# with its own on another. To be sourced, after tuning/debian.sh; the same for every server that is compared.

server_core=${SERVER_CORE:-1}
load_core=${LOAD_CORE:-0}
server_space=stb-server load_space=stb-load
server_device=stbs0 load_device=stbl0
server_address=10.77.200.1 load_address=10.77.200.2
target=$server_address:5060
# The build for service, where there is one.
strowger=$PWD/target/guided/release/strowger
[ -x "$strowger" ] || strowger=$PWD/target/release/strowger
strowger=${STROWGER_BINARY:-$strowger}
server_pids=()

# Makes the bed anew; what an earlier run left behind is removed.
make_bed() {
    exec 7>/run/strowger-bench.lock
    flock -n 7 || die "another measurement runs: it would be measured too"
    remove_bed
    rmem_max=$(sysctl -n net.core.rmem_max)
    [ "$rmem_max" -ge 4194304 ] || sysctl -q -w net.core.rmem_max=4194304
    local space
    for space in $server_space $load_space; do
        ip netns add $space
        ip -n $space link set lo up
        in_space $space sysctl -q -w net.ipv6.conf.all.disable_ipv6=1
    done
    ip -n $server_space link add $server_device numrxqueues "${queues:-1}" numtxqueues "${queues:-1}" type veth \
        peer name $load_device netns $load_space numrxqueues "${queues:-1}" numtxqueues "${queues:-1}"
    ip -n $server_space addr add $server_address/24 dev $server_device
    ip -n $load_space addr add $load_address/24 dev $load_device
    ip -n $server_space link set $server_device up
    ip -n $load_space link set $load_device up
    # Packets of the load are cut as a NIC would deliver them.
    in_space $load_space ethtool -K $load_device tso off gso off >/dev/null
    in_space $server_space ethtool -K $server_device tso off gso off >/dev/null
}

# Ends what runs in the bed and removes it; nobody else's processes are in namespaces of these names.
remove_bed() {
    local space pid
    stop_server
    for space in $server_space $load_space; do
        [ -e /run/netns/$space ] || continue
        for pid in $(ip netns pids $space); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del $space
    done
    if [ -n "${rmem_max-}" ]; then sysctl -q -w net.core.rmem_max="$rmem_max"; fi
}

in_space() { ip netns exec "$@"; }

# Has the receive NAPI of both devices run as threads, each on the core of its side: after the XDP programs are attached, since
# each attachment makes them anew. A device without one takes its packets by GRO, which makes it have a NAPI.
place_napi() {
    place_napi_of $server_space $server_device "$server_core"
    place_napi_of $load_space $load_device "$load_core"
}

place_napi_of() {
    local pid
    in_space "$1" ethtool -K "$2" gro on >/dev/null
    # sysfs shows the devices of the namespace that it was mounted in, which is what `ip netns exec` sees to.
    in_space "$1" sh -c "echo 0 > /sys/class/net/$2/threaded; echo 1 > /sys/class/net/$2/threaded"
    for pid in $(pids_of_napi "$2"); do taskset -pc "$3" "$pid" >/dev/null; done
}

pids_of_napi() {
    local comm
    for comm in /proc/[0-9]*/comm; do
        if grep -qs "^napi/$1-" "$comm"; then comm=${comm%/comm} && echo "${comm#/proc/}"; fi
    done
}

# Ends the server, and waits for its end: a second is enough for a server that nobody calls.
stop_server() {
    local tenths
    [ -n "${server_main-}" ] || return 0
    kill "${server_pids[@]:-$server_main}" 2>/dev/null || true
    for ((tenths = 0; tenths < 30; tenths++)); do
        kill -0 "$server_main" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$server_main" "${server_pids[@]}" 2>/dev/null || true
    wait "$server_main" 2>/dev/null || true
    server_main='' server_pids=()
}

# load SECONDS KIND [ARGUMENT...]: runs a load against the server, at most so long; its result is in load.json. Its exit status does
# not count: a rate that does not hold is a result too. A server that was overloaded a moment ago may refuse one of those who only prepare:
# then it is tried once more.
load() {
    run_load "$@"
    if [ ! -s "$scratch/load.json" ]; then
        say "no result, once more: $(tail -1 "$scratch/load.err")"
        sleep 3
        run_load "$@"
    fi
    [ -s "$scratch/load.json" ] || die "the load gave no result: $(tail -3 "$scratch/load.err")"
}

run_load() {
    local seconds=$1 kind=$2 pids
    shift 2
    pids=$(IFS=,; echo "${server_pids[*]}")
    : >"$scratch/load.json"
    ip netns exec $load_space taskset -c "$load_core" timeout -k 5 "$seconds" "$strowger" load "$kind" --json --quiet --target $target \
        --domain example.com --backend "${load_backend:-af_xdp}" --interface $load_device --ports "${source_ports:-4}" --port 7000 \
        --pid "$pids" --napi $server_device "$@" >"$scratch/load.json" 2>"$scratch/load.err" 7>&- &
    # Its XDP program has made the NAPI of its device anew.
    sleep 0.4
    place_napi_of $load_space $load_device "$load_core"
    wait $! || true
}

wait_until() {
    local tenths what=$1 seconds=$2
    shift 2
    for ((tenths = 0; tenths < seconds * 10; tenths++)); do
        if "$@"; then return; fi
        kill -0 "$server_main" 2>/dev/null || die "it ended before this was so: $what: $(tail -qn 5 "$scratch"/*.log)"
        sleep 0.1
    done
    die "not within $seconds s: $what"
}
