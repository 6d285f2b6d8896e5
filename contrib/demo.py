#!/usr/bin/env python3
"""The live part of contrib/demo.sh: the same files direct and through two hawserd, side by side."""

import argparse
import glob
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "net"))
import bed  # noqa: E402  pylint: disable=wrong-import-position

PROFILE = "geo"
LINK = "600 ms round trip, 50 Mbit/s down, 5 Mbit/s up, 0.5 % loss each way"
LIBRARY_MAX = 9 << 20
PROGRAM_MAX = 16 << 20
DOCUMENT_MAX = 2 << 20


class Failed(Exception):
    """The demonstration did not show what it is for."""


# --- what is fetched --------------------------------------------------------------------------------


def package_of(path):
    """The package that a file is from, or None. Debian may know it by its place before /usr was merged."""
    for name in (path, path.removeprefix("/usr")):
        done = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout:
            return done.stdout.split(":")[0]
    return None


def largest(patterns, most):
    """(path, package): the largest file of these patterns up to a size that is no link and from a package."""
    found = set()
    for pattern in patterns:
        for path in glob.iglob(pattern, recursive=True):
            if os.path.realpath(path) == path and os.path.isfile(path) and os.path.getsize(path) <= most:
                found.add((os.path.getsize(path), path))
    for _, path in sorted(found, reverse=True):
        package = package_of(path)
        if package:
            return path, package
    return None


def choose_files():
    """[(kind, path, package)]: the largest of each kind up to a limit; every Debian or Ubuntu has some."""
    triplet = sysconfig.get_config_var("MULTIARCH") or "*-linux-gnu*"
    chosen = [
        ("text, small", largest(["/usr/share/common-licenses/GPL-3"], 1 << 20)),
        ("text", largest(["/usr/share/perl/5*/**/*.pl", "/usr/lib/python3*/**/*.py", "/usr/include/**/*.h"],
                         DOCUMENT_MAX)),
        ("compressed", largest(["/usr/share/doc/*/*.gz"], DOCUMENT_MAX)),
        ("library", largest([f"/usr/lib/{triplet}/*.so*"], LIBRARY_MAX)),
        ("program", largest(["/usr/bin/*", "/usr/sbin/*"], PROGRAM_MAX)),
    ]
    return [(kind, *found) for kind, found in chosen if found]


class File:
    """One of the files, at the server: .name, .kind, .size, .sha256, .package"""

    def __init__(self, number, kind, path, package, web):
        self.kind = kind
        self.name = os.path.basename(path)
        self.package = package
        self.url = web.url(f"{number}/{self.name}")
        folder = os.path.join(web.root, str(number))
        os.makedirs(folder)
        copy = os.path.join(folder, self.name)
        shutil.copyfile(path, copy)
        os.chmod(copy, 0o644)
        self.size = os.path.getsize(copy)
        self.sha256 = bed.sha256_of(copy)


# --- fetching ---------------------------------------------------------------------------------------


class Result:
    """One fetch: .seconds, .first_byte, .bytes, .complete, .same, .down and .up (bytes on the WAN)"""

    def __init__(self, file, transfer, wan):
        self.seconds = transfer.seconds
        self.first_byte = transfer.first_byte or None
        self.bytes = transfer.bytes
        self.out_of_time = transfer.exit == 28
        self.complete = transfer.exit == 0 and transfer.code == 200 and transfer.bytes == file.size
        self.same = self.complete and transfer.sha256 == file.sha256
        self.error = transfer.error
        self.down, self.up = wan

    def projected(self, size):
        """Seconds the whole file would take at the pace that was seen."""
        if self.complete:
            return self.seconds
        return self.seconds * size / self.bytes if self.bytes else None


def wan_bytes(wanem):
    """Bytes that entered the WAN: (to the client, from the client)."""
    stats = wanem.stats()
    return stats["b-to-a"]["in_bytes"], stats["a-to-b"]["in_bytes"]


def wait_quiet(wanem):
    """Until nothing is under way: what was sent belongs to the transfer before."""
    seen = [None, 0.0]

    def quiet():
        stats = wanem.stats()
        now = [(stats[way]["in_packets"], stats[way]["inside_packets"]) for way in ("a-to-b", "b-to-a")]
        if now != seen[0] or any(inside for _, inside in now):
            seen[:] = [now, time.monotonic()]
        return time.monotonic() - seen[1] > 1.5
    try:
        bed.wait_for(quiet, 15, "a quiet WAN")
    except AssertionError:
        pass  # a ping of the lanes may pass at any time; it is small


def fetch(net, file, limit):
    before = wan_bytes(net.wanem)
    transfer = net.curl(net.client, file.url, timeout=limit, check=False)
    wait_quiet(net.wanem)
    after = wan_bytes(net.wanem)
    return Result(file, transfer, (after[0] - before[0], after[1] - before[1]))


# --- printing ---------------------------------------------------------------------------------------


TERMINAL = sys.stdout.isatty()


def bold(text):
    return f"\033[1m{text}\033[0m" if TERMINAL else text


def say(text=""):
    print(text, flush=True)


def megabytes(size):
    return f"{size / 1e6:.2f}" if size < 99.5e6 else f"{size / 1e6:.0f}"


def seconds_text(result):
    if result.complete:
        return f"{result.seconds:.2f}"
    return f"> {result.seconds:.0f}"


def first_text(result):
    return f"{result.first_byte:.2f}" if result.first_byte else "-"


def pace_text(result):
    return f"{result.bytes * 8 / result.seconds / 1e6:.2f}" if result.seconds else "-"


def sum_text(result):
    if result.complete:
        return "equal" if result.same else "WRONG"
    return f"{megabytes(result.bytes)} MB" if result.out_of_time else "FAILED"


SIDE = "{:>5} {:>7} {:>6} {:>5} {:>4} {:>8}"
HEADS = ("first", "seconds", "Mbit/s", "down", "up", "checksum")
LEFT = "{:<22} {:>5}"


def table_head():
    def band(title):
        width = len(SIDE.format(*HEADS))
        return f" {title} ".center(width, "-")
    say(" " * len(LEFT.format("", "")) + " | " + band("direct (cubic)") + " | " + band("through hawser"))
    say(bold(LEFT.format("file", "MB") + " | " + SIDE.format(*HEADS) + " | " + SIDE.format(*HEADS)))


def side_text(result):
    return SIDE.format(first_text(result), seconds_text(result), pace_text(result), megabytes(result.down),
                       megabytes(result.up), sum_text(result))


def table_row(file, direct, ours):
    name = file.name if len(file.name) <= 22 else file.name[:19] + "..."
    say(LEFT.format(name, megabytes(file.size)) + " | " + side_text(direct) + " | " + side_text(ours))


def progress(number, count, file, text):
    line = f"  [{number}/{count}] {file.name} ({megabytes(file.size)} MB, {file.kind}, {file.package})"
    say(f"{line:<74} {text}")


def line_of(result, file):
    if result.same:
        return f"{result.seconds:6.2f} s, first byte {first_text(result)} s"
    if result.out_of_time:
        return f"   stopped after {result.seconds:.0f} s at {100 * result.bytes / file.size:.0f} %"
    return f"   FAILED: {result.error or 'other bytes than the server has'}"


# --- the demonstration ------------------------------------------------------------------------------


def fetch_all(net, files, limit):
    results = []
    for number, file in enumerate(files, 1):
        results.append(fetch(net, file, limit))
        progress(number, len(files), file, line_of(results[-1], file))
    return results


def opened(daemon):
    return sum(peer["opened"] for peer in daemon.ctl("peers"))


def bypassed(daemon):
    return sum(reason["count"] for reason in daemon.ctl("bypass"))


def through_hawser(net, files, limit, web):
    """(results, the daemons), having made sure that it was hawser that carried them."""
    pair = net.pair(near={"peer dc": {"rate": "5mbit"}}, far={"peer branch": {"rate": "50mbit"}}, wait=False)
    begun = time.monotonic()
    pair.wait_up(60)
    bed.wait_for(lambda: all(len([lane for lane in daemon.ctl("lanes") if lane["state"] == "up"]) == 2
                             for daemon in pair.all()), 30, "both lanes")
    wait_quiet(net.wanem)
    say(f"  both lanes up and settled after {time.monotonic() - begun:.1f} s; `hawserctl lanes` at the datacentre gateway:")
    done = subprocess.run([bed.program("hawserctl"), "-s", pair.far.control, "lanes"], capture_output=True, text=True,
                          check=False)
    say("    " + done.stdout.rstrip().replace("\n", "\n    "))
    before, served = opened(pair.near), len(web.requests())
    results = fetch_all(net, files, limit)
    carried = opened(pair.near) - before
    if carried != len(files):
        raise Failed(f"hawser carried {carried} of {len(files)} connections (bypassed: {bypassed(pair.near)})")
    lines = web.requests()[served:]
    foreign = [line for line in lines if line.split()[0] != net.client.ip4]
    if len(lines) != len(files) or foreign:
        raise Failed(f"the server saw {len(lines)} requests, {len(foreign)} of them not from {net.client.ip4}")
    say(f"  hawser carried {carried} of {len(files)} connections; the server's log names the client's own address, "
        f"{net.client.ip4}")
    return results


def total_text(files, results):
    """Seconds of all files, and what it means when some were stopped."""
    spent = sum(result.seconds for result in results)
    if all(result.complete for result in results):
        return f"{spent:.1f} s"
    whole = [result.projected(file.size) for file, result in zip(files, results)]
    at_pace = f"; all would take about {sum(whole):.0f} s" if all(whole) else ""
    return f"more than {spent:.0f} s ({sum(not result.complete for result in results)} were stopped{at_pace})"


def summary(files, direct, ours):
    say()
    table_head()
    for row in zip(files, direct, ours):
        table_row(*row)
    say()
    say("first: seconds to the first byte of the answer, on a new connection. down, up: MB that entered the WAN each way,")
    say("headers and what was sent again included. A fetch that was stopped shows how far it came instead of a checksum.")
    size = sum(file.size for file in files)
    spent = sum(result.seconds for result in ours)
    whole = [result.projected(file.size) for file, result in zip(files, direct)]
    ratio = ""
    if all(whole):
        about = "" if all(result.complete for result in direct) else "about "
        ratio = f", {about}{sum(whole) / spent:.0f} times as fast"
    say()
    say(bold(f"{len(files)} files, {megabytes(size)} MB: direct {total_text(files, direct)}; through hawser "
             f"{total_text(files, ours)}{ratio}; checksums "
             f"{sum(result.same for result in ours)} of {len(files)} equal."))


def check(files, results, what):
    for file, result in zip(files, results):
        if not result.complete and not result.out_of_time:
            raise Failed(f"{what}: {file.name}: {result.error or 'not complete'}")
        if result.complete and not result.same:
            raise Failed(f"{what}: {file.name} came with other bytes")


def demonstrate(net, options):
    web = net.nginx()
    files = [File(number, *chosen, web) for number, chosen in enumerate(choose_files(), 1)]
    say(f"""
  client ----- gateway =============== WAN =============== gateway ----- server
  curl, cubic  branch     {LINK.split(',')[0]:^22}     datacentre  nginx, cubic
  {net.client.ip4}                {'50/5 Mbit/s, 0.5 % loss':^22}                  {net.server.ip4}
""")
    say(bold("Direct: no hawserd runs") + f" (each file is given {options.limit} s)")
    direct = fetch_all(net, files, options.limit)
    check(files, direct, "direct")
    say()
    say(bold("Through hawser: hawserd on both gateways") + ", rate = 50mbit towards the branch, 5mbit back; client and "
        "server as before")
    ours = through_hawser(net, files, max(options.limit, 60), web)
    summary(files, direct, ours)
    check(files, ours, "through hawser")
    late = [file.name for file, result in zip(files, ours) if not result.same]
    if late:
        raise Failed("not complete through hawser: " + ", ".join(late))


def on_signal(number, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="contrib/demo.sh", description="Fetches files from nginx with curl over an "
                                     f"emulated satellite link ({LINK}), direct and through two hawserd.")
    parser.add_argument("--limit", type=int, default=45, metavar="SECONDS",
                        help="how long a direct fetch may take (default %(default)s)")
    options = parser.parse_args()
    reason = bed.why_not()
    if reason:
        sys.exit(f"demo: this cannot run here: {reason}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    code = 0
    try:
        with bed.Bed(profile=PROFILE) as net:
            try:
                demonstrate(net, options)
            except Failed as error:
                say(f"\nFAILED: {error}")
                net.print_logs()
                code = 1
            except KeyboardInterrupt:
                say("\ninterrupted; taking everything down")
                code = 130
    except KeyboardInterrupt:
        code = 130
    return code


if __name__ == "__main__":
    sys.exit(main())
