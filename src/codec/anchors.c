#include "hawser/anchors.h"

#include <assert.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* A scan keeps what the next anchor needs: where it may be, and where it goes. */
struct scan {
    const uint8_t *bytes;
    uint32_t *at;
    uint32_t count, next;
};

static inline void found(struct scan *s, uint32_t position)
{
    if (position >= s->next) {
        s->at[s->count++] = position;
        s->next = position + ANCHORS_GAP_BYTES;
    }
}

/* Bit i of mask: position + i is below the threshold. */
static inline void found_all(struct scan *s, uint32_t position, uint32_t mask)
{
    while (mask != 0) {
        found(s, position + (uint32_t)__builtin_ctz(mask));
        mask &= mask - 1;
    }
}

static inline uint32_t load_little(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

static bool is_below(const struct anchors *a, const uint8_t *bytes, uint32_t threshold)
{
    uint32_t low = load_little(bytes), high = load_little(bytes + 4);
    return a->add + low * a->low + high * a->high < threshold;
}

static uint32_t threshold_of(uint32_t one_in)
{
    assert(one_in >= 2);
    return (uint32_t)((1ULL << 32) / one_in);
}

bool anchors_is_one(const struct anchors *a, const uint8_t *bytes, uint32_t one_in)
{
    return is_below(a, bytes, threshold_of(one_in));
}

static void scan_plain(const struct anchors *a, struct scan *s, uint32_t from, uint32_t to,
                       uint32_t threshold)
{
    for (uint32_t i = from; i < to; i++) {
        if (is_below(a, s->bytes + i, threshold))
            found(s, i);
    }
}

#if defined(__x86_64__)

/* A lane of a vector is one position's hash, so vector k of four, loaded k bytes further, has the positions
 * k, k + 4, k + 8 and so on. Byte k of each lane is kept of vector k: the bytes are then in the order of
 * positions. Compares are signed only: both sides are moved by 2^31. The last vector overlaps the one before
 * it, and what that has seen is masked out. */
enum { SSE41_STRIDE = 16, AVX2_STRIDE = 32 };
#define SIGN_BIT 0x80000000u

__attribute__((target("sse4.1"))) static inline __m128i
sse41_below(const uint8_t *bytes, __m128i low, __m128i high, __m128i add, __m128i threshold)
{
    __m128i first = _mm_loadu_si128((const void *)bytes), second = _mm_loadu_si128((const void *)(bytes + 4));
    __m128i hash =
        _mm_add_epi32(_mm_add_epi32(add, _mm_mullo_epi32(first, low)), _mm_mullo_epi32(second, high));
    return _mm_cmpgt_epi32(threshold, hash);
}

__attribute__((target("sse4.1"))) static void scan_sse41(const struct anchors *a, struct scan *s,
                                                         uint32_t from, uint32_t to, uint32_t threshold)
{
    __m128i low = _mm_set1_epi32((int)a->low), high = _mm_set1_epi32((int)a->high);
    __m128i add = _mm_set1_epi32((int)(a->add ^ SIGN_BIT)),
            limit = _mm_set1_epi32((int)(threshold ^ SIGN_BIT));
    const __m128i even = _mm_set1_epi16(0xff);
    for (uint32_t i = from, seen = from; seen < to; seen = i += SSE41_STRIDE) {
        if (to - i < SSE41_STRIDE)
            i = to - SSE41_STRIDE;
        const uint8_t *p = s->bytes + i;
        __m128i v0 = sse41_below(p, low, high, add, limit), v1 = sse41_below(p + 1, low, high, add, limit);
        __m128i v2 = sse41_below(p + 2, low, high, add, limit),
                v3 = sse41_below(p + 3, low, high, add, limit);
        __m128i any = _mm_or_si128(_mm_or_si128(v0, v1), _mm_or_si128(v2, v3));
        if (__builtin_expect(_mm_testz_si128(any, any), 1))
            continue;
        __m128i evens = _mm_blend_epi16(v0, v2, 0xaa), odds = _mm_blend_epi16(v1, v3, 0xaa);
        __m128i ordered = _mm_blendv_epi8(odds, evens, even);
        found_all(s, i, (uint32_t)_mm_movemask_epi8(ordered) & 0xffffu << (seen - i));
    }
}

__attribute__((target("avx2"))) static inline __m256i avx2_below(const uint8_t *bytes, __m256i low,
                                                                 __m256i high, __m256i add, __m256i threshold)
{
    __m256i first = _mm256_loadu_si256((const void *)bytes);
    __m256i second = _mm256_loadu_si256((const void *)(bytes + 4));
    __m256i hash = _mm256_add_epi32(_mm256_add_epi32(add, _mm256_mullo_epi32(first, low)),
                                    _mm256_mullo_epi32(second, high));
    return _mm256_cmpgt_epi32(threshold, hash);
}

__attribute__((target("avx2"))) static void scan_avx2(const struct anchors *a, struct scan *s, uint32_t from,
                                                      uint32_t to, uint32_t threshold)
{
    __m256i low = _mm256_set1_epi32((int)a->low), high = _mm256_set1_epi32((int)a->high);
    __m256i add = _mm256_set1_epi32((int)(a->add ^ SIGN_BIT));
    __m256i limit = _mm256_set1_epi32((int)(threshold ^ SIGN_BIT));
    const __m256i even = _mm256_set1_epi16(0xff);
    for (uint32_t i = from, seen = from; seen < to; seen = i += AVX2_STRIDE) {
        if (to - i < AVX2_STRIDE)
            i = to - AVX2_STRIDE;
        const uint8_t *p = s->bytes + i;
        __m256i v0 = avx2_below(p, low, high, add, limit), v1 = avx2_below(p + 1, low, high, add, limit);
        __m256i v2 = avx2_below(p + 2, low, high, add, limit), v3 = avx2_below(p + 3, low, high, add, limit);
        __m256i any = _mm256_or_si256(_mm256_or_si256(v0, v1), _mm256_or_si256(v2, v3));
        if (__builtin_expect(_mm256_testz_si256(any, any), 1))
            continue;
        __m256i evens = _mm256_blend_epi16(v0, v2, 0xaa), odds = _mm256_blend_epi16(v1, v3, 0xaa);
        __m256i ordered = _mm256_blendv_epi8(odds, evens, even);
        found_all(s, i, (uint32_t)_mm256_movemask_epi8(ordered) & 0xffffffffu << (seen - i));
    }
}

bool anchors_have(enum anchors_variant variant)
{
    if (variant == ANCHORS_SSE41)
        return __builtin_cpu_supports("sse4.1") != 0;
    if (variant == ANCHORS_AVX2)
        return __builtin_cpu_supports("avx2") != 0;
    return variant == ANCHORS_PLAIN;
}

#else

bool anchors_have(enum anchors_variant variant)
{
    return variant == ANCHORS_PLAIN;
}

#endif

const char *anchors_name(enum anchors_variant variant)
{
    static const char *const names[ANCHORS_VARIANTS] = {"plain C", "SSE4.1", "AVX2"};
    return names[variant];
}

void anchors_init(struct anchors *a, uint64_t seed)
{
    uint32_t parts[3];
    for (int i = 0; i < 3; i++) { /* splitmix64 (Steele, Lea, Flood 2014) */
        seed += 0x9e3779b97f4a7c15ULL;
        uint64_t x = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9ULL;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
        parts[i] = (uint32_t)((x ^ (x >> 31)) >> 32);
    }
    a->low = parts[0] | 1; /* odd: no bit of a window is lost */
    a->high = parts[1] | 1;
    a->add = parts[2];
    a->variant = ANCHORS_PLAIN;
    for (int v = ANCHORS_PLAIN; v < ANCHORS_VARIANTS; v++) {
        if (anchors_have((enum anchors_variant)v))
            a->variant = (enum anchors_variant)v;
    }
}

uint32_t anchors_find(const struct anchors *a, const uint8_t *bytes, uint32_t from, uint32_t to,
                      uint32_t one_in, uint32_t *at)
{
    struct scan s = {.bytes = bytes, .at = at, .next = from};
    uint32_t threshold = threshold_of(one_in);
    if (from >= to)
        return 0;
#if defined(__x86_64__)
    if (a->variant == ANCHORS_AVX2 && to - from >= AVX2_STRIDE) {
        scan_avx2(a, &s, from, to, threshold);
        return s.count;
    }
    if (a->variant != ANCHORS_PLAIN && to - from >= SSE41_STRIDE) {
        scan_sse41(a, &s, from, to, threshold);
        return s.count;
    }
#endif
    scan_plain(a, &s, from, to, threshold);
    return s.count;
}
