#!/bin/bash
# desk.sh [OPTION...] [HOST COMMAND...] - a client, two gateways with hawserd and a server on this machine, to try.
#
#   sudo contrib/desk.sh --profile leo
#   sudo contrib/desk.sh --profile geo+outage --no-hawser client curl -o /dev/null http://10.2.0.2/20M
#
# Installs what is missing, builds in build/, then draws the four in network namespaces of their own with an emulated link
# between the gateways, and opens a shell in each (windows of tmux), or runs one command in one of them. Everything is
# taken down at the end, however it ends. For the options: --help.
exec "$(dirname "$(readlink -f "$0")")/prepared.sh" desk.py 'nginx curl tmux' "$@"
