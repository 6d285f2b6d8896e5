/* fuzz_compress.c - a lane's zstd stream from hostile bytes.
 * The input is read twice: as payloads of compressed blocks, each behind its length in two bytes, for one
 * decompressor; and as what is to be compressed, in blocks whose lengths it says itself, which must come
 * back. */
#include <stdlib.h>
#include <string.h>

#include "hawser/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

/* decompressor_get's result, or compress_payload_get's error; the payload and what it decodes to stand in
 * heap blocks of exactly their sizes. */
static int decode(struct decompressor *d, const uint8_t *payload, size_t len, uint8_t **out,
                  uint32_t *out_len)
{
    const uint8_t *piece;
    size_t piece_len;
    uint8_t *exact = malloc(len);
    CHECK(exact != NULL || len == 0);
    if (len > 0)
        memcpy(exact, payload, len);
    *out = NULL;
    int got = compress_payload_get(exact, len, out_len, &piece, &piece_len);
    if (got == 0) {
        CHECK(*out_len <= BLOCK_PAYLOAD_MAX && piece_len > 0 && piece_len < len);
        *out = malloc(*out_len);
        CHECK(*out != NULL || *out_len == 0);
        got = decompressor_get(d, *out, *out_len, piece, piece_len);
    }
    CHECK(got <= 1);
    free(exact);
    return got;
}

static void decode_all(const uint8_t *input, size_t len)
{
    struct decompressor *d = decompressor_take();
    CHECK(d != NULL);
    int got = 0;
    while (got >= 0 && len >= 2) {
        size_t payload_len = (size_t)input[0] << 8 | input[1];
        if (payload_len > len - 2)
            break;
        uint8_t *out;
        uint32_t out_len;
        got = decode(d, input + 2, payload_len, &out, &out_len);
        free(out);
        input += 2 + payload_len;
        len -= 2 + payload_len;
    }
    CHECK(compress_bytes_total() < 8 << 20);
    decompressor_give(d);
}

static void round_trip(const uint8_t *input, size_t len)
{
    static uint8_t payload[BLOCK_PAYLOAD_MAX];
    struct compressor *c = compressor_take(1);
    struct decompressor *d = decompressor_take();
    CHECK(c != NULL && d != NULL);
    while (len > 0) {
        size_t n = 1 + (size_t)input[0] * 16;
        bool last = (input[0] & 7) == 0;
        if (n > len)
            n = len;
        int payload_len = compressor_put(c, payload, input, n, last);
        CHECK(payload_len > 0);
        uint8_t *back;
        uint32_t back_len;
        CHECK(decode(d, payload, (size_t)payload_len, &back, &back_len) == last);
        CHECK(back_len == n && memcmp(back, input, n) == 0);
        free(back);
        input += n;
        len -= n;
    }
    compressor_give(c);
    decompressor_give(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    decode_all(input, len);
    round_trip(input, len);
    compress_is_worth(input, len);
    return 0;
}
