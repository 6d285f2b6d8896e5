"""What no longer fits into memory but is on disk: meeting it starts reads, and the rest crosses as references."""

from bed import Bed, main, wait_for
from peers import PATIENCE_S
from test_restart import Ends, cost, down

SIZE = 40_000_000
OTHERS = 5
SMALL = "256M"  # a store of 128 MB
BIG = "1G"
# The beginning of each segment crosses before it is back from disk at both ends.
MET_AGAIN = SIZE * 3 // 4
KNOWN = SIZE // 10


def store(daemon):
    return daemon.ctl("store")


def push_out(bed, ends, web):
    """More than memory holds, and all of it written."""
    for number in range(OTHERS):
        web.file(f"other{number}", SIZE, seed=10 + number)
        down(bed, web, f"other{number}")
    ends.wait_written((OTHERS + 1) * SIZE)


def push_out_and_meet(memory, cold):
    """cold: the ends that have it on disk only."""
    with Bed("branch") as bed:
        ends = Ends(bed, memory=memory)
        web = bed.nginx()
        web.file("blob", SIZE)
        assert cost(ends, lambda: down(bed, web, "blob")) > SIZE
        push_out(bed, ends, web)
        for name in cold:
            assert store(getattr(ends.pair, name))["evicted_segments"] > 2
        first = cost(ends, lambda: down(bed, web, "blob"))
        second = cost(ends, lambda: down(bed, web, "blob"))
        for name in cold:
            counts = store(getattr(ends.pair, name))
            assert counts["cold_hits"] > 0 and counts["cold_adopted"] > 0 and counts["disk"]["fetched"] > 0, counts
        if "near" in cold:  # else the far end forgot that the near one has it, and literals tell it so
            assert first < MET_AGAIN, f"{first} bytes as it was met again"
        assert second < KNOWN, f"{second} bytes after that"
        print(f"{first} bytes as it was met again, then {second}")


def test_on_disk_at_both_ends():
    push_out_and_meet({"near": SMALL, "far": SMALL}, ("near", "far"))


def test_on_disk_at_the_senders():
    push_out_and_meet({"near": BIG, "far": SMALL}, ("far",))


def test_on_disk_at_the_receivers():
    push_out_and_meet({"near": SMALL, "far": BIG}, ("near",))


def test_what_did_not_fit_after_a_restart():
    with Bed("branch") as bed:
        ends = Ends(bed, memory={"near": SMALL, "far": SMALL})
        web = bed.nginx()
        web.file("blob", SIZE)
        down(bed, web, "blob")
        push_out(bed, ends, web)
        ends.restart(("near", "far"), True)
        for name in ("near", "far"):
            ends.wait_back(name)
            daemon = getattr(ends.pair, name)
            wait_for(lambda daemon=daemon: store(daemon)["cold_files"] >= (OTHERS + 1) * SIZE >> 24, PATIENCE_S,
                     f"samples of {name}")
        first = cost(ends, lambda: down(bed, web, "blob"))
        assert first < MET_AGAIN, f"{first} bytes as it was met again"
        assert cost(ends, lambda: down(bed, web, "blob")) < KNOWN


if __name__ == "__main__":
    main(globals())
