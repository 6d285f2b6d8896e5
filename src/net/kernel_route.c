/* Lane routes: a host route to the peer in a table of our own, like the one that would be taken without the
 * mark, with initial windows (RTAX_INITCWND, RTAX_INITRWND; see ip-route(8)). The route is a copy of one
 * answer of the kernel: when a gateway changes it is out of date, which is why it is asked for again before
 * each dial. When its device goes down the kernel removes it, and the lookup goes on to the main table. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include "hawser/err.h"
#include "kernel_internal.h"

/* What is copied of an answer. */
struct way {
    uint8_t type;
    uint32_t oif, expires;
    size_t gateway_bytes, via_bytes, source_bytes, metrics_bytes;
    uint8_t gateway[16], via[32], source[16];
    _Alignas(struct nlattr) uint8_t metrics[512];
};

static size_t copy_payload(void *to, size_t room, const struct nlattr *attr)
{
    size_t len = mnl_attr_get_payload_len(attr);
    if (len > room)
        return 0;
    memcpy(to, mnl_attr_get_payload(attr), len);
    return len;
}

static int take_attr(const struct nlattr *attr, void *argument)
{
    struct way *w = argument;
    switch (mnl_attr_get_type(attr)) {
    case RTA_OIF:
        w->oif = mnl_attr_get_u32(attr);
        break;
    case RTA_GATEWAY:
        w->gateway_bytes = copy_payload(w->gateway, sizeof(w->gateway), attr);
        break;
    case RTA_VIA: /* an IPv4 destination behind an IPv6 gateway */
        w->via_bytes = copy_payload(w->via, sizeof(w->via), attr);
        break;
    case RTA_PREFSRC:
        w->source_bytes = copy_payload(w->source, sizeof(w->source), attr);
        break;
    case RTA_METRICS:
        w->metrics_bytes = copy_payload(w->metrics, sizeof(w->metrics), attr);
        break;
    case RTA_CACHEINFO:
        if (mnl_attr_get_payload_len(attr) >= sizeof(struct rta_cacheinfo)) {
            struct rta_cacheinfo info;
            memcpy(&info, mnl_attr_get_payload(attr), sizeof(info));
            w->expires = (uint32_t)info.rta_expires;
        }
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

static int take_way(const struct nlmsghdr *message, void *argument)
{
    struct way *w = argument;
    const struct rtmsg *route = mnl_nlmsg_get_payload(message);
    if (message->nlmsg_type != RTM_NEWROUTE)
        return MNL_CB_OK;
    w->type = route->rtm_type;
    mnl_attr_parse(message, sizeof(struct rtmsg), take_attr, w);
    return MNL_CB_OK;
}

static void put_address(struct nlmsghdr *message, uint16_t type, const struct addr *a)
{
    mnl_attr_put(message, type, a->family == AF_INET ? 4 : 16, a->bytes);
}

/* The way without the mark. */
static int way_find(struct kernel_netlink *n, const struct addr *peer, struct way *w)
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    void *extra;
    struct nlmsghdr *message =
        kernel_netlink_start(buffer, RTM_GETROUTE, NLM_F_ACK, sizeof(struct rtmsg), &extra);
    struct rtmsg *route = extra;
    route->rtm_family = peer->family;
    route->rtm_dst_len = peer->family == AF_INET ? 32 : 128;
    put_address(message, RTA_DST, peer);
    return kernel_netlink_talk(n, message, take_way, w);
}

struct metrics_copy {
    struct nlmsghdr *to;
    bool mtu_is_learned;
};

/* The metrics that somebody set on the route stay. A path MTU that was learned (it expires) does not: it may
 * grow again, and a copy would be for ever. */
static int copy_metric(const struct nlattr *attr, void *argument)
{
    const struct metrics_copy *copy = argument;
    uint16_t type = mnl_attr_get_type(attr);
    if (type != RTAX_INITCWND && type != RTAX_INITRWND && (type != RTAX_MTU || !copy->mtu_is_learned))
        mnl_attr_put(copy->to, type, mnl_attr_get_payload_len(attr), mnl_attr_get_payload(attr));
    return MNL_CB_OK;
}

static void put_metrics(struct nlmsghdr *message, const struct way *w, uint32_t initcwnd, uint32_t initrwnd)
{
    struct metrics_copy copy = {.to = message, .mtu_is_learned = w->expires != 0};
    struct nlattr *nest = mnl_attr_nest_start(message, RTA_METRICS);
    mnl_attr_parse_payload(w->metrics, w->metrics_bytes, copy_metric, &copy);
    if (initcwnd > 0)
        mnl_attr_put_u32(message, RTAX_INITCWND, initcwnd);
    if (initrwnd > 0)
        mnl_attr_put_u32(message, RTAX_INITRWND, initrwnd);
    mnl_attr_nest_end(message, nest);
}

static int way_write(struct kernel_netlink *n, const struct addr *peer, const struct way *w,
                     uint32_t initcwnd, uint32_t initrwnd)
{
    _Alignas(struct nlmsghdr) char buffer[KERNEL_MESSAGE_MAX];
    void *extra;
    struct nlmsghdr *message = kernel_netlink_start(
        buffer, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct rtmsg), &extra);
    struct rtmsg *route = extra;
    bool direct = w->gateway_bytes == 0 && w->via_bytes == 0;
    route->rtm_family = peer->family;
    route->rtm_dst_len = peer->family == AF_INET ? 32 : 128;
    route->rtm_table = KERNEL_TABLE_LANES;
    route->rtm_protocol = KERNEL_PROTOCOL;
    route->rtm_scope = peer->family == AF_INET && direct ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_UNICAST;
    put_address(message, RTA_DST, peer);
    mnl_attr_put_u32(message, RTA_OIF, w->oif);
    if (w->gateway_bytes > 0)
        mnl_attr_put(message, RTA_GATEWAY, w->gateway_bytes, w->gateway);
    else if (w->via_bytes > 0)
        mnl_attr_put(message, RTA_VIA, w->via_bytes, w->via);
    if (w->source_bytes > 0)
        mnl_attr_put(message, RTA_PREFSRC, w->source_bytes, w->source);
    put_metrics(message, w, initcwnd, initrwnd);
    return kernel_netlink_talk(n, message, NULL, NULL);
}

int kernel_route_set(struct kernel_netlink *n, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                     char error[static KERNEL_ERROR_MAX])
{
    char text[ADDR_TEXT_MAX];
    struct way w = {0};
    if (peer->family != AF_INET && peer->family != AF_INET6)
        return kernel_fail(error, -EAFNOSUPPORT, "a lane route needs an IPv4 or IPv6 address");
    int err = way_find(n, peer, &w);
    if (err == 0 && w.type != RTN_UNICAST)
        err = -ENETUNREACH;
    if (err < 0)
        return kernel_fail(error, err,
                           "there is no route to the peer %s (%s); 'ip route get %s' should show one",
                           addr_format(peer, text), err_text(err), text);
    err = way_write(n, peer, &w, initcwnd, initrwnd);
    if (err < 0)
        return kernel_fail(error, err, "cannot write the lane route to %s into table %d: %s",
                           addr_format(peer, text), KERNEL_TABLE_LANES, err_text(err));
    return 0;
}
