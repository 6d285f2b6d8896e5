"""How hawser-bench tells its figures: the table of what must be reached, and doc/BENCHMARKS.md."""

import os
import platform
import subprocess
import time

import bed
from bench_cell import MB, median
from bench_plot import size_text
from bench_tables import RIVAL_NAMES


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

    def ratio(self, workload, key, metric, other, other_metric=None):
        """The median of key's figure over other's of the same run. None: not both in every run."""
        pairs = list(zip(self.runs(workload, key), self.runs(workload, other)))
        other_metric = other_metric or metric
        values = [ours[metric] / theirs[other_metric] for ours, theirs in pairs
                  if metric in ours and theirs.get(other_metric)]
        return median(values) if values and len(values) == len(pairs) else None

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
    best = figures.best("geo", "s")
    rows = []
    for text, key, metric, limit in (
            ("20 MB, geo, rate configured, lanes never used", "hawser", "s", 5.5),
            ("  rate set to half the truth", "hawser-half", "s", 9),
            ("  rate set to twice the truth", "hawser-double", "s", 8),
            ("  rate learned from an earlier transfer", "hawser-unknown", "learned_s", 6.5),
            ("  again after 5 s idle (warm)", "hawser", "warm_s", 4.9)):
        rows.append(Row(text, f"<= {limit} s", figures.value("geo", key, metric), limit, " s", other=best,
                        trouble=figures.trouble("geo", key)))
    rows.append(Row("  nothing known", "<= best other", figures.value("geo", "hawser-unknown", "s"), best[0], " s",
                    other=best, trouble=figures.trouble("geo", "hawser-unknown")))
    return rows


def known_rows(figures, sizes):
    rows = []

    def add(table, text, metric, limit, unit, digits):
        rows.append(Row(text, f"<= {limit}{unit}", figures.value(table, "hawser", metric), limit, unit, digits,
                        other=figures.best(table, metric), trouble=figures.trouble(table, "hawser")))
    size = f"{sizes.get('known', 0) // MB} MB"
    add("known", f"the same {size} again, geo, on the WAN both ways", "again_kb", 10, " KB", 1)
    add("known", "  again, seconds", "again_s", 1.5, " s", 2)
    add("known", "  with 100 one-byte edits, on the WAN", "edited_kb", 100, " KB", 1)
    add("known", "  sent back, on the WAN", "upload_kb", 10, " KB", 1)
    add("known", "  sent back, seconds", "upload_s", 1.5, " s", 2)
    size = f"{sizes.get('interleaved', 0) // MB} MB"
    add("interleaved", f"the same {size} again, stored over 100 connections, on the WAN", "again_kb", 30, " KB", 1)
    for way, text in (("stop", "both nodes stopped"), ("near", "kill -9 of the near node"), ("far", "kill -9 of the far node"),
                      ("both", "kill -9 of both nodes")):
        rows.append(Row(f"known after a restart: {text}", ">= 95 %", figures.value("restart", "hawser", way + "_pct"), 95, " %", 2,
                        least=False, trouble=figures.trouble("restart", "hawser")))
    value, best = figures.value("release", "hawser", "next_share"), figures.best("release", "next_share")
    rows.append(Row("next release of a source tree, on the WAN, of its bytes", "<= 1 %",
                    None if value is None else 100 * value, 1, " %", 3,
                    other=(None if best[0] is None else 100 * best[0], best[1]), trouble=figures.trouble("release", "hawser")))
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
    trouble = figures.trouble("cpu", "hawser")
    for metric, text, rival, limit in (
            ("near_cpu", "CPU a GB at the near node, new bytes, of stunnel's", "stunnel", 0.9),
            ("far_cpu", "CPU a GB at the far node, new bytes, of stunnel's", "stunnel", 0.9),
            ("hit_near_cpu", "CPU a GB at the near node, known bytes, of haproxy's", "haproxy", 1.1),
            ("hit_far_cpu", "CPU a GB at the far node, known bytes, of haproxy's", "haproxy", 1.1)):
        other = (figures.ratio("cpu", "haproxy", metric, rival), "haproxy") if rival != "haproxy" else (None, "")
        rows.append(Row(text, f"<= {limit}", figures.ratio("cpu", "hawser", metric, rival), limit, "", other=other,
                        trouble=trouble or figures.trouble("cpu", rival)))
    rows.append(Row("incompressible bytes, expansion on the lanes", "<= 0.5 %", figures.value("cpu", "hawser", "expansion_pct"),
                    0.5, " %", 3, trouble=trouble))
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
    sizes = {name: about["size"] for name, about in document["tables"].items()}
    rows = (geo_rows(figures) + link_rows(figures) + known_rows(figures, sizes) + latency_rows(figures) + cost_rows(figures)
            + compress_rows(figures))
    return [row for row in rows if row.measured]


def _troubles(document):
    """What went wrong, once for all measures that it spoilt."""
    spoilt = {}
    for row in rows_of(document):
        if row.trouble:
            spoilt.setdefault(row.trouble, []).append(row.measure.strip())
    return [f"{trouble} ({'; '.join(measures)})" for trouble, measures in spoilt.items()]


HEADS = ("measure", "reach", "hawser", "best other", "verdict")


def table(document):
    """For a terminal. "" if nothing of it was measured."""
    if not rows_of(document):
        return ""
    lines = [HEADS] + [(row.measure, row.reach, row.hawser, row.other, row.verdict()) for row in rows_of(document)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADS))]
    text = []
    for line in lines:
        text.append("  ".join(cell.ljust(width) if i in (0, 4) else cell.rjust(width)
                              for i, (cell, width) in enumerate(zip(line, widths))).rstrip())
    text.insert(1, "-" * len(text[0]))
    text += ["", *_troubles(document)]
    return "\n".join(text).rstrip()


# --- doc/BENCHMARKS.md ------------------------------------------------------------------------------


def detail(document, name):
    """The lines of one table."""
    figures, about, results = Figures(document["results"]), document["tables"][name], document["results"][name]
    shown = [metric for metric in about["figures"] if any(figures.value(name, key, metric[0]) is not None for key in results)]
    lines = [f"### {about['title']}{size_text(about)}", "", f"`{about['command']}`", ""]
    notes = []
    if shown:
        lines += ["| | " + " | ".join(head for _, head, _ in shown) + " |", "|---|" + "---:|" * len(shown)]
    for key, runs in results.items():
        cells = []
        for metric, _, digits in shown:
            value = figures.value(name, key, metric)
            cells.append(f"{value:.{digits}f}" if value is not None else "-")
        if shown:
            lines.append(f"| {key} | " + " | ".join(cells) + " |")
        bad = [found for found in runs if set(found) & set(REASONS)]
        if bad:
            reasons = sorted({str(found[reason]) for found in bad for reason in REASONS if reason in found})
            notes.append(f"- {key}: {len(bad)} of {len(runs)} runs gave no figure, or not all: " + "; ".join(reasons))
    return lines + [""] + notes + ([""] if notes else [])


REASONS = ("error", "late", "down_note", "up_note")


def details(document):
    lines = []
    for name in document["results"]:
        lines += detail(document, name)
    return lines


def failures(document):
    """Runs in which something went wrong; one that was merely stopped for being slow did not, unless it is hawser's."""
    return [f"{name}, {key}, run {number}: {found.get('error') or found.get('late')}"
            for name, rows in document["results"].items() for key, runs in rows.items()
            for number, found in enumerate(runs, 1)
            if "error" in found or ("late" in found and key.startswith("hawser"))]


def page(document):
    """doc/BENCHMARKS.md"""
    info = document["about"]
    lines = ["# Benchmarks", "",
             "Drawn by `contrib/hawser-bench --write`; good or bad, as measured. Contenders take turns within a run, each on",
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
    lines += ["", *(f"- {line}" for line in _troubles(document)), ""]
    if document.get("corpora"):
        lines += ["Corpora from packages:", "", *(f"- {name}: {text}" for name, text in sorted(document["corpora"].items())), ""]
    lines += ["## Every contender", "",
              "The floor of a transfer is the round trip and its bytes over the link's rate. WAN figures are the emulator's:",
              "whole packets, both ways, until the last acknowledgement. KB are 1000 bytes, MB and GB powers of two. CPU is",
              "that of all of a contender's processes at a gateway; memory is the sum of their peaks.", ""]
    return "\n".join(lines + details(document)).rstrip() + "\n"


# --- the sections of other programs, at the end of the page ------------------------------------------

REDUCTION_HEADING = "## Data reduction"  # contrib/bench_dedup.py
EMULATOR_HEADING = "## The emulator"  # contrib/bench_wanem.py
FAULTS_HEADING = "## Faults"  # by hand, from test/net/test_kills.py
HEADINGS = (REDUCTION_HEADING, EMULATOR_HEADING, FAULTS_HEADING)


def _split(text):
    """(page, {heading: section}) of a page whose sections of others come last."""
    sections = {}
    for heading in reversed(HEADINGS):
        before, found, rest = ("\n" + text).partition("\n" + heading + "\n")
        if found:
            text, sections[heading] = before[1:], heading + "\n" + rest
    return text, sections


def _store(path, text, sections):
    parts = [text, *(sections[heading] for heading in HEADINGS if heading in sections)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(part.rstrip("\n") + "\n" for part in parts))


def _read(path):
    if not os.path.exists(path):
        return "", {}
    with open(path, encoding="utf-8") as file:
        return _split(file.read())


def replace_page(path, text):
    """Everything but the sections of other programs."""
    _store(path, text, _read(path)[1])


def replace_section(path, section):
    """One of those sections, which begins with its heading."""
    text, sections = _read(path)
    sections[section.partition("\n")[0]] = section
    _store(path, text, sections)
