/* The service manager's datagrams, from a manager of the test's own. */
#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/notify.h"

static int manager;
static char name[108];

/* An abstract name leaves nothing behind. */
static void setup(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(name, sizeof(name), "@hawser-test-notify-%d", (int)getpid());
    memcpy(at.sun_path + 1, name + 1, strlen(name) - 1);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(manager, 0);
    ck_assert_int_eq(bind(manager, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                     0);
}

static void teardown(void)
{
    close(manager);
}

static const char *heard(void)
{
    static char text[256];
    ssize_t n = recv(manager, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

START_TEST(assignments_arrive_as_one_datagram)
{
    setenv("NOTIFY_SOCKET", name, 1);
    notify_init();
    ck_assert_int_eq(notify_send("READY=1\nSTATUS=fine"), 0);
    ck_assert_str_eq(heard(), "READY=1\nSTATUS=fine");
    ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
}
END_TEST

START_TEST(a_path_works_too)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/hawser-test-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/notify", folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    notify_init();
    int err = notify_send("STOPPING=1");
    char text[32] = "";
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    close(fd);
    unlink(at.sun_path);
    rmdir(folder);
    ck_assert_int_eq(err, 0);
    ck_assert_int_eq(n, 10);
    ck_assert_str_eq(text, "STOPPING=1");
}
END_TEST

START_TEST(reloading_names_the_moment)
{
    setenv("NOTIFY_SOCKET", name, 1);
    notify_init();
    ck_assert_int_eq(notify_reloading(), 0);
    unsigned long long usec = 0;
    ck_assert_int_eq(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%llu", &usec), 1);
    ck_assert_uint_gt(usec, 0);
}
END_TEST

START_TEST(without_a_manager_nothing_happens)
{
    static const char *const useless[] = {"", "relative/path", "vsock:2:1234"};
    unsetenv("NOTIFY_SOCKET");
    notify_init();
    ck_assert_int_eq(notify_send("READY=1"), 0);
    for (size_t i = 0; i < sizeof(useless) / sizeof(*useless); i++) {
        setenv("NOTIFY_SOCKET", useless[i], 1);
        notify_init();
        ck_assert_int_eq(notify_send("READY=1"), 0);
    }
    char longer[200];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    setenv("NOTIFY_SOCKET", longer, 1);
    notify_init();
    ck_assert_int_eq(notify_send("READY=1"), 0);
}
END_TEST

START_TEST(a_manager_that_is_gone_is_an_error_not_a_wait)
{
    setenv("NOTIFY_SOCKET", "@hawser-test-nobody-listens", 1);
    notify_init();
    ck_assert_int_lt(notify_send("READY=1"), 0);
}
END_TEST

START_TEST(the_watchdog_is_ours_only_with_our_pid)
{
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("WATCHDOG_USEC", "60000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    notify_init();
    ck_assert_uint_eq(notify_watchdog_us(), 60000000);
    ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
    setenv("WATCHDOG_USEC", "60000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    notify_init();
    ck_assert_uint_eq(notify_watchdog_us(), 0);
    setenv("WATCHDOG_USEC", "soon", 1);
    notify_init();
    ck_assert_uint_eq(notify_watchdog_us(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keeper_notify");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, assignments_arrive_as_one_datagram);
    tcase_add_test(tc, a_path_works_too);
    tcase_add_test(tc, reloading_names_the_moment);
    tcase_add_test(tc, without_a_manager_nothing_happens);
    tcase_add_test(tc, a_manager_that_is_gone_is_an_error_not_a_wait);
    tcase_add_test(tc, the_watchdog_is_ours_only_with_our_pid);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
