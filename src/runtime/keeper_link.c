/* The engine's side of the verbs. Notes are single packets sent without waiting, so any thread may send them
 * without a lock; a call holds the mutex from request to reply. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/keeper.h"
#include "hawser/keeper_verbs.h"
#include "hawser/log.h"

/* A reply takes microseconds, a reload up to some tens of milliseconds; a keeper that takes longer is stopped
 * in a debugger, and no worker waits for that. */
enum { CALL_WAIT_S = 5 };

struct keeper_link {
    int note_fd; /* notes out, events in */
    int call_fd;
    uint32_t generation; /* of the configuration that the main thread has last been given */
    pthread_mutex_t calling;
    uint32_t serial;              /* under calling */
    bool peers_wait, ready_waits; /* main thread: not sent yet, the socket was full */
    struct keeper_message peers;
};

struct keeper_link *keeper_link_new(int keeper_fd, int keeper_call_fd)
{
    struct keeper_link *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    if (pthread_mutex_init(&l->calling, NULL) != 0) {
        free(l);
        return NULL;
    }
    l->note_fd = keeper_fd;
    l->call_fd = keeper_call_fd;
    struct timeval wait = {.tv_sec = CALL_WAIT_S};
    if (setsockopt(l->call_fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
        setsockopt(l->call_fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
        log_warn("calls to the keeper have no time limit: %s", err_text(-errno));
    return l;
}

void keeper_link_free(struct keeper_link *l)
{
    if (l == NULL)
        return;
    pthread_mutex_destroy(&l->calling);
    close(l->note_fd);
    close(l->call_fd);
    free(l);
}

int keeper_link_fd(const struct keeper_link *l)
{
    return l->note_fd;
}

/* ---- events ---- */

static int text_from(int fd, uint64_t text_bytes, struct config **config)
{
    char error[CONFIG_ERROR_MAX] = "";
    char *text = text_bytes <= CONFIG_TEXT_MAX ? malloc(text_bytes + 1) : NULL;
    if (text == NULL)
        return -ENOMEM;
    size_t done = 0;
    while (done < text_bytes) {
        ssize_t n = pread(fd, text + done, text_bytes - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    text[done] = '\0';
    int err = done == text_bytes ? config_parse(config, "configuration", text, text_bytes, error) : -EIO;
    if (err < 0)
        log_error("the keeper's new configuration cannot be used here: %s",
                  error[0] != '\0' ? error : err_text(err));
    free(text);
    return err;
}

static enum keeper_event take_reload(struct keeper_link *l, const struct keeper_event_message *m, int fd,
                                     struct config **config)
{
    /* To go on with the old one would be to go on deaf: the keeper takes no word about its peers any more. */
    if (fd < 0 || text_from(fd, m->text_bytes, config) < 0)
        return KEEPER_EVENT_GONE;
    l->generation = m->generation;
    l->peers_wait = false; /* it meant the peers of the configuration before */
    return KEEPER_EVENT_RELOAD;
}

enum keeper_event keeper_link_read(struct keeper_link *l, struct config **config)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct keeper_event_message m;
    struct iovec part = {.iov_base = &m, .iov_len = sizeof(m)};
    struct msghdr h = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t n = recvmsg(l->note_fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? KEEPER_EVENT_NONE : KEEPER_EVENT_GONE;
    if (n == 0)
        return KEEPER_EVENT_GONE;
    int fd = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len >= CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(int));
    enum keeper_event event = KEEPER_EVENT_NONE;
    if (n == sizeof(m) && m.event == KEEPER_EVENT_STOP)
        event = KEEPER_EVENT_STOP;
    else if (n == sizeof(m) && m.event == KEEPER_EVENT_RELOAD)
        event = take_reload(l, &m, fd, config);
    if (fd >= 0)
        close(fd);
    return event;
}

/* fd goes along unless negative. 0 or -errno. */
static int send_message(int to, const struct keeper_message *m, size_t payload_bytes, int fd, int flags)
{
    return keeper_packet_send(to, m, sizeof(m->head) + payload_bytes, fd, flags);
}

/* ---- notes ---- */

/* 0 or -errno; -EAGAIN: the keeper is busy and the socket full. */
static int note(const struct keeper_link *l, const struct keeper_message *m, size_t payload_bytes)
{
    return send_message(l->note_fd, m, payload_bytes, -1, MSG_DONTWAIT);
}

/* A keeper that is gone shows as GONE; only what waits for room is worth keeping. */
static bool must_wait(int err)
{
    return err == -EAGAIN || err == -ENOBUFS;
}

static void send_waiting(struct keeper_link *l)
{
    if (l->ready_waits) {
        struct keeper_message m = {.head.verb = KEEPER_VERB_READY};
        l->ready_waits = must_wait(note(l, &m, 0));
    }
    if (l->peers_wait)
        l->peers_wait = must_wait(note(l, &l->peers, sizeof(l->peers.is.peers)));
}

void keeper_tell_ready(struct keeper_link *l)
{
    l->ready_waits = true;
    send_waiting(l);
}

void keeper_tell_alive(struct keeper_link *l)
{
    struct keeper_message m = {.head.verb = KEEPER_VERB_ALIVE};
    send_waiting(l);
    note(l, &m, 0); /* the next one says the same */
}

void keeper_set_peers(struct keeper_link *l, const bool *up, size_t peer_count)
{
    if (peer_count > CONFIG_PEERS_MAX)
        peer_count = CONFIG_PEERS_MAX;
    memset(&l->peers, 0, sizeof(l->peers));
    l->peers.head.verb = KEEPER_VERB_SET_PEERS;
    l->peers.is.peers.generation = l->generation;
    l->peers.is.peers.count = (uint32_t)peer_count;
    for (size_t i = 0; i < peer_count; i++) {
        if (up[i])
            l->peers.is.peers.bits[i / 8] |= (uint8_t)(1u << (i % 8));
    }
    l->peers_wait = true;
    send_waiting(l);
}

void keeper_add_refused(struct keeper_link *l, const struct endpoint *server, uint32_t timeout_s)
{
    struct keeper_message m = {.head.verb = KEEPER_VERB_ADD_REFUSED};
    m.is.refused.server = *server;
    m.is.refused.timeout_s = timeout_s;
    if (must_wait(note(l, &m, sizeof(m.is.refused))))
        log_debug("the keeper is busy: a refused server does not go direct yet");
}

void keeper_lane_route(struct keeper_link *l, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd)
{
    struct keeper_message m = {.head.verb = KEEPER_VERB_LANE_ROUTE};
    m.is.route.peer = *peer;
    m.is.route.initcwnd = initcwnd;
    m.is.route.initrwnd = initrwnd;
    if (must_wait(note(l, &m, sizeof(m.is.route))))
        log_warn("the keeper is busy: a lane starts with the kernel's own initial window");
}

/* ---- calls ---- */

/* The reply to this serial; those to calls that were given up on are passed over. */
static int call_wait(const struct keeper_link *l, uint32_t serial, struct keeper_reply *reply)
{
    for (;;) {
        ssize_t n = recv(l->call_fd, reply, sizeof(*reply), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if (n == 0)
            return -EPIPE;
        if (n == sizeof(*reply) && reply->serial == serial)
            return 0;
    }
}

static int call(struct keeper_link *l, struct keeper_message *m, size_t payload_bytes, int fd,
                struct keeper_reply *reply)
{
    pthread_mutex_lock(&l->calling);
    m->head.serial = ++l->serial;
    int err = send_message(l->call_fd, m, payload_bytes, fd, 0);
    if (err == 0)
        err = call_wait(l, m->head.serial, reply);
    pthread_mutex_unlock(&l->calling);
    reply->text[sizeof(reply->text) - 1] = '\0';
    return err;
}

int keeper_ask_reload(struct keeper_link *l, char error[static CONFIG_ERROR_MAX])
{
    struct keeper_message m = {.head.verb = KEEPER_VERB_RELOAD};
    struct keeper_reply reply = {.serial = 0};
    int err = call(l, &m, 0, -1, &reply);
    if (err < 0)
        snprintf(error, CONFIG_ERROR_MAX, "the keeper does not answer: %s", err_text(err));
    else
        snprintf(error, CONFIG_ERROR_MAX, "%s", reply.text);
    return err < 0 ? err : reply.result;
}

int keeper_lane_socket(struct keeper_link *l, int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes,
                       const char *congestion)
{
    struct keeper_message m = {.head.verb = KEEPER_VERB_LANE_SOCKET};
    struct keeper_reply reply = {.serial = 0};
    if (congestion != NULL && strlen(congestion) >= sizeof(m.is.socket.congestion))
        return -EINVAL;
    m.is.socket.rcvbuf_bytes = rcvbuf_bytes;
    m.is.socket.sndbuf_bytes = sndbuf_bytes;
    if (congestion != NULL)
        strcpy(m.is.socket.congestion, congestion);
    int err = call(l, &m, sizeof(m.is.socket), fd, &reply);
    return err < 0 ? err : reply.result;
}

int keeper_count_peer_down(struct keeper_link *l, uint64_t *out)
{
    struct keeper_message m = {.head.verb = KEEPER_VERB_COUNT_PEER_DOWN};
    struct keeper_reply reply = {.serial = 0};
    int err = call(l, &m, 0, -1, &reply);
    if (err == 0)
        err = reply.result;
    if (err == 0)
        *out = reply.count;
    return err;
}
