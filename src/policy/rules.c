/* Longest prefix, in one sorted array.
 *
 * Prefixes are sorted by family, address and then length, so that a prefix stands before those inside it. Two
 * prefixes are nested or apart, never crossed. Let e be the last entry that begins at or before an address.
 * If any prefix holds the address, the longest that does is e or encloses e: it begins no later than e, and e
 * begins inside it. So a binary search and a walk over the enclosing prefixes ("parents", found once with a
 * stack while building) answer, in log n plus the depth of nesting, which in practice is one or two. */
#include "hawser/rules.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct prefix prefix;
    int value;
    int parent; /* the longest prefix that encloses this one, or -1 */
};

struct prefix_table {
    struct entry *entries;
    size_t count;
};

struct class_match {
    struct prefix_table from, to;
    uint64_t *peers; /* a bit a peer; NULL: any */
};

struct rules {
    struct config *config;
    struct prefix_table networks; /* of all peers; value: the peer */
    struct prefix_table *speaks;  /* by peer: its networks */
    struct prefix_table *serves;  /* by peer */
    struct class_match *classes;
};

/* ---- the table ---- */

static int addr_compare(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static int entry_compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = addr_compare(&x->prefix.addr, &y->prefix.addr);
    return order != 0 ? order : (int)x->prefix.len_bits - (int)y->prefix.len_bits;
}

static bool table_alloc(struct prefix_table *t, size_t count)
{
    *t = (struct prefix_table){0};
    if (count == 0)
        return true;
    t->entries = calloc(count, sizeof(*t->entries));
    return t->entries != NULL;
}

static void table_add(struct prefix_table *t, const struct config_prefixes *prefixes, int value)
{
    for (size_t i = 0; i < prefixes->count; i++)
        t->entries[t->count++] = (struct entry){.prefix = prefixes->list[i], .value = value, .parent = -1};
}

/* Sort, and link each entry to the one that encloses it: while walking in order, the enclosing prefixes are
 * the open ones, each the parent of the next. */
static void table_seal(struct prefix_table *t)
{
    if (t->count == 0)
        return;
    qsort(t->entries, t->count, sizeof(*t->entries), entry_compare);
    int open = -1;
    for (size_t i = 0; i < t->count; i++) {
        struct entry *e = &t->entries[i];
        while (open >= 0 && !prefix_contains(&t->entries[open].prefix, &e->prefix.addr))
            open = t->entries[open].parent;
        e->parent = open;
        open = (int)i;
    }
}

static bool table_of(struct prefix_table *t, const struct config_prefixes *prefixes)
{
    if (!table_alloc(t, prefixes->count))
        return false;
    table_add(t, prefixes, 0);
    table_seal(t);
    return true;
}

static int table_find(const struct prefix_table *t, const struct addr *a)
{
    size_t low = 0,
           high = t->count; /* entries before low begin at or before a, those from high on after it */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (addr_compare(&t->entries[middle].prefix.addr, a) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (int i = (int)low - 1; i >= 0; i = t->entries[i].parent) {
        if (prefix_contains(&t->entries[i].prefix, a))
            return t->entries[i].value;
    }
    return RULES_NONE;
}

static bool table_has(const struct prefix_table *t, const struct addr *a)
{
    return table_find(t, a) != RULES_NONE;
}

/* ---- building ---- */

static bool networks_build(struct rules *r)
{
    const struct config *c = r->config;
    size_t count = 0;
    for (size_t i = 0; i < c->peer_count; i++)
        count += c->peers[i].networks.count;
    if (!table_alloc(&r->networks, count))
        return false;
    for (size_t i = 0; i < c->peer_count; i++)
        table_add(&r->networks, &c->peers[i].networks, (int)i);
    table_seal(&r->networks);
    return true;
}

static bool peers_build(struct rules *r)
{
    const struct config *c = r->config;
    r->speaks = calloc(c->peer_count + 1, sizeof(*r->speaks)); /* + 1: never an empty request */
    r->serves = calloc(c->peer_count + 1, sizeof(*r->serves));
    if (r->speaks == NULL || r->serves == NULL)
        return false;
    for (size_t i = 0; i < c->peer_count; i++) {
        if (!table_of(&r->speaks[i], &c->peers[i].networks) || !table_of(&r->serves[i], &c->peers[i].serve))
            return false;
    }
    return true;
}

static bool class_peers_build(struct class_match *m, const struct config *c, const struct config_class *k)
{
    if (k->peer_count == 0)
        return true;
    m->peers = calloc(c->peer_count / 64 + 1, sizeof(*m->peers));
    if (m->peers == NULL)
        return false;
    for (size_t n = 0; n < k->peer_count; n++) {
        for (size_t i = 0; i < c->peer_count; i++) {
            if (strcmp(c->peers[i].name, k->peers[n]) == 0)
                m->peers[i / 64] |= (uint64_t)1 << (i % 64);
        }
    }
    return true;
}

static bool classes_build(struct rules *r)
{
    const struct config *c = r->config;
    r->classes = calloc(c->class_count + 1, sizeof(*r->classes));
    if (r->classes == NULL)
        return false;
    for (size_t i = 0; i < c->class_count; i++) {
        struct class_match *m = &r->classes[i];
        const struct config_class *k = &c->classes[i];
        if (!table_of(&m->from, &k->from) || !table_of(&m->to, &k->to) || !class_peers_build(m, c, k))
            return false;
    }
    return true;
}

struct rules *rules_new(struct config *c)
{
    struct rules *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->config = config_ref(c);
    if (networks_build(r) && peers_build(r) && classes_build(r))
        return r;
    rules_free(r);
    return NULL;
}

void rules_free(struct rules *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->config->peer_count; i++) {
        if (r->speaks != NULL)
            free(r->speaks[i].entries);
        if (r->serves != NULL)
            free(r->serves[i].entries);
    }
    for (size_t i = 0; r->classes != NULL && i < r->config->class_count; i++) {
        free(r->classes[i].from.entries);
        free(r->classes[i].to.entries);
        free(r->classes[i].peers);
    }
    free(r->networks.entries);
    free(r->speaks);
    free(r->serves);
    free(r->classes);
    config_unref(r->config);
    free(r);
}

/* ---- asking ---- */

int rules_peer_for(const struct rules *r, const struct addr *dst)
{
    return table_find(&r->networks, dst);
}

static bool ports_fit(const struct config_class *k, uint16_t port)
{
    for (size_t i = 0; i < k->port_count; i++) {
        if (port >= k->ports[i].first && port <= k->ports[i].last)
            return true;
    }
    return k->port_count == 0;
}

static bool iface_fits(const struct config_class *k, const char *iface)
{
    for (size_t i = 0; iface != NULL && i < k->iface_count; i++) {
        if (strcmp(k->ifaces[i], iface) == 0)
            return true;
    }
    return k->iface_count == 0;
}

static bool peer_fits(const struct rules *r, const struct class_match *m, int peer)
{
    if (m->peers == NULL)
        return true;
    return peer >= 0 && (size_t)peer < r->config->peer_count && (m->peers[peer / 64] >> (peer % 64) & 1) != 0;
}

static bool class_fits(const struct rules *r, size_t i, const struct rules_flow *f)
{
    const struct config_class *k = &r->config->classes[i];
    const struct class_match *m = &r->classes[i];
    return ports_fit(k, f->server.port) && (k->dscp_mask == 0 || (k->dscp_mask >> (f->dscp & 63) & 1) != 0) &&
           (k->proto_mask == 0 || (k->proto_mask & f->proto) != 0) && peer_fits(r, m, f->peer) &&
           iface_fits(k, f->iface) && (m->from.count == 0 || table_has(&m->from, &f->client.addr)) &&
           (m->to.count == 0 || table_has(&m->to, &f->server.addr));
}

int rules_class_for(const struct rules *r, const struct rules_flow *f)
{
    for (size_t i = 0; i < r->config->class_count; i++) {
        if (class_fits(r, i, f))
            return (int)i;
    }
    return RULES_NONE;
}

static bool is_any_of(const struct addr *a, const struct addr *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (addr_equal(a, &list[i]))
            return true;
    }
    return false;
}

static bool in_any_of(const struct addr *a, const struct prefix *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (prefix_contains(&list[i], a))
            return true;
    }
    return false;
}

enum rules_open rules_may_open(const struct rules *r, size_t peer, const struct addr *src,
                               const struct addr *dst, const struct prefix *local, size_t local_count,
                               const struct addr *forbidden, size_t forbidden_count)
{
    if (peer >= r->config->peer_count)
        return RULES_OPEN_SOURCE; /* a peer that a reload has taken away speaks for nobody */
    if (addr_is_special(dst) || is_any_of(dst, forbidden, forbidden_count))
        return RULES_OPEN_SPECIAL;
    if (src != NULL && (addr_is_special(src) || !table_has(&r->speaks[peer], src)))
        return RULES_OPEN_SOURCE;
    bool served = r->config->peers[peer].serve_set ? table_has(&r->serves[peer], dst)
                                                   : in_any_of(dst, local, local_count);
    return served ? RULES_OPEN_OK : RULES_OPEN_DESTINATION;
}
