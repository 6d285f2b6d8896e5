/* path.h - one direction of the emulated link: queue, serialisation, loss, delay, counters.
 *
 * A packet passes, in this order: the link (down: dropped), the queue (full: dropped), the sender
 * (which takes len x 8 / rate), the air (loss, single or in bursts: so a lost packet has used its share of
 * the rate; a turned bit; a copy, which uses none of the rate), the delay. All times follow by arithmetic
 * from the moment the packet was read; nothing is measured in between, so the rate is exact however late the
 * thread wakes.
 *
 * Random numbers are drawn for every packet that arrives, whatever becomes of it (luck.h): the n-th packet
 * after the start meets the same luck for the same seed and parameters.
 * Bursts are a Gilbert-Elliott chain that steps once for every packet that arrives.
 * Jitter that keeps the order is an extra delay of 0 to jitter_ns that wanders: a straight line between
 * values drawn every 2 x jitter_ns. Its slope stays below 1, so packets keep their order at any packet rate
 * (a number drawn per packet would, with order kept, be nearly the maximum for all of them). With `reorder`
 * it is a number drawn per packet, and packets overtake.
 *
 * Pure: the caller passes the time and reads and writes the packets; one thread at a time. */
#ifndef HAWSER_WANEM_PATH_H
#define HAWSER_WANEM_PATH_H

#include <stddef.h>
#include <stdint.h>

#include "delays.h"
#include "params.h"

#define PATH_MEMORY_BYTES (512u << 20) /* address space; only what is used is touched */
#define PATH_NEVER        UINT64_MAX

/* Counters of packets and bytes that add up: in + duplicated = out + the drops + what is inside.
 * row(name, text) */
#define PATH_DROPS(row)                                                                                      \
    row(drop_queue, "the queue was full") row(drop_loss, "lost at random")                                   \
        row(drop_burst, "lost in a burst")                                                                   \
            row(drop_down, "the link was down, or went down with them inside")                               \
                row(drop_error, "longer than the MTU, no memory, or refused by the device at the other end")
#define PATH_COUNTERS(row)                                                                                   \
    row(in, "arrived") row(duplicated, "copies made on the way") row(out, "delivered") PATH_DROPS(row)       \
        row(corrupted, "a bit was turned on the way")                                                        \
            row(reordered, "delivered after a packet that had arrived later")

struct path_count {
    uint64_t packets;
    uint64_t bytes;
};

struct path_counters {
#define PATH_COUNTER_FIELD(name, text) struct path_count name;
    PATH_COUNTERS(PATH_COUNTER_FIELD)
#undef PATH_COUNTER_FIELD
    uint64_t queue_max_bytes;
    struct delays given; /* of delivered packets: from their arrival on */
    struct delays late;  /* the same: from when they were due */
};

struct path;

/* A path for packets of at most max_packet bytes. NULL: out of memory. */
struct path *path_new(uint32_t max_packet, uint64_t seed);
void path_free(struct path *path);

/* New parameters from now on, with the queue limit in bytes (0 = none). Packets that wait in the
 * queue follow the new rate and delay, the one being sent and those in the air do not. Taking the
 * link down drops all that is inside. */
void path_set(struct path *path, const struct link_params *params, uint64_t queue_limit, uint64_t now_ns);
const struct link_params *path_params(const struct path *path);
uint64_t path_queue_limit(const struct path *path);

/* Room for a packet of max_packet bytes and one more (so that a longer one shows); borrowed until the
 * next call of any other function of the path, which is path_admit if a packet was read into it. Never
 * NULL: if memory is short the packet will be dropped. */
void *path_slot(struct path *path);
/* The packet of len bytes that was read into path_slot enters, or is dropped and counted. */
void path_admit(struct path *path, size_t len, uint64_t now_ns);

/* The next packet that is due, borrowed until path_delivered; NULL if there is none yet. */
const void *path_due(struct path *path, uint64_t now_ns, size_t *len);
/* The packet of path_due went out at now_ns, or (ok false) the device refused it. */
void path_delivered(struct path *path, bool ok, uint64_t now_ns);
/* When path_due will have something, PATH_NEVER if the path is empty. */
uint64_t path_next_ns(const struct path *path);

/* Counters since the start or the last path_zero. The rest is of this moment. */
const struct path_counters *path_counters(const struct path *path);
struct path_count path_inside(const struct path *path);
uint64_t path_queue_now(struct path *path, uint64_t now_ns);
/* Counters to zero. What is inside counts as having arrived since, so that the sum stays right. */
void path_zero(struct path *path);

#endif
