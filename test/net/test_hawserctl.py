"""hawserctl against a control socket of the test's own: needs no root and no namespaces."""

import base64
import contextlib
import hashlib
import json
import os
import socket
import stat
import subprocess
import tempfile
import threading
import unittest

PROGRAM = os.path.join(os.environ["HAWSER_BUILD"], "hawserctl")

STATUS = {
    "version": "0.1.0", "node": "branch", "uptime_s": 93784, "workers": [
        {"id": 0, "sessions": 7, "cpu_percent": 12.34}, {"id": 1, "sessions": 123456, "cpu_percent": 0}],
    "sessions": 123463, "memory_bytes": 5 * 1024 * 1024 + 200 * 1024, "memory_cap_bytes": 2 << 30,
    "accepting": True, "peers_up": 1, "peers_total": 2, "a_field_of_tomorrow": {"x": [1]}}
PEERS = [
    {"name": "dc", "state": "up", "lanes": [
        {"id": 0, "role": "express", "state": "up", "rtt_ms": 600.2},
        {"id": 1, "role": "bulk", "state": "down", "rtt_ms": None}],
     "rtt_ms": 600.25, "sessions": 12, "in_bytes": 1023, "out_bytes": 1024, "wire_in_bytes": 1536,
     "wire_out_bytes": 1 << 40, "rate_mbit": 50, "reason": None, "dedup_percent": 81.26, "zstd_percent": -0.52,
     "saved_percent": 75, "store": "both"},
    {"name": "a-peer-with-a-long-name", "state": "down", "lanes": [], "rtt_ms": None, "sessions": 0,
     "in_bytes": 0, "out_bytes": 0, "wire_in_bytes": 0, "wire_out_bytes": 0, "rate_mbit": None, "saved_percent": -0.01,
     "reason": "the peer's key is not one that is pinned here"}]
LANES = [{"peer": "dc", "id": 0, "role": "express", "state": "up", "address": "[fd00::1]:4430", "rtt_ms": 1.5,
          "cwnd_bytes": 4000000, "pacing_mbit": 48.9, "delivery_mbit": 47.01, "retransmits": 3,
          "in_bytes": 10, "out_bytes": 20}]
SESSIONS = [{"id": 18446744073, "client": "10.1.0.2:40000", "server": "10.2.0.2:80", "peer": "dc",
             "class": "web", "state": "open", "age_s": 75.2, "in_bytes": 99, "out_bytes": 100000000,
             "wire_bytes": 50, "wire_in_bytes": 1000, "saved_percent": 99.99, "encrypted": True, "lane": 1}]
CLASSES = [{"name": "backup", "peer": "dc", "action": "accelerate", "weight": 0, "sessions": 1, "bytes": 10 * 1024,
            "out_bytes": 0, "wire_in_bytes": 0, "wire_bytes": 10300, "saved_percent": -0.59}]
BYPASS = [
    {"number": 3, "name": "peer-down", "count": 17, "last_s_ago": 5, "text": "the peer is down",
     "advice": "see hawserctl peers"},
    {"number": 9, "name": "budget", "count": 0, "last_s_ago": None, "text": "too many sessions",
     "advice": "raise sessions"}]
METRICS = {"text": "# TYPE hawser_sessions gauge\nhawser_sessions 4\n"}


class FakeDaemon:
    """A control socket that gives each client the next of the prepared answers (bytes, or None: close at once)."""

    def __init__(self, path, *answers):
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(8)
        self.answers = answers
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        for answer in self.answers:
            client, _ = self.listener.accept()
            with client:
                line = b""
                while not line.endswith(b"\n"):
                    part = client.recv(4096)
                    if not part:
                        break
                    line += part
                self.requests.append(line)
                if answer is not None:
                    with contextlib.suppress(BrokenPipeError):
                        client.sendall(answer)

    def close(self):
        self.thread.join()
        self.listener.close()


class HawserctlTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="hawserctl-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.socket = os.path.join(self.folder, "control.sock")

    def run_program(self, *words, **options):
        return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False, **options)

    def ask(self, *words, answer):
        """Ask a fake daemon; answer is bytes or something for JSON. Returns (result, request line)."""
        if answer is not None and not isinstance(answer, bytes):
            answer = json.dumps(answer).encode()
        daemon = FakeDaemon(self.socket, answer)
        try:
            result = self.run_program("-s", self.socket, *words)
        finally:
            daemon.close()
            os.unlink(self.socket)
        return result, daemon.requests[0]

    def table(self, verb, answer):
        """The words of each line of a table; also checks that all columns begin or end in line."""
        result, request = self.ask(verb, answer=answer)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(request, verb.encode() + b"\n")
        return [line.split() for line in result.stdout.splitlines()], result.stdout

    # what is shown

    def test_status(self):
        lines, text = self.table("status", STATUS)
        self.assertIn(["node", "branch"], lines)
        self.assertIn(["version", "0.1.0"], lines)
        self.assertIn(["up", "for", "1d2h"], lines)
        self.assertIn(["peers", "1", "of", "2", "up"], lines)
        self.assertIn(["sessions", "123463"], lines)
        self.assertIn(["memory", "5.2M", "of", "2.0G"], lines)
        self.assertIn(["accepting", "yes"], lines)
        self.assertIn("WORKER  SESSIONS  CPU%\n     0         7  12.3\n     1    123456   0.0\n", text)

    def test_status_that_does_not_accept_says_where_to_look(self):
        _, text = self.table("status", {**STATUS, "accepting": False, "workers": []})
        self.assertIn("accepting  no: new connections go direct", text)
        self.assertNotIn("WORKER", text)

    def test_status_with_nothing_in_it(self):
        lines, _ = self.table("status", {})
        self.assertIn(["memory", "-", "of", "-"], lines)

    def test_peers(self):
        lines, text = self.table("peers", PEERS)
        self.assertEqual(lines[1], ["dc", "up", "1/2", "600.2", "50.0", "12", "1023", "1.0K", "1.5K", "1.0T", "both",
                                    "81.3", "-0.5", "75.0", "-"])
        self.assertEqual(lines[2][:6], ["a-peer-with-a-long-name", "down", "0/0", "-", "-", "0"])
        self.assertNotIn("-0.0", text)
        heading, first, second = text.splitlines()
        self.assertEqual(heading.index("REASON"), second.index("the peer's key"))
        self.assertEqual(heading.index("STATE"), first.index("up"))
        end = heading.index("SESSIONS") + len("SESSIONS")
        self.assertEqual((first[end - 2:end], second[end - 2:end]), ("12", " 0"))

    def test_lanes(self):
        lines, _ = self.table("lanes", LANES)
        self.assertEqual(lines[1], ["dc", "0", "express", "up", "[fd00::1]:4430", "1.5", "3.8M", "48.9", "47.0", "3",
                                    "10", "20", "-", "-"])

    def test_sessions(self):
        lines, _ = self.table("sessions", SESSIONS)
        self.assertEqual(lines[1], ["18446744073", "10.1.0.2:40000", "10.2.0.2:80", "dc", "web", "open", "1m15s",
                                    "99", "95M", "1000", "50", "100.0", "yes", "1"])

    def test_classes(self):
        lines, _ = self.table("classes", CLASSES)
        self.assertEqual(lines, [["NAME", "PEER", "ACTION", "WEIGHT", "SESSIONS", "FROM_LAN", "TO_LAN", "FROM_WAN",
                                  "TO_WAN", "SAVED%"],
                                 ["backup", "dc", "accelerate", "0", "1", "10K", "0", "0", "10K", "-0.6"]])

    def test_bypass_advises_on_what_happened_only(self):
        lines, text = self.table("bypass", BYPASS)
        self.assertEqual(lines[1], ["3", "peer-down", "17", "5.0s", "the", "peer", "is", "down"])
        self.assertEqual(lines[2][:4], ["9", "budget", "0", "-"])
        self.assertIn("  3  see hawserctl peers\n", text)
        self.assertNotIn("raise sessions", text)

    def test_store(self):
        _, text = self.table("store", {"enabled": False, "used_bytes": 0})
        self.assertRegex(text, "^the store is off: .* give memory 128M or more\n$")
        home = {"home": 0, "memory_bytes": 3 << 20, "segments": 4, "oldest_s": 75.2, "misses": 2, "uncollected_bytes": 5120}
        lines, _ = self.table("store", {**home, "enabled": True, "memory_cap_bytes": 1 << 30, "matched_bytes": 2048,
                                        "taken_bytes": 4096, "matched_percent": 50, "homes": [home]})
        self.assertIn(["memory", "3.0M", "of", "1.0G"], lines)
        self.assertIn(["matched", "2.0K", "of", "4.0K", "from", "hosts", "here,", "known", "here"], lines)
        self.assertIn(["oldest", "1m15s"], lines)
        self.assertNotIn("HOME", [word for line in lines for word in line])
        self.assertNotIn("on disk", self.table("store", {**home, "enabled": True, "disk": None})[1])
        disk = {"bytes": 2 << 30, "size_bytes": 4 << 30, "segments": 128, "skipped_bytes": 0, "bad_records": 1, "error": None}
        _, text = self.table("store", {**home, "enabled": True, "disk": disk})
        self.assertIn("on disk    2.0G of 4.0G\nfiles      128\n", text)
        self.assertIn("damaged    1 records\n", text)
        self.assertIn("not kept   5.0K: left memory, or were too many small parts,", text)
        self.assertNotIn("error", text)
        _, text = self.table("store", {**home, "enabled": True, "disk": {**disk, "error": "No space left on device"}})
        self.assertIn("disk error No space left on device: nothing is written while it lasts, and", text)
        lines, _ = self.table("store", {"enabled": True, "homes": [home, {**home, "home": 1, "oldest_s": None}]})
        self.assertEqual(lines[-1][:4] + lines[-1][8:11], ["1", "3.0M", "-", "4", "-", "-", "2"])

    def test_metrics_are_printed_as_they_are(self):
        _, text = self.table("metrics", METRICS)
        self.assertEqual(text, METRICS["text"])

    def test_reload(self):
        _, text = self.table("reload", {"ok": True, "restart_needed": ""})
        self.assertEqual(text, "the configuration was applied\n")
        _, text = self.table("reload", {"ok": True, "restart_needed": "[node] workers"})
        self.assertIn("restart of hawserd: [node] workers", text)

    def test_empty_lists(self):
        for verb in ("peers", "lanes", "sessions", "classes", "bypass"):
            with self.subTest(verb=verb):
                _, text = self.table(verb, [])
                self.assertRegex(text, "^no ")

    def test_rows_without_fields_and_of_other_types(self):
        lines, _ = self.table("sessions", [{}, 5, {"id": "x", "client": 7, "age_s": [], "in_bytes": -3, "lane": True}])
        self.assertEqual(lines[1], ["-"] * 14)
        self.assertEqual(lines[2], ["-"] * 14)
        self.assertEqual(lines[3], ["x", "7", "-", "-", "-", "-", "-", "-3", "-", "-", "-", "-", "-", "yes"])

    def test_numbers_beyond_all_sense(self):
        lines, _ = self.table("classes", [{"name": "n", "action": "a", "weight": 1e300, "sessions": -1e300,
                                           "bytes": 1 << 59}])
        self.assertEqual(lines[1], ["n", "-", "a", "-", "-", "512P", "-", "-", "-", "-"])

    def test_bytes_round_into_the_next_unit(self):
        shown = {1023: "1023", 1024: "1.0K", 10188: "9.9K", 10189: "10K", 1023 * 1024: "1023K",
                 1048064: "1.0M", 1 << 30: "1.0G"}
        lines, _ = self.table("classes", [{"bytes": count} for count in shown])
        self.assertEqual([line[5] for line in lines[1:]], list(shown.values()))

    def test_a_peers_words_cannot_steer_the_terminal(self):
        _, text = self.table("peers", [{"name": "evil\x1b[2J\r\n\x7f\u009b", "reason": "grün"}, {"name": "b"}])
        self.assertIn("evil?[2J????", text)
        self.assertIn("grün", text)
        self.assertEqual(len(text.splitlines()), 3)

    def test_wide_characters_keep_columns_in_line(self):
        _, text = self.table("classes", [{"name": "größe", "action": "deny"}, {"name": "12345", "action": "deny"}])
        _, first, second = text.splitlines()
        self.assertEqual(first.index("deny"), second.index("deny"))

    def test_a_large_answer(self):
        rows = [{**SESSIONS[0], "id": number} for number in range(20000)]
        lines, _ = self.table("sessions", rows)
        self.assertEqual(len(lines), 20001)
        self.assertEqual(lines[20000][0], "19999")

    # --json

    def test_json_is_as_received(self):
        document = b'{ "version" : "0.1.0",\n "x": 1.50 }'
        result, request = self.ask("--json", "status", answer=document)
        self.assertEqual((result.returncode, result.stdout.encode(), request), (0, document + b"\n", b"status\n"))
        result, _ = self.ask("peers", "--json", answer=b"[]\n")
        self.assertEqual((result.returncode, result.stdout), (0, "[]\n"))

    def test_json_error_is_shown_and_fails(self):
        result, _ = self.ask("--json", "reload", answer={"error": "hawser.ini:3: no"})
        self.assertEqual((result.returncode, json.loads(result.stdout)), (1, {"error": "hawser.ini:3: no"}))

    # what goes wrong

    def fails(self, result, *words):
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        for word in words:
            self.assertIn(word, result.stderr)

    def test_refused(self):
        result, _ = self.ask("reload", answer={"error": "hawser.ini:3: unknown key 'prot'"})
        self.fails(result, "hawser.ini:3: unknown key 'prot'")
        result, _ = self.ask("reload", answer={"error": "hawser.ini:3: \x1b[2J"})
        self.fails(result, "hawser.ini:3: ?[2J")

    def test_no_socket(self):
        self.fails(self.run_program("-s", self.socket, "status"), self.socket, "is hawserd running?")

    def test_socket_of_a_dead_daemon(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
        self.fails(self.run_program("-s", self.socket, "status"), "is hawserd running?")

    def test_not_allowed(self):
        become = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        # The program may lie where only its owner can go; what is opened here before can be run by anybody.
        program = os.open(PROGRAM, os.O_RDONLY)
        self.addCleanup(os.close, program)
        os.chmod(self.folder, 0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
            os.chmod(self.socket, 0)
            listener.listen()
            result = subprocess.run([f"/proc/self/fd/{program}", "-s", self.socket, "status"], capture_output=True,
                                    text=True, timeout=60, check=False, pass_fds=[program], **become)
        self.fails(result, "Permission denied", "be root")

    def test_path_too_long_for_a_socket(self):
        self.fails(self.run_program("-s", "/" + "x" * 200, "status"), "too long")

    def test_answers_that_are_none(self):
        for answer in (b"", None):
            result, _ = self.ask("status", answer=answer)
            self.fails(result, "closed the connection")
        for answer in (b"hello", b"{", b'{"a": "\xff"}', b"\0", b"[" * 100000):
            with self.subTest(answer=answer[:10]):
                result, _ = self.ask("status", answer=answer)
                self.fails(result, "no JSON")

    def test_answers_of_another_form(self):
        for verb, answer in (("status", []), ("peers", {}), ("lanes", {}), ("sessions", {"a": 1}), ("classes", {}),
                             ("bypass", {}), ("store", []), ("metrics", {}), ("metrics", {"text": 1}),
                             ("reload", {}), ("reload", [])):
            with self.subTest(verb=verb):
                result, _ = self.ask(verb, answer=answer)
                self.fails(result, "of one version")

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
        self.assertEqual(result.returncode, 1)

    def test_usage(self):
        for words in ((), ("nonsense",), ("status", "more"), ("pin",), ("keygen",), ("keygen", "a", "b"), ("-x",),
                      ("--sock",), ("-s",)):
            with self.subTest(words=words):
                result = self.run_program(*words)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertIn("usage: hawserctl", result.stderr)

    def test_help_and_version(self):
        result = self.run_program("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for verb in ("status", "peers", "lanes", "sessions", "classes", "store", "bypass", "metrics", "reload",
                     "keygen", "pin"):
            self.assertRegex(result.stdout, rf"(?m)^  {verb} ")
        self.assertRegex(self.run_program("--version").stdout, r"^hawserctl \d+\.\d+\.\d+\n$")

    # identities

    def openssl_pin(self, certificate):
        key = subprocess.run(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"], check=True,
                             capture_output=True).stdout
        info = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], check=True, input=key,
                              capture_output=True).stdout
        return base64.b64encode(hashlib.sha256(info).digest()).decode()

    def test_keygen_and_pin(self):
        folder = os.path.join(self.folder, "etc", "branch")
        result = self.run_program("keygen", folder)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        pin = result.stdout.splitlines()[-1]
        self.assertTrue(result.stdout.endswith(pin + "\n"))
        self.assertEqual(pin, self.openssl_pin(os.path.join(folder, "node.crt")))
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(folder, "node.key")).st_mode), 0o600)
        shown = self.run_program("pin", os.path.join(folder, "node.crt"))
        self.assertEqual((shown.returncode, shown.stdout), (0, pin + "\n"))
        subject = subprocess.run(["openssl", "x509", "-in", os.path.join(folder, "node.crt"), "-noout", "-subject"],
                                 check=True, capture_output=True, text=True).stdout
        self.assertRegex(subject, r"CN ?= ?branch$")

        with open(os.path.join(folder, "node.key"), "rb") as key:
            before = key.read()
        self.fails(self.run_program("keygen", folder), "node.key", "there already")
        with open(os.path.join(folder, "node.key"), "rb") as key:
            self.assertEqual(key.read(), before)

    def test_keygen_here(self):
        result = self.run_program("keygen", ".", cwd=self.folder)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout.splitlines()[-1], self.openssl_pin(os.path.join(self.folder, "node.crt")))

    def test_pin_of_what_has_none(self):
        self.fails(self.run_program("pin", os.path.join(self.folder, "none")), "No such file")
        self.fails(self.run_program("pin", self.folder), "regular file")
        self.fails(self.run_program("pin", __file__), "certificate")


if __name__ == "__main__":
    unittest.main()
