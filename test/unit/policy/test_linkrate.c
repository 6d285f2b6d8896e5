/* test_linkrate.c - what is believed of a link, in virtual time: a link that delivers at most its truth is
 * looked at each 100 ms. */
#include "hawser/linkrate.h"

#include <check.h>
#include <stdlib.h>

enum { LOOK_US = 100000, RTT_US = 100000, MSS = 1448 };

static uint64_t now_us;

/* One look at a link that has carried `payload` bits a second, `lost_permille` of them sent again. */
static bool look(struct linkrate *r, uint64_t payload, unsigned lost_permille, bool limited_by_us)
{
    uint64_t bytes = payload / 8 * LOOK_US / 1000000;
    now_us += LOOK_US;
    struct linkrate_sample s = {.now_us = now_us,
                                .acked_bytes = bytes,
                                .retransmitted_bytes = bytes * lost_permille / 1000,
                                .rtt_us = RTT_US,
                                .mss = MSS,
                                .limited_by_us = limited_by_us,
                                .delivery_bytes_per_s = limited_by_us ? 0 : payload / 8};
    return linkrate_update(r, &s);
}

/* Seconds of a transfer at what is paced, over a link that carries `truth` payload bits a second and drops
 * the rest. */
static void transfer(struct linkrate *r, uint64_t truth, int seconds)
{
    for (int i = 0; i < seconds * 10; i++) {
        uint64_t pace = linkrate_pacing(r, 0);
        uint64_t offered = pace > UINT64_MAX / 16 ? 2 * truth : pace * 8;
        bool over = offered > truth;
        look(r, over ? truth : offered, over ? (unsigned)((offered - truth) * 1000 / truth) : 5, false);
    }
}

static void set_up(void)
{
    now_us = 1000000;
}

START_TEST(a_configured_rate_is_paced_from_the_first_packet)
{
    struct linkrate r;
    linkrate_init(&r, 50000000, 0, 0, false);
    uint64_t pace = linkrate_pacing(&r, 0);
    ck_assert_uint_gt(pace * 8, 50000000 * 9 / 10);
    ck_assert_uint_lt(pace * 8, 50000000);                /* headers and a little room are left */
    ck_assert_uint_gt(linkrate_initial_window(&r), 1000); /* a satellite's worth */
    ck_assert_uint_lt(linkrate_pacing(&r, 1000000), pace);
    ck_assert_uint_ge(linkrate_pacing(&r, UINT64_MAX), pace / 5); /* never starved by the others */
}
END_TEST

START_TEST(without_knowledge_nothing_is_paced)
{
    struct linkrate r;
    linkrate_init(&r, 0, 0, 0, true);
    ck_assert_uint_eq(linkrate_pacing(&r, 0), UINT64_MAX);
    ck_assert_uint_eq(linkrate_initial_window(&r), 32); /* what any queue takes */
    ck_assert_uint_ge(linkrate_bdp_bytes(&r), 65536);
    ck_assert_uint_eq(linkrate_bytes_in(&r, 1000), UINT64_MAX);
}
END_TEST

START_TEST(a_rate_that_the_link_delivers_stays)
{
    struct linkrate r;
    linkrate_init(&r, 50000000, 0, 0, false);
    transfer(&r, 60000000, 60);
    ck_assert_uint_eq(r.target, 50000000);
}
END_TEST

/* The user wrote twice the truth. */
START_TEST(a_rate_that_the_link_does_not_deliver_falls)
{
    struct linkrate r;
    linkrate_init(&r, 100000000, 0, 0, false);
    transfer(&r, 47000000, 20);
    ck_assert_uint_lt(r.target, 65000000);
    ck_assert_uint_gt(r.target, 40000000);
}
END_TEST

START_TEST(and_climbs_back_when_it_does)
{
    struct linkrate r;
    linkrate_init(&r, 100000000, 0, 0, false);
    transfer(&r, 20000000, 20);
    uint64_t low = r.target;
    ck_assert_uint_lt(low, 50000000);
    transfer(&r, 200000000, 300);
    ck_assert_uint_eq(r.target, 100000000);
}
END_TEST

START_TEST(loss_of_the_link_itself_lowers_nothing)
{
    struct linkrate r;
    linkrate_init(&r, 50000000, 0, 0, false);
    for (int i = 0; i < 600; i++)
        look(&r, 44000000, 30, false);
    ck_assert_uint_eq(r.target, 50000000);
}
END_TEST

/* One lost ping on a link with nothing else to send said 'this link delivers nothing'. */
START_TEST(one_lost_small_packet_on_an_idle_link_lowers_nothing)
{
    struct linkrate r;
    linkrate_init(&r, 50000000, 0, 0, false);
    for (int i = 0; i < 100; i++) {
        now_us += LOOK_US;
        struct linkrate_sample s = {
            .now_us = now_us, .retransmitted_bytes = i % 7 == 0 ? 60 : 0, .rtt_us = RTT_US};
        linkrate_update(&r, &s);
    }
    ck_assert_uint_eq(r.target, 50000000);
}
END_TEST

START_TEST(what_our_own_silence_delivers_is_not_the_links)
{
    struct linkrate r;
    linkrate_init(&r, 0, 0, 0, false);
    for (int i = 0; i < 100; i++)
        look(&r, 3000000, 0, true);
    ck_assert_uint_eq(r.best, 0);
    bool told = false;
    for (int i = 0; i < 50; i++)
        told = look(&r, 30000000, 0, false) || told;
    ck_assert(told);
    ck_assert_uint_gt(r.best, 29000000);
    ck_assert_uint_le(r.best, 31000000);
    uint64_t best = r.best;
    for (int i = 0; i < 50; i++)
        look(&r, 10000000, 0, false);
    ck_assert_uint_eq(r.best, best);
}
END_TEST

START_TEST(a_learned_rate_is_used_at_half)
{
    struct linkrate half, whole;
    linkrate_init(&half, 0, 50000000, 600000, false);
    linkrate_init(&whole, 25000000, 0, 600000, false);
    ck_assert_uint_ge(linkrate_pacing(&half, 0) * 8, 50000000); /* the link may have become faster */
    ck_assert_uint_gt(linkrate_initial_window(&half), 0);
    ck_assert_uint_eq(linkrate_initial_window(&half), linkrate_initial_window(&whole));
}
END_TEST

START_TEST(windows_have_bounds)
{
    struct linkrate r;
    linkrate_init(&r, 8000, 0, 0, false);
    ck_assert_uint_eq(linkrate_initial_window(&r), 10);
    ck_assert_uint_eq(linkrate_bdp_bytes(&r), 65536);
    linkrate_init(&r, 400000000000, 0, 0, false);
    ck_assert_uint_ge(linkrate_initial_window(&r), 10000);
    ck_assert_uint_le(linkrate_initial_window(&r), 65535);
    linkrate_init(&r, 50000000, 0, 0, false);
    look(&r, 0, 0, true);
    look(&r, 0, 0, true);
    uint64_t bdp = linkrate_bdp_bytes(&r); /* 50 Mbit/s for 0.1 s */
    ck_assert_uint_ge(bdp, 600000);
    ck_assert_uint_le(bdp, 650000);
    ck_assert_uint_eq(linkrate_bytes_in(&r, 1000000), 6250000);
}
END_TEST

START_TEST(another_configuration_begins_anew_and_the_same_does_not)
{
    struct linkrate r;
    linkrate_init(&r, 100000000, 0, 0, false);
    transfer(&r, 20000000, 20);
    uint64_t low = r.target;
    ck_assert_uint_lt(low, 100000000);
    linkrate_configure(&r, 100000000);
    ck_assert_uint_eq(r.target, low);
    linkrate_configure(&r, 30000000);
    ck_assert_uint_eq(r.target, 30000000);
    linkrate_configure(&r, 0);
    ck_assert_uint_eq(linkrate_pacing(&r, 0), UINT64_MAX);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("linkrate");
    TCase *t = tcase_create("linkrate");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, a_configured_rate_is_paced_from_the_first_packet);
    tcase_add_test(t, without_knowledge_nothing_is_paced);
    tcase_add_test(t, a_rate_that_the_link_delivers_stays);
    tcase_add_test(t, a_rate_that_the_link_does_not_deliver_falls);
    tcase_add_test(t, and_climbs_back_when_it_does);
    tcase_add_test(t, loss_of_the_link_itself_lowers_nothing);
    tcase_add_test(t, one_lost_small_packet_on_an_idle_link_lowers_nothing);
    tcase_add_test(t, what_our_own_silence_delivers_is_not_the_links);
    tcase_add_test(t, a_learned_rate_is_used_at_half);
    tcase_add_test(t, windows_have_bounds);
    tcase_add_test(t, another_configuration_begins_anew_and_the_same_does_not);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
