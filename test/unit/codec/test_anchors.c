/* test_anchors.c - every variant finds what the definition says, and reads not a byte more than it may. */
#include "hawser/anchors.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG = 1 << 16, SHORT = 200 };

static const uint64_t seeds[] = {0, 1, 0x9e3779b97f4a7c15ULL, UINT64_MAX};

static uint64_t state = 88172645463325252ULL;

static uint8_t random_byte(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint8_t)(state >> 32);
}

/* The definition, as the header has it. */
static uint32_t find_slowly(const struct anchors *a, const uint8_t *bytes, uint32_t from, uint32_t to,
                            uint32_t one_in, uint32_t *at)
{
    uint32_t count = 0;
    for (uint32_t i = from; i < to; i++) {
        uint32_t low = 0, high = 0;
        for (uint32_t k = 0; k < 4; k++) {
            low |= (uint32_t)bytes[i + k] << 8 * k;
            high |= (uint32_t)bytes[i + 4 + k] << 8 * k;
        }
        uint32_t hash = a->add + a->low * low + a->high * high;
        if (hash < (uint32_t)((1ULL << 32) / one_in) &&
            (count == 0 || i - at[count - 1] >= ANCHORS_GAP_BYTES))
            at[count++] = i;
    }
    return count;
}

static void fill_random(uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = random_byte();
}

static void fill_zero(uint8_t *bytes, uint32_t len)
{
    memset(bytes, 0, len);
}

static void fill_text(uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0, line = 0; i < len; line++) {
        char text[64];
        int n = snprintf(text, sizeof(text), "{\"id\":%u,\"level\":\"info\",\"took_ms\":%u}\n", line,
                         random_byte() % 50u);
        for (int k = 0; k < n && i < len; k++)
            bytes[i++] = (uint8_t)text[k];
    }
}

static void (*const fills[])(uint8_t *, uint32_t) = {fill_random, fill_zero, fill_text};

/* The block ends with the last byte that may be read, so that the address sanitizer sees one that may not. */
static void check_range(const uint8_t *content, uint32_t len, uint32_t from, uint32_t one_in, uint64_t seed)
{
    uint8_t *exact = malloc(len);
    uint32_t to = len < ANCHORS_WINDOW_BYTES - 1 ? 0 : len - (ANCHORS_WINDOW_BYTES - 1);
    from = from < to ? from : to;
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, content, len);
    uint32_t *wanted = malloc(anchors_most(to - from) * sizeof(*wanted));
    uint32_t *got = malloc(anchors_most(to - from) * sizeof(*got));
    struct anchors a;
    anchors_init(&a, seed);
    uint32_t count = find_slowly(&a, exact, from, to, one_in, wanted);
    for (int v = 0; v < ANCHORS_VARIANTS; v++) {
        a.variant = (enum anchors_variant)v;
        if (!anchors_have(a.variant))
            continue;
        ck_assert_uint_eq(anchors_find(&a, exact, from, to, one_in, got), count);
        if (count > 0)
            ck_assert_mem_eq(got, wanted, count * sizeof(*got));
    }
    free(got);
    free(wanted);
    free(exact);
}

START_TEST(all_variants_agree_at_every_length_and_alignment)
{
    static uint8_t content[SHORT];
    for (size_t f = 0; f < sizeof(fills) / sizeof(fills[0]); f++) {
        fills[f](content, sizeof(content));
        for (uint32_t len = 0; len <= SHORT; len++) {
            for (uint32_t from = 0; from < 40; from++)
                check_range(content, len, from, 2 + from % 5, seeds[len % 4]);
        }
    }
}
END_TEST

START_TEST(all_variants_agree_on_much)
{
    static uint8_t content[LONG];
    for (size_t f = 0; f < sizeof(fills) / sizeof(fills[0]); f++) {
        fills[f](content, sizeof(content));
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t from = (uint32_t)random_byte() % 70;
            check_range(content, LONG - random_byte(), from, i % 2 == 0 ? 256 : 1024, seeds[i % 4]);
        }
    }
}
END_TEST

START_TEST(they_are_as_frequent_as_is_asked_and_nest)
{
    static uint8_t content[LONG];
    static uint32_t dense[LONG / ANCHORS_GAP_BYTES + 1], sparse[LONG / ANCHORS_GAP_BYTES + 1];
    struct anchors a;
    unsigned densely = 0, sparsely = 0, sparsely_by_one = 0, both = 0;
    anchors_init(&a, 3);
    for (int round = 0; round < 32; round++) {
        fill_random(content, sizeof(content));
        uint32_t many = anchors_find(&a, content, 0, LONG - 7, 256, dense);
        uint32_t few = anchors_find(&a, content, 0, LONG - 7, 1024, sparse);
        for (uint32_t i = 0; i < few; i++)
            ck_assert(anchors_is_one(&a, content + sparse[i], 1024));
        for (uint32_t i = 0; i < many; i++)
            sparsely_by_one += anchors_is_one(&a, content + dense[i], 1024);
        densely += many;
        sparsely += few;
        for (uint32_t i = 0, k = 0; i < few; i++) {
            while (k < many && dense[k] < sparse[i])
                k++;
            both += k < many && dense[k] == sparse[i];
        }
    }
    ck_assert_uint_gt(densely, 32 * LONG / 256 * 85 / 100);
    ck_assert_uint_lt(densely, 32 * LONG / 256 * 105 / 100);
    ck_assert_uint_ge(sparsely_by_one, both);
    ck_assert_uint_le(sparsely_by_one, sparsely);
    ck_assert_uint_gt(sparsely, 32 * LONG / 1024 * 85 / 100);
    ck_assert_uint_lt(sparsely, 32 * LONG / 1024 * 115 / 100);
    ck_assert_uint_gt(both, sparsely * 9 / 10); /* but for those behind a dense one that is too near */
}
END_TEST

START_TEST(zeros_do_not_overflow_the_array)
{
    static uint8_t zeros[LONG];
    unsigned found = 0;
    for (uint64_t seed = 0; seed < 64; seed++) {
        struct anchors a;
        uint32_t at[LONG / ANCHORS_GAP_BYTES + 1];
        anchors_init(&a, seed);
        uint32_t count = anchors_find(&a, zeros, 0, LONG - 7, 2, at);
        ck_assert_uint_le(count, anchors_most(LONG - 7));
        ck_assert(count == 0 || count == (LONG - 7 + ANCHORS_GAP_BYTES - 1) / ANCHORS_GAP_BYTES);
        found += count > 0;
    }
    ck_assert_uint_gt(found, 0); /* of one in two, some seeds take zeros for anchors */
}
END_TEST

START_TEST(the_seed_decides)
{
    struct anchors a, b, again;
    anchors_init(&a, 1);
    anchors_init(&b, 2);
    anchors_init(&again, 1);
    ck_assert(a.low != b.low && a.high != b.high && a.add != b.add);
    ck_assert(a.low == again.low && a.high == again.high && a.add == again.add);
    ck_assert(a.low % 2 == 1 && a.high % 2 == 1);
    ck_assert(anchors_have(a.variant));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("anchors");
    TCase *t = tcase_create("anchors");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, all_variants_agree_at_every_length_and_alignment);
    tcase_add_test(t, all_variants_agree_on_much);
    tcase_add_test(t, they_are_as_frequent_as_is_asked_and_nest);
    tcase_add_test(t, zeros_do_not_overflow_the_array);
    tcase_add_test(t, the_seed_decides);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
