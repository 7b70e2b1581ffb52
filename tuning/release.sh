#!/usr/bin/env bash
# The build for service, on Debian 12 or later: Strowger is compiled to watch itself, is put under load, and is compiled once more by what
# was seen (profile-guided optimisation). A REGISTER or a call then costs a quarter to a third less time than with `cargo build --release`.
#
#     bash tuning/release.sh                      leaves target/guided/release/strowger; some eight minutes on two cores
#     bash tuning/release.sh --cpu x86-64-v3      for processors of that level alone (Haswell, Zen and later)
#
# As root it trains the whole server, in two network namespaces joined by a veth pair; else, or in a container that may not make them, the
# core alone, which is most of it. --core asks for that. CARGO_TARGET_DIR is heeded.
set -euo pipefail
cd "$(dirname "$0")/.."
. tuning/debian.sh

target_folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
seen=$target_folder/watching/seen
profile=$target_folder/guided.profdata
cpu='' core_only=''
# The same both times: a further product may bring other features of a library, and with them other names, which no profile knows.
products=(-p strowger -p strowger-gate --bin strowger --bin strowger-gate --example echo)
scratch=''

main() {
    read_arguments "$@"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    install_packages "${build_packages[@]}"
    install_rust
    make_profile
    say "building by what was seen"
    # Cargo does not look into a profile: what was built by another would count as new.
    CARGO_TARGET_DIR=$target_folder/guided cargo clean --quiet --release -p strowger -p strowger-gate
    CARGO_TARGET_DIR=$target_folder/guided RUSTFLAGS="$cpu-C profile-use=$profile" cargo build --release --locked "${products[@]}"
    [ "$(parser_of watching)" = "$(parser_of guided)" ] || die "the names of the two builds differ, so that nothing was gained: remove $target_folder/watching and $target_folder/guided"
    say "$target_folder/guided/release/strowger"
}

# The name by which a profile knows the parser in a build.
parser_of() { nm "$target_folder/$1/release/strowger" | grep -o '_ZN8strowger3sip7message5parse[0-9a-zA-Z]*' || die "no parser is in the build '$1'"; }

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --cpu) [[ ${2-} =~ ^[A-Za-z0-9_.-]+$ ]] || die "--cpu wants the name of a processor or of a level, as x86-64-v3" && cpu="-C target-cpu=$2 " && shift ;;
        --core) core_only=yes ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0" && exit 0 ;;
        *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
        esac
        shift
    done
}

clean_up() {
    local status=$?
    trap - EXIT
    if [ -n "${server_space-}" ]; then remove_bed; fi
    [ -z "$scratch" ] || rm -rf "$scratch"
    exit $status
}

make_profile() {
    local merger
    merger=$(find_merger)
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/strowger-release.XXXXXX")
    say "building what watches itself"
    CARGO_TARGET_DIR=$target_folder/watching RUSTFLAGS="$cpu-C profile-generate=$seen" cargo build --release --locked "${products[@]}"
    rm -rf "$seen"
    train_core "$target_folder/watching/release/strowger-gate"
    if [ -n "$core_only" ]; then
        say "the core alone was trained, as asked"
    elif [ "$(id -u)" != 0 ] || ! ip netns add strowger-may 2>/dev/null; then
        say "the core alone was trained: the whole server wants root and network namespaces"
    else
        ip netns del strowger-may
        train_server "$target_folder/watching/release/strowger"
    fi
    "$merger" merge -o "$profile.new" "$seen"
    mv "$profile.new" "$profile"
}

# Prints the program that joins what was seen: it must be of the compiler's own LLVM.
find_merger() {
    local libdir version
    libdir=$(rustc --print target-libdir)
    if [ ! -x "$libdir/../bin/llvm-profdata" ] && command -v rustup >/dev/null; then rustup component add llvm-tools >&2; fi
    if [ -x "$libdir/../bin/llvm-profdata" ]; then
        echo "$libdir/../bin/llvm-profdata"
        return
    fi
    version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    command -v "llvm-profdata-$version" || { install_packages "llvm-$version" >&2 && command -v "llvm-profdata-$version"; } \
        || die "llvm-profdata of LLVM $version is missing: rustup component add llvm-tools, or your distribution's package llvm-$version"
}

train_core() { # PROGRAM
    local path
    say "training the core"
    for path in $("$1" paths); do "$1" "$path" 50000; done
}

# The server and the load, both of which watch themselves, in the bed of the benches.
train_server() { # PROGRAM
    STROWGER_BINARY=$1
    install_packages "${bed_packages[@]}" sqlite3
    . benches/bed.sh
    . benches/servers.sh
    . benches/scenarios.sh
    phones=10000
    local system
    for system in strowger-af_xdp strowger-udp; do
        train "$system" options 10000
        train "$system" register 10000
        train "$system" digest 2000
        train "$system" forward 4000
        train "$system" call 1000
    done
}

train() { # SYSTEM SCENARIO RATE
    say "training the server: $2, $1"
    make_bed
    prepare_scenario "$2" "$1"
    load 90 "${about[0]}" --rate "$3" --time 4 "${about[@]:1}"
    jq -r '"\(.successes) of \(.attempts) attempts ended well"' "$scratch/load.json"
    # It writes what it saw when it ends by itself; the second signal does not wait for what is in progress.
    kill "$server_main" && sleep 1
    kill "$server_main" 2>/dev/null || true
    wait "$server_main" || true
    server_main='' server_pids=()
    remove_bed
}

main "$@"
