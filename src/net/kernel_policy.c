/* Policy rules and the local routes behind them, as ip-rule(8) would write
 *     ip rule  add fwmark MARK/MASK iif lo goto 101 priority 99 protocol 104
 *     ip rule  add fwmark MARK/MASK lookup 100 priority 100 protocol 104
 *     ip route add local default dev lo table 100 protocol 104
 *     ip rule  add fwmark LANE/MASK lookup 101 priority 101 protocol 104
 * The first one is for hosts with src_valid_mark (wg-quick sets it) or tcp_fwmark_accept: there the check of
 * a caught packet's source, or the answer to it, is looked up with its mark too, and table 100 would say that
 * everybody is this host. Such lookups have no interface to come from, which is iif lo; caught packets have
 * one.
 *
 * The protocol number says that they are ours: a start removes what a killed keeper left (perhaps with other
 * marks), the end what is there. What somebody else put there with the same meaning is used and stays. */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/err.h"
#include "kernel_internal.h"

/* ---- removing what is ours ---- */

/* Copies of the messages of a dump, one behind the other: removing while a dump runs would let it miss some.
 */
struct found {
    uint8_t *bytes;
    size_t len_bytes;
};

static size_t aligned(const struct nlmsghdr *message)
{
    return ((size_t)message->nlmsg_len + 3) & ~(size_t)3;
}

static int keep(struct found *f, const struct nlmsghdr *message)
{
    size_t room = aligned(message);
    uint8_t *bytes = realloc(f->bytes, f->len_bytes + room);
    if (bytes == NULL)
        return -ENOMEM;
    f->bytes = bytes;
    memset(f->bytes + f->len_bytes, 0, room);
    memcpy(f->bytes + f->len_bytes, message, message->nlmsg_len);
    f->len_bytes += room;
    return 0;
}

static int see_protocol(const struct nlattr *attr, void *ours)
{
    if (mnl_attr_get_type(attr) == FRA_PROTOCOL && mnl_attr_get_u8(attr) == KERNEL_PROTOCOL)
        *(bool *)ours = true;
    return MNL_CB_OK;
}

static int keep_rule(const struct nlmsghdr *message, void *found)
{
    bool ours = false;
    mnl_attr_parse(message, sizeof(struct fib_rule_hdr), see_protocol, &ours);
    if (ours && keep(found, message) < 0) {
        errno = ENOMEM;
        return MNL_CB_ERROR;
    }
    return MNL_CB_OK;
}

static int keep_route(const struct nlmsghdr *message, void *found)
{
    const struct rtmsg *route = mnl_nlmsg_get_payload(message);
    if (route->rtm_protocol != KERNEL_PROTOCOL || (route->rtm_flags & RTM_F_CLONED) != 0 ||
        (route->rtm_table != KERNEL_TABLE_CATCH && route->rtm_table != KERNEL_TABLE_LANES))
        return MNL_CB_OK;
    if (keep(found, message) < 0) {
        errno = ENOMEM;
        return MNL_CB_ERROR;
    }
    return MNL_CB_OK;
}

/* A dumped message asks for its own removal when it is sent back under another type. */
static int remove_found(struct kernel_netlink *n, struct found *f, uint16_t type)
{
    int err = 0;
    for (size_t at = 0; at < f->len_bytes;) {
        struct nlmsghdr *message = (struct nlmsghdr *)(void *)(f->bytes + at);
        at += aligned(message);
        message->nlmsg_type = type;
        message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        message->nlmsg_pid = 0;
        int one = kernel_netlink_talk(n, message, NULL, NULL);
        if (one < 0 && one != -ENOENT && one != -ESRCH)
            err = one;
    }
    free(f->bytes);
    *f = (struct found){0};
    return err;
}

static int flush_rules(struct kernel_netlink *n, int family)
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    struct found found = {0};
    void *extra;
    struct nlmsghdr *message =
        kernel_netlink_start(buffer, RTM_GETRULE, NLM_F_DUMP, sizeof(struct fib_rule_hdr), &extra);
    ((struct fib_rule_hdr *)extra)->family = (uint8_t)family;
    int err = kernel_netlink_talk(n, message, keep_rule, &found);
    int removed = remove_found(n, &found, RTM_DELRULE);
    return err < 0 ? err : removed;
}

static int flush_routes(struct kernel_netlink *n, int family, uint8_t table)
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    struct found found = {0};
    void *extra;
    struct nlmsghdr *message =
        kernel_netlink_start(buffer, RTM_GETROUTE, NLM_F_DUMP, sizeof(struct rtmsg), &extra);
    struct rtmsg *route = extra;
    route->rtm_family = (uint8_t)family;
    route->rtm_table = table;
    route->rtm_protocol = KERNEL_PROTOCOL;
    int err = kernel_netlink_talk(n, message, keep_route, &found);
    int removed = remove_found(n, &found, RTM_DELROUTE);
    if (err == -ENOENT)
        err = 0; /* the table has never been used */
    return err < 0 ? err : removed;
}

int kernel_policy_flush(struct kernel_netlink *n, int family)
{
    int err = flush_rules(n, family);
    int catch = flush_routes(n, family, KERNEL_TABLE_CATCH);
    int lanes = flush_routes(n, family, KERNEL_TABLE_LANES);
    if (err == 0)
        err = catch;
    return err < 0 ? err : lanes;
}

/* ---- adding ---- */

static const char *family_name(int family)
{
    return family == AF_INET ? "-4" : "-6";
}

struct policy_rule {
    uint32_t priority;
    uint8_t table; /* 0: no lookup, on at go_to */
    uint32_t go_to;
    bool from_here; /* iif lo */
};

static int add_rule(struct kernel_netlink *n, int family, const struct config_mark *mark,
                    const struct policy_rule *what, char error[static KERNEL_ERROR_MAX])
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    void *extra;
    struct nlmsghdr *message = kernel_netlink_start(
        buffer, RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct fib_rule_hdr), &extra);
    struct fib_rule_hdr *rule = extra;
    rule->family = (uint8_t)family;
    rule->action = what->table != 0 ? FR_ACT_TO_TBL : FR_ACT_GOTO;
    rule->table = what->table;
    if (what->table != 0)
        mnl_attr_put_u32(message, FRA_TABLE, what->table);
    else
        mnl_attr_put_u32(message, FRA_GOTO, what->go_to);
    if (what->from_here)
        mnl_attr_put_strz(message, FRA_IIFNAME, "lo");
    mnl_attr_put_u32(message, FRA_PRIORITY, what->priority);
    mnl_attr_put_u32(message, FRA_FWMARK, mark->value);
    mnl_attr_put_u32(message, FRA_FWMASK, mark->mask);
    mnl_attr_put_u8(message, FRA_PROTOCOL, KERNEL_PROTOCOL);
    int err = kernel_netlink_talk(n, message, NULL, NULL);
    if (err == 0 || err == -EEXIST)
        return 0;
    return kernel_fail(error, err, "cannot add the 'ip %s rule' for fwmark 0x%x/0x%x at priority %u: %s%s",
                       family_name(family), mark->value, mark->mask, what->priority, err_text(err),
                       err == -EPERM ? "; hawserd needs CAP_NET_ADMIN: start it as root" : "");
}

/* Whether the table's default route is a local one: what was there before us may be something else. */
struct local_default {
    uint8_t table;
    bool found;
};

static int see_route(const struct nlmsghdr *message, void *argument)
{
    struct local_default *look = argument;
    const struct rtmsg *route = mnl_nlmsg_get_payload(message);
    if (route->rtm_table == look->table && route->rtm_dst_len == 0 && route->rtm_type == RTN_LOCAL)
        look->found = true;
    return MNL_CB_OK;
}

static bool has_local_default(struct kernel_netlink *n, int family, uint8_t table)
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    struct local_default look = {.table = table};
    void *extra;
    struct nlmsghdr *message =
        kernel_netlink_start(buffer, RTM_GETROUTE, NLM_F_DUMP, sizeof(struct rtmsg), &extra);
    struct rtmsg *route = extra;
    route->rtm_family = (uint8_t)family;
    route->rtm_table = table;
    return kernel_netlink_talk(n, message, see_route, &look) == 0 && look.found;
}

static int add_local_default(struct kernel_netlink *n, int family, char error[static KERNEL_ERROR_MAX])
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    void *extra;
    struct nlmsghdr *message = kernel_netlink_start(
        buffer, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct rtmsg), &extra);
    struct rtmsg *route = extra;
    route->rtm_family = (uint8_t)family;
    route->rtm_table = KERNEL_TABLE_CATCH;
    route->rtm_protocol = KERNEL_PROTOCOL;
    route->rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(message, RTA_OIF, if_nametoindex("lo"));
    int err = kernel_netlink_talk(n, message, NULL, NULL);
    if (err == 0 || (err == -EEXIST && has_local_default(n, family, KERNEL_TABLE_CATCH)))
        return 0;
    if (err == -EEXIST)
        return kernel_fail(
            error, err,
            "routing table %d is in use: it has another default route; see 'ip %s route show table %d' and "
            "move that to another table",
            KERNEL_TABLE_CATCH, family_name(family), KERNEL_TABLE_CATCH);
    return kernel_fail(error, err, "cannot do 'ip %s route add local default dev lo table %d': %s%s",
                       family_name(family), KERNEL_TABLE_CATCH, err_text(err),
                       err == -ENETDOWN ? "; do 'ip link set lo up'" : "");
}

int kernel_policy_catch(struct kernel_netlink *n, int family, const struct config_mark *mark,
                        char error[static KERNEL_ERROR_MAX])
{
    static const struct policy_rule skip = {
        .priority = KERNEL_PRIORITY_SKIP, .go_to = KERNEL_PRIORITY_LANES, .from_here = true};
    static const struct policy_rule caught = {.priority = KERNEL_PRIORITY_CATCH, .table = KERNEL_TABLE_CATCH};
    int err = add_local_default(n, family, error);
    if (err == 0)
        err = add_rule(n, family, mark, &skip, error);
    return err < 0 ? err : add_rule(n, family, mark, &caught, error);
}

int kernel_policy_lanes(struct kernel_netlink *n, int family, const struct config_mark *mark,
                        char error[static KERNEL_ERROR_MAX])
{
    static const struct policy_rule lanes = {.priority = KERNEL_PRIORITY_LANES, .table = KERNEL_TABLE_LANES};
    return add_rule(n, family, mark, &lanes, error);
}
