/* One libnftables context for the life of the module, because its netlink socket is what owns the table: only
 * commands through it may change the table, and the kernel removes the table when the socket is closed.
 * libnftables opens the socket once, in nft_ctx_new, and keeps it (since 1.0.0; earlier ones opened it anew
 * when another program's change interrupted a listing). Descriptors of it in other processes would keep the
 * table alive after our death, so it is close-on-exec, which libnftables forgets; a fork without exec must
 * close it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
};

/* nft_ctx_new ends the process where there is no netfilter: ask first. */
static int netfilter_probe(char error[static KERNEL_ERROR_MAX])
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0)
        return kernel_fail(
            error, -errno,
            "this kernel has no nf_tables (%s); load the module nfnetlink, or set firewall = none",
            err_text(-errno));
    close(fd);
    return 0;
}

static void close_on_exec(int fd)
{
    int domain = 0, protocol = -1;
    socklen_t len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK &&
        getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == NETLINK_NETFILTER)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* The library does not tell its descriptor. No other netfilter socket of this process is meant to survive an
 * exec either. */
static void netfilter_sockets_close_on_exec(void)
{
    DIR *folder = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        char *end;
        long fd = strtol(entry->d_name, &end, 10);
        if (end != entry->d_name && *end == '\0')
            close_on_exec((int)fd);
    }
    if (folder != NULL)
        closedir(folder);
}

int kernel_nft_open(struct kernel_nft **out, char error[static KERNEL_ERROR_MAX])
{
    int err = netfilter_probe(error);
    if (err < 0)
        return err;
    struct kernel_nft *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return kernel_fail(error, -ENOMEM, "out of memory");
    n->nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (n->nft == NULL || nft_ctx_buffer_error(n->nft) != 0 || nft_ctx_buffer_output(n->nft) != 0) {
        kernel_nft_close(n);
        return kernel_fail(error, -ENOMEM, "out of memory");
    }
    netfilter_sockets_close_on_exec();
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
