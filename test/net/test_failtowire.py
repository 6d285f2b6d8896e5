"""Whatever dies, new connections go direct, and come back when it does. Nothing is left of what ended."""

import os
import re
import signal

from bed import Bed, conf_text, main, wait_for
from peers import (
    CARRIED, DIRECT, PATIENCE_S, accept, bypassed, connect, connected, dead, echo_once, error_of, families, kernel_state,
    listener, path_of, processes_of, read_exactly, session_of, table_present, wait_down, wait_no_sessions, wait_way, way)


def kill_engine(daemon):
    """kill -9 of the engine, while the keeper is stopped so that the dead time can be looked at."""
    (engine,) = daemon.engine_pids()
    os.kill(daemon.pid, signal.SIGSTOP)
    os.kill(engine, signal.SIGKILL)
    wait_for(lambda: dead(engine), PATIENCE_S, "the engine to be dead")
    return engine


def test_the_near_engine_is_killed():
    """The kernel closes the listener, so nothing is caught although nobody has touched the firewall; the keeper
    starts another engine and all is carried again."""
    with Bed("lan") as bed:
        pair = bed.pair()
        for _ in range(3):
            for family in families(bed):
                assert way(bed.client, bed.server, family) == CARRIED
            kill_engine(pair.near)
            assert table_present(bed.near)
            for family in families(bed):
                assert way(bed.client, bed.server, family) == DIRECT
            os.kill(pair.near.pid, signal.SIGCONT)
            pair.wait_up(PATIENCE_S)
            for family in families(bed):
                wait_way(CARRIED, bed.client, bed.server, family)


def test_what_a_killed_engine_carried_is_reset():
    """Not ended: what came so far must not look like all there was."""
    with Bed("lan") as bed:
        pair = bed.pair()
        for family in families(bed):
            with connected(bed.client, bed.server, family) as (client, conn):
                echo_once(client, conn)
                kill_engine(pair.near)
                assert error_of(read_exactly, client, 1) is ConnectionResetError
                os.kill(pair.near.pid, signal.SIGCONT)
                assert error_of(read_exactly, conn, 1) is ConnectionResetError, "the far side of it"
            wait_way(CARRIED, bed.client, bed.server, family)
            with connected(bed.client, bed.server, family) as (client, conn):
                echo_once(client, conn)
                kill_engine(pair.far)
                assert error_of(read_exactly, conn, 1) is ConnectionResetError
                os.kill(pair.far.pid, signal.SIGCONT)
                assert error_of(read_exactly, client, 1) is ConnectionResetError, "the near side of it"
            wait_way(CARRIED, bed.client, bed.server, family)


def test_the_near_keeper_is_killed():
    """The table goes with its owner and the engine with its keeper. Rules and routes that stay do no harm, and
    the next start takes them over."""
    with Bed("lan") as bed:
        pair = bed.pair()
        assert way(bed.client, bed.server) == CARRIED
        pair.near.kill(signal.SIGKILL)
        wait_for(lambda: not table_present(bed.near), PATIENCE_S, "the table to go")
        wait_for(lambda: not processes_of(pair.near), PATIENCE_S, "the engine to go")
        for family in families(bed):
            assert way(bed.client, bed.server, family) == DIRECT
        with open(pair.near.conf_path, encoding="utf-8") as file:
            again = bed.hawserd(bed.near, file.read(), name="branch")
        again.wait_up(PATIENCE_S)
        for family in families(bed):
            wait_way(CARRIED, bed.client, bed.server, family)
        again.kill()
        assert again.wait() == 0
        left = kernel_state(bed.near)
        left.pop("slow start after idle", None)  # who was killed cannot tell what it was before
        assert not left, left


def test_everything_at_the_near_side_is_killed():
    with Bed("lan") as bed:
        pair = bed.pair()
        assert way(bed.client, bed.server) == CARRIED
        pair.near.kill_all()
        wait_for(lambda: not processes_of(pair.near), PATIENCE_S, "all to be dead")
        for family in families(bed):
            assert way(bed.client, bed.server, family) == DIRECT


def test_the_far_node_is_killed_and_comes_back():
    """Its kernel closes the lanes: the near side goes direct, and catches again when the peer is back."""
    with Bed("vpn") as bed:
        pair = bed.pair()
        for family in families(bed):
            assert way(bed.client, bed.server, family) == CARRIED
        pair.far.kill_all()
        wait_down(pair.near)
        for family in families(bed):
            wait_way(DIRECT, bed.client, bed.server, family)
        (peer,) = pair.near.ctl("peers")
        up = [lane for lane in peer["lanes"] if lane["state"] == "up"]  # one may be dialling
        assert peer["state"] == "down" and not up and peer["reason"], peer
        count = bypassed(pair.near, "peer-down")
        assert count >= len(families(bed)), count
        (line,) = re.findall(r'^hawser_bypass_total\{reason="peer-down"\} (\d+)$', pair.near.ctl("metrics")["text"], re.M)
        assert int(line) >= count, line
        with open(pair.far.conf_path, encoding="utf-8") as file:
            again = bed.hawserd(bed.far, file.read(), name="dc")
        again.wait_up(PATIENCE_S)
        for family in families(bed):
            wait_way(CARRIED, bed.client, bed.server, family)


def test_a_peer_that_stops_and_starts():
    with Bed("lan") as bed:
        pair = bed.pair()
        with connected(bed.client, bed.server) as (client, conn):
            echo_once(client, conn)
            pair.far.kill()
            assert pair.far.wait() == 0
            assert error_of(read_exactly, conn, 1) is ConnectionResetError
            wait_down(pair.near)
            wait_way(DIRECT, bed.client, bed.server)
            again = bed.hawserd(bed.far, conf_text(bed.far_sections()), name="dc")
            again.wait_up(PATIENCE_S)
            wait_way(CARRIED, bed.client, bed.server)
            assert error_of(read_exactly, client, 1) is ConnectionResetError, "of a session that nobody knows"


def test_a_hung_engine_is_replaced():
    with Bed("lan") as bed:
        pair = bed.pair()
        (engine,) = pair.near.engine_pids()
        os.kill(engine, signal.SIGSTOP)
        wait_for(lambda: (pids := pair.near.engine_pids()) and engine not in pids, PATIENCE_S, "another engine")
        pair.wait_up(PATIENCE_S)
        for family in families(bed):
            wait_way(CARRIED, bed.client, bed.server, family)


def test_what_ran_before_the_start_and_after_the_stop():
    """Connections that are open when hawserd starts go on directly, through its start, its life and its stop."""
    with Bed("lan") as bed:
        old = []
        for family in families(bed):
            with listener(bed.server, family) as door:
                client = connect(bed.client, door.getsockname())
                old.append((client, accept(door)))
            echo_once(*old[-1])
        before = [kernel_state(host) for host in (bed.near, bed.far)]
        assert before == [{}, {}], before
        pair = bed.pair()
        for family in families(bed):
            wait_way(CARRIED, bed.client, bed.server, family)
        for client, conn in old:
            echo_once(client, conn)
            assert path_of(conn) == DIRECT and session_of(pair.near, client) is None
        wait_no_sessions(*pair.all())
        for daemon in pair.all():
            daemon.kill()
            assert daemon.wait() == 0
        for client, conn in old:
            echo_once(client, conn)
            client.close()
            conn.close()


def test_nothing_is_left_after_a_stop():
    """By SIGTERM and by SIGINT, idle and in the middle of a transfer."""
    with Bed("lan") as bed:
        for number in (signal.SIGTERM, signal.SIGINT):
            pair = bed.pair()
            assert kernel_state(bed.near) and kernel_state(bed.far)
            with connected(bed.client, bed.server) as (client, conn):
                conn.setblocking(False)
                while True:
                    try:
                        conn.send(bytes(1 << 16))
                    except BlockingIOError:
                        break
                read_exactly(client, 100_000)
                for daemon in pair.all():
                    daemon.kill(number)
                for daemon in pair.all():
                    assert daemon.wait(PATIENCE_S) == 0, daemon.log()
                    assert not processes_of(daemon)
                    left = kernel_state(daemon.host)
                    assert not left, left
                    assert not daemon.host.listening(3129) and not daemon.host.listening(4430)
                    assert not os.path.exists(daemon.control)
            for family in families(bed):
                assert way(bed.client, bed.server, family) == DIRECT


def test_a_full_house_goes_direct():
    """Past `sessions` the listener is closed: what is carried stays, what is new goes direct, and below the low mark
    new connections are caught again. The reason is counted."""
    with Bed("lan") as bed:
        pair = bed.pair(near={"node": {"sessions": "20"}})
        held, ways = [], []
        with listener(bed.server) as door:
            while DIRECT not in ways:
                assert len(held) < 60, "no end of what is carried"
                client = connect(bed.client, door.getsockname())
                conn = accept(door)
                echo_once(client, conn)
                held.append((client, conn))
                ways.append(path_of(conn))
            assert 10 <= ways.count(CARRIED) <= 20, ways
            assert bypassed(pair.near, "sessions") >= 1
            assert not pair.near.ctl("status")["accepting"]
            for family in families(bed):
                assert way(bed.client, bed.server, family) == DIRECT
            for client, conn in held:
                echo_once(client, conn)
                client.close()
                conn.close()
            for family in families(bed):
                wait_way(CARRIED, bed.client, bed.server, family)


def test_a_second_hawserd_on_the_same_host():
    """It says why, ends with 1 and leaves the first one alone."""
    with Bed("lan") as bed:
        pair = bed.pair()
        state = kernel_state(bed.near)
        second = bed.hawserd(bed.near, conf_text(bed.near_sections()), name="branch")
        assert second.wait(PATIENCE_S) == 1
        assert "hawserd" in second.log() or "in use" in second.log(), second.log()
        assert kernel_state(bed.near) == state
        assert pair.near.peers_up() and way(bed.client, bed.server) == CARRIED


if __name__ == "__main__":
    main(globals())
