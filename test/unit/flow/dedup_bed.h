/* dedup_bed.h - two nodes with stores (rig.h), hosts that send bytes of the test's choosing, and what they
 * cost: for the tests of references. */
#ifndef TEST_FLOW_DEDUP_BED_H
#define TEST_FLOW_DEDUP_BED_H

#include "flow/rig.h"

enum { BED_MB = 1 << 20 };

static struct rig rig;
static int bed_listener;
static uint16_t bed_port;

static __attribute__((unused)) void bed_start(struct rig_options options)
{
    options.stores = true;
    bed_listener = rig_listen(&bed_port);
    rig_start(&rig, options);
    rig_wait_up(&rig);
}

static __attribute__((unused)) void bed_end(void)
{
    rig_end(&rig);
    close(bed_listener);
}

/* ---- bytes ---- */

/* Random bytes, the same for the same seed; the caller frees them. */
static __attribute__((unused)) uint8_t *bed_noise(uint32_t seed, size_t len)
{
    uint8_t *bytes = malloc(len + 8);
    uint64_t x = 0x9e3779b97f4a7c15ull * (seed + 1ull);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < len; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(bytes + i, &x, 8);
    }
    return bytes;
}

/* One end of a session: what it sends, and what it ought to get. */
struct bed_end {
    int fd;
    const uint8_t *send, *expect;
    size_t send_len, expect_len, sent, got;
    bool shut, ended, keep_open;
};

static __attribute__((unused)) bool bed_end_is_done(const struct bed_end *e)
{
    return e->sent == e->send_len && e->got == e->expect_len && (e->keep_open || (e->shut && e->ended));
}

static __attribute__((unused)) void bed_end_turn(struct bed_end *e)
{
    static uint8_t bytes[1 << 18];
    while (e->sent < e->send_len) {
        ssize_t n = send(e->fd, e->send + e->sent, e->send_len - e->sent, MSG_NOSIGNAL);
        if (n < 0) {
            ck_assert_msg(errno == EAGAIN, "send: %s", strerror(errno));
            break;
        }
        e->sent += (size_t)n;
    }
    if (e->sent == e->send_len && !e->shut && !e->keep_open) {
        e->shut = true;
        shutdown(e->fd, SHUT_WR);
    }
    while (!e->ended) {
        ssize_t n = recv(e->fd, bytes, sizeof(bytes), 0);
        if (n < 0)
            ck_assert_msg(errno == EAGAIN, "recv: %s", strerror(errno));
        if (n < 0)
            return;
        ck_assert_uint_le((size_t)n, e->expect_len - e->got);
        if (memcmp(bytes, e->expect + e->got, (size_t)n) != 0)
            ck_abort_msg("wrong bytes among %zd from %zu on", n, e->got);
        e->got += (size_t)n;
        e->ended = n == 0;
    }
}

/* Turn until all ends are done; each may call `meanwhile` once, when half of its bytes are in. */
static __attribute__((unused)) void bed_transfer(struct bed_end *ends, size_t count, void (*meanwhile)(void))
{
    size_t moved = 0, total = 0;
    uint64_t since = clock_now_us();
    for (size_t i = 0; i < count; i++)
        total += ends[i].expect_len;
    for (bool all = false; !all;) {
        struct pollfd polls[64];
        size_t now = 0, got = 0;
        ck_assert_uint_le(count, 64);
        all = true;
        for (size_t i = 0; i < count; i++) {
            struct bed_end *e = &ends[i];
            bed_end_turn(e);
            all = all && bed_end_is_done(e);
            now += e->sent + e->got + e->ended;
            got += e->got;
            short out = e->sent < e->send_len ? POLLOUT : 0, in = e->ended ? 0 : POLLIN;
            polls[i] = (struct pollfd){.fd = bed_end_is_done(e) ? -1 : e->fd, .events = (short)(out | in)};
        }
        if (now != moved)
            since = clock_now_us();
        moved = now;
        ck_assert_msg(clock_now_us() - since < RIG_HANG_S * 1000000ull, "the transfer hangs");
        if (meanwhile != NULL && got >= total / 2) {
            meanwhile();
            meanwhile = NULL;
        }
        if (!all)
            poll(polls, (nfds_t)count, 100);
    }
}

/* A session that a client of `node` opens: up from there, down to it. */
static __attribute__((unused)) void bed_open(struct bed_end ends[2], int node, const uint8_t *up,
                                             size_t up_len, const uint8_t *down, size_t down_len)
{
    int client = rig_connect(&rig, node, bed_port), server = rig_accept(bed_listener);
    ends[0] = (struct bed_end){
        .fd = client, .send = up, .send_len = up_len, .expect = down, .expect_len = down_len};
    ends[1] = (struct bed_end){
        .fd = server, .send = down, .send_len = down_len, .expect = up, .expect_len = up_len};
}

static __attribute__((unused)) void bed_close(struct bed_end *ends, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(ends[i].fd);
    rig_until(rig_sessions(&rig) == 0);
}

/* Node 0's client sends these bytes up, or gets them from its server (down); `meanwhile` in the middle. */
static __attribute__((unused)) void bed_carry(bool up, const uint8_t *bytes, size_t len,
                                              void (*meanwhile)(void))
{
    struct bed_end ends[2];
    bed_open(ends, 0, bytes, up ? len : 0, bytes, up ? 0 : len);
    bed_transfer(ends, 2, meanwhile);
    bed_close(ends, 2);
}

/* ---- what it cost ---- */

struct bed_cost {
    struct rig_node *node;
    uint64_t wire_bytes; /* sent by the node */
    struct mux_totals totals;
    struct store_counters store;
};

static __attribute__((unused)) void bed_read_cost(void *arg)
{
    struct bed_cost *c = arg;
    struct lane_counters lanes;
    tunnel_count(mux_tunnel(c->node->mux), &lanes);
    c->wire_bytes = lanes.out_bytes;
    mux_read_totals(c->node->mux, &c->totals);
    store_read_counters(c->node->home.store, &c->store);
}

static __attribute__((unused)) struct bed_cost bed_cost(int number)
{
    struct bed_cost c = {.node = &rig.nodes[number]};
    rig_on(c.node->home.loop, bed_read_cost, &c);
    return c;
}

/* Bytes that both nodes send while these are carried. */
static __attribute__((unused)) uint64_t bed_wire_of(bool up, const uint8_t *bytes, size_t len)
{
    uint64_t before = bed_cost(0).wire_bytes + bed_cost(1).wire_bytes;
    bed_carry(up, bytes, len, NULL);
    return bed_cost(0).wire_bytes + bed_cost(1).wire_bytes - before;
}

#endif
