/* test_chunk.c - references across threads, and queues of slices against a plain byte array. */
#include "hawser/chunk.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, REFS_EACH = 20000, MODEL_BYTES = 1 << 20 };

static unsigned rolls = 12345;

static unsigned roll(unsigned below)
{
    rolls = rolls * 1103515245 + 12345;
    return (rolls >> 8) % below;
}

static void give_back_spares(void)
{
    chunk_thread_end();
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

START_TEST(a_chunk_is_counted_until_its_last_reference_goes)
{
    struct chunk *standard = chunk_new(CHUNK_STANDARD_BYTES), *odd = chunk_new(100);
    ck_assert_ptr_nonnull(standard);
    ck_assert_ptr_nonnull(odd);
    ck_assert_uint_ge(standard->cap, CHUNK_STANDARD_BYTES);
    ck_assert_uint_ge(odd->cap, 100);
    uint64_t both = chunk_bytes_total();
    ck_assert_uint_ge(both, CHUNK_STANDARD_BYTES + 100);
    ck_assert_ptr_eq(chunk_ref(odd), odd);
    chunk_unref(odd);
    ck_assert_uint_eq(chunk_bytes_total(), both);
    chunk_unref(odd);
    ck_assert_uint_lt(chunk_bytes_total(), both);
    chunk_unref(standard);
    chunk_unref(NULL);
}
END_TEST

START_TEST(a_spare_chunk_is_used_again_and_is_not_counted)
{
    struct chunk *first = chunk_new(CHUNK_STANDARD_BYTES);
    chunk_unref(first);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
    struct chunk *second = chunk_new(CHUNK_STANDARD_BYTES);
    ck_assert_ptr_eq(first, second);
    ck_assert_uint_eq(atomic_load(&second->refs), 1);
    chunk_unref(second);
}
END_TEST

static void *take_and_drop(void *arg)
{
    struct chunk *c = arg;
    for (int i = 0; i < REFS_EACH; i++) {
        struct chunk *mine = chunk_ref(c);
        ck_assert_uint_eq(mine->bytes[i % 100], (uint8_t)(i % 100));
        chunk_unref(mine);
    }
    chunk_unref(c); /* the reference this thread was given */
    chunk_thread_end();
    return NULL;
}

/* Whichever thread drops the last reference frees it: the sanitizers see a lost or a second one. */
START_TEST(threads_share_a_chunk)
{
    for (int round = 0; round < 10; round++) {
        pthread_t threads[THREADS];
        struct chunk *c = chunk_new(round % 2 == 0 ? CHUNK_STANDARD_BYTES : 1000);
        for (int i = 0; i < 100; i++)
            c->bytes[i] = (uint8_t)i;
        for (int i = 0; i < THREADS; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, take_and_drop, chunk_ref(c)), 0);
        chunk_unref(c);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        ck_assert_uint_eq(chunk_bytes_total(), 0);
    }
}
END_TEST

START_TEST(a_mapped_chunk_is_aligned_zero_and_not_counted)
{
    enum { CAP = 4 << 20 };
    struct chunk *c = chunk_new_mapped(CAP);
    ck_assert_ptr_nonnull(c);
    ck_assert_uint_eq((uintptr_t)c->bytes % (2 << 20), 0);
    ck_assert_uint_eq(c->cap, CAP);
    ck_assert(!chunk_is_segment(c));
    for (size_t i = 0; i < CAP; i += 4096)
        ck_assert_uint_eq(c->bytes[i], 0);
    memset(c->bytes, 7, CAP); /* all of it may be written */
    ck_assert_uint_eq(chunk_bytes_total(), 0);
    ck_assert_ptr_eq(chunk_ref(c), c);
    chunk_unref(c);
    ck_assert_uint_eq(c->bytes[CAP - 1], 7);
    chunk_unref(c);
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}
END_TEST

START_TEST(a_copy_holds_its_own_bytes)
{
    char text[] = "hawser";
    struct slice s = slice_copy(text, sizeof(text));
    text[0] = 'x';
    ck_assert_uint_eq(s.len, sizeof(text));
    ck_assert_str_eq((const char *)slice_bytes(&s), "hawser");
    chunk_unref(s.chunk);
}
END_TEST

START_TEST(an_empty_queue_holds_no_memory)
{
    struct slices q = {0};
    ck_assert_int_eq(slices_push(&q, slice_copy("ab", 2)), 0);
    ck_assert_uint_eq(q.bytes, 2);
    slices_drop(&q, 0);
    ck_assert_uint_eq(q.count, 1);
    slices_drop(&q, 2);
    ck_assert_ptr_null(q.ring);
    ck_assert_uint_eq(q.count + q.cap + q.bytes, 0);
    slices_clear(&q);
    ck_assert_int_eq(slices_push(&q, slice_copy("cd", 2)), 0);
    struct slice s = slices_pop(&q);
    ck_assert_mem_eq(slice_bytes(&s), "cd", 2);
    ck_assert_ptr_null(q.ring);
    chunk_unref(s.chunk);
}
END_TEST

START_TEST(a_drop_inside_a_slice_keeps_its_rest)
{
    struct slices q = {0};
    ck_assert_int_eq(slices_push(&q, slice_copy("abcdef", 6)), 0);
    struct chunk *shared = slices_at(&q, 0)->chunk;
    slices_drop(&q, 2);
    ck_assert_uint_eq(q.bytes, 4);
    ck_assert_uint_eq(q.count, 1);
    ck_assert_mem_eq(slice_bytes(slices_at(&q, 0)), "cdef", 4);
    ck_assert_uint_eq(atomic_load(&shared->refs), 1);
    slices_clear(&q);
}
END_TEST

START_TEST(a_slice_of_no_bytes_leaves_with_clear)
{
    struct slices q = {0};
    ck_assert_int_eq(slices_push(&q, slice_copy("", 0)), 0);
    ck_assert_int_eq(slices_push(&q, slice_copy("a", 1)), 0);
    ck_assert_int_eq(slices_push(&q, slice_copy("", 0)), 0);
    slices_clear(&q);
    ck_assert_uint_eq(q.count, 0);
    ck_assert_uint_eq(q.bytes, 0);
}
END_TEST

START_TEST(vectors_stop_at_either_limit)
{
    struct slices q = {0};
    struct iovec iov[4];
    ck_assert_int_eq(slices_iov(&q, iov, 4, 100), 0);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(slices_push(&q, slice_copy("0123456789", 10)), 0);
    ck_assert_int_eq(slices_iov(&q, iov, 4, SIZE_MAX), 4);
    ck_assert_int_eq(slices_iov(&q, iov, 4, 25), 3);
    ck_assert_uint_eq(iov[0].iov_len, 10);
    ck_assert_uint_eq(iov[2].iov_len, 5);
    ck_assert_int_eq(slices_iov(&q, iov, 4, 20), 2);
    ck_assert_int_eq(slices_iov(&q, iov, 4, 0), 0);
    slices_clear(&q);
}
END_TEST

/* Pushes, drops and pops of random sizes; the queue must always show the model's bytes [from, to). */
START_TEST(a_queue_agrees_with_an_array)
{
    static uint8_t model[MODEL_BYTES];
    struct slices q = {0};
    size_t from = 0, to = 0;
    uint32_t most = 0;
    for (size_t i = 0; i < MODEL_BYTES; i++)
        model[i] = (uint8_t)roll(256);
    while (to < MODEL_BYTES) {
        unsigned what = roll(10);
        if (what < 6) {
            size_t len = 1 + roll(1500);
            if (len > MODEL_BYTES - to)
                len = MODEL_BYTES - to;
            ck_assert_int_eq(slices_push(&q, slice_copy(model + to, len)), 0);
            to += len;
        } else if (what < 9 && q.bytes > 0) {
            uint64_t n = roll((unsigned)(q.bytes < 9000 ? q.bytes + 1 : 9000));
            slices_drop(&q, n);
            from += n;
        } else if (q.count > 0) {
            struct slice s = slices_pop(&q);
            ck_assert_mem_eq(slice_bytes(&s), model + from, s.len);
            from += s.len;
            chunk_unref(s.chunk);
        }
        most = q.count > most ? q.count : most;
        ck_assert_uint_eq(q.bytes, to - from);
        size_t at = from;
        for (uint32_t i = 0; i < q.count; i++) {
            const struct slice *s = slices_at(&q, i);
            ck_assert_mem_eq(slice_bytes(s), model + at, s->len);
            at += s->len;
        }
        ck_assert_uint_eq(at, to);
    }
    ck_assert_uint_gt(most, 8); /* the ring has grown more than once */
    slices_clear(&q);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chunk");
    TCase *t = tcase_create("chunk");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, NULL, give_back_spares);
    tcase_add_test(t, a_chunk_is_counted_until_its_last_reference_goes);
    tcase_add_test(t, a_spare_chunk_is_used_again_and_is_not_counted);
    tcase_add_test(t, threads_share_a_chunk);
    tcase_add_test(t, a_mapped_chunk_is_aligned_zero_and_not_counted);
    tcase_add_test(t, a_copy_holds_its_own_bytes);
    tcase_add_test(t, an_empty_queue_holds_no_memory);
    tcase_add_test(t, a_drop_inside_a_slice_keeps_its_rest);
    tcase_add_test(t, a_slice_of_no_bytes_leaves_with_clear);
    tcase_add_test(t, vectors_stop_at_either_limit);
    tcase_add_test(t, a_queue_agrees_with_an_array);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
