#!/usr/bin/env python3
"""How exact the emulator is, measured at the two ends of a link, with everything on this machine.

    sudo contrib/bench_wanem.py            all, about two minutes; a table
    sudo contrib/bench_wanem.py --write    also into doc/BENCHMARKS.md, as its section "The emulator"
    sudo contrib/bench_wanem.py --only rate

Packets are sent at an even pace by `flow` of the tests (built in $HAWSER_BUILD or build/) and stamped by the kernel as
they arrive. What is measured includes the ways to and from the emulator, so it is an upper bound of its errors. Only the
standard library."""

import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "test", "net"))
import bed  # noqa: E402
import bench_report  # noqa: E402

REPORT = os.path.join(HERE, "..", "doc", "BENCHMARKS.md")
PACKETS = 100_000
PACKET_BYTES = 1500
HEADERS = {4: 28, 6: 48}
ADDRESSES = {4: ("10.9.0.2", "10.9.0.1"), 6: ("fd00:9::2", "fd00:9::1")}
PORT = 7000
FLOW = bed.program("test/flow")


class Run:
    """One flow over a bed: .begin(), then .result() with the receiver's figures."""

    def __init__(self, net, count, bps, family=4, back=False, losses=False, size=PACKET_BYTES):
        here, there = (net.far, net.near) if back else (net.near, net.far)
        address = ADDRESSES[family][0 if back else 1]
        words = ["losses"] if losses else []
        self.receiver = there.popen([FLOW, "receive", address, str(PORT), str(count), *words], stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)
        assert self.receiver.stdout.readline() == "ready\n", self.receiver.stderr.read()
        self.command = [FLOW, "send", address, str(PORT), str(count), str(size - HEADERS[family]), str(bps)]
        self.here = here
        self.sender = None

    def begin(self):
        self.sender = self.here.popen(self.command)
        return self

    def result(self):
        out, err = self.receiver.communicate(timeout=300)
        assert self.receiver.returncode == 0, err
        assert self.sender.wait(10) == 0
        return json.loads(out)


def link(*arguments):
    return bed.Bed("none", wanem=arguments)


def verdict(good):
    return "reached" if good else "MISSED"


def measure_delay(rows):
    """100 Mbit/s each way at once, without a limit of the rate, so that nothing of the delay is a queue's."""
    for family in (4, 6):
        for delay_ms in (0.1, 20, 300):
            with link("--delay", f"{delay_ms}ms") as net:
                if family == 6 and not net.ipv6:
                    rows.append((f"delay {delay_ms} ms, IPv6", "", "no IPv6 here", ""))
                    continue
                before, begun = sum(net.wanem.cpu_seconds()), time.monotonic()
                runs = [Run(net, PACKETS, 100_000_000, family, back) for back in (False, True)]
                results = [run.result() for run in [run.begin() for run in runs]]
                share = (sum(net.wanem.cpu_seconds()) - before) / (time.monotonic() - begun)
                assert all(result["packets"] == PACKETS for result in results), results
                over = {name: max(result[name] for result in results) / 1000 - delay_ms
                        for name in ("p50_us", "p99_us", "max_us")}
                early = min(result["min_us"] for result in results) / 1000 - delay_ms
                rows.append((f"delay {delay_ms} ms, IPv{family}, 100 Mbit/s each way", "p99 within 1 ms, none early",
                             f"p50 +{over['p50_us']:.3f}, p99 +{over['p99_us']:.3f}, max +{over['max_us']:.3f} ms; "
                             f"{100 * share:.0f} % of a core", verdict(over["p99_us"] <= 1 and early >= 0)))


def measure_rate(rows):
    """More is offered than the link takes; the rate is that of what arrives."""
    for mbit, count in ((1.5, 1500), (10, 10_000), (100, PACKETS), (500, 2 * PACKETS)):
        for family in (4, 6):
            with link("--rate", f"{mbit}mbit", "--delay", "5ms", "--queue", "100ms" if mbit > 2 else "64K") as net:
                if family == 6 and not net.ipv6:
                    continue
                result = Run(net, count, round(mbit * 1.2e6), family).begin().result()
                bits = (result["packets"] - 1) * PACKET_BYTES * 8
                found = bits / (result["last_ns"] - result["first_ns"]) * 1e9
                error = 100 * (found / (mbit * 1e6) - 1)
                rows.append((f"rate {mbit} Mbit/s, IPv{family}", "within 1 %",
                             f"{found / 1e6:.4f} Mbit/s, {error:+.4f} %", verdict(abs(error) <= 1)))


def measure_loss(rows):
    """Within three standard deviations, of which one in 370 tries is not. Those of bursts are correlated."""
    for share in (0.001, 0.005, 0.02, 0.1):
        with link("--loss", f"{100 * share:g}%", "--delay", "5ms") as net:
            result = Run(net, PACKETS, 100_000_000).begin().result()
            lost = PACKETS - result["packets"]
            deviations = (lost - share * PACKETS) / (PACKETS * share * (1 - share)) ** 0.5
            rows.append((f"loss {100 * share:g} % of {PACKETS} packets at 100 Mbit/s", "within 3 standard deviations",
                         f"{lost} lost, {deviations:+.2f} deviations", verdict(abs(deviations) <= 3)))
    begin, leave = 0.002, 0.1
    with link("--burst", f"{100 * begin:g}%", "--burst-length", f"{1 / leave:.0f}", "--delay", "5ms") as net:
        result = Run(net, PACKETS, 100_000_000).begin().result()
        lost = PACKETS - result["packets"]
        share = begin / (begin + leave)
        memory = 1 - begin - leave  # what is left of a state's influence a packet later
        deviation = (PACKETS * share * (1 - share) * (1 + memory) / (1 - memory)) ** 0.5
        deviations = (lost - share * PACKETS) / deviation
        rows.append((f"bursts of 10, {100 * begin:g} % begin one, at 100 Mbit/s", "within 3 standard deviations",
                     f"{lost} lost of {share * PACKETS:.0f} expected, {deviations:+.2f} deviations",
                     verdict(abs(deviations) <= 3)))


def measure_seed(rows):
    lost = []
    for seed in (7, 7, 8):
        with bed.Bed("none", ipv6=False, seed=seed, wanem=["--loss", "1%", "--burst", "0.1%", "--burst-length", "5"]) as net:
            lost.append(Run(net, PACKETS, 100_000_000, losses=True).begin().result()["losses"])
    rows.append((f"the same seed twice, {PACKETS} packets", "the same losses",
                 f"{len(lost[0])} and {len(lost[1])} lost, {len(set(lost[0]) ^ set(lost[1]))} differ; another seed: "
                 f"{len(set(lost[0]) ^ set(lost[2]))}", verdict(lost[0] == lost[1] and lost[0] != lost[2])))


def measure_throughput(rows):
    """More than lan takes, with a queue that lasts while the sender has no processor (its own is half a millisecond);
    then what a stream of TCP makes of it."""
    for size in (9000, 1500):
        with bed.Bed("lan", ipv6=False, mtu=size, wanem=["--queue", "20ms"]) as net:
            result = Run(net, 600_000_000 // size, 1_200_000_000, size=size).begin().result()
            gbit = (result["packets"] - 1) * size * 8 / (result["last_ns"] - result["first_ns"])
            rows.append((f"lan with a queue of 20 ms, packets of {size} bytes, 1.2 Gbit/s offered", ">= 1 Gbit/s, within 1 %",
                         f"{gbit:.4f} Gbit/s", verdict(abs(gbit - 1) <= 0.01)))
    for profile, size in (("lan", 9000), ("lan", 1500), ("none", 9000), ("none", 1500)):
        with bed.Bed(profile, ipv6=False, mtu=size) as net:
            net.near.ip4, net.far.ip4 = ADDRESSES[4]
            done = net.iperf3(net.near, net.far, ["-t", "5", "-O", "1"])
            gbit = done["end"]["sum_received"]["bits_per_second"] / 1e9
            stats = net.wanem.stats()["a-to-b"]
            assert stats["drop_error_packets"] == 0 and stats["in_bytes"] <= size * stats["in_packets"], stats
            rows.append((f"a TCP stream, {profile if profile != 'none' else 'no limit'}, packets of {size} bytes", "",
                         f"{gbit:.3f} Gbit/s of payload", ""))


PARTS = {"delay": measure_delay, "rate": measure_rate, "loss": measure_loss, "seed": measure_seed,
         "throughput": measure_throughput}


def render(rows, load):
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    text = [bench_report.EMULATOR_HEADING, "",
            "Drawn by `contrib/bench_wanem.py --write`: hawser-wanem between two namespaces, with sender and receiver beside it",
            "on the same cores, packets of 1500 bytes. Delays are from before the sender's system call to the kernel's receive",
            f"time stamp. {now}, commit {commit.stdout.strip() or 'unknown'}, {os.cpu_count()} cores, load average {load:.2f} before",
            f"and {os.getloadavg()[0]:.2f} after, its own share included.",
            "", "| measure | reach | found | verdict |", "|---|---|---|---|"]
    text += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="contrib/bench_wanem.py", description="Measures how exact hawser-wanem is.")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--write", action="store_true", help="into doc/BENCHMARKS.md too (all parts only)")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write takes all parts")
    reason = bed.why_not()
    if reason:
        sys.exit(f"bench_wanem: this cannot run here: {reason}")
    if not os.path.exists(FLOW):
        sys.exit(f"bench_wanem: {FLOW} is missing: build all targets, or set HAWSER_BUILD")
    load, rows = os.getloadavg()[0], []
    for name, part in PARTS.items():
        if options.only in (None, name):
            known = len(rows)
            part(rows)
            for row in rows[known:]:
                print(" | ".join(row), flush=True)
    section = render(rows, load)
    if options.write:
        bench_report.replace_section(REPORT, section)
    return 1 if any(row[3] == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
