#include "hawser/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/probe.h"

/* ---- states ---- */

static const char *const half_text[HALF_COUNT] = {"open", "ending", "done", "reset"};

bool session_half_may(enum session_half from, enum session_half to)
{
    static const bool may[HALF_COUNT][HALF_COUNT] = {
        [HALF_OPEN] = {[HALF_ENDING] = true, [HALF_RESET] = true},
        [HALF_ENDING] = {[HALF_DONE] = true, [HALF_RESET] = true},
    };
    return may[from][to];
}

static void set_half(struct session *s, enum session_half *half, const char *name, enum session_half to)
{
    assert(session_half_may(*half, to));
    log_debug("peer %s: session %llu: %s %s -> %s", s->mux->peer->name, (unsigned long long)s->id, name,
              half_text[*half], half_text[to]);
    *half = to;
}

void session_set_out(struct session *s, enum session_half to)
{
    set_half(s, &s->out, "out", to);
}

void session_set_in(struct session *s, enum session_half to)
{
    set_half(s, &s->in, "in", to);
}

static bool is_reset(const struct session *s)
{
    return s->out == HALF_RESET || (s->in == HALF_RESET && !s->reset_after_sent);
}

const char *session_state_text(const struct session *s)
{
    if (is_reset(s))
        return "reset";
    if (!s->near && !s->origin_connected)
        return "connecting";
    if (s->near && !s->confirmed)
        return "opening";
    if (s->out == HALF_OPEN && s->in == HALF_OPEN)
        return "open";
    return s->out == HALF_OPEN ? "in-closed" : s->in == HALF_OPEN ? "out-closed" : "closing";
}

/* ---- memory ---- */

void session_grow_window(struct session *s, uint64_t wanted)
{
    struct mux_memory *memory = s->mux->world->memory;
    uint64_t share =
        budget_left(&memory->growth) / 16; /* so that no session takes all, and late ones find some */
    if (wanted > SESSION_WINDOW_MAX)
        wanted = SESSION_WINDOW_MAX;
    if (wanted <= s->window)
        return;
    uint64_t more = wanted - s->window;
    if (more > share)
        more = share;
    if (more > 0 && budget_take(&memory->growth, more))
        s->window += more;
}

/* What of the bytes between acked and allowed the floor does not pay. */
static uint64_t reserve_for(const struct session *s, uint64_t allowed)
{
    uint64_t held = allowed - s->replay.acked - s->replay.stored,
             floor = s->mux->world->memory->session_floor_bytes;
    return held > floor ? held - floor : 0;
}

static uint64_t unsent_quota(const struct session *s)
{
    uint64_t quota = linkrate_bytes_in(tunnel_linkrate(s->mux->tunnel), 100000);
    if (!s->urgent && s->put_us != 0)
        return SESSION_READ_AHEAD_HIT_BYTES; /* bytes that the peer holds: the link is not what limits them */
    if (quota < SESSION_UNSENT_MIN)
        return SESSION_UNSENT_MIN;
    return quota < SESSION_UNSENT_MAX ? quota : SESSION_UNSENT_MAX;
}

void session_update_allowed(struct session *s)
{
    struct budget *growth = &s->mux->world->memory->growth;
    uint64_t keep = reserve_for(s, s->allowed);
    if (s->send_reserved > keep) {
        budget_give(growth, s->send_reserved - keep);
        s->send_reserved = keep;
    }
    if (s->out != HALF_OPEN || s->leg == NULL)
        return;
    uint64_t wanted = replay_sent(&s->replay) + unsent_quota(s);
    if (wanted > s->replay.acked + SESSION_RAW_WINDOW)
        wanted =
            s->replay.acked + SESSION_RAW_WINDOW; /* slices cost, too, and a peer may never acknowledge */
    bool starved = s->replay.read == s->allowed;
    if (wanted <= s->allowed || (wanted - s->allowed < SESSION_UNSENT_MIN / 2 && !starved))
        return;
    uint64_t reserve = reserve_for(s, wanted);
    if (reserve > s->send_reserved) {
        if (!budget_take(growth, reserve - s->send_reserved)) {
            wanted = s->replay.acked + s->mux->world->memory->session_floor_bytes + s->send_reserved;
            if (wanted <= s->allowed)
                return; /* memory is short: what is acknowledged makes room */
            reserve = s->send_reserved;
        }
        s->send_reserved = reserve;
    }
    s->allowed = wanted;
    leg_allow(s->leg, wanted);
}

static void give_memory_back(struct session *s)
{
    struct mux *m = s->mux;
    struct mux_memory *memory = m->world->memory;
    budget_give(&memory->floor, 2 * memory->session_floor_bytes);
    budget_give(&memory->growth, s->send_reserved + (s->window - memory->session_floor_bytes));
    m->excess_bytes -= s->excess;
    if (!s->credited)
        m->opening_left += s->opening_used;
    s->send_reserved = s->excess = s->opening_used = 0;
}

/* ---- wants ---- */

void session_want(struct session *s, uint32_t wants)
{
    if (s->retired)
        return;
    s->wants |= wants;
    if (s->wants != 0 && !s->is_owing) {
        s->is_owing = true;
        TAILQ_INSERT_TAIL(&s->mux->owing, s, owing);
    }
    tunnel_kick(s->mux->tunnel);
}

/* ---- life ---- */

struct session *session_new(struct mux *m, const struct endpoint *client, const struct endpoint *server,
                            uint8_t dscp, int class_index, bool near)
{
    struct mux_memory *memory = m->world->memory;
    if (!budget_take(&memory->floor, 2 * memory->session_floor_bytes))
        return NULL;
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        budget_give(&memory->floor, 2 * memory->session_floor_bytes);
        return NULL;
    }
    s->mux = m;
    s->client = *client;
    s->server = *server;
    s->dscp = dscp;
    s->class_index = class_index;
    s->near = near;
    s->confirmed = s->credited = !near;
    s->final = UINT64_MAX;
    s->last_slot = -1;
    s->born_us = s->epoch_us = clock_now_us();
    s->allowed = s->window = memory->session_floor_bytes;
    heap_node_init(&s->turn);
    uint64_t twice = 2 * linkrate_bdp_bytes(tunnel_linkrate(m->tunnel));
    session_grow_window(s, twice > SESSION_WINDOW_MIN ? twice : SESSION_WINDOW_MIN);
    s->granted = s->window;
    TAILQ_INSERT_TAIL(&m->sessions, s, all);
    m->live++;
    m->totals.opened++;
    return s;
}

static void session_free(struct session *s)
{
    struct mux *m = s->mux;
    TAILQ_REMOVE(&m->sessions, s, all);
    free(s);
    mux_session_freed(m);
}

/* Everything that is kept for sending or for filling gaps. */
static void drop_bytes(struct session *s)
{
    replay_drop(&s->replay);
    early_clear(&s->early);
    savings_clear(&s->saved_out);
    savings_clear(&s->saved_in);
    spans_clear(&s->answered);
    if (s->mux->home->store != NULL)
        store_stream_end(s->mux->home->store, &s->stream);
    transmit_forget(s);
}

static void retire(struct session *s)
{
    struct mux *m = s->mux;
    drop_bytes(s);
    s->retired = true;
    if (s->id != 0)
        map_remove(&m->by_id, s->id);
    if (s->id != 0 && !s->near &&
        closed_add(&m->closed, s->id, 2 * (CLOSED_RANGES_MAX + m->far_sessions)) < 0)
        log_debug("peer %s: session %llu is not remembered as closed", m->peer->name,
                  (unsigned long long)s->id);
    if (s->is_owing)
        TAILQ_REMOVE(&m->owing, s, owing);
    if (s->is_late)
        TAILQ_REMOVE(&m->late, s, late);
    s->is_owing = s->is_late = false;
    give_memory_back(s);
    m->totals.sessions--;
    m->far_sessions -= !s->near;
    m->world->session_ended(m->world->owner);
}

void session_check_over(struct session *s)
{
    bool done = s->out == HALF_DONE && s->in == HALF_DONE && (s->wants & WANT_ACK) == 0;
    bool both = s->out >= HALF_DONE && s->in >= HALF_DONE;
    bool reset = both && is_reset(s) &&
                 (s->id == 0 || (s->rst_heard && (s->wants & (WANT_RST | WANT_RST_ANSWER)) == 0));
    if (!s->retired && (done || reset))
        retire(s);
    if (s->retired && s->leg == NULL)
        session_free(s);
}

static void reset_halves(struct session *s)
{
    if (session_half_may(s->out, HALF_RESET))
        session_set_out(s, HALF_RESET);
    if (session_half_may(s->in, HALF_RESET))
        session_set_in(s, HALF_RESET);
    drop_bytes(s);
    s->reset_after_final = s->reset_after_sent = false;
    s->wants &= ~(uint32_t)(WANT_ACK | WANT_CREDIT | WANT_FIN);
    if (s->leg != NULL)
        leg_abort(s->leg);
}

void session_renew_second(struct mux *m)
{
    uint64_t now = clock_now_us();
    if (now - m->second_us <= 1000000)
        return;
    m->second_us = now;
    m->breaches_logged = 0;
    m->mismatched_bytes = 0;
    m->recalled_parts = 0;
}

bool session_may_log(struct mux *m)
{
    session_renew_second(m);
    return m->breaches_logged++ < MUX_BREACHES_A_SECOND;
}

void session_reset(struct session *s, enum frame_rst_reason reason)
{
    if (s->retired || (s->out >= HALF_DONE && s->in >= HALF_DONE)) {
        session_check_over(s);
        return;
    }
    if (reason == FRAME_RST_PROTOCOL && session_may_log(s->mux))
        log_warn("peer %s: session %llu broke the protocol and is reset", s->mux->peer->name,
                 (unsigned long long)s->id);
    if (reason == FRAME_RST_BY_HOST && replay_again_left(&s->replay) > 0)
        reason = FRAME_RST_OTHER; /* some of what was sent is lost: the peer must not wait for it */
    bool owes_answer = s->reset_after_final;
    s->rst_reason = reason;
    reset_halves(s);
    if (owes_answer)
        session_want(s, WANT_RST_ANSWER);
    if ((s->wants & WANT_OPEN) != 0 && s->id == 0)
        s->wants = 0; /* the peer never heard of it */
    else if (!s->rst_heard)
        session_want(s, WANT_RST);
    session_check_over(s);
}

void session_recognise(struct session *s, bool from_client, const uint8_t *bytes, size_t len)
{
    struct mux *m = s->mux;
    uint32_t proto = probe_protocol(bytes, len);
    if (proto == PROBE_TLS || proto == PROBE_SSH)
        s->opaque = true;
    if (!from_client || !m->looks_at_protocol)
        return;
    if (proto == 0)
        proto =
            CONFIG_PROTO_OTHER; /* too few bytes in the first segment: no protocol that we know begins so */
    int class_index = m->world->classify(m->world->owner, m->home, m->config, m->peer_index, &s->client,
                                         &s->server, s->dscp, proto);
    if (class_index == s->class_index)
        return;
    transmit_forget(s);
    s->class_index = class_index;
    transmit_schedule(s);
}

void session_drop(struct session *s, enum frame_rst_reason reason)
{
    if (!s->retired) {
        s->rst_reason = reason;
        reset_halves(s);
        s->wants = 0;
        s->rst_heard = true;
    }
    session_check_over(s);
}

/* The peer's host reset its connection after bytes that are still on their way to ours: those first. */
static bool deliver_then_reset(struct session *s, const struct frame *f)
{
    if (s->miss_known > s->received)
        return false; /* what is missing went with the host */
    if (f->rst.reason != FRAME_RST_BY_HOST || f->rst.answer != 0 || s->in != HALF_OPEN || s->leg == NULL)
        return false;
    if (f->rst.final <= s->consumed || f->rst.final < s->received)
        return false;
    if (session_half_may(s->out, HALF_RESET))
        session_set_out(s, HALF_RESET);
    replay_drop(&s->replay);
    transmit_forget(s);
    s->final = f->rst.final;
    s->reset_after_final = true;
    return true;
}

void session_take_rst(struct session *s, const struct frame *f)
{
    bool answered = f->rst.answer != 0, ours = is_reset(s);
    s->rst_heard = true;
    s->wants &= ~(uint32_t)WANT_RST;
    if (s->reset_after_final && !answered && f->rst.reason == FRAME_RST_BY_HOST)
        return; /* said again; had it lost some of the bytes with a lane, it would say another reason */
    if (answered && s->in == HALF_DONE && s->out == HALF_ENDING && !ours) {
        session_set_out(s, HALF_DONE); /* the peer had everything and has forgotten the session; only its last
                                          ACK was lost */
        session_confirm_held(s, replay_sent(&s->replay));
        replay_drop(&s->replay); /* nothing of it goes again */
        transmit_forget(s);
        session_check_over(s);
        return;
    }
    bool none = s->received == 0 && s->replay.acked == 0; /* of its bytes has reached the other host */
    if (!ours && s->near && none)
        s->mux->world->refused(s->mux->world->owner, &s->server, f->rst.reason);
    s->rst_reason = f->rst.reason;
    if (!ours && deliver_then_reset(s, f))
        return; /* answered when all is delivered */
    reset_halves(s);
    if (!answered)
        session_want(s, WANT_RST_ANSWER);
    session_check_over(s);
}

bool session_say_again(struct session *s)
{
    bool reset = is_reset(s) && !s->rst_heard;
    bool ended = s->out == HALF_ENDING && s->fin_sent && !s->reset_after_sent;
    if (s->retired || s->id == 0 || (!reset && !ended))
        return false;
    session_want(s, reset ? WANT_RST : WANT_FIN);
    return true;
}

void session_finish_reset(struct session *s)
{
    reset_halves(s);
    session_want(s, WANT_RST_ANSWER);
    session_check_over(s);
}

void session_lane_lost(struct session *s, unsigned slot)
{
    if (s->retired || s->id == 0)
        return;
    if (s->reset_after_final) {
        session_finish_reset(s); /* the missing bytes may not come any more */
        return;
    }
    if (s->near && !s->confirmed)
        session_want(s, WANT_OPEN);
    if (is_reset(s)) {
        /* What went over that lane may be gone, and is not kept any more: the peer must not wait for it. */
        if (s->rst_reason == FRAME_RST_BY_HOST && s->slots[slot].end > 0)
            s->rst_reason = FRAME_RST_OTHER;
        session_want(s, s->rst_heard ? 0 : WANT_RST);
        return;
    }
    session_want(s, WANT_ACK | WANT_CREDIT | (s->miss_end > s->received ? WANT_MISS : 0));
    if (s->out <= HALF_ENDING)
        replay_send_again(&s->replay, s->slots[slot].from, s->slots[slot].end);
    s->slots[slot].from = s->slots[slot].end = 0;
    s->fin_sent = false;
    session_end_if_sent(s);
    transmit_schedule(s);
}

/* ---- the leg's events ---- */

static void leg_connected(void *owner)
{
    struct session *s = owner;
    s->origin_connected = true;
}

static void leg_data(void *owner, struct slice slice)
{
    struct session *s = owner;
    if (s->retired || s->out != HALF_OPEN) {
        chunk_unref(slice.chunk);
        return;
    }
    if (s->replay.read == 0)
        session_recognise(s, s->near, slice_bytes(&slice), slice.len);
    uint32_t len = slice.len;
    if (session_absorb(s, slice) < 0) {
        chunk_unref(slice.chunk);
        session_reset(s, FRAME_RST_OVERLOAD);
        return;
    }
    s->mux->totals.in_bytes += len;
    transmit_schedule(s);
    tunnel_kick(s->mux->tunnel);
}

static void leg_eof(void *owner)
{
    struct session *s = owner;
    if (s->retired || s->out != HALF_OPEN)
        return;
    session_set_out(s, HALF_ENDING);
    session_end_if_sent(s);
    transmit_schedule(s); /* nothing lingers now */
    tunnel_kick(s->mux->tunnel);
}

static void leg_consumed(void *owner, uint64_t total)
{
    struct session *s = owner;
    if (!s->retired)
        receive_consumed(s, total);
}

enum frame_rst_reason session_reason_of_errno(int err, bool connected)
{
    if (connected)
        return err == -ENOMEM ? FRAME_RST_OVERLOAD : FRAME_RST_BY_HOST;
    switch (-err) {
    case ECONNREFUSED:
    case ECONNRESET:
        return FRAME_RST_REFUSED;
    case ETIMEDOUT:
        return FRAME_RST_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EACCES:
        return FRAME_RST_UNREACHABLE;
    case EADDRNOTAVAIL:
    case EADDRINUSE:
    case EPERM:
        return FRAME_RST_SOURCE;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        return FRAME_RST_OVERLOAD;
    default:
        return FRAME_RST_OTHER;
    }
}

/* Our host reset its connection. What it sent before goes to the peer first, as TCP would have it, where that
 * takes no more than the link's time. */
static bool send_then_reset(struct session *s)
{
    bool waiting = replay_sent(&s->replay) < s->replay.read || replay_again_left(&s->replay) > 0;
    bool bytes_left = waiting && s->limit >= s->replay.read;
    if (s->id == 0 || s->out > HALF_ENDING || is_reset(s) || s->rst_heard || !bytes_left)
        return false;
    s->reset_after_sent = true;
    if (s->out == HALF_OPEN)
        session_set_out(s, HALF_ENDING);
    if (session_half_may(s->in, HALF_RESET))
        session_set_in(s, HALF_RESET);
    s->wants &= ~(uint32_t)(WANT_CREDIT | WANT_FIN);
    return true;
}

void session_end_if_sent(struct session *s)
{
    if (s->out != HALF_ENDING || replay_sent(&s->replay) < s->replay.read ||
        replay_again_left(&s->replay) > 0)
        return;
    if (s->reset_after_sent)
        session_reset(s, FRAME_RST_BY_HOST);
    else if (!s->fin_sent)
        session_want(s, WANT_FIN);
}

static void leg_closed(void *owner, int err)
{
    struct session *s = owner;
    leg_release(s->leg);
    s->leg = NULL;
    enum frame_rst_reason reason = session_reason_of_errno(err, s->near || s->origin_connected);
    if (err != 0 && !s->retired && !(reason == FRAME_RST_BY_HOST && send_then_reset(s)))
        session_reset(s, reason);
    else if (err == 0 || s->retired)
        session_check_over(s);
}

const struct leg_events session_leg_events = {
    .connected = leg_connected,
    .data = leg_data,
    .eof = leg_eof,
    .consumed = leg_consumed,
    .closed = leg_closed,
};
