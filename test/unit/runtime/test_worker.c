/* test_worker.c - worker threads: start, stop, growing and retiring under a changing load, placements from
 * many threads meanwhile. */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/node.h"

enum { HANG_US = 30000000, PICKERS = 3, PICKS = 3000 };

static struct node *node;
static struct landscape *land;
static _Atomic int calls, wrong_thread;

#define until(condition)                                                                                     \
    do {                                                                                                     \
        uint64_t began_us = clock_now_us();                                                                  \
        while (!(condition)) {                                                                               \
            ck_assert_msg(clock_now_us() - began_us < HANG_US, "hangs: " #condition);                        \
            sched_yield();                                                                                   \
        }                                                                                                    \
    } while (0)

static void set_up(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    node = calloc(1, sizeof(*node));
    land = calloc(1, sizeof(*land));
    ck_assert_ptr_nonnull(node);
    ck_assert_ptr_nonnull(land);
    atomic_init(&land->refs, 1000); /* never the last: the configuration in it is none */
    node->landscape = land;
    ck_assert_int_eq(loop_new(&node->loop), 0);
    node->workers_min = 2;
    node->workers_max = 5;
    atomic_store(&calls, 0);
    atomic_store(&wrong_thread, 0);
}

static void tear_down(void)
{
    workers_stop(node);
    ck_assert_uint_eq(atomic_load(&node->worker_count), 0);
    ck_assert_uint_eq(atomic_load(&land->refs), 1000); /* every worker gave its own back */
    loop_free(node->loop);
    free(land);
    free(node);
}

static void start_permanent(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(worker_start(node, true), 0);
}

static void called(struct worker *w, void *arg)
{
    if (!loop_is_mine(w->host.loop) || arg != &calls)
        atomic_fetch_add(&wrong_thread, 1);
    atomic_fetch_add(&calls, 1);
}

START_TEST(work_runs_on_the_workers_own_thread)
{
    start_permanent(3);
    for (int i = 0; i < 300; i++)
        ck_assert_int_eq(worker_call(node->workers[i % 3], called, &calls), 0);
    until(atomic_load(&calls) == 300);
    ck_assert_int_eq(atomic_load(&wrong_thread), 0);
}
END_TEST

START_TEST(what_was_asked_before_the_stop_is_done)
{
    start_permanent(2);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(worker_call(node->workers[i % 2], called, &calls), 0);
    workers_stop(node);
    ck_assert_int_eq(atomic_load(&calls), 1000);
}
END_TEST

static void back_on_main(struct node *n, void *arg)
{
    ck_assert_ptr_eq(n, node);
    atomic_fetch_add(&calls, 1);
    if (arg != NULL)
        loop_stop(n->loop);
}

static void ask_main(struct worker *w, void *arg)
{
    ck_assert_int_eq(node_call(w->node, back_on_main, arg), 0);
}

START_TEST(a_worker_calls_back)
{
    start_permanent(1);
    ck_assert_int_eq(worker_call(node->workers[0], ask_main, NULL), 0);
    ck_assert_int_eq(worker_call(node->workers[0], ask_main, node), 0);
    loop_run(node->loop);
    ck_assert_int_eq(atomic_load(&calls), 2);
}
END_TEST

START_TEST(sessions_are_spread)
{
    start_permanent(4);
    for (int i = 0; i < 400; i++)
        ck_assert_ptr_nonnull(worker_pick(node, NULL));
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(atomic_load(&node->workers[i]->host.live), 100);
    struct worker *home = node->workers[2];
    leg_host_release(&home->host, 4); /* below the mean */
    ck_assert_ptr_eq(worker_pick(node, home), home);
    for (int i = 0; i < 4; i++)
        atomic_store(&node->workers[i]->host.live, 0);
}
END_TEST

static size_t usable(void)
{
    size_t n = 0;
    for (size_t i = 0; i < atomic_load(&node->worker_count); i++)
        n += atomic_load(&node->workers[i]->usable);
    return n;
}

/* Ticks are the test's own: the load is what the threads' clocks say, so the threads really burn and rest. */
static _Atomic bool burning;

static void burn(struct worker *w, void *arg)
{
    uint64_t from = clock_thread_cpu_us();
    while (clock_thread_cpu_us() - from < 5000)
        ;
    if (atomic_load(&burning) && atomic_load(&w->usable))
        worker_call(w, burn, arg);
    else
        atomic_fetch_sub(&calls, 1);
}

/* A tick takes the CPU time since the last one for that of a second: after one of more than 700 ms a worker
 * counts as busy. */
static void tick_after_cpu(uint64_t cpu_us)
{
    struct timespec t;
    for (size_t i = 0; i < atomic_load(&node->worker_count); i++) {
        struct worker *w = node->workers[i];
        if (!atomic_load(&w->usable))
            continue;
        until(clock_gettime(w->cpu_clock, &t) == 0 &&
              (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000 >= w->cpu_us + cpu_us);
    }
    workers_tick(node);
}

START_TEST(workers_come_under_load_and_retire_without)
{
    node->workers_min = 1;
    node->workers_max = 2;
    start_permanent(1);
    atomic_store(&burning, true);
    atomic_fetch_add(&calls, 1);
    worker_call(node->workers[0], burn, NULL);
    while (usable() < 2)
        tick_after_cpu(800000);
    atomic_store(&burning, false);
    until(atomic_load(&calls) == 0);
    ck_assert(!node->workers[1]->permanent);
    leg_host_reserve(&node->workers[1]->host, 1); /* a session keeps it */
    for (int i = 0; usable() > 1; i++) {
        workers_tick(node);
        ck_assert_int_lt(i, 100);
    }
    workers_tick(node);
    ck_assert(!node->workers[1]->joined);
    for (int i = 0; i < 20; i++)
        ck_assert_ptr_eq(worker_pick(node, NULL), node->workers[0]);
    leg_host_release(&node->workers[1]->host, 1);
    workers_tick(node);
    ck_assert(node->workers[1]->joined);
    /* the slot is used again */
    ck_assert_int_eq(worker_start(node, false), 0);
    ck_assert_uint_eq(atomic_load(&node->worker_count), 2);
    ck_assert(!node->workers[1]->joined);
    atomic_store(&calls, 0);
    ck_assert_int_eq(worker_call(node->workers[1], called, &calls), 0);
    until(atomic_load(&calls) == 1);
    ck_assert_int_eq(atomic_load(&wrong_thread), 0);
    atomic_store(&node->workers[0]->host.live, 0);
}
END_TEST

static _Atomic int picking;

static void release(struct worker *w, void *arg)
{
    (void)arg;
    if (!loop_is_mine(w->host.loop))
        atomic_fetch_add(&wrong_thread, 1);
    leg_host_release(&w->host, 1);
}

/* What a home does: pick a worker, give it something, and never be let down by one that ends meanwhile. */
static void *pick_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < PICKS; i++) {
        struct worker *w = worker_pick(node, NULL);
        if (worker_call(w, release, NULL) < 0)
            abort();
    }
    atomic_fetch_sub(&picking, 1);
    return NULL;
}

/* Workers retire and start again while three threads place sessions: each session runs on the thread it was
 * given to. */
START_TEST(nobody_is_placed_on_a_worker_that_ended)
{
    pthread_t threads[PICKERS];
    int ends = 0;
    node->workers_min = 1;
    start_permanent(1);
    ck_assert_int_eq(worker_start(node, false), 0);
    ck_assert_int_eq(worker_start(node, false), 0);
    atomic_store(&picking, PICKERS);
    for (int i = 0; i < PICKERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, pick_many, NULL), 0);
    while (atomic_load(&picking) > 0 || ends == 0) {
        workers_tick(node); /* idle threads: the load is low, and each tenth tick retires one */
        for (size_t i = 0; i < 3; i++)
            ends += node->workers[i]->joined;
        if (usable() == 1 && node->workers[1]->joined && node->workers[2]->joined) {
            ck_assert_int_eq(worker_start(node, false), 0);
            ck_assert_int_eq(worker_start(node, false), 0);
        }
    }
    for (int i = 0; i < PICKERS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 3; i++)
        until(atomic_load(&node->workers[i]->host.live) == 0);
    ck_assert_int_eq(atomic_load(&wrong_thread), 0);
    ck_assert_int_gt(ends, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("worker");
    TCase *t = tcase_create("worker");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, work_runs_on_the_workers_own_thread);
    tcase_add_test(t, what_was_asked_before_the_stop_is_done);
    tcase_add_test(t, a_worker_calls_back);
    tcase_add_test(t, sessions_are_spread);
    tcase_add_test(t, workers_come_under_load_and_retire_without);
    tcase_add_test(t, nobody_is_placed_on_a_worker_that_ended);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
