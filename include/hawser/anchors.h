/* anchors.h - where the content itself says: look here (floor 1, pure; any thread).
 * A position is an anchor if a hash of the 8 bytes from it is below a threshold, so the same content has the
 * same anchors wherever it lies. Anchors are where the store looks for what it knows (store.h). The hash is
 * multiplicative, h = add + low * bytes[0..3] + high * bytes[4..7] mod 2^32, little-endian; thresholds nest:
 * an anchor at one in 1024 is one at one in 256 as well. Source: Spring and Wetherall, SIGCOMM 2000. */
#ifndef HAWSER_ANCHORS_H
#define HAWSER_ANCHORS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ANCHORS_WINDOW_BYTES = 8,
    ANCHORS_GAP_BYTES =
        16 /* of two anchors closer than that only the first counts: zeros, and arrays' bounds */
};

/* All give the same anchors; what the processor cannot do is never picked. */
enum anchors_variant { ANCHORS_PLAIN, ANCHORS_SSE41, ANCHORS_AVX2, ANCHORS_VARIANTS };

struct anchors {
    uint32_t low, high, add;
    enum anchors_variant variant;
};

/* The multipliers of a seed, and the fastest variant that works here. */
void anchors_init(struct anchors *a, uint64_t seed);
bool anchors_have(enum anchors_variant variant);
/* "AVX2" and so on. */
const char *anchors_name(enum anchors_variant variant);

/* Room that `at` needs for a range of len_bytes. */
static inline uint32_t anchors_most(uint32_t len_bytes)
{
    return len_bytes / ANCHORS_GAP_BYTES + 1;
}

/* The anchors in [from, to), ascending, of which there is about one in one_in bytes (>= 2). bytes[0 .. to +
 * ANCHORS_WINDOW_BYTES - 1) must be there; not a byte more is read. Returns how many. */
uint32_t anchors_find(const struct anchors *a, const uint8_t *bytes, uint32_t from, uint32_t to,
                      uint32_t one_in, uint32_t *at);
/* Whether the ANCHORS_WINDOW_BYTES at `bytes` are one, were there none just before them. */
bool anchors_is_one(const struct anchors *a, const uint8_t *bytes, uint32_t one_in);

#endif
