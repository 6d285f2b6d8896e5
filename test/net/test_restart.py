"""The store on disk: after a restart of either end, or of both, in order or by kill -9, what crossed before costs
next to nothing."""

import os
import signal

from bed import Bed, main, make_text_file, sha256_of, wait_for
from bed_hosts import end_groups
from peers import PATIENCE_S

SIZE = 40_000_000
AGAIN = 60_000  # bytes on the WAN for SIZE that both ends know


def folder(bed, name):
    return os.path.join(bed.folder, "store-" + name)


def changes(bed, **more):
    return {name: {"store": {"path": folder(bed, name), **more}, "node": {"memory": "512M", "workers": "1"}}
            for name in ("near", "far")}


class Ends:
    """Both daemons with a store on disk, to be ended and started again."""

    def __init__(self, bed, **more):
        self.bed = bed
        self.change = changes(bed, **more)
        self.pair = bed.pair(near=self.change["near"], far=self.change["far"])

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
        return getattr(self.pair, name).wait_log(r"the store is back: (\d+) MB were read", PATIENCE_S)


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
            up = os.path.join(web.root, "blob")
            again = cost(ends, lambda: bed.upload(bed.client, web, up, "up"))
            assert again < AGAIN, f"{again} bytes for the same file upwards"


def test_after_an_orderly_restart():
    each_restart("branch", [(("near",), False), (("far",), False), (("near", "far"), False)])


def test_after_a_kill():
    each_restart("branch", [(("near",), True), (("far",), True), (("near", "far"), True)])


if __name__ == "__main__":
    main(globals())
