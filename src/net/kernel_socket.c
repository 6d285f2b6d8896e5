#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/kernel.h"

/* SO_RCVBUFFORCE and SO_SNDBUFFORCE take an int, of which the kernel reserves the double (socket(7)). */
static int force_buffer(int fd, int option, uint64_t bytes)
{
    int value = bytes > INT_MAX / 2 ? INT_MAX / 2 : (int)bytes;
    if (bytes == 0)
        return 0;
    return setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

int kernel_lane_socket(int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion)
{
    int err = force_buffer(fd, SO_RCVBUFFORCE, rcvbuf_bytes);
    if (err == 0)
        err = force_buffer(fd, SO_SNDBUFFORCE, sndbuf_bytes);
    if (err == 0 && congestion != NULL && congestion[0] != '\0' &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)) < 0)
        err = -errno;
    return err;
}
