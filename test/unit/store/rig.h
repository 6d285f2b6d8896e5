/* rig.h - a near store that takes, and a far one that is filled from the near one's pieces, as a peer would
 * be: what the far one can resolve goes as a reference, the rest as literals. */
#ifndef HAWSER_TEST_STORE_RIG_H
#define HAWSER_TEST_STORE_RIG_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/store.h"

enum {
    MEMORY = 1 << 30,
    CORPUS = 4 << 20,
    NEAR_EPOCH = 0x4e454152,
    FAR_EPOCH = 0x464152,
    NEAR = 7 /* the near store's name at the far one */
};

static struct budget memory;
static struct store *near, *far;
static uint64_t random_state;

static inline uint64_t random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static inline uint32_t roll(uint32_t below)
{
    return (uint32_t)(random_word() >> 20) % below;
}

static inline void fill_random(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(random_word() >> 24);
}

static inline struct store *store_of(uint64_t max_bytes, uint64_t epoch, const struct store_events *events,
                                     void *owner)
{
    struct store *s = NULL;
    ck_assert_int_eq(store_new(&s, &memory, max_bytes, 42, epoch, events, owner), 0);
    return s;
}

/* Never the same, but zstd would make something of it. */
static inline void fill_letters(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)('a' + (random_word() >> 24) % 16);
}

static inline void setup(void)
{
    random_state = 88172645463325252ULL;
    budget_init(&memory, MEMORY);
    near = store_of(MEMORY / 2, NEAR_EPOCH, NULL, NULL);
    far = store_of(MEMORY / 2, FAR_EPOCH, NULL, NULL);
}

static inline void teardown(void)
{
    store_free(near);
    store_free(far);
    ck_assert_uint_eq(budget_used(&memory), 0);
    chunk_thread_end();
}

static inline uint8_t *corpus_new(void)
{
    uint8_t *bytes = malloc(CORPUS);
    ck_assert_ptr_nonnull(bytes);
    fill_random(bytes, CORPUS);
    return bytes;
}

/* ---- taking, and what arrives ---- */

struct arrival {
    const uint8_t *expected;
    uint32_t at;
    uint64_t literal_bytes;
    unsigned pieces, references, not_filled;
};

/* As a peer would do it: a reference if the far store has the bytes, else a literal that fills its address.
 */
static inline int arrive(void *arg, struct slice piece)
{
    struct arrival *a = arg;
    struct slice there;
    struct segment_id id = piece.chunk->segment;
    ck_assert_uint_gt(piece.len, 0);
    ck_assert(chunk_is_segment(piece.chunk));
    ck_assert_mem_eq(slice_bytes(&piece), a->expected + a->at, piece.len);
    if (store_resolve(far, &id, piece.off, piece.len, &there)) {
        a->references++;
    } else {
        a->literal_bytes += piece.len;
        if (store_fill(far, NEAR, &id, piece.off, slice_bytes(&piece), piece.len, &there) < 0) {
            a->not_filled++;
            there = slice_copy(slice_bytes(&piece), piece.len);
        }
    }
    ck_assert_uint_eq(there.len, piece.len);
    ck_assert_mem_eq(slice_bytes(&there), slice_bytes(&piece), piece.len);
    chunk_unref(there.chunk);
    chunk_unref(piece.chunk);
    a->at += piece.len;
    a->pieces++;
    return 0;
}

/* A new stream, for that peer, that takes it all in spans of up to span_most. */
static inline struct arrival pass_to(uint32_t peer, const uint8_t *bytes, uint32_t len, uint32_t span_most)
{
    struct store_stream stream = {.peer = peer};
    struct arrival a = {.expected = bytes};
    for (uint32_t at = 0; at < len;) {
        uint32_t span = 1 + (span_most > 1000 ? span_most - 1 : roll(span_most));
        span = span < len - at ? span : len - at;
        ck_assert_int_eq(store_take(near, &stream, bytes + at, span, arrive, &a), 0);
        at += span;
        ck_assert_uint_eq(a.at, at);
    }
    store_stream_end(near, &stream);
    return a;
}

static inline struct arrival pass(const uint8_t *bytes, uint32_t len, uint32_t span_most)
{
    return pass_to(0, bytes, len, span_most);
}

static inline int drop_piece(void *arg, struct slice piece)
{
    (void)arg;
    chunk_unref(piece.chunk);
    return 0;
}

static inline TCase *case_of(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    return t;
}

#endif
