"""What hawser-bench can run: its workloads, the contenders by name, and the tables of doc/BENCHMARKS.md, each of which is
one workload over one link with several contenders, and here and there an axis more (CPU, workers, concurrency)."""

from dataclasses import dataclass, field

import bench_exchanges
import bench_transfers
from bench_cell import MB, Setting
from bench_contenders import RIVALS, DirectBbr, DirectCubic, Haproxy, Hawser, Ssh, SshCompressed, Stunnel

# name: (kind, its options)
CONTENDERS = {
    "hawser": (Hawser, {}),
    "hawser-half": (Hawser, {"rate": 0.5}),
    "hawser-double": (Hawser, {"rate": 2.0}),
    "hawser-unknown": (Hawser, {"rate": None}),
    **{kind.name: (kind, {}) for kind in RIVALS},
}
RIVAL_NAMES = [kind.name for kind in RIVALS]
COUNTED = ("short", "idle")  # whose size is a number of connections
HAWSER_ONLY = ("learned", "compress", "restart")

WAN = [("down_kb", "WAN down, KB", 0), ("up_kb", "WAN up, KB", 0)]
COST = [("near_cpu", "CPU near, s a GB", 2), ("far_cpu", "far", 2)]
COST_APART = [("near_user", "near, user", 2), ("near_sys", "system", 2), ("far_user", "far, user", 2), ("far_sys", "system", 2)]
MEMORY = [("near_peak_mb", "peak memory near, MB", 0), ("far_peak_mb", "far, MB", 0)]


def _step(prefix, title, kilobytes=1):
    return [(prefix + "s", f"{title}, s", 2), (prefix + "kb", "WAN both ways, KB", kilobytes)]


COLD = [("s", "cold, s", 2), ("pct", "of the payload rate, %", 1), ("of_floor", "of the floor", 2), *WAN, *COST, *MEMORY]
LATENCIES = [("p50_us", "p50, us", 0), ("p99_us", "p99, us", 0), ("p999_us", "p99.9, us", 0)]
SHORT = [("a_second", "a second", 0), ("a_core_second", "a second and core", 0), ("near_us", "CPU near, us", 0),
         ("far_us", "CPU far, us", 0), ("connect_p99_us", "connect p99, us", 0), ("p50_ms", "p50, ms", 1),
         ("p99_ms", "p99, ms", 1), ("at_once", "at once", 0)]


@dataclass
class Workload:
    """figures: (metric, heading, digits). profile, size, quick: what it is run with where nothing else is said; size 0:
    its own."""

    run: object
    about: str
    figures: list
    profile: str | None = "geo"
    size: int = 100 * MB
    quick: int = 10 * MB


WORKLOADS = {
    "cold": Workload(bench_transfers.cold, "incompressible bytes that nobody has seen", COLD, size=20 * MB),
    "cold-warm": Workload(bench_transfers.cold_warm, "the same, and others after 5 idle seconds",
                          [*COLD[:3], ("warm_s", "again after 5 s, s", 2), *COLD[3:]], size=20 * MB),
    "learned": Workload(bench_transfers.learned, "nothing known of the link, then after a restart (hawser only)",
                        [*COLD[:3], ("learned_s", "after a restart, s", 2), *COLD[3:]], size=20 * MB),
    "both-ways": Workload(bench_transfers.both_ways, "incompressible bytes down, and up",
                          [(way + metric, f"{way}, {title}", digits) for way in ("down_", "up_") for metric, title, digits in
                           (("pct", "% of the payload rate", 1), ("of_floor", "of the floor", 2))], "branch", 40 * MB),
    "cold-text": Workload(bench_transfers.text, "lines of a log that nobody has seen", COLD, size=50 * MB),
    "same-again": Workload(bench_transfers.again, "a file, and the same again", _step("", "first", 0) + _step("again_", "again")),
    "edited": Workload(bench_transfers.edited, "a file, and it with 100 one-byte edits",
                       _step("", "first", 0) + _step("edited_", "edited")),
    "shifted": Workload(bench_transfers.shifted, "a file, and it with a byte in front",
                        _step("", "first", 0) + _step("shifted_", "shifted")),
    "upload-after-download": Workload(bench_transfers.uploaded, "a file, and it sent back",
                                      _step("", "first", 0) + _step("upload_", "up again")),
    "known": Workload(bench_transfers.known, "a file; again, edited, shifted, sent back",
                      _step("", "first", 0) + _step("again_", "again") + _step("edited_", "100 edits")
                      + _step("shifted_", "shifted by a byte") + _step("upload_", "sent back") + MEMORY),
    "interleaved": Workload(bench_transfers.interleaved, "a file in 100 pieces over 100 connections at once, then whole",
                            _step("", "first", 0) + _step("again_", "again")),
    "restart": Workload(bench_transfers.restarted, "a file, and again after hawserd began anew (hawser only)",
                        [(f"{way}_{metric}", heading.format(text), digits) for way, text in
                         (("stop", "both stopped"), ("near", "kill -9 near"), ("far", "kill -9 far"), ("both", "kill -9 both"))
                         for metric, heading, digits in (("pct", "{}: known, %", 2), ("s", "s", 2))], "branch"),
    "release": Workload(bench_transfers.release, "a source tree, and its next release (Debian packages)",
                        _step("", "first", 0) + [("next_s", "next release, s", 2), ("next_kb", "WAN both ways, KB", 0),
                                                 ("next_share", "of its bytes", 4)], size=0, quick=0),
    "disk-image": Workload(bench_transfers.image, "an ext4 image, and it with every 20th file changed (Debian packages)",
                           _step("", "first", 0) + [("next_s", "next, s", 2), ("next_kb", "WAN both ways, KB", 0),
                                                    ("next_share", "of its bytes", 4)], size=0, quick=0),
    "page": Workload(bench_transfers.page, "100 objects over 1 and 6 connections, and again",
                     _step("c1_", "1 connection", 0) + _step("again1_", "again", 0) + _step("c6_", "6 connections", 0)
                     + _step("again6_", "again", 0), size=0, quick=0),
    "mixed": Workload(bench_transfers.mixed, "new, known and text down, new up, echo and short connections at once",
                      [("s", "files done, s", 2), ("share", "WAN, of the files", 3), ("echo_p50_ms", "echo p50, ms", 0),
                       ("echo_p99_ms", "p99, ms", 0), ("short_p50_ms", "short p50, ms", 0), ("short_p99_ms", "p99, ms", 0)],
                      "intercontinental", 64 * MB, 16 * MB),
    "cpu": Workload(bench_transfers.cpu, "incompressible bytes as fast as they go, then the same again",
                    [("near_cpu", "new, near", 2), ("far_cpu", "new, far", 2), *COST_APART, ("mbit_s", "Mbit/s", 0),
                     ("expansion_pct", "expansion, %", 3), ("hit_near_cpu", "again, near", 2), ("hit_far_cpu", "again, far", 2),
                     ("hit_mbit_s", "Mbit/s", 0), *MEMORY], None, 256 * MB, 128 * MB),
    "parallel": Workload(bench_transfers.parallel, "eight downloads of new bytes at once",
                         [("mbit_s", "Mbit/s", 0), *COST], None, 1024 * MB, 256 * MB),
    "compress": Workload(bench_transfers.compress, "text at level 1 beside zstd alone (hawser only)",
                         [("far_s", "far", 2), ("near_s", "near", 2), ("share", "wire, of the file", 4),
                          ("plain_far_s", "far, uncompressed", 2), ("plain_near_s", "near, uncompressed", 2),
                          ("zstd_s", "zstd -1", 2), ("unzstd_s", "and back", 2), ("zstd_share", "its file", 4)],
                         None, 256 * MB, 32 * MB),
    "first-byte": Workload(bench_exchanges.first_byte, "first byte of a new connection",
                           [("median_ms", "median, ms", 0), ("round_trips", "round trips", 3)], size=0, quick=0),
    "ping-pong": Workload(bench_exchanges.ping_pong, "one byte there and back", LATENCIES, None, 0, 0),
    "beside-bulk": Workload(bench_exchanges.beside_bulk, "ping-pong of 4 KB, and of a byte, beside 8 downloads",
                            [("p50_ms", "4 KB: p50, ms", 0), ("p90_ms", "p90, ms", 0), ("p99_ms", "p99, ms", 0),
                             ("byte_p50_ms", "1 byte: p50, ms", 0), ("byte_p99_ms", "p99, ms", 0),
                             ("link_pct", "link used, %", 0)], "vpn", 0, 0),
    "short": Workload(bench_exchanges.short, "new connections as fast as they go, without keep-alive", SHORT, None, 10000, 3000),
    "idle": Workload(bench_exchanges.idle, "connections that wait",
                     [("near_kb", "near, KB", 2), ("far_kb", "far, KB", 2), ("at_once", "at once", 0)], None, 10000, 2000),
}


@dataclass
class Table:
    """rows: (key of the result, name of the contender, more of the Setting). quick: the names that --quick keeps, None:
    the table is not in the quick set."""

    title: str
    workload: str
    rows: list
    quick: tuple | None = None
    profile: str | None = ""  # "": the workload's
    chart: tuple = ()  # metrics that --plot draws
    figures: list = field(default_factory=list)  # [] the workload's
    size: int | None = None
    quick_size: int | None = None
    command: str = ""  # "": that of the table

    def settings(self, plan):
        """(key, workload, Setting without its run) of each row that was asked for."""
        workload = WORKLOADS[self.workload]
        for key, name, more in self.rows:
            if (plan.only and key not in plan.only and name not in plan.only) or \
                    (not plan.only and plan.quick and key not in self.quick):
                continue
            more = dict(more)
            run = WORKLOADS[more.pop("workload", self.workload)].run
            kind, options = CONTENDERS[name]
            here = (self.quick_size or self.size or workload.quick) if plan.quick else self.size or workload.size
            size = plan.size or here
            profile = workload.profile if self.profile == "" else self.profile
            yield key, run, {"kind": kind, "options": options, "profile": profile, "size": size, **more}


def _rows(*names):
    return [(name, name, {}) for name in names]


def _axis(names, axis, values, text):
    return [(f"{name}, {text.format(value)}", name, {axis: value}) for value in values for name in names]


ALL = ["hawser", *RIVAL_NAMES]
FAST = ["hawser", *(name for name in RIVAL_NAMES if name != DirectCubic.name)]
RELAYS = ["hawser", Haproxy.name, Stunnel.name, Ssh.name, "kcptun"]
SAVERS = ["hawser", DirectBbr.name, Haproxy.name, SshCompressed.name]

TABLES = {
    "geo": Table("New bytes over geo (600 ms, 50/5 Mbit/s, 0.5 % loss)", "cold-warm",
                 [("hawser", "hawser", {}), ("hawser-unknown", "hawser-unknown", {"workload": "learned"}),
                  *[(name, name, {"workload": "cold"}) for name in ("hawser-half", "hawser-double", *RIVAL_NAMES)]],
                 ("hawser", "direct-bbr"), chart=("s",),
                 figures=[("s", "cold, s", 2), ("warm_s", "again after 5 s, s", 2), ("learned_s", "after a restart, s", 2),
                          *COLD[1:]], size=20 * MB),
    "first": Table("First byte of a new connection over geo", "first-byte", _rows(*ALL), ("hawser",),
                   chart=("median_ms",)),
    "branch": Table("New bytes over branch (40 ms, 100/100 Mbit/s)", "both-ways", _rows(*ALL), None, "branch",
                    ("down_pct", "up_pct")),
    "intercontinental": Table("New bytes over intercontinental (180 ms, 100/100 Mbit/s, 0.1 % loss)", "both-ways", _rows(*ALL),
                              None, "intercontinental", ("down_pct", "up_pct")),
    "leo": Table("New bytes over leo (50 ms, 200/20 Mbit/s, 0.5 % loss, 10 ms jitter)", "both-ways", _rows(*ALL), None, "leo",
                 ("down_pct", "up_pct")),
    "text": Table("A log over geo, never seen", "cold-text", _rows(*SAVERS), None, chart=("s",)),
    "known": Table("A file over geo: first, and when the peer has it", "known",
                   [("hawser", "hawser", {}), *[(name, name, {"workload": "same-again"}) for name in SAVERS[1:]]],
                   ("hawser",),
                   chart=("s", "again_s", "edited_s", "shifted_s", "upload_s")),
    "interleaved": Table("A file over geo, first as 100 pieces over 100 connections at once, then whole", "interleaved",
                         _rows("hawser"), None),
    "restart": Table("A file over branch, and again after hawserd began anew, with a store on disk", "restart",
                     _rows("hawser"), None, "branch"),
    "release": Table("A source tree over intercontinental, and its next release", "release", _rows(*SAVERS), None,
                     "intercontinental", ("s", "next_s")),
    "image": Table("A disk image over intercontinental, and it with every 20th file changed", "disk-image", _rows(*SAVERS),
                   None, "intercontinental", ("s", "next_s")),
    "page": Table("A page of 100 objects over vpn (80 ms, 20/20 Mbit/s, 0.1 % loss)", "page", _rows(*ALL), ("hawser",),
                  "vpn", ("c1_s", "c6_s", "again1_s", "again6_s")),
    "mixed": Table("Everything at once over intercontinental: a quarter of the size new, one known, one of a log, a sixteenth up, "
                   "echo and short connections", "mixed", _rows(*FAST), None, chart=("s", "echo_p99_ms")),
    "echo": Table("4 KB and 1 byte there and back beside 8 downloads on vpn (80 ms, 20/20 Mbit/s, 0.1 % loss)", "beside-bulk",
                  _rows(*ALL), ("hawser",), chart=("p99_ms",)),
    "latency": Table("1-byte ping-pong on plain veth", "ping-pong", _rows("direct-cubic", *FAST),
                     ("direct-cubic", "hawser", "haproxy"), chart=("p50_us", "p99_us")),
    "cpu": Table("Incompressible bytes on plain veth, new and again, CPU seconds a GB", "cpu", _rows(*RELAYS),
                 ("hawser", "stunnel", "haproxy"), chart=("near_cpu", "far_cpu", "hit_near_cpu", "hit_far_cpu")),
    "compress": Table("Text on plain veth at level 1 (lines of a log), CPU seconds a GB; the far node sends", "compress",
                      _rows("hawser"), ("hawser",)),
    "sessions": Table("New connections, 200 bytes up, 2000 down, plain veth", "short",
                      _rows("hawser", Haproxy.name, Stunnel.name), ("hawser", "haproxy"), chart=("a_core_second",),
                      size=6000, quick_size=3000),
    "short": Table("New connections over geo, 256 at once", "short", _rows(*FAST), None, "geo", ("a_second",), size=2000),
    "idle": Table("Idle connections, private memory of each", "idle", _rows("hawser", Haproxy.name, Stunnel.name),
                  ("hawser",), chart=("near_kb", "far_kb")),
    "concurrency": Table("New connections by how many are open at once, plain veth", "short",
                         _axis(["hawser", Haproxy.name], "at_once", (100, 1000, 10000), "{} at once"), None,
                         chart=("a_second",)),
    "throttle": Table("Incompressible bytes on plain veth, each node with a share of a processor", "cold",
                      _axis(["hawser", Haproxy.name, Stunnel.name, "kcptun"], "cpu", (100, 50, 25), "{} % of a CPU"), None, None,
                      ("mbit_s",), [("mbit_s", "Mbit/s", 0), *COST, *MEMORY], 256 * MB),
    "workers": Table("Eight downloads at once on plain veth, by workers", "parallel",
                     _axis(["hawser", Haproxy.name], "workers", (1, 2, 4), "{} workers"), None, chart=("mbit_s",)),
}


def one_cell(options):
    """The table of what --workload and its companions ask for."""
    workload = WORKLOADS[options.workload]
    profile = workload.profile
    if options.profile:
        profile = None if options.profile == "veth" else options.profile
    axes = {"cpu": options.cpu, "workers": options.workers, "at_once": options.concurrency}
    axes = {name: value for name, value in axes.items() if value}
    names = options.contender or ["hawser"]
    said = "".join(f", {text.format(axes[name])}" for name, text in
                   (("cpu", "{} % of a processor for each node"), ("workers", "{} workers"), ("at_once", "{} at once"))
                   if name in axes)
    return Table(f"{workload.about}, over {profile or 'plain veth'}{said}", options.workload,
                 [(name, name, axes) for name in names], tuple(names), profile,
                 tuple(metric for metric, _, _ in workload.figures[:1]),
                 command=f"--profile {profile or 'veth'} --workload {options.workload}")


def setting(values, plan, run):
    return Setting(**values, run=run, quick=plan.quick, limit_s=plan.limit)
