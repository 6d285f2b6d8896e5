/* One libnftables context for the life of the module, because its netlink socket is what owns the table: only
 * commands through it may change the table, and the kernel removes the table when the socket is closed.
 * libnftables opens the socket once, in nft_ctx_new, and keeps it (since 1.0.0; earlier ones opened it anew
 * when another program's change interrupted a listing). Descriptors of it in other processes would keep the
 * table alive after our death, so it is close-on-exec, which libnftables forgets; a fork without exec must
 * close it. */
#include <netinet/in.h> /* before the kernel's own version of it */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/err.h"
#include "kernel_internal.h"

struct kernel_nft {
    struct nft_ctx *nft;
    int fd;            /* the library's socket, or -1 if it could not be told; borrowed */
    uint32_t sequence; /* of our own messages on it */
};

/* nft_ctx_new ends the process where there is no netfilter, so ask first. Returns the number of the
 * descriptor, which is closed again: the lowest free one, so it will be the library's. */
static int netfilter_probe(char error[static KERNEL_ERROR_MAX])
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0)
        return kernel_fail(
            error, -errno,
            "this kernel has no nf_tables (%s); load the module nfnetlink, or set firewall = none",
            err_text(-errno));
    close(fd);
    return fd;
}

static bool is_netfilter(int fd)
{
    int domain = 0, protocol = -1;
    socklen_t len = sizeof(int);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK &&
           getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == NETLINK_NETFILTER;
}

int kernel_nft_open(struct kernel_nft **out, char error[static KERNEL_ERROR_MAX])
{
    int fd = netfilter_probe(error);
    if (fd < 0)
        return fd;
    struct kernel_nft *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return kernel_fail(error, -ENOMEM, "out of memory");
    n->fd = -1;
    n->nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (n->nft == NULL || nft_ctx_buffer_error(n->nft) != 0 || nft_ctx_buffer_output(n->nft) != 0) {
        kernel_nft_close(n);
        return kernel_fail(error, -ENOMEM, "out of memory");
    }
    if (is_netfilter(fd) && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
        n->fd = fd;
    *out = n;
    return 0;
}

void kernel_nft_close(struct kernel_nft *n)
{
    if (n != NULL && n->nft != NULL)
        nft_ctx_free(n->nft);
    free(n);
}

/* The library reports only text; the text ends in that of an errno. Nothing here sets a locale, so strerror's
 * words are those that the library printed. */
static int errno_in(const char *text)
{
    static const int known[] = {EPERM, ENOENT, EEXIST, ENFILE, ENOMEM, EOPNOTSUPP, EBUSY, EINVAL};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strstr(text, err_text(-known[i])) != NULL)
            return -known[i];
    }
    return -EIO;
}

static const char *advice(int err)
{
    switch (err) {
    case -EPERM:
        return "hawserd needs CAP_NET_ADMIN: start it as root";
    case -ENOENT:
    case -EOPNOTSUPP:
        return "load the modules nft_tproxy, nft_socket, nft_fib_inet, nft_reject_inet and nft_ct, or set "
               "firewall = none";
    default:
        return "'nft list ruleset' shows what is there";
    }
}

int kernel_nft_run(struct kernel_nft *n, const char *text, char error[static KERNEL_ERROR_MAX])
{
    if (nft_run_cmd_from_buffer(n->nft, text) == 0)
        return 0;
    const char *said = nft_ctx_get_error_buffer(n->nft);
    if (said == NULL)
        said = "";
    int err = errno_in(said);
    size_t line = strcspn(said, "\n"), quoted = strcspn(said + line + (said[line] != '\0'), "\n");
    return kernel_fail(error, err, "nft: %.*s (in: %.*s); %s", (int)(line < 160 ? line : 160), said,
                       (int)(quoted < 120 ? quoted : 120), said + line + (said[line] != '\0'), advice(err));
}

int kernel_nft_table_exists(struct kernel_nft *n, char error[static KERNEL_ERROR_MAX])
{
    int err = kernel_nft_run(n, "list tables inet\n", error);
    if (err < 0)
        return err;
    const char *tables = nft_ctx_get_output_buffer(n->nft);
    const char *found = tables != NULL ? strstr(tables, "table inet hawser\n") : NULL;
    return found != NULL;
}

/* ---- one element, without the library ----
 *
 * A batch of three messages (begin, new element, end) is one transaction. The kernel works on it inside
 * send(2), so the answer is there when it returns: an acknowledgement of the element, or the error of any of
 * them. */

enum { BATCH_MAX = 1024, ANSWER_MAX = 8192 };

static struct nlmsghdr *batch_message(uint8_t *at, uint16_t type, uint16_t flags, uint8_t family,
                                      uint16_t resource, uint32_t sequence)
{
    struct nlmsghdr *message = mnl_nlmsg_put_header(at);
    message->nlmsg_type = type;
    message->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    message->nlmsg_seq = sequence;
    struct nfgenmsg *netfilter = mnl_nlmsg_put_extra_header(message, sizeof(*netfilter));
    netfilter->nfgen_family = family;
    netfilter->version = NFNETLINK_V0;
    netfilter->res_id = htons(resource);
    return message;
}

/* The fields of a concatenation are padded to four bytes each. */
static void put_element(struct nlmsghdr *message, const struct endpoint *server, uint32_t timeout_s)
{
    size_t address_bytes = server->addr.family == AF_INET ? 4 : 16;
    uint8_t key[20] = {0};
    memcpy(key, server->addr.bytes, address_bytes);
    key[address_bytes] = (uint8_t)(server->port >> 8);
    key[address_bytes + 1] = (uint8_t)server->port;
    mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, "hawser");
    mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET,
                      server->addr.family == AF_INET ? "refused4" : "refused6");
    struct nlattr *list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
    struct nlattr *nested_key = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
    mnl_attr_put(message, NFTA_DATA_VALUE, address_bytes + 4, key);
    mnl_attr_nest_end(message, nested_key);
    mnl_attr_put_u64(message, NFTA_SET_ELEM_TIMEOUT, htobe64(UINT64_C(1000) * timeout_s));
    mnl_attr_nest_end(message, element);
    mnl_attr_nest_end(message, list);
}

/* Until the answer to the message of this number; what is older is skipped. */
static int batch_answer(const struct kernel_nft *n, uint32_t first, uint32_t wanted)
{
    _Alignas(struct nlmsghdr) uint8_t answer[ANSWER_MAX];
    for (;;) {
        ssize_t got = recv(n->fd, answer, sizeof(answer), MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? -EIO : -errno;
        int left = (int)got;
        for (const struct nlmsghdr *m = (const void *)answer; mnl_nlmsg_ok(m, left);
             m = mnl_nlmsg_next(m, &left)) {
            if (m->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(m) < sizeof(struct nlmsgerr) ||
                m->nlmsg_seq - first > wanted - first)
                continue;
            const struct nlmsgerr *answered = mnl_nlmsg_get_payload(m);
            if (answered->error != 0 || m->nlmsg_seq == wanted)
                return answered->error;
        }
    }
}

static int send_refused(struct kernel_nft *n, const struct endpoint *server, uint32_t timeout_s)
{
    _Alignas(struct nlmsghdr) uint8_t batch[BATCH_MAX];
    uint32_t first = n->sequence;
    n->sequence += 3;
    size_t len =
        batch_message(batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, first)->nlmsg_len;
    struct nlmsghdr *message = batch_message(batch + len, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM,
                                             NLM_F_CREATE | NLM_F_ACK, NFPROTO_INET, 0, first + 1);
    put_element(message, server, timeout_s);
    len += message->nlmsg_len;
    len += batch_message(batch + len, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, first + 2)
               ->nlmsg_len;
    if (send(n->fd, batch, len, 0) < 0)
        return -errno;
    return batch_answer(n, first, first + 1);
}

int kernel_nft_add_refused(struct kernel_nft *n, const struct endpoint *server, uint32_t timeout_s,
                           char error[static KERNEL_ERROR_MAX])
{
    char host[ADDR_TEXT_MAX], text[160];
    if (n->fd >= 0) {
        int err = send_refused(n, server, timeout_s);
        return err == 0
                   ? 0
                   : kernel_fail(error, err, "nft: cannot add to the refused servers: %s", err_text(err));
    }
    snprintf(text, sizeof(text), "add element inet hawser refused%d { %s . %u timeout %us }\n",
             server->addr.family == AF_INET ? 4 : 6, addr_format(&server->addr, host), (unsigned)server->port,
             (unsigned)timeout_s);
    return kernel_nft_run(n, text, error);
}
