#!/bin/sh
# iptables-up.sh - interception by hand with iptables, for 'firewall = none' in hawser.ini.
#
# IPTABLES CANNOT FAIL TO WIRE: while hawserd does not run, or has closed its listener because a budget is used up,
# the TPROXY target DROPS every new connection to these networks. Use nft-up.sh where you can; if you
# cannot, run iptables-down.sh when hawserd ends (ExecStopPost= in a systemd unit does).
#
#   iptables-up.sh -i lan0[,lan1] -n 10.2.0.0/24[,fd00:2::/64] [-p 3129] [-m 0x1/0x1] [-l 0x2/0x2] [-x 192.0.2.1,...]
#   iptables-up.sh       a node that catches nothing but connects in clients' names (the far half)
#
#   -i  interfaces where clients are                 or INTERFACES   [intercept] interface
#   -n  networks of the peers                        or NETWORKS     [peer] networks
#   -p  the port of hawserd's listener               or PORT         [intercept] port
#   -m  the mark on what is caught                   or MARK         [intercept] mark
#   -l  the mark on hawserd's own sockets            or LANE_MARK    [intercept] lane-mark
#   -x  addresses never to be caught: the peers'     or EXCLUDE      [peer] address
#   IPTABLES, IP6TABLES: the programs, for example iptables-legacy and ip6tables-legacy
#
# May be run again with other arguments: it replaces what it put there. iptables-down.sh removes it.
# If your INPUT chain drops by default: iptables -I INPUT -m mark --mark 0x1/0x1 -j ACCEPT
set -eu

INTERFACES=${INTERFACES:-} NETWORKS=${NETWORKS:-} EXCLUDE=${EXCLUDE:-}
PORT=${PORT:-3129} MARK=${MARK:-0x1/0x1} LANE_MARK=${LANE_MARK:-0x2/0x2}
IPTABLES=${IPTABLES:-iptables} IP6TABLES=${IP6TABLES:-ip6tables}

usage() {
    echo "usage: iptables-up.sh [-i INTERFACES -n NETWORKS] [-p PORT] [-m MARK/MASK] [-l MARK/MASK] [-x ADDRESSES]" >&2
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
    echo "iptables-up.sh: -i without -n: nothing would be caught" >&2
    exit 2
fi

if ip rule show priority 100 | grep -q 'proto 104'; then
    echo "iptables-up.sh: hawserd has rules of its own here: set 'firewall = none' and start it anew, then run this" >&2
    exit 1
fi

ct=0x10000 # conntrack mark: the SYN was caught; finds the end of a handshake with SYN cookies

words() { # LIST
    echo "$1" | tr ',' ' '
}

# Those of a list that have (or have not) a colon.
of_family() { # 4|6 LIST
    for word in $(words "$2"); do
        case $word in
        *:*) [ "$1" != 6 ] || echo "$word" ;;
        *) [ "$1" != 4 ] || echo "$word" ;;
        esac
    done
}

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

empty_chain() { # PROGRAM NAME
    "$1" -w -t mangle -N "$2" 2>/dev/null || "$1" -w -t mangle -F "$2"
}

chains() { # 4|6 PROGRAM
    family=$1 program=$2
    listener=127.0.0.1 types='LOCAL ANYCAST MULTICAST BROADCAST'
    if [ "$family" = 6 ]; then
        listener=::1 types='LOCAL ANYCAST MULTICAST'
    fi
    for chain in HAWSER_DIVERT HAWSER_CATCH HAWSER_NEW HAWSER; do
        empty_chain "$program" "$chain"
    done
    add() {
        "$program" -w -t mangle -A "$@"
    }
    add HAWSER_DIVERT -j MARK --set-xmark "$MARK"
    add HAWSER_DIVERT -j ACCEPT

    for network in $(of_family "$family" "$NETWORKS"); do
        add HAWSER_CATCH -p tcp -d "$network" -j CONNMARK --set-xmark $ct/$ct
        add HAWSER_CATCH -p tcp -d "$network" -j TPROXY --on-ip "$listener" --on-port "$PORT" --tproxy-mark "$MARK"
    done

    add HAWSER_NEW -m mark --mark "$LANE_MARK" -j RETURN
    for type in $types; do
        add HAWSER_NEW -m addrtype --dst-type "$type" -j RETURN
    done
    for address in $(of_family "$family" "$EXCLUDE"); do
        add HAWSER_NEW -d "$address" -j RETURN
    done
    # Your own exceptions go here, for example: add HAWSER_NEW -p tcp --dport 22 -j RETURN
    add HAWSER_NEW -j HAWSER_CATCH

    add HAWSER -p tcp -m socket --transparent -j HAWSER_DIVERT
    for interface in $(words "$INTERFACES"); do
        # Only SYNs: connections that ran before are left alone.
        add HAWSER -i "$interface" -p tcp --syn -j HAWSER_NEW
        add HAWSER -i "$interface" -p tcp ! --syn -m connmark --mark $ct/$ct -m conntrack --ctdir ORIGINAL -j HAWSER_CATCH
    done
    "$program" -w -t mangle -C PREROUTING -j HAWSER 2>/dev/null || "$program" -w -t mangle -A PREROUTING -j HAWSER
}

policy 4
chains 4 "$IPTABLES"
if [ -e /proc/net/if_inet6 ] && [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6)" = 0 ]; then
    policy 6
    chains 6 "$IP6TABLES"
fi
echo "iptables-up.sh: while hawserd does not listen, new connections to these networks are DROPPED, not sent direct" >&2
