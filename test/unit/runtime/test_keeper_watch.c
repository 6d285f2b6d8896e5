/* When an engine is given up and when the next is started: virtual time only. */
#include <check.h>
#include <stdlib.h>

#include "hawser/keeper_watch.h"

#define S 1000000u

static struct keeper_watch watch;
static const struct keeper_times *times;

static void setup(void)
{
    times = &keeper_times_default;
    keeper_watch_init(&watch, times);
}

START_TEST(silence_is_noticed_at_ten_seconds)
{
    keeper_watch_started(&watch, 5 * S);
    for (uint64_t at = 6; at < 15; at++)
        ck_assert(!keeper_watch_hung(&watch, times, at * S));
    ck_assert(keeper_watch_hung(&watch, times, 15 * S));
}
END_TEST

START_TEST(a_heartbeat_begins_anew)
{
    keeper_watch_started(&watch, 0);
    for (uint64_t at = 1; at < 100; at++) {
        ck_assert(!keeper_watch_hung(&watch, times, at * S));
        if (at % 9 == 0)
            keeper_watch_heard(&watch, at * S);
    }
}
END_TEST

/* The clock counts suspended time (CLOCK_BOOTTIME): an hour asleep is no hour of silence. */
START_TEST(a_suspended_machine_does_not_kill_its_engine)
{
    keeper_watch_started(&watch, 0);
    ck_assert(!keeper_watch_hung(&watch, times, S));
    ck_assert(!keeper_watch_hung(&watch, times, 3601ull * S));
    ck_assert(!keeper_watch_hung(&watch, times, 3602ull * S));
    keeper_watch_heard(&watch, 3603ull * S);
    ck_assert_uint_eq(watch.silent_us, 0);
}
END_TEST

START_TEST(waits_double_up_to_ten_seconds)
{
    static const uint64_t waits_ms[] = {200, 400, 800, 1600, 3200, 6400, 10000, 10000};
    uint64_t now = 0;
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(*waits_ms); i++) {
        keeper_watch_started(&watch, now);
        now += S;
        uint64_t wait = keeper_watch_died(&watch, times, now);
        ck_assert_uint_eq(wait, waits_ms[i] * 1000);
        now += wait;
    }
}
END_TEST

START_TEST(a_good_minute_is_rewarded)
{
    keeper_watch_started(&watch, 0);
    keeper_watch_died(&watch, times, S);
    keeper_watch_started(&watch, 2 * S);
    ck_assert_uint_eq(keeper_watch_died(&watch, times, 61 * S), 400000);
    keeper_watch_started(&watch, 100 * S);
    ck_assert_uint_eq(keeper_watch_died(&watch, times, 160 * S), 200000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keeper_watch");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, silence_is_noticed_at_ten_seconds);
    tcase_add_test(tc, a_heartbeat_begins_anew);
    tcase_add_test(tc, a_suspended_machine_does_not_kill_its_engine);
    tcase_add_test(tc, waits_double_up_to_ten_seconds);
    tcase_add_test(tc, a_good_minute_is_rewarded);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
