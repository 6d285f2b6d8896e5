#include "hawser/early.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Make room behind an entry's bytes, in a chunk of twice what it has to hold. */
static bool make_room(struct slice *to, uint32_t more)
{
    const struct chunk *c = to->chunk;
    bool ours = atomic_load_explicit(&c->refs, memory_order_acquire) == 1 && !chunk_is_segment(c);
    if (ours && c->cap - to->off - to->len >= more)
        return true;
    if (!ours && to->len >= EARLY_SMALL_BYTES)
        return false; /* a reference: it costs no copy as it is */
    size_t cap = 2 * ((size_t)to->len + more);
    struct chunk *roomy = chunk_new(cap < EARLY_JOINED_BYTES ? cap : EARLY_JOINED_BYTES);
    if (roomy == NULL)
        return false;
    memcpy(roomy->bytes, slice_bytes(to), to->len);
    chunk_unref(to->chunk);
    *to = (struct slice){.chunk = roomy, .off = 0, .len = to->len};
    return true;
}

static bool join(struct early *e, uint64_t offset, struct slice s, bool saved)
{
    if (saved || e->saved || e->offset + e->slice.len != offset || s.len >= EARLY_SMALL_BYTES ||
        e->slice.len + s.len > EARLY_JOINED_BYTES || !make_room(&e->slice, s.len))
        return false;
    memcpy(e->slice.chunk->bytes + e->slice.off + e->slice.len, slice_bytes(&s), s.len);
    e->slice.len += s.len;
    chunk_unref(s.chunk);
    return true;
}

/* Room for one more entry at the end. */
static int grow(struct early_list *l)
{
    if (l->first + l->count < l->cap)
        return 0;
    if (l->first > 0) {
        memmove(l->list, l->list + l->first, l->count * sizeof(*l->list));
        l->first = 0;
        return 0;
    }
    uint32_t cap = l->cap == 0 ? 16 : l->cap * 2;
    struct early *bigger = cap <= EARLY_MAX ? realloc(l->list, cap * sizeof(*bigger)) : NULL;
    if (bigger == NULL)
        return -ENOMEM;
    l->list = bigger;
    l->cap = cap;
    return 0;
}

bool early_has_room(const struct early_list *l, uint32_t entries)
{
    return l->count + entries <= EARLY_MAX;
}

int early_keep(struct early_list *l, uint64_t offset, struct slice s, bool saved)
{
    uint32_t at = l->first + l->count;
    while (at > l->first && l->list[at - 1].offset > offset)
        at--;
    struct early *before = at > l->first ? &l->list[at - 1] : NULL;
    if (before != NULL && before->offset + before->slice.len >= offset + s.len)
        return 0;
    if (before == NULL || !join(before, offset, s, saved)) {
        uint32_t behind = l->first + l->count - at;
        int err = grow(l); /* may move them all */
        if (err < 0)
            return err;
        at = l->first + l->count - behind;
        memmove(&l->list[at + 1], &l->list[at], behind * sizeof(*l->list));
        l->list[at] = (struct early){.offset = offset, .slice = s, .saved = saved};
        l->count++;
    }
    l->bytes += s.len;
    l->saved += saved ? s.len : 0;
    return 1;
}

uint64_t early_first(const struct early_list *l)
{
    return l->count > 0 ? l->list[l->first].offset : UINT64_MAX;
}

/* An entry that was taken out. */
static void forget(struct early_list *l, const struct early *e)
{
    l->bytes -= e->slice.len;
    l->saved -= e->saved ? e->slice.len : 0;
    if (l->count == 0)
        early_clear(l);
}

bool early_take(struct early_list *l, uint64_t upto, struct early *out)
{
    if (l->count == 0 || early_first(l) > upto)
        return false;
    *out = l->list[l->first++];
    l->count--;
    forget(l, out);
    return true;
}

bool early_take_last(struct early_list *l, uint64_t from, struct early *out)
{
    if (l->count == 0 || l->list[l->first + l->count - 1].offset < from)
        return false;
    *out = l->list[l->first + l->count - 1];
    l->count--;
    forget(l, out);
    return true;
}

void early_clear(struct early_list *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        chunk_unref(l->list[l->first + i].slice.chunk);
    free(l->list);
    *l = (struct early_list){0};
}
