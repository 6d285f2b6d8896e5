/* ask.h - one question to a running hawserd over its control socket (floor 8).
 * Blocks, at most ASK_SILENCE_S between two pieces of the answer. The protocol is in hawser/control.h. One
 * thread. */
#ifndef HAWSERCTL_ASK_H
#define HAWSERCTL_ASK_H

#include <stddef.h>

enum {
    ASK_SILENCE_S = 15,
    ASK_ANSWER_MAX = 512 << 20, /* half of it is a table of a million sessions */
    ASK_ERROR_MAX = 320,
};

/* Send verb to the socket at path and read the whole answer: *answer is NUL-terminated and the caller's
 * (free). 0, or -errno with error[] saying what to do. */
int ask_daemon(const char *path, const char *verb, char **answer, size_t *len_bytes,
               char error[static ASK_ERROR_MAX]);

#endif
