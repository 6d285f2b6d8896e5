"""hawser-estimate on corpora whose answer is known: needs no root and no namespaces."""

import json
import os
import random
import struct
import subprocess
import tempfile
import unittest

PROGRAM = os.path.join(os.environ["HAWSER_BUILD"], "hawser-estimate")
MB = 1 << 20


def random_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


def text_bytes(size, seed=1):
    rng, lines = random.Random(seed), []
    words = ["accepted", "connection", "from", "refused", "timeout", "user", "session", "opened", "closed", "for"]
    while sum(map(len, lines)) < size:
        lines.extend(f"2026-03-01 12:{rng.randrange(60):02}:{rng.randrange(60):02} host{rng.randrange(20)} "
                     f"{' '.join(rng.choices(words, k=6))} {rng.randrange(10**6)}\n" for _ in range(1000))
    return "".join(lines).encode()[:size]


# --- captures, byte by byte

CLIENT, SERVER = ("10.1.0.2", 40000), ("10.2.0.2", 80)


def ip4(text):
    return bytes(map(int, text.split(".")))


def tcp(source, to, seq, payload=b"", flags=0x10):
    return struct.pack(">HHIIBBHHH", source[1], to[1], seq & 0xffffffff, 0, 5 << 4, flags, 65535, 0, 0) + payload


def packet(source, to, seq, payload=b"", flags=0x10, protocol=6, fragment=0, body=None):
    """An Ethernet frame with an IPv4 packet."""
    body = tcp(source, to, seq, payload, flags) if body is None else body
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, fragment, 64, protocol, 0)
    return b"\2" * 12 + b"\x08\x00" + header + ip4(source[0]) + ip4(to[0]) + body


def packet6(source, to, seq, payload):
    body = tcp(source, to, seq, payload)
    addresses = b"\xfd" + b"\0" * 14 + b"\1" + b"\xfd" + b"\0" * 14 + b"\2"
    tagged = b"\x81\x00\x00\x05\x86\xdd"  # in VLAN 5
    return b"\2" * 12 + tagged + struct.pack(">IHBB", 6 << 28, len(body), 6, 64) + addresses + body


def write_pcap(path, packets, snap=262144, link_type=1):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, snap, link_type))
        for number, frame in enumerate(packets):
            file.write(struct.pack("<IIII", number, 0, min(len(frame), snap), len(frame)) + frame[:snap])


SYN, SYNACK, FIN, RST = 0x02, 0x12, 0x11, 0x04


def connection(request, answer, client=CLIENT, server=SERVER, piece=1400, base=0xfffff000):
    """Packets of one that is whole; sequence numbers wrap."""
    yield packet(client, server, base, flags=SYN)
    yield packet(server, client, 7000, flags=SYNACK)
    for at in range(0, len(request), piece):
        yield packet(client, server, base + 1 + at, request[at:at + piece])
    for at in range(0, len(answer), piece):
        yield packet(server, client, 7001 + at, answer[at:at + piece])
    yield packet(client, server, base + 1 + len(request), flags=FIN)
    yield packet(server, client, 7001 + len(answer), flags=FIN)


class EstimateTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="estimate-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        os.chmod(self.folder, 0o755)

    def file(self, name, content):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def run_program(self, *words, **options):
        return subprocess.run([PROGRAM, "--store", "256M", *words], capture_output=True, text=True, timeout=60,
                              check=False, **options)

    def estimate(self, *words, **options):
        done = self.run_program("--json", *words, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def share(self, answer, turn="cold"):
        return answer["total"][turn]["wire_bytes"] / answer["total"][turn]["bytes"]

    def fails(self, *words, code=1, **options):
        done = self.run_program(*words, **options)
        self.assertEqual((done.returncode, done.stdout), (code, ""))
        return done.stderr

    # files

    def test_random_bytes_cost_themselves_and_nothing_again(self):
        answer = self.estimate(self.file("a.bin", random_bytes(8 * MB)))
        self.assertTrue(1 < self.share(answer) < 1.005, answer)
        self.assertLess(self.share(answer, "warm"), 0.0005)
        self.assertEqual(answer["total"]["cold"]["saved_bytes"], 0)
        self.assertGreater(answer["total"]["warm"]["saved_bytes"], 8 * MB - 1024)
        self.assertEqual(answer["total"]["warm"]["bytes"], 8 * MB)

    def test_the_same_file_twice_costs_one(self):
        content = random_bytes(4 * MB)
        answer = self.estimate(self.file("a.bin", content), self.file("b.bin", content))
        self.assertTrue(0.5 < self.share(answer) < 0.503, answer)
        self.assertEqual(answer["types"][0]["count"], 2)

    def test_an_edited_and_shifted_file_costs_its_edits(self):
        content = bytearray(random_bytes(4 * MB))
        other = bytearray(content)
        for at in range(0, len(other), len(other) // 20):
            other[at] ^= 1
        answer = self.estimate(self.file("a.bin", content), self.file("b.bin", b"x" + other))
        self.assertTrue(0.5 < self.share(answer) < 0.503, answer)

    def test_paths_come_in_their_order(self):
        first, second = self.file("z.one", random_bytes(MB)), self.file("a.two", random_bytes(MB))
        wire = {row["type"]: row["cold"]["wire_bytes"] for row in self.estimate(first, second)["types"]}
        self.assertGreater(wire["one"], MB)
        self.assertLess(wire["two"], 2000)

    def test_text_is_compressed(self):
        content = text_bytes(4 * MB)
        path = self.file("a.log", content)
        answer = self.estimate(path)
        self.assertTrue(0.05 < self.share(answer) < 0.3, answer)
        self.assertLess(self.share(answer, "warm"), 0.01)
        self.assertGreater(self.share(self.estimate("--level", "0", path)), 0.9)
        better = self.estimate("--level", "9", path)
        self.assertLess(self.share(better), self.share(answer))

    def test_a_store_that_is_too_small_forgets(self):
        answer = self.estimate("--store", "64M", self.file("a.bin", random_bytes(100 * MB)))
        self.assertGreater(self.share(answer, "warm"), 0.9)
        self.assertGreater(answer["store"]["evicted_segments"], 2)
        self.assertLessEqual(answer["store"]["memory_bytes"], 64 * MB)

    def test_types(self):
        for name, content in {"a.TXT": b"x" * 50, "lib.so.6": b"\x7fELF" + bytes(90), "d/b.txt": b"y" * 60, "plain": b"z\n",
                              "empty": b"", "blob": bytes(10)}.items():
            self.file(name, content)
        os.symlink("plain", os.path.join(self.folder, "link"))
        answer = self.estimate(self.folder)
        self.assertEqual({row["type"]: (row["count"], row["cold"]["bytes"]) for row in answer["types"]},
                         {"txt": (2, 110), "elf": (1, 94), "text": (1, 2), "binary": (1, 10)})
        self.assertEqual(answer["skipped"]["special"], 1)
        self.assertEqual(answer["total"]["count"], 5)
        self.assertGreater(self.share(answer), 1)  # small files: more frames than bytes

    def test_the_table(self):
        for number in range(30):
            self.file(f"f.x{number}", random_bytes(2000 + number, number))
        done = self.run_program("--link", "1mbit,500ms", self.folder)
        self.assertEqual(done.returncode, 0)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[0].split()[:5], ["TYPE", "FILES", "BYTES", "COLD", "WARM"])
        self.assertEqual(lines[1].split()[:2], ["x29", "1"])
        self.assertEqual(lines[20].split()[:4], ["11", "smaller", "types", "11"])
        self.assertEqual(lines[21].split()[:2], ["total", "30"])
        self.assertRegex(done.stdout, r"link: direct at best 1\.0 s, cold 1\.\d s, warm 0\.5 s")

    def test_seconds_are_a_round_trip_and_the_bytes_at_the_rate(self):
        answer = self.estimate("--link", "8mbit,250ms", self.file("a.bin", random_bytes(2_000_000)))["total"]
        self.assertAlmostEqual(answer["direct_seconds"], 0.25 + 2.0)
        self.assertAlmostEqual(answer["cold"]["seconds"], 0.25 + answer["cold"]["wire_bytes"] / 1e6)

    # captures

    def capture(self, packets, **options):
        path = os.path.join(self.folder, "a.pcap")
        write_pcap(path, packets, **options)
        return self.estimate("--pcap", path)

    def test_a_connection(self):
        answer = self.capture(connection(b"GET / HTTP/1.0\r\n\r\n" + random_bytes(5000, 2), random_bytes(MB)))
        (row,) = answer["types"]
        self.assertEqual((row["type"], row["count"], row["cold"]["bytes"]), ("port 80", 1, 5018 + MB))
        self.assertTrue(1 < self.share(answer) < 1.01, answer)
        self.assertLess(self.share(answer, "warm"), 0.002)
        self.assertEqual(set(answer["skipped"].values()), {0})

    def test_disorder_and_repetition_change_nothing(self):
        packets = list(connection(random_bytes(200_000, 2), random_bytes(300_000)))
        straight = self.capture(packets)
        mixed = packets[:2] + packets[2:-2][::-1] + packets[5:9] + packets[-2:]
        for at in range(2, len(mixed) - 22, 20):  # windows of 20 in any order
            mixed[at:at + 20] = random.Random(at).sample(mixed[at:at + 20], 20)
        answer = self.capture(mixed)
        self.assertEqual(answer["total"]["cold"]["bytes"], straight["total"]["cold"]["bytes"])
        self.assertEqual(answer["skipped"]["missing_bytes"], 0)
        self.assertEqual(answer["total"]["count"], 1)

    def test_what_was_not_captured_is_missing(self):
        packets = list(connection(b"x" * 14_000, random_bytes(140_000)))
        del packets[20:23]
        answer = self.capture(packets)
        self.assertEqual(answer["skipped"]["missing_bytes"], 3 * 1400)
        self.assertEqual(answer["total"]["cold"]["bytes"], 154_000 - 3 * 1400)

    def test_packets_that_were_cut(self):
        answer = self.capture(connection(b"", random_bytes(14_000)), snap=14 + 20 + 20 + 400)
        self.assertEqual(answer["skipped"]["missing_bytes"], 10 * 1000)
        self.assertEqual(answer["total"]["cold"]["bytes"], 10 * 400)
        answer = self.capture(connection(b"", random_bytes(14_000)), snap=40)
        self.assertEqual((answer["skipped"]["cut_short"], answer["total"]["count"]), (14, 0))

    def test_the_middle_of_a_connection(self):
        packets = list(connection(b"q" * 1000, random_bytes(20_000), server=("10.2.0.2", 445)))[5:]
        answer = self.capture(packets)
        self.assertEqual(answer["skipped"]["midway"], 1)
        self.assertEqual(answer["types"][0]["type"], "port 445")
        self.assertEqual(answer["total"]["cold"]["bytes"], 20_000 - 2 * 1400)

    def test_what_is_encrypted_is_carried_as_it_is(self):
        hello = b"\x16\x03\x01\x02\x00\x01" + b"again and again " * 10_000
        answer = self.capture(connection(hello, b"again and again " * 10_000, server=("10.2.0.2", 443)))
        self.assertEqual(answer["skipped"]["encrypted"], 1)
        self.assertTrue(1 < self.share(answer) < 1.02 and 1 < self.share(answer, "warm") < 1.02, answer)
        banner = self.capture(connection(b"", b"SSH-2.0-x\r\n" + b"again and again " * 10_000))
        self.assertGreater(self.share(banner, "warm"), 1)

    def test_two_connections_share_the_store(self):
        content = random_bytes(500_000)
        up = connection(content, b"", client=("10.1.0.3", 50000), server=("10.2.0.9", 9000))
        answer = self.capture([*connection(b"GET", content), *up])  # uploaded after it was downloaded
        rows = {row["type"]: row["cold"] for row in answer["types"]}
        self.assertGreater(rows["port 80"]["wire_bytes"], 500_000)
        self.assertLess(rows["port 9000"]["wire_bytes"], 5_000)

    def test_other_packets_are_counted(self):
        udp = packet(CLIENT, SERVER, 0, protocol=17, body=bytes(100))
        part = packet(CLIENT, SERVER, 0, b"x" * 100, fragment=0x2000)
        arp = b"\2" * 12 + b"\x08\x06" + bytes(40)
        six = packet6(("", 1000), ("", 80), 1, b"hello")
        answer = self.capture([udp, udp, part, arp, arp, arp, six])
        skipped = answer["skipped"]
        self.assertEqual((skipped["not_tcp"], skipped["fragments"], skipped["not_ip"]), (2, 1, 3))
        self.assertEqual(answer["total"]["cold"]["bytes"], 5)

    def test_many_connections_at_once(self):
        packets = []
        for number in range(5000):
            client = (f"10.1.{number // 250}.{number % 250}", 40000)
            packets += [packet(client, SERVER, 1, flags=SYN), packet(client, SERVER, 2, b"%08d" % number)]
        answer = self.capture(packets)
        self.assertEqual((answer["total"]["count"], answer["skipped"]["too_many"]), (5000, 5000 - 4096))
        self.assertEqual(answer["total"]["cold"]["bytes"], 40_000)

    def test_any_bytes_in_packets_do_no_harm(self):
        rng, base = random.Random(5), list(connection(b"hello" * 100, b"world" * 100))
        packets = []
        for _ in range(3000):
            frame = bytearray(rng.choice(base))
            for _ in range(rng.randrange(1, 5)):
                frame[rng.randrange(12, len(frame))] = rng.randrange(256)
            packets.append(bytes(frame[:rng.randrange(1, len(frame) + 1)]))
        for link_type in (1, 113, 276, 101, 0):
            with self.subTest(link_type=link_type):
                self.assertIn("total", self.capture(packets, link_type=link_type))

    # errors say what to do

    def test_errors(self):
        self.assertRegex(self.fails("/nowhere/at/all"), "cannot read /nowhere/at/all: No such file.*; correct the name")
        text = self.file("a.txt", b"not a capture")
        self.assertRegex(self.fails("--pcap", text), "not a capture file.*tcpdump -s 0 -w FILE")
        self.assertRegex(self.fails("--pcap", self.folder), "not a capture file")
        for words in (("--pcap", "/nowhere"), ("--pcap", "-"), ("-",)):
            self.assertRegex(self.fails(*words), r"correct the name \(standard input is not read\)")
        pipe, nowhere = (os.path.join(self.folder, name) for name in ("pipe", "nowhere"))
        os.mkfifo(pipe)
        os.symlink("gone", nowhere)
        for special in (pipe, "/dev/null"):
            self.assertRegex(self.fails(special), "neither a file nor a folder; write")
        self.assertRegex(self.fails("--pcap", pipe), "is a pipe.*write it to a file")
        self.assertRegex(self.fails(nowhere), "correct the name")
        with open(text, "rb") as file:
            done = subprocess.run(f"cat | {PROGRAM} --pcap /dev/stdin", shell=True, stdin=file, capture_output=True, text=True,
                                  timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "is a pipe.*write it to a file")
        path = os.path.join(self.folder, "radio.pcap")
        write_pcap(path, [], link_type=105)
        self.assertRegex(self.fails("--pcap", path), "link type 105.*capture on an Ethernet")
        self.assertRegex(self.fails(code=2), "give it the files")
        for words, advice in ((("--link", "fast"), "RATE,RTT"), (("--link", "1mbit"), "RATE,RTT"),
                              (("--link", "0mbit,1ms"), "RATE,RTT"), (("--store", "1M"), "64M or more"),
                              (("--level", "20"), "0 to 19"), (("--no-such",), "--no-such")):
            with self.subTest(words=words):
                said = self.fails(*words, text, code=2)
                self.assertRegex(said, rf"^\S*hawser-estimate: .*{advice}.*\nhawser-estimate --help lists the options\n$")

    def test_a_capture_that_breaks_off(self):
        path = os.path.join(self.folder, "a.pcap")
        write_pcap(path, connection(b"x" * 1000, b""))
        os.truncate(path, os.path.getsize(path) - 10)
        done = self.run_program("--json", "--pcap", path)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "ends in the middle .*: what came before counts")
        self.assertEqual(json.loads(done.stdout)["total"]["cold"]["bytes"], 1000)

    def test_a_capture_of_nothing(self):
        path = os.path.join(self.folder, "a.pcap")
        write_pcap(path, [])
        self.assertRegex(self.fails("--pcap", path), "nothing to count: nothing was captured.*tcpdump -s 0 -w FILE")
        other = os.path.join(self.folder, "b.pcap")
        write_pcap(other, connection(b"x" * 1000, b""))
        self.assertEqual(self.estimate("--pcap", path, other)["total"]["cold"]["bytes"], 1000)

    def test_a_capture_of_junk(self):
        path = os.path.join(self.folder, "a.pcap")
        for packets in ([], [b"\2" * 60]):
            with self.subTest(packets=packets):
                write_pcap(path, packets)
                with open(path, "ab") as file:
                    file.write(b"\xff" * 5000)
                self.assertRegex(self.fails("--pcap", path), "nothing to count: what was captured cannot be read")

    @unittest.skipIf(os.geteuid() != 0, "only root can become somebody else")
    def test_a_folder_of_which_nothing_may_be_read(self):
        for name in ("d/a.txt", "d/b.txt", "d/e/c.txt"):
            self.file(name, b"x" * 100)
        for name in ("d/a.txt", "d/b.txt", "d/e"):
            os.chmod(os.path.join(self.folder, name), 0)
        said = self.fails(os.path.join(self.folder, "d"), user="nobody")
        self.assertRegex(said, "nothing to count: 3 files or folders could not be read; run it as")

    @unittest.skipIf(os.geteuid() != 0, "only root can become somebody else")
    def test_what_may_not_be_read(self):
        secret = self.file("d/secret.txt", b"x" * 100)
        self.file("d/open.txt", b"y" * 100)
        os.chmod(secret, 0)
        self.assertRegex(self.fails(secret, user="nobody"), "cannot read .*secret.txt: Permission denied; run it as")
        self.assertRegex(self.fails("--pcap", secret, user="nobody"), "Permission denied; run it as")
        done = self.run_program("--json", os.path.join(self.folder, "d"), user="nobody")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "^hawser-estimate: skipped .*secret.txt: Permission denied\n$")
        answer = json.loads(done.stdout)
        self.assertEqual((answer["skipped"]["unreadable"], answer["total"]["count"]), (1, 1))


if __name__ == "__main__":
    unittest.main()
