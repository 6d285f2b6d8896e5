"""Runs of the load generator (tools/load.c) on a test bed, and what the engines' processes say of themselves."""

import json
import os
import re
import subprocess

from bed import BUILD, program, tail, wait_for


def is_sanitized():
    """Whether the programs are built with a sanitizer, whose memory says nothing about theirs."""
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as file:
        return re.search(r"^HAWSER_SANITIZE:\w+=.", file.read(), re.M) is not None


class LoadEnd:
    """.process, .result (after finish)"""

    def __init__(self, host, arguments, stdin=subprocess.DEVNULL):
        self.host = host
        self.name = "load " + arguments[0]
        self.err_path = host.bed.log_path(f"{host.name}-load")
        self.out_path = host.bed.log_path(f"{host.name}-load-out")
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = host.popen([program("test/load")] + [str(word) for word in arguments], stdin=stdin,
                                      stdout=out, stderr=err)
        self.result = None

    def lines(self):
        with open(self.out_path, encoding="ascii") as file:
            return file.read().splitlines()

    def wait_line(self, word, timeout):
        def found():
            lines = self.lines()
            assert word in lines or self.process.poll() is None, \
                f"{self.name} ended with {self.process.returncode}: {tail(self.out_path)}{tail(self.err_path)}"
            return word in lines
        wait_for(found, timeout, f"'{word}' of {self.name} on {self.host.name}")

    def finish(self, timeout=120, check=True):
        """Waits for its end; its result. Fails when it found an error (check=False: returns)."""
        self.process.wait(timeout)
        lines = self.lines()
        self.result = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
        assert self.result is not None, f"{self.name} says nothing: {tail(self.err_path)}"
        if check:
            assert self.process.returncode == 0 and self.result["errors"] == 0, f"{self.name}: {self.result}"
        return self.result


class LoadServer(LoadEnd):
    """Serves ports first to last until `sessions` have ended, or until it is told to stop."""

    def __init__(self, host, first=9000, last=9003, sessions=0, deadline=280):
        super().__init__(host, ["server", "--ports", f"{first}-{last}", "--sessions", sessions,
                                "--deadline", deadline])
        self.ports = f"{first}-{last}"
        self.wait_line("ready", 10)

    def stop(self, check=True):
        """Ends it; its result. What is unfinished then is an error, unless its client may vanish."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.finish(30, check)


class LoadClient(LoadEnd):
    """Opens the groups ("idle:1000,up=16"); with hold it keeps what is held until release()."""

    def __init__(self, host, server, groups, hold=False, seed=1, family=4, deadline=270, more=()):
        arguments = ["client", server.host.ip(family), server.ports, "--seed", seed, "--deadline", deadline]
        for group in groups:
            arguments += ["--group", group]
        super().__init__(host, arguments + (["--hold"] if hold else []) + list(more), subprocess.PIPE)

    def wait_held(self, timeout=90):
        self.wait_line("held", timeout)

    def release(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.close()


def engine_pid(daemon):
    """The one engine of a running hawserd."""
    pids = daemon.engine_pids()
    assert len(pids) == 1, f"engines of {daemon.name}: {pids}"
    return pids[0]


def memory_of(pid):
    """{"VmHWM": bytes, "RssAnon": bytes, ...}"""
    figures = {}
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if value.strip().endswith(" kB"):
                figures[name] = int(value.split()[0]) * 1024
    return figures


def peak_bytes(pid):
    """The most memory of its own that a process has had: its peak less the pages of its files."""
    figures = memory_of(pid)
    return figures["VmHWM"] - figures["RssFile"]
