/* test_stored.c - the operations inside STORED: there and back up to every bound, each cut, and what is
 * refused. */
#include "hawser/stored.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "codec/document.h"
#include "hawser/err.h"
#include "hawser/frame.h"

enum { SESSION = 3, ROUNDS = 300, OPS_WRITTEN_MAX = STORED_OPS_MAX + 1 };

static uint64_t random_state;

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(random_state >> 33) % below;
}

static void set_up(void)
{
    random_state = 20;
}

static uint8_t byte_at(uint32_t i)
{
    return (uint8_t)(i * 31 + i / 256);
}

/* What was written, to compare with what is read. */
struct written {
    struct stored_op ops[OPS_WRITTEN_MAX];
    uint32_t count, raw_bytes;
};

static void note(struct written *all, enum stored_kind kind, const struct segment_id *id, uint32_t off,
                 uint32_t len)
{
    struct stored_op *op = &all->ops[all->count];
    ck_assert_uint_lt(all->count, OPS_WRITTEN_MAX);
    *op = (struct stored_op){.kind = kind, .len = len};
    if (id != NULL) {
        op->segment = *id;
        op->off = off;
    }
    all->count++;
    all->raw_bytes += len;
}

static bool write_literal(struct stored_writer *w, struct written *all, const struct segment_id *id,
                          uint32_t off, uint32_t len)
{
    uint32_t room = stored_room(w, id);
    if (len > room)
        len = room;
    if (len == 0)
        return false;
    uint8_t *to = stored_put_literal(w, id, off, len);
    for (uint32_t i = 0; i < len; i++)
        to[i] = byte_at(i);
    note(all, id == NULL ? STORED_PLAIN : STORED_LITERAL, id, off, len);
    return true;
}

static bool write_reference(struct stored_writer *w, struct written *all, const struct segment_id *id,
                            uint32_t off, uint32_t len)
{
    if (!stored_put_reference(w, id, off, len))
        return false;
    note(all, STORED_REFERENCE, id, off, len);
    return true;
}

static void check_op(const struct stored_op *got, const struct stored_op *want)
{
    ck_assert_int_eq((int)got->kind, (int)want->kind);
    ck_assert_uint_eq(got->len, want->len);
    ck_assert_uint_eq(got->off, want->off);
    ck_assert_uint_eq(got->segment.epoch, want->segment.epoch);
    ck_assert_uint_eq(got->segment.number, want->segment.number);
    if (want->kind == STORED_REFERENCE) {
        ck_assert_ptr_null(got->bytes);
        return;
    }
    for (uint32_t i = 0; i < got->len; i++) {
        if (got->bytes[i] != byte_at(i))
            ck_abort_msg("byte %u of a literal is another", i);
    }
}

static void check_frame(const struct frame *f, const struct written *all)
{
    struct stored_reader r;
    struct stored_op op;
    ck_assert_int_eq((int)f->type, FRAME_STORED);
    ck_assert_uint_eq(f->session, SESSION);
    ck_assert_uint_eq(f->stored.raw_bytes, all->raw_bytes);
    ck_assert_uint_le(f->stored.ops_bytes, STORED_OPS_BYTES_MAX);
    stored_read(&r, f->stored.ops, f->stored.ops_bytes);
    for (uint32_t i = 0; i < all->count; i++) {
        ck_assert_int_eq(stored_next(&r, &op), 1);
        check_op(&op, &all->ops[i]);
    }
    ck_assert_int_eq(stored_next(&r, &op), 0);
    ck_assert_int_eq(stored_next(&r, &op), 0);
}

/* The one frame of a block that ends where `out` is; read from a heap block of exactly its length. */
static void check_block(const uint8_t *block, const struct cursor_out *out, const struct written *all)
{
    size_t len = (size_t)(out->at - block);
    uint8_t *exact = malloc(len);
    struct frame f;
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, block, len);
    struct cursor c = cursor_over(exact, len);
    ck_assert_int_eq(frame_next(&c, &f), 1);
    check_frame(&f, all);
    ck_assert_int_eq(frame_next(&c, &f), 0);
    free(exact);
}

/* ---- there and back ---- */

static struct segment_id some_segment(void)
{
    static const struct segment_id extremes[] = {{1, 0}, {UINT64_MAX, UINT32_MAX}, {1, UINT32_MAX}};
    uint32_t i = roll(8);
    return i < 3 ? extremes[i] : (struct segment_id){.epoch = 7 + roll(3), .number = roll(40)};
}

static bool write_something(struct stored_writer *w, struct written *all)
{
    struct segment_id id = some_segment();
    uint32_t len = 1 + (roll(4) == 0 ? roll(5000) : roll(40));
    uint32_t off = roll(3) == 0 ? STORED_SEGMENT_SPAN - len : roll(STORED_SEGMENT_SPAN - len + 1);
    switch (roll(4)) {
    case 0:
        return write_literal(w, all, NULL, 0, len);
    case 1:
        return write_literal(w, all, &id, off, len);
    default:
        len = roll(10) == 0 ? 1 + roll(1 << 20) : len;
        return write_reference(w, all, &id, roll(STORED_SEGMENT_SPAN - len + 1), len);
    }
}

START_TEST(whatever_is_written_is_read)
{
    static struct written all;
    for (int round = 0; round < ROUNDS; round++) {
        size_t room = roll(5) == 0 ? 70000 : 60 + roll(3000);
        uint8_t *block = malloc(room);
        ck_assert_ptr_nonnull(block);
        struct cursor_out out = cursor_out_over(block, room);
        struct stored_writer w;
        all.count = all.raw_bytes = 0;
        ck_assert(stored_begin(&w, &out, SESSION, roll(1000)));
        while (write_something(&w, &all) && roll(200) != 0)
            ;
        ck_assert_uint_gt(all.count, 0);
        stored_end(&w, 0);
        ck_assert_int_eq(out.err, 0);
        check_block(block, &out, &all);
        free(block);
    }
}
END_TEST

/* Nothing is written past a block's end, and a block without room for a byte stays as it was. */
START_TEST(every_small_room)
{
    static struct written all;
    const struct segment_id id = {UINT64_MAX, UINT32_MAX};
    bool fitted = false;
    for (size_t room = 0; room < 200; room++) {
        uint8_t *block = malloc(room + 1);
        ck_assert_ptr_nonnull(block);
        struct cursor_out out = cursor_out_over(block, room);
        struct stored_writer w;
        all.count = all.raw_bytes = 0;
        if (!stored_begin(&w, &out, UINT64_MAX, FRAME_OFFSET_MAX - STORED_RAW_MAX)) {
            ck_assert(!fitted);
            ck_assert_ptr_eq(out.at, block);
            free(block);
            continue;
        }
        fitted = true;
        ck_assert_uint_gt(stored_room(&w, &id), 0);
        while (
            write_literal(&w, &all, roll(2) == 0 ? &id : NULL, roll(STORED_SEGMENT_SPAN - 200), 1 + roll(20)))
            ;
        stored_end(&w, 0);
        struct frame f;
        struct cursor c = cursor_over(block, (size_t)(out.at - block));
        ck_assert_int_eq(frame_next(&c, &f), 1);
        ck_assert_uint_eq(f.session, UINT64_MAX);
        ck_assert_uint_eq(f.stored.raw_bytes, all.raw_bytes);
        free(block);
    }
    ck_assert(fitted);
}
END_TEST

START_TEST(a_frame_without_operations_is_taken_back)
{
    uint8_t block[500];
    struct cursor_out out = cursor_out_over(block, sizeof(block));
    struct stored_writer w;
    cursor_put_be(&out, 77, 1);
    ck_assert(stored_begin(&w, &out, SESSION, 0));
    stored_end(&w, 0);
    ck_assert_ptr_eq(out.at, block + 1);
    ck_assert_int_eq(out.err, 0);
}
END_TEST

/* ---- bounds of one frame ---- */

enum { WIDE = 200000 };

static struct written bounded;

static void begin_wide(struct stored_writer *w, struct cursor_out *out, uint8_t **block)
{
    *block = malloc(WIDE);
    ck_assert_ptr_nonnull(*block);
    *out = cursor_out_over(*block, WIDE);
    bounded.count = bounded.raw_bytes = 0;
    ck_assert(stored_begin(w, out, SESSION, 0));
}

static void end_wide(struct stored_writer *w, struct cursor_out *out, uint8_t *block)
{
    stored_end(w, 0);
    check_block(block, out, &bounded);
    free(block);
}

START_TEST(as_many_operations_as_may_be)
{
    struct stored_writer w;
    struct cursor_out out;
    uint8_t *block;
    const struct segment_id id = {5, 6};
    begin_wide(&w, &out, &block);
    for (uint32_t i = 0; i < STORED_OPS_MAX; i++)
        ck_assert(write_reference(&w, &bounded, &id, i * 100, 20));
    ck_assert(!stored_put_reference(&w, &id, 0, 20));
    ck_assert_uint_eq(stored_room(&w, NULL), 0);
    end_wide(&w, &out, block);
}
END_TEST

START_TEST(as_many_segments_as_may_be)
{
    struct stored_writer w;
    struct cursor_out out;
    uint8_t *block;
    begin_wide(&w, &out, &block);
    for (uint32_t i = 0; i < STORED_SEGMENTS_MAX; i++)
        ck_assert(write_reference(&w, &bounded, &(struct segment_id){5, i}, i, 20));
    ck_assert(!stored_put_reference(&w, &(struct segment_id){5, STORED_SEGMENTS_MAX}, 0, 20));
    ck_assert(write_literal(&w, &bounded, NULL, 0, 9)); /* which names none */
    end_wide(&w, &out, block);
}
END_TEST

START_TEST(as_many_bytes_as_may_be)
{
    struct stored_writer w;
    struct cursor_out out;
    uint8_t *block;
    const struct segment_id id = {5, 6};
    begin_wide(&w, &out, &block);
    ck_assert(write_reference(&w, &bounded, &id, 1, STORED_SEGMENT_SPAN - 1));
    ck_assert(!stored_put_reference(&w, &id, 0, 2));
    ck_assert_uint_eq(stored_room(&w, &id), 1);
    ck_assert(write_literal(&w, &bounded, &id, 0, 1));
    ck_assert_uint_eq(stored_room(&w, NULL), 0);
    ck_assert_uint_eq(bounded.raw_bytes, STORED_RAW_MAX);
    end_wide(&w, &out, block);
}
END_TEST

START_TEST(as_many_bytes_of_operations_as_may_be)
{
    struct stored_writer w;
    struct cursor_out out;
    uint8_t *block;
    const struct segment_id id = {UINT64_MAX, UINT32_MAX};
    begin_wide(&w, &out, &block);
    ck_assert(write_literal(&w, &bounded, &id, STORED_SEGMENT_SPAN - 100000, 100000));
    ck_assert_uint_le(bounded.raw_bytes, STORED_OPS_BYTES_MAX);
    ck_assert_uint_ge(bounded.raw_bytes, STORED_OPS_BYTES_MAX - STORED_OP_MAX);
    while (write_literal(&w, &bounded, NULL, 0, 1))
        ;
    ck_assert(!stored_put_reference(&w, &id, 0, 20));
    ck_assert_uint_le((size_t)(out.at - w.ops), STORED_OPS_BYTES_MAX);
    end_wide(&w, &out, block);
}
END_TEST

/* ---- cut, and hostile ---- */

static size_t a_frame(uint8_t *block, size_t room)
{
    static struct written all;
    struct cursor_out out = cursor_out_over(block, room);
    struct stored_writer w;
    all.count = all.raw_bytes = 0;
    ck_assert(stored_begin(&w, &out, SESSION, 300));
    ck_assert(write_literal(&w, &all, &(struct segment_id){1, 2}, 70000, 30));
    ck_assert(write_reference(&w, &all, &(struct segment_id){UINT64_MAX, 900}, STORED_SEGMENT_SPAN - 16, 16));
    ck_assert(write_literal(&w, &all, NULL, 0, 5));
    ck_assert(write_reference(&w, &all, &(struct segment_id){1, 2}, 0, 100000));
    stored_end(&w, 0x12345678);
    return (size_t)(out.at - block);
}

START_TEST(each_short_prefix_is_refused)
{
    uint8_t block[500];
    size_t len = a_frame(block, sizeof(block));
    for (size_t cut = 1; cut < len; cut++) {
        uint8_t *exact = malloc(cut);
        struct frame f;
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, block, cut);
        struct cursor c = cursor_over(exact, cut);
        ck_assert_int_eq(frame_next(&c, &f), -ERR_WIRE_SHORT);
        free(exact);
    }
}
END_TEST

/* The operations alone, cut: never past the cut, and never as many bytes as the whole. */
START_TEST(each_short_prefix_of_the_operations_is_refused)
{
    uint8_t block[500];
    struct frame f;
    struct cursor c = cursor_over(block, a_frame(block, sizeof(block)));
    ck_assert_int_eq(frame_next(&c, &f), 1);
    for (size_t cut = 0; cut < f.stored.ops_bytes; cut++) {
        uint8_t *exact = malloc(cut > 0 ? cut : 1);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, f.stored.ops, cut);
        ck_assert_int_lt(stored_check(exact, cut, f.stored.raw_bytes), 0);
        free(exact);
    }
}
END_TEST

#define OP(len, kind)       (uint8_t)((len) << 2 | (kind))
#define NEW(index)          OP(index, STORED_SEGMENT), 0, 0, 0, 0, 0, 0, 0, 1, 5 /* epoch 1, number 5 */
#define MINUS_ONE           1
#define SPAN                0x80, 0x80, 0x80, 0x10 /* zigzag of 2^24 */
#define SPAN_AND_ONE        0x82, 0x80, 0x80, 0x10
#define MINUS_SPAN_LESS_ONE 0xfd, 0xff, 0xff, 0x0f /* zigzag of 1 - 2^24 */
#define ALL_64_BITS         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1

static const struct {
    const char *what;
    int err;
    uint32_t raw_bytes;
    size_t len;
    uint8_t ops[48];
} hostile[] = {
    {"nothing", -ERR_WIRE_VALUE, 1, 0, {0}},
    {"a byte", 0, 1, 2, {OP(1, STORED_PLAIN), 'x'}},
    {"no length", -ERR_WIRE_VALUE, 1, 2, {OP(0, STORED_PLAIN), 'x'}},
    {"a length past the most", -ERR_WIRE_VALUE, STORED_RAW_MAX, 4, {0x84, 0x80, 0x80, 0x20}},
    {"a length of 62 bits", -ERR_WIRE_VALUE, 1, 10, {ALL_64_BITS}},
    {"a long form", -ERR_WIRE_VALUE, 1, 3, {0x84, 0x00, 'x'}},
    {"less than was said", -ERR_WIRE_VALUE, 2, 2, {OP(1, STORED_PLAIN), 'x'}},
    {"more than was said", -ERR_WIRE_VALUE, 1, 3, {OP(2, STORED_PLAIN), 'x', 'y'}},
    {"a literal that is cut", -ERR_WIRE_SHORT, 2, 2, {OP(2, STORED_PLAIN), 'x'}},
    {"a reference before a segment", -ERR_WIRE_VALUE, 1, 2, {OP(1, STORED_REFERENCE), 0}},
    {"a literal before a segment", -ERR_WIRE_VALUE, 1, 3, {OP(1, STORED_LITERAL), 0, 'x'}},
    {"a reference", 0, 1, 12, {NEW(0), OP(1, STORED_REFERENCE), 0}},
    {"a literal with an address", 0, 1, 13, {NEW(0), OP(1, STORED_LITERAL), 0, 'x'}},
    {"an address below 0", -ERR_WIRE_VALUE, 1, 12, {NEW(0), OP(1, STORED_REFERENCE), MINUS_ONE}},
    {"an address that falls below 0",
     -ERR_WIRE_VALUE,
     2,
     14,
     {NEW(0), OP(1, STORED_REFERENCE), 0, OP(1, STORED_REFERENCE), 3}},
    {"the last address", 0, 1, 15, {NEW(0), OP(1, STORED_REFERENCE), 0xfe, 0xff, 0xff, 0x0f}},
    {"an end past the segment",
     -ERR_WIRE_VALUE,
     2,
     15,
     {NEW(0), OP(2, STORED_REFERENCE), 0xfe, 0xff, 0xff, 0x0f}},
    {"the first address past the segment", -ERR_WIRE_VALUE, 1, 15, {NEW(0), OP(1, STORED_REFERENCE), SPAN}},
    {"a step of more than a segment",
     -ERR_WIRE_VALUE,
     1,
     15,
     {NEW(0), OP(1, STORED_REFERENCE), SPAN_AND_ONE}},
    {"a step of 2^63 back", -ERR_WIRE_VALUE, 1, 21, {NEW(0), OP(1, STORED_REFERENCE), ALL_64_BITS}},
    {"from the end to the beginning",
     0,
     2,
     20,
     {NEW(0), OP(1, STORED_REFERENCE), 0xfe, 0xff, 0xff, 0x0f, OP(1, STORED_REFERENCE), 0xff, 0xff, 0xff,
      0x0f}},
    {"from the end to a byte above",
     0,
     2,
     20,
     {NEW(0), OP(1, STORED_REFERENCE), 0xfe, 0xff, 0xff, 0x0f, OP(1, STORED_REFERENCE), MINUS_SPAN_LESS_ONE}},
    {"a number that was not named", -ERR_WIRE_VALUE, 1, 12, {NEW(1), OP(1, STORED_REFERENCE), 0}},
    {"number 2 after 0", -ERR_WIRE_VALUE, 1, 22, {NEW(0), NEW(2), OP(1, STORED_REFERENCE), 0}},
    {"a number of 62 bits", -ERR_WIRE_VALUE, 1, 10, {ALL_64_BITS}},
    {"a segment selected for nothing", -ERR_WIRE_VALUE, 1, 12, {OP(1, STORED_PLAIN), 'x', NEW(0)}},
    {"a segment of epoch 0",
     -ERR_WIRE_VALUE,
     1,
     12,
     {OP(0, STORED_SEGMENT), 0, 0, 0, 0, 0, 0, 0, 0, 5, OP(1, STORED_REFERENCE), 0}},
    {"a segment's number of 33 bits",
     -ERR_WIRE_VALUE,
     1,
     16,
     {OP(0, STORED_SEGMENT), 0, 0, 0, 0, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x10, OP(1, STORED_REFERENCE),
      0}},
    {"a segment that is cut", -ERR_WIRE_SHORT, 1, 5, {OP(0, STORED_SEGMENT), 0, 0, 0, 0}},
};

START_TEST(hostile_operations)
{
    size_t len = hostile[_i].len;
    uint8_t *exact = malloc(len > 0 ? len : 1);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, hostile[_i].ops, len);
    int err = stored_check(exact, len, hostile[_i].raw_bytes);
    ck_assert_msg(err == hostile[_i].err, "%s: %s (%d)", hostile[_i].what, err_text(err), err);
    free(exact);
}
END_TEST

static void check_repeated(const uint8_t *one, size_t one_len, uint32_t count, int err)
{
    uint8_t *ops = malloc(count * one_len);
    ck_assert_ptr_nonnull(ops);
    for (uint32_t i = 0; i < count; i++)
        memcpy(ops + i * one_len, one, one_len);
    ck_assert_int_eq(stored_check(ops, count * one_len, count), err);
    free(ops);
}

START_TEST(too_many_operations_are_refused)
{
    const uint8_t plain[] = {OP(1, STORED_PLAIN), 'x'};
    check_repeated(plain, sizeof(plain), STORED_OPS_MAX, 0);
    check_repeated(plain, sizeof(plain), STORED_OPS_MAX + 1, -ERR_WIRE_VALUE);
}
END_TEST

START_TEST(too_many_segments_are_refused)
{
    uint8_t ops[(STORED_SEGMENTS_MAX + 1) * 16];
    struct cursor_out out = cursor_out_over(ops, sizeof(ops));
    for (uint32_t i = 0; i <= STORED_SEGMENTS_MAX; i++) {
        cursor_put_varint(&out, (uint64_t)i << 2 | STORED_SEGMENT);
        cursor_put_be(&out, 9, 8);
        cursor_put_varint(&out, i);
        cursor_put_be(&out, OP(1, STORED_REFERENCE), 1);
        cursor_put_be(&out, 0, 1);
        int err = stored_check(ops, (size_t)(out.at - ops), i + 1);
        ck_assert_int_eq(err, i < STORED_SEGMENTS_MAX ? 0 : -ERR_WIRE_VALUE);
    }
    ck_assert_int_eq(out.err, 0);
}
END_TEST

/* ---- checksum and document ---- */

START_TEST(the_checksum_knows_order_and_parts)
{
    const uint8_t *text = (const uint8_t *)"abcdefgh";
    uint64_t ab = stored_checksum(stored_checksum(0, text, 4), text + 4, 4);
    uint64_t ba = stored_checksum(stored_checksum(0, text + 4, 4), text, 4);
    ck_assert_uint_ne(ab, ba);
    ck_assert_uint_ne(ab, stored_checksum(0, text, 8)); /* by reference: both ends cut alike */
    ck_assert_uint_eq(stored_checksum(0, text, 0), 0x2d06800538d394c2ULL); /* XXH3 of nothing, seed 0 */
}
END_TEST

/* The frames of PROTOCOL.md's example 'stored'. */
static void put_document_s_stored(struct cursor_out *out)
{
    static const uint8_t zeros[300];
    static const char literal[] = "twenty-five bytes of text";
    const struct segment_id five = {0x1011121314151617, 5}, six = {0x1011121314151617, 6};
    struct stored_writer w;
    ck_assert(stored_begin(&w, out, SESSION, 19));
    memcpy(stored_put_literal(&w, &five, 4096, 25), literal, 25);
    ck_assert(stored_put_reference(&w, &six, 1000, sizeof(zeros)));
    ck_assert(stored_put_reference(&w, &five, 4096, 25));
    memcpy(stored_put_literal(&w, NULL, 0, 2), "\r\n", 2);
    uint64_t sum = stored_checksum(0, zeros, sizeof(zeros));
    stored_end(&w, (uint32_t)stored_checksum(sum, (const uint8_t *)literal, 25));
}

START_TEST(the_document_s_example)
{
    static const struct frame others[] = {
        {.type = FRAME_MISS, .session = SESSION, .miss = {.offset = 44, .len = 300}},
        {.type = FRAME_HOLD, .segment = {.segment = {0x1011121314151617, 6}, .from = 1000, .to = 1300}},
        {.type = FRAME_DROP, .segment = {.segment = {0x1011121314151617, 5}}},
    };
    uint8_t wire[512], expected[512];
    size_t expected_len = document_hex("stored", expected, sizeof(expected));
    struct cursor_out out = cursor_out_over(wire + BLOCK_HEADER_BYTES, sizeof(wire) - BLOCK_HEADER_BYTES);
    put_document_s_stored(&out);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        ck_assert_int_eq(frame_put(&out, &others[i]), 0);
    size_t len = (size_t)(out.at - wire);
    block_header_put(wire, BLOCK_RAW, (uint32_t)(len - BLOCK_HEADER_BYTES));
    ck_assert_uint_eq(len, expected_len);
    ck_assert_mem_eq(wire, expected, len);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stored");
    TCase *t = tcase_create("stored");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, whatever_is_written_is_read);
    tcase_add_test(t, every_small_room);
    tcase_add_test(t, a_frame_without_operations_is_taken_back);
    tcase_add_test(t, as_many_operations_as_may_be);
    tcase_add_test(t, as_many_segments_as_may_be);
    tcase_add_test(t, as_many_bytes_as_may_be);
    tcase_add_test(t, as_many_bytes_of_operations_as_may_be);
    tcase_add_test(t, each_short_prefix_is_refused);
    tcase_add_test(t, each_short_prefix_of_the_operations_is_refused);
    tcase_add_loop_test(t, hostile_operations, 0, (int)(sizeof(hostile) / sizeof(hostile[0])));
    tcase_add_test(t, too_many_operations_are_refused);
    tcase_add_test(t, too_many_segments_are_refused);
    tcase_add_test(t, the_checksum_knows_order_and_parts);
    tcase_add_test(t, the_document_s_example);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
