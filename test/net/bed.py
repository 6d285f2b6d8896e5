"""The test bed of all network scenarios: a topology of its own in network namespaces.

    client -- near gateway -- WAN (hawser-wanem) -- far gateway -- server

    with Bed(profile="geo") as bed:
        web = bed.nginx()
        web.file("blob", 1 << 20)
        bed.curl(bed.client, web.url("blob"))

Addresses (branch k, the first is 0):

    client  eth0 10.1.k.2  fd00:1:0:k::2    near  lan0 10.1.k.1  fd00:1:0:k::1
    near    wan0 10.9.k.2  fd00:9:0:k::2    far   wanK 10.9.k.1  fd00:9:0:k::1   (wan0 for branch 0)
    server  eth0 10.2.0.2  fd00:2::2        far   lan0 10.2.0.1  fd00:2::1

The LANs are veth pairs with the offloads the kernel gives them: a "packet" on a LAN may be a super-packet
of 64 KB. The devices of the emulator have none, so the gateway's kernel cuts such packets to the MTU before
the WAN, and the emulator sees, counts and loses packets as a real link would. With profile=None the WAN is
a veth too: nothing is cut there, and nothing is counted.

Whatever happens (exception, SIGINT, SIGTERM, end of the program), what a bed started is ended, its
namespaces and its temporary folder go. After a kill -9 of the program the next bed anywhere does it.
Only the standard library is used. Everything needs root."""

import atexit
import contextlib
import ctypes
import fcntl
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

SOURCE = os.environ.get("HAWSER_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("HAWSER_BUILD") or os.path.join(SOURCE, "build")
NETNS_FOLDER = "/run/netns"
NAME_PATTERN = re.compile(r"^hw-(\d+)-\d+-")
CLONE_NEWNET = 0x40000000
HELD_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM}

libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_beds = set()


class Skip(Exception):
    """Raised by a test that cannot run here, with the reason."""


class Interrupted(BaseException):
    """SIGTERM, or the time of a test is over. Not an Exception, so that no test catches it by chance."""


def program(name):
    """Path of one of the project's programs."""
    return os.path.join(BUILD, name)


def wait_for(predicate, timeout=10, what="a condition"):
    """Polls until predicate() is true and returns what it returned; AssertionError after the timeout."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.01)


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tail(path, lines=40):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 16384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    return ""


def cpu_seconds(pid):
    """(user, system) seconds of a process, its threads included, its children not."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def why_not():
    """The reason why no bed can be made here, or None."""
    if os.geteuid() != 0:
        return "not root"
    for name in ("ip",):
        if not shutil.which(name):
            return f"the program {name} is missing"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return "network namespaces are unavailable: " + probe.stderr.strip()
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"TUN devices are unavailable: {error}"
    return None


def has_ipv6():
    return os.path.isdir("/proc/sys/net/ipv6")


@contextlib.contextmanager
def _signals_held():
    """Taking down must not be interrupted half way."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- processes --------------------------------------------------------------------------------------


def _signal_group(process, number):
    """To the whole group of a process that was started with start_new_session, also after its leader ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _group_alive(process):
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end_groups(processes, patience=5.0):
    """SIGTERM, and SIGKILL for what is left after a while."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    end = time.monotonic() + patience
    while time.monotonic() < end and any(_group_alive(process) for process in processes):
        time.sleep(0.01)
    for process in processes:
        _signal_group(process, signal.SIGKILL)
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def _pids_inside(names):
    """Processes in the namespaces of these names."""
    inodes = set()
    for name in names:
        with contextlib.suppress(OSError):
            inodes.add(os.stat(os.path.join(NETNS_FOLDER, name)).st_ino)
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino in inodes:
                    pids.append(int(entry))
    return pids


def _kill_inside(names):
    """Whoever is in a namespace of ours was started by us, or by what we started."""
    end = time.monotonic() + 3
    while (pids := _pids_inside(names)) and time.monotonic() < end:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _ip(lines, netns=None):
    """One ip process for many commands."""
    command = ["ip"] + (["-n", netns] if netns else []) + ["-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n" + "\n".join(lines))


@contextlib.contextmanager
def _netns_lock():
    """`ip netns add` mounts things the first time; several at once would disturb each other."""
    fd = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _pid_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _remove_stale():
    """Removes what a killed program left: its number is in the names."""
    stale = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(NETNS_FOLDER):
            match = NAME_PATTERN.match(name)
            if match and _pid_gone(int(match[1])):
                stale.append(name)
    if stale:
        _kill_inside(stale)
        for name in stale:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    for name in os.listdir(tempfile.gettempdir()):
        match = NAME_PATTERN.match(name)
        if match and _pid_gone(int(match[1])):
            shutil.rmtree(os.path.join(tempfile.gettempdir(), name), ignore_errors=True)


# --- hosts ------------------------------------------------------------------------------------------


class Host:
    """A network namespace. .name, .netns (its name for `ip netns exec`), .ip4, .ip6 (None without IPv6)."""

    def __init__(self, bed, name):
        self.bed = bed
        self.name = name
        self.netns = f"{bed.prefix}-{name}"
        self.ip4 = None
        self.ip6 = None

    def __repr__(self):
        return f"<{self.netns}>"

    def ip(self, family):
        """The address of family 4 or 6."""
        return self.ip6 if family == 6 else self.ip4

    @contextlib.contextmanager
    def inside(self):
        """The calling thread, and what it starts or opens, is in this namespace until the block ends."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            other = os.open(os.path.join(NETNS_FOLDER, self.netns), os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._setns(other)
            finally:
                os.close(other)
            try:
                yield self
            finally:
                self._setns(own)
        finally:
            os.close(own)

    @staticmethod
    def _setns(fd):
        if libc.setns(fd, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def popen(self, command, **kw):
        """Starts a command (a list, or a string for the shell) in a session of its own; it is ended with the
        bed. Without stdout= or stderr= its output goes to the bed's folder."""
        if isinstance(command, str):
            kw["shell"] = True
        kw.setdefault("stdin", subprocess.DEVNULL)
        log = None
        if "stdout" not in kw or "stderr" not in kw:
            log = open(self.bed.log_path(f"{self.name}-{_words(command)}"), "wb")
        kw.setdefault("stdout", log)
        kw.setdefault("stderr", log)
        try:
            with self.inside():
                process = subprocess.Popen(command, start_new_session=True, **kw)
                self.bed.processes.append(process)
        finally:
            if log:
                log.close()
        return process

    def run(self, command, timeout=30, check=True, text=True, input=None, **kw):
        """Runs a command to its end. Fails loudly (check=False: returns) if it does not exit with 0."""
        process = self.popen(command, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, **kw)
        try:
            out, err = process.communicate(input, timeout=timeout)
        finally:
            _signal_group(process, signal.SIGKILL)
            process.wait()
            self.bed.processes.remove(process)
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {command} exited with {done.returncode}:\n{out}\n{err}")
        return done

    def sysctl(self, name, value=None):
        """Sets (or, without a value, reads) a sysctl of the namespace: net.ipv4.tcp_congestion_control. An
        interface with a dot in its name is not provided for."""
        path = "/proc/sys/" + name.replace(".", "/")
        with self.inside():
            if value is None:
                with open(path, encoding="ascii") as file:
                    return file.read().strip()
            with open(path, "w", encoding="ascii") as file:
                file.write(str(value))
        return None

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, proto=0):
        """A socket that belongs to this namespace for its whole life, whichever thread uses it."""
        with self.inside():
            return socket.socket(family, kind, proto)

    def listening(self, port):
        """Whether a TCP socket listens on this port."""
        wanted = f":{port:04X}"
        with self.inside():
            for name in ("tcp", "tcp6"):
                with contextlib.suppress(FileNotFoundError), open(f"/proc/thread-self/net/{name}") as file:
                    for line in file.readlines()[1:]:
                        fields = line.split()
                        if fields[1].endswith(wanted) and fields[3] == "0A":
                            return True
        return False

    def allow_congestion_control(self, name):
        """Makes a congestion control usable in namespaces: the first namespace's list counts for all. It is
        only ever made longer, and not put back, for other beds may run beside this one."""
        path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
        with contextlib.suppress(OSError), _netns_lock():
            with open(path, encoding="ascii") as file:
                allowed = file.read().split()
            if name not in allowed:
                with open(path, "w", encoding="ascii") as file:
                    file.write(" ".join(allowed + [name]))

    def congestion_control(self, name):
        self.allow_congestion_control(name)
        self.sysctl("net.ipv4.tcp_congestion_control", name)


def _words(command):
    name = command if isinstance(command, str) else command[0]
    return os.path.basename(name.split()[0])


# --- the emulator and the daemons -------------------------------------------------------------------


class Wanem:
    """A running hawser-wanem between two gateways; a-to-b is from the near to the far one."""

    def __init__(self, bed, name, far, arguments):
        self.bed = bed
        self.name = name
        self.control = os.path.join(bed.folder, name + ".sock")
        self.out_path = os.path.join(bed.folder, name + ".out")
        self.log_path = bed.log_path(name)
        command = [program("hawser-wanem"), "--control", self.control] + [str(word) for word in arguments]
        with open(self.out_path, "wb") as out, open(self.log_path, "wb") as err:
            # In the far namespace, so that it is found if this program is killed.
            self.process = far.popen(command, stdout=out, stderr=err)

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, f"{self.name} ended: {tail(self.log_path)}"
            with open(self.out_path, encoding="ascii") as file:
                return file.readline() == "ready\n"
        wait_for(ready, 10, f"{self.name} to be ready")

    def ctl(self, line):
        """The answer to one command line, parsed."""
        with socket.socket(socket.AF_UNIX) as control, contextlib.suppress(BrokenPipeError):
            control.settimeout(10)
            control.connect(self.control)
            control.sendall(line.encode() + b"\n")
            with control.makefile("r", encoding="ascii") as answers:
                return json.loads(answers.readline())

    def _order(self, line):
        answer = self.ctl(line)
        assert answer == {"ok": True}, f"{self.name}: {line}: {answer}"

    def stats(self):
        """{"a-to-b": {"in_packets": ...}, "b-to-a": {...}, ...}, see hawser-wanem(8)."""
        return self.ctl("stats")

    def set(self, direction="both", **parameters):
        """set("a-to-b", rate="10mbit", loss="1%")"""
        self._order(f"set {direction} " + " ".join(f"{name} {value}" for name, value in parameters.items()))

    def down(self, direction="both"):
        self._order(f"down {direction}")

    def up(self, direction="both"):
        self._order(f"up {direction}")

    def zero(self):
        self._order("zero")

    def quit(self):
        """Ends it; returns its report."""
        self._order("quit")
        self.process.wait(10)
        with open(self.out_path, encoding="ascii") as file:
            return json.loads(file.readlines()[1])

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)


class Daemon:
    """A running hawserd: .host, .process, .conf_path, .log_path, .control (path of its control socket)."""

    def __init__(self, bed, host, conf_text, env=None, name=None):
        self.bed = bed
        self.host = host
        self.name = name or host.name
        number = next(bed.numbers)
        self.conf_path = os.path.join(bed.folder, f"{self.name}-{number}.ini")
        self.log_path = bed.log_path(f"hawserd-{self.name}")
        self.write_conf(conf_text)
        self.env = {**os.environ, **(env or {})}
        with open(self.log_path, "wb") as log:
            self.process = host.popen([program("hawserd"), "-c", self.conf_path], stdout=log, stderr=log,
                                      env=self.env)

    def write_conf(self, conf_text):
        """Replaces its configuration file (for a reload)."""
        with open(self.conf_path, "w", encoding="utf-8") as file:
            file.write(conf_text)
        match = re.search(r"^\s*control\s*=\s*(\S+)", conf_text, re.M)
        self.control = match[1] if match else None

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_log(self, regex, timeout=10):
        """The match of a line of its log, once there is one. Fails at once if it ends without."""
        def found():
            alive = self.alive()
            match = re.search(regex, self.log(), re.M)
            assert match or alive, f"hawserd {self.name} ended with {self.process.returncode}:\n{self.log()}"
            return match
        return wait_for(found, timeout, f"/{regex}/ in the log of {self.name}")

    def kill(self, number=signal.SIGTERM):
        """To the process that was started (the keeper). kill_all reaches the engine too."""
        if self.alive():
            self.process.send_signal(number)

    def kill_all(self, number=signal.SIGKILL):
        _signal_group(self.process, number)

    def wait(self, timeout=10):
        """Its exit code, negative if a signal ended it."""
        return self.process.wait(timeout)

    def engine_pids(self):
        """Processes named hawserd of this daemon other than the keeper."""
        pids = []
        for pid in _pids_inside([self.host.netns]):
            with contextlib.suppress(OSError):
                if pid != self.pid and os.getpgid(pid) == self.pid:
                    pids.append(pid)
        return pids

    def ctl(self, *words, timeout=10):
        """What `hawserctl --json WORDS` says, parsed (None if it says nothing)."""
        done = subprocess.run([program("hawserctl"), "--json", "-s", self.control, *words], capture_output=True,
                              text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"hawserctl {words} for {self.name}: {done.stderr or done.stdout}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def peers_up(self):
        """Whether it answers and all its peers are up."""
        assert self.alive(), f"hawserd {self.name} ended with {self.process.returncode}:\n{self.log()}"
        if not os.path.exists(self.control):
            return False
        try:
            peers = self.ctl("peers")
        except (AssertionError, subprocess.TimeoutExpired, ValueError):
            return False
        return bool(peers) and all(peer["state"] == "up" for peer in peers)

    def wait_up(self, timeout=20):
        wait_for(self.peers_up, timeout, f"the peers of {self.name} to be up")


class Pair:
    """What Bed.pair made: .far, .near (of branch 0), .nears (of each branch)."""

    def __init__(self, nears, far):
        self.nears = nears
        self.near = nears[0]
        self.far = far

    def all(self):
        return self.nears + [self.far]

    def wait_up(self, timeout=20):
        for daemon in self.all():
            daemon.wait_up(timeout)


def conf_text(sections, extra=""):
    """Text of a configuration from {section: {key: value}}; lists are joined by commas, None leaves out."""
    lines = []
    for section, keys in sections.items():
        if keys is None:
            continue
        lines.append(f"[{section}]")
        for key, value in keys.items():
            if value is not None:
                text = ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else value
                lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n" + extra


def _merged(sections, changes):
    merged = {name: dict(keys) for name, keys in sections.items()}
    for name, keys in (changes or {}).items():
        merged[name] = None if keys is None else {**(merged.get(name) or {}), **keys}
    return merged


# --- real programs ----------------------------------------------------------------------------------


class Nginx:
    """nginx that serves .root and takes PUT; .access_log begins each line with the client's address."""

    def __init__(self, bed, host, port, extra):
        self.host = host
        self.port = port
        self.folder = os.path.join(bed.folder, f"nginx-{host.name}-{port}")
        self.root = os.path.join(self.folder, "root")
        self.access_log = bed.log_path(f"nginx-{host.name}-access")
        self.error_log = bed.log_path(f"nginx-{host.name}-error")
        os.makedirs(self.root)
        conf = os.path.join(self.folder, "nginx.conf")
        listen6 = f"listen [::]:{port};" if host.ip6 else ""
        temps = "".join(f"{name}_temp_path {self.folder}/{name};\n"
                        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(conf, "w", encoding="ascii") as file:
            file.write(f"""daemon off; pid {self.folder}/pid; user root; worker_processes 1;
error_log {self.error_log} notice;
events {{ worker_connections 4096; }}
http {{
{temps}access_log {self.access_log};
sendfile on; keepalive_requests 1000000; client_max_body_size 0; default_type application/octet-stream;
{extra}
server {{ listen {port} backlog=4096; {listen6} root {self.root}; dav_methods PUT; create_full_put_path on; }}
}}
""")
        self.process = host.popen(["nginx", "-c", conf, "-e", self.error_log, "-p", self.folder])
        wait_for(lambda: self._ready(), 10, f"nginx on {host.name}")

    def _ready(self):
        assert self.process.poll() is None, "nginx ended: " + tail(self.error_log)
        return self.host.listening(self.port)

    def url(self, path, family=4):
        address = f"[{self.host.ip6}]" if family == 6 else self.host.ip4
        return f"http://{address}:{self.port}/{path}"

    def file(self, name, size, seed=1):
        """Makes a file of random bytes (the same for the same seed); returns its path."""
        path = os.path.join(self.root, name)
        make_file(path, size, seed)
        return path

    def requests(self):
        """Lines of the access log."""
        with open(self.access_log, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()


def make_file(path, size, seed=1):
    """Incompressible bytes, the same for the same seed."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        while size > 0:
            file.write(generator.randbytes(min(size, 1 << 20)))
            size -= 1 << 20


class Transfer:
    """Of Bed.curl: .seconds, .first_byte (seconds), .bytes, .sha256, .code, .exit, .error"""

    def __init__(self, done, path):
        self.exit = done.returncode
        self.error = done.stderr.strip()
        figures = json.loads(done.stdout) if done.stdout.strip() else {}
        self.seconds = figures.get("time_total")
        self.first_byte = figures.get("time_starttransfer")
        self.code = figures.get("response_code")
        self.bytes = 0
        self.sha256 = None
        if os.path.exists(path):
            self.bytes = os.path.getsize(path)
            self.sha256 = sha256_of(path)


# --- the bed ----------------------------------------------------------------------------------------


class Branch:
    """.client (of .clients), .near (the gateway), .wanem (None without an emulator), .net4, .net6"""

    def __init__(self, number):
        self.number = number
        self.clients = []
        self.near = None
        self.wanem = None
        self.wan_interface = f"wan{number}"  # at the hub
        self.net4 = f"10.1.{number}.0/24"
        self.net6 = f"fd00:1:0:{number:x}::/64"

    @property
    def client(self):
        return self.clients[0]

    def lan(self, host):
        return f"10.1.{self.number}.{host}", f"fd00:1:0:{self.number:x}::{host:x}"

    def wan(self, host):
        return f"10.9.{self.number}.{host}", f"fd00:9:0:{self.number:x}::{host:x}"


class Bed:
    """See the top of the file. profile: of hawser-wanem; "none": a perfect link to be set by wanem=; None: no
    emulator. wanem: further arguments of hawser-wanem. mtu: of the WAN, lan_mtu: of the LANs.
    Several clients of a branch, or servers, share a bridge, lan0 of their gateway."""

    def __init__(self, profile="lan", ipv6=True, branches=1, clients=1, servers=1, mtu=1500, lan_mtu=1500,
                 seed=1, wanem=()):
        assert 1 <= branches <= 250
        self.prefix = f"hw-{os.getpid()}-{next(_numbers)}"
        self.profile = profile
        self.ipv6 = ipv6 and has_ipv6()
        self.mtu = mtu
        self.lan_mtu = lan_mtu
        self.numbers = itertools.count(1)
        self.processes = []
        self.daemons = []
        self.hosts = []
        self.logs = []
        self.folder = None
        self.servers = []
        self.branches = [Branch(number) for number in range(branches)]
        self._shape = (clients, servers)
        self._wanem_arguments = ["--mtu", mtu, "--seed", seed]
        if profile not in (None, "none"):
            self._wanem_arguments += ["--profile", profile]
        self._wanem_arguments += list(wanem)

    # Shorthands for the first of each.
    client = property(lambda self: self.branches[0].client)
    near = property(lambda self: self.branches[0].near)
    wanem = property(lambda self: self.branches[0].wanem)
    server = property(lambda self: self.servers[0])

    def __enter__(self):
        if threading.current_thread() is threading.main_thread() and \
                signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_signal)
        _beds.add(self)
        try:
            self._set_up()
        except BaseException:
            self.print_logs()
            self.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and kind is not Skip:
            self.print_logs()
        self.close()

    def log_path(self, name):
        """A new file name for a log of this bed; its end is shown if the test fails."""
        path = os.path.join(self.folder, f"{name}-{next(self.numbers)}.log")
        self.logs.append(path)
        return path

    def print_logs(self):
        for path in self.logs:
            text = tail(path)
            if text:
                print(f"--- {os.path.basename(path)}\n{text}")
        sys.stdout.flush()

    def close(self):
        """Ends and removes everything. May be called again."""
        with _signals_held():
            _end_groups(self.processes)
            self.processes.clear()
            names = [host.netns for host in self.hosts]
            _kill_inside(names)
            for name in names:
                if os.path.exists(os.path.join(NETNS_FOLDER, name)):
                    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            self.hosts.clear()
            if self.folder and not os.environ.get("HAWSER_KEEP"):
                shutil.rmtree(self.folder, ignore_errors=True)
            _beds.discard(self)

    # Setting up.

    def _host(self, name):
        host = Host(self, name)
        self.hosts.append(host)
        return host

    def _set_up(self):
        with _netns_lock():
            _remove_stale()
        self.folder = tempfile.mkdtemp(prefix=self.prefix + "-")
        os.chmod(self.folder, 0o755)  # the daemon's own user reads here
        clients, servers = self._shape
        for branch in self.branches:
            end = str(branch.number) if branch.number else ""
            branch.near = self._host("near" + end)
            for number in range(clients):
                branch.clients.append(self._host("client" + end + (f"-{number}" if number else "")))
        self.far = self._host("far")
        self.servers = [self._host("server" + (f"-{number}" if number else "")) for number in range(servers)]
        with _signals_held(), _netns_lock():
            _ip([f"netns add {host.netns}" for host in self.hosts])
        gateways = [branch.near for branch in self.branches] + [self.far]
        for host in self.hosts:
            self._host_settings(host, host in gateways)
        for branch in self.branches:
            self._lan(branch.near, branch.clients, branch.lan)
        self._lan(self.far, self.servers, lambda host: (f"10.2.0.{host}", f"fd00:2::{host:x}"))
        self._wans()

    def _host_settings(self, host, gateway):
        values = {"net.ipv4.tcp_no_metrics_save": 1, "net.ipv4.conf.all.rp_filter": 2,
                  "net.ipv4.conf.default.rp_filter": 2, "net.ipv4.ip_forward": int(gateway)}
        if self.ipv6:
            for scope in ("all", "default"):
                values[f"net.ipv6.conf.{scope}.accept_dad"] = 0
                values[f"net.ipv6.conf.{scope}.accept_ra"] = 0
                values[f"net.ipv6.conf.{scope}.forwarding"] = int(gateway)
        elif has_ipv6():
            values["net.ipv6.conf.all.disable_ipv6"] = 1
            values["net.ipv6.conf.default.disable_ipv6"] = 1
        for name, value in values.items():
            host.sysctl(name, value)
        if not gateway:
            host.congestion_control("cubic")
        _ip(["link set lo up"], host.netns)

    def _address_lines(self, interface, addresses):
        lines = [f"address add {addresses[0]}/24 dev {interface}"]
        if self.ipv6:
            lines.append(f"address add {addresses[1]}/64 dev {interface} nodad")
        return lines

    def _lan(self, gateway, hosts, address):
        """The gateway gets .1, the hosts .2 and on."""
        bridge = len(hosts) > 1
        lines = [f"link add lan0 mtu {self.lan_mtu} type bridge"] if bridge else []
        for number, host in enumerate(hosts):
            port = f"port{number}" if bridge else "lan0"
            lines.append(f"link add {port} mtu {self.lan_mtu} type veth peer name eth0 mtu {self.lan_mtu} "
                         f"netns {host.netns}")
            if bridge:
                lines += [f"link set {port} master lan0", f"link set {port} up"]
        lines += self._address_lines("lan0", address(1)) + ["link set lan0 up"]
        _ip(lines, gateway.netns)
        gateway.ip4, gateway.ip6 = address(1)
        for number, host in enumerate(hosts):
            host.ip4, host.ip6 = address(2 + number)
            lines = self._address_lines("eth0", (host.ip4, host.ip6))
            lines += ["link set eth0 up", f"route add default via {gateway.ip4}"]
            if self.ipv6:
                lines.append(f"route add default via {gateway.ip6}")
            else:
                host.ip6 = None
            _ip(lines, host.netns)
        if not self.ipv6:
            gateway.ip6 = None

    def _wans(self):
        for branch in self.branches:
            near, far, interface = branch.near.netns, self.far.netns, branch.wan_interface
            if self.profile is None:
                _ip([f"link add wan0 mtu {self.mtu} type veth peer name {interface} mtu {self.mtu} netns {far}",
                     "link set wan0 up"], near)
                _ip([f"link set {interface} up"], far)
                continue
            if self.ipv6:  # no addresses of its own making, so that the link is silent
                branch.near.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
                self.far.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
            ends = ["--a", f"wan0@{near}", "--b", f"{interface}@{far}"]
            name = "wanem" + (str(branch.number) if branch.number else "")
            branch.wanem = Wanem(self, name, self.far, ends + self._wanem_arguments)
        for branch in self.branches:
            if branch.wanem:
                branch.wanem.wait_ready()
            self._wan_routes(branch)

    def _wan_routes(self, branch):
        near, far = branch.wan(2), branch.wan(1)
        lines = self._address_lines("wan0", near) + [f"route add default via {far[0]}"]
        back = self._address_lines(branch.wan_interface, far) + [f"route add {branch.net4} via {near[0]}"]
        if self.ipv6:
            lines.append(f"route add default via {far[1]}")
            back.append(f"route add {branch.net6} via {near[1]}")
        _ip(lines, branch.near.netns)
        _ip(back, self.far.netns)

    # The daemons.

    def hawserd(self, host, conf_text, env=None, name=None):
        """Starts hawserd on a gateway with this configuration. It does not wait for it."""
        daemon = Daemon(self, host, conf_text, env, name)
        self.daemons.append(daemon)
        return daemon

    def identity(self, name):
        """(folder, pin) of an identity, made when it is first asked for."""
        folder = os.path.join(self.folder, "identity-" + name)
        if os.path.exists(folder):
            done = subprocess.run([program("hawserctl"), "pin", os.path.join(folder, "node.crt")],
                                  capture_output=True, text=True, check=True, timeout=30)
        else:
            done = subprocess.run([program("hawserctl"), "keygen", folder], capture_output=True, text=True,
                                  check=True, timeout=30)
        return folder, done.stdout.split()[-1]

    def node_name(self, branch):
        return "branch" + (str(branch.number) if branch.number else "")

    def near_sections(self, branch=None, family=4):
        """The standard configuration of a branch gateway as {section: {key: value}}."""
        branch = branch or self.branches[0]
        name = self.node_name(branch)
        address = branch.wan(1)
        networks = ["10.2.0.0/24"] + (["fd00:2::/64"] if self.ipv6 else [])
        return {
            "node": {"name": name, "identity": self.identity(name)[0]},
            "intercept": {"interface": "lan0"},
            "peer dc": {"address": f"[{address[1]}]:4430" if family == 6 else f"{address[0]}:4430",
                        "pin": self.identity("dc")[1], "networks": networks},
            "admin": {"control": os.path.join(self.folder, name + ".sock")},
        }

    def far_sections(self, family=4):
        """The standard configuration of the hub: every branch is a peer that dials in."""
        sections = {
            "node": {"name": "dc", "identity": self.identity("dc")[0]},
            "intercept": {"interface": "lan0"},
            "tunnel": {"listen": "[::]:4430" if family == 6 else "0.0.0.0:4430"},
        }
        for branch in self.branches:
            name = self.node_name(branch)
            networks = [branch.net4] + ([branch.net6] if self.ipv6 else [])
            sections["peer " + name] = {"pin": self.identity(name)[1], "networks": networks}
        sections["admin"] = {"control": os.path.join(self.folder, "dc.sock")}
        return sections

    def pair(self, near=None, far=None, near_extra="", far_extra="", family=4, env=None, timeout=30, wait=True):
        """hawserd on every gateway, with all peers up when it returns. near and far change the standard
        sections ({"peer dc": {"rate": "50mbit"}}; None removes a key or a section), near_extra and
        far_extra are text at the end. family: of the addresses of the tunnel."""
        hub = self.hawserd(self.far, conf_text(_merged(self.far_sections(family), far), far_extra), env, "dc")
        nears = []
        for branch in self.branches:
            sections = _merged(self.near_sections(branch, family), near)
            nears.append(self.hawserd(branch.near, conf_text(sections, near_extra), env, self.node_name(branch)))
        pair = Pair(nears, hub)
        if wait:
            pair.wait_up(timeout)
        return pair

    # Real programs.

    def nginx(self, host=None, port=80, extra=""):
        """Starts nginx (on the server); extra goes into its http section."""
        return Nginx(self, host or self.server, port, extra)

    def curl(self, host, url, upload=None, arguments=(), timeout=60, check=True):
        """Downloads (or uploads a file to) a URL; a Transfer. The body that came is hashed and removed."""
        path = os.path.join(self.folder, f"curl-{next(self.numbers)}")
        command = ["curl", "-sS", "--globoff", "--max-time", str(timeout), "-o", path, "-w", "%{json}"]
        if upload:
            command += ["-H", "Expect:", "-T", upload]
        done = host.run(command + list(arguments) + [url], timeout=timeout + 5, check=False)
        transfer = Transfer(done, path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if check:
            assert transfer.exit == 0 and transfer.code in (200, 201, 204, 206), \
                f"curl {url}: exit {transfer.exit}, code {transfer.code}: {transfer.error}"
        return transfer

    def download(self, host, web, name, family=4, timeout=60, arguments=()):
        """Fetches a file of an Nginx and compares the checksum with the file's."""
        transfer = self.curl(host, web.url(name, family), arguments=arguments, timeout=timeout)
        assert transfer.sha256 == sha256_of(os.path.join(web.root, name)), f"{name} came with other bytes"
        return transfer

    def upload(self, host, web, path, name, family=4, timeout=60, arguments=()):
        """Puts a file to an Nginx and compares the checksum of what is there afterwards."""
        transfer = self.curl(host, web.url(name, family), upload=path, arguments=arguments, timeout=timeout)
        assert sha256_of(os.path.join(web.root, name)) == sha256_of(path), f"{name} arrived with other bytes"
        return transfer

    def iperf3(self, client=None, server=None, arguments=(), family=4, port=5201, timeout=60):
        """One run of iperf3 from client to server (-R in the arguments: back); its parsed JSON."""
        client, server = client or self.client, server or self.server
        listener = server.popen(["iperf3", "-s", "-1", "-p", str(port)])
        try:
            wait_for(lambda: server.listening(port), 10, "iperf3 to listen")
            done = client.run(["iperf3", "-J", "-c", server.ip(family), "-p", str(port), *arguments],
                              timeout=timeout)
            listener.wait(10)
        finally:
            _end_groups([listener], 1)
            self.processes.remove(listener)
        return json.loads(done.stdout)


# --- ends -------------------------------------------------------------------------------------------


def _on_signal(number, frame):
    raise Interrupted("out of time" if number == signal.SIGALRM else signal.Signals(number).name)


@atexit.register
def _close_all():
    for bed in list(_beds):
        bed.close()


def _run_test(name, test, seconds):
    """"ok", "skipped" or "FAILED"."""
    signal.signal(signal.SIGALRM, _on_signal)
    begun = time.monotonic()
    error = None
    try:
        signal.alarm(seconds)
        try:
            test()
        finally:
            signal.alarm(0)
    except Skip as reason:
        print(f"skipped {name}: {reason}", flush=True)
        return "FAILED" if os.environ.get("HAWSER_NO_SKIP") == "1" else "skipped"
    except (Exception, Interrupted) as caught:  # pylint: disable=broad-except
        error = caught
    _close_all()
    if error is None:
        print(f"ok {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        return "ok"
    traceback.print_exception(error, file=sys.stdout)
    print(f"FAILED {name} ({time.monotonic() - begun:.1f} s)", flush=True)
    if isinstance(error, Interrupted) and str(error) == "SIGTERM":
        sys.exit(143)
    return "FAILED"


def main(tests, seconds=120):
    """Runs the functions named test_* of a dictionary (globals()) or list, or those that the command line
    names, each bounded in time, and exits: 0, 1, or 77 if nothing can run here."""
    if isinstance(tests, dict):
        tests = [value for name, value in tests.items() if name.startswith("test_") and callable(value)]
    if sys.argv[1:]:
        tests = [test for test in tests if test.__name__ in sys.argv[1:]]
    reason = why_not()
    if reason:
        print(f"skipped: {reason}", flush=True)
        sys.exit(1 if os.environ.get("HAWSER_NO_SKIP") == "1" else 77)
    signal.signal(signal.SIGTERM, _on_signal)
    results = [_run_test(test.__name__, test, seconds) for test in tests]
    passed, failed = results.count("ok"), results.count("FAILED")
    print(f"{passed} passed, {failed} failed", flush=True)
    if failed or not tests:
        sys.exit(1)
    sys.exit(0 if passed else 77)
