"""Charts of hawser-bench's tables, drawn by gnuplot: one file a table, bars for each contender."""

import os
import re
import shutil
import subprocess

from bench_cell import MB, median

TERMINALS = {"svg": 'svg size 900,{height} font "sans,13" background "white"', "png": 'pngcairo size 900,{height} font "sans,11"'}


def why_not():
    """The reason why nothing can be drawn, or None."""
    if shutil.which("gnuplot"):
        return None
    return "--plot draws with gnuplot: install it (contrib/deps.sh --bench, or apt-get install gnuplot-nox)"


def size_text(about):
    """", 20 MB" behind a table's title, or ", 3000" of connections."""
    if not about["size"]:
        return ""
    return f", {about['size']}" if about["counted"] else f", {about['size'] / MB:g} MB"


def _quoted(text):
    return '"' + re.sub(r'["\\]', "'", text) + '"'


def _value(runs, metric):
    values = [found[metric] for found in runs if metric in found]
    return median(values) if values and len(values) == len(runs) else None


def script(about, results, target, kind):
    """What gnuplot is told, or None if no figure of the chart was measured."""
    heads = {metric: head for metric, head, _ in about["figures"]}
    metrics = [metric for metric in about["chart"] if any(_value(runs, metric) is not None for runs in results.values())]
    if not metrics:
        return None
    height = 160 + 22 * len(results) * len(metrics)
    lines = [f"set terminal {TERMINALS[kind].format(height=height)}", f"set output {_quoted(target)}",
             f"set title {_quoted(about['title'] + size_text(about))} noenhanced", "set style fill solid 0.8 noborder", "set grid xtics",
             "set xrange [0:*]", "set key outside bottom horizontal noenhanced", "set bmargin 6", "set rmargin 9", "unset border",
             f"set yrange [{len(results) - 0.4}:-0.6]", "set tics noenhanced",
             "set ytics (" + ", ".join(f"{_quoted(key)} {i}" for i, key in enumerate(results)) + ") scale 0",
             f"set lmargin {2 + max(len(key) for key in results)}"]
    bar, plots = 0.8 / len(metrics), []
    for number, metric in enumerate(metrics):
        lines.append(f"$d{number} << END")
        for place, runs in enumerate(results.values()):
            value = _value(runs, metric)
            if value is not None:
                low = place - 0.4 + number * bar
                lines.append(f"{value / 2:.6g} {low + bar / 2:.4f} {value / 2:.6g} {bar / 2 * 0.92:.4f} {value:.4g}")
        lines.append("END")
        plots.append(f"$d{number} using 1:2:3:4 with boxxyerror lc {number + 1} title {_quoted(heads[metric])}, "
                     f"$d{number} using ($1 + $3):2:5 with labels left offset 0.5,0 notitle")
    lines.append("plot " + ", ".join(plots))
    return "\n".join(lines) + "\n"


def draw(document, folder, kind):
    """Paths of the charts, one of each table that has something to draw."""
    os.makedirs(folder, exist_ok=True)
    paths = []
    for name, results in document["results"].items():
        target = os.path.join(folder, re.sub(r"[^\w.-]+", "-", name) + "." + kind)
        text = script(document["tables"][name], results, target, kind)
        if text:
            subprocess.run(["gnuplot", "-"], input=text, text=True, check=True)
            paths.append(target)
    return paths
