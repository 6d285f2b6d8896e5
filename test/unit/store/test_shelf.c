/* test_shelf.c - the store's folder: what was appended comes back, and nothing else ever does. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/shelf.h"

enum { MB = 1 << 20, SIZE = 64 * MB, FLIPS = 1000, PATH = 512, SEED = 99, PATH_MOST = PATH + 300 };

static char folder[PATH];
static struct shelf *shelf;
static uint8_t pin[SHELF_PIN_BYTES] = "the pin of this node, 32 bytes.";
static uint64_t random_state;
static struct sample added; /* by the last append */

static uint64_t random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void file_path(char path[static PATH_MOST], const char *name)
{
    snprintf(path, PATH_MOST, "%s/%s", folder, name);
}

static void open_shelf(uint64_t size)
{
    ck_assert_int_eq(shelf_open(&shelf, folder, size, SEED, pin), 0);
}

static void set_up(void)
{
    random_state = 88172645463325252ULL;
    snprintf(folder, sizeof(folder), "%s/shelf-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    open_shelf(SIZE);
}

static unsigned each_file(void (*visit)(const char *path))
{
    DIR *dir = opendir(folder);
    unsigned count = 0;
    const struct dirent *entry;
    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[PATH_MOST];
        if (entry->d_name[0] == '.')
            continue;
        file_path(path, entry->d_name);
        count++;
        if (visit != NULL)
            visit(path);
    }
    closedir(dir);
    return count;
}

static void unlink_file(const char *path)
{
    ck_assert_int_eq(remove(path), 0);
}

static void tear_down(void)
{
    shelf_close(shelf);
    shelf = NULL;
    each_file(unlink_file);
    ck_assert_int_eq(rmdir(folder), 0);
}

static struct shelf_counters counters(void)
{
    struct shelf_counters c;
    shelf_read_counters(shelf, &c);
    return c;
}

static struct chunk *segment_of(uint32_t number)
{
    struct chunk *c = chunk_new_mapped(SHELF_SEGMENT_BYTES);
    ck_assert_ptr_nonnull(c);
    c->segment = (struct segment_id){.epoch = 77, .number = number};
    return c;
}

/* New random bytes there, appended. */
static int append(struct chunk *c, uint32_t source, uint32_t from, uint32_t to)
{
    struct intervals parts = {0};
    for (uint32_t i = from; i < to; i++)
        c->bytes[i] = (uint8_t)(random_word() >> 24);
    ck_assert_int_eq(intervals_add(&parts, from, to), 0);
    int err = shelf_append(shelf, 0, source, c, &parts, &added);
    intervals_clear(&parts);
    return err;
}

static bool wants_all(void *arg, uint32_t source, uint32_t home)
{
    (void)arg;
    (void)source;
    (void)home;
    return true;
}

static void reopen(uint64_t size)
{
    shelf_close(shelf);
    open_shelf(size);
}

static void segment_end(struct shelf_segment *read)
{
    chunk_unref(read->chunk);
    intervals_clear(&read->filled);
}

/* How many bytes of the segment are back; each of them must be what it was. */
static uint64_t check_same(const struct shelf_segment *read, const struct chunk *was)
{
    ck_assert(read->chunk->segment.epoch == was->segment.epoch &&
              read->chunk->segment.number == was->segment.number);
    for (uint32_t i = 0; i < read->filled.count; i++) {
        struct interval part = read->filled.list[i];
        ck_assert_mem_eq(read->chunk->bytes + part.from, was->bytes + part.from, part.to - part.from);
    }
    return intervals_total(&read->filled);
}

static uint64_t read_one(const struct chunk *was, uint32_t source)
{
    struct shelf_segment read;
    int found = shelf_read(shelf, wants_all, NULL, &read);
    ck_assert_int_ge(found, 0);
    if (found == 0)
        return 0;
    uint64_t bytes = check_same(&read, was);
    ck_assert_uint_eq(read.source, source);
    segment_end(&read);
    return bytes;
}

static void only_file(char path[static PATH_MOST])
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    path[0] = '\0';
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.')
            file_path(path, entry->d_name);
    }
    closedir(dir);
    ck_assert(path[0] != '\0');
}

/* ---- the folder ---- */

START_TEST(what_was_appended_comes_back)
{
    struct chunk *c = segment_of(1);
    ck_assert_int_eq(append(c, 5, 0, 3 * MB + 17), 0);
    ck_assert_int_eq(append(c, 5, 4 * MB, 5 * MB), 0);
    ck_assert_int_eq(append(c, 5, 3 * MB + 17, 3 * MB + 20), 0);
    ck_assert_uint_eq(counters().written_bytes, 4 * MB + 20);
    ck_assert_uint_eq(read_one(c, 5), 0); /* it is of this run */
    reopen(SIZE);
    ck_assert_uint_eq(counters().segments, 1);
    ck_assert_uint_eq(read_one(c, 5), 4 * MB + 20);
    ck_assert_uint_eq(read_one(c, 5), 0);
    ck_assert_int_eq(append(c, 5, 6 * MB, 6 * MB + 1000), 0); /* goes on in the same file */
    reopen(SIZE);
    ck_assert_uint_eq(counters().segments, 1);
    ck_assert_uint_eq(read_one(c, 5), 4 * MB + 1020);
    ck_assert_uint_eq(counters().bad_records + counters().bad_files, 0);
    chunk_unref(c);
}
END_TEST

START_TEST(files_are_private)
{
    struct chunk *c = segment_of(1);
    struct stat is;
    char path[PATH_MOST];
    umask(0);
    ck_assert_int_eq(append(c, 0, 0, 1000), 0);
    only_file(path);
    ck_assert_int_eq(stat(path, &is), 0);
    ck_assert_uint_eq(is.st_mode & 07777, 0600);
    chunk_unref(c);
}
END_TEST

static bool wants_home(void *arg, uint32_t source, uint32_t home)
{
    const uint32_t *wanted = arg;
    return source == 0 && home == *wanted;
}

START_TEST(the_newest_is_read_first_and_only_what_is_wanted)
{
    struct intervals parts = {0};
    ck_assert_int_eq(intervals_add(&parts, 0, 4096), 0);
    for (uint32_t number = 1; number <= 40; number++) {
        struct chunk *c = segment_of(number);
        ck_assert_int_eq(shelf_append(shelf, number % 2, 0, c, &parts, &added), 0);
        chunk_unref(c);
    }
    intervals_clear(&parts);
    reopen(SIZE);
    uint32_t home = 1;
    struct shelf_segment read;
    for (uint32_t number = 39; number < 40; number -= 2) {
        ck_assert_int_eq(shelf_read(shelf, wants_home, &home, &read), 1);
        ck_assert_uint_eq(read.chunk->segment.number, number);
        segment_end(&read);
        if (number == 1)
            break;
    }
    ck_assert_int_eq(shelf_read(shelf, wants_home, &home, &read), 0);
    home = 0;
    ck_assert_int_eq(shelf_read(shelf, wants_home, &home, &read), 1);
    ck_assert_uint_eq(read.chunk->segment.number, 40);
    segment_end(&read);
}
END_TEST

START_TEST(the_folder_never_takes_more_than_its_size)
{
    struct chunk *c[9];
    for (uint32_t i = 0; i < 9; i++) {
        c[i] = segment_of(i + 1);
        for (uint32_t part = 0; part < 8; part++) {
            ck_assert_int_eq(append(c[i], 0, part * 2 * MB, (part + 1) * 2 * MB), 0);
            ck_assert_uint_le(counters().bytes, SIZE);
        }
    }
    ck_assert_uint_eq(counters().segments, 3); /* a fourth does not quite fit */
    ck_assert_uint_eq(each_file(NULL), 3);
    ck_assert_uint_eq(counters().removed_files, 6);
    reopen(SIZE / 2); /* the oldest go at once */
    ck_assert_uint_eq(each_file(NULL), 1);
    ck_assert_uint_eq(read_one(c[8], 0), SHELF_SEGMENT_BYTES);
    for (int i = 0; i < 9; i++)
        chunk_unref(c[i]);
}
END_TEST

START_TEST(many_small_segments_are_held_to_a_number)
{
    struct intervals parts = {0};
    struct chunk *c = segment_of(0);
    ck_assert_int_eq(intervals_add(&parts, 0, 512), 0);
    for (uint32_t number = 1; number <= 1000; number++) {
        c->segment.number = number;
        ck_assert_int_eq(shelf_append(shelf, 0, 3, c, &parts, &added), 0);
    }
    ck_assert_uint_eq(counters().segments, SIZE / (256 << 10));
    ck_assert_uint_eq(each_file(NULL), SIZE / (256 << 10));
    intervals_clear(&parts);
    chunk_unref(c);
}
END_TEST

START_TEST(what_is_in_the_file_is_not_written_again)
{
    struct chunk *c = segment_of(1);
    struct intervals parts = {0};
    ck_assert_int_eq(append(c, 3, 0, MB), 0);
    ck_assert_int_eq(append(c, 3, 2 * MB, 3 * MB), 0);
    ck_assert_int_eq(intervals_add(&parts, 1000, 3 * MB + 1000), 0);
    for (int i = 0; i < 40; i++) {
        if (i == 20)
            reopen(SIZE); /* the file has to be read first */
        ck_assert_int_eq(shelf_append(shelf, 0, 3, c, &parts, &added), 0);
        ck_assert_uint_eq(counters().written_bytes, i < 20 ? 3 * MB + 1000 : 0);
    }
    ck_assert_uint_eq(counters().skipped_bytes, 0);
    ck_assert_uint_lt(counters().bytes, 3 * MB + SHELF_LOG_AT + 8192);
    ck_assert_uint_eq(read_one(c, 3), 3 * MB + 1000);
    intervals_clear(&parts);
    chunk_unref(c);
}
END_TEST

START_TEST(a_file_in_many_parts_does_not_grow_on)
{
    struct chunk *c = segment_of(1);
    struct intervals parts = {0};
    memset(c->bytes, 7, SHELF_SEGMENT_BYTES);
    for (uint32_t i = 0; i < 200; i++) /* more than are noted */
        ck_assert_int_eq(intervals_add(&parts, i * 65536, i * 65536 + 65000), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(shelf_append(shelf, 0, 3, c, &parts, &added), 0);
    ck_assert_uint_le(counters().bytes, SHELF_FILE_MOST_BYTES + 4096);
    reopen(SIZE);
    ck_assert_uint_eq(read_one(c, 3), 200 * 65000);
    intervals_clear(&parts);
    chunk_unref(c);
}
END_TEST

START_TEST(another_sources_word_does_not_replace_a_file)
{
    struct chunk *c = segment_of(1), *false_one = segment_of(1);
    ck_assert_int_eq(append(c, 0, 0, 5000), 0);
    ck_assert_int_eq(append(false_one, 3, 0, 5000), 0);
    ck_assert_uint_eq(counters().skipped_bytes, 5000);
    reopen(SIZE);
    ck_assert_uint_eq(read_one(c, 0), 5000);
    chunk_unref(c);
    chunk_unref(false_one);
}
END_TEST

START_TEST(one_folder_has_one_user)
{
    struct shelf *second;
    ck_assert_int_eq(shelf_open(&second, folder, SIZE, SEED, pin), -EWOULDBLOCK);
    ck_assert_int_eq(shelf_open(&second, "/nowhere/at/all", SIZE, SEED, pin), -ENOENT);
}
END_TEST

START_TEST(files_of_others_are_dropped_or_left_alone)
{
    struct chunk *c = segment_of(1);
    char path[PATH_MOST];
    ck_assert_int_eq(append(c, 0, 0, 5000), 0);
    file_path(path, "links");
    fclose(fopen(path, "w"));
    file_path(path, "00000000000000ff.segment");
    FILE *f = fopen(path, "w");
    fputs("this is no segment, but long enough to be one, at least if you only look at its length", f);
    fclose(f);
    file_path(path, "00000000000000FF.segment");
    fclose(fopen(path, "w"));
    reopen(SIZE);
    ck_assert_uint_eq(counters().bad_files, 1);
    ck_assert_uint_eq(each_file(NULL), 3);
    ck_assert_uint_eq(counters().segments, 1);
    pin[0] ^= 1; /* another node's */
    reopen(SIZE);
    pin[0] ^= 1;
    ck_assert_uint_eq(counters().bad_files, 1);
    ck_assert_uint_eq(counters().segments, 0);
    ck_assert_uint_eq(each_file(NULL), 2);
    chunk_unref(c);
}
END_TEST

START_TEST(a_disk_that_is_full_is_asked_once)
{
    struct chunk *c = segment_of(1), *d = segment_of(2);
    struct rlimit small = {5 * MB, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(append(c, 0, 0, 4 * MB), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(append(c, 0, 4 * MB, 8 * MB), -EFBIG);
    small.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(append(d, 0, 0, 1000), -EFBIG); /* not tried again */
    ck_assert_int_eq(counters().error, -EFBIG);
    ck_assert_uint_eq(counters().skipped_bytes, 0); /* they are the caller's still */
    ck_assert_uint_eq(each_file(NULL), 1);
    reopen(SIZE);
    ck_assert_uint_eq(read_one(c, 0), 4 * MB);
    ck_assert_uint_eq(counters().bad_records, 0); /* half a record was cut off at once */
    chunk_unref(c);
    chunk_unref(d);
}
END_TEST

START_TEST(a_disk_with_room_again_is_written_again)
{
    struct chunk *c = segment_of(1), *d = segment_of(2);
    struct rlimit small = {5 * MB, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(append(c, 0, 0, 4 * MB), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(append(c, 0, 4 * MB, 8 * MB), -EFBIG);
    small.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(shelf_try_again(shelf), -EFBIG);
    small.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(counters().error, -EFBIG);
    ck_assert_int_eq(shelf_try_again(shelf), 0);
    ck_assert_int_eq(counters().error, 0); /* before anything new is to be written */
    ck_assert_int_eq(append(d, 0, 0, 1000), 0);
    ck_assert_int_eq(counters().error, 0);
    ck_assert_int_eq(append(c, 0, 4 * MB, 8 * MB), 0); /* and goes on */
    reopen(SIZE);
    ck_assert_uint_eq(read_one(d, 0), 1000);
    ck_assert_uint_eq(read_one(c, 0), 8 * MB);
    ck_assert_uint_eq(counters().bad_records, 0);
    chunk_unref(c);
    chunk_unref(d);
}
END_TEST

/* For want of a descriptor nothing is known of the disk. */
START_TEST(a_try_for_which_there_is_no_descriptor_tells_nothing)
{
    struct chunk *c = segment_of(1);
    struct rlimit was, none;
    ck_assert_int_eq(rmdir(folder), 0);
    ck_assert_int_eq(append(c, 0, 0, 1000), -ENOENT);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){0, was.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ck_assert_int_eq(shelf_try_again(shelf), -EMFILE);
    ck_assert_int_eq(counters().error, -ENOENT);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    ck_assert_int_eq(shelf_try_again(shelf), 0);
    chunk_unref(c);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_is_noticed_at_the_start)
{
    struct chunk *c = segment_of(1);
    struct rlimit small = {0, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(append(c, 0, 0, 5000), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    reopen(SIZE);
    ck_assert_int_eq(counters().error, -EFBIG);
    ck_assert_uint_eq(read_one(c, 0), 5000);
    chunk_unref(c);
}
END_TEST

/* A socket in a segment's place: not even root opens it. */
START_TEST(a_file_that_cannot_be_opened_is_stepped_over)
{
    struct chunk *c = segment_of(1);
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    char path[PATH_MOST];
    ck_assert_int_eq(append(c, 0, 0, 5000), 0);
    file_path(path, "0000000000000000.segment");
    ck_assert_uint_lt(strlen(path), sizeof(where.sun_path));
    memcpy(where.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&where, sizeof(where)), 0);
    close(fd);
    reopen(SIZE);
    ck_assert_uint_eq(counters().unreadable_files, 1);
    ck_assert_uint_eq(counters().bad_files, 0);
    ck_assert_uint_eq(read_one(c, 0), 5000);
    ck_assert_int_eq(append(c, 0, 5000, 6000), 0);
    ck_assert_int_eq(unlink(path), 0);
    chunk_unref(c);
}
END_TEST

/* Longer than any of ours: it is dropped, and nothing else for its sake. */
START_TEST(a_file_that_was_made_long_costs_only_itself)
{
    struct chunk *one = segment_of(1), *two = segment_of(2);
    char path[PATH_MOST];
    ck_assert_int_eq(append(one, 0, 0, 5000), 0);
    ck_assert_int_eq(append(two, 0, 0, 6000), 0);
    file_path(path, "0000000000000002.segment");
    ck_assert_int_eq(truncate(path, 1 << 30), 0);
    reopen(SIZE);
    ck_assert_uint_eq(counters().bad_files, 1);
    ck_assert_uint_eq(counters().removed_files, 0);
    ck_assert_uint_eq(read_one(one, 0), 5000);
    chunk_unref(one);
    chunk_unref(two);
}
END_TEST

/* Removing files, in libc's stead: of this one, or of any, it fails. */
static const char *kept_name;
static int keep_errno;

int unlinkat(int at, const char *name, int flags)
{
    if (keep_errno == 0 || (kept_name != NULL && strcmp(name, kept_name) != 0))
        return (int)syscall(SYS_unlinkat, at, name, flags);
    errno = keep_errno;
    return -1;
}

static const int of_file[] = {EPERM, EACCES, EBUSY};

START_TEST(a_file_that_cannot_be_removed_is_stepped_over)
{
    struct chunk *c[5];
    kept_name = "0000000000000001.segment";
    keep_errno = of_file[_i];
    for (uint32_t i = 0; i < 5; i++) {
        c[i] = segment_of(i + 1);
        ck_assert_int_eq(append(c[i], 0, 0, SHELF_SEGMENT_BYTES), 0);
    }
    ck_assert_int_eq(counters().error, 0);
    ck_assert_uint_eq(counters().removed_files, 2);
    ck_assert_uint_eq(counters().unreadable_files, 1);
    reopen(SIZE / 2);
    ck_assert_uint_eq(counters().unreadable_files, 1);
    ck_assert_uint_eq(counters().segments, 1);
    keep_errno = 0;
    reopen(SIZE / 2);
    ck_assert_uint_eq(read_one(c[0], 0), SHELF_SEGMENT_BYTES);
    for (int i = 0; i < 5; i++)
        chunk_unref(c[i]);
}
END_TEST

/* The disk's fault is no file's: all that is there stays known. */
START_TEST(a_disk_that_turned_read_only_loses_no_file)
{
    struct chunk *c[4];
    for (uint32_t i = 0; i < 4; i++) {
        c[i] = segment_of(i + 1);
        keep_errno = i == 3 ? EROFS : 0;
        kept_name = NULL;
        ck_assert_int_eq(append(c[i], 0, 0, SHELF_SEGMENT_BYTES), -keep_errno);
    }
    ck_assert_uint_eq(counters().segments, 3);
    ck_assert_uint_eq(counters().unreadable_files, 0);
    shelf_close(shelf);
    ck_assert_int_eq(shelf_open(&shelf, folder, SIZE / 2, SEED, pin), 0);
    ck_assert_uint_eq(counters().segments, 3);
    keep_errno = 0;
    for (int i = 0; i < 4; i++)
        chunk_unref(c[i]);
}
END_TEST

START_TEST(a_folder_that_vanished_is_an_error)
{
    struct chunk *c = segment_of(1);
    ck_assert_int_eq(rmdir(folder), 0);
    ck_assert_int_eq(append(c, 0, 0, 1000), -ENOENT);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    chunk_unref(c);
}
END_TEST

/* The descriptor is of a folder that has no name any more. */
START_TEST(a_folder_that_was_made_again_is_used)
{
    struct chunk *c = segment_of(1), *d = segment_of(2);
    ck_assert_int_eq(append(c, 0, 0, 1000), 0);
    each_file(unlink_file);
    ck_assert_int_eq(rmdir(folder), 0);
    ck_assert_int_eq(append(d, 0, 0, 1000), -ENOENT);
    ck_assert_int_eq(shelf_try_again(shelf), -ENOENT);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(shelf_try_again(shelf), 0);
    ck_assert_int_eq(append(d, 0, 1000, 3000), 0);
    ck_assert_uint_eq(counters().segments, 1);
    struct shelf *second;
    ck_assert_int_eq(shelf_open(&second, folder, SIZE, SEED, pin), -EWOULDBLOCK);
    reopen(SIZE);
    ck_assert_uint_eq(read_one(d, 0), 2000);
    chunk_unref(c);
    chunk_unref(d);
}
END_TEST

/* ---- samples ---- */

/* Of the one file, as a new run finds it. */
static struct sample sample_after_reopening(uint64_t seed)
{
    struct shelf_sample told;
    shelf_close(shelf);
    ck_assert_int_eq(shelf_open(&shelf, folder, SIZE, seed, pin), 0);
    ck_assert_int_eq(shelf_next_sample(shelf, wants_all, NULL, &told), 1);
    ck_assert_uint_eq(told.segment.number, 1);
    ck_assert_uint_eq(told.source, 5);
    struct sample sample = told.sample;
    ck_assert_int_eq(shelf_next_sample(shelf, wants_all, NULL, &told), 0);
    return sample;
}

static void check_keys(const struct sample *sample, const struct sample *wanted, uint32_t from)
{
    for (uint32_t i = 0; i < wanted->count; i++)
        ck_assert_uint_eq(sample->keys[from + i], wanted->keys[i]);
}

START_TEST(a_files_sample_grows_with_it_and_is_there_in_the_next_run)
{
    struct chunk *c = segment_of(1);
    ck_assert_int_eq(append(c, 5, 0, 4 * MB), 0);
    struct sample first = added;
    ck_assert_uint_gt(first.count, 64); /* one in 32 KB, roughly */
    ck_assert_uint_lt(first.count, 256);
    ck_assert_int_eq(append(c, 5, 8 * MB, 9 * MB), 0);
    struct sample second = added, both = sample_after_reopening(SEED);
    ck_assert_uint_gt(second.count, 8);
    ck_assert_uint_eq(both.count, first.count + second.count);
    check_keys(&both, &first, 0);
    check_keys(&both, &second, first.count);
    ck_assert_int_eq(append(c, 5, 10 * MB, 11 * MB), 0);
    ck_assert_uint_eq(sample_after_reopening(SEED).count, both.count + added.count);
    ck_assert_uint_eq(read_one(c, 5), 6 * MB);
    chunk_unref(c);
}
END_TEST

START_TEST(a_sample_of_another_seed_or_a_damaged_one_is_none)
{
    struct chunk *c = segment_of(1);
    char path[PATH_MOST];
    ck_assert_int_eq(append(c, 5, 0, 2 * MB), 0);
    ck_assert_uint_eq(sample_after_reopening(SEED + 1).count, 0);
    ck_assert_uint_gt(sample_after_reopening(SEED).count, 0);
    only_file(path);
    FILE *f = fopen(path, "r+b");
    ck_assert_int_eq(fseek(f, SHELF_HEADER_BYTES + 100, SEEK_SET), 0);
    int was = fgetc(f);
    ck_assert_int_eq(fseek(f, SHELF_HEADER_BYTES + 100, SEEK_SET), 0);
    fputc(was ^ 1, f);
    fclose(f);
    ck_assert_uint_eq(sample_after_reopening(SEED).count, 0);
    ck_assert_uint_eq(counters().bad_files + counters().bad_records, 0);
    ck_assert_int_eq(append(c, 5, 2 * MB, 4 * MB), 0); /* it begins anew */
    ck_assert_uint_gt(added.count, 0);
    ck_assert_uint_eq(sample_after_reopening(SEED).count, added.count);
    ck_assert_uint_eq(read_one(c, 5), 4 * MB);
    ck_assert_uint_eq(counters().bad_records, 0);
    chunk_unref(c);
}
END_TEST

START_TEST(every_changed_byte_of_a_sample_is_noticed)
{
    struct sample sample = {.count = 3, .keys = {7, 1ULL << 50, 12345}}, out;
    uint8_t *bytes = malloc(SHELF_SAMPLE_BYTES); /* on its own, so that a read past it is seen */
    shelf_put_sample(bytes, 1, SEED, &sample);
    ck_assert(shelf_get_sample(bytes, 1, SEED, &out));
    ck_assert_uint_eq(out.count, 3);
    check_keys(&out, &sample, 0);
    ck_assert(!shelf_get_sample(bytes, 2, SEED, &out));
    for (uint32_t i = 0; i < SHELF_SAMPLE_BYTES; i++) {
        bytes[i] ^= 0x40;
        ck_assert(!shelf_get_sample(bytes, 1, SEED, &out));
        ck_assert_uint_eq(out.count, 0);
        bytes[i] ^= 0x40;
    }
    free(bytes);
}
END_TEST

START_TEST(any_file_can_be_fetched_by_its_name)
{
    struct chunk *c[3];
    struct shelf_segment read;
    for (uint32_t i = 0; i < 3; i++) {
        c[i] = segment_of(i + 1);
        ck_assert_int_eq(append(c[i], i, 0, MB), 0);
    }
    for (int run = 0; run < 2; run++) { /* written in this run, then in another */
        ck_assert_int_eq(shelf_fetch(shelf, &c[1]->segment, &read), 1);
        ck_assert_uint_eq(check_same(&read, c[1]), MB);
        ck_assert_uint_eq(read.source, 1);
        segment_end(&read);
        ck_assert_uint_eq(counters().fetched, 1);
        ck_assert_int_eq(shelf_fetch(shelf, &(struct segment_id){.epoch = 77, .number = 9}, &read), 0);
        if (run == 0)
            reopen(SIZE);
    }
    ck_assert_uint_eq(read_one(c[2], 2), MB); /* not that one again */
    ck_assert_uint_eq(read_one(c[0], 0), MB);
    ck_assert_uint_eq(read_one(c[0], 0), 0);
    for (int i = 0; i < 3; i++)
        chunk_unref(c[i]);
}
END_TEST

START_TEST(what_is_fetched_is_not_the_next_to_go)
{
    struct chunk *c[4];
    struct shelf_segment read;
    for (uint32_t i = 0; i < 4; i++) {
        c[i] = segment_of(i + 1);
        if (i == 3) {
            ck_assert_int_eq(shelf_fetch(shelf, &c[0]->segment, &read), 1);
            segment_end(&read);
        }
        ck_assert_int_eq(append(c[i], 0, 0, SHELF_SEGMENT_BYTES), 0);
    }
    ck_assert_uint_eq(counters().removed_files, 1);
    ck_assert_int_eq(shelf_fetch(shelf, &c[1]->segment, &read), 0);
    ck_assert_int_eq(shelf_fetch(shelf, &c[0]->segment, &read), 1);
    segment_end(&read);
    for (int i = 0; i < 4; i++)
        chunk_unref(c[i]);
}
END_TEST

static unsigned asked;

static bool wants_no_peer(void *arg, uint32_t source, uint32_t home)
{
    (void)arg;
    (void)home;
    asked++;
    return source == 0;
}

START_TEST(what_nobody_wants_is_looked_at_once)
{
    struct shelf_sample told;
    struct shelf_segment read;
    struct chunk *c[4];
    for (uint32_t i = 0; i < 4; i++) {
        c[i] = segment_of(i + 1);
        ck_assert_int_eq(append(c[i], i == 0 ? 0 : 5, 0, MB), 0);
    }
    reopen(SIZE);
    shelf_drop_unwanted(shelf, wants_no_peer, NULL);
    asked = 0;
    ck_assert_int_eq(shelf_next_sample(shelf, wants_no_peer, NULL, &told), 1);
    ck_assert_int_eq(shelf_next_sample(shelf, wants_no_peer, NULL, &told), 0);
    ck_assert_uint_eq(read_one(c[0], 0), MB);
    ck_assert_int_eq(shelf_read(shelf, wants_no_peer, NULL, &read), 0);
    ck_assert_uint_eq(asked, 1);
    ck_assert_int_eq(shelf_fetch(shelf, &c[2]->segment, &read), 1); /* it is there still */
    segment_end(&read);
    for (uint32_t i = 0; i < 4; i++)
        chunk_unref(c[i]);
}
END_TEST

/* ---- damage ---- */

/* Opening files, in libc's stead: it may be that they can only be read. */
static bool only_reads;

int openat(int at, const char *name, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
    va_end(rest);
    if (!only_reads || (flags & O_ACCMODE) == O_RDONLY)
        return (int)syscall(SYS_openat, at, name, flags, mode);
    errno = EROFS;
    return -1;
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
    int was = fgetc(f);
    ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
    fputc(was ^ 1, f);
    fclose(f);
}

START_TEST(what_is_sound_comes_back_from_a_disk_that_can_only_be_read)
{
    struct chunk *c = segment_of(1);
    struct shelf_segment read;
    char path[PATH_MOST];
    ck_assert_int_eq(append(c, 0, 0, 5000), 0);
    ck_assert_int_eq(append(c, 0, MB, MB + 5000), 0);
    only_file(path);
    flip_byte(path, SHELF_LOG_AT + SHELF_HEAD_BYTES + 5000); /* the second record's head */
    reopen(SIZE);
    only_reads = true;
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(shelf_fetch(shelf, &c->segment, &read), 1);
        ck_assert_uint_eq(check_same(&read, c), 5000);
        segment_end(&read);
    }
    ck_assert_uint_eq(counters().bad_files, 0);
    only_reads = false;
    ck_assert_int_eq(append(c, 0, 2 * MB, 2 * MB + 5000), 0); /* behind what is sound */
    reopen(SIZE);
    ck_assert_uint_eq(read_one(c, 0), 10000);
    chunk_unref(c);
}
END_TEST

START_TEST(a_file_that_is_gone_is_not_one_that_is_damaged)
{
    struct chunk *c = segment_of(1), *d = segment_of(2);
    struct shelf_segment read;
    char path[PATH_MOST];
    ck_assert_int_eq(append(c, 0, 0, 5000), 0);
    ck_assert_int_eq(append(d, 0, 0, 5000), 0);
    file_path(path, "0000000000000001.segment");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(shelf_fetch(shelf, &c->segment, &read), 0);
    ck_assert_uint_eq(counters().gone_files, 1);
    ck_assert_uint_eq(counters().bad_files, 0);
    ck_assert_uint_eq(counters().segments, 1);
    file_path(path, "0000000000000002.segment");
    ck_assert_int_eq(truncate(path, SHELF_LOG_AT), 0); /* between records */
    ck_assert_int_eq(shelf_fetch(shelf, &d->segment, &read), 0);
    ck_assert_uint_eq(counters().bad_records, 1);
    ck_assert_uint_eq(counters().bad_files, 1);
    ck_assert_uint_eq(counters().bad_serial, 2);
    chunk_unref(c);
    chunk_unref(d);
}
END_TEST

enum { RECORDS = 4, RECORD = 700 };

/* A file of RECORDS records, RECORD bytes each. */
static struct chunk *small_file(char path[static PATH_MOST], uint8_t **bytes, size_t *len)
{
    struct chunk *c = segment_of(9);
    for (uint32_t i = 0; i < RECORDS; i++)
        ck_assert_int_eq(append(c, 2, i * 10000, i * 10000 + RECORD), 0);
    shelf_close(shelf);
    only_file(path);
    FILE *f = fopen(path, "rb");
    *len = SHELF_LOG_AT + RECORDS * (SHELF_HEAD_BYTES + RECORD);
    *bytes = malloc(*len);
    ck_assert_uint_eq(fread(*bytes, 1, *len, f), *len);
    ck_assert_int_eq(fgetc(f), EOF);
    fclose(f);
    return c;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

/* Read what is there, go on writing, and read again. */
static uint64_t read_and_go_on(struct chunk *c, const char *path)
{
    open_shelf(SIZE);
    uint64_t bytes = read_one(c, 2);
    ck_assert_uint_eq(bytes % RECORD, 0);
    struct shelf_counters k = counters();
    ck_assert_uint_eq(k.bad_records + k.bad_files > 0, bytes < RECORDS * RECORD);
    ck_assert_int_eq(append(c, 2, 50000, 50000 + RECORD), 0);
    reopen(SIZE);
    ck_assert_uint_eq(read_one(c, 2), bytes + RECORD);
    ck_assert_uint_eq(each_file(NULL), 1);
    shelf_close(shelf);
    shelf = NULL;
    each_file(unlink_file);
    (void)path;
    return bytes;
}

START_TEST(every_truncation_costs_only_what_was_cut)
{
    char path[PATH_MOST];
    uint8_t *bytes;
    size_t len;
    struct chunk *c = small_file(path, &bytes, &len);
    for (size_t cut = 0; cut < len; cut += cut % (SHELF_HEAD_BYTES + RECORD) < 150 ? 1 : 13) {
        write_file(path, bytes, cut);
        uint64_t whole = cut < SHELF_LOG_AT ? 0 : (cut - SHELF_LOG_AT) / (SHELF_HEAD_BYTES + RECORD);
        open_shelf(SIZE);
        ck_assert_uint_eq(read_one(c, 2), whole * RECORD);
        ck_assert_uint_eq(counters().bad_files, whole == 0);
        shelf_close(shelf);
    }
    write_file(path, bytes, len - 1);
    ck_assert_uint_eq(read_and_go_on(c, path), (RECORDS - 1) * RECORD);
    shelf = NULL;
    free(bytes);
    chunk_unref(c);
}
END_TEST

START_TEST(a_changed_byte_is_never_believed)
{
    char path[PATH_MOST];
    uint8_t *bytes;
    size_t len;
    struct chunk *c = small_file(path, &bytes, &len);
    for (int i = 0; i < FLIPS; i++) {
        size_t at = random_word() % len;
        uint8_t flip = (uint8_t)(1u << random_word() % 8);
        bytes[at] ^= flip;
        write_file(path, bytes, len);
        uint64_t back = read_and_go_on(c, path);
        bytes[at] ^= flip;
        bool in_sample = at >= SHELF_HEADER_BYTES && at < SHELF_LOG_AT;
        uint64_t whole = at < SHELF_LOG_AT ? 0 : (at - SHELF_LOG_AT) / (SHELF_HEAD_BYTES + RECORD);
        bool in_head =
            at < SHELF_LOG_AT || (at - SHELF_LOG_AT) % (SHELF_HEAD_BYTES + RECORD) < SHELF_HEAD_BYTES;
        uint64_t left = in_head ? whole * RECORD : (RECORDS - 1) * RECORD;
        ck_assert_uint_eq(back, in_sample ? RECORDS * RECORD : left);
    }
    free(bytes);
    chunk_unref(c);
}
END_TEST

START_TEST(a_record_of_another_file_is_none)
{
    char path[PATH_MOST];
    uint8_t *bytes;
    size_t len;
    struct chunk *c = small_file(path, &bytes, &len);
    struct shelf_label label;
    uint64_t key;
    ck_assert(shelf_get_header(bytes, &label, &key));
    label.segment.number++;
    shelf_put_header(bytes, &label);
    c->segment.number++;
    write_file(path, bytes, len);
    ck_assert_uint_eq(read_and_go_on(c, path), 0);
    free(bytes);
    chunk_unref(c);
}
END_TEST

START_TEST(short_prefixes_are_never_read_past)
{
    uint8_t file[SHELF_HEAD_BYTES + 100];
    struct shelf_record r;
    for (int i = 0; i < 100; i++)
        file[SHELF_HEAD_BYTES + i] = (uint8_t)random_word();
    shelf_put_head(file, 3, 70, file + SHELF_HEAD_BYTES, 100);
    for (size_t len = 0; len <= sizeof(file); len++) {
        uint8_t *exact = malloc(len > 0 ? len : 1);
        size_t at = 0;
        memcpy(exact, file, len);
        enum shelf_found found = shelf_next(exact, len, &at, 3, &r);
        ck_assert_int_eq(found, len < sizeof(file) ? SHELF_MORE : SHELF_RECORD);
        ck_assert_uint_eq(at, len < sizeof(file) ? 0 : len);
        free(exact);
    }
    ck_assert_uint_eq(r.off, 70);
    size_t at = 0;
    ck_assert_int_eq(shelf_next(file, sizeof(file), &at, 4, &r), SHELF_BROKEN);
}
END_TEST

static TCase *case_of(Suite *s, const char *name)
{
    TCase *t = tcase_create(name);
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, set_up, tear_down);
    suite_add_tcase(s, t);
    return t;
}

int main(void)
{
    Suite *s = suite_create("shelf");
    TCase *t = case_of(s, "folder");
    tcase_add_test(t, what_was_appended_comes_back);
    tcase_add_test(t, files_are_private);
    tcase_add_test(t, the_newest_is_read_first_and_only_what_is_wanted);
    tcase_add_test(t, the_folder_never_takes_more_than_its_size);
    tcase_add_test(t, many_small_segments_are_held_to_a_number);
    tcase_add_test(t, what_is_in_the_file_is_not_written_again);
    tcase_add_test(t, a_file_in_many_parts_does_not_grow_on);
    tcase_add_test(t, another_sources_word_does_not_replace_a_file);
    tcase_add_test(t, one_folder_has_one_user);
    tcase_add_test(t, files_of_others_are_dropped_or_left_alone);
    tcase_add_test(t, a_disk_that_is_full_is_asked_once);
    tcase_add_test(t, a_disk_with_room_again_is_written_again);
    tcase_add_test(t, a_file_that_cannot_be_opened_is_stepped_over);
    tcase_add_test(t, a_file_that_was_made_long_costs_only_itself);
    tcase_add_loop_test(t, a_file_that_cannot_be_removed_is_stepped_over, 0, 3);
    tcase_add_test(t, a_disk_that_turned_read_only_loses_no_file);
    tcase_add_test(t, a_folder_that_vanished_is_an_error);
    tcase_add_test(t, a_folder_that_was_made_again_is_used);
    tcase_add_test(t, a_try_for_which_there_is_no_descriptor_tells_nothing);
    tcase_add_test(t, a_folder_that_cannot_be_written_is_noticed_at_the_start);
    t = case_of(s, "samples");
    tcase_add_test(t, a_files_sample_grows_with_it_and_is_there_in_the_next_run);
    tcase_add_test(t, a_sample_of_another_seed_or_a_damaged_one_is_none);
    tcase_add_test(t, every_changed_byte_of_a_sample_is_noticed);
    tcase_add_test(t, any_file_can_be_fetched_by_its_name);
    tcase_add_test(t, what_nobody_wants_is_looked_at_once);
    tcase_add_test(t, what_is_fetched_is_not_the_next_to_go);
    t = case_of(s, "damage");
    tcase_add_test(t, what_is_sound_comes_back_from_a_disk_that_can_only_be_read);
    tcase_add_test(t, a_file_that_is_gone_is_not_one_that_is_damaged);
    tcase_add_test(t, every_truncation_costs_only_what_was_cut);
    tcase_add_test(t, a_changed_byte_is_never_believed);
    tcase_add_test(t, a_record_of_another_file_is_none);
    tcase_add_test(t, short_prefixes_are_never_read_past);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
