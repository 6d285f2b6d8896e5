#include "hawser/chunk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SPARE_MAX = 64, MERGED_BYTES = 4096, HUGE_PAGE_BYTES = 2 << 20 };

static _Thread_local struct {
    struct chunk *first;
    unsigned count;
} spare;

static _Atomic uint64_t bytes_total;

uint64_t segment_id_hash(const struct segment_id *id, uint64_t seed)
{
    uint64_t words[2] = {id->epoch, id->number};
    return XXH3_64bits_withSeed(words, sizeof(words), seed);
}

struct chunk *chunk_new(size_t cap)
{
    struct chunk *c;
    if (cap == CHUNK_STANDARD_BYTES && spare.first != NULL) {
        c = spare.first;
        spare.first = c->next_spare;
        spare.count--;
    } else {
        c = malloc(sizeof(*c) + cap);
        if (c == NULL)
            return NULL;
    }
    atomic_init(&c->refs, 1);
    c->cap = (uint32_t)cap;
    c->mapped = c->huge = false;
    c->next_spare = NULL;
    c->segment = (struct segment_id){0};
    atomic_fetch_add_explicit(&bytes_total, sizeof(*c) + cap, memory_order_relaxed);
    return c;
}

/* The page before the bytes holds the chunk's head. */
static size_t head_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

struct chunk *chunk_new_mapped(size_t cap)
{
    size_t head = head_bytes(), spread = head + cap + HUGE_PAGE_BYTES;
    assert(cap > 0 && cap % HUGE_PAGE_BYTES == 0 && cap <= UINT32_MAX);
    uint8_t *area =
        mmap(NULL, spread, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    uintptr_t first = (uintptr_t)area + head;
    size_t skipped = (HUGE_PAGE_BYTES - first % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    uint8_t *bytes = area + head + skipped;
    if (skipped > 0)
        munmap(area, skipped);
    munmap(bytes + cap, HUGE_PAGE_BYTES - skipped);
    struct chunk *c = (struct chunk *)(void *)(bytes - offsetof(struct chunk, bytes));
    atomic_init(&c->refs, 1);
    c->cap = (uint32_t)cap;
    c->mapped = true;
    return c;
}

void chunk_ask_huge(struct chunk *c, bool huge)
{
    c->huge = huge;
    madvise(c->bytes, c->cap, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* without them it is only slower */
}

struct chunk *chunk_ref(struct chunk *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void chunk_unref(struct chunk *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (c->mapped) {
        munmap(c->bytes - head_bytes(), head_bytes() + c->cap);
        return;
    }
    atomic_fetch_sub_explicit(&bytes_total, sizeof(*c) + c->cap, memory_order_relaxed);
    if (c->cap == CHUNK_STANDARD_BYTES && spare.count < SPARE_MAX) {
        c->next_spare = spare.first;
        spare.first = c;
        spare.count++;
        return;
    }
    free(c);
}

uint64_t chunk_bytes_total(void)
{
    return atomic_load_explicit(&bytes_total, memory_order_relaxed);
}

void chunk_thread_end(void)
{
    while (spare.first != NULL) {
        struct chunk *c = spare.first;
        spare.first = c->next_spare;
        free(c);
    }
    spare.count = 0;
}

struct slice slice_copy(const void *bytes, size_t len)
{
    struct chunk *c = chunk_new(len);
    if (c == NULL)
        return (struct slice){0};
    memcpy(c->bytes, bytes, len);
    return (struct slice){.chunk = c, .off = 0, .len = (uint32_t)len};
}

static int grow(struct slices *q)
{
    uint32_t cap = q->cap == 0 ? 4 : q->cap * 2;
    struct slice *ring = malloc(cap * sizeof(*ring));
    if (ring == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *slices_at(q, i);
    free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return 0;
}

bool slices_merge(struct slices *q, struct slice s)
{
    if (q->count == 0 || s.len > SLICE_SMALL_BYTES)
        return false;
    struct slice *last = slices_at(q, q->count - 1);
    struct chunk *c = last->chunk;
    bool ours = atomic_load_explicit(&c->refs, memory_order_acquire) == 1;
    if (last->len > MERGED_BYTES - SLICE_SMALL_BYTES || chunk_is_segment(c))
        return false;
    if (!ours || c->cap > MERGED_BYTES || c->cap - last->off - last->len < s.len) {
        struct chunk *roomy = chunk_new(MERGED_BYTES); /* the first of many, perhaps: room for them */
        if (roomy == NULL)
            return false;
        memcpy(roomy->bytes, slice_bytes(last), last->len);
        chunk_unref(c);
        *last = (struct slice){.chunk = roomy, .off = 0, .len = last->len};
        c = roomy;
    }
    memcpy(c->bytes + last->off + last->len, slice_bytes(&s), s.len);
    last->len += s.len;
    q->bytes += s.len;
    chunk_unref(s.chunk);
    return true;
}

bool slices_extend(struct slices *q, struct slice s)
{
    struct slice *last = q->count > 0 ? slices_at(q, q->count - 1) : NULL;
    if (last == NULL || last->chunk != s.chunk || last->off + last->len != s.off)
        return false;
    last->len += s.len;
    q->bytes += s.len;
    chunk_unref(s.chunk);
    return true;
}

int slices_push(struct slices *q, struct slice s)
{
    if (q->count == q->cap) {
        int err = grow(q);
        if (err < 0)
            return err;
    }
    q->ring[(q->head + q->count) & (q->cap - 1)] = s;
    q->count++;
    q->bytes += s.len;
    return 0;
}

struct slice slices_pop(struct slices *q)
{
    assert(q->count > 0);
    struct slice s = *slices_at(q, 0);
    q->head = (q->head + 1) & (q->cap - 1);
    q->count--;
    q->bytes -= s.len;
    if (q->count == 0) {
        free(q->ring);
        *q = (struct slices){0};
    }
    return s;
}

void slices_drop(struct slices *q, uint64_t n)
{
    assert(n <= q->bytes);
    while (n > 0) {
        struct slice *front = slices_at(q, 0);
        if (n < front->len) {
            front->off += (uint32_t)n;
            front->len -= (uint32_t)n;
            q->bytes -= n;
            return;
        }
        struct slice s = slices_pop(q);
        n -= s.len;
        chunk_unref(s.chunk);
    }
}

void slices_clear(struct slices *q)
{
    slices_drop(q, q->bytes);
    while (q->count > 0)
        chunk_unref(slices_pop(q).chunk);
}

int slices_iov(const struct slices *q, struct iovec *iov, int max, size_t max_bytes)
{
    int n = 0;
    for (uint32_t i = 0; i < q->count && n < max && max_bytes > 0; i++) {
        struct slice *s = slices_at(q, i);
        size_t len = s->len < max_bytes ? s->len : max_bytes;
        iov[n].iov_base = s->chunk->bytes + s->off;
        iov[n].iov_len = len;
        max_bytes -= len;
        n++;
    }
    return n;
}
