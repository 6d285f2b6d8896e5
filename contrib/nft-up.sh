#!/bin/sh
# nft-up.sh - interception by hand with nftables, for 'firewall = none' in hawser.ini.
#
#   nft-up.sh -i lan0[,lan1] -n 10.2.0.0/24[,fd00:2::/64] [-p 3129] [-m 0x1/0x1] [-l 0x2/0x2] [-x 192.0.2.1,...]
#   nft-up.sh            a node that catches nothing but connects in clients' names (the far half)
#
#   -i  interfaces where clients are                 or INTERFACES   [intercept] interface
#   -n  networks of the peers                        or NETWORKS     [peer] networks
#   -p  the port of hawserd's listener               or PORT         [intercept] port
#   -m  the mark on what is caught                   or MARK         [intercept] mark
#   -l  the mark on hawserd's own sockets            or LANE_MARK    [intercept] lane-mark
#   -x  addresses never to be caught: the peers'     or EXCLUDE      [peer] address
#
# May be run again with other arguments: it replaces what it put there, in one transaction. nft-down.sh removes it.
# While hawserd does not listen, tproxy matches nothing and every new connection goes direct: this fails to wire.
# Unlike 'firewall = auto' it does not know which peers are up: what goes to a peer that is down is caught too, and
# hawserd relays it.
#
# If your input chain drops by default, accept there what carries the mark:
#   nft add rule inet filter input meta mark and 0x1 == 0x1 accept
set -eu

INTERFACES=${INTERFACES:-} NETWORKS=${NETWORKS:-} EXCLUDE=${EXCLUDE:-}
PORT=${PORT:-3129} MARK=${MARK:-0x1/0x1} LANE_MARK=${LANE_MARK:-0x2/0x2}

usage() {
    echo "usage: nft-up.sh [-i INTERFACES -n NETWORKS] [-p PORT] [-m MARK/MASK] [-l MARK/MASK] [-x ADDRESSES]" >&2
    exit 2
}

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
shift $((OPTIND - 1))
[ $# -eq 0 ] || usage
case $MARK$LANE_MARK in */*/*) ;; *) usage ;; esac
if [ -n "$INTERFACES" ] && [ -z "$NETWORKS" ]; then
    echo "nft-up.sh: -i without -n: nothing would be caught" >&2
    exit 2
fi

if ip rule show priority 100 | grep -q 'proto 104'; then
    echo "nft-up.sh: hawserd has rules of its own here: set 'firewall = none' and start it anew, then run this" >&2
    exit 1
fi

value=${MARK%/*} mask=${MARK#*/}
lane_value=${LANE_MARK%/*} lane_mask=${LANE_MARK#*/}
keep=$(printf '0x%x' $((0xffffffff ^ mask)))
ct=0x10000 # conntrack mark: the SYN was caught; finds the end of a handshake with SYN cookies

# The addresses of one family out of a list: those with (or without) a colon.
of_family() { # 4|6 LIST
    echo "$2" | tr -s ', ' '\n' | if [ "$1" = 6 ]; then grep : || true; else grep -v : || true; fi |
        sed '/^$/d' | paste -s -d, -
}

print_set() { # NAME TYPE ELEMENTS
    echo "    set $1 {"
    echo "        type $2; flags interval; auto-merge"
    [ -z "$3" ] || echo "        elements = { $3 }"
    echo "    }"
}

print_table() {
    # An empty one first, so that 'delete' finds something: all in one transaction.
    echo "table inet hawser"
    echo "delete table inet hawser"
    echo "table inet hawser {"
    print_set networks4 ipv4_addr "$(of_family 4 "$NETWORKS")"
    print_set networks6 ipv6_addr "$(of_family 6 "$NETWORKS")"
    print_set excluded4 ipv4_addr "$(of_family 4 "$EXCLUDE")"
    print_set excluded6 ipv6_addr "$(of_family 6 "$EXCLUDE")"
    cat <<TABLE
    chain divert {
        meta mark set meta mark & $keep | $value accept
    }
    chain catch {
        ip daddr @networks4 meta l4proto tcp tproxy ip to 127.0.0.1:$PORT ct mark set ct mark | $ct goto divert
        ip6 daddr @networks6 meta l4proto tcp tproxy ip6 to [::1]:$PORT ct mark set ct mark | $ct goto divert
    }
    chain new {
        ct mark & $ct == $ct ct mark set ct mark & 0xfffeffff
        meta mark & $lane_mask == $lane_value accept
        fib daddr type { local, broadcast, anycast, multicast } accept
        ip daddr @excluded4 accept
        ip6 daddr @excluded6 accept
        # Your own exceptions go here, for example: tcp dport 22 accept
        goto catch
    }
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        meta l4proto != tcp accept
        socket transparent 1 goto divert
TABLE
    if [ -n "$INTERFACES" ]; then
        names=$(echo "$INTERFACES" | tr -s ', ' '\n' | sed '/^$/d; s/.*/"&"/' | paste -s -d, -)
        echo "        iifname { $names } tcp flags & (fin | syn | rst | ack) == syn goto new"
        echo "        iifname { $names } ct mark & $ct == $ct ct direction original goto catch"
    fi
    echo "    }"
    echo "}"
}

# Rules of an earlier run, perhaps with another mark. Those of hawserd itself carry 'proto 104' and are its own.
remove_rules() { # 4|6
    for priority in 99 100; do
        ip -"$1" rule show priority "$priority" | grep -v 'proto 104' | while read -r _ rule; do
            case $rule in
            *fwmark*lookup\ 100* | *fwmark*goto\ 32766*)
                # shellcheck disable=SC2086 # the words of a rule
                ip -"$1" rule del priority "$priority" ${rule%%\[*} ;;
            esac
        done
    done
}

policy() { # 4|6
    remove_rules "$1"
    ip -"$1" rule add priority 100 fwmark "$MARK" lookup 100
    # Lookups of this host itself with the mark (src_valid_mark, tcp_fwmark_accept) are not meant.
    ip -"$1" rule add priority 99 iif lo fwmark "$MARK" goto 32766
    ip -"$1" route replace local default dev lo table 100
}

policy 4
if [ -e /proc/net/if_inet6 ] && [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6)" = 0 ]; then
    policy 6
fi
print_table | nft -f -
