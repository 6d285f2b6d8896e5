/* test_effort.c - which level a tunnel comes to, in virtual time: a node whose thread spends so many CPU
 * seconds a GB on everything but zstd, with bytes that compress to a third, on a link of some rate. */
#include "hawser/effort.h"

#include <check.h>
#include <stdlib.h>

enum { LOOK_US = 100000 };

struct scene {
    double link, want; /* bytes a second: what the wire carries, what hosts send */
    double other_s_per_gb, ratio;
    uint64_t now_us;
    unsigned changes;
};

static double zstd_s_per_gb(int level)
{
    return level == 0 ? 0 : level == 1 ? 2 : level == 3 ? 3.4 : 8.4;
}

static void look(struct effort *e, struct scene *s)
{
    double share = e->level == 0 ? 1 : s->ratio;
    double cost = (zstd_s_per_gb(e->level) + s->other_s_per_gb) / 1e9;
    double by_cpu = 1 / cost, by_link = s->link / share;
    double rate = s->want < by_cpu ? s->want : by_cpu;
    bool full = by_link < rate;
    if (full)
        rate = by_link;
    s->now_us += LOOK_US;
    struct effort_sample sample = {.now_us = s->now_us,
                                   .elapsed_us = LOOK_US,
                                   .cpu_us = (uint64_t)(rate * cost * LOOK_US),
                                   .bytes = (uint64_t)(rate * LOOK_US / 1e6),
                                   .link_full = full};
    int was = e->level;
    ck_assert_int_eq(effort_update(e, &sample), e->level != was);
    s->changes += e->level != was;
}

static void pass(struct effort *e, struct scene *s, int seconds)
{
    for (int i = 0; i < seconds * 10; i++)
        look(e, s);
}

static struct scene scene(double link_mbit)
{
    return (struct scene){.link = link_mbit * 1e6 / 8,
                          .want = 1e12,
                          .other_s_per_gb = 0.6,
                          .ratio = 1.0 / 3,
                          .now_us = 5000000};
}

static const struct {
    double mbit;
    int start, end; /* the rate is known at first; after a while of transfer */
} links[] = {
    {1, 6, 6}, {10, 6, 6}, {20, 6, 6}, {50, 3, 6}, {100, 3, 6}, {300, 1, 3}, {600, 1, 1}, {1000, 1, 1},
};
enum { LINKS = sizeof(links) / sizeof(links[0]) };

START_TEST(a_known_link_starts_at_its_level)
{
    struct effort e;
    struct scene s = scene(links[_i].mbit);
    effort_init(&e, (uint64_t)s.link);
    ck_assert_int_eq(e.level, links[_i].start);
    pass(&e, &s, 60);
    ck_assert_int_eq(e.level, links[_i].end);
    ck_assert_uint_le(s.changes, 1);
}
END_TEST

START_TEST(an_unknown_link_comes_to_the_same)
{
    struct effort e;
    struct scene s = scene(links[_i].mbit);
    effort_init(&e, UINT64_MAX);
    ck_assert_int_eq(e.level, 1);
    pass(&e, &s, 60);
    ck_assert_int_eq(e.level, links[_i].end);
    ck_assert_uint_le(s.changes, 2);
}
END_TEST

/* Ten gigabits: zstd makes 3 of them; raw blocks fill it. Now and then it is tried again. */
START_TEST(a_link_faster_than_zstd_gets_raw_blocks)
{
    struct effort e;
    struct scene s = scene(10000);
    unsigned raw = 0;
    effort_init(&e, UINT64_MAX);
    for (int i = 0; i < 600; i++) {
        pass(&e, &s, 1);
        raw += e.level == 0;
    }
    ck_assert_uint_gt(raw, 550);
    ck_assert_uint_gt(s.changes, 5);
}
END_TEST

/* 2 Gbit: level 1 keeps the CPU full and not quite the link, and is still better than raw blocks would be. */
START_TEST(raw_blocks_that_fill_the_link_are_given_up)
{
    struct effort e;
    struct scene s = scene(2000);
    unsigned raw = 0;
    effort_init(&e, UINT64_MAX);
    for (int i = 0; i < 600; i++) {
        pass(&e, &s, 1);
        raw += e.level == 0;
    }
    ck_assert_uint_lt(raw, 30);
}
END_TEST

/* Another tunnel's work, or a weaker CPU: down again, step by step. */
START_TEST(a_busy_cpu_lowers_the_level)
{
    struct effort e;
    struct scene s = scene(50);
    effort_init(&e, (uint64_t)s.link);
    pass(&e, &s, 10);
    ck_assert_int_eq(e.level, 6);
    s.other_s_per_gb = 45;
    pass(&e, &s, 10);
    ck_assert_int_eq(e.level, 1);
    s.other_s_per_gb = 0.6;
    pass(&e, &s, 10);
    ck_assert_int_eq(e.level, 6);
}
END_TEST

/* Where hosts send little the link is not full: nothing to gain by more. */
START_TEST(a_link_with_room_keeps_the_level)
{
    struct effort e;
    struct scene s = scene(1000);
    s.want = 1e6;
    effort_init(&e, UINT64_MAX);
    pass(&e, &s, 100);
    ck_assert_int_eq(e.level, 1);
    s.want = 100; /* next to nothing */
    s.link = 10;
    pass(&e, &s, 100);
    ck_assert_int_eq(e.level, 1);
}
END_TEST

/* A tick that comes after minutes of rest says nothing about now. */
START_TEST(a_rest_begins_anew)
{
    struct effort e;
    effort_init(&e, UINT64_MAX);
    struct effort_sample s = {.elapsed_us = 2500000, .cpu_us = 2500000, .bytes = 1 << 30, .link_full = true};
    for (int i = 1; i < 20; i++) {
        s.now_us = (uint64_t)i * 2500000;
        ck_assert(!effort_update(&e, &s));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("effort");
    TCase *effort = tcase_create("effort");
    tcase_add_loop_test(effort, a_known_link_starts_at_its_level, 0, LINKS);
    tcase_add_loop_test(effort, an_unknown_link_comes_to_the_same, 0, LINKS);
    tcase_add_test(effort, a_link_faster_than_zstd_gets_raw_blocks);
    tcase_add_test(effort, raw_blocks_that_fill_the_link_are_given_up);
    tcase_add_test(effort, a_busy_cpu_lowers_the_level);
    tcase_add_test(effort, a_link_with_room_keeps_the_level);
    tcase_add_test(effort, a_rest_begins_anew);
    suite_add_tcase(suite, effort);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
