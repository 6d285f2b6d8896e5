/* test_kernel_owner.c - what the module owns, leaves to others and takes down; lane routes and lane sockets.
 */
#include "kernel_bed.h"

/* ---- owning, leaving ---- */

static bool nothing_is_left(void)
{
    return output("ip -4 rule show | grep -v -E '^(0|32766|32767):'; ip -6 rule show | grep -v -E "
                  "'^(0|32766|32767):';"
                  "ip -4 route show table all proto 104; ip -6 route show table all proto 104;"
                  "nft list tables")[0] == '\0';
}

START_TEST(free_leaves_nothing)
{
    struct addr peer;
    addr_parse(&peer, "10.2.0.2");
    must("sysctl -qw net.ipv4.tcp_slow_start_after_idle=1");
    kernel_up("");
    ck_assert_int_eq(kernel_lane_route(kernel, &peer, 10, 0, error), 0);
    ck_assert_str_eq(output("sysctl -n net.ipv4.tcp_slow_start_after_idle"), "0\n");
    ck_assert(!nothing_is_left());
    kernel_down();
    ck_assert_str_eq(output("sysctl -n net.ipv4.tcp_slow_start_after_idle"), "1\n");
    ck_assert_msg(nothing_is_left(), "%s",
                  output("ip rule; ip -6 rule; ip route show table all; nft list ruleset"));
}
END_TEST

/* Returns when the program runs, and holds nothing but its three descriptors: the table's socket must close
 * on exec. */
static void spawn_cat(int input)
{
    char *arguments[] = {(char[]){"cat"}, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, 0);
    if (posix_spawnp(&pid, "cat", &actions, NULL, arguments, environ) != 0)
        _exit(1);
    posix_spawn_file_actions_destroy(&actions);
}

/* An owner that is killed, while a program that it started still runs (until this test ends and closes held).
 */
START_TEST(killed_owner_fails_to_wire)
{
    int told[2], held[2];
    char byte;
    ck_assert_int_eq(pipe2(told, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(held, O_CLOEXEC), 0);
    pid_t owner = fork();
    if (owner == 0) {
        kernel_up("");
        peers_up(true, true);
        spawn_cat(held[0]);
        if (write(told[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(told[0], &byte, 1), 1);
    goes_to("10.2.0.2", WEB, catch4);
    ck_assert_int_eq(kill(owner, SIGKILL), 0);
    ck_assert_int_eq(waitpid(owner, NULL, 0), owner);
    /* exec lets the parent of a vfork go before it closes what is close-on-exec: cat may hold the socket for a moment */
    for (int i = 0; i < 500 && strcmp(output("nft list tables"), "") != 0; i++)
        poll(NULL, 0, 10);
    goes_to("10.2.0.2", WEB, web4);
    ck_assert_str_eq(output("nft list tables"), "");
    close(held[0]);
    close(held[1]);
    /* Its rules and routes are harmless, and the next one takes them over, also with another mark. */
    ck_assert(strstr(output("ip rule"), "fwmark 0x1/0x1 lookup 100") != NULL);
    config = config_of("mark = 0x10/0x30", "");
    ck_assert_msg(kernel_new(&kernel, config, error) == 0, "%s", error);
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    ck_assert(strstr(output("ip rule"), "fwmark 0x1/0x1") == NULL);
    ck_assert(strstr(output("ip rule"), "fwmark 0x10/0x30 lookup 100") != NULL);
    kernel_down();
    ck_assert(nothing_is_left());
}
END_TEST

START_TEST(nobody_else_may_change_the_table)
{
    kernel_up("");
    peers_up(true, true);
    ck_assert_int_ne(run("nft delete table inet hawser 2>/dev/null"), 0);
    ck_assert_int_ne(run("nft flush chain inet hawser catch 2>/dev/null"), 0);
    run("nft flush ruleset 2>/dev/null"); /* what `systemctl restart nftables` begins with */
    goes_to("10.2.0.2", WEB, catch4);
    kernel_down();
}
END_TEST

START_TEST(second_owner_is_refused)
{
    struct kernel *second = NULL;
    kernel_up("");
    peers_up(true, true);
    struct config *c = config_of("", "");
    ck_assert_int_eq(kernel_new(&second, c, error), -EEXIST);
    ck_assert_ptr_null(second);
    ck_assert(strstr(error, "another hawserd") != NULL || strstr(error, "other hawserd") != NULL);
    goes_to("10.2.0.2", WEB, catch4);
    config_unref(c);
    kernel_down();
    must("nft add table inet hawser"); /* somebody's, without an owner */
    c = config_of("", "");
    ck_assert_int_eq(kernel_new(&second, c, error), -EEXIST);
    config_unref(c);
    must("nft delete table inet hawser");
    ck_assert(nothing_is_left());
}
END_TEST

START_TEST(others_rules_stay)
{
    must("ip rule add fwmark 0x1/0x1 lookup 100 priority 100 && ip route add local default dev lo table 100");
    kernel_up("");
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    kernel_down();
    ck_assert(strstr(output("ip rule"), "fwmark 0x1/0x1 lookup 100") != NULL);
    ck_assert(strstr(output("ip route show table 100"), "local default dev lo") != NULL);
    must("ip route flush table 100 && ip route add default via 10.2.0.2 table 100");
    struct config *c = config_of("", "");
    ck_assert_int_eq(kernel_new(&kernel, c, error), -EEXIST);
    ck_assert_msg(strstr(error, "table 100") != NULL, "%s", error);
    ck_assert_str_eq(output("nft list tables"), "");
    config_unref(c);
}
END_TEST

START_TEST(firewall_none)
{
    struct addr peer;
    struct endpoint e;
    const bool up[] = {true, true};
    addr_parse(&peer, "10.2.0.2");
    endpoint_at(&e, "10.2.0.2", WEB);
    config = config_of("firewall = none", "");
    ck_assert_msg(kernel_new(&kernel, config, error) == 0, "%s", error);
    ck_assert_str_eq(output("nft list tables; ip route show table 100 2>/dev/null"), "");
    ck_assert_int_eq(kernel_set_peers(kernel, config, up, error), 0);
    ck_assert_int_eq(kernel_add_refused(kernel, &e, 60, error), 0);
    ck_assert_int_eq(kernel_reconfigure(kernel, config, error), 0);
    ck_assert_int_eq(kernel_lane_route(kernel, &peer, 50, 60, error), 0);
    goes_to("10.2.0.2", WEB, web4);
    kernel_down();
    ck_assert(nothing_is_left());
}
END_TEST

START_TEST(host_without_ipv6)
{
    if (have_ipv6)
        must("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1");
    kernel_up("");
    peers_up(true, true);
    goes_to("10.2.0.2", WEB, catch4);
    struct endpoint e;
    endpoint_at(&e, "fd00:2::2", WEB);
    ck_assert_int_eq(kernel_add_refused(kernel, &e, 60, error), 0);
    ck_assert(strstr(output("nft list table inet hawser"), "peers6") == NULL);
    kernel_down();
}
END_TEST

/* ---- lanes ---- */

START_TEST(lane_route_is_like_the_main_one)
{
    struct addr peer;
    kernel_up("");
    addr_parse(&peer, "10.9.9.9");
    ck_assert_int_lt(kernel_lane_route(kernel, &peer, 100, 200, error), 0);
    ck_assert(strstr(error, "no route") != NULL);
    must("ip route add 10.9.9.0/24 via 10.2.0.2 src 10.1.0.1 mtu 1400 advmss 1300 initcwnd 3");
    ck_assert_msg(kernel_lane_route(kernel, &peer, 100, 200, error) == 0, "%s", error);
    const char *text = output("ip -4 route show table 101");
    ck_assert_msg(strstr(text, "10.9.9.9 via 10.2.0.2 dev wan0") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "src 10.1.0.1") != NULL && strstr(text, "mtu 1400") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "advmss 1300") != NULL && strstr(text, "initcwnd 100 initrwnd 200") != NULL,
                  "%s", text);
    /* Replaced, not added; and what was left out is out. */
    must("ip route replace 10.9.9.0/24 dev lan0 initcwnd 5");
    ck_assert_int_eq(kernel_lane_route(kernel, &peer, 0, 77, error), 0);
    text = output("ip -4 route show table 101");
    ck_assert_msg(strstr(text, "10.9.9.9 dev lan0") != NULL && strstr(text, "via") == NULL, "%s", text);
    ck_assert_msg(strstr(text, "initcwnd") == NULL && strstr(text, "initrwnd 77") != NULL, "%s", text);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    /* Only marked packets go there. */
    must("ip route replace 10.9.9.0/24 via 10.2.0.2");
    ck_assert(strstr(output("ip route get 10.9.9.9 mark 2"), "dev lan0") != NULL);
    ck_assert(strstr(output("ip route get 10.9.9.9"), "dev wan0") != NULL);
    /* A device that goes takes the lane route along: the main table decides. */
    must("ip link set lan0 down");
    ck_assert(strstr(output("ip route get 10.9.9.9 mark 2"), "dev wan0") != NULL);
    addr_parse(&peer, "127.0.0.1");
    ck_assert_int_lt(kernel_lane_route(kernel, &peer, 10, 10, error), 0);
    kernel_down();
}
END_TEST

START_TEST(lane_route_in_ipv6)
{
    struct addr peer;
    if (!have_ipv6)
        return;
    kernel_up("");
    must("ip -6 route add fd00:9::/64 via fd00:2::2");
    addr_parse(&peer, "fd00:9::1");
    ck_assert_msg(kernel_lane_route(kernel, &peer, 100, 200, error) == 0, "%s", error);
    ck_assert_msg(kernel_lane_route(kernel, &peer, 300, 0, error) == 0, "%s", error);
    const char *text = output("ip -6 route show table 101");
    ck_assert_msg(strstr(text, "fd00:9::1 via fd00:2::2 dev wan0") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "initcwnd 300") != NULL && strstr(text, "initrwnd") == NULL, "%s", text);
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
    kernel_down();
}
END_TEST

/* The first flight of a marked connection is as large as the route says. */
START_TEST(initial_window_is_used)
{
    static char bytes[200 * 1448];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(WEB)};
    struct tcp_info info;
    struct addr peer;
    socklen_t len = sizeof(info);
    int mark = 2;
    kernel_up("");
    addr_parse(&peer, "10.2.0.2");
    ck_assert_msg(kernel_lane_route(kernel, &peer, 90, 0, error) == 0, "%s", error);
    inet_pton(AF_INET, "10.2.0.2", &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)), 0);
    ck_assert_int_eq(kernel_lane_socket(fd, 1 << 20, 1 << 20, "reno"), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    ck_assert_int_gt(write(fd, bytes, sizeof(bytes)), 0);
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    ck_assert_uint_ge(info.tcpi_snd_cwnd, 90);
    close(fd);
    kernel_down();
}
END_TEST

START_TEST(lane_socket_options)
{
    char name[16] = "";
    int size = 0;
    socklen_t len = sizeof(size);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(kernel_lane_socket(fd, 64 << 20, 48 << 20, "reno"), 0);
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &len), 0);
    ck_assert_int_ge(size, 64 << 20);
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len), 0);
    ck_assert_int_ge(size, 48 << 20);
    ck_assert_int_eq(kernel_lane_socket(fd, 0, 32 << 20, "nosuchthing"), -ENOENT);
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len), 0);
    ck_assert_int_eq(size, 64 << 20);
    len = sizeof(name);
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len), 0);
    ck_assert_str_eq(name, "reno");
    ck_assert_int_eq(kernel_lane_socket(fd, 0, 0, NULL), 0);
    ck_assert_int_eq(kernel_lane_socket(fd, 0, 0, ""), 0);
    ck_assert_int_eq(kernel_lane_socket(fd, UINT64_MAX, 0, NULL), 0);
    close(fd);
    ck_assert_int_eq(kernel_lane_socket(fd, 1, 1, NULL), -EBADF);
}
END_TEST

/* ---- addresses ---- */

START_TEST(networks_and_addresses)
{
    struct prefix nets[4];
    struct addr own[16];
    char text[PREFIX_TEXT_MAX];
    must("ip address add 10.1.0.77/24 dev lan0 && ip address add 172.16.5.1/20 dev lan0");
    int count = kernel_interface_networks("lan0", nets, 4);
    ck_assert_int_eq(count, have_ipv6 ? 3 : 2); /* without link-local ones, and each once */
    ck_assert_str_eq(prefix_format(&nets[0], text), "10.1.0.0/24");
    ck_assert_str_eq(prefix_format(&nets[1], text), "172.16.0.0/20");
    if (have_ipv6)
        ck_assert_str_eq(prefix_format(&nets[2], text), "fd00:1::/64");
    ck_assert_int_eq(kernel_interface_networks("nosuch0", nets, 4), 0);
    memset(nets, 0xee, sizeof(nets));
    ck_assert_int_ge(kernel_interface_networks("lan0", nets, 1), 2);
    ck_assert_int_eq(nets[1].len_bits, 0xee);
    count = kernel_own_addresses(own, 16);
    ck_assert_int_ge(count, 5);
    ck_assert_int_eq(kernel_own_addresses(own, 0), count);
    bool found = false;
    struct addr wanted;
    addr_parse(&wanted, "10.1.0.77");
    for (int i = 0; i < count && i < 16; i++)
        found = found || addr_equal(&own[i], &wanted);
    ck_assert(found);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_test(t, free_leaves_nothing);
    tcase_add_test(t, killed_owner_fails_to_wire);
    tcase_add_test(t, nobody_else_may_change_the_table);
    tcase_add_test(t, second_owner_is_refused);
    tcase_add_test(t, others_rules_stay);
    tcase_add_test(t, firewall_none);
    tcase_add_test(t, host_without_ipv6);
    tcase_add_test(t, lane_route_is_like_the_main_one);
    tcase_add_test(t, lane_route_in_ipv6);
    tcase_add_test(t, initial_window_is_used);
    tcase_add_test(t, lane_socket_options);
    tcase_add_test(t, networks_and_addresses);
}

int main(void)
{
    return run_live("kernel_owner", add);
}
