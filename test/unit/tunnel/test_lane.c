/* test_lane.c - two lanes with real TLS over a socket pair: greeting, blocks, death at every stage, moving,
 * back-pressure. */
#include "tunnel/lane_bed.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/err.h"

enum { PATIENCE_US = 15000000 };

struct end {
    struct lane *lane;
    int ups, downs, err;
    int refuse, block_err;
    bool close_in_up, close_in_block, random;
    uint16_t version;
    bool cannot_decode;
    uint8_t slot;
    const char *name;
    uint64_t got, put, want; /* bytes of blocks */
    int level;
    _Atomic uint64_t blocks;
};

static struct end ends[2]; /* [0] dials, [1] accepts */

static uint8_t pattern(bool random, uint64_t at)
{
    uint64_t x = at * 0x9e3779b97f4a7c15ull;
    if (!random)
        return (uint8_t)(x >> 58); /* of 8 bits at most 6 say something */
    x ^= x >> 32;
    x *= 0xbf58476d1ce4e5b9ull;
    return (uint8_t)(x >> 56);
}

static int on_identify(void *owner, struct lane *l, const uint8_t pin[static CONFIG_PIN_BYTES],
                       struct greeting *ours)
{
    struct end *e = owner;
    (void)l;
    if (memcmp(pin, keys[e == &ends[0] ? 1 : 0].pin, CONFIG_PIN_BYTES) != 0)
        return -ERR_PIN;
    if (e->refuse != 0)
        return e->refuse;
    memset(ours->instance, e == &ends[0] ? 'a' : 'b', sizeof(ours->instance));
    snprintf(ours->name, sizeof(ours->name), "%s", e->name);
    ours->slot = e->slot;
    ours->opening_credit_bytes = 12345;
    ours->version = e->version;
    if (e->cannot_decode)
        ours->features = 0;
    return 0;
}

static void on_up(void *owner, struct lane *l)
{
    struct end *e = owner;
    e->ups++;
    if (e->close_in_up)
        lane_close(l);
}

static int on_block(void *owner, struct lane *l, struct chunk *chunk, const uint8_t *payload, uint32_t len)
{
    struct end *e = owner;
    if (payload < chunk->bytes || payload + len > chunk->bytes + chunk->cap)
        ck_abort_msg("the payload is not in its chunk");
    for (uint32_t i = 0; i < len; i++) {
        if (payload[i] != pattern(e->random, e->got + i))
            ck_abort_msg("byte %llu is wrong", (unsigned long long)(e->got + i));
    }
    e->got += len;
    e->blocks++;
    if (e->close_in_block)
        lane_close(l);
    return e->block_err;
}

static void put_blocks(struct end *e, struct lane *l, uint32_t most)
{
    uint32_t room;
    while (e->put < e->want && (room = lane_room(l)) > 0) {
        uint32_t len = most < room ? most : room;
        if (len > e->want - e->put)
            len = (uint32_t)(e->want - e->put);
        uint8_t *to = lane_stage(l);
        for (uint32_t i = 0; i < len; i++)
            to[i] = pattern(e->random, e->put + i);
        ck_assert_int_gt(lane_commit(l, len, e->level), 0);
        e->put += len;
        if (lane_room(l) == 0)
            lane_flush(l);
    }
    lane_flush(l);
}

static void on_writable(void *owner, struct lane *l)
{
    put_blocks(owner, l, LANE_BLOCK_MAX);
}

static void on_down(void *owner, struct lane *l, int err)
{
    struct end *e = owner;
    ck_assert_int_eq(lane_state(l), LANE_CLOSED);
    ck_assert_int_lt(err, 0);
    e->downs++;
    e->err = err;
}

static const struct lane_events events = {
    .identify = on_identify, .up = on_up, .block = on_block, .writable = on_writable, .down = on_down};

static void non_blocking(int fd)
{
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void start(int dialler_fd, int acceptor_fd, uint64_t patience_us)
{
    int fds[2] = {dialler_fd, acceptor_fd};
    for (int i = 0; i < 2; i++) {
        non_blocking(fds[i]);
        ck_assert_int_eq(lane_new(&ends[i].lane, loops[i], i == 0 ? keys[0].dial : keys[1].accept, i == 1,
                                  false, fds[i], patience_us, &events, &ends[i]),
                         0);
    }
}

static void begin(void)
{
    memset(ends, 0, sizeof(ends));
    ends[0].name = "dialler";
    ends[1].name = "acceptor";
    ends[0].version = ends[1].version = PROTOCOL_VERSION;
}

static void make_lanes(void)
{
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    start(fds[0], fds[1], PATIENCE_US);
}

static void make_up(void)
{
    make_lanes();
    turn_until(ends[0].ups == 1 && ends[1].ups == 1);
}

static void finish(void)
{
    for (int i = 0; i < 2; i++) {
        turn(true, true); /* a `down` may still want to be told */
        lane_free(ends[i].lane);
        ck_assert_int_le(ends[i].downs, 1);
        ck_assert_int_le(ends[i].ups, 1);
    }
}

START_TEST(both_ends_are_greeted)
{
    begin();
    ends[0].slot = 5;
    make_up();
    ck_assert_str_eq(lane_greeting(ends[0].lane)->name, "acceptor");
    ck_assert_str_eq(lane_greeting(ends[1].lane)->name, "dialler");
    ck_assert_uint_eq(lane_greeting(ends[1].lane)->slot, 5);
    ck_assert_uint_eq(lane_greeting(ends[1].lane)->opening_credit_bytes, 12345);
    ck_assert_uint_eq(lane_greeting(ends[0].lane)->instance[3], 'b');
    ck_assert_mem_eq(lane_pin(ends[0].lane), keys[1].pin, CONFIG_PIN_BYTES);
    ck_assert_mem_eq(lane_pin(ends[1].lane), keys[0].pin, CONFIG_PIN_BYTES);
    ck_assert(lane_is_dialled(ends[0].lane) && !lane_is_dialled(ends[1].lane));
    ck_assert_int_eq(lane_state(ends[0].lane), LANE_UP);
    ck_assert_uint_gt(lane_counters(ends[0].lane)->in_bytes, GREETING_BYTES);
    ck_assert_uint_gt(lane_counters(ends[0].lane)->out_bytes, GREETING_BYTES);
    finish();
}
END_TEST

static const uint32_t block_sizes[] = {1, 2, 3, 100, 4095, 4096, 16000, LANE_BLOCK_MAX};

START_TEST(blocks_of_a_size_go_both_ways)
{
    begin();
    make_up();
    for (int i = 0; i < 2; i++)
        ends[i].want = block_sizes[_i] * 3000ull > 6000000 ? 6000000 : block_sizes[_i] * 3000ull;
    uint64_t began = clock_now_us();
    while (ends[0].got < ends[1].want || ends[1].got < ends[0].want) {
        for (int i = 0; i < 2; i++)
            put_blocks(&ends[i], ends[i].lane, block_sizes[_i]);
        turn(true, true);
        ck_assert_msg(clock_now_us() - began < HANG_US, "hangs at %llu", (unsigned long long)ends[0].got);
    }
    ck_assert_int_eq(ends[0].downs + ends[1].downs, 0);
    finish();
}
END_TEST

/* ---- compression ---- */

static void move_both_ways(uint64_t bytes, uint32_t most)
{
    uint64_t began = clock_now_us();
    for (int i = 0; i < 2; i++)
        ends[i].want = bytes;
    while (ends[0].got < ends[1].want || ends[1].got < ends[0].want) {
        for (int i = 0; i < 2; i++)
            put_blocks(&ends[i], ends[i].lane, most);
        turn(true, true);
        ck_assert_msg(clock_now_us() - began < HANG_US, "hangs at %llu", (unsigned long long)ends[0].got);
    }
    ck_assert_int_eq(ends[0].downs + ends[1].downs, 0);
}

/* The other end counts what this one does. */
START_TEST(blocks_are_compressed)
{
    begin();
    ends[0].level = ends[1].level = _i;
    make_up();
    ck_assert_uint_eq(lane_room(ends[0].lane), LANE_BLOCK_LARGE);
    move_both_ways(3000000, UINT32_MAX);
    const struct lane_counters *c = lane_counters(ends[0].lane), *d = lane_counters(ends[1].lane);
    ck_assert_uint_eq(c->out.frame_bytes, 3000000);
    ck_assert_uint_eq(c->in.frame_bytes, 3000000);
    ck_assert_uint_eq(c->out.block_bytes, d->in.block_bytes);
    ck_assert_uint_eq(c->out.blocks, d->in.blocks);
    ck_assert_uint_eq(c->out.raw_blocks, d->in.raw_blocks);
    ck_assert_uint_lt(c->out.raw_blocks, 2); /* the last one may be too small */
    ck_assert_uint_lt(c->out.block_bytes, 2300000);
    ck_assert_uint_lt(c->out_bytes, 2400000);
    ck_assert_uint_gt(lane_gain(ends[0].lane), LANE_GAIN_ONE + LANE_GAIN_ONE / 4);
    finish();
}
END_TEST

START_TEST(random_blocks_go_raw)
{
    begin();
    ends[0].random = ends[1].random = true;
    ends[0].level = ends[1].level = 1;
    make_up();
    move_both_ways(3000000, UINT32_MAX);
    const struct lane_counters *c = lane_counters(ends[0].lane);
    ck_assert_uint_eq(c->out.raw_blocks, c->out.blocks);
    ck_assert_uint_eq(c->out.block_bytes, 3000000 + c->out.blocks * BLOCK_HEADER_BYTES);
    ck_assert_uint_lt(c->out_bytes, 3000000 + 3000000 / 200 + GREETING_BYTES + 4000);
    ck_assert_uint_le(lane_gain(ends[0].lane), LANE_GAIN_ONE);
    finish();
}
END_TEST

/* What a block may hold follows what was saved lately: slowly up, at once down, and small blocks say nothing.
 */
START_TEST(the_gain_falls_at_once)
{
    begin();
    ends[0].level = 1;
    make_up();
    ck_assert_uint_eq(lane_gain(ends[0].lane), LANE_GAIN_ONE);
    uint8_t *to = lane_stage(ends[0].lane);
    uint32_t was = LANE_GAIN_ONE;
    for (int i = 0; i < 10; i++) { /* the socket pair takes them all, nobody reads */
        bool small = i == 4, random = i == 8;
        for (uint32_t j = 0; j < 16000; j++)
            to[j] = pattern(true, random ? j : 0);
        ck_assert_int_gt(lane_commit(ends[0].lane, small ? 100 : 16000, 1), 0);
        uint32_t is = lane_gain(ends[0].lane);
        if (small)
            ck_assert_uint_eq(is, was);
        else if (random)
            ck_assert_uint_lt(is, LANE_GAIN_ONE);
        else
            ck_assert(is > was && is < was + 2 * LANE_GAIN_ONE);
        was = is;
    }
    finish();
}
END_TEST

START_TEST(what_is_not_wanted_goes_raw)
{
    begin(); /* level 0 */
    make_up();
    move_both_ways(300000, UINT32_MAX);
    ck_assert_uint_eq(lane_counters(ends[0].lane)->in.raw_blocks, lane_counters(ends[0].lane)->in.blocks);
    finish();
}
END_TEST

/* One of the two greets without the bit. */
START_TEST(a_peer_that_cannot_decode_gets_raw_blocks)
{
    begin();
    ends[_i].cannot_decode = true;
    ends[0].level = ends[1].level = 1;
    make_up();
    ck_assert_uint_eq(lane_room(ends[0].lane), LANE_BLOCK_MAX);
    move_both_ways(300000, UINT32_MAX);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(lane_counters(ends[i].lane)->in.raw_blocks, lane_counters(ends[i].lane)->in.blocks);
    finish();
}
END_TEST

static const struct {
    int level[3];
} level_changes[] = {{{1, 6, 1}}, {{3, 0, 3}}, {{19, 1, 5}}};

/* The level changes while blocks flow, and an idle lane ends its frame; nothing is lost, and the far context
 * goes back with ours. */
START_TEST(levels_change_and_a_lane_rests)
{
    begin();
    make_up();
    for (int i = 0; i < 3; i++) {
        ends[0].level = level_changes[_i].level[i];
        ends[0].want += 400000;
        uint64_t now = clock_now_us();
        put_blocks(&ends[0], ends[0].lane, 30000);
        turn_until(ends[1].got == ends[0].want);
        uint64_t blocks = lane_counters(ends[1].lane)->in.blocks,
                 frames = lane_counters(ends[1].lane)->in.frame_bytes;
        lane_rest(ends[0].lane, now); /* too early */
        ck_assert_uint_eq(lane_counters(ends[1].lane)->in.blocks, blocks);
        lane_rest(ends[0].lane, clock_now_us() + 60 * 1000000);
        if (ends[0].level > 0)
            turn_until(lane_counters(ends[1].lane)->in.blocks == blocks + 1);
        lane_rest(ends[0].lane, clock_now_us() + 120 * 1000000); /* nothing more to end */
        turn(true, true);
        ck_assert_uint_eq(lane_counters(ends[1].lane)->in.blocks, blocks + (ends[0].level > 0));
        ck_assert_uint_eq(lane_counters(ends[1].lane)->in.frame_bytes, frames);
    }
    ck_assert_int_eq(ends[0].downs + ends[1].downs, 0);
    finish();
}
END_TEST

START_TEST(a_key_that_is_not_welcome_ends_it)
{
    begin();
    ends[_i].refuse = -ERR_PIN;
    make_lanes();
    turn_until(ends[0].downs == 1 && ends[1].downs == 1);
    ck_assert_int_eq(ends[_i].err, -ERR_PIN);
    ck_assert_int_eq(ends[0].ups + ends[1].ups, 0);
    finish();
}
END_TEST

START_TEST(another_version_ends_it)
{
    begin();
    ends[_i].version = PROTOCOL_VERSION + 1;
    make_lanes();
    turn_until(ends[0].downs == 1 && ends[1].downs == 1);
    ck_assert_int_eq(ends[!_i].err, -ERR_VERSION);
    ck_assert_int_eq(ends[!_i].ups, 0);
    finish();
}
END_TEST

/* A middle between the lanes that lets `limit` bytes of each direction by and then closes both. */
struct middle {
    int fds[2];
    uint64_t passed[2], limit;
};

static void pass(struct middle *m, int from)
{
    char bytes[4096];
    uint64_t left = m->limit - m->passed[from];
    size_t want = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);
    ssize_t n = want == 0 ? 0 : recv(m->fds[from], bytes, want, MSG_DONTWAIT);
    if (n > 0) {
        ck_assert_int_eq(send(m->fds[!from], bytes, (size_t)n, MSG_NOSIGNAL), n);
        m->passed[from] += (uint64_t)n;
    }
}

static void run_through_middle(uint64_t limit, int which)
{
    struct middle m = {.limit = limit};
    int a[2], b[2];
    begin();
    ends[0].want = ends[1].want = 100000;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    m.fds[0] = a[1];
    m.fds[1] = b[1];
    start(a[0], b[0], PATIENCE_US);
    uint64_t began = clock_now_us();
    while (m.passed[which] < limit) {
        pass(&m, 0);
        pass(&m, 1);
        if (m.passed[!which] >= limit && m.passed[which] < limit && m.limit == limit)
            break; /* the other direction cannot go on without it */
        turn(true, true);
        ck_assert_msg(clock_now_us() - began < HANG_US, "hangs");
    }
    close(m.fds[0]);
    close(m.fds[1]);
    turn_until(ends[0].downs == 1 && ends[1].downs == 1);
    finish();
}

/* Also inside the greeting and inside blocks: each end hears of it exactly once, and nothing leaks. */
START_TEST(the_connection_dies_after_each_stretch_of_bytes)
{
    for (uint64_t limit = 0; limit < 3000; limit += limit < 600 ? 37 : 211)
        run_through_middle(limit, _i);
    for (uint64_t limit = 15000; limit < 60000; limit += 1777)
        run_through_middle(limit, _i);
}
END_TEST

START_TEST(garbage_instead_of_tls_ends_it)
{
    int fds[2];
    begin();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    non_blocking(fds[0]);
    ck_assert_int_eq(lane_new(&ends[1].lane, loops[1], keys[1].accept, true, false, fds[0], PATIENCE_US,
                              &events, &ends[1]),
                     0);
    ck_assert_int_eq(send(fds[1], "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    turn_until(ends[1].downs == 1);
    ck_assert_int_eq(ends[1].err, -ERR_TLS);
    close(fds[1]);
    finish();
}
END_TEST

START_TEST(a_silent_other_end_is_given_up)
{
    int fds[2];
    begin();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    non_blocking(fds[0]);
    ck_assert_int_eq(lane_new(&ends[_i].lane, loops[_i], _i == 0 ? keys[0].dial : keys[1].accept, _i == 1,
                              false, fds[0], 20000, &events, &ends[_i]),
                     0);
    turn_until(ends[_i].downs == 1);
    ck_assert_int_eq(ends[_i].err, -ETIMEDOUT);
    close(fds[1]);
    finish();
}
END_TEST

START_TEST(the_owner_closes_inside_up)
{
    begin();
    ends[_i].close_in_up = true;
    make_lanes();
    turn_until(ends[!_i].downs == 1);
    turn(true, true);
    ck_assert_int_eq(ends[_i].downs, 0); /* it knows */
    ck_assert_int_eq(ends[_i].ups, 1);
    finish();
}
END_TEST

START_TEST(the_owner_closes_inside_a_block)
{
    begin();
    make_up();
    ends[1].close_in_block = true;
    ends[0].want = 50000;
    put_blocks(&ends[0], ends[0].lane, 1000);
    turn_until(ends[0].downs == 1);
    ck_assert_uint_eq(ends[1].blocks, 1);
    ck_assert_int_eq(ends[1].downs, 0);
    finish();
}
END_TEST

START_TEST(a_block_that_is_refused_closes_with_its_error)
{
    begin();
    make_up();
    ends[1].block_err = -ERR_WIRE_VALUE;
    ends[0].want = 5000;
    put_blocks(&ends[0], ends[0].lane, 1000);
    turn_until(ends[0].downs == 1 && ends[1].downs == 1);
    ck_assert_int_eq(ends[1].err, -ERR_WIRE_VALUE);
    ck_assert_uint_eq(ends[1].blocks, 1);
    finish();
}
END_TEST

START_TEST(what_was_written_before_a_close_arrives)
{
    begin();
    make_up();
    ends[0].want = 30000;
    put_blocks(&ends[0], ends[0].lane, 10000);
    ck_assert_uint_eq(ends[0].put, 30000);
    lane_close(ends[0].lane);
    lane_close(ends[0].lane);
    ck_assert_uint_eq(lane_room(ends[0].lane), 0);
    turn_until(ends[1].downs == 1);
    ck_assert_uint_eq(ends[1].got, 30000);
    ck_assert_int_eq(ends[1].err, -ERR_CLOSED);
    ck_assert_int_eq(ends[0].downs, 0);
    finish();
}
END_TEST

/* The other end sleeps: room ends, `put` stays bounded; when it wakes, `writable` brings the rest without
 * help. */
START_TEST(a_reader_that_sleeps_holds_the_writer_back)
{
    begin();
    make_up();
    ends[0].want = 8000000;
    put_blocks(&ends[0], ends[0].lane, LANE_BLOCK_MAX);
    for (int i = 0; i < 100; i++)
        turn(true, false);
    uint64_t stuck = ends[0].put;
    ck_assert_uint_lt(stuck, 2000000);
    ck_assert_uint_eq(lane_room(ends[0].lane), 0);
    turn_until(ends[1].got == ends[0].want);
    ck_assert_uint_gt(ends[0].put, stuck);
    finish();
}
END_TEST

START_TEST(a_lane_moves_and_loses_nothing)
{
    begin();
    make_up();
    int moves = 0;
    uint64_t began = clock_now_us();
    while (ends[1].got < 3000000) {
        lane_detach(ends[1].lane);
        ends[0].want = ends[1].got + 100000;
        put_blocks(&ends[0], ends[0].lane, 5000); /* comes while nobody watches */
        turn(true, true);
        lane_attach(ends[1].lane, loops[moves++ % 2], &events, &ends[1]);
        turn(true, true);
        turn(true, true);
        ck_assert_msg(clock_now_us() - began < HANG_US, "hangs at %llu", (unsigned long long)ends[1].got);
    }
    ck_assert_int_ge(moves, 30);
    finish();
}
END_TEST

START_TEST(a_close_while_the_lane_moves_is_heard)
{
    begin();
    make_up();
    lane_detach(ends[1].lane);
    ends[0].want = 1000;
    put_blocks(&ends[0], ends[0].lane, 1000);
    lane_close(ends[0].lane);
    turn(true, true);
    ck_assert_int_eq(ends[1].downs, 0);
    lane_attach(ends[1].lane, loops[0], &events, &ends[1]);
    turn_until(ends[1].downs == 1);
    ck_assert_uint_eq(ends[1].got, 1000);
    finish();
}
END_TEST

/* ---- across threads ---- */

struct handover {
    struct mail mail;
    struct task leave;
};
static struct handover handover;

static void *run_loop(void *arg)
{
    loop_run(arg);
    compress_thread_end();
    chunk_thread_end();
    return NULL;
}

static void take_over(struct mail *m)
{
    (void)m;
    lane_attach(ends[1].lane, loops[1], &events, &ends[1]);
}

static void leave(void *owner)
{
    (void)owner;
    handover.mail.deliver = take_over;
    loop_post(loops[1], &handover.mail);
}

/* The lane is still at work when it tells that it is up: it goes in a later turn. */
static void up_and_hand_over(void *owner, struct lane *l)
{
    on_up(owner, l);
    lane_detach(l);
    handover.leave = (struct task){.run = leave};
    loop_defer(loops[0], &handover.leave);
}

/* As a greeter does: the handshake on one thread, the rest on another, with bytes under way. */
START_TEST(a_lane_moves_to_another_thread)
{
    static struct lane_events greeter_events;
    pthread_t threads[2];
    int fds[2];
    begin();
    ends[0].want = 2000000;
    greeter_events = events;
    greeter_events.up = up_and_hand_over;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    non_blocking(fds[0]);
    non_blocking(fds[1]);
    ck_assert_int_eq(
        lane_new(&ends[0].lane, loops[0], keys[0].dial, false, false, fds[0], PATIENCE_US, &events, &ends[0]),
        0);
    ck_assert_int_eq(lane_new(&ends[1].lane, loops[0], keys[1].accept, true, false, fds[1], PATIENCE_US,
                              &greeter_events, &ends[1]),
                     0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_loop, loops[i]), 0);
    uint64_t began = clock_now_us();
    while (atomic_load(&ends[1].blocks) < 2000000 / LANE_BLOCK_MAX + 1) {
        usleep(1000);
        ck_assert_msg(clock_now_us() - began < HANG_US, "hangs");
    }
    for (int i = 0; i < 2; i++)
        loop_stop(loops[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(ends[1].got, 2000000);
    lane_free(ends[0].lane);
    lane_free(ends[1].lane);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, both_ends_are_greeted);
    tcase_add_loop_test(t, blocks_of_a_size_go_both_ways, 0,
                        (int)(sizeof(block_sizes) / sizeof(block_sizes[0])));
    tcase_add_loop_test(t, blocks_are_compressed, 1, 7);
    tcase_add_test(t, random_blocks_go_raw);
    tcase_add_test(t, the_gain_falls_at_once);
    tcase_add_test(t, what_is_not_wanted_goes_raw);
    tcase_add_loop_test(t, a_peer_that_cannot_decode_gets_raw_blocks, 0, 2);
    tcase_add_loop_test(t, levels_change_and_a_lane_rests, 0,
                        (int)(sizeof(level_changes) / sizeof(level_changes[0])));
    tcase_add_loop_test(t, a_key_that_is_not_welcome_ends_it, 0, 2);
    tcase_add_loop_test(t, another_version_ends_it, 0, 2);
    tcase_add_loop_test(t, the_connection_dies_after_each_stretch_of_bytes, 0, 2);
    tcase_add_test(t, garbage_instead_of_tls_ends_it);
    tcase_add_loop_test(t, a_silent_other_end_is_given_up, 0, 2);
    tcase_add_loop_test(t, the_owner_closes_inside_up, 0, 2);
    tcase_add_test(t, the_owner_closes_inside_a_block);
    tcase_add_test(t, a_block_that_is_refused_closes_with_its_error);
    tcase_add_test(t, what_was_written_before_a_close_arrives);
    tcase_add_test(t, a_reader_that_sleeps_holds_the_writer_back);
    tcase_add_test(t, a_lane_moves_and_loses_nothing);
    tcase_add_test(t, a_close_while_the_lane_moves_is_heard);
    tcase_add_test(t, a_lane_moves_to_another_thread);
}

int main(void)
{
    return run_suite("lane", add);
}
