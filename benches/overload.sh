#!/usr/bin/env bash
# What becomes of calls where more come than can be done: Kamailio and Strowger, from half of their highest rate to the most
# that the load can send. The server may use a part of its core alone (--part, in percent), so that one core can send several times what
# it can do. As root, about six minutes; leaves benches/results/overload.md and overload.svg, and nothing else.
#
#     bash benches/overload.sh [--part 25] [--system kamailio|strowger-af_xdp|strowger-udp]... [--append]
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. benches/bed.sh
. benches/servers.sh

systems=() part=25 append='' runs=target/bench/overload.tsv
group=/sys/fs/cgroup/cpu/strowger-bench
scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-bench.XXXXXX")
calls=(invite --phones 20000 --prepare-rate 2000 --hold 0)

main() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --system) systems+=("$2") && shift ;;
        --part) part=$2 && shift ;;
        --append) append=yes ;;
        *) die "what is $1? See the head of this file" ;;
        esac
        shift
    done
    [ "$(id -u)" = 0 ] || die "run it as root: it makes network namespaces"
    [ ${#systems[@]} -gt 0 ] || systems=(kamailio strowger-af_xdp)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_packages "${bed_packages[@]}" kamailio bc
    mkdir -p target/bench benches/results
    [ -n "$append" ] || rm -f $runs
    local system
    for system in "${systems[@]}"; do
        make_bed
        case "$system" in
        kamailio) start_kamailio registrar ;;
        *) start_strowger "${system#strowger-}" "$no_store
[limits]
memory = \"70%\"
bindings = 200000" ;;
        esac
        slow_down
        rise "$system"
        remove_bed
    done
    write_results
}

# Gives the server its part of the core: in slices of 5 ms, which is what a NIC's queue bridges.
slow_down() {
    [ "$part" -lt 100 ] || return 0
    [ -d /sys/fs/cgroup/cpu ] || die "this host has no cpu controller at /sys/fs/cgroup/cpu; --part 100 goes without"
    mkdir -p $group
    echo 5000 >$group/cpu.cfs_period_us
    echo $((part * 50)) >$group/cpu.cfs_quota_us
    local pid
    for pid in "${server_pids[@]}"; do echo "$pid" >$group/cgroup.procs; done
}

clean_up() {
    local status=$?
    trap - EXIT
    remove_bed
    rmdir $group 2>/dev/null || true
    rm -rf "$scratch"
    exit $status
}

# From half of the highest rate to four times as many, 8 s each; and what becomes of a few calls right after.
rise() {
    load 120 "${calls[0]}" --search --rate 500 --time 3 --threshold 500 "${calls[@]:1}"
    local highest times rate
    highest=$(jq '.search.highest_rate_per_s // 0' "$scratch/load.json")
    say "$1: highest rate $highest/s"
    for times in 0.5 1 1.5 2 3 4; do
        rate=$(echo "$highest * $times" | bc)
        load 60 "${calls[0]}" --rate "$rate" --time 7 --wait 2 --threshold 4000 "${calls[@]:1}"
        jq -r --arg system "$1" --arg times "$times" '[$system, $times, .offered_rate_per_s, (.attempts / .time_s),
            .kinds[0].session_establishment_rate_per_s, .kinds[0].latency_ms.median, .kinds[0].latency_ms.q99, (.generator_limits | length)]
            | @tsv' "$scratch/load.json" | tee -a $runs
    done
    rate=$(echo "$highest * 0.2" | bc)
    # --warm-up leaves out the two seconds in which it may still recover; no phone registers anew.
    load 60 "${calls[0]}" --rate "$rate" --time 5 --warm-up 2 --wait 3 --threshold 500 --role uac --to "sip:load7@example.com" "${calls[@]:1}"
}

write_results() {
    awk -F '\t' -f benches/curve.awk $runs >benches/results/overload.svg
    {
        printf 'Calls in overload: what is offered, and what is established within 4 s, a second\n\n'
        printf '%s; %s processors, Linux %s; the server with %s %% of its core. `bash benches/overload.sh`. The curve: overload.svg.\n\n' \
            "$(date -u +%F)" "$(nproc)" "$(uname -r)" "$part"
        printf '| | x its highest rate | offered, 1/s | established, 1/s | median ms | q99 ms |\n|---|---|---|---|---|---|\n'
        awk -F '\t' '{ printf "| %s | %s | %d%s | %d | %.1f | %.1f |\n", $1, $2, $4, $8 > 0 ? " (the most that the load sent)" : "", $5, $6, $7 }' $runs
    } >benches/results/overload.md
    cat benches/results/overload.md
}

main "$@"
