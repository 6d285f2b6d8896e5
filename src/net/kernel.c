#include "hawser/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/log.h"
#include "kernel_internal.h"

enum { KERNEL_SWITCHES = 3 };

struct kernel {
    struct config *config; /* as it was at kernel_new: what needs a restart is taken from here */
    struct kernel_netlink netlink;
    struct kernel_nft *nft; /* NULL: firewall = none */
    bool ipv6;
    bool switched[KERNEL_SWITCHES]; /* by us, from 1 to 0 */
};

/* ---- sysctls ---- */

/* The one digit of a switch under /proc/sys, or -errno. */
static int switch_read(const char *path)
{
    char digit = '0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, &digit, 1);
    int err = n == 1 ? digit - '0' : -EIO;
    close(fd);
    return err;
}

static int switch_write(const char *path, int value)
{
    char digit = (char)('0' + value);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, &digit, 1);
    int err = n == 1 ? 0 : n < 0 ? -errno : -EIO;
    close(fd);
    return err;
}

/* Switches that are set to 0 while hawserd runs. Not fatal: /proc/sys is read-only in some containers. */
static const struct sysctl_switch {
    const char *path, *why;
    bool for_bridges; /* only where an [intercept] interface is a bridge */
} switches[KERNEL_SWITCHES] = {
    {"/proc/sys/net/ipv4/tcp_slow_start_after_idle", "idle lanes keep their window", false},
    /* With it the prerouting hook runs on the bridge's port before the packet is the bridge's: tproxy's
     * socket is lost on the way and the client gets no connection at all. */
    {"/proc/sys/net/bridge/bridge-nf-call-iptables", "connections behind a bridge can be caught", true},
    {"/proc/sys/net/bridge/bridge-nf-call-ip6tables", "connections behind a bridge can be caught", true},
};

/* A bridge says so as its driver; /sys may be another namespace's. */
static bool is_bridge(int fd, const char *name)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    struct ifreq request = {.ifr_data = (void *)&info};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    return ioctl(fd, SIOCETHTOOL, &request) == 0 && strcmp(info.driver, "bridge") == 0;
}

static bool any_bridge(const struct config *c)
{
    bool found = false;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (size_t i = 0; fd >= 0 && i < c->interface_count; i++)
        found = found || is_bridge(fd, c->interfaces[i]);
    if (fd >= 0)
        close(fd);
    return found;
}

static void switches_off(struct kernel *k)
{
    bool bridge = any_bridge(k->config);
    for (size_t i = 0; i < KERNEL_SWITCHES; i++) {
        const struct sysctl_switch *s = &switches[i];
        int now = switch_read(s->path);
        if (now == 0 || (s->for_bridges && (!bridge || now == -ENOENT)))
            continue;
        int err = now < 0 ? now : switch_write(s->path, 0);
        if (err < 0) {
            log_warn("cannot set %s to 0 (%s), so that %s; set it with sysctl(8)", s->path, err_text(err),
                     s->why);
            continue;
        }
        k->switched[i] = true;
        log_info("%s set from 1 to 0 while hawserd runs, so that %s", s->path, s->why);
    }
}

static void switches_back(struct kernel *k)
{
    for (size_t i = 0; i < KERNEL_SWITCHES; i++) {
        if (!k->switched[i] || switch_read(switches[i].path) != 0)
            continue; /* somebody else has decided since */
        int err = switch_write(switches[i].path, 1);
        if (err < 0)
            log_warn("cannot set %s back to 1: %s", switches[i].path, err_text(err));
    }
}

static bool ipv6_is_there(void)
{
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    close(fd);
    return switch_read("/proc/sys/net/ipv6/conf/all/disable_ipv6") == 0 &&
           switch_read("/proc/sys/net/ipv6/conf/lo/disable_ipv6") == 0;
}

/* What is right in itself, but will surprise. */
static void warn_of_settings(const struct kernel *k)
{
    if (k->config->interface_count == 0)
        return;
    if (switch_read("/proc/sys/net/ipv4/ip_forward") == 0)
        log_warn("net.ipv4.ip_forward is 0: IPv4 connections that are not caught go nowhere; set it to 1");
    if (k->ipv6 && switch_read("/proc/sys/net/ipv6/conf/all/forwarding") == 0)
        log_warn("net.ipv6.conf.all.forwarding is 0: IPv6 connections that are not caught go nowhere; set it "
                 "to 1");
}

/* ---- setting up ---- */

static int families(const struct kernel *k, int list[static 2])
{
    list[0] = AF_INET;
    list[1] = AF_INET6;
    return k->ipv6 ? 2 : 1;
}

static int policy_up(struct kernel *k, char error[static KERNEL_ERROR_MAX])
{
    int list[2];
    for (int i = 0, count = families(k, list); i < count; i++) {
        int err = kernel_policy_flush(&k->netlink, list[i]);
        if (err < 0)
            return kernel_fail(
                error, err, "cannot remove rules and routes that an earlier hawserd left: %s%s",
                err_text(err), err == -EPERM ? "; hawserd needs CAP_NET_ADMIN: start it as root" : "");
        err = kernel_policy_lanes(&k->netlink, list[i], &k->config->lane_mark, error);
        if (err == 0 && k->nft != NULL)
            err = kernel_policy_catch(&k->netlink, list[i], &k->config->mark, error);
        if (err < 0)
            return err;
    }
    return 0;
}

static int names_check(const struct config *c, char error[static KERNEL_ERROR_MAX])
{
    for (size_t i = 0; i < c->interface_count; i++) {
        if (!kernel_ruleset_takes_name(c->interfaces[i]))
            return kernel_fail(error, -EINVAL,
                               "nft cannot name the interface '%s'; rename it, or set firewall = none",
                               c->interfaces[i]);
    }
    return 0;
}

/* Only looks: another's table must be seen before any of its rules and routes are touched. */
static int nft_look(struct kernel *k, char error[static KERNEL_ERROR_MAX])
{
    int err = kernel_nft_open(&k->nft, error);
    if (err < 0)
        return err;
    err = kernel_nft_table_exists(k->nft, error);
    if (err > 0)
        return kernel_fail(
            error, -EEXIST,
            "there is a table 'inet hawser' already: end the other hawserd, or run contrib/nft-down.sh if it "
            "comes from contrib/nft-up.sh");
    return err;
}

static int nft_load(struct kernel *k, const struct config *c, char *(*text_of)(const struct config *, bool),
                    char error[static KERNEL_ERROR_MAX])
{
    int err = names_check(c, error);
    if (err < 0)
        return err;
    char *text = text_of(c, k->ipv6);
    if (text == NULL)
        return kernel_fail(error, -ENOMEM, "out of memory for the nft rules");
    err = kernel_nft_run(k->nft, text, error);
    free(text);
    return err;
}

int kernel_new(struct kernel **out, const struct config *c, char error[static KERNEL_ERROR_MAX])
{
    struct kernel *k = calloc(1, sizeof(*k));
    if (k == NULL)
        return kernel_fail(error, -ENOMEM, "out of memory");
    /* The reference count is the only thing in a configuration that changes. */
    k->config = config_ref((struct config *)(uintptr_t)c);
    k->ipv6 = ipv6_is_there();
    if (!k->ipv6)
        log_warn("this host has no IPv6: only IPv4 is intercepted");
    int err = c->firewall == CONFIG_FIREWALL_AUTO ? nft_look(k, error) : 0;
    if (err == 0)
        err = kernel_netlink_open(&k->netlink, error);
    if (err == 0)
        err = policy_up(k, error);
    if (err == 0 && k->nft != NULL)
        err = nft_load(k, c, kernel_ruleset, error);
    if (err < 0) {
        kernel_free(k);
        return err;
    }
    switches_off(k);
    warn_of_settings(k);
    *out = k;
    return 0;
}

void kernel_free(struct kernel *k)
{
    int list[2];
    if (k == NULL)
        return;
    kernel_nft_close(k->nft); /* first, so that nothing is caught whose route is gone */
    for (int i = 0, count = families(k, list); k->netlink.socket != NULL && i < count; i++) {
        int err = kernel_policy_flush(&k->netlink, list[i]);
        if (err < 0)
            log_warn("cannot remove all policy rules and routes: %s", err_text(err));
    }
    kernel_netlink_close(&k->netlink);
    switches_back(k);
    config_unref(k->config);
    free(k);
}

/* ---- changing ---- */

int kernel_reconfigure(struct kernel *k, const struct config *c, char error[static KERNEL_ERROR_MAX])
{
    if (k->nft == NULL)
        return 0;
    /* The engine's listener, marks and interfaces stay what they were until a restart: so do the rules for
     * them. */
    struct config mixed = *c;
    memcpy(mixed.interfaces, k->config->interfaces, sizeof(mixed.interfaces));
    mixed.interface_count = k->config->interface_count;
    mixed.port = k->config->port;
    mixed.mark = k->config->mark;
    mixed.lane_mark = k->config->lane_mark;
    return nft_load(k, &mixed, kernel_ruleset_again, error);
}

int kernel_set_peers(struct kernel *k, const struct config *c, const bool *up,
                     char error[static KERNEL_ERROR_MAX])
{
    if (k->nft == NULL)
        return 0;
    char *text = kernel_ruleset_peers(c, up, k->ipv6);
    if (text == NULL)
        return kernel_fail(error, -ENOMEM, "out of memory for the networks of peers");
    int err = kernel_nft_run(k->nft, text, error);
    free(text);
    return err;
}

int kernel_add_refused(struct kernel *k, const struct endpoint *server, uint32_t timeout_s,
                       char error[static KERNEL_ERROR_MAX])
{
    if (k->nft == NULL || (server->addr.family == AF_INET6 && !k->ipv6))
        return 0;
    if (timeout_s == 0 || (server->addr.family != AF_INET && server->addr.family != AF_INET6))
        return kernel_fail(error, -EINVAL, "a refused server needs an address and a timeout");
    int err = kernel_nft_add_refused(k->nft, server, timeout_s, error);
    if (err == -ENFILE)
        return kernel_fail(error, err,
                           "%d refused servers are remembered already; this one waits until some time out",
                           KERNEL_REFUSED_MAX);
    return err;
}

int kernel_count_peer_down(struct kernel *k, uint64_t *out)
{
    if (k->nft != NULL)
        return kernel_counter_read(KERNEL_COUNTER_PEER_DOWN, out);
    *out = 0;
    return 0;
}

int kernel_lane_route(struct kernel *k, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                      char error[static KERNEL_ERROR_MAX])
{
    return kernel_route_set(&k->netlink, peer, initcwnd, initrwnd, error);
}
