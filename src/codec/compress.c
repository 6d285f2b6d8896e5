#include "hawser/compress.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

/* The payload of a compressed block is a varint, the decoded length, and the piece of the stream that decodes
 * to it. The length stands in front so that the receiver can refuse before it decodes, and take memory for
 * just that much. */

enum {
    LENGTH_BYTES_MAX = 3, /* a varint of at most 65536 */
    FRAME_HEADER_BYTES_MAX = 18,
    SPARE_MAX = 4,
    SPARE_BYTES_MAX = 4 << 20, /* a context of a high level is larger, and not kept */
    SAMPLES = 16,
    SAMPLE_LEAST_BYTES = 512,
    FREE_LEVELS = 2, /* levels up to this choose a window below COMPRESS_WINDOW_LOG themselves */
};

static_assert(LENGTH_BYTES_MAX + FRAME_HEADER_BYTES_MAX + ZSTD_COMPRESSBOUND(COMPRESS_INPUT_MAX) <=
                  BLOCK_PAYLOAD_MAX,
              "a block that cannot be compressed must fit all the same");

struct compressor {
    ZSTD_CCtx *zstd;
    struct compressor *next_spare;
    size_t counted; /* in bytes_total */
    int level;
    bool open;
};

struct decompressor {
    ZSTD_DCtx *zstd;
    struct decompressor *next_spare;
    size_t counted;
    bool open;
};

static _Thread_local struct {
    struct compressor *out;
    struct decompressor *in;
    unsigned out_count, in_count;
} spare;

static _Atomic uint64_t bytes_total;
static _Atomic uint64_t bytes_cap = UINT64_MAX;

/* A context grows when a frame begins. */
static void count_bytes(size_t *counted, size_t now)
{
    atomic_fetch_add_explicit(&bytes_total, (uint64_t)now - *counted, memory_order_relaxed);
    *counted = now;
}

uint64_t compress_bytes_total(void)
{
    return atomic_load_explicit(&bytes_total, memory_order_relaxed);
}

void compress_set_cap(uint64_t bytes)
{
    atomic_store_explicit(&bytes_cap, bytes, memory_order_relaxed);
}

/* ---- worth it? ---- */

/* Of n random bytes the sum of squares is n, plus n (n - 1) / 256 for pairs that are equal by chance: what
 * counts is by how much the pairs exceed that. A quarter more is 0.32 bits a byte. */
bool compress_is_worth(const uint8_t *bytes, size_t len)
{
    if (len < SAMPLE_LEAST_BYTES)
        return true;
    uint16_t counts[256] = {0};
    size_t piece = COMPRESS_SAMPLE_BYTES / SAMPLES, pieces = SAMPLES;
    if (len < COMPRESS_SAMPLE_BYTES)
        pieces = len / piece;
    for (size_t i = 0; i < pieces; i++) {
        const uint8_t *at = bytes + i * (len - piece) / (pieces - 1);
        for (size_t j = 0; j < piece; j++)
            counts[at[j]]++;
    }
    uint64_t n = pieces * piece, squares = 0;
    for (size_t i = 0; i < 256; i++)
        squares += (uint64_t)counts[i] * counts[i];
    return (squares - n) * 256 * 4 > n * (n - 1) * 5;
}

/* ---- out ---- */

static void compressor_free(struct compressor *c)
{
    count_bytes(&c->counted, 0);
    ZSTD_freeCCtx(c->zstd);
    free(c);
}

static struct compressor *compressor_new(void)
{
    struct compressor *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return NULL;
    c->zstd = ZSTD_createCCtx();
    if (c->zstd == NULL) {
        free(c);
        return NULL;
    }
    return c;
}

struct compressor *compressor_take(int level)
{
    assert(level >= COMPRESS_LEVEL_MIN && level <= COMPRESS_LEVEL_MAX);
    struct compressor *c = spare.out;
    if (c != NULL) {
        spare.out = c->next_spare;
        spare.out_count--;
    } else if (compress_bytes_total() < atomic_load_explicit(&bytes_cap, memory_order_relaxed)) {
        c = compressor_new();
    }
    if (c == NULL)
        return NULL;
    c->level = level;
    c->open = false;
    ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_windowLog, level <= FREE_LEVELS ? 0 : COMPRESS_WINDOW_LOG);
    return c;
}

int compressor_level(const struct compressor *c)
{
    return c->level;
}

bool compressor_is_open(const struct compressor *c)
{
    return c->open;
}

static int error_of(size_t zstd_result)
{
    return ZSTD_getErrorCode(zstd_result) == ZSTD_error_memory_allocation ? -ENOMEM : -ERR_COMPRESSED;
}

int compressor_put(struct compressor *c, uint8_t out[static BLOCK_PAYLOAD_MAX], const uint8_t *bytes,
                   size_t len, bool last)
{
    assert(len <= COMPRESS_INPUT_MAX && (len > 0 || (last && c->open)));
    struct cursor_out payload = cursor_out_over(out, BLOCK_PAYLOAD_MAX);
    cursor_put_varint(&payload, len);
    ZSTD_inBuffer from = {bytes, len, 0};
    ZSTD_outBuffer to = {payload.at, cursor_out_left(&payload), 0};
    size_t left = ZSTD_compressStream2(c->zstd, &to, &from, last ? ZSTD_e_end : ZSTD_e_flush);
    if (ZSTD_isError(left))
        return error_of(left);
    if (left > 0)
        return -ERR_COMPRESSED; /* the bound above does not hold */
    if (!c->open)
        count_bytes(&c->counted, ZSTD_sizeof_CCtx(c->zstd));
    c->open = !last;
    return (int)(payload.at + to.pos - out);
}

void compressor_give(struct compressor *c)
{
    if (c == NULL)
        return;
    ZSTD_CCtx_reset(c->zstd, ZSTD_reset_session_only);
    if (spare.out_count >= SPARE_MAX || c->counted > SPARE_BYTES_MAX) {
        compressor_free(c);
        return;
    }
    c->next_spare = spare.out;
    spare.out = c;
    spare.out_count++;
}

/* ---- in ---- */

int compress_payload_get(const uint8_t *payload, size_t len, uint32_t *decoded_len, const uint8_t **piece,
                         size_t *piece_len)
{
    struct cursor c = cursor_over(payload, len);
    uint64_t claimed = cursor_varint(&c);
    if (c.err != 0)
        return c.err;
    if (claimed > BLOCK_PAYLOAD_MAX)
        return -ERR_WIRE_LONG;
    if (cursor_left(&c) == 0)
        return -ERR_WIRE_SHORT;
    *decoded_len = (uint32_t)claimed;
    *piece = c.at;
    *piece_len = cursor_left(&c);
    return 0;
}

static void decompressor_free(struct decompressor *d)
{
    count_bytes(&d->counted, 0);
    ZSTD_freeDCtx(d->zstd);
    free(d);
}

static struct decompressor *decompressor_new(void)
{
    struct decompressor *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    d->zstd = ZSTD_createDCtx();
    if (d->zstd == NULL) {
        free(d);
        return NULL;
    }
    ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, COMPRESS_WINDOW_LOG);
    return d;
}

struct decompressor *decompressor_take(void)
{
    struct decompressor *d = spare.in;
    if (d == NULL)
        return decompressor_new();
    spare.in = d->next_spare;
    spare.in_count--;
    d->open = false;
    return d;
}

/* The library would also read frames of its old formats, and skip skippable ones: neither is ours. */
static bool begins_a_frame(const uint8_t *piece, size_t len)
{
    static const uint8_t magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    return len > sizeof(magic) && memcmp(piece, magic, sizeof(magic)) == 0;
}

/* Decoded bytes that have found no room in the output wait in the context: one more would come out. */
static bool has_more(struct decompressor *d)
{
    uint8_t extra;
    ZSTD_inBuffer none = {&extra, 0, 0};
    ZSTD_outBuffer to = {&extra, 1, 0};
    size_t left = ZSTD_decompressStream(d->zstd, &to, &none);
    return ZSTD_isError(left) || to.pos > 0;
}

int decompressor_get(struct decompressor *d, uint8_t *out, size_t out_len, const uint8_t *piece,
                     size_t piece_len)
{
    assert(piece_len > 0);
    bool begins = !d->open;
    if (begins && !begins_a_frame(piece, piece_len))
        return -ERR_COMPRESSED;
    d->open = true;
    ZSTD_inBuffer from = {piece, piece_len, 0};
    ZSTD_outBuffer to = {out, out_len, 0};
    size_t left = 1;
    while (from.pos < from.size && left > 0) {
        size_t in_was = from.pos, out_was = to.pos;
        left = ZSTD_decompressStream(d->zstd, &to, &from);
        if (ZSTD_isError(left))
            return error_of(left);
        if (from.pos == in_was && to.pos == out_was)
            return -ERR_COMPRESSED; /* more comes out than was said */
    }
    if (begins)
        count_bytes(&d->counted, ZSTD_sizeof_DCtx(d->zstd));
    bool ended = left == 0;
    if (from.pos < from.size || to.pos < to.size || (!ended && (out_len == 0 || has_more(d))))
        return -ERR_COMPRESSED;
    d->open = !ended;
    return ended;
}

void decompressor_give(struct decompressor *d)
{
    if (d == NULL)
        return;
    ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only);
    if (spare.in_count >= SPARE_MAX) {
        decompressor_free(d);
        return;
    }
    d->next_spare = spare.in;
    spare.in = d;
    spare.in_count++;
}

void compress_thread_end(void)
{
    while (spare.out != NULL) {
        struct compressor *c = spare.out;
        spare.out = c->next_spare;
        compressor_free(c);
    }
    while (spare.in != NULL) {
        struct decompressor *d = spare.in;
        spare.in = d->next_spare;
        decompressor_free(d);
    }
    spare.out_count = spare.in_count = 0;
}
