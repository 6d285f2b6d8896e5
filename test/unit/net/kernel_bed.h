/* kernel_bed.h - three namespaces of this process, for tests of kernel.h with real connections:
 *
 *     client 10.1.0.2 --- lan0 10.1.0.1 [gateway] wan0 10.2.0.1 --- server 10.2.0.2
 *            fd00:1::2        fd00:1::1               fd00:2::1            fd00:2::2
 *
 * A socket belongs to the namespace in which it was made, so one thread that moves between the three plays
 * all roles. The namespaces have no names and go with the process. Each test is a process of its own. */
#ifndef TEST_KERNEL_BED_H
#define TEST_KERNEL_BED_H

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

/* Not every program uses all of it. */
#define BED __attribute__((unused))

enum { PATIENCE_MS = 20000, PORT = 3129, WEB = 8080, OTHER = 8081 };

static int client_ns, gateway_ns, server_ns;
static int web4, web6, other4; /* listeners of the server */
static int catch4 = -1, catch6 = -1;
static bool have_ipv6;
static char error[KERNEL_ERROR_MAX];
static struct kernel *kernel;
static struct config *config;

/* ---- the bed ---- */

BED static void enter(int ns)
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
BED static const char *output(const char *command)
{
    static char text[65536];
    FILE *from = popen(command, "r");
    ck_assert_ptr_nonnull(from);
    size_t len = fread(text, 1, sizeof(text) - 1, from);
    text[len] = '\0';
    pclose(from);
    return text;
}

BED static int new_namespace(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    must("ip link set lo up");
    run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 2>/dev/null");
    return fd;
}

BED static void endpoint_at(struct endpoint *e, const char *host, int port)
{
    ck_assert_int_eq(addr_parse(&e->addr, host), 0);
    e->port = (uint16_t)port;
}

BED static int listen_at(int ns, const char *host, int port, bool transparent)
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

BED static void open_catchers(void)
{
    catch4 = listen_at(gateway_ns, "127.0.0.1", PORT, true);
    if (have_ipv6)
        catch6 = listen_at(gateway_ns, "::1", PORT, true);
}

BED static void close_catchers(void)
{
    close(catch4);
    close(catch6);
    catch4 = catch6 = -1;
}

BED static void link_up(const char *device, int ns, const char *net)
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

BED static void bed_up(void)
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

BED static struct config *config_of(const char *intercept, const char *more)
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

BED static void kernel_up(const char *more)
{
    config = config_of("", more);
    ck_assert_msg(kernel_new(&kernel, config, error) == 0, "%s", error);
}

BED static void peers_up(bool hub, bool inner)
{
    const bool up[] = {hub, inner};
    ck_assert_msg(kernel_set_peers(kernel, config, up, error) == 0, "%s", error);
}

BED static void kernel_down(void)
{
    kernel_free(kernel);
    config_unref(config);
    kernel = NULL;
    config = NULL;
}

/* ---- connections ---- */

BED static bool ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, PATIENCE_MS) == 1;
}

/* A connection from one namespace; the error of connect(2) in *err. */
BED static int connect_from(int ns, const char *host, int port, int *err)
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

BED static void send_and_see(int from, int to, const char *text)
{
    char got[64] = "";
    ck_assert_int_eq(write(from, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert(ready(to, POLLIN));
    ck_assert_int_eq(read(to, got, sizeof(got) - 1), (ssize_t)strlen(text));
    ck_assert_str_eq(got, text);
}

BED static void pair_close(int a, int b)
{
    close(a);
    close(b);
}

/* The client's connection comes to this listener, and carries bytes. Returns the accepted end, and the
 * client's. */
BED static int arrives(const char *host, int port, int listener, int *client)
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

BED static void goes_to(const char *host, int port, int listener)
{
    int client, accepted = arrives(host, port, listener, &client);
    pair_close(client, accepted);
}

BED static bool is_refused(const char *host, int port)
{
    int err;
    close(connect_from(client_ns, host, port, &err));
    return err == ECONNREFUSED;
}

/* ---- running ---- */

BED static const char *why_not(void)
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

/* What main does: the tests, each with a bed of its own; 0 also when nothing can run here. */
BED static int run_live(const char *suite_name, void (*add)(TCase *t))
{
    const char *reason = why_not();
    if (reason != NULL) {
        const char *no_skip = getenv("HAWSER_NO_SKIP");
        printf("skipped: %s\n", reason);
        return no_skip != NULL && strcmp(no_skip, "1") == 0 ? 1 : 0;
    }
    Suite *suite = suite_create(suite_name);
    TCase *t = tcase_create("namespaces");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, bed_up, NULL);
    add(t);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}

#endif
