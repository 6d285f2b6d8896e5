/* test_store.c - what is taken comes out, and what is filled can be found. */
#include "store/rig.h"

#include <errno.h>

enum { EMIT_FAILED = -4711 };

START_TEST(what_comes_again_is_known)
{
    uint8_t *bytes = corpus_new();
    struct arrival first = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_eq(first.literal_bytes, CORPUS);
    ck_assert_uint_eq(first.references, 0);
    struct arrival again = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 4096); /* up to the first anchor */
    ck_assert_uint_le(again.references, CORPUS / STORE_TAKE_MOST_BYTES + 8);
    free(bytes);
}
END_TEST

START_TEST(it_is_known_in_spans_of_any_size)
{
    static const uint32_t spans[] = {1, 7, 31, 32, 33, 900, 1460, 16384};
    enum { LEN = 200000 };
    uint8_t *bytes = corpus_new();
    pass(bytes, LEN, STORE_TAKE_MOST_BYTES);
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        struct arrival a = pass(bytes, LEN, spans[i]);
        if (spans[i] >= 900) /* a shorter one has no room for an anchor's key, or hardly */
            ck_assert_uint_lt(a.literal_bytes, 8192);
    }
    free(bytes);
}
END_TEST

START_TEST(a_sparse_search_still_finds_what_was_stored_sparsely)
{
    uint8_t *bytes = corpus_new();
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    struct store_counters counters;
    store_read_counters(near, &counters);
    ck_assert_uint_lt(counters.hints, CORPUS / 1024 * 2); /* one in 256 only at first */
    struct arrival again = pass(bytes + CORPUS / 2, CORPUS / 2, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 32768);
    free(bytes);
}
END_TEST

START_TEST(edits_cost_little)
{
    enum { REPLACED, REMOVED, INSERTED, KINDS };
    uint8_t *bytes = corpus_new(), *edited = malloc(CORPUS + 4096);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    uint32_t from = 0, to = 0;
    unsigned edits = 0;
    while (CORPUS - from > 40000) {
        uint32_t kept = 8000 + roll(30000), kind = roll(KINDS);
        memcpy(edited + to, bytes + from, kept);
        from += kept;
        to += kept;
        if (kind != INSERTED)
            from += 16;
        if (kind != REMOVED) {
            fill_random(edited + to, 16);
            to += 16;
        }
        edits++;
    }
    struct arrival a = pass(edited, to, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_gt(edits, 50);
    ck_assert_uint_lt(a.literal_bytes, 4096 + edits * 64);
    struct arrival again = pass(edited, to, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 4096);
    free(edited);
    free(bytes);
}
END_TEST

/* Few bytes that are known, again and again among new ones: they are stored with these, so that what comes
 * again is in one piece. */
START_TEST(known_bytes_among_new_ones_leave_no_gaps)
{
    enum { LEN = 1 << 20, NEW = 3000, KNOWN = 600 };
    uint8_t *bytes = corpus_new(), *mixed = malloc(LEN);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    fill_letters(mixed, LEN);
    for (uint32_t at = NEW; at + KNOWN <= LEN; at += NEW + KNOWN)
        memcpy(mixed + at, bytes + roll(CORPUS - KNOWN), KNOWN);
    struct arrival first = pass(mixed, LEN, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_eq(first.literal_bytes, LEN);
    struct arrival again = pass(mixed, LEN, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 4096);
    ck_assert_uint_le(again.references, LEN / STORE_TAKE_MOST_BYTES + 8);
    free(mixed);
    free(bytes);
}
END_TEST

/* Between edits are no more bytes than there were among new ones, but they go on from each other. */
START_TEST(an_edited_page_is_known)
{
    enum { LEN = 30000, PART = 600, EDIT = 8 };
    uint8_t *bytes = corpus_new();
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    for (uint32_t at = PART; at + EDIT <= LEN; at += PART)
        fill_random(bytes + at, EDIT);
    struct arrival edited = pass(bytes, LEN, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(edited.literal_bytes, 2 * LEN / PART * EDIT + PART);
    free(bytes);
}
END_TEST

/* Parts of what is known in another order: where each of them went on is known as well, so that nothing has
 * to be looked for when all of it comes again. */
START_TEST(parts_in_another_order_are_followed)
{
    enum { LEN = 1 << 20, LEAST = 500, MORE = 2000 };
    uint8_t *bytes = corpus_new(), *parts = malloc(LEN);
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    for (uint32_t at = 0, part; at < LEN; at += part) {
        part = LEAST + roll(MORE);
        part = part < LEN - at ? part : LEN - at;
        memcpy(parts + at, bytes + roll(CORPUS - part), part);
    }
    pass(parts, LEN, STORE_TAKE_MOST_BYTES);
    struct arrival again = pass(parts, LEN, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 256); /* some 2900 where it is looked for */
    free(parts);
    free(bytes);
}
END_TEST

struct followed {
    struct arrival arrival;
    uint64_t end;
};

static int arrive_and_follow(void *arg, struct slice piece)
{
    struct followed *f = arg;
    struct segment_id id = piece.chunk->segment;
    uint32_t off = piece.off, len = piece.len;
    int err = arrive(&f->arrival, piece);
    f->end = store_follow(far, f->end, &id, off, len);
    ck_assert_uint_ne(f->end, 0);
    return err;
}

static int count_new(void *arg, struct slice piece)
{
    uint64_t *new_bytes = arg;
    *new_bytes += piece.chunk->segment.epoch == FAR_EPOCH ? piece.len : 0;
    chunk_unref(piece.chunk);
    return 0;
}

/* The same from the other side: what came in another order is sent back. */
START_TEST(what_came_in_another_order_is_sent_back)
{
    enum { LEN = 1 << 20, LEAST = 300, MORE = 700 };
    uint8_t *bytes = corpus_new(), *parts = malloc(LEN);
    struct store_stream stream = {0}, back = {0};
    uint64_t new_bytes = 0;
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    for (uint32_t at = 0, part; at < LEN; at += part) {
        part = LEAST + roll(MORE);
        part = part < LEN - at ? part : LEN - at;
        memcpy(parts + at, bytes + roll(CORPUS - part), part);
    }
    struct followed f = {.arrival = {.expected = parts}};
    for (uint32_t at = 0; at < LEN; at += STORE_TAKE_MOST_BYTES)
        ck_assert_int_eq(store_take(near, &stream, parts + at, STORE_TAKE_MOST_BYTES, arrive_and_follow, &f),
                         0);
    for (uint32_t at = 0; at < LEN; at += STORE_TAKE_MOST_BYTES)
        ck_assert_int_eq(store_take(far, &back, parts + at, STORE_TAKE_MOST_BYTES, count_new, &new_bytes), 0);
    ck_assert_uint_lt(new_bytes, 4096); /* some 150000 if it is not followed */
    store_stream_end(near, &stream);
    store_stream_end(far, &back);
    free(parts);
    free(bytes);
}
END_TEST

START_TEST(a_short_message_uses_what_is_known_of_it)
{
    enum { LEN = 1500, KNOWN = 1000 };
    uint8_t *bytes = corpus_new(), message[LEN];
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    fill_letters(message, LEN);
    memcpy(message + 300, bytes, KNOWN);
    struct arrival a = pass(message, LEN, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_eq(a.literal_bytes, LEN - KNOWN);
    free(bytes);
}
END_TEST

/* Many streams at once, of random spans, edited copies of one another: all that matters is that it arrives.
 */
START_TEST(interleaved_streams_arrive_whole)
{
    enum { STREAMS = 12, LEN = 400000, ROUNDS = 30000 };
    struct {
        struct store_stream stream;
        struct arrival arrival;
        uint8_t *bytes;
        uint32_t at;
    } streams[STREAMS] = {0};
    uint8_t *bytes = corpus_new();
    uint64_t literal_bytes = 0, taken_bytes = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t i = roll(STREAMS);
        if (streams[i].bytes == NULL || streams[i].at == LEN || roll(400) == 0) {
            store_stream_end(near, &streams[i].stream);
            literal_bytes += streams[i].arrival.literal_bytes;
            free(streams[i].bytes);
            streams[i].bytes = malloc(LEN);
            memcpy(streams[i].bytes, bytes + roll(LEN), LEN);
            for (int edit = 0; edit < 20; edit++)
                fill_random(streams[i].bytes + roll(LEN - 100), roll(100));
            streams[i].at = 0;
            streams[i].arrival = (struct arrival){.expected = streams[i].bytes};
        }
        uint32_t span = 1 + roll(roll(3) == 0 ? 30000 : 2000);
        span = span < LEN - streams[i].at ? span : LEN - streams[i].at;
        ck_assert_int_eq(store_take(near, &streams[i].stream, streams[i].bytes + streams[i].at, span, arrive,
                                    &streams[i].arrival),
                         0);
        streams[i].at += span;
        taken_bytes += span;
        ck_assert_uint_eq(streams[i].arrival.at, streams[i].at);
        ck_assert_uint_eq(streams[i].arrival.not_filled, 0);
    }
    for (int i = 0; i < STREAMS; i++) {
        literal_bytes += streams[i].arrival.literal_bytes;
        store_stream_end(near, &streams[i].stream);
        free(streams[i].bytes);
    }
    ck_assert_uint_gt(taken_bytes, 40 << 20);
    ck_assert_uint_lt(literal_bytes, taken_bytes / 20);
    free(bytes);
}
END_TEST

/* What was received is known when it is sent back. */
START_TEST(what_was_filled_is_matched)
{
    uint8_t *bytes = corpus_new();
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    struct store *was_near = near;
    near = far; /* the far store takes now, and the near one is filled */
    far = was_near;
    struct arrival back = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(back.literal_bytes, 16384);
    far = near;
    near = was_near;
    free(bytes);
}
END_TEST

/* Of two copies the one is taken that the peer is likely to hold, whichever came first. */
static uint32_t part_most; /* of what is alike */
static unsigned strangers;

static uint32_t takes_some(void *arg, const struct segment_id *id, uint32_t source, uint32_t off,
                           uint32_t len, bool *takes)
{
    uint32_t alike = 1 + roll(part_most);
    (void)arg;
    strangers += source != NEAR || id->epoch != 77 || off >= CORPUS;
    *takes = roll(2) == 0;
    return alike < len ? alike : len;
}

/* What is no good in another node's segment is stored as ours, and matched there. _i: how it is cut up. */
static const uint32_t parts_most[] = {1, 30, 100, 1000, 100000};

START_TEST(what_nobody_takes_becomes_ours)
{
    static const struct segment_id id = {77, 1};
    uint32_t len = _i < 2 ? 4 * STORE_TAKE_MOST_BYTES : CORPUS;
    uint8_t *bytes = corpus_new();
    part_most = parts_most[_i];
    for (uint32_t off = 0; off < len; off += STORE_TAKE_MOST_BYTES) {
        struct slice out;
        ck_assert_int_eq(store_fill(near, NEAR, &id, off, bytes + off, STORE_TAKE_MOST_BYTES, &out), 0);
        chunk_unref(out.chunk);
    }
    struct store_counters before, after;
    for (unsigned turn = 0; turn < 4; turn++) {
        struct store_stream stream = {.takes = takes_some};
        struct arrival a = {.expected = bytes};
        store_read_counters(near, &before);
        for (uint32_t at = 0; at < len; at += STORE_TAKE_MOST_BYTES)
            ck_assert_int_eq(store_take(near, &stream, bytes + at, STORE_TAKE_MOST_BYTES, arrive, &a), 0);
        store_stream_end(near, &stream);
        store_read_counters(near, &after);
    }
    uint64_t appended = after.appended_bytes - before.appended_bytes;
    ck_assert_uint_lt(appended, len); /* less and less */
    ck_assert_uint_eq(strangers, 0);
    free(bytes);
}
END_TEST

START_TEST(what_a_third_node_filled_is_not_preferred)
{
    enum { PEER = 5, THIRD = 77, FILLED = 8192 };
    uint8_t *bytes = corpus_new();
    struct segment_id id = {.epoch = 0x77, .number = 1};
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    for (uint32_t at = 0; at < CORPUS; at += FILLED) {
        struct slice there;
        ck_assert_int_eq(
            store_fill(near, THIRD, &id, at, bytes + at, CORPUS - at < FILLED ? CORPUS - at : FILLED, &there),
            0);
        chunk_unref(there.chunk);
    }
    ck_assert_uint_lt(pass_to(PEER, bytes, CORPUS, STORE_TAKE_MOST_BYTES).literal_bytes, 16384);
    free(bytes);
}
END_TEST

/* Each session that overlaps another leaves a part of its own in the segment, and a segment takes so many.
 * _i: how many at once. */
static const unsigned at_once[] = {2, 40, 3000};

START_TEST(many_short_sessions_leave_room_for_long_ones)
{
    enum { SESSIONS = 12000, LEN = 800, MOST = 3000 };
    static struct store_stream streams[MOST];
    static uint8_t message[LEN];
    unsigned count = at_once[_i];
    memset(streams, 0, sizeof(streams));
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct store_stream *stream = &streams[i % count];
        store_stream_end(near, stream);
        fill_random(message, LEN);
        ck_assert_int_eq(store_take(near, stream, message, LEN, drop_piece, NULL), 0);
    }
    uint8_t *bytes = corpus_new();
    pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    struct arrival again = pass(bytes, CORPUS, STORE_TAKE_MOST_BYTES);
    ck_assert_uint_lt(again.literal_bytes, 8192);
    for (unsigned i = 0; i < count; i++)
        store_stream_end(near, &streams[i]);
    struct store_counters counters;
    store_read_counters(near, &counters);
    ck_assert_uint_eq(counters.refused_bytes, 0);
    ck_assert_uint_lt(counters.memory_bytes, 4 * (SESSIONS * LEN + CORPUS));
    free(bytes);
}
END_TEST

START_TEST(spans_out_of_bounds_are_refused)
{
    struct store_stream stream = {0};
    struct arrival a = {0};
    static const uint8_t bytes[1] = {0};
    ck_assert_int_eq(store_take(near, &stream, bytes, 0, arrive, &a), -EINVAL);
    ck_assert_int_eq(store_take(near, &stream, bytes, STORE_TAKE_MOST_BYTES + 1, arrive, &a), -EINVAL);
    ck_assert_uint_eq(a.pieces, 0);
    struct store *none = NULL;
    ck_assert_int_eq(store_new(&none, &memory, STORE_LEAST_BYTES - 1, 1, 1, NULL, NULL), -EINVAL);
    ck_assert_int_eq(store_new(&none, &memory, STORE_LEAST_BYTES, 1, 0, NULL, NULL), -EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

static int emit_one_then_fail(void *arg, struct slice piece)
{
    unsigned *emitted = arg;
    if ((*emitted)++ > 0)
        return EMIT_FAILED;
    chunk_unref(piece.chunk);
    return 0;
}

START_TEST(an_error_of_emit_ends_the_call_and_leaks_nothing)
{
    uint8_t *bytes = corpus_new();
    struct store_stream stream = {0};
    unsigned emitted = 0;
    pass(bytes, 60000, STORE_TAKE_MOST_BYTES);
    fill_random(bytes + 30000, 300);
    ck_assert_int_eq(store_take(near, &stream, bytes, 60000, emit_one_then_fail, &emitted), EMIT_FAILED);
    ck_assert_uint_eq(emitted, 2);
    store_stream_end(near, &stream);
    ck_assert_uint_lt(pass(bytes, 60000, STORE_TAKE_MOST_BYTES).pieces, 10);
    free(bytes);
}
END_TEST

/* ---- filling ---- */

static const struct segment_id theirs = {.epoch = 99, .number = 5};

static int fill(uint32_t source, uint32_t off, const void *bytes, uint32_t len)
{
    struct slice out;
    int err = store_fill(near, source, &theirs, off, bytes, len, &out);
    if (err == 0) {
        ck_assert_uint_eq(out.off, off);
        ck_assert_uint_eq(out.len, len);
        ck_assert_mem_eq(slice_bytes(&out), bytes, len);
        chunk_unref(out.chunk);
    }
    return err;
}

START_TEST(a_fill_is_found_where_it_was_put)
{
    struct slice out;
    ck_assert_int_eq(fill(3, 1000, "abcdef", 6), 0);
    ck_assert_int_eq(fill(3, 1006, "ghi", 3), 0);
    ck_assert_int_eq(fill(3, STORE_SEGMENT_BYTES - 2, "yz", 2), 0);
    ck_assert(store_resolve(near, &theirs, 1002, 5, &out));
    ck_assert_mem_eq(slice_bytes(&out), "cdefg", 5);
    chunk_unref(out.chunk);
    ck_assert(!store_resolve(near, &theirs, 1002, 8, &out));
    ck_assert(!store_resolve(near, &theirs, 999, 2, &out));
    ck_assert(!store_resolve(near, &theirs, 1002, 0, &out));
    ck_assert(!store_resolve(near, &theirs, STORE_SEGMENT_BYTES, 1, &out));
    ck_assert(!store_resolve(near, &theirs, STORE_SEGMENT_BYTES - 1, UINT32_MAX, &out));
    ck_assert(!store_resolve(near, &(struct segment_id){.epoch = 99, .number = 6}, 1002, 5, &out));
    ck_assert_int_eq(store_source(near, &theirs), 3);
    ck_assert_int_eq(store_source(near, &(struct segment_id){.epoch = 98, .number = 5}), -1);
    const struct intervals *filled = store_filled(near, &theirs);
    ck_assert_uint_eq(filled->count, 2);
    ck_assert(intervals_cover(filled, 1000, 1009));
    ck_assert_ptr_null(store_filled(near, &(struct segment_id){.epoch = 98, .number = 5}));
}
END_TEST

START_TEST(hostile_fills_are_refused_and_change_nothing)
{
    static uint8_t block[1000];
    struct slice out;
    ck_assert_int_eq(fill(3, 100, "abcdef", 6), 0);
    ck_assert_int_eq(fill(4, 106, "ghi", 3), -EPERM); /* another peer */
    ck_assert_int_eq(fill(0, 106, "ghi", 3), -EPERM); /* nobody */
    ck_assert_int_eq(fill(3, 99, "xaX", 3), -EEXIST); /* one byte differs */
    ck_assert_int_eq(fill(3, 105, "Xg", 2), -EEXIST);
    ck_assert_int_eq(fill(3, 0, block, sizeof(block)), -EEXIST);
    ck_assert_int_eq(fill(3, 100, "", 0), -EINVAL);
    ck_assert_int_eq(fill(3, STORE_SEGMENT_BYTES, "a", 1), -EINVAL);
    ck_assert_int_eq(fill(3, STORE_SEGMENT_BYTES - 1, "ab", 2), -EINVAL);
    ck_assert_int_eq(fill(3, 1, block, UINT32_MAX), -EINVAL);
    ck_assert_int_eq(fill(3, UINT32_MAX, block, 2), -EINVAL);
    ck_assert_int_eq(fill(3, 99, "xabcdefg", 8), 0); /* the same bytes, and more */
    ck_assert(intervals_cover(store_filled(near, &theirs), 99, 107));
    ck_assert_uint_eq(intervals_total(store_filled(near, &theirs)), 8);

    pass((const uint8_t *)"own bytes, which nobody may change", 34, 1000);
    struct segment_id own = {.epoch = NEAR_EPOCH, .number = 1};
    ck_assert_int_eq(store_source(near, &own), 0);
    ck_assert_int_eq(store_fill(near, 3, &own, 500, block, 10, &out), -EPERM);
    own.number = 77;
    ck_assert_int_eq(store_fill(near, 3, &own, 0, block, 10, &out), -EPERM);
    ck_assert_int_eq(store_fill(near, 3, &(struct segment_id){0}, 0, block, 10, &out), -EINVAL);
}
END_TEST

START_TEST(a_segment_in_too_many_parts_takes_no_more)
{
    int err = 0;
    uint32_t parts = 0;
    while (parts < 1000000 && (err = fill(3, parts * 2, "a", 1)) == 0)
        parts++;
    ck_assert_int_eq(err, -ENOBUFS);
    ck_assert_uint_ge(parts, 1024);
    ck_assert_uint_le(parts, 65536);
    ck_assert_int_eq(fill(3, 1, "b", 1), 0); /* what joins two parts still goes */
    ck_assert_int_eq(fill(3, parts * 2, "a", 1), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store");
    TCase *t;
    t = case_of(s, "take");
    tcase_add_test(t, what_comes_again_is_known);
    tcase_add_test(t, it_is_known_in_spans_of_any_size);
    tcase_add_test(t, a_sparse_search_still_finds_what_was_stored_sparsely);
    tcase_add_test(t, edits_cost_little);
    tcase_add_test(t, known_bytes_among_new_ones_leave_no_gaps);
    tcase_add_test(t, an_edited_page_is_known);
    tcase_add_test(t, parts_in_another_order_are_followed);
    tcase_add_test(t, what_came_in_another_order_is_sent_back);
    tcase_add_test(t, a_short_message_uses_what_is_known_of_it);
    tcase_add_test(t, interleaved_streams_arrive_whole);
    tcase_add_test(t, what_was_filled_is_matched);
    tcase_add_loop_test(t, what_nobody_takes_becomes_ours, 0, 5);
    tcase_add_test(t, what_a_third_node_filled_is_not_preferred);
    tcase_add_loop_test(t, many_short_sessions_leave_room_for_long_ones, 0, 3);
    tcase_add_test(t, spans_out_of_bounds_are_refused);
    tcase_add_test(t, an_error_of_emit_ends_the_call_and_leaks_nothing);
    t = case_of(s, "fill");
    tcase_add_test(t, a_fill_is_found_where_it_was_put);
    tcase_add_test(t, hostile_fills_are_refused_and_change_nothing);
    tcase_add_test(t, a_segment_in_too_many_parts_takes_no_more);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
