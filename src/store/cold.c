#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store_internal.h"

enum {
    KEYS_A_FILE = 64,    /* on average at least, else the table of files is full first */
    SHARE_OF_STORE = 32, /* the most that all this takes, of the store's memory */
    KEYS_LEAST = 4096,
    READ_AHEAD_FROM = STORE_SEGMENT_BYTES / 4,
    WAIT_MOST_US = 4000000, /* in the queue */
    STAY_US = 2000000       /* what came back stays so long, whatever else should come back */
};

/* ---- life ---- */

/* Buckets fill unevenly, so there are more of them than keys. */
static uint64_t buckets_for(uint64_t keys)
{
    return (keys + keys / 4) / COLD_IN_BUCKET;
}

static uint64_t bytes_for(uint64_t keys)
{
    return buckets_for(keys) * COLD_IN_BUCKET * sizeof(uint64_t) +
           keys / KEYS_A_FILE * (sizeof(struct cold_file) + 2 * sizeof(struct map_slot));
}

int store_cold_begin(struct store *s, uint64_t disk_bytes, void (*wake)(void *arg), void *arg)
{
    struct cold *c = &s->cold;
    uint64_t keys = disk_bytes / SAMPLE_STRIDE_BYTES;
    while (keys > KEYS_LEAST &&
           (bytes_for(keys) > s->max_bytes / SHARE_OF_STORE || keys / KEYS_A_FILE > COLD_NUMBERS))
        keys -= keys / 8;
    keys = keys > KEYS_LEAST ? keys : KEYS_LEAST;
    uint64_t bytes = bytes_for(keys);
    if (c->buckets != NULL)
        return -EEXIST;
    if (!segment_make_room(s, NULL, bytes))
        return -ENOBUFS;
    c->bucket_count = (uint32_t)buckets_for(keys);
    c->files_most = (uint32_t)(keys / KEYS_A_FILE);
    c->files = calloc(c->files_most, sizeof(*c->files));
    c->buckets = calloc(c->bucket_count, sizeof(*c->buckets));
    c->bytes = bytes;
    if (c->files == NULL || c->buckets == NULL) {
        cold_end(s);
        return -ENOMEM;
    }
    c->by_name.salt = s->seed;
    c->wake = wake;
    c->wake_arg = arg;
    return 0;
}

void cold_end(struct store *s)
{
    struct cold *c = &s->cold;
    free(c->buckets);
    free(c->files);
    map_clear(&c->by_name);
    s->used_bytes -= c->bytes;
    budget_give(s->memory, c->bytes);
    *c = (struct cold){0};
    TAILQ_INIT(&c->queue);
}

/* ---- files ---- */

static struct cold_file *find(const struct store *s, const struct segment_id *id)
{
    struct cold_file *f = map_get(&s->cold.by_name, segment_name_key(s, id));
    return f != NULL && segment_id_equal(&f->id, id) ? f : NULL;
}

static void set_state(struct cold *c, struct cold_file *f, enum cold_state state)
{
    if (f->state == COLD_QUEUED) {
        TAILQ_REMOVE(&c->queue, f, by_queue);
        c->queued--;
    }
    f->state = state;
    if (state == COLD_QUEUED) {
        TAILQ_INSERT_TAIL(&c->queue, f, by_queue);
        c->queued++;
    }
}

static void drop(struct store *s, struct cold_file *f)
{
    struct cold *c = &s->cold;
    set_state(c, f, COLD_QUIET);
    map_remove(&c->by_name, segment_name_key(s, &f->id));
    *f = (struct cold_file){0};
    c->count--;
}

/* In the place of the one that was noted first. NULL: no memory, or another name has its key. */
static struct cold_file *enter(struct store *s, const struct segment_id *id)
{
    struct cold *c = &s->cold;
    uint32_t number = c->next_number, wrap = COLD_NUMBERS / c->files_most * c->files_most;
    struct cold_file *f = &c->files[number % c->files_most];
    if (map_get(&c->by_name, segment_name_key(s, id)) != NULL)
        return NULL;
    if (f->id.epoch != 0)
        drop(s, f);
    if (map_put(&c->by_name, segment_name_key(s, id), f) < 0)
        return NULL;
    *f = (struct cold_file){.id = *id, .number = number};
    c->next_number = (number + 1) % wrap;
    c->count++;
    return f;
}

static uint64_t tag_of(uint64_t key)
{
    return key << SAMPLE_BITS >> COLD_NUMBER_BITS; /* the first bits are zero in all of them */
}

static void put(struct cold *c, uint64_t key, const struct cold_file *f)
{
    uint64_t *bucket = cold_bucket(c, key);
    memmove(bucket + 1, bucket, (COLD_IN_BUCKET - 1) * sizeof(*bucket));
    bucket[0] = tag_of(key) << COLD_NUMBER_BITS | f->number;
}

void store_cold_note(struct store *s, const struct segment_id *id, uint32_t source, const struct sample *keys)
{
    if (s->cold.buckets == NULL)
        return;
    struct cold_file *f = find(s, id);
    if (f == NULL)
        f = enter(s, id);
    if (f == NULL)
        return;
    f->source = source;
    for (uint32_t i = 0; i < keys->count; i++)
        put(&s->cold, keys->keys[i], f);
}

/* ---- what is wanted ---- */

static bool has_place(const struct cold *c, uint32_t asker)
{
    uint32_t its = 0;
    const struct cold_file *f;
    TAILQ_FOREACH (f, &c->queue, by_queue)
        its += f->asker == asker;
    return c->queued < COLD_QUEUED_MOST && its < (asker == 0 ? COLD_QUEUED_HOSTS : COLD_QUEUED_A_PEER);
}

/* False: there is no place in the queue. */
static bool want(struct store *s, struct cold_file *f, uint32_t asker)
{
    struct cold *c = &s->cold;
    if (f->state != COLD_QUIET)
        return true;
    if (!has_place(c, asker))
        return false;
    f->asker = asker;
    f->hit_at = f->hit_key = f->missed_bytes = 0;
    f->queued_us = segment_now_us(s);
    set_state(c, f, COLD_QUEUED);
    s->counters.cold_hits++;
    c->wake(c->wake_arg);
    return true;
}

static bool is_second_hit(const struct store *s, struct cold_file *f, uint64_t key)
{
    uint64_t now = s->counters.taken_bytes + 1;
    if (f->hit_at != 0 && f->hit_key != key && now - f->hit_at <= COLD_HITS_WITHIN_BYTES)
        return segment_find(s, &f->id) == NULL;
    f->hit_at = now;
    f->hit_key = key;
    return false;
}

void cold_meet(struct store *s, uint64_t key)
{
    const struct cold *c = &s->cold;
    const uint64_t *bucket = cold_bucket(c, key);
    struct cold_file *second = NULL;
    for (unsigned i = 0; i < COLD_IN_BUCKET; i++) {
        uint32_t number = (uint32_t)bucket[i] & (COLD_NUMBERS - 1);
        struct cold_file *f = &c->files[number % c->files_most];
        if (bucket[i] >> COLD_NUMBER_BITS != tag_of(key) || f->id.epoch == 0 || f->number != number)
            continue;
        if (f->state != COLD_QUIET)
            return; /* the same bytes are on their way */
        if (is_second_hit(s, f, key) && second == NULL)
            second = f;
    }
    if (second != NULL)
        want(s, second, 0);
}

void store_want(struct store *s, uint32_t source, const struct segment_id *id, uint32_t len)
{
    struct cold_file *f = s->cold.buckets != NULL && segment_find(s, id) == NULL ? find(s, id) : NULL;
    if (f == NULL)
        return;
    f->missed_bytes += len;
    if (f->missed_bytes >= COLD_WORTH_BYTES)
        cold_want(s, source, id);
}

bool cold_want(struct store *s, uint32_t source, const struct segment_id *id)
{
    struct cold_file *f = s->cold.buckets != NULL ? find(s, id) : NULL;
    return f == NULL || (f->source != source && f->source != 0) || want(s, f, source);
}

void cold_read_ahead(struct store *s, struct segment *g, uint32_t off)
{
    struct segment_id next = g->chunk->segment;
    if (off < READ_AHEAD_FROM || g->asked_next)
        return;
    next.number++;
    g->asked_next = segment_find(s, &next) != NULL || cold_want(s, g->source, &next);
}

/* What came back lately was wanted more than what comes next: else each would push out the one before it. */
static struct segment *oldest_that_may_go(const struct store *s)
{
    uint64_t now = segment_now_us(s);
    struct segment *g;
    TAILQ_FOREACH (g, &s->by_age, by_age) {
        if (segment_is_evictable(s, g) && now >= g->stays_until_us)
            return g;
    }
    return NULL;
}

static bool fits(const struct store *s, uint64_t bytes)
{
    return bytes <= s->max_bytes - s->used_bytes && bytes <= budget_left(s->memory) &&
           s->counters.segments < s->slots_most;
}

/* Who had the last turn waits for the others. */
static struct cold_file *next_in_turn(const struct cold *c)
{
    struct cold_file *f;
    TAILQ_FOREACH (f, &c->queue, by_queue) {
        if (f->asker != c->last_asker)
            return f;
    }
    return TAILQ_FIRST(&c->queue);
}

bool store_cold_next(struct store *s, struct segment_id *id)
{
    struct cold_file *f = TAILQ_FIRST(&s->cold.queue);
    while (f != NULL && segment_now_us(s) - f->queued_us > WAIT_MOST_US) {
        set_state(&s->cold, f, COLD_QUIET); /* who still meets it wants it again */
        f = TAILQ_FIRST(&s->cold.queue);
    }
    if (f == NULL || (!fits(s, STORE_SEGMENT_BYTES) && oldest_that_may_go(s) == NULL))
        return false;

    f = next_in_turn(&s->cold);
    s->cold.last_asker = f->asker;
    *id = f->id;
    set_state(&s->cold, f, COLD_READING);
    return true;
}

void store_cold_end(struct store *s, const struct segment_id *id, bool gone)
{
    struct cold_file *f = find(s, id);
    if (f != NULL && gone)
        drop(s, f);
    else if (f != NULL)
        set_state(&s->cold, f, COLD_QUIET);
}

/* Most that the segment will take. */
static uint64_t memory_for(const struct chunk *chunk, const struct intervals *filled)
{
    uint64_t bytes = chunk->huge ? STORE_SEGMENT_BYTES : 0;
    for (uint32_t i = 0; i < filled->count && bytes < STORE_SEGMENT_BYTES; i++)
        bytes += filled->list[i].to - filled->list[i].from + 2 * STORE_PAGE_BYTES;
    bytes = bytes < STORE_SEGMENT_BYTES ? bytes : STORE_SEGMENT_BYTES;
    return bytes + filled->cap * sizeof(*filled->list) + segment_overhead_bytes();
}

void cold_let_stay(const struct store *s, struct segment *g)
{
    g->stays_until_us = segment_now_us(s) + STAY_US;
}

bool cold_make_room(struct store *s, const struct chunk *chunk, const struct intervals *filled)
{
    while (!fits(s, memory_for(chunk, filled))) {
        struct segment *g = oldest_that_may_go(s);
        if (g == NULL || !segment_evict(s, g))
            return false;
    }
    return true;
}
