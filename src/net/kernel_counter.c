/* One number out of the kernel, past libnftables, which would first read every interval set of the host. The
 * kernel answers inside send(2), on a socket of its own: reading needs no ownership of the table. */
#include <netinet/in.h> /* before the kernel's own version of it */

#include <endian.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "kernel_internal.h"

enum { ANSWER_MAX = 8192 };

struct wanted {
    uint16_t type;
    const struct nlattr *found;
};

static int look(const struct nlattr *a, void *arg)
{
    struct wanted *w = arg;
    if (mnl_attr_get_type(a) != w->type)
        return MNL_CB_OK;
    w->found = a;
    return MNL_CB_STOP;
}

static int take_packets(const struct nlmsghdr *m, void *arg)
{
    struct wanted data = {.type = NFTA_OBJ_DATA}, packets = {.type = NFTA_COUNTER_PACKETS};
    mnl_attr_parse(m, sizeof(struct nfgenmsg), look, &data);
    if (data.found != NULL)
        mnl_attr_parse_nested(data.found, look, &packets);
    if (packets.found == NULL || mnl_attr_get_payload_len(packets.found) != sizeof(uint64_t))
        return MNL_CB_OK;
    *(uint64_t *)arg = be64toh(mnl_attr_get_u64(packets.found));
    return MNL_CB_STOP;
}

static int ask(struct mnl_socket *socket, const char *name, uint64_t *out)
{
    _Alignas(struct nlmsghdr) uint8_t bytes[ANSWER_MAX];
    struct nlmsghdr *m = mnl_nlmsg_put_header(bytes);
    m->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ;
    m->nlmsg_flags = NLM_F_REQUEST;
    m->nlmsg_seq = 1;
    struct nfgenmsg *netfilter = mnl_nlmsg_put_extra_header(m, sizeof(*netfilter));
    netfilter->nfgen_family = NFPROTO_INET;
    netfilter->version = NFNETLINK_V0;
    mnl_attr_put_strz(m, NFTA_OBJ_TABLE, "hawser");
    mnl_attr_put_strz(m, NFTA_OBJ_NAME, name);
    mnl_attr_put_u32(m, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
    if (mnl_socket_sendto(socket, m, m->nlmsg_len) < 0)
        return -errno;
    ssize_t got = mnl_socket_recvfrom(socket, bytes, sizeof(bytes));
    if (got < 0)
        return -errno;
    int end = mnl_cb_run(bytes, (size_t)got, 1, mnl_socket_get_portid(socket), take_packets, out);
    return end == MNL_CB_STOP ? 0 : end < 0 ? -errno : -EBADMSG;
}

int kernel_counter_read(const char *name, uint64_t *packets)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
    if (socket == NULL)
        return -errno;
    uint64_t found = 0;
    int err = mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : ask(socket, name, &found);
    mnl_socket_close(socket);
    if (err == 0)
        *packets = found;
    return err;
}
