#!/usr/bin/env python3
"""What hawser reaches, measured beside what people would use instead, interleaved in one run.

    sudo contrib/bench.py                      everything, three runs: medians
    sudo contrib/bench.py --quick              under three minutes
    sudo contrib/bench.py --only geo --runs 5  one workload (see --list)
    sudo contrib/bench.py --write              also writes doc/BENCHMARKS.md

Each transfer has a bed of its own (test/net/bed.py: namespaces, an emulated link, nginx, curl) with the same losses
for every contender of a run. Checksums are compared; a transfer that fails is a failed run and shown as such. Uses the
programs in build/ or $HAWSER_BUILD; `load` of the tests must be built too. Only the standard library."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "test", "net"))
import bed  # noqa: E402
import bench_report  # noqa: E402
from bed_hosts import pids_inside  # noqa: E402
from bed_programs import Link  # noqa: E402
from bench_contenders import (  # noqa: E402
    RIVALS, DirectBbr, DirectCubic, Haproxy, Hawser, Missing, Stunnel, max_sessions)

MB = 1 << 20
DATA_PORT = 7000


LINKS = {name: Link(name) for name in ("vpn", "branch", "intercontinental", "geo", "leo")}
PAYLOAD_SHARE = 0.94  # of a link's rate, less headers


def seed_of(run, number):
    """A seed for the bytes of each transfer of a run: what has been sent before would not be sent again. Far apart,
    since the load tool counts on from its seed, a session each."""
    return (1000 * run + number + 1) << 32


class OutOfTime(Exception):
    """A transfer that was stopped: how much had come, and after how long."""

    def __init__(self, seconds, done):
        super().__init__(f"stopped after {seconds:.0f} s at {done / MB:.1f} MB")


# --- one cell: a contender on a bed ----------------------------------------------------------------


class Cell:
    """A bed with a started contender: .net, .web, .contender"""

    def __init__(self, profile, kind, seed, **options):
        self.link = LINKS.get(profile)
        self.net = bed.Bed(profile=profile, ipv6=False, seed=seed)
        self.kind = kind
        self.options = options
        self.web = self.contender = None

    def __enter__(self):
        self.net.print_logs = lambda: None
        self.net.__enter__()
        try:
            self.web = self.net.nginx()
            self.contender = self.kind(self.net, self.link, **self.options)
            self.contender.start()
        except BaseException:
            self.net.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind and not issubclass(kind, (OutOfTime, Missing)) and os.environ.get("HAWSER_BENCH_LOGS"):
            type(self.net).print_logs(self.net)
        self.net.close()

    def download(self, name, limit):
        """Seconds of a download whose checksum is right."""
        transfer = self.net.curl(self.net.client, self.contender.url(name), timeout=limit, check=False)
        if transfer.exit == 28:
            raise OutOfTime(limit, transfer.bytes)
        assert transfer.exit == 0 and transfer.code == 200, f"curl: {transfer.exit} {transfer.code} {transfer.error}"
        assert transfer.sha256 == bed.sha256_of(os.path.join(self.web.root, name)), f"{name} came with other bytes"
        return transfer

    def upload(self, path, name, limit):
        target = os.path.join(self.web.root, name)
        transfer = self.net.curl(self.net.client, self.contender.url(name), upload=path, timeout=limit, check=False)
        if transfer.exit == 28:
            raise OutOfTime(limit, os.path.getsize(target) if os.path.exists(target) else 0)
        assert transfer.exit == 0 and transfer.code in (201, 204), f"curl: {transfer.exit} {transfer.code} {transfer.error}"
        assert bed.sha256_of(target) == bed.sha256_of(path), f"{name} arrived with other bytes"
        return transfer

    def wan(self):
        """Bytes that entered the WAN: (down, up)."""
        stats = self.net.wanem.stats()
        return stats["b-to-a"]["in_bytes"], stats["a-to-b"]["in_bytes"]

    def cpu(self):
        """CPU seconds so far of all processes at (near, far)."""
        sums = []
        for host in (self.net.near, self.net.far):
            sums.append(sum(sum(bed.cpu_seconds(pid)) for pid in pids_inside([host.netns])))
        return sums

    def anonymous_kb(self):
        """Private memory of all processes at (near, far)."""
        sums = []
        for host in (self.net.near, self.net.far):
            total = 0
            for pid in pids_inside([host.netns]):
                with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
            sums.append(total)
        return sums

    def load_server(self, ports=str(DATA_PORT)):
        first, _, last = ports.partition("-")
        self.net.server.popen([load_program(), "server", "-4", "--ports", ports])
        for port in (first, last or first):
            bed.wait_for(lambda port=port: self.net.server.listening(int(port)), 10, "load to listen")

    def load(self, *groups, ports=str(DATA_PORT), timeout=120, seed=1, arguments=()):
        """The result of one run of the load tool's client. Two with one seed send the same bytes."""
        words = [load_program(), "client", self.contender.address(), ports, "--deadline", str(timeout),
                 "--seed", str(seed), *arguments]
        for group in groups:
            words += ["--group", group]
        done = self.net.client.run(words, timeout=timeout + 10, check=False)
        assert done.stdout.strip(), f"load: {done.stderr}"
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["errors"] == 0, f"load: {result['errors']} errors, the first: {result['first_error']}"
        return result


def load_program():
    path = os.path.join(bed.BUILD, "test", "load")
    if not os.path.exists(path):
        raise Missing(f"{path} is not built")
    return path


# --- workloads --------------------------------------------------------------------------------------
# Each is a list of (contender's key, function(run)) that give {metric: value}; they are interleaved.


class Plan:
    """What the command line asked for."""

    def __init__(self, options):
        self.quick = options.quick
        self.runs = options.runs or (1 if options.quick else 3)
        self.limit = 25 if options.quick else 60
        self.only = options.contender
        self.rivals = [DirectBbr, Haproxy] if options.quick else RIVALS

    def fast_rivals(self):
        """Those whose delay and CPU are worth a cell."""
        return [kind for kind in self.rivals if kind is not DirectCubic] or self.rivals


def geo_cold(plan, kind, run, again=False, **options):
    """20 MB on a link that is up and was never used; again: and once more after 5 s."""
    with Cell("geo", kind, run, **options) as cell:
        cell.web.file("blob", 20 * MB, seed=run)
        cell.web.file("other", 20 * MB, seed=100 + run)
        before = cell.wan()
        found = {"cold_s": cell.download("blob", plan.limit).seconds}
        after = cell.wan()
        found["wan_down"] = (after[0] - before[0]) / (20 * MB)
        found["wan_up"] = (after[1] - before[1]) / (20 * MB)
        if again:
            time.sleep(5)  # the idle time is the condition that is measured
            found["warm_s"] = cell.download("other", plan.limit).seconds
        cell.contender.check()
        return found


def geo_learned(plan, run):
    """Nothing known; then both daemons anew with the store they had."""
    with Cell("geo", Hawser, run, rate=None, store=True) as cell:
        cell.web.file("blob", 20 * MB, seed=run)
        cell.web.file("other", 20 * MB, seed=100 + run)
        found = {"cold_s": cell.download("blob", plan.limit).seconds}
        cell.contender.check()
        cell.contender.restart()
        found["learned_s"] = cell.download("other", plan.limit).seconds
        cell.contender.check()
        return found


def geo(plan):
    cells = [("hawser", lambda run: geo_cold(plan, Hawser, run, again=True)),
             ("hawser-unknown", lambda run: geo_learned(plan, run))]
    if plan.quick:
        return cells + [("direct-bbr", lambda run: geo_cold(plan, DirectBbr, run))]
    cells += [("hawser-half", lambda run: geo_cold(plan, Hawser, run, rate=0.5)),
             ("hawser-double", lambda run: geo_cold(plan, Hawser, run, rate=2.0))]
    return cells + [(kind.name, lambda run, kind=kind: geo_cold(plan, kind, run)) for kind in plan.rivals]


def link_both_ways(plan, profile, kind, run):
    link = LINKS[profile]
    size = 40 * MB
    found = {}
    for way, bps in (("down", link.down_bps), ("up", link.up_bps)):
        with Cell(profile, kind, run) as cell:
            path = cell.web.file("blob", size, seed=run)
            limit = round(min(plan.limit, 5 * size * 8 / bps))
            try:
                if way == "down":
                    transfer = cell.download("blob", limit)
                else:
                    transfer = cell.upload(path, "upload", limit)
            except OutOfTime as late:
                found[way + "_note"] = str(late)
                continue
            found[way + "_pct"] = 100 * size * 8 / transfer.seconds / (PAYLOAD_SHARE * bps)
            cell.contender.check()
    return found


def links(plan, profile):
    kinds = [Hawser] + ([DirectBbr] if plan.quick else RIVALS)
    return [(kind.name, lambda run, kind=kind: link_both_ways(plan, profile, kind, run)) for kind in kinds]


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def first_byte(plan, kind, run):
    with Cell("geo", kind, run) as cell:
        cell.web.file("small", 100)
        cell.download("small", 30)  # the tools that connect at first use have had it
        times = []
        for number in range(5 if plan.quick else 11):
            cell.web.file(f"small-{number}", 100, seed=seed_of(run, number))
            times.append(cell.download(f"small-{number}", 30).first_byte)
        cell.contender.check()
        return {"median_ms": 1000 * median(times), "round_trips": 1000 * median(times) / LINKS["geo"].rtt_ms}


def first(plan):
    kinds = [Hawser, DirectBbr] if plan.quick else [Hawser] + plan.rivals
    return [(kind.name, lambda run, kind=kind: first_byte(plan, kind, run)) for kind in kinds]


def ping_pong(plan, kind, run):
    """The calmest of five: what else the machine does only adds."""
    with Cell(None, kind, run) as cell:
        cell.load_server()
        cell.load("echo:1,up=64,down=64,rounds=200")
        rounds = 2000 if plan.quick else 5000
        groups = [cell.load(f"echo:1,up=1,down=1,rounds={rounds}", seed=seed_of(run, number))["groups"][0]["round"]
                  for number in range(5)]
        cell.contender.check()
        calmest = min(groups, key=lambda group: group["p99_us"])
        return {name: calmest[name] for name in ("p50_us", "p99_us", "p999_us")}


def latency(plan):
    kinds = [DirectCubic, Hawser] + plan.fast_rivals()
    return [(kind.name, lambda run, kind=kind: ping_pong(plan, kind, run)) for kind in kinds]


def cpu_a_gigabyte(plan, kind, run):
    """The least of three transfers: what else the machine does only adds."""
    size = (128 if plan.quick else 512) * MB
    with Cell(None, kind, run) as cell:
        cell.web.file("warm", 8 * MB, seed=seed_of(run, 0))
        cell.download("warm", 30)
        rounds = []
        for number in range(1, 4):
            path = cell.web.file("blob", size, seed=seed_of(run, number))
            before = cell.cpu()
            transfer = cell.download("blob", 120)
            after = cell.cpu()
            os.unlink(path)
            rounds.append((after[0] - before[0], after[1] - before[1], transfer.seconds))
        cell.contender.check()
        per = (1 << 30) / size
        near, far, seconds = (min(column) for column in zip(*rounds))
        return {"near_s": near * per, "far_s": far * per, "mbit_s": size * 8 / 1e6 / seconds}


def zstd_alone(path):
    """What compress_bench finds at level 1: share of the file, CPU seconds a GB to compress and to decompress."""
    program = os.path.join(bed.BUILD, "test", "compress_bench")
    if not os.path.exists(program):
        raise Missing(f"{program} is not built")
    done = subprocess.run([program, path], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()[1].split()
    return float(words[2]), float(words[3]), float(words[7])


def compressed(plan, run):
    """The least of three transfers of text, compressed at level 1, beside others uncompressed and zstd alone. The store
    is kept out of it: zstd's share of the work is what is asked for."""
    size = (32 if plan.quick else 256) * MB
    classes = ("[class plain]\nports = 81\ncompress = off\ndedup = no\n"
               "[class text]\nports = 80\ncompress = 1\ndedup = no\n")
    with Cell(None, Hawser, run, extra=classes) as cell:
        found, parts = {}, []
        for name, web in (("plain_", cell.net.nginx(port=81)), ("", cell.web)):
            rounds = []
            for number in range(3):
                path = os.path.join(web.root, "text")
                bed.make_text_file(path, size, seed=seed_of(run, 3 * len(name) + number))
                made = os.path.getsize(path)
                if not name:
                    parts.append(zstd_alone(path))
                before, wire = cell.cpu(), cell.contender.pair.far.ctl("peers")[0]["wire_out_bytes"]
                cell.net.download(cell.net.client, web, "text", timeout=120)
                after = cell.cpu()
                wire = cell.contender.pair.far.ctl("peers")[0]["wire_out_bytes"] - wire
                rounds.append(((after[0] - before[0]) * 1e9 / made, (after[1] - before[1]) * 1e9 / made, wire / made))
                os.unlink(path)
            found[name + "near_s"], found[name + "far_s"], found[name + "share"] = (min(column) for column in zip(*rounds))
        found["zstd_share"], found["zstd_s"], found["unzstd_s"] = (min(column) for column in zip(*parts))
        share, zstd_s, unzstd_s = found["zstd_share"], found["zstd_s"], found["unzstd_s"]
        found["share_of_zstd"] = found["share"] / share
        found["far_of_parts"] = found["far_s"] / (zstd_s + found["plain_far_s"])
        found["near_of_parts"] = found["near_s"] / (unzstd_s + found["plain_near_s"])
        return found


def compress(plan):
    return [("hawser", lambda run: compressed(plan, run))]


def cpu(plan):
    kinds = [Hawser, Stunnel, Haproxy] if plan.quick else [Hawser] + plan.fast_rivals()
    return [(kind.name, lambda run, kind=kind: cpu_a_gigabyte(plan, kind, run)) for kind in kinds
            if kind is not DirectBbr]


def echo_beside_bulk(plan, kind, run):
    """4 KB questions and answers on four connections while 8 downloads fill the link, which go on all the time."""
    with Cell("vpn", kind, run) as cell:
        cell.load_server()
        for number in range(8):  # each alone would last to the end
            cell.web.file(f"blob-{number}", 48 * MB, seed=seed_of(run, number))
        bulk = [cell.net.client.popen(["curl", "-sS", "-o", "/dev/null", cell.contender.url(f"blob-{number}")])
                for number in range(8)]
        seen = []

        def filled():
            stats = cell.net.wanem.stats()["b-to-a"]
            seen.append((time.monotonic(), stats["out_bytes"]))
            return stats["out_bytes"] > 4 * MB
        bed.wait_for(filled, 30, "the bulk transfers to fill the link")
        begun = seen[-1]
        rounds = 25 if plan.quick else 75
        group = cell.load(f"echo:4,up=4096,down=4096,rounds={rounds},every_ms=50", timeout=90)["groups"][0]
        assert all(process.poll() is None for process in bulk), "a bulk transfer ended before the echoes"
        filled()
        cell.contender.check()
        spent = seen[-1][0] - begun[0]
        share = (seen[-1][1] - begun[1]) * 8 / spent / LINKS["vpn"].down_bps
        return {"p50_ms": group["round"]["p50_us"] / 1000, "p90_ms": group["round"]["p90_us"] / 1000,
                "p99_ms": group["round"]["p99_us"] / 1000,
                "link_pct": 100 * share}


def echo(plan):
    kinds = [DirectCubic, Hawser] + ([] if plan.quick else plan.fast_rivals())
    return [(kind.name, lambda run, kind=kind: echo_beside_bulk(plan, kind, run)) for kind in kinds]


def short_sessions(plan, kind, run):
    """New connections with 200 bytes up and 2000 down, as fast as they go; the best of three."""
    count = 3000 if plan.quick else 6000
    with Cell(None, kind, run) as cell:
        for host in cell.net.hosts:  # 18,500 ports wait in TIME_WAIT at the end; above 22,000 the search for one is slow
            host.sysctl("net.ipv4.ip_local_port_range", "10000 65535")
        cell.load_server()
        cell.load("short:500", arguments=["--opening", "64"])
        rounds = []
        for number in range(3):
            before = cell.cpu()
            result = cell.load(f"short:{count}", seed=seed_of(run, number),
                               arguments=["--opening", "256", "--at-once", "256"])
            after = cell.cpu()
            near, far = after[0] - before[0], after[1] - before[1]
            rounds.append({"a_second": count / result["seconds"], "a_core_second": count / max(near, far, 0.01),
                           "near_us": near * 1e6 / count, "far_us": far * 1e6 / count,
                           "connect_p99_us": result["groups"][0]["connect"]["p99_us"]})
        cell.contender.check()
        return max(rounds, key=lambda found: found["a_core_second"])


def idle_sessions(plan, kind, run):
    """Open connections that have said something and wait: private memory of each at each node."""
    count = 2000 if plan.quick else 10000
    if kind is not Hawser:
        count = min(count, max_sessions() - 500)  # two descriptors a session
    with Cell(None, kind, run) as cell:
        cell.load_server()
        cell.load("short:200")
        before = cell.anonymous_kb()
        client = cell.net.client.popen(
            [load_program(), "client", cell.contender.address(), str(DATA_PORT), "--group", f"idle:{count}", "--hold",
             "--seed", str(seed_of(run, 0)), "--deadline", "110"], stdin=-1, stdout=-1, text=True)
        line = client.stdout.readline().strip()
        assert line == "held", f"load: {line}"
        held = settled(cell.anonymous_kb)
        out, _ = client.communicate("\n", timeout=120)
        result = json.loads(out.splitlines()[-1])
        assert result["errors"] == 0, f"load: {result['errors']} errors, the first: {result['first_error']}"
        cell.contender.check()
        return {"near_kb": (held[0] - before[0]) / count, "far_kb": (held[1] - before[1]) / count,
                "at_once": result["most_at_once"]}


def settled(read, calm=100):
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


def sessions(plan):
    kinds = [Hawser, Haproxy] if plan.quick else [Hawser, Haproxy, Stunnel]
    return [(kind.name, lambda run, kind=kind: short_sessions(plan, kind, run)) for kind in kinds]


def idle(plan):
    kinds = [Hawser] if plan.quick else [Hawser, Haproxy, Stunnel]
    return [(kind.name, lambda run, kind=kind: idle_sessions(plan, kind, run)) for kind in kinds]


WORKLOADS = {
    "geo": geo,
    "first": first,
    "branch": lambda plan: links(plan, "branch"),
    "intercontinental": lambda plan: links(plan, "intercontinental"),
    "leo": lambda plan: links(plan, "leo"),
    "echo": echo,
    "latency": latency,
    "cpu": cpu,
    "compress": compress,
    "sessions": sessions,
    "idle": idle,
}


# --- running ----------------------------------------------------------------------------------------


QUICK = [name for name in WORKLOADS if name not in ("branch", "leo")]


def run_cell(function, run):
    """{metric: value}, or {"error": reason}"""
    try:
        return function(run)
    except OutOfTime as late:
        return {"late": str(late)}
    except Missing as missing:
        return {"error": str(missing)}
    except Exception as error:  # pylint: disable=broad-except
        if os.environ.get("HAWSER_BENCH_LOGS"):
            traceback.print_exc()
        lines = str(error).splitlines() or [type(error).__name__]
        return {"error": lines[0][:200]}


def text_of(found):
    parts = []
    for name, value in found.items():
        parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


def measure(plan, names):
    """{workload: {contender: [found of each run]}}"""
    results = {name: {} for name in names}
    begun = time.monotonic()
    for run in range(1, plan.runs + 1):
        for name in names:
            for key, function in WORKLOADS[name](plan):
                if plan.only and key not in plan.only:
                    continue
                found = run_cell(function, run)
                results[name].setdefault(key, []).append(found)
                print(f"[{time.monotonic() - begun:5.0f} s] run {run} {name:<16} {key:<15} {text_of(found)}", flush=True)
    return results


def on_signal(number, frame):
    raise KeyboardInterrupt


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run, fewer contenders, smaller: under three minutes")
    parser.add_argument("--only", action="append", metavar="NAME", choices=list(WORKLOADS), help="only this workload")
    parser.add_argument("--contender", action="append", metavar="NAME", help="only this contender (hawser-half, haproxy)")
    parser.add_argument("--runs", type=int, metavar="N", help="interleaved runs (default 3, with --quick 1)")
    parser.add_argument("--json", metavar="FILE", help="write every figure of every run")
    parser.add_argument("--write", action="store_true", help="write doc/BENCHMARKS.md")
    parser.add_argument("--from", dest="source", metavar="FILE", help="use a file that --json wrote; what --only names is measured anew")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    return parser.parse_args()


def main():
    options = parse()
    if options.list:
        print("\n".join(WORKLOADS))
        return 0
    document = {"results": {}}
    if options.source:
        with open(options.source, encoding="utf-8") as file:
            document = json.load(file)
    if options.only or not options.source:
        reason = bed.why_not()
        if reason:
            sys.exit(f"bench: this cannot run here: {reason}")
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, on_signal)
        plan = Plan(options)
        begun, commit = time.time(), bench_report.commit()
        results = measure(plan, options.only or (QUICK if plan.quick else list(WORKLOADS)))
        for name, found in results.items():
            document["results"].setdefault(name, {}).update(found)
        about = bench_report.about(plan, begun, commit)
        if options.source:
            about["only"] = {name: sorted(found) for name, found in results.items()}
            document.setdefault("renewed", []).append(about)
        else:
            document["about"] = about
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
    print()
    print(bench_report.table(document))
    if options.write:
        path = os.path.join(bed.SOURCE, "doc", "BENCHMARKS.md")
        bench_report.replace_page(path, bench_report.page(document))
        print(f"\nwrote {path}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
