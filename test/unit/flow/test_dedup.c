/* test_dedup.c - references between two nodes with stores: what repeats costs little, and whatever becomes of
 * stores, lanes and notes, hosts get the bytes that were sent. */
#include "flow/dedup_bed.h"

enum {
    LEN = 4 * BED_MB,
    LITTLE = LEN / 100,
    GREETINGS =
        6 * (GREETING_BYTES + 1024), /* with TLS, of lanes that come up or are renewed after the first */
    UP = 1,
    DOWN = 0
};

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

/* ---- what repeats ---- */

START_TEST(the_same_again_crosses_as_references)
{
    uint64_t first = bed_wire_of(UP, known, LEN), second = bed_wire_of(UP, known, LEN);
    ck_assert_uint_gt(first, LEN);
    ck_assert_msg(second < LITTLE, "%llu bytes the second time", (unsigned long long)second);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 0);
    ck_assert_uint_gt(bed_cost(0).totals.sent.saved_bytes, LEN - LITTLE);
}
END_TEST

START_TEST(the_opposite_direction_too)
{
    bed_carry(_i, known, LEN, NULL);
    uint64_t back = bed_wire_of(!_i, known, LEN), again = bed_wire_of(_i, known, LEN);
    ck_assert_msg(back < LITTLE && again < LITTLE, "%llu and %llu bytes", (unsigned long long)back,
                  (unsigned long long)again);
    ck_assert_uint_eq(bed_cost(0).totals.misses + bed_cost(1).totals.misses, 0);
}
END_TEST

START_TEST(an_edited_copy_costs_its_edits)
{
    enum { EDITS = 40 };
    bed_carry(UP, known, LEN, NULL);
    for (size_t i = 0; i < EDITS; i++)
        known[LEN / EDITS * i + 17] ^= 1;
    uint64_t edited = bed_wire_of(UP, known, LEN), shifted = bed_wire_of(UP, known + 1, LEN - 1);
    ck_assert_msg(edited < EDITS * 2000, "%llu bytes edited", (unsigned long long)edited);
    ck_assert_msg(shifted < LITTLE, "%llu bytes shifted", (unsigned long long)shifted);
}
END_TEST

/* Sessions beside each other send the same at once: nothing was acknowledged yet, the lane's order is enough.
 */
START_TEST(many_at_once)
{
    enum { PAIRS = 12 };
    struct bed_end ends[2 * PAIRS];
    for (int i = 0; i < PAIRS; i++)
        bed_open(&ends[2 * i], i % 2, known, LEN, known, LEN);
    bed_transfer(ends, 2 * PAIRS, NULL);
    bed_close(ends, 2 * PAIRS);
    ck_assert_uint_gt(bed_cost(0).totals.sent.saved_bytes, (uint64_t)LEN * PAIRS / 2);
}
END_TEST

/* ---- lanes, and ends of them ---- */

static void cut_one(void)
{
    rig_cut(&rig, 0);
}

static void cut_all(void)
{
    rig_cut(&rig, -1);
}

/* What both have counted for sessions that are over: each byte once, however often it went. */
static void check_numbers(void)
{
    for (int i = 0; i < 2; i++) {
        struct mux_totals here = bed_cost(i).totals, there = bed_cost(!i).totals;
        ck_assert_uint_eq(here.sent.bytes, here.in_bytes);
        ck_assert_uint_eq(here.sent.bytes, there.came.bytes);
        ck_assert_uint_eq(here.came.bytes, here.out_bytes);
        ck_assert_uint_le(here.sent.saved_bytes, here.sent.bytes);
        ck_assert_uint_le(here.came.saved_bytes, here.came.bytes);
    }
}

/* _i & 1: known bytes or new ones; _i & 2: all lanes or one. */
START_TEST(lanes_are_lost_in_the_middle)
{
    if (_i & 1)
        bed_carry(UP, known, LEN, NULL);
    for (int i = 0; i < 3; i++)
        bed_carry(i & 1, known, LEN, _i & 2 ? cut_all : cut_one);
    rig_wait_up(&rig);
    bed_carry(UP, known, LEN, NULL);
    ck_assert_uint_lt(bed_wire_of(UP, known, LEN), LITTLE);
    check_numbers();
}
END_TEST

static void end_node(int number)
{
    struct rig_node *n = &rig.nodes[number];
    rig_on(n->home.loop, rig_end_mux, n);
    rig_until(atomic_load(&n->gone));
    atomic_store(&n->gone, false);
    atomic_store(&n->up, false);
}

static void begin_node(int number)
{
    struct rig_node *n = &rig.nodes[number];
    rig_on(n->home.loop, rig_start_node, n);
}

static void empty_store(void *arg)
{
    static const struct store_events events = {.evicted = mux_segment_evicted};
    static uint64_t epoch = 1000;
    struct rig_node *n = arg;
    store_free(n->home.store);
    epoch++;
    ck_assert_int_eq(
        store_new(&n->home.store, &n->store_memory, STORE_LEAST_BYTES, epoch, epoch, &events, &n->home), 0);
}

/* Nothing is referred to that a store of an earlier life held; after one more time all is as it was. */
START_TEST(a_peer_that_began_anew_with_an_empty_store)
{
    bed_carry(UP, known, LEN, NULL);
    bed_carry(DOWN, known, LEN / 2, NULL);
    end_node(_i);
    rig_on(rig.nodes[_i].home.loop, empty_store, &rig.nodes[_i]);
    begin_node(_i);
    rig_wait_up(&rig);
    ck_assert_uint_gt(bed_wire_of(UP, known, LEN), _i == 1 ? LEN : 0);
    ck_assert_uint_lt(bed_wire_of(UP, known, LEN), LITTLE + GREETINGS);
    ck_assert_uint_lt(bed_wire_of(DOWN, known, LEN), LITTLE + GREETINGS);
    ck_assert_uint_eq(bed_cost(0).totals.misses + bed_cost(1).totals.misses, 0);
}
END_TEST

struct question {
    struct rig_node *node;
    struct segment_id id;
    bool held;
};

static void ask_held(void *arg)
{
    struct question *q = arg;
    if (holdings_span(&q->node->mux->holdings, &q->id, 0, 0, LEN, &q->held) < LEN)
        q->held = false;
}

/* Whether the node takes the first LEN bytes of that segment for held by the other. */
static bool takes_for_held(int number, uint64_t epoch)
{
    struct question q = {.node = &rig.nodes[number], .id = {.epoch = epoch, .number = 1}};
    rig_on(q.node->home.loop, ask_held, &q);
    return q.held;
}

/* Both begin anew and have their stores still: HOLD says so to the one whose bytes they were. The other may
 * not ask what it once was sent: a claim to have it proves nothing. */
START_TEST(stores_outlive_a_tunnel)
{
    bed_carry(UP, known, LEN, NULL);
    end_node(0);
    end_node(1);
    begin_node(0);
    begin_node(1);
    rig_wait_up(&rig);
    rig_until(takes_for_held(0, 1));
    ck_assert(!takes_for_held(1, 1));
    ck_assert_uint_lt(bed_wire_of(UP, known, LEN), LITTLE + GREETINGS);
    ck_assert_uint_eq(bed_cost(0).totals.misses + bed_cost(1).totals.misses, 0);
}
END_TEST

/* What it was sent before it began anew it may refer to as soon as it says that it holds it: the other end
 * knows, and says so. */
START_TEST(one_that_began_anew_knows_what_it_was_sent)
{
    bed_carry(DOWN, known, LEN, NULL);
    for (int life = 0; life < 2; life++) {
        end_node(0);
        begin_node(0);
        rig_wait_up(&rig);
        rig_until(takes_for_held(0, 2));
        ck_assert_uint_lt(bed_wire_of(UP, known, LEN), LITTLE + GREETINGS);
        ck_assert_uint_lt(bed_wire_of(DOWN, known, LEN), LITTLE + GREETINGS);
    }
    ck_assert_uint_eq(bed_cost(0).totals.misses + bed_cost(1).totals.misses, 0);
    ck_assert_uint_gt(bed_cost(1).totals.came.saved_bytes, 2 * (LEN - LITTLE));
}
END_TEST

static void start_remembering(void *arg)
{
    ((struct rig_node *)arg)->home.remembers = true;
}

/* And after both began anew, where the other end remembers it. */
START_TEST(what_a_peer_was_sent_is_remembered)
{
    rig_on(rig.nodes[1].home.loop, start_remembering, &rig.nodes[1]);
    bed_carry(DOWN, known, LEN, NULL);
    for (int life = 0; life < 2; life++) {
        end_node(0);
        end_node(1);
        begin_node(0);
        begin_node(1);
        rig_wait_up(&rig);
        rig_until(takes_for_held(0, 2));
        bed_carry(UP, known, LEN, NULL);
        ck_assert_uint_gt(bed_cost(1).totals.came.saved_bytes, LEN - LITTLE); /* lanes come up, and cost */
        ck_assert_uint_eq(bed_cost(0).totals.misses + bed_cost(1).totals.misses, 0);
    }
}
END_TEST

/* ---- eviction ---- */

static void carry_else(size_t len)
{
    uint8_t *other = bed_noise(77, len);
    bed_carry(UP, other, len, NULL);
    free(other);
}

/* A third node fills the store until nothing else is left of what it had. */
static void evict_all(void *arg)
{
    enum { PIECE = BED_MB };
    static uint32_t number;
    struct rig_node *n = arg;
    uint8_t *bytes = bed_noise(500 + number, PIECE);
    struct slice slice;
    for (uint32_t filled = 0; filled < 2 * STORE_LEAST_BYTES / PIECE; filled++) {
        struct segment_id id = {.epoch = 0x7777, .number = number + filled / 16};
        ck_assert_int_eq(store_fill(n->home.store, 3, &id, filled % 16 * PIECE, bytes, PIECE, &slice), 0);
        chunk_unref(slice.chunk);
    }
    number += 2 * STORE_LEAST_BYTES / PIECE / 16;
    free(bytes);
}

START_TEST(what_both_evicted_goes_as_new)
{
    bed_carry(UP, known, LEN, NULL);
    carry_else(80 * BED_MB); /* nothing of the known bytes is left in either store */
    ck_assert_uint_gt(bed_cost(0).store.evicted_segments, 0);
    ck_assert_uint_gt(bed_cost(1).store.evicted_segments, 0);
    ck_assert_uint_gt(bed_wire_of(_i, known, LEN), LEN);
    ck_assert_uint_lt(bed_wire_of(_i, known, LEN), LITTLE);
    ck_assert_uint_lt(bed_wire_of(!_i, known, LEN), LITTLE);
}
END_TEST

/* One store loses what the other still has, whichever wrote it first: DROP says so, the bytes cross once
 * more, and then as references again. _i & 1: who forgets; _i & 2: who sends afterwards. */
START_TEST(what_one_evicted_goes_as_new_once)
{
    int forgetful = _i & 1;
    bool direction = (_i & 2) != 0;
    bed_carry(UP, known, LEN, NULL);
    carry_else(20 * BED_MB); /* the segment where bytes are being put stays */
    ck_assert(takes_for_held(!forgetful, 1));
    rig_on(rig.nodes[forgetful].home.loop, evict_all, &rig.nodes[forgetful]);
    rig_until(!takes_for_held(!forgetful, 1));
    bed_carry(direction, known, LEN, NULL);
    ck_assert_uint_lt(bed_wire_of(direction, known, LEN), LITTLE);
    bed_carry(!direction, known, LEN, NULL); /* perhaps from a copy that only one of them has */
    ck_assert_uint_lt(bed_wire_of(!direction, known, LEN), LITTLE);
    ck_assert_uint_eq(bed_cost(0).totals.misses + bed_cost(1).totals.misses, 0);
}
END_TEST

/* ---- stores out of step ---- */

/* The node's word of what the other may refer to is gone, and no one was told. */
static void lose_holdings(void *arg)
{
    struct rig_node *n = arg;
    holdings_clear(&n->mux->holdings);
}

static void turn_bytes(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                       const struct intervals *filled)
{
    (void)arg, (void)id, (void)source;
    for (uint32_t i = 0; i < filled->count; i++) {
        for (uint32_t at = filled->list[i].from; at < filled->list[i].to; at += 1000)
            chunk->bytes[at] ^= 0x20;
    }
}

static void damage_store(void *arg)
{
    struct rig_node *n = arg;
    store_each(n->home.store, turn_bytes, NULL);
}

static void (*const disorders[])(void *arg) = {lose_holdings, damage_store};

/* _i: what is wrong at the receiver. Every reference is refused, and its bytes come as literals. */
START_TEST(references_that_do_not_resolve_are_asked_for)
{
    bed_carry(UP, known, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, disorders[_i], &rig.nodes[1]);
    ck_assert_uint_gt(bed_wire_of(UP, known, LEN), LEN);
    ck_assert_uint_gt(bed_cost(1).totals.misses, 0);
    ck_assert_uint_ge(bed_cost(0).totals.missed_bytes, LEN - LITTLE);
    ck_assert_uint_lt(bed_cost(0).totals.sent.saved_bytes, LITTLE); /* they were not saved after all */
    check_numbers();
}
END_TEST

/* One session's ACK says that the bytes are held again, which another has just asked for. */
START_TEST(many_ask_for_the_same)
{
    enum { PAIRS = 12 };
    struct bed_end ends[2 * PAIRS];
    bed_carry(UP, known, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, disorders[_i], &rig.nodes[1]);
    for (int i = 0; i < PAIRS; i++)
        bed_open(&ends[2 * i], 0, known, LEN, known, 0);
    bed_transfer(ends, 2 * PAIRS, NULL);
    bed_close(ends, 2 * PAIRS);
}
END_TEST

/* Somebody else has the name of the segment where node 0 puts its bytes. */
static void refuse_to_store(void *arg)
{
    struct rig_node *n = arg;
    struct slice slice;
    const struct segment_id id = {.epoch = 1, .number = 1};
    ck_assert_int_eq(store_fill(n->home.store, 99, &id, STORE_SEGMENT_BYTES - 1, known, 1, &slice), 0);
    chunk_unref(slice.chunk);
}

static uint64_t memory_taken;

static void take_memory(void *arg)
{
    struct rig_node *n = arg;
    memory_taken = budget_left(&n->store_memory);
    ck_assert(budget_take(&n->store_memory, memory_taken));
}

static void give_memory_back(void *arg)
{
    struct rig_node *n = arg;
    budget_give(&n->store_memory, memory_taken);
}

static const struct {
    void (*begin)(void *arg), (*end)(void *arg);
} refusals[] = {{refuse_to_store, evict_all}, {take_memory, give_memory_back}};

/* All that it asked for has come. */
static void has_asked_for_nothing(void *arg)
{
    struct rig_node *n = arg;
    ck_assert_uint_eq(n->mux->holdings.asked, 0);
}

/* _i: why the receiver cannot store anything. It asks for what it is referred to once; after that it gets
 * literals, until it can store them. (Where reads of the host end elsewhere, a match covers a few bytes that
 * nothing has referred to yet, and then what is in a frame with them goes once more.) */
/* What came from the peer and is sent back, when the peer, or both, do not know any more who had it: it is of
 * no use to send it by the peer's own addresses each time, for there it is stored already. _i: whether both.
 */
START_TEST(what_the_peer_forgot_is_sent_by_addresses_of_ours)
{
    uint8_t *bytes = bed_noise(3, LEN);
    bed_carry(false, bytes, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, lose_holdings, &rig.nodes[1]);
    if (_i == 1)
        rig_on(rig.nodes[0].home.loop, lose_holdings, &rig.nodes[0]);
    ck_assert_uint_gt(bed_wire_of(true, bytes, LEN), LEN);
    if (_i == 0) /* it was referred to, and missed: the next time it is known to be forgotten */
        ck_assert_uint_gt(bed_wire_of(true, bytes, LEN), LEN);
    ck_assert_uint_lt(bed_wire_of(true, bytes, LEN), LEN / 50);
    ck_assert_uint_lt(bed_wire_of(true, bytes, LEN), LEN / 100);
    free(bytes);
}
END_TEST

START_TEST(what_cannot_be_stored_is_asked_for_once)
{
    struct rig_node *n = &rig.nodes[1];
    rig_on(n->home.loop, refusals[_i].begin, n);
    bed_carry(UP, known, LEN, NULL);
    ck_assert_uint_eq(bed_cost(1).totals.misses, 0);
    bed_carry(UP, known, LEN, NULL);
    ck_assert_uint_gt(bed_cost(1).totals.misses, 0);
    for (int i = 0; i < 5; i++)
        ck_assert_uint_gt(bed_wire_of(UP, known, LEN), LEN);
    ck_assert_uint_lt(bed_cost(0).totals.missed_bytes, 2 * LEN);
    rig_on(n->home.loop, has_asked_for_nothing, n);
    rig_on(n->home.loop, refusals[_i].end, n);
    bed_carry(UP, known, LEN, NULL);
    uint64_t wire = LEN;
    for (int i = 0; i < 3 && wire > LITTLE; i++)
        wire = bed_wire_of(UP, known, LEN);
    ck_assert_uint_lt(wire, LITTLE);
}
END_TEST

/* But for the few bytes that the transfer before did not refer to, see above. */
START_TEST(once_asked_for_they_are_held_again)
{
    bed_carry(UP, known, LEN, NULL);
    rig_on(rig.nodes[1].home.loop, lose_holdings, &rig.nodes[1]);
    bed_carry(UP, known, LEN, NULL);
    uint64_t wire = LEN;
    for (int i = 0; i < 3 && wire > LITTLE; i++)
        wire = bed_wire_of(UP, known, LEN);
    ck_assert_uint_lt(wire, LITTLE);
    ck_assert_uint_lt(bed_cost(0).totals.missed_bytes, 2 * LEN);
}
END_TEST

START_TEST(lanes_are_lost_while_bytes_are_asked_for)
{
    bed_carry(UP, known, LEN, NULL);
    for (int i = 0; i < 4; i++) {
        rig_on(rig.nodes[1].home.loop, disorders[i % 2], &rig.nodes[1]);
        bed_carry(UP, known, LEN, i < 2 ? cut_one : cut_all);
    }
}
END_TEST

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_same_again_crosses_as_references);
    tcase_add_loop_test(t, the_opposite_direction_too, 0, 2);
    tcase_add_test(t, an_edited_copy_costs_its_edits);
    tcase_add_test(t, many_at_once);
    tcase_add_loop_test(t, lanes_are_lost_in_the_middle, 0, 4);
    tcase_add_loop_test(t, a_peer_that_began_anew_with_an_empty_store, 0, 2);
    tcase_add_test(t, stores_outlive_a_tunnel);
    tcase_add_test(t, one_that_began_anew_knows_what_it_was_sent);
    tcase_add_test(t, what_a_peer_was_sent_is_remembered);
    tcase_add_loop_test(t, what_both_evicted_goes_as_new, 0, 2);
    tcase_add_loop_test(t, what_one_evicted_goes_as_new_once, 0, 4);
    tcase_add_loop_test(t, references_that_do_not_resolve_are_asked_for, 0, 2);
    tcase_add_loop_test(t, many_ask_for_the_same, 0, 2);
    tcase_add_loop_test(t, what_the_peer_forgot_is_sent_by_addresses_of_ours, 0, 2);
    tcase_add_loop_test(t, what_cannot_be_stored_is_asked_for_once, 0, 2);
    tcase_add_test(t, once_asked_for_they_are_held_again);
    tcase_add_test(t, lanes_are_lost_while_bytes_are_asked_for);
}

int main(void)
{
    return rig_main("dedup", add);
}
