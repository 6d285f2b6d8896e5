/* test_savings.c - what crosses as references in a stream, against a flag for every byte. */
#include "hawser/savings.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

enum { SPAN = 400, STEPS = 100000, PIECE_MOST = 30 };

static uint64_t random_state = 5;

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(random_state >> 33) % below;
}

START_TEST(what_is_before_an_offset_is_settled)
{
    struct savings s = {0};
    savings_add(&s, 20, 100, 60);
    savings_add(&s, 110, 200, 70);
    ck_assert_uint_eq(s.total, 130);
    ck_assert_uint_eq(savings_settle(&s, 99), 0);
    ck_assert_uint_eq(s.total, 130);
    ck_assert_uint_eq(savings_settle(&s, 100), 80);
    ck_assert_uint_eq(s.total, 70);
    ck_assert_uint_eq(savings_settle(&s, 1000), 90);
    ck_assert_uint_eq(s.total, 0);
    ck_assert_ptr_null(s.list); /* no memory while empty */
}
END_TEST

/* An acknowledgement inside of a frame: half of the entry, so half of what crossed as references. All of that
 * half may have been saved. */
START_TEST(a_part_is_settled_with_its_share)
{
    struct savings s = {0};
    savings_add(&s, 20, 100, 60);
    savings_add(&s, 110, 200, 70);
    ck_assert_uint_eq(savings_settle_part(&s, 20), 0);
    ck_assert_uint_eq(savings_settle_part(&s, 60), 40);
    ck_assert_uint_eq(s.total, 20 + 70);
    ck_assert_uint_eq(savings_settle_part(&s, 60), 0);
    ck_assert_uint_eq(savings_settle_part(&s, 105), 40);
    ck_assert_uint_eq(s.total, 70);
    ck_assert_uint_eq(savings_settle_part(&s, 200), 90);
    ck_assert_ptr_null(s.list);
}
END_TEST

/* What lies between references that were joined, or behind the last of them, is never taken for saved. */
START_TEST(a_gap_in_an_entry_saves_nothing)
{
    struct savings s = {0};
    for (uint64_t i = 0; i < SAVINGS_MAX; i++)
        savings_add(&s, 10 * i, 10 * i + 5, 5);
    uint64_t last = 10 * (SAVINGS_MAX - 1), end = 100 * last;
    savings_add(&s, end - 1, end, 1); /* the last entry has a long gap now */
    ck_assert_uint_eq(s.total, 5 * SAVINGS_MAX + 1);
    savings_settle_part(&s, last + 3);
    ck_assert_uint_eq(s.total, 3);
    savings_settle_part(&s, last + 6);
    ck_assert_uint_eq(s.total, 0);
    savings_settle_part(&s, end);
    ck_assert_ptr_null(s.list);
}
END_TEST

/* A lost lane, and a MISS for what it had carried: both say that the bytes go again. */
START_TEST(what_goes_again_twice_is_spent_once)
{
    struct savings s = {0};
    savings_add(&s, 0, 1000, 900);
    savings_add(&s, 1000, 2000, 900);
    for (int i = 0; i < 3; i++) {
        savings_spend(&s, 500, 1000);
        ck_assert_uint_eq(s.total, 450 + 900);
    }
    savings_spend(&s, 2000, 1u << 30); /* never were references */
    ck_assert_uint_eq(s.total, 450 + 900);
    ck_assert_uint_eq(savings_settle(&s, 2000), 1500);
    ck_assert_ptr_null(s.list);
}
END_TEST

/* One stream, its flags from `settled` on. */
struct model {
    struct savings savings;
    bool referred[SPAN];
    uint64_t settled, sent, counted, true_count;
};

static void model_send(struct model *m, uint64_t from, uint64_t end, bool as_reference)
{
    savings_spend(&m->savings, from, end);
    if (as_reference)
        savings_add(&m->savings, from, end, end - from);
    for (; from < end; from++)
        m->referred[from] = as_reference;
}

static void model_step(struct model *m)
{
    uint64_t from = m->settled + roll((uint32_t)(m->sent - m->settled) + 1);
    uint64_t end = from + 1 + roll(PIECE_MOST);
    if (roll(3) > 0) {
        from = m->sent;
        end = from + 1 + roll(PIECE_MOST);
    }
    if (end > SPAN)
        end = SPAN;
    if (from < end)
        model_send(m, from, end, roll(2) == 0);
    m->sent = end > m->sent ? end : m->sent;
    uint64_t outstanding = 0;
    for (uint64_t i = m->settled; i < m->sent; i++)
        outstanding += m->referred[i];
    ck_assert_uint_eq(m->savings.total, outstanding);
}

static void model_settle(struct model *m)
{
    uint64_t upto = m->settled + roll((uint32_t)(m->sent - m->settled) + 1);
    m->counted += savings_settle_part(&m->savings, upto);
    for (; m->settled < upto; m->settled++)
        m->true_count += m->referred[m->settled];
    ck_assert_uint_eq(m->counted, m->true_count);
}

START_TEST(as_flags_would_have_it)
{
    for (int stream = 0; stream < STEPS / SPAN; stream++) {
        struct model m = {0};
        while (m.sent < SPAN) {
            model_step(&m);
            if (roll(5) == 0)
                model_settle(&m);
        }
        savings_clear(&m.savings);
        ck_assert_uint_eq(m.savings.total, 0);
    }
}
END_TEST

/* Past the last entry, what is added is settled no earlier than it ought to be, and nothing is lost. */
START_TEST(entries_are_bounded)
{
    struct savings s = {0};
    uint64_t sum = 0;
    for (uint64_t i = 1; i <= 3 * SAVINGS_MAX; i++) {
        savings_add(&s, 10 * i - 5, 10 * i, i % 5);
        sum += i % 5;
    }
    ck_assert_uint_le(s.cap, SAVINGS_MAX);
    ck_assert_uint_eq(s.total, sum);
    ck_assert_uint_eq(savings_settle(&s, 10 * (SAVINGS_MAX - 1)), 5 * (SAVINGS_MAX - 1));
    ck_assert_uint_eq(savings_settle(&s, 30 * SAVINGS_MAX - 1), 0);
    ck_assert_uint_eq(savings_settle(&s, 30 * SAVINGS_MAX), 5 * (2 * SAVINGS_MAX + 1));
    ck_assert_uint_eq(s.total, 0);
    ck_assert_ptr_null(s.list);
}
END_TEST

/* A stream that goes on takes no more memory than what is outstanding. */
START_TEST(a_long_stream)
{
    struct savings s = {0};
    uint64_t count = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        savings_add(&s, 10 * i, 10 * i + 7, 3);
        count += savings_settle(&s, i < 5 ? 0 : 10 * (i - 5) + 7);
        ck_assert_uint_le(s.cap, 8);
        ck_assert_uint_le(s.total, 15);
    }
    ck_assert_uint_eq(count + savings_settle(&s, UINT64_MAX), 700000);
    ck_assert_uint_eq(s.total, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("savings");
    TCase *t = tcase_create("savings");
    tcase_add_test(t, what_is_before_an_offset_is_settled);
    tcase_add_test(t, a_part_is_settled_with_its_share);
    tcase_add_test(t, a_gap_in_an_entry_saves_nothing);
    tcase_add_test(t, what_goes_again_twice_is_spent_once);
    tcase_add_test(t, as_flags_would_have_it);
    tcase_add_test(t, entries_are_bounded);
    tcase_add_test(t, a_long_stream);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
