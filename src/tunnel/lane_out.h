/* lane_out.h - what a lane's socket does not take yet (floor 4). Only lane.c includes this. At most
 * LANE_OUT_BYTES, and no memory while nothing waits. The lane's thread. */
#ifndef HAWSER_LANE_OUT_H
#define HAWSER_LANE_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct lane_out {
    uint8_t *bytes; /* LANE_OUT_BYTES while anything waits */
    size_t head, tail;
    bool short_queue; /* the kernel may hold little unsent: each send ends a segment (MSG_EOR) */
    uint64_t sent_us; /* when the socket last took bytes */
};

void lane_out_free(struct lane_out *o);
size_t lane_out_waiting(const struct lane_out *o);

/* 0, -ENOBUFS: it does not fit now, or -ENOMEM. */
int lane_out_put(struct lane_out *o, const void *bytes, size_t len);

/* As much as the socket takes: bytes, or -errno after none (-EAGAIN: it tells by EPOLLOUT when it takes
 * more). */
ssize_t lane_out_send(struct lane_out *o, int fd);

#endif
