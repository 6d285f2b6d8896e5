/* test_spans.c - a set of offsets that moves along a stream, against a flag for every one. */
#include "hawser/spans.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SPAN = 300, STEPS = 50000 };

static uint64_t random_state = 9;

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(random_state >> 33) % below;
}

static void check(const struct spans *s, const bool *flags, uint64_t start, uint32_t at)
{
    uint32_t end = at, next = at;
    while (end < SPAN && flags[end])
        end++;
    while (next < SPAN && !flags[next])
        next++;
    ck_assert_uint_eq(spans_end_of(s, start + at), start + end);
    ck_assert_uint_eq(spans_next_from(s, start + at), next == SPAN ? UINT64_MAX : start + next);
}

/* _i: where the stream begins, in units of 3 GB. */
START_TEST(as_flags_would_have_it)
{
    static bool flags[SPAN];
    struct spans s = {0};
    uint64_t start = (uint64_t)_i * 3000000000u;
    memset(flags, 0, sizeof(flags));
    spans_pass(&s, start);
    for (int i = 0; i < STEPS; i++) {
        uint32_t from = roll(SPAN), len = 1 + roll(SPAN - from < 20 ? SPAN - from : 20);
        if (roll(20) == 0) { /* the stream goes on */
            uint32_t by = roll(SPAN);
            spans_pass(&s, start + by);
            memmove(flags, flags + by, SPAN - by);
            memset(flags + SPAN - by, 0, by);
            start += by;
        } else if (roll(10) == 0) {
            uint64_t first = spans_next_from(&s, start);
            uint64_t end = first == UINT64_MAX ? 0 : spans_end_of(&s, first);
            if (first != UINT64_MAX)
                spans_take(&s, first, end);
            for (; first < end; first++)
                flags[first - start] = false;
        } else {
            ck_assert_int_eq(spans_add(&s, start + from, start + from + len), 0);
            memset(flags + from, 1, len);
        }
        check(&s, flags, start, roll(SPAN));
    }
    spans_clear(&s);
    ck_assert_ptr_null(s.set.list);
}
END_TEST

START_TEST(what_is_out_of_reach_is_not_in_it)
{
    struct spans s = {0};
    ck_assert_int_eq(spans_add(&s, 10, 20), 0);
    ck_assert_int_lt(spans_add(&s, 30, 1ull << 33), 0);
    ck_assert_uint_eq(spans_end_of(&s, (1ull << 32) + 10), (1ull << 32) + 10);
    ck_assert_uint_eq(spans_next_from(&s, 1ull << 40), UINT64_MAX);
    spans_pass(&s, 1ull << 40);
    ck_assert_uint_eq(spans_next_from(&s, 0), UINT64_MAX);
    ck_assert_int_eq(spans_add(&s, (1ull << 40) + 1, (1ull << 40) + 5), 0);
    ck_assert_uint_eq(spans_next_from(&s, 0), (1ull << 40) + 1);
    spans_clear(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spans");
    TCase *t = tcase_create("spans");
    tcase_add_loop_test(t, as_flags_would_have_it, 0, 3);
    tcase_add_test(t, what_is_out_of_reach_is_not_in_it);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
