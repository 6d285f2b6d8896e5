"""A share of a processor for the processes of a node: a cgroup of version 1 or 2. See hawser-bench."""

import contextlib
import os
import time

PERIOD_US = 20000  # short, so that a node is slow rather than stopped for long
V1_PLACES = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct")
V2_PLACES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


class CannotThrottle(Exception):
    """There is no cgroup with a cpu controller here."""


def _write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(text))


def _place():
    """(folder that new groups go into, version)"""
    for path in V1_PLACES:
        if os.path.exists(os.path.join(path, "cpu.cfs_quota_us")):
            return path, 1
    for path in V2_PLACES:
        with contextlib.suppress(OSError):
            with open(os.path.join(path, "cgroup.controllers"), encoding="ascii") as file:
                known = "cpu" in file.read().split()
            if known:
                _write(os.path.join(path, "cgroup.subtree_control"), "+cpu")
                return path, 2
    raise CannotThrottle("no cgroup has a cpu controller that may be used: mount one (mount -t cgroup2 none /sys/fs/cgroup), "
                         "or in a container start it with its cgroups writable")


class Throttle:
    """Gives all processes in it together percent of one processor. add() them; close() when they have ended."""

    def __init__(self, name, percent):
        folder, version = _place()
        self.path = os.path.join(folder, f"hawser-bench-{os.getpid()}-{name}")
        os.mkdir(self.path)
        quota = PERIOD_US * percent // 100
        try:
            if version == 1:
                _write(os.path.join(self.path, "cpu.cfs_period_us"), PERIOD_US)
                _write(os.path.join(self.path, "cpu.cfs_quota_us"), quota)
            else:
                _write(os.path.join(self.path, "cpu.max"), f"{quota} {PERIOD_US}")
        except OSError:
            os.rmdir(self.path)
            raise

    def add(self, pids):
        """Processes with all their threads; what they start later is in it as well."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _write(os.path.join(self.path, "cgroup.procs"), pid)

    def close(self):
        """The kernel lets go of an ended process a little after its parent has learned of it."""
        end = time.monotonic() + 10
        while os.path.isdir(self.path):
            try:
                os.rmdir(self.path)
            except OSError:
                if time.monotonic() > end:
                    raise
