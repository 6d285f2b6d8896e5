/* addr.h - addresses, endpoints and prefixes of both IP families (floor 0, pure).
 * An IPv4 address is held as its four bytes in network order in bytes[0..3], the rest zero; IPv4-mapped
 * IPv6 is normalised to IPv4 on the way in. Any thread. */
#ifndef HAWSER_ADDR_H
#define HAWSER_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr {
    uint8_t family; /* AF_INET or AF_INET6; AF_UNSPEC = none */
    uint8_t bytes[16];
};

struct endpoint {
    struct addr addr;
    uint16_t port; /* host order */
};

struct prefix {
    struct addr addr; /* host bits are zero */
    uint8_t len_bits;
};

/* Longest text of each, with the final NUL: "[v6]:65535", "v6/128". */
#define ADDR_TEXT_MAX     46
#define ENDPOINT_TEXT_MAX 56
#define PREFIX_TEXT_MAX   52

/* Numeric text to value; 0 or -EINVAL (nothing touched). A prefix without "/len" is a single host; host
 * bits set past the length are an error (-EDOM), because the user meant something else. An endpoint is
 * "1.2.3.4:80" or "[fd00::1]:80". No name is ever looked up. */
int addr_parse(struct addr *out, const char *text);
int endpoint_parse(struct endpoint *out, const char *text);
int prefix_parse(struct prefix *out, const char *text);

/* Value to text; returns out. */
char *addr_format(const struct addr *a, char out[static ADDR_TEXT_MAX]);
char *endpoint_format(const struct endpoint *e, char out[static ENDPOINT_TEXT_MAX]);
char *prefix_format(const struct prefix *p, char out[static PREFIX_TEXT_MAX]);

bool addr_equal(const struct addr *a, const struct addr *b);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* FNV-1a: for tables where a clash costs little, since who is hashed can make clashes. */
uint32_t endpoint_hash(const struct endpoint *e);
bool prefix_contains(const struct prefix *p, const struct addr *a);
/* Whether any address is in both. */
bool prefix_overlaps(const struct prefix *p, const struct prefix *q);
/* Loopback, link-local, multicast, unspecified or broadcast: never a destination of a session. */
bool addr_is_special(const struct addr *a);

/* To and from socket addresses. endpoint_to_sockaddr returns the length used; endpoint_from_sockaddr
 * -EAFNOSUPPORT for another family. */
socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *out);
int endpoint_from_sockaddr(struct endpoint *out, const struct sockaddr *sa);

#endif
