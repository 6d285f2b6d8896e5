/* estimate.h - what the parts of hawser-estimate share: the run, and what it was asked for. One thread. */
#ifndef HAWSER_ESTIMATE_H
#define HAWSER_ESTIMATE_H

#include "tally.h"

struct run {
    struct carry *carry;
    struct tally tally;
    enum pass pass;
    uint64_t bytes_total, bytes_done; /* to be read in all passes, for the progress */
    uint64_t began_us, shown_us;
    bool shows_progress;
};

/* What could not be looked at, of the first pass. */
struct skipped {
    uint64_t unreadable, special;                   /* files; links, devices and the like */
    uint64_t not_ip, not_tcp, fragments, cut_short; /* packets */
    uint64_t missing_bytes;                         /* of TCP streams: never captured */
    uint64_t midway, too_many;                      /* connections: begun before the capture; closed early */
    uint64_t encrypted; /* connections that begin as TLS or SSH: carried as they are */
};

enum { ERROR_MAX = 512 };

/* files.c: 0 with the bytes that the paths come to, or -errno with what to do about it. */
int files_measure(char *const paths[], uint64_t *bytes, char error[static ERROR_MAX]);
int files_carry(struct run *run, char *const paths[], struct skipped *skipped, char error[static ERROR_MAX]);

/* captures.c: likewise, for files of libpcap. */
int captures_measure(char *const paths[], uint64_t *bytes, char error[static ERROR_MAX]);
int captures_carry(struct run *run, char *const paths[], struct skipped *skipped,
                   char error[static ERROR_MAX]);

/* progress.c: len_bytes more were read. */
void progress_add(struct run *run, uint64_t len_bytes);
void progress_end(struct run *run);

/* show.c */
struct shown {
    const struct tally *tally; /* sorted */
    const struct skipped *skipped;
    struct store_counters store;
    const char *noun; /* "files" or "connections" */
    int level;
    uint64_t rate_bits_per_s, rtt_us; /* 0: no link was given */
};
void show_text(const struct shown *s);
int show_json(const struct shown *s);
char *show_bytes(uint64_t bytes, char out[static 16]);

#endif
