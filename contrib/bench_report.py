"""How bench.py tells its figures: the table of what must be reached, and doc/BENCHMARKS.md."""

import os
import platform
import subprocess
import time

import bed
from bench_contenders import RIVALS

RIVAL_NAMES = [kind.name for kind in RIVALS]


def commit():
    """What is checked out, "" outside of git."""
    done = subprocess.run(["git", "-C", bed.SOURCE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def about(plan, begun, checked_out):
    """The machine and the run."""
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begun)), "minutes": (time.time() - begun) / 60,
            "cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory), "kernel": platform.release(),
            "system": system, "commit": checked_out,
            "runs": plan.runs, "quick": plan.quick}


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


class Figures:
    """Reads results: {workload: {contender: [found of each run]}}"""

    def __init__(self, results):
        self.results = results

    def runs(self, workload, key):
        return self.results.get(workload, {}).get(key, [])

    def value(self, workload, key, metric):
        """The median over all runs. None: not measured, or not in every run."""
        runs = self.runs(workload, key)
        values = [found[metric] for found in runs if metric in found]
        return median(values) if values and len(values) == len(runs) else None

    def trouble(self, workload, key):
        """The first reason why a run gave nothing, or ""."""
        for found in self.runs(workload, key):
            for name in ("error", "late"):
                if name in found:
                    return found[name]
        return ""

    def best(self, workload, metric, least=True, keys=tuple(RIVAL_NAMES)):
        """(value, contender) of the best rival."""
        pairs = [(self.value(workload, key, metric), key) for key in keys]
        pairs = [pair for pair in pairs if pair[0] is not None]
        if not pairs:
            return None, ""
        return min(pairs) if least else max(pairs)


# --- what must be reached ---------------------------------------------------------------------------


class Row:
    """measure, reach (text), hawser (text), other (text), good (None: not measured)"""

    def __init__(self, measure, reach, ours=None, limit=None, unit="", digits=2, least=True, other=(None, ""),
                 trouble=""):
        self.measure, self.reach = measure, reach
        self.measured = ours is not None or bool(trouble)
        self.hawser = f"{ours:.{digits}f}{unit}" if ours is not None else ("FAILED" if trouble else "-")
        self.other = f"{other[0]:.{digits}f}{unit} ({other[1]})" if other[0] is not None else "-"
        self.trouble = trouble
        self.good = None
        if self.measured:
            self.good = ours is not None and not trouble and limit is not None and (
                ours <= limit if least else ours >= limit)

    def verdict(self):
        if not self.measured:
            return ""
        return "FAILED" if self.trouble else "reached" if self.good else "MISSED"


def geo_rows(figures):
    best = figures.best("geo", "cold_s")
    rows = []
    for text, key, metric, limit in (
            ("20 MB, geo, rate configured, lanes never used", "hawser", "cold_s", 5.5),
            ("  rate set to half the truth", "hawser-half", "cold_s", 9),
            ("  rate set to twice the truth", "hawser-double", "cold_s", 8),
            ("  rate learned from an earlier transfer", "hawser-unknown", "learned_s", 6.5),
            ("  again after 5 s idle (warm)", "hawser", "warm_s", 4.9)):
        rows.append(Row(text, f"<= {limit} s", figures.value("geo", key, metric), limit, " s", other=best,
                        trouble=figures.trouble("geo", key)))
    rows.append(Row("  nothing known", "<= best other", figures.value("geo", "hawser-unknown", "cold_s"),
                    best[0] if best[0] is not None else None, " s", other=best,
                    trouble=figures.trouble("geo", "hawser-unknown")))
    return rows


def link_rows(figures):
    rows = []
    for profile, limit in (("branch", 90), ("intercontinental", 85), ("leo", 85)):
        for way in ("down", "up"):
            metric = way + "_pct"
            trouble = figures.trouble(profile, "hawser")
            ours = figures.value(profile, "hawser", metric)
            if ours is None and figures.runs(profile, "hawser") and not trouble:
                trouble = figures.runs(profile, "hawser")[0].get(way + "_note", "no figure")
            rows.append(Row(f"40 MB {way}, {profile}, of the payload rate", f">= {limit} %", ours, limit, " %", 1,
                            least=False, other=figures.best(profile, metric, least=False), trouble=trouble))
    return rows


def latency_rows(figures):
    rows = [Row("first byte of a new connection, geo, round trips", "<= 1.01",
                figures.value("first", "hawser", "round_trips"), 1.01, "", 3,
                other=figures.best("first", "round_trips"), trouble=figures.trouble("first", "hawser"))]
    for metric, text, limit in (("p50_us", "p50", 100), ("p99_us", "p99", 1000)):
        base = figures.best("latency", metric, keys=("direct-cubic", "direct-bbr"))[0]
        ours = figures.value("latency", "hawser", metric)
        best = figures.best("latency", metric, keys=[name for name in RIVAL_NAMES if not name.startswith("direct")])
        added = ours - base if ours is not None and base is not None else None
        other = (best[0] - base, best[1]) if best[0] is not None and base is not None else (None, "")
        rows.append(Row(f"added latency, plain veth, {text}", f"<= {limit} us", added, limit, " us", 0, other=other,
                        trouble=figures.trouble("latency", "hawser")))
    best = figures.best("echo", "p99_ms")
    rows.append(Row("4 KB echo beside 8 bulk transfers, vpn, p99", "<= 110 ms", figures.value("echo", "hawser", "p99_ms"),
                    110, " ms", 0, other=best, trouble=figures.trouble("echo", "hawser")))
    return rows


def cost_rows(figures):
    rows = []
    for metric, text in (("near_s", "near"), ("far_s", "far")):
        ours, theirs = figures.value("cpu", "hawser", metric), figures.value("cpu", "stunnel", metric)
        ratio = ours / theirs if ours is not None and theirs else None
        haproxy = figures.value("cpu", "haproxy", metric)
        other = (haproxy / theirs, "haproxy") if haproxy is not None and theirs else (None, "")
        rows.append(Row(f"CPU a GB at the {text} node, of stunnel's", "<= 0.8", ratio, 0.8, "", other=other,
                        trouble=figures.trouble("cpu", "hawser") or figures.trouble("cpu", "stunnel")))
    rows.append(Row("new sessions a second and core", ">= 10000", figures.value("sessions", "hawser", "a_core_second"),
                    10000, "", 0, least=False, other=figures.best("sessions", "a_core_second", least=False),
                    trouble=figures.trouble("sessions", "hawser")))
    for metric, text in (("near_kb", "near"), ("far_kb", "far")):
        count = figures.value("idle", "hawser", "at_once")
        rows.append(Row(f"memory an idle session at the {text} node, {int(count or 0)} at once", "<= 8 KB",
                        figures.value("idle", "hawser", metric), 8, " KB", other=figures.best("idle", metric),
                        trouble=figures.trouble("idle", "hawser")))
    return rows


def compress_rows(figures):
    rows = []
    for metric, text, limit in (("share_of_zstd", "text: bytes on the wire, of zstd -1 of the whole file", 1.02),
                                ("far_of_parts", "  CPU of the sending node, of zstd -1 and hawser without it", 1.1),
                                ("near_of_parts", "  CPU of the receiving node, likewise", 1.1)):
        rows.append(Row(text, f"<= {limit}", figures.value("compress", "hawser", metric), limit, "", 3,
                        trouble=figures.trouble("compress", "hawser")))
    return rows


def rows_of(document):
    figures = Figures(document["results"])
    rows = geo_rows(figures) + link_rows(figures) + latency_rows(figures) + cost_rows(figures) + compress_rows(figures)
    return [row for row in rows if row.measured]


HEADS = ("measure", "reach", "hawser", "best other", "verdict")


def table(document):
    """For a terminal."""
    lines = [HEADS] + [(row.measure, row.reach, row.hawser, row.other, row.verdict()) for row in rows_of(document)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS))]
    text = []
    for line in lines:
        text.append("  ".join(cell.ljust(width) if i in (0, 4) else cell.rjust(width)
                              for i, (cell, width) in enumerate(zip(line, widths))).rstrip())
    text.insert(1, "-" * len(text[0]))
    text += ["", *(f"{row.measure.strip()}: {row.trouble}" for row in rows_of(document) if row.trouble)]
    return "\n".join(text).rstrip()


# --- doc/BENCHMARKS.md ------------------------------------------------------------------------------


DETAILS = {
    "geo": ("20 MB over geo (600 ms, 50/5 Mbit/s, 0.5 % loss)",
            [("cold_s", "cold, s", 2), ("warm_s", "again after 5 s, s", 2), ("learned_s", "after a restart, s", 2),
             ("wan_down", "WAN down, of the file", 3), ("wan_up", "WAN up, of the file", 3)]),
    "first": ("First byte of a new connection over geo", [("median_ms", "median, ms", 0), ("round_trips", "round trips", 3)]),
    "branch": ("40 MB over branch (40 ms, 100/100 Mbit/s), % of the payload rate",
               [("down_pct", "down", 1), ("up_pct", "up", 1)]),
    "intercontinental": ("40 MB over intercontinental (180 ms, 100/100 Mbit/s, 0.1 % loss), % of the payload rate",
                         [("down_pct", "down", 1), ("up_pct", "up", 1)]),
    "leo": ("40 MB over leo (50 ms, 200/20 Mbit/s, 0.5 % loss, 10 ms jitter), % of the payload rate",
            [("down_pct", "down", 1), ("up_pct", "up", 1)]),
    "echo": ("4 KB echo beside 8 downloads on vpn (80 ms, 20/20 Mbit/s, 0.1 % loss)",
             [("p50_ms", "p50, ms", 0), ("p99_ms", "p99, ms", 0), ("link_pct", "link used, %", 0)]),
    "latency": ("1-byte ping-pong on plain veth", [("p50_us", "p50, us", 0), ("p99_us", "p99, us", 0),
                                                  ("p999_us", "p99.9, us", 0)]),
    "cpu": ("Incompressible bytes on plain veth, CPU seconds a GB",
            [("near_s", "near", 2), ("far_s", "far", 2), ("mbit_s", "Mbit/s", 0)]),
    "compress": ("Text on plain veth at level 1 (lines of a log), CPU seconds a GB; the far node sends",
                 [("far_s", "far", 2), ("near_s", "near", 2), ("share", "wire, of the file", 4),
                  ("plain_far_s", "far, uncompressed", 2), ("plain_near_s", "near, uncompressed", 2),
                  ("zstd_s", "zstd -1", 2), ("unzstd_s", "and back", 2), ("zstd_share", "its file", 4)]),
    "sessions": ("New connections, 200 bytes up, 2000 down, plain veth",
                 [("a_second", "a second", 0), ("a_core_second", "a second and core", 0), ("near_us", "CPU near, us", 0),
                  ("far_us", "CPU far, us", 0), ("connect_p99_us", "connect p99, us", 0)]),
    "idle": ("Idle connections, private memory of each",
             [("near_kb", "near, KB", 2), ("far_kb", "far, KB", 2), ("at_once", "at once", 0)]),
}


def detail(figures, workload):
    title, metrics = DETAILS[workload]
    keys = list(figures.results[workload])
    shown = [metric for metric in metrics if any(figures.value(workload, key, metric[0]) is not None for key in keys)]
    lines = [f"### {title}", "", "| | " + " | ".join(head for _, head, _ in shown) + " |",
             "|---|" + "---:|" * len(shown)]
    notes = []
    for key in keys:
        cells = []
        for metric, _, digits in shown:
            value = figures.value(workload, key, metric)
            cells.append(f"{value:.{digits}f}" if value is not None else "-")
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
        bad = [found for found in figures.runs(workload, key) if set(found) & {"error", "late", "down_note", "up_note"}]
        if bad:
            reasons = sorted({str(found[name]) for found in bad for name in ("error", "late", "down_note", "up_note")
                              if name in found})
            notes.append(f"- {key}: {len(bad)} of {len(figures.runs(workload, key))} runs gave no figure: "
                         + "; ".join(reasons))
    return lines + [""] + notes + ([""] if notes else [])


def page(document):
    """doc/BENCHMARKS.md"""
    info = document["about"]
    lines = ["# Benchmarks", "",
             "Drawn by `contrib/bench.py --write`; good or bad, as measured. Contenders take turns within a run, each on",
             "namespaces of its own with the same losses; figures are medians over the runs. The rivals' gateways run bbr with",
             "64 MB socket buffers, kcptun has windows of the link's bandwidth-delay product; hosts run cubic, but for",
             "`direct-bbr`. Delays and CPU on plain veth are the calmest of several sub-runs; they belong to this machine:",
             "compare within a table. kcptun ends a connection when one side has said its end (half-close).", "",
             f"{info['date']}, {info['cpu']}, {info['cores']} cores, {info['memory_gb']} GB, Linux {info['kernel']}, "
             f"{info['system']}" + (f", commit {info['commit']}" if info["commit"] else "") +
             f"; {info['runs']} run{'s' if info['runs'] > 1 else ''}{' (--quick)' if info['quick'] else ''}, "
             f"{info['minutes']:.0f} minutes.", ""]
    for part in document.get("renewed", []):
        what = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in part["only"].items())
        lines.append(f"- Measured anew {part['date']}, commit {part['commit'] or '-'}, {part['runs']} runs: {what}.")
    if document.get("renewed"):
        lines.append("")
    lines += ["## What must be reached", "",
             "| " + " | ".join(HEADS) + " |", "|---|---:|---:|---:|---|"]
    for row in rows_of(document):
        lines.append(f"| {row.measure.strip()} | {row.reach} | {row.hawser} | {row.other} | {row.verdict()} |")
    failed = [row for row in rows_of(document) if row.trouble]
    lines += ["", *(f"- {row.measure.strip()}: {row.trouble}" for row in failed), ""] if failed else [""]
    lines += ["## Every contender", ""]
    figures = Figures(document["results"])
    for workload in document["results"]:
        lines += detail(figures, workload)
    return "\n".join(lines).rstrip() + "\n"


# --- the section of contrib/bench_wanem.py ----------------------------------------------------------

EMULATOR_HEADING = "## The emulator"


def _without_emulator(text):
    """(text, section): the section is the last of the page, "" if there is none."""
    before, found, rest = text.partition("\n" + EMULATOR_HEADING + "\n")
    return before.rstrip("\n") + "\n", EMULATOR_HEADING + "\n" + rest if found else ""


def _store(path, text, section):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + ("\n" + section if section else ""))


def replace_page(path, text):
    """Everything but the emulator's section."""
    section = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            section = _without_emulator(file.read())[1]
    _store(path, text, section)


def replace_emulator(path, section):
    with open(path, encoding="utf-8") as file:
        _store(path, _without_emulator(file.read())[0], section)
