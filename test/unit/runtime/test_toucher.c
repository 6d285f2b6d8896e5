/* test_toucher.c - the thread that touches memory: pages are there and still zero, and no reference is kept.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "hawser/clock.h"
#include "hawser/toucher.h"

enum { CAP = 16 << 20, PART = 2 << 20, HANG_US = 60000000, POPULATE_WRITE = 23 /* of Linux 5.14 */ };

static uint32_t refs(struct chunk *c)
{
    return atomic_load(&c->refs);
}

static void wait_until_free(struct chunk *c)
{
    uint64_t began_us = clock_now_us();
    while (refs(c) != 1) {
        ck_assert_uint_lt(clock_now_us() - began_us, HANG_US);
        sched_yield();
    }
}

/* Pages of [off, off + PART) that are there. */
static unsigned pages_there(struct chunk *c, uint32_t off)
{
    enum { PAGE = 4096 };
    unsigned char there[PART / PAGE];
    unsigned count = 0;
    ck_assert_int_eq(mincore(c->bytes + off, PART, there), 0);
    for (unsigned i = 0; i < PART / PAGE; i++)
        count += there[i] & 1;
    return count;
}

static bool kernel_can(void)
{
    struct chunk *c = chunk_new_mapped(CAP);
    bool can = madvise(c->bytes, PART, POPULATE_WRITE) == 0;
    chunk_unref(c);
    return can;
}

START_TEST(what_is_asked_for_is_there_and_untouched_otherwise)
{
    struct toucher *t;
    struct chunk *c = chunk_new_mapped(CAP);
    ck_assert_int_eq(toucher_new(&t), 0);
    ck_assert(toucher_ask(t, c, PART, PART));
    c->bytes[PART + 5] = 7; /* its writer does not wait */
    wait_until_free(c);
    toucher_free(t);
    if (kernel_can())
        ck_assert_uint_eq(pages_there(c, PART), PART / 4096);
    ck_assert_uint_eq(pages_there(c, 0), 0);
    ck_assert_uint_eq(pages_there(c, 2 * PART), 0);
    for (uint32_t i = PART; i < 2 * PART; i++)
        ck_assert_uint_eq(c->bytes[i], i == PART + 5 ? 7 : 0);
    chunk_unref(c);
}
END_TEST

static void *ask_much(void *arg)
{
    for (int i = 0; i < 40; i++) {
        struct chunk *c = chunk_new_mapped(CAP);
        ck_assert_ptr_nonnull(c);
        toucher_ask(arg, c, 0, PART);
        c->bytes[i] = 1;
        ck_assert_uint_le(refs(c), 2);
        chunk_unref(c); /* the thread's may be the last */
    }
    return NULL;
}

/* Asked by several threads, and an end in the middle: the sanitizers see what is lost. */
START_TEST(it_ends_in_the_middle_and_keeps_nothing)
{
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    struct toucher *t;
    struct chunk *c = chunk_new_mapped(CAP);
    ck_assert_int_eq(toucher_new(&t), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ask_much, t), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < CAP / PART; i++)
        toucher_ask(t, c, i * PART, PART);
    ck_assert_uint_le(refs(c), 2); /* one at a time */
    toucher_free(t);
    ck_assert_uint_eq(refs(c), 1);
    chunk_unref(c);
}
END_TEST

START_TEST(without_a_thread_nothing_is_held)
{
    struct chunk *c = chunk_new_mapped(CAP);
    ck_assert(!toucher_ask(NULL, c, 0, PART));
    ck_assert_uint_eq(refs(c), 1);
    toucher_free(NULL);
    chunk_unref(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("toucher");
    TCase *t = tcase_create("toucher");
    tcase_set_timeout(t, 100);
    tcase_add_test(t, what_is_asked_for_is_there_and_untouched_otherwise);
    tcase_add_test(t, it_ends_in_the_middle_and_keeps_nothing);
    tcase_add_test(t, without_a_thread_nothing_is_held);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
