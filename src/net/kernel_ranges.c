/* From prefixes to ranges.
 *
 * nft's interval sets know no longest prefix: overlapping elements are an error, or are merged. But a network
 * of a peer that is down may lie inside one of a peer that is up, and must not be caught. So the prefixes are
 * cut into disjoint ranges first. Sorted by first address and then length, a prefix stands before those
 * inside it, and any two are nested or apart; so the open prefixes at any address form a stack whose top is
 * the longest. Walking along, a range ends where a prefix opens or closes. There are at most 2 n ranges. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_internal.h"

static size_t bytes_of(const struct addr *a)
{
    return a->family == AF_INET ? 4 : 16;
}

static int addr_order(const struct addr *a, const struct addr *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return memcmp(a->bytes, b->bytes, bytes_of(a));
}

static int owned_order(const void *a, const void *b)
{
    const struct kernel_owned *x = a, *y = b;
    int order = addr_order(&x->prefix.addr, &y->prefix.addr);
    return order != 0 ? order : (int)x->prefix.len_bits - (int)y->prefix.len_bits;
}

static struct addr last_of(const struct prefix *p)
{
    struct addr a = p->addr;
    for (size_t bit = p->len_bits; bit < 8 * bytes_of(&a); bit++)
        a.bytes[bit / 8] |= (uint8_t)(0x80 >> (bit % 8));
    return a;
}

/* The next address; false at the end of the family's space. */
static bool step_up(struct addr *a)
{
    for (size_t i = bytes_of(a); i-- > 0;) {
        if (++a->bytes[i] != 0)
            return true;
    }
    return false;
}

static void step_down(struct addr *a)
{
    for (size_t i = bytes_of(a); i-- > 0;) {
        if (a->bytes[i]-- != 0)
            return;
    }
}

struct sweep {
    struct kernel_ranges *out;
    const struct kernel_owned **open; /* the stack */
    size_t depth;
    struct addr at; /* the first address that is in no range yet */
    bool at_end;    /* there is none any more in this family */
};

/* Everything from where we are up to and with last belongs to the top. */
static void emit(struct sweep *s, const struct addr *last)
{
    if (s->at_end || addr_order(&s->at, last) > 0)
        return;
    s->out->list[s->out->count++] =
        (struct kernel_range){.first = s->at, .last = *last, .owner = s->open[s->depth - 1]->owner};
    s->at = *last;
    s->at_end = !step_up(&s->at);
}

static void close_top(struct sweep *s)
{
    struct addr last = last_of(&s->open[s->depth - 1]->prefix);
    emit(s, &last);
    s->depth--;
}

static void open_prefix(struct sweep *s, const struct kernel_owned *o)
{
    while (s->depth > 0 && !prefix_contains(&s->open[s->depth - 1]->prefix, &o->prefix.addr))
        close_top(s);
    if (s->depth > 0 && addr_order(&s->at, &o->prefix.addr) < 0) {
        struct addr before = o->prefix.addr;
        step_down(&before);
        emit(s, &before);
    }
    s->at = o->prefix.addr;
    s->at_end = false;
    s->open[s->depth++] = o;
}

int kernel_ranges_build(struct kernel_ranges *out, struct kernel_owned *owned, size_t count)
{
    struct sweep s = {.out = out};
    *out = (struct kernel_ranges){0};
    if (count == 0)
        return 0;
    out->list = calloc(2 * count, sizeof(*out->list));
    s.open = calloc(count, sizeof(*s.open));
    if (out->list == NULL || s.open == NULL) {
        free(s.open);
        kernel_ranges_end(out);
        return -ENOMEM;
    }
    qsort(owned, count, sizeof(*owned), owned_order);
    for (size_t i = 0; i < count; i++)
        open_prefix(&s, &owned[i]);
    while (s.depth > 0)
        close_top(&s);
    free(s.open);
    return 0;
}

int kernel_ranges_of_peers(struct kernel_ranges *out, const struct config *c)
{
    size_t count = 0, n = 0;
    *out = (struct kernel_ranges){0};
    for (size_t i = 0; i < c->peer_count; i++)
        count += c->peers[i].networks.count;
    struct kernel_owned *owned = calloc(count > 0 ? count : 1, sizeof(*owned));
    if (owned == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < c->peer_count; i++) {
        for (size_t k = 0; k < c->peers[i].networks.count; k++)
            owned[n++] = (struct kernel_owned){.prefix = c->peers[i].networks.list[k], .owner = i};
    }
    int err = kernel_ranges_build(out, owned, n);
    free(owned);
    return err;
}

int kernel_ranges_of_prefixes(struct kernel_ranges *out, const struct config_prefixes *prefixes)
{
    *out = (struct kernel_ranges){0};
    struct kernel_owned *owned = calloc(prefixes->count > 0 ? prefixes->count : 1, sizeof(*owned));
    if (owned == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < prefixes->count; i++)
        owned[i].prefix = prefixes->list[i];
    int err = kernel_ranges_build(out, owned, prefixes->count);
    free(owned);
    return err;
}

void kernel_ranges_end(struct kernel_ranges *r)
{
    free(r->list);
    *r = (struct kernel_ranges){0};
}

static void print_range(FILE *to, const struct addr *first, const struct addr *last, const char *before)
{
    char text[ADDR_TEXT_MAX];
    fprintf(to, "%s%s", before, addr_format(first, text));
    if (!addr_equal(first, last))
        fprintf(to, "-%s", addr_format(last, text));
}

size_t kernel_ranges_print(FILE *to, const struct kernel_ranges *r, int family, const bool *wanted,
                           const char *before, const char *after)
{
    size_t printed = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct kernel_range *first = &r->list[i], *last = first;
        if (first->first.family != family || (wanted != NULL && !wanted[first->owner]))
            continue;
        for (; i + 1 < r->count; last = &r->list[++i]) {
            struct addr next = last->last;
            const struct kernel_range *n = &r->list[i + 1];
            if (!step_up(&next) || !addr_equal(&next, &n->first) || (wanted != NULL && !wanted[n->owner]))
                break;
        }
        print_range(to, &first->first, &last->last, printed++ == 0 ? before : ", ");
    }
    if (printed > 0)
        fputs(after, to);
    return printed;
}
