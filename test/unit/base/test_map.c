/* test_map.c - the map against an array searched from end to end. */
#include "hawser/map.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

enum { KEYS = 300, STEPS = 200000 };

static uint64_t rolls = 88172645463325252ull;

static uint64_t roll(void)
{
    rolls ^= rolls << 13;
    rolls ^= rolls >> 7;
    rolls ^= rolls << 17;
    return rolls;
}

static int values[KEYS];
static uint64_t keys[KEYS];
static bool present[KEYS];

static void check_all(const struct map *m)
{
    size_t count = 0, seen = 0;
    for (size_t i = 0; i < KEYS; i++) {
        ck_assert_ptr_eq(map_get(m, keys[i]), present[i] ? &values[i] : NULL);
        count += present[i];
    }
    ck_assert_uint_eq(m->count, count);
    void *v;
    for (size_t i = 0; (v = map_each(m, &i)) != NULL; seen++) {
        size_t k = (size_t)((int *)v - values);
        ck_assert_uint_lt(k, KEYS);
        ck_assert(present[k]);
    }
    ck_assert_uint_eq(seen, count);
    ck_assert(m->count > 0 || m->slots == NULL);
}

/* The number of keys present swings between none and all, so tables of every size fill and empty; a small
 * table whose chains run over its end is what `wrapped` counts. */
static size_t wander(struct map *m)
{
    size_t wrapped = 0;
    bool growing = true;
    for (int step = 0; step < STEPS; step++) {
        size_t i = roll() % KEYS;
        if (m->count == KEYS || roll() % 500 == 0)
            growing = false;
        if (m->count == 0 || roll() % 500 == 0)
            growing = true;
        if (growing ? roll() % 4 != 0 : roll() % 4 == 0) {
            ck_assert_int_eq(map_put(m, keys[i], &values[i]), 0);
            present[i] = true;
        } else {
            ck_assert_ptr_eq(map_remove(m, keys[i]), present[i] ? &values[i] : NULL);
            present[i] = false;
        }
        if (m->cap > 0 && m->slots[m->cap - 1].value != NULL && m->slots[0].value != NULL)
            wrapped++;
        if (step % 97 == 0)
            check_all(m);
    }
    check_all(m);
    map_clear(m);
    for (size_t i = 0; i < KEYS; i++)
        present[i] = false;
    return wrapped;
}

START_TEST(agrees_with_a_slow_model)
{
    static const uint64_t strides[] = {1, 2, 16, 1ull << 32, 0x9e3779b97f4a7c15ull};
    size_t wrapped = 0;
    for (size_t k = 0; k < sizeof(strides) / sizeof(strides[0]); k++) {
        struct map m = {.salt = roll()};
        for (size_t i = 0; i < KEYS; i++)
            keys[i] = i * strides[k];
        wrapped += wander(&m);
    }
    ck_assert_uint_gt(wrapped, 1000);
}
END_TEST

START_TEST(an_empty_map_holds_no_memory)
{
    struct map m = {0};
    int v = 0;
    ck_assert_ptr_null(map_get(&m, 7));
    ck_assert_ptr_null(map_remove(&m, 7));
    size_t i = 0;
    ck_assert_ptr_null(map_each(&m, &i));
    ck_assert_int_eq(map_put(&m, 7, &v), 0);
    ck_assert_ptr_eq(map_remove(&m, 7), &v);
    ck_assert_ptr_null(m.slots);
    ck_assert_uint_eq(m.cap, 0);
    map_clear(&m);
}
END_TEST

START_TEST(a_value_is_replaced)
{
    struct map m = {0};
    int first = 0, second = 0;
    ck_assert_int_eq(map_put(&m, UINT64_MAX, &first), 0);
    ck_assert_int_eq(map_put(&m, UINT64_MAX, &second), 0);
    ck_assert_uint_eq(m.count, 1);
    ck_assert_ptr_eq(map_get(&m, UINT64_MAX), &second);
    map_clear(&m);
    ck_assert_ptr_null(map_get(&m, UINT64_MAX));
}
END_TEST

/* Where a key lies depends on the salt, which survives growth, removal of all, and clear. */
START_TEST(the_salt_moves_keys_and_stays)
{
    int v[64];
    struct map a = {.salt = 1}, b = {.salt = 0x123456789abcdefull};
    size_t moved = 0;
    for (uint64_t k = 0; k < 64; k++) {
        ck_assert_int_eq(map_put(&a, k, &v[k]), 0);
        ck_assert_int_eq(map_put(&b, k, &v[k]), 0);
    }
    ck_assert_uint_eq(a.cap, b.cap);
    for (size_t i = 0; i < a.cap; i++)
        moved += a.slots[i].value != b.slots[i].value;
    ck_assert_uint_gt(moved, a.cap / 4);
    for (uint64_t k = 0; k < 64; k++)
        ck_assert_ptr_eq(map_remove(&a, k), &v[k]);
    map_clear(&b);
    ck_assert_uint_eq(a.salt, 1);
    ck_assert_uint_eq(b.salt, 0x123456789abcdefull);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("map");
    TCase *t = tcase_create("map");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, agrees_with_a_slow_model);
    tcase_add_test(t, an_empty_map_holds_no_memory);
    tcase_add_test(t, a_value_is_replaced);
    tcase_add_test(t, the_salt_moves_keys_and_stays);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
