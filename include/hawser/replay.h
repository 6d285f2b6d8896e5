/* replay.h - what one direction of a session has read from its host and the peer has not acknowledged
 * (floor 5). Bytes [acked, read) by reference; [acked, sent) has been sent and may have to be sent again. Two
 * cursors walk it: `next` at what was never sent, `again` over ranges that go again, from the front. One
 * thread. */
#ifndef HAWSER_REPLAY_H
#define HAWSER_REPLAY_H

#include <stdint.h>

#include "hawser/chunk.h"
#include "hawser/spans.h"

struct replay_cursor {
    uint64_t offset;
    uint32_t slice, byte; /* the slice from the front, and the byte in it */
};

/* Zero-initialised is empty. acked <= again.offset <= again_end <= next.offset <= read, while again is under
 * way. */
struct replay {
    struct slices slices;
    uint64_t acked, read;
    uint64_t stored; /* of the bytes in slices: in segments of the store, which pays for them */
    struct replay_cursor next, again;
    uint64_t again_end;
    struct spans waiting; /* ranges that go again after this one */
    struct replay_marks {
        uint64_t *offsets;          /* where every REPLAY_MARK_SLICESth slice began that is still there: */
        uint32_t first, count, cap; /* offsets[first .. first + count) */
        uint64_t dropped;           /* slices before those that are there */
    } marks; /* so that a peer that asks for one byte here and one there is answered in little time */
};

enum { REPLAY_MARK_SLICES = 64 };

static inline uint64_t replay_sent(const struct replay *r)
{
    return r->next.offset;
}

/* Bytes to be sent again now, of one range; 0: there is none. */
static inline uint64_t replay_again_left(const struct replay *r)
{
    return r->again_end > r->again.offset ? r->again_end - r->again.offset : 0;
}

/* Append; the reference becomes the replay's unless -ENOMEM. A slice that goes on where the last one ends in
 * the same segment is joined to it. */
int replay_append(struct replay *r, struct slice s);
/* Copy len bytes at a cursor and move it on. len bytes must be there. */
void replay_copy(struct replay *r, struct replay_cursor *c, uint8_t *to, uint32_t len);
/* The same anywhere in [acked, read), without a cursor of the replay's. */
void replay_peek(struct replay *r, uint64_t offset, uint8_t *to, uint32_t len);
/* The slice at a cursor that is not at the end. */
const struct slice *replay_at(const struct replay *r, const struct replay_cursor *c);
/* Move a cursor on; len bytes must be there. */
void replay_skip(struct replay *r, struct replay_cursor *c, uint64_t len);
/* Call visit for the parts of slices that make up [from, to) of what is there. */
void replay_each(const struct replay *r, uint64_t from, uint64_t to,
                 void (*visit)(void *arg, const struct slice *part), void *arg);
/* The peer has everything before upto (acked < upto <= sent). */
void replay_ack(struct replay *r, uint64_t upto);
/* [from, to) of what was sent goes again; where memory is short, what lies between such ranges too. */
void replay_send_again(struct replay *r, uint64_t from, uint64_t to);
/* Forget all bytes; what was read and not sent never will be: read = acked = sent. */
void replay_drop(struct replay *r);

#endif
