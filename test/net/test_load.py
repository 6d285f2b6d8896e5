"""Many sessions at once: right bytes, bounded memory, workers that share, and what vanishes or is slow hurts nobody."""

import socket
import threading

from bed import Bed, main, wait_for
from load_runs import LoadClient, LoadServer, engine_pid, is_sanitized, memory_of, peak_bytes

MIB = 1 << 20
IDLE_MOST_BYTES = 8 * 1024
SHARE_MOST = 1.15


def node(**keys):
    return {"node": {key.replace("_", "-"): value for key, value in keys.items()}}


def sessions_of(daemon):
    return daemon.ctl("status")["sessions"]


def accelerated_by(daemon):
    """Sessions with its peers: without what it relays directly."""
    return sum(peer["sessions"] for peer in daemon.ctl("peers"))


def wait_sessions(daemon, wanted, timeout=60):
    wait_for(lambda: sessions_of(daemon) == wanted, timeout, f"{wanted} sessions at {daemon.name}")


def share_of(daemon):
    """(most, mean) of live sessions a worker."""
    counts = [worker["sessions"] for worker in daemon.ctl("status")["workers"]]
    return max(counts), sum(counts) / len(counts)


def assert_shared(daemon, workers, sessions):
    status = daemon.ctl("status")
    assert len(status["workers"]) == workers, status
    most, mean = share_of(daemon)
    print(f"{daemon.name}: {workers} workers, {sessions} sessions, the busiest has {most}, the mean is {mean:.1f}: "
          f"{most / mean:.3f} times", flush=True)
    # (a session whose host has said all has no leg on a worker any more, while the other end still reads)
    assert most <= SHARE_MOST * mean, status


def assert_below_cap(pair, cap):
    for daemon in pair.all():
        peak = peak_bytes(engine_pid(daemon))
        print(f"{daemon.name}: peak {peak / MIB:.1f} MB of {cap // MIB} MB", flush=True)
        assert peak <= cap or is_sanitized(), f"{daemon.name}: {peak} bytes"


def test_load_sees_what_is_wrong():
    """The generator itself: a server that changes a byte, and one that leaves early, are errors."""
    with Bed(profile=None) as bed:
        server = LoadServer(bed.server)
        LoadClient(bed.client, server, ["short:10", "stream:2"]).finish()
        assert server.stop()["finished"] == 12

        def relay(changes):
            """A relay that flips one byte of the answer, or drops its end."""
            listener = bed.far.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((bed.far.ip4, 9000))
            listener.listen()
            client, _ = listener.accept()
            upstream = bed.far.socket()
            upstream.connect((bed.server.ip4, 9000))
            with listener, client, upstream:
                client.settimeout(10)
                upstream.settimeout(10)
                while question := client.recv(65536):
                    upstream.sendall(question)
                upstream.shutdown(socket.SHUT_WR)
                answer = bytearray()
                while piece := upstream.recv(65536):
                    answer += piece
                client.sendall(changes(answer))

        def flipped(answer):
            answer[len(answer) // 2] ^= 1
            return answer

        for changes, error in ((flipped, "wrong bytes came"), (lambda answer: answer[:-1], "ended too early"),
                               (lambda answer: answer + b"x", "behind the end")):
            server = LoadServer(bed.server)
            server.ports = "9000"
            thread = threading.Thread(target=relay, args=(changes,))
            thread.start()
            wait_for(lambda: bed.far.listening(9000), 10, "the relay")
            real, server.host = server.host, bed.far
            client = LoadClient(bed.client, server, ["short:1"])
            result = client.finish(check=False)
            server.host = real
            thread.join()
            assert client.process.returncode == 1 and error in result["first_error"], result
            server.stop()


def test_ten_thousand_mixed_sessions():
    cap = 512 * MIB
    with Bed(profile=None) as bed:
        web = bed.nginx()
        web.file("blob", 20 * MIB)
        pair = bed.pair(near=node(memory="512M", workers=2), far=node(memory="512M", workers=2))
        server = LoadServer(bed.server)
        groups = ["idle:9000", "slow:1000,down=256K,rcvbuf=4096", "short:6000", "stream:20,up=2M,down=3M", "echo:20,rounds=300",
                  "rst:300", "stream:200,up=50K,down=80K,duplex=0"]
        clients = [LoadClient(bed.client, server, groups, hold=True, more=["--at-once", "12000"])]
        if bed.ipv6:
            clients.append(LoadClient(bed.client, server, ["idle:500", "short:500", "stream:10"], True, 2, 6))
        for client in clients:
            client.wait_held()
        held = 10500 if bed.ipv6 else 10000
        for daemon in pair.all():
            wait_sessions(daemon, held)
            assert_shared(daemon, 2, held)
        bed.download(bed.client, web, "blob")
        for client in clients:
            client.release()
        results = [client.finish() for client in clients]
        assert sum(result["sessions"] for result in results) == 16540 + (1010 if bed.ipv6 else 0)
        total = server.stop()
        assert total["finished"] + total["left"] == sum(result["sessions"] for result in results), total
        assert total["most_at_once"] >= (9500 if bed.ipv6 else 9000)  # the idle ones; others may have said all
        for daemon in pair.all():
            wait_sessions(daemon, 0)
            assert daemon.ctl("peers")[0]["state"] == "up"
        assert_below_cap(pair, cap)


def idle_run(workers):
    """10,000 idle sessions through one peer: a fair share for each worker, and little memory."""
    with Bed(profile=None, ipv6=False) as bed:
        pair = bed.pair(near=node(memory="512M", workers=workers), far=node(memory="512M", workers=workers))
        server = LoadServer(bed.server)
        warm = LoadClient(bed.client, server, ["short:50", "stream:2"])
        warm.finish()
        for daemon in pair.all():
            wait_sessions(daemon, 0)
        before = [memory_of(engine_pid(daemon))["RssAnon"] for daemon in pair.all()]
        client = LoadClient(bed.client, server, ["idle:10000"], hold=True)
        client.wait_held()
        for daemon, was in zip(pair.all(), before):
            wait_sessions(daemon, 10000)
            assert_shared(daemon, workers, 10000)
            each = (memory_of(engine_pid(daemon))["RssAnon"] - was) / 10000
            print(f"{daemon.name}: {each:.0f} bytes an idle session", flush=True)
            assert each <= IDLE_MOST_BYTES or is_sanitized(), each
        client.release()
        assert client.finish()["finished"] == 10000
        assert server.stop()["finished"] == 10052


def test_idle_sessions_two_workers():
    idle_run(2)


def test_idle_sessions_four_workers():
    idle_run(4)


def hub_run(bed, workers):
    far = node(memory="512M", workers=workers)
    pair = bed.pair(near=node(memory="64M", workers=1), far=far, timeout=60)
    server = LoadServer(bed.server)
    clients = [LoadClient(branch.client, server, ["idle:500", "short:50"], True, branch.number)
               for branch in bed.branches]
    for client in clients:
        client.wait_held()
    wait_sessions(pair.far, 10000)
    assert_shared(pair.far, workers, 10000)
    for client in clients:
        client.release()
    for client in clients:
        client.finish()
    result = server.stop()
    assert result["finished"] == 11000, result
    assert result["peers"] == {branch.client.ip4: 550 for branch in bed.branches}, result["peers"]
    for daemon in pair.all():
        daemon.kill()
    for daemon in pair.all():
        assert daemon.wait(20) == 0


def test_twenty_peers_share_the_workers():
    with Bed(profile=None, ipv6=False, branches=20) as bed:
        for workers in (2, 4):
            hub_run(bed, workers)


def test_clients_that_vanish():
    """500 go by RST and 500 without a word; their sessions end, at both ends."""
    with Bed(profile=None, ipv6=False) as bed:
        web = bed.nginx()
        web.file("blob", 20 * MIB)
        pair = bed.pair(near=node(memory="128M"), far=node(memory="128M"))
        engines = [engine_pid(daemon) for daemon in pair.all()]
        bed.near.sysctl("net.ipv4.tcp_retries2", 3)  # the kernel gives up on the silent ones within seconds
        server = LoadServer(bed.server)
        clients = []
        for kind, server.ports in (("rst", "9000-9001"), ("silent", "9002-9003")):
            clients.append(LoadClient(bed.client, server, [f"{kind}:500,down=1M,linger=1"], hold=True))
        for client in clients:
            client.wait_held()
        for daemon in pair.all():
            wait_sessions(daemon, 1000)
        quiet = ["add table inet quiet", "add chain inet quiet out { type filter hook output priority 0; }",
                 "add rule inet quiet out tcp dport 9002-9003 tcp flags rst drop"]
        bed.client.run(["nft", "-f", "-"], input="\n".join(quiet) + "\n")
        for client in clients:
            client.release()
        assert [client.finish()["left"] for client in clients] == [500, 500]
        bed.download(bed.client, web, "blob")
        for daemon in pair.all():
            wait_sessions(daemon, 0, 90)
        total = server.stop()
        assert total["left"] == 1000 and total["errors"] == 0, total
        assert engines == [engine_pid(daemon) for daemon in pair.all()]
        assert_below_cap(pair, 128 * MIB)


def test_slow_readers_beside_a_download():
    """1,000 that read a byte a second, each with more to come than the cap has memory for."""
    cap = 128 * MIB
    with Bed(profile=None, ipv6=False) as bed:
        web = bed.nginx()
        web.file("blob", 50 * MIB)
        pair = bed.pair(near=node(memory="128M"), far=node(memory="128M"))
        server = LoadServer(bed.server)
        client = LoadClient(bed.client, server, ["slow:1000,down=1M,rcvbuf=4096"], hold=True)
        client.wait_held()
        for daemon in pair.all():
            wait_sessions(daemon, 1000)
        bed.download(bed.client, web, "blob")
        bed.upload(bed.client, web, web.root + "/blob", "up")
        assert_below_cap(pair, cap)
        client.release()
        assert client.finish()["finished"] == 1000
        assert server.stop()["finished"] == 1000
        for daemon in pair.all():
            wait_sessions(daemon, 0)
        assert_below_cap(pair, cap)


def test_budget_of_sessions():
    """Past the budget new connections go direct, as the server sees by their address; later they do not."""
    with Bed(profile=None, ipv6=False) as bed:
        pair = bed.pair(near=node(sessions=50), far={"peer branch": {"source": "self"}})
        own, direct = bed.far.ip4, bed.client.ip4
        server = LoadServer(bed.server)
        first = LoadClient(bed.client, server, ["idle:50"], hold=True)
        first.wait_held()
        wait_for(lambda: not pair.near.ctl("status")["accepting"], 10, "the listener to close")
        carried = accelerated_by(pair.near)
        assert 45 <= carried <= 50, carried
        second = LoadClient(bed.client, server, ["idle:20", "short:20"], hold=True, seed=2)
        second.wait_held()
        assert accelerated_by(pair.near) == carried
        pair.near.wait_log(r"bypass 8 sessions: ")
        assert [row["count"] for row in pair.near.ctl("bypass") if row["name"] == "sessions"] != [0]
        first.release()
        first.finish()
        wait_for(lambda: pair.near.ctl("status")["accepting"], 10, "the listener to open again")
        third = LoadClient(bed.client, server, ["short:10"], seed=3)
        third.finish()
        second.release()
        second.finish()
        peers = server.stop()["peers"]
        assert peers == {own: carried + 10, direct: 90 - carried}, peers


def test_burst_past_the_budget():
    """More at once than the budget has: nobody is turned away, what is too much goes direct."""
    with Bed(profile=None, ipv6=False) as bed:
        pair = bed.pair(near=node(sessions=200), far={"peer branch": {"source": "self"}})
        server = LoadServer(bed.server)
        client = LoadClient(bed.client, server, ["idle:1000"], hold=True, more=["--opening", "1000"])
        client.wait_held()
        assert accelerated_by(pair.near) <= 200
        client.release()
        client.finish()
        peers = server.stop()["peers"]
        assert sum(peers.values()) == 1000 and peers[bed.far.ip4] <= 200, peers


if __name__ == "__main__":
    main(globals())
