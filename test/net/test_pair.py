"""A pair carries what clients and servers say, byte for byte, in the client's own name; IPv4 and IPv6."""

import os
import socket

from bed import Bed, main, make_file, wait_for
from peers import (
    CARRIED, PATIENCE_S, Syn, Task, accept, connect, connected, echo_once, families, listener, noise, path_of,
    read_exactly, read_to_end, session_of, steady, text_of, wait_no_sessions)

SIZES = (0, 1, 100_000, 20_000_000)


def opened(daemon):
    return sum(peer["opened"] for peer in daemon.ctl("peers"))


def test_files_of_all_sizes_both_ways():
    with Bed("lan") as bed:
        pair = bed.pair()
        web = bed.nginx()
        count = 0
        for size in SIZES:
            name = f"down-{size}"
            web.file(name, size)
            path = os.path.join(bed.folder, f"up-{size}")
            make_file(path, size, seed=2)
            for family in families(bed):
                assert bed.download(bed.client, web, name, family).bytes == size
                bed.upload(bed.client, web, path, f"up-{size}-{family}", family)
                count += 2
        assert opened(pair.near) == count and opened(pair.far) == count, "some went direct"
        wait_no_sessions(pair.near, pair.far)
        wait_for(lambda: len(web.requests()) == count, PATIENCE_S, "the access log")
        clients = {line.split()[0] for line in web.requests()}
        assert clients == {bed.client.ip(family) for family in families(bed)}, clients


def test_the_tunnel_itself_over_ipv6():
    with Bed("lan") as bed:
        if not bed.ipv6:
            return
        pair = bed.pair(family=6)
        lanes = wait_for(lambda: len(found := pair.near.ctl("lanes")) == 2 and found, PATIENCE_S, "two lanes")
        assert {lane["address"] for lane in lanes} == {text_of((bed.branches[0].wan(1)[1], 4430))}, lanes
        web = bed.nginx()
        web.file("blob", 3_000_000)
        for family in families(bed):
            bed.download(bed.client, web, "blob", family)
        assert opened(pair.far) == 2


def test_many_at_once():
    with Bed("branch") as bed:
        pair = bed.pair()
        web = bed.nginx()
        tasks = []
        for number in range(8):
            size = 20_000 << number
            web.file(f"blob-{number}", size, seed=number)
            path = os.path.join(bed.folder, f"up-{number}")
            make_file(path, size, seed=10 + number)
            for family in families(bed):
                tasks.append(Task(bed.download, bed.client, web, f"blob-{number}", family))
                tasks.append(Task(bed.upload, bed.client, web, path, f"up-{number}-{family}", family))
        for task in tasks:
            task.result()
        assert opened(pair.near) == opened(pair.far) == len(tasks)
        wait_no_sessions(pair.near, pair.far)


def test_many_small_connections_at_once():
    """200 open at the same time, each with bytes of its own, ended in another order."""
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            with listener(bed.server, family, backlog=512) as door:
                clients = [connect(bed.client, door.getsockname()) for _ in range(200)]
                conns = {}
                for _ in clients:
                    conn = accept(door)
                    conns[conn.getpeername()[:2]] = conn
                for number, client in enumerate(clients):
                    client.sendall(noise(3000, seed=number))
                assert len(pair.near.ctl("sessions")) == len(pair.far.ctl("sessions")) == 200
                for number, client in reversed(list(enumerate(clients))):
                    conn = conns.pop(client.getsockname()[:2])
                    assert read_exactly(conn, 3000) == noise(3000, seed=number)
                    conn.sendall(noise(5000, seed=1000 + number))
                    conn.close()
                assert not conns
                for number, client in enumerate(clients):
                    assert read_to_end(client) == noise(5000, seed=1000 + number)
                    client.close()
            wait_no_sessions(pair.near, pair.far)


def test_the_client_keeps_its_address_and_port():
    with Bed("lan") as bed:
        bed.pair()
        for family in families(bed):
            for port in (0, 5000, 1023):  # any; the user's; one of the privileged
                with connected(bed.client, bed.server, family, port=port) as (client, conn):
                    assert path_of(conn) == CARRIED
                    assert conn.getpeername()[:2] == client.getsockname()[:2]
                    assert client.getsockname()[0] == bed.client.ip(family)
                    assert not port or client.getsockname()[1] == port
                    # The client, too, sees who it asked for.
                    assert client.getpeername()[:2] == conn.getsockname()[:2]
                    echo_once(client, conn)


def test_a_port_that_is_taken_costs_only_the_port():
    """The far side holds the client's address and port for the first server; a connection to a second one from
    the same port is another connection, and one to the same server after a quick close finds the port free or
    gets another one: never a refusal."""
    with Bed("lan", servers=2) as bed:
        bed.pair()
        for family in families(bed):
            with listener(bed.servers[0], family) as one, listener(bed.servers[1], family) as two:
                first = connect(bed.client, one.getsockname(), port=5001)
                conn = accept(one)
                second = connect(bed.client, two.getsockname(), port=5001)
                other = accept(two)
                assert conn.getpeername()[0] == other.getpeername()[0] == bed.client.ip(family)
                echo_once(first, conn)
                echo_once(second, other)
                for sock in (first, conn, second, other):
                    sock.close()


def test_the_servers_own_service_holds_the_port():
    """A process on the far gateway listens on the port that the client came from, on all addresses."""
    with Bed("lan") as bed:
        bed.pair()
        for family in families(bed):
            holder = bed.far.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
            holder.bind(("::" if family == 6 else "0.0.0.0", 5002))
            holder.listen()
            with holder, connected(bed.client, bed.server, family, port=5002) as (client, conn):
                assert path_of(conn) == CARRIED
                assert conn.getpeername()[0] == bed.client.ip(family)
                echo_once(client, conn)


def test_dscp_reaches_the_server():
    with Bed("lan") as bed:
        bed.pair()
        for family in families(bed):
            for dscp in (0, 10, 46, 63):
                with connected(bed.client, bed.server, family, dscp=dscp) as (client, conn):
                    syn = Syn(conn)
                    assert (syn.dscp, syn.ttl) == (dscp, 64), (family, dscp, syn.dscp, syn.ttl)
                    echo_once(client, conn)


def test_the_server_speaks_first():
    with Bed("vpn") as bed:
        bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                conn.sendall(b"220 ready\r\n")
                assert read_exactly(client, 11) == b"220 ready\r\n"
                client.sendall(b"QUIT\r\n")
                assert read_exactly(conn, 6) == b"QUIT\r\n"
                conn.close()
                assert client.recv(1) == b""
            with connected(bed.client, bed.server, family) as (client, conn):
                conn.sendall(noise(2_000_000))  # all of it, unasked, and the end
                conn.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == noise(2_000_000)
                client.sendall(b"thanks")
                client.close()
                assert read_to_end(conn) == b"thanks"


def test_the_client_ends_first():
    """A question, the end of the client's direction, then the server's answer."""
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            for size in (0, 1, 1_000_000):
                with connected(bed.client, bed.server, family) as (client, conn):
                    sender = Task(client.sendall, noise(size))
                    question = Task(read_to_end, conn)
                    sender.result()
                    client.shutdown(socket.SHUT_WR)
                    assert question.result() == noise(size)
                    wait_for(lambda client=client: session_of(pair.near, client)["state"] == "out-closed", PATIENCE_S,
                             "the session to be half closed")
                    sender = Task(conn.sendall, noise(3_000_000, seed=2))
                    answer = Task(read_exactly, client, 3_000_000)
                    sender.result()
                    assert answer.result() == noise(3_000_000, seed=2)
                    conn.close()
                    assert client.recv(1) == b""
        wait_no_sessions(pair.near, pair.far)


def test_the_server_ends_first():
    """The server has said everything; the client goes on for as long as it likes."""
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                client.sendall(b"hello")
                assert read_exactly(conn, 5) == b"hello"
                conn.sendall(b"that is all")
                conn.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == b"that is all"
                wait_for(lambda client=client: session_of(pair.near, client)["state"] == "in-closed", PATIENCE_S,
                         "the session to be half closed")
                sender = Task(client.sendall, noise(3_000_000))
                assert read_exactly(conn, 3_000_000) == noise(3_000_000)
                sender.result()
                client.close()
                assert conn.recv(1) == b""
        wait_no_sessions(pair.near, pair.far)


def test_both_directions_at_the_same_time():
    with Bed("branch") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                tasks = [Task(client.sendall, noise(8_000_000, 1)), Task(conn.sendall, noise(8_000_000, 2)),
                         Task(read_exactly, conn, 8_000_000), Task(read_exactly, client, 8_000_000)]
                results = [task.result() for task in tasks]
                assert results[2] == noise(8_000_000, 1) and results[3] == noise(8_000_000, 2)
        wait_no_sessions(pair.near, pair.far)


def test_a_reader_that_takes_its_time():
    """The client stops reading in the middle: the server is stopped by back-pressure, others are not, and every
    byte comes once the client goes on."""
    with Bed("none") as bed:
        pair = bed.pair()
        with connected(bed.client, bed.server) as (client, conn):
            sent = 0
            block = noise(1 << 20)
            conn.setblocking(False)

            def push():
                nonlocal sent
                try:
                    while True:
                        sent += conn.send(block[sent % len(block):])
                        assert sent < 1 << 30, "nothing holds the server back"
                except BlockingIOError:
                    return sent

            steady(push)
            status = pair.far.ctl("status")
            assert status["memory_bytes"] < status["memory_cap_bytes"]
            with connected(bed.client, bed.server) as (other, its_conn):
                echo_once(other, its_conn)
            conn.setblocking(True)
            conn.shutdown(socket.SHUT_WR)
            taken = 0
            while piece := client.recv(1 << 18):
                begin = taken % len(block)
                assert piece == (block + block)[begin:begin + len(piece)], f"other bytes after {taken}"
                taken += len(piece)
            assert taken == sent
        wait_no_sessions(pair.near, pair.far)


if __name__ == "__main__":
    main(globals())
