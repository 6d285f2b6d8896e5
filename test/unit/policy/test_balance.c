/* test_balance.c - the share of the busiest worker over many sessions, and how many workers there are, in
 * virtual time. */
#include "hawser/balance.h"

#include <check.h>
#include <stdlib.h>

enum { SESSIONS = 10000, WORKERS_MAX = 8 };

struct world {
    struct balance_load loads[WORKERS_MAX];
    size_t workers, homes;
    size_t worker_of[SESSIONS];
    size_t open_list[SESSIONS], open_count, opened;
};

static void open_one(struct world *w)
{
    size_t home = (size_t)rand() % w->homes % w->workers;
    size_t i = balance_pick(w->loads, w->workers, home);
    ck_assert_uint_lt(i, w->workers);
    w->loads[i].live_sessions++;
    w->loads[i].moved_bytes += (uint64_t)rand() % 1000000;
    w->worker_of[w->opened] = i;
    w->open_list[w->open_count++] = w->opened++;
}

static void close_one(struct world *w, size_t at)
{
    size_t session = w->open_list[at];
    w->open_list[at] = w->open_list[--w->open_count];
    w->loads[w->worker_of[session]].live_sessions--;
}

static uint64_t busiest_permille(const struct world *w)
{
    uint64_t most = 0, all = 0;
    for (size_t i = 0; i < w->workers; i++) {
        all += w->loads[i].live_sessions;
        if (w->loads[i].live_sessions > most)
            most = w->loads[i].live_sessions;
    }
    return all == 0 ? 0 : most * w->workers * 1000 / all;
}

static struct world world;

static void begin(size_t workers, size_t homes)
{
    world = (struct world){.workers = workers, .homes = homes};
    for (size_t i = 0; i < workers; i++)
        world.loads[i].usable = true;
    srand((unsigned)(workers * 100 + homes));
}

static const struct {
    size_t workers, homes;
} shapes[] = {{2, 1}, {4, 1}, {8, 1}, {2, 20}, {4, 20}, {8, 20}};

START_TEST(sessions_that_stay_are_shared)
{
    begin(shapes[_i].workers, shapes[_i].homes);
    while (world.opened < SESSIONS) {
        open_one(&world);
        if (world.open_count >= 200)
            ck_assert_uint_le(busiest_permille(&world), 1150);
    }
}
END_TEST

/* Mixed: one in three stays, the rest end at random while others open; and the load rises and falls. A random
 * end is no fault of the scheduler, so what it leaves above the bound is only judged once there are many. */
START_TEST(mixed_sessions_are_shared)
{
    begin(shapes[_i].workers, shapes[_i].homes);
    uint64_t worst = 0;
    while (world.opened < SESSIONS) {
        open_one(&world);
        size_t wanted = world.opened < SESSIONS / 2 ? 3000 : 2000;
        while (world.open_count > wanted || (world.open_count > 0 && rand() % 3 == 0))
            close_one(&world, (size_t)rand() % world.open_count);
        if (world.open_count >= 500 && busiest_permille(&world) > worst)
            worst = busiest_permille(&world);
    }
    ck_assert_msg(worst <= 1150, "the busiest worker had %llu per mille of the mean",
                  (unsigned long long)worst);
}
END_TEST

START_TEST(the_home_is_preferred_while_it_is_light)
{
    struct balance_load loads[4] = {{97, 0, true}, {96, 0, true}, {100, 0, true}, {100, 0, true}};
    ck_assert_uint_eq(balance_pick(loads, 4, 0), 0);
    loads[0].live_sessions = 130;
    ck_assert_uint_eq(balance_pick(loads, 4, 0), 1);
    ck_assert_uint_eq(balance_pick(loads, 4, BALANCE_NONE), 1);
    ck_assert_uint_eq(balance_pick(loads, 4, 77), 1); /* no such home */
}
END_TEST

START_TEST(bytes_decide_between_equals)
{
    struct balance_load loads[3] = {{5, 900, true}, {5, 100, true}, {5, 500, true}};
    ck_assert_uint_eq(balance_pick(loads, 3, BALANCE_NONE), 1);
    loads[2].live_sessions = 4;
    ck_assert_uint_eq(balance_pick(loads, 3, BALANCE_NONE), 2);
}
END_TEST

START_TEST(an_unusable_worker_is_never_picked)
{
    struct balance_load loads[3] = {{0, 0, false}, {50, 0, true}, {0, 0, false}};
    ck_assert_uint_eq(balance_pick(loads, 3, 0), 1);
    ck_assert_uint_eq(balance_pick(loads, 3, BALANCE_NONE), 1);
    loads[1].usable = false;
    ck_assert_uint_eq(balance_pick(loads, 3, 1), BALANCE_NONE);
    ck_assert_uint_eq(balance_pick(loads, 0, 0), BALANCE_NONE);
}
END_TEST

/* Feed the same busy share for `seconds`; returns the workers then. */
static size_t run_for(struct balance_size *s, size_t active, size_t min, size_t max, uint32_t share_permille,
                      int seconds)
{
    for (int i = 0; i < seconds; i++) {
        size_t wanted = balance_resize(s, active, min, max, (uint32_t)(share_permille * active));
        ck_assert_uint_ge(wanted, min);
        ck_assert_uint_le(wanted, max);
        ck_assert(wanted == active || wanted == active + 1 || wanted + 1 == active);
        active = wanted;
    }
    return active;
}

START_TEST(workers_come_under_load_and_leave_without)
{
    struct balance_size s = {0};
    size_t active = run_for(&s, 1, 1, 8, 950, 60);
    ck_assert_uint_eq(active, 8);
    active = run_for(&s, active, 1, 8, 10, 300);
    ck_assert_uint_eq(active, 1);
}
END_TEST

START_TEST(a_spike_of_a_second_changes_nothing)
{
    struct balance_size s = {0};
    size_t active = 2;
    for (int i = 0; i < 100; i++) {
        active = run_for(&s, active, 1, 8, 1000, 1);
        active = run_for(&s, active, 1, 8, 500, 1);
    }
    ck_assert_uint_eq(active, 2);
    for (int i = 0; i < 100; i++) {
        active = run_for(&s, active, 1, 8, 0, 5);
        active = run_for(&s, active, 1, 8, 500, 1);
    }
    ck_assert_uint_eq(active, 2);
}
END_TEST

/* A fixed amount of work, spread over those there are: the number settles and does not swing. */
START_TEST(a_steady_load_settles)
{
    for (uint32_t work = 0; work <= 6000; work += 50) {
        struct balance_size s = {0};
        size_t active = 1, changes = 0;
        for (int second = 0; second < 600; second++) {
            uint32_t busy = work < active * 1000 ? work : (uint32_t)active * 1000;
            size_t wanted = balance_resize(&s, active, 1, 8, busy);
            if (second > 300)
                changes += wanted != active;
            active = wanted;
        }
        ck_assert_msg(changes == 0, "%zu changes at %u per mille", changes, work);
    }
}
END_TEST

START_TEST(min_and_max_may_be_equal)
{
    struct balance_size s = {0};
    ck_assert_uint_eq(run_for(&s, 3, 3, 3, 1000, 50), 3);
    ck_assert_uint_eq(run_for(&s, 3, 3, 3, 0, 50), 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("balance");
    TCase *t = tcase_create("balance");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, sessions_that_stay_are_shared, 0, 6);
    tcase_add_loop_test(t, mixed_sessions_are_shared, 0, 6);
    tcase_add_test(t, the_home_is_preferred_while_it_is_light);
    tcase_add_test(t, bytes_decide_between_equals);
    tcase_add_test(t, an_unusable_worker_is_never_picked);
    tcase_add_test(t, workers_come_under_load_and_leave_without);
    tcase_add_test(t, a_spike_of_a_second_changes_nothing);
    tcase_add_test(t, a_steady_load_settles);
    tcase_add_test(t, min_and_max_may_be_equal);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
