"""Sessions outlive their lanes."""

import threading

from bed import Bed, main, wait_for
from peers import PATIENCE_S, Stream, connected, echo_once, error_of, families, wait_no_sessions


def lanes_up(daemon):
    return [lane for lane in daemon.ctl("lanes") if lane["state"] == "up"]


def cut(bed, pair, role):
    """Kills the TCP connections of the lanes of a role (None: all), in the far gateway's kernel. Their ports."""
    ports = [lane["address"].rpartition(":")[2] for lane in lanes_up(pair.far) if role in (None, lane["role"])]
    assert ports
    for port in ports:
        done = bed.far.run(["ss", "-K", "-tH", "sport", "=", ":4430", "and", "dport", "=", f":{port}"])
        assert port in done.stdout, f"ss killed nothing: {done.stdout} {done.stderr}"
    return ports


def wait_lanes(pair, without):
    """Two lanes at either end, none of them on these ports of the near side."""
    def there():
        lanes = lanes_up(pair.far)
        ports = {lane["address"].rpartition(":")[2] for lane in lanes}
        return len(lanes) == len(lanes_up(pair.near)) == 2 and not ports & set(without)
    wait_for(there, PATIENCE_S, "the lanes to be dialled again")


def test_a_transfer_survives_the_loss_of_its_lanes():
    """Down and up at once; the express lane, the bulk lane, then both are cut in the middle."""
    with Bed("vpn", wanem=["--loss", "0"]) as bed:
        pair = bed.pair()
        for family in families(bed):
            wait_lanes(pair, [])
            with connected(bed.client, bed.server, family) as (one, its_conn), \
                    connected(bed.client, bed.server, family) as (two, her_conn):
                down, up = Stream(its_conn, one, 9_000_000, 1), Stream(two, her_conn, 9_000_000, 2)
                before = {session["id"] for session in pair.near.ctl("sessions")}
                for count, role in enumerate(("bulk", "express", None), 1):
                    down.wait_arrived(count * 2_000_000)
                    up.wait_arrived(count * 2_000_000)
                    wait_lanes(pair, cut(bed, pair, role))
                assert {session["id"] for session in pair.near.ctl("sessions")} == before, "other sessions"
                down.finish()
                up.finish()
            wait_no_sessions(*pair.all())


def test_many_sessions_survive_the_loss_of_their_lanes():
    """Short questions and answers on 40 sessions while lanes are cut again and again: nothing twice, nothing lost."""
    with Bed("lan") as bed:
        pair = bed.pair()
        stop = threading.Event()
        ends = [connected(bed.client, bed.server, family) for family in families(bed) for _ in range(20)]
        open_ends = [end.__enter__() for end in ends]
        rounds = [0] * len(open_ends)
        errors = []

        def talk(number):
            client, conn = open_ends[number]
            try:
                while not stop.is_set():
                    echo_once(client, conn, b"%d asks %d" % (number, rounds[number]) * 20)
                    rounds[number] += 1
            except (OSError, AssertionError) as error:
                errors.append(error)

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(open_ends))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                before = list(rounds)
                wait_lanes(pair, cut(bed, pair, None))
                wait_for(lambda before=before: errors or all(now > then for now, then in zip(rounds, before)),
                         PATIENCE_S, "every session to go on")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for end in ends:
                end.__exit__(None, None, None)
        assert not errors, errors
        wait_no_sessions(*pair.all())


def test_a_hold_of_nothing():
    """hold = 0: no session outlives its lanes, but one lane is enough for all of them."""
    with Bed("lan") as bed:
        pair = bed.pair(near={"peer dc": {"hold": "0s"}})
        wait_lanes(pair, [])
        with connected(bed.client, bed.server) as (client, conn):
            echo_once(client, conn)
            wait_lanes(pair, cut(bed, pair, "bulk"))
            echo_once(client, conn)
            cut(bed, pair, None)
            assert error_of(client.recv, 1) is ConnectionResetError
            assert error_of(conn.recv, 1) is ConnectionResetError
        wait_lanes(pair, [])
        wait_no_sessions(*pair.all())


if __name__ == "__main__":
    main(globals())
