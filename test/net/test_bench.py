#!/usr/bin/env python3
"""contrib/hawser-bench: a cell and its figures, and that wrong bytes, a contender that ends and wrong words are told."""

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import bed

BENCH = os.path.join(bed.SOURCE, "contrib", "hawser-bench")

# Carries bytes as they are; at the near gateway the 5000th that comes back is another.
RELAY = """
import os, socket, sys, threading

def carry(source, target, spoil):
    seen = 0
    while piece := source.recv(65536):
        if spoil and seen <= 5000 < seen + len(piece):
            piece = bytearray(piece)
            piece[5000 - seen] ^= 1
        seen += len(piece)
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)

def serve(port):
    listener = socket.create_server((os.environ["LISTEN"], port))
    while True:
        client = listener.accept()[0]
        server = socket.create_connection((os.environ["NEXT"], port))
        spoil = len(sys.argv) > 1 and os.environ["SIDE"] == "near"
        for pair in ((client, server, False), (server, client, spoil)):
            threading.Thread(target=carry, args=pair, daemon=True).start()

threads = [threading.Thread(target=serve, args=(int(port),)) for port in os.environ["PORTS"].split()]
for thread in threads:
    thread.start()
"""


def bench(*words):
    return subprocess.run([sys.executable, BENCH, *words], capture_output=True, text=True, timeout=100, check=False)


def test_cell_and_its_figures():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "found.json")
        done = bench("--profile", "lan", "--workload", "same-again", "--size", "4M", "--runs", "2", "--json", path)
        assert done.returncode == 0, done.stdout + done.stderr
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        (name, rows), = document["results"].items()
        assert name == "same-again over lan" and len(rows["hawser"]) == 2, rows
        for found in rows["hawser"]:
            assert found["kb"] > 4000 > 40 > found["again_kb"] > 0, found
            assert found["s"] > 0 and found["again_s"] > 0 and found["near_peak_mb"] > 1 and found["far_peak_mb"] > 1, found
        again = bench("--from", path)
        assert again.returncode == 0, again.stderr


def test_added_contender_carries_and_wrong_bytes_fail():
    with tempfile.TemporaryDirectory() as folder:
        relay = os.path.join(folder, "relay.py")
        with open(relay, "w", encoding="ascii") as file:
            file.write(RELAY)
        command = f"exec {sys.executable} {relay}"
        path = os.path.join(folder, "found.json")
        done = bench("--profile", "veth", "--workload", "cold", "--size", "1M", "--runs", "1", "--contender", f"fair={command}",
                     "--contender", f"spoils={command} spoil", "--contender", "ends=echo I give up; exit 3", "--json", path)
        assert done.returncode == 1, done.stdout + done.stderr
        with open(path, encoding="utf-8") as file:
            rows = next(iter(json.load(file)["results"].values()))
        assert rows["fair"][0]["s"] > 0, rows["fair"]
        assert "came with other bytes" in rows["spoils"][0]["error"], rows["spoils"]
        assert "ended with 3" in rows["ends"][0]["error"] and "I give up" in rows["ends"][0]["error"], rows["ends"]
        assert "spoils, run 1" in done.stderr and "fair" not in done.stderr, done.stderr


def test_wrong_words_say_what_to_do():
    for words, wanted in ((("--size", "1M"), "--workload"), (("--workload", "cold", "--size", "0"), "is no size"),
                          (("--contender", "nobody"), "add NAME=COMMAND"), (("--contender", "hawser=true"), "another name"),
                          (("--workload", "cold", "--profile", "moon"), "etc/wanem"),
                          (("--workload", "cold", "--concurrency", "5"), "short"),
                          (("--workload", "cold", "--table", "geo"), "leave out"),
                          (("--workload", "ping-pong", "--size", "1M"), "of its own"),
                          (("--workload", "learned", "--contender", "haproxy"), "hawser only"),
                          (("--table", "geo", "--write"), "--from FILE"),
                          (("--workload", "cold", "--contender", "a/b=true"), "letters, digits"),
                          (("--workload", "cold", "--json", "/nowhere/x.json"), "cannot write /nowhere/x.json: No such"),
                          (("--workload", "cold", "--plot", "/proc/charts"), "cannot write /proc/charts")):
        done = bench(*words)
        assert done.returncode == 2 and wanted in done.stderr, (words, done.returncode, done.stderr)
    with tempfile.TemporaryDirectory() as folder:
        other = os.path.join(folder, "other.json")
        for text, wanted in (("", "is not what --json wrote"), ("{}", "is not what --json wrote"), ("[]", "is not what --json"),
                             ("root:x:0", "is not what --json wrote"),
                             ('{"results": {"cold over lan": {}}, "tables": {}}', "is of one cell")):
            with open(other, "w", encoding="ascii") as file:
                file.write(text)
            done = bench("--from", other, "--write")
            assert done.returncode == 1 and wanted in done.stderr, (text, done.stderr)
    done = bench("--from", "/nowhere")
    assert done.returncode == 1 and "cannot read /nowhere: No such" in done.stderr, done.stderr
    done = bench("--list")
    assert done.returncode == 0 and "same-again" in done.stdout and "kcptun" in done.stdout, done.stdout


def test_what_was_measured_outlives_an_interrupt():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "found.json")
        process = subprocess.Popen([sys.executable, BENCH, "--profile", "veth", "--workload", "cold", "--size", "1M", "--runs",
                                    "1000", "--json", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2):
            assert " run " in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 130, process.returncode
        assert os.listdir(folder) == ["found.json"], os.listdir(folder)
        done = bench("--from", path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_cpu_is_said_where_a_clock_tick_is_little():
    for size, said in (("1M", False), ("10M", True)):
        done = bench("--profile", "veth", "--workload", "cold", "--size", size, "--runs", "1")
        assert done.returncode == 0 and ("CPU near" in done.stdout) == said, done.stdout + done.stderr


def test_a_contender_without_processes_is_not_throttled():
    done = bench("--profile", "veth", "--workload", "cold", "--size", "1M", "--runs", "1", "--cpu", "50", "--contender",
                 "direct-cubic")
    assert done.returncode == 1 and ("no process at the near node" in done.stderr or "cpu controller" in done.stderr), done.stderr


def test_charts_are_drawn():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "found.json")
        about = {"title": 'A "title"', "command": "--table x", "size": 1 << 20, "counted": False, "chart": ["s", "kb"],
                 "figures": [["s", "first, s", 2], ["kb", "KB", 0]]}
        rows = {"one": [{"s": 1.5, "kb": 3}, {"s": 2.5, "kb": 4}], "two": [{"error": "lost"}]}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"results": {"x": rows}, "tables": {"x": about}}, file)
        done = bench("--from", path, "--plot", folder)
        if done.returncode == 2:
            assert "gnuplot-nox" in done.stderr, done.stderr  # it is not installed, and the user knows what to do
            return
        assert done.returncode == 1 and "x, two, run 1: lost" in done.stderr, done.stdout + done.stderr
        text = "".join(xml.etree.ElementTree.parse(os.path.join(folder, "x.svg")).getroot().itertext())
        assert "one" in text and "first, s" in text, text


if __name__ == "__main__":
    bed.main(globals())
