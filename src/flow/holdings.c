#include "hawser/holdings.h"

#include <stdlib.h>

enum { KINDS = HOLDINGS_SENT + CONFIG_LANES_MAX };

struct holding {
    struct segment_id id;
    struct intervals kinds[KINDS];
};

static uint64_t key_of(const struct holdings *h, const struct segment_id *id)
{
    return segment_id_hash(id, h->salt);
}

static struct holding *find(const struct holdings *h, const struct segment_id *id)
{
    struct holding *found = map_get(&h->segments, key_of(h, id));
    return found != NULL && segment_id_equal(&found->id, id) ? found : NULL;
}

static struct holding *find_or_make(struct holdings *h, const struct segment_id *id)
{
    struct holding *found = find(h, id);
    if (found != NULL || h->segments.count >= HOLDINGS_SEGMENTS_MAX ||
        map_get(&h->segments, key_of(h, id)) != NULL)
        return found;
    found = calloc(1, sizeof(*found));
    if (found == NULL)
        return NULL;
    found->id = *id;
    if (map_put(&h->segments, key_of(h, id), found) < 0) {
        free(found);
        return NULL;
    }
    return found;
}

static void clear_kind(struct holdings *h, struct holding *one, unsigned kind)
{
    h->intervals -= one->kinds[kind].count;
    intervals_clear(&one->kinds[kind]);
}

static void holding_free(struct holdings *h, struct holding *one)
{
    for (unsigned i = 0; i < KINDS; i++)
        clear_kind(h, one, i);
    free(one);
}

void holdings_add(struct holdings *h, const struct segment_id *id, unsigned kind, uint32_t off, uint32_t len)
{
    struct holding *one = find_or_make(h, id);
    if (one == NULL || one->kinds[kind].count >= HOLDINGS_INTERVALS_MAX || h->intervals >= HOLDINGS_TOTAL_MAX)
        return;
    struct intervals *set = &one->kinds[kind];
    uint32_t before = set->count;
    if (intervals_add(set, off, off + len) == 0) /* else not noted: the bytes go as literals again */
        h->intervals += set->count - before;
}

static void remove_span(struct holdings *h, struct holding *one, unsigned kind, uint32_t off, uint32_t len)
{
    uint32_t before = one->kinds[kind].count;
    if (intervals_remove(&one->kinds[kind], off, off + len) == 0)
        h->intervals += one->kinds[kind].count - before;
    else
        clear_kind(h, one, kind); /* no memory to be precise */
}

void holdings_add_shown(struct holdings *h, const struct segment_id *id, unsigned kind, uint32_t off,
                        uint32_t len)
{
    holdings_add(h, id, kind, off, len);
    struct holding *one = find(h, id);
    if (one != NULL && one->kinds[HOLDINGS_MISSED].count > 0)
        remove_span(h, one, HOLDINGS_MISSED, off, len);
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
    enum { SETS = 3 };
    const struct intervals *const sets[SETS] = {&one->kinds[HOLDINGS_THEIRS], &one->kinds[HOLDINGS_CLAIMED],
                                                &one->kinds[HOLDINGS_SENT + slot]};
    uint32_t end = end_in(sets, SETS, off);
    *held = end > off;
    for (unsigned i = 0; !*held && i < SETS; i++) {
        uint32_t next = intervals_next_from(sets[i], off);
        end = i == 0 || next < end ? next : end;
    }
    const struct intervals *missed = &one->kinds[HOLDINGS_MISSED];
    if (*held && missed->count > 0) {
        uint32_t from = intervals_next_from(missed, off);
        *held = from > off;
        if (!*held)
            end = intervals_end_of(missed, off);
        else if (from < end)
            end = from;
    }
    return end - off < len ? end - off : len;
}

bool holdings_peer_may(const struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len)
{
    const struct holding *one = find(h, id);
    if (one == NULL)
        return false;
    const struct intervals *sets[KINDS];
    unsigned count = 0;
    for (unsigned i = 0; i < KINDS; i++) {
        if (i != HOLDINGS_CLAIMED && i != HOLDINGS_MISSED && i != HOLDINGS_ASKED)
            sets[count++] = &one->kinds[i];
    }
    return end_in(sets, count, off) - off >= len;
}

static void discard_if_empty(struct holdings *h, struct holding *one)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (one->kinds[i].count > 0)
            return;
    }
    map_remove(&h->segments, key_of(h, &one->id));
    holding_free(h, one);
}

/* What the peer holds, as far as we know; not what it knows of us. */
static bool is_of_peer(unsigned kind)
{
    return kind != HOLDINGS_ANNOUNCED && kind != HOLDINGS_ASKED;
}

void holdings_take_back(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len)
{
    holdings_add(h, id, HOLDINGS_MISSED, off, len);
    struct holding *one = find(h, id);
    if (one == NULL)
        return;
    for (unsigned i = 0; i < KINDS; i++) {
        if (is_of_peer(i) && i != HOLDINGS_MISSED)
            remove_span(h, one, i, off, len);
    }
    discard_if_empty(h, one);
}

bool holdings_take_asked(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t len)
{
    struct holding *one = find(h, id);
    if (one == NULL || intervals_next_from(&one->kinds[HOLDINGS_ASKED], off) >= off + len)
        return false;
    remove_span(h, one, HOLDINGS_ASKED, off, len);
    discard_if_empty(h, one);
    return true;
}

void holdings_lane_lost(struct holdings *h, unsigned slot)
{
    struct holding *one;
    for (size_t i = 0; (one = map_each(&h->segments, &i)) != NULL;)
        clear_kind(h, one, HOLDINGS_SENT + slot);
}

void holdings_dropped(struct holdings *h, const struct segment_id *id)
{
    struct holding *one = find(h, id);
    if (one == NULL)
        return;
    for (unsigned i = 0; i < KINDS; i++) {
        if (is_of_peer(i))
            clear_kind(h, one, i);
    }
    discard_if_empty(h, one);
}

bool holdings_forget(struct holdings *h, const struct segment_id *id)
{
    struct holding *one = find(h, id);
    if (one == NULL)
        return false;
    map_remove(&h->segments, key_of(h, id));
    holding_free(h, one);
    return true;
}

void holdings_clear(struct holdings *h)
{
    struct holding *one;
    for (size_t i = 0; (one = map_each(&h->segments, &i)) != NULL;)
        holding_free(h, one);
    map_clear(&h->segments);
}
