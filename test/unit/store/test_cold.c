/* test_cold.c - what is on disk only: how it is found, asked for, and comes back. The disk is played here: a
 * segment is saved before it goes. */
#include "store/rig.h"

#include <errno.h>

enum { MB = 1 << 20, DISK = 1 << 30, SEED = 42 /* of store_of */, STAY_US = 2000000, KEY_BYTES = 32 };

static struct store *s;
static uint64_t time_us;
static unsigned wakes, evictions;
static struct sampler sampler;

static uint64_t clock_us(void *owner)
{
    (void)owner;
    return time_us;
}

static void note_evicted(void *owner, const struct segment_id *id)
{
    (void)owner;
    (void)id;
    evictions++;
}

static void wake(void *arg)
{
    ck_assert_ptr_eq(arg, &wakes);
    wakes++;
}

static const struct store_events events = {.evicted = note_evicted, .now_us = clock_us};

static void cold_setup(void)
{
    setup();
    time_us = STAY_US;
    wakes = evictions = 0;
    sampler_init(&sampler, SEED);
    s = store_of(STORE_LEAST_BYTES, 5, &events, NULL);
    ck_assert_int_eq(store_cold_begin(s, DISK, wake, &wakes), 0);
}

static void cold_teardown(void)
{
    store_free(s);
    teardown();
}

static struct store_counters counters(void)
{
    struct store_counters c;
    store_read_counters(s, &c);
    return c;
}

/* A new stream takes it; how many bytes of it were known. */
static uint64_t take(const uint8_t *bytes, uint32_t len)
{
    struct store_stream stream = {0};
    uint64_t before = counters().matched_bytes;
    for (uint32_t at = 0; at < len;) {
        uint32_t span = len - at < STORE_TAKE_MOST_BYTES ? len - at : STORE_TAKE_MOST_BYTES;
        ck_assert_int_eq(store_take(s, &stream, bytes + at, span, drop_piece, NULL), 0);
        at += span;
    }
    store_stream_end(s, &stream);
    return counters().matched_bytes - before;
}

static void take_new(uint32_t len)
{
    uint8_t *bytes = malloc(len);
    fill_random(bytes, len);
    ck_assert_uint_eq(take(bytes, len), 0);
    free(bytes);
}

/* ---- a disk ---- */

struct file {
    struct segment_id id;
    uint8_t *bytes; /* of a segment */
    uint32_t source;
    struct intervals filled;
    struct sample sample;
};

static struct file file_of(uint64_t epoch, uint32_t number, uint32_t source, uint32_t len)
{
    struct file f = {.id = {.epoch = epoch, .number = number}, .source = source};
    f.bytes = malloc(STORE_SEGMENT_BYTES);
    fill_random(f.bytes, len);
    ck_assert_int_eq(intervals_add(&f.filled, 0, len), 0);
    sample_add(&sampler, f.bytes, len, &f.sample, NULL);
    ck_assert_uint_gt(f.sample.count, len / SAMPLE_STRIDE_BYTES / 2);
    return f;
}

static void note(const struct file *f)
{
    store_cold_note(s, &f->id, f->source, &f->sample);
}

static void file_end(struct file *f)
{
    free(f->bytes);
    intervals_clear(&f->filled);
}

/* As it is read back. */
static int adopt(const struct file *f)
{
    struct chunk *chunk = chunk_new_mapped(STORE_SEGMENT_BYTES);
    struct intervals filled = {0};
    chunk->segment = f->id;
    for (uint32_t i = 0; i < f->filled.count; i++) {
        struct interval part = f->filled.list[i];
        memcpy(chunk->bytes + part.from, f->bytes + part.from, part.to - part.from);
        ck_assert_int_eq(intervals_add(&filled, part.from, part.to), 0);
    }
    int err = store_cold_adopt(s, chunk, &filled, f->source);
    if (err < 0) {
        chunk_unref(chunk);
        intervals_clear(&filled);
    }
    store_cold_end(s, &f->id, false);
    return err;
}

static bool next_is(const struct file *f)
{
    struct segment_id id;
    return store_cold_next(s, &id) && segment_id_equal(&id, &f->id);
}

static bool nothing_is_wanted(void)
{
    struct segment_id id;
    return !store_cold_next(s, &id);
}

/* ---- samples ---- */

START_TEST(the_same_bytes_give_the_same_sample_wherever_they_lie)
{
    uint8_t *bytes = corpus_new();
    struct sample all = {0}, part = {0}, both = {0}, added = {0};
    sample_add(&sampler, bytes, CORPUS, &all, NULL);
    sample_add(&sampler, bytes + 12345, CORPUS / 2, &part, NULL);
    sample_add(&sampler, bytes, CORPUS, &both, &added);
    ck_assert_uint_eq(added.count, all.count);
    sample_add(&sampler, bytes + 12345, CORPUS / 2, &both, &added);
    ck_assert_uint_gt(part.count, CORPUS / 2 / SAMPLE_STRIDE_BYTES * 3 / 4);
    ck_assert_uint_lt(both.count, all.count + 3); /* but for the edges it adds nothing */
    ck_assert_uint_eq(both.count, added.count);
    for (uint32_t i = 0; i < all.count; i++)
        ck_assert(sample_has(all.keys[i]));
    struct sampler other;
    sampler_init(&other, SEED + 1);
    sample_add(&other, bytes, CORPUS, &both, NULL);
    ck_assert_uint_gt(both.count, all.count + all.count / 2);
    free(bytes);
}
END_TEST

START_TEST(a_sample_is_bounded_and_short_bytes_have_none)
{
    uint8_t *bytes = corpus_new();
    struct sample all = {0};
    for (int i = 0; i < 10; i++) {
        sample_add(&sampler, bytes, CORPUS, &all, NULL);
        fill_random(bytes, CORPUS);
    }
    ck_assert_uint_eq(all.count, SAMPLE_MOST);
    for (uint32_t len = 0; len < 40; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        memset(exact, 0, len > 0 ? len : 1);
        struct sample none = {0};
        sample_add(&sampler, exact, len, &none, NULL);
        ck_assert(len >= 32 || none.count == 0);
        free(exact);
    }
    free(bytes);
}
END_TEST

/* ---- what is wanted ---- */

START_TEST(bytes_of_a_cold_segment_want_it_back)
{
    struct file f = file_of(5000, 1, 3, STORE_SEGMENT_BYTES);
    note(&f);
    ck_assert_uint_eq(take(f.bytes + 5 * MB, MB), 0);
    ck_assert_uint_eq(wakes, 1);
    ck_assert_uint_eq(counters().cold_hits, 1);
    ck_assert_uint_eq(take(f.bytes + 7 * MB, MB), 0); /* it is wanted already */
    ck_assert_uint_eq(wakes, 1);
    ck_assert(next_is(&f));
    ck_assert(nothing_is_wanted());
    ck_assert_uint_eq(take(f.bytes + 8 * MB, MB), 0); /* it is being read */
    ck_assert_uint_eq(wakes, 1);
    ck_assert_int_eq(adopt(&f), 0);
    ck_assert_uint_eq(counters().cold_adopted, 1);
    ck_assert_uint_ge(take(f.bytes + 9 * MB, 4 * MB), 4 * MB - 4096);
    ck_assert_uint_eq(wakes, 1);
    ck_assert_int_eq(store_source(s, &f.id), 3);
    file_end(&f);
}
END_TEST

START_TEST(other_bytes_want_nothing)
{
    for (uint32_t i = 1; i <= 20; i++) {
        struct file f = file_of(5000, i, 3, 2 * MB);
        note(&f);
        file_end(&f);
    }
    ck_assert_uint_eq(counters().cold_files, 20);
    for (int i = 0; i < 8; i++)
        take_new(16 * MB);
    ck_assert_uint_eq(wakes, 0);
}
END_TEST

/* Where the bytes of the next sampled key begin. */
static uint32_t next_key(const struct file *f, uint32_t from)
{
    struct sample one = {0};
    for (;; from++) {
        sample_add(&sampler, f->bytes + from, KEY_BYTES, &one, NULL);
        if (one.count > 0)
            return from;
    }
}

/* These bytes again and again among others: too short to be a match, though they are known. */
static void meet(const struct file *f, uint32_t from)
{
    static uint8_t bytes[1024];
    for (int i = 0; i < 4; i++) { /* another anchor just before them would hide them */
        fill_random(bytes, sizeof(bytes));
        memcpy(bytes + 512, f->bytes + from, KEY_BYTES);
        take(bytes, sizeof(bytes));
    }
}

START_TEST(a_single_hit_or_two_far_apart_are_chance)
{
    struct file f = file_of(5000, 1, 3, 4 * MB);
    note(&f);
    uint32_t first = next_key(&f, 0), second = next_key(&f, first + 1), third = next_key(&f, second + 1);
    meet(&f, first); /* the same key again is no second one */
    ck_assert_uint_eq(wakes, 0);
    take_new(17 * MB);
    meet(&f, second); /* too late */
    ck_assert_uint_eq(wakes, 0);
    meet(&f, third);

    ck_assert_uint_eq(wakes, 1);

    file_end(&f);
}
END_TEST

START_TEST(what_is_in_memory_is_not_wanted)
{
    struct file f = file_of(5000, 1, 3, STORE_SEGMENT_BYTES);
    struct slice out;
    note(&f);
    ck_assert_int_eq(store_fill(s, 3, &f.id, 0, f.bytes, 65535, &out), 0);
    chunk_unref(out.chunk);
    ck_assert_uint_eq(wakes, 0);
    ck_assert_int_eq(store_fill(s, 3, &f.id, 65535, f.bytes + 65535, 1, &out),
                     0); /* now the rest is worth it */
    chunk_unref(out.chunk);
    ck_assert_uint_eq(wakes, 1);
    ck_assert(next_is(&f));
    store_cold_end(s, &f.id, false);
    ck_assert_uint_eq(take(f.bytes + MB, 8 * MB), 0);
    ck_assert_uint_eq(wakes, 1);
    file_end(&f);
}
END_TEST

START_TEST(a_peer_that_speaks_of_a_segment_wants_it)
{
    struct file f = file_of(5000, 1, 3, MB), own = file_of(5000, 2, 0, MB);
    struct slice out;
    note(&f);
    note(&own);
    store_want(s, 4, &f.id, 65536); /* not that peer's */
    store_want(s, 3, &(struct segment_id){.epoch = 5000, .number = 3}, 65536);
    store_want(s, 3, &own.id, 30000);
    ck_assert_uint_eq(wakes, 0);
    store_want(s, 3, &f.id, 65536);
    store_want(s, 4, &own.id, 40000);
    ck_assert_uint_eq(wakes, 2);
    ck_assert(next_is(&f));
    /* meanwhile the peer goes on filling it: the two become one */
    ck_assert_int_eq(store_fill(s, 3, &f.id, 2000, f.bytes + 2000, 1000, &out), 0);
    chunk_unref(out.chunk);
    ck_assert_int_eq(adopt(&f), 0);
    ck_assert(store_resolve(s, &f.id, 0, MB, &out));
    ck_assert_mem_eq(slice_bytes(&out), f.bytes, MB);
    chunk_unref(out.chunk);
    ck_assert(next_is(&own));
    ck_assert_int_eq(adopt(&own), 0);
    ck_assert_int_eq(adopt(&own), -EEXIST);
    ck_assert_int_eq(store_source(s, &own.id), 0);
    file_end(&f);
    file_end(&own);
}
END_TEST

START_TEST(the_next_segment_is_wanted_before_the_one_in_use_ends)
{
    struct file first = file_of(5000, 1, 3, STORE_SEGMENT_BYTES), next = file_of(5000, 2, 3, MB);
    struct slice out;
    note(&first);
    note(&next);
    take(first.bytes, MB);
    ck_assert(next_is(&first));
    ck_assert_int_eq(adopt(&first), 0);
    take(first.bytes + MB, MB);
    ck_assert(store_resolve(s, &first.id, 2 * MB, 65536, &out));
    chunk_unref(out.chunk);
    ck_assert_uint_eq(wakes, 1);
    if (_i == 0) {
        take(first.bytes + 8 * MB, MB);
    } else {
        ck_assert(store_resolve(s, &first.id, 8 * MB, 65536, &out));
        chunk_unref(out.chunk);
    }
    ck_assert_uint_eq(wakes, 2);
    take(first.bytes + 10 * MB, MB);
    ck_assert_uint_eq(wakes, 2);
    ck_assert(next_is(&next));
    file_end(&first);
    file_end(&next);
}
END_TEST

enum { A_PEER_WAITS_FOR = 4, MANY = 6 };

/* One after the other, from the first on: how many are wanted. */
static unsigned want_all(const struct file *files, unsigned count)
{
    unsigned before = wakes;
    for (unsigned i = 0; i < count; i++)
        store_want(s, files[i].source, &files[i].id, 65536);
    return wakes - before;
}

START_TEST(a_peer_leaves_room_and_turns_for_others)
{
    struct file greedy[MANY], other = file_of(6000, 1, 4, MB);
    for (unsigned i = 0; i < MANY; i++) {
        greedy[i] = file_of(5000, 2 * i, 3, MB);
        note(&greedy[i]);
    }
    note(&other);
    ck_assert_uint_eq(want_all(greedy, MANY), A_PEER_WAITS_FOR);
    ck_assert_uint_eq(want_all(&other, 1), 1);
    ck_assert(next_is(&greedy[0]));
    ck_assert_uint_eq(want_all(greedy, MANY), 1); /* in the place of the first */
    ck_assert(next_is(&other));                   /* though it came last */
    ck_assert(next_is(&greedy[1]));
    for (unsigned i = 0; i < MANY; i++)
        file_end(&greedy[i]);
    file_end(&other);
}
END_TEST

START_TEST(a_read_ahead_that_had_no_place_is_asked_for_again)
{
    struct file first = file_of(7000, 1, 3, STORE_SEGMENT_BYTES), next = file_of(7000, 2, 3, MB);
    struct file others[A_PEER_WAITS_FOR];
    struct slice out;
    note(&first);
    ck_assert_uint_eq(want_all(&first, 1), 1);
    ck_assert(next_is(&first));
    ck_assert_int_eq(adopt(&first), 0);
    for (unsigned i = 0; i < A_PEER_WAITS_FOR; i++) {
        others[i] = file_of(5000, 2 * i, 3, MB);
        note(&others[i]);
    }
    note(&next);
    ck_assert_uint_eq(want_all(others, A_PEER_WAITS_FOR), A_PEER_WAITS_FOR);
    unsigned before = wakes;
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(store_resolve(s, &first.id, 8 * MB, 65536, &out));
        chunk_unref(out.chunk);
        ck_assert_uint_eq(wakes, before + i);
        if (i == 0)
            ck_assert(next_is(&others[0]));
    }
    for (unsigned i = 0; i < A_PEER_WAITS_FOR; i++)
        file_end(&others[i]);
    file_end(&first);
    file_end(&next);
}
END_TEST

START_TEST(a_file_that_is_gone_is_forgotten)
{
    struct file f = file_of(5000, 1, 3, 4 * MB);
    note(&f);
    take(f.bytes, MB);
    ck_assert(next_is(&f));
    store_cold_end(s, &f.id, true);
    ck_assert_uint_eq(counters().cold_files, 0);
    take(f.bytes + MB, 3 * MB);
    store_want(s, 3, &f.id, 65536);
    ck_assert_uint_eq(wakes, 1);
    file_end(&f);
}
END_TEST

/* ---- memory ---- */

/* What is in memory of it. */
static void save(struct file *f)
{
    const struct intervals *filled = store_filled(s, &f->id);
    struct slice part;
    for (uint32_t i = 0; i < filled->count; i++) {
        struct interval one = filled->list[i];
        ck_assert_int_eq(intervals_add(&f->filled, one.from, one.to), 0);
        ck_assert(store_resolve(s, &f->id, one.from, one.to - one.from, &part));
        memcpy(f->bytes + one.from, slice_bytes(&part), part.len);
        chunk_unref(part.chunk);
        sample_add(&sampler, f->bytes + one.from, part.len, &f->sample, NULL);
    }
}

START_TEST(own_segments_of_this_run_come_back_and_are_not_appended_to)
{
    uint8_t *bytes = malloc(24 * MB);
    fill_random(bytes, 24 * MB);
    struct store_stream idle = {0}; /* with room in the segment, for later */
    ck_assert_int_eq(store_take(s, &idle, bytes + 23 * MB, 100, drop_piece, NULL), 0);
    take(bytes, 24 * MB);
    struct file f = {.id = {.epoch = 5, .number = 1}, .bytes = malloc(STORE_SEGMENT_BYTES)};
    save(&f);
    uint64_t filled_bytes = intervals_total(&f.filled);
    ck_assert_uint_lt(filled_bytes, STORE_SEGMENT_BYTES);
    note(&f);

    ck_assert_int_eq(adopt(&f), -EEXIST); /* it never went */
    while (store_source(s, &f.id) >= 0)
        take_new(16 * MB);
    take(bytes, 2 * MB);
    ck_assert(next_is(&f));
    ck_assert_int_eq(adopt(&f), 0);
    ck_assert_uint_gt(take(bytes + 3 * MB, 8 * MB), 8 * MB - 65536);
    take_new(8 * MB);
    fill_random(bytes, 100);
    ck_assert_int_eq(store_take(s, &idle, bytes, 100, drop_piece, NULL), 0);
    store_stream_end(s, &idle);
    ck_assert_uint_eq(intervals_total(store_filled(s, &f.id)), filled_bytes);

    f.id.number = 1000; /* none of ours yet */
    ck_assert_int_eq(adopt(&f), -EINVAL);
    free(bytes);
    file_end(&f);
}
END_TEST

START_TEST(what_came_back_is_not_pushed_out_by_what_comes_next)
{
    struct file f[6];
    unsigned back = 0;
    take_new(64 * MB);
    for (uint32_t i = 0; i < 6; i++) {
        f[i] = file_of(5000, i + 1, 0, STORE_SEGMENT_BYTES);
        note(&f[i]);
        take(f[i].bytes, MB);
        ck_assert_uint_eq(wakes, i + 1);
        unsigned went = evictions;
        if (!next_is(&f[i])) {
            ck_assert_uint_eq(evictions, went); /* nothing went for it */
            break;
        }
        ck_assert_int_eq(adopt(&f[i]), 0);
        ck_assert_uint_gt(evictions, went);
        back++;
    }
    ck_assert_uint_ge(back, 2);
    ck_assert_uint_lt(back, 4);
    for (unsigned i = 0; i < back; i++)
        ck_assert_int_eq(store_source(s, &f[i].id), 0);
    time_us += STAY_US; /* and later they may go */
    ck_assert(next_is(&f[back]));

    ck_assert_int_eq(adopt(&f[back]), 0);
    ck_assert_int_eq(store_source(s, &f[0].id), -1);
    for (unsigned i = 0; i <= back; i++)
        file_end(&f[i]);
}
END_TEST

START_TEST(who_waits_too_long_is_forgotten)
{
    struct file f = file_of(5000, 1, 3, 4 * MB);
    note(&f);
    take(f.bytes, MB);
    ck_assert_uint_eq(wakes, 1);
    time_us += 3 * STAY_US;
    ck_assert(nothing_is_wanted());
    take(f.bytes + 2 * MB, MB);
    ck_assert_uint_eq(wakes, 2);
    ck_assert(next_is(&f));
    file_end(&f);
}
END_TEST

START_TEST(the_table_is_bounded_and_counted)
{
    struct store_counters before = counters();
    ck_assert_uint_gt(before.index_bytes, DISK / SAMPLE_STRIDE_BYTES * sizeof(uint64_t));
    ck_assert_uint_lt(before.index_bytes, STORE_LEAST_BYTES / 16);
    ck_assert_int_eq(store_cold_begin(s, DISK, wake, &wakes), -EEXIST);
    struct store *huge =
        store_of(STORE_LEAST_BYTES, 6, &events, NULL); /* a disk that it cannot know all of */
    ck_assert_int_eq(store_cold_begin(huge, 1ULL << 50, wake, &wakes), 0);
    struct store_counters c;
    store_read_counters(huge, &c);
    ck_assert_uint_lt(c.index_bytes, STORE_LEAST_BYTES / 16);
    store_free(huge);
    struct file f = file_of(5000, 1, 3, MB);
    for (f.id.number = 1; f.id.number <= 100000; f.id.number++)
        note(&f);
    c = counters();
    ck_assert_uint_lt(c.cold_files, DISK / STORE_SEGMENT_BYTES * 16);
    ck_assert_uint_eq(c.index_bytes, before.index_bytes);
    take(f.bytes, MB);
    f.id.number = 100000;
    ck_assert(next_is(&f)); /* the newest of all that have these bytes */
    ck_assert(nothing_is_wanted());
    f.id.number = 1;
    store_want(s, 3, &f.id, 65536); /* long forgotten */
    ck_assert_uint_eq(wakes, 1);
    file_end(&f);
}
END_TEST

static TCase *cold_case(Suite *suite, const char *name)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, cold_setup, cold_teardown);
    suite_add_tcase(suite, t);
    return t;
}

int main(void)
{
    Suite *suite = suite_create("cold");
    TCase *t = cold_case(suite, "samples");
    tcase_add_test(t, the_same_bytes_give_the_same_sample_wherever_they_lie);
    tcase_add_test(t, a_sample_is_bounded_and_short_bytes_have_none);
    t = cold_case(suite, "wanted");
    tcase_add_test(t, bytes_of_a_cold_segment_want_it_back);
    tcase_add_test(t, other_bytes_want_nothing);
    tcase_add_test(t, a_single_hit_or_two_far_apart_are_chance);
    tcase_add_test(t, what_is_in_memory_is_not_wanted);
    tcase_add_test(t, a_peer_that_speaks_of_a_segment_wants_it);
    tcase_add_loop_test(t, the_next_segment_is_wanted_before_the_one_in_use_ends, 0, 2);
    tcase_add_test(t, a_file_that_is_gone_is_forgotten);
    tcase_add_test(t, a_peer_leaves_room_and_turns_for_others);
    tcase_add_test(t, a_read_ahead_that_had_no_place_is_asked_for_again);
    t = cold_case(suite, "memory");
    tcase_add_test(t, own_segments_of_this_run_come_back_and_are_not_appended_to);
    tcase_add_test(t, what_came_back_is_not_pushed_out_by_what_comes_next);
    tcase_add_test(t, who_waits_too_long_is_forgotten);
    tcase_add_test(t, the_table_is_bounded_and_counted);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
