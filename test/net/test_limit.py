"""A class with `limit`: held while others want the link, and given it all when nobody does."""

from bed import Bed, main, wait_for
from peers import PATIENCE_S, Task

MB = 1 << 20
EXTRA = "[class slow]\nports = 81\nlimit = 10%\ndedup = no\n[class fast]\nports = 80\ndedup = no\n"


def class_bytes(daemon, name):
    return next(found["wire_bytes"] for found in daemon.ctl("classes") if found["name"] == name)


def test_a_limited_class_gives_way_and_takes_what_is_left():
    with Bed("vpn") as bed:
        far = {"peer branch": {"rate": "20mbit"}}
        pair = bed.pair(near_extra=EXTRA, far_extra=EXTRA, far=far)
        fast, slow = bed.nginx(), bed.nginx(port=81)
        fast.file("blob", 12 * MB, seed=1)
        slow.file("blob", 6 * MB, seed=2)
        held = Task(lambda: bed.download(bed.client, slow, "blob"))
        wait_for(lambda: class_bytes(pair.far, "slow") > 200_000, PATIENCE_S, "the limited class to send")
        before = class_bytes(pair.far, "slow"), class_bytes(pair.far, "fast")
        bed.download(bed.client, fast, "blob")
        after = class_bytes(pair.far, "slow"), class_bytes(pair.far, "fast")
        share = (after[0] - before[0]) / (after[1] - before[1])
        assert share < 0.3, f"the limited class sent {share:.2f} of what the other did; without a limit they share alike"
        assert after[0] > before[0], "it starved"
        held.result(120)
        assert class_bytes(pair.far, "slow") > 6 * MB


if __name__ == "__main__":
    main(globals())
