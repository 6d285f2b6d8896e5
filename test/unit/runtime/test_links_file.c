/* test_links_file.c - STORE/links: what is no file stops nobody, a disk that stands is not waited for. A disk
 * that stands is played by renameat, which is ours here. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hawser/links_file.h"

enum { LONG_US = 60000000 };

static char folder[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool stands;
static unsigned begun, done;

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    pthread_mutex_lock(&lock);
    begun++;
    pthread_cond_broadcast(&changed);
    while (stands)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    int result = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, 0u);
    pthread_mutex_lock(&lock);
    done++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return result;
}

static void set_stands(bool now)
{
    pthread_mutex_lock(&lock);
    stands = now;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_until(const unsigned *count, unsigned is)
{
    pthread_mutex_lock(&lock);
    while (*count < is)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void setup(void)
{
    strcpy(folder, "/tmp/hawser-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf -- '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static const char *at(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static struct links_file *open_links(char **found)
{
    struct links_file *f = NULL;
    ck_assert_int_eq(links_file_new(&f, folder), 0);
    ck_assert_int_eq(links_file_take(f, LONG_US, found), 0);
    return f;
}

static void is_in_file(const char *text)
{
    char *found = NULL;
    struct links_file *f = open_links(&found);
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(found, text);
    free(found);
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
}

START_TEST(what_was_put_is_there_afterwards)
{
    char *found = NULL;
    struct stat is;
    struct links_file *f = open_links(&found);
    ck_assert_ptr_null(found);
    links_file_put(f, strdup("far 1000 20\n"));
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
    is_in_file("far 1000 20\n");
    ck_assert_int_eq(lstat(at("links"), &is), 0);
    ck_assert_uint_eq(is.st_mode & 07777, 0600);
    ck_assert_int_lt(lstat(at("links.new"), &is), 0);
}
END_TEST

START_TEST(a_fifo_in_its_place_is_not_waited_for)
{
    char *found = NULL;
    ck_assert_int_eq(mkfifo(at("links"), 0600), 0);
    ck_assert_int_eq(mkfifo(at("links.new"), 0600), 0);
    struct links_file *f = open_links(&found);
    ck_assert_ptr_null(found);
    links_file_put(f, strdup("far 1000 20\n"));
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
    is_in_file("far 1000 20\n");
}
END_TEST

START_TEST(a_link_in_its_place_is_not_followed)
{
    char *found = NULL, other[128], bytes[8] = "";
    snprintf(other, sizeof(other), "%s", at("other"));
    int fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "theirs", 6), 6);
    ck_assert_int_eq(symlink(other, at("links")), 0);
    ck_assert_int_eq(symlink(other, at("links.new")), 0);
    struct links_file *f = open_links(&found);
    ck_assert_ptr_null(found);
    links_file_put(f, strdup("far 1000 20\n"));
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
    is_in_file("far 1000 20\n");
    ck_assert_int_eq(pread(fd, bytes, sizeof(bytes), 0), 6);
    ck_assert_str_eq(bytes, "theirs");
    close(fd);
}
END_TEST

START_TEST(too_much_is_not_read)
{
    char *found = NULL;
    int fd = open(at("links"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, LINKS_FILE_MAX_BYTES + 1), 0);
    close(fd);
    struct links_file *f = open_links(&found);
    ck_assert_ptr_null(found);
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_no_end)
{
    char *found = NULL;
    struct links_file *f = NULL;
    ck_assert_int_eq(links_file_new(&f, at("none")), 0);
    ck_assert_int_eq(links_file_take(f, LONG_US, &found), 0);
    ck_assert_ptr_null(found);
    links_file_put(f, strdup("far 1000 20\n"));
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
}
END_TEST

START_TEST(while_one_is_under_way_only_the_newest_waits)
{
    char *found = NULL;
    struct links_file *f = open_links(&found);
    set_stands(true);
    links_file_put(f, strdup("far 1 1\n"));
    wait_until(&begun, 1);
    links_file_put(f, strdup("far 2 2\n"));
    links_file_put(f, strdup("far 3 3\n"));
    set_stands(false);
    ck_assert_int_eq(links_file_free(f, LONG_US), 0);
    ck_assert_uint_eq(done, 2);
    is_in_file("far 3 3\n");
}
END_TEST

START_TEST(a_disk_that_stands_is_left_to_itself)
{
    char *found = NULL;
    struct links_file *f = open_links(&found);
    set_stands(true);
    links_file_put(f, strdup("far 1 1\n"));
    wait_until(&begun, 1);
    links_file_put(f, strdup("far 2 2\n"));
    ck_assert_int_eq(links_file_free(f, 1), -ETIMEDOUT);
    ck_assert_uint_eq(done, 0);
    set_stands(false); /* and what was put is not lost */
    wait_until(&done, 2);
    is_in_file("far 2 2\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("links_file");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_was_put_is_there_afterwards);
    tcase_add_test(tc, a_fifo_in_its_place_is_not_waited_for);
    tcase_add_test(tc, a_link_in_its_place_is_not_followed);
    tcase_add_test(tc, too_much_is_not_read);
    tcase_add_test(tc, a_folder_that_is_not_there_is_no_end);
    tcase_add_test(tc, while_one_is_under_way_only_the_newest_waits);
    tcase_add_test(tc, a_disk_that_stands_is_left_to_itself);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
