/* test_proved.c - what a peer has proved comes back from disk as it was written, and nothing else ever does.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hawser/proved.h"
#include "hawser/shelf.h"

enum { PEER = 0x00c0ffee, OTHER = 0xfeedbeef, SIZE = 64 << 20, PATH = 512, FILE_MOST = 4096 };

static char folder[PATH];
static struct shelf *shelf;
static uint8_t pin[SHELF_PIN_BYTES] = "the pin of this node, 32 bytes.";
static uint8_t file[FILE_MOST], entries[FILE_MOST];
static size_t file_len, entries_len;

/* ---- bytes ---- */

static void put(struct cursor_out *out, struct segment_id id, uint32_t source, uint32_t count, uint32_t step)
{
    struct intervals parts = {0};
    for (uint32_t i = 0; i < count; i++)
        ck_assert_int_eq(intervals_add(&parts, i * step, i * step + step / 2), 0);
    proved_put(out, &id, source, &parts);
    intervals_clear(&parts);
}

static void make_file(void)
{
    struct cursor_out out = cursor_out_over(entries, sizeof(entries));
    put(&out, (struct segment_id){5, 1}, 0, 1, SHELF_SEGMENT_BYTES);
    put(&out, (struct segment_id){UINT64_MAX, UINT32_MAX}, PEER, 3, 1000);
    entries_len = (size_t)(out.at - entries);
    proved_put_header(file, pin, PEER, entries, entries_len);
    memcpy(file + PROVED_HEADER_BYTES, entries, entries_len);
    file_len = PROVED_HEADER_BYTES + entries_len;
}

static void set_up(void)
{
    make_file();
    snprintf(folder, sizeof(folder), "%s/proved-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(shelf_open(&shelf, folder, SIZE, 99, pin), 0);
}

static const char *path_of(const char *name)
{
    static char path[PATH + 100];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static bool is_there(const char *name)
{
    struct stat is;
    return lstat(path_of(name), &is) == 0;
}

static void tear_down(void)
{
    shelf_close(shelf);
    shelf = NULL;
    unlink(path_of("00c0ffee.proved"));
    ck_assert_int_eq(rmdir(folder), 0); /* nothing else is left there */
}

START_TEST(entries_are_what_they_were)
{
    struct cursor c = cursor_over(entries, entries_len);
    struct proved_entry e;
    ck_assert(proved_is_sound(file, file_len, pin, PEER));
    ck_assert(proved_next(&c, &e));
    ck_assert(segment_id_equal(&e.segment, &(struct segment_id){5, 1}));
    ck_assert_uint_eq(e.source, 0);
    ck_assert_uint_eq(e.count, 1);
    ck_assert_uint_eq(proved_part(&e, 0).to, SHELF_SEGMENT_BYTES / 2);
    ck_assert(proved_next(&c, &e));
    ck_assert(segment_id_equal(&e.segment, &(struct segment_id){UINT64_MAX, UINT32_MAX}));
    ck_assert_uint_eq(e.source, PEER);
    ck_assert_uint_eq(e.count, 3);
    ck_assert_uint_eq(proved_part(&e, 2).from, 2000);
    ck_assert_uint_eq(proved_part(&e, 2).to, 2500);
    ck_assert(!proved_next(&c, &e));
    ck_assert_int_eq(c.err, 0);
}
END_TEST

START_TEST(the_entry_of_a_segment)
{
    static const struct segment_id last = {UINT64_MAX, UINT32_MAX}, none = {5, 2};
    struct cursor c = cursor_over(entries, entries_len);
    struct proved_entry e;
    ck_assert(proved_find(&c, &last, &e));
    ck_assert_uint_eq(e.source, PEER);
    ck_assert_uint_eq(e.count, 3);
    ck_assert(!proved_find(&c, &last, &e)); /* there is no other */
    c = cursor_over(entries, entries_len);
    ck_assert(!proved_find(&c, &none, &e));
    ck_assert_int_eq(c.err, 0);
    c = cursor_over(entries, entries_len - 1);
    ck_assert(!proved_find(&c, &last, &e));
    ck_assert_int_lt(c.err, 0);
}
END_TEST

/* What has no room is left out, and the rest is well formed. */
START_TEST(as_much_as_there_is_room_for)
{
    for (size_t room = 0; room < entries_len; room++) {
        uint8_t *exact = malloc(room > 0 ? room : 1);
        ck_assert_ptr_nonnull(exact);
        struct cursor_out out = cursor_out_over(exact, room);
        put(&out, (struct segment_id){5, 1}, 0, 5, 1000);
        ck_assert_int_eq(out.err, 0);
        struct cursor c = cursor_over(exact, (size_t)(out.at - exact));
        struct proved_entry e;
        while (proved_next(&c, &e))
            ck_assert_uint_eq(e.count, (room - PROVED_ENTRY_BYTES) / PROVED_PART_BYTES < 5
                                           ? (room - PROVED_ENTRY_BYTES) / PROVED_PART_BYTES
                                           : 5);
        ck_assert_int_eq(c.err, 0);
        free(exact);
    }
}
END_TEST

START_TEST(every_prefix_and_every_flipped_bit_is_refused)
{
    for (size_t len = 0; len < file_len; len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, file, len);
        ck_assert(!proved_is_sound(exact, len, pin, PEER));
        free(exact);
    }
    for (size_t bit = 0; bit < 8 * file_len; bit++) {
        file[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert(!proved_is_sound(file, file_len, pin, PEER));
        file[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert(!proved_is_sound(file, file_len + 1, pin, PEER));
    ck_assert(!proved_is_sound(file, file_len, pin, OTHER));
    pin[3] ^= 1;
    ck_assert(!proved_is_sound(file, file_len, pin, PEER));
    pin[3] ^= 1;
}
END_TEST

/* ---- files ---- */

static unsigned came;

static int take(void *arg, uint32_t peer, const uint8_t *bytes, size_t len)
{
    const int *answer = arg;
    ck_assert_uint_eq(peer, PEER);
    ck_assert_uint_eq(len, entries_len);
    ck_assert_int_eq(memcmp(bytes, entries, len), 0);
    came++;
    return *answer;
}

static unsigned read_all(int answer)
{
    came = 0;
    shelf_read_proved(shelf, take, &answer);
    return came;
}

static uint64_t bad_files(void)
{
    struct shelf_counters c;
    shelf_read_counters(shelf, &c);
    return c.bad_files;
}

static void write_as(const char *name, const uint8_t *bytes, size_t len)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

START_TEST(the_last_one_written_comes_back)
{
    ck_assert_uint_eq(read_all(1), 0);
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, PROVED_ENTRY_BYTES + PROVED_PART_BYTES), 0);
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    ck_assert(is_there("00c0ffee.proved"));
    ck_assert(!is_there("proved.new"));
    ck_assert_uint_eq(read_all(1), 1);
    ck_assert_uint_eq(read_all(1), 1);
    ck_assert_uint_eq(bad_files(), 0);
}
END_TEST

START_TEST(of_a_peer_that_is_gone_nothing_stays)
{
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    ck_assert_uint_eq(read_all(0), 1);
    ck_assert(!is_there("00c0ffee.proved"));
}
END_TEST

/* Cut, damaged, of another peer's name, too long, no file at all: dropped, and counted. */
START_TEST(what_is_not_sound_is_removed)
{
    write_as("00c0ffee.proved", file, file_len - 1);
    write_as("feedbeef.proved", file, file_len);
    ck_assert_int_eq(symlink("00c0ffee.proved", path_of("00000001.proved")), 0);
    write_as("00000002.proved", file, file_len);
    ck_assert_int_eq(truncate(path_of("00000002.proved"), SIZE), 0);
    write_as("00000003.proved", file, 0);
    ck_assert_uint_eq(read_all(1), 0);
    ck_assert_uint_eq(bad_files(), 5);
}
END_TEST

/* One file's fault: segments are written on, and the file itself as soon as it can be. */
START_TEST(one_file_that_cannot_be_written_does_not_end_writing)
{
    struct shelf_counters c;
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    ck_assert_int_eq(mkdir(path_of("proved.new"), 0700), 0);
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, 0), -EISDIR);
    shelf_read_counters(shelf, &c);
    ck_assert_int_eq(c.error, 0);
    ck_assert_uint_eq(read_all(1), 1); /* what was there is there still */
    ck_assert_int_eq(rmdir(path_of("proved.new")), 0);
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
}
END_TEST

START_TEST(a_fifo_in_the_place_of_the_new_one_holds_nobody_up)
{
    ck_assert_int_eq(mkfifo(path_of("proved.new"), 0600), 0);
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    ck_assert_uint_eq(read_all(1), 1);
}
END_TEST

/* The disk, in libc's stead: it may be full, or fail, and what it reads may come in pieces. */
static int write_errno, read_errno;
static size_t read_most;

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (write_errno == 0)
        return syscall(SYS_writev, fd, iov, count);
    errno = write_errno;
    return -1;
}

ssize_t pread(int fd, void *bytes, size_t len, off_t at)
{
    static bool interrupted;
    interrupted = read_most > 0 && !interrupted;
    errno = interrupted ? EINTR : read_errno;
    if (errno != 0)
        return -1;
    return syscall(SYS_pread64, fd, bytes, read_most > 0 && len > read_most ? read_most : len, (long)at);
}

static const int of_disk[] = {ENOSPC, EDQUOT, EIO, EROFS};

START_TEST(a_disk_that_cannot_be_written_ends_writing)
{
    struct shelf_counters c;
    write_errno = of_disk[_i];
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), -of_disk[_i]);
    write_errno = 0;
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), -of_disk[_i]);
    shelf_read_counters(shelf, &c);
    ck_assert_int_eq(c.error, -of_disk[_i]);
    ck_assert(!is_there("00c0ffee.proved"));
    ck_assert_int_eq(shelf_try_again(shelf), 0); /* without any segment */
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    ck_assert(is_there("00c0ffee.proved"));
}
END_TEST

static void is_left_alone(int err)
{
    struct shelf_counters c;
    shelf_read_counters(shelf, &c);
    ck_assert_uint_eq(c.unreadable_files, 1);
    ck_assert_uint_eq(c.bad_files, 0);
    ck_assert_int_eq(c.error, 0);
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, 0), err);
    ck_assert_int_eq(shelf_write_proved(shelf, OTHER, entries, 0), 0); /* the others are */
    ck_assert_int_eq(unlink(path_of("feedbeef.proved")), 0);
    ck_assert_uint_eq(read_all(1), 1);
}

/* It may be sound: neither removed nor written over. */
START_TEST(what_cannot_be_read_is_left_alone)
{
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    read_errno = EIO;
    ck_assert_uint_eq(read_all(1), 0);
    read_errno = 0;
    is_left_alone(-EIO);
}
END_TEST

START_TEST(what_there_is_no_memory_for_is_left_alone)
{
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    ck_assert_uint_eq(read_all(-ENOMEM), 1);
    is_left_alone(-ENOMEM);
}
END_TEST

START_TEST(what_comes_in_pieces_is_whole)
{
    ck_assert_int_eq(shelf_write_proved(shelf, PEER, entries, entries_len), 0);
    read_most = 10;
    ck_assert_uint_eq(read_all(1), 1);
    read_most = 0;
    ck_assert_uint_eq(bad_files(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proved");
    TCase *t = tcase_create("proved");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, entries_are_what_they_were);
    tcase_add_test(t, the_entry_of_a_segment);
    tcase_add_test(t, as_much_as_there_is_room_for);
    tcase_add_test(t, every_prefix_and_every_flipped_bit_is_refused);
    tcase_add_test(t, the_last_one_written_comes_back);
    tcase_add_test(t, of_a_peer_that_is_gone_nothing_stays);
    tcase_add_test(t, what_is_not_sound_is_removed);
    tcase_add_test(t, one_file_that_cannot_be_written_does_not_end_writing);
    tcase_add_test(t, a_fifo_in_the_place_of_the_new_one_holds_nobody_up);
    tcase_add_loop_test(t, a_disk_that_cannot_be_written_ends_writing, 0, 4);
    tcase_add_test(t, what_cannot_be_read_is_left_alone);
    tcase_add_test(t, what_there_is_no_memory_for_is_left_alone);
    tcase_add_test(t, what_comes_in_pieces_is_whole);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
