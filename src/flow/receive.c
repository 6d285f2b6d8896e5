#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/session.h"

enum {
    ACK_EVERY_BYTES = 64 * 1024,
    ACK_EVERY_SAVED_BYTES =
        8 << 20, /* what came as references is in the peer's store too, and costs it nothing */
};

/* ---- opening ---- */

static void refuse(struct mux *m, const struct frame *f, enum frame_rst_reason reason)
{
    char from[ENDPOINT_TEXT_MAX], to[ENDPOINT_TEXT_MAX];
    log_debug("peer %s: session %s -> %s refused: %s", m->peer->name, endpoint_format(&f->open.client, from),
              endpoint_format(&f->open.server, to), frame_rst_text(reason));
}

static int take_open(struct mux *m, const struct frame *f)
{
    uint64_t side = tunnel_is_lower(m->tunnel) ? 0 : 1;
    if ((f->session & 1) != side || f->session >> 1 == 0)
        return -ERR_WIRE_VALUE;
    if (closed_has(&m->closed, f->session)) {
        mux_answer_rst(m, f->session, FRAME_RST_UNKNOWN);
        return 0;
    }
    if (m->ending) {
        mux_answer_rst(m, f->session, FRAME_RST_TUNNEL);
        return 0;
    }
    int class_index = RULES_NONE;
    enum config_source source = CONFIG_SOURCE_CLIENT;
    enum frame_rst_reason reason =
        m->world->admit(m->world->owner, m->home, m->config, m->peer_index, f, &class_index, &source);
    bool counted =
        reason == FRAME_RST_OTHER && m->world->session_starts(m->world->owner, m->far_sessions + 1);
    struct session *s = NULL;
    if (counted)
        s = session_new(m, &f->open.client, &f->open.server, f->open.dscp, class_index, false);
    if (s != NULL) {
        s->id = f->session;
        s->raw_limit = f->open.raw_limit;
        s->limit = f->open.cost_limit;
        m->totals.sessions++;
        m->far_sessions++;
        struct leg_origin origin = {.client = s->client,
                                    .server = s->server,
                                    .source = source,
                                    .dscp = s->dscp,
                                    .timeout_us = m->world->connect_timeout_us};
        s->leg = leg_new(m->world->place(m->world->owner, m->home), m->home->loop, &session_leg_events, s, -1,
                         &origin);
        if (s->leg != NULL && map_put(&m->by_id, s->id, s) == 0) {
            leg_start(s->leg, s->allowed);
            session_want(s, WANT_ACK | WANT_CREDIT);
            return 0;
        }
        if (s->leg != NULL)
            leg_start(s->leg, 0);
        session_drop(s, FRAME_RST_OVERLOAD); /* leaves the id among the closed ones */
    } else if (counted) {
        m->world->session_ended(m->world->owner);
    }
    if (reason == FRAME_RST_OTHER)
        reason = FRAME_RST_OVERLOAD;
    refuse(m, f, reason);
    int err = s == NULL ? closed_add(&m->closed, f->session, CLOSED_RANGES_MAX + m->far_sessions) : 0;
    if (err < 0)
        return err;
    mux_answer_rst(m, f->session, reason);
    return m->answer_count < MUX_ANSWERS_MAX ? 0 : -ERR_WIRE_VALUE;
}

/* ---- bytes in ---- */

static void end_if_final(struct session *s)
{
    if (s->received != s->final || s->finish_sent || s->in == HALF_RESET || s->leg == NULL ||
        s->reset_after_final)
        return;
    s->finish_sent = true;
    leg_finish(s->leg);
}

/* Bytes in order for the host. */
static void deliver(struct session *s, const struct early_piece *piece)
{
    struct slice slice = piece->slice;
    if (s->received == 0)
        session_recognise(s, !s->near, slice_bytes(&slice), slice.len);
    s->received += slice.len;
    if (piece->saves > 0)
        savings_add(&s->saved_in, s->received - slice.len, s->received, piece->saves);
    mux_count_came(s,
                   (struct mux_traffic){.bytes = slice.len, .saved_bytes = piece->saves > 0 ? slice.len : 0});
    s->mux->totals.out_bytes += slice.len;
    if (s->leg != NULL)
        leg_write(s->leg, slice);
    else
        chunk_unref(slice.chunk);
}

/* The first bytes of a piece are here already; what it costs the rest of it costs. */
static void cut(struct early_piece *piece, uint64_t bytes)
{
    uint32_t cost = piece->slice.len - piece->saves;
    piece->slice.off += (uint32_t)bytes;
    piece->slice.len -= (uint32_t)bytes;
    piece->saves = piece->slice.len > cost ? piece->slice.len - cost : 0;
}

static void drain_early(struct session *s)
{
    struct early_piece piece;
    uint64_t offset;
    while (early_take(&s->early, s->received, &offset, &piece)) {
        uint64_t skip = s->received - offset;
        if (skip >= piece.slice.len) {
            chunk_unref(piece.slice.chunk);
            continue;
        }
        cut(&piece, skip);
        deliver(s, &piece);
    }
}

bool receive_is_breach(const struct session *s, uint64_t end)
{
    return end > s->final || end > s->consumed + SESSION_RAW_WINDOW;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Bytes that take memory until the host has taken them. What came as a long reference takes next to none. */
static uint64_t held(const struct session *s)
{
    return s->received - s->consumed - s->saved_in.total + s->early.bytes - s->early.saved;
}

/* So many bytes past the rest are paid from the credit that our greeting gave for new sessions. */
static bool pays(struct session *s, uint64_t excess)
{
    struct mux *m = s->mux;
    if (excess <= s->excess)
        return true;
    if (s->near || m->excess_bytes + (excess - s->excess) > m->opening_ours)
        return false;
    m->excess_bytes += excess - s->excess;
    s->excess = excess;
    return true;
}

/* Whether bytes up to `end` may come now that take so much memory. What was granted may always: the head must
 * go on, and what was asked for does not come twice. Beyond that the window is for what is held, not for
 * gaps, since what fills these may be references. */
static bool is_covered(struct session *s, uint64_t end, uint64_t cost)
{
    if (receive_is_breach(s, end))
        return false;
    if (end <= s->granted)
        return true;
    if (!mux_stores(s->mux))
        return pays(s, end - s->granted);
    return pays(s, less(held(s) + cost, s->window));
}

/* The peer's count may be ahead of ours: what it sends again may have been a reference the first time. Such
 * bytes are not kept, and asked for in their turn. */
void receive_refuse(struct session *s, uint64_t from, uint64_t end)
{
    if (s->in > HALF_ENDING)
        return;
    bool breach = receive_is_breach(s, end);
    if (!breach && mux_stores(s->mux)) {
        session_note_missing(s, from, end);
        return;
    }
    if (session_may_log(s->mux))
        log_warn("peer %s: session %llu sent past its %s", s->mux->peer->name, (unsigned long long)s->id,
                 end > s->final ? "end" : "credit");
    session_reset(s, FRAME_RST_PROTOCOL);
}

struct slice receive_slice(const uint8_t *bytes, uint32_t len, struct chunk *chunk)
{
    if (len < chunk->cap / 2) /* it must not pin what is not counted while a slow host takes its time */
        return slice_copy(bytes, len);
    return (struct slice){.chunk = chunk_ref(chunk), .off = (uint32_t)(bytes - chunk->bytes), .len = len};
}

static void settle(struct session *s)
{
    drain_early(s);
    end_if_final(s);
    session_pull_missing(s);
}

/* Pieces of which not all is here. 0, or -ENOMEM: not all is kept. */
static int take(struct session *s, uint64_t offset, const struct early_piece *pieces, uint32_t count)
{
    if (offset > s->received)
        return early_keep(&s->early, offset, pieces, count);
    for (uint32_t i = 0; i < count; i++)
        deliver(s, &pieces[i]);
    settle(s);
    return 0;
}

int receive_pieces(struct session *s, uint64_t offset, struct early_piece *pieces, uint32_t count)
{
    for (; count > 0 && offset + pieces->slice.len <= s->received; pieces++, count--) {
        offset += pieces->slice.len;
        chunk_unref(pieces->slice.chunk);
    }
    if (count > 0 && offset < s->received) {
        cut(pieces, s->received - offset);
        offset = s->received;
    }
    uint64_t end = offset, saved = 0;
    for (uint32_t i = 0; i < count; i++) {
        end += pieces[i].slice.len;
        saved += pieces[i].saves;
    }
    if (is_covered(s, end, end - offset - saved))
        return take(s, offset, pieces, count);
    for (uint32_t i = 0; i < count; i++)
        chunk_unref(pieces[i].slice.chunk);
    return -EDQUOT;
}

/* What is past the credit is asked for in its turn. What stands in front of it is taken: it may have been
 * asked for before, and does not come for that again. */
static void take_data(struct session *s, const struct frame *f, struct chunk *chunk)
{
    uint64_t from = f->data.offset, end = from + f->data.len;
    if (s->in > HALF_ENDING || end <= s->received)
        return;
    if (from < s->received)
        from = s->received;
    if (!is_covered(s, end, end - from)) {
        uint64_t edge = s->granted > from && s->granted < end ? s->granted : from;
        receive_refuse(s, edge, end);
        if (edge == from || s->in > HALF_ENDING)
            return;
        end = edge;
    }
    const uint8_t *bytes = f->data.bytes + (from - f->data.offset);
    struct early_piece piece = {.slice = receive_slice(bytes, (uint32_t)(end - from), chunk)};
    if (piece.slice.chunk == NULL || take(s, from, &piece, 1) < 0)
        session_reset(s, FRAME_RST_OVERLOAD);
}

static void take_fin(struct session *s, uint64_t final)
{
    if (s->in == HALF_DONE) {
        session_want(s, WANT_ACK); /* ours was lost */
        return;
    }
    if (s->in == HALF_RESET)
        return;
    if (final < s->received || (s->final != UINT64_MAX && s->final != final)) {
        session_reset(s, FRAME_RST_PROTOCOL);
        return;
    }
    s->final = final;
    if (s->in == HALF_OPEN)
        session_set_in(s, HALF_ENDING);
    end_if_final(s);
    if (s->consumed == s->final)
        receive_consumed(s, s->consumed);
}

/* ---- what the host has taken ---- */

static void consider_window(struct session *s)
{
    if (s->consumed - s->epoch_consumed < s->window / 2)
        return;
    uint64_t now = clock_now_us(), rtt = tunnel_rtt_us(s->mux->tunnel);
    if (now - s->epoch_us < 2 * rtt + 10000)
        session_grow_window(
            s, 2 * s->window); /* half a window in two round trips: it may hold the sender back */
    s->epoch_us = now;
    s->epoch_consumed = s->consumed;
}

static void grant(struct session *s)
{
    uint64_t upto = s->consumed + s->window;
    if (upto < s->granted + s->window / 4)
        return;
    s->granted = upto;
    if (s->excess > 0) {
        uint64_t excess = less(held(s), s->window); /* what it paid for may wait behind a gap */
        if (excess < s->excess) {
            s->mux->excess_bytes -= s->excess - excess;
            s->excess = excess;
        }
    }
    session_want(s, WANT_CREDIT | WANT_ACK);
}

void receive_consumed(struct session *s, uint64_t total)
{
    s->consumed = total;
    savings_settle_part(&s->saved_in, total); /* the rest of a slice hides nothing that came behind it */
    if (s->reset_after_final) {
        if (s->consumed == s->final)
            session_finish_reset(s);
        return;
    }
    if (s->in == HALF_ENDING && s->consumed == s->final) {
        session_set_in(s, HALF_DONE);
        session_want(s, WANT_ACK); /* over at the latest when it is written: transmit.c looks */
        return;
    }
    if (s->in != HALF_OPEN && s->in != HALF_ENDING)
        return;
    consider_window(s);
    grant(s);
    session_pull_missing(s);
    uint64_t told_ago = s->consumed - s->acked_told;
    if (told_ago >= (s->saved_in.total > 0 ? ACK_EVERY_SAVED_BYTES : ACK_EVERY_BYTES)) {
        session_want(s, WANT_ACK);
    } else if ((s->wants & WANT_ACK) == 0 && !s->is_late) {
        struct mux *m = s->mux;
        s->is_late = true;
        TAILQ_INSERT_TAIL(&m->late, s, late);
        if (!event_pending(&m->late_acks, EV_TIMEOUT, NULL)) {
            uint64_t late = tunnel_rtt_us(m->tunnel) / 8;
            late = late < MUX_ACK_LATE_US       ? MUX_ACK_LATE_US
                   : late > MUX_ACK_LATE_MAX_US ? MUX_ACK_LATE_MAX_US
                                                : late;
            struct timeval tv = {0, (suseconds_t)late};
            event_add(&m->late_acks, &tv);
        }
    }
}

/* ---- confirmations of what we sent ---- */

static void take_ack(struct session *s, uint64_t offset)
{
    bool with_fin =
        s->out == HALF_ENDING && s->fin_said && !s->reset_after_sent && offset == s->replay.read + 1;
    uint64_t upto = with_fin ? s->replay.read : offset;
    if (s->out > HALF_ENDING)
        return;
    if (upto > replay_sent(&s->replay)) {
        session_reset(s, FRAME_RST_PROTOCOL);
        return;
    }
    s->confirmed = true;
    if (upto > s->replay.acked) {
        session_confirm_held(s, upto);
        replay_ack(&s->replay, upto);
    }
    if (with_fin) {
        session_set_out(s, HALF_DONE);
        s->wants &= ~(uint32_t)WANT_FIN;
    }
    session_end_if_sent(s);
    transmit_schedule(s);
    if (s->turn.index != HEAP_OUT)
        tunnel_kick(s->mux->tunnel);
    session_update_allowed(s);
    session_check_over(s);
}

static void take_credit(struct session *s, const struct frame *f)
{
    struct mux *m = s->mux;
    s->confirmed = true;
    if (f->credit.cost_limit > s->limit)
        s->limit = f->credit.cost_limit;
    if (f->credit.raw_limit > s->raw_limit)
        s->raw_limit = f->credit.raw_limit;
    if (!s->credited) {
        bool was_short = m->opening_left < SESSION_UNSENT_MIN && s->opening_used > 0;
        s->credited = true;
        m->opening_left += s->opening_used;
        s->opening_used = 0;
        struct session *other;
        TAILQ_FOREACH (other, &m->sessions, all) {
            if (!was_short)
                break;
            if (!other->credited)
                transmit_schedule(other);
        }
    }
    transmit_schedule(s);
    tunnel_kick(m->tunnel);
}

/* A frame of a session that is not here: it is over, or never was. Only what the peer would wait for is
 * answered. */
static int take_unknown(struct mux *m, const struct frame *f)
{
    bool waits = f->type == FRAME_FIN || (f->type == FRAME_RST && f->rst.answer == 0);
    if (waits)
        mux_answer_rst(m, f->session, FRAME_RST_UNKNOWN);
    return m->answer_count < MUX_ANSWERS_MAX ? 0 : -ERR_WIRE_VALUE;
}

int receive_frame(void *owner, unsigned slot, const struct frame *f, struct chunk *chunk)
{
    struct mux *m = owner;
    (void)slot;
    if (f->type == FRAME_HOLD || f->type == FRAME_DROP)
        return mux_take_note(m, f);
    if ((f->type == FRAME_STORED || f->type == FRAME_MISS) && !mux_stores(m))
        return -ERR_WIRE_UNKNOWN;
    struct session *s = map_get(&m->by_id, f->session);
    if (s == NULL && f->type == FRAME_STORED)
        mux_only_fill(m, f);
    if (s == NULL)
        return f->type == FRAME_OPEN ? take_open(m, f) : take_unknown(m, f);
    switch (f->type) {
    case FRAME_OPEN:
        break; /* again, after a lane was lost */
    case FRAME_DATA:
        s->confirmed = true;
        mux_count_came(s, (struct mux_traffic){.wire_bytes = f->wire_bytes});
        take_data(s, f, chunk);
        break;
    case FRAME_ACK:
        take_ack(s, f->ack.offset);
        break;
    case FRAME_CREDIT:
        take_credit(s, f);
        break;
    case FRAME_FIN:
        take_fin(s, f->fin.final);
        break;
    case FRAME_RST:
        session_take_rst(s, f);
        break;
    case FRAME_STORED:
        s->confirmed = true;
        mux_count_came(s, (struct mux_traffic){.wire_bytes = f->wire_bytes});
        return session_take_stored(s, f, chunk);
    case FRAME_MISS:
        session_take_miss(s, f->miss.offset, f->miss.len);
        break;
    case FRAME_HOLD:
    case FRAME_DROP:
    case FRAME_PING:
    case FRAME_PONG:
        break; /* no session's */
    }
    return 0;
}
