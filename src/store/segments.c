#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store_internal.h"

enum {
    HUGE_PAGE_BYTES = 2 << 20,
    HUGE_PAGE_PAGES = HUGE_PAGE_BYTES / STORE_PAGE_BYTES,
    HUGE_PAGES = STORE_SEGMENT_BYTES / HUGE_PAGE_BYTES,
};

uint64_t segment_name_key(const struct store *s, const struct segment_id *id)
{
    return segment_id_hash(id, s->seed);
}

struct segment *segment_find(const struct store *s, const struct segment_id *id)
{
    struct segment *g = map_get(&s->by_name, segment_name_key(s, id));
    return g != NULL && segment_id_equal(&g->chunk->segment, id) ? g : NULL;
}

struct segment *segment_find_own(const struct store *s, uint32_t number)
{
    if (s->tail != NULL && s->tail->chunk->segment.number == number)
        return s->tail;
    struct segment_id id = {.epoch = s->epoch, .number = number};
    struct segment *g = segment_find(s, &id);
    /* else evicted, and a peer has filled it again, or it came back from disk */
    return g != NULL && g->source == 0 && !g->came_back ? g : NULL;
}

/* ---- memory ---- */

bool segment_take_memory(struct store *s, uint64_t bytes)
{
    if (bytes > s->max_bytes - s->used_bytes || !budget_take(s->memory, bytes))
        return false;
    s->used_bytes += bytes;
    return true;
}

static void give_memory(struct store *s, uint64_t bytes)
{
    s->used_bytes -= bytes;
    budget_give(s->memory, bytes);
}

/* A segment that a slice points into would free nothing. New references are made by this thread only, so a
 * count of one stays one. */
bool segment_is_evictable(const struct store *s, const struct segment *g)
{
    return g != s->tail && g->call != s->call &&
           atomic_load_explicit(&g->chunk->refs, memory_order_acquire) == 1;
}

/* ---- who filled what ---- */

/* Of its memory a source fills at least one part in so many, or pays for the rest itself. */
enum { SPARSE_PART = 4, FREE_SHARE = 16 };

static int need_filler(struct store *s, uint32_t source, struct filler **out)
{
    *out = source != 0 ? map_get(&s->fillers, source) : NULL;
    if (source == 0 || *out != NULL)
        return 0;
    struct filler *f = calloc(1, sizeof(*f));
    if (f == NULL || map_put(&s->fillers, source, f) < 0) {
        free(f);
        return -ENOMEM;
    }
    TAILQ_INIT(&f->by_age);
    *out = f;
    return 0;
}

void fillers_end(struct store *s)
{
    struct filler *f;
    for (size_t i = 0; (f = map_each(&s->fillers, &i)) != NULL;)
        free(f);
    map_clear(&s->fillers);
}

static void join_filler(struct segment *g, struct filler *f)
{
    g->filler = f;
    if (f == NULL)
        return;
    TAILQ_INSERT_TAIL(&f->by_age, g, by_filler);
    f->segments++;
    f->memory_bytes += g->memory_bytes;
    f->filled_bytes += g->filled_bytes;
}

static void leave_filler(struct segment *g)
{
    struct filler *f = g->filler;
    g->filler = NULL;
    if (f == NULL)
        return;
    TAILQ_REMOVE(&f->by_age, g, by_filler);
    f->segments--;
    f->memory_bytes -= g->memory_bytes;
    f->filled_bytes -= g->filled_bytes;
}

static void count_memory(struct segment *g, uint64_t bytes)
{
    g->memory_bytes += bytes;
    if (g->filler != NULL)
        g->filler->memory_bytes += bytes;
}

static void uncount_memory(struct segment *g, uint64_t bytes)
{
    g->memory_bytes -= bytes;
    if (g->filler != NULL)
        g->filler->memory_bytes -= bytes;
}

static void count_bytes_filled(struct store *s, struct segment *g, uint64_t bytes)
{
    g->filled_bytes += bytes;
    s->counters.segment_bytes += bytes;
    if (g->filler != NULL)
        g->filler->filled_bytes += bytes;
}

/* A byte in a page costs a page, and in a segment of its own one of those that there may be. So who takes
 * more than a share, and fills little of it, gives up his own: else a few bytes would push out much of
 * others'. */
static bool pays_itself(const struct store *s, const struct filler *f)
{
    return f != NULL && f->filled_bytes < f->memory_bytes / SPARSE_PART &&
           (f->memory_bytes > s->max_bytes / FREE_SHARE || f->segments > s->slots_most / FREE_SHARE);
}

/* The one to go if this filler needs room. */
static struct segment *oldest_evictable(const struct store *s, const struct filler *filler)
{
    struct segment *g;
    if (pays_itself(s, filler)) {
        TAILQ_FOREACH (g, &filler->by_age, by_filler) {
            if (segment_is_evictable(s, g))
                return g;
        }
        return NULL;
    }
    TAILQ_FOREACH (g, &s->by_age, by_age) {
        if (segment_is_evictable(s, g))
            return g;
    }
    return NULL;
}

void segment_use(struct store *s, struct segment *g)
{
    if (TAILQ_NEXT(g, by_age) == NULL)
        return;
    TAILQ_REMOVE(&s->by_age, g, by_age);
    TAILQ_INSERT_TAIL(&s->by_age, g, by_age);
    if (g->filler != NULL) {
        TAILQ_REMOVE(&g->filler->by_age, g, by_filler);
        TAILQ_INSERT_TAIL(&g->filler->by_age, g, by_filler);
    }
}

uint64_t segment_now_us(const struct store *s)
{
    return s->events != NULL && s->events->now_us != NULL ? s->events->now_us(s->owner) : 0;
}

static void say_evicted(struct store *s, const struct segment_id *id)
{
    s->counters.evicted_segments++;
    if (s->events != NULL && s->events->evicted != NULL)
        s->events->evicted(s->owner, id);
}

bool segment_evict(struct store *s, struct segment *g)
{
    if (!segment_is_evictable(s, g))
        return false;
    struct segment_id id = g->chunk->segment;
    segment_free(s, g);
    say_evicted(s, &id);
    return true;
}

static bool evict_oldest(struct store *s, const struct filler *filler)
{
    struct segment *g = oldest_evictable(s, filler);
    return g != NULL && segment_evict(s, g);
}

bool segment_make_room(struct store *s, struct filler *filler, uint64_t bytes)
{
    while (!segment_take_memory(s, bytes)) {
        if (s->spare != NULL)
            spare_free(s);
        else if (!evict_oldest(s, filler))
            return false;
    }
    return true;
}

static bool is_touched(const struct segment *g, uint32_t page)
{
    return g->touched[page / 64] >> page % 64 & 1;
}

static bool is_all_touched(const struct segment *g, uint32_t unit, bool touched)
{
    for (uint32_t page = unit * HUGE_PAGE_PAGES; page < (unit + 1) * HUGE_PAGE_PAGES; page++) {
        if (is_touched(g, page) != touched)
            return false;
    }
    return true;
}

static bool is_all_filled(const struct segment *g, uint32_t unit)
{
    return intervals_cover(&g->filled, unit * HUGE_PAGE_BYTES, (unit + 1) * HUGE_PAGE_BYTES);
}

/* The source has filled the segment before as far as its last huge page (its end may have been left), so it
 * goes on with this one. */
static bool follows_filled(const struct store *s, const struct segment_id *id, uint32_t source)
{
    struct segment_id before = {.epoch = id->epoch, .number = id->number - 1};
    const struct segment *g = segment_find(s, &before);
    return g != NULL && g->source == source && is_all_filled(g, HUGE_PAGES - 2);
}

/* Own segments fill up from the beginning, and take huge pages. Others are sparse at first sight, and a huge
 * page for every fragment would be a waste; but where they have filled one of its size they go on to. */
static bool deserves_huge_page(const struct store *s, const struct segment *g, uint32_t unit)
{
    if (g->source == 0 || g->chunk->huge)
        return true;
    if (!is_all_touched(g, unit, false))
        return false;
    return unit > 0 ? is_all_touched(g, unit - 1, true) : follows_filled(s, &g->chunk->segment, g->source);
}

/* Count what [first, end) has of new pages. */
static bool touch_pages(struct store *s, struct segment *g, uint32_t first, uint32_t end, bool may_evict)
{
    uint64_t bytes = 0;
    for (uint32_t page = first; page < end; page++)
        bytes += is_touched(g, page) ? 0 : STORE_PAGE_BYTES;
    if (bytes == 0)
        return true;
    if (may_evict ? !segment_make_room(s, g->filler, bytes) : !segment_take_memory(s, bytes))
        return false;
    count_memory(g, bytes);
    for (uint32_t page = first; page < end; page++)
        g->touched[page / 64] |= 1ULL << page % 64;
    return true;
}

/* A wish: without huge pages it works as well, only slower. */
static void advise(struct chunk *chunk, uint32_t unit, uint32_t count, bool huge)
{
    madvise(chunk->bytes + (size_t)unit * HUGE_PAGE_BYTES, (size_t)count * HUGE_PAGE_BYTES,
            huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Count the memory of [off, off + len) before it is written. *begun: a huge page that is written for the
 * first time; left alone if there is none. */
static bool touch(struct store *s, struct segment *g, uint32_t off, uint32_t len, uint32_t *begun)
{
    uint32_t page = off / STORE_PAGE_BYTES, end = (off + len - 1) / STORE_PAGE_BYTES + 1;
    while (page < end) {
        uint32_t unit = page / HUGE_PAGE_PAGES, first = page, next = page + 1;
        if (g->ahead >> unit & 1) {
            g->ahead &= ~(1u << unit);
            *begun = unit;
        } else if (!is_touched(g, page) && deserves_huge_page(s, g, unit)) {
            first = unit * HUGE_PAGE_PAGES;
            next = first + HUGE_PAGE_PAGES;
            if (!g->chunk->huge)
                advise(g->chunk, unit, 1, true);
            *begun = unit;
        }
        if (!touch_pages(s, g, first, next, true))
            return false;
        page = next;
    }
    return true;
}

/* ---- what will be written next ---- */

uint64_t segment_overhead_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE) + sizeof(struct segment) + 2 * sizeof(struct map_slot);
}

/* A segment without a name, around a chunk that becomes its own; its memory is counted by the caller. */
static struct segment *wrap(struct chunk *chunk)
{
    struct segment *g = chunk != NULL ? calloc(1, sizeof(*g)) : NULL;
    if (g != NULL) {
        g->chunk = chunk;
        g->memory_bytes = segment_overhead_bytes();
    }
    return g;
}

/* One that is empty, for memory that was taken; NULL: there is none, and it was given back. */
static struct segment *new_unnamed(struct store *s)
{
    struct chunk *chunk = chunk_new_mapped(STORE_SEGMENT_BYTES);
    struct segment *g = wrap(chunk);
    if (g == NULL) {
        chunk_unref(chunk);
        give_memory(s, segment_overhead_bytes());
    }
    return g;
}

static void drop_unnamed(struct store *s, struct segment *g)
{
    give_memory(s, g->memory_bytes);
    chunk_unref(g->chunk);
    free(g);
}

/* The first touch of fresh memory may cost more than all the searching, so another thread does it meanwhile:
 * for the huge page after the next, since it may take as long as the worker takes for the next one by itself,
 * and both would do the same one. Its memory is counted before, so the bound is exact; nothing is evicted for
 * it; and a source gets no more of it than it has filled. */
enum { AHEAD_BY = 2 };

static void ask_ahead(struct store *s, struct segment *g, uint32_t unit)
{
    uint32_t first = unit * HUGE_PAGE_PAGES, end = first + HUGE_PAGE_PAGES;
    if (!is_all_touched(g, unit, false) || !touch_pages(s, g, first, end, false))
        return;
    if (s->events->touch_ahead(s->owner, g->chunk, unit * HUGE_PAGE_BYTES, HUGE_PAGE_BYTES)) {
        g->ahead |= 1u << unit;
        return;
    }
    uncount_memory(g, HUGE_PAGE_BYTES);
    give_memory(s, HUGE_PAGE_BYTES);
    for (uint32_t page = first; page < end; page++)
        g->touched[page / 64] &= ~(1ULL << page % 64);
}

/* While there is room for a whole segment: else the oldest will be named anew. */
static struct segment *need_spare(struct store *s)
{
    if (s->spare == NULL && s->max_bytes - s->used_bytes > 2 * STORE_SEGMENT_BYTES &&
        budget_left(s->memory) > 2 * STORE_SEGMENT_BYTES && segment_take_memory(s, segment_overhead_bytes()))
        s->spare = new_unnamed(s);
    return s->spare;
}

void spare_free(struct store *s)
{
    if (s->spare != NULL)
        drop_unnamed(s, s->spare);
    s->spare = NULL;
}

/* Writing has begun in a huge page, so others will be wanted soon. */
static void look_ahead(struct store *s, struct segment *g, uint32_t begun)
{
    uint32_t unit = begun + AHEAD_BY;
    bool goes_on = g->source == 0 || begun == 0 || is_all_filled(g, begun - 1);
    if (s->events == NULL || s->events->touch_ahead == NULL || !goes_on)
        return;
    if (unit >= HUGE_PAGES) {
        g = need_spare(s);
        unit -= HUGE_PAGES;
    }
    if (g != NULL)
        ask_ahead(s, g, unit);
}

/* ---- life ---- */

static uint32_t free_slot(struct store *s)
{
    for (uint32_t i = 0; i < s->slots_most; i++) {
        uint32_t slot = s->slot_next;
        s->slot_next = slot % s->slots_most + 1;
        if (s->slots[slot] == NULL)
            return slot;
    }
    return 0;
}

/* Name it, and put it into a slot; false: it stays as it was. */
static bool enter(struct store *s, struct segment *g, uint32_t source, struct filler *filler)
{
    uint32_t slot = free_slot(s);
    if (slot == 0 || map_put(&s->by_name, segment_name_key(s, &g->chunk->segment), g) < 0)
        return false;
    g->slot = slot;
    g->source = source;
    g->call = s->call;
    g->born_us = segment_now_us(s);
    join_filler(g, filler);
    s->slots[slot] = g;
    s->counters.segments++;
    return true;
}

/* What was touched ahead has its pages. */
static void advise_new(const struct segment *g, bool huge)
{
    g->chunk->huge = huge;
    for (uint32_t unit = 0; unit < AHEAD_BY; unit++) {
        if (!is_touched(g, unit * HUGE_PAGE_PAGES))
            advise(g->chunk, unit, 1, huge);
    }
    advise(g->chunk, AHEAD_BY, HUGE_PAGES - AHEAD_BY, huge);
}

/* Most of its memory is there: otherwise a sparse segment would come by pages that it does not fill. */
static bool is_mostly_touched(const struct segment *g)
{
    enum { PAGES = STORE_SEGMENT_BYTES / STORE_PAGE_BYTES };
    uint32_t touched = 0;
    for (uint32_t i = 0; i < PAGES / 64; i++)
        touched += (uint32_t)__builtin_popcountll(g->touched[i]);
    return touched >= PAGES / 4 * 3;
}

/* The oldest segment under a new name: its memory is there already, and nobody looks at it. */
static struct segment *recycle(struct store *s, const struct segment_id *id, uint32_t source,
                               struct filler *filler)
{
    struct segment *g = oldest_evictable(s, filler);
    uint64_t left = s->max_bytes - s->used_bytes;
    if (g == NULL || !is_mostly_touched(g) ||
        (left > STORE_SEGMENT_BYTES && budget_left(s->memory) > STORE_SEGMENT_BYTES))
        return NULL;
    if (map_put(&s->by_name, segment_name_key(s, id), g) < 0)
        return NULL;
    struct segment_id was = g->chunk->segment;
    fresh_forget(s, g);
    map_remove(&s->by_name, segment_name_key(s, &was));
    TAILQ_REMOVE(&s->by_age, g, by_age);
    TAILQ_INSERT_TAIL(&s->by_age, g, by_age);
    leave_filler(g);
    s->counters.segment_bytes -= g->filled_bytes;
    g->memory_bytes -= g->filled.cap * sizeof(*g->filled.list);
    give_memory(s, g->filled.cap * sizeof(*g->filled.list));
    intervals_clear(&g->filled);
    intervals_clear(&g->given_up);
    g->filled_bytes = 0;
    join_filler(g, filler);
    g->reserved = 0;
    g->ahead = 0;
    g->source = source;
    g->came_back = g->asked_disk = g->asked_next = false;
    g->stays_until_us = 0;
    g->call = s->call;
    g->born_us = segment_now_us(s);
    g->chunk->segment = *id;
    say_evicted(s, &was);
    return g;
}

struct segment *segment_new(struct store *s, const struct segment_id *id, uint32_t source, bool from_start)
{
    if (map_get(&s->by_name, segment_name_key(s, id)) != NULL)
        return NULL; /* another name of the same hash: that segment stays */
    struct filler *filler;
    if (need_filler(s, source, &filler) < 0)
        return NULL;
    /* A fragment of another is not worth a whole segment's memory. */
    bool goes_on = from_start && (source == 0 || follows_filled(s, id, source));
    bool spare = goes_on && s->spare != NULL;
    struct segment *g = from_start && !spare ? recycle(s, id, source, filler) : NULL;
    if (g != NULL)
        return g;
    if (s->counters.segments == s->slots_most && !evict_oldest(s, filler))
        return NULL;
    if (spare) {
        g = s->spare;
        s->spare = NULL;
    } else if (segment_make_room(s, filler, segment_overhead_bytes())) {
        g = new_unnamed(s);
    }
    if (g == NULL)
        return NULL;
    g->chunk->segment = *id;
    advise_new(g, source == 0);
    if (!enter(s, g, source, filler)) {
        drop_unnamed(s, g);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&s->by_age, g, by_age);
    return g;
}

/* Every page that was filled elsewhere, huge ones where the chunk has such. */
static bool count_filled(struct store *s, struct segment *g)
{
    uint32_t step = g->chunk->huge ? HUGE_PAGE_PAGES : 1;
    for (uint32_t i = 0; i < g->filled.count; i++) {
        uint32_t first = g->filled.list[i].from / STORE_PAGE_BYTES,
                 last = (g->filled.list[i].to - 1) / STORE_PAGE_BYTES;
        if (!touch_pages(s, g, first / step * step, (last / step + 1) * step, false))
            return false;
    }
    return true;
}

int segment_adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source,
                  bool newest, struct segment **out)
{
    if (map_get(&s->by_name, segment_name_key(s, &chunk->segment)) != NULL)
        return -EEXIST;
    uint64_t list_bytes = filled->cap * sizeof(*filled->list);
    struct filler *filler;
    if (need_filler(s, source, &filler) < 0 || !segment_take_memory(s, segment_overhead_bytes() + list_bytes))
        return -ENOBUFS;
    struct segment *g = wrap(chunk);
    if (g == NULL || !enter(s, g, source, filler)) {
        free(g);
        give_memory(s, segment_overhead_bytes() + list_bytes);
        return -ENOBUFS;
    }
    if (newest)
        TAILQ_INSERT_TAIL(&s->by_age, g, by_age);
    else
        TAILQ_INSERT_HEAD(&s->by_age, g, by_age);
    g->came_back = g->asked_disk = true;
    count_memory(g, list_bytes);
    g->filled = *filled;
    g->reserved = STORE_SEGMENT_BYTES;
    if (!count_filled(s, g)) {
        g->filled = (struct intervals){0};
        chunk_ref(chunk); /* it stays the caller's */
        segment_free(s, g);
        return -ENOBUFS;
    }
    count_bytes_filled(s, g, intervals_total(&g->filled));
    *filled = (struct intervals){0};
    *out = g;
    return 0;
}

void segment_free(struct store *s, struct segment *g)
{
    fresh_forget(s, g);
    TAILQ_REMOVE(&s->by_age, g, by_age);
    map_remove(&s->by_name, segment_name_key(s, &g->chunk->segment));
    s->slots[g->slot] = NULL;
    if (s->tail == g)
        s->tail = NULL;
    leave_filler(g);
    s->counters.segments--;
    s->counters.segment_bytes -= g->filled_bytes;
    give_memory(s, g->memory_bytes);
    intervals_clear(&g->filled);
    intervals_clear(&g->given_up);
    chunk_unref(g->chunk);
    free(g);
}

/* ---- bytes ---- */

/* Whether [from, to) would be an interval of its own: only that can make the list longer. */
static bool is_apart(const struct intervals *filled, uint32_t from, uint32_t to)
{
    return intervals_next_from(filled, from > 0 ? from - 1 : 0) > to;
}

static uint64_t list_bytes(const struct segment *g)
{
    return g->filled.cap * sizeof(*g->filled.list);
}

/* Like intervals_add, with the list's memory counted. It grows to twice its size, or its first, or shrinks.
 */
static int add_filled(struct store *s, struct segment *g, uint32_t from, uint32_t to)
{
    uint64_t before = list_bytes(g), reserved = 0;
    if (g->filled.count == g->filled.cap && is_apart(&g->filled, from, to)) {
        reserved = before > 0 ? before : 4 * sizeof(*g->filled.list);
        if (g->filled.count >= STORE_PARTS_MOST || !segment_make_room(s, g->filler, reserved))
            return -ENOBUFS;
    }
    int err = intervals_add(&g->filled, from, to);
    count_memory(g, reserved);
    uint64_t left = before + reserved - list_bytes(g);
    uncount_memory(g, left);
    give_memory(s, left);
    return err < 0 ? -ENOBUFS : 0;
}

int segment_write(struct store *s, struct segment *g, uint32_t off, const uint8_t *bytes, uint32_t len)
{
    uint32_t begun = HUGE_PAGES; /* none */
    g->call = s->call;
    if (!touch(s, g, off, len, &begun))
        return -ENOBUFS;
    int err = add_filled(s, g, off, off + len);
    if (err < 0)
        return err;
    memcpy(g->chunk->bytes + off, bytes, len);
    count_bytes_filled(s, g, len);
    if (begun < HUGE_PAGES)
        look_ahead(s, g, begun);
    return 0;
}
