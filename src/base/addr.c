#include "hawser/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct addr from_v6(const struct in6_addr *in)
{
    struct addr a = {0};
    if (IN6_IS_ADDR_V4MAPPED(in)) {
        a.family = AF_INET;
        memcpy(a.bytes, in->s6_addr + 12, 4);
    } else {
        a.family = AF_INET6;
        memcpy(a.bytes, in->s6_addr, 16);
    }
    return a;
}

int addr_parse(struct addr *out, const char *text)
{
    struct addr a = {0};
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, a.bytes) == 1)
        a.family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6) == 1)
        a = from_v6(&v6);
    else
        return -EINVAL;
    *out = a;
    return 0;
}

/* A decimal number of at most max, nothing before or after it; or -1. */
static long parse_number(const char *text, long max)
{
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 5)
        return -1;
    char *end;
    long v = strtol(text, &end, 10);
    return *end == '\0' && v <= max ? v : -1;
}

int endpoint_parse(struct endpoint *out, const char *text)
{
    char host[ADDR_TEXT_MAX];
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return -EINVAL;
    const char *first = text;
    size_t len = (size_t)(colon - text);
    bool bracketed = text[0] == '[';
    if (bracketed) {
        if (len < 2 || text[len - 1] != ']')
            return -EINVAL;
        first++;
        len -= 2;
    }
    if (len >= sizeof(host))
        return -EINVAL;
    memcpy(host, first, len);
    host[len] = '\0';
    struct endpoint e;
    long port = parse_number(colon + 1, 65535);
    if (port < 0 || addr_parse(&e.addr, host) < 0)
        return -EINVAL;
    if (!bracketed && strchr(host, ':') != NULL)
        return -EINVAL; /* "fd00::1:80" could mean two things */
    e.port = (uint16_t)port;
    *out = e;
    return 0;
}

static unsigned bits_of(const struct addr *a)
{
    return a->family == AF_INET ? 32 : 128;
}

/* Whether bits [from, the family's width) are zero. */
static bool tail_is_zero(const struct addr *a, unsigned from)
{
    for (unsigned bit = from; bit < bits_of(a); bit++) {
        if (a->bytes[bit / 8] & (0x80 >> (bit % 8)))
            return false;
    }
    return true;
}

int prefix_parse(struct prefix *out, const char *text)
{
    char host[ADDR_TEXT_MAX];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    struct prefix p;
    if (addr_parse(&p.addr, host) < 0)
        return -EINVAL;
    long bits = slash != NULL ? parse_number(slash + 1, (long)bits_of(&p.addr)) : (long)bits_of(&p.addr);
    if (bits < 0)
        return -EINVAL;
    if (!tail_is_zero(&p.addr, (unsigned)bits))
        return -EDOM;
    p.len_bits = (uint8_t)bits;
    *out = p;
    return 0;
}

char *addr_format(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
    if (a->family == AF_UNSPEC || inet_ntop(a->family, a->bytes, out, ADDR_TEXT_MAX) == NULL)
        memcpy(out, "none", 5);
    return out;
}

char *endpoint_format(const struct endpoint *e, char out[static ENDPOINT_TEXT_MAX])
{
    char host[ADDR_TEXT_MAX];
    addr_format(&e->addr, host);
    snprintf(out, ENDPOINT_TEXT_MAX, e->addr.family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
             (unsigned)e->port);
    return out;
}

char *prefix_format(const struct prefix *p, char out[static PREFIX_TEXT_MAX])
{
    char host[ADDR_TEXT_MAX];
    snprintf(out, PREFIX_TEXT_MAX, "%s/%u", addr_format(&p->addr, host), (unsigned)p->len_bits);
    return out;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, a->family == AF_INET ? 4 : 16) == 0;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && addr_equal(&a->addr, &b->addr);
}

uint32_t endpoint_hash(const struct endpoint *e)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < sizeof(e->addr.bytes); i++)
        h = (h ^ e->addr.bytes[i]) * 16777619u;
    return (h ^ e->port) * 16777619u;
}

bool prefix_contains(const struct prefix *p, const struct addr *a)
{
    if (p->addr.family != a->family)
        return false;
    unsigned whole = p->len_bits / 8, rest = p->len_bits % 8;
    if (memcmp(p->addr.bytes, a->bytes, whole) != 0)
        return false;
    if (rest == 0)
        return true;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));
    return ((p->addr.bytes[whole] ^ a->bytes[whole]) & mask) == 0;
}

bool prefix_overlaps(const struct prefix *p, const struct prefix *q)
{
    return prefix_contains(p, &q->addr) || prefix_contains(q, &p->addr);
}

bool addr_is_special(const struct addr *a)
{
    static const struct prefix special[] = {
        {{AF_INET, {0}}, 8},
        {{AF_INET, {127}}, 8},
        {{AF_INET, {169, 254}}, 16},
        {{AF_INET, {224}}, 4},
        {{AF_INET, {240}}, 4},
        {{AF_INET6, {0}}, 127},
        {{AF_INET6, {0xfe, 0x80}}, 10},
        {{AF_INET6, {0xff}}, 8},
    };
    if (a->family != AF_INET && a->family != AF_INET6)
        return true;
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (prefix_contains(&special[i], a))
            return true;
    }
    return false;
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (e->addr.family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(e->port);
        memcpy(&in->sin_addr, e->addr.bytes, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(e->port);
    memcpy(&in6->sin6_addr, e->addr.bytes, 16);
    return sizeof(*in6);
}

int endpoint_from_sockaddr(struct endpoint *out, const struct sockaddr *sa)
{
    struct endpoint e = {0};
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        e.addr.family = AF_INET;
        memcpy(e.addr.bytes, &in.sin_addr, 4);
        e.port = ntohs(in.sin_port);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof(in6));
        e.addr = from_v6(&in6.sin6_addr);
        e.port = ntohs(in6.sin6_port);
    } else {
        return -EAFNOSUPPORT;
    }
    *out = e;
    return 0;
}
