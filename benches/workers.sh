#!/usr/bin/env bash
# What sharing costs: two workers on two queues against one on one, in CPU time an operation; and how two workers share the calls
# of one trunk, all of whose packets have one 4-tuple and so come by one queue. As root, about two minutes on two cores:
#
#     bash benches/workers.sh [--rounds N]
#
# The load shares the cores with the second worker, so nothing here is a rate; CPU time is what is compared. Leaves benches/results/workers.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh
. benches/bed.sh
. benches/servers.sh
. benches/scenarios.sh

rounds=2 runs=target/bench/workers.tsv
scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-bench.XXXXXX")

main() {
    if [ "${1-}" = --rounds ]; then rounds=$2; fi
    [ "$(id -u)" = 0 ] || die "run it as root: it makes network namespaces"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_packages "${bed_packages[@]}"
    mkdir -p target/bench benches/results
    rm -f $runs
    local round
    phones=20000
    for ((round = 1; round <= rounds; round++)); do
        for workers in 1 2; do
            compare register 60000
            compare call 6000
        done
        workers=2 share
    done
    write_results
}

clean_up() {
    local status=$?
    trap - EXIT
    remove_bed
    rm -rf "$scratch"
    exit $status
}

# One scenario at one rate with `workers` workers, each with a queue of its own.
compare() {
    queues=$workers make_bed
    prepare_scenario "$1" strowger-af_xdp
    spread_napi
    load 60 "${about[0]}" --rate "$2" --time 8 --warm-up 1 --threshold 500 "${about[@]:1}"
    jq -r --arg scenario "$1" --arg workers "$workers" '[$scenario, $workers, .offered_rate_per_s, .cpu_us_per_operation.server_and_receive,
        .cpu_us_per_operation.server, (.successes * 100 / .attempts)] | @tsv' "$scratch/load.json" | tee -a $runs
    remove_bed
}

# The NAPI of queue i, in the order of their numbers, goes where worker i is.
spread_napi() {
    local pids
    mapfile -t pids < <(for pid in $(pids_of_napi $server_device); do echo "$(cat "/proc/$pid/comm") $pid"; done | sort | cut -d ' ' -f 2)
    [ "$workers" = 1 ] || [ ${#pids[@]} -lt 2 ] || taskset -pc "$load_core" "${pids[1]}" >/dev/null
}

# Calls of one trunk: one source address and port. Of each worker, its CPU time.
share() {
    local before after counted
    queues=2 make_bed
    prepare_scenario call strowger-af_xdp
    spread_napi
    source_ports=1 load 60 invite --rate 10 --time 1 "${about[@]:1}"
    before=$(worker_times)
    counted=$(handed)
    source_ports=1 load 60 invite --rate 6000 --time 8 --threshold 500 "${about[@]:1}"
    after=$(worker_times)
    paste <(echo "$before") <(echo "$after") | awk '{ used[NR] = $4 - $2; sum += used[NR] }
        END { printf "trunk\t%.1f\t%.1f\n", used[1] * 100 / sum, used[2] * 100 / sum }' | tee -a $runs
    # Six messages of each call came; what registered its phones is answered where it comes, and none of the calls.
    printf 'handed\t%s\n' "$(jq --argjson handed $(($(handed) - counted)) '.attempts * 6 | 1000 * $handed / . | round / 10' "$scratch/load.json")" | tee -a $runs
    remove_bed
}

# Messages that one worker has handed to the other.
handed() { strowger_metrics | awk '/^strowger_handoffs_total.*out/ { handed += $2 } END { printf "%d\n", handed }'; }

worker_times() {
    local task
    for task in /proc/"${server_pids[0]}"/task/*; do
        if grep -q '^worker-' "$task/comm"; then echo "$(cat "$task/comm") $(cut -d ' ' -f 1 "$task/schedstat")"; fi
    done | sort
}

write_results() {
    {
        printf 'Two workers against one\n\n%s; %s processors, Linux %s. `bash benches/workers.sh`.\n\n' "$(date -u +%F)" "$(nproc)" "$(uname -r)"
        printf '| | workers | at, 1/s | CPU us each, with receive NAPI | of these the server | %% successful |\n|---|---|---|---|---|---|\n'
        awk -F '\t' '/^(register|call)/ { printf "| %s | %s | %d | %.2f | %.2f | %.3f |\n", $1, $2, $3, $4, $5, $6; sum[$1, $2] += $4 }
            /^trunk/ { printf "| calls of one trunk: CPU time of worker 0 and worker 1 | 2 | 6000 | %s %% and %s %% | | |\n", $2, $3 }
            /^handed/ { printf "| calls of one trunk: share of the calls'\'' messages that worker 1 served | 2 | 6000 | %s %% | | |\n", $2 }
            END { printf "\nTwo against one: REGISTER %.2f, calls %.2f.\n", sum["register", 2] / sum["register", 1], sum["call", 2] / sum["call", 1] }' $runs
    } >benches/results/workers.md
    cat benches/results/workers.md
}

main "$@"
