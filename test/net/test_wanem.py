"""hawser-wanem: figures that noise cannot change. Delays are checked against their lower bound only, counts
exactly; how late packets are beyond that is for the benchmark."""

import copy
import fcntl
import itertools
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import time

from bed import Bed, main, program, wait_for

WAN = {4: ("10.9.0.2", "10.9.0.1"), 6: ("fd00:9::2", "fd00:9::1")}
HEADERS = {4: 28, 6: 48}
PORT = 7000


class Flow:
    """Numbered UDP packets over the link, from the near gateway to the far one or back."""

    def __init__(self, bed, family=4, back=False):
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        from_host, to_host = (bed.far, bed.near) if back else (bed.near, bed.far)
        addresses = WAN[family][::-1] if back else WAN[family]
        self.wanem = bed.wanem
        self.direction = "b-to-a" if back else "a-to-b"
        self.headers = HEADERS[family]
        self.sent = 0
        self.receiver = to_host.socket(kind, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
        self.receiver.bind((addresses[1], PORT))
        self.receiver.settimeout(30)
        self.sender = from_host.socket(kind, socket.SOCK_DGRAM)
        self.sender.connect((addresses[1], PORT))

    def stats(self):
        return self.wanem.stats()[self.direction]

    def send(self, count, length=200):
        """Packets of `length` bytes with all headers. In portions that have arrived before the next goes, so
        that no queue but the emulator's can overflow."""
        before = self.stats()["in_packets"]
        for number in range(1, count + 1):
            payload = struct.pack("!qq", self.sent, time.monotonic_ns())
            self.sender.send(payload.ljust(length - self.headers, b"."))
            self.sent += 1
            if number % 256 == 0 or number == count:
                wait_for(lambda number=number: self.stats()["in_packets"] >= before + number, 30, "packets to enter")

    def receive(self):
        """(number, nanoseconds on the way) of the next packet."""
        payload = self.receiver.recv(65535)
        number, sent_ns = struct.unpack("!qq", payload[:16])
        return number, time.monotonic_ns() - sent_ns

    def settle(self):
        """Waits until the link is empty; the figures then."""
        return wait_for(lambda: (stats := self.stats())["inside_packets"] == 0 and stats, 30, "an empty link")

    def pending(self):
        """Numbers of all packets that were delivered and not yet received; the link must be empty."""
        self.receiver.setblocking(False)
        numbers = []
        try:
            while True:
                numbers.append(self.receive()[0])
        except BlockingIOError:
            pass
        self.receiver.settimeout(30)
        return numbers


def silent_bed(*arguments, **kw):
    """A bed whose link carries nothing but the test's packets."""
    return Bed("none", ipv6=False, wanem=arguments, **kw)


def check_sum(stats):
    for unit in ("packets", "bytes"):
        parts = [stats[f"{name}_{unit}"] for name in
                 ("out", "drop_queue", "drop_loss", "drop_burst", "drop_down", "drop_error", "inside")]
        assert stats[f"in_{unit}"] + stats[f"duplicated_{unit}"] == sum(parts), stats


def test_delay_is_never_too_short():
    with Bed("none", wanem=["--a-to-b-delay", "30ms", "--b-to-a-delay", "12.5ms"]) as bed:
        for family, back in itertools.product((4, 6) if bed.ipv6 else (4,), (False, True)):
            flow = Flow(bed, family, back)
            flow.send(300)
            ways = [flow.receive() for _ in range(300)]
            assert [number for number, _ in ways] == list(range(300))
            shortest = min(ns for _, ns in ways)
            assert shortest >= (12_500_000 if back else 30_000_000), shortest


def test_rate_is_never_exceeded():
    with silent_bed("--rate", "2mbit", "--queue", "none") as bed:
        flow = Flow(bed)
        begun = time.monotonic_ns()
        flow.send(200, 1250)  # 5 ms each
        for number in range(200):
            assert flow.receive()[0] == number
            assert time.monotonic_ns() - begun >= (number + 1) * 5_000_000


def test_jitter_keeps_the_order():
    with silent_bed("--delay", "5ms", "--jitter", "10ms") as bed:
        flow = Flow(bed)
        ways = []
        for _ in range(20):
            flow.send(50)
            ways += [flow.receive() for _ in range(50)]
        assert [number for number, _ in ways] == list(range(1000))
        assert min(ns for _, ns in ways) >= 5_000_000
        assert max(ns for _, ns in ways) >= 7_000_000


def test_jitter_reorders_when_asked_to():
    with silent_bed("--delay", "5ms", "--jitter", "20ms", "--reorder", "yes") as bed:
        flow = Flow(bed)
        flow.send(1000)
        numbers = [flow.receive()[0] for _ in range(1000)]
        assert sorted(numbers) == list(range(1000)) and numbers != sorted(numbers)
        late = sum(number < max(numbers[:place], default=0) for place, number in enumerate(numbers))
        assert flow.settle()["reordered_packets"] == late


def test_what_is_duplicated_comes_twice():
    with silent_bed("--a-to-b-duplicate", "10%") as bed:
        flow = Flow(bed)
        flow.send(5000)
        stats = flow.settle()
        numbers = flow.pending()
        assert sorted(set(numbers)) == list(range(5000)) and numbers == sorted(numbers)
        assert stats["out_packets"] == len(numbers) == 5000 + stats["duplicated_packets"]
        assert 390 <= stats["duplicated_packets"] <= 610  # 500, and five standard deviations; the seed decides
        check_sum(stats)


def test_what_is_corrupted_does_not_arrive_as_if_it_were_right():
    with silent_bed("--a-to-b-corrupt", "10%") as bed:
        flow = Flow(bed)
        flow.send(5000)
        stats = flow.settle()
        assert 390 <= stats["corrupted_packets"] <= 610
        assert stats["out_packets"] == 5000  # the kernel there finds the wrong checksums
        assert len(flow.pending()) == 5000 - stats["corrupted_packets"]


def lost_packets(seed, arguments=("--loss", "2%"), count=20000):
    with silent_bed(*arguments, seed=seed) as bed:
        flow = Flow(bed)
        flow.send(count)
        stats = flow.settle()
        numbers = flow.pending()
        assert stats["out_packets"] == len(numbers)
        assert stats["drop_loss_packets"] + stats["drop_burst_packets"] == count - len(numbers)
        check_sum(stats)
        return set(range(count)) - set(numbers)


def test_loss_is_random_and_repeatable():
    lost = lost_packets(1)
    assert 300 <= len(lost) <= 500, len(lost)  # 400, and five standard deviations; the seed decides
    assert lost_packets(1) == lost
    other = lost_packets(2)
    assert 300 <= len(other) <= 500 and len(other & lost) < 40, (len(other), len(other & lost))


def test_bursts_are_repeatable():
    arguments = ("--burst", "1%", "--burst-length", "10", "--burst-loss", "50%")
    lost = lost_packets(1, arguments)
    assert 600 <= len(lost) <= 1250, len(lost)  # 909 on average, in 182 bursts
    beside = sum(number + 1 in lost for number in lost)
    assert beside > len(lost) / 3, (beside, len(lost))  # were they lost one by one, it would be one in twenty
    assert lost_packets(1, arguments) == lost


def test_all_or_nothing_is_lost():
    with silent_bed("--a-to-b-loss", "100%", "--b-to-a-loss", "0") as bed:
        there, back = Flow(bed), Flow(bed, back=True)
        there.send(1000)
        back.send(1000)
        assert there.settle()["drop_loss_packets"] == 1000
        assert back.settle()["out_packets"] == 1000
        assert there.pending() == [] and back.pending() == list(range(1000))


def test_queue_drops_its_tail():
    with silent_bed("--rate", "0.008kbit", "--queue", "10000") as bed:  # 1000 seconds a packet: none leaves
        flow = Flow(bed)
        flow.send(50, 1000)
        stats = flow.stats()
        assert stats["drop_queue_packets"] == 40 and stats["drop_queue_bytes"] == 40000
        assert stats["inside_packets"] == 10 and stats["queue_bytes"] == stats["queue_max_bytes"] == 10000
        flow.send(1, 400)
        assert flow.stats()["drop_queue_packets"] == 41
        bed.wanem.set("a-to-b", queue=11000)
        flow.send(3, 400)
        assert flow.stats()["inside_packets"] == 12 and flow.stats()["drop_queue_packets"] == 42
        check_sum(flow.stats())


def test_queue_holds_the_first_packets():
    with silent_bed("--rate", "1mbit", "--queue", "4000") as bed:
        flow = Flow(bed)
        bed.wanem.set("a-to-b", rate="0.008kbit")
        flow.send(6, 1000)
        assert flow.stats()["queue_bytes"] == 4000
        bed.wanem.set("a-to-b", rate="none")  # what is being sent stays slow, so cut it off
        bed.wanem.down()
        bed.wanem.up()
        flow.send(2, 1000)
        assert flow.settle()["drop_down_packets"] == 4
        assert flow.pending() == [6, 7]


def test_queue_as_time_follows_the_rate():
    with silent_bed("--rate", "8mbit", "--queue", "100ms") as bed:
        assert bed.wanem.stats()["a-to-b"]["queue_limit_bytes"] == 100000
        bed.wanem.set("a-to-b", rate="16mbit")
        stats = bed.wanem.stats()
        assert stats["a-to-b"]["queue_limit_bytes"] == 200000
        assert stats["b-to-a"]["queue_limit_bytes"] == 100000


def test_waiting_packets_follow_a_new_rate():
    with silent_bed("--rate", "80kbit", "--queue", "none") as bed:  # 100 ms a packet
        flow = Flow(bed)
        flow.send(300, 1000)  # 30 s
        bed.wanem.set("a-to-b", rate="100mbit")
        assert [flow.receive()[0] for _ in range(300)] == list(range(300))


def test_counters_add_up():
    with silent_bed("--rate", "20mbit", "--loss", "5%", "--queue", "20000", "--delay", "5ms") as bed:
        flows = [Flow(bed), Flow(bed, back=True)]
        for length in (64, 1500, 600):
            for flow in flows:
                flow.send(1000, length)
        for flow in flows:
            stats = flow.settle()
            check_sum(stats)
            assert stats["in_packets"] == 3000 and stats["in_bytes"] == 1000 * (64 + 1500 + 600)
            assert stats["drop_error_packets"] == stats["drop_down_packets"] == 0
            assert len(flow.pending()) == stats["out_packets"]
        bed.wanem.zero()
        stats = flows[0].stats()
        assert stats["in_packets"] == stats["out_bytes"] == stats["drop_loss_packets"] == 0


def test_a_schedule_is_carried_out():
    with Bed("none", ipv6=False) as plain:
        path = os.path.join(plain.folder, "plan.ini")
        with open(path, "w", encoding="ascii") as file:
            file.write("[both]\ndelay = 1ms\n[schedule]\nat 10ms = set a-to-b delay 7ms\n"
                       "at 30ms = set a-to-b rate 1mbit loss 1%\nat 30ms = set a-to-b rate 3mbit\n"
                       "at 50ms = down b-to-a\n")
        with silent_bed("--profile", path) as bed:
            stats = wait_for(lambda: (now := bed.wanem.stats())["b-to-a"]["link"] == "down" and now, 30, "the last event")
            assert stats["profile"] == "plan" and stats["b-to-a"]["delay_us"] == 1000
            one = stats["a-to-b"]
            assert (one["delay_us"], one["rate_bps"], one["loss_pct"], one["link"]) == (7000, 3_000_000, 1, "up")
            bed.wanem.up()  # nothing comes after the last
            assert bed.wanem.stats()["b-to-a"]["link"] == "up"


def test_a_schedule_repeats():
    with Bed("none", ipv6=False) as plain:
        path = os.path.join(plain.folder, "plan.ini")
        with open(path, "w", encoding="ascii") as file:
            file.write("[schedule]\nat 30ms = set both delay 1ms\nat 60ms = set both delay 2ms\nrepeat = 60ms\n")
        with silent_bed("--profile", path) as bed:
            for _ in range(5):
                for delay_us in (1000, 2000):
                    wait_for(lambda delay_us=delay_us: bed.wanem.stats()["a-to-b"]["delay_us"] == delay_us, 30,
                             f"a delay of {delay_us} us")


def test_profiles_add_up():
    with Bed("geo+outage") as bed:
        stats = bed.wanem.stats()
        assert stats["profile"] == "geo+outage" and stats["b-to-a"]["delay_us"] == 300_000


def test_the_report_has_the_delays():
    with silent_bed("--delay", "20ms") as bed:
        flow = Flow(bed)
        flow.send(1000)
        flow.settle()
        assert "delay_histogram" not in flow.stats()
        histogram = bed.wanem.ctl("histogram")["a-to-b"]["delay_histogram"]
        assert sum(packets for _, packets in histogram) == 1000
        assert histogram[0][0] >= 19_680 and histogram == sorted(histogram)  # a bucket is 1.6 % wide
        report = bed.wanem.quit()
        assert report["a-to-b"]["delay_histogram"] == histogram
        assert 20_000 <= report["a-to-b"]["given_p50_us"] <= report["a-to-b"]["given_p99_us"]
        with open(bed.wanem.out_path, encoding="ascii") as file:
            lines = [json.loads(line) for line in file]
        assert lines[0] == {"ready": True}
        assert all("a-to-b" in line for line in lines[1:])


def test_the_report_for_people():
    with Bed("none", ipv6=False) as bed:
        control = os.path.join(bed.folder, "second")
        process = bed.far.popen([program("hawser-wanem"), "--a", f"two0@{bed.near.netns}", "--b",
                                 f"two0@{bed.far.netns}", "--loss", "100%", "--control", control],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        bed.near.run(["ip", "address", "add", "10.77.0.1/24", "dev", "two0"])
        with bed.near.socket(kind=socket.SOCK_DGRAM) as sender:
            sender.sendto(b"lost", ("10.77.0.2", 7))
        second = copy.copy(bed.wanem)
        second.control = control
        wait_for(lambda: second.stats()["a-to-b"]["drop_loss_packets"] == 1, 30, "the loss of a packet")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0 and err == ""
        assert "profile none, seed 1" in out and "a-to-b\n" in out and "b-to-a\n" in out
        assert "(lost at random)" in out and "\033" not in out, out  # no live line where there is no terminal


def test_a_terminal_shows_a_line_a_second():
    with Bed("none", ipv6=False) as bed:
        path = os.path.join(bed.folder, "plan.ini")
        with open(path, "w", encoding="ascii") as file:
            file.write("[schedule]\nat 100ms = down b-to-a\n")
        terminal, end = pty.openpty()
        try:
            fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
            process = bed.far.popen([program("hawser-wanem"), "--a", f"two0@{bed.near.netns}", "--b",
                                     f"two0@{bed.far.netns}", "--profile", path], stdout=end, stderr=end)
            os.close(end)
            seen = ""
            while seen.count(" s b-to-a ") < 2:
                seen += os.read(terminal, 4096).decode()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            os.close(terminal)
        assert "s: down b-to-a\r\n" in seen, seen
        lines = [line for line in re.split(r"\r\n|\r?\033\[[AK]", seen) if re.match(r"\d+ s [ab]-to-", line)]
        assert len(lines) >= 4 and [line.split()[2] for line in lines[:4]] == ["a-to-b", "b-to-a"] * 2, lines
        assert all("bit/s" in line and len(line) <= 59 for line in lines), lines
        assert "DOWN" in lines[1] and "DOWN" not in lines[0], lines
        assert "\r\033[K\033[A\033[K1 s a-to-b" in seen or "\r\033[K\033[A\033[K2 s a-to-b" in seen, seen


def test_nothing_is_left_when_nobody_takes_the_output():
    with Bed("none", ipv6=False) as bed:
        control = os.path.join(bed.folder, "second")
        command = [program("hawser-wanem"), "--a", f"two0@{bed.near.netns}", "--b", f"two0@{bed.far.netns}",
                   "--json", "--control", control]
        process = bed.far.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "ready" in process.stdout.readline()
        assert os.path.exists(control)
        process.stdout.close()
        assert process.wait(30) == 1 and "Broken pipe" in process.stderr.read()
        assert not os.path.exists(control)
        with open("/dev/full", "w", encoding="ascii") as full:
            process = bed.far.popen(command, stdout=full, stderr=subprocess.PIPE, text=True)
            assert process.wait(30) == 1 and "No space left" in process.stderr.read()
        assert not os.path.exists(control)


def test_zero_keeps_the_sum_right():
    with silent_bed("--rate", "0.008kbit", "--queue", "10000") as bed:
        flow = Flow(bed)
        flow.send(12, 1000)
        bed.wanem.zero()
        stats = flow.stats()
        assert stats["inside_packets"] == stats["in_packets"] == 10
        check_sum(stats)


def test_down_and_up():
    with silent_bed("--delay", "1h") as bed:
        flow, back = Flow(bed), Flow(bed, back=True)
        flow.send(10)
        bed.wanem.down("a-to-b")
        stats = bed.wanem.stats()
        assert stats["a-to-b"]["link"] == "down" and stats["b-to-a"]["link"] == "up"
        assert stats["a-to-b"]["inside_packets"] == 0 and stats["a-to-b"]["drop_down_packets"] == 10
        flow.send(5)
        assert flow.stats()["drop_down_packets"] == 15
        bed.wanem.set("both", delay="1ms")
        back.send(5)
        assert [back.receive()[0] for _ in range(5)] == list(range(5))
        bed.wanem.up("a-to-b")
        flow.send(5)
        assert [flow.receive()[0] for _ in range(5)] == list(range(15, 20))
        check_sum(flow.settle())


def test_super_packets_are_cut():
    with Bed("none") as bed:  # the LANs have segmentation offload
        web = bed.nginx()
        web.file("blob", 8 << 20)
        for family in (4, 6) if bed.ipv6 else (4,):
            bed.wanem.zero()
            bed.download(bed.client, web, "blob", family)
            stats = bed.wanem.stats()["b-to-a"]
            assert stats["drop_error_packets"] == 0
            assert stats["in_packets"] * 1500 >= stats["in_bytes"] >= 8 << 20


def test_large_packets():
    with Bed("none", ipv6=False, mtu=9000) as bed:
        flow = Flow(bed)
        flow.send(100, 9000)
        assert flow.settle()["out_bytes"] == 900000
        assert flow.pending() == list(range(100))


def test_profiles():
    wanted = {  # down, up in bit/s, one way in us, loss in %, queue down, queue up
        "lan": (1_000_000_000, 1_000_000_000, 100, 0, 65536, 65536),
        "vpn": (20_000_000, 20_000_000, 40000, 0.1, 200_000, 200_000),
        "branch": (100_000_000, 100_000_000, 20000, 0, 500_000, 500_000),
        "intercontinental": (100_000_000, 100_000_000, 90000, 0.1, 1_250_000, 1_250_000),
        "geo": (50_000_000, 5_000_000, 300_000, 0.5, 1_250_000, 125_000),
        "geo-clean": (50_000_000, 5_000_000, 300_000, 0, 1_250_000, 125_000),
        "leo": (200_000_000, 20_000_000, 25000, 0.5, 1_250_000, 125_000),
        "3g": (3_000_000, 500_000, 75000, 1, 65536, 65536),
        "t1": (1_500_000, 1_500_000, 50000, 0, 65536, 65536),
    }
    for name, (down, up, delay_us, loss, queue_down, queue_up) in wanted.items():
        with Bed(name) as bed:
            stats = bed.wanem.stats()
            assert stats["profile"] == name
            for direction, rate, queue in (("b-to-a", down, queue_down), ("a-to-b", up, queue_up)):
                one = stats[direction]
                found = (one["rate_bps"], one["delay_us"], one["loss_pct"], one["queue_limit_bytes"])
                assert found == (rate, delay_us, loss, queue), (name, direction, found)
                assert one["jitter_us"] == (10000 if name == "leo" else 0)


def test_an_option_overrides_the_profile():
    with Bed("geo", wanem=["--loss", "0", "--b-to-a-rate", "10mbit"]) as bed:
        stats = bed.wanem.stats()
        assert stats["b-to-a"]["rate_bps"] == 10_000_000 and stats["a-to-b"]["rate_bps"] == 5_000_000
        assert stats["b-to-a"]["loss_pct"] == 0 and stats["b-to-a"]["queue_limit_bytes"] == 250_000


def test_wrong_values_exit_with_2_and_name_the_parameter():
    ends = ["--a", "wan0@none-such", "--b", "wan1@none-such"]
    wrong = [
        ("rate", "fast"), ("rate", "10"), ("rate", "-1mbit"), ("rate", "101gbit"), ("rate", "0.0009kbit"),
        ("rate", "1e3mbit"), ("rate", "nanmbit"), ("delay", "5"), ("delay", "1us"), ("delay", "2h"), ("delay", "0x5ms"),
        ("reorder", "maybe"), ("burst", "x"), ("burst-length", "0"), ("burst-length", "1.5"), ("burst-loss", "2"),
        ("duplicate", "-1%"), ("corrupt", "1"), ("queue-max", "0"), ("b-to-a-queue-max", "64K"),
        ("profile", "no/such/file.ini"), ("jitter", "1.2.3ms"), ("jitter", ""), ("loss", "101%"), ("loss", "0.5"), ("loss", "infinity%"),
        ("queue", "0K"), ("queue", "1000"), ("queue", "5G"), ("queue", "10%"), ("link", "sideways"),
        ("a-to-b-rate", "x"), ("b-to-a-loss", "%"), ("mtu", "100"), ("mtu", "65536"), ("mtu", "1500x"),
        ("seed", "-1"), ("seed", "99999999999999999999"), ("profile", "moon"),
    ]
    for name, value in wrong:
        command = [program("hawser-wanem"), *ends, f"--{name}", value]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        parameter = name.removeprefix("a-to-b-").removeprefix("b-to-a-")
        assert done.returncode == 2 and parameter in done.stderr, (name, value, done)
        assert name == parameter or f"--{name}: " in done.stderr, (name, value, done)
        assert done.stdout == ""
    for command in ([], ends[:2], ends[2:], ends + ["--bogus"], ends + ["left-over"], ends + ["--rate"]):
        done = subprocess.run([program("hawser-wanem")] + command, capture_output=True, text=True, timeout=10,
                              check=False)
        assert done.returncode == 2 and done.stderr, (command, done)


def test_what_cannot_be_had_exits_with_1():
    with Bed("lan") as bed:
        taken = ["--a", f"wan0@{bed.near.netns}", "--b", f"spare@{bed.far.netns}"]
        free = ["--a", f"spare@{bed.near.netns}", "--b", f"spare@{bed.far.netns}"]
        for command in (taken, ["--a", "wan0@none-such", "--b", "wan1@none-such"],
                        ["--a", "a-name-that-is-too-long", "--b", "b"],
                        free + ["--control", bed.wanem.control], free + ["--control", bed.wanem.log_path],
                        free + ["--control", "/" + "x" * 200]):
            done = bed.far.run([program("hawser-wanem"), *command], check=False)
            assert done.returncode == 1 and done.stderr and done.stdout == "", (command, done)
        assert os.path.exists(bed.wanem.log_path) and bed.wanem.stats()["profile"] == "lan"


def test_commands():
    with silent_bed("--rate", "1mbit") as bed:
        before = bed.wanem.stats()
        for line in ("", "bogus", "set", "set a-to-b", "set a-to-b rate", "set nowhere rate 1mbit", "down nowhere",
                     "set both rate fast", "set both queue 100", "set both rate 2mbit loss 200%", "stats now",
                     'set both "quoted\\ 1', "set both r\u00e4te 1", "w " * 20):
            assert "error" in bed.wanem.ctl(line), line
        after = bed.wanem.stats()
        assert before["a-to-b"] == after["a-to-b"] and before["b-to-a"] == after["b-to-a"]
        with socket.socket(socket.AF_UNIX) as control:  # too long a line: hung up on
            control.settimeout(10)
            control.connect(bed.wanem.control)
            control.sendall(b"x" * 512)
            assert control.recv(100) == b""
        with socket.socket(socket.AF_UNIX) as control:  # several commands, in odd pieces
            control.settimeout(10)
            control.connect(bed.wanem.control)
            for piece in (b"ze", b"ro\nset both ra", b"te 3mbit\nstats\n"):
                control.sendall(piece)
            with control.makefile() as answers:
                assert [json.loads(answers.readline()) for _ in range(2)] == [{"ok": True}] * 2
                assert json.loads(answers.readline())["b-to-a"]["rate_bps"] == 3_000_000


def test_it_ends_cleanly_and_reports():
    for end in (signal.SIGTERM, signal.SIGINT, None):
        with silent_bed() as bed:
            flow = Flow(bed)
            flow.send(7)
            flow.settle()
            if end:
                bed.wanem.process.send_signal(end)
                assert bed.wanem.process.wait(10) == 0
                report = bed.wanem.report()
            else:
                report = bed.wanem.quit()
            assert report["a-to-b"]["out_packets"] == 7
            assert not os.path.exists(bed.wanem.control)
            assert "wan0" not in bed.near.run(["ip", "-br", "link"]).stdout


def test_it_survives_the_loss_of_a_device():
    with silent_bed() as bed:
        flow = Flow(bed)
        bed.far.run(["ip", "link", "set", "wan0", "down"])
        flow.send(3)
        assert flow.settle()["drop_error_packets"] == 3
        bed.far.run(["ip", "link", "del", "wan0"])
        flow.send(3)
        stats = flow.settle()
        assert stats["drop_error_packets"] == 6
        check_sum(stats)


if __name__ == "__main__":
    main(globals())
