#!/usr/bin/env bash
# What becomes of calls and registrations where more come than can be done: Kamailio and Strowger, from half of their highest rate to the
# most that the load can send, and what becomes of a few right after. The server may use a part of its core alone (--part, in percent), so that
# one core can send several times what it can do. As root, about ten minutes; leaves benches/results/overload.md and overload.svg, and nothing else.
#
#     bash benches/overload.sh [--part 25] [--system kamailio|strowger-af_xdp|strowger-udp]... [--kind calls|register]... [--append]
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. benches/bed.sh
. benches/servers.sh

systems=() kinds=() part=25 append='' runs=target/bench/overload.tsv ends=target/bench/overload-end.tsv
group=/sys/fs/cgroup/cpu/strowger-bench
scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-bench.XXXXXX")

main() {
    while [ $# -gt 0 ]; do
        case "$1" in
        --system) systems+=("$2") && shift ;;
        --kind) kinds+=("$2") && shift ;;
        --part) part=$2 && shift ;;
        --append) append=yes ;;
        *) die "what is $1? See the head of this file" ;;
        esac
        shift
    done
    [ "$(id -u)" = 0 ] || die "run it as root: it makes network namespaces"
    [ ${#systems[@]} -gt 0 ] || systems=(kamailio strowger-af_xdp)
    [ ${#kinds[@]} -gt 0 ] || kinds=(calls register)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_packages "${bed_packages[@]}" kamailio bc
    mkdir -p target/bench benches/results
    [ -n "$append" ] || rm -f $runs $ends
    local system kind
    for system in "${systems[@]}"; do
        for kind in "${kinds[@]}"; do
            make_bed
            case "$system" in
            kamailio) start_kamailio registrar ;;
            *) start_strowger "${system#strowger-}" "$no_store
[limits]
memory = \"70%\"
bindings = 200000" ;;
            esac
            slow_down
            rise "$system" "$kind"
            remove_bed
        done
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

# rise SYSTEM KIND: from half of the highest rate to four times as many, 7 s each; and what becomes of a few right after.
rise() {
    local about few highest times rate
    case "$2" in
    calls)
        about=(invite --phones 20000 --prepare-rate 4000 --hold 0)
        few=(invite --phones 8000 --prepare-rate 20000 --hold 0)
        ;;
    register)
        about=(register --phones 20000 --prepare --prepare-rate 4000 --expires 7200)
        few=(register --phones 8000 --prepare --prepare-rate 20000 --expires 7200)
        ;;
    *) die "there is no kind $2" ;;
    esac
    load 120 "${about[0]}" --search --rate 2000 --time 3 --threshold 500 "${about[@]:1}"
    highest=$(jq '.search.highest_rate_per_s // 0' "$scratch/load.json")
    say "$1, $2: highest rate $highest/s"
    for times in 0.5 1 1.5 2 3 4; do
        rate=$(echo "$highest * $times" | bc)
        load 60 "${about[0]}" --rate "$rate" --time 7 --wait 2 --threshold 4000 "${about[@]:1}"
        keep "$1" "$2" "$times" "$runs"
    done
    # Once more the most, and it ends without waiting for anybody; then at once a few, of which those of the first second do not count.
    load 60 "${about[0]}" --rate "$rate" --time 4 --wait 0 --threshold 4000 "${about[@]:1}"
    rate=$(echo "$highest * 0.5" | bc)
    load 60 "${few[0]}" --rate "$rate" --time 6 --warm-up 1 --wait 2 --threshold 500 "${few[@]:1}"
    keep "$1" "$2" 0.5 "$ends"
}

# keep SYSTEM KIND TIMES FILE: a line of what the last load has shown.
keep() {
    cp "$scratch/load.json" "target/bench/overload-$1-$2-$3-$(basename "$4" .tsv).json"
    jq -r --arg system "$1" --arg kind "$2" --arg times "$3" '[$system, $kind, $times, .attempts / .time_s, .successes / .time_s,
        100 * .successes / .attempts, .kinds[0].latency_ms.median, .kinds[0].latency_ms.q99, (.generator_limits | length)]
        | @tsv' "$scratch/load.json" | tee -a "$4"
}

write_results() {
    awk -F '\t' -f benches/curve.awk $runs >benches/results/overload.svg
    {
        printf '# Calls and registrations in overload\n\n'
        printf '%s; %s processors, Linux %s; the server with %s %% of its core. `bash benches/overload.sh`. The curve: [overload.svg](overload.svg).\n\n' \
            "$(date -u +%F)" "$(nproc)" "$(uname -r)" "$part"
        printf 'Done: a call is established, a phone registered, within 4 s of when it was due.\n\n'
        printf '| | | x its highest rate | offered, 1/s | done, 1/s | of its peak | median ms | q99 ms |\n|---|---|---|---|---|---|---|---|\n'
        awk -F '\t' '{ if ($5 > peak[$1, $2]) peak[$1, $2] = $5; line[NR] = $0 }
            END { for (n = 1; n <= NR; n++) { split(line[n], f, FS)
                printf("| %s | %s | %s | %d%s | %d | %.0f %% | %.1f | %.1f |\n", f[1], f[2], f[3], f[4], (f[9] > 0 ? " (the load was at its limit)" : ""),
                    f[5], 100 * f[5] / peak[f[1], f[2]], f[7], f[8]) } }' $runs
        printf '\nWhat was offered 1.8 s after the end of the most, at half of the highest rate, and answered within 500 ms:\n\n'
        printf '| | | offered, 1/s | done | median ms | q99 ms |\n|---|---|---|---|---|---|\n'
        awk -F '\t' '{ printf("| %s | %s | %d | %.2f %% | %.1f | %.1f |\n", $1, $2, $4, $6, $7, $8) }' $ends
    } >benches/results/overload.md
    cat benches/results/overload.md
}

main "$@"
