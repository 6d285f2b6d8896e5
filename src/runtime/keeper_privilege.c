#include "hawser/keeper_privilege.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hawser/err.h"

enum { FILES_MAX = 1 << 20, KEEP_MAX = 8 };

/* What the keeper itself needs: the network, becoming the engine's user (and shedding capabilities on the
 * way), killing it, giving it folder and socket. */
static const cap_value_t keeper_needs[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE,
                                           CAP_SETUID,    CAP_SETGID,  CAP_SETPCAP,
                                           CAP_KILL,      CAP_CHOWN};
static const cap_value_t engine_keeps[] = {CAP_NET_RAW, CAP_NET_BIND_SERVICE};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Appends the names of those that the process does not have; returns how many. */
static size_t append_missing(cap_t have, char *out, size_t room)
{
    size_t missing = 0, used = 0;
    for (size_t i = 0; i < COUNT(keeper_needs); i++) {
        cap_flag_value_t set = CAP_CLEAR;
        if (have != NULL && cap_get_flag(have, keeper_needs[i], CAP_EFFECTIVE, &set) == 0 && set == CAP_SET)
            continue;
        char *name = cap_to_name(keeper_needs[i]);
        int n =
            snprintf(out + used, room - used, "%s%s", missing++ > 0 ? ", " : "", name != NULL ? name : "?");
        cap_free(name);
        if (n > 0 && (size_t)n < room - used)
            used += (size_t)n;
    }
    return missing;
}

int keeper_privilege_check(char error[static CONFIG_ERROR_MAX])
{
    char names[CONFIG_ERROR_MAX / 2] = "";
    cap_t have = cap_get_proc();
    size_t missing = append_missing(have, names, sizeof(names));
    cap_free(have);
    if (missing == 0)
        return 0;
    snprintf(
        error, CONFIG_ERROR_MAX,
        "hawserd needs root (or these capabilities, which it does not have: %s); start it with sudo or as a "
        "service",
        names);
    return -EPERM;
}

size_t keeper_privilege_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    rlim_t most = FILES_MAX;
    FILE *f = fopen("/proc/sys/fs/nr_open", "re");
    unsigned long nr_open;
    if (f != NULL && fscanf(f, "%lu", &nr_open) == 1 && nr_open < most)
        most = nr_open;
    if (f != NULL)
        fclose(f);
    struct rlimit raised = {.rlim_cur = most, .rlim_max = limit.rlim_max > most ? limit.rlim_max : most};
    /* Past the hard limit takes CAP_SYS_RESOURCE, which a container's root may lack. */
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            getrlimit(RLIMIT_NOFILE, &limit);
        return (size_t)limit.rlim_cur;
    }
    return (size_t)most;
}

static int fail(char error[static CONFIG_ERROR_MAX], const char *what)
{
    int err = errno != 0 ? -errno : -EPERM;
    snprintf(error, CONFIG_ERROR_MAX, "%s: %s", what, err_text(err));
    return err;
}

/* With PR_SET_NO_NEW_PRIVS and no exec the bounding set means nothing to this process; it is emptied so that
 * it also means nothing if one of the two is ever lost. */
static int drop_bounding(void)
{
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++) {
        int kept = 0;
        for (size_t i = 0; i < COUNT(engine_keeps); i++)
            kept |= engine_keeps[i] == cap;
        if (!kept && cap_get_bound(cap) > 0 && cap_drop_bound(cap) < 0)
            return -errno;
    }
    return 0;
}

static int keep_only(const cap_value_t *caps, size_t count)
{
    cap_t set = cap_init();
    int err = set == NULL ? -ENOMEM : 0;
    if (err == 0 &&
        (cap_set_flag(set, CAP_PERMITTED, (int)count, caps, CAP_SET) < 0 ||
         cap_set_flag(set, CAP_EFFECTIVE, (int)count, caps, CAP_SET) < 0 || cap_set_proc(set) < 0))
        err = -errno;
    cap_free(set);
    return err;
}

/* Look again instead of believing: a seccomp filter may have made a call succeed without effect. */
static int check_dropped(const struct keeper_user *user)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;
    if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
        return -errno;
    bool fine = r == user->uid && e == user->uid && s == user->uid && rg == user->gid && eg == user->gid &&
                sg == user->gid && getgroups(0, NULL) == 0;
    return fine && setresuid((uid_t)-1, 0, (uid_t)-1) < 0 ? 0 : -EPERM;
}

int keeper_privilege_drop(const struct keeper_user *user, char error[static CONFIG_ERROR_MAX])
{
    errno = 0;
    int err = drop_bounding();
    if (err < 0) {
        errno = -err;
        return fail(error, "cannot empty the capability bounding set");
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return fail(error, "cannot keep capabilities while becoming another user");
    if (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return fail(error, "cannot become the engine's user");
    err = keep_only(engine_keeps, COUNT(engine_keeps));
    if (err == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        err = -errno; /* EINVAL: a kernel without ambient capabilities has nothing to clear */
    if (err < 0) {
        errno = -err;
        return fail(error, "cannot give up capabilities");
    }
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return fail(error, "prctl");
    errno = 0;
    return check_dropped(user) == 0 ? 0 : fail(error, "the engine's user was set, but did not stay");
}

static int compare_fds(const void *a, const void *b)
{
    const int *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void close_between(unsigned first, unsigned last)
{
    if (first > last || close_range(first, last, 0) == 0)
        return;
    struct rlimit limit = {.rlim_cur = 65536};
    getrlimit(RLIMIT_NOFILE, &limit);
    for (unsigned fd = first; fd <= last && fd < limit.rlim_cur; fd++)
        close((int)fd); /* kernels before 5.9 */
}

void keeper_privilege_close_others(const int *keep, size_t count)
{
    int sorted[KEEP_MAX];
    if (count > KEEP_MAX)
        count = KEEP_MAX;
    memcpy(sorted, keep, count * sizeof(*keep));
    qsort(sorted, count, sizeof(*sorted), compare_fds);
    unsigned next = STDERR_FILENO + 1;
    for (size_t i = 0; i < count; i++) {
        if (sorted[i] < (int)next)
            continue; /* -1, a standard stream, or twice the same */
        close_between(next, (unsigned)sorted[i] - 1);
        next = (unsigned)sorted[i] + 1;
    }
    close_between(next, ~0u);
}
