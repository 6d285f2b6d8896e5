#include "hawser/holdings.h"

#include <stdlib.h>

enum { KINDS = HOLDINGS_SENT + CONFIG_LANES_MAX };

struct holding {
    struct segment_id id;
    struct intervals kinds[KINDS];
};

/* Epochs are random, so that the sum is as good as unique; where it is not, the id tells. */
static uint64_t key_of(const struct segment_id *id)
{
    return id->epoch + id->number;
}

static struct holding *find(const struct holdings *h, const struct segment_id *id)
{
    struct holding *found = map_get(&h->segments, key_of(id));
    if (found == NULL || found->id.epoch != id->epoch || found->id.number != id->number)
        return NULL;
    return found;
}

static struct holding *find_or_make(struct holdings *h, const struct segment_id *id)
{
    struct holding *found = find(h, id);
    if (found != NULL || h->segments.count >= HOLDINGS_SEGMENTS_MAX ||
        map_get(&h->segments, key_of(id)) != NULL)
        return found;
    found = calloc(1, sizeof(*found));
    if (found == NULL)
        return NULL;
    found->id = *id;
    if (map_put(&h->segments, key_of(id), found) < 0) {
        free(found);
        return NULL;
    }
    return found;
}

static void holding_free(struct holding *one)
{
    for (unsigned i = 0; i < KINDS; i++)
        intervals_clear(&one->kinds[i]);
    free(one);
}

void holdings_add(struct holdings *h, const struct segment_id *id, unsigned kind, uint32_t off, uint32_t len)
{
    struct holding *one = find_or_make(h, id);
    if (one == NULL || one->kinds[kind].count >= HOLDINGS_INTERVALS_MAX)
        return;
    int err = intervals_add(&one->kinds[kind], off, off + len);
    (void)err; /* not noted: the bytes go as literals again */
}

/* The first number from `at` on that is in the set; UINT32_MAX: none. */
static uint32_t next_in(const struct intervals *s, uint32_t at)
{
    uint32_t low = 0, high = s->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->list[middle].to <= at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == s->count)
        return UINT32_MAX;
    return s->list[low].from > at ? s->list[low].from : at;
}

/* The end of what is in any of the sets without a gap from `at` on. */
static uint32_t end_in(const struct intervals *const *sets, unsigned count, uint32_t at)
{
    for (unsigned i = 0; i < count;) {
        uint32_t end = intervals_end_of(sets[i], at);
        if (end > at) {
            at = end;
            i = 0;
        } else {
            i++;
        }
    }
    return at;
}

uint32_t holdings_span(const struct holdings *h, const struct segment_id *id, unsigned slot, uint32_t off,
                       uint32_t len, bool *held)
{
    const struct holding *one = find(h, id);
    *held = false;
    if (one == NULL)
        return len;
    const struct intervals *const sets[] = {&one->kinds[HOLDINGS_THEIRS], &one->kinds[HOLDINGS_SENT + slot]};
    uint32_t end = end_in(sets, 2, off);
    *held = end > off;
    if (!*held) {
        uint32_t theirs = next_in(sets[0], off), sent = next_in(sets[1], off);
        end = theirs < sent ? theirs : sent;
    }
    return end - off < len ? end - off : len;
}

bool holdings_peer_may(const struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len)
{
    const struct holding *one = find(h, id);
    if (one == NULL)
        return false;
    const struct intervals *sets[KINDS];
    for (unsigned i = 0; i < KINDS; i++)
        sets[i] = &one->kinds[i];
    return end_in(sets, KINDS, off) - off >= len;
}

static void discard_if_empty(struct holdings *h, struct holding *one)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (one->kinds[i].count > 0)
            return;
    }
    map_remove(&h->segments, key_of(&one->id));
    holding_free(one);
}

void holdings_take_back(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len)
{
    struct holding *one = find(h, id);
    if (one == NULL)
        return;
    for (unsigned i = 0; i < KINDS; i++) {
        bool ours = i == HOLDINGS_ANNOUNCED;
        if (!ours && intervals_remove(&one->kinds[i], off, off + len) < 0)
            intervals_clear(&one->kinds[i]); /* no memory to be precise */
    }
    discard_if_empty(h, one);
}

void holdings_lane_lost(struct holdings *h, unsigned slot)
{
    struct holding *one;
    for (size_t i = 0; (one = map_each(&h->segments, &i)) != NULL;)
        intervals_clear(&one->kinds[HOLDINGS_SENT + slot]);
}

void holdings_dropped(struct holdings *h, const struct segment_id *id)
{
    struct holding *one = find(h, id);
    if (one == NULL)
        return;
    for (unsigned i = 0; i < KINDS; i++) {
        if (i != HOLDINGS_ANNOUNCED)
            intervals_clear(&one->kinds[i]);
    }
    discard_if_empty(h, one);
}

bool holdings_forget(struct holdings *h, const struct segment_id *id)
{
    struct holding *one = find(h, id);
    if (one == NULL)
        return false;
    map_remove(&h->segments, key_of(id));
    holding_free(one);
    return true;
}

void holdings_clear(struct holdings *h)
{
    struct holding *one;
    for (size_t i = 0; (one = map_each(&h->segments, &i)) != NULL;)
        holding_free(one);
    map_clear(&h->segments);
}
