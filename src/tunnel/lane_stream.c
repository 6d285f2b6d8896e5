#include "lane_stream.h"

#include <errno.h>
#include <string.h>

enum {
    LEAST_BYTES = 128,        /* of frames; fewer are not worth a context */
    LEVEL_STAYS_US = 1000000, /* two classes that want different levels must not end a frame each turn */
    GAIN_LEAST_BYTES = 1024,  /* of frames; fewer say nothing about the next block */
    GAIN_MAX = 8,             /* blocks of zeros say little either */
    BLOCK_BYTES_MAX = BLOCK_HEADER_BYTES + BLOCK_PAYLOAD_MAX,
};

/* The end of a frame, and the block that begins the next one. */
static _Thread_local uint8_t packed[2 * BLOCK_BYTES_MAX];

void lane_stream_init(struct lane_stream *s)
{
    memset(s, 0, sizeof(*s));
    s->gain = LANE_GAIN_ONE;
}

void lane_stream_rest(struct lane_stream *s)
{
    chunk_unref(s->decoded);
    s->decoded = NULL;
    s->decoded_fill = 0;
}

void lane_stream_free(struct lane_stream *s)
{
    lane_stream_rest(s);
    compressor_give(s->out);
    decompressor_give(s->in);
    s->out = NULL;
    s->in = NULL;
}

/* ---- out ---- */

/* A block into `to`; its length with the header, or a negative error. */
static int put_block(struct compressor *c, uint8_t *to, const uint8_t *frames, uint32_t len, bool last)
{
    int n = compressor_put(c, to + BLOCK_HEADER_BYTES, frames, len, last);
    if (n < 0)
        return n;
    block_header_put(to, BLOCK_ZSTD, (uint32_t)n);
    return BLOCK_HEADER_BYTES + n;
}

/* The block that ends the frame, if one is open; the context goes back. */
static int put_end(struct lane_stream *s, uint8_t *to)
{
    int n = compressor_is_open(s->out) ? put_block(s->out, to, NULL, 0, true) : 0;
    compressor_give(s->out);
    s->out = NULL;
    return n;
}

int lane_stream_end(struct lane_stream *s, uint64_t now_us, uint64_t idle_us, const uint8_t **wire)
{
    if (s->out == NULL || now_us - s->used_us < idle_us)
        return 0;
    *wire = packed;
    return put_end(s, packed);
}

/* A compressor of that level, unless the frame that is open is too young to end; `ended` is the length of the
 * block that ends it. NULL when memory is out. */
static struct compressor *take_level(struct lane_stream *s, int level, uint64_t now_us, int *ended)
{
    *ended = 0;
    if (s->out != NULL && compressor_level(s->out) != level && now_us - s->began_us >= LEVEL_STAYS_US)
        *ended = put_end(s, packed);
    if (s->out == NULL) {
        s->out = compressor_take(level);
        s->began_us = now_us;
    }
    return s->out;
}

/* Falls at once and rises slowly: a large block that turns out raw keeps a slow link busy for long. */
static void note_gain(struct lane_stream *s, uint32_t len, uint32_t packed_len)
{
    if (len < GAIN_LEAST_BYTES || packed_len == 0)
        return;
    uint32_t gain = (uint32_t)((uint64_t)len * LANE_GAIN_ONE / packed_len);
    if (gain > GAIN_MAX * LANE_GAIN_ONE)
        gain = GAIN_MAX * LANE_GAIN_ONE;
    s->gain = gain < s->gain ? gain : (3 * s->gain + gain) / 4;
}

int lane_stream_put(struct lane_stream *s, uint8_t *stage, uint32_t len, int level, uint64_t now_us,
                    struct lane_block_counters *counters, const uint8_t **wire)
{
    const uint8_t *frames = stage + BLOCK_HEADER_BYTES;
    bool worth = s->compresses && level > 0 && len >= LEAST_BYTES && len <= COMPRESS_INPUT_MAX &&
                 compress_is_worth(frames, len);
    int ended = 0, n;
    struct compressor *c = worth ? take_level(s, level, now_us, &ended) : NULL;
    if (ended < 0)
        return ended;
    if (c != NULL) {
        s->used_us = now_us;
        n = put_block(c, packed + ended, frames, len, false);
        *wire = packed;
    } else {
        block_header_put(stage, BLOCK_RAW, len);
        n = (int)(BLOCK_HEADER_BYTES + len);
        *wire = stage;
        counters->raw_blocks++;
    }
    if (n < 0)
        return n;
    note_gain(s, len, (uint32_t)n);
    counters->blocks++;
    counters->frame_bytes += len;
    counters->block_bytes += (uint64_t)(ended + n);
    return ended + n;
}

/* ---- in ---- */

static uint8_t *make_room(struct lane_stream *s, uint32_t len)
{
    if (s->decoded != NULL && s->decoded->cap - s->decoded_fill < len)
        lane_stream_rest(s);
    if (s->decoded == NULL)
        s->decoded = chunk_new(CHUNK_STANDARD_BYTES);
    return s->decoded != NULL ? s->decoded->bytes + s->decoded_fill : NULL;
}

/* As lane_stream_get, for a compressed block. */
static int decode(struct lane_stream *s, const uint8_t **payload, uint32_t len, struct chunk **chunk)
{
    uint32_t frames_len;
    const uint8_t *piece;
    size_t piece_len;
    int err = compress_payload_get(*payload, len, &frames_len, &piece, &piece_len);
    if (err < 0)
        return err;
    uint8_t *to = make_room(s, frames_len);
    if (s->in == NULL)
        s->in = decompressor_take();
    if (to == NULL || s->in == NULL)
        return -ENOMEM;
    int ended = decompressor_get(s->in, to, frames_len, piece, piece_len);
    if (ended < 0)
        return ended;
    if (ended) {
        decompressor_give(s->in);
        s->in = NULL;
    }
    s->decoded_fill += frames_len;
    *chunk = s->decoded;
    *payload = to;
    return (int)frames_len;
}

int lane_stream_get(struct lane_stream *s, enum block_kind kind, const uint8_t **payload, uint32_t len,
                    struct chunk **chunk, struct lane_block_counters *counters)
{
    int frames_len = (int)len;
    if (kind == BLOCK_ZSTD)
        frames_len = s->compresses ? decode(s, payload, len, chunk) : -ERR_WIRE_UNKNOWN;
    if (frames_len < 0)
        return frames_len;
    counters->blocks++;
    counters->raw_blocks += kind == BLOCK_RAW;
    counters->frame_bytes += (uint64_t)frames_len;
    counters->block_bytes += BLOCK_HEADER_BYTES + len;
    return frames_len;
}
