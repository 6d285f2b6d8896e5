/* shelving_internal.h - what the files of the shelf's thread share (floor 6).
 *
 *   shelving.c     the homes: what they hand over, ask for and take; life
 *   shelf_jobs.c   the thread: what the mails do there
 */
#ifndef HAWSER_SHELVING_INTERNAL_H
#define HAWSER_SHELVING_INTERNAL_H

#include <pthread.h>

#include "hawser/config.h"
#include "hawser/map.h"
#include "hawser/remember.h"
#include "hawser/shelving.h"

enum { READS_AHEAD = 2 }; /* questions of a home */

/* After a start: the next segment. */
struct question {
    struct mail mail; /* first */
    struct home *home;
    bool asked;
    int found; /* of shelf_read */
    struct shelf_segment segment;
};

/* A sample on its way. */
struct telling {
    struct mail mail; /* first */
    struct home *home;
    int found; /* of shelf_next_sample */
    struct shelf_sample sample;
};

/* A segment that the store wants. */
struct fetch {
    struct mail mail; /* first */
    struct home *home;
    struct segment_id id;
    int found; /* of shelf_fetch */
    struct shelf_segment segment;
};

struct home {
    struct shelving *shelving;
    struct leg_host *host;
    uint32_t number;
    struct event second;
    struct mail start;
    struct question questions[READS_AHEAD];
    bool full; /* nothing more fits, or nothing more is there */
    bool stopped;
    bool behind;     /* the disk is: more could be handed over */
    struct map pins; /* by chunk: segments that wait to be written */
    struct telling telling;
    struct fetch fetch;
    bool fetching;
    unsigned fetched; /* in this second */
    struct remember_pace pace;
    unsigned proved_jobs;
};

struct shelving {
    char *path;
    uint64_t size_bytes, waiting_most, seed;
    uint8_t pin[SHELF_PIN_BYTES];
    struct loop *loop;
    pthread_t thread;
    struct home *homes[CONFIG_WORKERS_MAX];
    uint32_t home_count;
    struct map by_source;
    _Atomic uint64_t waiting_bytes;
    _Atomic uint64_t lost_bytes; /* there was no memory to hand them over */
    _Atomic uint32_t reading;    /* homes that are not full yet */
    _Atomic bool stopping;
    struct mail begin, end;
    _Atomic bool failed; /* the disk cannot be written: what is new waits in the stores */

    struct shelf *shelf;           /* the thread's; NULL: memory only */
    uint64_t told_faults, told_us; /* the thread's: what of them was logged, and when */
    struct event second;           /* the thread's, while it failed */
    uint64_t tried_us;             /* the thread's: when it failed, or was last tried again */

    pthread_mutex_t lock;
    struct shelf_counters counters;
};

/* A segment that waits to be written, by one job or several. */
struct pin {
    unsigned jobs;
    uint64_t bytes;
};

struct job {
    struct mail mail; /* first */
    struct home *home;
    struct chunk *chunk;
    struct pin *pin;
    uint32_t source;
    struct segment_id id;
    struct intervals parts;
    int err; /* of shelf_append */
    struct sample added;
};

/* What a peer has proved, on its way to disk or back. */
struct proved_job {
    struct mail mail; /* first */
    struct home *home;
    uint32_t peer, len;
    int err;     /* of shelf_write_proved */
    bool logged; /* what to do about it */
    uint8_t entries[];
};

/* NULL: no memory. */
struct proved_job *proved_job_new(struct home *h, uint32_t peer, const uint8_t *entries, size_t len);

/* ---- shelf_jobs.c: mails to the thread; each goes home again ---- */

void *shelf_job_run(void *arg);
void shelf_job_open(struct mail *m);
/* Before the last mails: a disk that failed is tried once more. */
void shelf_job_end(struct mail *m);
void shelf_job_write(struct mail *m);
void shelf_job_answer(struct mail *m);
void shelf_job_tell(struct mail *m);
void shelf_job_fetch(struct mail *m);
void shelf_job_write_proved(struct mail *m);

/* ---- shelving.c: what they bring home ---- */

void shelving_start_asking(struct mail *m);
void shelving_take_job(struct mail *m);
void shelving_take_answer(struct mail *m);
void shelving_take_sample(struct mail *m);
void shelving_take_fetched(struct mail *m);
void shelving_take_proved(struct mail *m);
void shelving_take_restored(struct mail *m);

#endif
