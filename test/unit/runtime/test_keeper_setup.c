/* User, control socket, store folder and the file's text, in a folder of the test's own. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/keeper_setup.h"

static char folder[64], error[CONFIG_ERROR_MAX];
static struct keeper_user user;

static void setup(void)
{
    strcpy(folder, "/tmp/hawser-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    error[0] = '\0';
    const struct passwd *nobody = getpwnam("nobody");
    bool root = geteuid() == 0 && nobody != NULL;
    user.uid = root ? nobody->pw_uid : getuid();
    user.gid = root ? nobody->pw_gid : getgid();
    strcpy(user.name, root ? "nobody" : "me");
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf -- '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static char *at(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void put_file(const char *path, const char *bytes, size_t len)
{
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

/* ---- text ---- */

START_TEST(text_is_read_whole)
{
    static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 100000};
    char *bytes = malloc(100000);
    memset(bytes, 'a', 100000);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *text = NULL;
        size_t len = 1;
        put_file(at("ini"), bytes, sizes[i]);
        ck_assert_int_eq(keeper_text_read(at("ini"), &text, &len, error), 0);
        ck_assert_uint_eq(len, sizes[i]);
        ck_assert_uint_eq(strlen(text), sizes[i]);
        free(text);
    }
    free(bytes);
}
END_TEST

START_TEST(text_has_a_bound)
{
    char *text = NULL;
    size_t len = 0;
    int fd = open(at("huge"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, (off_t)CONFIG_TEXT_MAX + 1), 0);
    close(fd);
    ck_assert_int_eq(keeper_text_read(at("huge"), &text, &len, error), -EFBIG);
    ck_assert_ptr_nonnull(strstr(error, "huge"));
    ck_assert_ptr_null(text);
}
END_TEST

START_TEST(text_that_is_missing_is_named)
{
    char *text = NULL;
    size_t len = 0;
    ck_assert_int_eq(keeper_text_read(at("none"), &text, &len, error), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error, "/none: "));
}
END_TEST

/* ---- user, interfaces ---- */

START_TEST(user_configured)
{
    struct keeper_user found;
    ck_assert_int_eq(keeper_user_find("nobody", &found, error), 0);
    ck_assert_uint_eq(found.uid, getpwnam("nobody")->pw_uid);
    ck_assert_str_eq(found.name, "nobody");
    ck_assert_int_eq(keeper_user_find("hawser-none-such", &found, error), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error, "user = hawser-none-such"));
    ck_assert_ptr_nonnull(strstr(error, "useradd"));
    ck_assert_int_eq(keeper_user_find("root", &found, error), -EINVAL);
}
END_TEST

START_TEST(user_unset)
{
    struct keeper_user found;
    ck_assert_int_eq(keeper_user_find("", &found, error), 0);
    ck_assert_str_eq(found.name, getpwnam("hawser") != NULL ? "hawser" : "nobody");
}
END_TEST

START_TEST(interfaces_must_exist)
{
    struct config c = {.interface_count = 1};
    strcpy(c.interfaces[0], "lo");
    ck_assert_int_eq(keeper_interfaces_check(&c, error), 0);
    strcpy(c.interfaces[c.interface_count++], "hwx-none0");
    ck_assert_int_eq(keeper_interfaces_check(&c, error), -ENODEV);
    ck_assert_ptr_nonnull(strstr(error, "hwx-none0"));
}
END_TEST

/* ---- control socket ---- */

static int dial(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err = connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
    close(fd);
    return err;
}

START_TEST(control_is_made_with_its_folder_and_removed)
{
    struct keeper_control control;
    struct stat is;
    const char *path = at("run/hawser/control.sock");
    ck_assert_int_eq(keeper_control_open(&control, path, &user, error), 0);
    ck_assert_int_eq(lstat(path, &is), 0);
    ck_assert(S_ISSOCK(is.st_mode));
    ck_assert_uint_eq(is.st_mode & 07777, 0660);
    ck_assert_uint_eq(is.st_gid, user.gid);
    ck_assert_uint_eq(is.st_uid, geteuid());
    ck_assert_int_eq(dial(path), 0);
    keeper_control_close(&control);
    ck_assert_int_eq(control.fd, -1);
    ck_assert_int_lt(lstat(path, &is), 0);
    keeper_control_close(&control);
}
END_TEST

START_TEST(control_can_be_reached_whatever_the_umask)
{
    struct keeper_control made;
    struct stat is;
    mode_t mask = umask(0077);
    int err = keeper_control_open(&made, at("run/hawser/control.sock"), &user, error);
    ck_assert_uint_eq(umask(mask), 0077); /* and it is as it was */
    ck_assert_int_eq(err, 0);
    ck_assert_int_eq(stat(at("run/hawser"), &is), 0);
    ck_assert_uint_eq(is.st_mode & 07777, 0755);
    ck_assert_int_eq(stat(at("run/hawser/control.sock"), &is), 0);
    ck_assert_uint_eq(is.st_mode & 07777, 0660);
    keeper_control_close(&made);
}
END_TEST

START_TEST(control_left_by_a_killed_hawserd_is_replaced)
{
    struct keeper_control dead, control;
    const char *path = at("control.sock");
    ck_assert_int_eq(keeper_control_open(&dead, path, &user, error), 0);
    close(dead.fd);
    ck_assert_int_eq(dial(path), -ECONNREFUSED);
    ck_assert_int_eq(keeper_control_open(&control, path, &user, error), 0);
    ck_assert_int_eq(dial(path), 0);
    keeper_control_close(&control);
}
END_TEST

START_TEST(control_of_a_live_hawserd_is_left_alone)
{
    struct keeper_control first, second;
    const char *path = at("control.sock");
    ck_assert_int_eq(keeper_control_open(&first, path, &user, error), 0);
    ck_assert_int_eq(keeper_control_open(&second, path, &user, error), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, "another hawserd"));
    ck_assert_int_eq(second.fd, -1);
    ck_assert_int_eq(dial(path), 0);
    keeper_control_close(&first);
}
END_TEST

/* A live one that has stopped accepting has a full queue: it must not pass for a dead one, nor be waited for.
 */
START_TEST(control_whose_queue_is_full_is_live)
{
    struct keeper_control first, second;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strcpy(to.sun_path, at("control.sock"));
    ck_assert_int_eq(keeper_control_open(&first, to.sun_path, &user, error), 0);
    ck_assert_int_eq(listen(first.fd, 0), 0);
    int fds[8];
    bool full = false;
    for (size_t i = 0; i < 8; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(fds[i], (struct sockaddr *)&to, sizeof(to)) < 0)
            full |= errno == EAGAIN;
    }
    ck_assert(full);
    ck_assert_int_eq(keeper_control_open(&second, to.sun_path, &user, error), -EADDRINUSE);
    for (size_t i = 0; i < 8; i++)
        close(fds[i]);
    keeper_control_close(&first);
}
END_TEST

START_TEST(control_never_removes_what_is_not_a_socket)
{
    struct keeper_control control;
    struct stat is;
    put_file(at("precious"), "x", 1);
    ck_assert_int_eq(keeper_control_open(&control, at("precious"), &user, error), -EEXIST);
    ck_assert_ptr_nonnull(strstr(error, "not a socket"));
    ck_assert_int_eq(lstat(at("precious"), &is), 0);
}
END_TEST

START_TEST(control_of_a_successor_is_not_unlinked)
{
    struct keeper_control first, second;
    struct stat is;
    const char *path = at("control.sock");
    ck_assert_int_eq(keeper_control_open(&first, path, &user, error), 0);
    ck_assert_int_eq(rename(path, at("moved.sock")), 0);
    ck_assert_int_eq(keeper_control_open(&second, path, &user, error), 0);
    keeper_control_close(&first);
    ck_assert_int_eq(lstat(path, &is), 0);
    keeper_control_close(&second);
}
END_TEST

START_TEST(control_path_has_a_bound)
{
    struct keeper_control control;
    char path[200];
    memset(path, 'p', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(keeper_control_open(&control, path, &user, error), -ENAMETOOLONG);
    ck_assert_int_eq(control.fd, -1);
}
END_TEST

/* ---- store ---- */

START_TEST(store_is_made_for_the_user)
{
    struct stat is;
    ck_assert_int_eq(keeper_store_make(at("var/lib/hawser"), &user, error), 0);
    ck_assert_int_eq(stat(at("var/lib/hawser"), &is), 0);
    ck_assert_uint_eq(is.st_uid, user.uid);
    ck_assert_uint_eq(is.st_mode & 07777, 0700);
    ck_assert_int_eq(stat(at("var/lib"), &is), 0);
    ck_assert_uint_eq(is.st_uid, geteuid());
    put_file(at("var/lib/hawser/segment"), "x", 1);
    ck_assert_int_eq(keeper_store_make(at("var/lib/hawser"), &user, error), 0);
}
END_TEST

/* path = /etc by mistake must not become the engine's. */
START_TEST(store_of_somebody_else_is_left_alone)
{
    struct stat is;
    struct keeper_user other = user;
    other.uid = user.uid + 1;
    ck_assert_int_eq(mkdir(at("etc"), 0755), 0);
    put_file(at("etc/passwd"), "x", 1);
    ck_assert_int_eq(keeper_store_make(at("etc"), &other, error), -ENOTEMPTY);
    ck_assert_ptr_nonnull(strstr(error, "name an empty one"));
    ck_assert_int_eq(stat(at("etc"), &is), 0);
    ck_assert_uint_eq(is.st_uid, geteuid());
    ck_assert_uint_eq(is.st_mode & 07777, 0755);
}
END_TEST

START_TEST(store_in_an_empty_folder_of_roots)
{
    struct stat is;
    ck_assert_int_eq(mkdir(at("empty"), 0755), 0);
    ck_assert_int_eq(keeper_store_make(at("empty"), &user, error), 0);
    ck_assert_int_eq(stat(at("empty"), &is), 0);
    ck_assert_uint_eq(is.st_uid, user.uid);
}
END_TEST

static void owner_and_mode(const char *path, uid_t uid, mode_t mode)
{
    struct stat is;
    ck_assert_int_eq(stat(path, &is), 0);
    ck_assert_uint_eq(is.st_uid, uid);
    ck_assert_uint_eq(is.st_mode & 07777, mode);
}

START_TEST(store_in_an_empty_folder_of_another_user)
{
    enum { ANOTHER = 1234 };
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(mkdir(at("theirs"), 0755), 0);
    ck_assert_int_eq(chown(at("theirs"), ANOTHER, ANOTHER), 0);
    ck_assert_int_lt(keeper_store_make(at("theirs"), &user, error), 0);
    ck_assert_ptr_nonnull(strstr(error, "another user's"));
    ck_assert_ptr_nonnull(strstr(error, "chown nobody "));
    owner_and_mode(at("theirs"), ANOTHER, 0755);
}
END_TEST

START_TEST(store_of_the_user_is_closed_to_others)
{
    static const mode_t modes[] = {0755, 0777, 0750, 01777};
    for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        ck_assert_int_eq(keeper_store_make(at("store"), &user, error), 0);
        put_file(at("store/segment"), "x", 1);
        ck_assert_int_eq(chmod(at("store"), modes[i]), 0);
        ck_assert_int_eq(keeper_store_make(at("store"), &user, error), 0);
        owner_and_mode(at("store"), user.uid, 0700);
    }
}
END_TEST

START_TEST(store_on_a_fresh_file_system)
{
    ck_assert_int_eq(mkdir(at("disk"), 0755), 0);
    ck_assert_int_eq(mkdir(at("disk/lost+found"), 0700), 0);
    ck_assert_int_eq(keeper_store_make(at("disk"), &user, error), 0);
    owner_and_mode(at("disk"), user.uid, 0700);
    owner_and_mode(at("disk/lost+found"), geteuid(), 0700);
}
END_TEST

/* The same words, and nothing is made or changed. */
static void check_says(const char *path)
{
    char said[CONFIG_ERROR_MAX] = "";
    struct stat before, after;
    bool there = stat(path, &before) == 0;
    int err = keeper_store_check(path, &user, said);
    ck_assert_int_eq(stat(path, &after) == 0, there);
    if (there) {
        ck_assert_uint_eq(after.st_uid, before.st_uid);
        ck_assert_uint_eq(after.st_mode, before.st_mode);
    }
    error[0] = '\0';
    ck_assert_int_eq(keeper_store_make(path, &user, error), err);
    ck_assert_str_eq(said, error);
}

START_TEST(store_check_says_what_the_start_would)
{
    check_says(at("new/store"));
    check_says(at("new/store")); /* it is made now */
    ck_assert_int_eq(chmod(at("new/store"), 0755), 0);
    check_says(at("new/store"));
    ck_assert_int_eq(mkdir(at("empty"), 0755), 0);
    check_says(at("empty"));
    put_file(at("file"), "x", 1);
    check_says(at("file"));
    check_says(at("file/store"));
    ck_assert_int_eq(symlink("nowhere", at("dangling")), 0);
    check_says(at("dangling"));
    ck_assert_int_eq(mkdir(at("theirs"), 0755), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(at("theirs"), 1234, 1234), 0);
        check_says(at("theirs"));
        put_file(at("theirs/file"), "x", 1);
        check_says(at("theirs"));
        check_says(folder); /* root's, and not empty */
    }
}
END_TEST

START_TEST(store_that_is_a_file)
{
    put_file(at("file"), "x", 1);
    ck_assert_int_eq(keeper_store_make(at("file"), &user, error), -ENOTDIR);
    ck_assert_ptr_nonnull(strstr(error, "[store] path"));
    ck_assert_ptr_nonnull(strstr(error, "name a folder that can be made"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keeper_setup");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, text_is_read_whole);
    tcase_add_test(tc, text_has_a_bound);
    tcase_add_test(tc, text_that_is_missing_is_named);
    tcase_add_test(tc, user_configured);
    tcase_add_test(tc, user_unset);
    tcase_add_test(tc, interfaces_must_exist);
    tcase_add_test(tc, control_is_made_with_its_folder_and_removed);
    tcase_add_test(tc, control_can_be_reached_whatever_the_umask);
    tcase_add_test(tc, control_left_by_a_killed_hawserd_is_replaced);
    tcase_add_test(tc, control_of_a_live_hawserd_is_left_alone);
    tcase_add_test(tc, control_whose_queue_is_full_is_live);
    tcase_add_test(tc, control_never_removes_what_is_not_a_socket);
    tcase_add_test(tc, control_of_a_successor_is_not_unlinked);
    tcase_add_test(tc, control_path_has_a_bound);
    tcase_add_test(tc, store_is_made_for_the_user);
    tcase_add_test(tc, store_of_somebody_else_is_left_alone);
    tcase_add_test(tc, store_in_an_empty_folder_of_roots);
    tcase_add_test(tc, store_in_an_empty_folder_of_another_user);
    tcase_add_test(tc, store_of_the_user_is_closed_to_others);
    tcase_add_test(tc, store_on_a_fresh_file_system);
    tcase_add_test(tc, store_check_says_what_the_start_would);
    tcase_add_test(tc, store_that_is_a_file);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
