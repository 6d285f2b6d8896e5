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

# shellcheck source=contrib/firewall.sh
. "$(dirname "$0")/firewall.sh"
read_arguments "$@"

value=${MARK%/*} mask=${MARK#*/}
lane_value=${LANE_MARK%/*} lane_mask=${LANE_MARK#*/}
keep=$(printf '0x%x' $((0xffffffff ^ mask)))

list_of() { # 4|6 LIST
    of_family "$1" "$2" | paste -s -d, -
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
    print_set networks4 ipv4_addr "$(list_of 4 "$NETWORKS")"
    print_set networks6 ipv6_addr "$(list_of 6 "$NETWORKS")"
    print_set excluded4 ipv4_addr "$(list_of 4 "$EXCLUDE")"
    print_set excluded6 ipv6_addr "$(list_of 6 "$EXCLUDE")"
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
        names=$(words "$INTERFACES" | sed 's/.*/"&"/' | paste -s -d, -)
        echo "        iifname { $names } tcp flags & (fin | syn | rst | ack) == syn goto new"
        echo "        iifname { $names } ct mark & $ct == $ct ct direction original goto catch"
    fi
    echo "    }"
    echo "}"
}

policy_up 4
if has_ipv6; then
    policy_up 6
fi
print_table | nft -f -
