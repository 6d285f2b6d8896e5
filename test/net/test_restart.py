"""The store on disk: after a restart of either end, or of both, in order or by kill -9, what crossed before costs
next to nothing."""

import contextlib
import os
import re
import shutil
import signal
import struct
import subprocess

from bed import Bed, conf_text, main, program, wait_for
from bed_hosts import end_groups
from peers import PATIENCE_S

SIZE = 40_000_000
# Bytes for SIZE that both ends know: usually 50 KB, but references that overtake credit go as bytes.
AGAIN = SIZE // 10


def folder(bed, name):
    return os.path.join(bed.folder, "store-" + name)


class Ends:
    """Both daemons with a store on disk, to be ended and started again. near: further keys of its [store]; memory: of
    each by name."""

    def __init__(self, bed, near=None, memory=None):
        self.bed = bed
        change = {name: {"store": {"path": folder(bed, name), **more},
                         "node": {"memory": (memory or {}).get(name, "512M"), "workers": "1"}}
                  for name, more in (("near", near or {}), ("far", {}))}
        self.pair = bed.pair(**change)

    def on_disk(self, name):
        """Bytes of segments in its folder."""
        try:
            with os.scandir(folder(self.bed, name)) as entries:
                return sum(entry.stat().st_size for entry in entries if entry.name.endswith(".segment"))
        except FileNotFoundError:
            return 0

    def wait_written(self, size):
        for name in ("near", "far"):
            wait_for(lambda name=name: self.on_disk(name) >= size, PATIENCE_S, f"{size} bytes in the folder of {name}")

    def restart(self, names, hard):
        for name in names:
            daemon = getattr(self.pair, name)
            if hard:
                daemon.kill_all(signal.SIGKILL)
            else:
                daemon.kill()
            daemon.wait()
            end_groups([daemon.process])
        for name in names:
            was = getattr(self.pair, name)
            with open(was.conf_path, encoding="utf-8") as file:
                fresh = self.bed.hawserd(was.host, file.read(), name=was.name)
            setattr(self.pair, name, fresh)
            if name == "near":
                self.pair.nears[0] = fresh
        self.pair.wait_up()

    def wait_back(self, name):
        return getattr(self.pair, name).wait_log("the store is back: ", PATIENCE_S)


def cost(ends, call):
    """Bytes of blocks in both directions for what it does (greetings of lanes that are renewed are none)."""
    def count():
        return sum(daemon.ctl("peers")[0]["out_block_bytes"] for daemon in ends.pair.all())
    before = count()
    call()
    return count() - before


def down(bed, web, name):
    bed.download(bed.client, web, name)


def each_restart(profile, order):
    with Bed(profile) as bed:
        ends = Ends(bed)
        web = bed.nginx()
        web.file("blob", SIZE)
        first = cost(ends, lambda: down(bed, web, "blob"))
        assert first > SIZE
        ends.wait_written(SIZE)
        for names, hard in order:
            ends.restart(names, hard)
            for name in names:
                ends.wait_back(name)
            again = cost(ends, lambda: down(bed, web, "blob"))
            assert again < AGAIN, f"{again} bytes after {names} {'were killed' if hard else 'ended'} and began again"
            bed.upload(bed.client, web, os.path.join(web.root, "blob"), "up")


def test_after_an_orderly_restart():
    each_restart("branch", [(("near",), False), (("far",), False), (("near", "far"), False)])


def test_after_a_kill():
    each_restart("branch", [(("near",), True), (("far",), True), (("near", "far"), True)])


def proved_bytes(bed, name):
    """Of what its peer has proved to know, in its folder."""
    total = 0
    for entry in os.scandir(folder(bed, name)):
        if not entry.name.endswith(".proved"):
            continue
        with open(entry.path, "rb") as file:
            entries = file.read()[56:]
        while entries:
            count = struct.unpack_from(">16xI", entries)[0]
            parts = struct.unpack_from(f">20x{2 * count}I", entries)
            total += sum(parts[1::2]) - sum(parts[0::2])
            entries = entries[20 + 8 * count:]
    return total


def other_way_after(names, hard, first, second):
    """What went one way before these nodes began anew goes the other way as references: who has sent it, or got it,
    knows that the other has it, from its memory or from disk."""
    with Bed("branch") as bed:
        ends = Ends(bed)
        web = bed.nginx()
        path = web.file("blob", SIZE)
        web.file("word", 100)
        ways = {"down": lambda: down(bed, web, "blob"), "up": lambda: bed.upload(bed.client, web, path, "blob")}
        ways[first]()
        ends.wait_written(SIZE)
        for name in names:
            wait_for(lambda name=name: hard is False or proved_bytes(bed, name) > SIZE - 1_000_000, PATIENCE_S,
                     f"what the peer of {name} knows to be written")
        ends.restart(names, hard)
        for name in names:
            ends.wait_back(name)
        down(bed, web, "word")  # goes behind HOLD, and comes behind its answer
        spent = cost(ends, ways[second])
        print(f"{second} after {names} {'were killed' if hard else 'ended'}: {spent} bytes")
        assert spent < AGAIN, f"{spent} bytes"


def up_after(names):
    for hard in (False, True):
        other_way_after(names, hard, "down", "up")


def test_up_after_the_near_node_began_anew():
    up_after(("near",))


def test_up_after_the_far_node_began_anew():
    up_after(("far",))


def test_up_after_both_began_anew():
    up_after(("near", "far"))


def test_down_after_the_near_node_began_anew():
    other_way_after(("near",), True, "up", "down")


def segments(bed, name):
    return sorted(entry.path for entry in os.scandir(folder(bed, name)) if entry.name.endswith(".segment"))


def test_damage_costs_only_what_was_damaged():
    """A flipped byte, a file cut short, a file of rubbish: all is delivered, most is still known."""
    with Bed("branch") as bed:
        ends = Ends(bed)
        web = bed.nginx()
        web.file("blob", SIZE)
        down(bed, web, "blob")
        ends.wait_written(SIZE)
        ends.pair.near.kill_all()
        ends.pair.near.wait()
        files = segments(bed, "near")
        with open(files[0], "r+b") as file:
            file.seek(5_000_000)
            byte = file.read(1)
            file.seek(5_000_000)
            file.write(bytes([byte[0] ^ 4]))
        os.truncate(files[1], os.path.getsize(files[1]) - 1000)
        with open(os.path.join(folder(bed, "near"), "ffffffff00000000.segment"), "wb") as file:
            file.write(b"hawserSG, but nothing else is right in this file" * 1000)
        ends.restart(("near",), True)
        # the kill may have torn a third part, which was being written
        ends.pair.near.wait_log(r"1 files and [23] parts of files were damaged", PATIENCE_S)
        again = cost(ends, lambda: down(bed, web, "blob"))
        assert 500_000 < again < 4_000_000, f"{again} bytes"


def test_the_smaller_folder_decides():
    """One end keeps 64 MB of 90: what both have is not sent again, the folder stays within its size."""
    with Bed("lan") as bed:
        ends = Ends(bed, near={"size": "64M"})
        web = bed.nginx()
        for number in range(6):
            web.file(f"blob{number}", 15_000_000, seed=number + 1)
        for number in range(6):
            down(bed, web, f"blob{number}")
        ends.restart(("near", "far"), False)
        assert ends.on_disk("near") <= 64 << 20 < 90_000_000 <= ends.on_disk("far")
        assert cost(ends, lambda: down(bed, web, "blob5")) < AGAIN
        assert cost(ends, lambda: down(bed, web, "blob0")) > 14_000_000


def check_file(daemon):
    return daemon.host.run([program("hawserd"), "-t", "-c", daemon.conf_path], check=False)


def test_whose_the_folder_is():
    """Root's empty one is taken, which is said, once; so is that others could look in. Another user's is left alone."""
    with Bed("lan") as bed:
        place = os.path.join(bed.folder, "place")
        sections = {**bed.near_sections(), "store": {"path": place}}

        def start():
            return bed.hawserd(bed.near, conf_text(sections), name="branch")

        def log_of_a_run():
            daemon = start()
            daemon.wait_log(r" is ready", PATIENCE_S)
            daemon.kill()
            assert daemon.wait(PATIENCE_S) == 0
            return daemon.log()

        taken, closed = "the folder was root's and empty; it is ", "others could look into the folder; its mode is 0700 now"
        os.mkdir(place, 0o755)
        assert log_of_a_run().count(taken) == 1
        assert taken not in log_of_a_run()
        os.chmod(place, 0o755)
        assert log_of_a_run().count(closed) == 1
        assert closed not in log_of_a_run() and os.stat(place).st_mode & 0o7777 == 0o700
        shutil.rmtree(place)
        os.mkdir(place, 0o755)
        os.chown(place, 1234, 1234)
        daemon = start()
        assert daemon.wait(PATIENCE_S) == 1
        for said in (daemon.log(), check_file(daemon).stderr):
            assert "another user's" in said and f" {place}\n" in said, said
        assert check_file(daemon).returncode == 1 and os.stat(place).st_uid == 1234


def test_a_full_disk_means_memory_only():
    with Bed("lan") as bed, contextlib.ExitStack() as stack:
        place = folder(bed, "near")
        os.mkdir(place)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "hawser-test", place], check=True)
        stack.callback(subprocess.run, ["umount", "-l", place], check=True)
        stack.callback(bed.close)  # first: nobody uses it then
        ends = Ends(bed)
        web = bed.nginx()
        web.file("blob", SIZE)
        down(bed, web, "blob")
        ends.pair.near.wait_log(r"cannot write, the disk is full: .*memory only", PATIENCE_S)
        assert cost(ends, lambda: down(bed, web, "blob")) < AGAIN
        web.file("more", SIZE, seed=2)
        down(bed, web, "more")
        assert len(re.findall(r"disk is full", ends.pair.near.log())) == 1
        ends.restart(("near",), True)
        ends.wait_back("near")


def test_a_disk_that_is_read_only_does_not_end_acceleration():
    with Bed("lan") as bed, contextlib.ExitStack() as stack:
        place = os.path.join(bed.folder, "disk")
        os.mkdir(place)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M,ro", "hawser-test", place], check=True)
        stack.callback(subprocess.run, ["umount", "-l", place], check=True)
        stack.callback(bed.close)
        ends = Ends(bed, near={"path": os.path.join(place, "store")})
        web = bed.nginx()
        web.file("blob", SIZE)
        down(bed, web, "blob")
        ends.pair.near.wait_log(r"\[store\] path = .*Read-only file system; name a folder", PATIENCE_S)
        assert "No such file" not in ends.pair.near.log(), ends.pair.near.log()
        assert ends.pair.near.ctl("store")["disk"]["error"] == "Read-only file system"
        check = check_file(ends.pair.near)
        assert check.returncode == 0 and "Read-only file system; name a folder" in check.stderr, check
        assert cost(ends, lambda: down(bed, web, "blob")) < AGAIN


def test_what_lies_where_links_are_kept_stops_no_engine():
    """A FIFO at either name is opened by nobody else, so who waits for that waits for ever."""
    with Bed("lan") as bed:
        ends = Ends(bed)
        ends.pair.near.kill()
        assert ends.pair.near.wait() == 0
        known = os.path.join(folder(bed, "near"), "links")
        for path in (known, known + ".new"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.mkfifo(path)
        ends.restart(("near",), False)
        near, web = ends.pair.near, bed.nginx()
        engine = near.engine_pids()
        bed.upload(bed.client, web, bed.nginx(port=81).file("blob", SIZE), "blob")
        wait_for(lambda: os.path.isfile(known), PATIENCE_S, "what was learned to be written")
        assert near.engine_pids() == engine
        with open(known, encoding="ascii") as file:
            assert re.fullmatch(r"dc \d+ \d+\n", file.read())
        near.kill()
        assert near.wait() == 0


if __name__ == "__main__":
    main(globals())
