/* The verbs over a socketpair, the kernel behind a table that only takes notes. The link is the engine's real
 * side; where an honest engine would not send something, raw packets do. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/addr.h"
#include "hawser/keeper.h"
#include "hawser/keeper_verbs.h"

/* ---- a kernel that takes notes ---- */

static struct {
    unsigned set_peers, add_refused, lane_route, lane_socket;
    bool up[4];
    struct endpoint refused;
    uint32_t timeout_s, initcwnd, initrwnd;
    struct addr route;
    uint64_t rcvbuf_bytes, sndbuf_bytes;
    char congestion[32];
    int lane_socket_result, set_peers_result, count_result;
} kernel;

static int fake_set_peers(struct kernel *k, const struct config *c, const bool *up,
                          char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    kernel.set_peers++;
    strcpy(error, "no buffer space");
    for (size_t i = 0; i < c->peer_count && i < 4 && kernel.set_peers_result == 0; i++)
        kernel.up[i] = up[i];
    return kernel.set_peers_result;
}

static int fake_add_refused(struct kernel *k, const struct endpoint *server, uint32_t timeout_s,
                            char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    kernel.add_refused++;
    kernel.refused = *server;
    kernel.timeout_s = timeout_s;
    strcpy(error, "the set is full");
    return -ENOSPC; /* only ever a log line */
}

static int fake_lane_route(struct kernel *k, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                           char error[static KERNEL_ERROR_MAX])
{
    (void)k;
    (void)error;
    kernel.lane_route++;
    kernel.route = *peer;
    kernel.initcwnd = initcwnd;
    kernel.initrwnd = initrwnd;
    return 0;
}

/* With a receive buffer of an odd size the result is that size, negative: so each caller can tell its own
 * reply. */
static int fake_lane_socket(int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion)
{
    ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
    kernel.lane_socket++;
    kernel.rcvbuf_bytes = rcvbuf_bytes;
    kernel.sndbuf_bytes = sndbuf_bytes;
    snprintf(kernel.congestion, sizeof(kernel.congestion), "%s", congestion != NULL ? congestion : "(none)");
    return rcvbuf_bytes % 2 == 1 ? -(int)rcvbuf_bytes : kernel.lane_socket_result;
}

static int fake_count_peer_down(struct kernel *k, uint64_t *out)
{
    (void)k;
    if (kernel.count_result == 0)
        *out = UINT64_C(1) << 40;
    return kernel.count_result;
}

static const struct keeper_actions fake = {
    .kernel_set_peers = fake_set_peers,
    .kernel_add_refused = fake_add_refused,
    .kernel_lane_route = fake_lane_route,
    .kernel_lane_socket = fake_lane_socket,
    .kernel_count_peer_down = fake_count_peer_down,
};

static unsigned kernel_calls(void)
{
    return kernel.set_peers + kernel.add_refused + kernel.lane_route + kernel.lane_socket;
}

/* ---- two peers: dc is dialled, branch dials in ---- */

static struct prefix dc_nets[1], branch_nets[2];
static struct config_peer peers[2], turned[2];
static struct config config, other;
static struct keeper_verbs verbs;
static struct keeper_link *l;
static int note_fd, call_fd, raw_note, raw_call; /* keeper's ends; the engine's, as the link has them */

static void make_config(void)
{
    memset(peers, 0, sizeof(peers));
    memset(&config, 0, sizeof(config));
    ck_assert_int_eq(prefix_parse(&dc_nets[0], "10.2.0.0/24"), 0);
    ck_assert_int_eq(prefix_parse(&branch_nets[0], "10.3.0.0/24"), 0);
    ck_assert_int_eq(prefix_parse(&branch_nets[1], "fd00:3::/64"), 0);
    strcpy(peers[0].name, "dc");
    ck_assert_int_eq(endpoint_parse(&peers[0].address, "10.9.0.1:4430"), 0);
    peers[0].networks = (struct config_prefixes){dc_nets, 1};
    memset(peers[0].pins[0], 0xd, CONFIG_PIN_BYTES);
    peers[0].pin_count = 1;
    strcpy(peers[1].name, "branch");
    peers[1].networks = (struct config_prefixes){branch_nets, 2};
    memset(peers[1].pins[0], 0xb, CONFIG_PIN_BYTES);
    peers[1].pin_count = 1;
    config.peers = peers;
    config.peer_count = 2;
    turned[0] = peers[1];
    turned[1] = peers[0];
    other = config;
    other.peers = turned;
}

static void setup(void)
{
    int notes[2], calls[2];
    memset(&kernel, 0, sizeof(kernel));
    make_config();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, notes), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls), 0);
    note_fd = notes[0];
    call_fd = calls[0];
    raw_note = notes[1];
    raw_call = calls[1];
    l = keeper_link_new(raw_note, raw_call);
    ck_assert_ptr_nonnull(l);
    verbs = (struct keeper_verbs){.actions = &fake, .kernel = (struct kernel *)&kernel, .config = &config};
}

static void teardown(void)
{
    keeper_link_free(l);
    if (note_fd >= 0)
        close(note_fd);
    close(call_fd);
}

static enum keeper_took take(void)
{
    uint32_t serial = 0;
    return keeper_verbs_take(&verbs, note_fd, false, &serial);
}

static void tell_up(bool dc, bool branch)
{
    const bool up[] = {dc, branch};
    keeper_set_peers(l, up, 2);
}

/* ---- peers ---- */

START_TEST(peers_that_are_up)
{
    tell_up(true, false);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    ck_assert(kernel.up[0] && !kernel.up[1]);
    tell_up(false, true);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    ck_assert(!kernel.up[0] && kernel.up[1]);
    ck_assert_int_eq(take(), KEEPER_TOOK_NOTHING);
}
END_TEST

START_TEST(peers_in_another_number_than_configured)
{
    const bool up[3] = {true, true, true};
    keeper_set_peers(l, up, 3);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    ck_assert_uint_eq(kernel.set_peers, 0);
}
END_TEST

START_TEST(peers_are_carried_over_by_name)
{
    tell_up(true, false);
    take();
    keeper_verbs_reconfigure(&verbs, &other);
    ck_assert_uint_eq(kernel.set_peers, 2);
    ck_assert(!kernel.up[0] && kernel.up[1]);
}
END_TEST

START_TEST(peer_with_a_new_pin_is_down)
{
    tell_up(true, true);
    take();
    turned[1].pins[0][5] ^= 1;
    keeper_verbs_reconfigure(&verbs, &other);
    ck_assert(kernel.up[0] && !kernel.up[1]);
}
END_TEST

START_TEST(peers_of_the_configuration_before_are_passed_over)
{
    tell_up(true, false); /* on its way while the keeper reloads: index 0 would now mean branch */
    keeper_verbs_reconfigure(&verbs, &other);
    unsigned before = kernel.set_peers;
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    ck_assert_uint_eq(kernel.set_peers, before);
    ck_assert(!kernel.up[0] && !kernel.up[1]);
}
END_TEST

START_TEST(a_new_engine_begins_with_all_down)
{
    tell_up(true, true);
    take();
    keeper_verbs_reconfigure(&verbs, &other);
    keeper_verbs_reset(&verbs);
    ck_assert(!kernel.up[0] && !kernel.up[1]);
    ck_assert_uint_eq(verbs.generation, 0);
}
END_TEST

START_TEST(nothing_is_caught_while_stopping)
{
    verbs.frozen = true;
    tell_up(true, true);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    ck_assert_uint_eq(kernel.set_peers, 0);
}
END_TEST

START_TEST(a_peer_that_went_down_is_tried_again)
{
    tell_up(true, true);
    take();
    kernel.set_peers_result = -ENOBUFS;
    tell_up(true, false);
    take();
    ck_assert(kernel.up[1]);
    keeper_verbs_retry(&verbs);
    ck_assert_uint_eq(kernel.set_peers, 3);
    kernel.set_peers_result = 0;
    keeper_verbs_retry(&verbs);
    ck_assert(kernel.up[0] && !kernel.up[1]);
    keeper_verbs_retry(&verbs);
    ck_assert_uint_eq(kernel.set_peers, 4); /* and no more once it is as it should be */
}
END_TEST

START_TEST(configuration_that_cannot_be_taken_ends_the_engine)
{
    struct config *next = NULL;
    ck_assert_int_eq(keeper_event_send(note_fd, KEEPER_EVENT_RELOAD, 1, "[nonsense", 9), 0);
    ck_assert_int_eq(keeper_link_read(l, &next), KEEPER_EVENT_GONE);
    ck_assert_ptr_null(next);
    ck_assert_int_eq(keeper_event_send(note_fd, KEEPER_EVENT_RELOAD, 1, NULL, 0), 0); /* no descriptor */
    ck_assert_int_eq(keeper_link_read(l, &next), KEEPER_EVENT_GONE);
}
END_TEST

/* ---- refused servers ---- */

static unsigned refuse(const char *text, uint32_t timeout_s)
{
    struct endpoint server;
    ck_assert_int_eq(endpoint_parse(&server, text), 0);
    keeper_add_refused(l, &server, timeout_s);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    return kernel.add_refused;
}

START_TEST(refused_server_in_a_peers_networks)
{
    struct endpoint want;
    ck_assert_uint_eq(refuse("10.2.0.7:80", 60), 1);
    endpoint_parse(&want, "10.2.0.7:80");
    ck_assert(endpoint_equal(&want, &kernel.refused));
    ck_assert_uint_eq(kernel.timeout_s, 60);
    ck_assert_uint_eq(refuse("[fd00:3::9]:443", 3600), 2);
}
END_TEST

START_TEST(refused_server_that_could_not_have_been_caught)
{
    ck_assert_uint_eq(refuse("10.4.0.7:80", 60), 0);
    ck_assert_uint_eq(refuse("[fd00:4::9]:443", 60), 0);
    ck_assert_uint_eq(refuse("127.0.0.1:80", 60), 0);
    ck_assert_uint_eq(refuse("10.2.0.7:80", 0), 0);
    ck_assert_uint_eq(refuse("10.2.0.7:80", 3601), 0);
    struct endpoint server;
    endpoint_parse(&server, "10.2.0.7:80");
    server.port = 0;
    keeper_add_refused(l, &server, 60);
    take();
    server.port = 80;
    server.addr.family = AF_UNIX;
    keeper_add_refused(l, &server, 60);
    take();
    ck_assert_uint_eq(kernel.add_refused, 0);
}
END_TEST

/* ---- lane routes ---- */

static unsigned route(const char *text, uint32_t initcwnd, uint32_t initrwnd)
{
    struct addr peer;
    ck_assert_int_eq(addr_parse(&peer, text), 0);
    keeper_lane_route(l, &peer, initcwnd, initrwnd);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    return kernel.lane_route;
}

START_TEST(route_to_a_peer)
{
    ck_assert_uint_eq(route("10.9.0.1", 100, 200), 1);
    ck_assert_uint_eq(kernel.initcwnd, 100);
    ck_assert_uint_eq(kernel.initrwnd, 200);
    ck_assert_uint_eq(route("198.51.100.7", 10, 0), 2); /* branch may dial in from there */
    ck_assert_uint_eq(route("2001:db8::7", 0, KEEPER_WINDOW_MAX), 3);
}
END_TEST

START_TEST(route_to_nobody)
{
    config.peer_count = 1; /* dc only: nobody dials in */
    ck_assert_uint_eq(route("10.9.0.2", 100, 100), 0);
    ck_assert_uint_eq(route("::1", 100, 100), 0);
    ck_assert_uint_eq(route("10.9.0.1", 100, 100), 1);
}
END_TEST

START_TEST(route_out_of_range)
{
    ck_assert_uint_eq(route("127.0.0.1", 10, 10), 0);
    ck_assert_uint_eq(route("224.0.0.1", 10, 10), 0);
    ck_assert_uint_eq(route("0.0.0.0", 10, 10), 0);
    ck_assert_uint_eq(route("ff02::1", 10, 10), 0);
    ck_assert_uint_eq(route("10.9.0.1", KEEPER_WINDOW_MAX + 1, 10), 0);
    ck_assert_uint_eq(route("10.9.0.1", 10, KEEPER_WINDOW_MAX + 1), 0);
    const struct addr none = {.family = AF_UNSPEC}; /* what branch's absent address looks like */
    keeper_lane_route(l, &none, 10, 10);
    take();
    ck_assert_uint_eq(kernel.lane_route, 0);
}
END_TEST

/* ---- calls ---- */

/* The keeper's turn, in a thread, until its end is told to stop by a closed pipe. */
static int stop_pipe[2];
static void *answer(void *unused)
{
    (void)unused;
    for (;;) {
        struct pollfd p[] = {{.fd = call_fd, .events = POLLIN}, {.fd = stop_pipe[0], .events = POLLIN}};
        poll(p, 2, -1);
        if (p[1].revents != 0)
            return NULL;
        uint32_t serial = 0;
        if (keeper_verbs_take(&verbs, call_fd, true, &serial) == KEEPER_TOOK_RELOAD)
            keeper_verbs_reply(call_fd, &(struct keeper_reply){.serial = serial, .result = -EINVAL},
                               "hawser.ini:3: no such key");
    }
}

static pthread_t answering;
static void answer_begin(void)
{
    ck_assert_int_eq(pipe2(stop_pipe, O_CLOEXEC), 0);
    ck_assert_int_eq(pthread_create(&answering, NULL, answer, NULL), 0);
}

static void answer_end(void)
{
    close(stop_pipe[1]);
    ck_assert_int_eq(pthread_join(answering, NULL), 0);
    close(stop_pipe[0]);
}

static int tcp(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(socket_of_a_lane)
{
    int fd = tcp(AF_INET);
    answer_begin();
    ck_assert_int_eq(keeper_lane_socket(l, fd, KEEPER_BUFFER_MAX, 2000, "bbr"), 0);
    ck_assert_uint_eq(kernel.rcvbuf_bytes, KEEPER_BUFFER_MAX);
    ck_assert_uint_eq(kernel.sndbuf_bytes, 2000);
    ck_assert_str_eq(kernel.congestion, "bbr");
    ck_assert_int_eq(keeper_lane_socket(l, fd, 0, 0, NULL), 0);
    ck_assert_str_eq(kernel.congestion, "(none)");
    kernel.lane_socket_result = -ENOENT;
    ck_assert_int_eq(keeper_lane_socket(l, fd, 0, 0, "hystart_2"), -ENOENT);
    answer_end();
    close(fd);
}
END_TEST

START_TEST(socket_that_is_none)
{
    int pipes[2], udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                  ours = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
    answer_begin();
    ck_assert_int_eq(keeper_lane_socket(l, udp, 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(keeper_lane_socket(l, ours, 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(keeper_lane_socket(l, pipes[0], 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(keeper_lane_socket(l, -1, 0, 0, NULL), -EINVAL);
    answer_end();
    ck_assert_uint_eq(kernel.lane_socket, 0);
    close(udp);
    close(ours);
    close(pipes[0]);
    close(pipes[1]);
}
END_TEST

START_TEST(socket_options_out_of_range)
{
    static const char *const names[] = {"BBR", "bbr;rm", "../x", "a b", "sixteen_letters_"};
    int fd = tcp(AF_INET6);
    answer_begin();
    ck_assert_int_eq(keeper_lane_socket(l, fd, KEEPER_BUFFER_MAX + 1ull, 0, NULL), -EINVAL);
    ck_assert_int_eq(keeper_lane_socket(l, fd, 0, UINT64_MAX, NULL), -EINVAL);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        ck_assert_int_eq(keeper_lane_socket(l, fd, 0, 0, names[i]), -EINVAL);
    answer_end();
    ck_assert_uint_eq(kernel.lane_socket, 0);
    close(fd);
}
END_TEST

struct caller {
    pthread_t thread;
    int fd, first, wrong;
};

static void *call_often(void *of)
{
    struct caller *c = of;
    for (int i = 0; i < 200; i++) {
        int odd = c->first + 2 * i;
        c->wrong += keeper_lane_socket(l, c->fd, (uint64_t)odd, 0, NULL) != -odd;
    }
    return NULL;
}

START_TEST(threads_get_their_own_replies_and_the_main_one_its_events)
{
    struct caller callers[4];
    answer_begin();
    for (int i = 0; i < 4; i++) {
        callers[i] = (struct caller){.fd = tcp(AF_INET), .first = 1 + 1000 * i};
        ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]), 0);
    }
    for (unsigned i = 0; i < 50; i++) {
        struct config *unused = NULL;
        ck_assert_int_eq(keeper_event_send(note_fd, KEEPER_EVENT_STOP, 0, NULL, 0), 0);
        ck_assert_int_eq(keeper_link_read(l, &unused), KEEPER_EVENT_STOP);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(callers[i].thread, NULL), 0);
        ck_assert_int_eq(callers[i].wrong, 0);
        close(callers[i].fd);
    }
    answer_end();
    ck_assert_uint_eq(kernel.lane_socket, 800);
}
END_TEST

START_TEST(reply_to_a_call_given_up_is_passed_over)
{
    int fd = tcp(AF_INET);
    keeper_verbs_reply(call_fd, &(struct keeper_reply){.serial = 0, .result = -EIO}, "too late");
    keeper_verbs_reply(call_fd, &(struct keeper_reply){.serial = 77, .result = -EIO}, "never asked");
    answer_begin();
    ck_assert_int_eq(keeper_lane_socket(l, fd, 0, 0, NULL), 0);
    answer_end();
    close(fd);
}
END_TEST

START_TEST(count_of_what_the_firewall_let_pass)
{
    uint64_t count = 7;
    answer_begin();
    ck_assert_int_eq(keeper_count_peer_down(l, &count), 0);
    ck_assert_uint_eq(count, UINT64_C(1) << 40);
    kernel.count_result = -ENOENT;
    count = 7;
    ck_assert_int_eq(keeper_count_peer_down(l, &count), -ENOENT);
    verbs.kernel = NULL;
    ck_assert_int_eq(keeper_count_peer_down(l, &count), -EAGAIN);
    ck_assert_uint_eq(count, 7);
    answer_end();
}
END_TEST

START_TEST(reload_answers_with_the_reason)
{
    char error[CONFIG_ERROR_MAX] = "";
    answer_begin();
    ck_assert_int_eq(keeper_ask_reload(l, error), -EINVAL);
    ck_assert_str_eq(error, "hawser.ini:3: no such key");
    answer_end();
}
END_TEST

START_TEST(call_to_a_keeper_that_is_gone)
{
    char error[CONFIG_ERROR_MAX] = "";
    int fd = tcp(AF_INET);
    shutdown(call_fd, SHUT_RDWR);
    ck_assert_int_lt(keeper_lane_socket(l, fd, 0, 0, NULL), 0);
    ck_assert_int_lt(keeper_ask_reload(l, error), 0);
    ck_assert_ptr_nonnull(strstr(error, "keeper"));
    close(fd);
}
END_TEST

/* ---- packets no honest engine sends ---- */

static const size_t payload_bytes[] = {
#define SIZE(name, payload, answered, descriptor) payload,
    KEEPER_VERB_TABLE(SIZE)
#undef SIZE
};
static const bool answered[] = {
#define ANSWERED(name, payload, is_answered, descriptor) is_answered,
    KEEPER_VERB_TABLE(ANSWERED)
#undef ANSWERED
};

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void send_raw(int fd, const void *bytes, size_t len, const int *fds, size_t fd_count)
{
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {.iov_len = len};
    memcpy(&part.iov_base, &bytes, sizeof(bytes)); /* sendmsg does not write there */
    struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        h.msg_control = &control;
        h.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
    }
    ck_assert_int_eq(sendmsg(fd, &h, MSG_DONTWAIT), (ssize_t)len);
}

static enum keeper_took take_from(bool calls)
{
    uint32_t serial = 0;
    return keeper_verbs_take(&verbs, calls ? call_fd : note_fd, calls, &serial);
}

START_TEST(packets_of_a_wrong_length_do_nothing)
{
    for (uint32_t verb = 0; verb < KEEPER_VERB_COUNT; verb++) {
        size_t right = sizeof(struct keeper_head) + payload_bytes[verb];
        for (size_t len = 1; len <= right + 9; len++) {
            if (len == right)
                continue;
            uint8_t *packet = calloc(1, len);
            struct keeper_head head = {.verb = verb, .serial = 9};
            memcpy(packet, &head, len < sizeof(head) ? len : sizeof(head));
            send_raw(answered[verb] ? raw_call : raw_note, packet, len, NULL, 0);
            ck_assert_int_eq(take_from(answered[verb]), KEEPER_TOOK_DONE);
            free(packet);
            struct keeper_reply reply;
            while (recv(raw_call, &reply, sizeof(reply), MSG_DONTWAIT) > 0)
                ck_assert_int_eq(reply.result, -EINVAL);
        }
    }
    ck_assert_uint_eq(kernel_calls(), 0);
}
END_TEST

START_TEST(verbs_that_do_not_exist_or_come_the_wrong_way)
{
    struct keeper_message m;
    memset(&m, 0, sizeof(m));
    static const uint32_t unknown[] = {KEEPER_VERB_COUNT, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(*unknown); i++) {
        m.head.verb = unknown[i];
        send_raw(raw_note, &m, sizeof(m.head), NULL, 0);
        ck_assert_int_eq(take_from(false), KEEPER_TOOK_DONE);
        send_raw(raw_call, &m, sizeof(m.head), NULL, 0);
        ck_assert_int_eq(take_from(true), KEEPER_TOOK_DONE);
    }
    for (uint32_t verb = 0; verb < KEEPER_VERB_COUNT; verb++) {
        m.head.verb = verb;
        send_raw(answered[verb] ? raw_note : raw_call, &m, sizeof(m.head) + payload_bytes[verb], NULL, 0);
        ck_assert_int_eq(take_from(!answered[verb]), KEEPER_TOOK_DONE);
    }
    ck_assert_uint_eq(kernel_calls(), 0);
}
END_TEST

START_TEST(descriptors_that_should_not_be_there_are_closed)
{
    int fds[4] = {tcp(AF_INET), tcp(AF_INET), tcp(AF_INET), tcp(AF_INET)};
    struct keeper_message m;
    memset(&m, 0, sizeof(m));
    unsigned before = open_descriptors();
    for (size_t count = 1; count <= 4; count++) {
        m.head.verb = KEEPER_VERB_ALIVE;
        send_raw(raw_note, &m, sizeof(m.head), fds, count);
        ck_assert_int_eq(take_from(false), KEEPER_TOOK_DONE);
        m.head.verb = KEEPER_VERB_LANE_SOCKET;
        send_raw(raw_call, &m, sizeof(m.head) + sizeof(m.is.socket), fds, count);
        ck_assert_int_eq(take_from(true), KEEPER_TOOK_DONE);
        ck_assert_uint_eq(open_descriptors(), before);
        ck_assert_uint_eq(kernel.lane_socket, 1); /* the one with one */
    }
    for (size_t i = 0; i < 4; i++)
        close(fds[i]);
}
END_TEST

START_TEST(congestion_name_without_an_end)
{
    struct keeper_message m;
    memset(&m, 0, sizeof(m));
    m.head.verb = KEEPER_VERB_LANE_SOCKET;
    memset(m.is.socket.congestion, 'a', sizeof(m.is.socket.congestion));
    int fd = tcp(AF_INET);
    send_raw(raw_call, &m, sizeof(m.head) + sizeof(m.is.socket), &fd, 1);
    ck_assert_int_eq(take_from(true), KEEPER_TOOK_DONE);
    ck_assert_uint_eq(kernel.lane_socket, 0);
    close(fd);
}
END_TEST

START_TEST(complaints_have_a_bound)
{
    struct keeper_head head = {.verb = KEEPER_VERB_COUNT};
    for (unsigned i = 0; i < 100; i++) {
        send_raw(raw_note, &head, sizeof(head), NULL, 0);
        ck_assert_int_eq(take_from(false), KEEPER_TOOK_DONE);
    }
    ck_assert_uint_eq(verbs.complaints, 20);
}
END_TEST

/* ---- events, and either side not reading ---- */

START_TEST(heartbeats_and_the_end)
{
    keeper_tell_ready(l);
    keeper_tell_alive(l);
    ck_assert_int_eq(take(), KEEPER_TOOK_READY);
    ck_assert_int_eq(take(), KEEPER_TOOK_ALIVE);
    ck_assert_int_eq(take(), KEEPER_TOOK_NOTHING);
    keeper_link_free(l);
    l = NULL;
    ck_assert_int_eq(take(), KEEPER_TOOK_CLOSED);
}
END_TEST

START_TEST(keeper_that_is_gone)
{
    struct config *unused = NULL;
    ck_assert_int_eq(keeper_link_read(l, &unused), KEEPER_EVENT_NONE);
    close(note_fd);
    note_fd = -1;
    ck_assert_int_eq(keeper_link_read(l, &unused), KEEPER_EVENT_GONE);
    keeper_tell_alive(l); /* no SIGPIPE */
}
END_TEST

START_TEST(engine_that_does_not_read_is_not_waited_for)
{
    int err = 0;
    unsigned sent = 0;
    while (err == 0 && sent < 100000) {
        err = keeper_event_send(note_fd, KEEPER_EVENT_STOP, 0, NULL, 0);
        sent++;
    }
    ck_assert_int_eq(err, -EAGAIN);
}
END_TEST

/* The keeper is busy and the socket full: which peers are up must still arrive, and only the newest. */
START_TEST(peers_wait_for_a_busy_keeper)
{
    struct keeper_head head = {.verb = KEEPER_VERB_ALIVE};
    while (send(raw_note, &head, sizeof(head), MSG_DONTWAIT) > 0)
        ;
    tell_up(true, true);
    keeper_tell_ready(l);
    tell_up(false, true);
    enum keeper_took took;
    while ((took = take()) == KEEPER_TOOK_ALIVE)
        ;
    ck_assert_int_eq(took, KEEPER_TOOK_NOTHING);
    ck_assert_uint_eq(kernel.set_peers, 0);
    keeper_tell_alive(l);
    ck_assert_int_eq(take(), KEEPER_TOOK_READY);
    ck_assert_int_eq(take(), KEEPER_TOOK_DONE);
    ck_assert_int_eq(take(), KEEPER_TOOK_ALIVE);
    ck_assert_uint_eq(kernel.set_peers, 1);
    ck_assert(!kernel.up[0] && kernel.up[1]);
}
END_TEST

START_TEST(text_that_arrives_is_sealed)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct keeper_event_message m;
    struct iovec part = {.iov_base = &m, .iov_len = sizeof(m)};
    struct msghdr h = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ck_assert_int_eq(keeper_event_send(note_fd, KEEPER_EVENT_RELOAD, 3, "[node]\n", 7), 0);
    ck_assert_int_eq(recvmsg(raw_note, &h, MSG_DONTWAIT), sizeof(m));
    ck_assert_uint_eq(m.generation, 3);
    ck_assert_uint_eq(m.text_bytes, 7);
    int fd = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    ck_assert_ptr_nonnull(c);
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    char text[16];
    ck_assert_int_eq(pread(fd, text, sizeof(text), 0), 7);
    ck_assert_int_eq(memcmp(text, "[node]\n", 7), 0);
    ck_assert_int_lt(write(fd, "x", 1), 0);
    ck_assert_int_lt(ftruncate(fd, 0), 0);
    close(fd);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, peers_that_are_up);
    tcase_add_test(tc, peers_in_another_number_than_configured);
    tcase_add_test(tc, peers_are_carried_over_by_name);
    tcase_add_test(tc, peer_with_a_new_pin_is_down);
    tcase_add_test(tc, peers_of_the_configuration_before_are_passed_over);
    tcase_add_test(tc, a_new_engine_begins_with_all_down);
    tcase_add_test(tc, nothing_is_caught_while_stopping);
    tcase_add_test(tc, a_peer_that_went_down_is_tried_again);
    tcase_add_test(tc, configuration_that_cannot_be_taken_ends_the_engine);
    tcase_add_test(tc, refused_server_in_a_peers_networks);
    tcase_add_test(tc, refused_server_that_could_not_have_been_caught);
    tcase_add_test(tc, route_to_a_peer);
    tcase_add_test(tc, route_to_nobody);
    tcase_add_test(tc, route_out_of_range);
    tcase_add_test(tc, socket_of_a_lane);
    tcase_add_test(tc, socket_that_is_none);
    tcase_add_test(tc, socket_options_out_of_range);
    tcase_add_test(tc, threads_get_their_own_replies_and_the_main_one_its_events);
    tcase_add_test(tc, reply_to_a_call_given_up_is_passed_over);
    tcase_add_test(tc, count_of_what_the_firewall_let_pass);
    tcase_add_test(tc, reload_answers_with_the_reason);
    tcase_add_test(tc, call_to_a_keeper_that_is_gone);
    tcase_add_test(tc, packets_of_a_wrong_length_do_nothing);
    tcase_add_test(tc, verbs_that_do_not_exist_or_come_the_wrong_way);
    tcase_add_test(tc, descriptors_that_should_not_be_there_are_closed);
    tcase_add_test(tc, congestion_name_without_an_end);
    tcase_add_test(tc, complaints_have_a_bound);
    tcase_add_test(tc, heartbeats_and_the_end);
    tcase_add_test(tc, keeper_that_is_gone);
    tcase_add_test(tc, engine_that_does_not_read_is_not_waited_for);
    tcase_add_test(tc, peers_wait_for_a_busy_keeper);
    tcase_add_test(tc, text_that_arrives_is_sealed);
}

int main(void)
{
    Suite *suite = suite_create("keeper_verbs");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    add_tests(tc);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
