#include <errno.h>
#include <linux/netlink.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/err.h"
#include "kernel_internal.h"

int kernel_fail(char error[static KERNEL_ERROR_MAX], int err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, KERNEL_ERROR_MAX, format, arguments);
    va_end(arguments);
    return err;
}

int kernel_netlink_open(struct kernel_netlink *n, char error[static KERNEL_ERROR_MAX])
{
    n->sequence = 0;
    n->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (n->socket == NULL)
        return kernel_fail(error, -errno, "cannot open a netlink socket: %s", err_text(-errno));
    if (mnl_socket_bind(n->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int err = -errno;
        kernel_netlink_close(n);
        return kernel_fail(error, err, "cannot bind a netlink socket: %s", err_text(err));
    }
    /* Let the kernel filter dumps by table and protocol: the main table of a router may hold a million
     * routes. Kernels before 4.20 do not know it; then the callbacks filter alone. */
    int on = 1;
    (void)mnl_socket_setsockopt(n->socket, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
    return 0;
}

void kernel_netlink_close(struct kernel_netlink *n)
{
    if (n->socket != NULL)
        mnl_socket_close(n->socket);
    n->socket = NULL;
}

struct nlmsghdr *kernel_netlink_start(void *buffer, uint16_t type, uint16_t flags, size_t extra_bytes,
                                      void **extra)
{
    struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
    message->nlmsg_type = type;
    message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    *extra = mnl_nlmsg_put_extra_header(message, extra_bytes);
    return message;
}

int kernel_netlink_talk(struct kernel_netlink *n, struct nlmsghdr *message, mnl_cb_t each,
                        void *each_argument)
{
    _Alignas(struct nlmsghdr) char
        answer[16384]; /* the kernel makes no larger parts of a dump for smaller readers */
    uint32_t sequence = message->nlmsg_seq = ++n->sequence;
    unsigned port = mnl_socket_get_portid(n->socket);
    if (mnl_socket_sendto(n->socket, message, message->nlmsg_len) < 0)
        return -errno;
    for (;;) {
        ssize_t len = mnl_socket_recvfrom(n->socket, answer, sizeof(answer));
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return -errno;
        int more = mnl_cb_run(answer, (size_t)len, sequence, port, each, each_argument);
        /* What is left of an earlier answer that was given up is not ours. */
        if (more < 0 && (errno == EPROTO || errno == ESRCH))
            continue;
        if (more < 0)
            return -errno;
        if (more == MNL_CB_STOP)
            return 0;
    }
}
