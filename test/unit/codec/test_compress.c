/* Blocks through the stream and back, and everything that a stream must not do. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "codec/document.h"
#include "hawser/compress.h"

static uint64_t state;

static uint8_t random_byte(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(state >> 56);
}

static void fill_random(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = random_byte();
}

/* Words of a small vocabulary. */
static void fill_text(uint8_t *bytes, size_t len)
{
    static const char *const words[] = {"lane ",  "tunnel ",  "block ", "stream ", "frame\n", "session ",
                                        "peer, ", "window; ", "bytes ", "of ",     "the ",    "level "};
    for (size_t i = 0; i < len;) {
        const char *word = words[random_byte() % (sizeof(words) / sizeof(words[0]))];
        for (; *word != '\0' && i < len; i++)
            bytes[i] = (uint8_t)*word++;
    }
}

struct pair {
    struct compressor *out;
    struct decompressor *in;
};

static struct pair pair_new(int level)
{
    state = 1;
    struct pair p = {.out = compressor_take(level), .in = decompressor_take()};
    ck_assert_ptr_nonnull(p.out);
    ck_assert_ptr_nonnull(p.in);
    return p;
}

static void pair_free(struct pair *p)
{
    compressor_give(p->out);
    decompressor_give(p->in);
    compress_thread_end();
    ck_assert_uint_eq(compress_bytes_total(), 0);
}

/* The payload in a heap block of exactly its size. */
static uint8_t *exactly(const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc(len);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, bytes, len);
    return exact;
}

/* Decode a payload; decompressor_get's result, or compress_payload_get's error. */
static int decode(struct decompressor *d, const uint8_t *payload, size_t len, uint8_t **out,
                  uint32_t *out_len)
{
    const uint8_t *piece;
    size_t piece_len;
    uint8_t *exact = exactly(payload, len);
    int err = compress_payload_get(exact, len, out_len, &piece, &piece_len);
    *out = NULL;
    if (err == 0) {
        *out = malloc(*out_len > 0 ? *out_len : 1);
        ck_assert_ptr_nonnull(*out);
        err = decompressor_get(d, *out, *out_len, piece, piece_len);
    }
    free(exact);
    return err;
}

/* One block there and back; the payload's length. */
static int carry(struct pair *p, const uint8_t *bytes, size_t len, bool last)
{
    static uint8_t payload[BLOCK_PAYLOAD_MAX];
    uint8_t *back;
    uint32_t back_len;
    int n = compressor_put(p->out, payload, bytes, len, last);
    ck_assert_int_gt(n, 0);
    ck_assert_int_le(n, BLOCK_PAYLOAD_MAX);
    ck_assert_int_eq(compressor_is_open(p->out), !last);
    ck_assert_int_eq(decode(p->in, payload, (size_t)n, &back, &back_len), last);
    ck_assert_uint_eq(back_len, len);
    ck_assert(len == 0 || memcmp(back, bytes, len) == 0);
    free(back);
    return n;
}

static const size_t sizes[] = {1, 2, 127, 511, 512, 1023, 1024, 1350, 16380, 65000, COMPRESS_INPUT_MAX};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

START_TEST(test_blocks_come_back)
{
    struct pair p = pair_new(_i);
    uint8_t *bytes = malloc(COMPRESS_INPUT_MAX);
    for (size_t i = 0; i < 2 * SIZES; i++) {
        fill_text(bytes, sizes[i % SIZES]);
        carry(&p, bytes, sizes[i % SIZES], i == SIZES);
        fill_random(bytes, sizes[i % SIZES]);
        carry(&p, bytes, sizes[i % SIZES], false);
        memset(bytes, 0, sizes[i % SIZES]);
        carry(&p, bytes, sizes[i % SIZES], false);
    }
    carry(&p, bytes, 0, true);
    free(bytes);
    pair_free(&p);
}
END_TEST

/* What cannot be compressed costs next to nothing, in the first block of a frame and the later ones. */
START_TEST(test_random_bytes_fit)
{
    struct pair p = pair_new(_i);
    uint8_t *bytes = malloc(COMPRESS_INPUT_MAX);
    for (int i = 0; i < 3; i++) {
        fill_random(bytes, COMPRESS_INPUT_MAX);
        ck_assert_int_le(carry(&p, bytes, COMPRESS_INPUT_MAX, i == 2), COMPRESS_INPUT_MAX + 32);
    }
    free(bytes);
    pair_free(&p);
}
END_TEST

START_TEST(test_later_blocks_refer_to_earlier_ones)
{
    struct pair p = pair_new(1);
    uint8_t bytes[8000];
    fill_random(bytes, sizeof(bytes));
    ck_assert_int_gt(carry(&p, bytes, sizeof(bytes), false), 7900);
    ck_assert_int_lt(carry(&p, bytes, sizeof(bytes), false), 100);
    pair_free(&p);
}
END_TEST

START_TEST(test_a_level_changes_between_frames)
{
    struct pair p = pair_new(1);
    uint8_t bytes[20000];
    static const int levels[] = {1, 6, 3, 19, 1};
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        compressor_give(p.out);
        p.out = compressor_take(levels[i]);
        ck_assert_int_eq(compressor_level(p.out), levels[i]);
        fill_text(bytes, sizeof(bytes));
        carry(&p, bytes, sizeof(bytes), false);
        carry(&p, bytes, sizeof(bytes), false);
        carry(&p, bytes, 0, true);
    }
    pair_free(&p);
}
END_TEST

/* An idle lane's contexts serve another one; what they held is forgotten, also when the frame never ended. */
START_TEST(test_contexts_go_back_to_the_pool)
{
    struct pair p = pair_new(1);
    uint8_t bytes[8000];
    fill_random(bytes, sizeof(bytes));
    carry(&p, bytes, sizeof(bytes), false);
    const struct compressor *out = p.out;
    const struct decompressor *in = p.in;
    for (int i = 0; i < 3; i++) {
        compressor_give(p.out);
        decompressor_give(p.in);
        p.out = compressor_take(1);
        p.in = decompressor_take();
        ck_assert_ptr_eq(p.out, out);
        ck_assert_ptr_eq(p.in, in);
        ck_assert(!compressor_is_open(p.out));
        ck_assert_int_gt(carry(&p, bytes, sizeof(bytes), false), 7900);
    }
    ck_assert_uint_gt(compress_bytes_total(), 1 << 20);
    ck_assert_uint_lt(compress_bytes_total(), 3 << 20);
    pair_free(&p);
}
END_TEST

/* More are given back than the pool keeps, and some that are too large for it. */
START_TEST(test_the_pool_is_bounded)
{
    struct compressor *out[12];
    struct decompressor *in[12];
    uint8_t payload[BLOCK_PAYLOAD_MAX], bytes[1000] = {0};
    for (int i = 0; i < 12; i++) {
        out[i] = compressor_take(i == 0 ? 19 : 1);
        in[i] = decompressor_take();
        ck_assert_int_gt(compressor_put(out[i], payload, bytes, sizeof(bytes), false), 0);
    }
    ck_assert_uint_gt(compress_bytes_total(), 30 << 20);
    for (int i = 0; i < 12; i++) {
        compressor_give(out[i]);
        decompressor_give(in[i]);
    }
    ck_assert_uint_lt(compress_bytes_total(), 8 << 20);
    compressor_give(NULL);
    decompressor_give(NULL);
    compress_thread_end();
}
END_TEST

/* What an encoder makes of bytes differs from one version of the library to the next; what it means does not.
 */
START_TEST(test_document_s_example)
{
    uint8_t wire[256], *frames;
    uint32_t len, payload_len;
    enum block_kind kind;
    size_t wire_len = document_hex("zstd", wire, sizeof(wire)), at = 0;
    struct decompressor *d = decompressor_take();
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_le(at + BLOCK_HEADER_BYTES, wire_len);
        ck_assert_int_eq(block_header_get(wire + at, &kind, &payload_len), 0);
        ck_assert_int_eq((int)kind, (int)BLOCK_ZSTD);
        at += BLOCK_HEADER_BYTES;
        ck_assert_uint_le(at + payload_len, wire_len);
        ck_assert_int_eq(decode(d, wire + at, payload_len, &frames, &len), i == 2);
        at += payload_len;
        struct cursor c = cursor_over(frames, len);
        struct frame f;
        ck_assert_int_eq(frame_next(&c, &f), i < 2);
        for (size_t j = 0; i < 2 && j < f.data.len; j++)
            ck_assert_int_eq(f.data.bytes[j], "hawser "[j % 7]);
        if (i < 2) {
            ck_assert_int_eq((int)f.type, (int)FRAME_DATA);
            ck_assert_uint_eq(f.session, 3);
            ck_assert_uint_eq(f.data.offset, i * 140);
            ck_assert_uint_eq(f.data.len, 140);
            ck_assert_int_eq(frame_next(&c, &f), 0);
        }
        free(frames);
    }
    ck_assert_uint_eq(at, wire_len);
    decompressor_give(d);
    compress_thread_end();
}
END_TEST

START_TEST(test_memory_is_capped)
{
    struct compressor *out[12];
    uint8_t payload[BLOCK_PAYLOAD_MAX], bytes[1000] = {0};
    int made = 0;
    compress_set_cap(5 << 20);
    while (made < 12 && (out[made] = compressor_take(1)) != NULL)
        ck_assert_int_gt(compressor_put(out[made++], payload, bytes, sizeof(bytes), false), 0);
    ck_assert_int_ge(made, 3);
    ck_assert_int_lt(made, 12);
    compressor_give(out[0]); /* one in the pool may be had again */
    out[0] = compressor_take(1);
    ck_assert_ptr_nonnull(out[0]);
    ck_assert_ptr_null(compressor_take(1));
    for (int i = 0; i < made; i++)
        compressor_give(out[i]);
    compress_thread_end();
    ck_assert_uint_eq(compress_bytes_total(), 0);
    compress_set_cap(UINT64_MAX);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(test_each_prefix_is_refused)
{
    struct pair p = pair_new(1);
    uint8_t bytes[600], payload[BLOCK_PAYLOAD_MAX];
    fill_text(bytes, sizeof(bytes));
    int n = compressor_put(p.out, payload, bytes, sizeof(bytes), _i == 1);
    for (int len = 0; len <= n; len++) {
        struct decompressor *d = decompressor_take();
        uint8_t *back;
        uint32_t back_len;
        int got = decode(d, payload, (size_t)len, &back, &back_len);
        if (len < n)
            ck_assert_int_lt(got, 0);
        else
            ck_assert_int_eq(got, _i);
        free(back);
        decompressor_give(d);
    }
    pair_free(&p);
}
END_TEST

/* Any byte may be wrong: then the block is refused, or decodes to no more than it says. */
START_TEST(test_each_byte_flipped)
{
    struct pair p = pair_new(1);
    uint8_t bytes[600], payload[BLOCK_PAYLOAD_MAX];
    fill_text(bytes, sizeof(bytes));
    int n = compressor_put(p.out, payload, bytes, sizeof(bytes), false), refused = 0;
    for (int at = 0; at < n; at++) {
        for (int bit = 0; bit < 8; bit++) {
            struct decompressor *d = decompressor_take();
            uint8_t *back;
            uint32_t back_len;
            payload[at] ^= (uint8_t)(1 << bit);
            refused += decode(d, payload, (size_t)n, &back, &back_len) < 0;
            payload[at] ^= (uint8_t)(1 << bit);
            free(back);
            decompressor_give(d);
        }
    }
    ck_assert_int_gt(refused, n); /* the header's bytes at least, and most of the entropy tables */
    pair_free(&p);
}
END_TEST

/* The payload says 600 bytes; what if it said another length? */
START_TEST(test_another_length_is_refused)
{
    static const uint32_t said[] = {0, 1, 599, 601, 65536};
    struct pair p = pair_new(1);
    uint8_t bytes[600], payload[BLOCK_PAYLOAD_MAX], *back = malloc(BLOCK_PAYLOAD_MAX);
    fill_text(bytes, sizeof(bytes));
    int n = compressor_put(p.out, payload, bytes, sizeof(bytes), _i == 1);
    for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
        struct decompressor *d = decompressor_take();
        uint8_t *room = malloc(said[i] > 0 ? said[i] : 1);
        ck_assert_int_eq(decompressor_get(d, room, said[i], payload + 2, (size_t)n - 2), -ERR_COMPRESSED);
        free(room);
        decompressor_give(d);
    }
    free(back);
    pair_free(&p);
}
END_TEST

START_TEST(test_lengths_are_bounded_before_decoding)
{
    static const struct {
        uint8_t bytes[5];
        size_t len;
        int err;
    } payloads[] = {
        {{0x80, 0x80, 0x04, 0x28}, 4, 0},              /* 65536 */
        {{0x81, 0x80, 0x04, 0x28}, 4, -ERR_WIRE_LONG}, /* 65537 */
        {{0x80, 0x80, 0x04}, 3, -ERR_WIRE_SHORT},      /* and no piece */
        {{0x80, 0x80}, 2, -ERR_WIRE_SHORT},            /* no end of the length */
        {{0x80, 0x00, 0x28}, 3, -ERR_WIRE_VALUE},      /* not its shortest form */
        {{0xff, 0xff, 0xff, 0x7f, 0}, 5, -ERR_WIRE_LONG},
        {{0}, 1, -ERR_WIRE_SHORT},
    };
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        uint32_t decoded_len;
        const uint8_t *piece;
        size_t piece_len;
        uint8_t *exact = exactly(payloads[i].bytes, payloads[i].len);
        int got = compress_payload_get(exact, payloads[i].len, &decoded_len, &piece, &piece_len);
        ck_assert_msg(got == payloads[i].err, "payload %zu: %d", i, got);
        free(exact);
    }
}
END_TEST

/* Streams that the library would decode, but PROTOCOL.md does not allow. */
static void refuse(const uint8_t *piece, size_t len, size_t out_len, const char *what)
{
    struct decompressor *d = decompressor_take();
    uint8_t *out = malloc(out_len > 0 ? out_len : 1), *exact = exactly(piece, len);
    int got = decompressor_get(d, out, out_len, exact, len);
    ck_assert_msg(got == -ERR_COMPRESSED, "%s: %d", what, got);
    free(out);
    free(exact);
    decompressor_give(d);
}

static size_t frame_with(ZSTD_cParameter parameter, int value, uint8_t *out, size_t room)
{
    static const uint8_t bytes[100];
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
    ck_assert(!ZSTD_isError(ZSTD_CCtx_setParameter(c, parameter, value)));
    ZSTD_inBuffer from = {bytes, sizeof(bytes), 0};
    ZSTD_outBuffer to = {out, room, 0};
    ck_assert_uint_eq(ZSTD_compressStream2(c, &to, &from, ZSTD_e_flush), 0);
    ck_assert_uint_eq(ZSTD_compressStream2(c, &to, &from, ZSTD_e_end), 0);
    ZSTD_freeCCtx(c);
    return to.pos;
}

START_TEST(test_other_streams_are_refused)
{
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'};
    static const uint8_t old_format[] = {0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0};
    uint8_t frames[1000];
    refuse(skippable, sizeof(skippable), 0, "a skippable frame");
    refuse(old_format, sizeof(old_format), 1, "a frame of zstd 0.7");
    size_t len = frame_with(ZSTD_c_windowLog, COMPRESS_WINDOW_LOG + 1, frames, sizeof(frames));
    refuse(frames, len, 100, "a window of 4 MB");
    len = frame_with(ZSTD_c_windowLog, COMPRESS_WINDOW_LOG, frames, sizeof(frames));
    refuse(frames, len - 1, 0, "nothing decoded, nothing ended");
    memcpy(frames + len, frames, len);
    refuse(frames, 2 * len, 200, "two frames in one payload");
    refuse(frames, len + 1, 100, "a byte behind the frame's end");
    compress_thread_end();
}
END_TEST

START_TEST(test_the_largest_window_is_taken)
{
    uint8_t frame[1000], out[100];
    size_t len = frame_with(ZSTD_c_windowLog, COMPRESS_WINDOW_LOG, frame, sizeof(frame));
    struct decompressor *d = decompressor_take();
    ck_assert_int_eq(decompressor_get(d, out, sizeof(out), frame, len), 1);
    ck_assert_uint_gt(compress_bytes_total(), 2 << 20);
    ck_assert_uint_lt(compress_bytes_total(), 5 << 19);
    decompressor_give(d);
    compress_thread_end();
}
END_TEST

/* After a frame's end the next block must begin one. */
START_TEST(test_a_frame_begins_with_its_magic)
{
    struct pair p = pair_new(1);
    uint8_t bytes[600], payload[BLOCK_PAYLOAD_MAX], *back;
    uint32_t back_len;
    fill_text(bytes, sizeof(bytes));
    carry(&p, bytes, sizeof(bytes), false);
    carry(&p, bytes, sizeof(bytes), false);
    int n = compressor_put(p.out, payload, bytes, sizeof(bytes), false);
    decompressor_give(p.in);
    p.in = decompressor_take();
    ck_assert_int_eq(decode(p.in, payload, (size_t)n, &back, &back_len), -ERR_COMPRESSED);
    free(back);
    pair_free(&p);
}
END_TEST

/* ---- worth it? ---- */

START_TEST(test_what_is_worth_it)
{
    state = 7;
    for (size_t i = 0; i < SIZES; i++) {
        uint8_t *bytes = malloc(sizes[i]);
        for (int turn = 0; turn < 50; turn++) {
            fill_random(bytes, sizes[i]);
            ck_assert_msg(compress_is_worth(bytes, sizes[i]) == (sizes[i] < 512), "random, %zu", sizes[i]);
            fill_text(bytes, sizes[i]);
            ck_assert_msg(compress_is_worth(bytes, sizes[i]), "text, %zu", sizes[i]);
            for (size_t j = 0; j < sizes[i]; j++) /* as in base64: of 8 bits two are always the same */
                bytes[j] = random_byte() & 0x3f;
            ck_assert_msg(compress_is_worth(bytes, sizes[i]), "64 values, %zu", sizes[i]);
            memset(bytes, 0, sizes[i]);
            ck_assert_msg(compress_is_worth(bytes, sizes[i]), "zeros, %zu", sizes[i]);
        }
        free(bytes);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compress");
    TCase *stream = tcase_create("stream");
    tcase_set_timeout(stream, 60);
    tcase_add_loop_test(stream, test_blocks_come_back, COMPRESS_LEVEL_MIN, COMPRESS_LEVEL_MAX + 1);
    tcase_add_loop_test(stream, test_random_bytes_fit, COMPRESS_LEVEL_MIN, COMPRESS_LEVEL_MAX + 1);
    tcase_add_test(stream, test_later_blocks_refer_to_earlier_ones);
    tcase_add_test(stream, test_a_level_changes_between_frames);
    tcase_add_test(stream, test_contexts_go_back_to_the_pool);
    tcase_add_test(stream, test_the_pool_is_bounded);
    tcase_add_test(stream, test_memory_is_capped);
    tcase_add_test(stream, test_document_s_example);
    suite_add_tcase(suite, stream);
    TCase *refused = tcase_create("refused");
    tcase_add_loop_test(refused, test_each_prefix_is_refused, 0, 2);
    tcase_add_test(refused, test_each_byte_flipped);
    tcase_add_loop_test(refused, test_another_length_is_refused, 0, 2);
    tcase_add_test(refused, test_lengths_are_bounded_before_decoding);
    tcase_add_test(refused, test_other_streams_are_refused);
    tcase_add_test(refused, test_the_largest_window_is_taken);
    tcase_add_test(refused, test_a_frame_begins_with_its_magic);
    suite_add_tcase(suite, refused);
    TCase *worth = tcase_create("worth");
    tcase_add_test(worth, test_what_is_worth_it);
    suite_add_tcase(suite, worth);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
