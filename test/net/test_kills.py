"""Two nodes with stores on disk carry transfers while they are killed, their files damaged, their disk full and their
link cut, one fault a round. What is cut off may be reset, but no byte is ever another, what follows succeeds, and
nothing dies but what was killed. test_kills.py [ROUNDS [SEED]]"""

import errno
import collections
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading
import time

import store_damage as damage
from bed import Bed, main, wait_for
from bed_hosts import NETNS_FOLDER
from peers import (
    CARRIED, PATIENCE_S, accept, connect, dead, kernel_state, listener, path_of, processes_of, wait_down,
    wait_no_sessions, wait_way)

NUMBERS = [int(word) for word in sys.argv[1:] if word.isdigit()]
sys.argv[1:] = [word for word in sys.argv[1:] if not word.isdigit()]
ROUNDS, SEED = NUMBERS + [17, 1][len(NUMBERS):]  # 17: each fault once

LINK = ["--rate", "200mbit", "--delay", "10ms"]
SIDES = ("near", "far")
CORPUS_BYTES = 24_000_000
TRANSFER_MOST = 12_000_000
FULL_DISK_BYTES = 4_000_000
WRITTEN_LEAST = 2_000_000  # less than any store gets from the transfers that end a round
REPORTS = re.compile(r"^.*(?:Sanitizer|runtime error:|[Aa]ssert|\*\*\*|did not answer|ended with exit code|"
                     r"ended by signal (?!9\b)).*$", re.M)


# --- what is sent -----------------------------------------------------------------------------------


class Corpus:
    """Noise and text that contents are drawn from: as they are, with edits, or new, which is known from then on."""

    def __init__(self, dice):
        words = [dice.randbytes(dice.randint(2, 9)).hex().encode() for _ in range(500)]
        text = b" ".join(dice.choices(words, k=CORPUS_BYTES // 24))
        self.bytes = bytearray(dice.randbytes(CORPUS_BYTES - len(text)) + text)

    def _edited(self, dice, at, size):
        piece = self.bytes[at:at + size]
        for _ in range(size // 50_000 + 1):
            piece[dice.randrange(size)] ^= dice.randint(1, 255)
        return piece

    def content(self, dice, size, new=0.15):
        """This many bytes, of which that share is new."""
        out = bytearray()
        while len(out) < size:
            piece = min(dice.randint(1, 1 << 20), size - len(out))
            at = dice.randrange(CORPUS_BYTES - piece)
            luck = dice.random()
            if luck < new:
                self.bytes[at:at + piece] = dice.randbytes(piece)
            out += self._edited(dice, at, piece) if luck > 0.8 else self.bytes[at:at + piece]
        return bytes(out)


class Half:
    """One direction of a connection. What arrives is compared at its offset. at, strike: called once when so many
    bytes have arrived, before more is read."""

    def __init__(self, source, sink, content):
        self.source, self.sink, self.content = source, sink, content
        self.at = self.strike = None
        self.arrived = 0
        self.source_reset = self.sink_reset = False
        self.error = None

    def start(self):
        self._threads = [threading.Thread(target=self._guard, args=call, daemon=True)
                         for call in ((self._write, "source_reset"), (self._read, "sink_reset"))]
        for thread in self._threads:
            thread.start()

    def _guard(self, call, when_reset):
        try:
            call()
        except (ConnectionResetError, BrokenPipeError):
            setattr(self, when_reset, True)
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # a shutdown after a reset
                setattr(self, when_reset, True)
            else:
                self.error = error
        except BaseException as error:  # pylint: disable=broad-except
            self.error = error

    def _write(self):
        self.source.sendall(self.content)
        self.source.shutdown(socket.SHUT_WR)

    def _read(self):
        while piece := self.sink.recv(1 << 18):
            assert self.content.startswith(piece, self.arrived), \
                f"WRONG BYTES: what arrived at {self.arrived} to {self.arrived + len(piece)} was not sent there"
            self.arrived += len(piece)
            if self.strike and self.arrived >= self.at:
                strike, self.strike = self.strike, None
                strike()

    def finished(self):
        return not any(thread.is_alive() for thread in self._threads)

    def join(self):
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive(), f"a transfer stands still after {self.arrived} of {len(self.content)} bytes"
        if self.error:
            raise self.error


class Flow:
    """A connection from the client to the server, with what goes down and up."""

    def __init__(self, bed, door, down, up):
        self.client = connect(bed.client, door.getsockname())
        self.conn = accept(door)
        self.path = path_of(self.conn)
        self.halves = (Half(self.conn, self.client, down), Half(self.client, self.conn, up))

    def start(self):
        for half in self.halves:
            half.start()

    def finished(self):
        return all(half.finished() for half in self.halves)

    def finish(self):
        """Waits for the end of both; whether all has arrived. False: it was reset."""
        try:
            for half in self.halves:
                half.join()
        finally:
            self.client.close()
            self.conn.close()
        # The kernel tells of a reset once: if the writer on the same socket has heard it, the reader finds an end.
        for half, back in (self.halves, self.halves[::-1]):
            assert half.arrived == len(half.content) or half.sink_reset or back.source_reset, \
                f"an end without a reset after {half.arrived} of {len(half.content)} bytes"
        return not any(half.source_reset or half.sink_reset for half in self.halves)


# --- the nodes --------------------------------------------------------------------------------------


class Node:
    """A gateway's daemon through all its lives."""

    def __init__(self, rig, side, daemon):
        self.rig, self.side, self.daemon = rig, side, daemon
        self.host = daemon.host
        self.folder = rig.folder(side)
        self.how = None
        self._new_life()

    def _new_life(self):
        self.engine_kills = 0
        self._note_engine()

    def _note_engine(self):
        """Called when the daemon is up."""
        self.counted = collections.Counter()
        (self.engine,) = wait_for(self.daemon.engine_pids, PATIENCE_S, f"an engine of {self.side}")

    def strike(self, how):
        """kill -9 of the engine (its keeper is stopped, so that it stays down), of the keeper, or of both."""
        self.how = how
        if how == "engine":
            os.kill(self.daemon.pid, signal.SIGSTOP)
            os.kill(self.engine, signal.SIGKILL)
        elif how == "keeper":
            os.kill(self.daemon.pid, signal.SIGKILL)
        else:
            self.daemon.kill_all()

    def wait_dead(self):
        wait_for(lambda: dead(self.engine), PATIENCE_S, f"the engine of {self.side} to be dead")
        if self.how == "engine":
            self.engine_kills += 1
            return
        assert self.daemon.wait(PATIENCE_S) == -signal.SIGKILL
        wait_for(lambda: not processes_of(self.daemon), PATIENCE_S, f"all of {self.side} to be dead")
        self.check_log()
        self.rig.forget(self.daemon)

    def start(self, full_disk=False):
        self.mark = len(self.daemon.log()) if self.how == "engine" else 0
        if self.how == "engine":
            os.kill(self.daemon.pid, signal.SIGCONT)
            return
        with open(self.daemon.conf_path, encoding="utf-8") as file:
            conf = file.read()
        # The mount is seen by this daemon alone, and ends with it.
        mount = f'mount -t tmpfs -o size={FULL_DISK_BYTES} hawser-test {self.folder} && exec "$@"'
        wrapper = ["unshare", "--mount", "sh", "-ec", mount, "sh"] if full_disk else []
        os.unlink(self.daemon.conf_path)
        self.daemon = self.rig.bed.hawserd(self.host, conf, name=self.daemon.name, wrapper=wrapper)

    def started(self):
        """Once the peers are up."""
        if self.how == "engine":
            self._note_engine()
        else:
            self._new_life()
        self.how = None

    def wait_said(self, regex):
        """In its log, since it was started the last time."""
        wait_for(lambda: re.search(regex, self.daemon.log()[self.mark:]), PATIENCE_S, f"{self.side} to say '{regex}'")

    def check_log(self):
        log = self.daemon.log()
        found = REPORTS.search(log)
        assert not found, f"{self.side}: {found[0]}"
        ends = len(re.findall(r"the engine was ended by signal 9", log))
        assert ends <= self.engine_kills, f"an engine of {self.side} was killed {ends} times, by us {self.engine_kills}"
        for files, parts in re.findall(r"(\d+) files and (\d+) parts of files were damaged", log):
            self.rig.counts += collections.Counter(files=int(files), parts=int(parts))

    def count(self):
        """What its engine has counted since the last time; what a killed one had not told is lost."""
        peer = self.daemon.ctl("peers")[0]
        now = collections.Counter({name: peer[name] for name in ("out_saved_bytes", "in_saved_bytes", "misses")})
        fresh = now - self.counted
        self.counted = now
        return fresh

    def __str__(self):
        ended = self.daemon.process.poll()
        return (f"{self.side}: keeper {self.daemon.pid} {'runs' if ended is None else f'ended with {ended}'}, its engine was "
                f"{self.engine} and is {self.daemon.engine_pids()}")

    def check_alive(self):
        assert self.daemon.alive(), f"{self.side} ended with {self.daemon.process.returncode}"
        engines = self.daemon.engine_pids()
        assert engines == [self.engine], f"the engine of {self.side} was {self.engine} and is {engines}"
        strange = damage.unknown_files(self.folder)
        assert not strange, f"{self.folder} has {strange}"


class Rig:
    def __init__(self, bed):
        self.bed = bed
        self.counts = collections.Counter()  # what the nodes say
        change = {side: {"store": {"path": self.folder(side), "size": "192M"}, "node": {"memory": "256M"}}
                  for side in SIDES}
        pair = bed.pair(**change)
        self.nodes = [Node(self, "near", pair.near), Node(self, "far", pair.far)]
        self.near, self.far = self.nodes

    def folder(self, side):
        return os.path.join(self.bed.folder, "store-" + side)

    def forget(self, daemon):
        """Its number may be somebody else's by now, and its log was read."""
        self.bed.processes.remove(daemon.process)
        self.bed.daemons.remove(daemon)
        self.bed.logs.remove(daemon.log_path)
        os.unlink(daemon.log_path)

    def count(self):
        """Of what crossed as references both ends know, and one of them may have been killed."""
        near, far = (node.count() for node in self.nodes)
        self.counts["referred"] += max(near["out_saved_bytes"], far["in_saved_bytes"])
        self.counts["referred"] += max(near["in_saved_bytes"], far["out_saved_bytes"])
        self.counts["misses"] += near["misses"] + far["misses"]

    def wait_written(self):
        """Both folders have something worth damaging. Stores are written once a second."""
        for side in SIDES:
            wait_for(lambda side=side: damage.segment_bytes(self.folder(side)) >= WRITTEN_LEAST, PATIENCE_S,
                     f"the store of {side} to be written")

    def daemons(self):
        return [node.daemon for node in self.nodes]

    def wait_up(self):
        wait_for(lambda: all(daemon.peers_up() for daemon in self.daemons()), PATIENCE_S, "the peers to be up")
        wait_way(CARRIED, self.bed.client, self.bed.server)

    def end(self):
        """In order; nothing may be left in the kernel but what a killed keeper could not know."""
        for node in self.nodes:
            node.check_alive()
            node.daemon.kill()
            assert node.daemon.wait() == 0
            node.check_log()
            left = kernel_state(node.host)
            left.pop("slow start after idle", None)
            assert not left, f"{node.side}: {left}"


# --- faults -----------------------------------------------------------------------------------------


class Kill:
    """kill -9 of nodes in the middle of transfers: victims is [(side, engine, keeper or node)]."""

    may_reset = True
    full_disk = False  # when they start again
    new = 0.15  # of what is sent afterwards

    def __init__(self, rig, dice, *victims):
        self.rig, self.dice = rig, dice
        self.victims = [(getattr(rig, side), how) for side, how in victims]

    def prepare(self):
        """Before the transfers begin. A store that was never written is a matter of its own."""
        if self.dice.random() < 0.5:
            self.rig.wait_written()

    def strike(self):
        """From the thread of a transfer: only what takes no time."""
        for node, how in self.victims:
            node.strike(how)

    def mend(self, _flows):
        for node, _ in self.victims:
            node.wait_dead()
        self.while_down()
        for node, _ in self.victims:
            node.start(self.full_disk)
        self.rig.wait_up()
        for node, _ in self.victims:
            node.started()

    def while_down(self):
        """The nodes are dead."""

    def check(self):
        """After transfers have succeeded again."""

    def __str__(self):
        return ", ".join(f"{how} of {node.side}" for node, how in self.victims)


class Damage(Kill):
    """Files of a node that was killed are touched. told: it must notice."""

    def __init__(self, rig, dice, touch, told, both=False):
        victims = [(side, dice.choice(("keeper", "node"))) for side in dice.sample(SIDES, 2 if both else 1)]
        super().__init__(rig, dice, *victims)
        self.touch, self.told = touch, told
        self.files = 0

    def prepare(self):
        self.rig.wait_written()

    def while_down(self):
        mine = self.victims[0][0]
        theirs = self.rig.far if mine is self.rig.near else self.rig.near
        self.files = self.touch(self.dice, mine.folder, theirs.folder)
        assert self.files > 0 or not self.told, "there was nothing to damage"

    def check(self):
        for node, _ in self.victims:
            if self.told:
                node.wait_said("were damaged, cut short or not of")
            node.wait_said("the store is back")

    def __str__(self):
        return f"{super().__str__()}, {self.files} files"


class PutBack(Damage):
    """The folder is an older one of its own."""

    def __init__(self, rig, dice):
        super().__init__(rig, dice, None, False)

    def prepare(self):
        super().prepare()
        node = self.victims[0][0]
        self.touch = damage.Older(node.folder, os.path.join(self.rig.bed.folder, "older")).put_back


class FullDisk(Kill):
    """It starts again with a disk that is soon full, and once more with the one it had."""

    full_disk = True
    new = 1

    def check(self):
        for node, _ in self.victims:
            node.wait_said("the disk is full")
        self.full_disk = False
        self.strike()
        self.mend([])


class Cut:
    """The link is away for a while, or until both nodes have found their peer dead. Sessions outlive it."""

    may_reset = False
    new = 0.15

    def __init__(self, rig, _dice, found_out):
        self.rig, self.found_out = rig, found_out
        self.wanem = rig.bed.wanem

    def prepare(self):
        self.before = self._lost()

    def _lost(self):
        stats = self.wanem.stats()
        return sum(stats[way]["drop_down_packets"] for way in ("a-to-b", "b-to-a"))

    def strike(self):
        self.wanem.down()

    def mend(self, flows):
        if self.found_out:
            for daemon in self.rig.daemons():
                wait_down(daemon)
        else:
            wait_for(lambda: self._lost() >= self.before + 2 or all(flow.finished() for flow in flows), PATIENCE_S,
                     "packets to be lost")
        self.wanem.up()
        self.rig.wait_up()

    def check(self):
        pass

    def __str__(self):
        return f"{self._lost() - self.before} packets"


FAULTS = {
    "near engine killed": lambda *at: Kill(*at, ("near", "engine")),
    "far engine killed": lambda *at: Kill(*at, ("far", "engine")),
    "near keeper killed": lambda *at: Kill(*at, ("near", "keeper")),
    "far keeper killed": lambda *at: Kill(*at, ("far", "keeper")),
    "both nodes killed": lambda *at: Kill(*at, ("near", "node"), ("far", "node")),
    "bytes flipped": lambda *at: Damage(*at, damage.flip_bytes, False),
    "files cut short": lambda *at: Damage(*at, damage.cut_short, False),
    "files swapped between the nodes": lambda *at: Damage(*at, damage.swap_between_nodes, True, both=True),
    "files of the other node": lambda *at: Damage(*at, damage.copy_from_the_other_node, True),
    "files of another version": lambda *at: Damage(*at, damage.other_version, True),
    "empty files": lambda *at: Damage(*at, damage.make_empty, True),
    "garbage in files": lambda *at: Damage(*at, damage.put_garbage, True),
    "records of other files": lambda *at: Damage(*at, damage.graft_records, False),
    "what is proved spoilt": lambda *at: Damage(*at, damage.spoil_what_is_proved, False),
    "an older folder": PutBack,
    "full disk": lambda rig, dice: FullDisk(rig, dice, (dice.choice(SIDES), "node")),
    "link cut": lambda *at: Cut(*at, False),
    "link cut until found out": lambda *at: Cut(*at, True),
}


def deal(dice):
    """Names of faults without end, each as often as the others."""
    while True:
        yield from dice.sample(list(FAULTS), len(FAULTS))


# --- rounds -----------------------------------------------------------------------------------------


class Sums:
    def __init__(self):
        self.faults = collections.Counter()
        self.bytes = self.whole = self.reset = 0

    def add(self, flows, whole):
        self.bytes += sum(half.arrived for flow in flows for half in flow.halves)
        self.whole += sum(whole)
        self.reset += len(whole) - sum(whole)


def begin(rig, door, contents):
    flows = [Flow(rig.bed, door, down, up) for down, up in contents]
    for flow in flows:
        assert flow.path == CARRIED, f"a connection was {flow.path}"
    return flows


def finish(flows, sums):
    """How many were whole."""
    whole = [flow.finish() for flow in flows]
    sums.add(flows, whole)
    return sum(whole)


def some_contents(dice, corpus):
    contents = []
    for _ in range(dice.randint(1, 4)):
        down, up = (corpus.content(dice, dice.randint(1_000_000, TRANSFER_MOST)) for _ in range(2))
        contents.append(dice.choice(((down, b""), (down, b""), (b"", up), (down, up))))
    return contents


def one_round(rig, door, dice, corpus, fault, sums):
    flows = begin(rig, door, some_contents(dice, corpus))
    victim = max((half for flow in flows for half in flow.halves), key=lambda half: len(half.content))
    struck = threading.Event()

    def strike():
        fault.strike()
        struck.set()
    fault.prepare()
    victim.at, victim.strike = dice.randrange(1, len(victim.content)), strike
    for flow in flows:
        flow.start()
    wait_for(lambda: struck.is_set() or victim.finished(), 2 * PATIENCE_S, "the moment of the fault")
    assert struck.is_set(), f"the transfer ended before its fault: {victim.error or 'reset'}"
    fault.mend(flows)
    whole = finish(flows, sums)
    assert fault.may_reset or whole == len(flows), f"{len(flows) - whole} of {len(flows)} sessions were reset"
    again = begin(rig, door, [(corpus.content(dice, 10_000_000), b""),
                              (b"", corpus.content(dice, 2 * FULL_DISK_BYTES, fault.new))])
    for flow in again:
        flow.start()
    assert finish(again, sums) == len(again), "a transfer was reset after all was mended"
    fault.check()
    wait_no_sessions(*rig.daemons())
    for node in rig.nodes:
        node.check_alive()
    rig.count()
    return f"{fault}; at {victim.at} of {len(victim.content)} bytes, {whole} of {len(flows)} were whole"


def warm_up(rig, door, corpus, sums):
    """What is known at first."""
    flows = begin(rig, door, [(bytes(corpus.bytes), b"")])
    flows[0].start()
    assert finish(flows, sums) == 1


def left_of(bed_prefix):
    """Whatever on this machine still bears the bed's name."""
    left = [name for name in os.listdir(NETNS_FOLDER) if name.startswith(bed_prefix)]
    left += [name for name in os.listdir(tempfile.gettempdir()) if name.startswith(bed_prefix)
             and not os.environ.get("HAWSER_KEEP")]
    with open("/proc/mounts", encoding="utf-8") as file:
        left += [line for line in file if bed_prefix in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                left += [line for line in file if bed_prefix in line and int(pid) != os.getpid()]
        except OSError:
            continue
    return left


def test_no_byte_is_wrong_whatever_fails():
    begun = time.monotonic()
    print(f"{ROUNDS} rounds, seed {SEED}", flush=True)
    dice, sums = random.Random(SEED), Sums()
    faults = deal(random.Random(SEED))
    with Bed("none", wanem=LINK) as bed, listener(bed.server) as door:
        prefix = bed.prefix + "-"
        rig, corpus = Rig(bed), Corpus(dice)
        warm_up(rig, door, corpus, sums)
        for number in range(ROUNDS):
            name = next(faults)
            dice = random.Random(f"{SEED} {number}")
            since = time.monotonic()
            fault = FAULTS[name](rig, dice)
            try:
                said = one_round(rig, door, dice, corpus, fault, sums)
            except BaseException:
                print(f"round {number}: {name}: {fault}", *rig.nodes, sep="\n", flush=True)
                raise
            sums.faults[name] += 1
            print(f"round {number}: {name}: {said} ({time.monotonic() - since:.1f} s)", flush=True)
        rig.end()
    left = left_of(prefix)
    assert not left, left
    for name, count in sorted(sums.faults.items()):
        print(f"{count:5} {name}")
    counts = rig.counts
    print(f"{sums.faults.total()} faults in {time.monotonic() - begun:.0f} s: {sums.bytes / 1e6:.0f} MB compared, none "
          f"wrong; {sums.whole} transfers whole, {sums.reset} reset; at least {counts['referred'] / 1e6:.0f} MB crossed as "
          f"references, {counts['misses']} misses; {counts['files']} files and {counts['parts']} parts of files found "
          "damaged; nothing died by itself")
    assert counts["referred"] > sums.bytes / 10, "too little was known: the faults hit nothing"


if __name__ == "__main__":
    main(globals(), 120 + 60 * ROUNDS)
