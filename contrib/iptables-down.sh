#!/bin/sh
# iptables-down.sh - remove what iptables-up.sh put there. May be run again, and when nothing is there.
#   IPTABLES, IP6TABLES: the programs, as they were given to iptables-up.sh
set -eu

# shellcheck source=contrib/firewall.sh
. "$(dirname "$0")/firewall.sh"

for program in "${IPTABLES:-iptables}" "${IP6TABLES:-ip6tables}"; do
    while "$program" -w -t mangle -D PREROUTING -j HAWSER 2>/dev/null; do :; done
    for chain in HAWSER HAWSER_NEW HAWSER_CATCH HAWSER_DIVERT; do
        "$program" -w -t mangle -F "$chain" 2>/dev/null || true
    done
    for chain in HAWSER HAWSER_NEW HAWSER_CATCH HAWSER_DIVERT; do
        "$program" -w -t mangle -X "$chain" 2>/dev/null || true
    done
done

policy_down
