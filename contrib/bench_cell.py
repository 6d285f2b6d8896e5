"""One cell of hawser-bench: a contender started on a bed of its own, and what is read off it while bytes go through."""

import contextlib
import json
import os
from dataclasses import dataclass, field

import bed
from bed_hosts import pids_inside
from bed_programs import Link
from bench_contenders import Missing, wait_quiet
from bench_throttle import CannotThrottle, Throttle

MB = 1 << 20
GB = 1 << 30
DATA_PORT = 7000
PAYLOAD_SHARE = 0.94  # of a link's rate, less headers
SIDES = ("near", "far")
LEAST_FOR_CPU = 10 * MB  # bytes: below, a clock tick, which CPU time is counted in, is more than a second a GB


def seed_of(run, number):
    """A seed for the bytes of each transfer of a run: what has been sent before would not be sent again. Far apart,
    since the load tool counts on from its seed, a session each."""
    return (1000 * run + number + 1) << 32


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def test_program(name):
    """Path of a program that is built with the tests."""
    path = os.path.join(bed.BUILD, "test", name)
    if not os.path.exists(path):
        raise Missing(f"{path} is not built: build all targets, or set HAWSER_BUILD to a folder where they are")
    return path


class OutOfTime(Exception):
    """A transfer that was stopped: after how long, and how much had come, where that is known."""

    def __init__(self, seconds, done=None):
        super().__init__(f"stopped after {seconds:.0f} s" + (f" at {done / MB:.1f} MB" if done is not None else ""))


@dataclass
class Setting:
    """What one cell is to be: contender, link, size and the axes. It gathers the processes' peak memory, and
    the logs where something failed."""

    kind: type
    options: dict = field(default_factory=dict)  # of the contender
    profile: str | None = None  # None: plain veth
    size: int = 0
    run: int = 1
    quick: bool = False
    limit_s: float = 60
    cpu: int | None = None  # percent of a processor for each node
    workers: int | None = None
    at_once: int | None = None
    peaks: dict = field(default_factory=dict)  # {side: {process: bytes}}
    logs: dict = field(default_factory=dict)  # of a cell that failed: {name: its end}

    @property
    def link(self):
        return Link(self.profile.split("+")[0]) if self.profile not in (None, "none") else None

    def cell(self, **more):
        """more: options of the contender that belong to the workload."""
        return Cell(self, {**more, **self.options})

    def limit(self, size, bps=None):
        """How long a transfer of so many bytes may take."""
        return max(self.limit_s, 6 * size * 8 / bps) if bps else self.limit_s


class Cell:
    """.net, .web (an nginx on the server), .contender, .link"""

    def __init__(self, setting, options):
        self.setting = setting
        self.link = setting.link
        self.net = bed.Bed(profile=setting.profile, ipv6=False, seed=setting.run)
        self.options = dict(options)
        if setting.workers:
            self.options["workers"] = setting.workers
        self.web = self.contender = None
        self.throttles = []

    def __enter__(self):
        self.net.print_logs = lambda: None
        self.net.__enter__()
        try:
            self.web = self.net.nginx()
            self.contender = self.setting.kind(self.net, self.link, **self.options)
            self.contender.start()
            if self.setting.cpu:
                self.throttle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind and not issubclass(kind, (OutOfTime, Missing)):
            for path in self.net.logs:
                self.setting.logs[os.path.basename(path)] = bed.tail(path)
        self._note_peaks()
        self.close()

    def close(self):
        self.net.close()
        for throttle in self.throttles:
            throttle.close()
        self.throttles.clear()

    def throttle(self):
        if not self.throttles:
            self.throttles = [Throttle(f"{self.net.prefix}-{side}", self.setting.cpu) for side in SIDES]
        for throttle, side in zip(self.throttles, SIDES):
            pids = self.pids(side)
            if not pids:
                raise CannotThrottle(f"{self.contender.name} has no process at the {side} node: it cannot be given a share "
                                     "of a processor")
            throttle.add(pids)

    def restart(self, **how):
        self.contender.restart(**how)
        if self.setting.cpu:
            self.throttle()

    # What is read.

    def pids(self, side):
        """Processes on a gateway, but for the emulator, which lives on the far one."""
        emulator = self.net.wanem.process.pid if self.net.wanem else None
        return [pid for pid in pids_inside([getattr(self.net, side).netns]) if pid != emulator]

    def _note_peaks(self):
        for side in SIDES:
            peaks = {}
            for pid in self.pids(side):
                with contextlib.suppress(OSError):
                    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                        lines = dict(line.split(":", 1) for line in file if ":" in line)
                    if "VmHWM" in lines:
                        peaks[f"{lines['Name'].strip()} {pid}"] = int(lines["VmHWM"].split()[0]) << 10
            before = self.setting.peaks.get(side, {})
            if sum(peaks.values()) >= sum(before.values()):
                self.setting.peaks[side] = peaks

    def wan(self):
        """Bytes that entered the WAN so far: (down, up). None without an emulator."""
        if not self.net.wanem:
            return None
        stats = self.net.wanem.stats()
        return stats["b-to-a"]["in_bytes"], stats["a-to-b"]["in_bytes"]

    def cpu(self):
        """CPU seconds so far: {side: (user, system)}, with those of children that have ended."""
        sums = {}
        for side in SIDES:
            user = system = 0
            for pid in self.pids(side):
                with contextlib.suppress(OSError):
                    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                        fields = [int(word) for word in file.read().rpartition(")")[2].split()[11:15]]
                    user += fields[0] + fields[2]
                    system += fields[1] + fields[3]
            tick = os.sysconf("SC_CLK_TCK")
            sums[side] = (user / tick, system / tick)
        return sums

    def anonymous_kb(self):
        """Private memory of all processes at (near, far)."""
        sums = []
        for side in SIDES:
            total = 0
            for pid in self.pids(side):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))
            sums.append(total)
        return sums

    def settle(self):
        """Until the last acknowledgements of a transfer have passed the link."""
        if self.link:
            wait_quiet(self.net.wanem, self.link.rtt_ms / 1000 + 0.2)

    # Transfers.

    def download(self, name, limit):
        """A transfer whose checksum is right."""
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
            raise OutOfTime(limit)
        assert transfer.exit == 0 and transfer.code in (201, 204), f"curl: {transfer.exit} {transfer.code} {transfer.error}"
        assert bed.sha256_of(target) == bed.sha256_of(path), f"{name} arrived with other bytes"
        return transfer

    def figures(self, prefix, action, size, way="down"):
        """What action() cost, which moves size bytes one way and returns its seconds: {prefix + metric: value}."""
        wan, cpu = self.wan(), self.cpu()
        seconds = action()
        self.settle()
        found = {"s": seconds, "mbit_s": size * 8 / 1e6 / seconds}
        if wan:
            after = self.wan()
            down, up = after[0] - wan[0], after[1] - wan[1]
            found |= {"kb": (down + up) / 1000, "down_kb": down / 1000, "up_kb": up / 1000, "share": (down + up) / size}
        bps = self.link and (self.link.down_bps if way == "down" else self.link.up_bps)
        if bps:
            found["pct"] = 100 * size * 8 / seconds / (PAYLOAD_SHARE * bps)
            found["of_floor"] = seconds / (self.link.rtt_ms / 1000 + size * 8 / bps)
        spent = self.cpu()
        for side in SIDES if size >= LEAST_FOR_CPU else ():
            user, system = (spent[side][i] - cpu[side][i] for i in (0, 1))
            found |= {f"{side}_user": user * GB / size, f"{side}_sys": system * GB / size,
                      f"{side}_cpu": (user + system) * GB / size}
        return {prefix + name: value for name, value in found.items()}

    def fetch(self, name, prefix="", limit=None):
        """The figures of a download."""
        size = os.path.getsize(os.path.join(self.web.root, name))
        limit = limit or self.setting.limit(size, self.link and self.link.down_bps)
        return self.figures(prefix, lambda: self.download(name, limit).seconds, size)

    def put(self, path, name, prefix="", limit=None):
        """The figures of an upload."""
        size = os.path.getsize(path)
        limit = limit or self.setting.limit(size, self.link and self.link.up_bps)
        return self.figures(prefix, lambda: self.upload(path, name, limit).seconds, size, "up")

    # The load tool of the tests.

    def load_server(self, ports=str(DATA_PORT)):
        first, _, last = ports.partition("-")
        self.net.server.popen([test_program("load"), "server", "-4", "--ports", ports])
        for port in (first, last or first):
            bed.wait_for(lambda port=port: self.net.server.listening(int(port)), 10, "load to listen")

    def load_words(self, groups, seed, arguments=(), timeout=120):
        words = [test_program("load"), "client", self.contender.address(), str(DATA_PORT), "--deadline", str(timeout),
                 "--seed", str(seed), *arguments]
        for group in groups:
            words += ["--group", group]
        return words

    def load(self, *groups, timeout=120, seed=1, arguments=()):
        """The result of one run of the load tool's client. Two with one seed send the same bytes."""
        done = self.net.client.run(self.load_words(groups, seed, arguments, timeout), timeout=timeout + 10, check=False)
        assert done.stdout.strip(), f"load: {done.stderr}"
        return load_result(done.stdout)


def load_result(text):
    result = json.loads(text.splitlines()[-1])
    assert result["errors"] == 0, f"load: {result['errors']} errors, the first: {result['first_error']}"
    return result
