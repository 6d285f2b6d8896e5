/* store.h - bytes that hawser keeps, to know them again when they come a second time (floor 1; no fd, clock
 * or thread; one thread a store: a peer's home).
 *
 * Address space: segments of STORE_SEGMENT_BYTES, each named by a segment_id that is never used twice, and in
 * each an offset. A segment is a chunk (chunk.h) whose `segment` is set, so a slice into it is at once bytes
 * and their address; slices keep a segment's memory alive, whatever becomes of it in the store.
 *
 * Own segments are written by store_take: bytes from a host are cut into pieces that were seen before
 * (matches) and new ones, which are appended at addresses of this store's choosing. Segments of another node
 * are written by store_fill, at the addresses that node names; they are sparse. Both kinds are indexed and
 * matched alike. Which peer holds what is not known here (holdings.h).
 *
 * Matching is max-match (Spring and Wetherall, 'A Protocol-Independent Technique for Eliminating Redundant
 * Network Traffic', SIGCOMM 2000; Anand et al., 'EndRE', NSDI 2010): anchors by content, looked up in an
 * index of hints, verified by comparing the bytes themselves, extended both ways. A hash is never an
 * identity. */
#ifndef HAWSER_STORE_H
#define HAWSER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/budget.h"
#include "hawser/chunk.h"
#include "hawser/intervals.h"
#include "hawser/sample.h"

struct store;

enum {
    STORE_SEGMENT_BYTES = 16 << 20,
    STORE_LEAST_BYTES = 64 << 20, /* of max_bytes */
    STORE_TAKE_MOST_BYTES = 64 << 10,
    STORE_MATCH_MIN = 24, /* bytes of the shortest match, but for one that only goes on */
};

struct store_events {
    /* A segment was evicted: its name is forgotten here; slices into it stay good. From inside the call that
     * evicted it (take, fill, adopt). */
    void (*evicted)(void *owner, const struct segment_id *id);
    /* The time, for a new segment's age; NULL: the store has no ages. */
    uint64_t (*now_us)(void *owner);
    /* These whole huge pages of a segment will be written soon: another thread may have the kernel make them
     * now, with a reference of its own. True: it will, and their memory is counted. From inside take and
     * fill; NULL: nothing is touched ahead. */
    bool (*touch_ahead)(void *owner, struct chunk *chunk, uint32_t off, uint32_t len);
};

/* memory: what the store's segments and index are taken from, and given back to (borrowed; shared by stores;
 * it outlives the store). At most max_bytes of it. A segment is given up, least lately used first, when room is needed
 * and no slice into it is left; so all memory counts until it is free. seed: of the anchors' multipliers and
 * the index's hash, secret and random (against hash flooding); that of the samples, too, so where segments
 * outlive the store it must be the same for the next one. epoch: random, not 0. 0, -ENOMEM, or -EINVAL
 * (max_bytes below STORE_LEAST_BYTES, or epoch 0). */
int store_new(struct store **out, struct budget *memory, uint64_t max_bytes, uint64_t seed, uint64_t epoch,
              const struct store_events *events, void *owner);
void store_free(struct store *s);

/* ---- bytes from a host ---- */

enum { STORE_STREAM_ENDS = 4 };

/* Whether bytes of another node's segment, [off, off + len), are any good for whom the stream is for: they
 * hold them, or will once they are sent by that address. How many from off on are alike in that, at least 1.
 * What is not is stored as if it were new, and not matched there any more. arg: store_take's. */
typedef uint32_t store_takes(void *arg, const struct segment_id *id, uint32_t source, uint32_t off,
                             uint32_t len, bool *takes);

/* What one direction of a session needs to go on matching and appending where it was. Zero-initialised is
 * new; store_stream_end gives its reserved addresses back. Positions are the store's own, and only hints:
 * what they lead to is always compared. */
struct store_stream {
    uint32_t peer;                     /* whom the bytes are for, as a source; 0: nobody in particular */
    store_takes *takes;                /* NULL: whoever they are for takes anything by its address */
    uint64_t expect;                   /* end of the last match; 0: none yet */
    uint64_t put;                      /* end of the last piece; 0: none yet */
    uint64_t ends[STORE_STREAM_ENDS];  /* of the last matches */
    uint64_t since_bytes;              /* new bytes after the last match */
    uint64_t chain_bytes, chain_edits; /* of matches one after the other, up to the last one */
    uint8_t end_next;
    uint32_t run_segment;          /* number of the own segment where new bytes go, if run_at < run_end */
    uint32_t run_at, run_end;      /* the free part of the run */
    uint64_t stored_bytes;         /* appended so far: long sessions get longer runs */
    uint64_t incompressible_bytes; /* new and incompressible, in a row: sparser anchors */
};

/* One piece of what was taken, with a reference of its own. 0, or a negative error: the reference stays the
 * store's then. */
typedef int store_emit(void *arg, struct slice piece);

/* Take len bytes (1 to STORE_TAKE_MOST_BYTES) of the stream, in order. They come out as slices into segments,
 * in order, together exactly the bytes given. emit must not call the store; an error of it ends the call with
 * it (what was emitted stays emitted). 0; -ENOBUFS when no memory could be had, or -EINVAL for a len out of
 * bounds (nothing was emitted: use the bytes as they are); or emit's. */
int store_take(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t len,
               store_emit *emit, void *arg);
void store_stream_end(struct store *s, struct store_stream *stream);

/* ---- bytes and references from a peer ---- */

/* Put bytes at an address that another node chose. source: who says so (any number that names the peer, not
 * 0); a segment's bytes are defined by the first source that filled it, and never in an own segment, unless
 * it was evicted: what a peer still has of it can be sent by its old address then. The slice is those bytes
 * in the segment, with a reference. 0, or negative when they were not stored: -EPERM (another source's or our
 * own), -EINVAL (no bytes, outside the segment, epoch 0), -EEXIST (other bytes are there already), -ENOBUFS
 * (no memory, or the segment is in too many parts). */
int store_fill(struct store *s, uint32_t source, const struct segment_id *id, uint32_t off,
               const uint8_t *bytes, uint32_t len, struct slice *out);
/* The bytes at an address, with a reference; false if any of them is not here. Whether a peer may refer to
 * them is not asked: what another source filled may be false, or secret. */
bool store_resolve(struct store *s, const struct segment_id *id, uint32_t off, uint32_t len,
                   struct slice *out);
/* Bytes at this address came right after those that end at the position `after` (0: none known), as
 * store_take notes it of what it takes; whatever is sent back is found by that. The position where they end;
 * 0: no such segment. */
uint64_t store_follow(struct store *s, uint64_t after, const struct segment_id *id, uint32_t off,
                      uint32_t len);
/* 0: own; else the source that filled it; -1: no such segment. */
int64_t store_source(const struct store *s, const struct segment_id *id);
/* What is filled in a segment; NULL: no such segment. Borrowed until the next call. */
const struct intervals *store_filled(const struct store *s, const struct segment_id *id);

/* ---- to disk and back (shelf.h), and reports ---- */

/* From now on the store notes what is written into it, for store_collect. */
void store_collect_begin(struct store *s);
/* What was written into a segment since it was last collected. */
struct store_fresh {
    struct chunk *chunk; /* borrowed */
    uint32_t source;
    uint64_t memory_bytes;  /* of the segment: what a reference to its chunk keeps from being evicted */
    struct intervals parts; /* given */
};
/* Hand over what is new, in parts of at least least_bytes; shorter ones wait until they have grown, at
 * most a minute. Segment by segment, the one that has waited longest first, while visit returns true. What a
 * segment holds does not change any more, so other threads may read these parts while they hold a reference.
 * True: all were visited.
 */
bool store_collect(struct store *s, uint32_t least_bytes, bool (*visit)(void *arg, struct store_fresh *fresh),
                   void *arg);

/* These parts could not be written: while their segment is here, they are new once more. */
void store_collect_again(struct store *s, const struct segment_id *id, const struct intervals *parts);

/* A segment that was read back: chunk (chunk_new_mapped of STORE_SEGMENT_BYTES, labelled, given), what is
 * filled in it (taken over and emptied), its source (0: it was our own; it is never appended to again). Its
 * bytes are indexed. It comes as the oldest and evicts nothing; but where its source began to fill it anew
 * meanwhile the two become one, and one of our own takes the place of what another source said of it. 0, or
 * negative and the caller keeps both: -EEXIST, -EINVAL (another size, no name, nothing filled), -ENOBUFS. */
int store_adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source);

/* ---- what is on disk only (sample.h has how it is found) ---- */

/* From now on samples are noted and looked for. disk_bytes: how much is on disk at most; the table is made
 * for that, at most a 32nd of max_bytes. wake: something more is wanted; from inside take, fill and
 * store_want, and it may call store_cold_next. 0, -EEXIST, -ENOBUFS or -ENOMEM. */
int store_cold_begin(struct store *s, uint64_t disk_bytes, void (*wake)(void *arg), void *arg);
/* The file of this segment holds bytes with these keys, maybe among others. It may be in memory, too. */
void store_cold_note(struct store *s, const struct segment_id *id, uint32_t source,
                     const struct sample *keys);
/* The peer referred in vain to len bytes of this segment: if it is on disk only, and that source's or our
 * own, it is wanted for enough of them. */
void store_want(struct store *s, uint32_t source, const struct segment_id *id, uint32_t len);
/* The next one to be read; false: none is wanted, or it would have to push out what came back just now, or
 * what somebody uses: then it waits. After true store_cold_end is called, after store_cold_adopt or without;
 * gone: there is no such file. */
bool store_cold_next(struct store *s, struct segment_id *id);
/* Like store_adopt, but it makes room, and is the last to be evicted. */
int store_cold_adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source);
void store_cold_end(struct store *s, const struct segment_id *id, bool gone);

/* for each segment, least lately used first. The store must not change meanwhile. */
void store_each(const struct store *s,
                void (*visit)(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                              const struct intervals *filled),
                void *arg);

struct store_counters {
    uint64_t taken_bytes;            /* given to store_take */
    uint64_t matched_bytes, matches; /* of them: known already */
    uint64_t refused_bytes;          /* given to it, and not taken: there was no memory */
    uint64_t appended_bytes, filled_bytes;
    uint64_t segments, segment_bytes; /* now: segments, and bytes filled in them */
    uint64_t memory_bytes, max_bytes; /* now: with the index; the most, unless other stores leave less */
    uint64_t oldest_us;               /* when the oldest segment was made or came back; 0: there is none */
    uint64_t index_bytes, hints; /* memory of the index (that of what is on disk, too); entries ever put */
    uint64_t cold_files;         /* now: noted as on disk; some of them are in memory as well */
    uint64_t cold_hits, cold_adopted; /* wanted from disk, and come back from there for it */
    uint64_t evicted_segments;
    uint64_t uncollected_bytes; /* gone from memory, or from the list of parts, before they were collected */
};
void store_read_counters(const struct store *s, struct store_counters *out);

#endif
