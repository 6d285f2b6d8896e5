#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/session.h"

/* What goes next into a block: first what is owed (small frames), then DATA of the session whose turn it is.
 *
 * Classes share by weight: each has a virtual time, bytes sent over weight, and the smallest goes first;
 * weight 0 only when no other has anything. Inside a class the session that has sent least lately goes first
 * (least attained service, Nuyens and Wierman 2008). 'Lately' decays by half every LATELY_US: the heap's key
 * is log2(bytes) + now / LATELY_US, which orders waiting sessions the same at any later time, so keys need no
 * upkeep while they wait. */

enum { LATELY_US = 1000000, BLOCK_TAIL_BYTES = FRAME_DATA_HEADER_MAX + 16 };

/* log2 of the bytes sent lately, kept relative to time zero. */
static double key_after(double key, uint64_t now_us, uint64_t bytes)
{
    double age = (double)now_us / LATELY_US;
    return log2(exp2(key - age) + 1 + (double)bytes) + age;
}

static double sent_lately(const struct session *s, uint64_t now_us)
{
    return s->last_key == 0 ? 0 : exp2(s->last_key - (double)now_us / LATELY_US);
}

/* ---- which sessions wait for a turn ---- */

/* Bytes that may go now. */
static uint64_t sendable(const struct session *s)
{
    if (s->retired || s->out > HALF_ENDING || (s->near && (s->id == 0 || (s->wants & WANT_OPEN) != 0)))
        return 0;
    uint64_t again = replay_again_left(&s->replay);
    if (again > 0)
        return again;
    uint64_t sent = replay_sent(&s->replay), end = s->limit + s->saved_out.total;
    if (end > s->raw_limit)
        end = s->raw_limit;
    if (!s->credited) {
        end = sent + s->mux->opening_left;
        if (end > SESSION_RAW_WINDOW)
            end = SESSION_RAW_WINDOW;
    }
    if (end > s->replay.read)
        end = s->replay.read;
    return end > sent ? end - sent : 0;
}

static unsigned lane_for(const struct session *s, uint64_t waiting, uint64_t now_us)
{
    if (!s->confirmed)
        return 0; /* the OPEN went over the express lane: what follows must not overtake it */
    return waiting > SESSION_BULK_WAITING_BYTES || sent_lately(s, now_us) > SESSION_BULK_BYTES;
}

/* A class that was idle does not save up turns. */
static void wake_class(struct mux *m, struct mux_class *c)
{
    if (c->heaps[0].count + c->heaps[1].count == 0 && c->virtual_time < m->virtual_now)
        c->virtual_time = m->virtual_now;
}

static void leave_heap(struct session *s)
{
    struct mux_class *c = mux_class_of(s->mux, s->class_index);
    heap_remove(&c->heaps[s->turn_lane], &s->turn);
}

/* ---- lingering: in a stream of bytes that the peer holds, a reference waits a little to grow, so that a
 * long repetition costs few packets. Nothing waits that began a message, or holds anything new. ---- */

static void stop_lingering(struct session *s)
{
    if (s->linger_us == 0)
        return;
    s->linger_us = 0;
    TAILQ_REMOVE(&s->mux->lingering, s, lingering);
}

static bool lingers(struct session *s, uint64_t waiting, uint64_t now_us)
{
    struct mux *m = s->mux;
    uint64_t longest = tunnel_rtt_us(m->tunnel) / 16;
    if (longest > SESSION_LINGER_MAX_US)
        longest = SESSION_LINGER_MAX_US;
    bool streaming = s->put_us != 0 && now_us - s->put_us < longest;
    bool may = !s->urgent && s->out == HALF_OPEN && replay_again_left(&s->replay) == 0 &&
               waiting < SESSION_LINGER_BYTES && longest >= MUX_LINGER_TICK_US;
    if (!may || (s->linger_us == 0 && !streaming) ||
        (s->linger_us != 0 && now_us - s->linger_us >= longest)) {
        stop_lingering(s);
        return false;
    }
    if (s->linger_us == 0) {
        s->linger_us = now_us;
        TAILQ_INSERT_TAIL(&m->lingering, s, lingering);
        if (!event_pending(&m->linger, EV_TIMEOUT, NULL)) {
            struct timeval tv = {0, MUX_LINGER_TICK_US};
            event_add(&m->linger, &tv);
        }
    }
    return true;
}

void transmit_forget(struct session *s)
{
    leave_heap(s);
    stop_lingering(s);
    if (s->is_twin)
        TAILQ_REMOVE(&s->mux->twins, s, twins);
    s->is_twin = false;
}

void transmit_schedule(struct session *s)
{
    struct mux *m = s->mux;
    uint64_t waiting = sendable(s), now = clock_now_us();
    if (waiting == 0)
        stop_lingering(s);
    if (waiting == 0 || lingers(s, waiting, now)) {
        leave_heap(s);
        return;
    }
    struct mux_class *c = mux_class_of(m, s->class_index);
    unsigned lane = lane_for(s, waiting, now);
    double key = s->last_key == 0 ? (double)now / LATELY_US : s->last_key;
    if (s->turn.index != HEAP_OUT && lane == s->turn_lane) {
        s->turn.key = key;
        heap_update(&c->heaps[lane], &s->turn);
        return;
    }
    leave_heap(s);
    wake_class(m, c);
    if (heap_reserve(&c->heaps[lane], c->heaps[lane].count + 1) < 0)
        return; /* asked again at the session's next event */
    s->turn_lane = (uint8_t)lane;
    s->turn.key = key;
    heap_push(&c->heaps[lane], &s->turn);
}

/* ---- whose turn ---- */

static struct heap_node *class_top(const struct mux_class *c, enum tunnel_role role)
{
    struct heap_node *express = role != TUNNEL_ROLE_BULK ? heap_top(&c->heaps[0]) : NULL;
    struct heap_node *bulk = role != TUNNEL_ROLE_EXPRESS ? heap_top(&c->heaps[1]) : NULL;
    if (express == NULL || bulk == NULL)
        return express != NULL ? express : bulk;
    return express->key <= bulk->key ? express : bulk;
}

static struct session *session_of_turn(struct heap_node *n)
{
    return (struct session *)(void *)((char *)n - offsetof(struct session, turn));
}

static struct session *next_session(struct mux *m, enum tunnel_role role)
{
    struct heap_node *best = NULL;
    struct mux_class *best_class = NULL;
    for (size_t i = 0; i < m->class_count; i++) {
        struct mux_class *c = &m->classes[i];
        struct heap_node *top = class_top(c, role);
        if (top == NULL)
            continue;
        bool better =
            best == NULL || (best_class->weight == 0 && c->weight > 0) ||
            ((best_class->weight > 0) == (c->weight > 0) && c->virtual_time < best_class->virtual_time);
        if (better && !limits_hold(m, c)) {
            best = top;
            best_class = c;
        }
    }
    return best != NULL ? session_of_turn(best) : NULL;
}

/* ---- writing ---- */

/* What a session without a CREDIT has sent takes from the tunnel's opening credit what it costs. */
static void count_opening(struct session *s)
{
    struct mux *m = s->mux;
    uint64_t cost = replay_sent(&s->replay) - s->saved_out.total, all = m->opening_left + s->opening_used;
    s->opening_used = cost < all ? cost : all;
    m->opening_left = all - s->opening_used;
}

/* len bytes of the session went, as `cost` bytes on the wire. */
static void account(struct session *s, unsigned slot, uint64_t offset, uint32_t len, uint32_t cost,
                    bool fresh)
{
    struct mux *m = s->mux;
    struct mux_class *c = mux_class_of(m, s->class_index);
    if (!s->credited)
        count_opening(s);
    if (s->slots[slot].end <= s->replay.acked || offset < s->slots[slot].from)
        s->slots[slot].from = offset;
    if (offset + len > s->slots[slot].end)
        s->slots[slot].end = offset + len;
    m->virtual_now = c->virtual_time;
    c->virtual_time += (double)cost / (c->weight > 0 ? c->weight : 1);
    limits_count(m, c, cost);
    mux_count_sent(s, (struct mux_traffic){.bytes = fresh ? len : 0, .wire_bytes = cost});
    s->last_slot = (int)slot;
    s->last_key = key_after(s->last_key, clock_now_us(), cost);
}

static int put_open(struct session *s, unsigned slot, struct cursor_out *out)
{
    struct mux *m = s->mux;
    uint64_t id = s->id;
    if (id == 0) {
        id = (m->next_id + 1) << 1 | (tunnel_is_lower(m->tunnel) ? 1 : 0);
        if (map_put(&m->by_id, id, s) < 0)
            return -1;
    }
    struct frame f = {.type = FRAME_OPEN, .session = id};
    const char *class_name = s->class_index >= 0 ? m->config->classes[s->class_index].name : "";
    f.open.client = s->client;
    f.open.server = s->server;
    f.open.dscp = s->dscp;
    f.open.class_name = class_name;
    f.open.class_len = (uint8_t)strlen(class_name);
    f.open.raw_limit = s->consumed + SESSION_RAW_WINDOW;
    f.open.cost_limit = s->granted;
    int err = frame_put(out, &f);
    if (err < 0 && s->id == 0)
        map_remove(&m->by_id, id);
    if (err == 0)
        s->open_slot = (int)slot;
    if (err == 0 && s->id == 0) {
        s->id = id;
        m->next_id++;
    }
    return err;
}

/* ---- twins: what an interactive session sends goes over two lanes, so that a lost packet of one costs no
 * round trip ---- */

static void want_twin(struct session *s, unsigned slot, uint64_t offset, uint32_t len)
{
    struct mux *m = s->mux;
    bool interactive = len <= SESSION_TWIN_BYTES && sendable(s) == 0 &&
                       offset + len - s->replay.acked <= 2 * SESSION_TWIN_BYTES &&
                       sent_lately(s, clock_now_us()) < SESSION_BULK_BYTES;
    if (!interactive || tunnel_lanes_up(m->tunnel) < 2)
        return;
    s->twin_from =
        s->is_twin && s->twin_slot == (int)slot && s->twin_from > s->replay.acked ? s->twin_from : offset;
    s->twin_end = offset + len;
    s->twin_slot = (int)slot;
    if (!s->is_twin) {
        s->is_twin = true;
        TAILQ_INSERT_TAIL(&m->twins, s, twins);
    }
    tunnel_kick(m->tunnel);
}

/* Until the peer has confirmed the session, its OPEN goes first on each lane that carries anything of it:
 * lanes overtake each other, and frames of a session that the peer does not know are dropped or answered with
 * a reset. */
static bool needs_open(const struct session *s, unsigned slot)
{
    return s->near && !s->confirmed && s->id != 0 && s->open_slot != (int)slot;
}

/* Bytes at the cursor before the next that the store has. */
static uint64_t plain_bytes(const struct replay *r, const struct replay_cursor *c, uint64_t most)
{
    uint64_t bytes = 0;
    for (uint32_t i = c->slice; bytes < most && i < r->slices.count; i++) {
        const struct slice *one = slices_at(&r->slices, i);
        if (chunk_is_segment(one->chunk))
            break;
        bytes += one->len - (i == c->slice ? c->byte : 0);
    }
    return bytes < most ? bytes : most;
}

/* One DATA of at most FRAME_DATA_MAX bytes; how many of the session's it carries, 0: no room. */
static uint32_t put_plain(struct session *s, struct replay_cursor *c, uint64_t len, struct cursor_out *out)
{
    size_t room = (size_t)(out->end - out->at);
    if (len > room - FRAME_DATA_HEADER_MAX)
        len = room - FRAME_DATA_HEADER_MAX;
    uint8_t *to = frame_put_data(out, s->id, c->offset, (uint32_t)len);
    if (to == NULL)
        return 0;
    replay_copy(&s->replay, c, to, (uint32_t)len);
    return (uint32_t)len;
}

/* One DATA or STORED of the session into out; false when the block has no room for it. */
static bool put_data(struct session *s, unsigned slot, struct cursor_out *out)
{
    if (needs_open(s, slot) && put_open(s, slot, out) < 0)
        return false;
    size_t room = (size_t)(out->end - out->at);
    if (room <= BLOCK_TAIL_BYTES)
        return false;
    bool fresh = replay_again_left(&s->replay) == 0;
    struct replay_cursor *cursor = fresh ? &s->replay.next : &s->replay.again;
    uint64_t available = sendable(s), offset = cursor->offset;
    uint8_t *begin = out->at;
    assert(available > 0);
    uint64_t turn = limits_turn_bytes(s->mux, mux_class_of(s->mux, s->class_index));
    if (available > turn)
        available = turn;
    uint64_t most = available < FRAME_DATA_MAX ? available : FRAME_DATA_MAX;
    uint64_t plain = mux_stores(s->mux) ? plain_bytes(&s->replay, cursor, most) : most;
    uint32_t len =
        plain > 0 ? put_plain(s, cursor, plain, out) : session_put_stored(s, slot, cursor, available, out);
    if (len == 0)
        return false;
    if (fresh)
        want_twin(s, slot, offset, len);
    account(s, slot, offset, len, (uint32_t)(out->at - begin), fresh);
    transmit_schedule(s);
    session_update_allowed(s);
    session_end_if_sent(s);
    return true;
}

static int put_want(struct session *s, unsigned slot, uint32_t want, struct cursor_out *out)
{
    struct frame f = {.session = s->id};
    switch (want) {
    case WANT_OPEN:
        return put_open(s, slot, out);
    case WANT_ACK:
        f.type = FRAME_ACK;
        f.ack.offset = s->consumed + (s->in == HALF_DONE);
        break;
    case WANT_CREDIT:
        f.type = FRAME_CREDIT;
        f.credit.raw_limit = s->consumed + SESSION_RAW_WINDOW;
        f.credit.cost_limit = s->granted;
        break;
    case WANT_FIN:
        f.type = FRAME_FIN;
        s->fin_sent = s->fin_said = true; /* or wanted again, if it does not fit now */
        f.fin.final = s->replay.read;
        break;
    case WANT_MISS:
        f.type = FRAME_MISS;
        f.miss.offset = s->miss_from;
        f.miss.len = s->miss_end - s->miss_from;
        if (s->miss_end <= s->received)
            return 0; /* it came meanwhile */
        if (s->miss_from < s->received) {
            f.miss.offset = s->received;
            f.miss.len = s->miss_end - s->received;
        }
        break;
    default:
        f.type = FRAME_RST;
        f.rst.reason = s->rst_reason;
        f.rst.answer = want == WANT_RST_ANSWER;
        f.rst.final = replay_sent(&s->replay);
        break;
    }
    if (want == WANT_FIN || want == WANT_RST)
        mux_await_answer(s->mux);
    int err = frame_put(out, &f);
    if (err == 0 && want == WANT_ACK)
        s->acked_told = s->consumed;
    return err;
}

/* What is left of a session's twin; false when the block is full before its end. */
static bool put_twin(struct session *s, unsigned slot, struct cursor_out *out)
{
    if (s->twin_from < s->replay.acked)
        s->twin_from = s->replay.acked;
    if (s->twin_end > replay_sent(&s->replay))
        s->twin_end = replay_sent(&s->replay);
    while (s->twin_from < s->twin_end) {
        if (needs_open(s, slot) && put_open(s, slot, out) < 0)
            return false;
        size_t room = (size_t)(out->end - out->at);
        if (room <= BLOCK_TAIL_BYTES)
            return false;
        uint64_t len = s->twin_end - s->twin_from;
        if (len > room - FRAME_DATA_HEADER_MAX)
            len = room - FRAME_DATA_HEADER_MAX;
        const uint8_t *begin = out->at;
        uint8_t *to = frame_put_data(out, s->id, s->twin_from, (uint32_t)len);
        if (to == NULL)
            return false;
        replay_peek(&s->replay, s->twin_from, to, (uint32_t)len);
        s->twin_from += len;
        mux_count_sent(s, (struct mux_traffic){.wire_bytes = (uint64_t)(out->at - begin)});
    }
    return true;
}

/* ---- compressed or not ---- */

enum { LEVEL_OPEN = TUNNEL_LEVEL_AUTO - 1 }; /* of a block that nothing decided yet */

static int level_of(const struct session *s)
{
    if (s->opaque)
        return 0;
    return s->class_index >= 0 ? s->mux->config->classes[s->class_index].compress : TUNNEL_LEVEL_AUTO;
}

/* A block is compressed or it is not, and the first session in it decides: `compress = off` promises that
 * nothing about a session's bytes shows in the length of others', so the two never share a block. */
static bool may_join(int *level, const struct session *s)
{
    int own = level_of(s);
    if (*level == LEVEL_OPEN)
        *level = own;
    return (*level == 0) == (own == 0);
}

static void fill_twins(struct mux *m, unsigned slot, int *level, struct cursor_out *out)
{
    struct session *s = TAILQ_FIRST(&m->twins), *next;
    for (; s != NULL; s = next) {
        next = TAILQ_NEXT(s, twins);
        if (s->twin_slot == (int)slot || !may_join(level, s))
            continue;
        if (!put_twin(s, slot, out))
            return;
        TAILQ_REMOVE(&m->twins, s, twins);
        s->is_twin = false;
    }
}

/* Everything this session owes; false when the block is full. */
static bool put_owed(struct session *s, unsigned slot, struct cursor_out *out)
{
    if (s->wants != 0 && needs_open(s, slot))
        s->wants |= WANT_OPEN;
    while (s->wants != 0) {
        uint32_t want = s->wants & (~s->wants + 1);
        if (want != WANT_OPEN && s->id == 0) {
            s->wants = 0; /* the peer never heard of it */
            break;
        }
        if (put_want(s, slot, want, out) < 0)
            return false;
        s->wants &= ~want;
        if (want == WANT_OPEN)
            transmit_schedule(s);
    }
    return true;
}

static void fill_owed(struct mux *m, unsigned slot, struct cursor_out *out)
{
    struct frame f = {.type = FRAME_RST};
    f.rst.answer = 1;
    size_t taken = 0; /* in order: of two answers for one session the first tells the true reason */
    for (; taken < m->answer_count; taken++) {
        f.session = m->answers[taken].id;
        f.rst.reason = m->answers[taken].reason;
        if (frame_put(out, &f) < 0)
            break;
    }
    m->answer_count -= taken;
    if (taken > 0)
        memmove(m->answers, m->answers + taken, m->answer_count * sizeof(m->answers[0]));
    if (m->answer_count > 0)
        return;
    struct session *s;
    while ((s = TAILQ_FIRST(&m->owing)) != NULL) {
        if (!put_owed(s, slot, out))
            return;
        TAILQ_REMOVE(&m->owing, s, owing);
        s->is_owing = false;
        session_check_over(s);
    }
}

int transmit_fill(void *owner, unsigned slot, enum tunnel_role role, struct cursor_out *out)
{
    struct mux *m = owner;
    int level = LEVEL_OPEN;
    if (role != TUNNEL_ROLE_BULK) {
        fill_owed(m, slot, out);
        out->err = 0;
        mux_announce(m);
        mux_put_notes(m, slot, out);
    }
    out->err = 0;
    if (role != TUNNEL_ROLE_ANY)
        fill_twins(m, slot, &level, out);
    out->err = 0;
    struct session *s;
    while ((s = next_session(m, role)) != NULL && may_join(&level, s)) {
        if (sendable(s) == 0) { /* others of the tunnel have used the opening credit meanwhile */
            transmit_schedule(s);
            continue;
        }
        if (!put_data(s, slot, out))
            break;
        if (role != TUNNEL_ROLE_BULK && (s->wants & (WANT_FIN | WANT_RST)) != 0)
            fill_owed(m, slot, out); /* a short answer and its end leave together */
        if (out->err != 0)
            break;
    }
    out->err = 0;
    return level == LEVEL_OPEN ? TUNNEL_LEVEL_AUTO : level;
}
