#!/bin/bash
# prepared.sh SCRIPT PROGRAMS [OPTION...] - contrib/SCRIPT with everything that it needs: what demo.sh and desk.sh share.
#
# Installs what is missing (contrib/deps.sh; the tests' packages only if one of PROGRAMS is), builds in build/ (or
# $HAWSER_BUILD), and becomes SCRIPT.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

script=$1
programs=$2
shift 2
for option; do
    case $option in
    -h | --help) exec python3 "contrib/$script" --help ;;
    -*) ;;
    *) break ;; # a command of its own
    esac
done
if [ "$(id -u)" -ne 0 ]; then
    echo "${script%.py}: network namespaces need root; run: sudo contrib/${script%.py}.sh" >&2
    exit 1
fi

build=${HAWSER_BUILD:-build}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Its output is shown only if it fails.
step() { # TEXT COMMAND...
    local text=$1
    shift
    printf '%s ... ' "$text" >&2
    if ! "$@" >"$log" 2>&1; then
        printf 'failed\n\n' >&2
        tail -n 60 "$log" >&2
        exit 1
    fi
    printf 'done\n' >&2
}

packages() {
    local program
    contrib/deps.sh --build --run
    for program in $programs; do # other programs of the tests are not needed here
        if ! command -v "$program" >/dev/null; then
            contrib/deps.sh --test
            return
        fi
    done
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
HAWSER_BUILD=$(readlink -f "$build") PYTHONDONTWRITEBYTECODE=1 exec python3 "contrib/$script" "$@"
