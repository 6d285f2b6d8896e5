/* test_heap.c - what leaves the heap against a sort, while keys change and nodes leave from the middle. */
#include "hawser/heap.h"

#include <check.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { NODES = 500 };

static struct heap_node nodes[NODES];

static int by_key(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void check_order(const struct heap *h)
{
    for (size_t i = 0; i < h->count; i++) {
        ck_assert_uint_eq(h->nodes[i]->index, i);
        ck_assert(i == 0 || h->nodes[(i - 1) / 2]->key <= h->nodes[i]->key);
    }
}

static void drain(struct heap *h, bool *in)
{
    double keys[NODES];
    size_t count = 0;
    for (size_t i = 0; i < NODES; i++) {
        if (in[i])
            keys[count++] = nodes[i].key;
    }
    ck_assert_uint_eq(h->count, count);
    qsort(keys, count, sizeof(keys[0]), by_key);
    for (size_t i = 0; i < count; i++) {
        struct heap_node *top = heap_top(h);
        ck_assert(top->key == keys[i]);
        heap_remove(h, top);
        ck_assert_uint_eq(top->index, HEAP_OUT);
        in[top - nodes] = false;
    }
    ck_assert_ptr_null(heap_top(h));
}

START_TEST(leaves_in_order_of_keys)
{
    struct heap h = {0};
    bool in[NODES] = {false};
    ck_assert_int_eq(heap_reserve(&h, NODES), 0);
    ck_assert_uint_ge(h.cap, NODES);
    srand(4);
    for (size_t i = 0; i < NODES; i++)
        heap_node_init(&nodes[i]);
    for (int round = 0; round < 40; round++) {
        for (int step = 0; step < 2000; step++) {
            size_t i = (size_t)rand() % NODES;
            double key = (rand() % 50 - 25) * (rand() % 9 == 0 ? 1e9 : 0.25); /* many equal ones */
            if (!in[i]) {
                nodes[i].key = key;
                heap_push(&h, &nodes[i]);
                in[i] = true;
            } else if (rand() % 2 == 0) {
                nodes[i].key = key;
                heap_update(&h, &nodes[i]);
            } else {
                heap_remove(&h, &nodes[i]);
                in[i] = false;
            }
            if (step % 50 == 0)
                check_order(&h);
        }
        check_order(&h);
        drain(&h, in);
    }
    heap_end(&h);
    ck_assert_uint_eq(h.cap, 0);
}
END_TEST

START_TEST(removing_what_is_in_no_heap_is_fine)
{
    struct heap h = {0};
    struct heap_node n;
    heap_node_init(&n);
    heap_remove(&h, &n);
    ck_assert_int_eq(heap_reserve(&h, 1), 0);
    heap_push(&h, &n);
    heap_remove(&h, &n);
    heap_remove(&h, &n);
    ck_assert_uint_eq(h.count, 0);
    heap_end(&h);
}
END_TEST

START_TEST(room_once_reserved_stays_while_it_grows)
{
    struct heap h = {0};
    for (size_t i = 0; i < NODES; i++) {
        heap_node_init(&nodes[i]);
        nodes[i].key = -(double)i;
        ck_assert_int_eq(heap_reserve(&h, h.count + 1), 0);
        heap_push(&h, &nodes[i]);
        ck_assert_ptr_eq(heap_top(&h), &nodes[i]);
    }
    check_order(&h);
    heap_end(&h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("heap");
    TCase *t = tcase_create("heap");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, leaves_in_order_of_keys);
    tcase_add_test(t, removing_what_is_in_no_heap_is_fine);
    tcase_add_test(t, room_once_reserved_stays_while_it_grows);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
