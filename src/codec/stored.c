#include "hawser/stored.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hawser/frame.h"

enum { FIXED_BYTES = 4 + 4 + 2, KIND_BITS = 2, KIND_MASK = 3, LENGTH_VARINT_MAX = 4 };

static uint64_t zigzag(int64_t v)
{
    return (uint64_t)v << 1 ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1 ^ ((v & 1) != 0 ? UINT64_MAX : 0));
}

uint64_t stored_checksum(uint64_t before, const uint8_t *bytes, size_t len)
{
    return XXH3_64bits_withSeed(bytes, len, before);
}

/* ---- writing ---- */

bool stored_begin(struct stored_writer *w, struct cursor_out *out, uint64_t session, uint64_t offset)
{
    assert(session >= FRAME_SESSION_MIN && offset <= FRAME_OFFSET_MAX - STORED_RAW_MAX);
    if (cursor_out_left(out) < STORED_HEADER_MAX + STORED_OP_MAX + 1)
        return false;
    memset(w, 0, offsetof(struct stored_writer, segments));
    w->segments.count = w->segments.selected = 0;
    w->raw_bytes = w->op_count = 0;
    w->out = out;
    w->frame = out->at;
    cursor_put_be(out, FRAME_STORED, 1);
    cursor_put_varint(out, session);
    cursor_put_varint(out, offset);
    w->fixed = out->at;
    out->at += FIXED_BYTES;
    w->ops = out->at;
    return true;
}

uint32_t stored_room(const struct stored_writer *w, const struct segment_id *segment)
{
    size_t left = cursor_out_left(w->out), used = (size_t)(w->out->at - w->ops);
    if (left > STORED_OPS_BYTES_MAX - used)
        left = STORED_OPS_BYTES_MAX - used;
    if (w->op_count == STORED_OPS_MAX || left <= STORED_OP_MAX)
        return 0;
    if (segment != NULL && w->segments.count == STORED_SEGMENTS_MAX)
        return 0;
    left -= STORED_OP_MAX;
    uint32_t raw_left = STORED_RAW_MAX - w->raw_bytes;
    return left < raw_left ? (uint32_t)left : raw_left;
}

static void select_segment(struct stored_writer *w, const struct segment_id *id)
{
    struct stored_segments *s = &w->segments;
    if (s->selected < s->count && segment_id_equal(&s->ids[s->selected], id))
        return;
    uint32_t i = 0;
    while (i < s->count && !segment_id_equal(&s->ids[i], id))
        i++;
    cursor_put_varint(w->out, (uint64_t)i << KIND_BITS | STORED_SEGMENT);
    if (i == s->count) {
        cursor_put_be(w->out, id->epoch, 8);
        cursor_put_varint(w->out, id->number);
        s->ids[i] = *id;
        s->expected[i] = 0;
        s->count++;
    }
    s->selected = i;
}

static void put_address(struct stored_writer *w, uint32_t off, uint32_t len)
{
    struct stored_segments *s = &w->segments;
    cursor_put_varint(w->out, zigzag((int64_t)off - s->expected[s->selected]));
    s->expected[s->selected] = off + len;
}

uint8_t *stored_put_literal(struct stored_writer *w, const struct segment_id *segment, uint32_t off,
                            uint32_t len)
{
    assert(len > 0 && len <= stored_room(w, segment));
    if (segment != NULL)
        select_segment(w, segment);
    cursor_put_varint(w->out, (uint64_t)len << KIND_BITS | (segment != NULL ? STORED_LITERAL : STORED_PLAIN));
    if (segment != NULL)
        put_address(w, off, len);
    uint8_t *to = w->out->at;
    w->out->at += len;
    w->raw_bytes += len;
    w->op_count++;
    return to;
}

bool stored_put_reference(struct stored_writer *w, const struct segment_id *segment, uint32_t off,
                          uint32_t len)
{
    if (stored_room(w, segment) == 0 || len > STORED_RAW_MAX - w->raw_bytes)
        return false;
    select_segment(w, segment);
    cursor_put_varint(w->out, (uint64_t)len << KIND_BITS | STORED_REFERENCE);
    put_address(w, off, len);
    w->raw_bytes += len;
    w->op_count++;
    return true;
}

void stored_end(struct stored_writer *w, uint32_t checksum)
{
    if (w->op_count == 0) {
        w->out->at = w->frame;
        return;
    }
    struct cursor_out fixed = cursor_out_over(w->fixed, FIXED_BYTES);
    cursor_put_be(&fixed, w->raw_bytes, 4);
    cursor_put_be(&fixed, checksum, 4);
    cursor_put_be(&fixed, (uint64_t)(w->out->at - w->ops), 2);
}

/* ---- reading ---- */

void stored_read(struct stored_reader *r, const uint8_t *ops, size_t len)
{
    r->ops = cursor_over(ops, len);
    r->segments.count = r->segments.selected = 0;
}

static void get_segment(struct stored_reader *r, uint64_t index)
{
    struct stored_segments *s = &r->segments;
    struct cursor *c = &r->ops;
    if (index < s->count) {
        s->selected = (uint32_t)index;
        return;
    }
    if (index > s->count || index == STORED_SEGMENTS_MAX) {
        cursor_refuse(c, -ERR_WIRE_VALUE);
        return;
    }
    struct segment_id id = {.epoch = cursor_be(c, 8)};
    uint64_t number = cursor_varint(c);
    if (id.epoch == 0 || number > UINT32_MAX)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    if (c->err != 0)
        return;
    id.number = (uint32_t)number;
    s->ids[s->count] = id;
    s->expected[s->count] = 0;
    s->selected = s->count++;
}

static void get_address(struct stored_reader *r, struct stored_op *op)
{
    struct stored_segments *s = &r->segments;
    int64_t delta = unzigzag(cursor_varint(&r->ops));
    if (s->selected >= s->count || delta < -STORED_SEGMENT_SPAN || delta > STORED_SEGMENT_SPAN) {
        cursor_refuse(&r->ops, -ERR_WIRE_VALUE);
        return;
    }
    int64_t off = (int64_t)s->expected[s->selected] + delta;
    if (off < 0 || off > STORED_SEGMENT_SPAN - (int64_t)op->len) {
        cursor_refuse(&r->ops, -ERR_WIRE_VALUE);
        return;
    }
    op->segment = s->ids[s->selected];
    op->off = (uint32_t)off;
    s->expected[s->selected] = op->off + op->len;
}

int stored_next(struct stored_reader *r, struct stored_op *op)
{
    struct cursor *c = &r->ops;
    memset(op, 0, sizeof(*op));
    for (;;) {
        if (c->err != 0)
            return c->err;
        if (cursor_left(c) == 0)
            return 0;
        uint64_t v = cursor_varint(c);
        op->kind = (enum stored_kind)(v & KIND_MASK);
        if (op->kind != STORED_SEGMENT) {
            if (v >> KIND_BITS == 0 || v >> KIND_BITS > STORED_RAW_MAX)
                cursor_refuse(c, -ERR_WIRE_VALUE);
            op->len = c->err == 0 ? (uint32_t)(v >> KIND_BITS) : 0;
            break;
        }
        get_segment(r, v >> KIND_BITS);
        if (c->err == 0 && cursor_left(c) == 0)
            cursor_refuse(c, -ERR_WIRE_VALUE); /* selected for nothing */
    }
    if (c->err == 0 && op->kind != STORED_PLAIN)
        get_address(r, op);
    if (c->err == 0 && op->kind != STORED_REFERENCE)
        op->bytes = cursor_bytes(c, op->len);
    return c->err != 0 ? c->err : 1;
}

int stored_check(const uint8_t *ops, size_t len, uint32_t raw_bytes)
{
    struct stored_reader r;
    struct stored_op op;
    uint64_t sum = 0;
    uint32_t count = 0;
    int err;
    stored_read(&r, ops, len);
    while ((err = stored_next(&r, &op)) > 0) {
        sum += op.len;
        if (++count > STORED_OPS_MAX || sum > raw_bytes)
            return -ERR_WIRE_VALUE;
    }
    if (err == 0 && sum != raw_bytes)
        return -ERR_WIRE_VALUE;
    return err;
}
