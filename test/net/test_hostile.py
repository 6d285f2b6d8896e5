"""Hostile and broken input: what says it ends alone, with a line in the log, and nothing else suffers.

The far node has two peers: the branch, which is true and fetches files all the time, and branch1, whose place a program
takes that has its key and says what it likes. Whatever that does, the files come whole, the session that the
branch held open before goes on, no engine ends, and memory stays below its cap."""

import contextlib
import json
import os
import random
import re
import resource
import socket
import ssl
import threading

import hostile_peer as hp
from bed import Bed, conf_text, main, merged_sections, wait_for
from hostile_peer import HostilePeer, block, blocks
from load_runs import LoadClient, LoadServer, engine_pid, is_sanitized, peak_bytes

MIB = 1 << 20
CAP = 64 * MIB
WRONG = r"peer branch1: (closing lane \d: .*{text}|lane \d with .* is down: .*{text})"
STRANGER = r"did not become a lane: .*{text}"


class Scene:
    """.bed, .near, .far (daemons), .evil (the host of the hostile peer), .sink_port (of a server that only reads)"""

    def __init__(self, serve=None, far=None, fetches=True):
        self.serve = serve
        self.fetches = fetches
        self.far_changes = far or {}
        self.cap = CAP
        self._stop = threading.Event()
        self._fetched = 0
        self._failure = None

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self.bed = bed = stack.enter_context(Bed(profile=None, branches=2))
            self.evil = bed.branches[1].near
            self.evil_net = "10.1.1."
            changes = {"node": {"memory": "64M", "workers": 1}, **self.far_changes}
            changes["peer branch1"] = {"hold": "1s", "serve": self.serve}
            self.far = bed.hawserd(bed.far, conf_text(merged_sections(bed.far_sections(), changes)), name="dc")
            near = merged_sections(bed.near_sections(), {"node": {"memory": "64M", "workers": 1}})
            self.near = bed.hawserd(bed.near, conf_text(near), name="branch")
            self.near.wait_up()
            self.folder, self.pin = bed.identity("branch1")
            self.dc_pin = bed.identity("dc")[1]
            self.engines = [engine_pid(daemon) for daemon in (self.near, self.far)]
            self.server = LoadServer(bed.server)
            self.held = LoadClient(bed.client, self.server, ["idle:20,up=1000,down=1000"], hold=True)
            self.held.wait_held()
            self.web = bed.nginx()
            self.web.file("blob", 3 * MIB)
            self.web.file("large", 40 * MIB, 2)
            self.thread = threading.Thread(target=self._fetch if self.fetches else lambda: None)
            self.thread.start()
            stack.callback(self._end_fetching)
            self._stack = stack.pop_all()
        return self

    def _fetch(self):
        try:
            while not self._stop.is_set():
                self.bed.download(self.bed.client, self.web, "blob")
                self._fetched += 1
        except BaseException as error:  # pylint: disable=broad-except
            self._failure = error

    def _end_fetching(self):
        self._stop.set()
        self.thread.join()

    def check(self):
        """Nothing has suffered."""
        before = self._fetched
        if self.fetches:
            wait_for(lambda: self._failure or self._fetched > before + 1, 60, "another download")
        else:
            self.bed.download(self.bed.client, self.web, "blob")
        if self._failure:
            raise self._failure
        assert self.engines == [engine_pid(daemon) for daemon in (self.near, self.far)], "an engine was replaced"
        assert self.far.ctl("status")["node"] == "dc"
        for daemon in (self.near, self.far):
            self.assert_clean(daemon)
            if not is_sanitized():
                peak = peak_bytes(engine_pid(daemon))
                assert peak <= self.cap, f"{daemon.name}: a peak of {peak} bytes"

    @staticmethod
    def assert_clean(daemon):
        assert not re.search(r"engine.*(ended|died|killed|hung)|ERROR: \w+Sanitizer|runtime error", daemon.log()), \
            daemon.log()

    def __exit__(self, kind, error, trace):
        with self._stack:
            if kind is None:
                self.check()
                self.held.release()
                self._end_fetching()
                self.held.finish()
                self.server.stop()
                if self._failure:
                    raise self._failure
                for daemon in (self.near, self.far):
                    daemon.kill()
                for daemon in (self.near, self.far):
                    assert daemon.wait(20) == 0, daemon.log()
                    self.assert_clean(daemon)

    def dial(self, folder=None, **keywords):
        return HostilePeer(self.evil, (self.bed.branches[1].wan(1)[0], 4430), folder or self.folder, **keywords)

    def peer(self, **fields):
        """A lane of branch1 that is up, of a node that has just started unless its instance is given."""
        fields.setdefault("instance", os.urandom(16))
        return self.dial().greet(**fields)

    def new_id(self, peer):
        return peer.new_id(self.pin, self.dc_pin)

    def seen(self, regex, begin=0):
        return re.search(regex, self.far.log()[begin:], re.M)

    def until_logged(self, regex, attack):
        """Failures of strangers are logged at most once a second: tries until this one is."""
        begin = len(self.far.log())

        def tried():
            attack()
            return self.seen(regex, begin)
        return wait_for(tried, 15, f"/{regex}/ in the log")

    def ends_lane(self, payload, text, **fields):
        """After these bytes the lane ends, and the log says why."""
        begin = len(self.far.log())
        with self.peer(**fields) as peer:
            peer.send(payload)
            peer.wait_closed()
        wait_for(lambda: self.seen(WRONG.format(text=text), begin), 10, f"'{text}' after {payload[:40]!r}")

    def resets(self, make, text=r"session \d+ ", reason=hp.PROTOCOL):
        """An open session to the sink that gets these frames ends with that RST, the lane goes on."""
        begin = len(self.far.log())
        with self.peer() as peer:
            session = self.open_sink(peer)
            peer.send(block(make(session)))
            rst = peer.wait_frame(hp.RST, session)
            assert rst.fields[0] == reason, rst
            peer.send(block(hp.rst_frame(session, 0, 1)))
            peer.wait_pong()
        if text:
            wait_for(lambda: self.seen(r"peer branch1: .*" + text, begin), 10, f"'{text}' in the log")

    def open_sink(self, peer, port=9100, client_port=40000):
        session = self.new_id(peer)
        peer.send(block(hp.open_frame(session, self.evil_net + "2", self.bed.server.ip4, port, client_port)))
        peer.wait_frame(hp.CREDIT, session)
        return session


class Sink:
    """A server at port 9100 that takes connections; .bytes of each in turn unless it does not read."""

    def __init__(self, scene, reads=True):
        self.connections = []
        self.listener = scene.bed.server.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not reads:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(("0.0.0.0", 9100))
        self.listener.listen(1024)
        self.reads = reads
        self.bytes = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                self.bytes.append(bytearray())
                if self.reads:
                    threading.Thread(target=self._read, args=(connection, self.bytes[-1]), daemon=True).start()

    @staticmethod
    def _read(connection, to):
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                to += piece


def counted(scene, name):
    return next(row["count"] for row in scene.far.ctl("bypass") if row["name"] == name)


# --- before a lane is up ------------------------------------------------------------------------------


def test_strangers_at_the_tunnel_port():
    """Plain text, TLS 1.2, no certificate, a key that nobody has pinned, a greeting that is none."""
    with Scene() as scene:
        stranger, pin = scene.bed.identity("stranger")
        address = (scene.bed.branches[1].wan(1)[0], 4430)

        def plain(payload):
            with scene.evil.socket() as client:
                client.settimeout(20)
                client.connect(address)
                client.sendall(payload)
                with contextlib.suppress(ConnectionError):
                    while client.recv(4096):
                        pass

        def refused(folder=scene.folder, payload=b"", **keywords):
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                with HostilePeer(scene.evil, address, folder, **keywords) as peer:
                    peer.send(payload)
                    peer.wait_closed()
                    assert peer.greeting is None or folder is scene.folder, "a greeting for a stranger"

        for payload in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", bytes(1000),
                        b"\x16\x03\x01\xff\xff" + bytes(2000), random.Random(1).randbytes(5000)):
            scene.until_logged(STRANGER.format(text="TLS failed"), lambda payload=payload: plain(payload))
        scene.until_logged(STRANGER.format(text="TLS failed"), lambda: refused(version=ssl.TLSVersion.TLSv1_2))
        scene.until_logged(STRANGER.format(text="TLS failed"), lambda: refused(None))
        scene.until_logged(STRANGER.format(text=f"showed the pin {re.escape(pin)}.* set pin = {re.escape(pin)} "),
                           lambda: refused(stranger))
        wrong = (("not a hawser greeting", hp.greeting(magic=b"HTTP/1.1")),
                 ("another version", hp.greeting(version=2)), ("another version", hp.greeting(version=0)),
                 ("a field of a frame|longer", hp.greeting(instance=bytes(16))),
                 ("longer|a field", hp.greeting(name=b"", name_len=64)),
                 ("a field", hp.greeting(name=b"a\x1b[2J")), ("a field", hp.greeting(name=b"\xff\xfe")),
                 ("a field", hp.greeting(credit=hp.OFFSET_MAX + 1)))
        for text, payload in wrong:
            scene.until_logged(STRANGER.format(text=f"({text})"), lambda payload=payload: refused(payload=payload))

        def cut():
            with scene.dial() as peer:
                peer.send(hp.greeting()[:9])
        scene.until_logged(STRANGER.format(text="(closed|reset)"), cut)
        for slot in (8, 255):
            begin = len(scene.far.log())
            refused(payload=hp.greeting(slot=slot))
            wait_for(lambda begin=begin, slot=slot: scene.seen(f"branch1: a lane for slot {slot} refused", begin), 10,
                     f"slot {slot} in the log")
        assert [peer["state"] for peer in scene.far.ctl("peers")] == ["up", "down"]


def test_half_finished_handshakes():
    """10,000 of them, while a true peer comes in all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = min(10000, hard - 1000)
    try:
        with Scene() as scene, contextlib.ExitStack() as stack:
            address = (scene.bed.branches[1].wan(1)[0], 4430)
            hello = ssl.MemoryBIO()
            tls = hp.tls_context(scene.folder).wrap_bio(ssl.MemoryBIO(), hello)
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            flight = hello.read()
            beginnings = (b"", flight[:1], flight[:-1], flight)
            for number in range(wanted):
                client = stack.enter_context(scene.evil.socket())
                client.settimeout(20)
                client.connect(address)
                with contextlib.suppress(ConnectionError):
                    client.sendall(beginnings[number % len(beginnings)])
            scene.peer().close()
            fds = len(os.listdir(f"/proc/{scene.engines[1]}/fd"))
            print(f"{wanted} half-finished handshakes, {fds} descriptors in the engine", flush=True)
            assert fds < 1000, fds
            assert scene.seen(STRANGER.format(text="busy"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_dialling_a_stranger():
    """The near node dials an address where somebody else answers."""
    with Bed(profile=None, ipv6=False) as bed:
        identity, _ = bed.identity("stranger")
        good, _ = bed.identity("dc")
        near = bed.hawserd(bed.near, conf_text(bed.near_sections()), name="branch")
        listener = bed.far.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", 4430))
        listener.listen(64)
        listener.settimeout(30)

        def answer(folder, payload):
            client, _ = listener.accept()
            with contextlib.suppress(ssl.SSLError, ConnectionError, TimeoutError):
                client.settimeout(30)
                if folder:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(f"{folder}/node.crt", f"{folder}/node.key")
                    client = context.wrap_socket(client, server_side=True)
                client.sendall(payload)
                while client.recv(65536):
                    pass
            client.close()

        with listener:
            for folder, payload, text in ((None, b"220 smtp.example ESMTP\r\n", "TLS failed"),
                                          (identity, hp.greeting(), "key is not the one in `pin`"),
                                          (good, hp.greeting(version=7), "another version"),
                                          (good, hp.greeting(magic=b"whatever"), "not a hawser greeting"),
                                          (good, hp.greeting() + block(b"\xff"), "unknown type")):
                def tried(folder=folder, payload=payload, text=text):
                    answer(folder, payload)
                    return re.search(r"peer dc: .*" + text, near.log())
                wait_for(tried, 60, f"'{text}' in the log")
                assert near.ctl("peers")[0]["state"] == "down"
        assert near.alive()


# --- frames that end the lane -------------------------------------------------------------------------


def compressed_blocks_that_end_the_lane(scene, good):
    wrong = "does not decode to what it says"
    ping = hp.ping_frame(300)
    for payload, text in ((b"", "value that its type forbids"), (b"\3", "ends before its fields"),
                          (hp.varint(65537) + b"x", "longer than its type"), (b"\3abc", wrong),
                          (hp.zstd_piece(ping, first=False), wrong), (hp.zstd_piece(ping, window=0x60), wrong),
                          (hp.zstd_piece(ping, said=2), wrong), (hp.zstd_piece(ping, said=4), wrong),
                          (hp.zstd_piece(ping, said=0), wrong), (hp.zstd_piece(ping, last=True) + b"x", wrong),
                          (hp.varint(65536) + hp.zstd_piece(b"\0", said=131071, kind=1)[3:], wrong),
                          (hp.zstd_piece(b"\0", said=65536, kind=1), "unknown type"),
                          (hp.zstd_piece(good[:-1]), "ends before its fields")):
        scene.ends_lane(block(payload, kind=1), text, features=1)
    with scene.peer(features=1) as peer:  # and these do not
        peer.send(block(hp.zstd_piece(hp.ping_frame(1)), kind=1) + block(hp.ping_frame(2)) +
                  block(hp.zstd_piece(b"", first=False, last=True), kind=1) +
                  block(hp.zstd_piece(hp.ping_frame(3), last=True), kind=1))
        for _ in range(2):  # the first may answer what came before the last block
            peer.wait_pong()


def test_blocks_and_frames_that_end_the_lane():
    with Scene() as scene:
        mine = 1 << 1 | hp.side_of(scene.pin, scene.dc_pin)
        theirs = mine ^ 1
        net, server = scene.evil_net + "2", scene.bed.server.ip4
        good = hp.open_frame(mine, net, server, 80)
        for payload in (block(b"x", kind=1), block(b"x", kind=255)):
            scene.ends_lane(payload, "unknown type")
        for length in (0, 65537, 0xffffff):
            scene.ends_lane(block(b"", length=length), "")
        compressed_blocks_that_end_the_lane(scene, good)
        for cut in (1, 2, 3, len(good) - 1):
            scene.ends_lane(block(good[:cut]), "ends before its fields")
        scene.ends_lane(block(hp.ping_frame(1) + good[:5]), "ends before its fields")
        scene.ends_lane(block(hp.data_frame(mine, 0, b"abc")[:-1]), "")
        for kind in (0, 13, 14, 128, 255):
            scene.ends_lane(block(bytes([kind]) + bytes(30)), "unknown type")
        wrong = [hp.open_frame(theirs, net, server, 80), hp.open_frame(mine & 1, net, server, 80),
                 hp.open_frame(mine, net, server, 80, family=5), hp.open_frame(mine, net, server, 80, dscp=64),
                 hp.open_frame(mine, net, server, 80, name=b"\n"), hp.open_frame(mine, net, server, 80, name=b"\xff"),
                 hp.open_frame(mine, "::ffff:10.1.1.2", "::ffff:10.2.0.2", 80),
                 hp.open_frame(mine, net, server, 80, credit=hp.OFFSET_MAX + 1), b"\7\x80\0", b"\7" + b"\xff" * 10,
                 hp.rst_frame(mine, 0, 2), hp.fin_frame(mine, hp.OFFSET_MAX + 1), hp.ack_frame(mine, hp.OFFSET_MAX + 2),
                 bytes([hp.DATA]) + hp.varint(mine) + b"\0\0", hp.data_frame(mine, hp.OFFSET_MAX, b"x"),
                 bytes([hp.DATA]) + hp.varint(mine) + b"\0" + hp.varint(65001) + bytes(65001 - 65000 + 200)]
        for payload in wrong:
            scene.ends_lane(block(payload), "")
        assert scene.far.ctl("peers")[0]["state"] == "up"


def test_random_bytes_in_a_lane():
    chance = random.Random(4)
    with Scene() as scene:
        mine = 1 << 1 | hp.side_of(scene.pin, scene.dc_pin)
        for number in range(150):
            payload = chance.randbytes(chance.randrange(1, 3000))
            if number % 3 == 1:
                payload = block(bytes([chance.randrange(1, 9)]) + payload)
            elif number % 3 == 2:
                good = bytearray(hp.open_frame(mine, scene.evil_net + "2", scene.bed.server.ip4, 80, credit=1 << 20) +
                                 hp.data_frame(mine, 0, b"GET / HTTP/1.0\r\n\r\n") + hp.fin_frame(mine, 18))
                good[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
                payload = block(bytes(good))
            with scene.peer(instance=chance.randbytes(16)) as peer:
                peer.send(payload)


# --- frames that end the session ----------------------------------------------------------------------


def test_frames_that_reset_the_session():
    with Scene() as scene, Sink(scene):
        for offset in (1 << 40, hp.OFFSET_MAX - 10):
            scene.resets(lambda s, offset=offset: hp.data_frame(s, offset, b"far away"), "sent past its credit")
        scene.resets(lambda s: hp.fin_frame(s, 5) + hp.data_frame(s, 0, b"seven!!"), "sent past its end")
        scene.resets(lambda s: hp.fin_frame(s, 100) + hp.fin_frame(s, 101))
        scene.resets(lambda s: hp.data_frame(s, 0, b"0123456789") + hp.fin_frame(s, 9))
        scene.resets(lambda s: hp.ack_frame(s, 1000))
        scene.resets(lambda s: hp.ack_frame(s, hp.OFFSET_MAX + 1))


def test_frames_twice_and_out_of_order():
    with Scene() as scene, Sink(scene) as sink, scene.peer() as peer:
        unknown = 1000 << 1 | hp.side_of(scene.pin, scene.dc_pin)
        peer.send(block(hp.data_frame(unknown, 0, b"x") + hp.ack_frame(unknown, 5) + hp.credit_frame(unknown, 5)))
        peer.wait_pong()
        assert not peer.frames, peer.frames
        peer.send(block(hp.fin_frame(unknown, 0)))
        assert peer.wait_frame(hp.RST, unknown).fields[:2] == (hp.UNKNOWN, 1)
        session = scene.open_sink(peer)
        opened = hp.open_frame(session, scene.evil_net + "2", scene.bed.server.ip4, 9100)
        other = hp.open_frame(session, scene.evil_net + "3", scene.bed.server.ip4, 80)
        peer.send(block(opened + other + hp.data_frame(session, 10, b"KLMNO") + hp.data_frame(session, 2, b"CDEF") +
                        hp.data_frame(session, 3, b"####") + hp.data_frame(session, 0, b"ABcd") +
                        hp.data_frame(session, 0, b"!!!!!!") + hp.data_frame(session, 12, b"MN") +
                        hp.fin_frame(session, 15) + hp.fin_frame(session, 15) + hp.data_frame(session, 4, b"EFGHIJKL")))
        wait_for(lambda: len(sink.bytes) == 1 and len(sink.bytes[0]) == 15, 10, "15 bytes at the server")
        assert sink.bytes[0].upper()[:3] == b"ABC" and sink.bytes[0][7:] == b"HIJKLMNO", sink.bytes[0]
        sink.connections[0].close()
        peer.wait_frame(hp.FIN, session)
        peer.send(block(hp.ack_frame(session, 1)))
        peer.wait_pong()
        peer.send(block(opened))
        assert peer.wait_frame(hp.RST, session).fields[:2] == (hp.UNKNOWN, 1)
        peer.wait_pong()
        assert len(sink.connections) == 1, "a closed id was opened again"


def test_answers_to_an_open():
    """The near node's own sessions, with a far node that answers them wrongly: the client's connection is reset."""
    with Bed(profile=None, ipv6=False) as bed:
        near = bed.hawserd(bed.near, conf_text(bed.near_sections()), name="branch")
        listener = bed.far.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", 4430))
        listener.listen(64)
        listener.settimeout(30)
        with listener, HostilePeer(listener=listener, folder=bed.identity("dc")[0]) as peer:
            peer.greet(credit=1 << 20)
            near.wait_up()
            engine = engine_pid(near)
            answers = [lambda s: hp.ack_frame(s, 1000), lambda s: hp.ack_frame(s, 8),
                       lambda s: hp.data_frame(s, 1 << 40, b"x"), lambda s: hp.data_frame(s, 0, b"x") + hp.fin_frame(s, 0),
                       lambda s: hp.fin_frame(s, 5) + hp.fin_frame(s, 6), lambda s: hp.fin_frame(s, 1) +
                       hp.data_frame(s, 0, b"two")]
            answers += [lambda s, reason=reason: hp.rst_frame(s, reason, answer, 0)
                        for reason in (0, 1, 5, 7, 8, 9, 10, 11, 255) for answer in (0, 1)]
            for number, answer in enumerate(answers):
                with bed.client.socket() as client:
                    client.settimeout(20)
                    client.connect((bed.server.ip4, 7000 + number))
                    client.sendall(b"request")
                    opened = peer.wait(lambda: next((f for f in peer.frames if f.type == hp.OPEN), None), "an OPEN")
                    data = peer.wait_frame(hp.DATA, opened.session)
                    assert data.fields == (0, b"request"), data
                    peer.send(block(answer(opened.session)))
                    try:
                        while client.recv(10):
                            pass
                        raise AssertionError(f"answer {number}: an orderly end")
                    except ConnectionResetError:
                        pass
                    peer.send(block(hp.rst_frame(opened.session, 0, 1)))
                    peer.wait_pong()
                    peer.frames.clear()
            wait_for(lambda: near.ctl("status")["sessions"] == 0, 10, "the sessions to end")
            assert engine == engine_pid(near) and near.ctl("peers")[0]["state"] == "up"
            Scene.assert_clean(near)


# --- connections that a peer may not open -------------------------------------------------------------


def refused_open(scene, peer, client, server, port=80):
    session = scene.new_id(peer)
    peer.send(block(hp.open_frame(session, client, server, port) + hp.data_frame(session, 0, b"let me in")))
    rst = peer.wait_frame(hp.RST, session)
    assert rst.fields[:2] == (hp.FORBIDDEN, 1), f"{client} -> {server}: {rst}"


def test_open_that_is_not_allowed():
    """With everything served, what is special stays closed; by default only the LAN is open."""
    own = ["10.2.0.1", "10.9.0.1", "10.9.1.1", "fd00:2::1", "fd00:9::1"]
    special = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "169.254.1.1", "224.0.0.1", "255.255.255.255", "::1",
               "::", "fe80::1", "ff02::1"]
    with Scene(serve="0.0.0.0/0, ::/0") as scene, scene.peer() as peer:
        for server in special + own:
            before = counted(scene, "open-special")
            refused_open(scene, peer, scene.evil_net + "2" if "." in server else "fd00:1:0:1::2", server)
            assert counted(scene, "open-special") == before + 1, server
        refused_open(scene, peer, scene.evil_net + "2", "10.2.0.1", 4430)
        scene.far.wait_log(r"bypass 14 open-special: peer branch1: 10\.1\.1\.2:40000 -> 127\.0\.0\.1:80: ")
        for client in ("10.1.0.2", "10.2.0.2", "10.9.1.2", "127.0.0.1", "192.0.2.1", "0.0.0.0"):
            before = counted(scene, "open-source")
            refused_open(scene, peer, client, scene.bed.server.ip4)
            assert counted(scene, "open-source") == before + 1, client
        refused_open(scene, peer, "fd00:1::2", "fd00:2::2")
        scene.far.wait_log(r"bypass 12 open-source: peer branch1: 10\.1\.0\.2:40000 -> 10\.2\.0\.2:80: ")
    with Scene() as scene, scene.peer() as peer:
        for server in ("10.3.0.1", "192.0.2.1", "10.1.0.2", "10.9.0.2", "8.8.8.8"):
            before = counted(scene, "open-destination") + counted(scene, "open-special")
            refused_open(scene, peer, scene.evil_net + "2", server)
            assert counted(scene, "open-destination") + counted(scene, "open-special") == before + 1, server
        scene.far.wait_log(r"bypass 13 open-destination: peer branch1: ")


def test_open_to_a_peer_that_dialled_in():
    """Its address is known from its lane, though the configuration does not name it."""
    with Scene(serve="0.0.0.0/0") as scene, scene.peer() as peer:
        refused_open(scene, peer, scene.evil_net + "2", "10.9.0.2")


# --- floods -------------------------------------------------------------------------------------------


def test_floods_of_small_frames():
    """They are answered or ignored; PINGs share answers."""
    with Scene() as scene, scene.peer() as peer:
        side = hp.side_of(scene.pin, scene.dc_pin)
        peer.send(blocks(hp.ping_frame(number) for number in range(300000)), timeout=60)
        peer.wait_pong()
        for begin in range(1000, 101000, 10000):
            peer.send(blocks(hp.rst_frame(number << 1 | side) for number in range(begin, begin + 10000)))
            peer.wait(lambda: len(peer.frames) >= 10000, "an answer for each")
            assert {frame.fields[:2] for frame in peer.frames} == {(hp.UNKNOWN, 1)}
            peer.frames.clear()
        peer.send(blocks(frame for number in range(1000, 101000) for frame in
                         (hp.ack_frame(number << 1, 1), hp.credit_frame(number << 1, 1), hp.rst_frame(number << 1, 0, 1),
                          hp.data_frame(number << 1, 0, b"x"))), timeout=60)
        peer.wait_pong()
        assert not peer.frames, peer.frames[:3]


def test_flood_without_reading():
    """RSTs for unknown ids by one that never reads the answers: the lane ends."""
    with Scene() as scene, scene.peer() as peer:
        side = hp.side_of(scene.pin, scene.dc_pin)
        flood = blocks(hp.rst_frame(number << 1 | side) for number in range(1 << 20, (1 << 20) + 1000000))
        peer.send(flood, reads=False, timeout=60)
        wait_for(lambda: scene.seen(WRONG.format(text="")), 30, "the lane's end in the log")


def test_flood_of_refused_opens():
    """Ids in falling order and with gaps, so that each needs a range of its own among the closed ones: the lane ends."""
    with Scene() as scene, scene.peer() as peer:
        side = hp.side_of(scene.pin, scene.dc_pin)
        with contextlib.suppress(AssertionError):
            for begin in range(600000, 0, -20000):
                peer.send(blocks(hp.open_frame(number << 1 | side, "10.1.1.2", "10.3.0.1", 80)
                                 for number in range(begin, begin - 20000, -2)), timeout=100)
                peer.wait(lambda: len(peer.frames) >= 10000, "an answer for each", 100)
                peer.frames.clear()
        wait_for(lambda: scene.seen(WRONG.format(text="")), 10, "the lane's end in the log")


def test_flood_of_single_bytes():
    """Credit counts bytes; a byte a frame must not cost the receiver much more than that."""
    with Scene() as scene, Sink(scene, reads=False), scene.peer() as peer:
        session = scene.open_sink(peer)
        peer.send(block(hp.ping_frame(1)))
        peer.wait_pong()
        with contextlib.suppress(AssertionError):
            for part in range(20):
                begin = part * 100000
                peer.send(blocks(hp.data_frame(session, offset, b"x") for offset in range(begin, begin + 100000)))
        scene.check()


def test_flood_behind_a_gap():
    """Bytes that come early, in pieces with gaps, for many sessions."""
    with Scene() as scene, Sink(scene), scene.peer() as peer:
        for number in range(20):
            session = scene.open_sink(peer, client_port=41000 + number)
            peer.send(blocks(hp.data_frame(session, 1 + 2 * offset, b"x") for offset in range(9000)))
        peer.wait_pong()
        scene.check()


def fill_sessions(scene, peer):
    """More sessions than the budget of 300 has."""
    side = hp.side_of(scene.pin, scene.dc_pin)
    peer.send(blocks(hp.open_frame(number << 1 | side, "10.1.1.2", "10.2.0.2", 9100, 20000 + number)
                     for number in range(1, 1001)))
    peer.wait(lambda: sum(frame.type == hp.RST and frame.fields[0] == hp.OVERLOAD for frame in peer.frames) >= 700 - 20,
              "RSTs for want of room")


FEW_SESSIONS = {"node": {"memory": "64M", "workers": 1, "sessions": "300"}}


def test_opens_without_end():
    """What is too much is refused; the true peer's sessions go on, and new ones come when there is room again."""
    with Scene(far=FEW_SESSIONS, fetches=False) as scene, Sink(scene):
        with scene.peer() as peer:
            fill_sessions(scene, peer)
        wait_for(lambda: scene.far.ctl("peers")[1]["sessions"] == 0, 90, "the hostile peer's sessions to end")


def test_one_peer_takes_all_sessions():
    """It cannot: the true peer opens new ones all the same."""
    with Scene(far=FEW_SESSIONS) as scene, Sink(scene), scene.peer() as peer:
        fill_sessions(scene, peer)
        scene.check()
        refused = {row["name"]: row["count"] for row in scene.near.ctl("bypass")}
        assert refused["sessions"] == 0, f"{refused['sessions']} of the true peer's connections found no room"


# --- a peer that does not read ------------------------------------------------------------------------


def test_peer_that_stops_reading():
    """It asks for 20 large files, gives credit without end, and takes nothing."""
    with Scene() as scene, scene.dial(rcvbuf=4096) as peer:
        peer.greet()
        for number in range(20):
            session = scene.new_id(peer)
            question = b"GET /large HTTP/1.0\r\n\r\n"
            peer.send(block(hp.open_frame(session, "10.1.1.2", "10.2.0.2", 80, 41000 + number, credit=1 << 40) +
                            hp.data_frame(session, 0, question)), reads=False)
        wait_for(lambda: scene.seen(r"peer branch1: lane 0 with .* is down: .*timed out"), 60, "the lane to be given up")


def test_peer_that_stops_reading_but_talks():
    """The same, with a PING all the time: a sign of life that keeps nothing from being bounded."""
    with Scene() as scene, scene.dial(rcvbuf=4096) as peer:
        peer.greet()
        for number in range(20):
            session = scene.new_id(peer)
            question = b"GET /large HTTP/1.0\r\n\r\n"
            peer.send(block(hp.open_frame(session, "10.1.1.2", "10.2.0.2", 80, 41000 + number, credit=1 << 40) +
                            hp.data_frame(session, 0, question)), reads=False)
        for number in range(2000):
            if not peer.send(block(hp.ping_frame(number)), reads=False, timeout=5) or peer.closed:
                break
        scene.check()


# --- the other doors ----------------------------------------------------------------------------------


def test_garbage_in_the_control_socket():
    with Scene() as scene:
        def answer(payload, shut=False):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(scene.far.control)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(payload)
                    if shut:
                        client.shutdown(socket.SHUT_WR)
                got = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := client.recv(65536):
                        got += piece
                return json.loads(got) if got else None

        assert "no such verb" in answer(b"bad verb\n")["error"]
        assert "too long" in answer(b"x" * 256)["error"]
        assert "too long" in answer(b"status" + b" " * 300 + b"\n")["error"]
        assert "too long" in answer(b"x" * 100000 + b"\n", shut=True)["error"]
        assert "error" in answer(b"\0\1\2\xff\n")
        assert "error" in answer(b"\n")
        assert answer(b"status\nstatus\n" * 50)["node"] == "dc"
        assert "no request" in answer(b"stat")["error"]
        assert answer(b"", shut=True) is None
        for verb in (b"peers\n", b"sessions\n", b"metrics\n", b"lanes\n"):
            for _ in range(50):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(scene.far.control)
                    with contextlib.suppress(BrokenPipeError):  # past the most clients the next is closed at once
                        client.sendall(verb)
        clients = []
        for _ in range(200):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].connect(scene.far.control)
            clients[-1].settimeout(20)
        for client in clients:
            with contextlib.suppress(OSError):
                client.recv(100)
            client.close()
        assert scene.far.ctl("status")["node"] == "dc"


def test_straight_to_the_tproxy_port():
    """From the gateway itself it is refused as a loop; from a client there is nothing."""
    with Scene() as scene:
        with scene.bed.client.socket() as client:
            client.settimeout(10)
            try:
                client.connect((scene.bed.near.ip4, 3129))
                raise AssertionError("the TPROXY port is open to clients")
            except ConnectionRefusedError:
                pass

        def loops():
            return next(row["count"] for row in scene.near.ctl("bypass") if row["name"] == "loop")

        addresses = ["127.0.0.1"] + (["::1"] if scene.bed.ipv6 else [])
        for number, address in enumerate(addresses):
            with scene.bed.near.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
                client.settimeout(10)
                with contextlib.suppress(ConnectionResetError):
                    client.connect((address, 3129))
                    assert client.recv(10) == b""
            wait_for(lambda number=number: loops() == number + 1, 10, "a loop to be counted")
        scene.near.wait_log(r"bypass 11 loop: 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:3129")


if __name__ == "__main__":
    main(globals())
