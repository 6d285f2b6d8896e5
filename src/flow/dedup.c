#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/remember.h"
#include "hawser/session.h"

/* How sessions use the store.
 *
 * Out: what a host sends goes through the store as it is read. It comes back as slices into segments, and
 * those are what the replay keeps: bytes and address at once, paid for by the store. Which of them cross as
 * references is decided when a block is filled, by what the peer holds then; so what is sent again after a
 * lost lane or an outage is simply encoded anew, by the same lines. What a MISS asked for goes again once,
 * and without references from then on: a peer that asks twice gets nothing for it, and one frame that fails
 * cannot take with it what is on its way as literals.
 *
 * In: literals are put at the address that the peer names, references are looked up; either way the host gets
 * slices into segments. A reference counts only if the peer may make it (holdings.h), and a frame only if its
 * checksum is that of the bytes found. Anything else is a MISS: the peer is asked for the span, which it then
 * sends as literals; meanwhile later bytes of the session wait as they do behind any gap.
 *
 * An ACK says that the peer has passed the bytes on to its host, so it stored what was to be stored: no other
 * confirmation is needed. But if it could not, it has delivered them all the same, and misses them when they
 * are referred to: after that only a HOLD counts. */

enum {
    REFERENCE_MIN_BYTES = 16,
    NOTE_MIN_BYTES = 256, /* smaller pieces of a segment are not worth announcing */
    RECALLED_MAX = 256,   /* parts that one HOLD recalls: it must not cost much more than it is long */
};

bool mux_stores(const struct mux *m)
{
    return m->home->store != NULL && (tunnel_features(m->tunnel) & GREETING_FEATURE_REFERENCES) != 0;
}

/* ---- out ---- */

static unsigned last_slot(const struct session *s)
{
    return s->last_slot > 0 ? (unsigned)s->last_slot : 0;
}

static int keep_piece(void *arg, struct slice piece)
{
    struct session *s = arg;
    bool held;
    uint32_t alike =
        holdings_span(&s->mux->holdings, &piece.chunk->segment, last_slot(s), piece.off, piece.len, &held);
    if (!held || alike < piece.len)
        s->urgent = true;
    return replay_append(&s->replay, piece);
}

/* Whether bytes of our host go through the store. What is encrypted never comes again. */
static bool is_for_store(const struct session *s, uint32_t len)
{
    const struct mux *m = s->mux;
    return len >= SESSION_STORE_MIN_BYTES && !s->opaque && mux_stores(m) &&
           (s->class_index < 0 || m->config->classes[s->class_index].dedup);
}

/* Bytes that the peer does not hold cross with their address, and it stores them there: but not in its own
 * segments, where it forgot that we know them, and not where it has missed them in spite of that. */
static uint32_t takes_piece(void *arg, const struct segment_id *id, uint32_t source, uint32_t off,
                            uint32_t len, bool *takes)
{
    const struct session *s = arg;
    const struct holdings *h = &s->mux->holdings;
    uint32_t alike = holdings_span(h, id, last_slot(s), off, len, takes);
    const struct intervals *missed = holdings_kind(h, id, HOLDINGS_MISSED);
    if (*takes || source == tunnel_peer_source(s->mux->tunnel))
        return alike;
    uint32_t end = missed != NULL ? intervals_end_of(missed, off) : off;
    *takes = end == off;
    if (*takes)
        end = missed != NULL ? intervals_next_from(missed, off) : off + alike;
    return end - off < alike ? end - off : alike;
}

int session_absorb(struct session *s, struct slice slice)
{
    struct mux *m = s->mux;
    if (is_for_store(s, slice.len)) {
        s->stream.peer = tunnel_peer_source(m->tunnel);
        s->stream.takes = takes_piece;
        int err = store_take(m->home->store, &s->stream, slice_bytes(&slice), slice.len, keep_piece, s);
        if (err == 0) {
            chunk_unref(slice.chunk);
            return 0;
        }
        if (err == -ENOMEM)
            return err; /* some of it is in the replay already */
    }
    s->urgent = true;
    return replay_append(&s->replay, slice);
}

/* A reference takes credit for what it costs the receiver: its place in a queue, or, if it is short, its
 * bytes. */
static uint32_t unpaid(uint32_t len)
{
    return len > SLICE_SMALL_BYTES ? len - STORED_REFERENCE_COST : 0;
}

/* What the references of a frame come to. */
struct referred {
    uint64_t checksum;
    uint64_t bytes;
    uint64_t run_from, run_end, run_unpaid; /* the last of them, without a gap; unpaid: takes no credit */
};

static void end_run(struct session *s, struct referred *r)
{
    if (r->run_from < r->run_end)
        savings_add(&s->saved_out, r->run_from, r->run_end, r->run_unpaid);
    r->run_from = r->run_end = r->run_unpaid = 0;
}

static void add_reference(struct session *s, struct referred *r, uint64_t offset, const uint8_t *bytes,
                          uint32_t len)
{
    r->checksum = stored_checksum(r->checksum, bytes, len);
    r->bytes += len;
    if (offset != r->run_end || r->run_from == r->run_end) {
        end_run(s, r);
        r->run_from = offset;
    }
    r->run_end = offset + len;
    r->run_unpaid += unpaid(len);
}

/* One operation for a piece of the replay, which is at that offset; the bytes that it covers, 0: no room.
 * plain: not a reference. */
static uint32_t put_piece(struct session *s, unsigned slot, struct stored_writer *w, const struct slice *part,
                          uint64_t offset, bool plain, struct referred *referred)
{
    struct mux *m = s->mux;
    const struct segment_id *id = &part->chunk->segment;
    bool known = chunk_is_segment(part->chunk) && store_source(m->home->store, id) >= 0, held = false;
    uint32_t len = known ? holdings_span(&m->holdings, id, slot, part->off, part->len, &held) : part->len;
    if (held && !plain && len >= REFERENCE_MIN_BYTES) {
        if (!stored_put_reference(w, id, part->off, len))
            return 0;
        add_reference(s, referred, offset, slice_bytes(part), len);
        return len;
    }
    uint32_t room = stored_room(w, known ? id : NULL);
    if (len > room)
        len = room;
    if (len == 0)
        return 0;
    memcpy(stored_put_literal(w, known ? id : NULL, part->off, len), slice_bytes(part), len);
    if (known)
        holdings_add(&m->holdings, id, HOLDINGS_SENT + slot, part->off, len);
    return len;
}

uint32_t session_put_stored(struct session *s, unsigned slot, struct replay_cursor *c, uint64_t available,
                            struct cursor_out *out)
{
    struct stored_writer w;
    bool fresh = c == &s->replay.next;
    uint64_t begin = c->offset, plain_end = spans_end_of(&s->answered, begin);
    bool plain = plain_end > begin;
    uint64_t edge = plain ? plain_end : spans_next_from(&s->answered, begin);
    struct referred referred = {0};
    if (!stored_begin(&w, out, s->id, begin))
        return 0;
    if (available > STORED_RAW_MAX)
        available = STORED_RAW_MAX;
    if (available > edge - begin)
        available = edge - begin; /* with a reference that fails, what was asked for would be lost again */
    while (w.raw_bytes < available) {
        struct slice part = *replay_at(&s->replay, c);
        part.off += c->byte;
        part.len -= c->byte;
        if (part.len > available - w.raw_bytes)
            part.len = (uint32_t)(available - w.raw_bytes);
        uint32_t len = put_piece(s, slot, &w, &part, c->offset, plain, &referred);
        if (len == 0)
            break;
        if (!fresh) /* of these bytes alone: the rest crossed as it did and is not sent again yet */
            savings_spend(&s->saved_out, c->offset, c->offset + len);
        replay_skip(&s->replay, c, len);
    }
    end_run(s, &referred);
    stored_end(&w, (uint32_t)referred.checksum);
    if (w.raw_bytes == 0)
        return 0;
    if (2 * referred.bytes > w.raw_bytes)
        s->put_us = clock_now_us();
    if (fresh && c->offset == s->replay.read)
        s->urgent = false;
    return w.raw_bytes;
}

static void confirm_part(void *arg, const struct slice *part)
{
    struct mux *m = arg;
    const struct segment_id *id = &part->chunk->segment;
    if (chunk_is_segment(part->chunk) && store_source(m->home->store, id) >= 0)
        holdings_add(&m->holdings, id, HOLDINGS_THEIRS, part->off, part->len);
}

void session_confirm_held(struct session *s, uint64_t upto)
{
    if (s->replay.stored > 0 && mux_stores(s->mux))
        replay_each(&s->replay, s->replay.acked, upto, confirm_part, s->mux);
    mux_count_sent(s, (struct mux_traffic){.saved_bytes = savings_settle_part(&s->saved_out, upto)});
}

static void take_back_part(void *arg, const struct slice *part)
{
    struct mux *m = arg;
    if (chunk_is_segment(part->chunk))
        holdings_take_back(&m->holdings, &part->chunk->segment, part->off, part->len);
}

/* [from, to) goes again, for the last time but for lost lanes. False: the session is reset. */
static bool answer_miss(struct session *s, uint64_t from, uint64_t to)
{
    int err = spans_add(&s->answered, from, to);
    if (err < 0 || s->answered.set.count > SESSION_ANSWERED_MAX) {
        session_reset(s, err < 0 ? FRAME_RST_OVERLOAD : FRAME_RST_PROTOCOL);
        return false;
    }
    replay_each(&s->replay, from, to, take_back_part, s->mux);
    savings_spend(&s->saved_out, from, to);
    replay_send_again(&s->replay, from, to);
    s->mux->totals.missed_bytes += to - from;
    return true;
}

/* What was asked for before is on its way without references, and goes again by itself where a lane is lost:
 * to be asked for it once more says nothing, and must cost nothing. */
void session_take_miss(struct session *s, uint64_t offset, uint64_t len)
{
    struct replay *r = &s->replay;
    if (s->out == HALF_RESET && s->rst_reason == FRAME_RST_BY_HOST && !s->rst_heard) {
        s->rst_reason =
            FRAME_RST_OTHER; /* the bytes are gone with the host: the peer must not wait for them */
        session_want(s, WANT_RST);
        return;
    }
    uint64_t from = offset > r->acked ? offset : r->acked;
    uint64_t to = offset + len < replay_sent(r) ? offset + len : replay_sent(r);
    if (s->out > HALF_ENDING || from >= to)
        return;
    spans_pass(&s->answered, r->acked);
    from = spans_end_of(&s->answered, from);
    if (from >= to)
        s->mux->totals.repeated_misses++;
    for (; from < to; from = spans_end_of(&s->answered, from)) {
        uint64_t next = spans_next_from(&s->answered, from);
        if (!answer_miss(s, from, next < to ? next : to))
            return;
    }
    s->urgent = true;
    transmit_schedule(s);
    tunnel_kick(s->mux->tunnel);
}

/* ---- in ---- */

static void add_note(struct mux *m, const struct segment_id *id, uint32_t from, uint32_t to);

/* What the peer may refer to it may send as well, into segments that are not its own. */
static bool has_the_same(struct mux *m, const struct stored_op *op, struct slice *slice)
{
    if (!holdings_peer_may(&m->holdings, &op->segment, op->off, op->len) ||
        !store_resolve(m->home->store, &op->segment, op->off, op->len, slice))
        return false;
    if (memcmp(slice_bytes(slice), op->bytes, op->len) == 0)
        return true;
    chunk_unref(slice->chunk);
    slice->chunk = NULL;
    return false;
}

/* What the peer takes for missing here it is told of: what we asked for, and what it sends though it is here
 * (not for less than a note costs). */
static bool fill(struct mux *m, const struct stored_op *op, struct slice *slice)
{
    struct store *store = m->home->store;
    uint32_t end = op->off + op->len;
    const struct intervals *filled = store_filled(store, &op->segment);
    bool was_here = op->len >= NOTE_MIN_BYTES && filled != NULL && intervals_cover(filled, op->off, end);
    int err =
        store_fill(store, tunnel_peer_source(m->tunnel), &op->segment, op->off, op->bytes, op->len, slice);
    bool was_asked = holdings_take_asked(&m->holdings, &op->segment, op->off, op->len);
    if (err < 0 && !has_the_same(m, op, slice))
        return false; /* the answer all the same */
    holdings_add_shown(&m->holdings, &op->segment, HOLDINGS_THEIRS, op->off, op->len);
    if (was_asked || was_here)
        add_note(m, &op->segment, op->off, end);
    return true;
}

/* The bytes of an operation; false: the reference does not resolve. slice.chunk NULL: no memory. */
static bool decode_op(struct mux *m, const struct stored_op *op, struct chunk *chunk, struct slice *slice)
{
    struct store *store = m->home->store;
    if (op->kind == STORED_REFERENCE && holdings_peer_may(&m->holdings, &op->segment, op->off, op->len) &&
        store_resolve(store, &op->segment, op->off, op->len, slice))
        return true;
    if (op->kind == STORED_REFERENCE) {
        store_want(store, tunnel_peer_source(m->tunnel), &op->segment, op->len); /* for the next time */
        return false;
    }
    if (op->kind == STORED_LITERAL && fill(m, op, slice))
        return true;
    *slice = receive_slice(op->bytes, op->len, chunk);
    return true;
}

/* Short pieces are copied: they are joined in queues, and pin no segment. */
static bool own_small(struct slice *slice)
{
    struct slice copy = slice_copy(slice_bytes(slice), slice->len);
    if (copy.chunk == NULL)
        return false;
    chunk_unref(slice->chunk);
    *slice = copy;
    return true;
}

/* All operations of a frame into pieces; how many, or -ENOENT: something did not resolve; -ERR_CHECKSUM: to
 * other bytes than it was; -ENOMEM. */
static int decode(struct mux *m, const struct frame *f, struct chunk *chunk, struct early_piece *pieces)
{
    struct stored_reader r;
    struct stored_op op;
    uint64_t checksum = 0;
    bool resolved = true, memory = true;
    int count = 0;
    stored_read(&r, f->stored.ops, f->stored.ops_bytes);
    while (stored_next(&r, &op) > 0) {
        struct slice slice = {0};
        if (!decode_op(m, &op, chunk, &slice)) {
            resolved = false; /* go on: what comes as literals is kept for the next time */
            continue;
        }
        if (slice.chunk == NULL) {
            memory = false;
            continue;
        }
        if (resolved && op.kind == STORED_REFERENCE)
            checksum = stored_checksum(checksum, slice_bytes(&slice), slice.len);
        pieces[count++] =
            (struct early_piece){.slice = slice, .saves = op.kind == STORED_REFERENCE ? unpaid(op.len) : 0};
        if (op.len <= SLICE_SMALL_BYTES && !own_small(&pieces[count - 1].slice))
            memory = false;
    }
    if (resolved && memory && (uint32_t)checksum == f->stored.checksum)
        return count;
    bool mismatches = resolved && memory, may_log = mismatches && session_may_log(m);
    if (mismatches)
        m->mismatched_bytes += f->stored.raw_bytes;
    if (may_log)
        log_warn("peer %s: bytes that it referred to are not what they were; asked for again", m->peer->name);
    while (count > 0)
        chunk_unref(pieces[--count].slice.chunk);
    return mismatches ? -ERR_CHECKSUM : memory ? -ENOENT : -ENOMEM;
}

/* All that the frame puts at addresses: the peer takes none of it for held before it hears of it. */
static void ask_for(struct session *s, const struct frame *f)
{
    struct stored_reader r;
    struct stored_op op;
    if (s->in > HALF_ENDING)
        return; /* the session has ended with that: nothing more comes */
    stored_read(&r, f->stored.ops, f->stored.ops_bytes);
    while (stored_next(&r, &op) > 0) {
        if (op.kind != STORED_PLAIN)
            holdings_add(&s->mux->holdings, &op.segment, HOLDINGS_ASKED, op.off, op.len);
    }
}

void session_note_missing(struct session *s, uint64_t from, uint64_t end)
{
    if (s->miss_known <= s->received || from < s->miss_low)
        s->miss_low = from;
    if (end > s->miss_known)
        s->miss_known = end;
    if (from < s->miss_end)
        s->miss_end =
            s->miss_from; /* the answer does not do either, or this is in front of what was asked for */
    s->mux->totals.misses++;
    if (s->reset_after_final)
        session_finish_reset(s); /* the peer's host is gone, and what it said with it */
    else
        session_pull_missing(s);
}

/* The first of it that is not here, and no more than was granted: what is asked for comes as literals. */
void session_pull_missing(struct session *s)
{
    bool asked = s->miss_end > s->received && s->miss_end > s->miss_from;
    if (s->miss_known <= s->received || asked)
        return;
    uint64_t from = s->received > s->miss_low ? s->received : s->miss_low;
    uint64_t to = s->miss_known < s->granted ? s->miss_known : s->granted;
    if (!early_lacks(&s->early, &from, &to))
        return; /* once more is granted */
    s->miss_from = from;
    s->miss_end = to;
    session_want(s, WANT_MISS);
}

/* Bytes that the session has already, by a copy that had no addresses perhaps: the peer will take them for
 * held. */
void mux_only_fill(struct mux *m, const struct frame *f)
{
    struct stored_reader r;
    struct stored_op op;
    stored_read(&r, f->stored.ops, f->stored.ops_bytes);
    while (stored_next(&r, &op) > 0) {
        struct slice slice = {0};
        if (op.kind == STORED_LITERAL && fill(m, &op, &slice))
            chunk_unref(slice.chunk);
    }
}

/* What is sent back comes in the same order. */
static void follow(struct session *s, const struct frame *f)
{
    struct stored_reader r;
    struct stored_op op;
    uint64_t at = f->stored.offset;
    stored_read(&r, f->stored.ops, f->stored.ops_bytes);
    for (; stored_next(&r, &op) > 0; at += op.len) {
        if (op.kind == STORED_PLAIN)
            continue;
        uint64_t after = s->followed.offset == at ? s->followed.position : 0;
        s->followed.position = store_follow(s->mux->home->store, after, &op.segment, op.off, op.len);
        s->followed.offset = at + op.len;
    }
}

static bool refers(const struct frame *f)
{
    struct stored_reader r;
    struct stored_op op;
    bool found = false;
    stored_read(&r, f->stored.ops, f->stored.ops_bytes);
    while (!found && stored_next(&r, &op) > 0)
        found = op.kind == STORED_REFERENCE;
    return found;
}

int session_take_stored(struct session *s, const struct frame *f, struct chunk *chunk)
{
    static _Thread_local struct early_piece pieces[STORED_OPS_MAX];
    struct mux *m = s->mux;
    uint64_t offset = f->stored.offset, end = offset + f->stored.raw_bytes;
    if (s->in > HALF_ENDING || end <= s->received) {
        mux_only_fill(m, f);
        return 0;
    }
    if (receive_is_breach(s, end)) {
        receive_refuse(s, offset, end);
        return 0;
    }
    int count = decode(m, f, chunk, pieces);
    if (count == -ERR_CHECKSUM && m->mismatched_bytes > MUX_MISMATCHED_MAX_BYTES)
        return -ERR_WIRE_VALUE;
    if (count == -ENOENT || count == -ERR_CHECKSUM) {
        session_note_missing(s, offset, end);
        ask_for(s, f);
        return 0;
    }
    if (count > 0)
        follow(s, f);
    int err = count < 0 ? count : receive_pieces(s, offset, pieces, (uint32_t)count);
    if (err == -ENOMEM && !refers(f)) { /* asked for, perhaps: then it does not come a second time */
        session_reset(s, FRAME_RST_OVERLOAD);
    } else if (err < 0) {
        receive_refuse(s, offset, end);
        ask_for(s, f);
    }
    return 0;
}

/* ---- what the two ends tell each other of their stores ---- */

/* Equal: a DROP, else a HOLD, which goes on where the last one ended if it can. */
static void add_note(struct mux *m, const struct segment_id *id, uint32_t from, uint32_t to)
{
    struct mux_note *last = m->note_count > 0 ? &m->notes[m->note_count - 1] : NULL;
    if (last != NULL && from < to && last->from < last->to && last->to == from &&
        segment_id_equal(&last->segment, id)) {
        last->to = to;
        return;
    }
    if (m->note_count == m->note_cap) {
        size_t cap = m->note_cap == 0 ? 64 : 2 * m->note_cap;
        struct mux_note *bigger = cap <= MUX_NOTES_MAX ? realloc(m->notes, cap * sizeof(*bigger)) : NULL;
        if (bigger == NULL)
            return; /* a HOLD less: more literals; a DROP less: a MISS more */
        m->notes = bigger;
        m->note_cap = cap;
    }
    m->notes[m->note_count++] = (struct mux_note){.segment = *id, .from = from, .to = to};
    tunnel_kick(m->tunnel);
}

static void announce(struct mux *m, const struct segment_id *id, struct interval part)
{
    if (part.to - part.from < NOTE_MIN_BYTES)
        return;
    if (holdings_add(&m->holdings, id, HOLDINGS_ANNOUNCED, part.from, part.to - part.from))
        add_note(m, id, part.from, part.to);
}

/* What the peer filled is announced. Of the rest only what it was told before, when it had proved that it
 * knows it: others' bytes are not this peer's to refer to. */
static void announce_segment(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                             const struct intervals *filled)
{
    struct mux *m = arg;
    (void)chunk;
    if (source != tunnel_peer_source(m->tunnel))
        filled = holdings_kind(&m->holdings, id, HOLDINGS_ANNOUNCED);
    for (uint32_t i = 0; filled != NULL && i < filled->count; i++)
        announce(m, id, filled->list[i]); /* what is announced already does not change the list */
}

void mux_announce(struct mux *m)
{
    if (m->announced || !mux_stores(m))
        return;
    m->announced = true;
    store_each(m->home->store, announce_segment, m);
}

/* What the peer claims and has proved it may refer to again, so it is told that we hold it: all that is
 * proved is in our store. Each part is recalled once, so two ends do not answer each other for ever. A peer
 * may drop and claim the same again and again: past a number of parts a second a claim is only that. */
static void recall(struct mux *m, const struct segment_id *id, struct interval claim)
{
    struct interval part = {.from = claim.from, .to = claim.from};
    session_renew_second(m);
    for (unsigned i = 0; i < RECALLED_MAX && m->recalled_parts < MUX_RECALLED_MAX; i++, m->recalled_parts++) {
        if (!holdings_recall(&m->holdings, id, part.to, claim.to, &part))
            return;
        const struct intervals *told = holdings_kind(&m->holdings, id, HOLDINGS_ANNOUNCED);
        if (told == NULL || !intervals_cover(told, part.from, part.to))
            announce(m, id, part);
    }
}

static void take_claim(struct mux *m, const struct segment_id *id, struct interval claim)
{
    holdings_add_shown(&m->holdings, id, HOLDINGS_CLAIMED, claim.from, claim.to - claim.from);
    recall(m, id, claim);
}

/* The segment has come back, after the peer's claim perhaps. */
static void recall_claimed(struct mux *m, const struct segment_id *id)
{
    remember_segment(m, id);
    const struct intervals *claimed = holdings_kind(&m->holdings, id, HOLDINGS_CLAIMED);
    for (uint32_t i = 0; claimed != NULL && i < claimed->count; i++)
        recall(m, id, claimed->list[i]);
}

/* What was theirs moves back part by part, at the same cost. */
static void drop(struct mux *m, const struct segment_id *id)
{
    const struct intervals *theirs = holdings_kind(&m->holdings, id, HOLDINGS_THEIRS);
    session_renew_second(m);
    m->recalled_parts += theirs != NULL ? theirs->count : 0;
    holdings_dropped(&m->holdings, id);
}

int mux_take_note(struct mux *m, const struct frame *f)
{
    if (!mux_stores(m))
        return -ERR_WIRE_UNKNOWN;
    remember_meet(m);
    if (f->type == FRAME_DROP)
        drop(m, &f->segment.segment);
    else
        take_claim(m, &f->segment.segment, (struct interval){f->segment.from, f->segment.to});
    return 0;
}

void mux_put_notes(struct mux *m, unsigned slot, struct cursor_out *block)
{
    size_t taken = 0;
    bool told = false;
    struct cursor_out part = cursor_out_over(block->at, cursor_out_left(block) / 4), *out = &part;
    for (; taken < m->note_count; taken++) {
        const struct mux_note *note = &m->notes[taken];
        struct frame f = {.type = note->from < note->to ? FRAME_HOLD : FRAME_DROP};
        f.segment.segment = note->segment;
        f.segment.from = note->from;
        f.segment.to = note->to;
        if (frame_put(out, &f) < 0)
            break;
        told = told || f.type == FRAME_HOLD;
    }
    block->at = part.at;
    if (taken == 0)
        return;
    m->note_count -= taken;
    memmove(m->notes, m->notes + taken, m->note_count * sizeof(m->notes[0]));
    if (told)
        m->noted_us[slot] = clock_now_us();
}

/* Nobody confirms notes. A lane is often renewed soon after a start, which is when most of them are written:
 * then everything is told once more. */
void mux_doubt_notes(struct mux *m, unsigned slot)
{
    if (m->noted_us[slot] != 0 && clock_now_us() - m->noted_us[slot] < MUX_NOTES_DOUBT_US)
        m->announced = false;
    if (!m->announced)
        m->note_count = 0;
    m->noted_us[slot] = 0;
}

void mux_forget_holdings(struct mux *m)
{
    remember_meet(m);
    holdings_peer_restarted(&m->holdings);
    m->note_count = 0;
    m->announced = false;
}

void mux_segment_adopted(struct leg_host *home, const struct segment_id *id)
{
    const struct intervals *filled = store_filled(home->store, id);
    int64_t source = store_source(home->store, id);
    struct mux *m;
    TAILQ_FOREACH (m, &home->muxes, same_home) {
        if (m->announced && filled != NULL)
            announce_segment(m, id, (uint32_t)source, NULL, filled);
        recall_claimed(m, id);
    }
}

void mux_segment_evicted(void *owner, const struct segment_id *id)
{
    struct leg_host *home = owner;
    struct mux *m;
    TAILQ_FOREACH (m, &home->muxes, same_home) {
        if (holdings_forget(&m->holdings, id))
            add_note(m, id, 0, 0);
    }
}
