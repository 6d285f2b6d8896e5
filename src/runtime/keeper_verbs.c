/* The keeper's side of the verbs. What comes in was written by a process that talks to the network: each
 * field is checked against the table, the limits and the configuration before anything is done with it, and a
 * refused verb costs a log line at most. */
#include "hawser/keeper_verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/keeper.h"
#include "hawser/log.h"

enum { COMPLAINTS_MAX = 20 };

const struct keeper_actions keeper_actions_real = {
    .kernel_new = kernel_new,
    .kernel_reconfigure = kernel_reconfigure,
    .kernel_free = kernel_free,
    .kernel_set_peers = kernel_set_peers,
    .kernel_add_refused = kernel_add_refused,
    .kernel_lane_route = kernel_lane_route,
    .kernel_lane_socket = kernel_lane_socket,
    .kernel_count_peer_down = kernel_count_peer_down,
};

static const struct {
    const char *name;
    size_t payload_bytes;
    bool answered, descriptor;
} verbs[KEEPER_VERB_COUNT] = {
#define ROW(name, payload_bytes, answered, descriptor) {#name, payload_bytes, answered, descriptor},
    KEEPER_VERB_TABLE(ROW)
#undef ROW
};

static void complain(struct keeper_verbs *v, const char *verb, const char *why)
{
    if (v->complaints >= COMPLAINTS_MAX)
        return;
    v->complaints++;
    log_warn("verb %s from the engine was not done: %s%s", verb, why,
             v->complaints == COMPLAINTS_MAX ? " (no more of these lines until the engine is started anew)"
                                             : "");
}

/* ---- which peers are up ---- */

static void tell_kernel(struct keeper_verbs *v)
{
    char error[KERNEL_ERROR_MAX] = "";
    if (v->kernel == NULL)
        return;
    int err = v->actions->kernel_set_peers(v->kernel, v->config, v->up, error);
    if (err < 0 && !v->behind)
        log_error("cannot change what is intercepted (tried again every second): %s", error);
    else if (err == 0 && v->behind)
        log_info("what is intercepted is as it should be again");
    v->behind = err < 0;
}

void keeper_verbs_retry(struct keeper_verbs *v)
{
    if (v->behind)
        tell_kernel(v);
}

void keeper_verbs_reset(struct keeper_verbs *v)
{
    v->generation = 0;
    v->complaints = 0;
    memset(v->up, 0, sizeof(v->up));
    tell_kernel(v);
}

static bool same_peer(const struct config_peer *a, const struct config_peer *b)
{
    return strcmp(a->name, b->name) == 0 && a->pin_count == b->pin_count &&
           memcmp(a->pins, b->pins, a->pin_count * sizeof(*a->pins)) == 0;
}

static bool was_up(const struct keeper_verbs *v, const struct config_peer *peer)
{
    for (size_t i = 0; i < v->config->peer_count; i++) {
        if (same_peer(&v->config->peers[i], peer))
            return v->up[i];
    }
    return false;
}

void keeper_verbs_reconfigure(struct keeper_verbs *v, struct config *config)
{
    bool up[CONFIG_PEERS_MAX] = {false};
    for (size_t i = 0; i < config->peer_count; i++)
        up[i] = was_up(v, &config->peers[i]);
    memcpy(v->up, up, sizeof(up));
    v->config = config;
    v->generation++;
    tell_kernel(v);
}

static const char *do_set_peers(struct keeper_verbs *v, const struct keeper_peers *p)
{
    if (v->frozen || p->generation != v->generation)
        return NULL; /* of another generation: it crossed a reload on its way, the engine sends it anew */
    if (p->count != v->config->peer_count)
        return "it speaks of another number of peers than are configured";
    for (size_t i = 0; i < p->count; i++)
        v->up[i] = (p->bits[i / 8] >> (i % 8)) & 1;
    tell_kernel(v);
    return NULL;
}

/* ---- addresses ---- */

static bool addr_is_valid(const struct addr *a)
{
    return (a->family == AF_INET || a->family == AF_INET6) && !addr_is_special(a);
}

/* Only what a peer's networks hold is ever caught, so only that can need to go direct. */
static const char *do_add_refused(struct keeper_verbs *v, const struct keeper_refused *r)
{
    if (!addr_is_valid(&r->server.addr) || r->server.port == 0 || r->timeout_s == 0 ||
        r->timeout_s > KEEPER_REFUSED_MAX_S)
        return "its address, port or timeout is out of range";
    bool caught = false;
    for (size_t i = 0; i < v->config->peer_count && !caught; i++) {
        const struct config_prefixes *nets = &v->config->peers[i].networks;
        for (size_t k = 0; k < nets->count && !caught; k++)
            caught = prefix_contains(&nets->list[k], &r->server.addr);
    }
    if (!caught)
        return "the address is in no peer's networks";
    char error[KERNEL_ERROR_MAX] = "";
    if (v->actions->kernel_add_refused(v->kernel, &r->server, r->timeout_s, error) < 0)
        log_warn("cannot let connections to a refused server go direct: %s", error);
    return NULL;
}

/* A peer that is dialled has one address; one that dials in may come from anywhere. */
static bool may_be_peer(const struct config *c, const struct addr *a)
{
    bool waits = false;
    for (size_t i = 0; i < c->peer_count; i++) {
        if (addr_equal(&c->peers[i].address.addr, a))
            return true;
        waits |= c->peers[i].address.addr.family == AF_UNSPEC;
    }
    return waits && addr_is_valid(a);
}

static const char *do_lane_route(struct keeper_verbs *v, const struct keeper_route *r)
{
    if (r->peer.family != AF_INET && r->peer.family != AF_INET6)
        return "no address";
    if (!may_be_peer(v->config, &r->peer))
        return "the address is no peer's";
    if (r->initcwnd > KEEPER_WINDOW_MAX || r->initrwnd > KEEPER_WINDOW_MAX)
        return "the window is out of range";
    char error[KERNEL_ERROR_MAX] = "";
    if (v->actions->kernel_lane_route(v->kernel, &r->peer, r->initcwnd, r->initrwnd, error) < 0)
        log_warn("cannot set a lane's initial window: %s", error);
    return NULL;
}

/* ---- a lane's socket ---- */

static bool is_tcp(int fd)
{
    int domain = 0, type = 0, protocol = 0;
    socklen_t len = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
           (domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM && protocol == IPPROTO_TCP;
}

static bool congestion_is_valid(const char name[static KEEPER_CONGESTION_MAX])
{
    size_t len = strnlen(name, KEEPER_CONGESTION_MAX);
    return len < KEEPER_CONGESTION_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

static const char *do_lane_socket(struct keeper_verbs *v, const struct keeper_socket *s, int fd, int *result)
{
    *result = -EINVAL;
    if (!is_tcp(fd))
        return "the descriptor is no TCP socket";
    if (s->rcvbuf_bytes > KEEPER_BUFFER_MAX || s->sndbuf_bytes > KEEPER_BUFFER_MAX)
        return "a buffer size is out of range";
    if (!congestion_is_valid(s->congestion))
        return "the name of the congestion control is not one";
    *result = v->actions->kernel_lane_socket(fd, s->rcvbuf_bytes, s->sndbuf_bytes,
                                             s->congestion[0] != '\0' ? s->congestion : NULL);
    return NULL;
}

/* ---- taking and answering ---- */

struct taken {
    struct keeper_message message;
    size_t len_bytes;
    int fd;   /* that came along, or -1 */
    bool cut; /* more bytes or descriptors than any verb has */
};

/* 1, 0 at the end, or -errno. */
static int receive(int fd, struct taken *t)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = &t->message, .iov_len = sizeof(t->message)};
    /* CMSG_LEN, not CMSG_SPACE: the padding of the latter would let a second descriptor in. */
    struct msghdr h = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
    memset(&t->message, 0, sizeof(t->message));
    t->fd = -1;
    ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    /* The space holds one descriptor; the kernel has closed what did not fit. */
    const struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len >= CMSG_LEN(sizeof(int)))
        memcpy(&t->fd, CMSG_DATA(c), sizeof(int));
    t->len_bytes = (size_t)n;
    t->cut = (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    return n > 0;
}

static const char *check(const struct taken *t, bool calls)
{
    uint32_t verb = t->message.head.verb;
    if (t->len_bytes < sizeof(t->message.head) || verb >= KEEPER_VERB_COUNT)
        return "there is no such verb";
    if (t->cut || t->len_bytes - sizeof(t->message.head) != verbs[verb].payload_bytes)
        return "its length is wrong";
    if (verbs[verb].answered != calls)
        return "it came on the wrong socket";
    if (verbs[verb].descriptor != (t->fd >= 0))
        return verbs[verb].descriptor ? "it lacks its descriptor" : "it has a descriptor too many";
    return NULL;
}

static const char *perform(struct keeper_verbs *v, const struct taken *t, struct keeper_reply *reply)
{
    const struct keeper_message *m = &t->message;
    reply->result = 0;
    switch ((enum keeper_verb)m->head.verb) {
    case KEEPER_VERB_SET_PEERS:
        return do_set_peers(v, &m->is.peers);
    case KEEPER_VERB_ADD_REFUSED:
        return do_add_refused(v, &m->is.refused);
    case KEEPER_VERB_LANE_ROUTE:
        return do_lane_route(v, &m->is.route);
    case KEEPER_VERB_LANE_SOCKET:
        return do_lane_socket(v, &m->is.socket, t->fd, &reply->result);
    case KEEPER_VERB_COUNT_PEER_DOWN:
        reply->result =
            v->kernel == NULL ? -EAGAIN : v->actions->kernel_count_peer_down(v->kernel, &reply->count);
        break;
    case KEEPER_VERB_READY:
    case KEEPER_VERB_ALIVE:
    case KEEPER_VERB_RELOAD:
    case KEEPER_VERB_COUNT:
        break;
    }
    return NULL;
}

enum keeper_took keeper_verbs_take(struct keeper_verbs *v, int fd, bool calls, uint32_t *serial)
{
    struct taken t;
    int got = receive(fd, &t);
    if (got == -EAGAIN || got == -EINTR)
        return KEEPER_TOOK_NOTHING;
    if (got <= 0)
        return KEEPER_TOOK_CLOSED;
    const char *wrong = check(&t, calls);
    uint32_t verb = t.message.head.verb;
    enum keeper_took took = KEEPER_TOOK_DONE;
    struct keeper_reply reply = {.serial = t.message.head.serial, .result = -EINVAL};
    if (wrong == NULL) {
        *serial = t.message.head.serial;
        took = verb == KEEPER_VERB_READY    ? KEEPER_TOOK_READY
               : verb == KEEPER_VERB_ALIVE  ? KEEPER_TOOK_ALIVE
               : verb == KEEPER_VERB_RELOAD ? KEEPER_TOOK_RELOAD
                                            : KEEPER_TOOK_DONE;
        wrong = perform(v, &t, &reply);
    }
    if (wrong != NULL)
        complain(v, verb < KEEPER_VERB_COUNT ? verbs[verb].name : "?", wrong);
    if (calls && took == KEEPER_TOOK_DONE)
        keeper_verbs_reply(fd, &reply, wrong != NULL ? wrong : "");
    if (t.fd >= 0)
        close(t.fd);
    return took;
}

void keeper_verbs_reply(int fd, struct keeper_reply *reply, const char *text)
{
    snprintf(reply->text, sizeof(reply->text), "%s", text);
    if (send(fd, reply, sizeof(*reply), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EPIPE)
        log_warn("a reply to the engine is lost: %s", err_text(-errno));
}

/* ---- events ---- */

static int text_memfd(const char *text, size_t text_bytes)
{
    int fd = memfd_create("hawser.ini", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    for (size_t done = 0; done < text_bytes;) {
        ssize_t n = write(fd, text + done, text_bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int err = n < 0 ? -errno : -EIO;
            close(fd);
            return err;
        }
        done += (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int keeper_packet_send(int to, const void *bytes, size_t len, int fd, int flags)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        h.msg_control = &control;
        h.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    ssize_t n;
    do {
        n = sendmsg(to, &h, MSG_NOSIGNAL | flags);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int keeper_event_send(int fd, uint32_t event, uint32_t generation, const char *text, size_t text_bytes)
{
    struct keeper_event_message m = {.event = event, .generation = generation, .text_bytes = text_bytes};
    int memfd = -1;
    if (text != NULL) {
        memfd = text_memfd(text, text_bytes);
        if (memfd < 0)
            return memfd;
    }
    int err = keeper_packet_send(fd, &m, sizeof(m), memfd, MSG_DONTWAIT);
    if (memfd >= 0)
        close(memfd);
    return err;
}
