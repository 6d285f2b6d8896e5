/* test_store.c - what is taken comes out, what is filled can be found, and no memory is used beyond the
 * budget.
 *
 * The rig has a near store that takes, and a far one that is filled from the near one's pieces, as a peer
 * would be: what the far one can resolve goes as a reference, the rest as literals. */
#include "hawser/store.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    MEMORY = 1 << 30,
    CORPUS = 4 << 20,
    NEAR_EPOCH = 0x4e454152,
    FAR_EPOCH = 0x464152,
    NEAR = 7, /* the near store's name at the far one */
    EMIT_FAILED = -4711
};

static struct budget memory;
static struct store *near, *far;
static uint64_t random_state;

static uint64_t random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint32_t roll(uint32_t below)
{
    return (uint32_t)(random_word() >> 20) % below;
}

static void fill_random(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(random_word() >> 24);
}

static struct store *store_of(uint64_t max_bytes, uint64_t epoch, const struct store_events *events,
                              void *owner)
{
    struct store *s = NULL;
    ck_assert_int_eq(store_new(&s, &memory, max_bytes, 42, epoch, events, owner), 0);
    return s;
}

/* Never the same, but zstd would make something of it. */
static void fill_letters(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)('a' + (random_word() >> 24) % 16);
}

static void setup(void)
{
    random_state = 88172645463325252ULL;
    budget_init(&memory, MEMORY);
    near = store_of(MEMORY / 2, NEAR_EPOCH, NULL, NULL);
    far = store_of(MEMORY / 2, FAR_EPOCH, NULL, NULL);
}

static void teardown(void)
{
    store_free(near);
    store_free(far);
    ck_assert_uint_eq(budget_used(&memory), 0);
    chunk_thread_end();
}

static uint8_t *corpus_new(void)
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
    unsigned pieces, references, copies, not_filled;
};

/* As a peer would do it: a reference if the far store has the bytes, else a literal that fills its address.
 */
static int arrive(void *arg, struct slice piece, const struct store_address *copy)
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
    if (copy != NULL) {
        struct slice again;
        a->copies++;
        ck_assert_uint_lt(piece.len, STORE_COPY_BELOW_BYTES);
        ck_assert(store_resolve(near, &copy->segment, copy->off, piece.len, &again));
        ck_assert_mem_eq(slice_bytes(&again), slice_bytes(&piece), piece.len);
        chunk_unref(again.chunk);
        ck_assert_int_eq(
            store_fill(far, NEAR, &copy->segment, copy->off, slice_bytes(&there), piece.len, &again), 0);
        chunk_unref(again.chunk);
    }
    chunk_unref(there.chunk);
    chunk_unref(piece.chunk);
    a->at += piece.len;
    a->pieces++;
    return 0;
}

/* A new stream that takes it all in spans of up to span_most. */
static struct arrival pass(const uint8_t *bytes, uint32_t len, uint32_t span_most)
{
    struct store_stream stream = {0};
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

START_TEST(what_comes_again_is_known)
{
    uint8_t *bytes = corpus_new();
    struct arrival first = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_eq(first.literal_bytes, CORPUS);
    ck_assert_uint_eq(first.references, 0);
    struct arrival again = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 4096); /* up to the first anchor */
    ck_assert_uint_le(again.references, CORPUS / STORE_TAKE_MOST_BYTES + 8);
    free(bytes);
}
END_TEST

START_TEST(it_is_known_in_spans_of_any_size)
{
    static const uint32_t spans[] = {1, 7, 31, 32, 33, 900, 1460, 16384};
    enum { LEN = 200000 };
    uint8_t *bytes = corpus_new();
    pass(bytes, LEN, STORE_TAKE_MOST_BYTES);
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        struct arrival a = pass(bytes, LEN, spans[i]);
        if (spans[i] >= 900) /* a shorter one has no room for an anchor's key, or hardly */
            ck_assert_uint_lt(a.literal_bytes, 8192);
    }
    free(bytes);
}
END_TEST

START_TEST(a_sparse_search_still_finds_what_was_stored_sparsely)
{
    uint8_t *bytes = corpus_new();
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    struct store_counters counters;
    store_read_counters(near, &counters);
    ck_assert_uint_lt(counters.hints, CORPUS / 1024 * 2); /* one in 256 only at first */
    struct arrival again = pass(bytes + CORPUS / 2, CORPUS / 2, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 32768);
    free(bytes);
}
END_TEST

START_TEST(edits_cost_little)
{
    enum { REPLACED, REMOVED, INSERTED, KINDS };
    uint8_t *bytes = corpus_new(), *edited = malloc(CORPUS + 4096);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    uint32_t from = 0, to = 0;
    unsigned edits = 0;
    while (CORPUS - from > 40000) {
        uint32_t kept = 8000 + roll(30000), kind = roll(KINDS);
        memcpy(edited + to, bytes + from, kept);
        from += kept;
        to += kept;
        if (kind != INSERTED)
            from += 16;
        if (kind != REMOVED) {
            fill_random(edited + to, 16);
            to += 16;
        }
        edits++;
    }
    struct arrival a = pass(edited, to, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_gt(edits, 50);
    ck_assert_uint_lt(a.literal_bytes, 4096 + edits * 64);
    struct arrival again = pass(edited, to, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 4096);
    free(edited);
    free(bytes);
}
END_TEST

/* Short pieces of known bytes in an order that was never seen: copied, so that the third pass is in one
 * piece. */
START_TEST(short_matches_are_copied_and_then_contiguous)
{
    enum { PIECE = 700, PIECES = 300 };
    uint8_t *bytes = corpus_new(), *shuffled = malloc(PIECE * PIECES);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    for (uint32_t i = 0; i < PIECES; i++)
        memcpy(shuffled + i * PIECE, bytes + roll(CORPUS - PIECE), PIECE);
    struct arrival first = pass(shuffled, PIECE * PIECES, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_gt(first.copies, PIECES / 3);
    struct arrival again = pass(shuffled, PIECE * PIECES, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, first.literal_bytes / 4 + 2048);
    ck_assert_uint_lt(again.pieces, first.pieces / 4);
    free(shuffled);
    free(bytes);
}
END_TEST

/* Many streams at once, of random spans, edited copies of one another: all that matters is that it arrives.
 */
START_TEST(interleaved_streams_arrive_whole)
{
    enum { STREAMS = 12, LEN = 400000, ROUNDS = 30000 };
    struct {
        struct store_stream stream;
        struct arrival arrival;
        uint8_t *bytes;
        uint32_t at;
    } streams[STREAMS] = {0};
    uint8_t *bytes = corpus_new();
    uint64_t literal_bytes = 0, taken_bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t i = roll(STREAMS);
        if (streams[i].bytes == NULL || streams[i].at == LEN || roll(400) == 0) {
            store_stream_end(near, &streams[i].stream);
            literal_bytes += streams[i].arrival.literal_bytes;
            free(streams[i].bytes);
            streams[i].bytes = malloc(LEN);
            memcpy(streams[i].bytes, bytes + roll(LEN), LEN);
            for (int edit = 0; edit < 20; edit++)
                fill_random(streams[i].bytes + roll(LEN - 100), roll(100));
            streams[i].at = 0;
            streams[i].arrival = (struct arrival){.expected = streams[i].bytes};
        }
        uint32_t span = 1 + roll(roll(3) == 0 ? 30000 : 2000);
        span = span < LEN - streams[i].at ? span : LEN - streams[i].at;
        ck_assert_int_eq(store_take(near, &streams[i].stream, streams[i].bytes + streams[i].at, span, arrive,
                                    &streams[i].arrival),
                         0);
        streams[i].at += span;
        taken_bytes += span;
        ck_assert_uint_eq(streams[i].arrival.at, streams[i].at);
        ck_assert_uint_eq(streams[i].arrival.not_filled, 0);
    }
    for (int i = 0; i < STREAMS; i++) {
        literal_bytes += streams[i].arrival.literal_bytes;
        store_stream_end(near, &streams[i].stream);
        free(streams[i].bytes);
    }
    ck_assert_uint_gt(taken_bytes, 40 << 20);
    ck_assert_uint_lt(literal_bytes, taken_bytes / 20);
    free(bytes);
}
END_TEST

/* What was received is known when it is sent back. */
START_TEST(what_was_filled_is_matched)
{
    uint8_t *bytes = corpus_new();
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    struct store *was_near = near;
    near = far; /* the far store takes now, and the near one is filled */
    far = was_near;
    struct arrival back = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(back.literal_bytes, 16384);
    far = near;
    near = was_near;
    free(bytes);
}
END_TEST

START_TEST(spans_out_of_bounds_are_refused)
{
    struct store_stream stream = {0};
    struct arrival a = {0};
    static const uint8_t bytes[1] = {0};
    ck_assert_int_eq(store_take(near, &stream, bytes, 0, arrive, &a), -EINVAL);
    ck_assert_int_eq(store_take(near, &stream, bytes, STORE_TAKE_MOST_BYTES + 1, arrive, &a), -EINVAL);
    ck_assert_uint_eq(a.pieces, 0);
    struct store *none = NULL;
    ck_assert_int_eq(store_new(&none, &memory, STORE_LEAST_BYTES - 1, 1, 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(store_new(&none, &memory, STORE_LEAST_BYTES, 1, 0, NULL, NULL), -EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

static int emit_one_then_fail(void *arg, struct slice piece, const struct store_address *copy)
{
    unsigned *emitted = arg;
    (void)copy;
    if ((*emitted)++ > 0)
        return EMIT_FAILED;
    chunk_unref(piece.chunk);
    return 0;
}

START_TEST(an_error_of_emit_ends_the_call_and_leaks_nothing)
{
    uint8_t *bytes = corpus_new();
    struct store_stream stream = {0};
    unsigned emitted = 0;
    pass(bytes, 60000, STORE_TAKE_MOST_BYTES);
    fill_random(bytes + 30000, 300);
    ck_assert_int_eq(store_take(near, &stream, bytes, 60000, emit_one_then_fail, &emitted), EMIT_FAILED);
    ck_assert_uint_eq(emitted, 2);
    store_stream_end(near, &stream);
    ck_assert_uint_lt(pass(bytes, 60000, STORE_TAKE_MOST_BYTES).pieces, 10);
    free(bytes);
}
END_TEST

/* ---- filling ---- */

static const struct segment_id theirs = {.epoch = 99, .number = 5};

static int fill(uint32_t source, uint32_t off, const void *bytes, uint32_t len)
{
    struct slice out;
    int err = store_fill(near, source, &theirs, off, bytes, len, &out);
    if (err == 0) {
        ck_assert_uint_eq(out.off, off);
        ck_assert_uint_eq(out.len, len);
        ck_assert_mem_eq(slice_bytes(&out), bytes, len);
        chunk_unref(out.chunk);
    }
    return err;
}

START_TEST(a_fill_is_found_where_it_was_put)
{
    struct slice out;
    ck_assert_int_eq(fill(3, 1000, "abcdef", 6), 0);
    ck_assert_int_eq(fill(3, 1006, "ghi", 3), 0);
    ck_assert_int_eq(fill(3, STORE_SEGMENT_BYTES - 2, "yz", 2), 0);
    ck_assert(store_resolve(near, &theirs, 1002, 5, &out));
    ck_assert_mem_eq(slice_bytes(&out), "cdefg", 5);
    chunk_unref(out.chunk);
    ck_assert(!store_resolve(near, &theirs, 1002, 8, &out));
    ck_assert(!store_resolve(near, &theirs, 999, 2, &out));
    ck_assert(!store_resolve(near, &theirs, 1002, 0, &out));
    ck_assert(!store_resolve(near, &theirs, STORE_SEGMENT_BYTES, 1, &out));
    ck_assert(!store_resolve(near, &theirs, STORE_SEGMENT_BYTES - 1, UINT32_MAX, &out));
    ck_assert(!store_resolve(near, &(struct segment_id){.epoch = 99, .number = 6}, 1002, 5, &out));
    ck_assert_int_eq(store_source(near, &theirs), 3);
    ck_assert_int_eq(store_source(near, &(struct segment_id){.epoch = 98, .number = 5}), -1);
    const struct intervals *filled = store_filled(near, &theirs);
    ck_assert_uint_eq(filled->count, 2);
    ck_assert(intervals_cover(filled, 1000, 1009));
    ck_assert_ptr_null(store_filled(near, &(struct segment_id){.epoch = 98, .number = 5}));
}
END_TEST

START_TEST(hostile_fills_are_refused_and_change_nothing)
{
    static uint8_t block[1000];
    struct slice out;
    ck_assert_int_eq(fill(3, 100, "abcdef", 6), 0);
    ck_assert_int_eq(fill(4, 106, "ghi", 3), -EPERM); /* another peer */
    ck_assert_int_eq(fill(0, 106, "ghi", 3), -EPERM); /* nobody */
    ck_assert_int_eq(fill(3, 99, "xaX", 3), -EEXIST); /* one byte differs */
    ck_assert_int_eq(fill(3, 105, "Xg", 2), -EEXIST);
    ck_assert_int_eq(fill(3, 0, block, sizeof(block)), -EEXIST);
    ck_assert_int_eq(fill(3, 100, "", 0), -EINVAL);
    ck_assert_int_eq(fill(3, STORE_SEGMENT_BYTES, "a", 1), -EINVAL);
    ck_assert_int_eq(fill(3, STORE_SEGMENT_BYTES - 1, "ab", 2), -EINVAL);
    ck_assert_int_eq(fill(3, 1, block, UINT32_MAX), -EINVAL);
    ck_assert_int_eq(fill(3, UINT32_MAX, block, 2), -EINVAL);
    ck_assert_int_eq(fill(3, 99, "xabcdefg", 8), 0); /* the same bytes, and more */
    ck_assert(intervals_cover(store_filled(near, &theirs), 99, 107));
    ck_assert_uint_eq(intervals_total(store_filled(near, &theirs)), 8);

    pass((const uint8_t *)"own bytes, which nobody may change", 34, 1000);
    struct segment_id own = {.epoch = NEAR_EPOCH, .number = 1};
    ck_assert_int_eq(store_source(near, &own), 0);
    ck_assert_int_eq(store_fill(near, 3, &own, 500, block, 10, &out), -EPERM);
    own.number = 77;
    ck_assert_int_eq(store_fill(near, 3, &own, 0, block, 10, &out), -EPERM);
    ck_assert_int_eq(store_fill(near, 3, &(struct segment_id){0}, 0, block, 10, &out), -EINVAL);
}
END_TEST

START_TEST(a_segment_in_too_many_parts_takes_no_more)
{
    int err = 0;
    uint32_t parts = 0;
    while (parts < 1000000 && (err = fill(3, parts * 2, "a", 1)) == 0)
        parts++;
    ck_assert_int_eq(err, -ENOBUFS);
    ck_assert_uint_ge(parts, 1024);
    ck_assert_uint_le(parts, 65536);
    ck_assert_int_eq(fill(3, 1, "b", 1), 0); /* what joins two parts still goes */
    ck_assert_int_eq(fill(3, parts * 2, "a", 1), 0);
}
END_TEST

/* ---- memory ---- */

struct evictions {
    unsigned count;
    struct segment_id last;
    struct store *store;
};

static void note_evicted(void *owner, const struct segment_id *id)
{
    struct evictions *e = owner;
    struct slice out;
    e->count++;
    e->last = *id;
    ck_assert_int_eq(store_source(e->store, id), -1);
    ck_assert(!store_resolve(e->store, id, 0, 1, &out));
}

static const struct store_events eviction_events = {.evicted = note_evicted};

static int drop_piece(void *arg, struct slice piece, const struct store_address *copy)
{
    (void)arg;
    (void)copy;
    chunk_unref(piece.chunk);
    return 0;
}

START_TEST(the_oldest_goes_when_memory_is_used_up)
{
    enum { SPAN = 65536, BYTES = 200 << 20 };
    static uint8_t bytes[SPAN];
    struct evictions e = {0};
    struct store_stream stream = {0};
    struct slice out;
    uint64_t before = budget_used(&memory);
    struct store *s = e.store = store_of(STORE_LEAST_BYTES, 5, &eviction_events, &e);
    for (uint64_t taken = 0; taken < BYTES; taken += SPAN) {
        fill_random(bytes, SPAN);
        ck_assert_int_eq(store_take(s, &stream, bytes, SPAN, drop_piece, NULL), 0);
        ck_assert_uint_le(budget_used(&memory) - before, STORE_LEAST_BYTES);
    }
    ck_assert_uint_ge(e.count, (BYTES - STORE_LEAST_BYTES) / STORE_SEGMENT_BYTES);
    ck_assert_uint_eq(e.last.number, e.count); /* in their order */
    struct store_counters counters;
    store_read_counters(s, &counters);
    ck_assert_uint_eq(counters.evicted_segments, e.count);
    ck_assert_uint_ge(counters.segment_bytes, STORE_LEAST_BYTES / 2);
    ck_assert(store_resolve(s, &(struct segment_id){.epoch = 5, .number = e.count + 1}, 0, 1, &out));
    chunk_unref(out.chunk);
    store_stream_end(s, &stream);
    store_free(s);
    ck_assert_uint_eq(budget_used(&memory), before);
}
END_TEST

struct kept {
    struct slice slices[4096];
    unsigned count;
};

static int keep_piece(void *arg, struct slice piece, const struct store_address *copy)
{
    struct kept *k = arg;
    (void)copy;
    ck_assert_uint_lt(k->count, 4096);
    k->slices[k->count++] = piece;
    return 0;
}

START_TEST(a_segment_with_a_slice_stays)
{
    enum { SPAN = 65536 };
    static uint8_t bytes[SPAN], first[SPAN];
    static struct kept kept;
    struct evictions e = {0};
    struct store_stream stream = {0};
    int err;
    struct store *s = e.store = store_of(STORE_LEAST_BYTES, 5, &eviction_events, &e);
    fill_random(first, SPAN);
    kept.count = 0;
    ck_assert_int_eq(store_take(s, &stream, first, SPAN, keep_piece, &kept), 0);
    for (int i = 0; i < 2000; i++) {
        fill_random(bytes, SPAN);
        ck_assert_int_eq(store_take(s, &stream, bytes, SPAN, drop_piece, NULL), 0);
    }
    ck_assert_uint_gt(e.count, 2);
    ck_assert_mem_eq(slice_bytes(&kept.slices[0]), first, SPAN);
    ck_assert_int_eq(store_source(s, &kept.slices[0].chunk->segment), 0);
    /* Now nothing may go: the store says so, and everything that was handed out is good. */
    for (int i = 0; i < 2000; i++) {
        fill_random(bytes, SPAN);
        unsigned had = kept.count;
        if ((err = store_take(s, &stream, bytes, SPAN, keep_piece, &kept)) < 0) {
            ck_assert_uint_eq(kept.count, had);
            break;
        }
    }
    ck_assert_int_eq(err, -ENOBUFS);
    ck_assert_mem_eq(slice_bytes(&kept.slices[0]), first, SPAN);
    while (kept.count > 0)
        chunk_unref(kept.slices[--kept.count].chunk);
    ck_assert_int_eq(store_take(s, &stream, bytes, SPAN, drop_piece, NULL), 0);
    store_stream_end(s, &stream);
    store_free(s);
}
END_TEST

/* Two small stores: what one has forgotten the other may still have, and the other way round. */
START_TEST(evictions_on_both_sides_lose_no_byte)
{
    enum { LEN = 48 << 20 };
    uint8_t *bytes = malloc(LEN);
    store_free(near);
    store_free(far);
    near = store_of(STORE_LEAST_BYTES, NEAR_EPOCH, NULL, NULL);
    far = store_of(STORE_LEAST_BYTES, FAR_EPOCH, NULL, NULL);
    fill_random(bytes, LEN);
    for (int round = 0; round < 6; round++) {
        struct arrival a = pass(bytes, LEN, STORE_TAKE_MOST_BYTES);
        ck_assert_uint_eq(a.at, LEN);
        ck_assert_uint_eq(a.not_filled, 0);
        fill_random(bytes + roll(LEN / 2), LEN / 2);
    }
    struct store_counters counters;
    store_read_counters(near, &counters);
    ck_assert_uint_gt(counters.evicted_segments, 2);
    store_read_counters(far, &counters);
    ck_assert_uint_gt(counters.evicted_segments, 2);
    free(bytes);
}
END_TEST

START_TEST(a_peer_that_fills_a_byte_a_segment_is_held_to_the_budget)
{
    struct slice out;
    uint64_t before = budget_used(&memory);
    struct store *s = store_of(STORE_LEAST_BYTES, 5, NULL, NULL);
    for (uint32_t number = 1; number < 3000; number++) {
        struct segment_id id = {.epoch = 1000, .number = number};
        ck_assert_int_eq(
            store_fill(s, 3, &id, number * 4000 % STORE_SEGMENT_BYTES, (const uint8_t *)"x", 1, &out), 0);
        chunk_unref(out.chunk);
        ck_assert_uint_le(budget_used(&memory) - before, STORE_LEAST_BYTES);
    }
    struct store_counters counters;
    store_read_counters(s, &counters);
    ck_assert_uint_le(counters.segments, 256); /* address space is bounded as well */
    store_free(s);
}
END_TEST

START_TEST(the_index_stays_within_its_share)
{
    enum { SPAN = 65536, BYTES = 256 << 20 };
    static uint8_t bytes[SPAN];
    struct store_stream stream = {0};
    struct store_counters counters;
    for (uint64_t taken = 0; taken < BYTES; taken += SPAN) {
        fill_letters(bytes, SPAN);
        ck_assert_int_eq(store_take(near, &stream, bytes, SPAN, drop_piece, NULL), 0);
    }
    store_stream_end(near, &stream);
    store_read_counters(near, &counters);
    ck_assert_uint_eq(counters.segment_bytes, BYTES);
    ck_assert_uint_gt(counters.hints, BYTES / 256 / 2);
    uint64_t beside = budget_used(&memory) - counters.segment_bytes;
    ck_assert_uint_gt(counters.index_bytes, BYTES / 50); /* 20 MB a GB: it has grown with what was put */
    ck_assert_uint_lt(beside,
                      (uint64_t)BYTES * 26 / 1000 + (3 << 20)); /* both stores' fixed part, the last page */
}
END_TEST

/* While the index grows, hints are lost to its being full; not those of what came first more than others. */
START_TEST(old_bytes_are_known_when_the_index_has_grown)
{
    enum { OLD = 8 << 20, NEW = 160 << 20, SPAN = 65536 };
    static uint8_t bytes[SPAN];
    struct store_stream stream = {0};
    uint8_t *old = malloc(OLD);
    fill_letters(old, OLD);
    pass(old, OLD, STORE_TAKE_MOST_BYTES);
    for (uint64_t taken = 0; taken < NEW; taken += SPAN) {
        fill_letters(bytes, SPAN);
        ck_assert_int_eq(store_take(near, &stream, bytes, SPAN, drop_piece, NULL), 0);
    }
    store_stream_end(near, &stream);
    uint64_t literal_bytes = 0;
    for (uint32_t from = 0; from < OLD;
         from += OLD / 64) /* each by a new stream, so that each is looked up */
        literal_bytes += pass(old + from, 65536, STORE_TAKE_MOST_BYTES).literal_bytes;
    ck_assert_uint_lt(literal_bytes, 64 * 2048);
    free(old);
}
END_TEST

/* ---- coming back ---- */

struct saved {
    struct chunk *chunk;
    struct intervals filled;
    uint32_t source;
};

static void save(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                 const struct intervals *filled)
{
    struct saved *saved = arg;
    ck_assert(chunk->segment.epoch == id->epoch && chunk->segment.number == id->number);
    saved->source = source;
    saved->chunk = chunk_new_mapped(STORE_SEGMENT_BYTES);
    saved->chunk->segment = *id;
    for (uint32_t i = 0; i < filled->count; i++) {
        struct interval f = filled->list[i];
        memcpy(saved->chunk->bytes + f.from, chunk->bytes + f.from, f.to - f.from);
        ck_assert_int_eq(intervals_add(&saved->filled, f.from, f.to), 0);
    }
}

START_TEST(a_segment_that_was_read_back_is_matched_and_never_appended_to)
{
    uint8_t *bytes = corpus_new();
    struct saved saved = {0};
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    store_each(near, save, &saved);
    ck_assert_ptr_nonnull(saved.chunk);
    ck_assert_uint_eq(saved.source, 0);
    ck_assert_int_eq(store_adopt(near, saved.chunk, &saved.filled, 0), -EEXIST);
    store_free(near);
    near = store_of(MEMORY / 4, NEAR_EPOCH + 1, NULL, NULL);
    struct intervals none = {0};
    ck_assert_int_eq(store_adopt(near, saved.chunk, &none, 0), -EINVAL);
    struct chunk *small = chunk_new(1000);
    small->segment = saved.chunk->segment;
    ck_assert_int_eq(store_adopt(near, small, &saved.filled, 0), -EINVAL);
    chunk_unref(small);
    struct segment_id id = saved.chunk->segment;
    ck_assert_int_eq(store_adopt(near, saved.chunk, &saved.filled, 0), 0);
    ck_assert_uint_eq(saved.filled.count, 0);
    ck_assert_uint_eq(intervals_total(store_filled(near, &id)), CORPUS);
    ck_assert_uint_lt(pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES).literal_bytes, 16384);
    ck_assert_uint_eq(intervals_total(store_filled(near, &id)), CORPUS);
    struct slice out;
    ck_assert_int_eq(store_fill(near, 3, &id, CORPUS, bytes, 100, &out), -EPERM);
    free(bytes);
}
END_TEST

START_TEST(adopting_takes_no_memory_that_is_not_there)
{
    struct chunk *chunk = chunk_new_mapped(STORE_SEGMENT_BYTES);
    struct intervals filled = {0};
    chunk->segment = (struct segment_id){.epoch = 6, .number = 1};
    ck_assert_int_eq(intervals_add(&filled, 0, STORE_SEGMENT_BYTES), 0);
    uint64_t others = budget_left(&memory) - (1 << 20);
    ck_assert(budget_take(&memory, others));
    uint64_t used = budget_used(&memory);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 3), -ENOBUFS);
    ck_assert_uint_eq(budget_used(&memory), used);
    ck_assert_uint_eq(filled.count, 1);
    ck_assert_int_eq(store_source(near, &chunk->segment), -1);
    budget_give(&memory, others);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 3), 0);
    ck_assert_int_eq(store_source(near, &chunk->segment), 3);
}
END_TEST

static TCase *case_of(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, setup, teardown);
    suite_add_tcase(s, t);
    return t;
}

int main(void)
{
    Suite *s = suite_create("store");
    TCase *t;
    t = case_of(s, "take");
    tcase_add_test(t, what_comes_again_is_known);
    tcase_add_test(t, it_is_known_in_spans_of_any_size);
    tcase_add_test(t, a_sparse_search_still_finds_what_was_stored_sparsely);
    tcase_add_test(t, edits_cost_little);
    tcase_add_test(t, short_matches_are_copied_and_then_contiguous);
    tcase_add_test(t, interleaved_streams_arrive_whole);
    tcase_add_test(t, what_was_filled_is_matched);
    tcase_add_test(t, spans_out_of_bounds_are_refused);
    tcase_add_test(t, an_error_of_emit_ends_the_call_and_leaks_nothing);
    t = case_of(s, "fill");
    tcase_add_test(t, a_fill_is_found_where_it_was_put);
    tcase_add_test(t, hostile_fills_are_refused_and_change_nothing);
    tcase_add_test(t, a_segment_in_too_many_parts_takes_no_more);
    t = case_of(s, "memory");
    tcase_add_test(t, the_oldest_goes_when_memory_is_used_up);
    tcase_add_test(t, a_segment_with_a_slice_stays);
    tcase_add_test(t, evictions_on_both_sides_lose_no_byte);
    tcase_add_test(t, a_peer_that_fills_a_byte_a_segment_is_held_to_the_budget);
    tcase_add_test(t, the_index_stays_within_its_share);
    tcase_add_test(t, old_bytes_are_known_when_the_index_has_grown);
    t = case_of(s, "adopt");
    tcase_add_test(t, a_segment_that_was_read_back_is_matched_and_never_appended_to);
    tcase_add_test(t, adopting_takes_no_memory_that_is_not_there);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
