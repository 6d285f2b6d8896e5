/* test_kernel_live.c - the rules at work, in three namespaces of this process:
 *
 *     client 10.1.0.2 --- lan0 10.1.0.1 [gateway] wan0 10.2.0.1 --- server 10.2.0.2
 *            fd00:1::2        fd00:1::1               fd00:2::1            fd00:2::2
 *
 * A socket belongs to the namespace in which it was made, so one thread that moves between the three plays
 * all roles. The namespaces have no names and go with the process. Each test is a process of its own. */
#include "hawser/kernel.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000, PORT = 3129, WEB = 8080, OTHER = 8081 };

static int client_ns, gateway_ns, server_ns;
static int web4, web6, other4; /* listeners of the server */
static int catch4 = -1, catch6 = -1;
static bool have_ipv6;
static char error[KERNEL_ERROR_MAX];
static struct kernel *kernel;
static struct config *config;

/* ---- the bed ---- */

static void enter(int ns)
{
    ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return system(command);
}

#define must(...) ck_assert_int_eq(run(__VA_ARGS__), 0)

/* What a command prints; valid until the next call. */
static const char *output(const char *command)
{
    static char text[65536];
    FILE *from = popen(command, "r");
    ck_assert_ptr_nonnull(from);
    size_t len = fread(text, 1, sizeof(text) - 1, from);
    text[len] = '\0';
    pclose(from);
    return text;
}

static int new_namespace(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    must("ip link set lo up");
    run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 2>/dev/null");
    return fd;
}

static void endpoint_at(struct endpoint *e, const char *host, int port)
{
    ck_assert_int_eq(addr_parse(&e->addr, host), 0);
    e->port = (uint16_t)port;
}

static int listen_at(int ns, const char *host, int port, bool transparent)
{
    struct endpoint e;
    struct sockaddr_storage to;
    endpoint_at(&e, host, port);
    enter(ns);
    socklen_t len = endpoint_to_sockaddr(&e, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    if (transparent)
        ck_assert_int_eq(setsockopt(fd, to.ss_family == AF_INET ? SOL_IP : SOL_IPV6,
                                    to.ss_family == AF_INET ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on,
                                    sizeof(on)),
                         0);
    ck_assert_msg(bind(fd, (struct sockaddr *)&to, len) == 0, "bind %s: %s", host, strerror(errno));
    ck_assert_int_eq(listen(fd, 64), 0);
    enter(gateway_ns);
    return fd;
}

static void open_catchers(void)
{
    catch4 = listen_at(gateway_ns, "127.0.0.1", PORT, true);
    if (have_ipv6)
        catch6 = listen_at(gateway_ns, "::1", PORT, true);
}

static void close_catchers(void)
{
    close(catch4);
    close(catch6);
    catch4 = catch6 = -1;
}

static void link_up(const char *device, int ns, const char *net)
{
    enter(gateway_ns);
    must("ip link add %s type veth peer name eth0 netns /proc/%d/fd/%d", device, (int)getpid(), ns);
    must("ip address add 10.%s.0.1/24 dev %s && ip link set %s up", net, device, device);
    enter(ns);
    must("ip address add 10.%s.0.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.%s.0.1",
         net, net);
    if (have_ipv6) {
        must("ip address add fd00:%s::2/64 dev eth0 nodad && ip route add default via fd00:%s::1 dev eth0",
             net, net);
        enter(gateway_ns);
        must("ip address add fd00:%s::1/64 dev %s nodad", net, device);
    }
    enter(gateway_ns);
}

static void bed_up(void)
{
    have_ipv6 = access("/proc/sys/net/ipv6", F_OK) == 0;
    client_ns = new_namespace();
    server_ns = new_namespace();
    gateway_ns = new_namespace();
    link_up("lan0", client_ns, "1");
    link_up("wan0", server_ns, "2");
    must("sysctl -qw net.ipv4.ip_forward=1");
    if (have_ipv6)
        must("sysctl -qw net.ipv6.conf.all.forwarding=1");
    web4 = listen_at(server_ns, "0.0.0.0", WEB, false);
    other4 = listen_at(server_ns, "0.0.0.0", OTHER, false);
    web6 = have_ipv6 ? listen_at(server_ns, "fd00:2::2", WEB, false) : -1;
    open_catchers();
}

static struct config *config_of(const char *intercept, const char *more)
{
    static const char frame[] = "[node]\nname = n\nidentity = /tmp/x\n[tunnel]\nlisten = 0.0.0.0:4430\n"
                                "[intercept]\ninterface = lan0\n%s\n"
                                "[peer hub]\npin = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
                                "networks = 10.2.0.0/16, fd00:2::/32\n"
                                "[peer inner]\npin = ABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
                                "networks = 10.2.7.0/24\n%s";
    char text[4096], why[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    int len = snprintf(text, sizeof(text), frame, intercept, more);
    ck_assert_msg(config_parse(&c, "test", text, (size_t)len, why) == 0, "%s", why);
    return c;
}

static void kernel_up(const char *more)
{
    config = config_of("", more);
    ck_assert_msg(kernel_new(&kernel, config, error) == 0, "%s", error);
}

static void peers_up(bool hub, bool inner)
{
    const bool up[] = {hub, inner};
    ck_assert_msg(kernel_set_peers(kernel, config, up, error) == 0, "%s", error);
}

static void kernel_down(void)
{
    kernel_free(kernel);
    config_unref(config);
    kernel = NULL;
    config = NULL;
}

/* ---- connections ---- */

static bool ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, PATIENCE_MS) == 1;
}

/* A connection from one namespace; the error of connect(2) in *err. */
static int connect_from(int ns, const char *host, int port, int *err)
{
    struct endpoint e;
    struct sockaddr_storage to;
    socklen_t size = sizeof(*err);
    endpoint_at(&e, host, port);
    enter(ns);
    socklen_t len = endpoint_to_sockaddr(&e, &to);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(fd, 0);
    *err = 0;
    if (connect(fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS) {
        *err = errno;
    } else {
        ck_assert_msg(ready(fd, POLLOUT), "no answer from %s:%d", host, port);
        ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, err, &size), 0);
    }
    enter(gateway_ns);
    return fd;
}

static void send_and_see(int from, int to, const char *text)
{
    char got[64] = "";
    ck_assert_int_eq(write(from, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert(ready(to, POLLIN));
    ck_assert_int_eq(read(to, got, sizeof(got) - 1), (ssize_t)strlen(text));
    ck_assert_str_eq(got, text);
}

static void pair_close(int a, int b)
{
    close(a);
    close(b);
}

/* The client's connection comes to this listener, and carries bytes. Returns the accepted end, and the
 * client's. */
static int arrives(const char *host, int port, int listener, int *client)
{
    int err;
    *client = connect_from(client_ns, host, port, &err);
    ck_assert_msg(err == 0, "connect %s:%d: %s", host, port, strerror(err));
    ck_assert_msg(ready(listener, POLLIN), "%s:%d came to somebody else", host, port);
    int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(accepted, 0);
    send_and_see(*client, accepted, "there");
    send_and_see(accepted, *client, "and back");
    return accepted;
}

static void goes_to(const char *host, int port, int listener)
{
    int client, accepted = arrives(host, port, listener, &client);
    pair_close(client, accepted);
}

static bool is_refused(const char *host, int port)
{
    int err;
    close(connect_from(client_ns, host, port, &err));
    return err == ECONNREFUSED;
}

/* ---- tests ---- */

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

/* A SYN was caught and dropped (its conntrack entry stays), the next went direct; when the listener is back,
 * the direct connection must not be taken for ours. */
START_TEST(conntrack_mark_is_cleared_by_a_direct_syn)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(5555)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(WEB)};
    int on = 1, fds[2];
    struct linger reset = {.l_onoff = 1};
    inet_pton(AF_INET, "10.2.0.2", &to.sin_addr);
    kernel_up("");
    peers_up(true, true);
    for (int i = 0; i < 2; i++) {
        enter(client_ns);
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        ck_assert_int_eq(bind(fds[i], (struct sockaddr *)&from, sizeof(from)), 0);
        ck_assert_int_eq(connect(fds[i], (struct sockaddr *)&to, sizeof(to)), 0);
        enter(gateway_ns);
        if (i == 0) {
            /* Reset: the same port can be used again, and conntrack still knows the flow, with the mark. */
            int caught = accept4(catch4, NULL, NULL, SOCK_CLOEXEC);
            ck_assert_int_ge(caught, 0);
            setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(fds[0]);
            close(caught);
            close_catchers();
        }
    }
    ck_assert(ready(web4, POLLIN));
    int accepted = accept4(web4, NULL, NULL, SOCK_CLOEXEC);
    open_catchers();
    send_and_see(fds[1], accepted, "still direct");
    send_and_see(accepted, fds[1], "both ways");
    pair_close(fds[1], accepted);
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
    must("ip route replace 10.9.9.0/24 dev lan0");
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

/* ---- */

#define EACH_TEST(X)                                                                                         \
    X(caught_only_while_a_peer_is_up)                                                                        \
    X(caught_in_ipv6)                                                                                        \
    X(network_of_a_peer_that_is_down) X(listener_is_the_switch) X(running_connections_survive)               \
        X(syn_cookies) X(conntrack_mark_is_cleared_by_a_direct_syn) X(refused_goes_direct)                   \
            X(refused_are_bounded) X(peers_change_often) X(classes_decide)                                   \
                X(deny_takes_new_connections_only) X(class_by_dscp) X(own_and_peers_addresses)               \
                    X(replies_to_a_borrowed_address_come_back) X(strict_reverse_path) X(free_leaves_nothing) \
                        X(killed_owner_fails_to_wire) X(nobody_else_may_change_the_table)                    \
                            X(second_owner_is_refused) X(others_rules_stay) X(firewall_none)                 \
                                X(host_without_ipv6) X(lane_route_is_like_the_main_one)                      \
                                    X(lane_route_in_ipv6) X(initial_window_is_used) X(lane_socket_options)   \
                                        X(networks_and_addresses)

static const char *why_not(void)
{
    if (geteuid() != 0)
        return "not root";
    pid_t child = fork();
    int status = 1;
    if (child == 0)
        _exit(unshare(CLONE_NEWNET) == 0 ? 0 : 1);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return "network namespaces are unavailable";
    return NULL;
}

int main(void)
{
    const char *reason = why_not();
    if (reason != NULL) {
        const char *no_skip = getenv("HAWSER_NO_SKIP");
        printf("skipped: %s\n", reason);
        return no_skip != NULL && strcmp(no_skip, "1") == 0 ? 1 : 0;
    }
    Suite *suite = suite_create("kernel_live");
    TCase *t = tcase_create("namespaces");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, bed_up, NULL);
#define ADD(name) tcase_add_test(t, name);
    EACH_TEST(ADD)
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
