#!/bin/bash
# demo.sh [OPTION...] - hawser at work: the same files over a satellite link, direct and through two hawserd.
#
#   sudo contrib/demo.sh
#
# Installs what is missing (contrib/deps.sh), builds in build/, then draws a client, two gateways and a server in
# network namespaces of their own, with 600 ms, 50/5 Mbit/s and 0.5 % loss between the gateways. Everything is taken
# down at the end, after Ctrl-C too. Exits 1 when a file came with other bytes or hawser did not carry it. For the
# options: contrib/demo.py --help.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

for option; do
    case $option in
    -h | --help) exec python3 contrib/demo.py --help ;;
    esac
done
if [ "$(id -u)" -ne 0 ]; then
    echo "demo.sh: network namespaces need root; run: sudo contrib/demo.sh" >&2
    exit 1
fi

build=${HAWSER_BUILD:-build}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Its output is shown only if it fails.
step() { # TEXT COMMAND...
    local text=$1
    shift
    printf '%s ... ' "$text"
    if ! "$@" >"$log" 2>&1; then
        printf 'failed\n\n'
        tail -n 60 "$log"
        exit 1
    fi
    printf 'done\n'
}

packages() {
    contrib/deps.sh --build --run
    # The other tests' programs are not needed here.
    if ! command -v nginx >/dev/null || ! command -v curl >/dev/null; then
        contrib/deps.sh --test
    fi
}

build() {
    cmake -S . -B "$build" -G Ninja && ninja -C "$build" hawserd hawserctl hawser-wanem
}

step 'packages' packages
step "build in $build/" build
# Whoever called sudo wants to build on without it.
if [ -n "${SUDO_UID:-}" ]; then
    chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$build" 2>/dev/null || true
fi
# In a namespace a congestion control that is a module is only found once it is loaded.
modprobe -q tcp_bbr 2>/dev/null || true
rm -f "$log"
trap - EXIT
HAWSER_BUILD=$(readlink -f "$build") PYTHONDONTWRITEBYTECODE=1 exec python3 contrib/demo.py "$@"
