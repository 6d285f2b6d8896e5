/* The arithmetic of hawser-wanem in virtual time, where it can be compared exactly. A program is not a
 * library, so its pure parts are compiled in here; they stand on this floor. */
#include <check.h>
#include <stdlib.h>

#include "../../../src/programs/hawser-wanem/params.c"
#include "../../../src/programs/hawser-wanem/path.c"

#define SECOND UINT64_C(1000000000)

static struct link_params link_of(const char *const *pairs)
{
    struct link_params params;
    char error[256];
    params_default(&params);
    for (; *pairs; pairs += 2) {
        ck_assert_int_eq(params_set(&params, pairs[0], pairs[1], error, sizeof error), 0);
    }
    return params;
}

static struct path *path_of(const char *const *pairs, uint64_t queue_limit)
{
    struct path *path = path_new(1500, 1);
    struct link_params params = link_of(pairs);
    ck_assert_ptr_nonnull(path);
    path_set(path, &params, queue_limit, 0);
    return path;
}

static void offer(struct path *path, size_t len, uint32_t number, uint64_t at_ns)
{
    memcpy(path_slot(path), &number, sizeof number);
    path_admit(path, len, at_ns);
}

static uint32_t take(struct path *path, uint64_t at_ns)
{
    size_t len;
    uint32_t number;
    const void *bytes = path_due(path, at_ns, &len);
    ck_assert_ptr_nonnull(bytes);
    memcpy(&number, bytes, sizeof number);
    path_delivered(path, true, at_ns);
    return number;
}

static void check_sum(const struct path *path)
{
    const struct path_counters *c = path_counters(path);
    uint64_t packets = path_inside(path).packets, bytes = path_inside(path).bytes;
#define ADD(name)                                                                                            \
    packets += c->name.packets;                                                                              \
    bytes += c->name.bytes;
    PATH_COUNTERS(ADD)
#undef ADD
    ck_assert_uint_eq(packets, 2 * c->in.packets);
    ck_assert_uint_eq(bytes, 2 * c->in.bytes);
}

START_TEST(test_no_fraction_of_the_rate_is_lost)
{
    /* 7 Mbit/s: each packet's time has a remainder. */
    struct path *path = path_of((const char *const[]){"rate", "7mbit", "delay", "20ms", NULL}, 0);
    const uint32_t packets = 20000, len = 1499;
    for (uint32_t i = 0; i < packets; i++) {
        offer(path, len, i, SECOND);
    }
    for (uint32_t i = 0; i < packets; i++) {
        uint64_t due = SECOND + 20000000 + (uint64_t)(i + 1) * len * 8 * SECOND / 7000000;
        size_t ignored;
        ck_assert_uint_eq(path_next_ns(path), due);
        ck_assert_ptr_null(path_due(path, due - 1, &ignored));
        ck_assert_uint_eq(take(path, due), i);
    }
    ck_assert_uint_eq(path_next_ns(path), PATH_NEVER);
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_queue_empties_at_the_rate)
{
    /* 1 ms a packet, room for four. */
    struct path *path = path_of((const char *const[]){"rate", "8mbit", "delay", "1h", NULL}, 4000);
    for (uint32_t i = 0; i < 5; i++) {
        offer(path, 1000, i, 0);
    }
    ck_assert_uint_eq(path_counters(path)->drop_queue.packets, 1);
    offer(path, 1000, 5, 999999);
    ck_assert_uint_eq(path_counters(path)->drop_queue.packets, 2);
    offer(path, 1000, 6, 1000000);
    ck_assert_uint_eq(path_counters(path)->drop_queue.packets, 2);
    ck_assert_uint_eq(path_queue_now(path, 4999999), 1000);
    ck_assert_uint_eq(path_queue_now(path, 5000000), 0);
    ck_assert_uint_eq(path_inside(path).packets, 5);
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_a_new_rate_leaves_the_packet_being_sent)
{
    struct path *path = path_of((const char *const[]){"rate", "8mbit", NULL}, 0);
    for (uint32_t i = 0; i < 3; i++) {
        offer(path, 1000, i, 0);
    }
    struct link_params faster = link_of((const char *const[]){"rate", "80mbit", "delay", "1ms", NULL});
    path_set(path, &faster, 0, 500000);
    ck_assert_uint_eq(path_next_ns(path), 1000000);
    take(path, 1000000);
    ck_assert_uint_eq(path_next_ns(path), 2100000);
    take(path, 2100000);
    ck_assert_uint_eq(path_next_ns(path), 2200000);
    take(path, 2200000);
    path_free(path);
}
END_TEST

START_TEST(test_nobody_overtakes_when_the_delay_shrinks)
{
    struct path *path = path_of((const char *const[]){"delay", "100ms", NULL}, 0);
    offer(path, 100, 0, 0);
    struct link_params nearer = link_of((const char *const[]){"delay", "1ms", NULL});
    path_set(path, &nearer, 0, 1000000);
    offer(path, 100, 1, 2000000);
    ck_assert_uint_eq(take(path, 100000000), 0);
    ck_assert_uint_eq(take(path, 100000000), 1);
    offer(path, 100, 2, 100000000);
    ck_assert_uint_eq(path_next_ns(path), 101000000);
    path_free(path);
}
END_TEST

START_TEST(test_a_new_link_after_down_owes_nothing)
{
    struct path *path = path_of((const char *const[]){"rate", "1kbit", "delay", "1h", NULL}, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        offer(path, 1500, i, 0);
    }
    struct link_params down = link_of((const char *const[]){"link", "down", NULL});
    struct link_params up = link_of((const char *const[]){NULL});
    path_set(path, &down, 0, 1000);
    ck_assert_uint_eq(path_counters(path)->drop_down.packets, 1000);
    ck_assert_uint_eq(path_inside(path).packets, 0);
    ck_assert_uint_eq(path_next_ns(path), PATH_NEVER);
    path_set(path, &up, 0, 2000);
    offer(path, 1500, 7, 3000);
    ck_assert_uint_eq(take(path, 3000), 7);
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_luck_depends_on_the_number_of_the_packet_only)
{
    struct path *open = path_of((const char *const[]){"loss", "10%", NULL}, 0);
    struct path *full = path_of((const char *const[]){"loss", "10%", "rate", "0.001kbit", NULL}, 1500);
    struct link_params wide = link_of((const char *const[]){"loss", "10%", NULL});
    for (uint32_t i = 0; i < 1000; i++) {
        offer(open, 100, i, 0);
        offer(full, 100, i, 0); /* most are dropped by the queue */
    }
    struct link_params down = link_of((const char *const[]){"loss", "10%", "link", "down", NULL});
    path_set(full, &down, 0, 0);
    path_set(full, &wide, 0, 0);
    path_zero(full);
    size_t len;
    while (path_due(open, 0, &len)) {
        path_delivered(open, true, 0);
    }
    path_zero(open);
    for (uint32_t i = 0; i < 1000; i++) {
        offer(open, 100, i, 1);
        offer(full, 100, i, 1);
    }
    while (path_due(open, 1, &len)) {
        ck_assert_uint_eq(take(open, 1), take(full, 1));
    }
    ck_assert_ptr_null(path_due(full, 1, &len));
    ck_assert_uint_eq(path_counters(open)->drop_loss.packets, path_counters(full)->drop_loss.packets);
    path_free(open);
    path_free(full);
}
END_TEST

START_TEST(test_jitter_stays_in_its_bounds_and_in_order)
{
    struct path *path = path_of((const char *const[]){"delay", "5ms", "jitter", "10ms", NULL}, 0);
    uint64_t last = 0, least = UINT64_MAX, most = 0;
    for (uint32_t i = 0; i < 40000; i++) {
        uint64_t now = SECOND + (uint64_t)i * 250000;
        offer(path, 100, i, now);
        uint64_t due = path_next_ns(path);
        ck_assert_uint_ge(due, last);
        take(path, due);
        last = due;
        least = due - now < least ? due - now : least;
        most = due - now > most ? due - now : most;
    }
    ck_assert_uint_ge(least, 5000000);
    ck_assert_uint_le(most, 15000000);
    ck_assert_uint_lt(least, 5500000); /* 500 values between 0 and 10 ms were drawn */
    ck_assert_uint_gt(most, 14500000);
    path_free(path);
}
END_TEST

/* Any order of calls: packets come out in order, unchanged, never early, and the counters add up. */
START_TEST(test_random_use)
{
    static const char *const rates[] = {"none", "100kbit", "10mbit", "1gbit"};
    static const char *const delays[] = {"0", "1ms", "70ms", "3s"};
    static const char *const losses[] = {"0", "1%", "50%", "100%"};
    uint64_t state = (uint64_t)_i, now = 0;
    struct path *path = path_of((const char *const[]){"rate", "10mbit", NULL}, 0);
    uint32_t number = 0, next = 0;

    for (int step = 0; step < 4000; step++) {
        uint64_t dice = random_next(&state);
        now += dice % 200000;
        if (dice >> 40 & 1) {
            for (uint64_t i = 0; i < (dice >> 41 & 15); i++) {
                offer(path, 20 + (dice >> 20) % 1482, number++, now); /* 1501 now and then: too long */
            }
        } else if ((dice >> 45 & 255) == 0) {
            struct link_params params = link_of((const char *const[]){
                "rate", rates[dice >> 8 & 3], "delay", delays[dice >> 10 & 3], "loss", losses[dice >> 12 & 3],
                "link", dice >> 14 & 7 ? "up" : "down", "jitter", dice >> 17 & 1 ? "2ms" : "0", NULL});
            path_set(path, &params, dice >> 18 & 1 ? 64000 : 0, now);
        }
        size_t len;
        while (path_due(path, now, &len)) {
            ck_assert_uint_le(path_next_ns(path), now);
            uint32_t got = take(path, now);
            ck_assert_uint_ge(got, next);
            ck_assert_uint_lt(got, number);
            next = got + 1;
        }
        ck_assert_uint_gt(path_next_ns(path), now);
        check_sum(path);
    }
    path_free(path);
}
END_TEST

START_TEST(test_short_memory_drops_and_recovers)
{
    struct path *path = path_of((const char *const[]){"delay", "1s", NULL}, 0);
    uint32_t number = 0;
    while (path_counters(path)->drop_error.packets == 0) {
        offer(path, 1500, number++, 0);
    }
    ck_assert_uint_gt(path_inside(path).bytes, PATH_MEMORY_BYTES / 10 * 9);
    offer(path, 1500, number++, 0);
    ck_assert_uint_eq(path_counters(path)->drop_error.packets, 2);
    check_sum(path);
    for (uint64_t left = path_inside(path).packets; left > 0; left--) {
        take(path, SECOND);
    }
    offer(path, 1500, number, SECOND);
    ck_assert_uint_eq(take(path, 2 * SECOND), number);
    path_free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wanem_path");
    TCase *cases = tcase_create("path");
    tcase_add_test(cases, test_no_fraction_of_the_rate_is_lost);
    tcase_add_test(cases, test_queue_empties_at_the_rate);
    tcase_add_test(cases, test_a_new_rate_leaves_the_packet_being_sent);
    tcase_add_test(cases, test_nobody_overtakes_when_the_delay_shrinks);
    tcase_add_test(cases, test_a_new_link_after_down_owes_nothing);
    tcase_add_test(cases, test_luck_depends_on_the_number_of_the_packet_only);
    tcase_add_test(cases, test_jitter_stays_in_its_bounds_and_in_order);
    tcase_add_loop_test(cases, test_random_use, 0, 20);
    tcase_add_test(cases, test_short_memory_drops_and_recovers);
    tcase_set_timeout(cases, 100);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
