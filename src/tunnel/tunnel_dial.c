#include "tunnel_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/identity.h"
#include "hawser/log.h"

enum {
    HANDSHAKE_TIMEOUT_US = 10 * 1000000,
    REDIAL_MOST_US = 10 * 1000000,
    LANE_BUFFER_BYTES = 32 << 20,
    LANE_BUFFER_MAX_BYTES = 256 << 20,
};

/* Segment sizes to try after a greeting did not come through: an MTU black hole (RFC 2923). 0: the kernel's
 * own. */
static const int mss_ladder[] = {0, 1360, 1220, 1060, 536};
enum { MSS_STEPS = sizeof(mss_ladder) / sizeof(mss_ladder[0]) };

static void dial(struct slot *s);

void tunnel_want_redial(struct slot *s)
{
    struct tunnel *t = s->tunnel;
    if (t->peer->address.addr.family == AF_UNSPEC || s->number >= t->peer->lanes)
        return;
    if (s->lane != NULL || s->dialled != NULL || event_pending(&s->redial, EV_TIMEOUT, NULL))
        return;
    uint64_t wait = s->backoff_us;
    wait = wait / 2 + arc4random_uniform((uint32_t)wait); /* 0.5 to 1.5 times */
    s->backoff_us = s->backoff_us * 2 < REDIAL_MOST_US ? s->backoff_us * 2 : REDIAL_MOST_US;
    struct timeval tv = {(time_t)(wait / 1000000), (suseconds_t)(wait % 1000000)};
    event_add(&s->redial, &tv);
}

/* The first lane leads: the others are dialled when its handshake is done. The peer knows us by then, and has
 * set the route that lets its side of them start at the link's rate. */
static bool leader_is_known(const struct tunnel *t)
{
    const struct lane *leader = t->slots[0].dialled;
    return t->up_count > 0 || (leader != NULL && lane_state(leader) == LANE_GREETING);
}

static void dial_followers(struct slot *leader)
{
    for (unsigned i = 1; leader->number == 0 && i < CONFIG_LANES_MAX; i++) {
        event_del(&leader->tunnel->slots[i].redial);
        dial(&leader->tunnel->slots[i]);
    }
}

static int dial_identify(void *owner, struct lane *l, const uint8_t pin[static CONFIG_PIN_BYTES],
                         struct greeting *ours)
{
    struct slot *s = owner;
    struct tunnel *t = s->tunnel;
    (void)l;
    if (!tunnel_is_pinned(t->peer, pin))
        return -ERR_PIN;
    memcpy(ours->instance, t->instance, sizeof(ours->instance));
    snprintf(ours->name, sizeof(ours->name), "%s", t->world->node_name);
    ours->slot = (uint8_t)s->number;
    ours->opening_credit_bytes = t->world->opening_credit_bytes;
    ours->features |= t->world->features;
    dial_followers(s);
    return 0;
}

static void dial_up(void *owner, struct lane *l)
{
    struct slot *s = owner;
    s->dialled = NULL;
    lane_detach(l);
    if (!tunnel_settle(s, l)) {
        lane_close(l);
        tunnel_bury(s->tunnel, l);
        tunnel_want_redial(s); /* unless a better one is there */
    }
}

/* The peer ended the lane after its key was found right: it has seen ours by then. */
static bool may_not_know_us(const struct lane *l, int err)
{
    return lane_own_greeting(l) != NULL && (err == -ERR_CLOSED || err == -ECONNRESET || err == -EPIPE);
}

static void note_refusal(struct tunnel *t)
{
    char where[ENDPOINT_TEXT_MAX], pin[CONFIG_PIN_TEXT_MAX];
    identity_pin_format(t->world->pin, pin);
    snprintf(t->reason, sizeof(t->reason),
             "cannot connect to %s: it ends the connection when it has seen our key; it is being started, or "
             "perhaps "
             "it does not know it: our section there needs pin = %s",
             endpoint_format(&t->peer->address, where), pin);
}

static void dial_down(void *owner, struct lane *l, int err)
{
    struct slot *s = owner;
    struct tunnel *t = s->tunnel;
    s->dialled = NULL;
    if (err == -ETIMEDOUT && lane_counters(l)->in_bytes > 0 && s->mss_step + 1 < MSS_STEPS) {
        s->mss_step++;
        log_warn("peer %s: the greeting does not come through, perhaps an MTU black hole; trying segments of "
                 "%d bytes",
                 t->peer->name, mss_ladder[s->mss_step]);
    }
    char was[sizeof(t->reason)];
    memcpy(was, t->reason, sizeof(was));
    if (may_not_know_us(l, err))
        note_refusal(t);
    else
        tunnel_note_reason(t, "cannot connect to", &t->peer->address, err);
    if (strcmp(was, t->reason) != 0)
        log_warn("peer %s: %s; trying again", t->peer->name, t->reason);
    tunnel_bury(t, l);
    tunnel_want_redial(s);
}

static const struct lane_events dial_events = {
    .identify = dial_identify,
    .up = dial_up,
    .down = dial_down,
};

static uint64_t buffer_bytes(const struct tunnel *t)
{
    uint64_t twice = 2 * linkrate_bdp_bytes(&t->rate);
    if (twice < LANE_BUFFER_BYTES)
        return LANE_BUFFER_BYTES;
    return twice < LANE_BUFFER_MAX_BYTES ? twice : LANE_BUFFER_MAX_BYTES;
}

static int open_dial_socket(struct slot *s)
{
    struct tunnel *t = s->tunnel;
    const struct endpoint *to = &t->peer->address;
    int fd = socket(to->addr.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_MARK, &t->world->lane_mark.value, sizeof(t->world->lane_mark.value));
    t->world->lane_socket(t->world->owner, fd, buffer_bytes(t), buffer_bytes(t), tunnel_congestion(t->peer));
    if (mss_ladder[s->mss_step] > 0)
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss_ladder[s->mss_step], sizeof(int));
    struct sockaddr_storage sa;
    socklen_t len = endpoint_to_sockaddr(to, &sa);
    if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static void start_dial(struct slot *s)
{
    struct tunnel *t = s->tunnel;
    tunnel_set_route(t, &t->peer->address.addr);
    int err = open_dial_socket(s);
    if (err >= 0)
        err = lane_new(&s->dialled, t->loop, t->world->dial_tls, false, true, err, HANDSHAKE_TIMEOUT_US,
                       &dial_events, s);
    if (err < 0) {
        s->dialled = NULL;
        tunnel_note_reason(t, "cannot dial", &t->peer->address, err);
        tunnel_want_redial(s);
    }
}

static void dial(struct slot *s)
{
    struct tunnel *t = s->tunnel;
    if (s->lane != NULL || s->dialled != NULL || s->number >= t->peer->lanes)
        return;
    if (s->number > 0 && !leader_is_known(t))
        tunnel_want_redial(s);
    else
        start_dial(s);
}

/* The first lane after a time without any began before its route was set: it is dialled anew when the others
 * are up and nothing is under way, and takes over when it is there. */
void tunnel_renew_leader(struct tunnel *t)
{
    struct slot *leader = &t->slots[0];
    bool rest_is_up = t->up_count >= t->peer->lanes;
    if (!t->leader_is_old || !rest_is_up || leader->lane == NULL || leader->dialled != NULL ||
        !lane_is_dialled(leader->lane))
        return;
    t->leader_is_old = false;
    start_dial(leader);
}

static void on_redial(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    dial(arg);
}

void tunnel_dial_init(struct slot *s)
{
    s->backoff_us = TUNNEL_REDIAL_FIRST_US;
    event_assign(&s->redial, loop_base(s->tunnel->loop), -1, EV_TIMEOUT, on_redial, s);
}

void tunnel_dial_first(struct tunnel *t)
{
    dial(&t->slots[0]);
}
