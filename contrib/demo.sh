#!/bin/bash
# demo.sh [OPTION...] - hawser at work: the same files over a satellite link, direct and through two hawserd.
#
#   sudo contrib/demo.sh
#
# Installs what is missing, builds in build/, then draws a client, two gateways and a server in network namespaces of
# their own, with 600 ms, 50/5 Mbit/s and 0.5 % loss between the gateways. Everything is taken down at the end, after
# Ctrl-C too. Exits 1 when a file came with other bytes or hawser did not carry it. For the options: --help.
exec "$(dirname "$(readlink -f "$0")")/prepared.sh" demo.py 'nginx curl' "$@"
