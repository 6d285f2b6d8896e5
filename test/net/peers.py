"""Small TCP clients and servers at the ends of a bed, and the ways to see what became of a connection.

The sockets belong to the namespaces of their hosts (Host.socket), so one thread holds both ends of a connection:

    with listener(bed.server) as door:
        client = connect(bed.client, door.getsockname())
        conn = accept(door)
        assert path_of(conn) == CARRIED

Which way a connection came is read from the SYN that the server got: each router takes one from the TTL, and a
host begins with 64. So nothing of the programs under test is asked, and a dead one can be looked at, too."""

import contextlib
import hashlib
import json
import os
import random
import re
import socket
import struct
import subprocess
import threading
import time

from bed import conf_text, program, wait_for
from bed_hosts import pids_inside
from bed_programs import merged_sections

TCP_SAVE_SYN, TCP_SAVED_SYN = 27, 28
PATIENCE_S = 60  # only to end a hang

CARRIED, RELAYED, DIRECT = "carried", "relayed", "direct"
_WAYS = {64: CARRIED, 63: RELAYED, 62: DIRECT}


def families(bed):
    return (4, 6) if bed.ipv6 else (4,)


def socket_family(family):
    return socket.AF_INET6 if family == 6 else socket.AF_INET


# --- ends -------------------------------------------------------------------------------------------


def listener(host, family=4, port=0, backlog=128):
    """A listening socket on the host's own address, which keeps the SYNs of what it accepts."""
    door = host.socket(socket_family(family))
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
    door.bind((host.ip(family), port))
    door.listen(backlog)
    door.settimeout(PATIENCE_S)
    return door


def connect(host, address, port=0, dscp=0, timeout=PATIENCE_S):
    """A connection from the host's own address to (address, port)."""
    family = 6 if ":" in address[0] else 4
    client = host.socket(socket_family(family))
    try:
        client.settimeout(timeout)
        if dscp and family == 4:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
        elif dscp:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((host.ip(family), port))
        client.connect(address[:2])
    except BaseException:
        client.close()
        raise
    return client


def accept(door):
    conn, _ = door.accept()
    conn.settimeout(PATIENCE_S)
    return conn


@contextlib.contextmanager
def connected(client, server, family=4, **kw):
    """(the client's socket, the server's socket) of a new connection from host to host."""
    with listener(server, family) as door:
        near_end = connect(client, door.getsockname(), **kw)
        with near_end, accept(door) as far_end:
            yield near_end, far_end


def read_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 20))
        assert piece, f"the connection ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def read_to_end(sock):
    """All bytes up to the end of the stream."""
    data = bytearray()
    while piece := sock.recv(1 << 20):
        data += piece
    return bytes(data)


def reset(sock):
    """Closes with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def error_of(call, *arguments, **kw):
    """The class of the OSError that a call ends with, None if it does not."""
    try:
        call(*arguments, **kw)
    except OSError as error:
        return type(error)
    return None


def fate(host, address, **kw):
    """The class of the error that a new connection ends with, at connect or when it waits for a byte. (A reset
    may come while connect() has not returned.)"""
    try:
        with connect(host, address, **kw) as client:
            assert client.recv(1) == b"", "somebody speaks"
    except OSError as error:
        return type(error)
    return None


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


class Task(threading.Thread):
    """A call that runs beside the test; result() waits, and raises what it raised."""

    def __init__(self, call, *arguments, **kw):
        super().__init__(daemon=True)
        self._call = lambda: call(*arguments, **kw)
        self._value = self._error = None
        self.start()

    def run(self):
        try:
            self._value = self._call()
        except BaseException as error:  # pylint: disable=broad-except
            self._error = error

    def result(self, timeout=100):
        self.join(timeout)
        assert not self.is_alive(), "a call beside the test hangs"
        if self._error is not None:
            raise self._error
        return self._value


def echo_once(near_end, far_end, payload=b"is anybody there?"):
    """Bytes pass there and back."""
    near_end.sendall(payload)
    assert read_exactly(far_end, len(payload)) == payload
    far_end.sendall(payload[::-1])
    assert read_exactly(near_end, len(payload)) == payload[::-1]


class Stream:
    """A transfer that the test watches while it runs: bytes of a seed from `source` to `sink`."""

    def __init__(self, source, sink, size, seed=1):
        self.size, self.seed = size, seed
        self.arrived = 0
        self._hash = hashlib.sha256()
        self._reader = Task(self._read, sink)
        self._writer = Task(self._write, source)

    def _blocks(self):
        generator = random.Random(self.seed)
        for at in range(0, self.size, 1 << 16):
            yield generator.randbytes(min(self.size - at, 1 << 16))

    def _write(self, source):
        for block in self._blocks():
            source.sendall(block)
        source.shutdown(socket.SHUT_WR)

    def _read(self, sink):
        while piece := sink.recv(1 << 18):
            self._hash.update(piece)
            self.arrived += len(piece)

    def wait_arrived(self, size):
        def there():
            assert self.arrived >= size or self._reader.is_alive(), f"it ended after {self.arrived} bytes"
            return self.arrived >= size
        wait_for(there, PATIENCE_S, f"{size} bytes to arrive")

    def finished(self):
        return not self._reader.is_alive()

    def finish(self, timeout=100):
        """Waits for its end and compares."""
        self._writer.result(timeout)
        self._reader.result(timeout)
        wanted = hashlib.sha256()
        for block in self._blocks():
            wanted.update(block)
        assert self.arrived == self.size and self._hash.digest() == wanted.digest(), \
            f"{self.arrived} of {self.size} bytes arrived, or others"


# --- what became of a connection --------------------------------------------------------------------


class Syn:
    """The SYN that a connection of a listener() began with: .ttl, .dscp"""

    def __init__(self, conn):
        packet = conn.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 512)
        if packet[0] >> 4 == 4:
            self.dscp, self.ttl = packet[1] >> 2, packet[8]
        else:
            self.dscp, self.ttl = (packet[0] & 15) << 2 | packet[1] >> 6, packet[7]


def path_of(conn):
    """CARRIED through the tunnel, RELAYED by the near engine, or DIRECT."""
    return _WAYS[Syn(conn).ttl]


def way(client, server, family=4):
    """The way of a new connection, over which bytes pass."""
    with connected(client, server, family) as (near_end, far_end):
        echo_once(near_end, far_end)
        return path_of(far_end)


def wait_way(wanted, client, server, family=4, timeout=PATIENCE_S):
    """New connections take this way within the timeout. None on the way there may fail, so whoever waits for
    DIRECT after a death waits for what notices the death first: a connection caught in the very moment is lost."""
    wait_for(lambda: way(client, server, family) == wanted, timeout, f"new connections to be {wanted}")


def wait_down(daemon, peer=None):
    """The daemon knows that a peer (the only one) is down."""
    def down():
        return all(row["state"] == "down" for row in daemon.ctl("peers") if peer in (None, row["name"]))
    wait_for(down, PATIENCE_S, f"{daemon.name} to find its peer down")


def text_of(address):
    """As the control socket writes addresses."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def session_of(daemon, client_end):
    """The session of a client's socket as `hawserctl sessions` shows it, or None."""
    name = text_of(client_end.getsockname())
    return next((session for session in daemon.ctl("sessions") if session["client"] == name), None)


def wait_no_sessions(*daemons):
    for daemon in daemons:
        wait_for(lambda daemon=daemon: daemon.ctl("sessions") == [], PATIENCE_S, f"{daemon.name} to be idle")


def bypassed(daemon, name):
    """How often a reason of `hawserctl bypass` was counted."""
    return next(row["count"] for row in daemon.ctl("bypass") if row["name"] == name)


def kernel_state(host):
    """What hawserd may have put into the kernel of a host: {what: text}, empty when there is nothing."""
    state = {"tables": host.run(["nft", "list", "tables"]).stdout}
    for family in ("-4", "-6"):
        rules = host.run(["ip", family, "rule"]).stdout
        state["rules" + family] = "".join(line for line in rules.splitlines() if re.search(r"lookup 10[01]\b", line))
        for table in ("100", "101"):
            routes = host.run(["ip", family, "route", "show", "table", table], check=False).stdout
            state[f"table {table} {family}"] = routes
    state["slow start after idle"] = "" if host.sysctl("net.ipv4.tcp_slow_start_after_idle") == "1" else "off"
    return {what: text for what, text in state.items() if text.strip()}


def table_present(host):
    return "inet hawser" in host.run(["nft", "list", "tables"]).stdout


def processes_of(daemon):
    """Processes named hawserd in the daemon's namespace."""
    pids = []
    for pid in pids_inside([daemon.host.netns]):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
            if file.read().strip() == "hawserd":
                pids.append(pid)
    return pids


def dead(pid):
    """Whether a process has ended with all its threads, also while nobody has asked how: as long as one is left, so are
    its descriptors."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            ended = file.read().rpartition(")")[2].split()[0] in "ZX"
        return ended and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return True


def refused_set(host, family=4):
    """Elements of the nft set of refused origins: {(address, port)}."""
    done = host.run(["nft", "-j", "list", "set", "inet", "hawser", f"refused{family}"])
    found = set()
    for item in json.loads(done.stdout)["nftables"]:
        for element in item.get("set", {}).get("elem", []):
            value = element["elem"]["val"] if "elem" in element else element
            found.add(tuple(value["concat"]))
    return found


def steady(figure, quiet_s=1.0, timeout=PATIENCE_S):
    """Waits until figure() has not changed for a while; that figure."""
    state = {"figure": figure(), "since": time.monotonic()}

    def quiet():
        now = figure()
        if now != state["figure"]:
            state.update(figure=now, since=time.monotonic())
        return time.monotonic() - state["since"] >= quiet_s
    wait_for(quiet, timeout, "a figure to stand still")
    return state["figure"]


# --- configurations ---------------------------------------------------------------------------------


def reload_sections(daemon, sections, changes=None, extra=""):
    """Writes a changed configuration; the finished `hawserctl --json reload`."""
    daemon.write_conf(conf_text(merged_sections(sections, changes), extra))
    return reload(daemon)


def reload(daemon):
    return subprocess.run([program("hawserctl"), "--json", "-s", daemon.control, "reload"], capture_output=True,
                          text=True, timeout=30, check=False)
