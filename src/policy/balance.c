#include "hawser/balance.h"

enum {
    HOME_SHARE_PERMILLE =
        1000, /* at placement: what ends elsewhere first raises it, and it shall stay below 1150 */
    HOME_SLACK_SESSIONS = 2, /* with a handful of sessions a ratio says nothing */
    GROW_ABOVE_PERMILLE = 700,
    SHRINK_BELOW_PERMILLE = 400,
    GROW_AFTER_S = 2,
    SHRINK_AFTER_S = 10,
};

static bool less_loaded(const struct balance_load *a, const struct balance_load *b)
{
    if (a->live_sessions != b->live_sessions)
        return a->live_sessions < b->live_sessions;
    return a->moved_bytes < b->moved_bytes;
}

size_t balance_pick(const struct balance_load *loads, size_t count, size_t home)
{
    size_t best = BALANCE_NONE, usable = 0;
    uint64_t all = 1; /* the new one */
    for (size_t i = 0; i < count; i++) {
        if (!loads[i].usable)
            continue;
        usable++;
        all += loads[i].live_sessions;
        if (best == BALANCE_NONE || less_loaded(&loads[i], &loads[best]))
            best = i;
    }
    if (best == BALANCE_NONE || home >= count || !loads[home].usable)
        return best;
    uint64_t then = (uint64_t)loads[home].live_sessions + 1;
    bool light = then * usable * 1000 <= all * HOME_SHARE_PERMILLE;
    return light || then <= HOME_SLACK_SESSIONS ? home : best;
}

size_t balance_resize(struct balance_size *s, size_t active, size_t min, size_t max, uint32_t busy_permille)
{
    bool hot = active < max && busy_permille > active * GROW_ABOVE_PERMILLE;
    bool cold = active > min && busy_permille < (active - 1) * SHRINK_BELOW_PERMILLE;
    s->hot_s = hot ? s->hot_s + 1 : 0;
    s->cold_s = cold ? s->cold_s + 1 : 0;
    if (s->hot_s >= GROW_AFTER_S) {
        s->hot_s = 0;
        return active + 1;
    }
    if (s->cold_s >= SHRINK_AFTER_S) {
        s->cold_s = 0;
        return active - 1;
    }
    return active;
}
