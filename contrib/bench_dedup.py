#!/usr/bin/env python3
"""What a second transfer costs with hawser's store, beside what else saves a second transfer.

    contrib/bench_dedup.py                  all corpora, some minutes; a table
    contrib/bench_dedup.py --write          also into doc/BENCHMARKS.md, as its section "Data reduction"
    contrib/bench_dedup.py --only json      one corpus

Each corpus is two files: one that is sent, and sent again, and another release of it that is sent then. hawser's figures
are those of hawser-estimate (built in $HAWSER_BUILD or build/), which runs the sending node's own code. Needs no root, but
zstd, casync and borgbackup; source trees and disk images are made from Debian packages by bench_corpora.py."""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "test", "net"))
import bed  # noqa: E402
import bench_corpora  # noqa: E402
import bench_report  # noqa: E402
from bench_contenders import Missing, need  # noqa: E402

REPORT = os.path.join(HERE, "..", "doc", "BENCHMARKS.md")
ESTIMATE = bed.program("hawser-estimate")
MB = 1 << 20
BINARIES = ("git", "gdb")
STEPS = ("first", "again", "next")


# --- corpora: (first, next) in a folder --------------------------------------------------------------


def source(_):
    return bench_corpora.release(0), bench_corpora.release(1)


def image(_):
    return bench_corpora.disk_image(0), bench_corpora.disk_image(1)


def edited(folder, first):
    """A byte in front, and 100 single bytes changed."""
    moved, second = os.path.join(folder, "moved"), os.path.join(folder, "next")
    bench_corpora.shifted(first, moved)
    bench_corpora.edited(moved, second, 100, seed=2)
    os.unlink(moved)
    return first, second


def binaries(folder):
    first = os.path.join(folder, "first")
    with open(first, "wb") as out:
        for name in BINARIES:
            subprocess.run(["apt-get", "download", name], cwd=folder, check=True, capture_output=True)
            (package,) = (path for path in os.listdir(folder) if path.endswith(".deb"))
            tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", os.path.join(folder, package)], check=True, capture_output=True)
            out.write(tar.stdout)
            os.unlink(os.path.join(folder, package))
    return edited(folder, first)


def json_logs(folder):
    """50 MB of records; then the log as it is later: a tenth went, a tenth is new."""
    paths = [os.path.join(folder, name) for name in ("first", "next")]
    rng, lines, size, at = random.Random(3), [], 0, 0
    while size < 55 * MB:
        at += rng.randrange(2000)
        line = json.dumps({"time": f"2026-03-{1 + at // 86400000:02}T{at // 3600000 % 24:02}:{at // 60000 % 60:02}:{at // 1000 % 60:02}",
                           "host": f"web{rng.randrange(12)}", "status": rng.choice([200, 200, 200, 304, 404, 500]),
                           "path": f"/{rng.choice(['item', 'user', 'cart'])}/{rng.randrange(50000)}", "bytes": rng.randrange(90000),
                           "request": f"{rng.getrandbits(64):016x}"}) + "\n"
        lines.append(line)
        size += len(line)
    tenth = len(lines) // 11
    for path, part in zip(paths, (lines[:-tenth], lines[tenth:])):
        with open(path, "w", encoding="ascii") as file:
            file.writelines(part)
    return paths


def archives(folder):
    """The files of fs/ as a zip; then zipped again after every 50th was changed."""
    paths = [os.path.join(folder, name) for name in ("first", "next")]
    with tarfile.open(bench_corpora.release(0)) as tree:
        files = [(member.name, tree.extractfile(member).read()) for member in tree
                 if member.isfile() and member.name.startswith("linux/fs/")]
    for turn, path in enumerate(paths):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for number, (name, content) in enumerate(files):
                changed = content + b"/* another line */\n" if turn == 1 and number % 50 == 0 else content
                out.writestr(zipfile.ZipInfo(name), changed, zipfile.ZIP_DEFLATED)
    return paths


def noise(folder):
    first = os.path.join(folder, "first")
    with open(first, "wb") as file:
        rng = random.Random(4)
        for _ in range(50):
            file.write(rng.randbytes(MB))
    return edited(folder, first)


CORPORA = {
    "source": ("source tree, next release", source),
    "image": ("disk image (ext4), every 20th file changed", image),
    "binaries": ("binaries, a byte in front and 100 changed", binaries),
    "json": ("JSON logs, a tenth later", json_logs),
    "zip": ("zip of sources, every 50th changed", archives),
    "random": ("random, a byte in front and 100 changed", noise),
}


# --- contenders: bytes of (first, again, next) -------------------------------------------------------


def hawser(folder, first, second):
    links = [os.path.join(folder, f"x.{step}") for step in STEPS]
    for link, target in zip(links, (first, first, second)):
        os.symlink(target, link)
    done = subprocess.run([ESTIMATE, "--json", "--store", "2G", *links], check=True, capture_output=True, text=True)
    rows = {row["type"]: row["cold"]["wire_bytes"] for row in json.loads(done.stdout)["types"]}
    return [rows[step] for step in STEPS]


def zstd(*options):
    """One stream that goes on: what it becomes longer by."""
    def measure(_, first, second):
        sizes = [0]
        for count in range(1, 4):
            cat = subprocess.Popen(["cat", *(first, first, second)[:count]], stdout=subprocess.PIPE)
            packer = subprocess.Popen(["zstd", "-q", "-c", *options], stdin=cat.stdout, stdout=subprocess.PIPE)
            cat.stdout.close()
            sizes.append(sum(len(part) for part in iter(lambda out=packer.stdout: out.read(MB), b"")))
            assert packer.wait() == 0 and cat.wait() == 0
        return [after - before for before, after in zip(sizes, sizes[1:])]
    return measure


def used(folder):
    return sum(os.path.getsize(os.path.join(here, name)) for here, _, names in os.walk(folder) for name in names)


def casync(folder, first, second):
    """Chunks that the store did not have, and the index."""
    store, sizes, before = os.path.join(folder, "store.castr"), [], 0
    for number, path in enumerate((first, first, second)):
        index = os.path.join(folder, f"{number}.caibx")
        subprocess.run(["casync", "make", f"--store={store}", "--compression=zstd", index, path], check=True, capture_output=True)
        sizes.append(used(store) - before + os.path.getsize(index))
        before = used(store)
    return sizes


def borg(folder, first, second):
    """What the repository grows by."""
    repository, sizes = os.path.join(folder, "repository"), []
    env = {**os.environ, "BORG_BASE_DIR": os.path.join(folder, "borg")}
    subprocess.run(["borg", "init", "-e", "none", repository], check=True, capture_output=True, env=env)
    before = used(repository)
    for number, path in enumerate((first, first, second)):
        with open(path, "rb") as file:
            subprocess.run(["borg", "create", "-C", "zstd,1", f"{repository}::{number}", "-"], stdin=file, check=True,
                           capture_output=True, env=env)
        sizes.append(used(repository) - before)
        before = used(repository)
    return sizes


CONTENDERS = {"hawser": hawser, "zstd -1": zstd("-1"), "zstd -1 --long=27": zstd("-1", "--long=27"), "casync": casync, "borg": borg}


# --- the table --------------------------------------------------------------------------------------


def megabytes(count):
    return f"{count / 1e6:.1f}" if count >= 1e7 else f"{count / 1e6:.2f}" if count >= 1e5 else f"{count / 1e6:.4f}"


def measure_corpus(name):
    """[(corpus, step, size, {contender: bytes})]"""
    title, make = CORPORA[name]
    with tempfile.TemporaryDirectory(prefix="bench-dedup-") as folder:
        first, second = make(folder)
        found = {}
        for contender, measure in CONTENDERS.items():
            work = os.path.join(folder, "work")
            os.mkdir(work)
            found[contender] = measure(work, first, second)
            shutil.rmtree(work)
            print(f"{name:10} {contender:18} " + "  ".join(f"{step} {megabytes(size)} MB" for step, size in
                                                           zip(STEPS, found[contender])), flush=True)
        sizes = [os.path.getsize(path) for path in (first, first, second)]
    return [(title, step, sizes[at], {contender: found[contender][at] for contender in CONTENDERS})
            for at, step in enumerate(STEPS)]


def render(rows):
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    versions = [subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0].strip("* ")
                for program in ("zstd", "casync", "borg")]
    text = [bench_report.REDUCTION_HEADING, "",
            "Drawn by `contrib/bench_dedup.py --write`: MB (10^6 bytes) that a file costs the first time, at once again, and as its",
            "next release after that. hawser is what hawser-estimate says: on the link, with TLS, zstd at level 1, a store of 2 GB.",
            "zstd is one stream that goes on: --long=27 looks back 128 MB, less than the first two corpora are long. casync and borg",
            "(zstd as well) are what their store grows by, with the index: they cut content into chunks of about 64 KB and 2 MB, and",
            "are made for files at rest. No headers of TCP and IP.",
            f"{now}, commit {commit.stdout.strip() or 'unknown'}; {'; '.join(versions)}.", ""]
    sources = sorted(bench_corpora.used.items())
    text += [*(f"- {name}: {where}" for name, where in sources), ""] if sources else []
    text += ["| corpus | | MB | " + " | ".join(CONTENDERS) + " |", "|---|---|---:|" + "---:|" * len(CONTENDERS)]
    for title, step, size, found in rows:
        text.append(f"| {title if step == 'first' else ''} | {step} | {megabytes(size)} | " +
                    " | ".join(megabytes(found[name]) for name in CONTENDERS) + " |")
    return "\n".join(text) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="contrib/bench_dedup.py", description="Compares what a second transfer costs.")
    parser.add_argument("--only", choices=CORPORA, help="one corpus")
    parser.add_argument("--write", action="store_true", help="into doc/BENCHMARKS.md too (all corpora only)")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write takes all corpora")
    if not os.path.exists(ESTIMATE):
        sys.exit(f"bench_dedup: {ESTIMATE} is missing: build it, or set HAWSER_BUILD")
    try:
        need("zstd", "casync", "borg", "apt-get", "dpkg-deb")
        rows = [row for name in CORPORA if options.only in (None, name) for row in measure_corpus(name)]
    except Missing as missing:
        sys.exit(f"bench_dedup: {missing}; contrib/deps.sh --bench installs what is needed")
    section = render(rows)
    if options.write:
        bench_report.replace_section(REPORT, section)
    else:
        print("\n" + section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
