/* keeper_setup.h - what the keeper prepares on the machine: the engine's user, the control socket, the store
 * folder, the text of the configuration (floor 6). Runs as root, before the engine. Every failure fills
 * error[] with what to do. One thread. */
#ifndef HAWSER_KEEPER_SETUP_H
#define HAWSER_KEEPER_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "hawser/config.h"
#include "hawser/identity.h"

/* The file's bytes, NUL-terminated, owned by the caller. Never more than CONFIG_TEXT_MAX. */
int keeper_text_read(const char *path, char **text, size_t *len_bytes, char error[static CONFIG_ERROR_MAX]);

struct keeper_user {
    uid_t uid;
    gid_t gid;
    char name[CONFIG_NAME_MAX];
};
/* The engine's user: the configured one; unset (""): hawser if it exists, else nobody with a warning. Never
 * root. */
int keeper_user_find(const char *configured, struct keeper_user *out, char error[static CONFIG_ERROR_MAX]);

/* Load the identity that c, read from config_path, names. *out is owned by the caller. */
int keeper_identity_load(struct identity **out, const struct config *c, const char *config_path,
                         char error[static CONFIG_ERROR_MAX]);
/* No peer has the node's own pin: -ERR_CONFIG with the place in config_path. */
int keeper_pins_check(const struct config *c, const char *config_path, const struct identity *own,
                      char error[static CONFIG_ERROR_MAX]);

/* Each [intercept] interface exists here. */
int keeper_interfaces_check(const struct config *c, char error[static CONFIG_ERROR_MAX]);

struct keeper_control {
    int fd;    /* listening, or -1 */
    dev_t dev; /* what we made: only that is unlinked again */
    ino_t ino;
    char path[108]; /* sun_path's size */
};
/* Make the control socket (0660, root and the user's group) and its folder where that is missing; a socket
 * that nobody answers on is replaced, one that is answered on is another hawserd: -EADDRINUSE. */
int keeper_control_open(struct keeper_control *out, const char *path, const struct keeper_user *user,
                        char error[static CONFIG_ERROR_MAX]);
/* Close it and unlink what we made. A closed one (fd -1) is fine. */
void keeper_control_close(struct keeper_control *control);

/* Make the store folder (0700, the user's) and, as root's, the folders above it. One that is there is taken
 * over only while it is root's and empty: the path may be a mistake. The user's own gets its mode. What was
 * changed of one that was there is logged. */
int keeper_store_make(const char *path, const struct keeper_user *user, char error[static CONFIG_ERROR_MAX]);
/* What keeper_store_make would fail with, and -EROFS also for a store that could only be read. Changes
 * nothing. */
int keeper_store_check(const char *path, const struct keeper_user *user, char error[static CONFIG_ERROR_MAX]);
/* A name that is wrong is for its author to mend; a disk that failed must not end what does without one. */
bool keeper_store_can_wait(int err);

#endif
