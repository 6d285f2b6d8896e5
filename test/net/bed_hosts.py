"""Namespaces and processes for the test bed: what bed.py draws with. See there."""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = os.environ.get("HAWSER_SOURCE") or os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("HAWSER_BUILD") or os.path.join(SOURCE, "build")
NETNS_FOLDER = "/run/netns"
NAME_PATTERN = re.compile(r"^hw-(\d+)-\d+-")
CLONE_NEWNET = 0x40000000
HELD_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM}

libc = ctypes.CDLL(None, use_errno=True)


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
def signals_held():
    """Taking down must not be interrupted half way."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

# --- processes --------------------------------------------------------------------------------------


def signal_group(process, number):
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


def end_groups(processes, patience=5.0):
    """SIGTERM, and SIGKILL for what is left after a while."""
    for process in processes:
        signal_group(process, signal.SIGTERM)
    end = time.monotonic() + patience
    while time.monotonic() < end and any(_group_alive(process) for process in processes):
        time.sleep(0.01)
    for process in processes:
        signal_group(process, signal.SIGKILL)
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def pids_inside(names):
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


def kill_inside(names):
    """Whoever is in a namespace of ours was started by us, or by what we started."""
    end = time.monotonic() + 3
    while (pids := pids_inside(names)) and time.monotonic() < end:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def ip_batch(lines, netns=None):
    """One ip process for many commands."""
    command = ["ip"] + (["-n", netns] if netns else []) + ["-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n" + "\n".join(lines))


@contextlib.contextmanager
def netns_lock():
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


def remove_stale():
    """Removes what a killed program left: its number is in the names."""
    stale = []
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(NETNS_FOLDER):
            match = NAME_PATTERN.match(name)
            if match and _pid_gone(int(match[1])):
                stale.append(name)
    if stale:
        kill_inside(stale)
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
            signal_group(process, signal.SIGKILL)
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
        with contextlib.suppress(OSError), netns_lock():
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
