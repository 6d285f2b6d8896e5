#!/usr/bin/env python3
"""What a hub's engine takes for many peers: real TLS lanes with idle sessions on them.

    sudo contrib/bench_hub.py                          1,000 peers, 2 lanes and 20 idle sessions each
    sudo contrib/bench_hub.py --peers 700 --sessions 20 --idle 10

The peers are one process (test/net/tools/hubload.c) that speaks the protocol over real lanes; every session has carried
a byte each way to a real server before it idles. A session takes one descriptor of the hub and a lane one, and the hub
keeps CONFIG_LANES_MAX for each peer aside; where the limit of open files is lower than that and may not be raised, as
many sessions a peer are opened as fit, and the figure for all is what was measured plus the slope of a session times
the rest. The slope is that of a second run, of few peers with many sessions each: behind many handshakes sessions live
in what those have given back, and cost next to nothing. Memory is the engine's own (RssAnon); the kernel's, for the
sockets, is not in it. The last line is the result as JSON. Uses the programs in build/ or $HAWSER_BUILD; `hubload` of
the tests must be built too. Only the standard library."""

import argparse
import json
import os
import resource
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "net"))
import bed  # noqa: E402
from hub_load import HubLoad  # noqa: E402
from load_runs import peak_bytes  # noqa: E402

MB = 1 << 20
SPARE = 256  # descriptors that the engine keeps for itself
LANES_MAX = 8  # and for lanes, of each peer
SLOPE_PEERS, SLOPE_SESSIONS = 100, 100


def most_files():
    """What hawserd will be able to raise its limit to."""
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        wanted = int(file.read())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
    except (ValueError, OSError):
        return hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted


def idle_cpu(pid, seconds):
    """(seconds of CPU, seconds passed) of a process that is left alone for so long: a measurement, not a wait."""
    used, begun = sum(bed.cpu_seconds(pid)), time.monotonic()
    time.sleep(seconds)
    return sum(bed.cpu_seconds(pid)) - used, time.monotonic() - begun


def measure(peers, lanes, wanted, memory, idle_s):
    files = most_files()
    sessions = max(0, min(wanted, (files - SPARE - peers * LANES_MAX) // peers))
    if sessions < wanted:
        print(f"the limit of open files is {files}: {sessions} sessions a peer instead of {wanted}", flush=True)
    with bed.Bed(profile=None, ipv6=False) as net:
        load = HubLoad(net, peers, lanes, {"memory": memory})
        base = load.memory()
        print(f"base               {base / MB:8.1f} MB, {peers} peers configured", flush=True)
        begun = time.monotonic()
        load.start(sessions)
        with_lanes = load.memory()
        each_lane = (with_lanes - base) / (peers * lanes)
        print(f"{peers * lanes:6} lanes up    {with_lanes / MB:8.1f} MB, {each_lane:.0f} bytes a lane, in "
              f"{time.monotonic() - begun:.1f} s", flush=True)
        lanes_cpu = idle_cpu(load.engine, idle_s)
        begun = time.monotonic()
        opened = load.open()
        seconds = time.monotonic() - begun
        with_sessions = load.memory()
        each_session = (with_sessions - with_lanes) / opened["open"] if opened["open"] else 0
        print(f"{opened['open']:6} sessions    {with_sessions / MB:8.1f} MB, {each_session:.0f} bytes a session, in "
              f"{seconds:.1f} s; {opened['refused']} refused", flush=True)
        cpu = idle_cpu(load.engine, idle_s)
        settled, peak = load.memory(), peak_bytes(load.engine)
        found = load.finish()
    print(f"after {cpu[1]:.0f} s idle    {settled / MB:8.1f} MB, at most {peak / MB:.1f} MB; CPU {cpu[0]:.2f} s in "
          f"{cpu[1]:.1f} s ({100 * cpu[0] / cpu[1]:.1f} % of one), lanes alone "
          f"{100 * lanes_cpu[0] / lanes_cpu[1]:.1f} %; {found['pings']} PINGs answered\n", flush=True)
    return {"peers": peers, "lanes": peers * lanes, "sessions": opened["open"], "refused": opened["refused"],
            "base_bytes": base, "lane_bytes": round(each_lane), "session_bytes": round(each_session),
            "settled_bytes": settled, "peak_bytes": peak, "cpu_s": round(cpu[0], 2),
            "lanes_cpu_s": round(lanes_cpu[0], 2), "idle_s": round(cpu[1], 2)}


def report(chosen):
    result = measure(chosen.peers, chosen.lanes, chosen.sessions, chosen.memory, chosen.idle)
    slope = measure(SLOPE_PEERS, chosen.lanes, SLOPE_SESSIONS, chosen.memory, 1)
    each = max(result["session_bytes"], slope["session_bytes"])
    missing = chosen.peers * chosen.sessions - result["sessions"]
    result["slope_bytes"] = each
    result["total_bytes"] = max(result["settled_bytes"], result["peak_bytes"]) + missing * each
    how = f"{result['sessions']} sessions measured, {missing} more at {each} bytes" if missing else "all measured"
    print(f"{chosen.peers} peers, {chosen.lanes} lanes and {chosen.sessions} sessions each: "
          f"{result['total_bytes'] / MB:.1f} MB ({how})", flush=True)
    print(json.dumps(result))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--lanes", type=int, default=2, help="of each peer (default 2)")
    parser.add_argument("--sessions", type=int, default=20, help="of each peer (default 20)")
    parser.add_argument("--memory", default="1G", help="[node] memory of the hub (default 1G)")
    parser.add_argument("--idle", type=float, default=10, help="seconds over which CPU is measured (default 10)")
    chosen = parser.parse_args()
    reason = bed.why_not()
    if reason:
        sys.exit(f"bench_hub: cannot run here: {reason}")
    report(chosen)


if __name__ == "__main__":
    main()
