/* test_early.c - bytes behind a gap: once each, joined, in order, bounded; compared with an array. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/early.h"

enum { SPACE = 1 << 20, COST = 64, RUN_MAX = 5000 };

static uint8_t truth[SPACE];
static struct early_list list;

static void set_up(void)
{
    srandom(7);
    for (size_t i = 0; i < SPACE; i++)
        truth[i] = (uint8_t)random();
    memset(&list, 0, sizeof(list));
}

static void tear_down(void)
{
    early_clear(&list);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
    chunk_thread_end();
}

static struct early_piece copied(uint64_t offset, uint32_t len, uint32_t saves)
{
    struct early_piece p = {.slice = slice_copy(truth + offset, len), .saves = saves};
    ck_assert_ptr_nonnull(p.slice.chunk);
    return p;
}

static int keep(uint64_t offset, uint32_t len, uint32_t saves)
{
    struct early_piece p = copied(offset, len, saves);
    return early_keep(&list, offset, &p, 1);
}

/* A run of pieces, every second of them a reference, that ends at the space's end if it comes there. Its
 * length. */
static uint32_t keep_run(uint64_t offset, uint32_t size, uint32_t count, int *err)
{
    static struct early_piece run[RUN_MAX];
    uint64_t end = offset;
    uint32_t n = 0;
    for (; n < count && end + size <= SPACE; n++, end += size)
        run[n] = copied(end, size, n % 2 == 0 && size > COST ? size - COST : 0);
    uint32_t entries = list.count;
    *err = early_keep(&list, offset, run, n);
    ck_assert_uint_le(list.count, entries + 1);
    return (uint32_t)(end - offset);
}

/* What the list's last drain gave. */
static struct {
    unsigned pieces;
    uint64_t bytes, saved;
} drained;

/* Everything up to the next gap: right, in order and no byte twice. Returns where the gap begins. */
static uint64_t drain(uint64_t received)
{
    struct early_piece p;
    uint64_t offset, end = 0;
    memset(&drained, 0, sizeof(drained));
    while (early_take(&list, received, &offset, &p)) {
        ck_assert_uint_le(offset, received);
        ck_assert_uint_ge(offset, end);
        ck_assert_mem_eq(slice_bytes(&p.slice), truth + offset, p.slice.len);
        end = offset + p.slice.len;
        if (end > received)
            received = end;
        drained.pieces++;
        drained.bytes += p.slice.len;
        drained.saved += p.saves;
        chunk_unref(p.slice.chunk);
    }
    return received;
}

/* _i: the size of a piece. However small they are, they cost little more than their bytes. */
START_TEST(pieces_behind_a_gap_cost_their_bytes)
{
    static const uint32_t sizes[] = {1, 7, 512, 513, 1350, 8191, 8192, 16000};
    uint32_t size = sizes[_i];
    uint64_t at = 1;
    for (; at + size <= SPACE; at += size) {
        ck_assert_int_eq(keep(at, size, 0), 0);
        ck_assert_uint_eq(list.bytes, at + size - 1);
        ck_assert_uint_le(chunk_bytes_total(), 3 * list.bytes + 8192);
    }
    ck_assert_uint_eq(list.count, 1);
    ck_assert_uint_eq(early_first(&list), 1);
    ck_assert_uint_eq(drain(0), 0);
    ck_assert_uint_eq(drain(1), at);
    ck_assert_uint_le(drained.pieces,
                      size < EARLY_SMALL_BYTES ? 2 * SPACE / EARLY_JOINED_BYTES : SPACE / size + 1);
    ck_assert_uint_eq(list.bytes, 0);
    ck_assert_ptr_null(list.list);
    ck_assert_uint_eq(early_first(&list), UINT64_MAX);
}
END_TEST

START_TEST(pieces_with_gaps_between_them_are_bounded)
{
    for (uint64_t i = 0; i < EARLY_MAX; i++)
        ck_assert_int_eq(keep(1 + 2 * i, 1, 0), 0);
    ck_assert_int_eq(keep(1 + 2 * EARLY_MAX, 1, 0), -ENOMEM);
    ck_assert_uint_eq(list.bytes, EARLY_MAX);
    ck_assert_int_eq(keep(2 * EARLY_MAX, 1, 0), 0); /* it joins the last one */
    ck_assert_int_eq(keep(3, 1, 0), 0);             /* it is held */
    ck_assert_uint_eq(list.count, EARLY_MAX);
    ck_assert_uint_eq(drain(1), 2);
    ck_assert_int_eq(keep(2 * EARLY_MAX + 2, 1, 0), 0); /* the place of the first one */
    ck_assert_uint_eq(list.bytes, EARLY_MAX + 1);
}
END_TEST

/* What has no place is given back; what fills gaps needs none. */
START_TEST(a_run_that_finds_no_place_is_given_back)
{
    int err;
    for (uint64_t i = 0; i < EARLY_MAX; i++)
        ck_assert_int_eq(keep(1000 + 3 * i, 2, 0), 0);
    uint64_t memory = chunk_bytes_total();
    keep_run(900, 200, 2, &err); /* before the first one */
    ck_assert_int_eq(err, -ENOMEM);
    keep_run(1000 + 3 * EARLY_MAX, 200, 50, &err); /* behind the last one */
    ck_assert_int_eq(err, -ENOMEM);
    ck_assert_uint_eq(chunk_bytes_total(), memory);
    ck_assert_uint_eq(list.bytes, 2 * EARLY_MAX);
    keep_run(1000, 200, 10, &err);
    ck_assert_int_eq(err, 0);
    ck_assert_uint_eq(list.count, EARLY_MAX);
    ck_assert_uint_eq(drain(1000), 3000);
    keep_run(900, 200, 2, &err); /* now there are places */
    ck_assert_int_eq(err, 0);
    ck_assert_uint_eq(drain(900), 1300);
}
END_TEST

START_TEST(savings_are_told_apart)
{
    ck_assert_int_eq(keep(10, 100, 36), 0);
    ck_assert_int_eq(keep(110, 100, 0), 0);
    ck_assert_int_eq(keep(210, 100, 0), 0);
    ck_assert_int_eq(keep(310, 100, 40), 0);
    ck_assert_uint_eq(list.count, 1);
    ck_assert_uint_eq(list.bytes, 400);
    ck_assert_uint_eq(list.saved, 76);
    ck_assert_uint_eq(drain(10), 410);
    ck_assert_uint_eq(drained.pieces, 3);
    ck_assert_uint_eq(drained.saved, 76);
    ck_assert_uint_eq(list.saved, 0);
}
END_TEST

START_TEST(a_run_is_one_entry)
{
    int err;
    uint32_t len = keep_run(5, 200, RUN_MAX, &err);
    ck_assert_int_eq(err, 0);
    ck_assert_uint_eq(len, RUN_MAX * 200);
    ck_assert_uint_eq(list.count, 1);
    ck_assert_uint_eq(list.bytes, len);
    ck_assert_uint_eq(list.saved, RUN_MAX / 2 * (200 - COST));
    keep_run(5, 200, RUN_MAX, &err); /* once more */
    ck_assert_int_eq(err, 0);
    ck_assert_uint_eq(list.bytes, len);
    ck_assert_uint_eq(drain(4), 4);
    ck_assert_uint_eq(drain(5), 5 + len);
    ck_assert_uint_eq(drained.pieces, RUN_MAX);
    ck_assert_ptr_null(list.list);
}
END_TEST

/* Both parts of a piece are slices of its chunk, and each costs what it cost. */
START_TEST(a_piece_is_clipped_around_what_is_held)
{
    struct early_piece run[] = {copied(100, 1000, 0), copied(1100, 1000, 1000 - COST), copied(2100, 1000, 0)};
    struct chunk *middle = chunk_ref(run[1].slice.chunk);
    middle->segment.epoch = 1;
    ck_assert_int_eq(keep(1400, 550, 0), 0);
    ck_assert_int_eq(early_keep(&list, 100, run, 3), 0);
    ck_assert_uint_eq(atomic_load(&middle->refs), 3); /* two parts, and this one */
    ck_assert_uint_eq(list.count, 2);
    ck_assert_uint_eq(list.bytes, 3000);
    ck_assert_uint_eq(list.saved, 1000 - COST - 550 - COST);
    chunk_unref(middle);
    ck_assert_uint_eq(drain(100), 3100);
    ck_assert_uint_eq(drained.saved, 1000 - COST - 550 - COST);
}
END_TEST

START_TEST(a_part_too_short_to_save_is_no_reference_any_more)
{
    ck_assert_int_eq(keep(100, 1000, 0), 0);
    struct early_piece p = copied(100 + COST, 1000, 1000 - COST); /* of it, the last COST bytes are new */
    p.slice.chunk->segment.epoch = 1;
    ck_assert_int_eq(early_keep(&list, 100 + COST, &p, 1), 0);
    ck_assert_uint_eq(list.bytes, 1000 + COST);
    ck_assert_uint_eq(list.saved, 0);
    ck_assert_uint_eq(drain(100), 1100 + COST);
    ck_assert_uint_eq(drained.pieces, 1);
}
END_TEST

START_TEST(repeats_hold_no_more_than_the_span)
{
    for (uint64_t i = 1; i <= 3000; i++) {
        ck_assert_int_eq(keep(i, 60000, i % 5 == 0 ? 60000 - COST : 0), 0);
        ck_assert_uint_eq(list.bytes, 60000 + i - 1);
        ck_assert_uint_le(chunk_bytes_total(), 3 * list.bytes);
    }
    ck_assert_uint_eq(list.count, 1);
    ck_assert_uint_eq(drain(1), 63000);
    ck_assert_uint_eq(drained.bytes, 62999);
}
END_TEST

START_TEST(a_small_slice_does_not_pin_a_large_chunk)
{
    struct chunk *c = chunk_new(CHUNK_STANDARD_BYTES);
    memcpy(c->bytes, truth, CHUNK_STANDARD_BYTES);
    struct early_piece run[] = {{.slice = {.chunk = chunk_ref(c), .off = 100, .len = 32767}},
                                {.slice = {.chunk = chunk_ref(c), .off = 32867, .len = 32669}}};
    ck_assert_int_eq(early_keep(&list, 100, run, 2), 0);
    ck_assert_uint_eq(atomic_load(&c->refs), 1);
    ck_assert_uint_eq(drain(100), CHUNK_STANDARD_BYTES);

    struct early_piece half = {.slice = {.chunk = chunk_ref(c), .off = 100, .len = 32768}};
    ck_assert_int_eq(early_keep(&list, 100, &half, 1), 0);
    ck_assert_uint_eq(atomic_load(&c->refs), 2);
    early_clear(&list);

    c->segment.epoch = 1; /* a segment's bytes are the store's: they are held as they are */
    struct early_piece reference = {.slice = {.chunk = chunk_ref(c), .off = 100, .len = 500},
                                    .saves = 500 - COST};
    ck_assert_int_eq(early_keep(&list, 100, &reference, 1), 0);
    ck_assert_uint_eq(atomic_load(&c->refs), 2);
    early_clear(&list);
    ck_assert_uint_eq(atomic_load(&c->refs), 1);
    c->segment.epoch = 0;
    chunk_unref(c);
}
END_TEST

/* What others hold too is never written to. */
START_TEST(a_shared_chunk_is_left_alone)
{
    struct chunk *c = chunk_new(CHUNK_STANDARD_BYTES);
    memcpy(c->bytes, truth, CHUNK_STANDARD_BYTES);
    memset(c->bytes + 40100, 0, 1000);
    struct early_piece large = {.slice = {.chunk = chunk_ref(c), .off = 100, .len = 40000}};
    struct early_piece small = {.slice = {.chunk = chunk_ref(c), .off = 50000, .len = 100}};
    ck_assert_int_eq(early_keep(&list, 100, &large, 1), 0);
    ck_assert_int_eq(keep(40100, 50, 0), 0);
    ck_assert_int_eq(early_keep(&list, 50000, &small, 1), 0);
    ck_assert_int_eq(keep(50100, 50, 0), 0);
    ck_assert_uint_eq(list.count, 2);
    for (size_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(c->bytes[40100 + i], 0);
    ck_assert_mem_eq(c->bytes + 50000, truth + 50000, CHUNK_STANDARD_BYTES - 50000);
    ck_assert_uint_eq(drain(100), 40150);
    ck_assert_uint_eq(drained.pieces, 2); /* the large one is as it was */
    ck_assert_uint_eq(drain(50000), 50150);
    ck_assert_uint_eq(drained.pieces, 1); /* the small one was copied */
    chunk_unref(c);
}
END_TEST

static uint64_t held_between(const bool *held, uint64_t from, uint64_t to)
{
    uint64_t n = 0;
    for (; from < to; from++)
        n += held[from];
    return n;
}

/* Any order, any overlap: nothing is lost, nothing is wrong, nothing is held twice. */
START_TEST(agrees_with_an_array)
{
    static bool held[SPACE];
    uint64_t received = 0, far = 0;
    srandom((unsigned)_i);
    memset(held, 0, sizeof(held));
    while (received < SPACE / 4) {
        uint64_t reach = received + 1 + (uint64_t)random() % 20000;
        uint32_t size = 1 + (uint32_t)random() % (random() % 4 == 0 ? 20000 : 300);
        for (unsigned runs = 1 + (unsigned)random() % 5; runs > 0; runs--) {
            int err;
            uint32_t len = keep_run(reach, size, 1 + (uint32_t)random() % 10, &err);
            ck_assert_int_eq(err, 0);
            memset(held + reach, 1, len);
            far = reach + len > far ? reach + len : far;
            reach += random() % 3 == 0 ? (uint64_t)random() % len : len; /* some come a second time */
        }
        ck_assert_uint_eq(list.bytes, held_between(held, received, far));
        ck_assert_uint_le(list.bytes, far - early_first(&list));
        ck_assert_uint_le(list.saved, list.bytes);
        if (random() % 3 == 0) { /* the gap is filled, and some of what is behind it */
            memset(held + received, 1, 1000);
            received = drain(received + 1000);
        }
        uint64_t end = received;
        while (end < SPACE && held[end])
            end++;
        received = drain(received);
        ck_assert_uint_eq(received, end);
    }
    early_clear(&list);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("early");
    TCase *t = tcase_create("early");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, pieces_behind_a_gap_cost_their_bytes, 0, 8);
    tcase_add_test(t, pieces_with_gaps_between_them_are_bounded);
    tcase_add_test(t, a_run_that_finds_no_place_is_given_back);
    tcase_add_test(t, savings_are_told_apart);
    tcase_add_test(t, a_run_is_one_entry);
    tcase_add_test(t, a_piece_is_clipped_around_what_is_held);
    tcase_add_test(t, a_part_too_short_to_save_is_no_reference_any_more);
    tcase_add_test(t, repeats_hold_no_more_than_the_span);
    tcase_add_test(t, a_small_slice_does_not_pin_a_large_chunk);
    tcase_add_test(t, a_shared_chunk_is_left_alone);
    tcase_add_loop_test(t, agrees_with_an_array, 0, 10);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
