#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/log.h"
#include "hawser/node.h"
#include "hawser/relay.h"

/* The TPROXY listener is bound to the loopback addresses (bound to all it would steal real traffic to its
 * port). Its being open is the health switch: when it is closed, nft's tproxy falls through and new
 * connections go direct. */

enum {
    ACCEPT_TURN = 64,
    BACKLOG = 4096,
    FAST_OPEN_QUEUE = 256,
    MARK_HIGH_PERCENT = 95, /* of a budget: close the listener above, open it again below the low mark */
    MARK_LOW_PERCENT = 85,
    SYN_MAX = 256,
    LANE_BUFFER_BYTES = 32 << 20,
};

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

/* ---- one caught connection ---- */

static bool over(uint64_t used, uint64_t cap, unsigned percent)
{
    return used * 100 >= cap * percent;
}

/* DSCP of the SYN (tcp(7), TCP_SAVED_SYN): the IP header comes first. */
static uint8_t dscp_of(int fd)
{
    uint8_t syn[SYN_MAX];
    socklen_t len = sizeof(syn);
    if (getsockopt(fd, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len) < 0 || len < 20)
        return 0;
    if (syn[0] >> 4 == 4)
        return syn[1] >> 2;
    return (uint8_t)((syn[0] & 0x0f) << 2 | syn[1] >> 6);
}

static void reset_and_close(int fd)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
}

struct open_order {
    struct node_peer *peer;
    struct mux_intercepted in;
};

static void open_on_home(struct worker *w, void *arg)
{
    struct open_order *o = arg;
    if (o->peer->mux != NULL) {
        mux_open(o->peer->mux, &o->in);
    } else {
        reset_and_close(o->in.fd);
        leg_host_release(o->in.host, 1);
        atomic_fetch_sub(&w->node->sessions, 1);
    }
    free(o);
}

struct relay_order {
    int fd;
    struct leg_origin origin;
};

static void relay_ended(void *arg)
{
    struct node *n = arg;
    atomic_fetch_sub(&n->sessions, 2);
}

static void relay_on_worker(struct worker *w, void *arg)
{
    struct relay_order *o = arg;
    if (relay_start(&w->host, o->fd, &o->origin, relay_ended, w->node) < 0)
        relay_ended(w->node);
    free(o);
}

struct caught {
    int fd;
    struct endpoint client, server;
    uint8_t dscp;
};

static void note(struct node *n, enum bypass_reason reason, const struct caught *c)
{
    char subject[2 * ENDPOINT_TEXT_MAX + 8], from[ENDPOINT_TEXT_MAX], to[ENDPOINT_TEXT_MAX];
    snprintf(subject, sizeof(subject), "%s -> %s", endpoint_format(&c->client, from),
             endpoint_format(&c->server, to));
    bypass_note(&n->bypass, reason, subject);
}

/* Too late for the firewall: connect the client with its destination ourselves. */
static void go_direct(struct node *n, const struct caught *c, enum bypass_reason reason)
{
    note(n, reason, c);
    struct relay_order *o = malloc(sizeof(*o));
    if (o == NULL) {
        reset_and_close(c->fd);
        return;
    }
    atomic_fetch_add(&n->sessions,
                     2); /* two descriptors; counted, not refused: a budget may be why it goes direct */
    *o = (struct relay_order){.fd = c->fd};
    o->origin = (struct leg_origin){.client = c->client,
                                    .server = c->server,
                                    .source = CONFIG_SOURCE_CLIENT,
                                    .dscp = c->dscp,
                                    .timeout_us = n->mux_world.connect_timeout_us};
    struct worker *w = worker_pick(n, NULL);
    leg_host_reserve(&w->host, 1);
    if (worker_call(w, relay_on_worker, o) == 0)
        return;
    leg_host_release(&w->host, 2);
    relay_ended(n);
    reset_and_close(c->fd);
    free(o);
}

static void become_session(struct node *n, const struct caught *c, struct node_peer *peer, int class_index)
{
    struct open_order *o = malloc(sizeof(*o));
    if (o == NULL || !n->mux_world.session_starts(n, 0)) {
        free(o);
        go_direct(n, c, BYPASS_SESSIONS);
        return;
    }
    struct worker *w = worker_pick(n, peer->home);
    *o = (struct open_order){.peer = peer};
    o->in = (struct mux_intercepted){.fd = c->fd,
                                     .client = c->client,
                                     .server = c->server,
                                     .dscp = c->dscp,
                                     .class_index = class_index,
                                     .host = &w->host};
    if (worker_call(peer->home, open_on_home, o) == 0)
        return;
    leg_host_release(&w->host, 1);
    atomic_fetch_sub(&n->sessions, 1);
    reset_and_close(c->fd);
    free(o);
}

static bool is_refused(const struct node *n, const struct endpoint *server);

static bool is_own(const struct landscape *l, const struct addr *a)
{
    if (addr_is_special(a))
        return true;
    for (size_t i = 0; i < l->forbidden_count; i++) {
        if (addr_equal(&l->forbidden[i], a))
            return true;
    }
    return false;
}

static void route_caught(struct node *n, const struct caught *c)
{
    const struct landscape *l = n->landscape;
    if (is_own(l, &c->server.addr)) {
        note(n, BYPASS_LOOP, c);
        reset_and_close(c->fd);
        return;
    }
    int index = rules_peer_for(l->rules, &c->server.addr);
    struct node_peer *peer = index >= 0 ? peers_by_index(n, (size_t)index) : NULL;
    struct rules_flow flow = {.client = c->client,
                              .server = c->server,
                              .dscp = c->dscp,
                              .peer = index,
                              .iface = landscape_interface_of(l, &c->client.addr)};
    int class_index = rules_class_for(l->rules, &flow);
    enum config_action action =
        class_index >= 0 ? l->config->classes[class_index].action : CONFIG_ACTION_ACCELERATE;
    if (action == CONFIG_ACTION_DENY) {
        note(n, BYPASS_DENY, c);
        reset_and_close(c->fd);
    } else if (action == CONFIG_ACTION_BYPASS) {
        go_direct(n, c, BYPASS_CLASS);
    } else if (n->draining) {
        go_direct(n, c, n->closed_for);
    } else if (peer == NULL) {
        go_direct(n, c, BYPASS_NO_PEER);
    } else if (!peer->up) {
        go_direct(n, c, BYPASS_PEER_DOWN);
    } else if (is_refused(n, &c->server)) {
        go_direct(n, c, BYPASS_REFUSED);
    } else {
        become_session(n, c, peer, class_index);
    }
}

/* ---- listeners ---- */

static void close_listener(struct node *n, unsigned i)
{
    if (n->intercept_fd[i] < 0)
        return;
    event_del(&n->intercept_event[i]);
    close(n->intercept_fd[i]);
    n->intercept_fd[i] = -1;
}

static int accept_one(struct node *n, int listener);

/* What waits in the queue would be reset with the listener: it goes direct. */
static void drain_listener(struct node *n, unsigned i)
{
    for (int k = 0; k < BACKLOG && n->intercept_fd[i] >= 0; k++) {
        if (accept_one(n, n->intercept_fd[i]) < 0)
            return;
    }
}

static void stop_accepting(struct node *n, enum bypass_reason reason, const char *figures)
{
    if (!n->accepting)
        return;
    n->closed_for = reason;
    n->draining = true;
    drain_listener(n, 0);
    drain_listener(n, 1);
    n->draining = false;
    close_listener(n, 0);
    close_listener(n, 1);
    n->accepting = false;
    bypass_note(&n->bypass, reason, figures);
}

static int accept_one(struct node *n, int listener)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    struct caught c = {0};
    c.fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (c.fd < 0)
        return -errno;
    int err = endpoint_from_sockaddr(&c.client, (struct sockaddr *)&sa);
    len = sizeof(sa);
    if (err == 0 && getsockname(c.fd, (struct sockaddr *)&sa, &len) < 0)
        err = -errno;
    if (err == 0)
        err = endpoint_from_sockaddr(&c.server, (struct sockaddr *)&sa);
    if (err < 0) {
        close(c.fd);
        return n->accepting ? 0 : -EAGAIN;
    }
    c.dscp = dscp_of(c.fd);
    route_caught(n, &c);
    return 0;
}

static void on_caught(evutil_socket_t fd, short what, void *arg)
{
    struct node *n = arg;
    (void)what;
    for (int i = 0; i < ACCEPT_TURN && n->accepting; i++) {
        int err = accept_one(n, fd);
        if (err == -EMFILE || err == -ENFILE) {
            stop_accepting(n, BYPASS_DESCRIPTORS, "accept");
            return;
        }
        if (err == -EAGAIN)
            return;
        if (over(atomic_load(&n->sessions), atomic_load(&n->sessions_max), MARK_HIGH_PERCENT)) {
            intercept_tick(n); /* a burst does not wait for the next second */
            return;
        }
    }
}

static int bind_listener(const struct endpoint *at, bool transparent, int *out)
{
    int one = 1, family = at->addr.family, err;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    struct sockaddr_storage sa;
    socklen_t len = endpoint_to_sockaddr(at, &sa);
    int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    int name = family == AF_INET ? IP_TRANSPARENT : IPV6_TRANSPARENT;
    if ((transparent && setsockopt(fd, level, name, &one, sizeof(one)) < 0) ||
        bind(fd, (struct sockaddr *)&sa, len) < 0) {
        err = -errno;
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

static int open_intercept(struct node *n, unsigned i)
{
    static const char *const loopback[2] = {"127.0.0.1", "::1"};
    struct endpoint at = {.port = n->landscape->config->port};
    addr_parse(&at.addr, loopback[i]);
    int fd, one = 1, queue = FAST_OPEN_QUEUE;
    int err = bind_listener(&at, true, &fd);
    if (err < 0)
        return err;
    setsockopt(fd, IPPROTO_TCP, TCP_SAVE_SYN, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue));
    if (listen(fd, BACKLOG) < 0) {
        err = -errno;
        close(fd);
        return err;
    }
    n->intercept_fd[i] = fd;
    event_assign(&n->intercept_event[i], loop_base(n->loop), fd, EV_READ | EV_PERSIST, on_caught, n);
    event_add(&n->intercept_event[i], NULL);
    return 0;
}

static int start_accepting(struct node *n)
{
    int err = open_intercept(n, 0);
    if (err < 0) {
        log_error("cannot listen on 127.0.0.1:%u for caught connections: %s%s",
                  (unsigned)n->landscape->config->port, err_text(err),
                  err == -EADDRINUSE ? "; choose another `port` in [intercept]" : "");
        return err;
    }
    n->accepting = true;
    err = open_intercept(n, 1);
    if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL) {
        bypass_note(&n->bypass, BYPASS_NO_IPV6, "[::1]");
        return 0;
    }
    if (err < 0)
        log_error("cannot listen on [::1]:%u for caught connections: %s",
                  (unsigned)n->landscape->config->port, err_text(err));
    return err;
}

static void on_tunnel(evutil_socket_t fd, short what, void *arg);

static int open_tunnel(struct node *n)
{
    const struct config *c = n->landscape->config;
    char where[ENDPOINT_TEXT_MAX];
    endpoint_format(&c->listen, where);
    int fd;
    int err = bind_listener(&c->listen, false, &fd);
    if (err == 0) {
        setsockopt(fd, SOL_SOCKET, SO_MARK, &c->lane_mark.value, sizeof(c->lane_mark.value));
        n->tunnel_world.lane_socket(n, fd, LANE_BUFFER_BYTES, LANE_BUFFER_BYTES,
                                    tunnel_congestion(&c->peers[0]));
        if (listen(fd, BACKLOG) < 0) {
            err = -errno;
            close(fd);
        }
    }
    if (err < 0) {
        log_error("cannot listen on %s for peers: %s; see `listen` in [tunnel]", where, err_text(err));
        return err;
    }
    n->tunnel_fd = fd;
    event_assign(&n->tunnel_event, loop_base(n->loop), fd, EV_READ | EV_PERSIST, on_tunnel, n);
    event_add(&n->tunnel_event, NULL);
    return 0;
}

int intercept_open(struct node *n)
{
    const struct config *c = n->landscape->config;
    n->wants_intercept = c->interface_count > 0;
    int err = n->wants_intercept ? start_accepting(n) : 0;
    if (err == 0 && c->listen.addr.family != AF_UNSPEC)
        err = open_tunnel(n);
    return err;
}

void intercept_close(struct node *n)
{
    close_listener(n, 0);
    close_listener(n, 1);
    n->accepting = n->wants_intercept = false;
    if (n->tunnel_fd >= 0) {
        event_del(&n->tunnel_event);
        close(n->tunnel_fd);
        n->tunnel_fd = -1;
    }
}

/* ---- tunnel connections ---- */

static void greet_on_worker(struct worker *w, void *arg)
{
    int fd = (int)(intptr_t)arg;
    if (w->greeter != NULL)
        greeter_take(w->greeter, fd);
    else
        close(fd);
}

/* Handshakes go to the permanent workers, the one with the least to do first. */
static struct worker *pick_greeter(struct node *n)
{
    struct worker *best = NULL;
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++) {
        struct worker *w = n->workers[i];
        if (w->greeter != NULL && (best == NULL || w->cpu_permille < best->cpu_permille ||
                                   (w->cpu_permille == best->cpu_permille && w->greeted < best->greeted)))
            best = w;
    }
    best->greeted++;
    return best;
}

static void on_tunnel(evutil_socket_t fd, short what, void *arg)
{
    struct node *n = arg;
    (void)what;
    for (int i = 0; i < ACCEPT_TURN; i++) {
        int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (c < 0) {
            bool none_left = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            if (none_left)
                event_del(
                    &n->tunnel_event); /* level-triggered: it would come round at once; see the next second */
            return;
        }
        struct worker *w = pick_greeter(n);
        if (worker_call(w, greet_on_worker, (void *)(intptr_t)c) < 0)
            close(c);
    }
}

/* ---- budgets ---- */

/* The budget that is used beyond that share, or BYPASS_COUNT. */
static enum bypass_reason tight_budget(struct node *n, unsigned percent, char *figures, size_t size)
{
    uint64_t sessions = atomic_load(&n->sessions);
    if (over(sessions, atomic_load(&n->sessions_max), percent)) {
        snprintf(figures, size, "%llu sessions of %llu", (unsigned long long)sessions,
                 (unsigned long long)atomic_load(&n->sessions_max));
        return BYPASS_SESSIONS;
    }
    uint64_t used = chunk_bytes_total() + compress_bytes_total(), cap = n->landscape->config->memory_bytes;
    if (over(used, cap, percent) || over(budget_used(&n->memory.floor), n->memory.floor.cap, percent)) {
        snprintf(figures, size, "%llu MB of %llu MB", (unsigned long long)used >> 20,
                 (unsigned long long)cap >> 20);
        return BYPASS_MEMORY;
    }
    return BYPASS_COUNT;
}

void intercept_resume_tunnel(struct node *n)
{
    if (n->tunnel_fd >= 0 && !event_pending(&n->tunnel_event, EV_READ, NULL))
        event_add(&n->tunnel_event, NULL);
}

void intercept_tick(struct node *n)
{
    char figures[96] = "";
    if (!n->wants_intercept)
        return;
    if (n->accepting) {
        enum bypass_reason reason = tight_budget(n, MARK_HIGH_PERCENT, figures, sizeof(figures));
        if (reason != BYPASS_COUNT)
            stop_accepting(n, reason, figures);
        return;
    }
    if (tight_budget(n, MARK_LOW_PERCENT, figures, sizeof(figures)) != BYPASS_COUNT)
        return;
    if (start_accepting(n) == 0)
        log_info("connections are accelerated again: the budget (%s) has room",
                 bypass_entries[n->closed_for].name);
}

/* ---- destinations that were refused ---- */

/* A clash forgets the older one. */
static size_t refused_slot(const struct endpoint *e)
{
    return endpoint_hash(e) % NODE_REFUSED_SLOTS;
}

static bool is_refused(const struct node *n, const struct endpoint *server)
{
    size_t i = refused_slot(server);
    return n->refused[i].until_us > clock_now_us() && endpoint_equal(&n->refused[i].server, server);
}

void intercept_refused(struct node *n, const struct endpoint *server)
{
    size_t i = refused_slot(server);
    n->refused[i].server = *server;
    n->refused[i].until_us = clock_now_us() + (uint64_t)NODE_REFUSED_S * 1000000;
    keeper_add_refused(n->keeper, server, NODE_REFUSED_S);
}

uint64_t intercept_count_peer_down(struct node *n)
{
    uint64_t count = 0;
    int err = n->wants_intercept ? keeper_count_peer_down(n->keeper, &count) : 0;
    if (err < 0)
        log_warn("the firewall's count of connections to peers that are down cannot be read: %s; "
                 "'nft list table inet hawser' shows it",
                 err_text(err));
    return count;
}
