/* test_dedup_hostile.c - references, notes and requests that a peer may not make or that are false: no host
 * gets a wrong byte of it, no memory is taken past the credit, and the session goes on unless the protocol
 * was broken. */
#include "flow/forged.h"
#include "hawser/proved.h"

enum { LEN = 4 * BED_MB, SPAN = 5000, STRANGER = 99 };

static const struct segment_id strange = {0x5354, 1};
static uint8_t *known;

static void set_up(void)
{
    bed_start((struct rig_options){.loops = 2});
    known = bed_noise(1, LEN);
}

static void tear_down(void)
{
    bed_end();
    free(known);
}

static struct frame note_of(enum frame_type type, uint64_t epoch, uint32_t number)
{
    struct frame f = {.type = type};
    f.segment.segment = (struct segment_id){.epoch = epoch, .number = number};
    f.segment.to = STORED_SEGMENT_SPAN;
    return f;
}

/* Node 0 claims to hold the segment; how many HOLD that makes node 1 write. */
static int claim(struct segment_id id)
{
    struct forged g = {.frame = note_of(FRAME_HOLD, id.epoch, id.number)};
    rig_on(rig.nodes[1].home.loop, give, &g);
    ck_assert_int_eq(g.result, 0);
    return (int)g.notes;
}

/* ---- references ---- */

static void keep_strange(void *arg)
{
    struct rig_node *n = arg;
    struct slice slice;
    ck_assert_int_eq(store_fill(n->home.store, STRANGER, &strange, 0, known, SPAN, &slice), 0);
    chunk_unref(slice.chunk);
}

/* The first of the bytes that node 0 sent, as both stores have them. */
static const struct segment_id sent_first = {1, 1};

static void has_sent_first(void *arg)
{
    struct rig_node *n = arg;
    struct slice slice;
    ck_assert(store_resolve(n->home.store, &sent_first, 0, SPAN, &slice));
    ck_assert_int_eq(memcmp(slice_bytes(&slice), known, SPAN), 0);
    chunk_unref(slice.chunk);
}

static const struct {
    const char *what;
    struct segment_id id;
    uint32_t off, spoil;
} unresolved[] = {
    {"bytes of another peer", {0x5354, 1}, 0, 0},
    {"a segment that is not here", {0x5354, 2}, 0, 0},
    {"an own segment that is not here", {2, 500}, 0, 0},
    {"bytes behind what is filled", {1, 1}, STORE_SEGMENT_BYTES - SPAN, 0},
    {"bytes half of which are filled", {1, 1}, LEN - SPAN / 2, 0},
    {"a wrong checksum", {1, 1}, 0, 1},
};

/* A session stands open; the forged reference is not delivered, though node 0 claims to hold the segment, and
 * what its host sends then is. */
START_TEST(what_does_not_resolve_is_not_delivered)
{
    struct bed_end ends[2];
    bed_carry(true, known, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, has_sent_first, &rig.nodes[1]);
    rig_on(rig.nodes[1].home.loop, keep_strange, &rig.nodes[1]);
    bed_open(ends, 0, known, LEN, known, 0);
    ck_assert_int_eq(claim(unresolved[_i].id), 0);
    int err = forge((struct forged){.id = unresolved[_i].id,
                                    .off = unresolved[_i].off,
                                    .len = SPAN,
                                    .spoil = unresolved[_i].spoil,
                                    .bytes = known});
    ck_assert_msg(err == 0 && bed_cost(1).totals.misses == 1, "%s: %d", unresolved[_i].what, err);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
}
END_TEST

/* The same, right in everything: the test above refuses for the reason it gives. */
START_TEST(what_resolves_is_delivered)
{
    struct bed_end ends[2];
    bed_carry(true, known, LEN, NULL);
    bed_open(ends, 0, known, LEN, known, 0);
    ck_assert_int_eq(forge((struct forged){.id = sent_first, .len = SPAN, .bytes = known}), 0);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 0);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
}
END_TEST

static void forget(void *arg)
{
    struct rig_node *n = arg;
    mux_forget_holdings(n->mux);
}

/* As if node 0 had begun anew: what it was sent before resolves when it claims to hold it, which is answered
 * once and not each time. What it drops it may claim again. */
START_TEST(what_was_proved_resolves_once_it_is_claimed)
{
    static const struct segment_id was_sent = {2, 1};
    struct bed_end ends[2];
    struct forged reference = {.id = was_sent, .off = LEN / 2, .len = SPAN, .bytes = known + LEN / 2};
    reference.skip = LEN / 2; /* behind a gap: nothing is acknowledged that was not sent */
    bed_carry(false, known, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, keep_strange, &rig.nodes[1]);
    rig_on(rig.nodes[1].home.loop, forget, &rig.nodes[1]);
    bed_open(ends, 0, known, LEN, known, 0);
    ck_assert_int_eq(forge(reference), 0);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 1);
    ck_assert_int_eq(claim(strange), 0);
    ck_assert_int_eq(claim(was_sent), 1);
    ck_assert_int_eq(claim(was_sent), 0);
    ck_assert_int_eq(forge(reference), 0);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 1);
    ck_assert_int_eq(forge((struct forged){.frame = note_of(FRAME_DROP, was_sent.epoch, 1)}), 0);
    ck_assert_int_eq(forge(reference), 0);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 2);
    ck_assert_int_eq(claim(was_sent), 1);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 2);
}
END_TEST

enum { PARTS = 4000, PART = 256, PAIRS = 64 };

/* Node 0 has proved a segment in many pieces. */
static void prove_pieces(void *arg)
{
    struct rig_node *n = arg;
    for (uint32_t i = 0; i < PARTS; i++)
        ck_assert(holdings_add(&n->mux->holdings, &strange, HOLDINGS_PROVED, 2 * PART * i, PART));
}

static size_t drop_and_claim(struct rig_node *n)
{
    struct frame drop = note_of(FRAME_DROP, strange.epoch, strange.number);
    struct frame hold = note_of(FRAME_HOLD, strange.epoch, strange.number);
    size_t before = n->mux->note_count;
    ck_assert_int_eq(receive_frame(n->mux, 0, &drop, NULL), 0);
    ck_assert_int_eq(receive_frame(n->mux, 0, &hold, NULL), 0);
    return n->mux->note_count - before;
}

struct recalls {
    size_t parts;
    uint64_t took_us;
};

static void drop_and_claim_often(void *arg)
{
    struct recalls *r = arg;
    uint64_t from = clock_now_us();
    for (unsigned i = 0; i < PAIRS; i++)
        r->parts += drop_and_claim(&rig.nodes[1]);
    r->took_us = clock_now_us() - from;
}

/* Each part that comes and goes costs as much as there are others: so many a second, whatever the peer says.
 */
START_TEST(dropped_and_claimed_again_and_again)
{
    struct recalls r = {0};
    bed_carry(false, known, SPAN, NULL);
    rig_on(rig.nodes[1].home.loop, prove_pieces, &rig.nodes[1]);
    rig_on(rig.nodes[1].home.loop, drop_and_claim_often, &r);
    ck_assert_uint_gt(r.parts, 0);
    ck_assert_uint_le(r.parts, MUX_RECALLED_MAX * (2 + r.took_us / 1000000));
}
END_TEST

/* With no room for what it may refer to the peer is told nothing. */
static void claim_without_room(void *arg)
{
    struct rig_node *n = arg;
    for (uint32_t i = 0; i < HOLDINGS_INTERVALS_MAX; i++)
        ck_assert(holdings_add(&n->mux->holdings, &strange, HOLDINGS_THEIRS, 2 * PART * i + PART, 1));
    struct frame hold = note_of(FRAME_HOLD, strange.epoch, strange.number);
    size_t before = n->mux->note_count;
    ck_assert_int_eq(receive_frame(n->mux, 0, &hold, NULL), 0);
    ck_assert_uint_eq(n->mux->note_count, before);
}

START_TEST(what_cannot_be_noted_is_not_answered)
{
    bed_carry(false, known, SPAN, NULL);
    rig_on(rig.nodes[1].home.loop, prove_pieces, &rig.nodes[1]);
    rig_on(rig.nodes[1].home.loop, claim_without_room, &rig.nodes[1]);
}
END_TEST

enum { OUR_OWN, OF_PEER, OF_STRANGER };

/* What is remembered of node 0, though it may not be so any more, and whether it counts. */
static const struct {
    struct segment_id id;
    int source;
    uint32_t from, to;
    int answers;
} remembered[] = {
    {{2, 1}, OUR_OWN, 0, LEN, 1},
    {{2, 1}, OUR_OWN, LEN - SPAN, STORE_SEGMENT_BYTES, 1}, /* as far as it is here */
    {{2, 1}, OUR_OWN, LEN + SPAN, STORE_SEGMENT_BYTES, 0},
    {{2, 1}, OF_PEER, 0, LEN, 0}, /* it was of another source then */
    {{2, 2}, OUR_OWN, 0, LEN, 0}, /* not here */
    {{0x5354, 1}, OUR_OWN, 0, SPAN, 0},
    {{0x5354, 1}, OF_PEER, 0, SPAN, 0},
    {{0x5354, 1}, OF_STRANGER, 0, SPAN, 0}, /* as it is, but the stranger's to change */
};

static uint32_t source_of(const struct rig_node *n, int who)
{
    return who == OUR_OWN ? 0 : who == OF_PEER ? tunnel_peer_source(mux_tunnel(n->mux)) : STRANGER;
}

struct remembering {
    struct rig_node *node;
    int which;
};

/* As after a restart: nothing is known but that. */
static void begin_with(void *arg)
{
    const struct remembering *r = arg;
    struct rig_node *n = r->node;
    uint8_t bytes[64];
    struct cursor_out out = cursor_out_over(bytes, sizeof(bytes));
    struct intervals parts = {0};
    ck_assert_int_eq(intervals_add(&parts, remembered[r->which].from, remembered[r->which].to), 0);
    proved_put(&out, &remembered[r->which].id, source_of(n, remembered[r->which].source), &parts);
    intervals_clear(&parts);
    holdings_clear(&n->mux->holdings);
    n->mux->holdings.peer = 0;
    ck_assert_int_eq(remember_restore(&n->home, source_of(n, OF_PEER), bytes, (size_t)(out.at - bytes)), 0);
}

START_TEST(what_is_remembered_counts_for_the_same_bytes_only)
{
    bed_carry(false, known, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, keep_strange, &rig.nodes[1]);
    rig_on(rig.nodes[1].home.loop, begin_with, &(struct remembering){&rig.nodes[1], _i});
    ck_assert_int_eq(claim(remembered[_i].id), remembered[_i].answers);
    ck_assert_int_eq(claim(remembered[_i].id), 0);
}
END_TEST

/* ---- requests and other notes ---- */

/* Node 1 believes that node 0 holds what node 1 has not even stored yet. */
START_TEST(a_false_hold_costs_a_miss)
{
    bed_carry(false, known + LEN / 2, LEN / 2, NULL);
    for (uint32_t number = 1; number < 8; number++) {
        ck_assert_int_eq(forge((struct forged){.frame = note_of(FRAME_HOLD, 2, number)}), 0);
        ck_assert_int_eq(forge((struct forged){.frame = note_of(FRAME_HOLD, 1, number)}), 0);
    }
    bed_carry(false, known, LEN, NULL);
    ck_assert_uint_gt(bed_cost(0).totals.misses, 0);
    ck_assert_uint_lt(bed_wire_of(false, known, LEN), LEN / 100);
}
END_TEST

START_TEST(a_false_drop_costs_literals)
{
    bed_carry(false, known, LEN, NULL);
    for (uint32_t number = 1; number < 8; number++)
        ck_assert_int_eq(forge((struct forged){.frame = note_of(FRAME_DROP, 2, number)}), 0);
    ck_assert_uint_gt(bed_wire_of(false, known, LEN), LEN);
    ck_assert_uint_lt(bed_wire_of(false, known, LEN), LEN / 100);
    ck_assert_uint_eq(bed_cost(0).totals.misses, 0);
}
END_TEST

static const uint64_t asked[][2] = {{0, 1},       {0, FRAME_OFFSET_MAX},     {LEN, 1},
                                    {LEN - 1, 2}, {FRAME_OFFSET_MAX - 1, 1}, {1000, LEN / 2}};

static void ask_for_all(void)
{
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        struct frame f = {.type = FRAME_MISS, .miss = {.offset = asked[i][0], .len = asked[i][1]}};
        ck_assert_int_eq(forge((struct forged){.frame = f}), 0);
    }
}

/* Before anything was sent, in the middle, and when all is acknowledged. */
START_TEST(a_request_for_anything_is_harmless)
{
    struct bed_end ends[2];
    bed_carry(false, known, LEN, NULL);
    bed_open(ends, 0, known, 0, known, LEN);
    ends[0].keep_open = ends[1].keep_open = true;
    ask_for_all();
    bed_transfer(ends, 2, ask_for_all);
    ask_for_all();
    bed_close(ends, 2);
}
END_TEST

static void read_sent(void *arg)
{
    uint64_t *sent = arg;
    *sent = replay_sent(&first_session(&rig.nodes[1])->replay);
}

static uint64_t sent_down(void)
{
    uint64_t sent;
    rig_on(rig.nodes[1].home.loop, read_sent, &sent);
    return sent;
}

/* The known bytes over and over, more than sockets take of a host that does not read; all of it sent down,
 * and most of it not acknowledged. */
enum { MORE = 15 * BED_MB };

static uint8_t *send_more(struct bed_end ends[2])
{
    uint8_t *more = malloc(MORE);
    ck_assert_ptr_nonnull(more);
    for (size_t at = 0; at < MORE; at += LEN)
        memcpy(more + at, known, MORE - at < LEN ? MORE - at : LEN);
    bed_open(ends, 0, more, 0, more, MORE);
    while (sent_down() < MORE)
        bed_end_turn(&ends[1]);
    return more;
}

/* It asks for everything again and again. _i: at once, or in pieces that overlap. */
START_TEST(a_request_is_answered_once)
{
    enum { REQUESTS = 200 };
    struct bed_end ends[2];
    bed_carry(false, known, LEN, NULL);
    uint8_t *more = send_more(ends);
    for (uint64_t i = 0; i < REQUESTS; i++) {
        uint64_t from = _i == 0 ? 0 : i % 10 * MORE / 10, to = _i == 0 ? MORE : from + MORE / 5;
        struct frame f = {.type = FRAME_MISS, .miss = {.offset = from, .len = to - from}};
        ck_assert_int_eq(forge((struct forged){.frame = f}), 0);
    }
    ck_assert_uint_gt(bed_cost(1).totals.missed_bytes, 0);
    ck_assert_uint_le(bed_cost(1).totals.missed_bytes, MORE);
    ck_assert_uint_ge(bed_cost(1).totals.repeated_misses, REQUESTS / 10);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
    free(more);
}
END_TEST

/* More places at once than there can be gaps. */
START_TEST(requests_for_too_many_places_reset_the_session)
{
    struct bed_end ends[2];
    uint8_t *more = send_more(ends);
    for (uint64_t i = 0; i <= SESSION_ANSWERED_MAX; i++) {
        struct frame f = {.type = FRAME_MISS, .miss = {.offset = MORE - 2 * i - 2, .len = 1}};
        ck_assert_int_eq(forge((struct forged){.frame = f}), 0);
    }
    rig_expect_reset(ends[0].fd);
    bed_close(ends, 2);
    free(more);
}
END_TEST

/* Without stores these frames are unknown. */
START_TEST(frames_of_a_feature_that_is_not_in_use)
{
    struct bed_end ends[2];
    bed_end();
    bed_listener = rig_listen(&bed_port);
    rig_start(&rig, (struct rig_options){.loops = 2});
    rig_wait_up(&rig);
    bed_open(ends, 0, known, LEN, known, LEN);
    struct frame miss = {.type = FRAME_MISS, .miss = {.len = 1}};
    ck_assert_int_eq(forge((struct forged){.frame = note_of(FRAME_HOLD, 2, 1)}), -ERR_WIRE_UNKNOWN);
    ck_assert_int_eq(forge((struct forged){.frame = note_of(FRAME_DROP, 2, 1)}), -ERR_WIRE_UNKNOWN);
    ck_assert_int_eq(forge((struct forged){.frame = miss}), -ERR_WIRE_UNKNOWN);
    ck_assert_int_eq(forge((struct forged){.id = sent_first, .len = SPAN, .bytes = known}),
                     -ERR_WIRE_UNKNOWN);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
}
END_TEST

/* ---- credit ---- */

/* _i: past the raw limit, or past where the session ended. */
START_TEST(a_reference_past_credit_or_end_resets_the_session)
{
    struct bed_end ends[2];
    bed_carry(true, known, LEN, NULL);
    bed_open(ends, 0, known, SPAN, known, 0);
    uint64_t skip = SESSION_RAW_WINDOW - SPAN + 1;
    if (_i == 1) {
        ck_assert_int_eq(forge((struct forged){.frame = {.type = FRAME_FIN, .fin = {.final = SPAN}}}), 0);
        skip = 1;
    }
    forge((struct forged){.id = sent_first, .len = SPAN, .bytes = known, .skip = skip});
    rig_expect_reset(ends[0].fd);
    bed_close(ends, 2);
}
END_TEST

struct progress {
    uint64_t sent, raw_limit, queued;
};

static void read_progress(void *arg)
{
    struct progress *p = arg;
    const struct session *out = first_session(&rig.nodes[0]);
    p->sent = replay_sent(&out->replay);
    p->raw_limit = out->raw_limit;
}

static void read_queue(void *arg)
{
    struct progress *p = arg;
    const struct session *in = first_session(&rig.nodes[1]);
    p->queued = in->received - in->consumed + in->early.bytes;
}

static struct progress progress(void)
{
    struct progress p = {0};
    rig_on(rig.nodes[0].home.loop, read_progress, &p);
    rig_on(rig.nodes[1].home.loop, read_queue, &p);
    return p;
}

/* Bytes that cost nothing are still no more than the raw window, for a host that does not read. */
START_TEST(references_stop_at_the_raw_limit)
{
    enum { MUCH = SESSION_RAW_WINDOW + 16 * BED_MB };
    uint8_t *much = malloc(MUCH);
    struct bed_end ends[2];
    ck_assert_ptr_nonnull(much);
    for (size_t at = 0; at < MUCH; at += LEN)
        memcpy(much + at, known, LEN);
    bed_carry(true, known, LEN, NULL);
    bed_open(ends, 0, much, MUCH, much, 0);
    struct progress p;
    uint64_t since = clock_now_us(), moved = 0;
    do {
        bed_end_turn(&ends[0]);
        p = progress();
        since = p.sent != moved ? clock_now_us() : since;
        moved = p.sent;
        ck_assert_msg(clock_now_us() - since < RIG_HANG_S * 1000000ull, "sent %llu of %llu",
                      (unsigned long long)p.sent, (unsigned long long)p.raw_limit);
    } while (p.raw_limit == 0 || p.sent < p.raw_limit); /* 0: not answered yet */
    ck_assert_uint_eq(p.sent, p.raw_limit);
    ck_assert_uint_le(p.queued, SESSION_RAW_WINDOW);
    ck_assert_uint_lt(budget_used(&rig.nodes[1].memory.growth), SESSION_WINDOW_MAX);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
    free(much);
}
END_TEST

static void lose_holdings(void *arg)
{
    struct rig_node *n = arg;
    holdings_clear(&n->mux->holdings);
}

/* What was to be a reference must come as bytes, far more of it than the window, and new bytes follow. _i:
 * how many MB of it. */
START_TEST(a_long_miss_is_pulled_in_windows)
{
    size_t len = (size_t)_i * BED_MB, all = len + 3 * BED_MB;
    bed_end();
    bed_start((struct rig_options){.loops = 2, .growth = 4 * BED_MB});
    uint8_t *bytes = bed_noise(9, all);
    bed_carry(true, bytes, len, NULL);
    rig_on(rig.nodes[1].home.loop, lose_holdings, &rig.nodes[1]);
    bed_carry(true, bytes, all, NULL);
    ck_assert_uint_gt(bed_cost(0).totals.missed_bytes, len / 2);
    free(bytes);
}
END_TEST

struct ahead {
    uint64_t bytes, window;
};

static void put_ahead(void *arg)
{
    struct ahead *a = arg;
    first_session(&rig.nodes[0])->limit += a->bytes;
}

static void read_window(void *arg)
{
    struct ahead *a = arg;
    a->window = first_session(&rig.nodes[1])->window;
}

/* The peer sends more than credit covers, as it may for a round trip: it does not know yet that our host has
 * taken a reference, or that one did not resolve. No breach, and no more memory for it than is said; what
 * goes further is asked for again. Here the receiver is the near end, which has no opening credit to pay
 * with. _i: by how many KB. */
static const uint64_t ahead_kb[] = {64, 4096, 28672};

START_TEST(a_peer_may_be_ahead_of_credit_where_references_came)
{
    enum { ALL = 40 * BED_MB, BEGINNING = 100000 };
    struct bed_end ends[2];
    struct ahead a = {.bytes = ahead_kb[_i] * 1024};
    bed_end();
    bed_start((struct rig_options){.loops = 2, .growth = 4 * BED_MB});
    uint8_t *bytes = bed_noise(9, ALL);
    memcpy(bytes, known, BEGINNING);
    bed_carry(true, known, LEN, NULL);
    bed_open(ends, 1, bytes, 0, bytes, ALL);
    rig_on(rig.nodes[0].home.loop, put_ahead, &a);
    rig_on(rig.nodes[1].home.loop, read_window, &a);
    struct progress p;
    uint64_t from = clock_now_us();
    do {
        ck_assert_msg(clock_now_us() - from < RIG_HANG_S * 1000000ull, "nothing is sent");
        bed_end_turn(&ends[1]);
        p = progress();
    } while (p.sent < a.window + a.bytes);
    rig_on(rig.nodes[1].home.loop, read_window, &a); /* it may have grown */
    ck_assert_uint_le(p.queued, 2 * a.window + BEGINNING);
    bed_transfer(ends, 2, NULL);
    bed_close(ends, 2);
    free(bytes);
}
END_TEST

/* Many small ones are not references, whatever each of them is. */
START_TEST(plain_bytes_beyond_a_gap_take_credit)
{
    enum { PIECE = 64, FRAME = 500 * PIECE, FRAMES = 1000, OPENING = 65536 };
    struct bed_end ends[2];
    struct ahead a = {0};
    bed_end();
    bed_start((struct rig_options){.loops = 2, .growth = 4 * BED_MB, .opening_credit = OPENING});
    bed_open(ends, 0, known, SPAN, known, 0);
    for (uint64_t i = 0; i < FRAMES; i++)
        ck_assert_int_eq(
            forge((struct forged){.len = FRAME, .plain = PIECE, .bytes = known, .skip = 1 + i * FRAME}), 0);
    rig_on(rig.nodes[1].home.loop, read_window, &a);
    ck_assert_uint_le(progress().queued, a.window + OPENING);
    bed_close(ends, 2);
}
END_TEST

/* A gap takes no memory, and what is to fill it may be references. */
START_TEST(what_comes_far_beyond_a_gap_is_kept)
{
    enum { BEYOND = 32 * BED_MB };
    struct bed_end ends[2];
    struct ahead a = {0};
    bed_end();
    bed_start((struct rig_options){.loops = 2, .growth = 4 * BED_MB, .opening_credit = 1});
    bed_open(ends, 0, known, SPAN, known, 0);
    rig_on(rig.nodes[1].home.loop, read_window, &a);
    ck_assert_uint_lt(a.window, BEYOND);
    ck_assert_int_eq(forge((struct forged){.len = SPAN, .plain = SPAN, .bytes = known, .skip = BEYOND}), 0);
    ck_assert_uint_ge(progress().queued, SPAN);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 0);
    bed_close(ends, 2);
}
END_TEST

static void miss_what_came(void *arg)
{
    static const struct segment_id of_node_1 = {2, 1};
    struct rig_node *n = arg;
    ck_assert_int_gt(store_source(n->home.store, &of_node_1), 0);
    holdings_take_back(&n->mux->holdings, &of_node_1, 0, LEN);
}

/* What a peer missed of its own segments crosses once, not each time: it cannot store it, but says that it
 * has it. */
START_TEST(what_a_peer_missed_of_its_own_crosses_once)
{
    bed_carry(false, known, LEN, NULL);
    rig_on(rig.nodes[0].home.loop, miss_what_came, &rig.nodes[0]);
    ck_assert_uint_gt(bed_wire_of(true, known, LEN), LEN);
    ck_assert_uint_lt(bed_wire_of(true, known, LEN), LEN / 100);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, what_does_not_resolve_is_not_delivered, 0,
                        sizeof(unresolved) / sizeof(unresolved[0]));
    tcase_add_test(t, what_resolves_is_delivered);
    tcase_add_test(t, what_was_proved_resolves_once_it_is_claimed);
    tcase_add_test(t, dropped_and_claimed_again_and_again);
    tcase_add_test(t, what_cannot_be_noted_is_not_answered);
    tcase_add_loop_test(t, what_is_remembered_counts_for_the_same_bytes_only, 0,
                        sizeof(remembered) / sizeof(remembered[0]));
    tcase_add_test(t, a_false_hold_costs_a_miss);
    tcase_add_test(t, a_false_drop_costs_literals);
    tcase_add_test(t, a_request_for_anything_is_harmless);
    tcase_add_loop_test(t, a_request_is_answered_once, 0, 2);
    tcase_add_test(t, requests_for_too_many_places_reset_the_session);
    tcase_add_test(t, frames_of_a_feature_that_is_not_in_use);
    tcase_add_loop_test(t, a_reference_past_credit_or_end_resets_the_session, 0, 2);
    tcase_add_test(t, references_stop_at_the_raw_limit);
    tcase_add_loop_test(t, a_long_miss_is_pulled_in_windows, 4, 9);
    tcase_add_test(t, plain_bytes_beyond_a_gap_take_credit);
    tcase_add_test(t, what_comes_far_beyond_a_gap_is_kept);
    tcase_add_test(t, what_a_peer_missed_of_its_own_crosses_once);
    tcase_add_loop_test(t, a_peer_may_be_ahead_of_credit_where_references_came, 0, 3);
}

int main(void)
{
    return rig_main("dedup_hostile", add);
}
