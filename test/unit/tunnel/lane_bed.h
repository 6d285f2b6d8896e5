/* lane_bed.h - what tests of this floor share: two identities, and two loops driven by hand. */
#ifndef LANE_BED_H
#define LANE_BED_H

#include <check.h>
#include <stdlib.h>

#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/lane.h"
#include "hawser/log.h"
#include "tunnel/key_pair.h"

enum { HANG_US = 20000000 };

static struct loop *loops[2];

/* One turn of each loop that is not asleep. */
static void turn(bool first, bool second)
{
    if (first)
        event_base_loop(loop_base(loops[0]), EVLOOP_NONBLOCK);
    if (second)
        event_base_loop(loop_base(loops[1]), EVLOOP_NONBLOCK);
}

#define turn_until(condition)                                                                                \
    do {                                                                                                     \
        uint64_t began_us = clock_now_us();                                                                  \
        while (!(condition)) {                                                                               \
            turn(true, true);                                                                                \
            ck_assert_msg(clock_now_us() - began_us < HANG_US, "hangs: " #condition);                        \
        }                                                                                                    \
    } while (0)

static void make_loops(void)
{
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(loop_new(&loops[i]), 0);
}

static void free_loops(void)
{
    for (int i = 0; i < 2; i++)
        loop_free(loops[i]);
    compress_thread_end();
    chunk_thread_end();
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

static int run_suite(const char *name, void (*add)(TCase *t))
{
    log_set_level(getenv("TEST_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    make_keys();
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, make_loops, free_loops);
    add(t);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    free_keys();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
