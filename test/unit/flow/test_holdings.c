/* test_holdings.c - what a peer holds, against a bit for every byte, kind and segment. */
#include "hawser/holdings.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { SPAN = 256, SEGMENTS = 5, STEPS = 200000, KINDS = HOLDINGS_SENT + CONFIG_LANES_MAX };

static struct holdings holdings;
static bool model[SEGMENTS][KINDS][SPAN];
static bool noted[SEGMENTS]; /* something of it was added and not all of it taken away since */
static uint64_t random_state;

static const struct segment_id ids[SEGMENTS] = {{10, 1}, {10, 2}, {UINT64_MAX, 4}, {1, 0}, {900, 77}};

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(random_state >> 33) % below;
}

static void set_up(void)
{
    random_state = 88;
    holdings = (struct holdings){.peer = 1};
    memset(model, 0, sizeof(model));
    memset(noted, 0, sizeof(noted));
}

static void tear_down(void)
{
    holdings_clear(&holdings);
    ck_assert_uint_eq(holdings.segments.count, 0);
}

static bool model_empty(unsigned g)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        if (memchr(model[g][kind], true, SPAN) != NULL)
            return false;
    }
    return true;
}

static bool we_may(unsigned g, unsigned slot, uint32_t at)
{
    if (model[g][HOLDINGS_MISSED][at])
        return false;
    return model[g][HOLDINGS_THEIRS][at] || model[g][HOLDINGS_CLAIMED][at] ||
           model[g][HOLDINGS_SENT + slot][at];
}

static bool peer_may(unsigned g, uint32_t at)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        bool counts = kind != HOLDINGS_CLAIMED && kind != HOLDINGS_MISSED && kind != HOLDINGS_ASKED &&
                      kind != HOLDINGS_PROVED;
        if (counts && model[g][kind][at])
            return true;
    }
    return false;
}

static void check_span(unsigned g, unsigned slot, uint32_t off, uint32_t len)
{
    bool held = false, want = we_may(g, slot, off);
    uint32_t span = holdings_span(&holdings, &ids[g], slot, off, len, &held), alike = 1;
    while (alike < len && we_may(g, slot, off + alike) == want)
        alike++;
    ck_assert_int_eq(held, want);
    ck_assert_uint_ge(span, 1);
    ck_assert_uint_le(span, alike);
    ck_assert(!held || span == alike);
}

static void check_peer_may(unsigned g, uint32_t off, uint32_t len)
{
    bool all = true;
    for (uint32_t i = 0; i < len; i++)
        all = all && peer_may(g, off + i);
    ck_assert_int_eq(holdings_peer_may(&holdings, &ids[g], off, len), all);
}

static void put(unsigned g, unsigned kind, uint32_t off, uint32_t len)
{
    holdings_add(&holdings, &ids[g], kind, off, len);
    memset(&model[g][kind][off], true, len);
    noted[g] = true;
}

static void take_back(unsigned g, uint32_t off, uint32_t len)
{
    holdings_take_back(&holdings, &ids[g], off, len);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        if (kind != HOLDINGS_ANNOUNCED && kind != HOLDINGS_ASKED && kind != HOLDINGS_PROVED)
            memset(&model[g][kind][off], kind == HOLDINGS_MISSED, len);
    }
    noted[g] = true;
}

static void show(unsigned g, unsigned kind, uint32_t off, uint32_t len)
{
    holdings_add_shown(&holdings, &ids[g], kind, off, len);
    memset(&model[g][kind][off], true, len);
    memset(&model[g][HOLDINGS_MISSED][off], false, len);
    noted[g] = true;
}

static void take_asked(unsigned g, uint32_t off, uint32_t len)
{
    bool any = memchr(&model[g][HOLDINGS_ASKED][off], true, len) != NULL;
    ck_assert_int_eq(holdings_take_asked(&holdings, &ids[g], off, len), any);
    memset(&model[g][HOLDINGS_ASKED][off], false, len);
}

static void make_proved(unsigned g)
{
    for (uint32_t at = 0; at < SPAN; at++) {
        model[g][HOLDINGS_PROVED][at] |= model[g][HOLDINGS_THEIRS][at];
        model[g][HOLDINGS_THEIRS][at] = false;
    }
}

static void dropped(unsigned g)
{
    holdings_dropped(&holdings, &ids[g]);
    make_proved(g);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        if (kind != HOLDINGS_PROVED)
            memset(model[g][kind], false, SPAN);
    }
    noted[g] = noted[g] && !model_empty(g);
}

/* Of every segment only these kinds stay. */
static void keep_kinds(bool (*stays)(unsigned kind))
{
    for (unsigned g = 0; g < SEGMENTS; g++) {
        for (unsigned kind = 0; kind < KINDS; kind++) {
            if (!stays(kind))
                memset(model[g][kind], false, SPAN);
        }
        noted[g] = noted[g] && !model_empty(g);
    }
}

static unsigned lost_slot;

static bool outlives_the_lane(unsigned kind)
{
    return kind != HOLDINGS_SENT + lost_slot;
}

static void lane_lost(unsigned slot)
{
    holdings_lane_lost(&holdings, slot);
    lost_slot = slot;
    keep_kinds(outlives_the_lane);
}

static bool is_not_asked(unsigned kind)
{
    return kind != HOLDINGS_ASKED;
}

static bool is_proved(unsigned kind)
{
    return kind == HOLDINGS_PROVED;
}

static bool outlives_the_key(unsigned kind)
{
    return kind != HOLDINGS_THEIRS && kind != HOLDINGS_PROVED && kind != HOLDINGS_ANNOUNCED;
}

static void recall(unsigned g, uint32_t off, uint32_t len)
{
    struct interval part = {off, off};
    uint32_t at = off;
    while (holdings_recall(&holdings, &ids[g], part.to, off + len, &part)) {
        ck_assert_uint_lt(part.from, part.to);
        ck_assert_uint_le(part.to, off + len);
        for (; at < part.to; at++)
            ck_assert_int_eq(model[g][HOLDINGS_PROVED][at], at >= part.from);
        memset(&model[g][HOLDINGS_PROVED][part.from], false, part.to - part.from);
        memset(&model[g][HOLDINGS_THEIRS][part.from], true, part.to - part.from);
    }
    ck_assert_ptr_null(memchr(&model[g][HOLDINGS_PROVED][at], true, off + len - at));
}

/* What happens to all segments at once. */
static void change_all(void)
{
    static uint32_t peer = 1;
    switch (roll(3)) {
    case 0:
        holdings_give_up_asked(&holdings);
        keep_kinds(is_not_asked);
        return;
    case 1:
        holdings_peer_restarted(&holdings);
        for (unsigned g = 0; g < SEGMENTS; g++)
            make_proved(g);
        keep_kinds(is_proved);
        return;
    default:
        holdings_set_peer(&holdings, ++peer);
        holdings_set_peer(&holdings, peer);
        keep_kinds(outlives_the_key);
        return;
    }
}

/* Where all that was noted was only sent and lost, either answer will do. */
static void forget(unsigned g)
{
    bool ought = noted[g], empty = model_empty(g);
    bool told = holdings_forget(&holdings, &ids[g]);
    ck_assert(empty || told == ought);
    ck_assert(told == false || ought);
    memset(model[g], false, sizeof(model[g]));
    noted[g] = false;
}

static void step(void)
{
    unsigned g = roll(SEGMENTS);
    uint32_t off = roll(SPAN), len = 1 + roll(roll(4) == 0 ? SPAN - off : 1 + (SPAN - off) / 8);
    switch (roll(40)) {
    case 0:
        lane_lost(roll(CONFIG_LANES_MAX));
        return;
    case 1:
        dropped(g);
        return;
    case 2:
        forget(g);
        return;
    case 3:
    case 4:
    case 5:
        take_back(g, off, len);
        return;
    case 6:
    case 7:
        show(g, roll(2) == 0 ? HOLDINGS_THEIRS : HOLDINGS_CLAIMED, off, len);
        return;
    case 8:
        take_asked(g, off, len);
        return;
    case 9:
    case 10:
        recall(g, off, len);
        return;
    case 11:
        if (roll(4) == 0)
            change_all();
        return;
    default:
        put(g, roll(3) == 0 ? HOLDINGS_THEIRS : roll(KINDS), off, len);
        return;
    }
}

START_TEST(as_a_bitmap_would_have_it)
{
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        unsigned g = roll(SEGMENTS);
        uint32_t off = roll(SPAN), len = 1 + roll(SPAN - off);
        check_span(g, roll(CONFIG_LANES_MAX), off, len);
        check_peer_may(g, off, len);
        check_peer_may(g, off, 1 + roll(len < 4 ? len : 4));
    }
}
END_TEST

START_TEST(a_peer_s_intervals_are_bounded)
{
    const struct segment_id id = {3, 8};
    bool held;
    for (uint32_t i = 0; i < 2 * HOLDINGS_INTERVALS_MAX; i++)
        holdings_add(&holdings, &id, HOLDINGS_THEIRS, 4 * i, 1);
    ck_assert_uint_eq(holdings_span(&holdings, &id, 0, 4 * (HOLDINGS_INTERVALS_MAX - 1), 1, &held), 1);
    ck_assert(held);
    ck_assert_uint_eq(holdings_span(&holdings, &id, 0, 4 * HOLDINGS_INTERVALS_MAX, 1, &held), 1);
    ck_assert(!held);
}
END_TEST

START_TEST(a_peer_s_segments_are_bounded)
{
    for (uint32_t i = 0; i < HOLDINGS_SEGMENTS_MAX + 100; i++)
        holdings_add(&holdings, &(struct segment_id){.epoch = 5, .number = i}, HOLDINGS_THEIRS, 0, 1);
    ck_assert_uint_eq(holdings.segments.count, HOLDINGS_SEGMENTS_MAX);
    ck_assert(!holdings_peer_may(&holdings, &(struct segment_id){5, HOLDINGS_SEGMENTS_MAX}, 0, 1));
    holdings_forget(&holdings, &(struct segment_id){5, 0});
    holdings_add(&holdings, &(struct segment_id){5, HOLDINGS_SEGMENTS_MAX}, HOLDINGS_THEIRS, 0, 1);
    ck_assert(holdings_peer_may(&holdings, &(struct segment_id){5, HOLDINGS_SEGMENTS_MAX}, 0, 1));
}
END_TEST

/* The second half of the bound is for what comes after a restart. */
START_TEST(what_is_proved_is_bounded)
{
    struct interval part;
    uint32_t recalled = 0;
    for (uint32_t i = 0; i < HOLDINGS_TOTAL_MAX; i++) {
        struct segment_id id = {.epoch = 5, .number = i / 1000};
        holdings_add(&holdings, &id, HOLDINGS_THEIRS, i % 1000 * 2, 1);
    }
    holdings_peer_restarted(&holdings);
    ck_assert_uint_le(holdings.intervals, HOLDINGS_TOTAL_MAX / 2);
    ck_assert_uint_gt(holdings.intervals, HOLDINGS_TOTAL_MAX / 2 - 1000);
    for (uint32_t i = 0; i < HOLDINGS_TOTAL_MAX; i++) {
        struct segment_id id = {.epoch = 5, .number = i / 1000};
        recalled += holdings_recall(&holdings, &id, i % 1000 * 2, i % 1000 * 2 + 1, &part);
    }
    ck_assert_uint_eq(recalled, holdings.intervals);
}
END_TEST

/* What was not noted as theirs the peer may not refer to, so nobody is to tell it that it may. */
START_TEST(what_cannot_be_noted_is_not_recalled)
{
    enum { PROVED_AT = 4 * HOLDINGS_INTERVALS_MAX };
    const struct segment_id id = {3, 8};
    struct interval part;
    ck_assert(holdings_add(&holdings, &id, HOLDINGS_PROVED, PROVED_AT, 2));
    for (uint32_t i = 0; i < HOLDINGS_INTERVALS_MAX; i++)
        ck_assert(holdings_add(&holdings, &id, HOLDINGS_THEIRS, 4 * i, 1));
    ck_assert(!holdings_add(&holdings, &id, HOLDINGS_THEIRS, PROVED_AT + 10, 1));
    ck_assert(holdings_add(&holdings, &id, HOLDINGS_THEIRS, 4, 1)); /* is noted */
    ck_assert(!holdings_recall(&holdings, &id, 0, UINT32_MAX, &part));
    ck_assert(!holdings_peer_may(&holdings, &id, PROVED_AT, 2));
    holdings_take_back(&holdings, &id, 0, 1);
    ck_assert(holdings_recall(&holdings, &id, 0, UINT32_MAX, &part));
    ck_assert_uint_eq(part.from, PROVED_AT);
    ck_assert(holdings_peer_may(&holdings, &id, PROVED_AT, 2));
}
END_TEST

/* What one key held must not be recalled by the next. */
START_TEST(another_peer_recalls_nothing)
{
    const struct segment_id id = {3, 8};
    struct interval part;
    holdings_add(&holdings, &id, HOLDINGS_THEIRS, 0, 100);
    holdings_add(&holdings, &id, HOLDINGS_ANNOUNCED, 0, 100);
    holdings_set_peer(&holdings, 2);
    ck_assert(!holdings_peer_may(&holdings, &id, 0, 1));
    holdings_peer_restarted(&holdings);
    ck_assert(!holdings_recall(&holdings, &id, 0, 100, &part));
}
END_TEST

/* Who keeps what is proved need not write again what only came back. */
START_TEST(what_is_recalled_is_no_change)
{
    const struct segment_id id = {3, 8};
    struct interval part;
    holdings_add(&holdings, &id, HOLDINGS_THEIRS, 0, 100);
    ck_assert_uint_eq(holdings.changes, 1);
    holdings_dropped(&holdings, &id);
    ck_assert(holdings_recall(&holdings, &id, 0, 50, &part));
    holdings_add(&holdings, &id, HOLDINGS_THEIRS, 50, 50);
    ck_assert_uint_eq(holdings.changes, 1);
    holdings_add(&holdings, &id, HOLDINGS_THEIRS, 100, 1);
    ck_assert_uint_eq(holdings.changes, 2);
}
END_TEST

/* Names that a peer makes up leave nothing when the last lane is gone. */
START_TEST(what_was_asked_for_is_bounded_and_given_up)
{
    for (uint32_t i = 0; i < 2 * HOLDINGS_ASKED_MAX; i++) {
        struct segment_id id = {.epoch = 6, .number = i / 2};
        holdings_add(&holdings, &id, HOLDINGS_ASKED, i % 2 * 10, 1);
    }
    ck_assert_uint_eq(holdings.asked, HOLDINGS_ASKED_MAX);
    ck_assert(!holdings_take_asked(&holdings, &(struct segment_id){6, HOLDINGS_ASKED_MAX / 2}, 0, 1));
    ck_assert(holdings_take_asked(&holdings, &(struct segment_id){6, 0}, 0, 1));
    ck_assert_uint_eq(holdings.asked, HOLDINGS_ASKED_MAX - 1);
    holdings_give_up_asked(&holdings);
    ck_assert_uint_eq(holdings.asked + holdings.intervals, 0);
    ck_assert_uint_eq(holdings.segments.count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("holdings");
    TCase *t = tcase_create("holdings");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, as_a_bitmap_would_have_it);
    tcase_add_test(t, a_peer_s_intervals_are_bounded);
    tcase_add_test(t, a_peer_s_segments_are_bounded);
    tcase_add_test(t, what_is_proved_is_bounded);
    tcase_add_test(t, what_cannot_be_noted_is_not_recalled);
    tcase_add_test(t, another_peer_recalls_nothing);
    tcase_add_test(t, what_is_recalled_is_no_change);
    tcase_add_test(t, what_was_asked_for_is_bounded_and_given_up);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
