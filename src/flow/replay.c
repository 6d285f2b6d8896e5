#include "hawser/replay.h"

#include <assert.h>
#include <string.h>

int replay_append(struct replay *r, struct slice s)
{
    /* not behind a cursor that has left the last slice: it would miss what is added there */
    uint32_t len = s.len;
    bool merged = r->next.slice < r->slices.count && slices_merge(&r->slices, s);
    int err = merged ? 0 : slices_push(&r->slices, s);
    if (err == 0)
        r->read += len;
    return err;
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

void replay_ack(struct replay *r, uint64_t upto)
{
    assert(upto > r->acked && upto <= r->next.offset);
    uint32_t before = r->slices.count;
    slices_drop(&r->slices, upto - r->acked);
    uint32_t dropped = before - r->slices.count;
    r->acked = upto;
    follow(&r->next, dropped, upto);
    follow(&r->again, dropped, upto);
}

static struct replay_cursor seek(const struct replay *r, uint64_t offset)
{
    struct replay_cursor c = {.offset = offset};
    uint64_t left = offset - r->acked;
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
    if (replay_again_left(r) > 0) {
        if (r->again.offset < from)
            from = r->again.offset;
        if (r->again_end > to)
            to = r->again_end;
    }
    r->again = seek(r, from);
    r->again_end = to;
}

void replay_drop(struct replay *r)
{
    uint64_t sent = r->next.offset;
    slices_clear(&r->slices);
    *r = (struct replay){
        .acked = sent, .read = sent, .next = {.offset = sent}, .again = {.offset = sent}, .again_end = sent};
}
