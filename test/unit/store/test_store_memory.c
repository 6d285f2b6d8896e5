/* test_store_memory.c - no memory beyond the budget, what goes when it is used up, and what comes back. */
#include "store/rig.h"

#include <errno.h>

/* ---- memory ---- */

struct evictions {
    unsigned count;
    struct segment_id last;
    struct store *store;
    uint64_t time_us; /* goes on with each segment */
};

static uint64_t next_time_us(void *owner)
{
    struct evictions *e = owner;
    return ++e->time_us;
}

static void note_evicted(void *owner, const struct segment_id *id)
{
    struct evictions *e = owner;
    struct slice out;
    e->count++;
    e->last = *id;
    ck_assert_int_eq(store_source(e->store, id), -1);
    ck_assert(!store_resolve(e->store, id, 0, 1, &out));
}

static const struct store_events eviction_events = {.evicted = note_evicted, .now_us = next_time_us};

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
    ck_assert_uint_eq(counters.oldest_us, e.count + 1);
    ck_assert_uint_eq(counters.memory_bytes, budget_used(&memory) - before);
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

static int keep_piece(void *arg, struct slice piece)
{
    struct kept *k = arg;
    ck_assert_uint_lt(k->count, 4096);
    k->slices[k->count++] = piece;
    return 0;
}

/* A peer that has bytes of an own segment still may send them by their old address; nothing is appended
 * there. */
START_TEST(an_own_segment_that_went_is_filled_by_a_peer)
{
    uint8_t *bytes = corpus_new();
    const struct segment_id went = {.epoch = NEAR_EPOCH, .number = 1};
    struct slice out;
    store_free(near);
    near = store_of(STORE_LEAST_BYTES, NEAR_EPOCH, NULL, NULL);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_int_eq(store_fill(near, 3, &went, CORPUS, bytes, 100, &out), -EPERM);
    while (store_source(near, &went) >= 0) {
        fill_random(bytes, CORPUS);
        pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    }
    ck_assert_int_eq(store_fill(near, 3, &went, 1000, bytes, 100, &out), 0);
    chunk_unref(out.chunk);
    ck_assert_int_eq(store_source(near, &went), 3);
    for (int i = 0; i < 4; i++) {
        fill_random(bytes, CORPUS);
        pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    }
    ck_assert_uint_eq(intervals_total(store_filled(near, &went)), 100);
    free(bytes);
}
END_TEST

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

/* Own bytes and another peer's stay, whatever number of segments a peer puts a byte into; the older of its
 * own go. */
/* Parts that have grown together leave nothing counted behind. */
START_TEST(a_list_that_gets_shorter_is_counted_so)
{
    enum { PART = 16 << 10 };
    static uint8_t bytes[PART];
    static const struct segment_id id = {77, 1};
    struct store_counters counters[2];
    for (unsigned i = 0; i < 2; i++) {
        struct store *s = store_of(STORE_LEAST_BYTES, 5, NULL, NULL);
        for (uint32_t first = 0; first <= i; first++) {
            for (uint32_t off = first * PART; off < STORE_SEGMENT_BYTES; off += (i + 1) * PART) {
                struct slice out;
                ck_assert_int_eq(store_fill(s, NEAR, &id, off, bytes, PART, &out), 0);
                chunk_unref(out.chunk);
            }
        }
        store_read_counters(s, &counters[i]);
        store_free(s);
    }
    ck_assert_uint_eq(counters[0].segment_bytes, STORE_SEGMENT_BYTES);
    ck_assert_uint_eq(counters[1].memory_bytes - counters[1].index_bytes,
                      counters[0].memory_bytes - counters[0].index_bytes);
}
END_TEST

START_TEST(a_flood_of_sparse_segments_pushes_out_itself)
{
    enum { OWN = 20 << 20, OTHERS = 12 << 20, SPAN = 1 << 20 };
    static uint8_t bytes[SPAN];
    struct store_stream stream = {0};
    struct slice out;
    struct store *s = store_of(STORE_LEAST_BYTES, 5, NULL, NULL);
    const struct segment_id own = {.epoch = 5, .number = 1}, others = {.epoch = 6, .number = 1};
    for (uint32_t at = 0; at < OWN; at += 65536) {
        fill_random(bytes, 65536);
        ck_assert_int_eq(store_take(s, &stream, bytes, 65536, drop_piece, NULL), 0);
    }
    for (uint32_t at = 0; at < OTHERS; at += SPAN) {
        ck_assert_int_eq(store_fill(s, 3, &others, at, bytes, SPAN, &out), 0);
        chunk_unref(out.chunk);
    }
    for (uint32_t number = 1; number < 20000; number++) {
        struct segment_id id = {.epoch = 1000, .number = number / (_i == 0 ? 1 : 100)};
        uint32_t off = number * 16384 % STORE_SEGMENT_BYTES;
        int err = store_fill(s, 4, &id, off, (const uint8_t *)"x", 1, &out);
        ck_assert_int_eq(err, 0);
        chunk_unref(out.chunk);
    }
    ck_assert_int_eq(store_source(s, &own), 0);
    ck_assert_int_eq(store_source(s, &others), 3);
    ck_assert_uint_eq(intervals_total(store_filled(s, &others)), OTHERS);
    struct segment_id first = {.epoch = 1000, .number = 1},
                      last = {.epoch = 1000, .number = _i == 0 ? 19999 : 199};
    ck_assert_int_eq(store_source(s, &first), -1);
    ck_assert_int_eq(store_source(s, &last), 4);
    /* Who brings as many bytes as he takes may push out the oldest. */
    for (uint32_t at = 0; at < 5 * STORE_SEGMENT_BYTES; at += SPAN) {
        struct segment_id id = {.epoch = 2000, .number = 1 + at / STORE_SEGMENT_BYTES};
        ck_assert_int_eq(store_fill(s, 3, &id, at % STORE_SEGMENT_BYTES, bytes, SPAN, &out), 0);
        chunk_unref(out.chunk);
    }
    ck_assert_int_eq(store_source(s, &own), -1);
    store_stream_end(s, &stream);
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

/* A segment of another node, as it is read back: chunk and what is filled. */
static struct chunk *read_back(uint64_t epoch, struct intervals *filled, uint32_t from, uint32_t to,
                               const uint8_t *bytes)
{
    struct chunk *chunk = chunk_new_mapped(STORE_SEGMENT_BYTES);
    ck_assert_ptr_nonnull(chunk);
    chunk->segment = (struct segment_id){.epoch = epoch, .number = 1};
    memcpy(chunk->bytes + from, bytes + from, to - from);
    ck_assert_int_eq(intervals_add(filled, from, to), 0);
    return chunk;
}

static void fill_at(uint32_t source, const struct segment_id *id, const uint8_t *bytes, uint32_t off,
                    uint32_t len)
{
    struct slice out;
    ck_assert_int_eq(store_fill(near, source, id, off, bytes + off, len, &out), 0);
    chunk_unref(out.chunk);
}

/* What it takes is counted: huge pages where it has such, else what is filled. */
START_TEST(what_comes_back_is_counted_as_it_lies_in_memory)
{
    enum { HUGE = 2 << 20, PAGE = 16 << 10 };
    bool huge = _i % 2 == 1;
    uint32_t source = _i < 2 ? 0 : 3;
    struct chunk *chunk = chunk_new_mapped(STORE_SEGMENT_BYTES);
    struct intervals filled = {0};
    chunk_ask_huge(chunk, huge);
    chunk->segment = (struct segment_id){.epoch = 6, .number = 1};
    ck_assert_int_eq(intervals_add(&filled, 0, 100), 0);
    ck_assert_int_eq(intervals_add(&filled, 2 * HUGE - 10, 2 * HUGE + 10), 0);
    uint64_t before = budget_used(&memory), pages = 3 * (huge ? HUGE : PAGE);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, source), 0);
    ck_assert_uint_ge(budget_used(&memory) - before, pages);
    ck_assert_uint_lt(budget_used(&memory) - before, pages + PAGE);
}
END_TEST

START_TEST(a_segment_that_its_source_began_anew_is_completed)
{
    uint8_t *bytes = corpus_new();
    struct intervals filled = {0};
    struct chunk *chunk = read_back(6, &filled, 1000, 900000, bytes);
    struct segment_id id = chunk->segment;
    fill_at(3, &id, bytes, 899000, 2000);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 4), -EEXIST);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 3), 0);
    ck_assert_uint_eq(filled.count, 0);
    struct slice out;
    ck_assert(store_resolve(near, &id, 1000, 900000, &out));
    ck_assert_mem_eq(slice_bytes(&out), bytes + 1000, out.len);
    chunk_unref(out.chunk);
    free(bytes);
}
END_TEST

START_TEST(an_own_segment_replaces_what_a_peer_said_of_it)
{
    uint8_t *bytes = corpus_new();
    struct intervals filled = {0};
    struct chunk *chunk = read_back(6, &filled, 0, 100000, bytes);
    struct segment_id id = chunk->segment;
    struct slice held;
    ck_assert_int_eq(store_fill(near, 3, &id, 0, bytes + 1, 5000, &held), 0);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 0), -EEXIST); /* somebody reads it */
    chunk_unref(held.chunk);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 0), 0);
    ck_assert_int_eq(store_source(near, &id), 0);
    ck_assert(store_resolve(near, &id, 0, 100000, &held));
    ck_assert_mem_eq(slice_bytes(&held), bytes, held.len);
    chunk_unref(held.chunk);
    free(bytes);
}
END_TEST

struct collected {
    uint64_t bytes;
    unsigned visits, visits_most;
    struct intervals parts;
    uint32_t source;
};

static bool collect(void *arg, struct store_fresh *fresh)
{
    struct collected *c = arg;
    ck_assert_uint_gt(fresh->parts.count, 0);
    ck_assert_uint_ge(fresh->memory_bytes, intervals_total(&fresh->parts));
    c->bytes += intervals_total(&fresh->parts);
    c->source = fresh->source;
    intervals_clear(&c->parts);
    c->parts = fresh->parts;
    return ++c->visits < c->visits_most;
}

START_TEST(what_is_new_is_collected_once)
{
    uint8_t *bytes = corpus_new();
    struct collected c = {.visits_most = 100};
    struct segment_id id = {.epoch = 6, .number = 1};
    fill_at(3, &id, bytes, 0, 4000); /* before anybody asked */
    store_collect_begin(near);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    store_collect(near, 1, collect, &c);
    ck_assert_uint_eq(c.bytes, CORPUS - 4000);
    ck_assert_uint_eq(c.source, 0);
    store_collect(near, 1, collect, &c);
    ck_assert_uint_eq(c.visits, 1);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES); /* known */
    struct intervals filled = {0};
    struct chunk *chunk = read_back(7, &filled, 0, 900000, bytes);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 3), 0);
    chunk = read_back(6, &filled, 0, 900000, bytes);
    ck_assert_int_eq(store_adopt(near, chunk, &filled, 3), 0); /* one with what was filled */
    store_collect(near, 1, collect, &c);
    ck_assert_uint_lt(c.bytes, CORPUS + 16384);
    c.bytes = 0;
    fill_at(3, &id, bytes, 890000, 20000);
    store_collect(near, 1, collect, &c);
    ck_assert_uint_eq(c.source, 3);
    ck_assert_uint_eq(c.bytes, 10000);
    ck_assert_uint_eq(c.parts.list[0].from, 900000);
    intervals_clear(&c.parts);
    free(bytes);
}
END_TEST

START_TEST(short_parts_wait_until_they_have_grown)
{
    uint8_t *bytes = corpus_new();
    struct collected c = {.visits_most = 1};
    struct segment_id one = {.epoch = 6, .number = 1}, two = {.epoch = 6, .number = 2};
    store_collect_begin(near);
    fill_at(3, &one, bytes, 0, 300);
    fill_at(3, &one, bytes, 1000, 600);
    fill_at(3, &two, bytes, 0, 700);
    store_collect(near, 500, collect, &c); /* one visit */
    ck_assert_uint_eq(c.bytes, 600);
    store_collect(near, 500, collect, &c);
    ck_assert_uint_eq(c.bytes, 1300);
    fill_at(3, &one, bytes, 300, 200);
    store_collect(near, 500, collect, &c);
    ck_assert_uint_eq(c.bytes, 1800);
    ck_assert_uint_eq(c.parts.list[0].to, 500);
    store_collect(near, 1, collect, &c);
    ck_assert_uint_eq(c.visits, 3);
    intervals_clear(&c.parts);
    free(bytes);
}
END_TEST

static uint64_t time_us;

static uint64_t time_now_us(void *owner)
{
    (void)owner;
    return time_us;
}

START_TEST(short_parts_wait_no_longer_than_a_minute)
{
    static const struct store_events events = {.now_us = time_now_us};
    uint8_t *bytes = corpus_new();
    struct collected c = {.visits_most = 100};
    struct segment_id id = {.epoch = 6, .number = 1};
    store_free(near);
    near = store_of(MEMORY / 2, NEAR_EPOCH, &events, NULL);
    store_collect_begin(near);
    time_us = 1000;
    fill_at(3, &id, bytes, 0, 300);
    time_us += 59999999;
    store_collect(near, 500, collect, &c);
    ck_assert_uint_eq(c.bytes, 0);
    time_us++;
    store_collect(near, 500, collect, &c);
    ck_assert_uint_eq(c.bytes, 300);
    intervals_clear(&c.parts);
    free(bytes);
}
END_TEST

/* Seventeen segments with every 4096th byte filled: 70 KB of one peer, and nobody else loses any. */
START_TEST(a_peer_of_many_small_parts_stops_only_itself)
{
    enum { SPARSE = 17, EVERY = 4096 };
    uint8_t *bytes = corpus_new();
    struct collected c = {.visits_most = 100};
    struct store_counters counters;
    store_collect_begin(near);
    for (uint32_t i = 0; i < SPARSE; i++) {
        struct segment_id id = {.epoch = 6, .number = i + 1};
        struct slice out;
        for (uint32_t at = 0; at < STORE_SEGMENT_BYTES - EVERY; at += EVERY) {
            ck_assert_int_eq(store_fill(near, 3, &id, at, bytes, 1, &out), 0);
            chunk_unref(out.chunk);
        }
    }
    store_read_counters(near, &counters);
    ck_assert_uint_gt(counters.uncollected_bytes, 0);
    struct segment_id other = {.epoch = 7, .number = 1};
    fill_at(4, &other, bytes, 0, 900000);
    pass(bytes + 900000, CORPUS - 900000, STORE_TAKE_MOST_BYTES);
    store_collect(near, 512, collect, &c);
    ck_assert_uint_eq(c.bytes, CORPUS);
    intervals_clear(&c.parts);
    free(bytes);
}
END_TEST

START_TEST(what_goes_before_it_was_collected_is_counted)
{
    uint8_t *bytes = corpus_new();
    store_free(near);
    near = store_of(STORE_LEAST_BYTES, NEAR_EPOCH, NULL, NULL);
    store_collect_begin(near);
    struct store_counters counters;
    do {
        fill_random(bytes, CORPUS);
        pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
        store_read_counters(near, &counters);
    } while (counters.evicted_segments < 3);
    ck_assert_uint_ge(counters.uncollected_bytes, 3 * (STORE_SEGMENT_BYTES / 2));
    struct collected c = {.visits_most = 100};
    store_collect(near, 1, collect, &c);
    ck_assert_uint_eq(c.bytes + counters.uncollected_bytes, counters.appended_bytes);
    intervals_clear(&c.parts);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store memory");
    TCase *t;
    t = case_of(s, "memory");
    tcase_add_test(t, the_oldest_goes_when_memory_is_used_up);
    tcase_add_test(t, an_own_segment_that_went_is_filled_by_a_peer);
    tcase_add_test(t, a_segment_with_a_slice_stays);
    tcase_add_test(t, evictions_on_both_sides_lose_no_byte);
    tcase_add_test(t, a_peer_that_fills_a_byte_a_segment_is_held_to_the_budget);
    tcase_add_test(t, a_list_that_gets_shorter_is_counted_so);
    tcase_add_loop_test(t, a_flood_of_sparse_segments_pushes_out_itself, 0, 2);
    tcase_add_test(t, the_index_stays_within_its_share);
    tcase_add_test(t, old_bytes_are_known_when_the_index_has_grown);
    t = case_of(s, "adopt");
    tcase_add_test(t, a_segment_that_was_read_back_is_matched_and_never_appended_to);
    tcase_add_test(t, adopting_takes_no_memory_that_is_not_there);
    tcase_add_loop_test(t, what_comes_back_is_counted_as_it_lies_in_memory, 0, 4);
    tcase_add_test(t, a_segment_that_its_source_began_anew_is_completed);
    tcase_add_test(t, an_own_segment_replaces_what_a_peer_said_of_it);
    t = case_of(s, "collect");
    tcase_add_test(t, what_is_new_is_collected_once);
    tcase_add_test(t, short_parts_wait_until_they_have_grown);
    tcase_add_test(t, short_parts_wait_no_longer_than_a_minute);
    tcase_add_test(t, a_peer_of_many_small_parts_stops_only_itself);
    tcase_add_test(t, what_goes_before_it_was_collected_is_counted);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
