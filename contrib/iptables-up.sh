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

# shellcheck source=contrib/firewall.sh
. "$(dirname "$0")/firewall.sh"
IPTABLES=${IPTABLES:-iptables} IP6TABLES=${IP6TABLES:-ip6tables}
read_arguments "$@"

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

policy_up 4
chains 4 "$IPTABLES"
if has_ipv6; then
    policy_up 6
    chains 6 "$IP6TABLES"
fi
echo "iptables-up.sh: while hawserd does not listen, new connections to these networks are DROPPED, not sent direct" >&2
