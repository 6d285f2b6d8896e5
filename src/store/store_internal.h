/* store_internal.h - what the files of the store share (floor 1; one thread a store).
 *
 *   segments.c   memory: segments and their names, what is filled in them, eviction
 *   hints.c      the index
 *   search.c     which parts of a span are known already
 *   store.c      taking, filling, reports
 *   collect.c    what is to go to disk
 *   cold.c       what is only there, and when it is wanted back
 *
 * A position is a segment's slot and an offset in it, in 40 bits. Slots are used again, and so a position
 * that was kept (in the index, in a stream) may lead to other bytes than it once did: it is a hint, and
 * verified like any other. */
#ifndef HAWSER_STORE_INTERNAL_H
#define HAWSER_STORE_INTERNAL_H

#include <sys/queue.h>

#include "cold.h"
#include "hawser/anchors.h"
#include "hawser/map.h"
#include "hawser/store.h"
#include "hints.h"

enum {
    STORE_OFFSET_BITS = 24,
    STORE_PAGE_BYTES = 16 << 10, /* memory is counted by these */
    STORE_PAGES = STORE_SEGMENT_BYTES / STORE_PAGE_BYTES,
    STORE_PARTS_MOST = 4096,   /* intervals of a segment: a hostile peer could fill every second byte */
    STORE_GIVEN_UP_MOST = 256, /* parts of a segment, which are not counted as memory */
    STORE_GIVEN_UP_LEAST_BYTES = 64,
    STORE_KEY_BYTES = 32, /* what a hint's key is made of */
    STORE_FILL_ONE_IN = 1024,
    STORE_FILL_STRIDE_BYTES = 4096,
    STORE_SCAN_BYTES = 32 << 10, /* scanned at once: their buckets are on the way while the next are hashed */
    STORE_MATCHES_MOST = STORE_TAKE_MOST_BYTES / STORE_MATCH_MIN + 2,
    STORE_PENDING_MOST = 4096,
    STORE_FRESH_MOST = 16384,        /* parts that wait to be collected, of all segments of a source */
    STORE_FRESH_WAITS_US = 60000000, /* then they go however short they are */
    STORE_RUN_FIRST_BYTES = 1024,
    STORE_RUN_LEAST_BYTES = 16 << 10,
    STORE_RUN_MOST_BYTES = 1 << 20,
    STORE_LEFTOVERS = 32,
    STORE_LEFTOVER_LEAST_BYTES = 256,
    /* A literal is cut where a run ends, and every run but the first has its least length. */
    /* So is a match where a part of it is given up. */
    STORE_PIECES_MOST = 2 * STORE_MATCHES_MOST + STORE_TAKE_MOST_BYTES / STORE_LEFTOVER_LEAST_BYTES +
                        2 * STORE_TAKE_MOST_BYTES / STORE_GIVEN_UP_LEAST_BYTES + 2
};

TAILQ_HEAD(segment_list, segment);

/* What one source has filled of all segments. Kept until the store goes: there are as many as peers. */
struct filler {
    struct segment_list by_age;
    uint32_t segments;
    uint64_t memory_bytes, filled_bytes;
    uint32_t fresh_parts; /* of its segments */
};

struct segment {
    TAILQ_ENTRY(segment) by_age, by_filler;
    struct filler *filler; /* NULL: own */
    struct chunk *chunk;   /* its name is chunk->segment */
    struct intervals filled;
    struct intervals given_up; /* of another node's: not to be matched, at most STORE_GIVEN_UP_MOST parts */
    uint32_t slot;
    uint32_t source;         /* 0: own */
    uint32_t reserved;       /* own: addresses below are filled or given to a run */
    uint64_t call;           /* the last call that used it: that call does not evict it */
    uint64_t born_us;        /* made, or come back */
    uint64_t stays_until_us; /* nothing else that is wanted from disk pushes it out */
    bool came_back;          /* from disk: no own bytes are appended any more */
    bool asked_disk;         /* whether the rest of it is there */
    bool asked_next;         /* for the segment that follows it */
    uint64_t filled_bytes, memory_bytes;
    uint64_t touched[STORE_PAGES / 64]; /* pages that are counted */
    uint32_t ahead; /* a bit for each huge page that is counted and touched ahead, and not written yet */
    struct intervals fresh;  /* to be collected; not empty: in the store's list */
    uint64_t fresh_since_us; /* since when the oldest of them may have waited */
    TAILQ_ENTRY(segment) by_fresh;
};

/* A part of the span that is known: bytes [from, from + len) are those at the position. */
struct match {
    uint32_t from, len;
    uint64_t position;
};

/* A hint for bytes of the span that have no address yet. */
struct pending {
    uint32_t from;
    uint64_t key;
};

struct piece {
    struct segment *segment;
    uint32_t off, len;
};

/* A part of a run that its stream did not need. */
struct leftover {
    uint32_t segment, at, end;
};

struct store {
    struct budget *memory;
    uint64_t max_bytes, used_bytes;
    uint64_t seed, epoch;
    const struct store_events *events;
    void *owner;

    struct anchors anchors;
    struct hints hints; /* from content to positions */
    struct hints links; /* from the end of a piece to the beginning of the next, where that is elsewhere */

    struct segment_list by_age; /* oldest first */
    struct map by_name;
    struct map fillers;     /* by source */
    struct segment **slots; /* [slots_most + 1]; slot 0 is never used */
    uint32_t slots_most, slot_next;
    struct segment *tail;  /* own, where runs are reserved; NULL: none yet */
    struct segment *spare; /* has no name yet; made to touch its first huge pages ahead. NULL: none */
    uint32_t next_number;
    uint64_t call;
    struct leftover leftovers[STORE_LEFTOVERS];
    uint32_t leftover_count;

    bool collects;
    uint32_t fresh_parts;         /* of own segments */
    struct segment_list by_fresh; /* the one that has waited longest first */

    struct cold cold;

    struct store_counters counters;

    /* of the call that runs */
    struct match matches[STORE_MATCHES_MOST];
    struct pending pending[STORE_PENDING_MOST];
    struct piece pieces[STORE_PIECES_MOST];
    uint32_t match_count, pending_count, piece_count;
    uint32_t anchor_at[STORE_SCAN_BYTES / ANCHORS_GAP_BYTES + 1];
    uint64_t anchor_key[STORE_SCAN_BYTES / ANCHORS_GAP_BYTES + 1];
};

static inline uint64_t position_of(const struct segment *g, uint32_t off)
{
    return (uint64_t)g->slot << STORE_OFFSET_BITS | off;
}

static inline uint32_t position_off(uint64_t position)
{
    return (uint32_t)position & (STORE_SEGMENT_BYTES - 1);
}

static inline struct segment *position_segment(const struct store *s, uint64_t position)
{
    uint64_t slot = position >> STORE_OFFSET_BITS;
    return slot <= s->slots_most ? s->slots[slot] : NULL;
}

/* The hash of the STORE_KEY_BYTES bytes at p. */
uint64_t store_key(const struct store *s, const uint8_t *p);
/* The key of the links from a position. */
uint64_t store_link_key(const struct store *s, uint64_t position);

/* ---- segments.c ---- */

uint64_t segment_name_key(const struct store *s, const struct segment_id *id);
struct segment *segment_find(const struct store *s, const struct segment_id *id);
/* The own segment of this life with that number, or NULL. */
struct segment *segment_find_own(const struct store *s, uint32_t number);
/* Memory to be counted; the second may evict, in favour of that filler (NULL: for ourselves). False: there is
 * none. */
bool segment_take_memory(struct store *s, uint64_t bytes);
bool segment_make_room(struct store *s, struct filler *filler, uint64_t bytes);
/* A new one, used by the running call; NULL: no memory. from_start: it will be filled from its beginning on,
 * and so as a whole, perhaps. */
struct segment *segment_new(struct store *s, const struct segment_id *id, uint32_t source, bool from_start);
/* Takes over the chunk and what is filled (emptied); evicts nothing. newest: it is the last to go, not the
 * first. */
int segment_adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source,
                  bool newest, struct segment **out);
/* It was matched or referred to: others go before it. */
void segment_use(struct store *s, struct segment *g);
void segment_free(struct store *s, struct segment *g);
void spare_free(struct store *s);
void fillers_end(struct store *s);
/* False: a slice into it is left, or the running call uses it. */
bool segment_is_evictable(const struct store *s, const struct segment *g);
bool segment_evict(struct store *s, struct segment *g);
uint64_t segment_now_us(const struct store *s);
/* Beside the chunk's bytes: the page before them, and what describes them. */
uint64_t segment_overhead_bytes(void);
/* Write bytes where nothing is filled. 0 or -ENOBUFS. */
int segment_write(struct store *s, struct segment *g, uint32_t off, const uint8_t *bytes, uint32_t len);

/* ---- collect.c ---- */

/* [from, to) was written just now. */
void fresh_note(struct store *s, struct segment *g, uint32_t from, uint32_t to);
/* The segment goes, or gets another name. */
void fresh_forget(struct store *s, struct segment *g);

/* ---- cold.c ---- */

/* A sampled key was met, of bytes that are not known; only where there is a table. */
void cold_meet(struct store *s, uint64_t key);
/* The source has begun to fill this segment, which was not in memory. False: too many wait, so ask again. */
bool cold_want(struct store *s, uint32_t source, const struct segment_id *id);
/* For a segment that comes back. */
bool cold_make_room(struct store *s, const struct chunk *chunk, const struct intervals *filled);
/* Bytes at off of a segment that came back are used: what follows it is wanted in time. */
void cold_read_ahead(struct store *s, struct segment *g, uint32_t off);
/* It came back just now. */
void cold_let_stay(const struct store *s, struct segment *g);
void cold_end(struct store *s);

/* ---- search.c ---- */

/* Fill s->matches, ascending and apart, and s->pending for what is between them; moves the stream on. */
void search_span(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t len);
/* Bytes that are equal from the beginning. */
uint32_t search_equal(const uint8_t *a, const uint8_t *b, uint32_t most);

#endif
