#!/usr/bin/env python3
"""The live part of contrib/desk.sh: a client, two gateways and a server on one machine, and a shell in each.

Whoever runs in one of the namespaces was started from here, and ends with them: shells, what they started, and commands.
The server of tmux has no window left then, and ends as well."""

import argparse
import glob
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "net"))
import bed  # noqa: E402
from bed_programs import Link, profile_path  # noqa: E402

HOSTS = ("client", "near", "far", "server")
SIZES = {"1M": 1 << 20, "20M": 20 << 20, "100M": 100 << 20}


class Gone(Exception):
    """A signal asked for the end."""


def on_signal(number, frame):
    raise Gone(signal.Signals(number).name)


# --- what the shells find -------------------------------------------------------------------------------


def tell(path, words):
    """The program `wan`: one command to the emulator."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(path)
        control.sendall(" ".join(words).encode() + b"\n")
        with control.makefile("r", encoding="ascii") as answers:
            answer = json.loads(answers.readline())
    if answer != {"ok": True}:
        print(answer.get("error") or json.dumps(answer, indent=1))
    return 1 if "error" in answer else 0


def write_program(folder, name, *words):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    os.chmod(path, 0o755)


class Desk:
    """The drawn bed with what its shells need."""

    def __init__(self, net, options):
        self.net = net
        self.options = options
        self.hosts = {name: getattr(net, name) for name in HOSTS}
        self.daemons = {}
        web = net.nginx()
        for name, size in SIZES.items():
            web.file(name, size)
        if options.hawser:
            self._start_hawser()
        self.folders = {name: self._programs(name) for name in HOSTS}

    def _start_hawser(self):
        """The rates are those of the profile, as a user would set what was bought."""
        link = Link(self.options.profile.split("+")[0]) if self.options.profile != "none" else None
        rate = {"up": link and link.up_bps, "down": link and link.down_bps}
        texts = {way: f"{bps // 1000}kbit" if bps else None for way, bps in rate.items()}
        pair = self.net.pair(near={"peer dc": {"rate": texts["up"]}}, far={"peer branch": {"rate": texts["down"]}},
                             timeout=60)
        self.daemons = {"near": pair.near, "far": pair.far}

    def _programs(self, name):
        folder = os.path.join(self.net.folder, "bin-" + name)
        os.mkdir(folder)
        write_program(folder, "wan", sys.executable, os.path.abspath(__file__), "--tell", self.net.wanem.control)
        if name in self.daemons:
            write_program(folder, "hawserctl", bed.program("hawserctl"), "-s", self.daemons[name].control)
        return folder

    def environment(self, name):
        return {**os.environ, "PATH": self.folders[name] + ":" + os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")}

    def words(self):
        lines = [f"Profile {self.options.profile}, " + ("hawserd on both gateways." if self.daemons else "no hawserd."), "",
                 f"  client {self.net.client.ip4} --- near ======== WAN ======== far --- server {self.net.server.ip4}", "",
                 f"  curl -o /dev/null http://{self.net.server.ip4}/20M     at the client; there are also 1M and 100M",
                 "  wan stats | wan set both loss 2% | wan down | wan up     anywhere, see hawser-wanem(8)"]
        if self.daemons:
            lines.append("  hawserctl sessions | hawserctl lanes                     at near and far, see hawserctl(1)")
            lines += [f"  log of {name}: {daemon.log_path}" for name, daemon in self.daemons.items()]
        return "\n".join(lines) + "\n"


# --- shells and commands --------------------------------------------------------------------------------


def run_command(desk, name, command):
    """With this terminal's input and output; the command's exit status."""
    try:
        with desk.hosts[name].inside():
            process = subprocess.Popen(command, env=desk.environment(name))
    except OSError as error:
        print(f"desk: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    code = process.wait()
    return 128 - code if code < 0 else code


def shell_command(desk, name):
    rc = os.path.join(desk.folders[name], "rc")
    with open(rc, "w", encoding="utf-8") as file:
        file.write(f"PATH={shlex.quote(desk.environment(name)['PATH'])}\nPS1='{name}:\\w\\$ '\n")
        if name == "client":
            file.write(f"cat <<'END'\n\n{desk.words()}  Ctrl-b n: next window (client, near, far, server). The desk is taken "
                       "down when the last shell\n  ends, or with Ctrl-b d.\n\nEND\n")
    return shlex.join(["ip", "netns", "exec", desk.hosts[name].netns, "bash", "--rcfile", rc, "-i"])


def run_shells(desk):
    """Until the last shell ends, or the user leaves tmux."""
    tmux = ["tmux", "-S", os.path.join(desk.net.folder, "tmux.sock"), "-f", os.devnull]
    try:
        for place, name in enumerate(HOSTS):
            make = ["new-session", "-d", "-s", "desk"] if place == 0 else ["new-window", "-d", "-t", f"desk:{place}"]
            subprocess.run([*tmux, *make, "-n", name, shell_command(desk, name)], check=True)
        return subprocess.run([*tmux, "attach", "-t", "desk:client"], check=False).returncode
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True, check=False)


def choose(argv):
    names = sorted(os.path.basename(path)[:-4] for path in glob.glob(profile_path("*")))
    parser = argparse.ArgumentParser(
        prog="contrib/desk.sh", description="A client, two gateways and a server on this machine, an emulated link between the "
        "gateways, and a shell in each. With HOST and COMMAND it runs that instead, and exits as it does.")
    parser.add_argument("--profile", default="geo", metavar="NAME",
                        help=f"the link (default %(default)s): {', '.join(names)}; the path of such a file; several with + "
                        "between; or none for a perfect link")
    parser.add_argument("--no-hawser", dest="hawser", action="store_false", help="plain gateways")
    parser.add_argument("--seed", type=int, default=1, help="of the losses (default %(default)s)")
    parser.add_argument("host", nargs="?", choices=HOSTS, metavar="HOST", help=", ".join(HOSTS))
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args(argv)
    for name in options.profile.split("+"):
        if name != "none" and not os.path.isfile(profile_path(name)):
            parser.error(f"--profile: there is no {name}; it takes {', '.join(names)}, or the path of a file")
    if options.host and not options.command:
        parser.error(f"a command is missing: what is to run at {options.host}?")
    return options


def main():
    if sys.argv[1:2] == ["--tell"]:
        return tell(sys.argv[2], sys.argv[3:])
    options = choose(sys.argv[1:])
    reason = bed.why_not()
    if reason:
        sys.exit(f"desk: this cannot run here: {reason}")
    if not options.host and not (sys.stdin.isatty() and shutil.which("tmux")):
        sys.exit("desk: shells need a terminal and tmux; install tmux, or give a HOST and a COMMAND")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        with bed.Bed(profile=options.profile, seed=options.seed) as net:
            net.print_logs = lambda: None
            desk = Desk(net, options)
            if options.host:
                return run_command(desk, options.host, options.command)
            return run_shells(desk)
    except (Gone, KeyboardInterrupt) as end:
        print(f"desk: {end or 'interrupted'}; everything is taken down", file=sys.stderr)
        return 130
    except AssertionError as error:
        print(f"desk: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
