/* test_relay.c - a caught connection that goes direct: bytes, ends and resets through two legs on one loop,
 * and legs themselves. */
#include "flow/rig.h"

#include <sys/ioctl.h>

static struct rig_loop worker;
static struct leg_host host;
static uint16_t server_port;
static int server_listener;
static _Atomic int ended;

static void set_up(void)
{
    memset(&host, 0, sizeof(host));
    ck_assert_int_eq(loop_new(&worker.loop), 0);
    host.loop = worker.loop;
    server_listener = rig_listen(&server_port);
    atomic_store(&ended, 0);
    ck_assert_int_eq(pthread_create(&worker.thread, NULL, rig_run_loop, &worker), 0);
}

static void tear_down(void)
{
    rig_until(atomic_load(&host.live) == 0);
    loop_stop(worker.loop);
    pthread_join(worker.thread, NULL);
    loop_free(worker.loop);
    close(server_listener);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

static void on_ended(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ended, 1);
}

struct beginning {
    int fd;
    uint16_t port;
};

static void begin_it(void *arg)
{
    struct beginning *b = arg;
    struct leg_origin origin = {.client = rig_loopback(1),
                                .server = rig_loopback(b->port),
                                .source = CONFIG_SOURCE_SELF,
                                .timeout_us = 10000000};
    leg_host_reserve(&host, 2);
    ck_assert_int_eq(relay_start(&host, b->fd, &origin, on_ended, NULL), 0);
}

static int relay_to(uint16_t port)
{
    int fds[2];
    rig_tcp_pair(fds);
    struct beginning b = {.fd = fds[1], .port = port};
    rig_on(worker.loop, begin_it, &b);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    return fds[0];
}

static const uint64_t sizes[] = {0, 1, 1000, 65536, 262144, 262145, 9000000};

START_TEST(bytes_go_both_ways)
{
    struct rig_host hosts[2];
    int client = relay_to(server_port), server = rig_accept(server_listener);
    size_t count = sizeof(sizes) / sizeof(sizes[0]);
    rig_hosts(hosts, client, server, sizes[_i], sizes[count - 1 - (size_t)_i]);
    rig_transfer(hosts, 2);
    ck_assert_int_eq(hosts[0].err + hosts[1].err, 0);
    rig_until(atomic_load(&ended) == 1); /* by itself, before anybody closes */
    close(client);
    close(server);
}
END_TEST

START_TEST(half_closes_pass_in_both_orders)
{
    struct rig_host hosts[2];
    int client = relay_to(server_port), server = rig_accept(server_listener);
    rig_hosts(hosts, client, server, 500000, 400000);
    hosts[_i].wait_first = true;
    rig_transfer(hosts, 2);
    close(client);
    close(server);
    rig_until(atomic_load(&ended) == 1);
}
END_TEST

START_TEST(a_reset_passes)
{
    int fds[2];
    fds[0] = relay_to(server_port);
    fds[1] = rig_accept(server_listener);
    rig_reset(fds[_i]);
    rig_expect_reset(fds[!_i]);
    close(fds[!_i]);
    rig_until(atomic_load(&ended) == 1);
}
END_TEST

START_TEST(a_refusal_resets_the_client)
{
    uint16_t port;
    close(rig_listen(&port));
    int client = relay_to(port);
    rig_expect_reset(client);
    close(client);
    rig_until(atomic_load(&ended) == 1);
}
END_TEST

START_TEST(a_host_that_does_not_read_is_bounded)
{
    struct rig_host hosts[2];
    int client = relay_to(server_port), server = rig_accept(server_listener);
    rig_hosts(hosts, client, server, 50000000, 0);
    for (uint64_t still = 0, was = 1; still < 100; still = was == hosts[0].sent ? still + 1 : 0) {
        was = hosts[0].sent;
        rig_host_send(&hosts[0]);
        ck_assert(chunk_bytes_total() <
                  5 * RELAY_WINDOW_BYTES); /* a read of a quarter keeps its whole chunk */
        poll(NULL, 0, 1);
    }
    ck_assert_uint_lt(hosts[0].sent, 50000000);
    rig_transfer(hosts, 2);
    close(client);
    close(server);
    rig_until(atomic_load(&ended) == 1);
}
END_TEST

/* ---- a leg alone, its owner on the same loop ---- */

static struct {
    struct leg *leg;
    int fd;
    uint64_t allowed;
    _Atomic uint64_t got;
    _Atomic int eofs, closed, err;
} alone;

static void alone_connected(void *owner)
{
    (void)owner;
}

static void alone_data(void *owner, struct slice s)
{
    (void)owner;
    atomic_fetch_add(&alone.got, s.len);
    chunk_unref(s.chunk);
}

static void alone_eof(void *owner)
{
    (void)owner;
    atomic_fetch_add(&alone.eofs, 1);
}

static void alone_consumed(void *owner, uint64_t total)
{
    (void)owner, (void)total;
}

static void alone_closed(void *owner, int err)
{
    (void)owner;
    leg_release(alone.leg);
    atomic_store(&alone.err, err);
    atomic_fetch_add(&alone.closed, 1);
}

static const struct leg_events alone_events = {.connected = alone_connected,
                                               .data = alone_data,
                                               .eof = alone_eof,
                                               .consumed = alone_consumed,
                                               .closed = alone_closed};

static void begin_alone(void *arg)
{
    (void)arg;
    leg_host_reserve(&host, 1);
    alone.leg = leg_new(&host, worker.loop, &alone_events, NULL, alone.fd, NULL);
    ck_assert_ptr_nonnull(alone.leg);
    leg_start(alone.leg, alone.allowed);
}

static void allow_more(void *arg)
{
    leg_allow(alone.leg, *(const uint64_t *)arg);
}

/* A leg that may read so many bytes; returns the host's end. */
static int leg_alone(uint64_t allowed)
{
    int fds[2];
    rig_tcp_pair(fds);
    memset(&alone, 0, sizeof(alone));
    alone.fd = fds[1];
    alone.allowed = allowed;
    rig_on(worker.loop, begin_alone, NULL);
    return fds[0];
}

static void idle(void *arg)
{
    (void)arg;
}

/* Bytes that the leg may not read yet are there when this returns. */
static void say(int fd, size_t len)
{
    static const char bytes[4096];
    int unread = 0;
    ck_assert_int_eq(send(fd, bytes, len, MSG_NOSIGNAL), (int)len);
    rig_until(ioctl(alone.fd, FIONREAD, &unread) == 0 && (size_t)unread == len);
}

START_TEST(a_reset_is_met_while_nothing_may_be_read)
{
    rig_reset(leg_alone(0));
    rig_until(atomic_load(&alone.closed) == 1);
    ck_assert_int_eq(atomic_load(&alone.err), -ECONNRESET);
}
END_TEST

START_TEST(a_reset_after_an_end_is_met)
{
    int fd = leg_alone(1000);
    shutdown(fd, SHUT_WR);
    rig_until(atomic_load(&alone.eofs) == 1);
    ck_assert_int_eq(atomic_load(&alone.closed), 0);
    rig_reset(fd);
    rig_until(atomic_load(&alone.closed) == 1);
    ck_assert_int_eq(atomic_load(&alone.err), -ECONNRESET);
}
END_TEST

START_TEST(what_was_said_before_a_reset_waits_for_leave)
{
    uint64_t some = 1000, all = 3000;
    int fd = leg_alone(0);
    say(fd, all);
    rig_reset(fd);
    for (int turns = 0; turns < 100;
         turns++) /* the reset has come by then, or is met later: the same holds */
        rig_on(worker.loop, idle, NULL);
    rig_on(worker.loop, allow_more, &some);
    rig_until(atomic_load(&alone.got) == some);
    rig_on(worker.loop, allow_more, &all);
    rig_until(atomic_load(&alone.closed) == 1);
    ck_assert_uint_eq(atomic_load(&alone.got), all);
    ck_assert_int_eq(atomic_load(&alone.err), -ECONNRESET);
}
END_TEST

START_TEST(a_reset_is_told_though_what_was_said_before_is_never_let_through)
{
    int fd = leg_alone(0);
    say(fd, 3000);
    rig_reset(fd);
    rig_until(atomic_load(&alone.closed) == 1);
    ck_assert_uint_eq(atomic_load(&alone.got), 0);
    ck_assert_int_eq(atomic_load(&alone.err), -ECONNRESET);
}
END_TEST

START_TEST(many_come_and_go)
{
    for (int i = 0; i < 200; i++) {
        int client = relay_to(server_port), server = rig_accept(server_listener);
        if (i % 2 == 0)
            ck_assert_int_eq(send(client, "hello", 5, MSG_NOSIGNAL), 5);
        if (i % 3 == 0)
            rig_reset(client);
        else
            close(client);
        if (i % 5 == 0)
            rig_reset(server);
        else
            close(server);
    }
    rig_until(atomic_load(&ended) == 200);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, bytes_go_both_ways, 0, (int)(sizeof(sizes) / sizeof(sizes[0])));
    tcase_add_loop_test(t, half_closes_pass_in_both_orders, 0, 2);
    tcase_add_loop_test(t, a_reset_passes, 0, 2);
    tcase_add_test(t, a_refusal_resets_the_client);
    tcase_add_test(t, a_host_that_does_not_read_is_bounded);
    tcase_add_test(t, a_reset_is_met_while_nothing_may_be_read);
    tcase_add_test(t, a_reset_after_an_end_is_met);
    tcase_add_test(t, what_was_said_before_a_reset_waits_for_leave);
    tcase_add_test(t, a_reset_is_told_though_what_was_said_before_is_never_let_through);
    tcase_add_test(t, many_come_and_go);
}

int main(void)
{
    return rig_main("relay", add);
}
