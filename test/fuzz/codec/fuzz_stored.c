/* fuzz_stored.c - the operations of a STORED from hostile bytes.
 * The input is four bytes, what the operations are said to yield, and the operations. Whatever is accepted is
 * within the bounds that stored.h promises, and gives the same operations when it is written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "hawser/frame.h"
#include "hawser/stored.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

enum { ROOM = 200000 };

static void check_bounds(const struct stored_op *op, const uint8_t *ops, size_t len)
{
    CHECK(op->len > 0 && op->len <= STORED_RAW_MAX);
    if (op->kind == STORED_REFERENCE)
        CHECK(op->bytes == NULL);
    else
        CHECK(op->bytes >= ops && op->len <= (size_t)(ops + len - op->bytes));
    if (op->kind == STORED_PLAIN)
        CHECK(op->segment.epoch == 0 && op->off == 0);
    else
        CHECK(op->segment.epoch != 0 && op->off < STORED_SEGMENT_SPAN &&
              op->len <= STORED_SEGMENT_SPAN - op->off);
}

static bool write_again(struct stored_writer *w, const struct stored_op *op)
{
    const struct segment_id *id = op->kind == STORED_PLAIN ? NULL : &op->segment;
    if (op->kind == STORED_REFERENCE)
        return stored_put_reference(w, id, op->off, op->len);
    if (op->len > stored_room(w, id))
        return false;
    memcpy(stored_put_literal(w, id, op->off, op->len), op->bytes, op->len);
    return true;
}

static void check_same(const struct stored_op *a, const struct stored_op *b)
{
    CHECK(a->kind == b->kind && a->off == b->off && a->len == b->len);
    CHECK(a->segment.epoch == b->segment.epoch && a->segment.number == b->segment.number);
    CHECK(a->bytes == NULL || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Up to where one frame of ours has room: a peer may fill its own to the last byte. */
static void round_trip(const uint8_t *ops, size_t len)
{
    static uint8_t room[ROOM];
    struct cursor_out out = cursor_out_over(room, sizeof(room));
    struct stored_writer w;
    struct stored_reader first, second;
    struct stored_op op, again;
    CHECK(stored_begin(&w, &out, FRAME_SESSION_MIN, 0));
    stored_read(&first, ops, len);
    while (stored_next(&first, &op) > 0 && write_again(&w, &op))
        ;
    uint32_t count = w.op_count;
    stored_end(&w, 0);
    struct cursor block = cursor_over(room, (size_t)(out.at - room));
    struct frame f;
    CHECK(frame_next(&block, &f) == (count > 0));
    if (count == 0)
        return;
    stored_read(&first, ops, len);
    stored_read(&second, f.stored.ops, f.stored.ops_bytes);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(stored_next(&first, &op) == 1 && stored_next(&second, &again) == 1);
        check_same(&op, &again);
    }
    CHECK(stored_next(&second, &again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct cursor c = cursor_over(input, len);
    uint32_t raw_bytes = (uint32_t)cursor_be(&c, 4), count = 0;
    if (c.err != 0 || cursor_left(&c) > STORED_OPS_BYTES_MAX)
        return 0;
    size_t ops_len = cursor_left(&c);
    uint8_t *ops = malloc(ops_len > 0 ? ops_len : 1); /* on its own, so that a read past it is seen */
    CHECK(ops != NULL);
    if (ops_len > 0)
        memcpy(ops, c.at, ops_len);
    struct stored_reader r;
    struct stored_op op;
    uint64_t sum = 0;
    int err, checked = stored_check(ops, ops_len, raw_bytes);
    stored_read(&r, ops, ops_len);
    while ((err = stored_next(&r, &op)) > 0) {
        check_bounds(&op, ops, ops_len);
        sum += op.len;
        count++;
    }
    CHECK(err <= 0 && stored_next(&r, &op) == err);
    CHECK((checked == 0) == (err == 0 && sum == raw_bytes && count <= STORED_OPS_MAX));
    if (checked == 0)
        round_trip(ops, ops_len);
    free(ops);
    return 0;
}
