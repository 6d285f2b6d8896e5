/* test_credit.c - what a session holds of a peer that sends more than its credit: no more than is said in
 * session.h, and what was granted or is a reference all the same. */
#include "flow/forged.h"

enum { LEN = 4 * BED_MB, SPAN = 5000, FRAME = 32000 };

static const struct segment_id known_segment = {1, 7};
static uint8_t *known;

static void set_up(void)
{
    bed_listener = rig_listen(&bed_port);
    known = bed_noise(1, LEN);
}

static void tear_down(void)
{
    bed_end();
    free(known);
}

/* Node 0 may refer to the known bytes. */
static void keep_known(void *arg)
{
    struct rig_node *n = arg;
    struct slice slice;
    uint32_t peer = tunnel_peer_source(mux_tunnel(n->mux));
    ck_assert_int_eq(store_fill(n->home.store, peer, &known_segment, 0, known, LEN, &slice), 0);
    chunk_unref(slice.chunk);
    ck_assert(holdings_add(&n->mux->holdings, &known_segment, HOLDINGS_THEIRS, 0, LEN));
}

/* A session of node 0's client, of which nothing was sent. */
static void begin(struct bed_end ends[2], struct rig_options options)
{
    options.loops = 2; /* a thread for each node */
    options.stores = true;
    rig_start(&rig, options);
    rig_wait_up(&rig);
    rig_on(rig.nodes[1].home.loop, keep_known, &rig.nodes[1]);
    bed_open(ends, 0, known, 0, known, LEN);
}

static void refer(uint64_t skip, uint32_t len)
{
    struct forged g = {.id = known_segment, .len = len, .bytes = known, .skip = skip};
    ck_assert_int_eq(forge(g), 0);
}

static void send_plain(uint64_t skip, uint32_t len)
{
    struct forged g = {.len = len, .plain = len, .bytes = known, .skip = skip};
    ck_assert_int_eq(forge(g), 0);
}

struct state {
    uint64_t received, consumed, window, granted, early, saved, excess, miss_from, miss_end;
};

static void read_state(void *arg)
{
    struct state *st = arg;
    const struct session *s = first_session(&rig.nodes[1]);
    *st = (struct state){.received = s->received,
                         .consumed = s->consumed,
                         .window = s->window,
                         .granted = s->granted,
                         .early = s->early.bytes,
                         .saved = s->early.saved,
                         .excess = s->mux->excess_bytes,
                         .miss_from = s->miss_from,
                         .miss_end = s->miss_end};
}

static struct state state(void)
{
    struct state st;
    rig_on(rig.nodes[1].home.loop, read_state, &st);
    return st;
}

/* ---- while node 0 stands still, since it would reset a session that acknowledges more than was sent ---- */

static void still(void (*work)(void *arg), void *arg)
{
    rig_on(rig.nodes[0].home.loop, work, arg);
}

/* The host has taken much of a reference, and not all, and takes no more. */
static void take_a_part(int fd)
{
    static uint8_t bytes[1 << 17];
    uint64_t from = clock_now_us(), was = 0, now = state().consumed;
    while (now != was || now % LEN < LEN / 4 || now % LEN > LEN - LEN / 8) {
        ck_assert_msg(clock_now_us() - from < RIG_HANG_S * 1000000ull, "no part is taken");
        if (now == was)
            (void)!recv(fd, bytes, sizeof(bytes), 0);
        poll(NULL, 0, 1);
        was = now;
        now = state().consumed;
    }
}

static void send_behind_taken_references(void *arg)
{
    enum { REFERENCES = 4, FRAMES = 300 };
    const struct bed_end *ends = arg;
    for (int i = 0; i < REFERENCES; i++)
        refer(0, LEN);
    ck_assert_uint_eq(state().received, REFERENCES * LEN);
    take_a_part(ends[1].fd);
    for (int i = 0; i < FRAMES; i++)
        send_plain(0, FRAME);
    struct state st = state();
    ck_assert_uint_gt(st.received, REFERENCES * LEN);
    ck_assert_uint_le(st.received - REFERENCES * LEN, st.window);
}

/* What is left of a reference that the host is taking does not hide bytes behind it. */
START_TEST(plain_bytes_behind_partly_taken_references_are_bounded)
{
    struct bed_end ends[2];
    begin(ends, (struct rig_options){.growth = 4 * BED_MB, .opening_credit = 1});
    still(send_behind_taken_references, ends);
    bed_close(ends, 2);
}
END_TEST

static void pay_and_take_the_head(void *arg)
{
    enum { HEAD = 60000, GAP = 1000, FRAMES = 240 };
    (void)arg;
    for (uint64_t i = 0; i < FRAMES; i++)
        send_plain(HEAD + GAP + i * FRAME, FRAME);
    struct state before = state();
    ck_assert_uint_eq(before.early, FRAMES * FRAME);
    ck_assert_uint_ge(before.excess, before.early - before.window);
    send_plain(0, HEAD);
    rig_until(state().consumed == HEAD);
    struct state st = state();
    ck_assert_uint_gt(st.granted, before.granted);
    ck_assert_uint_eq(st.early, before.early);
    ck_assert_uint_ge(st.excess, st.early - st.window);
}

START_TEST(opening_credit_pays_for_as_long_as_bytes_wait)
{
    struct bed_end ends[2];
    begin(ends, (struct rig_options){.growth = 1, .opening_credit = 8 * BED_MB});
    still(pay_and_take_the_head, NULL);
    bed_close(ends, 2);
}
END_TEST

enum { EVERY = 700, PAIR = EVERY + EDIT, ALL = 3 * BED_MB / PAIR * PAIR, PIECE = STORED_OPS_MAX / 2 * PAIR };

static void send_edited(const uint8_t *bytes, uint32_t from, uint32_t end, uint64_t skip)
{
    struct forged g = {.id = known_segment,
                       .off = from,
                       .len = end - from,
                       .bytes = bytes + from,
                       .edited = EVERY,
                       .skip = skip};
    ck_assert_int_eq(forge(g), 0);
}

static uint8_t *edited_file(void)
{
    uint8_t *bytes = malloc(ALL);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < ALL; i++)
        bytes[i] = i % PAIR < EVERY ? known[i] : (uint8_t)~known[i];
    return bytes;
}

static void send_edited_file(void *arg)
{
    struct bed_end *end = arg;
    uint8_t *bytes = edited_file();
    for (uint32_t at = PAIR; at < ALL; at += PIECE)
        send_edited(bytes, at, at + PIECE < ALL ? at + PIECE : ALL, at);
    struct state st = state();
    ck_assert_uint_eq(st.early, ALL - PAIR);
    ck_assert_uint_eq(st.saved,
                      ALL / PAIR * (EVERY - STORED_REFERENCE_COST) - (EVERY - STORED_REFERENCE_COST));
    ck_assert_uint_eq(bed_cost(1).totals.misses, 0);
    send_edited(bytes, 0, PAIR, 0);
    end->expect = bytes;
    end->expect_len = ALL;
    uint64_t from = clock_now_us();
    while (end->got < ALL) {
        ck_assert_msg(clock_now_us() - from < RIG_HANG_S * 1000000ull, "got %zu", end->got);
        bed_end_turn(end);
    }
    free(bytes);
}

/* Thousands of references, none of which is next to another: a frame of them takes one entry. */
START_TEST(a_file_edited_everywhere_is_kept_behind_a_gap)
{
    struct bed_end ends[2];
    begin(ends, (struct rig_options){0});
    ends[1].send_len = 0;
    ends[1].keep_open = true;
    still(send_edited_file, &ends[1]);
    bed_close(ends, 2);
}
END_TEST

/* Far more references than can be noted one by one; the host reads nothing. */
static void send_edited_files(void *arg)
{
    enum { FILES = 11 };
    uint8_t *bytes = edited_file();
    (void)arg;
    for (int i = 0; i < FILES; i++) {
        for (uint32_t at = 0; at < ALL; at += PIECE)
            send_edited(bytes, at, at + PIECE < ALL ? at + PIECE : ALL, 0);
    }
    ck_assert_uint_eq(state().received, (uint64_t)FILES * ALL);
    ck_assert_uint_gt(state().received, state().consumed + state().window);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 0);
    free(bytes);
}

/* As when a gap is filled that held them back. */
START_TEST(thousands_of_references_for_a_slow_host_are_taken)
{
    struct bed_end ends[2];
    begin(ends, (struct rig_options){.opening_credit = 1});
    still(send_edited_files, NULL);
    bed_close(ends, 2);
}
END_TEST

/* ---- behind a gap that is never filled ---- */

/* Plain bytes in front of them neither push them out nor are covered by what they save. */
START_TEST(references_behind_stay_when_plain_bytes_come)
{
    enum { REFERENCES = 10, FAR = 32 * BED_MB, FRAMES = 200, NEAR = 8 * BED_MB };
    struct bed_end ends[2];
    begin(ends, (struct rig_options){.growth = 4 * BED_MB, .opening_credit = 1});
    for (uint64_t i = 0; i < REFERENCES; i++)
        refer(FAR + i * LEN, LEN);
    struct state before = state();
    ck_assert_uint_ge(before.saved, REFERENCES * (LEN - STORED_REFERENCE_COST));
    for (uint64_t i = 0; i < FRAMES; i++)
        send_plain(NEAR + i * FRAME, FRAME);
    struct state st = state();
    ck_assert_uint_eq(st.saved, before.saved);
    ck_assert_uint_gt(st.early, before.early);
    ck_assert_uint_le(st.early - st.saved, st.window);
    bed_close(ends, 2);
}
END_TEST

/* A peer that keeps to no credit: a window of what it was not granted, and then what it was. */
START_TEST(what_was_granted_is_taken_and_no_more_than_twice_the_window)
{
    enum { FRAMES = 300, FAR = 8 * BED_MB };
    struct bed_end ends[2];
    begin(ends, (struct rig_options){.growth = 4 * BED_MB, .opening_credit = 1});
    for (uint64_t i = 0; i < FRAMES; i++)
        send_plain(FAR + i * FRAME, FRAME);
    struct state before = state();
    ck_assert_uint_le(before.early, before.window);
    for (uint64_t i = 0; i < FRAMES; i++)
        send_plain(1 + i * FRAME, FRAME);
    struct state st = state();
    ck_assert_uint_ge(st.early, before.early + (before.granted - 1) / FRAME * FRAME);
    ck_assert_uint_le(st.early, 2 * st.window);
    bed_close(ends, 2);
}
END_TEST

/* Two references do not resolve; what came between them is here, and what is in front of them on its way. */
START_TEST(what_is_here_is_not_asked_for)
{
    enum { AT = 10 * SPAN };
    static const struct segment_id unknown = {1, 77};
    struct bed_end ends[2];
    begin(ends, (struct rig_options){0});
    send_plain(SPAN, SPAN);
    send_plain(AT + SPAN, SPAN);
    for (uint64_t at = AT + 2 * SPAN; at >= AT; at -= 2 * SPAN) {
        struct forged g = {.id = unknown, .len = SPAN, .bytes = known, .skip = at};
        ck_assert_int_eq(forge(g), 0);
    }
    struct state st = state();
    ck_assert_uint_eq(st.miss_from, AT);
    ck_assert_uint_eq(st.miss_end, AT + SPAN);
    bed_close(ends, 2);
}
END_TEST

/* At once: a lane that is lost meanwhile would end the session as well. */
static void reset_and_refer(void *arg)
{
    static const struct segment_id unknown = {1, 77};
    struct frame reset = {.type = FRAME_RST, .rst = {.reason = FRAME_RST_BY_HOST, .final = 2 * SPAN}};
    struct forged first = {.frame = reset}, then = {.id = unknown, .len = SPAN, .bytes = known};
    uint32_t *asked = arg;
    give(&first);
    give(&then);
    ck_assert(first.result == 0 && then.result == 0);
    *asked = rig.nodes[1].mux->holdings.asked;
}

/* The peer's host has reset its connection, so what does not resolve will not come. */
START_TEST(nothing_is_asked_for_in_a_session_that_ends)
{
    struct bed_end ends[2];
    uint32_t asked = 1;
    begin(ends, (struct rig_options){0});
    rig_on(rig.nodes[1].home.loop, reset_and_refer, &asked);
    ck_assert_uint_eq(asked, 0);
    bed_close(ends, 2);
}
END_TEST

/* Without references there is no reason to be ahead of the credit. */
START_TEST(without_stores_bytes_past_credit_reset_the_session)
{
    enum { FLOOR = 65536, BYTES = 8000 };
    struct bed_end ends[2];
    rig_start(&rig,
              (struct rig_options){.loops = 2, .session_floor = FLOOR, .growth = 1, .opening_credit = FLOOR});
    rig_wait_up(&rig);
    bed_open(ends, 0, known, 0, known, 0);
    struct frame data = {.type = FRAME_DATA, .data = {.offset = 10 * FLOOR, .len = BYTES, .bytes = known}};
    ck_assert_int_eq(forge((struct forged){.frame = data}), 0);
    rig_expect_reset(ends[0].fd);
    bed_close(ends, 2);
}
END_TEST

static void send_short_frames(void *arg)
{
    enum { SHORT = 8192 };
    (void)arg;
    int64_t before = (int64_t)chunk_bytes_total();
    struct state st = state();
    while (st.received - st.consumed + 2 * SHORT < st.window) {
        send_plain(0, SHORT);
        st = state();
    }
    int64_t held = (int64_t)(st.received - st.consumed);
    ck_assert_int_gt(held, 4 * SHORT);
    ck_assert_int_lt((int64_t)chunk_bytes_total() - before, 2 * held + BED_MB);
}

/* A frame of 8 KB in a block of 64 KB does not keep all of the block while the host does not read. */
START_TEST(short_frames_pin_no_blocks)
{
    struct bed_end ends[2];
    begin(ends, (struct rig_options){.growth = 64 * BED_MB});
    struct state st = state();
    ck_assert_uint_gt(st.window, 0);
    still(send_short_frames, NULL);
    bed_close(ends, 2);
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, short_frames_pin_no_blocks);
    tcase_add_test(t, plain_bytes_behind_partly_taken_references_are_bounded);
    tcase_add_test(t, opening_credit_pays_for_as_long_as_bytes_wait);
    tcase_add_test(t, a_file_edited_everywhere_is_kept_behind_a_gap);
    tcase_add_test(t, thousands_of_references_for_a_slow_host_are_taken);
    tcase_add_test(t, references_behind_stay_when_plain_bytes_come);
    tcase_add_test(t, what_was_granted_is_taken_and_no_more_than_twice_the_window);
    tcase_add_test(t, what_is_here_is_not_asked_for);
    tcase_add_test(t, nothing_is_asked_for_in_a_session_that_ends);
    tcase_add_test(t, without_stores_bytes_past_credit_reset_the_session);
}

int main(void)
{
    return rig_main("credit", add);
}
