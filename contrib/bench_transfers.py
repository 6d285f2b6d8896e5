"""Workloads of hawser-bench that move files: new bytes, known bytes, source trees, images, pages. Each is a function of a
Setting that gives {metric: value}; each transfer's checksum is compared."""

import os
import signal
import subprocess
import time

import bed
import bench_corpora
from bench_cell import MB, SIDES, OutOfTime, load_result, seed_of, test_program
from bench_contenders import Hawser

ENDS = {"stop": {}, "near": {"sides": ("near",), "number": signal.SIGKILL},
        "far": {"sides": ("far",), "number": signal.SIGKILL}, "both": {"number": signal.SIGKILL}}
EDITS = 100
PIECES = 100
PAGE_OBJECTS = 100


def _text(folder, name, size, seed):
    path = os.path.join(folder, name)
    bed.make_text_file(path, size, seed)
    return path


def cold(setting):
    """Bytes that nobody has seen, on a link that is up and was never used."""
    with setting.cell() as cell:
        cell.web.file("blob", setting.size, seed=seed_of(setting.run, 0))
        found = cell.fetch("blob")
        cell.contender.check()
        return found


def cold_warm(setting):
    """As cold; then others after five idle seconds."""
    with setting.cell() as cell:
        for number, name in enumerate(("blob", "other")):
            cell.web.file(name, setting.size, seed=seed_of(setting.run, number))
        found = cell.fetch("blob")
        time.sleep(5)  # the idle time is the condition that is measured
        found |= cell.fetch("other", "warm_")
        cell.contender.check()
        return found


def learned(setting):
    """hawser with nothing known; then both daemons anew with the store they had."""
    with setting.cell(rate=None, store=True) as cell:
        for number, name in enumerate(("blob", "other")):
            cell.web.file(name, setting.size, seed=seed_of(setting.run, number))
        found = cell.fetch("blob")
        cell.contender.check()
        cell.restart()
        found |= cell.fetch("other", "learned_")
        cell.contender.check()
        return found


def restarted(setting):
    """New bytes; nodes with a store on disk end and start again, and 2 s after they were told to end, or when all lanes are up
    if that is later, the same again: the share of the bytes that did not cross. Others for each way to end."""
    found = {}
    with setting.cell(store=True) as cell:
        for number, (way, how) in enumerate(ENDS.items()):
            name = f"blob-{number}"
            cell.web.file(name, setting.size, seed=seed_of(setting.run, number))
            cell.fetch(name)
            begun = time.monotonic()
            cell.restart(**how)
            time.sleep(max(0, begun + 2 - time.monotonic()))  # the time that the store has is the condition
            again = cell.fetch(name)
            found |= {f"{way}_pct": 100 * max(0, 1 - again["share"]), f"{way}_s": again["s"]}
            cell.contender.check()
    return found


def both_ways(setting):
    """Down, and up on another bed: a transfer that is too slow in one way still gives the other. Nobody is waited for
    who takes five times what the link needs."""
    found, link = {}, setting.link
    for way, bps in (("down", link and link.down_bps), ("up", link and link.up_bps)):
        limit = round(min(setting.limit_s, max(5, 5 * setting.size * 8 / bps))) if bps else None
        with setting.cell() as cell:
            path = cell.web.file("blob", setting.size, seed=seed_of(setting.run, 0))
            try:
                found |= cell.fetch("blob", "down_", limit) if way == "down" else cell.put(path, "upload", "up_", limit)
            except OutOfTime as late:
                found[way + "_note"] = str(late)
                continue
            cell.contender.check()
    return found


def text(setting):
    """Lines of a log that nobody has seen."""
    with setting.cell() as cell:
        _text(cell.web.root, "text", setting.size, seed_of(setting.run, 0))
        found = cell.fetch("text")
        cell.contender.check()
        return found


# --- bytes that the peer has ------------------------------------------------------------------------


def _again(cell, path):
    return cell.fetch("blob", "again_")


def _edited(cell, path):
    bench_corpora.edited(path, os.path.join(cell.web.root, "edited"), EDITS, seed_of(cell.setting.run, 1))
    return cell.fetch("edited", "edited_")


def _shifted(cell, path):
    bench_corpora.shifted(path, os.path.join(cell.web.root, "shifted"))
    return cell.fetch("shifted", "shifted_")


def _uploaded(cell, path):
    return cell.put(path, "uploaded", "upload_")


def _known(*steps):
    def workload(setting):
        with setting.cell() as cell:
            path = cell.web.file("blob", setting.size, seed=seed_of(setting.run, 0))
            found = cell.fetch("blob")
            for step in steps:
                found |= step(cell, path)
            cell.contender.check()
            return found
    return workload


again = _known(_again)
edited = _known(_edited)
shifted = _known(_shifted)
uploaded = _known(_uploaded)
known = _known(_again, _edited, _shifted, _uploaded)


def interleaved(setting):
    """A file that first came in pieces over so many connections at once, and then again over one."""
    with setting.cell() as cell:
        path = cell.web.file("blob", setting.size, seed=seed_of(setting.run, 0))
        size, limit = os.path.getsize(path), setting.limit(setting.size, cell.link and cell.link.down_bps)
        bounds = [size * number // PIECES for number in range(PIECES + 1)]
        pieces = [os.path.join(cell.net.folder, f"piece-{number}") for number in range(PIECES)]

        def fetch_pieces():
            begun = time.monotonic()
            running = [cell.net.client.popen(["curl", "-sS", "--fail", "--max-time", str(round(limit)), "-o", piece, "-r",
                                              f"{bounds[number]}-{bounds[number + 1] - 1}", cell.contender.url("blob")])
                       for number, piece in enumerate(pieces)]
            for curl in running:
                if curl.wait(limit + 10) == 28:
                    raise OutOfTime(limit, sum(os.path.getsize(piece) for piece in pieces if os.path.exists(piece)))
                assert curl.returncode == 0, f"curl of a piece: exit {curl.returncode}"
            return time.monotonic() - begun
        found = cell.figures("", fetch_pieces, size)
        with open(path, "rb") as whole:
            for number, piece in enumerate(pieces):
                with open(piece, "rb") as file:
                    assert file.read() == whole.read(bounds[number + 1] - bounds[number]), f"piece {number} has other bytes"
                os.unlink(piece)
        found |= _again(cell, path)
        cell.contender.check()
        return found


def _next_of(corpus):
    def workload(setting):
        older, newer = corpus(0), corpus(1)
        with setting.cell() as cell:
            os.symlink(older, os.path.join(cell.web.root, "older"))
            os.symlink(newer, os.path.join(cell.web.root, "newer"))
            found = cell.fetch("older") | cell.fetch("newer", "next_")
            cell.contender.check()
            return found
    return workload


release = _next_of(bench_corpora.release)
image = _next_of(bench_corpora.disk_image)


# --- a page -----------------------------------------------------------------------------------------


def _fetch_page(cell, objects, connections, limit):
    """Seconds for all objects over so many connections that are kept open."""
    folder = os.path.join(cell.net.folder, f"page-{next(cell.net.numbers)}")
    os.mkdir(folder)
    lines = []
    for name, _ in objects:
        lines += [f'url = "{cell.contender.url(name)}"', f'output = "{folder}/{name}"']
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(connections)] if connections > 1 else []
    begun = time.monotonic()
    done = cell.net.client.run(["curl", "-sS", "--fail", "--max-time", str(round(limit)), *parallel, "-K", "-"],
                               input="\n".join(lines) + "\n", timeout=limit + 10, check=False)
    seconds = time.monotonic() - begun
    if done.returncode == 28:
        raise OutOfTime(limit, sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)))
    assert done.returncode == 0, f"curl: {done.returncode} {done.stderr.strip()}"
    for name, _ in objects:
        assert bed.sha256_of(os.path.join(folder, name)) == bed.sha256_of(os.path.join(cell.web.root, name)), \
            f"{name} came with other bytes"
    return seconds


def page(setting):
    """A page of 100 objects, over one connection and over six; then the same page again."""
    with setting.cell() as cell:
        found = {}
        for number, connections in enumerate((1, 6)):
            objects = bench_corpora.page(cell.web.root, PAGE_OBJECTS, seed_of(setting.run, 1000 * number))
            size = sum(length for _, length in objects)
            for prefix in (f"c{connections}_", f"again{connections}_"):
                found |= cell.figures(
                    prefix, lambda: _fetch_page(cell, objects, connections, max(120, setting.limit_s)), size)
        cell.contender.check()
        return found


# --- all at once ------------------------------------------------------------------------------------


def mixed(setting):
    """New bytes down and up, a file that was there before, text, questions and answers, and short connections, all at
    once; seconds until the last file is there."""
    limit = max(120, setting.limit_s)
    with setting.cell() as cell:
        cell.load_server()
        root = cell.web.root
        seeds = [seed_of(setting.run, number) for number in range(6)]
        cell.web.file("known", setting.size // 4, seed=seeds[0])
        cell.download("known", limit)
        cell.web.file("new", setting.size // 4, seed=seeds[1])
        _text(root, "text", setting.size // 4, seeds[2])
        mine = os.path.join(cell.net.folder, "mine")
        bed.make_file(mine, setting.size // 16, seed=seeds[3])
        names = ("known", "new", "text")
        size = sum(os.path.getsize(os.path.join(root, name)) for name in names) + os.path.getsize(mine)
        found = {}

        def run_all():
            begun = time.monotonic()
            curl = ["curl", "-sS", "--fail", "--max-time", str(limit)]
            running = [cell.net.client.popen(curl + ["-o", os.path.join(cell.net.folder, name), cell.contender.url(name)])
                       for name in names]
            running.append(cell.net.client.popen(curl + ["-H", "Expect:", "-T", mine, cell.contender.url("mine")]))
            loads = [cell.net.client.popen(cell.load_words([group], seed, more, limit), stdout=subprocess.PIPE, text=True)
                     for group, seed, more in (("echo:4,up=200,down=4096,rounds=60,every_ms=50", seeds[4], []),
                                               ("short:300", seeds[5], ["--rate", "60"]))]
            bed.wait_for(lambda: all(process.poll() is not None for process in running), limit + 10, "the files to be done")
            seconds = time.monotonic() - begun
            for kind, process in zip(("echo", "short"), loads):
                group = load_result(process.communicate(timeout=limit + 10)[0])["groups"][0]
                found[kind + "_p50_ms"], found[kind + "_p99_ms"] = (group["round"][part] / 1000 for part in ("p50_us", "p99_us"))
            for process in running:
                if process.returncode == 28:
                    raise OutOfTime(limit)
                assert process.returncode == 0, f"curl: exit {process.returncode}"
            return seconds
        found |= cell.figures("", run_all, size)
        for name in names:
            assert bed.sha256_of(os.path.join(cell.net.folder, name)) == bed.sha256_of(os.path.join(root, name)), \
                f"{name} came with other bytes"
        assert bed.sha256_of(os.path.join(root, "mine")) == bed.sha256_of(mine), "the upload arrived with other bytes"
        cell.contender.check()
        return found


# --- what it costs ----------------------------------------------------------------------------------

ROUNDS = 3


def _least(rounds):
    """Of several {metric: value}: what else the machine does only adds. User and system time are of the round whose sum
    is least, so that they are its parts."""
    least = {name: (max if name.endswith("mbit_s") else min)(found[name] for found in rounds) for name in rounds[0]}
    for name in [name for name in least if name.endswith("_cpu")]:
        calmest = min(rounds, key=lambda found, name=name: found[name])
        least |= {part: calmest[part] for part in (name[:-3] + "user", name[:-3] + "sys") if part in calmest}
    return least


def cpu(setting):
    """The calmest of three transfers of new bytes, and of three of the last of them again. expansion: what the lanes gave
    to TCP, over what went through, less one (hawser). hawser's store is full before it begins, as it is in all but its
    first hours: what memory costs that nobody has touched before is the machine's affair."""
    store = max(2 * setting.size, 64 * MB)  # the least that hawserd takes
    with setting.cell(**({"memory": f"{2 * store >> 20}M"} if issubclass(setting.kind, Hawser) else {})) as cell:
        cell.web.file("warm", store + store // 4 if issubclass(setting.kind, Hawser) else 8 * MB, seed=seed_of(setting.run, 0))
        cell.fetch("warm")
        wire = getattr(cell.contender, "wire_bytes", None)
        new = []
        for number in range(1, ROUNDS + 1):
            cell.web.file("blob", setting.size, seed=seed_of(setting.run, number))
            before = wire and wire()
            new.append(cell.fetch("blob"))
            if wire:
                new[-1]["expansion_pct"] = 100 * ((wire() - before) / setting.size - 1)
        hits = [cell.fetch("blob", "hit_") for _ in range(ROUNDS)]
        cell.contender.check()
        return _least(new) | _least(hits)


def parallel(setting):
    """Eight downloads of new bytes at once, over as many connections."""
    with setting.cell() as cell:
        names = [f"blob-{number}" for number in range(8)]
        cell.web.file("warm", 8 * MB, seed=seed_of(setting.run, 100))
        cell.fetch("warm")
        for number, name in enumerate(names):
            cell.web.file(name, setting.size // 8, seed=seed_of(setting.run, number))

        def run_all():
            begun = time.monotonic()
            running = [cell.net.client.popen(["curl", "-sS", "--fail", "-o", os.path.join(cell.net.folder, name),
                                              cell.contender.url(name)]) for name in names]
            for process in running:
                assert process.wait(setting.limit_s) == 0, f"curl: exit {process.returncode}"
            return time.monotonic() - begun
        found = cell.figures("", run_all, setting.size)
        for name in names:
            assert bed.sha256_of(os.path.join(cell.net.folder, name)) == bed.sha256_of(os.path.join(cell.web.root, name)), \
                f"{name} came with other bytes"
        cell.contender.check()
        return found


def _zstd_alone(path):
    """What compress_bench finds at level 1: share of the file, CPU seconds a GB to compress and to decompress."""
    done = subprocess.run([test_program("compress_bench"), path], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()[1].split()
    return {"zstd_share": float(words[2]), "zstd_s": float(words[3]), "unzstd_s": float(words[7])}


def compress(setting):
    """The least of three transfers of text, compressed at level 1, beside others uncompressed and zstd alone. The store
    is kept out of it: zstd's share of the work is what is asked for."""
    classes = ("[class plain]\nports = 81\ncompress = off\ndedup = no\n"
               "[class text]\nports = 80\ncompress = 1\ndedup = no\n")
    with setting.cell(extra=classes) as cell:
        found, parts, seeds = {}, [], iter(range(100))
        for prefix, web in (("plain_", cell.net.nginx(port=81)), ("", cell.web)):
            rounds = []
            for _ in range(ROUNDS):
                path = _text(web.root, "text", setting.size, seed_of(setting.run, next(seeds)))
                size = os.path.getsize(path)
                if not prefix:
                    parts.append(_zstd_alone(path))
                before, wire = cell.cpu(), cell.contender.wire_bytes()
                cell.net.download(cell.net.client, web, "text", timeout=120)
                after = cell.cpu()
                rounds.append({f"{side}_s": (sum(after[side]) - sum(before[side])) * 1e9 / size for side in SIDES}
                              | {"share": (cell.contender.wire_bytes() - wire) / size})
            found |= {prefix + name: value for name, value in _least(rounds).items()}
        found |= _least(parts)
        found["share_of_zstd"] = found["share"] / found["zstd_share"]
        found["far_of_parts"] = found["far_s"] / (found["zstd_s"] + found["plain_far_s"])
        found["near_of_parts"] = found["near_s"] / (found["unzstd_s"] + found["plain_near_s"])
        return found


