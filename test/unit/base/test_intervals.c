/* test_intervals.c - sets of intervals against a bitmap. */
#include "hawser/intervals.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { MODEL = 400, ROUNDS = 60000 };

static unsigned rolls = 4711;

static uint32_t roll(uint32_t below)
{
    rolls = rolls * 1103515245 + 12345;
    return (rolls >> 8) % below;
}

/* The list is sorted, disjoint and never touching, and says what the model says, at every place. */
static void check_agrees(const struct intervals *s, const bool model[MODEL])
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        ck_assert_uint_lt(s->list[i].from, s->list[i].to);
        ck_assert(i == 0 || s->list[i - 1].to < s->list[i].from);
        total += s->list[i].to - s->list[i].from;
    }
    ck_assert_uint_eq(intervals_total(s), total);
    uint32_t end = MODEL, next = UINT32_MAX, held = 0;
    for (uint32_t at = MODEL; at-- > 0;) {
        if (model[at])
            next = at;
        else
            end = at;
        held += model[at];
        ck_assert_uint_eq(intervals_end_of(s, at), end);
        ck_assert_uint_eq(intervals_next_from(s, at), next);
    }
    for (uint32_t at = 0, begin = 0; at < MODEL; at++) {
        if (!model[at])
            begin = at + 1;
        ck_assert_uint_eq(intervals_begin_of(s, at), model[at] ? begin : at);
    }
    ck_assert_uint_eq(held, total);
}

static bool model_covers(const bool model[MODEL], uint32_t from, uint32_t to)
{
    for (uint32_t at = from; at < to; at++) {
        if (!model[at])
            return false;
    }
    return true;
}

START_TEST(a_set_agrees_with_a_bitmap)
{
    struct intervals s = {0};
    bool model[MODEL] = {false};
    uint32_t most = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t from = roll(MODEL), len = roll(round % 4 == 0 ? 60 : 6);
        uint32_t to = from + len < MODEL ? from + len : MODEL;
        bool add = roll(100) < 52;
        ck_assert_int_eq(add ? intervals_add(&s, from, to) : intervals_remove(&s, from, to), 0);
        for (uint32_t at = from; at < to; at++)
            model[at] = add;
        most = s.count > most ? s.count : most;
        if (round % 64 == 0)
            check_agrees(&s, model);
        from = roll(MODEL);
        to = from + roll(8);
        to = to < MODEL ? to : MODEL;
        ck_assert(intervals_cover(&s, from, to) == model_covers(model, from, to));
    }
    ck_assert_uint_gt(most, 30); /* it was really in pieces */
    intervals_clear(&s);
}
END_TEST

START_TEST(an_empty_set_holds_no_memory)
{
    struct intervals s = {0};
    ck_assert_int_eq(intervals_remove(&s, 0, UINT32_MAX), 0);
    ck_assert_int_eq(intervals_add(&s, 7, 7), 0);
    ck_assert_ptr_null(s.list);
    ck_assert(intervals_cover(&s, 7, 7));
    ck_assert_int_eq(intervals_add(&s, 7, 9), 0);
    ck_assert_ptr_nonnull(s.list);
    ck_assert_int_eq(intervals_remove(&s, 0, 100), 0);
    ck_assert_ptr_null(s.list);
    ck_assert_uint_eq(s.count + s.cap, 0);
}
END_TEST

/* Else a bound on the number of intervals would bound no memory. */
START_TEST(the_list_shrinks_with_what_is_in_it)
{
    enum { MANY = 8000 };
    struct intervals s = {0};
    for (uint32_t i = 0; i < MANY; i++)
        ck_assert_int_eq(intervals_add(&s, 2 * i, 2 * i + 1), 0);
    ck_assert_uint_ge(s.cap, MANY);
    for (uint32_t i = 0; i < MANY - 1; i++) {
        ck_assert_int_eq(intervals_remove(&s, 2 * i, 2 * i + 1), 0);
        ck_assert_uint_le(s.cap, 4 * s.count + 4);
    }
    for (uint32_t i = 0; i < MANY; i++)
        ck_assert_int_eq(intervals_add(&s, 2 * i, 2 * i + 1), 0);
    ck_assert_int_eq(intervals_add(&s, 0, 2 * MANY), 0);
    ck_assert_uint_eq(s.count, 1);
    ck_assert_uint_eq(s.cap, 4);
    intervals_clear(&s);
}
END_TEST

START_TEST(the_ends_of_the_numbers_are_no_special_place)
{
    struct intervals s = {0};
    ck_assert_int_eq(intervals_add(&s, 0, 1), 0);
    ck_assert_int_eq(intervals_add(&s, UINT32_MAX - 1, UINT32_MAX), 0);
    ck_assert_uint_eq(intervals_end_of(&s, UINT32_MAX - 1), UINT32_MAX);
    ck_assert_uint_eq(intervals_end_of(&s, UINT32_MAX), UINT32_MAX);
    ck_assert_uint_eq(intervals_begin_of(&s, UINT32_MAX), UINT32_MAX);
    ck_assert_uint_eq(intervals_next_from(&s, UINT32_MAX), UINT32_MAX);
    ck_assert_uint_eq(intervals_next_from(&s, 1), UINT32_MAX - 1);
    ck_assert_int_eq(intervals_add(&s, 1, UINT32_MAX - 1), 0);
    ck_assert_uint_eq(s.count, 1);
    ck_assert_uint_eq(intervals_total(&s), UINT32_MAX);
    ck_assert_int_eq(intervals_remove(&s, UINT32_MAX - 1, UINT32_MAX), 0);
    ck_assert_uint_eq(intervals_end_of(&s, 0), UINT32_MAX - 1);
    intervals_clear(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("intervals");
    TCase *t = tcase_create("intervals");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_set_agrees_with_a_bitmap);
    tcase_add_test(t, an_empty_set_holds_no_memory);
    tcase_add_test(t, the_list_shrinks_with_what_is_in_it);
    tcase_add_test(t, the_ends_of_the_numbers_are_no_special_place);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
