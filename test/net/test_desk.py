"""contrib/desk.py: commands in its hosts, shells in tmux; whatever ends it, nothing is left."""

import contextlib
import glob
import os
import pty
import shutil
import signal
import subprocess
import tempfile

from bed import SOURCE, Bed, Skip, main, wait_for
from bed_hosts import NETNS_FOLDER

DESK = os.path.join(SOURCE, "contrib", "desk.py")
PATIENCE_S = 100


def desk(*arguments, **kw):
    return subprocess.Popen(["/usr/bin/python3", DESK, "--no-hawser", "--profile", "lan", *arguments],
                            env={**os.environ, "TERM": "xterm"}, start_new_session=True, **kw)


def traces(process):
    """Namespaces and folders of a desk."""
    return glob.glob(f"{NETNS_FOLDER}/hw-{process.pid}-*") + glob.glob(f"{tempfile.gettempdir()}/hw-{process.pid}-*")


def check_gone(process):
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    assert process.returncode is not None, "the desk does not end"
    assert traces(process) == []


def text_of(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return file.read()
    return ""


def test_a_command_runs_where_it_should():
    done = desk("server", "sh", "-c", "ip -br address show dev eth0; wan stats; wan set both speed 1; exit 7",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 7, (out, err)
    assert "10.2.0.2/24" in out and '"profile": "lan"' in out and "'speed' is no parameter" in out, out
    check_gone(done)


def test_hawser_carries_a_file():
    done = subprocess.Popen(["/usr/bin/python3", DESK, "--profile", "branch", "client", "curl", "-sS", "-o", os.devnull,
                             "-w", "%{http_code} %{size_download}", "http://10.2.0.2/1M"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    out, err = done.communicate(timeout=PATIENCE_S)
    assert (done.returncode, out) == (0, "200 1048576"), (out, err)
    check_gone(done)


def test_what_cannot_be_is_said():
    for arguments, word in ((("--profile", "moon", "client", "true"), "moon"), (("near",), "command"),
                            (("nowhere", "true"), "HOST"), ((), "terminal")):
        done = desk(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        _, err = done.communicate(timeout=PATIENCE_S)
        assert done.returncode != 0 and word in err, (arguments, err)
        check_gone(done)


def test_a_signal_ends_it_and_its_command():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        with tempfile.TemporaryDirectory() as folder:
            mark = os.path.join(folder, "pid")
            done = desk("client", "sh", "-c", f"echo $$ >{mark}.new && mv {mark}.new {mark} && exec tail -f {os.devnull}",
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda mark=mark: text_of(mark), PATIENCE_S, "the command to run")
            done.send_signal(number)
            check_gone(done)
            assert done.returncode == 130
            assert not os.path.exists(f"/proc/{text_of(mark).strip()}"), "its command runs on"


class Shells:
    """A desk on a terminal of its own: .process, .tmux(WORDS)"""

    def __init__(self):
        if not shutil.which("tmux"):
            raise Skip("the program tmux is missing")
        self.terminal, end = pty.openpty()
        self.process = desk(stdin=end, stdout=end, stderr=end)
        os.close(end)
        wait_for(lambda: self.windows() == ["client", "near", "far", "server"] and self.attached(), PATIENCE_S,
                 "four windows")

    def tmux(self, *words):
        folders = glob.glob(f"{tempfile.gettempdir()}/hw-{self.process.pid}-*")
        path = os.path.join(folders[0], "tmux.sock") if folders else "/no/such/socket"
        return subprocess.run(["tmux", "-S", path, *words], capture_output=True, text=True, check=False).stdout

    def windows(self):
        return self.tmux("list-windows", "-t", "desk", "-F", "#{window_name}").split()

    def attached(self):
        return self.tmux("list-clients", "-t", "desk", "-F", "#{client_pid}")

    def pids(self):
        return self.tmux("list-panes", "-s", "-t", "desk", "-F", "#{pane_pid} #{pid}").split()

    def close(self):
        os.close(self.terminal)


def check_shells_gone(pids, shells):
    check_gone(shells.process)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), PATIENCE_S, "shells and tmux to be gone")


def test_shells_end_when_the_user_leaves():
    shells = Shells()
    try:
        shells.tmux("send-keys", "-t", "desk:near", "ip -br address show dev lan0", "Enter")
        wait_for(lambda: "10.1.0.1/24" in shells.tmux("capture-pane", "-p", "-t", "desk:near"), PATIENCE_S, "an answer")
        pids = shells.pids()
        assert len(pids) == 8
        shells.tmux("detach-client", "-s", "desk")
        check_shells_gone(pids, shells)
    finally:
        shells.close()


def test_shells_end_one_by_one():
    shells = Shells()
    try:
        pids = shells.pids()
        for name in ("client", "near", "far", "server"):
            shells.tmux("send-keys", "-t", f"desk:{name}", "exit", "Enter")
        check_shells_gone(pids, shells)
        assert shells.process.returncode == 0
    finally:
        shells.close()


def test_shells_end_with_the_terminal_or_a_signal():
    for end in ("hang up", signal.SIGTERM, signal.SIGHUP):
        shells = Shells()
        pids = shells.pids()
        if end == "hang up":
            shells.close()
            check_shells_gone(pids, shells)
            continue
        try:
            shells.process.send_signal(end)
            check_shells_gone(pids, shells)
        finally:
            shells.close()


def test_a_killed_desk_is_cleared_away_by_the_next_bed():
    shells = Shells()
    try:
        pids = shells.pids()
        shells.process.kill()
        shells.process.wait(PATIENCE_S)
        with Bed(None, ipv6=False):
            check_shells_gone(pids, shells)
    finally:
        shells.close()


if __name__ == "__main__":
    main(globals())
