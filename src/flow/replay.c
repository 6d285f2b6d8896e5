#include "hawser/replay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- marks ---- */

/* How many slices before this one have a mark, from the stream's first. */
static uint64_t marked_before(uint64_t slice)
{
    return (slice + REPLAY_MARK_SLICES - 1) / REPLAY_MARK_SLICES;
}

static int make_room(struct replay_marks *m)
{
    if (m->first + m->count < m->cap)
        return 0;
    if (m->first > m->cap / 2) {
        memmove(m->offsets, m->offsets + m->first, m->count * sizeof(*m->offsets));
        m->first = 0;
        return 0;
    }
    uint32_t cap = m->cap == 0 ? 8 : 2 * m->cap;
    uint64_t *offsets = realloc(m->offsets, cap * sizeof(*offsets));
    if (offsets == NULL)
        return -ENOMEM;
    m->offsets = offsets;
    m->cap = cap;
    return 0;
}

static void clear_marks(struct replay_marks *m)
{
    free(m->offsets);
    *m = (struct replay_marks){0};
}

/* So many slices went from the front; what is left begins in the first of the others. */
static void drop_marks(struct replay *r, uint32_t dropped)
{
    struct replay_marks *m = &r->marks;
    if (r->slices.count == 0) {
        clear_marks(m);
        return;
    }
    uint32_t gone = (uint32_t)(marked_before(m->dropped + dropped) - marked_before(m->dropped));
    m->dropped += dropped;
    m->first += gone;
    m->count -= gone;
}

/* The last slice with a mark that begins at or before the offset, and where it does; without one the first.
 */
static uint32_t mark_before(const struct replay *r, uint64_t offset, uint64_t *at)
{
    const struct replay_marks *m = &r->marks;
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->offsets[m->first + middle] <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    *at = r->acked;
    if (low == 0)
        return 0;
    uint64_t number = (marked_before(m->dropped) + low - 1) * REPLAY_MARK_SLICES;
    if (number > m->dropped) /* of the first slice a part may be gone */
        *at = m->offsets[m->first + low - 1];
    return (uint32_t)(number - m->dropped);
}

/* ---- slices ---- */

static int push(struct replay *r, struct slice s)
{
    struct replay_marks *m = &r->marks;
    bool marked = (m->dropped + r->slices.count) % REPLAY_MARK_SLICES == 0;
    int err = marked ? make_room(m) : 0;
    if (err == 0)
        err = slices_push(&r->slices, s);
    if (err == 0 && marked)
        m->offsets[m->first + m->count++] = r->read;
    return err;
}

int replay_append(struct replay *r, struct slice s)
{
    /* not behind a cursor that has left the last slice: it would miss what is added there */
    uint32_t len = s.len;
    bool stored = chunk_is_segment(s.chunk);
    bool open = r->next.slice < r->slices.count;
    bool merged = open && (stored ? slices_extend(&r->slices, s) : slices_merge(&r->slices, s));
    int err = merged ? 0 : push(r, s);
    if (err < 0)
        return err;
    r->read += len;
    r->stored += stored ? len : 0;
    return 0;
}

const struct slice *replay_at(const struct replay *r, const struct replay_cursor *c)
{
    return slices_at(&r->slices, c->slice);
}

/* After `dropped` slices went from the front, and a part of the first that is left. */
static void follow(struct replay_cursor *c, uint32_t dropped, uint64_t acked)
{
    if (c->offset <= acked) {
        *c = (struct replay_cursor){.offset = acked};
        return;
    }
    c->slice -= dropped;
    if (c->slice == 0)
        c->byte = (uint32_t)(c->offset - acked);
}

static struct replay_cursor seek(const struct replay *r, uint64_t offset)
{
    struct replay_cursor c = {.offset = offset};
    uint64_t at;
    c.slice = mark_before(r, offset, &at);
    uint64_t left = offset - at;
    while (left > 0) {
        uint32_t len = slices_at(&r->slices, c.slice)->len;
        if (left < len) {
            c.byte = (uint32_t)left;
            break;
        }
        left -= len;
        c.slice++;
    }
    return c;
}

/* A range is through, or acknowledged: the first of those that wait. */
static void next_range(struct replay *r)
{
    spans_pass(&r->waiting, r->acked);
    uint64_t from = spans_next_from(&r->waiting, r->acked);
    if (from == UINT64_MAX)
        return;
    r->again = seek(r, from);
    r->again_end = spans_end_of(&r->waiting, from);
    spans_take(&r->waiting, from, r->again_end);
}

static void has_moved(struct replay *r, const struct replay_cursor *c)
{
    if (c == &r->again && replay_again_left(r) == 0)
        next_range(r);
}

void replay_skip(struct replay *r, struct replay_cursor *c, uint64_t len)
{
    c->offset += len;
    while (len > 0) {
        uint32_t left = replay_at(r, c)->len - c->byte;
        if (len < left) {
            c->byte += (uint32_t)len;
            break;
        }
        len -= left;
        c->slice++;
        c->byte = 0;
    }
    has_moved(r, c);
}

void replay_copy(struct replay *r, struct replay_cursor *c, uint8_t *to, uint32_t len)
{
    c->offset += len;
    while (len > 0) {
        const struct slice *from = slices_at(&r->slices, c->slice);
        uint32_t n = from->len - c->byte;
        if (n > len)
            n = len;
        memcpy(to, slice_bytes(from) + c->byte, n);
        to += n;
        len -= n;
        c->byte += n;
        if (c->byte == from->len) {
            c->slice++;
            c->byte = 0;
        }
    }
    has_moved(r, c);
}

void replay_each(const struct replay *r, uint64_t from, uint64_t to,
                 void (*visit)(void *arg, const struct slice *part), void *arg)
{
    struct replay_cursor c = seek(r, from);
    uint64_t left = to - from;
    while (left > 0) {
        struct slice part = *replay_at(r, &c);
        part.off += c.byte;
        part.len -= c.byte;
        if (part.len > left)
            part.len = (uint32_t)left;
        visit(arg, &part);
        left -= part.len;
        c.slice++;
        c.byte = 0;
    }
}

static void count_stored(void *arg, const struct slice *part)
{
    uint64_t *sum = arg;
    *sum += chunk_is_segment(part->chunk) ? part->len : 0;
}

void replay_ack(struct replay *r, uint64_t upto)
{
    assert(upto > r->acked && upto <= r->next.offset);
    uint64_t stored = 0;
    replay_each(r, r->acked, upto, count_stored, &stored);
    r->stored -= stored;
    uint32_t before = r->slices.count;
    slices_drop(&r->slices, upto - r->acked);
    uint32_t dropped = before - r->slices.count;
    drop_marks(r, dropped);
    r->acked = upto;
    follow(&r->next, dropped, upto);
    follow(&r->again, dropped, upto);
    if (replay_again_left(r) == 0)
        next_range(r);
}

void replay_peek(struct replay *r, uint64_t offset, uint8_t *to, uint32_t len)
{
    struct replay_cursor c = seek(r, offset);
    replay_copy(r, &c, to, len);
}

void replay_send_again(struct replay *r, uint64_t from, uint64_t to)
{
    if (from < r->acked)
        from = r->acked;
    if (to > r->next.offset)
        to = r->next.offset;
    if (from >= to)
        return;
    bool busy = replay_again_left(r) > 0;
    spans_pass(&r->waiting, r->acked);
    if ((!busy || spans_add(&r->waiting, r->again.offset, r->again_end) == 0) &&
        spans_add(&r->waiting, from, to) == 0) {
        next_range(r);
        return;
    }
    uint64_t first = spans_next_from(&r->waiting, r->acked); /* no memory: one range of all */
    if (busy && r->again.offset < from)
        from = r->again.offset;
    r->again = seek(r, first < from ? first : from);
    r->again_end = r->next.offset;
    spans_clear(&r->waiting);
}

void replay_drop(struct replay *r)
{
    uint64_t sent = r->next.offset;
    slices_clear(&r->slices);
    spans_clear(&r->waiting);
    clear_marks(&r->marks);
    *r = (struct replay){
        .acked = sent, .read = sent, .next = {.offset = sent}, .again = {.offset = sent}, .again_end = sent};
}
