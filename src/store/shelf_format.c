#include "hawser/shelf_format.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hawser/cursor.h"

enum {
    SUMMED_HEADER_BYTES = SHELF_HEADER_BYTES - 8,
    SUMMED_HEAD_BYTES = SHELF_HEAD_BYTES - 8,
    SUMMED_SAMPLE_BYTES = SHELF_SAMPLE_BYTES - 8
};

static const char magic[8] = {'h', 'a', 'w', 's', 'e', 'r', 'S', 'G'};

uint64_t shelf_put_header(uint8_t out[static SHELF_HEADER_BYTES], const struct shelf_label *label)
{
    struct cursor_out c = cursor_out_over(out, SHELF_HEADER_BYTES);
    cursor_put_bytes(&c, magic, sizeof(magic));
    cursor_put_be(&c, SHELF_VERSION, 4);
    cursor_put_be(&c, label->home, 4);
    cursor_put_be(&c, label->segment.epoch, 8);
    cursor_put_be(&c, label->segment.number, 4);
    cursor_put_be(&c, label->source, 4);
    cursor_put_bytes(&c, label->pin, sizeof(label->pin));
    uint64_t key = XXH3_64bits(out, SUMMED_HEADER_BYTES);
    cursor_put_be(&c, key, 8);
    assert(c.err == 0 && c.at == c.end);
    return key;
}

bool shelf_get_header(const uint8_t bytes[static SHELF_HEADER_BYTES], struct shelf_label *label,
                      uint64_t *key)
{
    struct cursor c = cursor_over(bytes, SHELF_HEADER_BYTES);
    if (memcmp(cursor_bytes(&c, sizeof(magic)), magic, sizeof(magic)) != 0 ||
        cursor_be(&c, 4) != SHELF_VERSION)
        return false;
    label->home = (uint32_t)cursor_be(&c, 4);
    label->segment.epoch = cursor_be(&c, 8);
    label->segment.number = (uint32_t)cursor_be(&c, 4);
    label->source = (uint32_t)cursor_be(&c, 4);
    memcpy(label->pin, cursor_bytes(&c, sizeof(label->pin)), sizeof(label->pin));
    *key = cursor_be(&c, 8);
    return *key == XXH3_64bits(bytes, SUMMED_HEADER_BYTES) && label->segment.epoch != 0;
}

void shelf_put_sample(uint8_t out[static SHELF_SAMPLE_BYTES], uint64_t key, uint64_t seed,
                      const struct sample *sample)
{
    struct cursor_out c = cursor_out_over(out, SHELF_SAMPLE_BYTES);
    cursor_put_be(&c, sample->count, 8);
    for (uint32_t i = 0; i < SAMPLE_MOST; i++)
        cursor_put_be(&c, i < sample->count ? sample->keys[i] : 0, 8);
    cursor_put_be(&c, XXH3_64bits_withSeed(out, SUMMED_SAMPLE_BYTES, key ^ seed), 8);
    assert(c.err == 0 && c.at == c.end);
}

bool shelf_get_sample(const uint8_t bytes[static SHELF_SAMPLE_BYTES], uint64_t key, uint64_t seed,
                      struct sample *sample)
{
    struct cursor c = cursor_over(bytes, SHELF_SAMPLE_BYTES);
    uint64_t count = cursor_be(&c, 8);
    for (uint32_t i = 0; i < SAMPLE_MOST; i++)
        sample->keys[i] = cursor_be(&c, 8);
    bool sound = cursor_be(&c, 8) == XXH3_64bits_withSeed(bytes, SUMMED_SAMPLE_BYTES, key ^ seed);
    sample->count = sound && count <= SAMPLE_MOST ? (uint32_t)count : 0;
    return sample->count == count && sound;
}

void shelf_put_head(uint8_t out[static SHELF_HEAD_BYTES], uint64_t key, uint32_t off, const uint8_t *bytes,
                    uint32_t len)
{
    assert(len > 0 && len <= SHELF_RECORD_MOST && off <= SHELF_SEGMENT_BYTES - len);
    XXH128_hash_t sum = XXH3_128bits_withSeed(bytes, len, key);
    struct cursor_out c = cursor_out_over(out, SHELF_HEAD_BYTES);
    cursor_put_be(&c, off, 4);
    cursor_put_be(&c, len, 4);
    cursor_put_be(&c, sum.high64, 8);
    cursor_put_be(&c, sum.low64, 8);
    cursor_put_be(&c, XXH3_64bits_withSeed(out, SUMMED_HEAD_BYTES, key), 8);
    assert(c.err == 0 && c.at == c.end);
}

enum shelf_found shelf_next(const uint8_t *bytes, size_t len, size_t *at, uint64_t key,
                            struct shelf_record *out)
{
    if (len - *at < SHELF_HEAD_BYTES)
        return SHELF_MORE;
    const uint8_t *head = bytes + *at;
    struct cursor c = cursor_over(head, SHELF_HEAD_BYTES);
    out->off = (uint32_t)cursor_be(&c, 4);
    out->len = (uint32_t)cursor_be(&c, 4);
    uint64_t high = cursor_be(&c, 8), low = cursor_be(&c, 8);
    if (cursor_be(&c, 8) != XXH3_64bits_withSeed(head, SUMMED_HEAD_BYTES, key) || out->len == 0 ||
        out->len > SHELF_RECORD_MOST || out->off > SHELF_SEGMENT_BYTES - out->len)
        return SHELF_BROKEN;
    if (len - *at - SHELF_HEAD_BYTES < out->len)
        return SHELF_MORE;
    out->bytes = head + SHELF_HEAD_BYTES;
    *at += SHELF_HEAD_BYTES + out->len;
    XXH128_hash_t sum = XXH3_128bits_withSeed(out->bytes, out->len, key);
    return sum.high64 == high && sum.low64 == low ? SHELF_RECORD : SHELF_CHANGED;
}
