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

/* A kind of a segment had so many intervals before. */
static void count(struct holdings *h, const struct holding *one, unsigned kind, uint32_t before)
{
    h->intervals += one->kinds[kind].count - before;
    if (kind == HOLDINGS_ASKED)
        h->asked += one->kinds[kind].count - before;
}

static void clear_kind(struct holdings *h, struct holding *one, unsigned kind)
{
    uint32_t before = one->kinds[kind].count;
    intervals_clear(&one->kinds[kind]);
    count(h, one, kind, before);
}

static void holding_free(struct holdings *h, struct holding *one)
{
    for (unsigned i = 0; i < KINDS; i++)
        clear_kind(h, one, i);
    free(one);
}

static bool is_full(const struct holdings *h, const struct holding *one, unsigned kind)
{
    return one->kinds[kind].count >= HOLDINGS_INTERVALS_MAX || h->intervals >= HOLDINGS_TOTAL_MAX ||
           (kind == HOLDINGS_ASKED && h->asked >= HOLDINGS_ASKED_MAX);
}

/* False: it is not noted, and the bytes go as literals again. */
static bool add_span(struct holdings *h, struct holding *one, unsigned kind, uint32_t from, uint32_t to)
{
    struct intervals *set = &one->kinds[kind];
    uint32_t before = set->count;
    if (intervals_cover(set, from, to))
        return true;
    if (is_full(h, one, kind) || intervals_add(set, from, to) < 0)
        return false;
    count(h, one, kind, before);
    return true;
}

bool holdings_add(struct holdings *h, const struct segment_id *id, unsigned kind, uint32_t off, uint32_t len)
{
    struct holding *one = find_or_make(h, id);
    if (one == NULL)
        return false;
    bool is_new = kind == HOLDINGS_THEIRS && !intervals_cover(&one->kinds[HOLDINGS_THEIRS], off, off + len) &&
                  !intervals_cover(&one->kinds[HOLDINGS_PROVED], off, off + len);
    bool noted = add_span(h, one, kind, off, off + len);
    h->changes += is_new && noted;
    return noted;
}

static void remove_span(struct holdings *h, struct holding *one, unsigned kind, uint32_t off, uint32_t len)
{
    uint32_t before = one->kinds[kind].count;
    if (intervals_remove(&one->kinds[kind], off, off + len) == 0)
        count(h, one, kind, before);
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
        if (i != HOLDINGS_CLAIMED && i != HOLDINGS_MISSED && i != HOLDINGS_ASKED && i != HOLDINGS_PROVED)
            sets[count++] = &one->kinds[i];
    }
    return end_in(sets, count, off) - off >= len;
}

static bool is_empty(const struct holding *one)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (one->kinds[i].count > 0)
            return false;
    }
    return true;
}

static void discard_if_empty(struct holdings *h, struct holding *one)
{
    if (!is_empty(one))
        return;
    map_remove(&h->segments, key_of(h, &one->id));
    holding_free(h, one);
}

/* Without the empty ones. The map may not change while it is visited, so all move to a new one. */
static void discard_empty(struct holdings *h)
{
    struct map old = h->segments;
    struct holding *one;
    h->segments = (struct map){.salt = old.salt};
    for (size_t i = 0; (one = map_each(&old, &i)) != NULL;) {
        if (is_empty(one) || map_put(&h->segments, key_of(h, &one->id), one) < 0)
            holding_free(h, one);
    }
    map_clear(&old);
}

/* What the peer holds, as far as we know; not what it knows of us, or has known. */
static bool is_of_peer(unsigned kind)
{
    return kind != HOLDINGS_ANNOUNCED && kind != HOLDINGS_ASKED && kind != HOLDINGS_PROVED;
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
    discard_empty(h);
}

void holdings_give_up_asked(struct holdings *h)
{
    struct holding *one;
    for (size_t i = 0; (one = map_each(&h->segments, &i)) != NULL;)
        clear_kind(h, one, HOLDINGS_ASKED);
    discard_empty(h);
}

/* Theirs is proved from now on, and no more than that. */
static void make_proved(struct holdings *h, struct holding *one)
{
    struct intervals theirs = one->kinds[HOLDINGS_THEIRS];
    one->kinds[HOLDINGS_THEIRS] = (struct intervals){0};
    count(h, one, HOLDINGS_THEIRS, theirs.count);
    if (one->kinds[HOLDINGS_PROVED].count == 0) {
        one->kinds[HOLDINGS_PROVED] = theirs;
        count(h, one, HOLDINGS_PROVED, 0);
        return;
    }
    for (uint32_t i = 0; i < theirs.count; i++)
        add_span(h, one, HOLDINGS_PROVED, theirs.list[i].from, theirs.list[i].to);
    intervals_clear(&theirs);
}

void holdings_dropped(struct holdings *h, const struct segment_id *id)
{
    struct holding *one = find(h, id);
    if (one == NULL)
        return;
    make_proved(h, one);
    for (unsigned i = 0; i < KINDS; i++) {
        if (i != HOLDINGS_PROVED)
            clear_kind(h, one, i);
    }
    discard_if_empty(h, one);
}

/* More than half of what may be noted would leave too little for what is to come. */
void holdings_peer_restarted(struct holdings *h)
{
    struct holding *one;
    uint32_t proved = 0;
    for (size_t i = 0; (one = map_each(&h->segments, &i)) != NULL;) {
        make_proved(h, one);
        bool fits = proved + one->kinds[HOLDINGS_PROVED].count <= HOLDINGS_TOTAL_MAX / 2;
        for (unsigned kind = 0; kind < KINDS; kind++) {
            if (kind != HOLDINGS_PROVED || !fits)
                clear_kind(h, one, kind);
        }
        proved += one->kinds[HOLDINGS_PROVED].count;
    }
    discard_empty(h);
}

void holdings_set_peer(struct holdings *h, uint32_t source)
{
    struct holding *one;
    if (h->peer == source)
        return;
    for (size_t i = 0; h->peer != 0 && (one = map_each(&h->segments, &i)) != NULL;) {
        clear_kind(h, one, HOLDINGS_THEIRS);
        clear_kind(h, one, HOLDINGS_PROVED);
        clear_kind(h, one, HOLDINGS_ANNOUNCED);
    }
    h->peer = source;
    discard_empty(h);
}

bool holdings_recall(struct holdings *h, const struct segment_id *id, uint32_t off, uint32_t end,
                     struct interval *part)
{
    struct holding *one = find(h, id);
    uint32_t from = one != NULL ? intervals_next_from(&one->kinds[HOLDINGS_PROVED], off) : end;
    if (from >= end)
        return false;
    uint32_t to = intervals_end_of(&one->kinds[HOLDINGS_PROVED], from);
    to = to < end ? to : end;
    if (!add_span(h, one, HOLDINGS_THEIRS, from, to))
        return false;
    remove_span(h, one, HOLDINGS_PROVED, from, to - from);
    *part = (struct interval){.from = from, .to = to};
    return true;
}

const struct intervals *holdings_kind(const struct holdings *h, const struct segment_id *id, unsigned kind)
{
    const struct holding *one = find(h, id);
    return one != NULL ? &one->kinds[kind] : NULL;
}

bool holdings_next(const struct holdings *h, size_t *i, struct holdings_known *out)
{
    const struct holding *one = map_each(&h->segments, i);
    if (one != NULL)
        *out = (struct holdings_known){
            .id = &one->id, .theirs = &one->kinds[HOLDINGS_THEIRS], .proved = &one->kinds[HOLDINGS_PROVED]};
    return one != NULL;
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
