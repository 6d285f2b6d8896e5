#include "lane_out.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/clock.h"
#include "hawser/lane.h"

enum {
    PAUSE_US = 50000,
    DEAD_ROUTE_MTU = 68, /* of the kernel's blackhole device */
};

void lane_out_free(struct lane_out *o)
{
    free(o->bytes);
    o->bytes = NULL;
    o->head = o->tail = 0;
}

size_t lane_out_waiting(const struct lane_out *o)
{
    return o->tail - o->head;
}

int lane_out_put(struct lane_out *o, const void *bytes, size_t len)
{
    if (o->bytes == NULL) {
        o->bytes = malloc(LANE_OUT_BYTES);
        if (o->bytes == NULL)
            return -ENOMEM;
        o->head = o->tail = 0;
    }
    if (o->head > 0 && o->tail + len > LANE_OUT_BYTES) {
        memmove(o->bytes, o->bytes + o->head, o->tail - o->head);
        o->tail -= o->head;
        o->head = 0;
    }
    if (o->tail + len > LANE_OUT_BYTES)
        return -ENOBUFS;
    memcpy(o->bytes + o->tail, bytes, len);
    o->tail += len;
    return 0;
}

/* Where the kernel's route to the peer was replaced, the socket holds a dead one until it has sent something:
 * what it sends goes in segments of 36 bytes, and a congestion control that begins then paces for such
 * segments. So after a pause a socket that has such a route gives it up; the kernel looks it up again. A dead
 * route of IPv6 has the least MTU that there is, which does no harm. */
static void give_up_dead_route(int fd)
{
    int mtu = 0, no = 0;
    socklen_t len = sizeof(mtu);
    if (getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len) == 0 && mtu <= DEAD_ROUTE_MTU)
        setsockopt(fd, SOL_SOCKET, SO_DONTROUTE, &no, sizeof(no));
}

ssize_t lane_out_send(struct lane_out *o, int fd)
{
    if (clock_now_us() - o->sent_us > PAUSE_US)
        give_up_dead_route(fd);
    ssize_t n;
    do {
        n = send(fd, o->bytes + o->head, lane_out_waiting(o), MSG_NOSIGNAL | (o->short_queue ? MSG_EOR : 0));
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    o->sent_us = clock_now_us();
    o->head += (size_t)n;
    if (lane_out_waiting(o) == 0)
        o->head = o->tail = 0;
    return n;
}
