/* test_tunnel.c - two tunnels over loopback TCP, both on hand-driven loops: up, down, redial, slots, who
 * wins, who restarted. */
#include "tunnel/lane_bed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/greeter.h"
#include "hawser/tunnel.h"

enum { LANES_HELD = 3 * CONFIG_LANES_MAX };

struct side {
    struct tunnel *tunnel;
    struct tunnel_world world;
    struct greeter *greeter;
    struct greeter_world greeter_world;
    struct config_peer peer;
    int listener;
    uint16_t port;
    uint8_t instance[GREETING_INSTANCE_BYTES];
    int ups, downs, losts, restarts, delivered;
    bool busy, deaf; /* deaf: accepts nothing */
    uint64_t frames, to_send, sent;
    int level;
    uint32_t lost_slots;
    struct lane *held[LANES_HELD]; /* instead of to its tunnel, if it holds them */
    bool holds;
    int dialled_fd[64];
    unsigned dialled_count;
};

static struct side sides[2];

static void ev_up(void *owner)
{
    struct side *s = owner;
    s->ups++;
}

static void ev_down(void *owner)
{
    struct side *s = owner;
    s->downs++;
}

static void ev_lost(void *owner, unsigned slot)
{
    struct side *s = owner;
    s->losts++;
    s->lost_slots |= 1u << slot;
}

static void ev_restarted(void *owner)
{
    struct side *s = owner;
    s->restarts++;
}

static int ev_frame(void *owner, unsigned slot, const struct frame *f, struct chunk *chunk)
{
    struct side *s = owner;
    (void)slot, (void)chunk;
    if (f->type != FRAME_DATA || f->data.len != 1000)
        ck_abort_msg("a frame of type %d", (int)f->type);
    s->frames++;
    return 0;
}

static int ev_fill(void *owner, unsigned slot, enum tunnel_role role, struct cursor_out *out)
{
    struct side *s = owner;
    (void)slot, (void)role;
    while (s->sent < s->to_send && (size_t)(out->end - out->at) >= 1000 + FRAME_DATA_HEADER_MAX) {
        uint8_t *to = frame_put_data(out, 2, s->sent * 1000, 1000);
        ck_assert_ptr_nonnull(to);
        memset(to, 'x', 1000);
        s->sent++;
    }
    return s->level;
}

static bool ev_busy(void *owner)
{
    const struct side *s = owner;
    return s->busy;
}

static const struct tunnel_events events = {.up = ev_up,
                                            .down = ev_down,
                                            .lane_lost = ev_lost,
                                            .lane_stalls = ev_lost,
                                            .peer_restarted = ev_restarted,
                                            .frame = ev_frame,
                                            .fill = ev_fill,
                                            .busy = ev_busy};

static int lane_socket(void *owner, int fd, uint64_t rcvbuf, uint64_t sndbuf, const char *congestion)
{
    struct side *s = owner;
    (void)rcvbuf, (void)sndbuf, (void)congestion;
    s->dialled_fd[s->dialled_count++ % 64] = fd;
    return 0;
}

static void lane_route(void *owner, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd)
{
    (void)owner, (void)peer, (void)initcwnd, (void)initrwnd;
}

static void learned(void *owner, const char *peer, uint64_t rate, uint64_t rtt_us)
{
    (void)owner, (void)peer, (void)rate, (void)rtt_us;
}

static void new_instance(void *owner, const char *peer,
                         const uint8_t instance[static GREETING_INSTANCE_BYTES])
{
    struct side *s = owner;
    (void)peer;
    memcpy(s->instance, instance, sizeof(s->instance));
}

static int identify(void *owner, const struct endpoint *from, const uint8_t pin[static CONFIG_PIN_BYTES],
                    struct greeting *ours)
{
    static const uint8_t none[GREETING_INSTANCE_BYTES];
    struct side *s = owner;
    (void)from;
    if (memcmp(s->instance, none, sizeof(none)) == 0)
        return -ERR_STARTING;
    if (memcmp(pin, s->peer.pins[0], CONFIG_PIN_BYTES) != 0)
        return -ERR_PIN;
    memcpy(ours->instance, s->instance, sizeof(ours->instance));
    ours->opening_credit_bytes = s->world.opening_credit_bytes;
    return 0;
}

static void deliver(void *owner, struct lane *l)
{
    struct side *s = owner;
    s->delivered++;
    if (s->holds && s->delivered <= LANES_HELD)
        s->held[s->delivered - 1] = l;
    else if (s->tunnel != NULL)
        tunnel_adopt(s->tunnel, l);
    else
        lane_free(l);
}

static void prepare(bool dials_0, bool dials_1, unsigned lanes)
{
    bool dials[2] = {dials_0, dials_1};
    memset(sides, 0, sizeof(sides));
    for (int i = 0; i < 2; i++) {
        struct side *s = &sides[i];
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(sa);
        s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
        ck_assert_int_eq(listen(s->listener, 64), 0);
        ck_assert_int_eq(getsockname(s->listener, (struct sockaddr *)&sa, &len), 0);
        s->port = ntohs(sa.sin_port);
        s->world = (struct tunnel_world){.dial_tls = keys[i].dial,
                                         .node_name = "side",
                                         .opening_credit_bytes = 1000 + (uint64_t)i,
                                         .owner = s,
                                         .lane_socket = lane_socket,
                                         .lane_route = lane_route,
                                         .learned = learned,
                                         .instance = new_instance};
        memcpy(s->world.pin, keys[i].pin, CONFIG_PIN_BYTES);
        s->greeter_world = (struct greeter_world){
            .accept_tls = keys[i].accept, .owner = s, .identify = identify, .deliver = deliver};
        ck_assert_int_eq(greeter_new(&s->greeter, loops[i], &s->greeter_world), 0);
    }
    for (int i = 0; i < 2; i++) {
        struct config_peer *p = &sides[i].peer;
        strcpy(p->name, "other");
        strcpy(p->congestion, "cubic");
        memcpy(p->pins[0], keys[!i].pin, CONFIG_PIN_BYTES);
        p->pin_count = 1;
        p->lanes = lanes;
        if (dials[i])
            p->address = (struct endpoint){.addr = {.family = AF_INET, .bytes = {127, 0, 0, 1}},
                                           .port = sides[!i].port};
    }
}

static void start_tunnel(int i)
{
    ck_assert_int_eq(
        tunnel_new(&sides[i].tunnel, loops[i], &sides[i].world, &sides[i].peer, 0, 0, &events, &sides[i]), 0);
}

static void stop_tunnel(int i)
{
    tunnel_free(sides[i].tunnel);
    sides[i].tunnel = NULL;
}

/* One turn of both, with what came to the listeners. */
static void step(void)
{
    for (int i = 0; i < 2; i++) {
        int fd = sides[i].deaf ? -1 : accept4(sides[i].listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            greeter_take(sides[i].greeter, fd);
    }
    turn(true, true);
}

#define step_until(condition)                                                                                \
    do {                                                                                                     \
        uint64_t began_us = clock_now_us();                                                                  \
        while (!(condition)) {                                                                               \
            step();                                                                                          \
            ck_assert_msg(clock_now_us() - began_us < HANG_US, "hangs: " #condition);                        \
        }                                                                                                    \
    } while (0)

static unsigned lanes_up(int i)
{
    return tunnel_lanes_up(sides[i].tunnel);
}

static void go_up(bool dials_0, bool dials_1, unsigned lanes)
{
    prepare(dials_0, dials_1, lanes);
    start_tunnel(0);
    start_tunnel(1);
    step_until(lanes_up(0) == lanes && lanes_up(1) == lanes);
}

static void finish(void)
{
    for (int i = 0; i < 2; i++) {
        stop_tunnel(i);
        greeter_free(sides[i].greeter);
        close(sides[i].listener);
    }
}

/* Shut down every lane that side i dialled. */
static void cut(int i)
{
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in sa;
        socklen_t len = sizeof(sa);
        if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sin_family == AF_INET &&
            ntohs(sa.sin_port) == sides[!i].port)
            shutdown(fd, SHUT_RDWR);
    }
}

START_TEST(as_many_lanes_come_up_as_are_wanted)
{
    go_up(true, false, (unsigned)_i);
    ck_assert(tunnel_is_up(sides[0].tunnel) && tunnel_is_up(sides[1].tunnel));
    ck_assert_int_eq(sides[0].ups, 1);
    ck_assert_int_eq(sides[1].ups, 1);
    ck_assert_int_eq(sides[0].restarts + sides[1].restarts + sides[0].downs + sides[1].downs, 0);
    ck_assert_str_eq(tunnel_reason(sides[0].tunnel), "");
    ck_assert_uint_eq(tunnel_opening_credit(sides[0].tunnel), 1001);
    ck_assert_uint_eq(tunnel_opening_credit(sides[1].tunnel), 1000);
    ck_assert(tunnel_is_lower(sides[0].tunnel) != tunnel_is_lower(sides[1].tunnel));
    ck_assert(tunnel_is_lower(sides[0].tunnel) == (memcmp(keys[0].pin, keys[1].pin, CONFIG_PIN_BYTES) < 0));
    struct tunnel_lane_report r;
    for (unsigned slot = 0; slot < CONFIG_LANES_MAX; slot++) {
        ck_assert(tunnel_report_lane(sides[1].tunnel, slot, &r));
        ck_assert((r.state != NULL) == (slot < (unsigned)_i));
        ck_assert_int_eq(r.role, slot == 0 ? TUNNEL_ROLE_EXPRESS : TUNNEL_ROLE_BULK);
    }
    ck_assert(!tunnel_report_lane(sides[1].tunnel, CONFIG_LANES_MAX, &r));
    finish();
}
END_TEST

/* A peer may try keys until its pin begins as another's does: it is no other's number for that, and which
 * numbers there are is each node's secret. */
START_TEST(pins_that_begin_alike_are_different_sources)
{
    struct tunnel_world world = {.source_secret = {1}}, elsewhere = {.source_secret = {2}};
    uint8_t honest[CONFIG_PIN_BYTES] = {1, 2, 3, 4}, forged[CONFIG_PIN_BYTES] = {1, 2, 3, 4, 5};
    uint32_t source = tunnel_source_of(&world, honest);
    ck_assert_uint_ne(source, 0);
    ck_assert_uint_eq(source, tunnel_source_of(&world, honest));
    ck_assert_uint_ne(source, tunnel_source_of(&world, forged));
    ck_assert_uint_ne(source, tunnel_source_of(&elsewhere, honest));
    go_up(true, false, 1);
    ck_assert_uint_eq(tunnel_peer_source(sides[0].tunnel), tunnel_source_of(&sides[0].world, keys[1].pin));
    finish();
}
END_TEST

START_TEST(frames_go_both_ways)
{
    prepare(true, false, 2);
    sides[0].busy = sides[1].busy = true; /* no lane is renewed under them */
    start_tunnel(0);
    start_tunnel(1);
    step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
    for (int i = 0; i < 2; i++) {
        sides[i].to_send = 5000;
        tunnel_kick(sides[i].tunnel);
    }
    step_until(sides[0].frames == 5000 && sides[1].frames == 5000);
    struct lane_counters count;
    tunnel_count(sides[0].tunnel, &count);
    ck_assert_uint_gt(count.in_bytes, 5000000);
    ck_assert_uint_gt(count.out_bytes, 5000000);
    finish();
}
END_TEST

/* The first lane may be dialled anew once (its route was not set before it); after that an idle tunnel rests.
 */
START_TEST(an_idle_tunnel_comes_to_rest)
{
    go_up(true, false, (unsigned)_i);
    for (int i = 0; i < 1000; i++) {
        step();
        usleep(200); /* the handshakes of a renewal have every chance to happen */
    }
    ck_assert_msg(sides[0].dialled_count <= (unsigned)_i + 1, "%u connections for %d lanes",
                  sides[0].dialled_count, _i);
    ck_assert_int_eq(sides[0].ups, 1);
    ck_assert_int_eq(sides[1].ups, 1);
    ck_assert_int_eq(sides[0].downs + sides[1].downs, 0);
    ck_assert_int_eq(sides[0].restarts + sides[1].restarts, 0);
    finish();
}
END_TEST

START_TEST(a_cut_is_told_and_dialled_again)
{
    go_up(true, false, 2);
    cut(0);
    step_until(sides[0].downs == 1 && sides[1].downs == 1);
    ck_assert_uint_eq(sides[0].lost_slots, 3);
    ck_assert_uint_eq(sides[1].lost_slots, 3);
    ck_assert_str_ne(tunnel_reason(sides[0].tunnel), "");
    step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
    ck_assert_int_eq(sides[0].ups, 2);
    ck_assert_int_eq(sides[1].ups, 2);
    ck_assert_int_eq(sides[0].restarts + sides[1].restarts, 0); /* both still hold the sessions */
    finish();
}
END_TEST

START_TEST(nobody_listens_and_then_somebody_does)
{
    prepare(true, false, 1);
    close(sides[1].listener);
    start_tunnel(0);
    step_until(strstr(tunnel_reason(sides[0].tunnel), "refused") != NULL);
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(sides[1].port)};
    int one = 1;
    sides[1].listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(sides[1].listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    ck_assert_int_eq(bind(sides[1].listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(sides[1].listener, 8), 0);
    start_tunnel(1);
    step_until(lanes_up(0) == 1 && lanes_up(1) == 1);
    finish();
}
END_TEST

START_TEST(a_wrong_pin_is_said)
{
    prepare(true, false, 1);
    memset(sides[0].peer.pins[0], 7, CONFIG_PIN_BYTES);
    start_tunnel(0);
    start_tunnel(1);
    step_until(strstr(tunnel_reason(sides[0].tunnel), "pin") != NULL);
    ck_assert_int_eq(sides[0].ups + sides[1].ups, 0);
    finish();
}
END_TEST

/* The other way round: we cannot know, but we say what may be the matter, and our pin. */
START_TEST(a_peer_that_does_not_know_our_pin_is_suspected)
{
    char pin[CONFIG_PIN_TEXT_MAX];
    identity_pin_format(keys[0].pin, pin);
    prepare(true, false, 1);
    memset(sides[1].peer.pins[0], 7, CONFIG_PIN_BYTES);
    start_tunnel(0);
    start_tunnel(1);
    step_until(strstr(tunnel_reason(sides[0].tunnel), pin) != NULL);
    ck_assert_int_eq(sides[0].ups + sides[1].ups, 0);
    finish();
}
END_TEST

/* Nor is it a fault of ours if it is not ready yet, and we come again. */
START_TEST(a_peer_that_is_being_started_is_suspected_too)
{
    prepare(true, false, 1);
    start_tunnel(0);
    step_until(strstr(tunnel_reason(sides[0].tunnel), "it is being started") != NULL);
    start_tunnel(1);
    step_until(lanes_up(0) == 1 && lanes_up(1) == 1);
    finish();
}
END_TEST

/* Both dial: one lane a slot stays, the same at both ends, and nobody is taken for one that started anew. */
START_TEST(both_dial_each_other)
{
    for (int round = 0; round < 10; round++) {
        prepare(true, true, 2);
        start_tunnel(0);
        for (int i = 0; i < round * 3; i++)
            step(); /* the second is later each time */
        start_tunnel(1);
        step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
        for (int i = 0; i < 50; i++)
            step(); /* what is still under way */
        step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
        ck_assert_msg(sides[0].restarts + sides[1].restarts == 0,
                      "round %d: %d and %d restarts, ups %d and %d", round, sides[0].restarts,
                      sides[1].restarts, sides[0].ups, sides[1].ups);
        finish();
    }
}
END_TEST

START_TEST(a_peer_that_started_anew_is_told_before_up)
{
    go_up(true, false, 2);
    stop_tunnel(1);
    step_until(sides[0].downs == 1);
    start_tunnel(1);
    step_until(lanes_up(0) == 2);
    ck_assert_int_eq(sides[0].restarts, 1);
    ck_assert_int_eq(sides[0].ups, 2);
    ck_assert_int_eq(sides[1].restarts, 0); /* it knew nobody before */
    finish();
}
END_TEST

/* Sessions are given up while a lane is under way: it is refused, and dialled again. round: how far it is. */
START_TEST(a_lane_that_greeted_as_before_is_dialled_again)
{
    for (int round = 0; round < 40; round++) {
        prepare(true, false, 1);
        start_tunnel(0);
        start_tunnel(1);
        for (int i = 0; i < round && lanes_up(_i) == 0; i++)
            step();
        if (lanes_up(_i) == 0)
            tunnel_forget(sides[_i].tunnel);
        step_until(lanes_up(0) == 1 && lanes_up(1) == 1);
        finish();
    }
}
END_TEST

/* _i: who gives the sessions up while the lanes are away; the other must hear of it. */
START_TEST(a_peer_that_forgot_us_is_told)
{
    prepare(true, false, 1);
    sides[0].busy = sides[1].busy = true; /* no lane is renewed under them */
    start_tunnel(0);
    start_tunnel(1);
    step_until(lanes_up(0) == 1 && lanes_up(1) == 1);
    for (int i = 0; i < 2; i++) {
        sides[i].to_send = 5; /* who never said anything holds nothing to forget */
        tunnel_kick(sides[i].tunnel);
    }
    step_until(sides[0].frames == 5 && sides[1].frames == 5);
    cut(0);
    step_until(sides[0].downs == 1 && sides[1].downs == 1);
    tunnel_forget(sides[_i].tunnel);
    step_until(lanes_up(0) == 1 && lanes_up(1) == 1);
    ck_assert_int_eq(sides[!_i].restarts, 1);
    ck_assert_int_eq(sides[_i].restarts, 0);
    finish();
}
END_TEST

START_TEST(another_pin_or_fewer_lanes_close_lanes)
{
    struct config_peer changed;
    go_up(true, false, 4);
    changed = sides[0].peer;
    changed.lanes = 2;
    tunnel_reconfigure(sides[0].tunnel, &changed);
    step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
    ck_assert_uint_eq(sides[0].lost_slots, 0xc);
    struct config_peer unpinned = changed;
    memset(unpinned.pins[0], 1, CONFIG_PIN_BYTES);
    tunnel_reconfigure(sides[0].tunnel, &unpinned);
    step_until(lanes_up(0) == 0 && lanes_up(1) == 0);
    tunnel_reconfigure(sides[0].tunnel, &changed);
    step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
    finish();
}
END_TEST

/* The other end does not turn: what waits is bounded, and goes on when it wakes. */
START_TEST(a_peer_that_sleeps_holds_us_back)
{
    prepare(true, false, 2);
    sides[0].busy = sides[1].busy = true; /* no lane is renewed under them */
    start_tunnel(0);
    start_tunnel(1);
    step_until(lanes_up(0) == 2 && lanes_up(1) == 2);
    sides[0].to_send = 60000;
    tunnel_kick(sides[0].tunnel);
    uint64_t was = 1;
    for (int still = 0; still < 50; still = was == sides[0].sent ? still + 1 : 0) {
        was = sides[0].sent;
        turn(true, false);
    }
    ck_assert_uint_lt(sides[0].sent, sides[0].to_send);
    step_until(sides[1].frames == sides[0].to_send);
    finish();
}
END_TEST

/* A peer may bring lanes, and lose them, as often as it likes in a turn of ours. */
START_TEST(many_lanes_end_in_one_turn)
{
    prepare(true, false, CONFIG_LANES_MAX);
    start_tunnel(1);
    sides[1].holds = true;
    for (int life = 1; life <= 3; life++) {
        start_tunnel(0);
        step_until(sides[1].delivered == life * CONFIG_LANES_MAX);
        stop_tunnel(0);
    }
    sides[1].holds = false;
    struct config_peer pinned = sides[1].peer, unpinned = pinned;
    memset(unpinned.pins[0], 1, CONFIG_PIN_BYTES);
    for (int i = 0; i < LANES_HELD; i++) {
        tunnel_reconfigure(sides[1].tunnel, &pinned);
        tunnel_adopt(sides[1].tunnel, sides[1].held[i]);
        tunnel_reconfigure(sides[1].tunnel, &unpinned);
        ck_assert_uint_eq(lanes_up(1), 0);
    }
    ck_assert_int_eq(sides[1].losts, LANES_HELD);
    finish();
}
END_TEST

START_TEST(a_tunnel_is_freed_at_any_moment)
{
    for (int steps = 0; steps < 60; steps++) {
        prepare(true, steps % 2 == 0, 3);
        start_tunnel(0);
        start_tunnel(1);
        for (int i = 0; i < steps; i++)
            step();
        finish();
    }
}
END_TEST

static void add(TCase *t)
{
    tcase_add_loop_test(t, as_many_lanes_come_up_as_are_wanted, 1, 5);
    tcase_add_test(t, frames_go_both_ways);
    tcase_add_test(t, pins_that_begin_alike_are_different_sources);
    tcase_add_loop_test(t, an_idle_tunnel_comes_to_rest, 1, 4);
    tcase_add_test(t, a_cut_is_told_and_dialled_again);
    tcase_add_test(t, nobody_listens_and_then_somebody_does);
    tcase_add_test(t, a_wrong_pin_is_said);
    tcase_add_test(t, a_peer_that_does_not_know_our_pin_is_suspected);
    tcase_add_test(t, a_peer_that_is_being_started_is_suspected_too);
    tcase_add_test(t, both_dial_each_other);
    tcase_add_test(t, a_peer_that_started_anew_is_told_before_up);
    tcase_add_loop_test(t, a_peer_that_forgot_us_is_told, 0, 2);
    tcase_add_loop_test(t, a_lane_that_greeted_as_before_is_dialled_again, 0, 2);
    tcase_add_test(t, another_pin_or_fewer_lanes_close_lanes);
    tcase_add_test(t, a_peer_that_sleeps_holds_us_back);
    tcase_add_test(t, many_lanes_end_in_one_turn);
    tcase_add_test(t, a_tunnel_is_freed_at_any_moment);
}

int main(void)
{
    return run_suite("tunnel", add);
}
