#include "hawser/mux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/remember.h"
#include "hawser/session.h"

/* ---- the tunnel's events ---- */

static void tunnel_up(void *owner)
{
    struct mux *m = owner;
    event_del(&m->hold);
    uint64_t total = tunnel_opening_credit(m->tunnel), used = 0;
    struct session *s;
    TAILQ_FOREACH (s, &m->sessions, all) {
        if (!s->credited && !s->retired)
            used += s->opening_used;
    }
    m->opening_left = total > used ? total - used : 0;
    TAILQ_FOREACH (s, &m->sessions, all)
        transmit_schedule(s);
    m->world->state(m->world->owner, m->peer->name, true);
    if (mux_store_ends(m) == MUX_STORE_HERE)
        log_info(
            "peer %s: it has no store, so nothing is deduplicated with it; its hawserd says what it lacks",
            m->peer->name);
}

static void want_hold(struct mux *m, uint64_t us)
{
    struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
    event_add(&m->hold, &tv);
}

static void tunnel_down(void *owner)
{
    struct mux *m = owner;
    m->world->state(m->world->owner, m->peer->name, false);
    holdings_give_up_asked(&m->holdings);
    if (m->ending)
        return;
    m->down_us = clock_now_us();
    want_hold(m, m->peer->hold_us < MUX_HOLD_NEW_US ? m->peer->hold_us : MUX_HOLD_NEW_US);
}

/* Visit sessions that may end meanwhile. */
static void each(struct mux *m, void (*visit)(struct session *s, unsigned arg), unsigned arg)
{
    struct session *s = TAILQ_FIRST(&m->sessions);
    while (s != NULL) {
        struct session *next = TAILQ_NEXT(s, all);
        visit(s, arg);
        s = next;
    }
}

static void lane_lost(void *owner, unsigned slot)
{
    struct mux *m = owner;
    holdings_lane_lost(&m->holdings, slot);
    mux_doubt_notes(m, slot);
    each(m, session_lane_lost, slot);
}

/* Nothing is known to be lost: what the lane carries keeps its order behind it, notes as well. */
static void lane_stalls(void *owner, unsigned slot)
{
    each(owner, session_lane_lost, slot);
}

static void drop_one(struct session *s, unsigned reason)
{
    session_drop(s, (enum frame_rst_reason)reason);
}

static void peer_restarted(void *owner)
{
    struct mux *m = owner;
    if (m->totals.sessions > 0)
        log_warn("peer %s started anew: %llu sessions are reset", m->peer->name,
                 (unsigned long long)m->totals.sessions);
    each(m, drop_one, FRAME_RST_TUNNEL);
    closed_clear(&m->closed);
    mux_forget_holdings(m);
    m->answer_count = 0;
}

static bool tunnel_busy(void *owner)
{
    const struct mux *m = owner;
    return m->totals.sessions > 0;
}

static const struct tunnel_events tunnel_events = {
    .up = tunnel_up,
    .down = tunnel_down,
    .lane_lost = lane_lost,
    .lane_stalls = lane_stalls,
    .peer_restarted = peer_restarted,
    .frame = receive_frame,
    .fill = transmit_fill,
    .busy = tunnel_busy,
};

/* A session that the peer never confirmed has moved nothing: its client does better to try again, directly.
 */
static void drop_unconfirmed(struct session *s, unsigned reason)
{
    if (s->near && !s->confirmed)
        session_drop(s, (enum frame_rst_reason)reason);
}

static void hold_is_over(evutil_socket_t fd, short what, void *arg)
{
    struct mux *m = arg;
    (void)fd;
    (void)what;
    if (m->ending)
        return; /* nothing is left to give up, and the peer's next mux may be there */
    uint64_t waited = clock_now_us() - m->down_us;
    if (waited < m->peer->hold_us) {
        each(m, drop_unconfirmed, FRAME_RST_TUNNEL);
        want_hold(m, m->peer->hold_us - waited);
        return;
    }
    if (m->totals.sessions > 0)
        log_warn("peer %s: no lane for %llu s: %llu sessions are reset", m->peer->name,
                 (unsigned long long)(m->peer->hold_us / 1000000), (unsigned long long)m->totals.sessions);
    tunnel_forget(m->tunnel);
    each(m, drop_one, FRAME_RST_TUNNEL);
    closed_clear(&m->closed);
    mux_forget_holdings(m);
    m->answer_count = 0;
}

/* A lane can be lost at one end before the other: what is said again over one that works may be answered over
 * the one that does not. So it is said again until it is answered, whatever happens to lanes. */
static void say_again(evutil_socket_t fd, short what, void *arg)
{
    struct mux *m = arg;
    (void)fd;
    (void)what;
    struct session *s;
    bool any = false;
    TAILQ_FOREACH (s, &m->sessions, all)
        any = session_say_again(s) || any;
    if (any)
        mux_await_answer(m);
}

void mux_await_answer(struct mux *m)
{
    static const struct timeval patience = {MUX_SAY_AGAIN_S, 0};
    if (!event_pending(&m->say_again, EV_TIMEOUT, NULL))
        event_add(&m->say_again, &patience);
}

static void send_late_acks(evutil_socket_t fd, short what, void *arg)
{
    struct mux *m = arg;
    (void)fd;
    (void)what;
    struct session *s;
    while ((s = TAILQ_FIRST(&m->late)) != NULL) {
        TAILQ_REMOVE(&m->late, s, late);
        s->is_late = false;
        if (s->consumed != s->acked_told)
            session_want(s, WANT_ACK);
    }
}

/* A limited class may go on. */
static void end_held(evutil_socket_t fd, short what, void *arg)
{
    struct mux *m = arg;
    (void)fd;
    (void)what;
    tunnel_kick(m->tunnel);
}

/* References that lingered go, or wait on. */
static void end_lingering(evutil_socket_t fd, short what, void *arg)
{
    struct mux *m = arg;
    (void)fd;
    (void)what;
    struct session *s = TAILQ_FIRST(&m->lingering), *next;
    for (; s != NULL; s = next) {
        next = TAILQ_NEXT(s, lingering);
        transmit_schedule(s);
    }
    tunnel_kick(m->tunnel);
    if (!TAILQ_EMPTY(&m->lingering)) {
        struct timeval tv = {0, MUX_LINGER_TICK_US};
        event_add(&m->linger, &tv);
    }
}

/* ---- answers for sessions that are no more ---- */

/* Answers may overtake each other on two lanes: whichever comes first ought to tell the true reason. */
static enum frame_rst_reason true_reason(struct mux *m, uint64_t id, enum frame_rst_reason reason)
{
    if (reason != FRAME_RST_UNKNOWN) {
        m->refused[m->refused_next++ % MUX_REFUSED_KEPT] = (struct mux_answer){.id = id, .reason = reason};
        return reason;
    }
    for (size_t i = 0; i < MUX_REFUSED_KEPT; i++) {
        if (m->refused[i].id == id)
            return m->refused[i].reason;
    }
    return reason;
}

void mux_answer_rst(struct mux *m, uint64_t id, enum frame_rst_reason reason)
{
    reason = true_reason(m, id, reason);
    if (m->answers == NULL)
        m->answers = malloc(MUX_ANSWERS_MAX * sizeof(m->answers[0]));
    if (m->answers == NULL || m->answer_count >= MUX_ANSWERS_MAX)
        return;
    m->answers[m->answer_count++] = (struct mux_answer){.id = id, .reason = reason};
    tunnel_kick(m->tunnel);
}

/* ---- classes ---- */

struct mux_class *mux_class_of(struct mux *m, int class_index)
{
    return &m->classes[class_index >= 0 ? (size_t)class_index : m->class_count - 1];
}

static void count(struct mux_traffic *t, const struct mux_traffic *more)
{
    t->bytes += more->bytes;
    t->saved_bytes += more->saved_bytes;
    t->wire_bytes += more->wire_bytes;
}

void mux_count_sent(struct session *s, struct mux_traffic more)
{
    count(&s->sent, &more);
    count(&mux_class_of(s->mux, s->class_index)->sent, &more);
    count(&s->mux->totals.sent, &more);
}

void mux_count_came(struct session *s, struct mux_traffic more)
{
    count(&s->came, &more);
    count(&mux_class_of(s->mux, s->class_index)->came, &more);
    count(&s->mux->totals.came, &more);
}

static void classes_free(struct mux_class *classes, size_t count)
{
    for (size_t i = 0; classes != NULL && i < count; i++) {
        heap_end(&classes[i].heaps[0]);
        heap_end(&classes[i].heaps[1]);
        free(classes[i].window);
    }
    free(classes);
}

static struct mux_class *classes_new(const struct config *config)
{
    struct mux_class *classes = calloc(config->class_count + 1, sizeof(*classes));
    if (classes == NULL)
        return NULL;
    for (size_t i = 0; i < config->class_count; i++) {
        const struct config_rate *limit = &config->classes[i].limit;
        classes[i].weight = config->classes[i].weight;
        classes[i].limit = *limit;
        if (limit->bits_per_s == 0 && limit->permille == 0)
            continue;
        classes[i].window = calloc(1, sizeof(*classes[i].window));
        if (classes[i].window == NULL) {
            classes_free(classes, config->class_count);
            return NULL;
        }
    }
    classes[config->class_count].weight = 1;
    return classes;
}

/* What is not limited is measured only where something is. */
static void watch_limits(struct mux *m)
{
    bool any = false;
    for (size_t i = 0; i < m->class_count; i++)
        any = any || m->classes[i].window != NULL;
    if (any && m->unlimited == NULL)
        m->unlimited = calloc(1, sizeof(*m->unlimited));
    if (any && m->unlimited == NULL)
        log_error("peer %s: out of memory: no class is limited", m->peer->name);
    if (any && m->unlimited != NULL)
        return;
    for (size_t i = 0; i < m->class_count; i++) {
        free(m->classes[i].window);
        m->classes[i].window = NULL;
    }
    free(m->unlimited);
    m->unlimited = NULL;
    m->limiting = false;
}

static bool any_protocol(const struct config *config)
{
    for (size_t i = 0; i < config->class_count; i++) {
        if (config->classes[i].proto_mask != 0)
            return true;
    }
    return false;
}

static int class_by_name(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->class_count; i++) {
        if (strcmp(config->classes[i].name, name) == 0)
            return (int)i;
    }
    return RULES_NONE;
}

/* What classes of the same name have carried so far. */
static void keep_counts(const struct mux *m, struct mux_class *classes, const struct config *config)
{
    for (size_t i = 0; i < m->class_count; i++) {
        bool own = i + 1 < m->class_count;
        int to = own ? class_by_name(config, m->config->classes[i].name) : (int)config->class_count;
        if (to == RULES_NONE)
            continue;
        classes[to].sent = m->classes[i].sent;
        classes[to].came = m->classes[i].came;
    }
}

void mux_reconfigure(struct mux *m, struct config *config, size_t peer)
{
    struct mux_class *classes = classes_new(config);
    if (classes == NULL) {
        log_error("peer %s: out of memory: the new classes are not applied", m->peer->name);
        return;
    }
    struct session *s;
    TAILQ_FOREACH (s, &m->sessions, all) {
        transmit_forget(s);
        if (s->class_index >= 0)
            s->class_index = class_by_name(config, m->config->classes[s->class_index].name);
    }
    keep_counts(m, classes, config);
    classes_free(m->classes, m->class_count);
    m->classes = classes;
    m->class_count = config->class_count + 1;
    m->virtual_now = 0;
    m->looks_at_protocol = any_protocol(config);
    watch_limits(m);
    struct config *old = m->config;
    m->config = config_ref(config);
    m->peer_index = peer;
    m->peer = &config->peers[peer];
    tunnel_reconfigure(m->tunnel, m->peer);
    config_unref(old);
    TAILQ_FOREACH (s, &m->sessions, all)
        transmit_schedule(s);
}

/* ---- life ---- */

int mux_new(struct mux **out, struct leg_host *home, const struct mux_world *world,
            const struct tunnel_world *tunnel_world, struct config *config, size_t peer,
            uint64_t learned_rate_bits_per_s, uint64_t learned_rtt_us)
{
    struct mux *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return -ENOMEM;
    m->classes = classes_new(config);
    if (m->classes == NULL) {
        free(m);
        return -ENOMEM;
    }
    m->class_count = config->class_count + 1;
    m->home = home;
    m->world = world;
    m->config = config_ref(config);
    m->looks_at_protocol = any_protocol(config);
    m->peer_index = peer;
    m->peer = &config->peers[peer];
    m->by_id.salt = clock_now_us();
    arc4random_buf(&m->holdings.salt, sizeof(m->holdings.salt));
    m->opening_ours = tunnel_world->opening_credit_bytes;
    TAILQ_INIT(&m->sessions);
    TAILQ_INIT(&m->owing);
    TAILQ_INIT(&m->late);
    TAILQ_INIT(&m->twins);
    TAILQ_INIT(&m->lingering);
    watch_limits(m);
    event_assign(&m->late_acks, loop_base(home->loop), -1, EV_TIMEOUT, send_late_acks, m);
    event_assign(&m->hold, loop_base(home->loop), -1, EV_TIMEOUT, hold_is_over, m);
    event_assign(&m->say_again, loop_base(home->loop), -1, EV_TIMEOUT, say_again, m);
    event_assign(&m->held, loop_base(home->loop), -1, EV_TIMEOUT, end_held, m);
    event_assign(&m->linger, loop_base(home->loop), -1, EV_TIMEOUT, end_lingering, m);
    int err = tunnel_new(&m->tunnel, home->loop, tunnel_world, m->peer, learned_rate_bits_per_s,
                         learned_rtt_us, &tunnel_events, m);
    if (err < 0) {
        classes_free(m->classes, m->class_count);
        free(m->unlimited);
        config_unref(m->config);
        free(m);
        return err;
    }
    TAILQ_INSERT_TAIL(&home->muxes, m, same_home);
    *out = m;
    return 0;
}

static void finish_end(struct mux *m)
{
    void (*gone)(void *arg) = m->gone;
    void *arg = m->gone_arg;
    event_del(&m->late_acks);
    event_del(&m->hold);
    event_del(&m->linger);
    event_del(&m->held);
    free(m->unlimited);
    event_del(&m->say_again);
    TAILQ_REMOVE(&m->home->muxes, m, same_home);
    remember_keep(m);
    holdings_clear(&m->holdings);
    free(m->notes);
    tunnel_free(m->tunnel);
    classes_free(m->classes, m->class_count);
    map_clear(&m->by_id);
    closed_clear(&m->closed);
    free(m->answers);
    config_unref(m->config);
    free(m);
    gone(arg);
}

void mux_session_freed(struct mux *m)
{
    m->live--;
    if (m->ending && m->live == 0)
        finish_end(m);
}

void mux_end(struct mux *m, void (*gone)(void *arg), void *arg)
{
    m->gone = gone;
    m->gone_arg = arg;
    m->live++; /* until all are visited */
    m->ending = true;
    each(m, drop_one, FRAME_RST_TUNNEL);
    mux_session_freed(m);
}

void mux_open(struct mux *m, const struct mux_intercepted *in)
{
    /* the main thread's configuration may be ahead of ours for a moment */
    int class_index = in->class_index + 1 < (int)m->class_count ? in->class_index : RULES_NONE;
    struct session *s =
        m->ending ? NULL : session_new(m, &in->client, &in->server, in->dscp, class_index, true);
    if (s != NULL)
        s->leg = leg_new(in->host, m->home->loop, &session_leg_events, s, in->fd, NULL);
    if (s == NULL) {
        close(in->fd);
        leg_host_release(in->host, 1);
        m->world->session_ended(m->world->owner);
        return;
    }
    m->totals.sessions++;
    if (s->leg == NULL) {
        session_drop(s, FRAME_RST_OVERLOAD);
        return;
    }
    leg_start(s->leg, s->allowed);
    session_want(s, WANT_OPEN);
}

void mux_adopt(struct mux *m, struct lane *l)
{
    if (m->ending)
        lane_free(l);
    else
        tunnel_adopt(m->tunnel, l);
}

enum mux_store_ends mux_store_ends(const struct mux *m)
{
    bool here = m->home->store != NULL;
    if ((tunnel_peer_features(m->tunnel) & GREETING_FEATURE_REFERENCES) != 0)
        return here ? MUX_STORE_BOTH : MUX_STORE_THERE;
    return here ? MUX_STORE_HERE : MUX_STORE_NONE;
}

bool mux_is_up(const struct mux *m)
{
    return tunnel_is_up(m->tunnel);
}

struct tunnel *mux_tunnel(struct mux *m)
{
    return m->tunnel;
}

const char *mux_peer_name(const struct mux *m)
{
    return m->peer->name;
}

/* ---- reports ---- */

void mux_read_totals(const struct mux *m, struct mux_totals *out)
{
    *out = m->totals;
}

bool mux_report_class(const struct mux *m, size_t i, struct mux_class_report *out)
{
    static const char *const actions[] = {"accelerate", "bypass", "deny"};
    if (i >= m->class_count)
        return false;
    bool own = i + 1 < m->class_count;
    *out = (struct mux_class_report){
        .name = own ? m->config->classes[i].name : "default",
        .action = actions[own ? m->config->classes[i].action : CONFIG_ACTION_ACCELERATE],
        .weight = m->classes[i].weight,
        .sent = m->classes[i].sent,
        .came = m->classes[i].came};
    const struct session *s;
    TAILQ_FOREACH (s, &m->sessions, all)
        out->sessions += !s->retired && (s->class_index >= 0 ? (size_t)s->class_index == i : !own);
    return true;
}

void mux_each_session(const struct mux *m, void (*visit)(void *arg, const struct mux_session_report *r),
                      void *arg)
{
    const struct session *s;
    uint64_t now = clock_now_us();
    TAILQ_FOREACH (s, &m->sessions, all) {
        if (s->retired)
            continue;
        struct mux_session_report r = {
            .id = s->id,
            .age_us = now - s->born_us,
            .in_bytes = s->replay.read,
            .out_bytes = s->consumed,
            .sent = s->sent,
            .came = s->came,
            .unacked_bytes = s->replay.read - s->replay.acked,
            .queued_bytes = s->received - s->consumed + s->early.bytes,
            .early_bytes = s->early.bytes,
            .client = s->client,
            .server = s->server,
            .class_name = s->class_index >= 0 ? m->config->classes[s->class_index].name : "default",
            .state = session_state_text(s),
            .lane = s->last_slot < 0    ? "none"
                    : s->last_slot == 0 ? "express"
                                        : "bulk",
            .near = s->near,
            .encrypted = s->opaque,
        };
        visit(arg, &r);
    }
}
