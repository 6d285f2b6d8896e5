/* The arithmetic of hawser-wanem in virtual time, where it can be compared exactly. A program is not a
 * library, so its pure parts are compiled in here; they stand on this floor. */
#include <check.h>
#include <stdlib.h>

#include "../../../src/programs/hawser-wanem/delays.c"
#include "../../../src/programs/hawser-wanem/luck.c"
#include "../../../src/programs/hawser-wanem/params.c"
#include "../../../src/programs/hawser-wanem/path.c"

#define SECOND UINT64_C(1000000000)

static struct link_params link_of(const char *const *pairs)
{
    struct link_params params;
    char error[PARAMS_ERROR_MAX];
    params_default(&params);
    for (; *pairs; pairs += 2) {
        ck_assert_int_eq(params_set(&params, pairs[0], pairs[1], error), 0);
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
    uint64_t packets = path_inside(path).packets + c->out.packets;
    uint64_t bytes = path_inside(path).bytes + c->out.bytes;
#define ADD(name, text)                                                                                      \
    packets += c->name.packets;                                                                              \
    bytes += c->name.bytes;
    PATH_DROPS(ADD)
#undef ADD
    ck_assert_uint_eq(packets, c->in.packets + c->duplicated.packets);
    ck_assert_uint_eq(bytes, c->in.bytes + c->duplicated.bytes);
}

/* Whether each of count packets that are offered at once arrives, as the nth character: '1', or '2' with a
 * copy. */
static void arrivals(const char *const *pairs, uint32_t count, char out[])
{
    struct path *path = path_of(pairs, 0);
    size_t len;
    memset(out, '0', count);
    out[count] = '\0';
    for (uint32_t i = 0; i < count; i++) {
        offer(path, 100, i, 0);
    }
    while (path_due(path, SECOND, &len)) {
        out[take(path, SECOND)]++;
    }
    check_sum(path);
    path_free(path);
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

/* The order of a plain draw and of a wandering one differ in this: a packet that comes later may come out
 * sooner. */
START_TEST(test_jitter_reorders_when_asked_to)
{
    struct path *path =
        path_of((const char *const[]){"delay", "5ms", "jitter", "10ms", "reorder", "yes", NULL}, 0);
    const uint32_t packets = 5000;
    uint64_t due[5000], overtaken = 0, sum_ns = 0, last = 0;
    bool seen[5000] = {false};
    for (uint32_t i = 0; i < packets; i++) {
        offer(path, 100, i, (uint64_t)i * 1000000);
    }
    for (uint32_t i = 0, highest = 0; i < packets; i++) {
        uint64_t at = path_next_ns(path);
        ck_assert_uint_ge(at, last);
        last = at;
        uint32_t number = take(path, at);
        ck_assert_uint_lt(number, packets);
        ck_assert(!seen[number]);
        seen[number] = true;
        due[number] = at - (uint64_t)number * 1000000;
        ck_assert_uint_ge(due[number], 5000000);
        ck_assert_uint_lt(due[number], 15000000);
        sum_ns += due[number];
        overtaken += number < highest;
        highest = number > highest ? number : highest;
    }
    ck_assert_uint_eq(path_counters(path)->reordered.packets, overtaken);
    ck_assert_uint_gt(overtaken, packets / 2);
    ck_assert_uint_gt(sum_ns / packets, 9800000); /* 10 ms, and five standard deviations */
    ck_assert_uint_lt(sum_ns / packets, 10210000);
    ck_assert_uint_eq(path_inside(path).packets, 0);
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_memory_of_reordered_packets_comes_back)
{
    struct path *path = path_of((const char *const[]){"jitter", "100ms", "reorder", "yes", NULL}, 0);
    uint64_t now = 0;
    size_t len;
    for (uint32_t i = 0; i < 2000000; i++) { /* 3 GB: six times as much as there is */
        now += 50000;
        offer(path, 1500, i, now);
        while (path_due(path, now, &len)) {
            path_delivered(path, true, now);
        }
    }
    ck_assert_uint_eq(path_counters(path)->drop_error.packets, 0);
    ck_assert_uint_lt(path->chunks_made, 40); /* 100 ms are 2000 packets, 13 chunks */
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_order_returns_when_reordering_ends)
{
    struct path *path = path_of((const char *const[]){"jitter", "100ms", "reorder", "yes", NULL}, 0);
    struct link_params plain = link_of((const char *const[]){NULL});
    for (uint32_t i = 0; i < 100; i++) {
        offer(path, 100, i, 0);
    }
    path_set(path, &plain, 0, 0);
    for (uint32_t i = 100; i < 200; i++) {
        offer(path, 100, i, 0);
    }
    for (uint32_t i = 0; i < 100; i++) {
        ck_assert_uint_lt(take(path, SECOND), 100);
    }
    for (uint32_t i = 100; i < 200; i++) {
        ck_assert_uint_eq(take(path, SECOND), i);
    }
    path_free(path);
}
END_TEST

/* burst 1 %, 5 packets each, all lost: the shares that Gilbert-Elliott gives. */
START_TEST(test_bursts_have_their_number_and_length)
{
    static char fate[400001];
    const uint32_t packets = 400000;
    uint64_t lost = 0, bursts = 0;
    arrivals((const char *const[]){"burst", "1%", "burst-length", "5", NULL}, packets, fate);
    for (uint32_t i = 0; i < packets; i++) {
        lost += fate[i] == '0';
        bursts += fate[i] == '0' && (i == 0 || fate[i - 1] == '1');
    }
    /* 0.2 / 0.21 of the packets come between bursts, and 1 % of those begin one: 3810, within 5 % */
    ck_assert_uint_gt(bursts, 3619);
    ck_assert_uint_lt(bursts, 4000);
    ck_assert(fabs((double)lost / (double)bursts - 5.0) < 0.35);
}
END_TEST

START_TEST(test_bursts_have_a_loss_of_their_own)
{
    struct path *path = path_of((const char *const[]){"burst", "100%", "burst-length", "1000000",
                                                      "burst-loss", "30%", "loss", "1%", NULL},
                                0);
    size_t len;
    for (uint32_t i = 0; i < 100000; i++) {
        offer(path, 100, i, 0);
    }
    while (path_due(path, 0, &len)) {
        path_delivered(path, true, 0);
    }
    ck_assert_uint_gt(path_counters(path)->drop_burst.packets, 29275); /* five standard deviations */
    ck_assert_uint_lt(path_counters(path)->drop_burst.packets, 30725);
    ck_assert_uint_eq(path_counters(path)->drop_loss.packets, 0); /* the burst has not ended */
    struct link_params calm = link_of((const char *const[]){"loss", "1%", NULL});
    path_set(path, &calm, 0, 1);
    for (uint32_t i = 0; i < 100000; i++) {
        offer(path, 100, i, 1);
    }
    while (path_due(path, 1, &len)) {
        path_delivered(path, true, 1);
    }
    ck_assert_uint_gt(path_counters(path)->drop_loss.packets, 842);
    ck_assert_uint_lt(path_counters(path)->drop_loss.packets, 1158);
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_copies_follow_and_take_nothing_of_the_rate)
{
    struct path *path = path_of((const char *const[]){"rate", "8mbit", "duplicate", "100%", NULL}, 3000);
    for (uint32_t i = 0; i < 4; i++) {
        offer(path, 1000, i, 0);
    }
    ck_assert_uint_eq(path_counters(path)->drop_queue.packets, 1); /* copies are not in the queue */
    ck_assert_uint_eq(path_queue_now(path, 0), 3000);
    ck_assert_uint_eq(path_inside(path).packets, 6);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(path_next_ns(path), (i + 1) * UINT64_C(1000000));
        ck_assert_uint_eq(take(path, (i + 1) * UINT64_C(1000000)), i);
        ck_assert_uint_eq(path_next_ns(path), (i + 1) * UINT64_C(1000000));
        ck_assert_uint_eq(take(path, (i + 1) * UINT64_C(1000000)), i);
    }
    ck_assert_uint_eq(path_counters(path)->duplicated.packets, 3);
    ck_assert_uint_eq(path_counters(path)->reordered.packets, 0);
    ck_assert_uint_eq(path_queue_now(path, SECOND), 0);
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_copies_follow_a_new_rate_with_their_packets)
{
    struct path *path = path_of((const char *const[]){"rate", "8kbit", "duplicate", "100%", NULL}, 0);
    for (uint32_t i = 0; i < 3; i++) {
        offer(path, 1000, i, 0);
    }
    struct link_params faster = link_of((const char *const[]){"rate", "8mbit", "duplicate", "100%", NULL});
    path_set(path, &faster, 0, 500000);
    for (uint32_t i = 0; i < 6; i++) {
        uint64_t due = SECOND + (uint64_t)(i / 2) * 1000000;
        ck_assert_uint_eq(path_next_ns(path), due);
        ck_assert_uint_eq(take(path, due), i / 2);
    }
    check_sum(path);
    path_free(path);
}
END_TEST

START_TEST(test_what_is_lost_has_no_copy)
{
    char fate[1001];
    arrivals((const char *const[]){"loss", "50%", "duplicate", "100%", NULL}, 1000, fate);
    ck_assert_ptr_null(strchr(fate, '1'));
    ck_assert_ptr_nonnull(strchr(fate, '2'));
    ck_assert_ptr_nonnull(strchr(fate, '0'));
}
END_TEST

START_TEST(test_corruption_turns_one_bit_and_leaves_the_version)
{
    struct path *path = path_of((const char *const[]){"corrupt", "100%", NULL}, 0);
    uint64_t seen[20 * 8] = {0};
    for (uint32_t i = 0; i < 20000; i++) {
        size_t len;
        memset(path_slot(path), 0x45, 20);
        path_admit(path, 20, 0);
        const uint8_t *bytes = path_due(path, 0, &len);
        ck_assert_ptr_nonnull(bytes);
        ck_assert_uint_eq(len, 20);
        int turned = 0;
        for (size_t bit = 0; bit < 20 * 8; bit++) {
            if ((bytes[bit / 8] ^ 0x45) & 0x80 >> bit % 8) {
                seen[bit]++;
                turned++;
            }
        }
        ck_assert_int_eq(turned, 1);
        path_delivered(path, true, 0);
    }
    for (size_t bit = 0; bit < 20 * 8; bit++) { /* 128 each, and six standard deviations */
        ck_assert_uint_ge(seen[bit], bit < 4 ? 0 : 60);
        ck_assert_uint_le(seen[bit], bit < 4 ? 0 : 196);
    }
    ck_assert_uint_eq(path_counters(path)->corrupted.packets, 20000);
    ck_assert_uint_eq(path_counters(path)->out.packets, 20000);
    check_sum(path);
    path_free(path);
}
END_TEST

/* Duplication, corruption, jitter and bursts that are switched on do not change which packets are lost at
 * random. */
START_TEST(test_each_decision_has_numbers_of_its_own)
{
    static char alone[10001], among[10001];
    arrivals((const char *const[]){"loss", "3%", NULL}, 10000, alone);
    arrivals((const char *const[]){"loss", "3%", "corrupt", "0", "jitter", "5ms", "reorder", "yes",
                                   "duplicate", "20%", "burst", "1%", "burst-loss", "0", NULL},
             10000, among);
    uint32_t differ = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        differ += (alone[i] == '0') != (among[i] == '0');
    }
    ck_assert_uint_lt(differ, 12); /* a hundredth of the packets are in bursts, where `loss` counts not */
    ck_assert_ptr_nonnull(strchr(among, '2'));
}
END_TEST

START_TEST(test_histogram_has_every_time_in_its_bucket)
{
    static struct delays delays;
    uint64_t us = 0;
    for (size_t i = 0; i < DELAYS_BUCKETS; i++) {
        ck_assert_uint_eq(bucket_of(delays_from_us(i)), i);
        ck_assert_uint_eq(bucket_of(delays_from_us(i + 1) - 1), i);
        ck_assert_uint_ge(delays_from_us(i), us);
        ck_assert_uint_le(delays_from_us(i + 1) - delays_from_us(i), 1 + delays_from_us(i) / 64);
        us = delays_from_us(i);
    }
    ck_assert_uint_eq(bucket_of(UINT64_MAX / 1000), DELAYS_BUCKETS - 1);
    ck_assert_uint_eq(delays_share_us(&delays, 0.5), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        delays_add(&delays, i * 500);
    }
    ck_assert_uint_eq(delays_share_us(&delays, 0.5), 26); /* the 50th is 25.0 us */
    ck_assert_uint_eq(delays_share_us(&delays, 1.0), 51);
}
END_TEST

START_TEST(test_given_and_late_are_measured)
{
    struct path *path = path_of((const char *const[]){"delay", "0.01ms", "rate", "8mbit", NULL}, 0);
    offer(path, 20, 0, 1000000);
    take(path, 1000000 + 20000 + 10000 + 7000);
    ck_assert_uint_eq(delays_share_us(&path_counters(path)->given, 1.0), 38);
    ck_assert_uint_eq(delays_share_us(&path_counters(path)->late, 1.0), 8);
    path_free(path);
}
END_TEST

/* Any order of calls: packets come out unchanged, never early, in order unless they need not, and the
 * counters add up. */
START_TEST(test_random_use)
{
    static const char *const rates[] = {"none", "100kbit", "10mbit", "1gbit"};
    static const char *const delays[] = {"0", "1ms", "70ms", "3s"};
    static const char *const losses[] = {"0", "1%", "50%", "100%"};
    uint64_t now = 0;
    struct luck dices;
    luck_init(&dices, (uint64_t)_i);
    struct path *path = path_of((const char *const[]){"rate", "10mbit", NULL}, 0);
    uint32_t number = 0, next = 0;
    bool reordered = false;

    for (int step = 0; step < 4000; step++) {
        uint64_t dice = luck_bits(&dices, LUCK_LOSS, (uint64_t)step);
        now += dice % 200000;
        if (dice >> 40 & 1) {
            for (uint64_t i = 0; i < (dice >> 41 & 15); i++) {
                offer(path, 20 + (dice >> 20) % 1482, number++, now); /* 1501 now and then: too long */
            }
        } else if ((dice >> 45 & 255) == 0) {
            struct link_params params = link_of((const char *const[]){
                "rate", rates[dice >> 8 & 3], "delay", delays[dice >> 10 & 3], "loss", losses[dice >> 12 & 3],
                "link", dice >> 14 & 7 ? "up" : "down", "jitter", dice >> 17 & 1 ? "2ms" : "0", "reorder",
                dice >> 19 & 1 ? "yes" : "no", "duplicate", dice >> 21 & 1 ? "30%" : "0", "burst",
                dice >> 22 & 1 ? "10%" : "0", "burst-length", "3", NULL});
            path_set(path, &params, dice >> 18 & 1 ? 64000 : 0, now);
            reordered = reordered || params.reorder;
        }
        size_t len;
        while (path_due(path, now, &len)) {
            ck_assert_uint_le(path_next_ns(path), now);
            uint32_t got = take(path, now);
            ck_assert_uint_lt(got, number);
            if (got < next && got + 1 < next) {
                ck_assert(reordered);
            }
            next = got + 1 > next ? got + 1 : next;
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
    offer(path, 20, number++, 0); /* it would fit, but path_slot has put it elsewhere */
    ck_assert_uint_eq(path_counters(path)->drop_error.packets, 3);
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
    tcase_add_test(cases, test_jitter_reorders_when_asked_to);
    tcase_add_test(cases, test_memory_of_reordered_packets_comes_back);
    tcase_add_test(cases, test_order_returns_when_reordering_ends);
    tcase_add_test(cases, test_bursts_have_their_number_and_length);
    tcase_add_test(cases, test_bursts_have_a_loss_of_their_own);
    tcase_add_test(cases, test_copies_follow_and_take_nothing_of_the_rate);
    tcase_add_test(cases, test_copies_follow_a_new_rate_with_their_packets);
    tcase_add_test(cases, test_what_is_lost_has_no_copy);
    tcase_add_test(cases, test_corruption_turns_one_bit_and_leaves_the_version);
    tcase_add_test(cases, test_each_decision_has_numbers_of_its_own);
    tcase_add_test(cases, test_histogram_has_every_time_in_its_bucket);
    tcase_add_test(cases, test_given_and_late_are_measured);
    tcase_add_loop_test(cases, test_random_use, 0, 40);
    tcase_add_test(cases, test_short_memory_drops_and_recovers);
    tcase_set_timeout(cases, 100);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
