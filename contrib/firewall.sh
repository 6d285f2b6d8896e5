# shellcheck shell=sh
# firewall.sh - what the scripts for 'firewall = none' share: their arguments, and the policy rules and routes that are
# the same with nft and with iptables. Sourced by nft-up.sh, nft-down.sh, iptables-up.sh and iptables-down.sh.

script=${0##*/}
INTERFACES=${INTERFACES:-} NETWORKS=${NETWORKS:-} EXCLUDE=${EXCLUDE:-}
PORT=${PORT:-3129} MARK=${MARK:-0x1/0x1} LANE_MARK=${LANE_MARK:-0x2/0x2}

# Conntrack mark: the SYN was caught; finds the end of a handshake with SYN cookies.
# shellcheck disable=SC2034 # for who sources this
ct=0x10000

usage() {
    echo "usage: $script [-i INTERFACES -n NETWORKS] [-p PORT] [-m MARK/MASK] [-l MARK/MASK] [-x ADDRESSES]" >&2
    exit 2
}

read_arguments() { # the script's: what is given replaces what is in the environment
    while getopts i:n:p:m:l:x: option; do
        case $option in
        i) INTERFACES=$OPTARG ;;
        n) NETWORKS=$OPTARG ;;
        p) PORT=$OPTARG ;;
        m) MARK=$OPTARG ;;
        l) LANE_MARK=$OPTARG ;;
        x) EXCLUDE=$OPTARG ;;
        *) usage ;;
        esac
    done
    [ $# -lt "$OPTIND" ] || usage
    case $MARK$LANE_MARK in */*/*) ;; *) usage ;; esac
    if [ -n "$INTERFACES" ] && [ -z "$NETWORKS" ]; then
        echo "$script: -i without -n: nothing would be caught" >&2
        exit 2
    fi
    if ip rule show priority 100 | grep -q 'proto 104'; then
        echo "$script: hawserd has rules of its own here: set 'firewall = none' and start it anew, then run this" >&2
        exit 1
    fi
}

words() { # LIST
    echo "$1" | tr -s ', ' '\n' | sed '/^$/d'
}

# Those of a list that have (or have not) a colon, one a line.
of_family() { # 4|6 LIST
    words "$2" | if [ "$1" = 6 ]; then grep : || true; else grep -v : || true; fi
}

has_ipv6() {
    [ -e /proc/net/if_inet6 ] && [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6)" = 0 ]
}

# Rules of an earlier run, perhaps with another mark. Those of hawserd itself carry 'proto 104' and are its own.
remove_rules() { # 4|6
    for priority in 99 100; do
        ip -"$1" rule show priority "$priority" 2>/dev/null | grep -v 'proto 104' | while read -r _ rule; do
            case $rule in
            *fwmark*lookup\ 100* | *fwmark*goto\ 32766*)
                # shellcheck disable=SC2086 # the words of a rule
                ip -"$1" rule del priority "$priority" ${rule%%\[*} ;;
            esac
        done
    done
}

policy_up() { # 4|6
    remove_rules "$1"
    ip -"$1" rule add priority 100 fwmark "$MARK" lookup 100
    # Lookups of this host itself with the mark (src_valid_mark, tcp_fwmark_accept) are not meant.
    ip -"$1" rule add priority 99 iif lo fwmark "$MARK" goto 32766
    ip -"$1" route replace local default dev lo table 100
}

policy_down() {
    for family in 4 6; do
        remove_rules "$family"
        ip -"$family" route del local default dev lo table 100 2>/dev/null || true
    done
}
