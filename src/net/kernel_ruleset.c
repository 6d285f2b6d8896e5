/* The ruleset.
 *
 * prerouting -> divert: a packet of a socket of ours that speaks in another's name (a caught client's
 * connection, or the far side's connection in the client's name) is delivered here by its mark. Needed on
 * every node.
 *            -> new: a SYN from an interface of [intercept]. Addresses of ours or of peers, what is no
 *               peer's network, classes in file order; then
 *            -> catch: only what a peer that is up reaches, and was not refused lately. tproxy without a
 * listener does not match, so a listener that is closed lets everything new go direct. What a peer that is
 * down would reach is counted.
 *
 * The SYN match lets connections that ran before we did alone. It would miss the last packet of a handshake
 * with SYN cookies, of which no socket knows: that one is found by a bit in the conntrack mark, which a
 * caught SYN sets. A SYN that is not caught clears it, or a retried SYN that went direct would lose its
 * connection to us later.
 *
 * `accept` ends this chain only; a firewall in other tables still sees the packet. */
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_internal.h"

bool kernel_ruleset_takes_name(const char *iface)
{
    size_t len = strlen(iface);
    if (len == 0 || len >= IFNAMSIZ)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)iface[i];
        if (ch <= ' ' || ch >= 0x7f || ch == '"' || ch == '\\' || ch == '*')
            return false;
    }
    return true;
}

/* ---- sets ---- */

static void print_set(FILE *to, const char *name, const char *type, const struct kernel_ranges *r, int family)
{
    fprintf(to, "    set %s {\n        type %s\n        flags interval\n", name, type);
    kernel_ranges_print(to, r, family, NULL, "        elements = { ", " }\n");
    fputs("    }\n", to);
}

static void print_family_sets(FILE *to, int family, const struct kernel_ranges *known,
                              const struct kernel_ranges *excluded)
{
    const char *type = family == AF_INET ? "ipv4_addr" : "ipv6_addr";
    int n = family == AF_INET ? 4 : 6;
    static const struct kernel_ranges none;
    char name[16];
    snprintf(name, sizeof(name), "known%d", n);
    print_set(to, name, type, known, family);
    snprintf(name, sizeof(name), "excluded%d", n);
    print_set(to, name, type, excluded, family);
    snprintf(name, sizeof(name), "peers%d", n);
    print_set(to, name, type, &none, family);
    fprintf(to,
            "    set refused%d {\n        type %s . inet_service\n        size %d\n        flags timeout\n   "
            " }\n",
            n, type, KERNEL_REFUSED_MAX);
}

/* The addresses that tunnels go to, and those where no session goes (addr_is_special), which a network like
 * 0.0.0.0/0 would hold. */
static int excluded_build(struct kernel_ranges *out, const struct config *c)
{
    static const char *const special[] = {"0.0.0.0/8",   "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
                                          "240.0.0.0/4", "::/127",      "fe80::/10",      "ff00::/8"};
    size_t n = 0, special_count = sizeof(special) / sizeof(special[0]);
    *out = (struct kernel_ranges){0};
    struct kernel_owned *owned = calloc(c->peer_count + special_count, sizeof(*owned));
    if (owned == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < special_count; i++)
        n += prefix_parse(&owned[n].prefix, special[i]) == 0;
    for (size_t i = 0; i < c->peer_count; i++) {
        const struct addr *a = &c->peers[i].address.addr;
        if (a->family != AF_UNSPEC)
            owned[n++].prefix = (struct prefix){.addr = *a, .len_bits = a->family == AF_INET ? 32 : 128};
    }
    int err = kernel_ranges_build(out, owned, n);
    free(owned);
    return err;
}

/* ---- classes ---- */

struct class_text {
    const struct config_class *class;
    struct kernel_ranges from, to;
    bool *peers; /* by index: named by the class */
};

static void print_names(FILE *to, char (*names)[CONFIG_NAME_MAX], size_t count)
{
    fputs("iifname { ", to);
    for (size_t i = 0; i < count; i++)
        fprintf(to, "%s\"%s\"", i > 0 ? ", " : "", names[i]);
    fputs(" } ", to);
}

static int port_order(const void *a, const void *b)
{
    const struct config_port_range *x = a, *y = b;
    return (int)x->first - (int)y->first;
}

/* Overlapping ranges would be an error in nft. */
static int print_ports(FILE *to, const struct config_class *k)
{
    struct config_port_range *ports = calloc(k->port_count, sizeof(*ports));
    if (ports == NULL)
        return -ENOMEM;
    memcpy(ports, k->ports, k->port_count * sizeof(*ports));
    qsort(ports, k->port_count, sizeof(*ports), port_order);
    fputs("tcp dport { ", to);
    for (size_t i = 0; i < k->port_count;) {
        uint32_t first = ports[i].first, last = ports[i].last;
        for (i++; i < k->port_count && ports[i].first <= last + 1; i++) {
            if (ports[i].last > last)
                last = ports[i].last;
        }
        fprintf(to, "%u", first);
        if (last != first)
            fprintf(to, "-%u", last);
        fputs(i < k->port_count ? ", " : " } ", to);
    }
    free(ports);
    return 0;
}

static void print_dscp(FILE *to, const char *ip, uint64_t mask)
{
    const char *gap = "";
    fprintf(to, "%s dscp { ", ip);
    for (unsigned n = 0; n < 64; n++) {
        if (mask & (UINT64_C(1) << n)) {
            fprintf(to, "%s%u", gap, n);
            gap = ", ";
        }
    }
    fputs(" } ", to);
}

/* The address matches of one family; false: nothing of this family can fit. */
static bool print_addresses(FILE *to, const struct class_text *t, const struct kernel_ranges *known,
                            int family)
{
    const char *ip = family == AF_INET ? "ip" : "ip6";
    const struct config_class *k = t->class;
    char before[32];
    snprintf(before, sizeof(before), "%s saddr { ", ip);
    if (k->from.count > 0 && kernel_ranges_print(to, &t->from, family, NULL, before, " } ") == 0)
        return false;
    snprintf(before, sizeof(before), "%s daddr { ", ip);
    if (k->to.count > 0 && kernel_ranges_print(to, &t->to, family, NULL, before, " } ") == 0)
        return false;
    if (k->peer_count > 0 && kernel_ranges_print(to, known, family, t->peers, before, " } ") == 0)
        return false;
    if (k->dscp_mask != 0)
        print_dscp(to, ip, k->dscp_mask);
    return true;
}

static void print_verdict(FILE *to, const struct config_class *k)
{
    switch (k->action) {
    case CONFIG_ACTION_ACCELERATE:
        fputs("goto catch", to);
        break;
    case CONFIG_ACTION_BYPASS:
        fputs("accept", to);
        break;
    case CONFIG_ACTION_DENY:
        fputs("reject with tcp reset", to);
        break;
    }
    bool plain = k->name[0] != '\0';
    for (const char *p = k->name; *p != '\0'; p++)
        plain = plain && (isalnum((unsigned char)*p) || strchr(" ._-", *p) != NULL);
    if (plain)
        fprintf(to, " comment \"class %s\"", k->name);
    fputc('\n', to);
}

/* One rule; family AF_UNSPEC where no key depends on it. A rule is made in memory first, because it may turn
 * out that nothing can fit. */
static int print_rule(FILE *to, const struct class_text *t, const struct kernel_ranges *known, int family)
{
    const struct config_class *k = t->class;
    char *text = NULL;
    size_t len = 0;
    int err = 0;
    FILE *rule = open_memstream(&text, &len);
    if (rule == NULL)
        return -ENOMEM;
    fputs("        ", rule);
    if (k->iface_count > 0)
        print_names(rule, k->ifaces, k->iface_count);
    if (k->port_count > 0)
        err = print_ports(rule, k);
    bool fits = err == 0 && (family == AF_UNSPEC || print_addresses(rule, t, known, family));
    if (fits)
        print_verdict(rule, k);
    if (fclose(rule) != 0 && err == 0)
        err = -ENOMEM;
    if (fits && err == 0)
        fputs(text, to);
    free(text);
    return err;
}

static int print_class(FILE *to, const struct config *c, const struct config_class *k,
                       const struct kernel_ranges *known, bool ipv6)
{
    struct class_text t = {.class = k};
    int err = kernel_ranges_of_prefixes(&t.from, &k->from);
    if (err == 0)
        err = kernel_ranges_of_prefixes(&t.to, &k->to);
    t.peers = calloc(c->peer_count > 0 ? c->peer_count : 1, sizeof(*t.peers));
    if (t.peers == NULL)
        err = -ENOMEM;
    for (size_t i = 0; err == 0 && i < c->peer_count; i++) {
        for (size_t n = 0; n < k->peer_count; n++)
            t.peers[i] = t.peers[i] || strcmp(k->peers[n], c->peers[i].name) == 0;
    }
    if (err == 0 && k->from.count == 0 && k->to.count == 0 && k->peer_count == 0 && k->dscp_mask == 0) {
        err = print_rule(to, &t, known, AF_UNSPEC);
    } else if (err == 0) {
        err = print_rule(to, &t, known, AF_INET);
        if (err == 0 && ipv6)
            err = print_rule(to, &t, known, AF_INET6);
    }
    kernel_ranges_end(&t.from);
    kernel_ranges_end(&t.to);
    free(t.peers);
    return err;
}

/* ---- chains ---- */

#define NEW_CONNECTION "tcp flags & (fin | syn | rst | ack) == syn"

/* What is of interest here and in no set of peers belongs to a peer that is down: it goes direct, counted. */
static void print_catch(FILE *to, const struct config *c, int family)
{
    const char *ip = family == AF_INET ? "ip" : "ip6";
    int n = family == AF_INET ? 4 : 6;
    fprintf(to, "        %s daddr . tcp dport @refused%d accept\n", ip, n);
    fprintf(to,
            "        %s daddr @peers%d meta l4proto tcp tproxy %s to %s:%u ct mark set ct mark | 0x%x goto "
            "divert\n",
            ip, n, ip, family == AF_INET ? "127.0.0.1" : "[::1]", (unsigned)c->port,
            (unsigned)KERNEL_CT_MARK);
    fprintf(to, "        %s daddr != @peers%d " NEW_CONNECTION " counter name " KERNEL_COUNTER_PEER_DOWN "\n",
            ip, n);
}

static int print_new(FILE *to, const struct config *c, const struct kernel_ranges *known, bool ipv6)
{
    int err = 0;
    fprintf(to, "    chain new {\n        ct mark & 0x%x == 0x%x ct mark set ct mark & 0x%x\n",
            (unsigned)KERNEL_CT_MARK, (unsigned)KERNEL_CT_MARK, ~(unsigned)KERNEL_CT_MARK);
    fprintf(to, "        meta mark & 0x%x == 0x%x accept\n", c->lane_mark.mask, c->lane_mark.value);
    fputs("        fib daddr type { local, broadcast, anycast, multicast } accept\n", to);
    fputs("        ip daddr @excluded4 accept\n        ip daddr != @known4 accept\n", to);
    if (ipv6)
        fputs("        ip6 daddr @excluded6 accept\n        ip6 daddr != @known6 accept\n", to);
    else
        fputs("        meta nfproto ipv6 accept\n", to);
    for (size_t i = 0; err == 0 && i < c->class_count; i++) {
        /* What a protocol is shows in the first bytes only: the engine decides about those. */
        if (c->classes[i].proto_mask == 0)
            err = print_class(to, c, &c->classes[i], known, ipv6);
    }
    fputs("        goto catch\n    }\n", to);
    return err;
}

static void print_prerouting(FILE *to, const struct config *c)
{
    fputs("    chain prerouting {\n        type filter hook prerouting priority mangle; policy accept;\n"
          "        meta l4proto != tcp accept\n        socket transparent 1 goto divert\n",
          to);
    if (c->interface_count > 0) {
        /* Read-only use; the cast is for want of const on arrays of arrays in C11. */
        char(*names)[CONFIG_NAME_MAX] = (char(*)[CONFIG_NAME_MAX])(uintptr_t)c->interfaces;
        fputs("        ", to);
        print_names(to, names, c->interface_count);
        fputs(NEW_CONNECTION " goto new\n        ", to);
        print_names(to, names, c->interface_count);
        fprintf(to, "ct mark & 0x%x == 0x%x ct direction original goto catch\n", (unsigned)KERNEL_CT_MARK,
                (unsigned)KERNEL_CT_MARK);
    }
    fputs("    }\n", to);
}

static int print_table(FILE *to, const struct config *c, bool ipv6)
{
    struct kernel_ranges known, excluded = {0};
    int err = kernel_ranges_of_peers(&known, c);
    if (err == 0)
        err = excluded_build(&excluded, c);
    if (err == 0) {
        fputs("table inet hawser {\n    flags owner\n    counter " KERNEL_COUNTER_PEER_DOWN " {\n    }\n",
              to);
        print_family_sets(to, AF_INET, &known, &excluded);
        if (ipv6)
            print_family_sets(to, AF_INET6, &known, &excluded);
        fprintf(to, "    chain divert {\n        meta mark set meta mark & 0x%x | 0x%x accept\n    }\n",
                ~c->mark.mask, c->mark.value);
        fputs("    chain catch {\n", to);
        print_catch(to, c, AF_INET);
        if (ipv6)
            print_catch(to, c, AF_INET6);
        fputs("    }\n", to);
        err = print_new(to, c, &known, ipv6);
        print_prerouting(to, c);
        fputs("}\n", to);
    }
    kernel_ranges_end(&known);
    kernel_ranges_end(&excluded);
    return err;
}

static bool names_are_fine(const struct config *c)
{
    bool fine = true;
    for (size_t i = 0; i < c->interface_count; i++)
        fine = fine && kernel_ruleset_takes_name(c->interfaces[i]);
    for (size_t i = 0; i < c->class_count; i++) {
        for (size_t k = 0; k < c->classes[i].iface_count; k++)
            fine = fine && kernel_ruleset_takes_name(c->classes[i].ifaces[k]);
    }
    return fine;
}

/* Close, and what was written, or NULL. */
static char *finish(FILE *to, char **text, int err)
{
    if (ferror(to) != 0)
        err = -ENOMEM;
    if (fclose(to) != 0 || err < 0) {
        free(*text);
        *text = NULL;
    }
    return *text;
}

static char *ruleset(const struct config *c, bool ipv6, const char *before)
{
    char *text = NULL;
    size_t len;
    if (!names_are_fine(c))
        return NULL;
    FILE *to = open_memstream(&text, &len);
    if (to == NULL)
        return NULL;
    fputs(before, to);
    int err = print_table(to, c, ipv6);
    return finish(to, &text, err);
}

char *kernel_ruleset(const struct config *c, bool ipv6)
{
    return ruleset(c, ipv6, "");
}

/* `flush table` takes the rules of all chains and leaves sets alone. */
char *kernel_ruleset_again(const struct config *c, bool ipv6)
{
    return ruleset(c, ipv6,
                   ipv6 ? "flush table inet hawser\n"
                          "flush set inet hawser known4\nflush set inet hawser excluded4\n"
                          "flush set inet hawser known6\nflush set inet hawser excluded6\n"
                        : "flush table inet hawser\n"
                          "flush set inet hawser known4\nflush set inet hawser excluded4\n");
}

char *kernel_ruleset_peers(const struct config *c, const bool *up, bool ipv6)
{
    struct kernel_ranges known;
    char *text = NULL;
    size_t len;
    if (kernel_ranges_of_peers(&known, c) < 0)
        return NULL;
    FILE *to = open_memstream(&text, &len);
    if (to != NULL) {
        fputs("flush set inet hawser peers4\n", to);
        kernel_ranges_print(to, &known, AF_INET, up, "add element inet hawser peers4 { ", " }\n");
        if (ipv6) {
            fputs("flush set inet hawser peers6\n", to);
            kernel_ranges_print(to, &known, AF_INET6, up, "add element inet hawser peers6 { ", " }\n");
        }
        finish(to, &text, 0);
    }
    kernel_ranges_end(&known);
    return text;
}
