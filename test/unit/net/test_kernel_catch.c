/* test_kernel_catch.c - who is caught, who goes direct, who is refused: connections in three namespaces. */
#include "kernel_bed.h"

START_TEST(caught_only_while_a_peer_is_up)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    struct endpoint e;
    int client;
    kernel_up("");
    goes_to("10.2.0.2", WEB, web4);
    peers_up(true, false);
    int accepted = arrives("10.2.0.2", WEB, catch4, &client);
    ck_assert_int_eq(getsockname(accepted, (struct sockaddr *)&name, &len), 0);
    ck_assert_int_eq(endpoint_from_sockaddr(&e, (struct sockaddr *)&name), 0);
    ck_assert_int_eq(e.port, WEB);
    char text[ADDR_TEXT_MAX];
    ck_assert_str_eq(addr_format(&e.addr, text), "10.2.0.2");
    peers_up(false, false);
    goes_to("10.2.0.2", WEB, web4);
    send_and_see(client, accepted, "a caught one lives on");
    send_and_see(accepted, client, "both ways");
    pair_close(client, accepted);
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    kernel_down();
    goes_to("10.2.0.2", WEB, web4);
}
END_TEST

START_TEST(caught_in_ipv6)
{
    if (!have_ipv6)
        return;
    kernel_up("");
    goes_to("fd00:2::2", WEB, web6);
    peers_up(true, false);
    goes_to("fd00:2::2", WEB, catch6);
    peers_up(false, true);
    goes_to("fd00:2::2", WEB, web6);
    kernel_down();
}
END_TEST

START_TEST(network_of_a_peer_that_is_down)
{
    enter(server_ns);
    must("ip address add 10.2.7.1/32 dev lo");
    enter(gateway_ns);
    must("ip route add 10.2.7.0/24 via 10.2.0.2");
    kernel_up("");
    peers_up(true, false);
    goes_to("10.2.7.1", WEB, web4);
    goes_to("10.2.0.2", WEB, catch4);
    peers_up(false, true);
    goes_to("10.2.7.1", WEB, catch4);
    goes_to("10.2.0.2", WEB, web4);
    kernel_down();
}
END_TEST

static uint64_t counted(void)
{
    uint64_t count = UINT64_MAX;
    ck_assert_int_eq(kernel_count_peer_down(kernel, &count), 0);
    return count;
}

/* Only what would have been caught is counted, and a reload keeps the count. A SYN may be sent twice. */
START_TEST(connections_to_a_peer_that_is_down_are_counted)
{
    kernel_up("");
    ck_assert_uint_eq(counted(), 0);
    goes_to("10.2.0.2", WEB, web4);
    uint64_t first = counted();
    ck_assert_uint_ge(first, 1);
    if (have_ipv6)
        goes_to("fd00:2::2", WEB, web6);
    uint64_t both = counted();
    ck_assert(have_ipv6 ? both > first : both == first);
    struct config *again = config_of("", "[class b]\nports = 8080\naction = bypass\n");
    ck_assert_msg(kernel_reconfigure(kernel, again, error) == 0, "%s", error);
    config_unref(again);
    goes_to("10.2.0.2", WEB, web4); /* direct, but for other reasons, here and below */
    ck_assert_uint_eq(counted(), both);
    again = config_of("", "");
    ck_assert_msg(kernel_reconfigure(kernel, again, error) == 0, "%s", error);
    config_unref(again);
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    close_catchers();
    goes_to("10.2.0.2", WEB, web4);
    ck_assert_uint_eq(counted(), both);
    kernel_down();
}
END_TEST

START_TEST(listener_is_the_switch)
{
    int client;
    kernel_up("");
    peers_up(true, true);
    int accepted = arrives("10.2.0.2", WEB, catch4, &client);
    close_catchers();
    goes_to("10.2.0.2", WEB, web4);
    if (have_ipv6)
        goes_to("fd00:2::2", WEB, web6);
    send_and_see(client, accepted, "a caught one lives on");
    send_and_see(accepted, client, "both ways");
    pair_close(client, accepted);
    open_catchers();
    goes_to("10.2.0.2", WEB, catch4);
    kernel_down();
}
END_TEST

START_TEST(running_connections_survive)
{
    int client, client6 = -1, accepted6 = -1, accepted = arrives("10.2.0.2", WEB, web4, &client);
    if (have_ipv6)
        accepted6 = arrives("fd00:2::2", WEB, web6, &client6);
    kernel_up("");
    peers_up(true, true);
    send_and_see(client, accepted, "while it starts");
    send_and_see(accepted, client, "back");
    if (have_ipv6) {
        send_and_see(client6, accepted6, "while it starts");
        send_and_see(accepted6, client6, "back");
        pair_close(client6, accepted6);
    }
    struct config *again = config_of("", "[class x]\nports = 1\naction = deny\n");
    ck_assert_msg(kernel_reconfigure(kernel, again, error) == 0, "%s", error);
    config_unref(again);
    send_and_see(client, accepted, "after a reload");
    kernel_down();
    send_and_see(client, accepted, "after the end");
    send_and_see(accepted, client, "back");
    pair_close(client, accepted);
}
END_TEST

/* The last packet of a handshake with cookies finds no socket: only the conntrack mark tells that it is ours.
 */
START_TEST(syn_cookies)
{
    must("sysctl -qw net.ipv4.tcp_syncookies=2");
    kernel_up("");
    peers_up(true, true);
    for (int i = 0; i < 5; i++)
        goes_to("10.2.0.2", WEB, catch4);
    if (have_ipv6)
        goes_to("fd00:2::2", WEB, catch6);
    kernel_down();
}
END_TEST

/* A SYN was caught and dropped, because the listener's queue was full; its conntrack entry has the mark. The
 * listener closes (too many sessions), so the SYN that is sent again goes direct. When the listener is back,
 * that connection must not be taken for ours. */
START_TEST(conntrack_mark_is_cleared_by_a_direct_syn)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(WEB)};
    int waiting[2];
    inet_pton(AF_INET, "10.2.0.2", &to.sin_addr);
    must("sysctl -qw net.ipv4.tcp_syncookies=0");
    kernel_up("");
    peers_up(true, true);
    ck_assert_int_eq(listen(catch4, 1), 0); /* room for two */
    for (int i = 0; i < 2; i++) {
        int err;
        waiting[i] = connect_from(client_ns, "10.2.0.2", WEB, &err);
        ck_assert_int_eq(err, 0);
        ck_assert(ready(catch4, POLLIN));
    }
    enter(client_ns);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert(connect(client, (struct sockaddr *)&to, sizeof(to)) < 0 && errno == EINPROGRESS);
    enter(gateway_ns);
    close_catchers();
    ck_assert(ready(web4, POLLIN));
    int accepted = accept4(web4, NULL, NULL, SOCK_CLOEXEC);
    ck_assert(ready(client, POLLOUT));
    open_catchers();
    send_and_see(client, accepted, "still direct");
    send_and_see(accepted, client, "both ways");
    pair_close(client, accepted);
    pair_close(waiting[0], waiting[1]);
    kernel_down();
}
END_TEST

START_TEST(refused_goes_direct)
{
    struct endpoint e;
    kernel_up("");
    peers_up(true, true);
    endpoint_at(&e, "10.2.0.2", WEB);
    ck_assert_msg(kernel_add_refused(kernel, &e, 60, error) == 0, "%s", error);
    ck_assert_msg(kernel_add_refused(kernel, &e, 60, error) == 0, "%s", error);
    const char *text = output("nft list set inet hawser refused4");
    ck_assert_msg(strstr(text, "10.2.0.2 . 8080 timeout 1m") != NULL, "%s", text);
    goes_to("10.2.0.2", WEB, web4);
    goes_to("10.2.0.2", OTHER, catch4);
    struct config *again = config_of("", "");
    ck_assert_msg(kernel_reconfigure(kernel, again, error) == 0, "%s", error);
    peers_up(true, false);
    config_unref(again);
    goes_to("10.2.0.2", WEB, web4);
    if (have_ipv6) {
        endpoint_at(&e, "fd00:2::2", WEB);
        goes_to("fd00:2::2", WEB, catch6);
        ck_assert_msg(kernel_add_refused(kernel, &e, 60, error) == 0, "%s", error);
        goes_to("fd00:2::2", WEB, web6);
    }
    kernel_down();
}
END_TEST

START_TEST(refused_are_bounded)
{
    enum { ROUND = 8192 };
    struct endpoint e;
    size_t before = 0;
    kernel_up("");
    peers_up(true, true);
    for (int i = 0; i < ROUND + 64; i++) {
        char host[ADDR_TEXT_MAX];
        snprintf(host, sizeof(host), "10.2.%d.%d", i / 250, i % 250 + 1);
        endpoint_at(&e, host, WEB);
        int err = kernel_add_refused(kernel, &e, 3600, error);
        ck_assert_int_eq(err, i < ROUND ? 0 : -ENFILE);
        if (i == 1000)
            before = mallinfo2().uordblks;
    }
    ck_assert_uint_lt(mallinfo2().uordblks, before + (1 << 20));
    goes_to("10.2.0.2", WEB, web4);
    goes_to("10.2.0.2", OTHER, catch4);
    kernel_down();
}
END_TEST

START_TEST(peers_change_often)
{
    size_t before = 0;
    kernel_up("");
    for (int i = 0; i < 600; i++) {
        peers_up(i % 2 == 0, i % 3 == 0);
        if (i == 100)
            before = mallinfo2().uordblks;
    }
    ck_assert_uint_lt(mallinfo2().uordblks, before + (1 << 20));
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    kernel_down();
}
END_TEST

START_TEST(classes_decide)
{
    kernel_up("[class direct]\nports = 8081\naction = bypass\n"
              "[class no]\nports = 8080-8090\nfrom = 10.1.0.0/24\naction = deny\n"
              "[class web]\nports = 8080\naction = bypass\n");
    ck_assert(is_refused("10.2.0.2", WEB)); /* although no peer is up */
    peers_up(true, true);
    ck_assert(is_refused("10.2.0.2", WEB));
    goes_to("10.2.0.2", OTHER, other4);
    if (have_ipv6)
        goes_to("fd00:2::2", WEB, web6); /* "no" speaks of IPv4 addresses; "web" fits */
    struct config *again =
        config_of("", "[class yes]\nports = 8080\nto = 10.2.0.0/24\niface = lan0\npeer = hub\n"
                      "action = accelerate\n[class no]\naction = deny\n");
    ck_assert_msg(kernel_reconfigure(kernel, again, error) == 0, "%s", error);
    goes_to("10.2.0.2", WEB, catch4);
    ck_assert(is_refused("10.2.0.2", OTHER));
    if (have_ipv6)
        ck_assert(is_refused("fd00:2::2", WEB));
    config_unref(again);
    kernel_down();
}
END_TEST

START_TEST(deny_takes_new_connections_only)
{
    int client, accepted = arrives("10.2.0.2", WEB, web4, &client);
    kernel_up("[class no]\naction = deny\n");
    ck_assert(is_refused("10.2.0.2", WEB));
    send_and_see(client, accepted, "still");
    send_and_see(accepted, client, "there");
    pair_close(client, accepted);
    kernel_down();
}
END_TEST

START_TEST(class_by_dscp)
{
    struct endpoint e;
    struct sockaddr_storage to;
    int tos = 46 << 2;
    kernel_up("[class voice]\ndscp = 46\naction = bypass\n");
    peers_up(true, true);
    endpoint_at(&e, "10.2.0.2", WEB);
    socklen_t len = endpoint_to_sockaddr(&e, &to);
    enter(client_ns);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_IP, IP_TOS, &tos, sizeof(tos)), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, len), 0);
    enter(gateway_ns);
    ck_assert(ready(web4, POLLIN));
    close(fd);
    goes_to("10.2.0.2", OTHER, catch4);
    kernel_down();
}
END_TEST

/* 10.2.0.1 lies in the peer's networks but is ours; so does the address of a tunnel. */
START_TEST(own_and_peers_addresses)
{
    kernel_up("[peer third]\npin = ACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\naddress = 10.2.0.2:4430\n"
              "networks = 10.4.0.0/24\n");
    const bool up[] = {true, true, true};
    ck_assert_int_eq(kernel_set_peers(kernel, config, up, error), 0);
    int own = listen_at(gateway_ns, "0.0.0.0", WEB, false);
    goes_to("10.2.0.1", WEB, own);
    goes_to("10.2.0.2", WEB, web4);
    close(own);
    kernel_down();
}
END_TEST

/* The far half speaks in the client's name; the server's answers must come back to its socket. */
START_TEST(replies_to_a_borrowed_address_come_back)
{
    struct sockaddr_in client = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(WEB)},
                       peer;
    socklen_t len = sizeof(peer);
    int on = 1, mark = 2;
    config = config_of("", "");
    config->interface_count = 0; /* a node that only originates */
    ck_assert_msg(kernel_new(&kernel, config, error) == 0, "%s", error);
    inet_pton(AF_INET, "10.1.0.2", &client.sin_addr);
    inet_pton(AF_INET, "10.2.0.2", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof(on)), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&client, sizeof(client)), 0);
    ck_assert(connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno == EINPROGRESS);
    ck_assert(ready(web4, POLLIN));
    int accepted = accept4(web4, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
    ck_assert_int_ge(accepted, 0);
    ck_assert_uint_eq(peer.sin_addr.s_addr, client.sin_addr.s_addr);
    send_and_see(fd, accepted, "in the client's name");
    send_and_see(accepted, fd, "and back");
    pair_close(fd, accepted);
    kernel_down();
}
END_TEST

/* With src_valid_mark (as wg-quick sets it) the reverse path check looks routes up with the packet's mark;
 * with tcp_fwmark_accept the answers are routed by it. */
START_TEST(strict_reverse_path)
{
    must("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lan0.rp_filter=1 "
         "net.ipv4.conf.wan0.rp_filter=1");
    kernel_up("");
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    must("sysctl -qw net.ipv4.conf.all.src_valid_mark=1");
    goes_to("10.2.0.2", WEB, catch4);
    must("sysctl -qw net.ipv4.tcp_fwmark_accept=1");
    goes_to("10.2.0.2", WEB, catch4);
    if (have_ipv6)
        goes_to("fd00:2::2", WEB, catch6);
    kernel_down();
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, caught_only_while_a_peer_is_up);
    tcase_add_test(t, caught_in_ipv6);
    tcase_add_test(t, network_of_a_peer_that_is_down);
    tcase_add_test(t, connections_to_a_peer_that_is_down_are_counted);
    tcase_add_test(t, listener_is_the_switch);
    tcase_add_test(t, running_connections_survive);
    tcase_add_test(t, syn_cookies);
    tcase_add_test(t, conntrack_mark_is_cleared_by_a_direct_syn);
    tcase_add_test(t, refused_goes_direct);
    tcase_add_test(t, refused_are_bounded);
    tcase_add_test(t, peers_change_often);
    tcase_add_test(t, classes_decide);
    tcase_add_test(t, deny_takes_new_connections_only);
    tcase_add_test(t, class_by_dscp);
    tcase_add_test(t, own_and_peers_addresses);
    tcase_add_test(t, replies_to_a_borrowed_address_come_back);
    tcase_add_test(t, strict_reverse_path);
}

int main(void)
{
    return run_live("kernel_catch", add);
}
