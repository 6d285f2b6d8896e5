#include <errno.h>
/* test_mux.c - sessions between two muxes over real lanes on loopback: every byte, every kind of end. */
#include "flow/rig.h"

static struct rig rig;
static uint16_t server_port;
static int server_listener;

static void set_up(void)
{
    server_listener = rig_listen(&server_port);
}

static void tear_down(void)
{
    close(server_listener);
}

static void open_pair(int *client, int *server)
{
    *client = rig_connect(&rig, 0, server_port);
    *server = rig_accept(server_listener);
}

/* Both hosts' sockets are closed, and both nodes have forgotten the session. */
static void close_pair(int client, int server)
{
    close(client);
    close(server);
    rig_until(rig_sessions(&rig) == 0);
}

static const uint64_t sizes[] = {0, 1, 2, 100, 16383, 16384, 16385, 65536, 300000, 5000000};
enum { SIZE_COUNT = sizeof(sizes) / sizeof(sizes[0]) };

/* _i: how many threads. */
START_TEST(bytes_of_all_sizes_go_both_ways)
{
    rig_start(&rig, (struct rig_options){.loops = (unsigned)_i});
    rig_wait_up(&rig);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        int client, server;
        struct rig_host hosts[2];
        open_pair(&client, &server);
        rig_hosts(hosts, client, server, sizes[i], sizes[SIZE_COUNT - 1 - i]);
        rig_transfer(hosts, 2);
        ck_assert_int_eq(hosts[0].err, 0);
        ck_assert_int_eq(hosts[1].err, 0);
        close_pair(client, server);
    }
    rig_end(&rig);
}
END_TEST

enum { MANY = 60 };

static void many_sessions(struct rig_host hosts[2 * MANY], uint64_t most)
{
    for (unsigned i = 0; i < MANY; i++) {
        int client, server, side = i % 2;
        client = rig_connect(&rig, side, server_port);
        server = rig_accept(server_listener);
        rig_hosts(&hosts[2 * i], client, server, (most * (i % 7)) / 6, (most * (i % 5)) / 4);
    }
}

static void close_many(struct rig_host hosts[2 * MANY])
{
    for (unsigned i = 0; i < 2 * MANY; i++) {
        ck_assert_msg(hosts[i].err == 0, "host %u: %s", i, strerror(hosts[i].err));
        close(hosts[i].fd);
    }
    rig_until(rig_sessions(&rig) == 0);
}

START_TEST(many_sessions_from_both_sides)
{
    static struct rig_host hosts[2 * MANY];
    rig_start(&rig, (struct rig_options){.loops = (unsigned)_i});
    rig_wait_up(&rig);
    many_sessions(hosts, 400000);
    rig_transfer(hosts, 2 * MANY);
    close_many(hosts);
    rig_end(&rig);
}
END_TEST

/* One host sends and ends; only then the other answers. _i & 1: who is first. */
START_TEST(a_half_stays_open_after_the_other_has_ended)
{
    int client, server;
    struct rig_host hosts[2];
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig_wait_up(&rig);
    open_pair(&client, &server);
    rig_hosts(hosts, client, server, 700000, 900000);
    hosts[_i].wait_first = true;
    rig_transfer(hosts, 2);
    ck_assert(hosts[0].ended && hosts[1].ended);
    close_pair(client, server);
    rig_end(&rig);
}
END_TEST

static bool is_silent(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

/* Bytes sent after the other direction's end are not taken for an end of both. */
START_TEST(an_end_of_one_direction_is_not_told_to_the_other)
{
    int client, server;
    char c;
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig_wait_up(&rig);
    open_pair(&client, &server);
    shutdown(client, SHUT_WR);
    rig_until(recv(server, &c, 1, 0) == 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(send(server, "x", 1, MSG_NOSIGNAL), 1);
        rig_until(recv(client, &c, 1, 0) == 1);
        ck_assert(is_silent(client));
    }
    shutdown(server, SHUT_WR);
    rig_until(recv(client, &c, 1, 0) == 0);
    close_pair(client, server);
    rig_end(&rig);
}
END_TEST

/* ---- resets ---- */

enum reset_stage { AT_ONCE, AFTER_BYTES, AFTER_OWN_END, AFTER_THEIR_END, STAGES };

/* _i: stage, and who resets. */
START_TEST(a_reset_reaches_the_other_host)
{
    int fds[2];
    char c;
    enum reset_stage stage = (enum reset_stage)(_i / 2);
    int who = _i % 2;
    rig_start(&rig, (struct rig_options){.loops = 4});
    rig_wait_up(&rig);
    open_pair(&fds[0], &fds[1]);
    if (stage == AFTER_BYTES) {
        ck_assert_int_eq(send(fds[who], "x", 1, MSG_NOSIGNAL), 1);
        rig_until(recv(fds[!who], &c, 1, 0) == 1);
    }
    if (stage == AFTER_OWN_END) {
        shutdown(fds[who], SHUT_WR);
        rig_until(recv(fds[!who], &c, 1, 0) == 0);
    }
    if (stage == AFTER_THEIR_END) {
        shutdown(fds[!who], SHUT_WR);
        rig_until(recv(fds[who], &c, 1, 0) == 0);
    }
    rig_reset(fds[who]);
    if (stage == AFTER_OWN_END)
        rig_until(send(fds[!who], "x", 1, MSG_NOSIGNAL) < 0); /* the end was read: only writing tells */
    else
        rig_expect_reset(fds[!who]);
    close(fds[!who]);
    rig_until(rig_sessions(&rig) == 0);
    rig_end(&rig);
}
END_TEST

/* A host resets while bytes of it wait for credit: they are dropped, and the other half must not wait for
 * them. */
START_TEST(a_reset_with_bytes_that_were_never_sent)
{
    int fds[2], who = _i;
    rig_start(&rig, (struct rig_options){.loops = 2, .session_floor = 16384, .growth = 1});
    rig_wait_up(&rig);
    open_pair(&fds[0], &fds[1]);
    struct rig_host h = {.fd = fds[who], .seed_out = 5, .send = 1ull << 40, .keep_open = true};
    /* the other host does not read: send until the socket has been full for a while */
    for (int full = 0; full < 200;) {
        uint64_t was = h.sent;
        rig_host_send(&h);
        full = h.sent == was ? full + 1 : 0;
        poll(NULL, 0, 1);
    }
    rig_reset(fds[who]);
    rig_expect_reset(fds[!who]);
    close(fds[!who]);
    rig_until(rig_sessions(&rig) == 0);
    rig_end(&rig);
}
END_TEST

/* Often: while the first lane is renewed, a reset may go out after the bytes before it were lost with that
 * lane, and the other half must not wait for them. */
START_TEST(a_client_that_vanishes_before_its_open_is_answered)
{
    rig_start(&rig, (struct rig_options){.loops = 4});
    rig_wait_up(&rig);
    for (int i = 0; i < 50; i++) {
        int client = rig_connect(&rig, i % 2, server_port);
        if (i % 3 == 0)
            ck_assert_int_eq(send(client, "hello", 5, MSG_NOSIGNAL), 5);
        if (i % 4 < 2)
            rig_reset(client);
        else
            close(client);
    }
    rig_until(atomic_load(&rig.nodes[0].sessions) <= 50);
    /* those that only closed live until the server closes too */
    while (rig_sessions(&rig) > 0) {
        struct pollfd p = {.fd = server_listener, .events = POLLIN};
        if (poll(&p, 1, 1) == 1)
            close(rig_accept(server_listener));
    }
    rig_end(&rig);
}
END_TEST

/* ---- refusals ---- */

/* The client is reset and the reason told; again, where that was lost with a lane that was being renewed: the
 * answer to the second OPEN of a session knows it no more. */
static void expect_refused(uint16_t port, enum frame_rst_reason reason)
{
    do {
        int client = rig_connect(&rig, 0, port);
        ssize_t sent = send(client, "GET", 3, MSG_NOSIGNAL);
        if (sent == 3)
            rig_expect_reset(client);
        else /* it was quicker than we are, and is told only once */
            ck_assert_int_eq(errno, ECONNRESET);
        close(client);
    } while (atomic_load(&rig.nodes[0].refused_reason) == FRAME_RST_UNKNOWN);
    ck_assert_int_eq(atomic_load(&rig.nodes[0].refused_reason), (int)reason);
}

START_TEST(a_refused_destination_resets_the_client_and_is_told)
{
    uint16_t closed_port;
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig_wait_up(&rig);
    close(rig_listen(&closed_port));
    expect_refused(closed_port, FRAME_RST_REFUSED);
    rig_until(rig_sessions(&rig) == 0);
    rig_end(&rig);
}
END_TEST

START_TEST(a_forbidden_open_resets_the_client)
{
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig_wait_up(&rig);
    atomic_store(&rig.nodes[1].admit_reason, FRAME_RST_FORBIDDEN);
    expect_refused(server_port, FRAME_RST_FORBIDDEN);
    rig_until(rig_sessions(&rig) == 0);
    atomic_store(&rig.nodes[1].admit_reason, FRAME_RST_OTHER);
    int client, server;
    open_pair(&client, &server);
    close_pair(client, server);
    rig_end(&rig);
}
END_TEST

START_TEST(past_the_budget_of_sessions_an_open_is_refused)
{
    int client, server;
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig.nodes[1].sessions_max = 1;
    rig_wait_up(&rig);
    open_pair(&client, &server);
    expect_refused(server_port, FRAME_RST_OVERLOAD);
    close_pair(client, server);
    rig_end(&rig);
}
END_TEST

static void read_acked(void *arg)
{
    const struct session *s = TAILQ_FIRST(&rig.nodes[0].mux->sessions);
    *(uint64_t *)arg = s != NULL ? s->replay.acked : 0;
}

static uint64_t acked(void)
{
    uint64_t bytes = 0;
    rig_on(rig.nodes[0].home.loop, read_acked, &bytes);
    return bytes;
}

static void give_up(void *arg)
{
    struct rig_node *n = arg;
    session_reset(TAILQ_FIRST(&n->mux->sessions), FRAME_RST_OVERLOAD);
}

/* The server has said nothing yet, but taken bytes: it was reached. */
START_TEST(an_upload_that_is_given_up_is_no_refused_connect)
{
    int client, server;
    struct rig_host hosts[2];
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig_wait_up(&rig);
    open_pair(&client, &server);
    rig_hosts(hosts, client, server, 1000000, 0);
    hosts[0].keep_open = hosts[1].keep_open = true;
    rig_transfer(hosts, 2);
    rig_until(acked() > 0);
    rig_on(rig.nodes[1].home.loop, give_up, &rig.nodes[1]);
    rig_expect_reset(client);
    ck_assert_int_eq(atomic_load(&rig.nodes[0].refused), 0);
    close_pair(client, server);
    rig_end(&rig);
}
END_TEST

/* ---- lanes that die ---- */

/* _i & 1: all lanes or one at a time; the threads vary. Every byte must still be right. */
START_TEST(lanes_are_cut_in_the_middle)
{
    static struct rig_host hosts[2 * MANY];
    rig_start(&rig, (struct rig_options){.loops = _i < 2 ? 1 : 4, .lanes = _i % 2 == 0 ? 2 : 4});
    rig_wait_up(&rig);
    many_sessions(hosts, 3000000);
    int cuts = 0;
    uint64_t next = 0;
    for (;;) {
        uint64_t got = 0;
        bool done = rig_turn(hosts, 2 * MANY, 20);
        for (unsigned i = 0; i < 2 * MANY; i++) {
            ck_assert_msg(hosts[i].err == 0, "host %u: %s after %llu", i, strerror(hosts[i].err),
                          (unsigned long long)hosts[i].got);
            got += hosts[i].got;
        }
        if (done)
            break;
        if (got >= next && cuts < 8 && rig_cut(&rig, _i % 2 == 0 ? -1 : cuts % 2) > 0) {
            cuts++;
            next = got + 8000000;
        }
    }
    ck_assert_int_ge(cuts, 1);
    close_many(hosts);
    rig_end(&rig);
}
END_TEST

/* Sessions open, end and reset while lanes come and go: none is left behind. */
START_TEST(nothing_is_left_when_sessions_end_while_lanes_die)
{
    int server[64], count = 0;
    rig_start(&rig, (struct rig_options){.loops = 1 + (unsigned)_i % 4});
    rig_wait_up(&rig);
    for (int i = 0; i < 300; i++) {
        int client = rig_connect(&rig, i % 2, server_port);
        if (i % 5 != 0)
            ck_assert_int_eq(send(client, "hello", 5, MSG_NOSIGNAL), 5);
        if (i % 25 == 0)
            rig_cut(&rig, i % 50 == 0 ? -1 : 0);
        if (i % 3 == 0)
            rig_reset(client);
        else
            close(client);
        struct pollfd p = {.fd = server_listener, .events = POLLIN};
        while (count < 64 && poll(&p, 1, 0) == 1)
            server[count++] = rig_accept(server_listener);
        while (count > 32) {
            count--;
            if (count % 2 == 0)
                rig_reset(server[count]);
            else
                close(server[count]);
        }
    }
    while (count > 0)
        close(server[--count]);
    uint64_t from = clock_now_us();
    while (rig_sessions(&rig) > 0) {
        struct pollfd p = {.fd = server_listener, .events = POLLIN};
        if (poll(&p, 1, 5) == 1)
            close(rig_accept(server_listener));
        ck_assert_msg(clock_now_us() - from < RIG_HANG_S * 1000000ull, "%u and %u sessions are left",
                      atomic_load(&rig.nodes[0].sessions), atomic_load(&rig.nodes[1].sessions));
    }
    rig_end(&rig);
}
END_TEST

/* ---- memory ---- */

/* Nobody reads: what the nodes hold stays under what was granted, and everything arrives once somebody reads.
 */
START_TEST(a_host_that_does_not_read_is_bounded)
{
    enum { GROWTH = 8 << 20, COUNT = 8 };
    struct rig_host hosts[2 * COUNT];
    uint64_t sent = 0, was = 1;
    rig_start(&rig, (struct rig_options){.loops = 2, .session_floor = 65536, .growth = GROWTH});
    rig_wait_up(&rig);
    for (int i = 0; i < COUNT; i++) {
        int client, server;
        open_pair(&client, &server);
        rig_hosts(&hosts[2 * i], client, server, 30000000, 0);
    }
    for (int still = 0; still < 300; still = sent == was ? still + 1 : 0) {
        was = sent;
        sent = 0;
        for (int i = 0; i < COUNT; i++) {
            rig_host_send(&hosts[2 * i]);
            sent += hosts[2 * i].sent;
        }
        /* both nodes: windows and replay; twice for partly used chunks, and lanes' own */
        ck_assert_uint_lt(chunk_bytes_total(), 2 * (2 * (GROWTH + 2 * COUNT * 65536) + (8 << 20)));
        poll(NULL, 0, 1);
    }
    ck_assert_uint_lt(sent, (uint64_t)COUNT * 30000000);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_le(budget_used(&rig.nodes[i].memory.growth), GROWTH);
    rig_transfer(hosts, 2 * COUNT);
    for (int i = 0; i < 2 * COUNT; i++)
        close(hosts[i].fd);
    rig_until(rig_sessions(&rig) == 0);
    rig_end(&rig);
}
END_TEST

/* With next to no memory beyond the floor everything is slow, and right. */
START_TEST(the_least_of_memory_still_moves_bytes)
{
    static struct rig_host hosts[2 * MANY];
    rig_start(&rig,
              (struct rig_options){.loops = 2, .session_floor = 8192, .growth = 1, .opening_credit = 20000});
    rig_wait_up(&rig);
    many_sessions(hosts, 200000);
    rig_transfer(hosts, 2 * MANY);
    close_many(hosts);
    rig_end(&rig);
}
END_TEST

/* ---- ends and changes ---- */

START_TEST(a_mux_ends_with_live_sessions)
{
    static struct rig_host hosts[2 * MANY];
    rig_start(&rig, (struct rig_options){.loops = (unsigned)_i});
    rig_wait_up(&rig);
    many_sessions(hosts, 4000000);
    for (int i = 0; i < 20; i++)
        rig_turn(hosts, 2 * MANY, 1);
    rig_end(&rig);
    for (unsigned i = 0; i < 2 * MANY; i++)
        close(hosts[i].fd);
}
END_TEST

/* One node ends while the other goes on opening: `gone` comes all the same. */
START_TEST(a_mux_ends_while_the_peer_opens)
{
    int clients[400];
    rig_start(&rig, (struct rig_options){.loops = 4});
    rig_wait_up(&rig);
    for (int i = 0; i < 400; i++) {
        clients[i] = rig_connect(&rig, 0, server_port);
        if (i == 200)
            rig_on(rig.nodes[1].home.loop, rig_end_mux, &rig.nodes[1]);
    }
    rig_until(atomic_load(&rig.nodes[1].gone));
    rig_end(&rig);
    for (int i = 0; i < 400; i++)
        close(clients[i]);
}
END_TEST

struct change {
    struct rig_node *node;
    struct config *config;
};

static void change_config(void *arg)
{
    struct change *c = arg;
    mux_reconfigure(c->node->mux, c->config, 0);
}

static void reconfigure(int number, const char *classes, unsigned lanes)
{
    struct change c = {.node = &rig.nodes[number], .config = rig_config(&rig, number, classes, lanes)};
    rig_on(c.node->home.loop, change_config, &c);
    config_unref(c.config); /* the mux has its own reference */
}

START_TEST(the_configuration_changes_under_running_sessions)
{
    static const char *const classes[] = {
        "[class a]\nports = 1\nweight = 3\n[class b]\nports = 2\nweight = 0\n",
        "[class b]\nports = 2\nweight = 7\n",
        "",
        "[class c]\nports = 3\n[class b]\nports = 2\n[class a]\nports = 1\n",
    };
    static struct rig_host hosts[2 * MANY];
    rig_start(&rig, (struct rig_options){.loops = 2, .classes = classes[0]});
    rig_wait_up(&rig);
    for (unsigned i = 0; i < MANY; i++) {
        int client = rig_connect_class(&rig, 0, server_port, (int)(i % 3) - 1);
        rig_hosts(&hosts[2 * i], client, rig_accept(server_listener), 3000000, 100000);
    }
    for (int i = 0; !rig_turn(hosts, 2 * MANY, 10); i++) {
        if (i % 40 == 20)
            reconfigure(i / 40 % 2, classes[i / 40 % 4], 1 + (unsigned)i / 40 % 4);
    }
    close_many(hosts);
    rig_end(&rig);
}
END_TEST

START_TEST(both_nodes_dial_each_other)
{
    static struct rig_host hosts[2 * MANY];
    rig_start(&rig, (struct rig_options){.loops = 4, .dial = {true, true}});
    many_sessions(hosts, 300000); /* from the first moment on */
    rig_wait_up(&rig);
    rig_transfer(hosts, 2 * MANY);
    close_many(hosts);
    rig_end(&rig);
}
END_TEST

/* The peer is away for longer than sessions are held: they are reset, and new ones work. */
START_TEST(sessions_are_given_up_after_the_hold_time)
{
    int client, server, other;
    rig_start(&rig, (struct rig_options){.loops = 2, .hold_s = 1});
    rig_wait_up(&rig);
    open_pair(&client, &server);
    rig_on(rig.nodes[1].home.loop, rig_end_mux, &rig.nodes[1]);
    rig_until(atomic_load(&rig.nodes[1].gone));
    rig_expect_reset(client);
    rig_until(atomic_load(&rig.nodes[0].sessions) == 0);
    close(client);
    close(server);
    atomic_store(&rig.nodes[1].gone, false);
    atomic_store(&rig.nodes[1].up, false);
    rig_on(rig.nodes[1].home.loop, rig_start_node, &rig.nodes[1]);
    rig_wait_up(&rig);
    open_pair(&client, &other);
    close_pair(client, other);
    rig_end(&rig);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, bytes_of_all_sizes_go_both_ways, 1, 5);
    tcase_add_loop_test(t, many_sessions_from_both_sides, 1, 5);
    tcase_add_loop_test(t, a_half_stays_open_after_the_other_has_ended, 0, 2);
    tcase_add_test(t, an_end_of_one_direction_is_not_told_to_the_other);
    tcase_add_loop_test(t, a_reset_reaches_the_other_host, 0, 2 * STAGES);
    tcase_add_loop_test(t, a_reset_with_bytes_that_were_never_sent, 0, 2);
    tcase_add_loop_test(t, a_client_that_vanishes_before_its_open_is_answered, 0, 20);
    tcase_add_test(t, a_refused_destination_resets_the_client_and_is_told);
    tcase_add_test(t, a_forbidden_open_resets_the_client);
    tcase_add_test(t, past_the_budget_of_sessions_an_open_is_refused);
    tcase_add_test(t, an_upload_that_is_given_up_is_no_refused_connect);
    tcase_add_loop_test(t, lanes_are_cut_in_the_middle, 0, 4);
    tcase_add_loop_test(t, nothing_is_left_when_sessions_end_while_lanes_die, 0, 12);
    tcase_add_test(t, a_host_that_does_not_read_is_bounded);
    tcase_add_test(t, the_least_of_memory_still_moves_bytes);
    tcase_add_loop_test(t, a_mux_ends_with_live_sessions, 1, 5);
    tcase_add_test(t, a_mux_ends_while_the_peer_opens);
    tcase_add_test(t, the_configuration_changes_under_running_sessions);
    tcase_add_loop_test(t, both_nodes_dial_each_other, 0, 10);
    tcase_add_test(t, sessions_are_given_up_after_the_hold_time);
}

int main(void)
{
    return rig_main("mux", add);
}
