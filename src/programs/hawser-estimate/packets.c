#include "packets.h"

#include <string.h>
#include <sys/socket.h>

#include <pcap/dlt.h>

enum {
    ETHERTYPE_4 = 0x0800,
    ETHERTYPE_6 = 0x86dd,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_QINQ = 0x88a8,
    TCP = 6
};

/* What is left of a packet. */
struct rest {
    const uint8_t *at;
    size_t captured, len;
};

static bool skip(struct rest *r, size_t n)
{
    if (r->captured < n)
        return false;
    r->at += n;
    r->captured -= n;
    r->len -= n;
    return true;
}

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

/* Bytes before the network layer, and where among them its type stands; -1: none, the IP version tells. */
static const struct link {
    int type, header_bytes, ethertype_at;
} links[] = {
    {DLT_EN10MB, 14, 12}, {DLT_LINUX_SLL, 16, 14}, {DLT_LINUX_SLL2, 20, 0}, {DLT_RAW, 0, -1},
    {DLT_IPV4, 0, -1},    {DLT_IPV6, 0, -1},       {DLT_NULL, 4, -1},       {DLT_LOOP, 4, -1},
};

static const struct link *link_of(int type)
{
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        if (links[i].type == type)
            return &links[i];
    }
    return NULL;
}

bool packet_link_is_known(int link_type)
{
    return link_of(link_type) != NULL;
}

static enum packet_kind skip_link(const struct link *l, struct rest *r)
{
    if (r->captured < (size_t)l->header_bytes)
        return PACKET_CUT_SHORT;
    uint16_t type = l->ethertype_at >= 0 ? be16(r->at + l->ethertype_at) : ETHERTYPE_4;
    skip(r, (size_t)l->header_bytes);
    while (type == ETHERTYPE_VLAN || type == ETHERTYPE_QINQ) {
        if (r->captured < 4)
            return PACKET_CUT_SHORT;
        type = be16(r->at + 2);
        skip(r, 4);
    }
    return type == ETHERTYPE_4 || type == ETHERTYPE_6 ? PACKET_TCP : PACKET_NOT_IP;
}

static struct addr addr_of(int family, const uint8_t *bytes)
{
    struct addr a = {.family = (uint8_t)family};
    memcpy(a.bytes, bytes, family == AF_INET ? 4 : 16);
    return a;
}

/* Padding of the link layer behind the packet goes. */
static void cut_to(struct rest *r, size_t len)
{
    r->len = len < r->len ? len : r->len;
    r->captured = r->captured < r->len ? r->captured : r->len;
}

static enum packet_kind read_ip4(struct rest *r, struct segment_seen *out)
{
    if (r->captured < 20)
        return PACKET_CUT_SHORT;
    const uint8_t *h = r->at;
    size_t header = (size_t)(h[0] & 15) * 4, total = be16(h + 2);
    if (header < 20)
        return PACKET_NOT_IP;
    if (h[9] != TCP)
        return PACKET_NOT_TCP;
    if ((be16(h + 6) & 0x3fff) != 0)
        return PACKET_FRAGMENT;
    out->from.addr = addr_of(AF_INET, h + 12);
    out->to.addr = addr_of(AF_INET, h + 16);
    if (total >= header) /* 0 where the kernel was to cut the packet (TSO) */
        cut_to(r, total);
    return skip(r, header) ? PACKET_TCP : PACKET_CUT_SHORT;
}

static enum packet_kind read_ip6(struct rest *r, struct segment_seen *out)
{
    if (r->captured < 40)
        return PACKET_CUT_SHORT;
    const uint8_t *h = r->at;
    size_t payload = be16(h + 4);
    if (h[6] == 44)
        return PACKET_FRAGMENT;
    if (h[6] != TCP)
        return PACKET_NOT_TCP; /* behind other headers too: rare, and said */
    out->from.addr = addr_of(AF_INET6, h + 8);
    out->to.addr = addr_of(AF_INET6, h + 24);
    if (payload > 0)
        cut_to(r, 40 + payload);
    return skip(r, 40) ? PACKET_TCP : PACKET_CUT_SHORT;
}

static enum packet_kind read_tcp(struct rest *r, struct segment_seen *out)
{
    if (r->captured < 20)
        return PACKET_CUT_SHORT;
    const uint8_t *h = r->at;
    size_t header = (size_t)(h[12] >> 4) * 4;
    if (header < 20 || header > r->len)
        return PACKET_NOT_TCP;
    out->from.port = be16(h);
    out->to.port = be16(h + 2);
    out->seq = be32(h + 4);
    out->fin = (h[13] & 1) != 0;
    out->syn = (h[13] & 2) != 0;
    out->rst = (h[13] & 4) != 0;
    out->ack = (h[13] & 16) != 0;
    out->len = (uint32_t)(r->len - header);
    if (!skip(r, header))
        skip(r, r->captured); /* cut in its options */
    out->bytes = r->at;
    out->captured = (uint32_t)r->captured;
    return PACKET_TCP;
}

enum packet_kind packet_read(int link_type, const uint8_t *bytes, size_t captured, size_t len,
                             struct segment_seen *out)
{
    const struct link *l = link_of(link_type);
    struct rest r = {.at = bytes, .captured = captured < len ? captured : len, .len = len};
    memset(out, 0, sizeof(*out));
    enum packet_kind kind = l != NULL ? skip_link(l, &r) : PACKET_NOT_IP;
    if (kind != PACKET_TCP)
        return kind;
    if (r.captured == 0)
        return PACKET_CUT_SHORT;
    if (r.at[0] >> 4 != 4 && r.at[0] >> 4 != 6)
        return PACKET_NOT_IP;
    kind = r.at[0] >> 4 == 4 ? read_ip4(&r, out) : read_ip6(&r, out);
    return kind == PACKET_TCP ? read_tcp(&r, out) : kind;
}
