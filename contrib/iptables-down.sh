#!/bin/sh
# iptables-down.sh - remove what iptables-up.sh put there. May be run again, and when nothing is there.
#   IPTABLES, IP6TABLES: the programs, as they were given to iptables-up.sh
set -eu

for program in "${IPTABLES:-iptables}" "${IP6TABLES:-ip6tables}"; do
    while "$program" -w -t mangle -D PREROUTING -j HAWSER 2>/dev/null; do :; done
    for chain in HAWSER HAWSER_NEW HAWSER_CATCH HAWSER_DIVERT; do
        "$program" -w -t mangle -F "$chain" 2>/dev/null || true
    done
    for chain in HAWSER HAWSER_NEW HAWSER_CATCH HAWSER_DIVERT; do
        "$program" -w -t mangle -X "$chain" 2>/dev/null || true
    done
done

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
