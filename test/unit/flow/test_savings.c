/* test_savings.c - bytes saved in a stream, against a list of all of them. */
#include "hawser/savings.h"

#include <check.h>
#include <stdlib.h>

START_TEST(what_is_before_an_offset_is_settled)
{
    struct savings s = {0};
    savings_add(&s, 100, 60);
    savings_add(&s, 200, 70);
    ck_assert_uint_eq(s.total, 130);
    savings_settle(&s, 99);
    ck_assert_uint_eq(s.total, 130);
    savings_settle(&s, 100);
    ck_assert_uint_eq(s.total, 70);
    savings_settle(&s, 1000);
    ck_assert_uint_eq(s.total, 0);
    ck_assert_ptr_null(s.ring); /* no memory while empty */
}
END_TEST

/* Spending never makes the sum wrap, nor does settling afterwards what was spent. */
START_TEST(more_may_be_spent_than_is_left)
{
    struct savings s = {0};
    savings_add(&s, 10, 5);
    savings_add(&s, 20, 5);
    savings_spend(&s, 7);
    ck_assert_uint_eq(s.total, 3);
    savings_settle(&s, 10);
    ck_assert_uint_eq(s.total, 0);
    savings_spend(&s, 1000);
    ck_assert_uint_eq(s.total, 0);
    savings_settle(&s, 20);
    ck_assert_uint_eq(s.total, 0);
    savings_add(&s, 30, 4);
    ck_assert_uint_eq(s.total, 4);
    savings_clear(&s);
}
END_TEST

/* Past the last mark, what is added is settled no earlier than it ought to be, and nothing is lost. */
START_TEST(marks_are_bounded)
{
    struct savings s = {0};
    uint64_t sum = 0;
    for (uint64_t i = 1; i <= 3 * SAVINGS_MAX; i++) {
        savings_add(&s, 10 * i, i);
        sum += i;
    }
    ck_assert_uint_le(s.cap, SAVINGS_MAX);
    ck_assert_uint_eq(s.total, sum);
    for (uint64_t i = 1; i < SAVINGS_MAX; i++) {
        savings_settle(&s, 10 * i);
        sum -= i;
        ck_assert_uint_eq(s.total, sum);
    }
    savings_settle(&s, 30 * SAVINGS_MAX - 1);
    ck_assert_uint_eq(s.total, sum);
    savings_settle(&s, 30 * SAVINGS_MAX);
    ck_assert_uint_eq(s.total, 0);
    ck_assert_ptr_null(s.ring);
}
END_TEST

/* A stream that goes on: the ring turns many times. */
START_TEST(a_long_stream)
{
    struct savings s = {0};
    uint64_t ends[5] = {0}, bytes[5] = {0}, end = 0, sum = 0;
    for (unsigned i = 0; i < 100000; i++) {
        unsigned slot = i % 5;
        savings_settle(&s, ends[slot]);
        sum -= bytes[slot];
        end += 1 + i % 7;
        ends[slot] = end;
        bytes[slot] = i % 11;
        savings_add(&s, end, bytes[slot]);
        sum += bytes[slot];
        ck_assert_uint_eq(s.total, sum);
        ck_assert_uint_le(s.cap, 8);
    }
    savings_clear(&s);
    ck_assert_uint_eq(s.total, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("savings");
    TCase *t = tcase_create("savings");
    tcase_add_test(t, what_is_before_an_offset_is_settled);
    tcase_add_test(t, more_may_be_spent_than_is_left);
    tcase_add_test(t, marks_are_bounded);
    tcase_add_test(t, a_long_stream);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
