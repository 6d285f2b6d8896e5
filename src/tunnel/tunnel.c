#include "tunnel_internal.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/log.h"

/* Life of a slot: idle -> dialling (we have the peer's address) -> up -> lost -> redial with a longer wait.
 * An accepted lane enters a slot directly. Lanes that ended are freed by `reap`, in a later turn, since their
 * own callbacks may be on the stack.
 */

enum {
    LIVED_WELL_US = 5 * 1000000,  /* a lane up for so long starts the next wait from the beginning */
    BURST_IDLE_US = 200000,       /* after such a pause the first bytes go as small records: */
    BURST_SMALL_BYTES = 8 * 1024, /* a record can be read only when all of it is there, */
    BURST_RECORD_BYTES = 1350,    /* and a lane with a small window sends a large one in many round trips */
    BATCH_MIN_BYTES = 4 * 1024,
    BATCH_GUESSED_MIN_BYTES = 16 * 1024, /* while the link's rate is not configured */
    BATCH_MAX_BYTES = 64 * 1024,
    FILL_TURN_BYTES = 512 * 1024,
    BATCH_SHARED_US = 2000,    /* of the link's rate, while the express lane is used, */
    EXPRESS_IDLE_US = 1000000, /* and that it is until it has sent nothing for so long */
};

static const struct lane_events up_events;

const char *tunnel_role_text(enum tunnel_role r)
{
    static const char *const text[] = {"any", "express", "bulk"};
    return text[r];
}

/* ---- which lane serves whom ---- */

static bool any_usable(const struct tunnel *t)
{
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        if (slot_usable(&t->slots[i]))
            return true;
    }
    return false;
}

static enum tunnel_role role_of(const struct slot *s)
{
    const struct tunnel *t = s->tunnel;
    bool express = slot_usable(&t->slots[0]), bulk = false;
    for (unsigned i = 1; i < CONFIG_LANES_MAX; i++)
        bulk = bulk || slot_usable(&t->slots[i]);
    if (express && bulk)
        return s->number == 0 ? TUNNEL_ROLE_EXPRESS : TUNNEL_ROLE_BULK;
    return TUNNEL_ROLE_ANY;
}

/* ---- sending ---- */

/* A batch is what waits in front of a message that goes over a bulk lane too (see twins in transmit.c), and
 * it is read only when all of it is there: short while the express lane is used, else long, which compresses
 * better. */
static size_t batch_bytes(const struct slot *s, enum tunnel_role role, uint64_t now_us)
{
    const struct tunnel *t = s->tunnel;
    bool shares =
        role == TUNNEL_ROLE_BULK && now_us - lane_counters(t->slots[0].lane)->last_out_us < EXPRESS_IDLE_US;
    uint64_t b = linkrate_bytes_in(&t->rate, shares ? BATCH_SHARED_US : TUNNEL_BATCH_US);
    uint64_t least = t->rate.configured != 0 ? BATCH_MIN_BYTES : BATCH_GUESSED_MIN_BYTES;
    if (b < least)
        return (size_t)least;
    return b < BATCH_MAX_BYTES ? (size_t)b : BATCH_MAX_BYTES;
}

static void put_ping(struct slot *s, struct cursor_out *out)
{
    struct frame f = {.type = FRAME_PING};
    if (s->owes_ping) {
        f.ping.token = clock_now_us();
        if (frame_put(out, &f) == 0)
            s->owes_ping = false;
    }
    if (s->owes_pong) {
        f.type = FRAME_PONG;
        f.ping.token = s->pong_token;
        if (frame_put(out, &f) == 0)
            s->owes_pong = false;
    }
}

/* What a block may hold, so that as much of it as is wanted goes over the wire, if it can be compressed as
 * well as those before it. */
static uint32_t block_room(const struct slot *s, size_t batch)
{
    uint64_t wanted = s->burst_bytes < BURST_SMALL_BYTES ? BURST_RECORD_BYTES : batch;
    uint32_t room = lane_room(s->lane);
    wanted = wanted * lane_gain(s->lane) / LANE_GAIN_ONE;
    return wanted < room ? (uint32_t)wanted : room;
}

/* One block from what is waiting, into a lane with room; its payload's length and its bytes on the wire, 0
 * when nothing is, or a negative error. */
static int send_block(struct slot *s, enum tunnel_role role, size_t batch, size_t *wire)
{
    struct tunnel *t = s->tunnel;
    uint8_t *stage = lane_stage(s->lane);
    struct cursor_out out = cursor_out_over(stage, block_room(s, batch));
    put_ping(s, &out);
    int level = t->events->fill(t->owner, s->number, role, &out);
    uint32_t len = (uint32_t)(out.at - stage);
    if (len == 0) {
        if (role != TUNNEL_ROLE_EXPRESS) /* bulk lanes are what measures the link */
            t->starved = true;
        return 0;
    }
    int n = lane_commit(s->lane, len, level == TUNNEL_LEVEL_AUTO ? t->effort.level : level);
    if (n < 0)
        return n;
    s->burst_bytes += (size_t)n;
    *wire = (size_t)n;
    return (int)len;
}

static void feed(struct slot *s)
{
    struct tunnel *t = s->tunnel;
    if (s->lane == NULL || (s->stalled && any_usable(t)))
        return;
    enum tunnel_role role = role_of(s);
    uint64_t now = clock_now_us();
    if (now - lane_counters(s->lane)->last_out_us > BURST_IDLE_US)
        s->burst_bytes = 0;
    size_t batch = batch_bytes(s, role, now), turn = 0, unflushed = lane_flush(s->lane);
    for (;;) {
        /* a batch that the socket does not take yet is enough: what is put behind it cannot be overtaken */
        if (unflushed >= batch || lane_room(s->lane) == 0) {
            if (role != TUNNEL_ROLE_EXPRESS)
                t->starved = false;
            break; /* the socket is full: it tells when it is not */
        }
        size_t wire;
        int n = send_block(s, role, batch, &wire);
        if (n <= 0) {
            lane_flush(s->lane);
            break;
        }
        if (role != TUNNEL_ROLE_EXPRESS && n >= BURST_RECORD_BYTES / 2) {
            tunnel_refresh_congestion(s, now);
            s->carried_us = now;
        }
        turn += (size_t)n;
        unflushed += wire;
        if (unflushed >= batch)
            unflushed = lane_flush(s->lane);
        if (turn >= FILL_TURN_BYTES) {
            tunnel_kick(t); /* other sockets first */
            lane_flush(s->lane);
            break;
        }
    }
    if (turn > 0 && !t->tick_active) {
        t->tick_active = true;
        tunnel_want_tick(t, TUNNEL_TICK_ACTIVE_US);
    }
}

static void run_kick(void *arg)
{
    struct tunnel *t = arg;
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++)
        feed(&t->slots[i]);
}

void tunnel_kick(struct tunnel *t)
{
    loop_defer(t->loop, &t->kick);
}

/* ---- lanes that end ---- */

static void run_reap(void *arg)
{
    struct tunnel *t = arg;
    while (t->dead != NULL) {
        struct lane *l = t->dead;
        t->dead = lane_next(l);
        lane_free(l);
    }
}

void tunnel_bury(struct tunnel *t, struct lane *l)
{
    tunnel_count_lane(&t->retired, l);
    lane_put_next(l, t->dead);
    t->dead = l;
    loop_defer(t->loop, &t->reap);
}

void tunnel_note_reason(struct tunnel *t, const char *what, const struct endpoint *with, int err)
{
    char where[ENDPOINT_TEXT_MAX];
    if (err == -ERR_PIN)
        snprintf(t->reason, sizeof(t->reason),
                 "%s %s: its key is not the one in `pin`; compare with `hawserctl pin node.crt` run there",
                 what, endpoint_format(with, where));
    else
        snprintf(t->reason, sizeof(t->reason), "%s %s: %s", what, endpoint_format(with, where),
                 err_text(err));
}

/* A lane that ends in good order beside others is not told as a fault. */
static void log_loss(const struct slot *s, const struct lane *l, int err)
{
    const struct tunnel *t = s->tunnel;
    char where[ENDPOINT_TEXT_MAX];
    endpoint_format(lane_remote(l), where);
    if (err == -ERR_CHANGED)
        log_info("peer %s: lane %u with %s ends: %s", t->peer->name, s->number, where, err_text(err));
    else if (err == -ERR_CLOSED && t->up_count > 0)
        log_info(
            "peer %s: lane %u with %s ends: the peer has closed it, as it does to renew one; still up: %u",
            t->peer->name, s->number, where, t->up_count);
    else
        log_info("peer %s: lane %u with %s is down: %s", t->peer->name, s->number, where, err_text(err));
}

/* The lane of a slot is gone, by itself or by us. */
void tunnel_lose(struct slot *s, int err)
{
    struct tunnel *t = s->tunnel;
    struct lane *l = s->lane;
    s->lane = NULL;
    s->stalled = false;
    t->up_count--;
    if (clock_now_us() - s->up_since_us > LIVED_WELL_US)
        s->backoff_us = TUNNEL_REDIAL_FIRST_US;
    log_loss(s, l, err);
    tunnel_note_reason(t, "lost the last lane, with", lane_remote(l), err);
    tunnel_bury(t, l);
    t->events->lane_lost(t->owner, s->number);
    if (t->up_count == 0)
        t->events->down(t->owner);
    tunnel_want_redial(s);
    tunnel_kick(t);
}

/* ---- lanes that come up ---- */

/* Take a lane out of its slot and free it. Its callbacks must not be on the stack. */
static void discard(struct slot *s)
{
    struct tunnel *t = s->tunnel;
    struct lane *old = s->lane;
    s->lane = NULL;
    s->stalled = false;
    t->up_count--;
    tunnel_count_lane(&t->retired, old);
    lane_close(old);
    lane_free(old);
}

static bool is_known_instance(const struct tunnel *t, const struct lane *l)
{
    const struct greeting *g = lane_greeting(l);
    return t->knows_peer && memcmp(t->peer_instance, g->instance, sizeof(g->instance)) == 0;
}

/* Whether one of its greetings tells of a life that has ended since: greetings may overtake each other. */
static bool is_outdated(const struct tunnel *t, const struct lane *l)
{
    const uint8_t *theirs = lane_greeting(l)->instance;
    bool outdated = memcmp(lane_own_greeting(l)->instance, t->instance, sizeof(t->instance)) != 0;
    for (unsigned i = 0; i < TUNNEL_LEFT_KEPT; i++)
        outdated = outdated || memcmp(theirs, t->left[i], sizeof(t->left[i])) == 0;
    return outdated;
}

/* The sessions that we hold are the peer's too as long as its instance stays: what it gave up, it gave up
 * with the instance. */
static void meet_instance(struct tunnel *t, const struct greeting *g)
{
    if (memcmp(t->peer_instance, g->instance, sizeof(g->instance)) != 0) {
        memcpy(t->left[t->left_next++ % TUNNEL_LEFT_KEPT], t->peer_instance, sizeof(t->peer_instance));
        if (t->knows_peer)
            t->events->peer_restarted(t->owner);
    }
    memcpy(t->peer_instance, g->instance, sizeof(t->peer_instance));
    t->knows_peer = true;
    t->opening_credit = g->opening_credit_bytes;
    t->peer_features = g->features;
}

void tunnel_set_route(struct tunnel *t, const struct addr *remote)
{
    t->world->lane_route(t->world->owner, remote, linkrate_initial_window(&t->rate), 0);
}

static uint64_t round_trip_of(const struct lane *l)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    memset(&info, 0, sizeof(info));
    return getsockopt(lane_fd(l), IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_rtt : 0;
}

/* A lane in state UP enters its slot; first: no lane was up before; renews: another was in the slot. */
static void enter(struct slot *s, struct lane *l, bool first, bool renews)
{
    struct tunnel *t = s->tunnel;
    meet_instance(t, lane_greeting(l));
    t->is_lower = memcmp(t->world->pin, lane_pin(l), CONFIG_PIN_BYTES) < 0;
    memcpy(t->peer_pin, lane_pin(l), sizeof(t->peer_pin));
    t->peer_source = tunnel_source_of(t->world, t->peer_pin);
    t->knows_pin = true;
    s->lane = l;
    s->stalled = s->owes_ping = s->owes_pong = false;
    s->acked = s->retransmitted = s->out_bytes = s->frame_bytes = s->notsent = 0;
    s->pacing = UINT64_MAX;
    s->ping_sent_us = 0;
    s->outstanding = false;
    s->burst_bytes = 0;
    s->congestion_settled = s->short_path = false;
    s->progress_us = s->up_since_us = s->alive_us = s->chosen_us = s->carried_us = clock_now_us();
    s->srtt_us = round_trip_of(l);
    t->up_count++;
    t->reason[0] = '\0';
    event_del(&s->redial);
    tunnel_set_notsent(t, s);
    tunnel_set_pacing(s, linkrate_pacing(&t->rate, 0));
    tunnel_set_route(t, &lane_remote(l)->addr);
    char where[ENDPOINT_TEXT_MAX];
    log_info("peer %s: lane %u with %s is %s (%s)", t->peer->name, s->number,
             endpoint_format(lane_remote(l), where), renews ? "renewed" : "up",
             lane_is_dialled(l) ? "dialled" : "accepted");
    if (first)
        t->events->up(t->owner);
    for (unsigned i = 0; i < t->peer->lanes; i++)
        tunnel_want_redial(&t->slots[i]);
    tunnel_want_tick(t, TUNNEL_TICK_ACTIVE_US);
    t->tick_active = true;
    if (first)
        t->leader_is_old = true;
    if (!t->events->busy(t->owner))
        tunnel_renew_leader(t);
    tunnel_kick(t);
}

/* Both have a lane in this slot: whether the newcomer takes it. The same dialler dials again only when it has
 * lost the old one; of two diallers the one with the lower key wins, which both ends find alike. */
static bool newcomer_wins(const struct slot *s, const struct lane *l)
{
    if (lane_is_dialled(s->lane) == lane_is_dialled(l))
        return true;
    return lane_is_dialled(l) == s->tunnel->is_lower;
}

bool tunnel_is_pinned(const struct config_peer *peer, const uint8_t *pin)
{
    for (size_t i = 0; i < peer->pin_count; i++) {
        if (memcmp(peer->pins[i], pin, CONFIG_PIN_BYTES) == 0)
            return true;
    }
    return false;
}

bool tunnel_settle(struct slot *s, struct lane *l)
{
    struct tunnel *t = s->tunnel;
    lane_attach(l, t->loop, &up_events, s);
    if (!tunnel_is_pinned(t->peer, lane_pin(l)))
        return false; /* a reload took the pin away while the lane was on its way here */
    if (is_outdated(t, l)) {
        log_info("peer %s: a lane that was greeted before sessions were given up is closed", t->peer->name);
        return false;
    }
    if (t->knows_peer && !is_known_instance(t, l)) {
        /* Lanes of the peer's last life may still bring what it sent: in the new one those ids mean other
         * sessions. */
        for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
            if (t->slots[i].lane != NULL)
                discard(&t->slots[i]);
        }
        enter(s, l, true, false);
        return true;
    }
    if (s->lane != NULL && !newcomer_wins(s, l))
        return false;
    bool renews = s->lane != NULL, first = t->up_count == 0;
    if (renews)
        discard(s);
    enter(s, l, first, renews);
    if (renews)
        t->events->lane_lost(t->owner, s->number);
    return true;
}

/* ---- lanes at work ---- */

static void lane_went_down(void *owner, struct lane *l, int err)
{
    (void)l;
    tunnel_lose(owner, err);
}

static void lane_became_writable(void *owner, struct lane *l)
{
    (void)l;
    feed(owner);
}

static int lane_took_block(void *owner, struct lane *l, struct chunk *chunk, const uint8_t *payload,
                           uint32_t len)
{
    struct slot *s = owner;
    struct tunnel *t = s->tunnel;
    struct cursor c = cursor_over(payload, len);
    struct frame f;
    int n;
    while ((n = frame_next(&c, &f)) == 1) {
        if (f.type == FRAME_PING) {
            s->owes_pong = true; /* one answer serves several questions */
            s->pong_token = f.ping.token;
            tunnel_kick(t);
        } else if (f.type != FRAME_PONG) {
            n = t->events->frame(t->owner, s->number, &f, chunk);
            if (n < 0)
                break;
        }
        if (s->lane != l)
            return 0; /* an event closed the lane */
    }
    if (n < 0)
        log_warn("peer %s: closing lane %u: %s", t->peer->name, s->number, err_text(n));
    return n;
}

static const struct lane_events up_events = {
    .block = lane_took_block,
    .writable = lane_became_writable,
    .down = lane_went_down,
};

/* ---- life ---- */

int tunnel_new(struct tunnel **out, struct loop *loop, const struct tunnel_world *world,
               const struct config_peer *peer, uint64_t learned_rate_bits_per_s, uint64_t learned_rtt_us,
               const struct tunnel_events *events, void *owner)
{
    struct tunnel *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    if (getrandom(t->instance, sizeof(t->instance), 0) != (ssize_t)sizeof(t->instance)) {
        free(t);
        return -EIO;
    }
    t->loop = loop;
    t->world = world;
    t->peer = peer;
    t->events = events;
    t->owner = owner;
    t->starved = true;
    t->kick = (struct task){.run = run_kick, .owner = t};
    t->reap = (struct task){.run = run_reap, .owner = t};
    linkrate_init(&t->rate, peer->rate_bits_per_s, learned_rate_bits_per_s, learned_rtt_us,
                  peer->address.addr.family == AF_INET6);
    effort_init(&t->effort, linkrate_bytes_in(&t->rate, 1000000));
    event_assign(&t->tick, loop_base(loop), -1, EV_TIMEOUT, tunnel_on_tick, t);
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        struct slot *s = &t->slots[i];
        s->tunnel = t;
        s->number = i;
        tunnel_dial_init(s);
    }
    snprintf(t->reason, sizeof(t->reason), "%s",
             peer->address.addr.family == AF_UNSPEC ? "waiting for the peer to dial" : "dialling");
    world->instance(world->owner, peer->name, t->instance);
    tunnel_want_tick(t, TUNNEL_TICK_IDLE_US);
    if (peer->address.addr.family != AF_UNSPEC)
        tunnel_dial_first(t);
    *out = t;
    return 0;
}

void tunnel_free(struct tunnel *t)
{
    if (t == NULL)
        return;
    event_del(&t->tick);
    loop_cancel(t->loop, &t->kick);
    loop_cancel(t->loop, &t->reap);
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        struct slot *s = &t->slots[i];
        event_del(&s->redial);
        if (s->lane != NULL)
            lane_close(s->lane);
        lane_free(s->lane);
        lane_free(s->dialled);
    }
    run_reap(t);
    free(t);
}

void tunnel_reconfigure(struct tunnel *t, const struct config_peer *peer)
{
    bool moved = !endpoint_equal(&t->peer->address, &peer->address);
    t->peer = peer;
    linkrate_configure(&t->rate, peer->rate_bits_per_s);
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        struct slot *s = &t->slots[i];
        bool dialled = s->lane != NULL && lane_is_dialled(s->lane);
        bool unpinned = s->lane != NULL && !tunnel_is_pinned(peer, lane_pin(s->lane));
        if (unpinned || (dialled && (moved || i >= peer->lanes))) {
            lane_close(s->lane);
            tunnel_lose(s, unpinned ? -ERR_PIN : -ERR_CHANGED);
        }
        if (s->dialled != NULL) { /* to the old address, perhaps, or past the old pins */
            lane_close(s->dialled);
            tunnel_bury(t, s->dialled);
            s->dialled = NULL;
        }
        tunnel_want_redial(s);
    }
}

void tunnel_adopt(struct tunnel *t, struct lane *l)
{
    unsigned slot = lane_greeting(l)->slot;
    if (slot >= CONFIG_LANES_MAX) {
        log_warn("peer %s: a lane for slot %u refused: at most %d lanes", t->peer->name, slot,
                 CONFIG_LANES_MAX);
        lane_free(l);
        return;
    }
    char has[16] = "";
    socklen_t len = sizeof(has) - 1;
    getsockopt(lane_fd(l), IPPROTO_TCP, TCP_CONGESTION, has, &len);
    const char *wanted = tunnel_congestion(t->peer);
    if (strcmp(has, wanted) != 0) /* the listener serves all peers; this one wants another */
        t->world->lane_socket(t->world->owner, lane_fd(l), 0, 0, wanted);
    if (!tunnel_settle(&t->slots[slot], l)) {
        lane_close(l);
        lane_free(l);
    }
}

void tunnel_forget(struct tunnel *t)
{
    t->knows_peer = false;
    for (size_t i = 0; i < sizeof(t->instance) && ++t->instance[i] == 0; i++)
        ; /* the next life: what it gave up, the peer gives up when it hears this */
    t->world->instance(t->world->owner, t->peer->name, t->instance);
}
