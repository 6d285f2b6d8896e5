/* test_frame.c - every frame there and back with extreme values, each cut of it, and what is refused. */
#include "hawser/frame.h"
#include "hawser/stored.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "codec/document.h"
#include "hawser/err.h"

#define V4(a, b, c, d, p)                                                                                    \
    {                                                                                                        \
        .addr = {.family = AF_INET, .bytes = {a, b, c, d}}, .port = p                                        \
    }
#define V6(last, p)                                                                                          \
    {                                                                                                        \
        .addr = {.family = AF_INET6, .bytes = {0xfd, [15] = last}}, .port = p                                \
    }
#define ONES 0xff, 0xff, 0xff, 0xff

static const char long_class[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";
static uint8_t long_data[FRAME_DATA_MAX];
_Static_assert(sizeof(long_class) == FRAME_CLASS_MAX + 1, "the longest class name");

static const struct frame frames[] = {
    {.type = FRAME_OPEN,
     .session = 3,
     .open = {.client = V4(10, 1, 0, 2, 40000),
              .server = V4(10, 2, 0, 80, 80),
              .dscp = 46,
              .class_name = "web",
              .class_len = 3,
              .raw_limit = 1 << 27,
              .cost_limit = 4 << 20}},
    {.type = FRAME_OPEN, /* all least */
     .session = FRAME_SESSION_MIN,
     .open = {.client = V4(0, 0, 0, 0, 0), .server = V4(0, 0, 0, 0, 0), .class_name = ""}},
    {.type = FRAME_OPEN, .session = 5, .open = {.client = V6(1, 1), .server = V6(2, 443), .class_name = ""}},
    {.type = FRAME_OPEN, /* all most: no control frame is longer */
     .session = UINT64_MAX,
     .open = {.client = {.addr = {.family = AF_INET6, .bytes = {ONES, ONES, ONES, ONES}}, .port = UINT16_MAX},
              .server = {.addr = {.family = AF_INET6, .bytes = {ONES, ONES, ONES, ONES}}, .port = UINT16_MAX},
              .dscp = 63,
              .class_name = long_class,
              .class_len = FRAME_CLASS_MAX,
              .raw_limit = FRAME_OFFSET_MAX,
              .cost_limit = FRAME_OFFSET_MAX}},
    {.type = FRAME_DATA, .session = 2, .data = {.offset = 0, .bytes = (const uint8_t *)"x", .len = 1}},
    {.type = FRAME_DATA,
     .session = UINT64_MAX,
     .data = {.offset = FRAME_OFFSET_MAX - FRAME_DATA_MAX, .bytes = long_data, .len = FRAME_DATA_MAX}},
    {.type = FRAME_ACK, .session = 2, .ack = {.offset = 0}},
    {.type = FRAME_ACK, .session = UINT64_MAX, .ack = {.offset = FRAME_OFFSET_MAX + 1}},
    {.type = FRAME_CREDIT, .session = 2, .credit = {.raw_limit = 0, .cost_limit = 0}},
    {.type = FRAME_CREDIT,
     .session = UINT64_MAX,
     .credit = {.raw_limit = FRAME_OFFSET_MAX, .cost_limit = FRAME_OFFSET_MAX - 1}},
    {.type = FRAME_FIN, .session = 2, .fin = {.final = 0}},
    {.type = FRAME_FIN, .session = UINT64_MAX, .fin = {.final = FRAME_OFFSET_MAX}},
    {.type = FRAME_RST, .session = 2, .rst = {.reason = FRAME_RST_OTHER, .answer = 0, .final = 0}},
    {.type = FRAME_RST,
     .session = UINT64_MAX,
     .rst = {.reason = FRAME_RST_SOURCE, .answer = 1, .final = FRAME_OFFSET_MAX}},
    {.type = FRAME_PING, .ping = {.token = 0}},
    {.type = FRAME_PING, .ping = {.token = UINT64_MAX}},
    {.type = FRAME_PONG, .ping = {.token = 0}},
    {.type = FRAME_PONG, .ping = {.token = UINT64_MAX}},
    {.type = FRAME_MISS, .session = 2, .miss = {.offset = 0, .len = 1}},
    {.type = FRAME_MISS, .session = 3, .miss = {.offset = FRAME_OFFSET_MAX - 5, .len = 5}},
    {.type = FRAME_HOLD, .segment = {.segment = {1, 0}, .from = 0, .to = 1}},
    {.type = FRAME_HOLD,
     .segment = {.segment = {UINT64_MAX, UINT32_MAX}, .from = 7, .to = STORED_SEGMENT_SPAN}},
    {.type = FRAME_DROP, .segment = {.segment = {UINT64_MAX, UINT32_MAX}}},
};
enum { FRAMES = sizeof(frames) / sizeof(frames[0]) };

static void check_open(const struct frame *got, const struct frame *want)
{
    ck_assert(endpoint_equal(&got->open.client, &want->open.client));
    ck_assert(endpoint_equal(&got->open.server, &want->open.server));
    ck_assert_uint_eq(got->open.dscp, want->open.dscp);
    ck_assert_uint_eq(got->open.class_len, want->open.class_len);
    ck_assert(memcmp(got->open.class_name, want->open.class_name, want->open.class_len) == 0);
    ck_assert_uint_eq(got->open.raw_limit, want->open.raw_limit);
    ck_assert_uint_eq(got->open.cost_limit, want->open.cost_limit);
}

static void check_equal(const struct frame *got, const struct frame *want)
{
    ck_assert_int_eq((int)got->type, (int)want->type);
    ck_assert_uint_eq(got->session, want->session);
    switch (want->type) {
    case FRAME_OPEN:
        check_open(got, want);
        return;
    case FRAME_DATA:
        ck_assert_uint_eq(got->data.offset, want->data.offset);
        ck_assert_uint_eq(got->data.len, want->data.len);
        ck_assert(memcmp(got->data.bytes, want->data.bytes, want->data.len) == 0);
        return;
    case FRAME_ACK:
        ck_assert_uint_eq(got->ack.offset, want->ack.offset);
        return;
    case FRAME_CREDIT:
        ck_assert_uint_eq(got->credit.raw_limit, want->credit.raw_limit);
        ck_assert_uint_eq(got->credit.cost_limit, want->credit.cost_limit);
        return;
    case FRAME_FIN:
        ck_assert_uint_eq(got->fin.final, want->fin.final);
        return;
    case FRAME_RST:
        ck_assert_int_eq((int)got->rst.reason, (int)want->rst.reason);
        ck_assert_uint_eq(got->rst.answer, want->rst.answer);
        ck_assert_uint_eq(got->rst.final, want->rst.final);
        return;
    case FRAME_PING:
    case FRAME_PONG:
        ck_assert_uint_eq(got->ping.token, want->ping.token);
        return;
    case FRAME_MISS:
        ck_assert_uint_eq(got->miss.offset, want->miss.offset);
        ck_assert_uint_eq(got->miss.len, want->miss.len);
        return;
    case FRAME_HOLD:
        ck_assert_uint_eq(got->segment.from, want->segment.from);
        ck_assert_uint_eq(got->segment.to, want->segment.to);
        __attribute__((fallthrough));
    case FRAME_DROP:
        ck_assert_uint_eq(got->segment.segment.epoch, want->segment.segment.epoch);
        ck_assert_uint_eq(got->segment.segment.number, want->segment.segment.number);
        return;
    case FRAME_STORED:
        break; /* test_stored.c */
    }
    ck_abort();
}

static void fill_long_data(void)
{
    for (size_t i = 0; i < sizeof(long_data); i++)
        long_data[i] = (uint8_t)(i * 7 + i / 251);
}

/* The frame's bytes in a heap block of exactly their length, owned by the caller. */
static uint8_t *put(const struct frame *f, size_t *len)
{
    static uint8_t room[BLOCK_PAYLOAD_MAX];
    struct cursor_out out = cursor_out_over(room, sizeof(room));
    ck_assert_int_eq(frame_put(&out, f), 0);
    *len = (size_t)(out.at - room);
    uint8_t *exact = malloc(*len);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, room, *len);
    return exact;
}

START_TEST(test_round_trip)
{
    struct frame got;
    size_t len;
    uint8_t *wire = put(&frames[_i], &len);
    struct cursor block = cursor_over(wire, len);
    ck_assert_int_eq(frame_next(&block, &got), 1);
    check_equal(&got, &frames[_i]);
    ck_assert_int_eq(frame_next(&block, &got), 0);
    if (frames[_i].type == FRAME_DATA)
        ck_assert_uint_le(len, FRAME_DATA_HEADER_MAX + frames[_i].data.len);
    else
        ck_assert_uint_le(len, FRAME_CONTROL_MAX);
    free(wire);
}
END_TEST

START_TEST(test_each_cut_is_refused)
{
    size_t len;
    uint8_t *wire = put(&frames[_i], &len);
    for (size_t cut = 1; cut < len; cut += cut < 256 ? 1 : 997) {
        uint8_t *exact = malloc(cut);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, wire, cut);
        struct cursor block = cursor_over(exact, cut);
        struct frame got;
        memset(&got, 0x77, sizeof(got));
        ck_assert_int_eq(frame_next(&block, &got), -ERR_WIRE_SHORT);
        ck_assert_uint_eq(got.session, UINT64_C(0x7777777777777777)); /* only success touches it */
        ck_assert_int_eq(frame_next(&block, &got), -ERR_WIRE_SHORT);  /* and the error stays */
        free(exact);
    }
    free(wire);
}
END_TEST

/* A block that is full takes nothing of the frame, and stays as it was up to there. */
START_TEST(test_no_room_writes_nothing)
{
    size_t len;
    uint8_t *wire = put(&frames[_i], &len);
    for (size_t room = 0; room < len; room += room < 256 ? 1 : 997) {
        uint8_t *exact = malloc(room + 1);
        ck_assert_ptr_nonnull(exact);
        exact[0] = 0xee;
        struct cursor_out out = cursor_out_over(exact + 1, room);
        ck_assert_int_eq(frame_put(&out, &frames[_i]), -ERR_WIRE_LONG);
        ck_assert_ptr_eq(out.at, exact + 1);
        ck_assert_int_eq(out.err, -ERR_WIRE_LONG);
        ck_assert_uint_eq(exact[0], 0xee);
        free(exact);
    }
    free(wire);
}
END_TEST

START_TEST(test_many_frames_in_a_block)
{
    static uint8_t room[BLOCK_PAYLOAD_MAX + 4096];
    struct cursor_out out = cursor_out_over(room, sizeof(room));
    for (size_t i = 0; i < FRAMES; i++)
        ck_assert_int_eq(frame_put(&out, &frames[i]), 0);
    struct cursor block = cursor_over(room, (size_t)(out.at - room));
    struct frame got;
    for (size_t i = 0; i < FRAMES; i++) {
        ck_assert_int_eq(frame_next(&block, &got), 1);
        check_equal(&got, &frames[i]);
    }
    ck_assert_int_eq(frame_next(&block, &got), 0);
}
END_TEST

START_TEST(test_put_data_leaves_the_copying_to_the_caller)
{
    size_t len;
    const struct frame *f = &frames[_i];
    uint8_t *wire = put(f, &len), *room = malloc(len);
    ck_assert_ptr_nonnull(room);
    struct cursor_out out = cursor_out_over(room, len);
    uint8_t *bytes = frame_put_data(&out, f->session, f->data.offset, f->data.len);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_ptr_eq(out.at, room + len);
    memcpy(bytes, f->data.bytes, f->data.len);
    ck_assert_mem_eq(room, wire, len);
    out = cursor_out_over(room, len - 1);
    ck_assert_ptr_null(frame_put_data(&out, f->session, f->data.offset, f->data.len));
    ck_assert_ptr_eq(out.at, room);
    ck_assert_int_eq(out.err, -ERR_WIRE_LONG);
    free(room);
    free(wire);
}
END_TEST

#define OPEN4    1, 3, 4, 10, 1, 0, 2, 0x9c, 0x40, 10, 2, 0, 80, 0, 80
#define ZEROS4   0, 0, 0, 0
#define V6_BYTES 0xfd, 0, 0, 0, ZEROS4, ZEROS4, 0, 0, 0, 1, 0, 80
#define MAPPED   ZEROS4, ZEROS4, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 80
#define ABOVE    0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40 /* 2^62 + 1 */
#define MOST     0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40 /* 2^62 */

static const struct {
    const char *what;
    int err;
    size_t len;
    uint8_t wire[64];
} refused[] = {
    {"type 0", -ERR_WIRE_UNKNOWN, 2, {0, 2}},
    {"type 13", -ERR_WIRE_UNKNOWN, 3, {13, 2, 0}},
    {"a STORED without operations", -ERR_WIRE_VALUE, 13, {9, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}},
    {"a STORED longer than its operations",
     -ERR_WIRE_VALUE,
     15,
     {9, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 4, 'x'}},
    {"a STORED of 16 MB and one", -ERR_WIRE_LONG, 13, {9, 2, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}},
    {"a MISS of nothing", -ERR_WIRE_VALUE, 4, {10, 2, 0, 0}},
    {"a HOLD past the segment", -ERR_WIRE_VALUE, 15, {11, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0x80, 0x80, 0x80, 8}},
    {"a DROP of no epoch", -ERR_WIRE_VALUE, 10, {12, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
    {"type 255", -ERR_WIRE_UNKNOWN, 1, {255}},
    {"session 0", -ERR_WIRE_VALUE, 3, {3, 0, 0}},
    {"session 1", -ERR_WIRE_VALUE, 3, {5, 1, 0}},
    {"a varint in a longer form", -ERR_WIRE_VALUE, 4, {3, 0x83, 0x00, 0}},
    {"family 5", -ERR_WIRE_VALUE, 47, {1, 3, 5}},
    {"an IPv4-mapped client", -ERR_WIRE_VALUE, 43, {1, 3, 6, MAPPED, V6_BYTES}},
    {"an IPv4-mapped server", -ERR_WIRE_VALUE, 43, {1, 3, 6, V6_BYTES, MAPPED}},
    {"DSCP 64", -ERR_WIRE_VALUE, 19, {OPEN4, 64, 0, 0, 0}},
    {"a class of 64 bytes", -ERR_WIRE_LONG, 64, {OPEN4, 0, 64}},
    {"a class with a control character", -ERR_WIRE_VALUE, 20, {OPEN4, 0, 1, '\n', 0, 0}},
    {"a class that is not UTF-8", -ERR_WIRE_VALUE, 20, {OPEN4, 0, 1, 0xff, 0, 0}},
    {"a raw limit above the most", -ERR_WIRE_VALUE, 27, {OPEN4, 0, 0, ABOVE, 0}},
    {"a cost limit above the most", -ERR_WIRE_VALUE, 27, {OPEN4, 0, 0, 0, ABOVE}},
    {"DATA of nothing", -ERR_WIRE_VALUE, 4, {2, 3, 0, 0}},
    {"DATA past the most", -ERR_WIRE_VALUE, 13, {2, 3, MOST, 1, 'x'}},
    {"DATA of 65001 bytes", -ERR_WIRE_LONG, 64, {2, 3, 0, 0xe9, 0xfb, 0x03}},
    {"DATA of 2^63 bytes",
     -ERR_WIRE_LONG,
     13,
     {2, 3, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}},
    {"an ACK two past the most",
     -ERR_WIRE_VALUE,
     11,
     {3, 3, 0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}},
    {"CREDIT, raw", -ERR_WIRE_VALUE, 12, {4, 3, ABOVE, 0}},
    {"CREDIT, cost", -ERR_WIRE_VALUE, 12, {4, 3, 0, ABOVE}},
    {"FIN", -ERR_WIRE_VALUE, 11, {5, 3, ABOVE}},
    {"RST, final", -ERR_WIRE_VALUE, 13, {6, 3, 0, 0, ABOVE}},
    {"RST, answer", -ERR_WIRE_VALUE, 5, {6, 3, 0, 2, 0}},
    {"a token of 65 bits", -ERR_WIRE_VALUE, 11, {7, ONES, ONES, 0xff, 2}},
};

START_TEST(test_refused)
{
    uint8_t *exact = malloc(refused[_i].len);
    struct frame got;
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, refused[_i].wire, refused[_i].len);
    struct cursor block = cursor_over(exact, refused[_i].len);
    int err = frame_next(&block, &got);
    ck_assert_msg(err == refused[_i].err, "%s: %s (%d)", refused[_i].what, err_text(err), err);
    ck_assert_int_eq(frame_next(&block, &got), err);
    free(exact);
}
END_TEST

START_TEST(test_reasons)
{
    uint8_t wire[] = {6, 3, 0, 0, 0};
    for (unsigned byte = 0; byte < 256; byte++) {
        struct frame got;
        wire[2] = (uint8_t)byte;
        struct cursor block = cursor_over(wire, sizeof(wire));
        ck_assert_int_eq(frame_next(&block, &got), 1);
        ck_assert_uint_eq((unsigned)got.rst.reason, byte <= FRAME_RST_SOURCE ? byte : FRAME_RST_OTHER);
        ck_assert_ptr_nonnull(frame_rst_text(got.rst.reason));
    }
    ck_assert_str_eq(frame_rst_text(FRAME_RST_REFUSED), "the destination refused the connection");
    ck_assert_str_eq(frame_rst_text((enum frame_rst_reason)200), frame_rst_text(FRAME_RST_OTHER));
}
END_TEST

/* A user's class name may be anything; the peer must still take the OPEN. */
START_TEST(test_any_class_name_can_be_sent)
{
    struct frame f = frames[0], got;
    f.open.class_name = "a\xff\nb";
    f.open.class_len = 4;
    size_t len;
    uint8_t *wire = put(&f, &len);
    struct cursor block = cursor_over(wire, len);
    ck_assert_int_eq(frame_next(&block, &got), 1);
    ck_assert_uint_eq(got.open.class_len, 4);
    ck_assert_mem_eq(got.open.class_name, "a??b", 4);
    free(wire);
}
END_TEST

static const struct {
    int err;
    uint32_t payload_bytes;
    uint8_t wire[BLOCK_HEADER_BYTES];
} headers[] = {
    {0, 1, {0, 0, 0, 1}},
    {0, 0x1234, {0, 0, 0x12, 0x34}},
    {0, BLOCK_PAYLOAD_MAX, {0, 1, 0, 0}},
    {-ERR_WIRE_VALUE, 0, {0, 0, 0, 0}},
    {-ERR_WIRE_LONG, 0, {0, 1, 0, 1}},
    {-ERR_WIRE_LONG, 0, {0, 0xff, 0xff, 0xff}},
    {0, 1, {1, 0, 0, 1}},
    {0, BLOCK_PAYLOAD_MAX, {1, 1, 0, 0}},
    {-ERR_WIRE_LONG, 0, {1, 1, 0, 1}},
    {-ERR_WIRE_VALUE, 0, {1, 0, 0, 0}},
    {-ERR_WIRE_UNKNOWN, 0, {2, 0, 0, 1}},
    {-ERR_WIRE_UNKNOWN, 0, {0xff, 0xff, 0xff, 0xff}},
};

START_TEST(test_block_header)
{
    enum block_kind kind = (enum block_kind)77;
    uint32_t payload_bytes = 77;
    uint8_t *exact = malloc(BLOCK_HEADER_BYTES), again[BLOCK_HEADER_BYTES];
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, headers[_i].wire, BLOCK_HEADER_BYTES);
    ck_assert_int_eq(block_header_get(exact, &kind, &payload_bytes), headers[_i].err);
    if (headers[_i].err == 0) {
        ck_assert_int_eq((int)kind, headers[_i].wire[0]);
        ck_assert_uint_eq(payload_bytes, headers[_i].payload_bytes);
        block_header_put(again, kind, payload_bytes);
        ck_assert_mem_eq(again, exact, BLOCK_HEADER_BYTES);
    } else {
        ck_assert_uint_eq(payload_bytes, 77);
        ck_assert_int_eq((int)kind, 77);
    }
    free(exact);
}
END_TEST

static void check_document(const char *name, const struct frame *list, size_t count)
{
    uint8_t wire[256], expected[256];
    size_t expected_len = document_hex(name, expected, sizeof(expected));
    struct cursor_out out = cursor_out_over(wire + BLOCK_HEADER_BYTES, sizeof(wire) - BLOCK_HEADER_BYTES);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(frame_put(&out, &list[i]), 0);
    size_t len = (size_t)(out.at - wire);
    block_header_put(wire, BLOCK_RAW, (uint32_t)(len - BLOCK_HEADER_BYTES));
    ck_assert_uint_eq(len, expected_len);
    ck_assert_mem_eq(wire, expected, len);
}

START_TEST(test_document_s_examples)
{
    static const struct frame near[] = {
        {.type = FRAME_OPEN,
         .session = 3,
         .open = {.client = V4(10, 1, 0, 2, 40000),
                  .server = V4(10, 2, 0, 80, 80),
                  .class_name = "web",
                  .class_len = 3,
                  .raw_limit = 134217728,
                  .cost_limit = 4194304}},
        {.type = FRAME_DATA,
         .session = 3,
         .data = {.bytes = (const uint8_t *)"GET / HTTP/1.0\r\n\r\n", .len = 18}},
        {.type = FRAME_FIN, .session = 3, .fin = {.final = 18}},
        {.type = FRAME_PING, .ping = {.token = 300}},
    };
    static const struct frame far[] = {
        {.type = FRAME_PONG, .ping = {.token = 300}},
        {.type = FRAME_CREDIT, .session = 3, .credit = {.raw_limit = 134217746, .cost_limit = 4194322}},
        {.type = FRAME_ACK, .session = 3, .ack = {.offset = 19}},
        {.type = FRAME_DATA,
         .session = 3,
         .data = {.bytes = (const uint8_t *)"HTTP/1.0 200 OK\r\n\r\n", .len = 19}},
        {.type = FRAME_RST, .session = 3, .rst = {.reason = FRAME_RST_BY_HOST, .final = 19}},
    };
    check_document("near", near, sizeof(near) / sizeof(near[0]));
    check_document("far", far, sizeof(far) / sizeof(far[0]));
}
END_TEST

int main(void)
{
    fill_long_data();
    Suite *suite = suite_create("frame");
    TCase *frame = tcase_create("frame");
    tcase_add_loop_test(frame, test_round_trip, 0, FRAMES);
    tcase_add_loop_test(frame, test_each_cut_is_refused, 0, FRAMES);
    tcase_add_loop_test(frame, test_no_room_writes_nothing, 0, FRAMES);
    tcase_add_test(frame, test_many_frames_in_a_block);
    tcase_add_loop_test(frame, test_put_data_leaves_the_copying_to_the_caller, 4, 6);
    tcase_add_loop_test(frame, test_refused, 0, (int)(sizeof(refused) / sizeof(refused[0])));
    tcase_add_test(frame, test_reasons);
    tcase_add_test(frame, test_any_class_name_can_be_sent);
    tcase_add_loop_test(frame, test_block_header, 0, (int)(sizeof(headers) / sizeof(headers[0])));
    tcase_add_test(frame, test_document_s_examples);
    suite_add_tcase(suite, frame);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
