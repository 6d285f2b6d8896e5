"""The programs that run on a test bed: hawser-wanem, hawserd, nginx, curl. See bed.py."""

import configparser
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess

from bed_hosts import SOURCE, cpu_seconds, pids_inside, program, sha256_of, signal_group, tail, wait_for


# --- the emulator and the daemons -------------------------------------------------------------------


def profile_path(name):
    """The file of a profile of hawser-wanem, named as for its --profile."""
    return name if "/" in name else os.path.join(SOURCE, "etc", "wanem", name + ".ini")


class Link:
    """What a profile says at its start: .rtt_ms, .down_bps and .up_bps (None: no limit)."""

    def __init__(self, name):
        reader = configparser.ConfigParser(strict=False, interpolation=None)  # a schedule may have two events at a time
        with open(profile_path(name), encoding="utf-8") as file:
            reader.read_file(file)
        self.name = name
        both = reader["both"] if "both" in reader else {}
        down, up = ({**both, **(reader[side] if side in reader else {})} for side in ("b-to-a", "a-to-b"))
        self.rtt_ms = sum(float(side.get("delay", "0ms").removesuffix("ms")) for side in (down, up))
        self.down_bps, self.up_bps = (self._bps(side.get("rate")) for side in (down, up))

    @staticmethod
    def _bps(rate):
        factor = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
        return round(float(rate[:-4]) * factor[rate[-4:]]) if rate else None


class Wanem:
    """A running hawser-wanem between two gateways; a-to-b is from the near to the far one."""

    def __init__(self, bed, name, far, arguments):
        self.bed = bed
        self.name = name
        self.control = os.path.join(bed.folder, name + ".sock")
        self.out_path = os.path.join(bed.folder, name + ".out")
        self.log_path = bed.log_path(name)
        command = [program("hawser-wanem"), "--json", "--control", self.control] + [str(word) for word in arguments]
        with open(self.out_path, "wb") as out, open(self.log_path, "wb") as err:
            # In the far namespace, so that it is found if this program is killed.
            self.process = far.popen(command, stdout=out, stderr=err)

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, f"{self.name} ended: {tail(self.log_path)}"
            with open(self.out_path, encoding="ascii") as file:
                return file.readline() == '{"ready": true}\n'
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
        return self.report()

    def report(self):
        """After its end: the last line of its output."""
        with open(self.out_path, encoding="ascii") as file:
            return json.loads(file.readlines()[-1])

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)


class Daemon:
    """A running hawserd: .host, .process, .conf_path, .log_path, .control (path of its control socket)."""

    def __init__(self, bed, host, conf_text, env=None, name=None, wrapper=()):
        self.bed = bed
        self.host = host
        self.name = name or host.name
        number = next(bed.numbers)
        self.conf_path = os.path.join(bed.folder, f"{self.name}-{number}.ini")
        self.log_path = bed.log_path(f"hawserd-{self.name}")
        self.write_conf(conf_text)
        self.env = {**os.environ, **(env or {})}
        with open(self.log_path, "wb") as log:
            self.process = host.popen([*wrapper, program("hawserd"), "-c", self.conf_path], stdout=log, stderr=log,
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
        signal_group(self.process, number)

    def wait(self, timeout=10):
        """Its exit code, negative if a signal ended it."""
        return self.process.wait(timeout)

    def engine_pids(self):
        """Processes named hawserd of this daemon other than the keeper."""
        pids = []
        for pid in pids_inside([self.host.netns]):
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


def merged_sections(sections, changes):
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


def make_text_file(path, size, seed=1):
    """At least size bytes of lines as in a web server's log, the same for the same seed; zstd -1 makes 14.6 % of
    them."""
    generator = random.Random(seed)
    with open(path, "w", encoding="ascii") as file:
        while file.tell() < size:
            file.write("".join(
                f'10.1.{generator.randrange(40)}.{generator.randrange(250)} - - "GET /items/'
                f'{generator.randrange(100000)} HTTP/1.1" {generator.choice((200, 200, 304, 404))} '
                f'{generator.randrange(5000)} "https://www.example.com/list?page={generator.randrange(50)}"\n'
                for _ in range(1000)))


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
