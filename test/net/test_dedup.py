"""What repeats crosses the WAN as references, and whatever happens to the nodes no byte is another."""

import os
import random
import shutil
import signal

from bed import Bed, main, make_file, wait_for
from peers import PATIENCE_S, Task, connect, noise, wait_no_sessions

SIZE = 20_000_000
# Of SIZE that is known, with all headers of both directions. A busy machine makes short pieces, and a lane may be renewed; the
# benchmark has the figures of a quiet one, 3 to 4 KB where a reference waits to grow.
REPEAT_BYTES = 30_000
SHORT_BYTES = 60_000  # over a short round trip it does not
EDITED_BYTES = 100_000  # with 100 bytes changed


class Wan:
    """Bytes of IP packets that the emulator carries for a stretch of work, in both directions."""

    def __init__(self, bed):
        self.bed = bed
        self.before = self._count()

    def _count(self):
        stats = self.bed.wanem.stats()
        return sum(stats[way]["in_bytes"] for way in ("a-to-b", "b-to-a"))

    def bytes(self):
        return self._count() - self.before


def cost(bed, work, *arguments, **kw):
    wan = Wan(bed)
    work(*arguments, **kw)
    return wan.bytes()


def edited(path, to):
    """A copy with 100 bytes changed, far from each other."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    for number in range(100):
        data[number * (len(data) // 100) + 1234] ^= 0x55
    with open(to, "wb") as file:
        file.write(data)


def shifted(path, to):
    """A copy with a byte in front."""
    with open(path, "rb") as file:
        data = file.read()
    with open(to, "wb") as file:
        file.write(b"x" + data)


def check_known(name, spent, most):
    print(f"{name}: {spent} bytes")
    assert spent <= most, f"{name}: {spent} bytes on the WAN, where {most} should do"


def check_nothing_missed(pair):
    for daemon in pair.all():
        peer = daemon.ctl("peers")[0]
        assert peer["misses"] == 0 and peer["missed_bytes"] == 0, f"asked for: {peer}"


def in_both_directions(profile, repeat_bytes):
    with Bed(profile, clients=2) as bed:
        pair = bed.pair()
        web, other_port = bed.nginx(), bed.nginx(port=8080)
        path = web.file("random", SIZE)
        spent = cost(bed, bed.download, bed.client, web, "random")
        assert spent > SIZE, f"{spent} bytes for {SIZE} that are new"
        wait_no_sessions(*pair.all())  # all of it is acknowledged
        check_known("again", cost(bed, bed.download, bed.client, web, "random"), repeat_bytes)
        edited(path, os.path.join(web.root, "edited"))
        check_known("edited", cost(bed, bed.download, bed.client, web, "edited"), EDITED_BYTES)
        shifted(path, os.path.join(web.root, "shifted"))
        check_known("shifted", cost(bed, bed.download, bed.client, web, "shifted"), 2 * repeat_bytes)
        check_known("uploaded", cost(bed, bed.upload, bed.client, web, path, "up"), 2 * repeat_bytes)
        shutil.copy(path, os.path.join(other_port.root, "elsewhere"))
        client = bed.branches[0].clients[1]
        check_known("another client, another port",
                    cost(bed, bed.download, client, other_port, "elsewhere"), repeat_bytes)
        wait_no_sessions(*pair.all())
        check_nothing_missed(pair)


def test_a_repeat_over_a_satellite():
    in_both_directions("geo-clean", REPEAT_BYTES)


def test_a_repeat_over_a_leased_line():
    in_both_directions("branch", SHORT_BYTES)


def test_a_repeat_over_a_link_that_loses_much():
    """What is behind a lost packet is kept, however long the references are that the packet held: nothing is asked for."""
    with Bed("geo") as bed:
        pair = bed.pair(near={"peer dc": {"rate": "5mbit"}}, far={"peer branch": {"rate": "50mbit"}})
        web = bed.nginx()
        path = web.file("random", 100 << 20)
        bed.wanem.set("both", rate="500mbit", loss="0")
        bed.download(bed.client, web, "random")
        bed.wanem.set("both", rate="5mbit", loss="10%")
        for number in range(4):
            check_known("uploaded", cost(bed, bed.upload, bed.client, web, path, f"up{number}"), SHORT_BYTES)
        check_known("again", cost(bed, bed.download, bed.client, web, "random"), SHORT_BYTES)
        check_nothing_missed(pair)


def test_only_one_end_has_a_store():
    """Both ends say so, all bytes cross, and they are right."""
    with Bed("branch") as bed:
        pair = bed.pair(far={"node": {"memory": "100M"}})
        web = bed.nginx()
        web.file("random", SIZE // 10)
        for _ in range(2):
            assert cost(bed, bed.download, bed.client, web, "random") > SIZE // 10
        assert [daemon.ctl("peers")[0]["store"] for daemon in pair.all()] == ["here", "there"]
        assert "peer dc: it has no store" in pair.near.log() and "nothing is deduplicated" in pair.far.log()


def test_what_was_uploaded_comes_down_as_references():
    with Bed("branch") as bed:
        bed.pair()
        web = bed.nginx()
        path = os.path.join(bed.folder, "mine")
        make_file(path, SIZE, 5)
        assert cost(bed, bed.upload, bed.client, web, path, "up") > SIZE
        check_known("down", cost(bed, bed.download, bed.client, web, "up"), SHORT_BYTES)
        check_known("up again", cost(bed, bed.upload, bed.client, web, path, "up"), SHORT_BYTES)


def test_many_sessions_interleaved():
    """20 at once, of files that share parts: each gets its own, for little more than the parts cost once."""
    with Bed("branch") as bed:
        pair = bed.pair()
        web = bed.nginx()
        parts = [noise(200_000, seed) for seed in range(20)]
        names = []
        for number in range(20):
            chosen = random.Random(number).sample(parts, 10)
            names.append(f"mix{number}")
            with open(os.path.join(web.root, names[-1]), "wb") as file:
                file.write(b"".join(chosen))
        for most in (4 * 20 * 200_000, 400_000):
            wan = Wan(bed)
            tasks = [Task(bed.download, bed.client, web, name) for name in names]
            for task in tasks:
                task.result()
            check_known("20 sessions", wan.bytes(), most)
        wait_no_sessions(*pair.all())


def fetch_some(bed, web, name, path):
    """As much of a file as comes before the connection ends, checked byte by byte. How much."""
    with connect(bed.client, (web.host.ip4, web.port)) as client:
        client.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
        data = bytearray()
        try:
            while piece := client.recv(1 << 20):
                data += piece
        except OSError:
            pass
    body = data.partition(b"\r\n\r\n")[2]
    with open(path, "rb") as file:
        assert file.read(len(body)) == body, "other bytes came"
    return len(body)


def killed_in_a_transfer(which):
    """kill -9 of everything of a node while known bytes and new ones flow; then again by a new life of it."""
    with Bed("branch") as bed:
        pair = bed.pair()
        web = bed.nginx()
        path = web.file("known", SIZE)
        long = web.file("long", 4 * SIZE, seed=2)
        bed.download(bed.client, web, "known")
        with open(path, "rb") as known, open(long, "r+b") as file:
            file.write(known.read())  # known bytes first, then new ones
        daemon = pair.near if which == "near" else pair.far
        wan = Wan(bed)
        task = Task(fetch_some, bed, web, "long", long)
        wait_for(lambda: wan.bytes() > 1_000_000, PATIENCE_S, "new bytes to flow")
        daemon.kill_all(signal.SIGKILL)
        daemon.wait()
        host = bed.near if which == "near" else bed.far
        with open(daemon.conf_path, encoding="utf-8") as file:
            again = bed.hawserd(host, file.read(), name=daemon.name + "-again")
        other = pair.far if which == "near" else pair.near
        again.wait_up()
        other.wait_up()
        assert task.result() < 4 * SIZE, "it was over before"
        for name in ("long", "known"):
            bed.download(bed.client, web, name)
        check_known("after both", cost(bed, bed.download, bed.client, web, "known"), SHORT_BYTES)


def test_the_near_node_is_killed():
    killed_in_a_transfer("near")


def test_the_far_node_is_killed():
    killed_in_a_transfer("far")


if __name__ == "__main__":
    main(globals())
