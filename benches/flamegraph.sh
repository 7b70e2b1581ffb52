#!/usr/bin/env bash
# Where the server's time goes: records it under `strowger load` in the bed of compare.sh, and draws a flame graph a scenario. As root:
#
#     bash benches/flamegraph.sh [--scenario options|register|digest|call|forward|store]... [--backend af_xdp|udp] [--rate N]
#
# Leaves target/bench/flame-SCENARIO-BACKEND.svg, on CPU (of the server and of the kernel thread that receives for it), and
# ...-off.svg where the host lets perf see the scheduler; else it says so. inferno is built once, into target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. benches/bed.sh
. benches/servers.sh
. benches/scenarios.sh

scenarios=() backend=af_xdp rate='' seconds=8
inferno_version=0.12.8
scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-bench.XXXXXX")
tools=$PWD/target/tools

main() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --scenario) scenarios+=("$2") ;;
        --backend) backend=$2 ;;
        --rate) rate=$2 ;;
        *) die "what is $1? See the head of this file" ;;
        esac
        shift 2
    done
    [ "$(id -u)" = 0 ] || die "run it as root: it makes network namespaces"
    [ ${#scenarios[@]} -gt 0 ] || scenarios=(options register digest call forward store)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_packages "${bed_packages[@]}" linux-perf sqlite3 postgresql
    [ -x "$strowger" ] || die "build it first: bash tuning/release.sh"
    [ -x "$tools/bin/inferno-flamegraph" ] ||
        cargo install --quiet --root "$tools" --version $inferno_version inferno
    mkdir -p target/bench
    local scenario
    for scenario in "${scenarios[@]}"; do draw "$scenario"; done
}

clean_up() {
    local status=$?
    trap - EXIT
    remove_bed
    stop_postgres
    rm -rf "$scratch"
    exit $status
}

# Records one scenario at a rate that it holds, and draws it.
draw() {
    local name=$1-$backend recorder pids
    say "$name"
    make_bed
    prepare_scenario "$1" "strowger-$backend"
    pids=$(IFS=,; echo "${server_pids[*]}")
    pids+=$(printf ',%s' $(pids_of_napi $server_device))
    # What prepares the phones is not to be seen: of the load, the middle is recorded.
    (
        sleep $((lead + 2))
        perf record -q -e cpu-clock -F 1999 --call-graph dwarf,8192 -p "$pids" -o "$scratch/on.data" -- sleep 4
        perf record -q -e sched:sched_switch --call-graph dwarf,8192 -p "$pids" -o "$scratch/off.data" -- sleep 1
    ) >"$scratch/perf.log" 2>&1 7>&- &
    recorder=$!
    load $((lead + seconds + 60)) "${about[0]}" --rate "${rate:-$even_rate}" --time $seconds "${about[@]:1}"
    wait $recorder || true
    remove_bed
    stop_postgres
    [ -s "$scratch/on.data" ] || die "perf recorded nothing: $(cat "$scratch/perf.log")"
    fold "$scratch/on.data" | "$tools/bin/inferno-flamegraph" --title "$name at ${rate:-$even_rate}/s" >"target/bench/flame-$name.svg"
    say "target/bench/flame-$name.svg"
    if [ -s "$scratch/off.data" ]; then
        fold "$scratch/off.data" | "$tools/bin/inferno-flamegraph" --title "$name: where it goes to sleep" --countname switches \
            --colors blue >"target/bench/flame-$name-off.svg"
    else
        say "no off-CPU graph: this host does not let perf see sched:sched_switch ($(tail -1 "$scratch/perf.log"))"
    fi
    rm -f "$scratch"/*.data
}

fold() { perf script --no-inline -i "$1" 2>/dev/null | "$tools/bin/inferno-collapse-perf" --all 2>/dev/null; }

main "$@"
