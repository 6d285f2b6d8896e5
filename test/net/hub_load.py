"""A hub under many peers, played by tools/hubload.c: how much memory its engine takes for lanes and for sessions."""

import json
import os
import subprocess

from bed import conf_text, program, tail, wait_for
from load_runs import engine_pid, memory_of

PORT = 9000


def network_of(number):
    return f"10.{128 + number // 256}.{number % 256}.0/24"


class HubLoad:
    """peers peers with lanes lanes each at a hub (the far gateway of a bed), and a server behind it.
    .hub (the daemon), .engine (its process id)"""

    def __init__(self, bed, peers, lanes=2, node=None):
        self.bed = bed
        self.peers = peers
        self.lanes = lanes
        self.folder = os.path.join(bed.folder, "members")
        done = subprocess.run([program("test/hubload"), "keygen", self.folder, str(peers)], capture_output=True,
                              text=True, check=True, timeout=120)
        sections = bed.far_sections()
        for branch in bed.branches:
            del sections["peer " + bed.node_name(branch)]
        sections["node"].update(node or {})
        for number, pin in enumerate(done.stdout.split()):
            sections[f"peer member{number}"] = {"pin": pin, "networks": network_of(number)}
        self.hub = bed.hawserd(bed.far, conf_text(sections), name="dc")
        wait_for(lambda: os.path.exists(self.hub.control) and bed.far.listening(4430), 60, "the hub")
        self.engine = engine_pid(self.hub)
        self.server = bed.server.popen([program("test/hubload"), "serve", f"{bed.server.ip4}:{PORT}"])
        wait_for(lambda: bed.server.listening(PORT), 10, "the server")
        self.process = None

    def memory(self):
        """Bytes of its own that the engine has now."""
        return memory_of(self.engine)["RssAnon"]

    def start(self, sessions, timeout=120):
        """All lanes up. sessions: of a peer, to be opened by open()."""
        bed = self.bed
        self.out_path = bed.log_path("hubload-out")
        self.err_path = bed.log_path("hubload-err")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = bed.near.popen(
                [program("test/hubload"), "peers", self.folder, str(self.peers), f"{bed.branches[0].wan(1)[0]}:4430",
                 f"{bed.server.ip4}:{PORT}", str(self.lanes), str(sessions)],
                stdin=subprocess.PIPE, stdout=out, stderr=err)
        assert self._line(0, timeout) == {"lanes": self.peers * self.lanes}
        wait_for(lambda: [len(peer["lanes"]) for peer in self.hub.ctl("peers")] == [self.lanes] * self.peers, 30,
                 "all lanes at the hub")

    def open(self, timeout=180):
        """{"open": sessions that are, "refused": for want of memory or descriptors}"""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self._line(1, timeout)

    def finish(self):
        """Ends the peers; fails if one of them lost a lane or a session meanwhile. What they saw."""
        self.process.stdin.close()
        found = self._line(2, 30)
        assert self.process.wait(30) == 0, tail(self.err_path)
        return found

    def _line(self, number, timeout):
        def found():
            with open(self.out_path, encoding="ascii") as file:
                lines = [line for line in file.read().splitlines(True) if line.endswith("\n")]
            ended = self.process.poll()
            assert len(lines) > number or ended is None, f"hubload ended with {ended}: {tail(self.err_path)}"
            return lines[number] if len(lines) > number else None
        return json.loads(wait_for(found, timeout, f"line {number + 1} of hubload"))
