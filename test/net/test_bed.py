"""The bed itself: real traffic passes, several stand side by side, and nothing is left however it ends."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

import bed as bed_module
from bed import Bed, main, wait_for


def left_of(pid):
    """What there still is of the beds of a process."""
    pattern = re.compile(rf"^hw-{pid}-")
    folders = [os.path.join("/run/netns", name) for name in os.listdir("/run/netns") if pattern.match(name)]
    folders += [name for name in os.listdir(tempfile.gettempdir()) if pattern.match(name)]
    needle = f"hw-{pid}-".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (pid, os.getpid()):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if needle in file.read():
                        folders.append(f"process {entry}")
            except OSError:
                pass
    return folders


def families(bed):
    return (4, 6) if bed.ipv6 else (4,)


def test_traffic_passes_directly():
    for profile in ("lan", None):
        with Bed(profile) as bed:
            web = bed.nginx()
            blob = web.file("blob", 3_000_000)
            for family in families(bed):
                bed.download(bed.client, web, "blob", family)
                bed.upload(bed.client, web, blob, f"up{family}", family)
                wait_for(lambda family=family: len(web.requests()) == 2 * (family // 2 - 1), 10, "the access log")
                assert web.requests()[-1].startswith(bed.client.ip(family) + " "), web.requests()
            assert (bed.wanem is None) == (profile is None)


def test_two_beds_side_by_side():
    with Bed("branch") as one, Bed("branch") as two:
        first, second = one.nginx(), two.nginx()
        first.file("blob", 2_000_000, seed=1)
        second.file("blob", 2_000_000, seed=2)
        got = {}

        def fetch(bed, web):
            got[bed] = bed.download(bed.client, web, "blob").sha256

        threads = [threading.Thread(target=fetch, args=pair) for pair in ((one, first), (two, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got[one] and got[two] and got[one] != got[two]


def test_branches_clients_and_servers():
    with Bed("lan", branches=3, clients=2, servers=2) as bed:
        webs = [bed.nginx(server) for server in bed.servers]
        assert len(bed.branches) == 3 and bed.client is bed.branches[0].client
        for branch in bed.branches:
            for client in branch.clients:
                for web in webs:
                    web.file("blob", 1000)
                    for family in families(bed):
                        bed.download(client, web, "blob", family)
            assert branch.wanem.stats()["a-to-b"]["out_packets"] > 0
        assert len({host.ip4 for host in bed.hosts}) == len(bed.hosts)


def test_settings_of_hosts():
    with Bed(None) as bed:
        assert bed.client.sysctl("net.ipv4.tcp_congestion_control") == "cubic"
        assert bed.server.sysctl("net.ipv4.tcp_congestion_control") == "cubic"
        bed.near.congestion_control("reno")
        assert bed.near.sysctl("net.ipv4.tcp_congestion_control") == "reno"
        assert bed.near.run(["cat"], input="words").stdout == "words"
        assert bed.near.run("exit 3", check=False).returncode == 3
        try:
            bed.near.run(["sleep", "60"], timeout=0.1)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise AssertionError("the timeout did nothing")
        blocked = bed.client.run("grep SigBlk /proc/self/status").stdout.split()[1]
        assert int(blocked, 16) == 0, "programs must not start with signals blocked"


def test_sockets_stay_in_their_namespace():
    with Bed(None) as bed:
        listener = bed.server.socket()
        listener.bind((bed.server.ip4, 9000))
        listener.listen()
        assert bed.server.listening(9000) and not bed.client.listening(9000)
        assert os.stat("/proc/thread-self/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
        client = bed.client.socket()
        client.connect((bed.server.ip4, 9000))
        assert listener.accept()[1][0] == bed.client.ip4
        client.close()
        listener.close()


def test_iperf3_runs():
    with Bed("lan") as bed:
        for family in families(bed):
            result = bed.iperf3(arguments=["-n", "1M"], family=family)
            assert result["end"]["sum_received"]["bytes"] > 0


def test_nothing_is_left_of_a_failing_body():
    class Broken(Exception):
        pass

    try:
        with Bed("lan") as bed:
            bed.logs.clear()  # not to be shown here
            bed.nginx()
            bed.client.popen("trap '' TERM HUP; setsid sleep 60 & sleep 60")
            bed.logs.clear()
            assert left_of(os.getpid())
            raise Broken
    except Broken:
        pass
    assert left_of(os.getpid()) == []
    assert not os.path.exists(bed.folder)


SCRIPT = """
import sys, time
sys.path.insert(0, {folder!r})
from bed import Bed
with Bed("lan") as bed:
    web = bed.nginx()
    bed.client.popen(["sleep", "60"])
    bed.logs.clear()
    print("standing", flush=True)
    while True:
        time.sleep(60)
"""


def started_script():
    script = SCRIPT.format(folder=os.path.dirname(bed_module.__file__))
    process = subprocess.Popen([sys.executable, "-B", "-c", script], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, start_new_session=True)
    assert process.stdout.readline() == "standing\n"
    assert left_of(process.pid)
    return process


def test_nothing_is_left_after_a_signal():
    for number in (signal.SIGTERM, signal.SIGINT):
        process = started_script()
        process.send_signal(number)
        assert process.wait(30) != 0
        assert left_of(process.pid) == []
        process.stdout.close()


def test_the_next_bed_removes_what_a_kill_left():
    process = started_script()
    process.kill()
    process.wait(30)
    process.stdout.close()
    assert left_of(process.pid)
    with Bed(None):
        assert left_of(process.pid) == []


RUNNER = """
import sys
sys.path.insert(0, {folder!r})
from bed import Bed, Skip, main
def test_fine(): pass
def test_broken():
    with Bed("lan") as bed:
        bed.near.run("echo speaking >&2; exit 1")
def test_slow():
    import time
    with Bed(None):
        time.sleep(60)
def test_skipped(): raise Skip("no reason")
main({tests}, seconds=2)
"""


def run_runner(tests, **environment):
    script = RUNNER.format(folder=os.path.dirname(bed_module.__file__), tests=tests)
    return subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=60,
                          check=False, env={**os.environ, "HAWSER_NO_SKIP": "0", **environment})


def test_the_runner():
    done = run_runner("globals()")
    assert done.returncode == 1, done
    for wanted in ("ok test_fine", "FAILED test_broken", "speaking", "FAILED test_slow", "out of time",
                   "skipped test_skipped: no reason", "1 passed, 2 failed"):
        assert wanted in done.stdout, (wanted, done.stdout, done.stderr)
    assert run_runner("[test_fine, test_skipped]").returncode == 0
    assert run_runner("[test_skipped]").returncode == 77
    assert run_runner("[test_skipped]", HAWSER_NO_SKIP="1").returncode == 1


def test_a_skip_without_root():
    script = RUNNER.format(folder=os.path.dirname(bed_module.__file__), tests="[test_fine]")
    plain = "import os\nos.geteuid = lambda: 1000\n" + script
    for no_skip, code in (("0", 77), ("1", 1)):
        done = subprocess.run([sys.executable, "-B", "-c", plain], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "HAWSER_NO_SKIP": no_skip})
        assert done.returncode == code and "skipped: not root" in done.stdout, done


if __name__ == "__main__":
    main(globals())
