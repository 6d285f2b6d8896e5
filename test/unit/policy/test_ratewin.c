#include "hawser/ratewin.h"

#include <check.h>
#include <stdlib.h>

/* Send as fast as the window lets, pieces of `piece` bytes, for so long; bytes sent. */
static uint64_t send_for(struct ratewin *w, uint64_t *now_us, uint64_t us, uint64_t piece, uint64_t limit)
{
    uint64_t sent = 0;
    for (uint64_t end = *now_us + us; *now_us < end;) {
        uint32_t wait = ratewin_wait(w, *now_us, limit);
        ck_assert_uint_le(wait, RATEWIN_WAIT_MAX_US);
        *now_us += wait;
        if (wait > 0)
            continue; /* a longer wait is asked for again */
        ratewin_add(w, *now_us, piece);
        sent += piece;
        *now_us += 10;
    }
    return sent;
}

START_TEST(the_limit_is_kept_over_any_time)
{
    static const uint64_t limits[] = {1000, 125000, 1250000, 125000000};
    static const uint64_t pieces[] = {1400, 16384, 65536};
    for (unsigned l = 0; l < 4; l++) {
        for (unsigned p = 0; p < 3; p++) {
            struct ratewin w = {0};
            if (pieces[p] > 4 * limits[l])
                continue; /* more than the window remembers */
            uint64_t now = 1000000000, sent = send_for(&w, &now, 12000000, pieces[p], limits[l]);
            ck_assert_uint_le(sent, 12 * limits[l] + limits[l] / 10 + 2 * pieces[p]);
            ck_assert_uint_ge(sent + 2 * pieces[p], 12 * limits[l] / 10 * 9);
        }
    }
}
END_TEST

START_TEST(an_idle_class_saves_nothing_up)
{
    struct ratewin w = {0};
    uint64_t now = 5;
    send_for(&w, &now, 1000000, 1000, 100000);
    now += 3600ULL * 1000000;
    ck_assert_uint_eq(ratewin_rate(&w, now), 0);
    ck_assert_uint_eq(ratewin_wait(&w, now, 100000), 0);
    ck_assert_uint_le(send_for(&w, &now, 1000000, 1000, 100000), 112000);
}
END_TEST

START_TEST(a_burst_is_no_rate)
{
    struct ratewin w = {0};
    ratewin_add(&w, 1000, 50000);
    ck_assert_uint_le(ratewin_rate(&w, 1001), 100000);
    ck_assert_uint_eq(ratewin_rate(&w, 1000 + RATEWIN_SPAN_US + 1), 0);
}
END_TEST

/* More events than are kept: what is forgotten is the oldest, and the sum stays that of the rest. */
START_TEST(many_events_are_bounded)
{
    struct ratewin w = {0};
    uint64_t now = 77;
    for (unsigned i = 0; i < 10000; i++, now += RATEWIN_JOIN_US)
        ratewin_add(&w, now, 10);
    ck_assert_uint_eq(w.count, RATEWIN_EVENTS);
    ck_assert_uint_eq(w.bytes, 10 * RATEWIN_EVENTS);
    uint64_t rate = ratewin_rate(&w, now);
    ck_assert_uint_ge(rate, 1900);
    ck_assert_uint_le(rate, 2100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ratewin");
    TCase *t = tcase_create("all");
    tcase_add_test(t, the_limit_is_kept_over_any_time);
    tcase_add_test(t, an_idle_class_saves_nothing_up);
    tcase_add_test(t, a_burst_is_no_rate);
    tcase_add_test(t, many_events_are_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
