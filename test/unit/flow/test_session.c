/* test_session.c - every cell of the halves' table, the ids of closed sessions against a model, reasons of
 * errors. */
#include "hawser/session.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_half_goes_only_where_the_table_says)
{
    static const bool may[HALF_COUNT][HALF_COUNT] = {
        /*               to: open   ending  done   reset */
        [HALF_OPEN] = {false, true, false, true},
        [HALF_ENDING] = {false, false, true, true},
        [HALF_DONE] = {false, false, false, false},
        [HALF_RESET] = {false, false, false, false},
    };
    for (int from = 0; from < HALF_COUNT; from++) {
        for (int to = 0; to < HALF_COUNT; to++)
            ck_assert_msg(session_half_may((enum session_half)from, (enum session_half)to) == may[from][to],
                          "%d to %d", from, to);
    }
}
END_TEST

enum { IDS = 2000 };

static void check_ids(const struct closed_ids *c, const bool *closed)
{
    size_t ranges = 0;
    for (uint64_t n = 1; n < IDS; n++) {
        ranges += closed[n] && !closed[n - 1];
        for (uint64_t side = 0; side < 2; side++) {
            if (closed_has(c, n << 1 | side) != closed[n])
                ck_abort_msg("id %llu", (unsigned long long)n);
        }
    }
    ck_assert_uint_eq(c->count, ranges); /* neighbours are always joined */
}

START_TEST(closed_ids_agree_with_a_model)
{
    for (unsigned seed = 0; seed < 20; seed++) {
        struct closed_ids c = {0};
        bool closed[IDS] = {false};
        srand(seed);
        for (int i = 0; i < 3 * IDS; i++) {
            uint64_t n = 1 + (uint64_t)rand() % (IDS - 2);
            if (seed % 2 == 0 && i < IDS - 2)
                n = (uint64_t)(i ^ 7) % (IDS - 2) + 1; /* nearly in order, as sessions end */
            ck_assert_int_eq(closed_add(&c, n << 1, CLOSED_RANGES_MAX), 0); /* some for a second time */
            closed[n] = true;
            if (i % 100 == 0)
                check_ids(&c, closed);
        }
        check_ids(&c, closed);
        closed_clear(&c);
        ck_assert(!closed_has(&c, 4));
    }
}
END_TEST

START_TEST(the_largest_ids_do_not_wrap)
{
    struct closed_ids c = {0};
    uint64_t last = UINT64_MAX;
    ck_assert_int_eq(closed_add(&c, last, CLOSED_RANGES_MAX), 0);
    ck_assert_int_eq(closed_add(&c, last - 2, CLOSED_RANGES_MAX), 0);
    ck_assert_int_eq(closed_add(&c, 2, CLOSED_RANGES_MAX), 0);
    ck_assert(closed_has(&c, last) && closed_has(&c, last - 2) && closed_has(&c, 2));
    ck_assert(!closed_has(&c, last - 4) && !closed_has(&c, 4));
    ck_assert_uint_eq(c.count, 2);
    closed_clear(&c);
}
END_TEST

START_TEST(errors_become_reasons)
{
    ck_assert_int_eq(session_reason_of_errno(-ECONNREFUSED, false), FRAME_RST_REFUSED);
    ck_assert_int_eq(session_reason_of_errno(-ETIMEDOUT, false), FRAME_RST_TIMEOUT);
    ck_assert_int_eq(session_reason_of_errno(-EHOSTUNREACH, false), FRAME_RST_UNREACHABLE);
    ck_assert_int_eq(session_reason_of_errno(-ENETUNREACH, false), FRAME_RST_UNREACHABLE);
    ck_assert_int_eq(session_reason_of_errno(-EADDRNOTAVAIL, false), FRAME_RST_SOURCE);
    ck_assert_int_eq(session_reason_of_errno(-EPERM, false), FRAME_RST_SOURCE);
    ck_assert_int_eq(session_reason_of_errno(-EMFILE, false), FRAME_RST_OVERLOAD);
    ck_assert_int_eq(session_reason_of_errno(-ECONNRESET, true), FRAME_RST_BY_HOST);
    ck_assert_int_eq(session_reason_of_errno(-ETIMEDOUT, true), FRAME_RST_BY_HOST);
    ck_assert_int_eq(session_reason_of_errno(-ENOMEM, true), FRAME_RST_OVERLOAD);
}
END_TEST

START_TEST(a_destination_that_wants_our_own_name_is_remembered_for_a_while)
{
    static struct origin_memory memory;
    struct addr a, b;
    memset(&memory, 0, sizeof(memory));
    ck_assert_int_eq(addr_parse(&a, "10.2.0.1"), 0);
    ck_assert_int_eq(addr_parse(&b, "fd00::1"), 0);
    ck_assert(!origin_remembered_self(&memory, &a, 1000));
    origin_remember_self(&memory, &a, 1000);
    ck_assert(origin_remembered_self(&memory, &a, 1000));
    ck_assert(origin_remembered_self(&memory, &a, 1000 + 500 * 1000000ull));
    ck_assert(!origin_remembered_self(&memory, &b, 1000));
    ck_assert(!origin_remembered_self(&memory, &a, 1000 + 601 * 1000000ull));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("session");
    TCase *t = tcase_create("session");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_half_goes_only_where_the_table_says);
    tcase_add_test(t, closed_ids_agree_with_a_model);
    tcase_add_test(t, the_largest_ids_do_not_wrap);
    tcase_add_test(t, errors_become_reasons);
    tcase_add_test(t, a_destination_that_wants_our_own_name_is_remembered_for_a_while);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
