"""Workloads of hawser-bench that ask and wait: first byte, ping-pong, short connections, idle ones. Each is a function of
a Setting that gives {metric: value}."""

import json
import time

import bed
from bench_cell import MB, SIDES, median, seed_of
from bench_contenders import Hawser, max_sessions


PORTS_TAKEN = 18000  # of 55,000; where 22,000 wait in TIME_WAIT, the kernel's search for a free one is what is measured


def first_byte(setting):
    """From connect() to the first byte of the answer, of a connection on a link in use."""
    with setting.cell() as cell:
        cell.web.file("small", 100, seed=seed_of(setting.run, 99))
        cell.download("small", 30)  # the tools that connect at first use have had it
        times = []
        for number in range(5 if setting.quick else 11):
            cell.web.file(f"small-{number}", 100, seed=seed_of(setting.run, number))
            times.append(cell.download(f"small-{number}", 30).first_byte)
        cell.contender.check()
        found = {"median_ms": 1000 * median(times)}
        if cell.link:
            found["round_trips"] = found["median_ms"] / cell.link.rtt_ms
        return found


def _milliseconds(group, prefix=""):
    return {f"{prefix}{part}_ms": group["round"][f"{part}_us"] / 1000 for part in ("p50", "p90", "p99", "p999")}


def ping_pong(setting):
    """One byte there and back. The calmest of five: what else the machine does only adds."""
    with setting.cell() as cell:
        cell.load_server()
        cell.load("echo:1,up=64,down=64,rounds=200")
        rounds = 20 if cell.link else 2000 if setting.quick else 5000
        groups = [cell.load(f"echo:1,up=1,down=1,rounds={rounds}", seed=seed_of(setting.run, number))["groups"][0]["round"]
                  for number in range(5)]
        cell.contender.check()
        calmest = min(groups, key=lambda group: group["p99_us"])
        return {name: calmest[name] for name in ("p50_us", "p99_us", "p999_us")}


def beside_bulk(setting):
    """Questions and answers of 4 KB on four connections, then of one byte, while 8 downloads fill the link all the time."""
    assert setting.link and setting.link.down_bps, "beside-bulk needs a profile with a rate, such as vpn"
    with setting.cell() as cell:
        cell.load_server()
        size = round(setting.link.down_bps / 8 * 20)  # each alone would last to the end
        for number in range(8):
            cell.web.file(f"blob-{number}", size, seed=seed_of(setting.run, number))
        bulk = [cell.net.client.popen(["curl", "-sS", "-o", "/dev/null", cell.contender.url(f"blob-{number}")])
                for number in range(8)]
        seen = []

        def filled():
            stats = cell.net.wanem.stats()["b-to-a"]
            seen.append((time.monotonic(), stats["out_bytes"]))
            return stats["out_bytes"] > min(4 * MB, size // 2)
        bed.wait_for(filled, 30, "the bulk transfers to fill the link")
        begun = seen[-1]
        rounds = 25 if setting.quick else 75
        found = {}
        for prefix, length in (("", 4096), ("byte_", 1)):
            group = cell.load(f"echo:4,up={length},down={length},rounds={rounds},every_ms=50",
                              seed=seed_of(setting.run, 10 + length), timeout=90)["groups"][0]
            found |= _milliseconds(group, prefix)
        assert all(process.poll() is None for process in bulk), "a bulk transfer ended before the echoes"
        filled()
        cell.contender.check()
        found["link_pct"] = 100 * (seen[-1][1] - begun[1]) * 8 / (seen[-1][0] - begun[0]) / setting.link.down_bps
        return found


def short(setting):
    """New connections with 200 bytes up and 2000 down, as fast as they go; the best of three, where ports suffice."""
    count, at_once = setting.size, setting.at_once or 256
    if setting.kind is not Hawser:
        at_once = min(at_once, max_sessions() - 500)  # two descriptors a session
    with setting.cell() as cell:
        for host in cell.net.hosts:
            host.sysctl("net.ipv4.ip_local_port_range", "10000 65535")
        cell.load_server()
        cell.load("short:500", arguments=["--opening", "64"])
        rounds = []
        for number in range(1 if cell.link else max(1, min(3, PORTS_TAKEN // count))):
            before = cell.cpu()
            result = cell.load(f"short:{count}", seed=seed_of(setting.run, number),
                               arguments=["--opening", str(at_once), "--at-once", str(at_once)])
            after = cell.cpu()
            near, far = (sum(after[side]) - sum(before[side]) for side in SIDES)
            group = result["groups"][0]
            rounds.append({"a_second": count / result["seconds"], "a_core_second": count / max(near, far, 0.01),
                           "near_us": near * 1e6 / count, "far_us": far * 1e6 / count,
                           "connect_p99_us": group["connect"]["p99_us"], "p50_ms": group["round"]["p50_us"] / 1000,
                           "p99_ms": group["round"]["p99_us"] / 1000, "at_once": result["most_at_once"]})
        cell.contender.check()
        return max(rounds, key=lambda found: found["a_core_second"])


def idle(setting):
    """Open connections that have said something and wait: private memory of each at each node."""
    count = setting.size
    if setting.kind is not Hawser:
        count = min(count, max_sessions() - 500)  # two descriptors a session
    with setting.cell() as cell:
        cell.load_server()
        cell.load("short:200")
        before = cell.anonymous_kb()
        client = cell.net.client.popen(
            cell.load_words([f"idle:{count}"], seed_of(setting.run, 0), ["--hold"], 110), stdin=-1, stdout=-1, text=True)
        line = client.stdout.readline().strip()
        assert line == "held", f"load: {line}"
        held = _settled(cell.anonymous_kb)
        out, _ = client.communicate("\n", timeout=120)
        result = json.loads(out.splitlines()[-1])
        assert result["errors"] == 0, f"load: {result['errors']} errors, the first: {result['first_error']}"
        cell.contender.check()
        return {"near_kb": (held[0] - before[0]) / count, "far_kb": (held[1] - before[1]) / count,
                "at_once": result["most_at_once"]}


def _settled(read, calm=100):
    """The smallest of a pair of readings (buffers are given back), once so many in a row have found nothing smaller."""
    least, left = read(), calm

    def is_calm():
        nonlocal least, left
        now = [min(pair) for pair in zip(least, read())]
        left = left - 1 if now == least else calm
        least = now
        return left == 0
    bed.wait_for(is_calm, 60, "memory to settle")
    return least
