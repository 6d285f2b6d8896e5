"""What compression does to the bytes on the WAN: text, bytes that cannot be compressed, classes without it."""

import hashlib
import os

from bed import Bed, main, make_text_file, wait_for
from peers import PATIENCE_S, Task, wait_no_sessions

SIZE = 20_000_000
TEXT_SHARE = 0.16  # zstd -1 makes 0.146 of such a file
FRESH = "[class any]\ndedup = no\n"  # the same bytes again are compressed again


class Wire:
    """What a stretch of work cost: bytes of TCP payload on the lanes, and the blocks."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.before = daemon.ctl("peers")[0]

    def since(self, field):
        return self.since_all(field)[0]

    def since_all(self, *fields):
        """Of one moment."""
        now = self.daemon.ctl("peers")[0]
        return [now[field] - self.before[field] for field in fields]


def test_text_costs_a_fraction():
    with Bed("branch") as bed:
        pair = bed.pair(near_extra=FRESH, far_extra=FRESH)
        web = bed.nginx()
        make_text_file(os.path.join(web.root, "log"), SIZE)
        size = os.path.getsize(os.path.join(web.root, "log"))
        wire = Wire(pair.far)
        bed.download(bed.client, web, "log")
        sent = wire.since("wire_out_bytes")
        assert size * 0.1 < sent < size * TEXT_SHARE, f"{sent} bytes for {size} of text down"
        assert wire.since("out_frame_bytes") > size and wire.since("out_block_bytes") < sent
        assert pair.far.ctl("peers")[0]["saved_percent"] > 60
        wire = Wire(pair.near)
        bed.upload(bed.client, web, os.path.join(web.root, "log"), "up")
        sent = wire.since("wire_out_bytes")
        assert sent < size * TEXT_SHARE, f"{sent} bytes for {size} of text up"
        assert sum(lane["out_block_bytes"] for lane in pair.near.ctl("lanes")) < size * TEXT_SHARE


def test_random_bytes_cost_no_more_than_themselves():
    with Bed("branch") as bed:
        pair = bed.pair(near_extra=FRESH, far_extra=FRESH)
        web = bed.nginx()
        web.file("random", SIZE)
        wire = Wire(pair.far)
        bed.download(bed.client, web, "random")
        sent = wire.since("wire_out_bytes")
        assert SIZE < sent < SIZE * 1.005, f"{sent} bytes for {SIZE}"
        assert wire.since("out_block_bytes") > wire.since("out_frame_bytes"), "a loss is counted as one"
        assert wire.since("out_raw_blocks") > 0.9 * wire.since("out_blocks")


def test_a_class_without_compression_goes_raw():
    """Also beside one with it: the two never share a block."""
    with Bed("branch") as bed:
        extra = ("[class plain]\nports = 81\ncompress = off\ndedup = no\n"
                 "[class hard]\nports = 82\ncompress = 9\ndedup = no\n")
        pair = bed.pair(near_extra=extra, far_extra=extra)
        plain, hard = bed.nginx(port=81), bed.nginx(port=82)
        for web in (plain, hard):
            make_text_file(os.path.join(web.root, "log"), 5_000_000)
        size = os.path.getsize(os.path.join(plain.root, "log"))
        wire = Wire(pair.far)
        bed.download(bed.client, plain, "log")
        assert size < wire.since("wire_out_bytes") < size * 1.006
        blocks, raw = wire.since_all("out_blocks", "out_raw_blocks")
        assert blocks == raw, f"{raw} of {blocks} blocks were raw"
        wire = Wire(pair.far)
        bed.download(bed.client, hard, "log")
        assert wire.since("wire_out_bytes") < size * TEXT_SHARE
        wire = Wire(pair.far)
        tasks = [Task(bed.download, bed.client, web, "log") for web in (plain, hard) * 3]
        for task in tasks:
            task.result()
        sent = wire.since("wire_out_bytes")
        assert 3 * size * 1.01 < sent < 3 * size * (1.006 + TEXT_SHARE), f"{sent} bytes for {3 * size} of each"


def test_what_looks_like_tls_is_left_alone():
    """A stream that begins as a ClientHello, and would compress well."""
    with Bed("branch") as bed:
        pair = bed.pair(near_extra=FRESH, far_extra=FRESH)
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"compress me " * 100_000
        with bed.server.socket() as door:
            door.bind((bed.server.ip4, 443))
            door.listen(1)
            with bed.client.socket() as client:
                client.settimeout(PATIENCE_S)
                client.connect((bed.server.ip4, 443))
                wire = Wire(pair.near)
                conn, _ = door.accept()
                conn.settimeout(PATIENCE_S)
                client.sendall(hello)
                got = hashlib.sha256()
                left = len(hello)
                while left > 0:
                    piece = conn.recv(65536)
                    assert piece, "the stream ended early"
                    got.update(piece)
                    left -= len(piece)
                conn.close()
        assert got.digest() == hashlib.sha256(hello).digest()
        assert wire.since("wire_out_bytes") > len(hello)
        wait_no_sessions(pair.near, pair.far)


def compressed_blocks(daemon):
    peer = daemon.ctl("peers")[0]
    return peer["in_blocks"] - peer["in_raw_blocks"]


def test_an_idle_lane_ends_its_frame():
    """By a compressed block without frames; what comes later begins another."""
    with Bed("lan") as bed:
        pair = bed.pair(near_extra=FRESH, far_extra=FRESH)
        web = bed.nginx()
        make_text_file(os.path.join(web.root, "log"), 1_000_000)
        for _ in range(2):
            bed.download(bed.client, web, "log")
            wait_no_sessions(pair.near, pair.far)
            before = compressed_blocks(pair.near)
            frame_bytes = pair.near.ctl("peers")[0]["in_frame_bytes"]
            wait_for(lambda before=before: compressed_blocks(pair.near) > before, PATIENCE_S, "the frame's end")
            assert pair.near.ctl("peers")[0]["in_frame_bytes"] - frame_bytes < 100, "only a PING may have come"


if __name__ == "__main__":
    main(globals())
