"""What hawser-bench compares: ways to carry TCP connections from one gateway to the other.

A contender is started on a test bed (test/net/bed.py) between the gateways; afterwards a client reaches the ports
PORTS of the server, at .address(): the server's own where the contender is transparent, else the near gateway's.
The rivals get what a good administrator would give them: bbr and 64 MB socket buffers on the gateways (direct-bbr: on
the hosts), kcptun windows of the link's bandwidth-delay product."""

import os
import resource
import shutil
import signal
import subprocess
import time

import bed

PORTS = [80, 7000]  # nginx, and test/net/tools/load.c
BUFFER_BYTES = 64 << 20


class Missing(Exception):
    """A program that a contender needs is not there."""


def need(*programs):
    for name in programs:
        if not shutil.which(name):
            raise Missing(f"{name} is not installed")


def tune(host):
    """bbr and buffers that hold any of the links."""
    host.congestion_control("bbr")
    host.sysctl("net.ipv4.tcp_rmem", f"4096 131072 {BUFFER_BYTES}")
    host.sysctl("net.ipv4.tcp_wmem", f"4096 65536 {BUFFER_BYTES}")


def max_sessions():
    """haproxy takes two descriptors a session."""
    return min(30000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 200)


def write(net, name, text, mode=0o644):
    path = os.path.join(net.folder, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def wait_listening(host, ports, what):
    for port in ports:
        bed.wait_for(lambda port=port: host.listening(port), 20, f"{what} to listen on port {port}")


def wait_quiet(wanem, seconds):
    """Until no packet came to the link for so long: the lanes have settled."""
    seen = [None, 0.0]

    def quiet():
        stats = wanem.stats()
        now = [stats[way]["in_packets"] for way in ("a-to-b", "b-to-a")]
        if now != seen[0]:
            seen[:] = [now, time.monotonic()]
        return time.monotonic() - seen[1] > seconds
    bed.wait_for(quiet, 30 + 5 * seconds, "a quiet link")


class Contender:
    """.name, .title; start() on a bed, .address() afterwards. workers: threads at each gateway, where it can be told."""

    name = title = None
    transparent = False
    takes_workers = False

    def __init__(self, net, link=None, workers=None):
        if workers and not self.takes_workers:
            raise Missing(f"{self.name} cannot be told how many workers it is to have")
        self.net = net
        self.link = link  # bed_programs.Link, None without an emulator
        self.workers = workers

    def start(self):
        raise NotImplementedError

    def address(self):
        return self.net.server.ip4 if self.transparent else self.net.near.ip4

    def url(self, path):
        return f"http://{self.address()}:80/{path}"

    def check(self):
        """Raises AssertionError if it was not this contender that carried the connections."""


class DirectCubic(Contender):
    name, title, transparent = "direct-cubic", "direct, cubic", True

    def start(self):
        pass  # what a bed's hosts have


class DirectBbr(Contender):
    name, title, transparent = "direct-bbr", "direct, bbr", True

    def start(self):
        tune(self.net.client)
        tune(self.net.server)


class Hawser(Contender):
    """rate: a factor on the link's true rate that both ends are told; None: they are told nothing. extra: more
    sections for both."""

    name, title, transparent, takes_workers = "hawser", "hawser", True, True

    def __init__(self, net, link=None, workers=None, rate=1.0, store=False, extra="", memory=None):
        super().__init__(net, link, workers)
        self.rate = rate
        self.extra = extra
        self.store = store
        self.memory = memory
        self.pair = None
        self.opened_before = 0

    def _changes(self, peer, bits, folder):
        changes = {f"peer {peer}": {"rate": f"{round(bits * self.rate / 1000)}kbit" if bits and self.rate else None}}
        node = {"workers": self.workers, "memory": self.memory}
        changes["node"] = {key: value for key, value in node.items() if value}
        if self.store:
            changes["store"] = {"path": os.path.join(self.net.folder, folder)}
        return changes

    def start(self):
        up, down = (self.link.up_bps, self.link.down_bps) if self.link else (0, 0)
        self.pair = self.net.pair(near=self._changes("dc", up, "store-near"),
                                  far=self._changes("branch", down, "store-far"), wait=False,
                                  near_extra=self.extra, far_extra=self.extra)
        self._wait_ready()

    def _wait_ready(self):
        self.pair.wait_up(60)
        bed.wait_for(self._all_lanes, 60, "all lanes of both nodes")
        if self.link:
            wait_quiet(self.net.wanem, 3 * self.link.rtt_ms / 1000 + 0.3)
        self.opened_before = self.opened()

    def _all_lanes(self):
        return all(len([lane for lane in daemon.ctl("lanes") if lane["state"] == "up"]) >= 2
                   for daemon in self.pair.all())

    def restart(self, sides=("near", "far"), number=signal.SIGTERM):
        """The daemons of these sides end by a signal and start again, with the stores they had."""
        for side in sides:
            getattr(self.pair, side).kill_all(number)
        for side in sides:
            getattr(self.pair, side).wait(20)
        for side in sides:
            old = getattr(self.pair, side)
            with open(old.conf_path, encoding="utf-8") as file:
                setattr(self.pair, side, self.net.hawserd(old.host, file.read(), name=old.name))
        self.pair.nears[0] = self.pair.near
        self._wait_ready()

    def wire_bytes(self):
        """What the lanes gave to TCP so far, at the far node."""
        return sum(peer["wire_out_bytes"] for peer in self.pair.far.ctl("peers"))

    def opened(self):
        return sum(peer["opened"] for peer in self.pair.near.ctl("peers"))

    def check(self):
        bypassed = {reason["name"]: reason["count"] for reason in self.pair.near.ctl("bypass") if reason["count"]}
        assert not bypassed, f"hawser let connections go direct: {bypassed}"
        assert self.opened() > self.opened_before, "hawser carried nothing"


class Haproxy(Contender):
    name, title, takes_workers = "haproxy", "haproxy pair (TCP, bbr)", True

    def _conf(self, listen, to, pid):
        threads = f"  nbthread {self.workers}\n" if self.workers else ""
        text = (f"global\n  maxconn {max_sessions()}\n  pidfile {pid}\n{threads}defaults\n  mode tcp\n  timeout connect 20s\n"
                "  timeout client 10m\n  timeout server 10m\n")
        for port in PORTS:
            text += f"listen p{port}\n  bind {listen}:{port}\n  server next {to}:{port}\n"
        return text

    def start(self):
        need("haproxy")
        net = self.net
        for host, to in ((net.far, net.server.ip4), (net.near, net.branches[0].wan(1)[0])):
            tune(host)
            listen = net.branches[0].wan(1)[0] if host is net.far else host.ip4
            conf = write(net, f"haproxy-{host.name}.cfg", self._conf(listen, to, f"{net.folder}/haproxy-{host.name}.pid"))
            host.popen(["haproxy", "-db", "-f", conf])
            wait_listening(host, PORTS, "haproxy")


class Stunnel(Contender):
    name, title = "stunnel", "stunnel pair (TLS 1.3, bbr)"

    def start(self):
        need("stunnel", "openssl")
        net = self.net
        key = os.path.join(net.folder, "stunnel.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=bench", "-days", "2",
                        "-keyout", key, "-out", key + ".crt"], check=True, capture_output=True, timeout=30)
        far_wan = net.branches[0].wan(1)[0]
        head = "foreground = yes\nsyslog = no\ndebug = err\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n"
        far, near = head + f"cert = {key}.crt\nkey = {key}\n", head + "client = yes\nverifyChain = no\n"
        for port in PORTS:
            far += f"[p{port}]\naccept = {far_wan}:{port}\nconnect = {net.server.ip4}:{port}\n"
            near += f"[p{port}]\naccept = {net.near.ip4}:{port}\nconnect = {far_wan}:{port}\n"
        for host, conf in ((net.far, far), (net.near, near)):
            tune(host)
            host.popen(["stunnel", write(net, f"stunnel-{host.name}.conf", conf)])
            wait_listening(host, PORTS, "stunnel")


class Ssh(Contender):
    name, title, compression = "ssh", "ssh -L (bbr)", "no"

    def start(self):
        need("ssh", "ssh-keygen", "/usr/sbin/sshd")
        net, far_wan = self.net, self.net.branches[0].wan(1)[0]
        for name in ("ssh-host", "ssh-user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(net.folder, name)],
                           check=True, capture_output=True, timeout=30)
        os.makedirs("/run/sshd", exist_ok=True)
        conf = write(net, "sshd.conf", f"""Port 2222
ListenAddress {far_wan}
HostKey {net.folder}/ssh-host
AuthorizedKeysFile {net.folder}/ssh-user.pub
PidFile {net.folder}/sshd.pid
StrictModes no
UsePAM no
PermitRootLogin yes
AllowTcpForwarding yes
MaxSessions 1000
""")
        tune(net.far)
        tune(net.near)
        net.far.popen(["/usr/sbin/sshd", "-D", "-e", "-f", conf])
        wait_listening(net.far, [2222], "sshd")
        command = ["ssh", "-F", "none", "-N", "-p", "2222", "-i", f"{net.folder}/ssh-user", "-o", "BatchMode=yes",
                   "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", f"Compression={self.compression}",
                   "-o", "ExitOnForwardFailure=yes"]
        for port in PORTS:
            command += ["-L", f"{net.near.ip4}:{port}:{net.server.ip4}:{port}"]
        net.near.popen(command + [f"root@{far_wan}"])
        wait_listening(net.near, PORTS, "ssh")


class SshCompressed(Ssh):
    name, title, compression = "ssh-c", "ssh -C -L (bbr)", "yes"


class Kcptun(Contender):
    name, title = "kcptun", "kcptun pair"

    def _windows(self):
        """(down, up) packets that fill the link together with their 3 of 13 for correction; larger ones are slower."""
        if not self.link:
            return 2048, 2048
        return tuple(max(128, round(bps / 8 * self.link.rtt_ms / 1000 / 1400 * 10 / 13))
                     for bps in (self.link.down_bps, self.link.up_bps))

    def start(self):
        need("kcptun-client", "kcptun-server")
        net, far_wan = self.net, self.net.branches[0].wan(1)[0]
        down, up = self._windows()
        common = ["--key", "bench", "--crypt", "aes-128", "--mode", "fast2", "--nocomp", "--quiet", "--smuxver", "2",
                  "--sockbuf", str(16 << 20), "--smuxbuf", str(32 << 20), "--streambuf", str(16 << 20)]
        for host in (net.near, net.far):
            tune(host)
        for port in PORTS:
            net.far.popen(["kcptun-server", "-l", f"{far_wan}:{4000 + port}", "-t", f"{net.server.ip4}:{port}",
                           "--sndwnd", str(down), "--rcvwnd", str(4 * up)] + common)
            net.near.popen(["kcptun-client", "-l", f"{net.near.ip4}:{port}", "-r", f"{far_wan}:{4000 + port}",
                            "--sndwnd", str(up), "--rcvwnd", str(4 * down)] + common)
        wait_listening(net.near, PORTS, "kcptun")


class Command(Contender):
    """Any other, made by added(): its command runs in a shell at both gateways until it is ended, with what it needs in
    its environment: SIDE (near or far), LISTEN (the address to take connections at), NEXT (the address to carry them
    to), PORTS (the same at both), WORK (a folder of its own). The near one is reached at LISTEN. One that begins with
    "transparent:" is routed through instead, and prints a line when it is ready."""

    command = None

    def _start_at(self, host, listen, to):
        tune(host)
        log = os.path.join(self.net.folder, f"{self.name}-{host.name}.out")
        with open(log, "wb") as out:
            process = host.popen(self.command, stdout=out, stderr=subprocess.STDOUT, env={
                **os.environ, "SIDE": host.name, "LISTEN": listen, "NEXT": to, "WORK": self.net.folder,
                "PORTS": " ".join(str(port) for port in PORTS)})

        def ready():
            assert process.poll() is None, \
                f"the command of {self.name} ended with {process.returncode} at the {host.name} node; it must stay: " \
                + (bed.tail(log).strip() or "it wrote nothing")
            return os.path.getsize(log) > 0 if self.transparent else all(host.listening(port) for port in PORTS)
        bed.wait_for(ready, 30, f"{self.name} to be ready at the {host.name} node")

    def start(self):
        far_wan = self.net.branches[0].wan(1)[0]
        self._start_at(self.net.far, far_wan, self.net.server.ip4)
        self._start_at(self.net.near, self.net.near.ip4, far_wan)


def added(text):
    """The class of NAME=COMMAND."""
    name, _, command = text.partition("=")
    transparent = command.startswith("transparent:")
    return type("Added", (Command,), {"name": name, "title": name, "transparent": transparent,
                                      "command": command.removeprefix("transparent:")})


RIVALS = [DirectCubic, DirectBbr, Haproxy, Stunnel, Ssh, SshCompressed, Kcptun]
