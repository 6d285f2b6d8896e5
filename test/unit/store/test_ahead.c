/* test_ahead.c - what a store says will be written next: before it is written, counted, and never more than
 * has been filled. */
#include "store/rig.h"

enum {
    MB = 1 << 20,
    UNIT = 2 * MB,
    UNITS = STORE_SEGMENT_BYTES / UNIT,
    ASKED_MOST = 256,
    PEER = 3,
    SPAN = 65536
};

static struct store *s;
static uint64_t before_bytes;
static unsigned asked_count, refused_count;
static bool busy;
static struct asked {
    struct chunk *chunk;
    uint32_t unit;
} asked[ASKED_MOST];

static uint64_t used_bytes(void)
{
    return budget_used(&memory) - before_bytes;
}

/* Nothing is in it yet, and so many bytes are counted. */
static bool note_asked(void *owner, struct chunk *chunk, uint32_t off, uint32_t len)
{
    struct store_counters c;
    (void)owner;
    refused_count += busy;
    if (busy)
        return false;
    ck_assert_uint_eq(len, UNIT);
    ck_assert_uint_eq(off % UNIT, 0);
    ck_assert_uint_lt(asked_count, ASKED_MOST);
    const struct intervals *filled = chunk_is_segment(chunk) ? store_filled(s, &chunk->segment) : NULL;
    if (filled != NULL)
        ck_assert_uint_ge(intervals_next_from(filled, off), off + len);
    for (unsigned i = 0; i < asked_count; i++)
        ck_assert(asked[i].chunk != chunk || asked[i].unit != off / UNIT);
    asked[asked_count++] = (struct asked){.chunk = chunk, .unit = off / UNIT};
    store_read_counters(s, &c);
    ck_assert_uint_ge(c.memory_bytes, c.segment_bytes + len);
    return true;
}

static const struct store_events events = {.touch_ahead = note_asked};

static void ahead_setup(void)
{
    setup();
    asked_count = refused_count = 0;
    busy = false;
    before_bytes = budget_used(&memory);
    s = store_of(2 * STORE_LEAST_BYTES, 5, &events, NULL);
}

static void ahead_teardown(void)
{
    store_free(s);
    teardown();
}

static void take_new(uint64_t len)
{
    static uint8_t bytes[SPAN];
    struct store_stream stream = {0};
    for (uint64_t at = 0; at < len; at += SPAN) {
        fill_random(bytes, SPAN);
        ck_assert_int_eq(store_take(s, &stream, bytes, SPAN, drop_piece, NULL), 0);
        ck_assert_uint_le(used_bytes(), 2 * STORE_LEAST_BYTES);
    }
    store_stream_end(s, &stream);
}

/* `number` names the segment. */
static struct chunk *fill(uint32_t number, uint32_t off, uint32_t len)
{
    static uint8_t bytes[STORE_SEGMENT_BYTES];
    struct segment_id id = {.epoch = 1000, .number = number};
    struct slice out;
    ck_assert_int_eq(store_fill(s, PEER, &id, off, bytes, len, &out), 0);
    chunk_unref(out.chunk);
    return out.chunk;
}

START_TEST(own_memory_is_asked_for_two_steps_ahead)
{
    take_new(MB);
    ck_assert_uint_eq(asked_count, 1);
    ck_assert_uint_eq(asked[0].unit, 2);
    take_new(3 * STORE_SEGMENT_BYTES);
    ck_assert_uint_eq(asked_count, 3 * UNITS + 1);
    for (unsigned i = 0; i < asked_count; i++) {
        ck_assert_uint_eq(asked[i].unit, (i + 2) % UNITS);
        ck_assert(i == 0 || (asked[i].chunk == asked[i - 1].chunk) == (asked[i].unit != 0));
    }
    /* The spare that was touched became the segment that was written. */
    struct slice last;
    struct segment_id id = {.epoch = 5, .number = 4};
    ck_assert(store_resolve(s, &id, 0, 1, &last));
    ck_assert_uint_eq(asked[asked_count - 3].unit, 0);
    ck_assert_ptr_eq(last.chunk, asked[asked_count - 3].chunk);
    chunk_unref(last.chunk);
}
END_TEST

/* No room is made for what is not needed yet, and a full store has its memory already. */
START_TEST(a_full_store_asks_for_nothing)
{
    struct store_counters c;
    do {
        take_new(MB);
        store_read_counters(s, &c);
    } while (c.evicted_segments == 0);
    ck_assert_uint_eq(c.segments, 7); /* of 128 MB, with the index: none less for what is asked ahead */
    unsigned asked_before = asked_count;
    take_new(3 * STORE_SEGMENT_BYTES);
    ck_assert_uint_eq(asked_count, asked_before);
}
END_TEST

START_TEST(where_a_peer_goes_on_it_is_asked_ahead)
{
    for (uint32_t at = 0; at < STORE_SEGMENT_BYTES; at += SPAN)
        ck_assert(fill(1, at, SPAN) != NULL);
    /* the first is filled by pages, so the second is the first that begins as a whole */
    ck_assert_uint_eq(asked_count, UNITS - 1);
    for (unsigned i = 0; i < asked_count; i++)
        ck_assert_uint_eq(asked[i].unit, (i + 3) % UNITS);
    struct chunk *next = fill(2, 0, SPAN);
    ck_assert_ptr_eq(next, asked[UNITS - 2].chunk);
    ck_assert_uint_eq(asked_count, UNITS); /* the first is whole at once, as the peer goes on */
    ck_assert_uint_eq(asked[UNITS - 1].unit, 2);
    fill(2, 2 * UNIT, 1);
    fill(2, 3 * UNIT, 1);
    ck_assert_uint_eq(asked_count, UNITS); /* nothing more until it has filled what it has */
}
END_TEST

/* The thread is at something else: nothing is counted for it. */
START_TEST(what_was_refused_takes_no_memory)
{
    struct store_counters c;
    busy = true;
    take_new(STORE_SEGMENT_BYTES + MB);
    for (uint32_t at = 0; at < 3 * UNIT; at += SPAN)
        fill(1, at, SPAN);
    store_read_counters(s, &c);
    ck_assert_uint_eq(refused_count, UNITS + 1 + 2);
    ck_assert_uint_lt(used_bytes(), c.segment_bytes + MB /* of the tail's page */ + 2 * MB + c.index_bytes);
}
END_TEST

/* Each byte costs a page of 16 KB, wherever it lies, and nothing is asked for. */
START_TEST(a_trickle_is_not_looked_ahead_of)
{
    enum { SEGMENTS = 100 };
    for (uint32_t number = 1; number <= SEGMENTS; number++) {
        for (uint32_t unit = 0; unit < UNITS; unit++)
            fill(number, unit * UNIT, 1);
    }
    ck_assert_uint_eq(asked_count, 0);
    struct store_counters c;
    store_read_counters(s, &c);
    ck_assert_uint_lt(used_bytes(), 2 * MB + c.index_bytes + SEGMENTS * (UNITS * 16384 + 8192));
}
END_TEST

/* A byte in each page has all of a huge page's memory, but filled it is not. */
START_TEST(bytes_far_apart_are_not_looked_ahead_of)
{
    for (uint32_t at = 0; at < STORE_SEGMENT_BYTES; at += 16384)
        fill(1, at, 1);
    fill(2, 0, 1);
    ck_assert_uint_eq(asked_count, 0);
    struct store_counters c;
    store_read_counters(s, &c);
    ck_assert_uint_lt(used_bytes(), 2 * MB + c.index_bytes + STORE_SEGMENT_BYTES + 65536);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store ahead");
    TCase *t = tcase_create("ahead");
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, ahead_setup, ahead_teardown);
    suite_add_tcase(suite, t);
    tcase_add_test(t, own_memory_is_asked_for_two_steps_ahead);
    tcase_add_test(t, a_full_store_asks_for_nothing);
    tcase_add_test(t, where_a_peer_goes_on_it_is_asked_ahead);
    tcase_add_test(t, what_was_refused_takes_no_memory);
    tcase_add_test(t, a_trickle_is_not_looked_ahead_of);
    tcase_add_test(t, bytes_far_apart_are_not_looked_ahead_of);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
