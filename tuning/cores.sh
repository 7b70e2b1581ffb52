#!/usr/bin/env bash
# Gives the workers processors of their own: no other tasks, no other interrupts, full clock, no deep sleep, huge pages. As root:
#
#     bash tuning/cores.sh --cpus 2,3 [--hugepages N] [--boot] [--save FILE]    does what this host knows, and says what it does not
#     bash tuning/cores.sh --cpus 2,3 --show                                    shows how these processors stand
#     bash tuning/cores.sh --undo FILE                                          puts back what --save wrote down (default: see below)
#
# Before it changes anything it writes what was to /run/strowger-cores (--save). --boot also writes isolcpus, nohz_full and rcu_nocbs for
# the next start to /etc/default/grub.d/90-strowger.cfg; without it only what can be changed on a running host is changed: tasks of systemd's slices
# are kept off these processors (AllowedCPUs), which does not stop the kernel's own threads. Every value is explained in tuning/README.md.
set -euo pipefail

cpus= hugepages= boot= save= action=tune missed=0
root=${STROWGER_ROOT-} # a made-up /proc and /sys, for trying it

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
say() { printf '%s\n' "$*"; }
die() { printf 'cores.sh: %s\n' "$*" >&2 && exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
    --cpus) cpus=${2-} && shift || die "--cpus wants a list, as 2,3" ;;
    --hugepages) hugepages=${2-} && shift || die "--hugepages wants a number" ;;
    --boot) boot=yes ;;
    --save) save=${2-} && shift || die "--save wants a file" ;;
    --undo) action=undo && save=${2-$save} && { [ $# -lt 2 ] || shift; } ;;
    --show) action=show ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
[[ -z $hugepages || $hugepages =~ ^[0-9]+$ ]] || die "--hugepages wants a number, not '$hugepages'"
if [ "$action" != undo ]; then
    [[ $cpus =~ ^[0-9]+(,[0-9]+)*$ ]] || die "--cpus wants a list as 2,3, not '$cpus'"
    IFS=, read -r -a list <<<"$cpus"
    for cpu in "${list[@]}"; do [ -d "$root/sys/devices/system/cpu/cpu$cpu" ] || die "there is no processor $cpu"; done
fi
[ "$action" = show ] || [ "$(id -u)" = 0 ] || [ -n "$root" ] || die "run it as root: it changes the host"
save=${save:-/run/strowger-cores}

# What is left to everybody else: all that is online but these.
others() {
    local all part first last cpu rest=()
    IFS=, read -r -a all <<<"$(cat "$root/sys/devices/system/cpu/online")"
    for part in "${all[@]}"; do
        first=${part%-*} last=${part#*-}
        for ((cpu = first; cpu <= last; cpu++)); do [[ ,$cpus, == *,$cpu,* ]] || rest+=("$cpu"); done
    done
    (IFS=, && printf '%s' "${rest[*]}")
}

# The mask of a list, as the kernel writes it: groups of 32 bits in hexadecimal, parted by commas.
mask() {
    local -a words=(0) numbers
    local cpu word text
    IFS=, read -r -a numbers <<<"$1"
    for cpu in "${numbers[@]}"; do words[cpu / 32]=$((${words[cpu / 32]:-0} | 1 << cpu % 32)); done
    text=$(printf '%x' "${words[-1]}")
    for ((word = ${#words[@]} - 2; word >= 0; word--)); do text+=$(printf ',%08x' "${words[word]:-0}"); done
    printf '%s' "$text"
}

# Writes a value into a file, and keeps what was there. What this host does not have is said, and no failure.
put() { # WHAT FILE VALUE
    local file=$root$2 was error
    if [ ! -e "$file" ]; then
        missed=$((missed + 1))
        say "not here  $1: $2"
        return
    fi
    was=$(cat "$file" 2>/dev/null || true)
    # Some list all values, with the one that counts in brackets.
    [[ $was != *\[*\]* ]] || { was=${was#*\[} && was=${was%%\]*}; }
    if [ "$was" = "$3" ]; then say "is so     $1: $2 is $3" && return; fi
    if error=$({ printf '%s\n' "$3" >"$file"; } 2>&1); then
        say "done      $1: echo $3 > $2"
        keep "printf '%s\n' '$was' > '$file'"
    else
        missed=$((missed + 1))
        say "not here  $1: ${error##*$'\n'}"
    fi
}

# Keeps the line that takes a step back; a run after another adds nothing that is there already.
keep() { grep -qxF -- "$1" "$save" 2>/dev/null || printf '%s\n' "$1" >>"$save"; }

tune() {
    local cpu file number rest
    rest=$(others)
    [ -n "$rest" ] || die "these are all processors of this host: leave one to the kernel"
    for cpu in "${list[@]}"; do
        put "full clock" "/sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor" performance
        for file in "$root/sys/devices/system/cpu/cpu$cpu"/cpuidle/state*/latency; do
            [ -e "$file" ] && [ "$(cat "$file")" -gt 10 ] || continue
            file=${file#"$root"}
            put "no sleep that takes longer than 10 us to wake from" "${file%/latency}/disable" 1
        done
    done
    put "the kernel's work queues elsewhere" /sys/devices/virtual/workqueue/cpumask "$(mask "$rest")"
    put "new interrupts elsewhere" /proc/irq/default_smp_affinity "$(mask "$rest")"
    interrupts "$rest"
    put "huge pages where they are asked for" /sys/kernel/mm/transparent_hugepage/enabled madvise
    put "nobody waits for the making of one" /sys/kernel/mm/transparent_hugepage/defrag madvise
    [ -z "$hugepages" ] || put "huge pages for packets" /proc/sys/vm/nr_hugepages "$hugepages"
    [ -n "$root" ] || slices "$rest"
    [ -z "$boot" ] || at_boot
    say "$missed steps are not to be had on this host; undo all: bash $0 --undo $save"
}

# Other devices' interrupts leave these processors; those of a NIC are placed by nic.sh, afterwards.
interrupts() {
    local file list_of_irq moved=0
    for file in "$root"/proc/irq/[0-9]*/smp_affinity_list; do
        [ -e "$file" ] || continue
        list_of_irq=$(cat "$file" 2>/dev/null) || continue
        [ "$list_of_irq" != "$1" ] || continue
        # Those that the kernel manages refuse: managed_irq of isolcpus keeps them away.
        if { printf '%s\n' "$1" >"$file"; } 2>/dev/null; then
            keep "printf '%s\n' '$list_of_irq' > '$file'"
            moved=$((moved + 1))
        fi
    done
    say "done      $moved interrupts may go to $1 alone"
}

# Everything that systemd starts keeps off; strowger.service, in a slice of its own, does not.
slices() {
    local slice
    if ! command -v systemctl >/dev/null || [ ! -d /run/systemd/system ]; then
        missed=$((missed + 1))
        say "not here  other services elsewhere: systemd does not run"
        return
    fi
    for slice in init.scope system.slice user.slice machine.slice; do
        systemctl set-property --runtime "$slice" AllowedCPUs="$1" && keep "systemctl set-property --runtime $slice AllowedCPUs="
    done
    say "done      other services elsewhere: AllowedCPUs=$1 of systemd's slices but strowger.slice"
    if systemctl is-active --quiet irqbalance 2>/dev/null; then
        systemctl disable --now irqbalance && keep "systemctl enable --now irqbalance" && say "done      irqbalance does not move interrupts back"
    fi
}

at_boot() {
    local file=/etc/default/grub.d/90-strowger.cfg words="isolcpus=domain,managed_irq,$cpus nohz_full=$cpus rcu_nocbs=$cpus"
    if [ ! -d /etc/default/grub.d ] || ! command -v update-grub >/dev/null; then
        missed=$((missed + 1))
        say "not here  no update-grub: add to the kernel's command line by hand: $words"
        return
    fi
    printf '# tuning/cores.sh --cpus %s --boot\nGRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT %s"\n' "$cpus" "$words" >"$file"
    update-grub && keep "rm -f $file && update-grub"
    say "done      from the next start on: $words"
}

undo() {
    [ -r "$save" ] || die "$save is not there: nothing was kept, so nothing can be put back"
    local line
    while IFS= read -r line; do
        if bash -c "$line" 2>/dev/null; then say "back      $line"; else say "not back  $line"; fi
    done < <(tac "$save")
    rm -f "$save"
}

show() {
    local cpu file
    printf 'isolated     %s\n' "$(cat "$root/sys/devices/system/cpu/isolated" 2>/dev/null || true)"
    printf 'no ticks     %s\n' "$(cat "$root/sys/devices/system/cpu/nohz_full" 2>/dev/null || true)"
    for cpu in "${list[@]}"; do
        printf 'processor %s  governor %s\n' "$cpu" "$(cat "$root/sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor" 2>/dev/null || echo "is not shown")"
        for file in "$root/sys/devices/system/cpu/cpu$cpu"/cpuidle/state*; do
            [ ! -e "$file/latency" ] || printf '             %s: %s us, disabled %s\n' "$(cat "$file/name")" "$(cat "$file/latency")" "$(cat "$file/disable" 2>/dev/null || true)"
        done
    done
    grep -E '^(HugePages_(Total|Free)|Hugepagesize)' "$root/proc/meminfo" || true
}

$action
