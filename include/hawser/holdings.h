/* holdings.h - which bytes of the store's address space a peer holds (floor 5). For each segment these kinds
 * of intervals: `theirs`, what the peer surely holds (it acknowledged bytes that we sent there, or filled
 * them itself); `claimed`, what it says that it holds; `sent`, for each lane, what was put on that lane in
 * its present life (the peer will hold it before it reads anything later of that lane); `missed`, what it
 * asked for in spite of those, until it shows or says that it holds it; `announced`, what we told the peer
 * that we hold; `asked`, what we asked the peer for; `proved`, what was theirs before the peer dropped it or
 * began anew: it had these bytes, so when it claims them they are theirs again. We may refer to theirs, to
 * what is claimed and to what was sent on the same lane, less what is missed: a peer that cannot store
 * something would miss it each time. The peer may refer to all that is theirs, sent or announced. What it
 * only claims is not enough: a claim costs nothing, and must not let it ask what is kept here for others. One
 * thread: the peer's home. */
#ifndef HAWSER_HOLDINGS_H
#define HAWSER_HOLDINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/chunk.h"
#include "hawser/config.h"
#include "hawser/intervals.h"
#include "hawser/map.h"

enum {
    HOLDINGS_SEGMENTS_MAX = 65536, /* more are not noted: their bytes go as literals */
    HOLDINGS_INTERVALS_MAX = 8192, /* of one kind in one segment, likewise */
    HOLDINGS_TOTAL_MAX = 1 << 18,  /* of all, likewise */
    HOLDINGS_ASKED_MAX = 1 << 14,  /* asked for; the peer is not told when more than these have come */
};

/* Zero-initialised is empty. */
struct holdings {
    struct map segments;
    uint64_t salt;      /* random: segments' names are the peer's choice */
    uint32_t intervals; /* of all kinds and segments */
    uint32_t asked;     /* of those, HOLDINGS_ASKED */
    uint32_t peer;      /* the source (store.h) that proved; 0: nobody yet */
    uint64_t changes;   /* how often more was THEIRS that was not proved */
    uint64_t kept;      /* of those, what who keeps them has */
};

enum holdings_kind {
    HOLDINGS_THEIRS,
    HOLDINGS_CLAIMED,
    HOLDINGS_ANNOUNCED,
    HOLDINGS_MISSED,
    HOLDINGS_ASKED,
    HOLDINGS_PROVED,
    HOLDINGS_SENT
}; /* SENT + slot for its lane */

/* Note [off, off + len). What does not fit in memory or bounds is not noted, which is always sound: false. */
bool holdings_add(struct holdings *h, const struct segment_id *id, unsigned kind, uint32_t off, uint32_t len);
/* The same for bytes that the peer has shown (THEIRS) or said (CLAIMED) to hold: it misses them no more. */
void holdings_add_shown(struct holdings *h, const struct segment_id *id, unsigned kind, uint32_t off,
                        uint32_t len);
/* How many of the bytes from off on, at most len, are alike: all of them such that we may refer to them on
 * that lane (*held), or none. At least 1; the next may be like them. */
uint32_t holdings_span(const struct holdings *h, const struct segment_id *id, unsigned slot, uint32_t off,
                       uint32_t len, bool *held);
/* Whether the peer may refer to all of [off, off + len). */
bool holdings_peer_may(const struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len);
/* The peer does not hold [off, off + len) after all: not before it shows it, or says so. */
void holdings_take_back(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len);
/* Whether any of [off, off + len), which the peer has sent now, was asked for; it is not any more. */
bool holdings_take_asked(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len);
/* A lane is gone: what was only sent there may not have arrived. */
void holdings_lane_lost(struct holdings *h, unsigned slot);
/* No lane is left: what was asked for and has not come may never come. */
void holdings_give_up_asked(struct holdings *h);
/* The peer has dropped the segment, and with it what it knew of ours; we may hold it still. What was asked
 * for does not come at these addresses any more. */
void holdings_dropped(struct holdings *h, const struct segment_id *id);
/* The peer began anew, or is given up: nothing stays but what it proved. */
void holdings_peer_restarted(struct holdings *h);
/* Who the peer is (not 0). What another held, proved or was told, as one whose key is no longer the same, is
 * forgotten. */
void holdings_set_peer(struct holdings *h, uint32_t source);
/* The first part of [off, end) that is proved becomes THEIRS. False: there is none, or it cannot be noted as
 * such and stays what it is. */
bool holdings_recall(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t end,
                     struct interval *part);
/* One kind of a segment; NULL: nothing. Borrowed, and as it is now. */
const struct intervals *holdings_kind(const struct holdings *h, const struct segment_id *id, unsigned kind);
/* What the peer surely holds, or has proved, a segment each time. False: that was all. Nothing may change
 * meanwhile; *i begins at 0. */
struct holdings_known {
    const struct segment_id *id;
    const struct intervals *theirs, *proved; /* borrowed */
};
bool holdings_next(const struct holdings *h, size_t *i, struct holdings_known *out);
/* We have dropped the segment. True if the peer may believe that we hold some of it, and ought to be told. */
bool holdings_forget(struct holdings *h, const struct segment_id *id);
void holdings_clear(struct holdings *h);

#endif
