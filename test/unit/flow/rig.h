/* rig.h - two nodes in one process for the tests of this floor: each with a mux, a tunnel over real TLS on
 * loopback, and legs; the test's own thread is every host. Loops run on 1 to 4 threads: homes and legs share
 * or have their own. Nothing here waits for time: rig_until looks again until a condition holds, and fails
 * only when it hangs. */
#ifndef RIG_H
#define RIG_H

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

#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/greeter.h"
#include "hawser/identity.h"
#include "hawser/log.h"
#include "hawser/relay.h"
#include "hawser/remember.h"
#include "hawser/session.h"
#include "tunnel/key_pair.h"

enum { RIG_HANG_S = 20, RIG_LOOPS_MAX = 4 };

/* ---- loops ---- */

struct rig_loop {
    struct loop *loop;
    pthread_t thread;
};

static void *rig_run_loop(void *arg)
{
    struct rig_loop *l = arg;
    loop_run(l->loop);
    leg_thread_end();
    compress_thread_end();
    chunk_thread_end();
    return NULL;
}

struct rig_call {
    struct mail mail;
    void (*work)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done;
};

static __attribute__((unused)) void rig_take_call(struct mail *m)
{
    struct rig_call *c = (struct rig_call *)(void *)m;
    c->work(c->arg);
    pthread_mutex_lock(&c->lock);
    c->is_done = true;
    pthread_cond_signal(&c->done);
    pthread_mutex_unlock(&c->lock);
}

/* Run work on the loop's thread and wait for its end. */
static __attribute__((unused)) void rig_on(struct loop *loop, void (*work)(void *arg), void *arg)
{
    struct rig_call c = {.mail.deliver = rig_take_call, .work = work, .arg = arg};
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.done, NULL);
    loop_post(loop, &c.mail);
    pthread_mutex_lock(&c.lock);
    while (!c.is_done)
        pthread_cond_wait(&c.done, &c.lock);
    pthread_mutex_unlock(&c.lock);
    pthread_cond_destroy(&c.done);
    pthread_mutex_destroy(&c.lock);
}

/* Look at a condition until it holds; the pause only spares the CPU. */
#define rig_until(condition)                                                                                 \
    do {                                                                                                     \
        uint64_t rig_from = clock_now_us();                                                                  \
        while (!(condition)) {                                                                               \
            ck_assert_msg(clock_now_us() - rig_from < RIG_HANG_S * 1000000ull, "hangs: " #condition);        \
            poll(NULL, 0, 1);                                                                                \
        }                                                                                                    \
    } while (0)

/* ---- nodes ---- */

struct rig_options {
    unsigned loops;                                         /* 1..4; 0: 1 */
    bool dial[2];                                           /* who dials; neither: node 0 */
    uint64_t session_floor, growth, opening_credit, hold_s; /* 0: generous */
    unsigned lanes;
    uint32_t sessions_max;
    const char *classes; /* text of [class] sections */
    bool stores;         /* each node has one, of the least size */
};

struct rig;

struct rig_node {
    struct rig *rig;
    int number, listener;
    uint16_t port;
    struct leg_host home, host;
    struct mux *mux;
    struct greeter *greeter;
    struct event accept;
    struct tunnel_world tunnel_world;
    struct mux_world mux_world;
    struct mux_memory memory;
    struct budget store_memory;
    struct greeter_world greeter_world;
    struct config *config;
    pthread_mutex_t lock;
    uint8_t instance[GREETING_INSTANCE_BYTES];
    _Atomic int up, ups, downs, refused, refused_reason, admit_reason;
    _Atomic uint32_t sessions;
    uint32_t sessions_max;
    _Atomic bool gone;
};

struct rig {
    struct rig_options options;
    struct rig_loop loops[RIG_LOOPS_MAX];
    unsigned loop_count;
    struct rig_node nodes[2];
};

static __attribute__((unused)) int rig_lane_socket(void *owner, int fd, uint64_t rcvbuf, uint64_t sndbuf,
                                                   const char *congestion)
{
    (void)owner, (void)fd, (void)rcvbuf, (void)sndbuf, (void)congestion;
    return 0;
}

static __attribute__((unused)) void rig_lane_route(void *owner, const struct addr *peer, uint32_t initcwnd,
                                                   uint32_t initrwnd)
{
    (void)owner, (void)peer, (void)initcwnd, (void)initrwnd;
}

static __attribute__((unused)) void rig_learned(void *owner, const char *peer, uint64_t rate, uint64_t rtt_us)
{
    (void)owner, (void)peer, (void)rate, (void)rtt_us;
}

static __attribute__((unused)) void rig_instance(void *owner, const char *peer,
                                                 const uint8_t instance[static GREETING_INSTANCE_BYTES])
{
    struct rig_node *n = owner;
    (void)peer;
    pthread_mutex_lock(&n->lock);
    memcpy(n->instance, instance, sizeof(n->instance));
    pthread_mutex_unlock(&n->lock);
}

static __attribute__((unused)) int rig_identify(void *owner, const struct endpoint *from,
                                                const uint8_t pin[static CONFIG_PIN_BYTES],
                                                struct greeting *ours)
{
    static const uint8_t none[GREETING_INSTANCE_BYTES];
    struct rig_node *n = owner;
    (void)from;
    if (memcmp(pin, keys[!n->number].pin, CONFIG_PIN_BYTES) != 0)
        return -ERR_PIN;
    snprintf(ours->name, sizeof(ours->name), "%s", n->tunnel_world.node_name);
    ours->opening_credit_bytes = n->tunnel_world.opening_credit_bytes;
    ours->features = n->tunnel_world.features;
    pthread_mutex_lock(&n->lock);
    memcpy(ours->instance, n->instance, sizeof(ours->instance));
    pthread_mutex_unlock(&n->lock);
    return memcmp(ours->instance, none, sizeof(none)) == 0 ? -ERR_STARTING : 0;
}

struct rig_delivery {
    struct mail mail;
    struct rig_node *node;
    struct lane *lane;
};

static __attribute__((unused)) void rig_adopt(struct mail *m)
{
    struct rig_delivery d = *(struct rig_delivery *)(void *)m;
    free(m);
    if (d.node->mux != NULL)
        mux_adopt(d.node->mux, d.lane);
    else
        lane_free(d.lane);
}

static __attribute__((unused)) void rig_deliver(void *owner, struct lane *l)
{
    struct rig_node *n = owner;
    struct rig_delivery *d = calloc(1, sizeof(*d));
    *d = (struct rig_delivery){.mail.deliver = rig_adopt, .node = n, .lane = l};
    loop_post(n->home.loop, &d->mail);
}

static __attribute__((unused)) void rig_on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct rig_node *n = arg;
    (void)what;
    int lane = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (lane >= 0)
        greeter_take(n->greeter, lane);
}

static __attribute__((unused)) struct leg_host *rig_place(void *owner, struct leg_host *home)
{
    struct rig_node *n = owner;
    (void)home;
    leg_host_reserve(&n->host, 1);
    return &n->host;
}

static enum frame_rst_reason rig_admit(void *owner, struct leg_host *home, const struct config *config,
                                       size_t peer, const struct frame *open, int *class_index,
                                       enum config_source *source)
{
    struct rig_node *n = owner;
    (void)home, (void)peer;
    *class_index = RULES_NONE;
    for (size_t i = 0; i < config->class_count; i++) {
        const char *name = config->classes[i].name;
        if (strlen(name) == open->open.class_len &&
            memcmp(name, open->open.class_name, open->open.class_len) == 0)
            *class_index = (int)i;
    }
    *source = CONFIG_SOURCE_SELF;
    return (enum frame_rst_reason)atomic_load(&n->admit_reason);
}

static __attribute__((unused)) void rig_refused(void *owner, const struct endpoint *server,
                                                enum frame_rst_reason reason)
{
    struct rig_node *n = owner;
    (void)server;
    atomic_store(&n->refused_reason, (int)reason);
    atomic_fetch_add(&n->refused, 1);
}

static __attribute__((unused)) void rig_state(void *owner, const char *peer, bool up)
{
    struct rig_node *n = owner;
    (void)peer;
    atomic_fetch_add(up ? &n->ups : &n->downs, 1);
    atomic_store(&n->up, up);
}

static __attribute__((unused)) void rig_session_ended(void *owner)
{
    struct rig_node *n = owner;
    atomic_fetch_sub(&n->sessions, 1);
}

static __attribute__((unused)) bool rig_session_starts(void *owner, uint64_t for_peer)
{
    (void)for_peer;
    struct rig_node *n = owner;
    if (atomic_fetch_add(&n->sessions, 1) < n->sessions_max)
        return true;
    atomic_fetch_sub(&n->sessions, 1);
    return false;
}

static __attribute__((unused)) int rig_listen(uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(fd, 128), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static __attribute__((unused)) struct config *rig_config(const struct rig *r, int number, const char *classes,
                                                         unsigned lanes)
{
    char text[4096], address[64] = "", error[CONFIG_ERROR_MAX];
    const struct rig_options *o = &r->options;
    struct config *c = NULL;
    if (o->dial[number])
        snprintf(address, sizeof(address), "address = 127.0.0.1:%u\n", r->nodes[!number].port);
    snprintf(
        text, sizeof(text),
        "[node]\nname = n%d\nidentity = /nowhere\n[tunnel]\nlisten = 127.0.0.1:%u\n[peer other]\n%spin = %s\n"
        "networks = 10.0.0.0/8\nlanes = %u\n%s",
        number, r->nodes[number].port, address, keys[!number].pin_text, lanes,
        classes != NULL ? classes : "");
    int err = config_parse(&c, "rig", text, strlen(text), error);
    ck_assert_msg(err == 0, "%s", error);
    if (o->hold_s > 0)
        c->peers[0].hold_us = o->hold_s * 1000000;
    return c;
}

static __attribute__((unused)) void rig_start_node(void *arg)
{
    struct rig_node *n = arg;
    ck_assert_int_eq(mux_new(&n->mux, &n->home, &n->mux_world, &n->tunnel_world, n->config, 0, 0, 0), 0);
}

static __attribute__((unused)) void rig_start_greeter(void *arg)
{
    struct rig_node *n = arg;
    ck_assert_int_eq(greeter_new(&n->greeter, n->host.loop, &n->greeter_world), 0);
    event_assign(&n->accept, loop_base(n->host.loop), n->listener, EV_READ | EV_PERSIST, rig_on_accept, n);
    event_add(&n->accept, NULL);
}

static __attribute__((unused)) void rig_make_store(struct rig_node *n)
{
    static const struct store_events events = {.evicted = mux_segment_evicted};
    uint64_t seed = 1 + (uint64_t)n->number;
    budget_init(&n->store_memory, STORE_LEAST_BYTES);
    ck_assert_int_eq(
        store_new(&n->home.store, &n->store_memory, STORE_LEAST_BYTES, seed, seed, &events, &n->home), 0);
    n->tunnel_world.features |= GREETING_FEATURE_REFERENCES;
}

static __attribute__((unused)) void rig_prepare_node(struct rig *r, int number)
{
    struct rig_node *n = &r->nodes[number];
    const struct rig_options *o = &r->options;
    n->rig = r;
    n->number = number;
    pthread_mutex_init(&n->lock, NULL);
    TAILQ_INIT(&n->home.muxes);
    TAILQ_INIT(&n->host.muxes);
    n->home.loop = r->loops[(unsigned)number % r->loop_count].loop;
    n->host.loop = r->loops[(unsigned)(2 + number) % r->loop_count].loop;
    n->sessions_max = o->sessions_max > 0 ? o->sessions_max : 10000;
    n->memory.session_floor_bytes = o->session_floor > 0 ? o->session_floor : 64 * 1024;
    budget_init(&n->memory.floor, 1ull << 40);
    budget_init(&n->memory.growth, o->growth > 0 ? o->growth : 1ull << 30);
    n->tunnel_world = (struct tunnel_world){
        .dial_tls = keys[number].dial,
        .node_name = number == 0 ? "zero" : "one",
        .opening_credit_bytes = o->opening_credit > 0 ? o->opening_credit : 16 << 20,
        .owner = n,
        .lane_socket = rig_lane_socket,
        .lane_route = rig_lane_route,
        .learned = rig_learned,
        .instance = rig_instance,
    };
    if (o->stores)
        rig_make_store(n);
    memcpy(n->tunnel_world.pin, keys[number].pin, CONFIG_PIN_BYTES);
    n->mux_world = (struct mux_world){
        .memory = &n->memory,
        .connect_timeout_us = 10000000,
        .owner = n,
        .place = rig_place,
        .admit = rig_admit,
        .refused = rig_refused,
        .state = rig_state,
        .session_ended = rig_session_ended,
        .session_starts = rig_session_starts,
    };
    n->greeter_world = (struct greeter_world){
        .accept_tls = keys[number].accept, .owner = n, .identify = rig_identify, .deliver = rig_deliver};
    n->config = rig_config(r, number, o->classes, o->lanes > 0 ? o->lanes : 2);
}

static __attribute__((unused)) void rig_start(struct rig *r, struct rig_options options)
{
    memset(r, 0, sizeof(*r));
    r->options = options;
    if (!options.dial[0] && !options.dial[1])
        r->options.dial[0] = true;
    r->loop_count = options.loops > 0 ? options.loops : 1;
    for (unsigned i = 0; i < r->loop_count; i++)
        ck_assert_int_eq(loop_new(&r->loops[i].loop), 0);
    for (int i = 0; i < 2; i++) {
        r->nodes[i].listener = rig_listen(&r->nodes[i].port);
        fcntl(r->nodes[i].listener, F_SETFL, O_NONBLOCK);
    }
    for (int i = 0; i < 2; i++)
        rig_prepare_node(r, i);
    for (unsigned i = 0; i < r->loop_count; i++)
        ck_assert_int_eq(pthread_create(&r->loops[i].thread, NULL, rig_run_loop, &r->loops[i]), 0);
    for (int i = 0; i < 2; i++)
        rig_on(r->nodes[i].host.loop, rig_start_greeter, &r->nodes[i]);
    for (int i = 0; i < 2; i++)
        rig_on(r->nodes[i].home.loop, rig_start_node, &r->nodes[i]);
}

static __attribute__((unused)) void rig_wait_up(struct rig *r)
{
    rig_until(atomic_load(&r->nodes[0].up) && atomic_load(&r->nodes[1].up));
}

static __attribute__((unused)) void rig_is_gone(void *arg)
{
    struct rig_node *n = arg;
    n->mux = NULL;
    atomic_store(&n->gone, true);
}

static __attribute__((unused)) void rig_end_mux(void *arg)
{
    struct rig_node *n = arg;
    if (n->mux != NULL)
        mux_end(n->mux, rig_is_gone, n);
}

static __attribute__((unused)) void rig_end_greeter(void *arg)
{
    struct rig_node *n = arg;
    event_del(&n->accept);
    greeter_free(n->greeter);
}

/* End everything; nothing may be left: no session, no reserved memory, no chunk, no leg. */
static __attribute__((unused)) void rig_end(struct rig *r)
{
    for (int i = 0; i < 2; i++)
        rig_on(r->nodes[i].host.loop, rig_end_greeter, &r->nodes[i]);
    for (int i = 0; i < 2; i++)
        rig_on(r->nodes[i].home.loop, rig_end_mux, &r->nodes[i]);
    for (int i = 0; i < 2; i++)
        rig_until(atomic_load(&r->nodes[i].gone));
    for (unsigned i = 0; i < r->loop_count; i++)
        loop_stop(r->loops[i].loop);
    for (unsigned i = 0; i < r->loop_count; i++)
        pthread_join(r->loops[i].thread, NULL);
    for (unsigned i = 0; i < r->loop_count; i++)
        loop_free(r->loops[i].loop);
    leg_thread_end();
    compress_thread_end();
    chunk_thread_end();
    for (int i = 0; i < 2; i++) {
        struct rig_node *n = &r->nodes[i];
        store_free(n->home.store);
        remember_free(&n->home);
        close(n->listener);
        config_unref(n->config);
        pthread_mutex_destroy(&n->lock);
        ck_assert_uint_eq(atomic_load(&n->sessions), 0);
        ck_assert_uint_eq(atomic_load(&n->host.live), 0);
        ck_assert_uint_eq(budget_used(&n->memory.floor), 0);
        ck_assert_uint_eq(budget_used(&n->memory.growth), 0);
    }
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

/* ---- hosts ---- */

static struct endpoint rig_loopback(uint16_t port)
{
    struct endpoint e = {.addr = {.family = AF_INET, .bytes = {127, 0, 0, 1}}, .port = port};
    return e;
}

/* A connected pair of TCP sockets. */
static __attribute__((unused)) void rig_tcp_pair(int fds[2])
{
    uint16_t port;
    int listener = rig_listen(&port);
    struct endpoint to = rig_loopback(port);
    struct sockaddr_storage sa;
    socklen_t len = endpoint_to_sockaddr(&to, &sa);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fds[0], (struct sockaddr *)&sa, len), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    ck_assert_int_ge(fds[1], 0);
    close(listener);
}

struct rig_opening {
    struct rig_node *node;
    struct mux_intercepted in;
};

static __attribute__((unused)) void rig_open_it(void *arg)
{
    struct rig_opening *o = arg;
    if (o->node->mux != NULL) {
        mux_open(o->node->mux, &o->in);
        return;
    }
    close(o->in.fd);
    leg_host_release(o->in.host, 1);
    rig_session_ended(o->node);
}

/* A client at the node connects to server_port (at the other node); the client's end, non-blocking. */
static __attribute__((unused)) int rig_connect_class(struct rig *r, int number, uint16_t server_port,
                                                     int class_index)
{
    struct rig_node *n = &r->nodes[number];
    int fds[2];
    rig_tcp_pair(fds);
    ck_assert(rig_session_starts(n, 0));
    struct rig_opening o = {.node = n,
                            .in = {.fd = fds[1],
                                   .client = rig_loopback(1),
                                   .server = rig_loopback(server_port),
                                   .class_index = class_index,
                                   .host = &n->host}};
    leg_host_reserve(&n->host, 1);
    rig_on(n->home.loop, rig_open_it, &o);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    return fds[0];
}

static __attribute__((unused)) int rig_connect(struct rig *r, int number, uint16_t server_port)
{
    return rig_connect_class(r, number, server_port, RULES_NONE);
}

static __attribute__((unused)) int rig_accept(int listener)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};
    ck_assert_msg(poll(&p, 1, RIG_HANG_S * 1000) == 1, "no connection came");
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* One host of a transfer: sends `send` bytes of one pattern, expects `expect` of another, then the end. */
struct rig_host {
    int fd;
    uint32_t seed_out, seed_in;
    uint64_t send, expect;
    uint64_t sent, got;
    bool keep_open;  /* no shutdown after the last byte */
    bool wait_first; /* nothing is sent before everything expected is in, its end too */
    bool ended, shut;
    int err; /* what the socket said */
};

static __attribute__((unused)) uint8_t rig_byte(uint32_t seed, uint64_t at)
{
    uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15ull ^ seed;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    return (uint8_t)(x >> (8 * (at % 8)));
}

static __attribute__((unused)) void rig_host_send(struct rig_host *h)
{
    uint8_t bytes[16384];
    if (h->wait_first && !h->ended)
        return;
    while (h->sent < h->send) {
        size_t len = h->send - h->sent < sizeof(bytes) ? (size_t)(h->send - h->sent) : sizeof(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = rig_byte(h->seed_out, h->sent + i);
        ssize_t n = send(h->fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN)
                h->err = errno;
            return;
        }
        h->sent += (uint64_t)n;
    }
    if (!h->keep_open && !h->shut) {
        h->shut = true;
        shutdown(h->fd, SHUT_WR);
    }
}

static __attribute__((unused)) void rig_host_receive(struct rig_host *h)
{
    uint8_t bytes[65536];
    while (!h->ended) {
        ssize_t n = recv(h->fd, bytes, sizeof(bytes), 0);
        if (n < 0) {
            if (errno != EAGAIN)
                h->err = errno;
            return;
        }
        if (n == 0) {
            h->ended = true;
            return;
        }
        if (h->got + (uint64_t)n > h->expect)
            ck_abort_msg("%llu bytes where %llu were sent", (unsigned long long)(h->got + (uint64_t)n),
                         (unsigned long long)h->expect);
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] !=
                rig_byte(h->seed_in, h->got + (uint64_t)i)) /* a call of Check for each byte takes long */
                ck_abort_msg("byte %llu is wrong", (unsigned long long)(h->got + (uint64_t)i));
        }
        h->got += (uint64_t)n;
    }
}

static __attribute__((unused)) bool rig_host_done(const struct rig_host *h)
{
    return h->err != 0 || (h->sent == h->send && h->got == h->expect && (h->keep_open || h->shut) &&
                           (h->ended || h->keep_open));
}

/* One round over all hosts; true when all are done. */
static __attribute__((unused)) bool rig_turn(struct rig_host *hosts, size_t count, int wait_ms)
{
    struct pollfd polls[256];
    bool all = true;
    ck_assert_uint_le(count, 256);
    for (size_t i = 0; i < count; i++) {
        struct rig_host *h = &hosts[i];
        bool writes = h->sent < h->send && !(h->wait_first && !h->ended);
        short events = (short)((writes ? POLLOUT : 0) | (h->ended ? 0 : POLLIN));
        polls[i] = (struct pollfd){.fd = rig_host_done(h) ? -1 : h->fd, .events = events};
        all = all && rig_host_done(h);
    }
    if (all)
        return true;
    poll(polls, (nfds_t)count, wait_ms);
    for (size_t i = 0; i < count; i++) {
        if (hosts[i].err != 0)
            continue;
        rig_host_receive(&hosts[i]);
        if (hosts[i].err == 0)
            rig_host_send(&hosts[i]);
    }
    return false;
}

static __attribute__((unused)) void rig_transfer(struct rig_host *hosts, size_t count)
{
    uint64_t moved = 0, since = clock_now_us();
    while (!rig_turn(hosts, count, 1000)) {
        uint64_t now = 0;
        for (size_t i = 0; i < count; i++)
            now += hosts[i].sent + hosts[i].got + hosts[i].ended;
        if (now != moved) {
            moved = now;
            since = clock_now_us();
        }
        for (size_t i = 0; i < count && clock_now_us() - since >= RIG_HANG_S * 1000000ull; i++)
            fprintf(stderr, "host %zu: sent %llu of %llu, got %llu of %llu, ended %d\n", i,
                    (unsigned long long)hosts[i].sent, (unsigned long long)hosts[i].send,
                    (unsigned long long)hosts[i].got, (unsigned long long)hosts[i].expect, hosts[i].ended);
        ck_assert_msg(clock_now_us() - since < RIG_HANG_S * 1000000ull, "the transfer hangs");
    }
}

/* Two hosts of one session; the client sends up, the server down. */
static __attribute__((unused)) void rig_hosts(struct rig_host hosts[2], int client, int server, uint64_t up,
                                              uint64_t down)
{
    uint32_t seed = (uint32_t)client * 7919u;
    hosts[0] =
        (struct rig_host){.fd = client, .seed_out = seed, .seed_in = seed + 1, .send = up, .expect = down};
    hosts[1] =
        (struct rig_host){.fd = server, .seed_out = seed + 1, .seed_in = seed, .send = down, .expect = up};
}

static __attribute__((unused)) void rig_reset(int fd)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

/* Wait until the socket's connection was reset; bytes before that are let by. */
static __attribute__((unused)) void rig_expect_reset(int fd)
{
    char bytes[4096];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_msg(poll(&p, 1, RIG_HANG_S * 1000) == 1, "no reset came");
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
        ck_assert_msg(n != 0, "an end came where a reset was due");
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n < 0) {
            ck_assert_msg(errno == ECONNRESET, "%s", strerror(errno));
            return;
        }
    }
}

/* rig_cut looks at descriptors of other threads: that is its purpose. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:rig_cut\n";
}

/* Cut lanes that node 0 or 1 dialled, at the dialling end: the n-th found, or all (-1). How many were cut. */
static __attribute__((unused)) int rig_cut(struct rig *r, int which)
{
    int cut = 0, seen = 0;
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *e;
    ck_assert_ptr_nonnull(dir);
    while ((e = readdir(dir)) != NULL) {
        struct sockaddr_in sa;
        socklen_t len = sizeof(sa);
        int fd = atoi(e->d_name);
        if (e->d_name[0] == '.' || getpeername(fd, (struct sockaddr *)&sa, &len) < 0 ||
            sa.sin_family != AF_INET)
            continue;
        if (ntohs(sa.sin_port) != r->nodes[0].port && ntohs(sa.sin_port) != r->nodes[1].port)
            continue;
        if ((which < 0 || which == seen) && shutdown(fd, SHUT_RDWR) == 0)
            cut++;
        seen++;
    }
    closedir(dir);
    return cut;
}

static __attribute__((unused)) uint64_t rig_sessions(struct rig *r)
{
    return atomic_load(&r->nodes[0].sessions) + atomic_load(&r->nodes[1].sessions);
}

static __attribute__((unused)) int rig_main(const char *name, void (*add)(TCase *t))
{
    if (getenv("RIG_LOG") == NULL)
        log_set_level(LOG_LEVEL_ERROR);
    else
        log_set_level(LOG_LEVEL_DEBUG);
    make_keys();
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 60);
    add(t);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    free_keys();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
