/* test_relay.c - a caught connection that goes direct: bytes, ends and resets through two legs on one loop,
 * and legs themselves. */
#include "flow/rig.h"

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
    tcase_add_test(t, many_come_and_go);
}

int main(void)
{
    return rig_main("relay", add);
}
