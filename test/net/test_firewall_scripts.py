"""contrib's firewall scripts: a pair with `firewall = none` works with nft-up.sh as well as with iptables-up.sh (both
flavours), IPv4 and IPv6; what ran before is left alone; twice is as good as once; down leaves nothing."""

import contextlib
import os
import shutil
import subprocess

from bed import SOURCE, Bed, Skip, main, wait_for
from peers import (
    CARRIED, DIRECT, PATIENCE_S, RELAYED, connect, connected, echo_once, error_of, families, listener, table_present,
    wait_no_sessions, way)

NONE = {"intercept": {"firewall": "none"}}


def script(name):
    return os.path.join(SOURCE, "contrib", name)


class Scripts:
    """One kind of scripts on both gateways."""

    def __init__(self, bed, kind, programs=None):
        self.bed = bed
        self.kind = kind
        self.env = {**os.environ, **(programs or {})}
        self.save = [(programs or {}).get(name, name.lower()) + "-save" for name in ("IPTABLES", "IP6TABLES")]

    def near(self, *more):
        networks = "10.2.0.0/24" + (",fd00:2::/64" if self.bed.ipv6 else "")
        return self.bed.near.run([script(f"{self.kind}-up.sh"), "-i", "lan0", "-n", networks, *more], env=self.env)

    def far(self):
        """It catches nothing: only replies to borrowed addresses."""
        self.bed.far.run([script(f"{self.kind}-up.sh")], env=self.env)

    def up(self):
        self.near()
        self.far()

    def down(self):
        for host in (self.bed.near, self.bed.far):
            host.run([script(f"{self.kind}-down.sh")], env=self.env)

    def left(self, host):
        """Everything that one of the scripts may have put there, as text."""
        text = ""
        for family in ("-4", "-6"):
            text += host.run(["ip", family, "rule"]).stdout
            text += host.run(["ip", family, "route", "show", "table", "100"], check=False).stdout
        if self.kind == "nft":
            return text + host.run(["nft", "list", "tables"]).stdout
        for program in self.save:
            saved = host.run([program, "-t", "mangle"]).stdout.splitlines()
            text += "\n".join(line for line in saved if line.startswith("-A") or "HAWSER" in line)
        return text


@contextlib.contextmanager
def running(bed):
    """Connections that were there before, and live to the end."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(connected(bed.client, bed.server, family)) for family in families(bed)]
        for near_end, far_end in ends:
            echo_once(near_end, far_end)
        yield
        for near_end, far_end in ends:
            echo_once(near_end, far_end, b"still there?")


def both_ways(bed):
    return {way(bed.client, bed.server, family) for family in families(bed)}


def stop(daemon):
    daemon.kill()
    assert daemon.wait(30) == 0


def carries(bed, scripts):
    """What must hold for every kind. The pair is left running."""
    before = [scripts.left(host) for host in (bed.near, bed.far)]
    with running(bed):
        pair = bed.pair(near=NONE, far=NONE)
        assert not table_present(bed.near), "firewall = none, and there is a table"
        assert both_ways(bed) == {DIRECT}
        scripts.up()
        assert both_ways(bed) == {CARRIED}
    state = scripts.left(bed.near)
    assert state != before[0]
    scripts.up()
    assert scripts.left(bed.near) == state, "a second run changed something"
    assert both_ways(bed) == {CARRIED}
    bed.near.sysctl("net.ipv4.tcp_syncookies", 2)
    assert both_ways(bed) == {CARRIED}, "with SYN cookies"
    for options in ("lookup", "goto"):
        assert options in state
    scripts.down()
    scripts.down()
    for host, was in zip((bed.near, bed.far), before):
        # hawserd's own rule for lane routes came in between, and stays.
        lines = [line for line in scripts.left(host).splitlines() if not line.endswith("lookup 101 proto 104")]
        assert lines == was.splitlines(), f"left on {host}: {lines}"
    assert both_ways(bed) == {DIRECT}
    wait_no_sessions(pair.near, pair.far)
    scripts.up()
    return pair


def test_nft():
    with Bed("lan") as bed:
        scripts = Scripts(bed, "nft")
        pair = carries(bed, scripts)
        assert both_ways(bed) == {CARRIED}
        # The script does not know which peers are up; the engine does.
        stop(pair.far)
        wait_for(lambda: pair.near.ctl("peers")[0]["state"] == "down", PATIENCE_S, "the peer to be down")
        assert both_ways(bed) == {RELAYED}
        with connected(bed.client, bed.server) as (near_end, far_end):
            assert far_end.getpeername()[0] == bed.client.ip4
            echo_once(near_end, far_end)
        stop(pair.near)
        assert both_ways(bed) == {DIRECT}, "without hawserd nft falls through"


def test_nft_excludes_and_marks():
    with Bed("lan") as bed:
        scripts = Scripts(bed, "nft")
        mark = {"intercept": {"firewall": "none", "mark": "0x10/0x30", "lane-mark": "0x40/0x40", "port": "4000"}}
        bed.pair(near=mark, far=NONE)
        scripts.near()
        scripts.near("-m", "0x10/0x30", "-l", "0x40/0x40", "-p", "4000")
        scripts.far()
        assert both_ways(bed) == {CARRIED}
        rules = bed.near.run(["ip", "rule"]).stdout
        assert "fwmark 0x10/0x30" in rules and "fwmark 0x1/0x1" not in rules, rules
        scripts.near("-m", "0x10/0x30", "-l", "0x40/0x40", "-p", "4000", "-x", bed.server.ip4)
        assert way(bed.client, bed.server) == DIRECT
        scripts.down()


def iptables(programs):
    with Bed("lan") as bed:
        scripts = Scripts(bed, "iptables", programs)
        pair = carries(bed, scripts)
        assert both_ways(bed) == {CARRIED}
        assert "DROPPED" in scripts.near().stderr
        # The script says it, so it must be true: without hawserd nothing gets through.
        stop(pair.near)
        with listener(bed.server) as door:
            assert error_of(connect, bed.client, door.getsockname(), timeout=2) is TimeoutError
        scripts.down()
        assert both_ways(bed) == {DIRECT}


def test_iptables():
    iptables({"IPTABLES": "iptables", "IP6TABLES": "ip6tables"})


def test_iptables_legacy():
    programs = {"IPTABLES": "iptables-legacy", "IP6TABLES": "ip6tables-legacy"}
    if not all(shutil.which(program) for program in programs.values()):
        raise Skip("no iptables-legacy here")
    probe = subprocess.run(["unshare", "--net", "iptables-legacy", "-t", "mangle", "-L"], capture_output=True, text=True,
                           check=False)
    if probe.returncode != 0 and "Table does not exist" in probe.stderr:
        raise Skip("this kernel has no legacy iptables: " + probe.stderr.strip())
    iptables(programs)


def test_scripts_refuse_nonsense():
    with Bed("lan") as bed:
        for kind in ("nft", "iptables"):
            for words in (["-z"], ["-i", "lan0"], ["-m", "1"], ["lan0"]):
                done = bed.near.run([script(f"{kind}-up.sh"), *words], check=False)
                assert done.returncode == 2 and done.stderr, words
        assert not table_present(bed.near)
        # Not over a hawserd that owns its rules, nor the other way.
        pair = bed.pair()
        for kind in ("nft", "iptables"):
            done = bed.near.run([script(f"{kind}-up.sh"), "-i", "lan0", "-n", "10.2.0.0/24"], check=False)
            assert done.returncode == 1 and "firewall = none" in done.stderr, done.stderr
        done = bed.near.run([script("nft-down.sh")], check=False)
        assert done.returncode == 1 and "end hawserd" in done.stderr, done.stderr
        assert both_ways(bed) == {CARRIED}, "the script disturbed the owner"
        stop(pair.near)
        Scripts(bed, "nft").near()
        conf = pair.near.conf_path
        with open(conf, encoding="utf-8") as file:
            again = bed.hawserd(bed.near, file.read())
        assert again.wait(30) == 1
        assert "contrib/nft-down.sh" in again.log(), again.log()


if __name__ == "__main__":
    main(globals())
