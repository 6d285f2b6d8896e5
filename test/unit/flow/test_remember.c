/* test_remember.c - when what peers have proved is to be written: soon, and seldom. A second is a call. */
#include <check.h>

#include "hawser/remember.h"
#include "hawser/session.h"

static struct leg_host home;
static struct mux mux;
static struct remember_pace pace;

static void set_up(void)
{
    home = (struct leg_host){.remembers = true};
    mux = (struct mux){.home = &home};
    pace = (struct remember_pace){0};
    TAILQ_INIT(&home.muxes);
    TAILQ_INSERT_TAIL(&home.muxes, &mux, same_home);
}

static bool is_due(void)
{
    bool due = remember_is_due(&pace, &home);
    if (due)
        mux.holdings.kept = mux.holdings.changes;
    return due;
}

/* Seconds until it is due, with so many changes in each. */
static unsigned wait_due(unsigned changes)
{
    unsigned seconds = 1;
    for (;; seconds++) {
        mux.holdings.changes += changes;
        if (is_due())
            return seconds;
        ck_assert_uint_lt(seconds, 1000);
    }
}

START_TEST(nothing_new_is_never_written)
{
    for (unsigned i = 0; i < 1000; i++)
        ck_assert(!is_due());
}
END_TEST

START_TEST(what_is_new_is_written_when_no_more_of_it_comes)
{
    for (unsigned i = 0; i < REMEMBER_EVERY_S / 2; i++) {
        mux.holdings.changes++;
        ck_assert(!is_due());
    }
    ck_assert_uint_eq(wait_due(0), REMEMBER_QUIET_S);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert(!is_due());
}
END_TEST

START_TEST(of_a_busy_peer_once_a_minute)
{
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(wait_due(3), REMEMBER_EVERY_S);
}
END_TEST

START_TEST(after_a_write_it_rests_a_minute)
{
    mux.holdings.changes++;
    wait_due(0);
    mux.holdings.changes++;
    ck_assert_uint_eq(wait_due(0), REMEMBER_EVERY_S);
    for (unsigned i = 0; i < REMEMBER_EVERY_S; i++)
        ck_assert(!is_due());
    mux.holdings.changes++;
    ck_assert_uint_eq(wait_due(0), REMEMBER_QUIET_S + 1);
}
END_TEST

/* A mux that ended, or a file that could not be written. */
START_TEST(what_waits_without_a_mux_is_written)
{
    struct remembered left = {.peer = 7, .fresh = true};
    TAILQ_REMOVE(&home.muxes, &mux, same_home);
    home.remembered = &left;
    ck_assert_uint_eq(wait_due(0), REMEMBER_QUIET_S);
    ck_assert_uint_eq(wait_due(0), REMEMBER_EVERY_S);
    ck_assert(remember_written(&home, 7, -1));
    ck_assert(!remember_written(&home, 7, -1));
    left.fresh = false;
    ck_assert(!remember_written(&home, 7, 0));
    ck_assert(!left.fresh);
    ck_assert(remember_written(&home, 7, -1));
    ck_assert(left.fresh);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("remember");
    TCase *t = tcase_create("remember");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, nothing_new_is_never_written);
    tcase_add_test(t, what_is_new_is_written_when_no_more_of_it_comes);
    tcase_add_test(t, of_a_busy_peer_once_a_minute);
    tcase_add_test(t, after_a_write_it_rests_a_minute);
    tcase_add_test(t, what_waits_without_a_mux_is_written);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
