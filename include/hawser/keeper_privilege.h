/* keeper_privilege.h - what the keeper must be allowed to, and what the engine keeps of it (floor 6).
 * Source: capabilities(7), prctl(2), libcap. Called before threads exist. */
#ifndef HAWSER_KEEPER_PRIVILEGE_H
#define HAWSER_KEEPER_PRIVILEGE_H

#include <stddef.h>

#include "hawser/config.h"
#include "hawser/keeper_setup.h"

/* 0, or -EPERM with the capabilities that are missing. */
int keeper_privilege_check(char error[static CONFIG_ERROR_MAX]);

/* Raise RLIMIT_NOFILE as far as it goes (fs.nr_open, at most 1 Mi); returns the soft limit reached. */
size_t keeper_privilege_raise_files(void);

/* Become this user for good: no supplementary groups, all three ids, CAP_NET_RAW and CAP_NET_BIND_SERVICE
 * permitted and effective and nothing else in any set, no new privileges, not dumpable (the identity's key is
 * in memory). */
int keeper_privilege_drop(const struct keeper_user *user, char error[static CONFIG_ERROR_MAX]);

/* Close every descriptor from 3 on that is not among keep[] (count at most 8; -1 entries are skipped). */
void keeper_privilege_close_others(const int *keep, size_t count);

#endif
