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
import ipaddress
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from bed_hosts import (
    BUILD, NETNS_FOLDER, SOURCE, Host, Interrupted, Skip, cpu_seconds, end_groups, has_ipv6, ip_batch,
    kill_inside, netns_lock, program, remove_stale, sha256_of, signals_held, tail, wait_for, why_not)
from bed_programs import (
    Daemon, Nginx, Pair, Transfer, Wanem, conf_text, make_file, make_text_file, merged_sections, profile_path)

__all__ = [
    "BUILD", "SOURCE", "Bed", "Branch", "Daemon", "Host", "Interrupted", "Nginx", "Pair", "Skip", "Transfer",
    "Wanem", "conf_text", "cpu_seconds", "has_ipv6", "main", "make_file", "make_text_file", "program", "sha256_of", "tail",
    "wait_for", "why_not"]

_numbers = itertools.count(1)
_beds = set()


# --- the bed ----------------------------------------------------------------------------------------


def _ip6(text):
    """As programs print it, so that it can be searched for in their logs."""
    return str(ipaddress.ip_address(text))


class Branch:
    """.client (of .clients), .near (the gateway), .wanem (None without an emulator), .net4, .net6"""

    def __init__(self, number):
        self.number = number
        self.clients = []
        self.near = None
        self.wanem = None
        self.wan_interface = f"wan{number}"  # at the hub
        self.net4 = f"10.1.{number}.0/24"
        self.net6 = str(ipaddress.ip_network(f"fd00:1:0:{number:x}::/64"))

    @property
    def client(self):
        return self.clients[0]

    def lan(self, host):
        return f"10.1.{self.number}.{host}", _ip6(f"fd00:1:0:{self.number:x}::{host:x}")

    def wan(self, host):
        return f"10.9.{self.number}.{host}", _ip6(f"fd00:9:0:{self.number:x}::{host:x}")


class Bed:
    """See the top of the file. profile: a name from etc/wanem, or several ("geo+outage"); "none": a perfect link to
    be set by wanem=; None: no emulator. wanem: further arguments of hawser-wanem. mtu: of the WAN, lan_mtu: of the LANs.
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
            for name in profile.split("+"):
                self._wanem_arguments += ["--profile", profile_path(name)]
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
        with signals_held():
            end_groups(self.processes)
            self.processes.clear()
            names = [host.netns for host in self.hosts]
            kill_inside(names)
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
        with netns_lock():
            remove_stale()
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
        with signals_held(), netns_lock():
            ip_batch([f"netns add {host.netns}" for host in self.hosts])
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
        ip_batch(["link set lo up"], host.netns)

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
        ip_batch(lines, gateway.netns)
        gateway.ip4, gateway.ip6 = address(1)
        for number, host in enumerate(hosts):
            host.ip4, host.ip6 = address(2 + number)
            lines = self._address_lines("eth0", (host.ip4, host.ip6))
            lines += ["link set eth0 up", f"route add default via {gateway.ip4}"]
            if self.ipv6:
                lines.append(f"route add default via {gateway.ip6}")
            else:
                host.ip6 = None
            ip_batch(lines, host.netns)
        if not self.ipv6:
            gateway.ip6 = None

    def _wans(self):
        for branch in self.branches:
            near, far, interface = branch.near.netns, self.far.netns, branch.wan_interface
            if self.profile is None:
                ip_batch([f"link add wan0 mtu {self.mtu} type veth peer name {interface} mtu {self.mtu} netns {far}",
                     "link set wan0 up"], near)
                ip_batch([f"link set {interface} up"], far)
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
        ip_batch(lines, branch.near.netns)
        ip_batch(back, self.far.netns)

    # The daemons.

    def hawserd(self, host, conf_text, env=None, name=None, wrapper=()):
        """Starts hawserd on a gateway with this configuration. It does not wait for it. wrapper: a command that
        becomes the program that follows it."""
        daemon = Daemon(self, host, conf_text, env, name, wrapper)
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
        hub = self.hawserd(self.far, conf_text(merged_sections(self.far_sections(family), far), far_extra), env, "dc")
        nears = []
        for branch in self.branches:
            sections = merged_sections(self.near_sections(branch, family), near)
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
            end_groups([listener], 1)
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
