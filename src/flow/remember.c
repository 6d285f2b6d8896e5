#include "hawser/remember.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/proved.h"
#include "hawser/session.h"

static struct remembered *find(const struct leg_host *home, uint32_t peer)
{
    struct remembered *r = home->remembered;
    while (r != NULL && r->peer != peer)
        r = r->next;
    return r;
}

/* The bytes are given; on failure they are freed. */
static int put(struct leg_host *home, uint32_t peer, uint8_t *bytes, size_t len, bool fresh)
{
    struct remembered *r = find(home, peer);
    if (r == NULL) {
        r = calloc(1, sizeof(*r));
        if (r == NULL) {
            free(bytes);
            return -ENOMEM;
        }
        r->peer = peer;
        r->next = home->remembered;
        home->remembered = r;
    }
    free(r->bytes);
    r->bytes = bytes;
    r->len = (uint32_t)len;
    r->fresh = fresh;
    return 0;
}

int remember_restore(struct leg_host *home, uint32_t peer, const uint8_t *entries, size_t len)
{
    if (find(home, peer) != NULL)
        return 0;
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    if (bytes == NULL)
        return -ENOMEM;
    memcpy(bytes, entries, len);
    return put(home, peer, bytes, len, false);
}

bool remember_written(struct leg_host *home, uint32_t peer, int err)
{
    struct remembered *r = find(home, peer);
    bool first = err < 0 && r != NULL && !r->failed;
    if (r == NULL)
        return false;
    r->fresh = r->fresh || err < 0;
    r->failed = err < 0;
    return first;
}

void remember_free(struct leg_host *home)
{
    struct remembered *r;
    while ((r = home->remembered) != NULL) {
        home->remembered = r->next;
        free(r->bytes);
        free(r);
    }
}

/* ---- back into holdings ---- */

static bool is_lasting(uint32_t source, uint32_t peer)
{
    return source == 0 || source == peer;
}

/* What the store has of an entry is proved: if it is of the same source still, it is the same. */
static void restore(struct mux *m, const struct proved_entry *e)
{
    const struct intervals *filled = store_filled(m->home->store, &e->segment);
    if (filled == NULL || !is_lasting(e->source, m->holdings.peer) ||
        store_source(m->home->store, &e->segment) != (int64_t)e->source)
        return;
    for (uint32_t i = 0; i < e->count; i++) {
        struct interval part = proved_part(e, i);
        uint32_t at = part.from;
        while ((at = intervals_next_from(filled, at)) < part.to) {
            uint32_t end = intervals_end_of(filled, at);
            end = end < part.to ? end : part.to;
            holdings_add(&m->holdings, &e->segment, HOLDINGS_PROVED, at, end - at);
            at = end;
        }
    }
}

/* only: NULL for all. */
static void restore_entries(struct mux *m, const struct segment_id *only)
{
    const struct remembered *r = find(m->home, m->holdings.peer);
    if (r == NULL || !mux_stores(m))
        return;
    struct cursor c = cursor_over(r->bytes, r->len);
    struct proved_entry e;
    while (only != NULL ? proved_find(&c, only, &e) : proved_next(&c, &e))
        restore(m, &e);
}

void remember_meet(struct mux *m)
{
    uint32_t peer = tunnel_peer_source(m->tunnel);
    if (m->holdings.peer == peer)
        return;
    holdings_set_peer(&m->holdings, peer);
    restore_entries(m, NULL);
}

void remember_segment(struct mux *m, const struct segment_id *id)
{
    if (m->holdings.peer != 0)
        restore_entries(m, id);
}

/* ---- and out of them ---- */

/* What the peer holds, or once held, first; then what was remembered of segments that are on disk only, or
 * gone: nobody knows, and what there is no room for goes. */
static void put_all(struct mux *m, struct cursor_out *out)
{
    const struct store *store = m->home->store;
    struct holdings_known known;
    for (size_t i = 0; holdings_next(&m->holdings, &i, &known);) {
        int64_t source = store_source(store, known.id);
        if (source < 0 || !is_lasting((uint32_t)source, m->holdings.peer))
            continue;
        proved_put(out, known.id, (uint32_t)source, known.theirs);
        proved_put(out, known.id, (uint32_t)source, known.proved);
    }
    const struct remembered *r = find(m->home, m->holdings.peer);
    struct cursor c = cursor_over(r != NULL ? r->bytes : NULL, r != NULL ? r->len : 0);
    const uint8_t *from = c.at;
    struct proved_entry e;
    for (; proved_next(&c, &e); from = c.at) {
        size_t len = (size_t)(c.at - from);
        if (store_source(store, &e.segment) < 0 && len <= cursor_out_left(out))
            cursor_put_bytes(out, from, len);
    }
}

void remember_keep(struct mux *m)
{
    if (!m->home->remembers || m->holdings.kept == m->holdings.changes || !mux_stores(m))
        return;
    uint8_t *bytes = malloc(PROVED_MOST_BYTES);
    if (bytes == NULL)
        return; /* the next time, or cold */
    remember_meet(m);
    struct cursor_out out = cursor_out_over(bytes, PROVED_MOST_BYTES);
    put_all(m, &out);
    size_t len = (size_t)(out.at - bytes);
    uint8_t *fitting = realloc(bytes, len > 0 ? len : 1);
    if (fitting != NULL)
        bytes = fitting;
    if (put(m->home, m->holdings.peer, bytes, len, true) == 0)
        m->holdings.kept = m->holdings.changes;
}

void remember_collect(struct leg_host *home)
{
    struct mux *m;
    TAILQ_FOREACH (m, &home->muxes, same_home)
        remember_keep(m);
}

/* ---- when ---- */

static bool is_waiting(const struct leg_host *home, uint64_t *changes)
{
    bool waits = false;
    const struct mux *m;
    *changes = 0;
    TAILQ_FOREACH (m, &home->muxes, same_home) {
        *changes += m->holdings.changes;
        waits = waits || m->holdings.kept != m->holdings.changes;
    }
    for (const struct remembered *r = home->remembered; r != NULL; r = r->next)
        waits = waits || r->fresh;
    return waits;
}

bool remember_is_due(struct remember_pace *p, const struct leg_host *home)
{
    uint64_t changes;
    p->rests_s -= p->rests_s > 0;
    if (!is_waiting(home, &changes)) {
        p->waits_s = p->quiet_s = 0;
        return false;
    }
    p->waits_s++;
    p->quiet_s = changes == p->changes ? p->quiet_s + 1 : 0;
    p->changes = changes;
    if (p->rests_s > 0 || (p->quiet_s < REMEMBER_QUIET_S && p->waits_s < REMEMBER_EVERY_S))
        return false;
    *p = (struct remember_pace){.changes = changes, .rests_s = REMEMBER_EVERY_S};
    return true;
}
