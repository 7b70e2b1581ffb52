#!/bin/sh
# What `strowger doctor` found amiss on this host, mended step by step. As root:
#
#     sh FILE             takes the steps; what was there before is kept in /run/strowger-fix.undo
#     sh FILE --dry-run   shows them
#     sh FILE --boot      takes also those that change the kernel's command line, by a file in /etc/default/grub.d
#     sh FILE --undo      puts back what was there before, last things first
#
# A second run changes nothing more. STROWGER_UNDO names another file for what was. All but the command line's words lasts until the
# host starts anew: tuning/ has the files that make it last. Exit status: 0 all steps were taken; 1 some were refused, and are named.
set -u
undo=${STROWGER_UNDO:-/run/strowger-fix.undo}
missed=0
manner=${1-}
case $manner in '' | --dry-run | --boot | --undo) ;; *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;; esac
[ "$manner" = --dry-run ] || [ "$(id -u)" = 0 ] || { echo "run it as root, or with --dry-run" >&2 && exit 2; }

say() { printf '%-9s %s\n' "$1" "$2"; }
miss() { say refused "$1" && missed=$((missed + 1)); }

# Takes a step, and keeps what takes it back, once.
take() { # WHAT UNDO COMMAND...
    what=$1 back=$2
    shift 2
    if [ "$manner" = --dry-run ]; then say would "$what"; return; fi
    if [ -e "$undo" ] && grep -qxF "# $what" "$undo"; then known=yes; else known=; fi
    if error=$("$@" 2>&1); then
        say done "$what"
        [ -n "$known" ] || printf '# %s\n%s\n' "$what" "$back" >>"$undo"
    elif [ -n "$known" ]; then
        say "is so" "$what"
    else
        miss "$what: $error"
    fi
}

write() { printf '%s\n' "$2" >"$1"; }

# sysctl says nothing where a namespace lets a value be read alone.
set_and_look() { sysctl -q -w "$1=$2" && { [ "$(sysctl -n "$1")" = "$2" ] || { echo "it cannot be set from here" && false; }; }; }

setting() { # KEY VALUE
    was=$(sysctl -n "$1" 2>/dev/null) || { miss "$1: there is none here" && return; }
    if [ "$was" = "$2" ]; then say "is so" "$1 = $2" && return; fi
    take "sysctl -w $1=$2" "sysctl -q -w '$1=$was'" set_and_look "$1" "$2"
}

file() { # PATH VALUE
    was=$(cat "$1" 2>/dev/null) || { miss "$1: there is none here" && return; }
    # Some list all values, with the one that counts in brackets.
    case $was in *\[*\]*) was=${was#*\[} && was=${was%%\]*} ;; esac
    if [ "$was" = "$2" ]; then say "is so" "$1 is $2" && return; fi
    take "echo $2 > $1" "echo '$was' > '$1'" write "$1" "$2"
}

run() { # COMMAND UNDO
    take "$1" "$2" sh -c "$1"
}

boot() { # WORDS
    if [ "$manner" != --boot ]; then say later "(--boot) on the kernel's command line: $1" && return; fi
    grub=/etc/default/grub.d/90-strowger.cfg
    if [ ! -d /etc/default/grub.d ] || [ ! -x /usr/sbin/update-grub ]; then
        miss "no update-grub here: add to the kernel's command line by hand: $1"
        return
    fi
    # Each line adds to the one before: several steps share the file.
    line="GRUB_CMDLINE_LINUX_DEFAULT=\"\$GRUB_CMDLINE_LINUX_DEFAULT $1\""
    if grep -qxF "$line" "$grub" 2>/dev/null; then say "is so" "$1 in $grub" && return; fi
    take "the kernel's command line gets $1 at the next start" "rm -f $grub; update-grub" sh -c 'printf "%s\n" "$1" >>"$2" && update-grub' sh "$line" "$grub"
}

by_hand() { say "by hand" "$1"; }

finish() {
    if [ "$manner" != --dry-run ] && [ -e "$undo" ]; then say note "sh $0 --undo puts back what $undo keeps"; fi
    [ "$missed" = 0 ] || exit 1
}

if [ "$manner" = --undo ]; then
    [ -e "$undo" ] || { echo "$undo is not there: nothing was changed, so nothing can be put back" >&2 && exit 1; }
    lines=$(grep -v '^#' "$undo" | sed -n '1!G;h;$p')
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        if error=$(sh -c "$line" 2>&1); then say back "$line"; else miss "$line: $error"; fi
    done <<LINES
$lines
LINES
    rm -f "$undo"
    [ "$missed" = 0 ] || exit 1
    exit 0
fi
