/* test_shelving.c - the thread between stores and their folder: homes on threads of their own write, end, and
 * find everything again, whatever their number is then; and what was evicted comes back when it is met. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/remember.h"
#include "hawser/shelving.h"
#include "hawser/store.h"

enum {
    HANG_US = 60000000,
    HOMES = 3,
    MB = 1 << 20,
    LEN = 3 * MB,
    PATH = 300,
    PATH_MOST = PATH + 300,
    PEER = 9,
    SEED = 5,
    WAITING_MOST = 64 * MB
};

static char folder[PATH];
static uint8_t pin[SHELF_PIN_BYTES] = "the pin of this node, 32 bytes.";
static struct budget memory;
static struct shelving *shelving;
static uint64_t next_epoch;
static uint8_t own[HOMES][LEN], theirs[LEN];

/* A home as a worker has it. */
static struct home {
    struct leg_host host;
    pthread_t thread;
    bool running;
} homes[HOMES];
static unsigned home_count;

#define until(condition)                                                                                     \
    do {                                                                                                     \
        uint64_t began_us = clock_now_us();                                                                  \
        while (!(condition)) {                                                                               \
            ck_assert_msg(clock_now_us() - began_us < HANG_US, "hangs: " #condition);                        \
            sched_yield();                                                                                   \
        }                                                                                                    \
    } while (0)

static void *run(void *arg)
{
    struct home *h = arg;
    loop_run(h->host.loop);
    chunk_thread_end();
    return NULL;
}

static uint64_t now_us(void *owner)
{
    (void)owner;
    return clock_now_us();
}

static const struct store_events events = {.now_us = now_us};

/* The disk, in libc's stead: it may stand still. */
static _Atomic bool disk_stands, disk_is_full;

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    while (atomic_load(&disk_stands))
        sched_yield();
    if (atomic_load(&disk_is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwritev, fd, iov, count, (long)at, 0L);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (!atomic_load(&disk_is_full))
        return syscall(SYS_writev, fd, iov, count);
    errno = ENOSPC;
    return -1;
}

/* The clock, too: it may be ahead. */
static _Atomic long ahead_s;

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int err = (int)syscall(SYS_clock_gettime, clock, out);
    out->tv_sec += atomic_load(&ahead_s);
    return err;
}

/* Homes and their stores; nothing runs yet. */
static void make_homes(unsigned count, uint64_t store_bytes)
{
    ck_assert_int_eq(shelving_new(&shelving, folder, 256 * MB, WAITING_MOST, SEED, pin), 0);
    home_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct home *h = &homes[i];
        memset(h, 0, sizeof(*h));
        TAILQ_INIT(&h->host.muxes);
        ck_assert_int_eq(loop_new(&h->host.loop), 0);
        ck_assert_int_eq(store_new(&h->host.store, &memory, store_bytes, SEED, next_epoch++, &events, NULL),
                         0);
        store_collect_begin(h->host.store);
        ck_assert_int_eq(shelving_add_home(shelving, &h->host), 0);
    }
    ck_assert_int_eq(shelving_set_home(shelving, PEER, &homes[count - 1].host), 0);
}

static void start_homes(void)
{
    for (unsigned i = 0; i < home_count; i++) {
        ck_assert_int_eq(pthread_create(&homes[i].thread, NULL, run, &homes[i]), 0);
        homes[i].running = true;
    }
    shelving_begin(shelving);
}

static void stop_threads(void)
{
    for (unsigned i = 0; i < home_count; i++) {
        if (!homes[i].running)
            continue;
        loop_stop(homes[i].host.loop);
        pthread_join(homes[i].thread, NULL);
        homes[i].running = false;
    }
    shelving_stop(shelving);
}

static void free_homes(void)
{
    stop_threads();
    for (unsigned i = 0; i < home_count; i++) {
        loop_free(homes[i].host.loop);
        store_free(homes[i].host.store);
    }
    shelving_free(shelving);
    shelving = NULL;
    ck_assert_uint_eq(budget_used(&memory), 0);
}

static void set_up(void)
{
    uint64_t word = 88172645463325252ULL;
    log_set_level(LOG_LEVEL_ERROR);
    budget_init(&memory, 1 << 30);
    next_epoch = 100;
    for (size_t i = 0; i < sizeof(own) + sizeof(theirs); i++) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        *(i < sizeof(own) ? &own[0][0] + i : theirs + (i - sizeof(own))) = (uint8_t)(word >> 24);
    }
    snprintf(folder, sizeof(folder), "%s/shelving-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[PATH_MOST];
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            ck_assert_int_eq(unlink(path), 0);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(folder);
    chunk_thread_end();
}

static struct shelf_counters counters(void)
{
    struct shelf_counters c;
    shelving_read_counters(shelving, &c);
    return c;
}

static int drop(void *arg, struct slice piece)
{
    (void)arg;
    chunk_unref(piece.chunk);
    return 0;
}

/* Work for a home's thread, and what it found. */
struct errand {
    struct mail mail;
    struct home *home;
    struct store_counters *counters;
    _Atomic bool *done;
};

static void look_at_store(struct mail *m)
{
    struct errand *e = (struct errand *)(void *)m;
    _Atomic bool *done = e->done;
    store_read_counters(e->home->host.store, e->counters);
    free(e);
    atomic_store(done, true);
}

static void send_errand(struct home *h, void (*deliver)(struct mail *m), struct store_counters *counters_out)
{
    _Atomic bool done = false;
    struct errand *e = calloc(1, sizeof(*e));
    *e = (struct errand){.mail.deliver = deliver, .home = h, .counters = counters_out, .done = &done};
    loop_post(h->host.loop, &e->mail);
    until(atomic_load(&done));
}

/* Bytes in all homes' stores. */
static uint64_t held(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < home_count; i++) {
        struct store_counters c;
        send_errand(&homes[i], look_at_store, &c);
        sum += c.segment_bytes;
    }
    return sum;
}

static void take_own(struct home *h)
{
    struct store_stream stream = {0};
    const uint8_t *bytes = own[h - homes];
    for (uint32_t at = 0; at < LEN; at += STORE_TAKE_MOST_BYTES)
        ck_assert_int_eq(store_take(h->host.store, &stream, bytes + at, STORE_TAKE_MOST_BYTES, drop, NULL),
                         0);
    store_stream_end(h->host.store, &stream);
}

static void fill_theirs(struct home *h)
{
    static const struct segment_id id = {.epoch = 77, .number = 1};
    struct slice out;
    ck_assert_int_eq(store_fill(h->host.store, PEER, &id, MB, theirs, LEN, &out), 0);
    chunk_unref(out.chunk);
}

static void take_errand(struct mail *m)
{
    struct errand *e = (struct errand *)(void *)m;
    _Atomic bool *done = e->done;
    take_own(e->home);
    if (e->home == &homes[home_count - 1])
        fill_theirs(e->home);
    free(e);
    atomic_store(done, true);
}

static void fill_stores(void)
{
    for (unsigned i = 0; i < home_count; i++)
        send_errand(&homes[i], take_errand, NULL);
}

/* How many bytes of it the store takes for known. The homes' threads have ended. */
static uint64_t known(unsigned home, const uint8_t *bytes)
{
    struct store_stream stream = {0};
    struct store_counters before, after;
    store_read_counters(homes[home].host.store, &before);
    for (uint32_t at = 0; at < LEN; at += STORE_TAKE_MOST_BYTES)
        ck_assert_int_eq(
            store_take(homes[home].host.store, &stream, bytes + at, STORE_TAKE_MOST_BYTES, drop, NULL), 0);
    store_read_counters(homes[home].host.store, &after);
    return after.matched_bytes - before.matched_bytes;
}

enum { NEARLY = LEN - 65536, ALL = HOMES * LEN + LEN };

START_TEST(what_is_new_is_written_while_the_homes_run)
{
    make_homes(HOMES, 256 * MB);
    start_homes();
    fill_stores();
    until(counters().written_bytes == ALL);
    ck_assert_uint_eq(counters().segments, HOMES + 1);
    free_homes();
    make_homes(HOMES, 256 * MB);
    start_homes();
    until(held() == ALL);
    ck_assert_uint_eq(counters().read_bytes, ALL);
    stop_threads();
    for (unsigned i = 0; i < HOMES; i++) {
        ck_assert_uint_gt(known(i, own[i]), NEARLY);
        ck_assert_uint_eq(known(i, own[(i + 1) % HOMES]), 0);
    }
    static const struct segment_id id = {.epoch = 77, .number = 1};
    struct slice out;
    ck_assert_int_eq(store_source(homes[HOMES - 1].host.store, &id), PEER);
    ck_assert(store_resolve(homes[HOMES - 1].host.store, &id, MB, LEN, &out));
    ck_assert_mem_eq(slice_bytes(&out), theirs, LEN);
    chunk_unref(out.chunk);
    free_homes();
}
END_TEST

START_TEST(an_orderly_end_writes_what_is_left)
{
    make_homes(2, 256 * MB);
    start_homes();
    fill_stores();
    free_homes();
    make_homes(1, 256 * MB); /* fewer homes: all comes to the one that is left */
    start_homes();
    until(held() == 3 * LEN);
    stop_threads();
    ck_assert_uint_gt(known(0, own[0]), NEARLY);
    ck_assert_uint_gt(known(0, own[1]), NEARLY);
    ck_assert_uint_gt(known(0, theirs), NEARLY);
    free_homes();
}
END_TEST

START_TEST(reading_ends_where_memory_does)
{
    make_homes(1, 256 * MB);
    start_homes();
    uint64_t big = 0;
    for (unsigned i = 0; i < 40; i++) { /* more than the small store below takes */
        for (size_t at = 0; at < LEN; at++)
            own[0][at] = (uint8_t)(own[0][at] * 5 + at + i);
        send_errand(&homes[0], take_errand, NULL);
        big += LEN;
    }
    until(counters().written_bytes > big / 2);
    free_homes();
    make_homes(1, STORE_LEAST_BYTES);
    start_homes();
    until(held() > STORE_LEAST_BYTES / 2);
    stop_threads();
    struct store_counters c;
    store_read_counters(homes[0].host.store, &c);
    ck_assert_uint_eq(c.evicted_segments, 0);
    ck_assert_uint_lt(counters().read_bytes, STORE_LEAST_BYTES + 3 * STORE_SEGMENT_BYTES);
    free_homes();
}
END_TEST

/* ---- what is on disk only ---- */

enum { COLD = 12 * MB, FLOOD = 96 * MB };

static uint8_t cold[COLD];
static uint32_t part_len;

static void take_bytes(struct home *h, const uint8_t *bytes, uint32_t len)
{
    struct store_stream stream = {0};
    for (uint32_t at = 0; at < len; at += STORE_TAKE_MOST_BYTES)
        ck_assert_int_eq(store_take(h->host.store, &stream, bytes + at, STORE_TAKE_MOST_BYTES, drop, NULL),
                         0);
    store_stream_end(h->host.store, &stream);
}

static void take_cold(struct mail *m)
{
    struct errand *e = (struct errand *)(void *)m;
    _Atomic bool *done = e->done;
    take_bytes(e->home, cold, part_len);
    store_read_counters(e->home->host.store, e->counters);
    free(e);
    atomic_store(done, true);
}

static void take_flood(struct mail *m)
{
    struct errand *e = (struct errand *)(void *)m;
    _Atomic bool *done = e->done;
    static uint8_t others[MB];
    for (uint32_t at = 0; at < FLOOD; at += MB) {
        for (uint32_t i = 0; i < MB; i++)
            others[i] = (uint8_t)((i * 2654435761u >> 13) ^ cold[i] ^ (at >> 20));
        for (uint32_t i = 0; i < MB; i += 8)
            others[i] = (uint8_t)(at >> 20);
        take_bytes(e->home, others, MB);
    }
    store_read_counters(e->home->host.store, e->counters);
    free(e);
    atomic_store(done, true);
}

static struct store_counters take_part(uint32_t len)
{
    struct store_counters c;
    part_len = len;
    send_errand(&homes[0], take_cold, &c);
    return c;
}

static struct store_counters now_of_store(void)
{
    struct store_counters c;
    send_errand(&homes[0], look_at_store, &c);
    return c;
}

/* Memory of segments that somebody refers to. */
static void add_if_pinned(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                          const struct intervals *filled)
{
    struct store_counters *c = arg;
    (void)id;
    (void)source;
    if (atomic_load(&chunk->refs) > 1)
        c->memory_bytes += intervals_total(filled);
}

static void count_pinned(struct mail *m)
{
    struct errand *e = (struct errand *)(void *)m;
    _Atomic bool *done = e->done;
    e->counters->memory_bytes = 0;
    store_each(e->home->host.store, add_if_pinned, e->counters);
    free(e);
    atomic_store(done, true);
}

static uint64_t pinned_bytes(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < home_count; i++) {
        struct store_counters c;
        send_errand(&homes[i], count_pinned, &c);
        sum += c.memory_bytes;
    }
    return sum;
}

/* Everything that is still there to be written: nothing is pinned then. */
static void wait_written(void)
{
    enum { TOO_SHORT = 4096 };
    struct store_counters c = now_of_store();
    until(counters().written_bytes + c.uncollected_bytes + TOO_SHORT >= c.appended_bytes);
    until(pinned_bytes() == 0);
}

/* The beginning of what was pushed out starts reads; all of it is known then, but for that beginning. */
static void meet_again(void)
{
    wait_written();
    struct store_counters before = now_of_store(), after = take_part(MB);
    ck_assert_uint_eq(after.matched_bytes, before.matched_bytes); /* as if it were new */
    until(now_of_store().cold_adopted > 0);
    ck_assert_uint_ge(counters().fetched, 1);
    before = now_of_store();
    after = take_part(COLD);
    ck_assert_uint_gt(after.matched_bytes - before.matched_bytes, COLD - 65536);
}

static void set_cold_bytes(void)
{
    uint64_t word = 1181783497276652981ULL;
    for (size_t i = 0; i < COLD; i++) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        cold[i] = (uint8_t)(word >> 24);
    }
}

START_TEST(what_was_pushed_out_comes_back_when_it_is_met)
{
    struct store_counters c;
    set_cold_bytes();
    make_homes(1, STORE_LEAST_BYTES);
    start_homes();
    take_part(COLD);
    until(counters().written_bytes >= COLD);
    send_errand(&homes[0], take_flood, &c);
    ck_assert_uint_gt(c.evicted_segments, 1);
    until(now_of_store().cold_files > 0);
    meet_again();
    free_homes();
}
END_TEST

/* ---- damage while it runs ---- */

static bool logged(const char *words)
{
    static char text[1 << 16];
    char path[PATH_MOST];
    snprintf(path, sizeof(path), "%s/log", folder);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    return strstr(text, words) != NULL;
}

static void log_into_folder(void)
{
    char path[PATH_MOST];
    snprintf(path, sizeof(path), "%s/log", folder);
    ck_assert_ptr_nonnull(freopen(path, "a", stderr));
    log_set_level(LOG_LEVEL_WARN);
}

/* A byte of the first record of each file changes, or all go. */
static void damage_files(bool flip)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    char path[PATH_MOST];
    while ((entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (strstr(entry->d_name, ".segment") == NULL)
            continue;
        if (!flip) {
            ck_assert_int_eq(unlink(path), 0);
            continue;
        }
        FILE *f = fopen(path, "r+b");
        ck_assert_int_eq(fseek(f, SHELF_LOG_AT + SHELF_HEAD_BYTES, SEEK_SET), 0);
        int was = fgetc(f);
        ck_assert_int_eq(fseek(f, SHELF_LOG_AT + SHELF_HEAD_BYTES, SEEK_SET), 0);
        fputc(was ^ 1, f);
        fclose(f);
    }
    closedir(dir);
}

START_TEST(damage_that_is_found_while_it_runs_is_logged)
{
    static const char *const words[] = {"in this run 0 parts of files and 0 files were damaged",
                                        ".segment), 0 "};
    struct store_counters c;
    log_into_folder();
    set_cold_bytes();
    make_homes(1, STORE_LEAST_BYTES);
    start_homes();
    take_part(COLD);
    until(counters().written_bytes >= COLD);
    send_errand(&homes[0], take_flood, &c);
    until(now_of_store().cold_files > 0);
    wait_written();
    damage_files(_i == 1);
    take_part(MB);
    until(logged(words[_i]));
    free_homes();
}
END_TEST

START_TEST(what_does_not_fit_after_a_start_comes_back_when_it_is_met)
{
    struct store_counters c;
    set_cold_bytes();
    make_homes(1, 256 * MB);
    start_homes();
    take_part(COLD);
    until(counters().written_bytes >= COLD);
    send_errand(&homes[0], take_flood, &c);
    until(counters().written_bytes > FLOOD);
    free_homes();
    make_homes(1, STORE_LEAST_BYTES);
    start_homes();
    until(now_of_store().cold_files >= (COLD + FLOOD) / STORE_SEGMENT_BYTES); /* all samples are in */
    meet_again();
    free_homes();
}
END_TEST

/* ---- a slow disk ---- */

enum { DENSE = 12, DENSE_BYTES = 15 * MB };

static uint8_t dense[DENSE_BYTES + DENSE];
static uint32_t dense_from, dense_len;

static void fill_dense(struct mail *m)
{
    struct errand *e = (struct errand *)(void *)m;
    _Atomic bool *done = e->done;
    for (uint32_t i = 0; i < DENSE; i++) {
        struct segment_id id = {.epoch = 78, .number = i + 1};
        struct slice out;
        ck_assert_int_eq(store_fill(e->home->host.store, PEER, &id, dense_from, dense + i, dense_len, &out),
                         0);
        chunk_unref(out.chunk);
    }
    free(e);
    atomic_store(done, true);
}

START_TEST(a_slow_disk_pins_no_more_than_may_wait)
{
    make_homes(1, 256 * MB);
    start_homes();
    memcpy(dense, cold, COLD);
    dense_from = 0;
    dense_len = DENSE_BYTES;
    send_errand(&homes[0], fill_dense, NULL);
    until(counters().written_bytes == (uint64_t)DENSE * DENSE_BYTES);
    until(pinned_bytes() == 0);
    atomic_store(&disk_stands, true);
    dense_from = DENSE_BYTES;
    dense_len = 4096;
    send_errand(&homes[0], fill_dense, NULL); /* little in each, but each stays in memory for it */
    until(pinned_bytes() > 0);
    ck_assert_uint_le(pinned_bytes(), WAITING_MOST + STORE_SEGMENT_BYTES);
    atomic_store(&disk_stands, false);
    until(counters().written_bytes == (uint64_t)DENSE * (DENSE_BYTES + 4096)); /* the rest follows */
    until(pinned_bytes() == 0);
    free_homes();
}
END_TEST

/* All that is in memory still follows, and nothing new has to come for it. */
START_TEST(a_disk_with_room_again_is_written_again_in_time)
{
    make_homes(HOMES, 256 * MB);
    start_homes();
    atomic_store(&disk_is_full, true);
    fill_stores();
    until(counters().error == -ENOSPC);
    atomic_store(&disk_is_full, false);
    memcpy(dense, cold, COLD);
    dense_from = 0;
    dense_len = 4096;
    send_errand(&homes[HOMES - 1], fill_dense, NULL);
    ck_assert_uint_eq(counters().written_bytes, 0); /* it is not asked for each part */
    atomic_fetch_add(&ahead_s, 31);
    until(counters().error == 0);
    until(counters().written_bytes == ALL + DENSE * 4096);
    ck_assert_uint_eq(counters().skipped_bytes, 0);
    ck_assert_uint_eq(now_of_store().uncollected_bytes, 0);
    free_homes();
}
END_TEST

/* Of a peer, as remember.h has it. */
static void remember_something(struct home *h)
{
    static const uint8_t nothing[1];
    ck_assert_int_eq(remember_restore(&h->host, PEER, nothing, 0), 0);
    h->host.remembered->fresh = true;
}

START_TEST(the_end_tries_a_disk_that_failed_once_more)
{
    struct stat is;
    char path[PATH_MOST];
    make_homes(HOMES, 256 * MB);
    start_homes();
    atomic_store(&disk_is_full, true);
    fill_stores();
    until(counters().error == -ENOSPC);
    until(pinned_bytes() == 0); /* what failed has come home */
    atomic_store(&disk_is_full, false);
    remember_something(&homes[0]);
    stop_threads();
    ck_assert_uint_eq(counters().written_bytes, ALL);
    snprintf(path, sizeof(path), "%s/%08x.proved", folder, PEER);
    ck_assert_int_eq(stat(path, &is), 0);
    remember_free(&homes[0].host);
    free_homes();
}
END_TEST

START_TEST(without_a_folder_it_is_memory_only)
{
    log_set_level(LOG_LEVEL_ERROR);
    ck_assert_int_eq(rmdir(folder), 0);
    make_homes(2, 256 * MB);
    start_homes();
    until(counters().error != 0);
    fill_stores();
    free_homes();
}
END_TEST

START_TEST(it_ends_before_it_began)
{
    make_homes(2, 256 * MB);
    free_homes();
    make_homes(2, 256 * MB);
    start_homes();
    free_homes();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shelving");
    TCase *t = tcase_create("life");
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, what_is_new_is_written_while_the_homes_run);
    tcase_add_test(t, an_orderly_end_writes_what_is_left);
    tcase_add_test(t, reading_ends_where_memory_does);
    tcase_add_test(t, what_was_pushed_out_comes_back_when_it_is_met);
    tcase_add_loop_test(t, damage_that_is_found_while_it_runs_is_logged, 0, 2);
    tcase_add_test(t, what_does_not_fit_after_a_start_comes_back_when_it_is_met);
    tcase_add_test(t, a_slow_disk_pins_no_more_than_may_wait);
    tcase_add_test(t, a_disk_with_room_again_is_written_again_in_time);
    tcase_add_test(t, the_end_tries_a_disk_that_failed_once_more);
    tcase_add_test(t, without_a_folder_it_is_memory_only);
    tcase_add_test(t, it_ends_before_it_began);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
