#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/kernel.h"

/* The number of leading ones of a netmask. */
static int mask_bits(const struct sockaddr *mask, const struct addr *a)
{
    struct endpoint e;
    int bits = 0, width = a->family == AF_INET ? 32 : 128;
    if (mask == NULL)
        return width;
    /* An IPv6 mask looks like no mapped address, so nothing is normalised away. Some systems leave its family
     * out. */
    struct sockaddr_storage copy = {0};
    memcpy(&copy, mask, a->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    copy.ss_family = a->family;
    if (endpoint_from_sockaddr(&e, (const struct sockaddr *)&copy) < 0)
        return width;
    while (bits < width && (e.addr.bytes[bits / 8] & (0x80 >> (bits % 8))) != 0)
        bits++;
    return bits;
}

static struct prefix network_of(const struct addr *a, int bits)
{
    struct prefix p = {.addr = *a, .len_bits = (uint8_t)bits};
    for (int i = bits; i < (a->family == AF_INET ? 32 : 128); i++)
        p.addr.bytes[i / 8] &= (uint8_t) ~(0x80 >> (i % 8));
    return p;
}

static bool has_prefix(const struct prefix *list, size_t count, const struct prefix *p)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].len_bits == p->len_bits && addr_equal(&list[i].addr, &p->addr))
            return true;
    }
    return false;
}

int kernel_interface_networks(const char *iface, struct prefix *out, size_t max)
{
    struct ifaddrs *all;
    struct endpoint e;
    int count = 0;
    if (getifaddrs(&all) < 0)
        return -errno;
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr == NULL || strcmp(one->ifa_name, iface) != 0 ||
            endpoint_from_sockaddr(&e, one->ifa_addr) < 0 || addr_is_special(&e.addr))
            continue;
        struct prefix p = network_of(&e.addr, mask_bits(one->ifa_netmask, &e.addr));
        size_t kept = (size_t)count < max ? (size_t)count : max;
        if (has_prefix(out, kept, &p))
            continue;
        if ((size_t)count < max)
            out[count] = p;
        count++;
    }
    freeifaddrs(all);
    return count;
}

int kernel_own_addresses(struct addr *out, size_t max)
{
    struct ifaddrs *all;
    struct endpoint e;
    int count = 0;
    if (getifaddrs(&all) < 0)
        return -errno;
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        if (one->ifa_addr == NULL || endpoint_from_sockaddr(&e, one->ifa_addr) < 0)
            continue;
        if ((size_t)count < max)
            out[count] = e.addr;
        count++;
    }
    freeifaddrs(all);
    return count;
}
