#!/bin/sh
# nft-down.sh - remove what nft-up.sh put there. May be run again, and when nothing is there.
set -eu

if ! nft -f - <<'TABLE'; then
table inet hawser
delete table inet hawser
TABLE
    echo "nft-down.sh: if hawserd owns the table, end hawserd: that removes it" >&2
    exit 1
fi

for family in 4 6; do
    for priority in 99 100; do
        ip -"$family" rule show priority "$priority" 2>/dev/null | grep -v 'proto 104' | while read -r _ rule; do
            case $rule in
            *fwmark*lookup\ 100* | *fwmark*goto\ 32766*)
                # shellcheck disable=SC2086 # the words of a rule
                ip -"$family" rule del priority "$priority" ${rule%%\[*} ;;
            esac
        done
    done
    ip -"$family" route del local default dev lo table 100 2>/dev/null || true
done
