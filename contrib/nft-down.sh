#!/bin/sh
# nft-down.sh - remove what nft-up.sh put there. May be run again, and when nothing is there.
set -eu

# shellcheck source=contrib/firewall.sh
. "$(dirname "$0")/firewall.sh"

if ! nft -f - <<'TABLE'; then
table inet hawser
delete table inet hawser
TABLE
    echo "nft-down.sh: if hawserd owns the table, end hawserd: that removes it" >&2
    exit 1
fi

policy_down
