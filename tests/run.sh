#!/usr/bin/env bash
# Everything that must hold, in one run: formatting, lints, documentation, unit and scenario tests, SIPp's phones in network
# namespaces, and the quick start. As root, on Debian 12 or later:
#
#     bash tests/run.sh
#
# It installs the Debian packages that are missing, and leaves nothing else behind but target/: namespaces, processes and
# folders are removed, also after a failure or Ctrl-C. About 25 minutes on two cores from a fresh clone.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh

test_packages=(sipsak kamailio baresip-core tshark bind9 postgresql kamailio-postgres-modules kamailio-sqlite-modules valgrind)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-run.XXXXXX")
jobs_begun=()

main() {
    [ "$(id -u)" = 0 ] || die "run it as root: it makes network namespaces"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    set -m # each step is a process group of its own, so that its end is its children's
    reap

    install_packages "${build_packages[@]}" "${bed_packages[@]}" "${test_packages[@]}"
    install_rust
    cargo fmt --version >/dev/null 2>&1 || install_packages rustfmt-web
    cargo clippy --version >/dev/null 2>&1 || install_packages rust-web-clippy
    cargo fmt --version && cargo clippy --version || die "rustfmt and clippy are missing: rustup component add rustfmt clippy"

    step "formatting" cargo fmt --all --check
    step "lints" cargo clippy --workspace --all-targets --test system -- -D warnings
    step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
    step "tests" cargo test
    # The phones call the binary that is shipped, with its profile (a panic there is an abort); the tests themselves stay in the
    # profile that is built already, so that nothing is built twice but the server.
    step "release build" cargo build --release
    step "instruction counts" bash benches/gate.sh
    export STROWGER_BINARY=$PWD/target/release/strowger
    # The one that waits for Timer C, four minutes, runs beside the others, in namespaces of its own.
    begin "phones under loss" cargo test --test system -- --nocapture recovery
    local recovery=$begun
    step "phones in namespaces" cargo test --test system -- --test-threads=1 --skip recovery
    finish "phones under loss" "$recovery"
    step "quick start" bash tuning/quickstart.sh --once
    say "all of it holds, in $((SECONDS / 60)) min $((SECONDS % 60)) s"
}

# Runs one step: says what it is, lets it speak, says how long it took.
step() {
    local title=$1 start=$SECONDS
    shift
    say "$title: $*"
    "$@" &
    jobs_begun+=($!)
    wait $! || die "failed: $title"
    printf -- '--- %s: %s s\n' "$title" $((SECONDS - start))
}

# Begins a step beside the others; its words go to a file. Sets `begun`.
begin() {
    local title=$1
    shift
    say "$title, beside what follows: $*"
    "$@" >"$scratch/$title" 2>&1 &
    begun=$!
    jobs_begun+=("$begun")
}

# Waits for a step that was begun, and lets its words out.
finish() {
    local outcome=0
    wait "$2" || outcome=$?
    say "$1"
    cat "$scratch/$1"
    [ $outcome = 0 ] || die "failed: $1"
}

# Removes what a run that was killed left behind: the namespaces, with the processes in them, and the folders that bear the
# number of a process that is no more.
reap() {
    local name pid
    for name in $(ip netns list 2>/dev/null | awk '{print $1}' | grep -E '^stg[a-z]*[0-9]+-' || true); do
        [[ $name =~ ^stg[a-z]*([0-9]+)- ]]
        if [ -d "/proc/${BASH_REMATCH[1]}" ]; then continue; fi
        for pid in $(ip netns pids "$name" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del "$name" || true
    done
    for name in "${TMPDIR:-/tmp}"/stg[0-9]*-*; do
        [[ $name =~ /stg([0-9]+)-[0-9]+$ ]] || continue
        if [ ! -d "/proc/${BASH_REMATCH[1]}" ]; then rm -rf "$name"; fi
    done
}

clean_up() {
    local job
    for job in "${jobs_begun[@]}"; do
        if kill -0 -- "-$job" 2>/dev/null; then
            kill -TERM -- "-$job" 2>/dev/null || true
            sleep 0.2
            kill -9 -- "-$job" 2>/dev/null || true
        fi
    done
    reap
    rm -rf "$scratch"
}

main "$@"
