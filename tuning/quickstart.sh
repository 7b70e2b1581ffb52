#!/usr/bin/env bash
# From a clone to a running SIP server, on Debian 12 or later:
#
#     bash tuning/quickstart.sh [--port N] [--dir FOLDER]   installs what the build needs, builds, and serves until Ctrl-C
#     bash tuning/quickstart.sh --once                      builds, has two phones register and call through AF_XDP, and removes all
#
# It serves SIP on UDP port 5060 (--port) of every IPv4 address of this machine; configuration and secret lie in ./strowger-data (--dir).
# --once needs root: it makes two network namespaces joined by a veth pair with two queues, which stand for a NIC, and exits with
# 0 only if everything worked.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh

port=5060
wants_port=
folder=strowger-data
once=

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
    --once) once=yes ;;
    --port) port=${2-} && wants_port=yes && shift || die "--port wants a number" ;;
    --dir) folder=${2-} && shift || die "--dir wants a folder" ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
[[ $port =~ ^[0-9]+$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || die "--port wants a number from 1 to 65535, not '$port'"
[ -n "$folder" ] || die "--dir wants a folder"

build() {
    install_packages "${build_packages[@]}"
    install_rust
    say "building (the first time takes some minutes)"
    cargo build --release
    strowger=${CARGO_TARGET_DIR:-$PWD/target}/release/strowger
}

# --- serve -------------------------------------------------------------------------------------------------------

serve() {
    build
    mkdir -p "$folder"
    local configuration=$folder/strowger.toml
    if [ -e "$configuration" ] && ! is_as_made "$configuration"; then
        [ -z "$wants_port" ] || die "$configuration is no longer as it was made: change the port there, or choose another --dir"
        say "serving with $configuration, which was there already"
    else
        "$strowger" init --config - --port "$port" >"$configuration"
        say "serving with $configuration, made now"
        local address
        for address in $(ip -4 -o address show up | awk '{sub("/.*", "", $4); print $4}'); do
            printf 'SIP at        %s:%s (UDP)\n' "$address" "$port"
        done
        printf 'phones        any user name at one of these addresses, no password: [auth] is off, so keep it off the Internet\n'
        printf 'to look at    curl http://127.0.0.1:8060/healthz (also /metrics, /latency)\n'
        printf 'to stop       Ctrl-C: calls in progress come to their end; a second one does not wait\n'
        printf 'for service   bash tuning/release.sh builds one that takes a quarter less time a call; tuning/README.md has the rest\n\n'
    fi
    exec "$strowger" run --config "$configuration"
}

# Whether a configuration is what `strowger init` writes, for whatever port.
is_as_made() { # FILE
    local any_port='s/(0\.0\.0\.0|192\.0\.2\.1):[0-9]+/\1/'
    cmp -s <(sed -E "$any_port" "$1") <("$strowger" init --config - | sed -E "$any_port")
}

# --- once --------------------------------------------------------------------------------------------------------

once() {
    [ "$(id -u)" = 0 ] || die "--once makes network namespaces: run it as root"
    build
    install_packages "${bed_packages[@]}"
    server=stgqs$$-s
    phones=stgqs$$-p
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-once.XXXXXX")
    children=()
    trap remove EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    make_bed
    start_server
    register alice 5070
    register bob 5071
    call alice bob
    report
    say "it works: two phones registered and one called the other, by AF_XDP from ring to ring"
}

make_bed() {
    say "two namespaces, and between them a veth pair with two queues at each end"
    ip netns add "$server"
    ip netns add "$phones"
    ip -n "$server" link add veth0 numrxqueues 2 numtxqueues 2 type veth \
        peer name phone0 netns "$phones" numrxqueues 2 numtxqueues 2
    ip -n "$server" address add 10.77.0.1/24 dev veth0
    ip -n "$phones" address add 10.77.0.2/24 dev phone0
    ip -n "$server" link set lo up
    ip -n "$server" link set veth0 up
    ip -n "$phones" link set phone0 up
}

start_server() {
    say "the server: AF_XDP in driver mode, two queues, two workers"
    cat >"$scratch/strowger.toml" <<TOML
[[listen]]
address = "10.77.0.1:5060"
backend = "af_xdp"
interface = "veth0"
queues = [0, 1]
mode = "driver"

[workers]
count = 2

[sip]
domains = ["example.com"]
secret_file = "strowger.key"

[store]
url = "none"

[admin]
listen = "127.0.0.1:8060"
TOML
    ip netns exec "$server" "$strowger" run --config "$scratch/strowger.toml" >"$scratch/server.log" 2>&1 &
    server_pid=$!
    children+=("$server_pid")
    local tries
    for tries in $(seq 1 100); do
        if ask healthz >/dev/null 2>&1; then break; fi
        if ! kill -0 "$server_pid" 2>/dev/null || [ "$tries" = 100 ]; then
            cat "$scratch/server.log" >&2
            die "the server does not serve"
        fi
        sleep 0.1
    done
    cat "$scratch/server.log"
}

# Asks the server for one page of its admin address.
ask() { ip netns exec "$server" curl -sSf --max-time 5 "http://127.0.0.1:8060/$1"; }

# Runs SIPp with a scenario of tests/system/scenarios, between a port of the phones and the server.
phone() { # NAME SCENARIO PORT arguments...
    local name=$1 scenario=$2 local_port=$3 outcome=0
    shift 3
    # In the background, so that a signal does not wait for it.
    timeout 60 ip netns exec "$phones" sipp 10.77.0.1:5060 -sf "tests/system/scenarios/$scenario.xml" -i 10.77.0.2 -p "$local_port" \
        -nostdin -m 1 -inf "$scratch/$name.csv" -key contact "10.77.0.2:$local_port" -key padding 0 -d 500 \
        -trace_err -error_file "$scratch/$name.err" "$@" >"$scratch/$name.out" 2>&1 &
    children+=($!)
    wait $! || outcome=$?
    if [ $outcome != 0 ]; then
        tail -n 40 "$scratch/$name.err" "$scratch/$name.out" "$scratch/server.log" >&2
        die "$name, as the $scenario of SIPp, came to grief"
    fi
}

register() { # NAME PORT
    printf 'SEQUENTIAL\n%s;register\n' "$1" >"$scratch/register-$1.csv"
    phone "register-$1" register "$2"
    printf '%s registered sip:%s@10.77.0.2:%s\n' "$1" "$1" "$2"
}

call() { # FROM TO
    printf 'SEQUENTIAL\n%s;call\n' "$2" | tee "$scratch/$2.csv" >"$scratch/$1.csv"
    phone "$2" callee 5071 &
    local callee=$!
    children+=("$callee")
    sleep 0.5
    phone "$1" caller 5070
    wait "$callee" || die "$2 did not see the end of the call"
    printf '%s called %s: INVITE, 100, 180, 200, ACK, half a second of silence, BYE, 200\n' "$1" "$2"
}

report() {
    sleep 0.3 # the server copies the kernel's counters from time to time
    ask metrics >"$scratch/metrics"
    say "what was got (/healthz)"
    ask healthz | jq .
    say "the messages (/metrics)"
    grep -E '^strowger_(messages_(received|sent)|xdp_verdicts|handoffs|requests|responses|drops|retransmissions)_total.* [1-9]' "$scratch/metrics"
    say "the latency inside the server (/latency)"
    ask latency
    local by_xdp by_kernel
    by_xdp=$(metric 'strowger_messages_received_total{backend="af_xdp"}')
    by_kernel=$(metric 'strowger_messages_received_total{backend="udp"}')
    # Two REGISTERs; INVITE, 180, 200, ACK, BYE and its 200.
    [ "$by_xdp" = 8 ] && [ "$by_kernel" = 0 ] || die "8 messages were to come by AF_XDP: $by_xdp did, and $by_kernel by the kernel's socket"
    kill -TERM "$server_pid"
    wait "$server_pid" || die "the server did not end well"
}

metric() { awk -v name="$1" 'index($0, name " ") == 1 {print $2; found = 1} END {if (!found) print 0}' "$scratch/metrics"; }

# Removes what --once made: processes, namespaces, files.
remove() {
    local child namespace
    for child in "${children[@]}"; do kill -9 "$child" 2>/dev/null || true; done
    for namespace in "$server" "$phones"; do
        for child in $(ip netns pids "$namespace" 2>/dev/null || true); do kill -9 "$child" 2>/dev/null || true; done
        ip netns del "$namespace" 2>/dev/null || true
    done
    rm -rf "$scratch"
}

if [ -n "$once" ]; then once; else serve; fi
