/* test_early.c - bytes behind a gap: joined, in order, bounded; compared with an array. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/early.h"

enum { SPACE = 1 << 20 };

static uint8_t truth[SPACE];
static struct early_list list;

static void set_up(void)
{
    srandom(7);
    for (size_t i = 0; i < SPACE; i++)
        truth[i] = (uint8_t)random();
    memset(&list, 0, sizeof(list));
}

static void tear_down(void)
{
    early_clear(&list);
    chunk_thread_end();
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

static int keep(uint64_t offset, uint32_t len, bool saved)
{
    struct slice s = slice_copy(truth + offset, len);
    ck_assert_ptr_nonnull(s.chunk);
    int kept = early_keep(&list, offset, s, saved);
    if (kept <= 0)
        chunk_unref(s.chunk);
    return kept;
}

/* Everything up to the next gap, which must be right; returns where the gap begins. */
static uint64_t drain(uint64_t received)
{
    struct early e;
    while (early_take(&list, received, &e)) {
        ck_assert_uint_le(e.offset, received);
        ck_assert_mem_eq(slice_bytes(&e.slice), truth + e.offset, e.slice.len);
        if (e.offset + e.slice.len > received)
            received = e.offset + e.slice.len;
        chunk_unref(e.slice.chunk);
    }
    return received;
}

static uint64_t memory(void)
{
    return chunk_bytes_total() + list.cap * sizeof(*list.list);
}

/* _i: the size of a piece. However small they are, they cost little more than their bytes. */
START_TEST(pieces_behind_a_gap_cost_their_bytes)
{
    static const uint32_t sizes[] = {1, 7, 512, 513, 1350, 8191, 8192, 16000};
    uint32_t size = sizes[_i];
    uint64_t at = 1;
    for (; at + size <= SPACE; at += size) {
        ck_assert_int_eq(keep(at, size, false), 1);
        ck_assert_uint_eq(list.bytes, at + size - 1);
        ck_assert_uint_le(memory(), 3 * list.bytes + 8192);
    }
    ck_assert_uint_le(list.count,
                      size < EARLY_SMALL_BYTES ? 2 * SPACE / EARLY_JOINED_BYTES : SPACE / size + 1);
    ck_assert_uint_eq(early_first(&list), 1);
    ck_assert_uint_eq(drain(0), 0);
    ck_assert_uint_eq(drain(1), at);
    ck_assert_uint_eq(list.bytes, 0);
    ck_assert_ptr_null(list.list);
    ck_assert_uint_eq(early_first(&list), UINT64_MAX);
}
END_TEST

START_TEST(pieces_with_gaps_between_them_are_bounded)
{
    for (uint64_t i = 0; i < EARLY_MAX; i++)
        ck_assert_int_eq(keep(1 + 2 * i, 1, false), 1);
    ck_assert_int_eq(keep(1 + 2 * EARLY_MAX, 1, false), -ENOMEM);
    ck_assert_int_eq(keep(2 * EARLY_MAX, 1, false), 1); /* it joins the last one */
    ck_assert_int_eq(keep(3, 1, false), 0);
    ck_assert_uint_eq(drain(1), 2);
    ck_assert_int_eq(keep(1 + 2 * EARLY_MAX + 1, 1, false), 1); /* the room of the first one */
    ck_assert_uint_eq(list.bytes, EARLY_MAX + 1);
}
END_TEST

START_TEST(references_are_told_apart)
{
    ck_assert_int_eq(keep(10, 100, true), 1);
    ck_assert_int_eq(keep(110, 100, false), 1);
    ck_assert_int_eq(keep(210, 100, false), 1);
    ck_assert_int_eq(keep(310, 100, true), 1);
    ck_assert_uint_eq(list.count, 3);
    ck_assert_uint_eq(list.saved, 200);
    ck_assert_uint_eq(drain(10), 410);
    ck_assert_uint_eq(list.saved, 0);
}
END_TEST

START_TEST(the_last_go_first_when_room_is_made)
{
    struct early e;
    ck_assert_int_eq(keep(100, 9000, false), 1);
    ck_assert_int_eq(keep(20000, 9000, true), 1);
    ck_assert(!early_take_last(&list, 20001, &e));
    ck_assert(early_take_last(&list, 20000, &e));
    ck_assert_uint_eq(e.offset, 20000);
    chunk_unref(e.slice.chunk);
    ck_assert_uint_eq(list.saved, 0);
    ck_assert_uint_eq(list.bytes, 9000);
    ck_assert(!early_take_last(&list, 101, &e));
    ck_assert(early_take_last(&list, 0, &e));
    chunk_unref(e.slice.chunk);
    ck_assert_ptr_null(list.list);
    ck_assert(!early_take_last(&list, 0, &e));
}
END_TEST

/* What others hold too is never written to. */
START_TEST(a_shared_chunk_is_left_alone)
{
    struct chunk *c = chunk_new(CHUNK_STANDARD_BYTES);
    memcpy(c->bytes, truth, CHUNK_STANDARD_BYTES);
    struct slice large = {.chunk = chunk_ref(c), .off = 100, .len = 9000};
    struct slice small = {.chunk = chunk_ref(c), .off = 20000, .len = 100};
    ck_assert_int_eq(early_keep(&list, 100, large, false), 1);
    ck_assert_int_eq(keep(9100, 50, false), 1);
    ck_assert_int_eq(early_keep(&list, 20000, small, false), 1);
    ck_assert_int_eq(keep(20100, 50, false), 1);
    ck_assert_uint_eq(list.count, 3); /* the small one was copied, the large one was not */
    ck_assert_mem_eq(c->bytes, truth, CHUNK_STANDARD_BYTES);
    ck_assert_uint_eq(drain(100), 9150);
    ck_assert_uint_eq(drain(20000), 20150);
    chunk_unref(c);
}
END_TEST

/* Any order, any overlap: nothing is lost, nothing is wrong. */
START_TEST(agrees_with_an_array)
{
    static bool held[SPACE];
    uint64_t received = 0;
    srandom((unsigned)_i);
    memset(held, 0, sizeof(held));
    while (received < SPACE / 4) {
        uint64_t reach = received + 1 + (uint64_t)random() % 20000;
        uint32_t len = 1 + (uint32_t)random() % (random() % 4 == 0 ? 20000 : 300);
        for (unsigned more = (unsigned)random() % 20; more > 0; more--, reach += len) {
            if (keep(reach, len, false) >= 0)
                memset(held + reach, 1, len);
        }
        if (random() % 3 == 0) { /* the gap is filled */
            memset(held + received, 1, 1000);
            received = drain(received + 1000);
        }
        uint64_t end = received;
        while (end < SPACE && held[end])
            end++;
        uint64_t now = drain(received);
        if (now < received)
            now = received;
        received = now;
        ck_assert_uint_eq(received, end);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("early");
    TCase *t = tcase_create("early");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, pieces_behind_a_gap_cost_their_bytes, 0, 8);
    tcase_add_test(t, pieces_with_gaps_between_them_are_bounded);
    tcase_add_test(t, references_are_told_apart);
    tcase_add_test(t, the_last_go_first_when_room_is_made);
    tcase_add_test(t, a_shared_chunk_is_left_alone);
    tcase_add_loop_test(t, agrees_with_an_array, 0, 10);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
