"""Each node catches and originates at once: clients at both LANs. And in whose name the far side connects."""

import os

from bed import Bed, main, make_file, wait_for
from peers import (
    CARRIED, PATIENCE_S, Stream, Task, accept, bypassed, connect, connected, echo_once, error_of, families, fate, listener,
    path_of, session_of, wait_no_sessions, way)


def test_clients_on_both_sides():
    """The tunnel is dialled by the near side only; connections run both ways through it at the same time."""
    with Bed("branch") as bed:
        pair = bed.pair()
        webs = {bed.server: bed.nginx(bed.server), bed.client: bed.nginx(bed.client)}
        tasks = []
        for host, other in ((bed.server, bed.client), (bed.client, bed.server)):
            webs[host].file("blob", 3_000_000, seed=len(tasks))
            path = os.path.join(bed.folder, f"up-from-{other.name}")
            make_file(path, 2_000_000, seed=7 + len(tasks))
            for family in families(bed):
                tasks.append(Task(bed.download, other, webs[host], "blob", family))
                tasks.append(Task(bed.upload, other, webs[host], path, f"up-{family}", family))
        for task in tasks:
            task.result()
        for daemon in pair.all():
            (peer,) = daemon.ctl("peers")
            assert peer["opened"] == len(tasks)
        for host, other in ((bed.server, bed.client), (bed.client, bed.server)):
            lines = wait_for(lambda host=host: len(found := webs[host].requests()) == len(tasks) // 2 and found,
                             PATIENCE_S, "the access log")
            assert {line.split()[0] for line in lines} == {other.ip(family) for family in families(bed)}, lines
        wait_no_sessions(*pair.all())


def test_both_halves_of_both_nodes():
    """A session each way: either node shows one as near and one as far."""
    with Bed("lan") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (one, its_conn), \
                    connected(bed.server, bed.client, family) as (two, her_conn):
                assert path_of(its_conn) == path_of(her_conn) == CARRIED
                echo_once(one, its_conn)
                echo_once(two, her_conn)
                assert session_of(pair.near, one)["half"] == "near" and session_of(pair.far, one)["half"] == "far"
                assert session_of(pair.near, two)["half"] == "far" and session_of(pair.far, two)["half"] == "near"
                assert her_conn.getpeername()[:2] == two.getsockname()[:2]
        wait_no_sessions(*pair.all())


def test_both_nodes_dial():
    """Both know the other's address: the lanes that stay are two, seen alike from both ends, and all is carried."""
    with Bed("lan") as bed:
        near4 = bed.branches[0].wan(2)[0]
        pair = bed.pair(near={"tunnel": {"listen": "0.0.0.0:4430"}},
                        far={"peer branch": {"address": f"{near4}:4430"}})
        web = bed.nginx()
        web.file("blob", 5_000_000)

        def settled():
            found = [daemon.ctl("lanes") for daemon in pair.all()]
            return all(len(lanes) == 2 and all(lane["state"] == "up" for lane in lanes) for lanes in found)
        wait_for(settled, PATIENCE_S, "two lanes at either end")
        for family in families(bed):
            bed.download(bed.client, web, "blob", family)
            assert way(bed.server, bed.client, family) == CARRIED
        assert settled()
        wait_no_sessions(*pair.all())


def test_streams_against_each_other():
    with Bed("vpn") as bed:
        pair = bed.pair()
        with connected(bed.client, bed.server) as (one, its_conn), connected(bed.server, bed.client) as (two, her_conn):
            streams = [Stream(one, its_conn, 3_000_000, 1), Stream(its_conn, one, 3_000_000, 2),
                       Stream(two, her_conn, 3_000_000, 3), Stream(her_conn, two, 3_000_000, 4)]
            for stream in streams:
                stream.finish()
        wait_no_sessions(*pair.all())


def test_clients_behind_a_bridge():
    """The LAN interface of the near gateway is a bridge, with bridge netfilter as the kernel has it by default."""
    with Bed("lan", clients=2) as bed:
        pair = bed.pair()
        for family in families(bed):
            for client in bed.branches[0].clients:
                assert way(client, bed.server, family) == CARRIED
        wait_no_sessions(*pair.all())


# --- in whose name ----------------------------------------------------------------------------------


def test_source_self():
    """The far side connects in its own name, by `source` of its own configuration."""
    with Bed("lan") as bed:
        pair = bed.pair(far={"peer branch": {"source": "self"}})
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                assert conn.getpeername()[0] == bed.far.ip(family)
                assert session_of(pair.far, client), "the session keeps the client's name in the reports"
                echo_once(client, conn)
            with connected(bed.server, bed.client, family) as (client, conn):  # the other node's is as it was
                assert conn.getpeername()[0] == bed.server.ip(family)
                echo_once(client, conn)
        wait_no_sessions(*pair.all())


def way_back_elsewhere(bed):
    """The server's route back to the clients does not lead to the far gateway."""
    branch = bed.branches[0]
    bed.server.run(["ip", "route", "add", "blackhole", branch.net4])
    if bed.ipv6:
        bed.server.run(["ip", "-6", "route", "add", "blackhole", branch.net6])


def test_source_auto():
    """The client's name first; where that cannot work our own, and it is remembered a destination."""
    with Bed("lan", servers=2) as bed:
        pair = bed.pair(far={"peer branch": {"source": "auto"}})
        way_back_elsewhere(bed)  # of the first server
        for family in families(bed):
            for _ in range(3):  # the first finds out
                with connected(bed.client, bed.servers[0], family) as (client, conn):
                    assert conn.getpeername()[0] == bed.far.ip(family)
                    echo_once(client, conn)
            with connected(bed.client, bed.servers[1], family) as (client, conn):
                assert conn.getpeername()[:2] == client.getsockname()[:2]
                echo_once(client, conn)
        assert bypassed(pair.near, "unreachable") == 0
        wait_no_sessions(*pair.all())


def test_source_client_does_not_change_its_mind():
    """With source = client the same server is out of reach, and no other name is tried."""
    with Bed("lan") as bed:
        pair = bed.pair(far={"node": {"connect-timeout": "300ms"}, "peer branch": {"source": "client"}})
        way_back_elsewhere(bed)
        for family in families(bed):
            with listener(bed.server, family) as door:
                assert fate(bed.client, door.getsockname()) is ConnectionResetError
                door.setblocking(False)
                assert error_of(accept, door) is BlockingIOError
        wait_for(lambda: bypassed(pair.near, "unreachable") == len(families(bed)), PATIENCE_S, "the reason")
        wait_no_sessions(*pair.all())


if __name__ == "__main__":
    main(globals())
