/* sample.h - a few of a segment's anchors, by which a search finds out that the segment is on disk (floor 1,
 * pure; any thread). A key is the hash of the bytes that begin at an anchor, the same as in the store's
 * index; of about one in SAMPLE_STRIDE_BYTES the first bits are zero, and these are the sample. So the bytes
 * alone decide which they are, and a search meets them wherever they lie. The seed is secret, and
 * of a node: it is the same after a restart. */
#ifndef HAWSER_SAMPLE_H
#define HAWSER_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/anchors.h"

enum {
    SAMPLE_ANCHORS_ONE_IN = 1024,
    SAMPLE_BITS = 5, /* of a key, that are zero: one in 32 */
    SAMPLE_STRIDE_BYTES = SAMPLE_ANCHORS_ONE_IN << SAMPLE_BITS,
    SAMPLE_MOST = 501, /* a segment's; 512 are usual in a full one, more are left out */
};

struct sampler {
    struct anchors anchors;
    uint64_t seed;
};

struct sample {
    uint32_t count;
    uint64_t keys[SAMPLE_MOST];
};

void sampler_init(struct sampler *s, uint64_t seed);
/* The sampled keys of these bytes that are not in `all` yet, into `all`, and as `added` (NULL: nobody wants
 * them), both as far as there is room. */
void sample_add(const struct sampler *s, const uint8_t *bytes, uint32_t len, struct sample *all,
                struct sample *added);

static inline bool sample_has(uint64_t key)
{
    return key >> (64 - SAMPLE_BITS) == 0;
}

#endif
