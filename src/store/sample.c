#include "hawser/sample.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store_internal.h"

void sampler_init(struct sampler *s, uint64_t seed)
{
    s->seed = seed;
    anchors_init(&s->anchors, seed);
}

static void put(struct sample *sample, uint64_t key)
{
    if (sample->count < SAMPLE_MOST)
        sample->keys[sample->count++] = key;
}

static bool contains(const struct sample *sample, uint64_t key)
{
    for (uint32_t i = 0; i < sample->count; i++) {
        if (sample->keys[i] == key)
            return true;
    }
    return false;
}

void sample_add(const struct sampler *s, const uint8_t *bytes, uint32_t len, struct sample *all,
                struct sample *added)
{
    uint32_t at[STORE_SCAN_BYTES / ANCHORS_GAP_BYTES + 1];
    uint32_t end = len >= STORE_KEY_BYTES ? len - STORE_KEY_BYTES + 1 : 0;
    for (uint32_t from = 0; from < end;) {
        uint32_t to = end - from > STORE_SCAN_BYTES ? from + STORE_SCAN_BYTES : end;
        uint32_t count = anchors_find(&s->anchors, bytes, from, to, SAMPLE_ANCHORS_ONE_IN, at);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t key = XXH3_64bits_withSeed(bytes + at[i], STORE_KEY_BYTES, s->seed);
            if (!sample_has(key) || contains(all, key))
                continue;
            put(all, key);
            if (added != NULL)
                put(added, key);
        }
        from = to;
    }
}
