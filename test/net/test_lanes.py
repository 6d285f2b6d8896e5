"""What the logs say about lanes that come and go, so that a person sees what is the matter, and when nothing is."""

import re

from bed import Bed, conf_text, main, wait_for
from peers import PATIENCE_S


def test_a_pin_that_the_peer_does_not_know_is_said_at_both_ends():
    with Bed("lan") as bed:
        _, own = bed.identity("branch")
        sections = bed.far_sections()
        sections["peer branch"]["pin"] = bed.identity("stranger")[1]
        far = bed.hawserd(bed.far, conf_text(sections), name="dc")
        near = bed.hawserd(bed.near, conf_text(bed.near_sections()), name="branch")
        address = re.escape(bed.branches[0].wan(2)[0])
        far.wait_log(rf"a connection from {address}:\d+ .* showed the pin {re.escape(own)}, .* set pin = ", PATIENCE_S)
        hint = rf"perhaps it does not know it: our section there needs pin = {re.escape(own)}"
        near.wait_log("peer dc: cannot connect to .*" + hint, PATIENCE_S)
        assert re.search(hint, near.ctl("peers")[0]["reason"])


def test_a_lane_that_is_renewed_looks_like_no_fault():
    """The first lane is dialled anew once it is known how the link is best used. The end of the old one may be heard
    before the new one is there."""
    with Bed("lan") as bed:
        pair = bed.pair()
        for daemon in (pair.near, pair.far):
            daemon.wait_log(r"info .*lane 0 with .* (is renewed|ends: the peer has closed it)", PATIENCE_S)
            assert not re.search("is down", daemon.log()), daemon.log()


def lane_sockets(host):
    """What the kernel says of each lane that is up at the listening node, by its remote port."""
    lines = host.run(["ss", "-tinHO", "state", "established", "sport", "=", ":4430"]).stdout.splitlines()
    fields = ("lastsnd", "bytes_sent", "data_segs_out")
    found = {}
    for line in lines:
        values = {field: int(match[1]) for field in fields if (match := re.search(rf"\b{field}:(\d+)", line))}
        pacing = re.search(r"pacing_rate (\d+)bps/(\d+)bps", line)
        if len(values) == len(fields) and pacing:
            found[line.split()[3]] = values | {"pacing": int(pacing[1]), "pacing_max": int(pacing[2])}
    return found


def test_a_route_that_is_replaced_slows_no_lane():
    """A socket that sends over a dead route does it in tiny segments, and bbr paces for these. When the kernel lays a
    replaced route to rest is its own affair, so not every run would find the fault."""
    with Bed("geo") as bed:
        pair = bed.pair(near={"peer dc": {"rate": "50mbit"}}, far={"peer branch": {"rate": "50mbit"}})
        pair.far.wait_log("lane 0 with .* (is renewed|ends: the peer has closed it)", PATIENCE_S)
        web = bed.nginx()
        web.file("blob", 400_000)
        routes = bed.far.run(["ip", "route", "show", "table", "all"]).stdout
        way = re.search(rf"^{re.escape(bed.branches[0].wan(2)[0])} .*initcwnd.*$", routes, re.M)[0].split()
        wait_for(lambda: len(lanes := lane_sockets(bed.far)) == 2 and
                 all(lane["lastsnd"] > 1000 for lane in lanes.values()), PATIENCE_S, "lanes that are idle")
        for segments in ("100", "200", "300"):
            bed.far.run(["ip", "route", "replace"] + way[:-1] + [segments])
        before = lane_sockets(bed.far)
        bed.download(bed.client, web, "blob")
        after = lane_sockets(bed.far)
        assert before.keys() == after.keys(), (before, after)
        grown = [{field: after[port][field] - before[port][field] for field in ("bytes_sent", "data_segs_out")}
                 for port in before]
        assert sum(lane["bytes_sent"] for lane in grown) > 400_000, grown
        for lane in grown:
            assert lane["data_segs_out"] < 20 + lane["bytes_sent"] / 500, grown
        assert all(2 * lane["pacing"] > lane["pacing_max"] for lane in after.values()), after


if __name__ == "__main__":
    main(globals())
