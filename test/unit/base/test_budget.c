/* test_budget.c - the cap holds, alone and among threads. */
#include "hawser/budget.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 4, ROUNDS = 50000, CAP = 100 };

START_TEST(takes_up_to_the_cap_and_no_further)
{
    struct budget b;
    budget_init(&b, 10);
    ck_assert_uint_eq(budget_left(&b), 10);
    ck_assert(budget_take(&b, 0));
    ck_assert(budget_take(&b, 7));
    ck_assert(!budget_take(&b, 4));
    ck_assert_uint_eq(budget_used(&b), 7);
    ck_assert(budget_take(&b, 3));
    ck_assert(!budget_take(&b, 1));
    ck_assert_uint_eq(budget_left(&b), 0);
    budget_give(&b, 10);
    ck_assert_uint_eq(budget_left(&b), 10);
}
END_TEST

START_TEST(a_cap_of_nothing_gives_nothing)
{
    struct budget b;
    budget_init(&b, 0);
    ck_assert(!budget_take(&b, 1));
    ck_assert(budget_take(&b, 0));
    ck_assert_uint_eq(budget_left(&b), 0);
}
END_TEST

START_TEST(an_amount_past_all_bounds_is_refused)
{
    struct budget b;
    budget_init(&b, 10);
    ck_assert(budget_take(&b, 5));
    ck_assert(!budget_take(&b, UINT64_MAX));
    ck_assert(!budget_take(&b, UINT64_MAX - 4));
    ck_assert_uint_eq(budget_used(&b), 5);
}
END_TEST

static struct budget shared;
static _Atomic uint64_t held;

static void *take_and_give(void *arg)
{
    uint64_t n = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (!budget_take(&shared, n))
            continue;
        uint64_t now = atomic_fetch_add(&held, n) + n;
        ck_assert_uint_le(now, CAP);
        atomic_fetch_sub(&held, n);
        budget_give(&shared, n);
    }
    return NULL;
}

START_TEST(threads_together_stay_under_the_cap)
{
    pthread_t threads[THREADS];
    budget_init(&shared, CAP);
    for (uintptr_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_give, (void *)(20 + 13 * i)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(budget_used(&shared), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("budget");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, takes_up_to_the_cap_and_no_further);
    tcase_add_test(t, a_cap_of_nothing_gives_nothing);
    tcase_add_test(t, an_amount_past_all_bounds_is_refused);
    tcase_add_test(t, threads_together_stay_under_the_cap);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
