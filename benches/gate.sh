#!/usr/bin/env bash
# The instruction-count gate: how many instructions parsing a message and the core's own work for a phone's request take, counted by
# callgrind, against what is written in benches/gate.baseline. A path that takes over 3 % more fails.
#
#     bash benches/gate.sh             compare
#     bash benches/gate.sh --accept    write the baseline anew: a commit of its own, whose message says why
#
# Counts do not depend on how busy the machine is, but on the compiler and on what the processor offers (libraries ask at run time): a
# baseline names both, and is compared with nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh

baseline=benches/gate.baseline
operations=1000
growth_percent_max=3

main() {
    install_packages valgrind
    install_rust
    cargo build --release --quiet --locked -p strowger-gate
    program=${CARGO_TARGET_DIR:-target}/release/strowger-gate
    local here
    here="$(rustc --version), $(valgrind --tool=none --quiet "$program" cpu)"
    if [ "${1-}" = --accept ]; then
        count_all "$here" >"$baseline.new"
        mv "$baseline.new" "$baseline"
        say "written anew: commit $baseline alone, and say why"
        return
    fi
    [ "$(head -1 "$baseline")" = "# $here" ] || die "the baseline is of other counts than can be made here:
    baseline: $(head -1 "$baseline" | cut -c3-)
    here:     $here
Run it with that compiler (rustup run VERSION bash benches/gate.sh) on such a processor, or take this one's counts: --accept"
    count_all "$here" | compare
}

# Prints what the counts are of, and each path with its instructions an operation.
count_all() {
    local path
    printf '# %s\n' "$1"
    for path in $("$program" paths); do
        printf '%s %s\n' "$path" "$(count "$path")"
    done
}

# The instructions of one operation.
count() {
    local told total
    told=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='*measured_batch*' \
        "$program" "$1" "$operations" 2>&1) || die "$told"
    total=$(sed -n 's/.*Collected : //p' <<<"$told")
    [ "${total:-0}" -gt 0 ] || die "callgrind counted nothing of $1: $told"
    printf '%s' $((total / operations))
}

# Reads counts, prints them beside the baseline's, and fails where one has grown.
compare() {
    awk -v growth_max="$growth_percent_max" -v file="$baseline" '
        BEGIN { printf "%-16s %9s %9s %8s\n", "path", "baseline", "now", "change" }
        /^#/ { next }
        FILENAME == file { before[$1] = $2; next }
        !($1 in before) { printf "%-16s %9s %9d           has no baseline\n", $1, "", $2; failed = 1; next }
        {
            change = ($2 / before[$1] - 1) * 100
            said = change > growth_max ? "  more than " growth_max " % over the baseline" : change < -growth_max ? "  the baseline may be lowered: --accept" : ""
            printf "%-16s %9d %9d %+7.2f%%%s\n", $1, before[$1], $2, change, said
            if (change > growth_max) failed = 1
            delete before[$1]
        }
        END {
            for (path in before) { printf "%-16s %9d           is counted no more\n", path, before[path]; failed = 1 }
            if (failed) print "benches/gate.sh: make it cheaper again; or, for a reason, accept the counts: --accept, in a commit of its own"
            exit failed
        }' "$baseline" -
}

main "$@"
