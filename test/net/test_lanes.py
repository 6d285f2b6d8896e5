"""What the logs say about lanes that come and go, so that a person sees what is the matter, and when nothing is."""

import re

from bed import Bed, conf_text, main
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


if __name__ == "__main__":
    main(globals())
