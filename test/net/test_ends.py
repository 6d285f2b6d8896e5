"""How connections end early: resets in both directions, origins that refuse or do not answer, aborted transfers."""

import array
import errno
import fcntl
import socket
import termios

from bed import Bed, main, wait_for
from peers import (
    CARRIED, DIRECT, PATIENCE_S, Stream, Task, accept, bypassed, connect, connected, echo_once, error_of, families, fate,
    listener, noise, path_of, read_exactly, refused_set, reset, session_of, wait_no_sessions)


def test_a_reset_by_the_client():
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                echo_once(client, conn)
                reset(client)
                assert error_of(conn.recv, 1) is ConnectionResetError
        wait_no_sessions(pair.near, pair.far)


def test_a_reset_by_the_server():
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                echo_once(client, conn)
                reset(conn)
                assert error_of(client.recv, 1) is ConnectionResetError
            assert not refused_set(bed.near, family), "a reset after the connection is no refusal"
            with connected(bed.client, bed.server, family) as (client, conn):
                reset(conn)  # before a byte was said: may count as a refusal or not
                assert error_of(client.recv, 1) is ConnectionResetError
        wait_no_sessions(pair.near, pair.far)


def test_what_was_said_before_a_reset_arrives():
    """The server resets when its bytes have left its kernel (as nginx does to a request that is too long): the
    client gets all of them, then the reset."""
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            for size in (1, 100_000, 1_000_000):
                with connected(bed.client, bed.server, family) as (client, conn):
                    conn.sendall(noise(size))
                    wait_for(lambda conn=conn: unsent(conn) == 0, PATIENCE_S, "the server's bytes to leave")
                    reset(conn)
                    assert read_exactly(client, size) == noise(size)
                    assert error_of(client.recv, 1) is ConnectionResetError
        wait_no_sessions(pair.near, pair.far)


def unsent(sock):
    """Bytes that the other end has not acknowledged (tcp(7), SIOCOUTQ)."""
    left = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, left)
    return left[0]


def test_a_reset_of_a_half_closed_connection():
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                client.sendall(b"question")
                client.shutdown(socket.SHUT_WR)
                assert read_exactly(conn, 8) == b"question" and conn.recv(1) == b""
                reset(conn)
                assert error_of(client.recv, 1) is ConnectionResetError
            with connected(bed.client, bed.server, family) as (client, conn):
                conn.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
                reset(client)
                assert error_of(read_exactly, conn, 1) is ConnectionResetError
        wait_no_sessions(pair.near, pair.far)


def free_port(host, family):
    with listener(host, family) as door:
        return door.getsockname()


def test_an_origin_that_refuses():
    with Bed("vpn") as bed:
        pair = bed.pair()
        for count, family in enumerate(families(bed), 1):
            closed = free_port(bed.server, family)
            # Accepted next to us, before anybody asked the server.
            assert fate(bed.client, closed) is ConnectionResetError
            wait_for(lambda closed=closed, family=family: refused_set(bed.near, family) == {closed[:2]}, PATIENCE_S,
                     "the origin among the refused ones")
            assert bypassed(pair.near, "refused") == count
            assert error_of(connect, bed.client, closed) is ConnectionRefusedError, "the server's own answer"
            assert bypassed(pair.near, "refused") == count
            with listener(bed.server, family, closed[1]) as door:  # while it is remembered it goes direct
                with connect(bed.client, closed) as client, accept(door) as conn:
                    assert path_of(conn) == DIRECT
                    echo_once(client, conn)
            with connected(bed.client, bed.server, family) as (client, conn):  # other ports do not suffer
                assert path_of(conn) == CARRIED
        wait_no_sessions(pair.near, pair.far)


def test_first_bytes_to_an_origin_that_refuses():
    """They travel with the OPEN; the client hears of the refusal all the same."""
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            closed = free_port(bed.server, family)
            with connect(bed.client, closed) as client:
                client.sendall(noise(100_000))
                assert error_of(client.recv, 1) is ConnectionResetError
        wait_no_sessions(pair.near, pair.far)


def test_an_origin_that_does_not_answer():
    """Its packets are dropped. The far side gives up after connect-timeout; the next connection goes direct."""
    with Bed("lan") as bed:
        pair = bed.pair(far={"node": {"connect-timeout": "500ms"}})
        bed.server.run(["nft", "-f", "-"], input="""
            table inet silence {
                chain input {
                    type filter hook input priority 0;
                    tcp dport 7777 drop
                }
            }
            """)
        for count, family in enumerate(families(bed), 1):
            silent = (bed.server.ip(family), 7777)
            assert fate(bed.client, silent) is ConnectionResetError
            wait_for(lambda silent=silent, family=family: refused_set(bed.near, family) == {silent}, PATIENCE_S,
                     "the origin among the refused ones")
            assert bypassed(pair.near, "unreachable") == count
            assert error_of(connect, bed.client, silent, timeout=0.5) is TimeoutError, "direct: nobody answers"
        wait_no_sessions(pair.near, pair.far)


def test_an_origin_that_cannot_be_reached():
    with Bed("lan") as bed:
        pair = bed.pair()
        for count, family in enumerate(families(bed), 1):
            nobody = ("10.2.0.200" if family == 4 else "fd00:2::200", 80)
            bed.far.run(["ip", f"-{family}", "route", "add", "unreachable", nobody[0]])
            assert fate(bed.client, nobody) is ConnectionResetError
            wait_for(lambda nobody=nobody, family=family: refused_set(bed.near, family) == {nobody}, PATIENCE_S,
                     "the origin among the refused ones")
            assert bypassed(pair.near, "unreachable") == count
            try:
                connect(bed.client, nobody).close()
            except OSError as error:
                assert error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EACCES), error
            else:
                raise AssertionError("the next connection did not go direct")
        wait_no_sessions(pair.near, pair.far)


def test_an_aborted_download_leaves_the_link():
    """The client goes in the middle of an endless download: the far session goes, the server is reset and the link
    falls silent, whatever was queued for it."""
    with Bed("vpn", wanem=["--loss", "0"]) as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                source = Task(send_until_error, conn)
                read_exactly(client, 1_000_000)
                assert session_of(pair.far, client)
                reset(client)
                assert source.result() in (ConnectionResetError, BrokenPipeError)
            wait_no_sessions(pair.near, pair.far)
            wait_for(lambda: bed.wanem.stats()["b-to-a"]["inside_bytes"] < 5000, PATIENCE_S, "the queue to empty")
            before = bed.wanem.stats()["b-to-a"]["in_bytes"]
            assert link_silent(bed) - before < 50_000


def link_silent(bed):
    """Bytes that have entered the link towards the client when only small packets (pings) do any more."""
    state = {"quiet": 0, "bytes": bed.wanem.stats()["b-to-a"]["in_bytes"]}

    def quiet():
        now = bed.wanem.stats()["b-to-a"]["in_bytes"]
        state["quiet"] = state["quiet"] + 1 if now - state["bytes"] < 1500 else 0
        state["bytes"] = now
        return state["quiet"] >= 100
    wait_for(quiet, PATIENCE_S, "the link to fall silent")
    return state["bytes"]


def send_until_error(sock):
    """Sends until it cannot; the error's class."""
    block = noise(1 << 16)
    try:
        while True:
            sock.sendall(block)
    except OSError as error:
        return type(error)


def test_an_aborted_upload_leaves_the_link():
    with Bed("vpn", wanem=["--loss", "0"]) as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                source = Task(send_until_error, client)
                read_exactly(conn, 1_000_000)
                reset(conn)
                assert source.result() in (ConnectionResetError, BrokenPipeError)
            wait_no_sessions(pair.near, pair.far)


def test_others_live_on_when_one_is_reset():
    with Bed("branch") as bed:
        pair = bed.pair()
        with connected(bed.client, bed.server) as (one, its_conn):
            stream = Stream(its_conn, one, 20_000_000)
            stream.wait_arrived(1)
            for _ in range(20):
                with connected(bed.client, bed.server) as (client, conn):
                    echo_once(client, conn)
                    reset(client)
                    assert error_of(conn.recv, 1) is ConnectionResetError
            stream.finish()
        wait_no_sessions(pair.near, pair.far)


if __name__ == "__main__":
    main(globals())
