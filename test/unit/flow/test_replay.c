/* test_replay.c - both cursors of a replay against a plain array, through reads, sends, acknowledgements and
 * lost lanes. */
#include "hawser/replay.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 1 << 20 };

static uint8_t model[BYTES];

static void fill_model(void)
{
    for (size_t i = 0; i < BYTES; i++)
        model[i] = (uint8_t)(i * 2654435761u >> 13);
}

static uint32_t at_most(uint64_t left, unsigned most)
{
    return (uint32_t)(left == 0 ? 0 : 1 + (uint64_t)rand() % (left < most ? left : most));
}

static void send_from(struct replay *r, struct replay_cursor *c, uint32_t len)
{
    static uint8_t out[4096];
    uint64_t at = c->offset;
    replay_copy(r, c, out, len);
    ck_assert(c != &r->next || c->offset == at + len);
    ck_assert_int_eq(memcmp(out, model + at, len), 0);
}

/* Exactly the bytes that were asked for again and are neither acknowledged nor sent since: from the front. */
static bool again[BYTES + 1];

static void check_again(const struct replay *r)
{
    const bool *first = memchr(again + r->acked, true, BYTES - r->acked);
    if (first == NULL) {
        ck_assert_uint_eq(replay_again_left(r), 0);
        return;
    }
    ck_assert_uint_gt(replay_again_left(r), 0);
    ck_assert_uint_eq(r->again.offset, (uint64_t)(first - again));
    ck_assert_ptr_null(memchr(first, false, replay_again_left(r)));
    ck_assert(!again[r->again_end]);
}

static void run(unsigned seed)
{
    struct replay r = {0};
    memset(again, 0, sizeof(again));
    srand(seed);
    while (r.acked < BYTES) {
        unsigned what = (unsigned)rand() % 10;
        uint32_t n;
        if (what < 3 && (n = at_most(BYTES - r.read, 1500)) > 0) {
            ck_assert_int_eq(replay_append(&r, slice_copy(model + r.read, n)), 0);
        } else if (what < 6 && (n = at_most(r.read - replay_sent(&r), 4096)) > 0) {
            send_from(&r, &r.next, n);
        } else if (what < 8 && (n = at_most(replay_again_left(&r), 4096)) > 0) {
            memset(again + r.again.offset, 0, n);
            send_from(&r, &r.again, n);
        } else if (what == 8 && (n = at_most(replay_sent(&r) - r.acked, 3000)) > 0) {
            replay_ack(&r, r.acked + n);
        } else if (what == 9 && replay_sent(&r) > 0 && rand() % 4 == 0) {
            uint64_t sent = replay_sent(&r);
            uint64_t from = sent > 6000 ? sent - (uint64_t)rand() % 6000 : 0,
                     to = from + (uint64_t)rand() % 8000;
            replay_send_again(&r, from, to);
            from = from < r.acked ? r.acked : from;
            to = to < sent ? to : sent;
            if (from < to)
                memset(again + from, 1, to - from);
        }
        check_again(&r);
        ck_assert_uint_eq(r.slices.bytes, r.read - r.acked);
        ck_assert_uint_le(r.acked, r.next.offset);
        if (replay_again_left(&r) > 0) {
            ck_assert_uint_le(r.acked, r.again.offset);
            ck_assert_uint_le(r.again_end, r.next.offset);
        }
    }
    ck_assert_uint_eq(r.slices.count, 0);
    replay_drop(&r);
}

START_TEST(agrees_with_an_array)
{
    fill_model();
    for (unsigned seed = 1; seed <= 5; seed++)
        run(seed);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}
END_TEST

/* Single bytes anywhere in a replay of many slices, as a peer may ask for them, while the front goes in parts
 * of slices. */
START_TEST(single_bytes_of_many_slices_go_again)
{
    enum { PIECE = 600, STEP = 977 };
    struct replay r = {0};
    fill_model();
    for (uint32_t at = 0; at + PIECE <= BYTES; at += PIECE)
        ck_assert_int_eq(replay_append(&r, slice_copy(model + at, PIECE)), 0);
    ck_assert_uint_gt(r.slices.count, 20 * REPLAY_MARK_SLICES);
    replay_skip(&r, &r.next, r.read);
    for (uint64_t front = 0; front < r.read; front += 100 * PIECE + 1) {
        if (front > 0)
            replay_ack(&r, front);
        for (uint64_t at = front; at < r.read; at += STEP) {
            uint8_t byte;
            replay_peek(&r, at, &byte, 1);
            ck_assert_uint_eq(byte, model[at]);
        }
    }
    replay_send_again(&r, r.read - 1, r.read);
    ck_assert_uint_eq(replay_again_left(&r), 1);
    send_from(&r, &r.again, 1);
    replay_ack(&r, r.read);
    ck_assert_ptr_null(r.marks.offsets); /* no memory while empty */
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}
END_TEST

START_TEST(what_was_dropped_was_never_read)
{
    struct replay r = {0};
    uint8_t out[8];
    ck_assert_int_eq(replay_append(&r, slice_copy("abcdefgh", 8)), 0);
    replay_copy(&r, &r.next, out, 3);
    replay_drop(&r);
    ck_assert_uint_eq(r.read, 3);
    ck_assert_uint_eq(r.acked, 3);
    ck_assert_uint_eq(replay_sent(&r), 3);
    ck_assert_uint_eq(replay_again_left(&r), 0);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replay");
    TCase *t = tcase_create("replay");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, agrees_with_an_array);
    tcase_add_test(t, single_bytes_of_many_slices_go_again);
    tcase_add_test(t, what_was_dropped_was_never_read);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
