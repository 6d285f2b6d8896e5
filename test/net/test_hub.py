"""Several peers: a hub with three branches that dial in, routes between branches, nested networks, classes that
bypass and deny, in the firewall and in the engine."""

import socket

from bed import Bed, main, wait_for
from peers import (
    CARRIED, DIRECT, PATIENCE_S, RELAYED, Task, accept, bypassed, connect, connected, echo_once, error_of, families, fate,
    listener, path_of, processes_of, read_exactly, refused_set, session_of, wait_down, wait_no_sessions, wait_way, way)


def test_three_branches_and_a_hub():
    with Bed("lan", branches=3) as bed:
        pair = bed.pair()
        web = bed.nginx()
        web.file("blob", 2_000_000)
        tasks = [Task(bed.download, branch.client, web, "blob", family)
                 for branch in bed.branches for family in families(bed)]
        for task in tasks:
            task.result()
        lines = wait_for(lambda: len(found := web.requests()) == len(tasks) and found, PATIENCE_S, "the access log")
        assert {line.split()[0] for line in lines} == \
            {branch.client.ip(family) for branch in bed.branches for family in families(bed)}
        hub = {peer["name"]: peer for peer in pair.far.ctl("peers")}
        assert sorted(hub) == ["branch", "branch1", "branch2"]
        for number, near in enumerate(pair.nears):
            (peer,) = near.ctl("peers")
            assert peer["opened"] == hub[bed.node_name(bed.branches[number])]["opened"] == len(families(bed))
        for branch in bed.branches:  # and back, each through its own tunnel
            for family in families(bed):
                assert way(bed.server, branch.client, family) == CARRIED
        wait_no_sessions(*pair.all())


def test_what_branches_have_in_common_is_stored_once():
    """Few peers, or slow ones, have one home, and so one store; a home more costs a copy more."""
    size = 4_000_000
    for homes in (None, "2"):
        with Bed("lan", branches=2) as bed:
            pair = bed.pair(far={"node": {"workers": "2"} | ({"homes": homes} if homes else {})})
            web = bed.nginx()
            web.file("blob", size)
            for branch in bed.branches:
                bed.download(branch.client, web, "blob")
            store = pair.far.ctl("store")
            copies = int(homes or 1)
            assert len(store["homes"]) == copies, store
            assert copies * size <= store["held_bytes"] < copies * size * 1.1, store


def test_the_loss_of_one_branch_is_nobody_elses():
    with Bed("lan", branches=3) as bed:
        pair = bed.pair()
        with connected(bed.branches[0].client, bed.server) as (client, conn):
            echo_once(client, conn)
            pair.nears[1].kill_all()
            wait_down(pair.far, "branch1")
            states = {peer["name"]: (peer["state"], len(peer["lanes"]) > 0) for peer in pair.far.ctl("peers")}
            assert states == {"branch": ("up", True), "branch1": ("down", False), "branch2": ("up", True)}, states
            echo_once(client, conn)
            wait_way(DIRECT, bed.server, bed.branches[1].client)
            for number in (0, 2):
                assert way(bed.server, bed.branches[number].client) == CARRIED
                assert way(bed.branches[number].client, bed.server) == CARRIED
            wait_for(lambda: not processes_of(pair.nears[1]), PATIENCE_S, "the branch to be dead")
            assert way(bed.branches[1].client, bed.server) == DIRECT
            again = bed.hawserd(bed.branches[1].near, read(pair.nears[1].conf_path), name="branch1")
            again.wait_up(PATIENCE_S)
            pair.far.wait_up(PATIENCE_S)
            for family in families(bed):
                wait_way(CARRIED, bed.branches[1].client, bed.server, family)
                wait_way(CARRIED, bed.server, bed.branches[1].client, family)
            echo_once(client, conn)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def test_the_longest_prefix_wins():
    """A whole range belongs to one branch, a part of it to another one; when that one is down, its part goes
    direct and never through the first."""
    with Bed("lan", branches=2) as bed:
        wide = ["10.1.0.0/16"] + (["fd00:1::/48"] if bed.ipv6 else [])
        pair = bed.pair(far={"peer branch": {"networks": wide}})
        opened = lambda: {peer["name"]: peer["opened"] for peer in pair.far.ctl("peers")}
        one, two = bed.branches[0].client, bed.branches[1].client
        assert opened() == {"branch": 0, "branch1": 0}
        for count, family in enumerate(families(bed), 1):
            assert way(bed.server, one, family) == CARRIED
            assert opened() == {"branch": count, "branch1": count - 1}
            assert way(bed.server, two, family) == CARRIED
            assert opened() == {"branch": count, "branch1": count}
        pair.nears[1].kill()
        assert pair.nears[1].wait() == 0
        wait_down(pair.far, "branch1")
        for family in families(bed):
            wait_way(DIRECT, bed.server, two, family)
            assert way(bed.server, one, family) == CARRIED


def test_a_branch_speaks_only_for_its_networks():
    """The hub's idea of a branch's networks does not hold the client: its sessions are refused, counted at both
    ends, and nothing reaches the server."""
    with Bed("lan") as bed:
        pair = bed.pair(far={"peer branch": {"networks": ["10.77.0.0/24", "fd00:77::/64"]}})
        for count, family in enumerate(families(bed), 1):
            with listener(bed.server, family) as door:
                refused = lambda: fate(bed.client, door.getsockname()) is ConnectionResetError
                # Again if a lane was exchanged just then: the answer is the same, but its reason is lost.
                wait_for(lambda: refused() and bypassed(pair.near, "forbidden") >= count, PATIENCE_S, "the near reason")
                door.setblocking(False)
                assert error_of(accept, door) is BlockingIOError
            assert bypassed(pair.far, "open-source") >= count
            assert not refused_set(bed.near, family), "what is forbidden does not go direct"
        wait_no_sessions(*pair.all())


def test_a_branch_reaches_only_what_is_served():
    with Bed("lan", servers=2) as bed:
        served = [bed.servers[0].ip4 + "/32"] + ([bed.servers[0].ip6 + "/128"] if bed.ipv6 else [])
        pair = bed.pair(far={"peer branch": {"serve": served}})
        for count, family in enumerate(families(bed), 1):
            assert way(bed.client, bed.servers[0], family) == CARRIED
            with listener(bed.servers[1], family) as door:
                assert fate(bed.client, door.getsockname()) is ConnectionResetError
                door.setblocking(False)
                assert error_of(accept, door) is BlockingIOError
            assert bypassed(pair.far, "open-destination") == count
        wait_no_sessions(*pair.all())


CLASSES = """
[class late]
ports = 7002
action = bypass
[class never]
ports = 7003-7004
action = deny
[class marked]
dscp = 46
action = bypass
[class rest]
action = accelerate
"""


def test_classes_in_the_firewall():
    """bypass: the connection never meets hawserd. deny: a reset as if nobody listened."""
    with Bed("lan") as bed:
        pair = bed.pair(near_extra=CLASSES)
        for family in families(bed):
            with listener(bed.server, family, 7001) as plain, listener(bed.server, family, 7002) as late, \
                    listener(bed.server, family, 7004) as never:
                with connect(bed.client, plain.getsockname()) as client, accept(plain) as conn:
                    assert path_of(conn) == CARRIED
                    echo_once(client, conn)
                    assert session_of(pair.near, client)["class"] == "rest"
                with connect(bed.client, late.getsockname()) as client, accept(late) as conn:
                    assert path_of(conn) == DIRECT
                    echo_once(client, conn)
                    assert session_of(pair.near, client) is None
                with connect(bed.client, plain.getsockname(), dscp=46) as client, accept(plain) as conn:
                    assert path_of(conn) == DIRECT
                    echo_once(client, conn)
                assert error_of(connect, bed.client, never.getsockname()) is ConnectionRefusedError
                never.setblocking(False)
                assert error_of(accept, never) is BlockingIOError
        wait_no_sessions(*pair.all())


USERS_RULES = """
table inet users {
    chain divert {
        meta mark set meta mark or 0x1 accept
    }
    chain prerouting {
        type filter hook prerouting priority mangle; policy accept;
        meta l4proto != tcp accept
        socket transparent 1 goto divert
        iifname != "lan0" accept
        tcp flags & (fin | syn | rst | ack) != syn accept
        fib daddr type local accept
        ip daddr 10.0.0.0/8 meta l4proto tcp tproxy ip to 127.0.0.1:3129 goto divert
        ip6 daddr fd00::/16 meta l4proto tcp tproxy ip6 to [::1]:3129 goto divert
    }
}
"""


def users_rules(host):
    """As an administrator would who has said firewall = none; they catch too much on purpose."""
    host.run(["nft", "-f", "-"], input=USERS_RULES)
    for family in ("-4", "-6") if host.ip6 else ("-4",):
        host.run(["ip", family, "rule", "add", "fwmark", "0x1/0x1", "lookup", "100"])
        everything = "::/0" if family == "-6" else "0.0.0.0/0"
        host.run(["ip", family, "route", "add", "local", everything, "dev", "lo", "table", "100"])


def test_classes_and_bypass_in_the_engine():
    """With firewall = none the user's rules catch everything. The engine carries what should be carried, relays
    directly what should go direct, resets what is denied, and counts each with its reason."""
    with Bed("lan", branches=2) as bed:
        for gateway in [bed.far] + [branch.near for branch in bed.branches]:
            users_rules(gateway)
        none = {"intercept": {"firewall": "none"}}
        pair = bed.pair(near=none, far=none, near_extra=CLASSES)
        assert "hawser" not in bed.near.run(["nft", "list", "tables"]).stdout
        for count, family in enumerate(families(bed), 1):
            with listener(bed.server, family, 7001) as plain, listener(bed.server, family, 7002) as late, \
                    listener(bed.server, family, 7003) as never:
                with connect(bed.client, plain.getsockname()) as client, accept(plain) as conn:
                    assert path_of(conn) == CARRIED
                    echo_once(client, conn)
                for dscp, door in ((0, late), (46, plain)):
                    with connect(bed.client, door.getsockname(), dscp=dscp) as client, accept(door) as conn:
                        assert path_of(conn) == RELAYED
                        assert conn.getpeername()[:2] == client.getsockname()[:2]
                        echo_once(client, conn)
                assert bypassed(pair.near, "class") == 2 * count
                assert fate(bed.client, never.getsockname()) is ConnectionResetError
                assert bypassed(pair.near, "deny") == count
                never.setblocking(False)
                assert error_of(accept, never) is BlockingIOError
            # The other branch is reached through no peer of this one.
            other = bed.branches[1].client
            with listener(other, family) as door, connect(bed.client, door.getsockname()) as client:
                with accept(door) as conn:
                    assert conn.getpeername()[:2] == client.getsockname()[:2]
                    echo_once(client, conn)
            assert bypassed(pair.near, "no-peer") == count
        wait_no_sessions(*pair.all())


def test_a_peer_that_is_down_in_the_engine():
    with Bed("lan") as bed:
        users_rules(bed.near)
        pair = bed.pair(near={"intercept": {"firewall": "none"}})
        for family in families(bed):
            assert way(bed.client, bed.server, family) == CARRIED
        wait_no_sessions(*pair.all())
        pair.far.kill_all()
        wait_down(pair.near)
        for count, family in enumerate(families(bed), 1):
            assert way(bed.client, bed.server, family) == RELAYED
            assert bypassed(pair.near, "peer-down") == count
        # A relay is as faithful as a session: half-close and all.
        with connected(bed.client, bed.server) as (client, conn):
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert read_exactly(conn, 8) == b"question" and conn.recv(1) == b""
            conn.sendall(b"answer")
            conn.close()
            assert read_exactly(client, 6) == b"answer" and client.recv(1) == b""
        wait_for(lambda: pair.near.ctl("status")["sessions"] == 0, PATIENCE_S, "the relays to end")


def test_refused_in_the_engine():
    """Without the firewall's set the engine itself remembers who refused."""
    with Bed("lan") as bed:
        users_rules(bed.near)
        pair = bed.pair(near={"intercept": {"firewall": "none"}})
        for family in families(bed):
            with listener(bed.server, family) as door:
                closed = door.getsockname()
            assert fate(bed.client, closed) is ConnectionResetError
            before = wait_for(lambda: bypassed(pair.near, "refused"), PATIENCE_S, "the reason")
            with listener(bed.server, family, closed[1]) as door:
                with connect(bed.client, closed) as client, accept(door) as conn:
                    assert path_of(conn) == RELAYED
                    echo_once(client, conn)
            assert bypassed(pair.near, "refused") == before + 1
        wait_no_sessions(*pair.all())


if __name__ == "__main__":
    main(globals())
