#include "hawser/early.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct early {
    uint64_t offset, end;       /* of what is left of it */
    struct early_piece *pieces; /* those left are pieces[taken .. count) */
    uint32_t taken, count, cap;
};

/* ---- pieces ---- */

/* Make room behind a slice's bytes, in a chunk of twice what it has to hold. What others hold is not written
 * to. */
static bool make_room(struct slice *to, uint32_t more)
{
    const struct chunk *c = to->chunk;
    bool ours = atomic_load_explicit(&c->refs, memory_order_acquire) == 1 && !chunk_is_segment(c);
    if (ours && c->cap - to->off - to->len >= more)
        return true;
    if (!ours && to->len >= EARLY_SMALL_BYTES)
        return false; /* it costs no copy as it is */
    size_t cap = 2 * ((size_t)to->len + more);
    struct chunk *roomy = chunk_new(cap < EARLY_JOINED_BYTES ? cap : EARLY_JOINED_BYTES);
    if (roomy == NULL)
        return false;
    memcpy(roomy->bytes, slice_bytes(to), to->len);
    chunk_unref(to->chunk);
    *to = (struct slice){.chunk = roomy, .off = 0, .len = to->len};
    return true;
}

static bool join(struct early_piece *to, const struct early_piece *p)
{
    uint32_t len = p->slice.len;
    if (to->saves > 0 || p->saves > 0 || len >= EARLY_SMALL_BYTES ||
        to->slice.len > EARLY_JOINED_BYTES - len || !make_room(&to->slice, len))
        return false;
    memcpy(to->slice.chunk->bytes + to->slice.off + to->slice.len, slice_bytes(&p->slice), len);
    to->slice.len += len;
    return true;
}

/* Part of a piece, which costs what the whole one did as far as it has the bytes. */
static struct early_piece part_of(const struct early_piece *p, uint64_t skip, uint64_t len)
{
    struct early_piece part = *p;
    uint32_t cost = p->slice.len - p->saves;
    part.slice.off += (uint32_t)skip;
    part.slice.len = (uint32_t)len;
    part.saves = len > cost ? (uint32_t)len - cost : 0;
    return part;
}

/* A reference of its own to the slice's chunk, or a copy where it would pin more than twice what it needs.
 * False: no memory. */
static bool hold(struct slice *s)
{
    struct chunk *c = s->chunk;
    if (chunk_is_segment(c) || s->len >= c->cap / 2)
        chunk_ref(c);
    else
        *s = slice_copy(slice_bytes(s), s->len);
    return s->chunk != NULL;
}

/* ---- entries ---- */

/* Room for one more piece at the end. */
static bool grow_entry(struct early *e)
{
    if (e->count < e->cap)
        return true;
    if (e->taken > e->cap / 2) {
        e->count -= e->taken;
        memmove(e->pieces, e->pieces + e->taken, e->count * sizeof(*e->pieces));
        e->taken = 0;
        return true;
    }
    uint32_t cap = e->cap == 0 ? 1 : e->cap * 2;
    struct early_piece *bigger = realloc(e->pieces, cap * sizeof(*bigger));
    if (bigger == NULL)
        return false;
    e->pieces = bigger;
    e->cap = cap;
    return true;
}

/* Behind what the entry has. The piece's reference stays the caller's. */
static bool append(struct early *e, struct early_piece p)
{
    if (e->count == e->taken || !join(&e->pieces[e->count - 1], &p)) {
        if (!grow_entry(e) || !hold(&p.slice))
            return false;
        e->pieces[e->count++] = p;
    }
    e->end += p.slice.len;
    return true;
}

static void free_entry(struct early *e)
{
    for (uint32_t i = e->taken; i < e->count; i++)
        chunk_unref(e->pieces[i].slice.chunk);
    free(e->pieces);
}

/* ---- the list ---- */

static struct early *entry_at(const struct early_list *l, uint32_t i)
{
    return &l->list[l->first + i];
}

/* Room for one more entry at the end. */
static bool grow(struct early_list *l)
{
    if (l->first + l->count < l->cap)
        return true;
    if (l->first > 0) {
        memmove(l->list, l->list + l->first, l->count * sizeof(*l->list));
        l->first = 0;
        return true;
    }
    uint32_t cap = l->cap == 0 ? 16 : l->cap * 2;
    struct early *bigger = cap <= EARLY_MAX ? realloc(l->list, cap * sizeof(*bigger)) : NULL;
    if (bigger == NULL)
        return false;
    l->list = bigger;
    l->cap = cap;
    return true;
}

/* A new entry of one piece before the at-th. */
static bool insert(struct early_list *l, uint32_t at, uint64_t offset, const struct early_piece *p)
{
    struct early e = {.offset = offset, .end = offset};
    if (!grow(l) || !append(&e, *p)) {
        free_entry(&e);
        return false;
    }
    memmove(entry_at(l, at + 1), entry_at(l, at), (l->count - at) * sizeof(*l->list));
    *entry_at(l, at) = e;
    l->count++;
    return true;
}

/* The first entry that ends behind offset; count when there is none. */
static uint32_t find(const struct early_list *l, uint64_t offset)
{
    uint32_t low = 0, high = l->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at(l, middle)->end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Keep a piece that no entry covers; the at-th is the first behind it, before and after. */
static bool keep_part(struct early_list *l, uint32_t *at, uint64_t offset, struct early_piece p)
{
    if (*at > 0 && entry_at(l, *at - 1)->end == offset) {
        struct early before = *entry_at(l, *at - 1); /* a copy, since gcc's analyzer loses an indexed one */
        bool appended = append(&before, p);
        *entry_at(l, *at - 1) = before;
        if (!appended)
            return false;
    } else if (insert(l, *at, offset, &p)) {
        (*at)++;
    } else {
        return false;
    }
    l->bytes += p.slice.len;
    l->saved += p.saves;
    return true;
}

/* Keep what no entry covers of a piece. The at-th entry is the first that ends behind offset; when all is
 * kept, it is the first that ends behind the piece. */
static bool keep_piece(struct early_list *l, uint32_t *at, uint64_t offset, const struct early_piece *p)
{
    uint64_t from = offset, end = offset + p->slice.len;
    while (from < end) {
        const struct early *next = *at < l->count ? entry_at(l, *at) : NULL;
        if (next != NULL && next->offset <= from) {
            from = next->end;
            *at += from <= end;
            continue;
        }
        uint64_t to = next != NULL && next->offset < end ? next->offset : end;
        if (!keep_part(l, at, from, part_of(p, from - offset, to - from)))
            return false;
        from = to;
    }
    return true;
}

int early_keep(struct early_list *l, uint64_t offset, const struct early_piece *pieces, uint32_t count)
{
    uint32_t at = find(l, offset);
    bool kept = true;
    for (uint32_t i = 0; i < count; i++) {
        kept = kept && keep_piece(l, &at, offset, &pieces[i]);
        offset += pieces[i].slice.len;
        chunk_unref(pieces[i].slice.chunk);
    }
    if (l->count == 0)
        early_clear(l);
    return kept ? 0 : -ENOMEM;
}

bool early_take(struct early_list *l, uint64_t upto, uint64_t *offset, struct early_piece *out)
{
    if (l->count == 0 || early_first(l) > upto)
        return false;
    struct early *e = entry_at(l, 0);
    *out = e->pieces[e->taken++];
    *offset = e->offset;
    e->offset += out->slice.len;
    l->bytes -= out->slice.len;
    l->saved -= out->saves;
    if (e->taken == e->count) {
        free_entry(e);
        l->first++;
        l->count--;
    }
    if (l->count == 0)
        early_clear(l);
    return true;
}

bool early_lacks(const struct early_list *l, uint64_t *from, uint64_t *to)
{
    uint32_t i = find(l, *from);
    for (; i < l->count && entry_at(l, i)->offset <= *from; i++)
        *from = entry_at(l, i)->end;
    if (i < l->count && entry_at(l, i)->offset < *to)
        *to = entry_at(l, i)->offset;
    return *from < *to;
}

uint64_t early_first(const struct early_list *l)
{
    return l->count > 0 ? entry_at(l, 0)->offset : UINT64_MAX;
}

void early_clear(struct early_list *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        free_entry(entry_at(l, i));
    free(l->list);
    *l = (struct early_list){0};
}
