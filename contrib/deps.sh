#!/bin/bash
# deps.sh [--build] [--run] [--test] [--bench] - install the packages that hawser needs, on Debian 12 and Ubuntu 24.04.
#
#   --build   what cmake and the compilers need
#   --run     what hawserd and its firewall scripts call
#   --test    what the tests, the demonstration and the checks of the source use
#   --bench   what contrib/hawser-bench and bench_dedup.py use beyond that: charts, disk images, what is compared
#
# Without an option: all but --bench. Installs nothing, and does not ask apt, when everything is there. Servers that come
# with --test (nginx, sshd, haproxy, stunnel) are neither started nor enabled: the tests start their own.
set -euo pipefail

# A package, or package:FILE where an existing FILE does as well (another flavour of the same program).
build_packages='build-essential cmake ninja-build pkg-config python3 check
    libevent-dev libssl-dev libinih-dev libnftables-dev libmnl-dev libcap-dev libjansson-dev libxxhash-dev libzstd-dev
    libpcap-dev'
run_packages='nftables iptables iproute2 procps ca-certificates'
test_packages='curl nginx-light:/usr/sbin/nginx iperf3 stunnel4 haproxy openssh-server openssh-client openssl
    kcptun:/usr/bin/kcptun-client python3 iproute2 nftables iptables ethtool procps tmux
    clang clang-tidy clang-format libclang-rt-dev cppcheck shellcheck'
bench_packages='gnuplot-nox:/usr/bin/gnuplot e2fsprogs dpkg zstd casync borgbackup'

# Units that those packages would start at the next boot.
units='nginx.service iperf3.service stunnel4.service haproxy.service ssh.service ssh.socket'

fail() {
    echo "deps.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
}

choose_packages() { # OPTION...
    local option chosen=''
    [ $# -gt 0 ] || set -- --build --run --test
    for option; do
        case $option in
        --build) chosen+=" $build_packages" ;;
        --run) chosen+=" $run_packages" ;;
        --test) chosen+=" $test_packages" ;;
        --bench) chosen+=" $bench_packages" ;;
        esac
    done
    tr -s ' \n' '\n' <<<"$chosen" | sed '/^$/d' | sort -u
}

is_installed() { # PACKAGE
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_of() { # ENTRY...
    local entry
    for entry; do
        if ! is_installed "${entry%%:*}" && ! { [[ $entry == *:* ]] && [ -e "${entry#*:}" ]; }; then
            echo "${entry%%:*}"
        fi
    done
}

become_root() {
    [ "$(id -u)" -ne 0 ] || return 0
    command -v sudo >/dev/null || fail "packages are missing, and installing them needs root: run me as root"
    echo "deps.sh: packages are missing; asking sudo for the right to install them" >&2
    exec sudo -- "$0" "$@"
}

# Debian starts a service as it is installed, unless this file says no. One that the administrator put there stays.
policy=/usr/sbin/policy-rc.d
forbid_starting() {
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        trap 'rm -f $policy' EXIT
    fi
}

enabled_units() {
    local unit
    for unit in $units; do
        if systemctl is-enabled --quiet "$unit" 2>/dev/null; then echo "$unit"; fi
    done
}

# Only what this run brought in: a server that was enabled before is the user's and stays so.
disable_new_units() { # UNIT...: those enabled before
    local unit
    while read -r unit; do
        if [ -n "$unit" ] && [[ " $* " != *" $unit "* ]]; then
            systemctl disable --quiet "$unit" 2>/dev/null || true
            echo "deps.sh: $unit was installed for the tests and is not enabled" >&2
        fi
    done < <(enabled_units)
}

install_packages() { # PACKAGE...
    local before='' apt=(apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    "${apt[@]}" update || echo "deps.sh: apt-get update failed in part; trying with the lists that are there" >&2
    if command -v systemctl >/dev/null; then
        before=$(enabled_units | tr '\n' ' ')
    fi
    forbid_starting
    "${apt[@]}" install -y --no-install-recommends "$@" ||
        fail "apt-get could not install: $*. See its message above; on Ubuntu some are in 'universe'"
    if command -v systemctl >/dev/null; then
        # shellcheck disable=SC2086 # one unit a word
        disable_new_units $before
    fi
}

for option; do
    case $option in
    -h | --help) usage && exit 0 ;;
    --build | --run | --test | --bench) ;;
    *) usage >&2 && exit 2 ;;
    esac
done
command -v apt-get >/dev/null || fail "this needs apt-get (Debian, Ubuntu); CONTRIBUTING.md lists what to install by hand"
mapfile -t entries < <(choose_packages "$@")
mapfile -t missing < <(missing_of "${entries[@]}")
if [ "${#missing[@]}" -eq 0 ]; then
    echo "deps.sh: all ${#entries[@]} packages are there"
    exit 0
fi
become_root "$@"
echo "deps.sh: installing ${missing[*]}"
install_packages "${missing[@]}"
mapfile -t missing < <(missing_of "${entries[@]}")
[ "${#missing[@]}" -eq 0 ] || fail "still missing after the installation: ${missing[*]}"
