"""A hub with many peers: every lane and session is there, and its memory stays within its share of the bound of 1 GB
for 1,000 peers with 20 idle sessions each."""

from bed import Bed, main, wait_for
from hub_load import HubLoad
from load_runs import is_sanitized, peak_bytes

PEER_MOST_BYTES = (1 << 30) // 1000  # two lanes and twenty sessions
LANE_MOST_BYTES = 36 * 1024  # some 26 KB; a lane that keeps its out buffer after the greeting has 49
SESSION_MOST_BYTES = 8 * 1024
PEERS = 300  # with few, what handshakes leave behind in the heap hides what a lane takes
SESSIONS = 20


def sessions_of(hub):
    return [peer["sessions"] for peer in hub.ctl("peers")]


def test_idle_peers_within_their_share():
    with Bed(profile=None, ipv6=False) as bed:
        load = HubLoad(bed, PEERS, node={"memory": "1G", "workers": 2})
        before = load.memory()
        load.start(SESSIONS)
        lanes = load.memory()
        assert load.open() == {"open": PEERS * SESSIONS, "refused": 0}
        assert sessions_of(load.hub) == [SESSIONS] * PEERS
        each_lane = (lanes - before) / (2 * PEERS)
        each_session = (load.memory() - lanes) / (PEERS * SESSIONS)
        print(f"{PEERS} peers: {each_lane:.0f} bytes a lane, {each_session:.0f} a session", flush=True)
        if not is_sanitized():
            assert each_lane <= LANE_MOST_BYTES and each_session <= SESSION_MOST_BYTES, (each_lane, each_session)
            assert peak_bytes(load.engine) - before <= PEERS * PEER_MOST_BYTES, peak_bytes(load.engine)
        assert load.finish()["open"] == PEERS * SESSIONS
        wait_for(lambda: all(peer["state"] != "up" for peer in load.hub.ctl("peers")), 30, "the hub to see them go")


if __name__ == "__main__":
    main(globals())
