#!/usr/bin/env bash
# Kamailio and Strowger side by side: the same bed, the same core for the server and its receive NAPI, the same load, in turn.
# As root, on Debian 12, from anywhere; nothing stays behind but the runs (target/bench/runs.tsv) and the table made of them:
#
#     bash benches/compare.sh                          every scenario, three rounds: about an hour
#     bash benches/compare.sh --quick                  REGISTER and calls, one short round: about two minutes
#     bash benches/compare.sh --scenario call --system kamailio --rounds 1 --append     a slice, added to the runs that are there
#
# --scenario options|register|digest|call|forward|store|latency-register|latency-call   (several times for several)
# --system   echo-af_xdp|echo-udp|kamailio|strowger-af_xdp|strowger-udp   (so, too)
# --rounds N   --append   --table FILE (benches/results/compare.md)   STROWGER_BINARY, SERVER_CORE, LOAD_CORE
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. benches/bed.sh
. benches/servers.sh
. benches/scenarios.sh

scenarios=() systems=() rounds=3 quick='' append='' table=benches/results/compare.md
runs=target/bench/runs.tsv
scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-bench.XXXXXX")

main() {
    read_arguments "$@"
    [ "$(id -u)" = 0 ] || die "run it as root: it makes network namespaces"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_packages "${bed_packages[@]}" kamailio kamailio-postgres-modules postgresql bc sqlite3
    [ -x "$strowger" ] || die "build it first: bash tuning/release.sh"
    mkdir -p "$(dirname $runs)" "$(dirname "$table")"
    [ -n "$append" ] || rm -f $runs
    local round scenario system
    for ((round = 1; round <= rounds; round++)); do
        for scenario in "${scenarios[@]}"; do
            # In turn, so that what drifts on the host befalls all of them alike.
            for system in "${systems[@]}"; do
                takes_part "$scenario" "$system" || continue
                say "$scenario, $system, round $round of $rounds"
                make_bed
                prepare_scenario "$scenario" "$system"
                highest=0 bound=none at_highest=0
                if [[ $scenario != latency-* ]]; then seek "$(first_rate "$system" "$first")" "${about[@]}"; fi
                if [ "$scenario" = call ]; then keep "${about[@]}"; fi
                measure "$scenario" "$system" "$even_rate" "${about[@]}"
                remove_bed
                stop_postgres
            done
        done
    done
    write_table
    say "$table is made of $(wc -l <$runs) runs"
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --scenario) scenarios+=("$2") && shift ;;
        --system) systems+=("$2") && shift ;;
        --rounds) rounds=$2 && shift ;;
        --table) table=$2 && shift ;;
        --append) append=yes ;;
        --quick) quick=yes rounds=1 ;;
        *) die "what is $1? See the head of this file" ;;
        esac
        shift
    done
    if [ ${#scenarios[@]} -eq 0 ]; then
        if [ -n "$quick" ]; then scenarios=(register call); else scenarios=(options register digest call forward store latency-register latency-call); fi
    fi
    if [ ${#systems[@]} -eq 0 ]; then
        systems=(kamailio strowger-af_xdp strowger-udp)
        if [ -z "$quick" ]; then systems=(echo-af_xdp echo-udp "${systems[@]}"); fi
    fi
    trial=2 hold=40 steady=6 phones=100000
    if [ -n "$quick" ]; then trial=1 hold=0 steady=3 phones=20000; fi
}

clean_up() {
    local status=$?
    trap - EXIT
    remove_bed
    stop_postgres
    rm -rf "$scratch"
    exit $status
}

# An echo has no calls and no users.
takes_part() {
    case "$1,$2" in
    options,* | register,*) true ;;
    *,echo-*) false ;;
    *) true ;;
    esac
}

# seek RATE KIND...: sets `highest`, and `bound`: whose bound it is.
seek() {
    local rate=$1 kind=$2 patience=200
    shift 2
    load $patience "$kind" --search --rate "$rate" --time $trial --threshold 500 "$@"
    highest=$(jq '.search.highest_rate_per_s // 0' "$scratch/load.json")
    bound=$(jq -r 'if .search.is_generator_limit then "load" else "server" end' "$scratch/load.json")
    at_highest=$(jq '.cpu_us_per_operation.server_and_receive // 0' "$scratch/load.json")
    say "highest rate: $highest/s ($bound), $at_highest us each"
}

# keep KIND...: the highest rate of calls counts where it is held until the transactions of before are over (64 T1, twice).
keep() {
    local kind=$1 tries found=$highest
    shift
    [ "$hold" -gt 0 ] || return 0
    for tries in 1 2 3 4 5 6; do
        highest=$(echo "$found * (1 - 0.08 * $tries)" | bc)
        # What the try before left behind is not to weigh on this one.
        [ "$tries" = 1 ] || sleep 35
        load $((hold + 30)) "$kind" --rate "$highest" --time $hold --wait 2 --threshold 500 "$@"
        if jq -e .success "$scratch/load.json" >/dev/null; then
            say "held for $hold s: $highest/s; transactions live at its end: $(transactions_live)"
            return
        fi
        say "not held for $hold s: $highest/s: $(jq -c '.kinds[0] | [.failures, .unsent, .attempts]' "$scratch/load.json")"
    done
    highest=0
}

transactions_live() {
    strowger_metrics 2>/dev/null | awk '/^strowger_transactions_live/ { sum += $2 } END { print sum + 0 }' || true
}

# measure SCENARIO SYSTEM RATE KIND...: the CPU time an operation and the latencies, at the same rate for all; adds a line to the runs.
measure() {
    local scenario=$1 system=$2 rate=$3 kind=$4
    shift 4
    load 120 "$kind" --rate "$rate" --time $((steady + 1)) --warm-up 1 --wait 3 "$@"
    jq -r --arg scenario "$scenario" --arg system "$system" --arg highest "$highest" --arg bound "$bound" --arg at_highest "$at_highest" '
        .cpu_us_per_operation as $cpu | .kinds[0].latency_ms as $ms
        | [$scenario, $system, $highest, $bound, $at_highest, .offered_rate_per_s, (.successes * 100 / ([.attempts, 1] | max)),
           $cpu.server_and_receive, $cpu.server_user, $cpu.server_system, $cpu.receive, $ms.median, $ms.q99, $ms["q99.9"], $ms.max,
           $ms.samples, $ms.mean, $ms.q75, $ms.q90]
        | map(. // 0 | tostring) | @tsv' "$scratch/load.json" | tee -a $runs
}

write_table() {
    {
        printf 'Kamailio and Strowger side by side\n\n'
        printf '%s; %s, %s processors, Linux %s; Kamailio %s; Strowger %s (%s). `bash benches/compare.sh`, %s.\n\n' "$(date -u +%F)" \
            "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$(uname -r)" \
            "$(kamailio -v | awk 'NR == 1 { print $3 }')" "$(git rev-parse --short HEAD)" "$(build_of)" "$(how)"
        awk -F '\t' -f benches/table.awk $runs
    } >"$table"
    cat "$table"
}

build_of() { case $strowger in */guided/*) echo 'built by `tuning/release.sh`' ;; *) echo "$strowger" ;; esac; }

how() { if [ -n "$quick" ]; then echo "the short form"; else echo "medians, and the lowest and highest in brackets"; fi; }

main "$@"
