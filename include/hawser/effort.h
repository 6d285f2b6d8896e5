/* effort.h - how hard a tunnel compresses where its classes leave it open, compress = auto (floor 2, pure).
 * Measurements in, a zstd level out. It never learns what the bytes are. One thread.
 *
 * Compression spends CPU to spare the link, so both are asked. While the link is full and the CPU idle the
 * level rises, as long as the CPU would be idle half the time even then. While the CPU is the bottleneck it
 * falls, and below level 1, where the link is not even full, to none at all: a link that is faster than zstd
 * gets raw blocks. A level is kept for some time, since to change it forgets what the stream held. */
#ifndef HAWSER_EFFORT_H
#define HAWSER_EFFORT_H

#include <stdbool.h>
#include <stdint.h>

struct effort {
    int level; /* 0: raw; 1, 3 or 6 */
    uint64_t window_start_us, window_cpu_us, window_bytes;
    unsigned looks, full_looks; /* in the window; those that found the link full */
    uint64_t changed_us;
    uint64_t zstd_bytes_per_s; /* what level 1 made at full load of the CPU, when it was given up */
    uint64_t raw_again_us;     /* not before that */
};

/* rate_bytes_per_s: what the link is believed to carry; UINT64_MAX: unknown. */
void effort_init(struct effort *e, uint64_t rate_bytes_per_s);

/* One look at the tunnel, since the last one. */
struct effort_sample {
    uint64_t now_us, elapsed_us;
    uint64_t cpu_us; /* that the tunnel's thread used */
    uint64_t bytes;  /* of frames that were put into blocks */
    bool link_full;  /* there was more to send than the lanes took */
};
/* True when the level changed. */
bool effort_update(struct effort *e, const struct effort_sample *s);

#endif
