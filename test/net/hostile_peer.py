"""A peer in Python that can say anything: TLS with a node's key, then raw bytes as in PROTOCOL.md, right or wrong.

    peer = HostilePeer(host, (address, 4430), folder_of_identity, pin_of_the_other)
    peer.greet()
    id = peer.new_id()
    peer.send(block(open_frame(id, "10.1.1.2", "10.2.0.2", 9000)))
    peer.wait_frame(RST, id)

One thread. Nothing is checked on this side: what comes is only taken apart."""

import base64
import collections
import contextlib
import ipaddress
import select
import socket
import ssl
import time

OPEN, DATA, ACK, CREDIT, FIN, RST, PING, PONG = range(1, 9)
BY_HOST, FORBIDDEN, OVERLOAD, UNKNOWN, PROTOCOL = 1, 5, 6, 7, 8
GREETING_BYTES = 16384
OFFSET_MAX = 1 << 62

Frame = collections.namedtuple("Frame", "type session fields")


# --- encoding -----------------------------------------------------------------------------------------


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def block(payload, kind=0, length=None):
    """One block; kind and length may lie."""
    return bytes([kind]) + (len(payload) if length is None else length).to_bytes(3, "big") + payload


def zstd_piece(payload, first=True, window=0x48, last=False, said=None, kind=0):
    """A compressed block's payload around one zstd block: raw (kind 0), or a byte `said` times (kind 1). first: it
    begins a zstd frame, whose window is 512 KB (0x48) or as said."""
    size = len(payload) if kind == 0 else said
    piece = (b"\x28\xb5\x2f\xfd\0" + bytes([window]) if first else b"") + \
        (size << 3 | kind << 1 | last).to_bytes(3, "little") + payload
    return varint(len(payload) if said is None else said) + piece


def blocks(frames, most=16000):
    """Many frames in as many blocks as they need."""
    out, payload = bytearray(), bytearray()
    for frame in frames:
        if payload and len(payload) + len(frame) > most:
            out += block(bytes(payload))
            payload.clear()
        payload += frame
    return bytes(out + block(bytes(payload))) if payload else bytes(out)


def open_frame(session, client, server, port, client_port=40000, dscp=0, name=b"", credit=1 << 26, family=None):
    client, server = ipaddress.ip_address(client), ipaddress.ip_address(server)
    family = client.version if family is None else family
    return (bytes([OPEN]) + varint(session) + bytes([family]) + client.packed + client_port.to_bytes(2, "big") +
            server.packed + port.to_bytes(2, "big") + bytes([dscp, len(name)]) + name + varint(credit) + varint(credit))


def data_frame(session, offset, payload):
    return bytes([DATA]) + varint(session) + varint(offset) + varint(len(payload)) + payload


def ack_frame(session, offset):
    return bytes([ACK]) + varint(session) + varint(offset)


def credit_frame(session, limit):
    return bytes([CREDIT]) + varint(session) + varint(limit) + varint(limit)


def fin_frame(session, final):
    return bytes([FIN]) + varint(session) + varint(final)


def rst_frame(session, reason=0, answer=0, final=0):
    return bytes([RST]) + varint(session) + bytes([reason, answer]) + varint(final)


def ping_frame(token):
    return bytes([PING]) + varint(token)


def greeting(slot=0, magic=b"HAWSER\r\n", version=1, instance=b"\1" * 16, credit=1 << 20,
             name=b"hostile", name_len=None, features=0):
    out = (magic + version.to_bytes(2, "big") + features.to_bytes(8, "big") + instance +
           credit.to_bytes(8, "big") + bytes([slot, len(name) if name_len is None else name_len]) + name)
    return out + bytes(GREETING_BYTES - len(out))


# --- decoding -----------------------------------------------------------------------------------------


class _Cursor:
    def __init__(self, payload):
        self.payload, self.at = payload, 0

    def take(self, count):
        self.at += count
        return self.payload[self.at - count:self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def _one_frame(cursor):
    kind = cursor.byte()
    if kind in (PING, PONG):
        return Frame(kind, None, (cursor.varint(),))
    session = cursor.varint()
    if kind == DATA:
        offset = cursor.varint()
        return Frame(kind, session, (offset, cursor.take(cursor.varint())))
    if kind in (ACK, FIN):
        return Frame(kind, session, (cursor.varint(),))
    if kind == CREDIT:
        return Frame(kind, session, (cursor.varint(), cursor.varint()))
    if kind == RST:
        return Frame(kind, session, (cursor.byte(), cursor.byte(), cursor.varint()))
    assert kind == OPEN, f"the node sends frames of type {kind}"
    length = 4 if cursor.byte() == 4 else 16
    fields = cursor.take(length + 2 + length + 2 + 1)
    name = cursor.take(cursor.byte())
    return Frame(kind, session, (fields, name, cursor.varint(), cursor.varint()))


# --- the peer -----------------------------------------------------------------------------------------


def tls_context(folder, version=ssl.TLSVersion.TLSv1_3, server=False):
    """folder: of the identity to show, or None for no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if folder:
        context.load_cert_chain(f"{folder}/node.crt", f"{folder}/node.key")
    return context


class HostilePeer:
    """.frames: what came and was not yet asked for; .greeting: theirs; .closed: they have ended the lane"""

    def __init__(self, host=None, address=None, folder=None, timeout=20, version=ssl.TLSVersion.TLSv1_3, rcvbuf=None,
                 listener=None):
        """Dials from host, or takes the next connection of a listener."""
        self.timeout = timeout
        self.frames = []
        self.greeting = None
        self.closed = False
        self.pongs = 0
        self._plain = bytearray()
        self._pending = bytearray()  # for the socket
        self._numbers = 0
        if listener:
            self.socket, _ = listener.accept()
        else:
            self.socket = host.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            if rcvbuf:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(timeout)
        if not listener:
            self.socket.connect(address)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = tls_context(folder, version, server=bool(listener))
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=bool(listener))
        self._handshake()
        self.socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def _handshake(self):
        while True:
            try:
                self._tls.do_handshake()
                self.socket.sendall(self._outgoing.read())
                return
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                piece = self.socket.recv(65536)
                if not piece:
                    raise ConnectionError("closed in the handshake") from None
                self._incoming.write(piece)

    def _take_plain(self):
        while True:
            try:
                piece = self._tls.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                piece = b""
            if not piece:
                self.closed = True
                break
            self._plain += piece
        if self.greeting is None and len(self._plain) >= GREETING_BYTES:
            self.greeting = bytes(self._plain[:GREETING_BYTES])
            del self._plain[:GREETING_BYTES]
        while self.greeting is not None and len(self._plain) >= 4:
            length = int.from_bytes(self._plain[1:4], "big")
            if len(self._plain) < 4 + length:
                break
            cursor = _Cursor(bytes(self._plain[4:4 + length]))
            del self._plain[:4 + length]
            while cursor.at < length:
                frame = _one_frame(cursor)
                if frame.type == PONG:
                    self.pongs += 1
                elif frame.type == PING:
                    self._tls.write(block(bytes([PONG]) + varint(frame.fields[0])))
                else:
                    self.frames.append(frame)

    def _turn(self, timeout, reads=True):
        """Sends and receives what can be, after waiting for either."""
        pending = self._pending
        poll = select.poll()
        poll.register(self.socket, (select.POLLOUT if pending else 0) | (select.POLLIN if reads else 0))
        for _, what in poll.poll(max(0, timeout) * 1000):
            if what & select.POLLOUT and pending:
                with contextlib.suppress(BlockingIOError):
                    del pending[:self.socket.send(pending[:1 << 20])]
            if reads and what & (select.POLLIN | select.POLLHUP | select.POLLERR):
                piece = b""
                with contextlib.suppress(ConnectionError):
                    piece = self.socket.recv(1 << 18)
                if not piece:
                    self.closed = True
                    return
                self._incoming.write(piece)
                self._take_plain()
                pending += self._outgoing.read()

    def send(self, payload, reads=True, timeout=None):
        """Sends raw bytes inside TLS, reading on meanwhile (or not). False if they ended the lane before all
        was sent, or (without reading) no more could be sent within the timeout."""
        end = time.monotonic() + (timeout or self.timeout)
        for at in range(0, len(payload), 1 << 20):
            self._tls.write(payload[at:at + (1 << 20)])
            self._pending.extend(self._outgoing.read())
            while self._pending and not self.closed and time.monotonic() < end:
                try:
                    self._turn(end - time.monotonic(), reads)
                except ConnectionError:
                    self.closed = True
            if self._pending:
                assert self.closed or not reads, "they take nothing, and do not end the lane"
                return False
        return True

    def greet(self, **fields):
        """Exchanges greetings; the lane is up."""
        self.send(greeting(**fields))
        self.wait(lambda: self.greeting is not None, "a greeting")
        return self

    def wait(self, predicate, what, timeout=None):
        """Receives until predicate() is true."""
        end = time.monotonic() + (timeout or self.timeout)
        while not (value := predicate()):
            assert not self.closed, f"they ended the lane before {what}"
            assert time.monotonic() < end, f"waited in vain for {what}; came: {self.frames[:10]}"
            self._turn(end - time.monotonic())
        return value

    def wait_closed(self, timeout=None):
        """Receives until they end the lane."""
        end = time.monotonic() + (timeout or self.timeout)
        while not self.closed:
            assert time.monotonic() < end, f"the lane does not end; came: {self.frames[:10]}"
            self._turn(end - time.monotonic())

    def wait_frame(self, kind, session, timeout=None):
        """The first frame of that kind of the session; it leaves .frames."""
        def found():
            for frame in self.frames:
                if frame.type == kind and frame.session == session:
                    self.frames.remove(frame)
                    return frame
            return None
        return self.wait(found, f"frame {kind} of session {session}", timeout)

    def wait_pong(self):
        """All that was sent before has been taken."""
        wanted = self.pongs + 1
        self.send(block(ping_frame(7)))
        self.wait(lambda: self.pongs >= wanted, "a PONG")

    def new_id(self, ours, theirs):
        """The next session's id; ours and theirs are pins."""
        self._numbers += 1
        return self._numbers << 1 | side_of(ours, theirs)


def side_of(ours, theirs):
    """1 for the node with the lower pin."""
    return 1 if base64.b64decode(ours) < base64.b64decode(theirs) else 0
