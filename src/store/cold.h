/* cold.h - segments that are on disk only, and what tells that one of them is wanted (floor 1; one thread).
 *
 * A table from sampled keys (sample.h) to files: buckets of a cache line, newest first; a new entry pushes
 * the oldest out. Files are a ring, too: the one that was noted first gives its place to the next. So the
 * memory is fixed when it begins, entries may be stale, and nothing is ever looked for to be removed. A hit
 * decides nothing about bytes: it only starts a read. */
#ifndef HAWSER_STORE_COLD_H
#define HAWSER_STORE_COLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "hawser/chunk.h"
#include "hawser/map.h"
#include "hawser/sample.h"

enum {
    COLD_IN_BUCKET = 8,
    COLD_NUMBER_BITS = 24,
    COLD_NUMBERS = 1 << COLD_NUMBER_BITS,
    COLD_QUEUED_MOST = 16,            /* beyond that nobody waits */
    COLD_QUEUED_A_PEER = 4,           /* so that one peer leaves room for others, and for our own hosts, */
    COLD_QUEUED_HOSTS = 12,           /* which leave room for peers */
    COLD_WORTH_BYTES = 64 << 10,      /* that a peer speaks of, before its segment is read for it */
    COLD_HITS_WITHIN_BYTES = 16 << 20 /* that were taken between the first hit and the second */
};

enum cold_state { COLD_QUIET, COLD_QUEUED, COLD_READING };

struct cold_file {
    struct segment_id id;     /* epoch 0: none */
    uint32_t source;          /* 0: our own */
    uint32_t number;          /* what entries name it by */
    uint64_t hit_key, hit_at; /* the first of two hits; 0: none lately */
    uint64_t missed_bytes;    /* that a peer referred to */
    enum cold_state state;
    uint64_t queued_us;
    uint32_t asker; /* while it is queued: the source that wants it; 0: bytes of hosts here */
    TAILQ_ENTRY(cold_file) by_queue;
};
TAILQ_HEAD(cold_list, cold_file);

struct cold {
    uint64_t (*buckets)[COLD_IN_BUCKET]; /* {tag, number}; 0: empty. NULL: there is no table */
    uint32_t bucket_count;
    struct cold_file *files;
    uint32_t files_most, next_number, count; /* count: of files now */
    struct map by_name;
    struct cold_list queue; /* the one that has waited longest first */
    uint32_t queued;
    uint32_t last_asker;     /* whose turn it was */
    void (*wake)(void *arg); /* the queue is not empty any more */
    void *wake_arg;
    uint64_t bytes;
};

static inline uint64_t *cold_bucket(const struct cold *c, uint64_t key)
{
    return c->buckets[(uint64_t)(uint32_t)key * c->bucket_count >> 32];
}

static inline void cold_prefetch(const struct cold *c, uint64_t key)
{
    __builtin_prefetch(cold_bucket(c, key));
}

#endif
