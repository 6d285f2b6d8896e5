"""Sessions outlive a link that is away for a while."""

from bed import Bed, main, wait_for
from peers import (
    CARRIED, PATIENCE_S, Stream, connected, echo_once, error_of, families, read_exactly, reset, session_of, wait_down,
    wait_no_sessions, wait_way)


def test_a_short_outage():
    """Shorter than it takes to call the peer dead: the kernel repeats, nobody notices."""
    with Bed("vpn", wanem=["--loss", "0"]) as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                stream = Stream(conn, client, 6_000_000)
                stream.wait_arrived(1_000_000)
                bed.wanem.down()
                before = bed.wanem.stats()["b-to-a"]["drop_down_packets"]
                wait_for(lambda before=before: bed.wanem.stats()["b-to-a"]["drop_down_packets"] >= before + 2,
                         PATIENCE_S, "packets to be lost")
                bed.wanem.up()
                stream.finish()
        wait_no_sessions(*pair.all())


def test_an_outage_in_the_middle_of_transfers():
    """The link is away until both ends have found the other one dead (5 s and more), then comes back: transfers go
    on where they were, idle sessions too, with the same ids, and new connections are caught again."""
    with Bed("vpn", wanem=["--loss", "0"]) as bed:
        pair = bed.pair()
        ends = [connected(bed.client, bed.server, families(bed)[-1]) for _ in range(3)]
        (one, its_conn), (two, her_conn), idle = [end.__enter__() for end in ends]
        try:
            echo_once(*idle)
            down, up = Stream(its_conn, one, 6_000_000, 1), Stream(two, her_conn, 6_000_000, 2)
            down.wait_arrived(1_000_000)
            up.wait_arrived(1_000_000)
            before = {session["id"] for session in pair.near.ctl("sessions")}
            bed.wanem.down()
            wait_down(pair.near)
            wait_down(pair.far)
            assert not down.finished() and not up.finished()
            assert {session["id"] for session in pair.near.ctl("sessions")} == before
            bed.wanem.up()
            down.finish()
            up.finish()
            echo_once(*idle)
            assert session_of(pair.near, idle[0])["id"] in before
        finally:
            for end in ends:
                end.__exit__(None, None, None)
        pair.wait_up(PATIENCE_S)
        for family in families(bed):
            wait_way(CARRIED, bed.client, bed.server, family)
        wait_no_sessions(*pair.all())


def test_what_happens_at_the_ends_during_an_outage():
    """Closed, reset and spoken to while there is no lane: all of it arrives when the link is back."""
    with Bed("lan") as bed:
        pair = bed.pair()
        ends = [connected(bed.client, bed.server) for _ in range(4)]
        speaks, closes, resets, answers = [end.__enter__() for end in ends]
        try:
            for end in (speaks, closes, resets, answers):
                echo_once(*end)
            bed.wanem.down()
            wait_down(pair.near)
            wait_down(pair.far)
            speaks[0].sendall(b"are you there?")
            closes[0].sendall(b"good bye")
            closes[0].close()
            reset(resets[0])
            answers[1].sendall(b"an answer")
            answers[1].close()
            bed.wanem.up()
            assert read_exactly(speaks[1], 14) == b"are you there?"
            assert read_exactly(closes[1], 8) == b"good bye" and closes[1].recv(1) == b""
            assert error_of(resets[1].recv, 1) is ConnectionResetError
            assert read_exactly(answers[0], 9) == b"an answer" and answers[0].recv(1) == b""
        finally:
            for end in ends:
                end.__exit__(None, None, None)
        wait_no_sessions(*pair.all())


def test_an_outage_longer_than_hold():
    """Then the sessions are reset at both ends, and the link comes back to new ones."""
    with Bed("lan") as bed:
        pair = bed.pair(near={"peer dc": {"hold": "500ms"}}, far={"peer branch": {"hold": "500ms"}})
        with connected(bed.client, bed.server) as (client, conn):
            echo_once(client, conn)
            bed.wanem.down()
            assert error_of(client.recv, 1) is ConnectionResetError
            assert error_of(conn.recv, 1) is ConnectionResetError
            wait_no_sessions(*pair.all())
            bed.wanem.up()
        pair.wait_up(PATIENCE_S)
        for family in families(bed):
            wait_way(CARRIED, bed.client, bed.server, family)


def test_a_link_that_works_one_way_only():
    """Nothing comes back: dead as well, found by both ends."""
    with Bed("lan") as bed:
        pair = bed.pair()
        with connected(bed.client, bed.server) as (client, conn):
            stream = Stream(client, conn, 200_000_000)
            stream.wait_arrived(1)
            bed.wanem.down("b-to-a")
            wait_down(pair.near)
            bed.wanem.up("b-to-a")
            stream.finish()
        wait_no_sessions(*pair.all())


if __name__ == "__main__":
    main(globals())
