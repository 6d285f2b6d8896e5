/* What the engine keeps of root. Check forks for each test; those that give something up end with _exit,
 * since neither the leak checker (the process is not dumpable) nor Check's own clean-up can work in what is
 * left. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/keeper_privilege.h"

static char error[CONFIG_ERROR_MAX];

static struct keeper_user nobody(void)
{
    const struct passwd *entry = getpwnam("nobody");
    struct keeper_user user = {.uid = entry->pw_uid, .gid = entry->pw_gid, .name = "nobody"};
    return user;
}

static bool has(cap_value_t cap, cap_flag_t flag)
{
    cap_t set = cap_get_proc();
    cap_flag_value_t value = CAP_CLEAR;
    cap_get_flag(set, cap, flag, &value);
    cap_free(set);
    return value == CAP_SET;
}

START_TEST(only_two_capabilities_stay)
{
    struct keeper_user user = nobody();
    ck_assert_msg(keeper_privilege_drop(&user, error) == 0, "%s", error);
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++) {
        bool kept = cap == CAP_NET_RAW || cap == CAP_NET_BIND_SERVICE;
        ck_assert_msg(has(cap, CAP_PERMITTED) == kept && has(cap, CAP_EFFECTIVE) == kept, "capability %d",
                      cap);
        ck_assert_msg(!has(cap, CAP_INHERITABLE), "capability %d is inheritable", cap);
        ck_assert_msg(cap_get_ambient(cap) == CAP_CLEAR, "capability %d is ambient", cap);
        ck_assert_msg((cap_get_bound(cap) > 0) == kept, "capability %d in the bounding set", cap);
    }
    _exit(0);
}
END_TEST

START_TEST(there_is_no_way_back)
{
    struct keeper_user user = nobody();
    ck_assert_int_eq(keeper_privilege_drop(&user, error), 0);
    uid_t r, e, s;
    gid_t rg, eg, sg;
    ck_assert_int_eq(getresuid(&r, &e, &s), 0);
    ck_assert_int_eq(getresgid(&rg, &eg, &sg), 0);
    ck_assert(r == user.uid && e == user.uid && s == user.uid);
    ck_assert(rg == user.gid && eg == user.gid && sg == user.gid);
    ck_assert_int_eq(getgroups(0, NULL), 0);
    ck_assert_int_lt(setuid(0), 0);
    ck_assert_int_lt(setgid(0), 0);
    ck_assert_int_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0), 0);
    ck_assert_int_lt(open("/etc/shadow", O_RDONLY | O_CLOEXEC), 0);
    _exit(0);
}
END_TEST

/* What the two are kept for: sockets that speak in another's name, and ports below 1024. */
START_TEST(what_stays_is_enough)
{
    struct keeper_user user = nobody();
    ck_assert_int_eq(keeper_privilege_drop(&user, error), 0);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one)), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_MARK, &one, sizeof(one)), 0);
    /* ... and what is not: the keeper does this (keeper_lane_socket). */
    ck_assert_int_lt(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &one, sizeof(one)), 0);
    close(fd);
    _exit(0);
}
END_TEST

START_TEST(without_root_the_answer_is_clear)
{
    if (geteuid() == 0) {
        ck_assert_msg(keeper_privilege_check(error) == 0, "%s", error);
        struct keeper_user user = nobody();
        ck_assert_int_eq(keeper_privilege_drop(&user, error), 0);
    }
    ck_assert_int_eq(keeper_privilege_check(error), -EPERM);
    ck_assert_ptr_eq(strstr(error, "hawserd needs root (or"), error);
    ck_assert_ptr_nonnull(strstr(error, "cap_net_admin"));
    ck_assert_ptr_nonnull(strstr(error, "cap_chown"));
    _exit(0);
}
END_TEST

START_TEST(files_are_raised_to_the_hard_limit_at_least)
{
    struct rlimit before, after;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    size_t files = keeper_privilege_raise_files();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &after), 0);
    ck_assert_uint_eq(files, after.rlim_cur);
    ck_assert(after.rlim_cur >= before.rlim_cur);
    ck_assert(after.rlim_cur >= before.rlim_max || after.rlim_cur == 1 << 20);
}
END_TEST

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

START_TEST(only_what_is_kept_stays_open)
{
    int fds[40];
    for (size_t i = 0; i < 40; i++) {
        fds[i] = fcntl(STDERR_FILENO, F_DUPFD, 100 + (int)i * 7);
        ck_assert_int_ge(fds[i], 0);
    }
    const int keep[] = {fds[30], -1, fds[3], fds[3], fds[4], STDERR_FILENO};
    keeper_privilege_close_others(keep, sizeof(keep) / sizeof(*keep));
    for (size_t i = 0; i < 40; i++)
        ck_assert_msg(is_open(fds[i]) == (i == 30 || i == 3 || i == 4), "descriptor %d", fds[i]);
    ck_assert(is_open(STDOUT_FILENO) && is_open(STDERR_FILENO));
    _exit(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keeper_privilege");
    TCase *tc = tcase_create("all");
    if (geteuid() == 0) {
        tcase_add_test(tc, only_two_capabilities_stay);
        tcase_add_test(tc, there_is_no_way_back);
        tcase_add_test(tc, what_stays_is_enough);
    } else {
        fputs("not root: what the engine keeps is not tested\n", stderr);
    }
    tcase_add_test(tc, without_root_the_answer_is_clear);
    tcase_add_test(tc, files_are_raised_to_the_hard_limit_at_least);
    tcase_add_test(tc, only_what_is_kept_stays_open);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
