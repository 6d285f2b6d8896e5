"""A new configuration in a running hawserd: what it applies, what it leaves alone, what it refuses; and the fields that
programs may rely on in `hawserctl --json`."""

import json
import os
import re
import signal
import subprocess

from bed import Bed, conf_text, main, program, wait_for
from peers import (
    CARRIED, DIRECT, PATIENCE_S, Stream, connected, echo_once, error_of, families, fate, listener, read_exactly, reload,
    reload_sections, session_of, wait_down, wait_no_sessions, wait_way, way)


def reloaded(done):
    """The keys that a good reload says need a restart."""
    assert done.returncode == 0, (done.stdout, done.stderr)
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    return answer["restart_needed"]


def test_a_peer_more_and_a_peer_less():
    """The hub learns of a second branch and forgets it again; what runs with the first one is not touched."""
    with Bed("lan", branches=2) as bed:
        both = bed.far_sections()
        hub = bed.hawserd(bed.far, conf_text({**both, "peer branch1": None}), name="dc")
        nears = [bed.hawserd(branch.near, conf_text(bed.near_sections(branch)), name=bed.node_name(branch))
                 for branch in bed.branches]
        nears[0].wait_up(PATIENCE_S)
        hub.wait_up(PATIENCE_S)
        nears[1].wait_log("peer dc: cannot connect", PATIENCE_S)
        assert not nears[1].peers_up()
        two = bed.branches[1].client
        with connected(bed.client, bed.server) as (client, conn):
            stream = Stream(client, conn, 100_000_000)
            stream.wait_arrived(1)
            assert way(two, bed.server) == DIRECT
            assert reloaded(reload_sections(hub, both)) == ""
            nears[1].wait_up(PATIENCE_S)
            hub.wait_up(PATIENCE_S)
            for family in families(bed):
                wait_way(CARRIED, two, bed.server, family)
                wait_way(CARRIED, bed.server, two, family)
            with connected(two, bed.server) as (doomed, its_conn):
                echo_once(doomed, its_conn)
                assert reloaded(reload_sections(hub, both, {"peer branch1": None})) == ""
                assert error_of(read_exactly, its_conn, 1) is ConnectionResetError, "a session of a removed peer"
            assert [peer["name"] for peer in hub.ctl("peers")] == ["branch"]
            wait_down(nears[1])
            for family in families(bed):
                wait_way(DIRECT, two, bed.server, family)
                assert way(bed.client, bed.server, family) == CARRIED
            stream.finish()


def test_classes_change_and_nothing_that_runs_is_dropped():
    with Bed("lan") as bed:
        sections = bed.near_sections()
        pair = bed.pair()
        opened = []
        for family in families(bed):
            opened.append(connected(bed.client, bed.server, family))
        pairs = [end.__enter__() for end in opened]
        try:
            streams = [Stream(conn, client, 60_000_000) for client, conn in pairs]
            for stream in streams:
                stream.wait_arrived(1)
            bypass = "[class none]\nto = 10.2.0.0/24, fd00:2::/64\naction = bypass\n"
            assert reloaded(reload_sections(pair.near, sections, extra=bypass)) == ""
            for family in families(bed):
                wait_way(DIRECT, bed.client, bed.server, family)
            deny = "[class never]\nports = 1-65535\naction = deny\n"
            assert reloaded(reload_sections(pair.near, sections, extra=deny)) == ""
            for family in families(bed):
                with listener(bed.server, family) as door:
                    wait_for(lambda door=door: fate(bed.client, door.getsockname(), timeout=1) is ConnectionRefusedError,
                             PATIENCE_S, "connections to be denied")
            named = "[class gold]\nports = 1-65535\nweight = 5\n"
            assert reloaded(reload_sections(pair.near, sections, extra=named)) == ""
            for family in families(bed):
                wait_way(CARRIED, bed.client, bed.server, family)
                with connected(bed.client, bed.server, family) as (client, conn):
                    echo_once(client, conn)
                    assert session_of(pair.near, client)["class"] == "gold"
            for stream in streams:
                stream.finish()
        finally:
            for end in opened:
                end.__exit__(None, None, None)
        wait_no_sessions(*pair.all())


def test_networks_change():
    with Bed("lan", servers=2) as bed:
        sections = bed.near_sections()
        pair = bed.pair()
        with connected(bed.client, bed.servers[1]) as (client, conn):
            echo_once(client, conn)
            only = [bed.servers[0].ip4 + "/32"] + ([bed.servers[0].ip6 + "/128"] if bed.ipv6 else [])
            assert reloaded(reload_sections(pair.near, sections, {"peer dc": {"networks": only}})) == ""
            for family in families(bed):
                wait_way(DIRECT, bed.client, bed.servers[1], family)
                assert way(bed.client, bed.servers[0], family) == CARRIED
            echo_once(client, conn)
            assert session_of(pair.near, client), "what runs stays where it is"
            assert reloaded(reload_sections(pair.near, sections)) == ""
            for family in families(bed):
                wait_way(CARRIED, bed.client, bed.servers[1], family)
            echo_once(client, conn)


def test_what_a_peer_may_do_changes():
    """serve and networks at the far side count from the next session on."""
    with Bed("lan") as bed:
        sections = bed.far_sections()
        pair = bed.pair()
        with connected(bed.client, bed.server) as (client, conn):
            assert reloaded(reload_sections(pair.far, sections, {"peer branch": {"serve": "192.0.2.0/24"}})) == ""
            with listener(bed.server) as door:
                assert fate(bed.client, door.getsockname()) is ConnectionResetError
            assert reloaded(reload_sections(pair.far, sections)) == ""
            assert way(bed.client, bed.server) == CARRIED
            echo_once(client, conn)


BAD = (
    ("[class x]\naction = fly\n", "action"),
    ("[nonsense]\nkey = 1\n", "nonsense"),
    ("[peer other]\npin = short\nnetworks = 10.3.0.0/24\n", "pin"),
    ("[peer other]\npin = {pin}\naddress = 10.9.0.9:4430\nnetworks = 10.2.0.0/24\n", "networks"),
    ("no equals sign\n", "no equals sign"),
)


def test_a_bad_file_changes_nothing():
    with Bed("lan") as bed:
        sections = bed.near_sections()
        pair = bed.pair()
        good = conf_text(sections)
        with connected(bed.client, bed.server) as (client, conn):
            for text, word in BAD:
                text = text.format(pin=bed.identity("other")[1])
                done = reload_sections(pair.near, sections, extra=text)
                assert done.returncode == 1, (text, done.stdout, done.stderr)
                reason = done.stdout + done.stderr
                assert pair.near.conf_path in reason and word in reason, (text, reason)
                # The line, too; the same as -t says.
                check = bed.near.run([program("hawserd"), "-t", "-c", pair.near.conf_path], check=False)
                assert check.returncode == 1 and word in check.stderr + check.stdout, check
                lines = range(good.count("\n"), (good + text).count("\n") + 1)
                assert any(f"{pair.near.conf_path}:{line}:" in reason for line in lines), (text, reason)
                echo_once(client, conn)
                assert pair.near.peers_up() and way(bed.client, bed.server) == CARRIED
            pair.near.kill(signal.SIGHUP)  # the other way to ask
            pair.near.wait_log(r"(error|warn).*" + pair.near.conf_path, PATIENCE_S)
            assert pair.near.peers_up() and way(bed.client, bed.server) == CARRIED
            os.unlink(pair.near.conf_path)
            done = reload(pair.near)
            assert done.returncode == 1 and pair.near.conf_path in done.stdout + done.stderr, done
            echo_once(client, conn)
            pair.near.write_conf(good)
            assert reloaded(reload(pair.near)) == ""
            assert way(bed.client, bed.server) == CARRIED


def test_what_has_no_effect_is_said_at_the_check_and_at_the_start():
    with Bed("lan") as bed:
        pair = bed.pair(near={"admin": {"http": "127.0.0.1:8480"}})
        said = re.escape(pair.near.conf_path) + r":\d+: \[admin\] http: this version "
        check = bed.near.run([program("hawserd"), "-t", "-c", pair.near.conf_path])
        assert re.search(said, check.stderr), check
        pair.near.wait_log(said, PATIENCE_S)


def test_networks_that_overlap_our_own_are_warned_of():
    with Bed("lan") as bed:
        sections = bed.near_sections()
        pair = bed.pair()
        assert " overlaps " not in pair.near.log(), pair.near.log()
        assert reloaded(reload_sections(pair.near, sections, {"peer dc": {"networks": "10.2.0.0/24, 10.0.0.0/8"}})) == ""
        pair.near.wait_log(r"warn .*\[peer dc\] networks: 10\.0\.0\.0/8 overlaps 10\.1\.0\.0/24 of lan0 ", PATIENCE_S)
        sections["peer dc"]["networks"] = "10.2.0.0/24, 10.1.0.128/25"
        pair.near.kill()
        assert pair.near.wait(PATIENCE_S) == 0
        near = bed.hawserd(bed.near, conf_text(sections), name="branch")
        near.wait_log(r"warn .*\[peer dc\] networks: 10\.1\.0\.128/25 overlaps 10\.1\.0\.0/24 of lan0 ", PATIENCE_S)


def test_the_check_looks_at_the_identity():
    with Bed("lan") as bed:
        def check(pin):
            sections = bed.near_sections()
            sections["peer dc"]["pin"] = pin
            with open(path, "w", encoding="utf-8") as file:
                file.write(conf_text(sections))
            return bed.near.run([program("hawserd"), "-t", "-c", path], check=False)

        path = os.path.join(bed.folder, "check.ini")
        assert check(bed.identity("dc")[1]).returncode == 0
        folder, own = bed.identity("branch")
        done = check(own)
        assert done.returncode == 1, done
        assert re.search(re.escape(path) + r":\d+: \[peer dc\] pin: this is the pin of this node", done.stderr), done
        os.chmod(os.path.join(folder, "node.key"), 0o640)
        done = check(bed.identity("dc")[1])
        assert done.returncode == 1 and "chmod 600" in done.stderr, done


def test_sighup():
    with Bed("lan") as bed:
        pair = bed.pair()
        pair.near.write_conf(conf_text(bed.near_sections(), "[class none]\nports = 1-65535\naction = bypass\n"))
        with connected(bed.client, bed.server) as (client, conn):
            pair.near.kill(signal.SIGHUP)
            wait_way(DIRECT, bed.client, bed.server)
            echo_once(client, conn)


def test_what_needs_a_restart_is_said():
    with Bed("lan") as bed:
        sections = bed.near_sections()
        pair = bed.pair()
        needed = reloaded(reload_sections(pair.near, sections, {"node": {"workers": "3"}, "intercept": {"port": 3130}},
                                          "[class gold]\nports = 1-65535\n"))
        assert "workers" in needed and "port" in needed, needed
        pair.near.wait_log(r"need a restart: .*" + re.escape(needed), PATIENCE_S)
        assert pair.near.log().count(needed) == 1, pair.near.log()
        with connected(bed.client, bed.server) as (client, conn):  # the rest is applied
            echo_once(client, conn)
            assert session_of(pair.near, client)["class"] == "gold"
        assert bed.near.listening(3129) and not bed.near.listening(3130)


# --- what programs rely on --------------------------------------------------------------------------

FIELDS = {
    "status": {"version": str, "node": str, "uptime_s": (int, float), "workers": list, "sessions": int,
               "memory_bytes": int, "memory_cap_bytes": int, "accepting": bool, "peers_up": int, "peers_total": int},
    "peers": {"name": str, "state": str, "lanes": list, "rtt_ms": (int, float), "sessions": int, "in_bytes": int,
              "out_bytes": int, "wire_in_bytes": int, "wire_out_bytes": int, "dedup_percent": (int, float), "store": str,
              "zstd_percent": (int, float), "saved_percent": (int, float), "in_saved_bytes": int,
              "out_saved_bytes": int, "misses": int, "missed_bytes": int},
    "lanes": {"peer": str, "id": int, "role": str, "state": str, "address": str, "rtt_ms": (int, float),
              "in_bytes": int, "out_bytes": int},
    "sessions": {"id": int, "client": str, "server": str, "peer": str, "class": str, "state": str,
                 "age_s": (int, float), "in_bytes": int, "out_bytes": int, "wire_bytes": int,
                 "wire_in_bytes": int, "in_saved_bytes": int, "out_saved_bytes": int, "saved_percent": (int, float),
                 "encrypted": bool},
    "classes": {"name": str, "action": str, "weight": int, "sessions": int, "bytes": int, "peer": str, "wire_bytes": int,
                "wire_in_bytes": int, "in_saved_bytes": int, "out_saved_bytes": int},
    "store": {"enabled": bool, "memory_bytes": int, "memory_cap_bytes": int, "held_bytes": int, "segments": int,
              "evicted_segments": int, "oldest_s": (int, float), "index_bytes": int, "taken_bytes": int,
              "matched_bytes": int, "matched_percent": (int, float), "filled_bytes": int, "misses": int,
              "missed_bytes": int, "homes": list},
    "bypass": {"number": int, "name": str, "count": int, "text": str, "advice": str},
    "metrics": {"text": str},
}


def test_the_fields_of_the_fixed_interface():
    with Bed("lan") as bed:
        pair = bed.pair(near_extra="[class gold]\nports = 1-65535\n")
        family = families(bed)[-1]
        with connected(bed.client, bed.server, family) as (client, conn):
            client.sendall(bytes(1000))
            read_exactly(conn, 1000)
            conn.sendall(bytes(3000))
            read_exactly(client, 3000)
            for daemon in pair.all():
                for verb, fields in FIELDS.items():
                    answer = daemon.ctl(verb)
                    rows = answer if isinstance(answer, list) else [answer]
                    assert rows, verb
                    for row in rows:
                        for name, kind in fields.items():
                            assert isinstance(row.get(name), kind), (verb, name, row)
                    for words in ([verb], ["--json", verb]):  # a person gets something to read, too
                        done = subprocess.run([program("hawserctl"), "-s", daemon.control, *words], check=False,
                                              capture_output=True, text=True, timeout=30)
                        assert done.returncode == 0 and done.stdout.strip() and not done.stderr, done
                text, row = daemon.ctl("metrics")["text"], daemon.ctl("classes")[0]
                assert f'hawser_class_in_bytes_total{{class="{row["name"]}",peer="{row["peer"]}"}} {row["bytes"]}\n' in text
                assert f'hawser_store_taken_bytes_total {daemon.ctl("store")["taken_bytes"]}\n' in text
                (peer,) = daemon.ctl("peers")
                assert peer["state"] == "up" and {lane["state"] for lane in peer["lanes"]} == {"up"}
                assert peer["sessions"] == daemon.ctl("status")["sessions"] == 1

            def counted():
                near, far = session_of(pair.near, client), session_of(pair.far, client)
                return near["in_bytes"] == far["out_bytes"] == 1000 and near["out_bytes"] == far["in_bytes"] == 3000
            wait_for(counted, PATIENCE_S, "the bytes of the session")
            row = session_of(pair.near, client)
            address = conn.getsockname()
            assert row["server"] == (f"[{address[0]}]:{address[1]}" if family == 6 else f"{address[0]}:{address[1]}")
            assert row["peer"] == "dc" and row["class"] == "gold" and row["state"] == "open"
        wait_no_sessions(*pair.all())


def test_the_store_on_disk_has_counters():
    with Bed("lan") as bed:
        pair = bed.pair(near={"store": {"path": os.path.join(bed.folder, "near-store"), "size": "64M"},
                              "node": {"memory": "512M", "workers": "1"}})
        disk = pair.near.ctl("store")["disk"]
        counts = ("bytes", "segments", "written_bytes", "read_bytes", "bad_records", "bad_files", "removed_files", "skipped_bytes")
        assert disk["size_bytes"] == 64 << 20 and disk["error"] is None, disk
        assert all(isinstance(disk[name], int) for name in counts), disk
        assert "hawser_store_disk_size_bytes 67108864\n" in pair.near.ctl("metrics")["text"]
        assert pair.far.ctl("store")["disk"] is None
        assert "hawser_store_disk" not in pair.far.ctl("metrics")["text"]
        web = bed.nginx()
        web.file("random", 5_000_000)
        bed.download(bed.client, web, "random")
        wait_for(lambda: pair.near.ctl("store")["disk"]["written_bytes"] >= 5_000_000, PATIENCE_S, "what came to be written")
        disk = pair.near.ctl("store")["disk"]
        assert disk["bytes"] > 5_000_000 and disk["segments"] >= 1 and disk["skipped_bytes"] == 0, disk


def test_hawserctl_exit_codes():
    with Bed("lan") as bed:
        pair = bed.pair()

        def run(*words):
            return subprocess.run([program("hawserctl"), *words], capture_output=True, text=True, timeout=30, check=False)

        assert run("-s", pair.near.control, "status").returncode == 0
        assert run("-s", pair.near.control, "dance").returncode == 2
        assert run("-s", pair.near.control).returncode == 2
        pair.near.kill()
        pair.near.wait()
        gone = run("-s", pair.near.control, "status")
        assert gone.returncode == 1 and pair.near.control in gone.stderr, gone


if __name__ == "__main__":
    main(globals())
