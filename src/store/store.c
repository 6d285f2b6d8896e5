/* store.c - taking, filling, finding again.
 *
 * A span that is taken goes through three steps. Deciding (search.c) changes nothing that another call could
 * see. Appending writes what is new into the stream's run, so that every byte has an address; only this step
 * may find memory used up, and then the span was not taken. Emitting cannot fail but by the caller's will.
 *
 * A run is a range of addresses that belongs to one stream, so that what a stream stores lies in one piece
 * though streams take turns. Runs grow with what the stream has stored; the run at the segment's end grows in
 * place. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store_internal.h"

enum {
    SEGMENTS_USUAL_MOST = 8192, /* each is one or two areas of address space, of which a process has 65530 */
    SEGMENT_SPARSE_BYTES =
        256 << 10,         /* what a segment may hold on average before their number is the limit */
    BYTES_A_BUCKET = 2688, /* of what is stored: 64 bytes each, 24 MB a GB */
    GROWTH_BUCKETS = 1024, /* memory of the index is counted by so many */
    LINKS_LESS = 32        /* than hints */
};

/* ---- life ---- */

static uint32_t segments_most(uint64_t max_bytes)
{
    uint64_t sparse = max_bytes / SEGMENT_SPARSE_BYTES, dense = max_bytes / STORE_SEGMENT_BYTES + 1;
    uint64_t most = sparse < SEGMENTS_USUAL_MOST ? sparse : SEGMENTS_USUAL_MOST;
    most = most > dense ? most : dense;
    return most < UINT16_MAX ? (uint32_t)most : UINT16_MAX;
}

static uint32_t buckets_most(uint64_t max_bytes)
{
    uint64_t most = max_bytes / BYTES_A_BUCKET / GROWTH_BUCKETS * GROWTH_BUCKETS;
    return most < 1u << 30 ? (uint32_t)most : 1u << 30;
}

static uint64_t fixed_bytes(const struct store *s)
{
    return sizeof(*s) + (s->slots_most + 1) * sizeof(void *) +
           2 * (uint64_t)HINTS_FIRST_BUCKETS * HINTS_BUCKET_BYTES;
}

int store_new(struct store **out, struct budget *memory, uint64_t max_bytes, uint64_t seed, uint64_t epoch,
              const struct store_events *events, void *owner)
{
    if (max_bytes < STORE_LEAST_BYTES || epoch == 0)
        return -EINVAL;
    struct store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    TAILQ_INIT(&s->by_age);
    TAILQ_INIT(&s->by_fresh);
    TAILQ_INIT(&s->cold.queue);
    s->memory = memory;
    s->max_bytes = max_bytes;
    s->seed = seed;
    s->epoch = epoch;
    s->events = events;
    s->owner = owner;
    s->slots_most = segments_most(max_bytes);
    s->slot_next = 1;
    s->next_number = 1;
    s->by_name.salt = seed;
    anchors_init(&s->anchors, seed);
    s->slots = calloc(s->slots_most + 1, sizeof(void *));
    if (s->slots == NULL || hints_init(&s->hints, buckets_most(max_bytes)) < 0 ||
        hints_init(&s->links, buckets_most(max_bytes) / LINKS_LESS) < 0)
        goto fail;
    if (!segment_make_room(s, NULL, fixed_bytes(s)))
        goto fail;
    *out = s;
    return 0;
fail:
    hints_end(&s->hints);
    hints_end(&s->links);
    free(s->slots);
    free(s);
    return -ENOMEM;
}

void store_free(struct store *s)
{
    if (s == NULL)
        return;
    while (!TAILQ_EMPTY(&s->by_age))
        segment_free(s, TAILQ_FIRST(&s->by_age));
    spare_free(s);
    cold_end(s);
    budget_give(s->memory, s->used_bytes);
    fillers_end(s);
    map_clear(&s->by_name);
    hints_end(&s->hints);
    hints_end(&s->links);
    free(s->slots);
    free(s);
}

/* ---- the index ---- */

/* With what is put into it, up to its share of what is stored. Without memory for more it stays as it is. */
static void grow(struct store *s, struct hints *h, uint64_t bytes_a_bucket)
{
    while (h->count < h->most && h->puts >= (uint64_t)h->count * HINTS_IN_BUCKET &&
           (uint64_t)h->count * bytes_a_bucket < s->counters.segment_bytes) {
        if (h->count % GROWTH_BUCKETS == 0 &&
            !segment_take_memory(s, (uint64_t)GROWTH_BUCKETS * HINTS_BUCKET_BYTES))
            return;
        hints_grow(h);
    }
}

static void grow_index(struct store *s)
{
    grow(s, &s->hints, BYTES_A_BUCKET);
    grow(s, &s->links, (uint64_t)BYTES_A_BUCKET * LINKS_LESS);
}

/* Hints for bytes that lie in the segment at off. Of long spans a quarter is looked at, four times as
 * closely: as many hints, where whoever takes the same bytes looks for them too, for a quarter of the work.
 */
static void index_bytes(struct store *s, const struct segment *g, uint32_t off, uint32_t len)
{
    const uint8_t *bytes = g->chunk->bytes + off;
    bool sampled = len >= 2 * STORE_FILL_STRIDE_BYTES;
    uint32_t one_in = sampled ? STORE_FILL_ONE_IN / 4 : STORE_FILL_ONE_IN;
    uint32_t scan = sampled ? STORE_FILL_STRIDE_BYTES / 4 : STORE_SCAN_BYTES;
    uint32_t stride = sampled ? STORE_FILL_STRIDE_BYTES : scan;
    for (uint32_t from = 0; len >= STORE_KEY_BYTES && from <= len - STORE_KEY_BYTES;) {
        uint32_t end = len - STORE_KEY_BYTES + 1;
        uint32_t to = end - from > scan ? from + scan : end;
        uint32_t count = anchors_find(&s->anchors, bytes, from, to, one_in, s->anchor_at);
        for (uint32_t i = 0; i < count; i++) {
            s->anchor_key[i] = store_key(s, bytes + s->anchor_at[i]);
            hints_prefetch(&s->hints, s->anchor_key[i]);
        }
        for (uint32_t i = 0; i < count; i++)
            hints_put(&s->hints, s->anchor_key[i], position_of(g, off + s->anchor_at[i]));
        from += stride;
    }
    grow_index(s);
}

/* ---- runs ---- */

/* As long as all that the stream has stored, so that thousands of idle sessions take little. */
static uint32_t run_length(const struct store_stream *stream)
{
    uint64_t length = stream->stored_bytes / STORE_RUN_FIRST_BYTES * STORE_RUN_FIRST_BYTES;
    if (length < STORE_RUN_FIRST_BYTES)
        return STORE_RUN_FIRST_BYTES;
    return length < STORE_RUN_MOST_BYTES ? (uint32_t)length : STORE_RUN_MOST_BYTES;
}

/* The run grows in place, where it is the last. */
static bool extend_run(struct store *s, struct store_stream *stream)
{
    struct segment *tail = s->tail;
    if (tail == NULL || stream->run_segment != tail->chunk->segment.number ||
        stream->run_end != tail->reserved || tail->reserved == STORE_SEGMENT_BYTES)
        return false;
    uint32_t left = STORE_SEGMENT_BYTES - tail->reserved, length = run_length(stream);
    tail->reserved += length < left ? length : left;
    stream->run_end = tail->reserved;
    return true;
}

/* A run that begins in the segment may need a part of its own, and others are promised already. */
static bool has_parts_left(const struct segment *g)
{
    return g->filled.count < STORE_PARTS_MOST / 2;
}

/* What another stream left: good enough to begin with, too short for one that stores much. */
static bool take_leftover(struct store *s, struct store_stream *stream)
{
    while (stream->stored_bytes < STORE_RUN_LEAST_BYTES && s->leftover_count > 0) {
        struct leftover left = s->leftovers[--s->leftover_count];
        const struct segment *g = segment_find_own(s, left.segment);
        if (g != NULL && has_parts_left(g) && left.end - left.at >= stream->stored_bytes) {
            stream->run_segment = left.segment;
            stream->run_at = left.at;
            stream->run_end = left.end;
            return true;
        }
    }
    return false;
}

static void leave_run(struct store *s, struct store_stream *stream)
{
    struct segment *g = stream->run_at < stream->run_end ? segment_find_own(s, stream->run_segment) : NULL;
    if (g != NULL && g == s->tail && stream->run_end == g->reserved)
        g->reserved = stream->run_at;
    else if (g != NULL && stream->run_end - stream->run_at >= STORE_LEFTOVER_LEAST_BYTES &&
             s->leftover_count < STORE_LEFTOVERS)
        s->leftovers[s->leftover_count++] =
            (struct leftover){.segment = stream->run_segment, .at = stream->run_at, .end = stream->run_end};
    stream->run_at = stream->run_end = 0;
}

/* The one before is as good as full, and may be evicted from now on. */
static int new_tail(struct store *s)
{
    struct segment_id id = {.epoch = s->epoch, .number = s->next_number};
    s->tail = NULL;
    s->tail = segment_new(s, &id, 0, true);
    if (s->tail == NULL)
        return -ENOBUFS;
    s->next_number++;
    return 0;
}

/* The segment of a run with at least one free byte; NULL: no memory. */
static struct segment *need_run(struct store *s, struct store_stream *stream)
{
    struct segment *g = stream->run_at < stream->run_end ? segment_find_own(s, stream->run_segment) : NULL;
    if (g != NULL)
        return g;
    if (extend_run(s, stream) || take_leftover(s, stream))
        return segment_find_own(s, stream->run_segment);
    bool full = s->tail == NULL || STORE_SEGMENT_BYTES - s->tail->reserved < STORE_RUN_LEAST_BYTES ||
                !has_parts_left(s->tail);
    if (full && new_tail(s) < 0)
        return NULL;
    struct segment *tail = s->tail;
    uint32_t left = STORE_SEGMENT_BYTES - tail->reserved, length = run_length(stream);
    stream->run_segment = tail->chunk->segment.number;
    stream->run_at = tail->reserved;
    tail->reserved += length < left ? length : left;
    stream->run_end = tail->reserved;
    return tail;
}

void store_stream_end(struct store *s, struct store_stream *stream)
{
    leave_run(s, stream);
    *stream = (struct store_stream){0};
}

/* ---- taking ---- */

static void put_piece(struct store *s, struct piece piece)
{
    struct piece *last = s->piece_count > 0 ? &s->pieces[s->piece_count - 1] : NULL;
    if (last != NULL && last->segment == piece.segment && last->off + last->len == piece.off) {
        last->len += piece.len;
    } else {
        assert(s->piece_count < STORE_PIECES_MOST);
        s->pieces[s->piece_count++] = piece;
    }
}

/* Bytes [from, to) of the span, which lie in one piece from off on. */
struct appended {
    uint32_t from, to;
    struct segment *segment;
    uint32_t off;
    uint32_t next_hint; /* the first that is not put and not lost */
};

/* A hint's bytes may begin in one literal and end in the next. */
static void extend_appended(struct store *s, struct appended *a, uint32_t from, uint32_t len,
                            struct segment *g, uint32_t off)
{
    if (a->segment == g && a->to == from && a->off + (a->to - a->from) == off)
        a->to += len;
    else
        *a = (struct appended){
            .from = from, .to = from + len, .segment = g, .off = off, .next_hint = a->next_hint};
    for (; a->next_hint < s->pending_count; a->next_hint++) {
        const struct pending *hint = &s->pending[a->next_hint];
        if (hint->from + STORE_KEY_BYTES > a->to)
            break; /* it may still be completed */
        if (hint->from >= a->from)
            hints_put(&s->hints, hint->key, position_of(g, a->off + (hint->from - a->from)));
    }
}

/* Write into the stream's run, as much as it has room for; returns how much, or negative. */
static int write_run(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t len,
                     struct segment **segment, uint32_t *off)
{
    struct segment *g = need_run(s, stream);
    if (g != NULL && g->filled.count >= STORE_PARTS_MOST) { /* too many began there at once */
        stream->run_at = stream->run_end = 0;
        g = need_run(s, stream);
    }
    if (g == NULL)
        return -ENOBUFS;
    uint32_t room = stream->run_end - stream->run_at;
    if (len > room)
        len = room;
    int err = segment_write(s, g, stream->run_at, bytes, len);
    if (err < 0)
        return err;
    fresh_note(s, g, stream->run_at, stream->run_at + len);
    *segment = g;
    *off = stream->run_at;
    stream->run_at += len;
    stream->stored_bytes += len;
    s->counters.appended_bytes += len;
    return (int)len;
}

/* index: what was searched already, so that no hints wait for it. */
static int append_literal(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t from,
                          uint32_t to, struct appended *appended, bool index)
{
    while (from < to) {
        struct segment *g;
        uint32_t off;
        int written = write_run(s, stream, bytes + from, to - from, &g, &off);
        if (written < 0)
            return written;
        extend_appended(s, appended, from, (uint32_t)written, g, off);
        put_piece(s, (struct piece){.segment = g, .off = off, .len = (uint32_t)written});
        if (index)
            index_bytes(s, g, off, (uint32_t)written);
        from += (uint32_t)written;
    }
    return 0;
}

/* A part of a match that is of no good where it is becomes ours; false: it stays what it is. */
static bool give_up(struct segment *g, uint32_t off, uint32_t len)
{
    return len >= STORE_GIVEN_UP_LEAST_BYTES && g->given_up.count < STORE_GIVEN_UP_MOST &&
           intervals_add(&g->given_up, off, off + len) == 0;
}

static int append_match(struct store *s, struct store_stream *stream, const uint8_t *bytes,
                        const struct match *m, void *arg, struct appended *appended)
{
    struct segment *g = position_segment(s, m->position);
    uint32_t from = m->from, end = m->from + m->len, off = position_off(m->position);
    while (from < end) {
        uint32_t len = end - from;
        bool takes = true;
        if (g->source != 0 && stream->takes != NULL)
            len = stream->takes(arg, &g->chunk->segment, g->source, off, len, &takes);
        if (takes || !give_up(g, off, len)) {
            put_piece(s, (struct piece){.segment = g, .off = off, .len = len});
            s->counters.matches++;
            s->counters.matched_bytes += len;
        } else {
            int err = append_literal(s, stream, bytes, from, from + len, appended, true);
            if (err < 0)
                return err;
        }
        from += len;
        off += len;
    }
    return 0;
}

static int append_span(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t len,
                       void *arg)
{
    uint32_t at = 0;
    struct appended appended = {0};
    s->piece_count = 0;
    for (uint32_t i = 0; i < s->match_count; i++) {
        const struct match *m = &s->matches[i];
        int err = append_literal(s, stream, bytes, at, m->from, &appended, false);
        if (err < 0)
            return err;
        err = append_match(s, stream, bytes, m, arg, &appended);
        if (err < 0)
            return err;
        at = m->from + m->len;
    }
    return append_literal(s, stream, bytes, at, len, &appended, false);
}

/* What follows a piece in the stream and not in the store: there the stream goes on when it comes again. The
 * end of this one. */
static uint64_t link_piece(struct store *s, uint64_t after, uint64_t begin, uint32_t len)
{
    if (after != 0 && after != begin)
        hints_put(&s->links, store_link_key(s, after), begin);
    return begin + len;
}

static void link_pieces(struct store *s, struct store_stream *stream)
{
    for (uint32_t i = 0; i < s->piece_count; i++) {
        const struct piece *p = &s->pieces[i];
        stream->put = link_piece(s, stream->put, position_of(p->segment, p->off), p->len);
    }
}

uint64_t store_follow(struct store *s, uint64_t after, const struct segment_id *id, uint32_t off,
                      uint32_t len)
{
    const struct segment *g = segment_find(s, id);
    return g != NULL ? link_piece(s, after, position_of(g, off), len) : 0;
}

static int emit_pieces(struct store *s, store_emit *emit, void *arg)
{
    for (uint32_t i = 0; i < s->piece_count; i++) {
        const struct piece *p = &s->pieces[i];
        struct slice slice = {.chunk = chunk_ref(p->segment->chunk), .off = p->off, .len = p->len};
        int err = emit(arg, slice);
        if (err < 0) {
            chunk_unref(slice.chunk);
            return err;
        }
    }
    return 0;
}

int store_take(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t len,
               store_emit *emit, void *arg)
{
    if (len == 0 || len > STORE_TAKE_MOST_BYTES)
        return -EINVAL;
    s->call++;
    search_span(s, stream, bytes, len);
    int err = append_span(s, stream, bytes, len, arg);
    grow_index(s);
    if (err < 0) {
        s->counters.refused_bytes += len;
        return err;
    }
    s->counters.taken_bytes += len;
    link_pieces(s, stream);
    return emit_pieces(s, emit, arg);
}

/* ---- filling ---- */

/* Whether everything that is filled in the range is the same as these bytes. */
static bool agrees(const struct segment *g, uint32_t off, const uint8_t *bytes, uint32_t len)
{
    uint32_t at = off, end = off + len;
    while ((at = intervals_next_from(&g->filled, at)) < end) {
        uint32_t to = intervals_end_of(&g->filled, at);
        to = to < end ? to : end;
        if (memcmp(g->chunk->bytes + at, bytes + (at - off), to - at) != 0)
            return false;
        at = to;
    }
    return true;
}

/* Bytes that are there are not written again: somebody may be reading them. */
static int write_gaps(struct store *s, struct segment *g, uint32_t off, const uint8_t *bytes, uint32_t len,
                      bool from_disk)
{
    uint32_t at = off, end = off + len;
    while ((at = intervals_end_of(&g->filled, at)) < end) {
        uint32_t to = intervals_next_from(&g->filled, at);
        to = to < end ? to : end;
        int err = segment_write(s, g, at, bytes + (at - off), to - at);
        if (err < 0)
            return err;
        if (!from_disk) {
            s->counters.filled_bytes += to - at;
            fresh_note(s, g, at, to);
        }
    }
    return 0;
}

int store_fill(struct store *s, uint32_t source, const struct segment_id *id, uint32_t off,
               const uint8_t *bytes, uint32_t len, struct slice *out)
{
    if (len == 0 || off >= STORE_SEGMENT_BYTES || len > STORE_SEGMENT_BYTES - off || id->epoch == 0)
        return -EINVAL;
    if (source == 0 || (id->epoch == s->epoch && id->number >= s->next_number))
        return -EPERM;
    s->call++;
    struct segment *g = segment_find(s, id);
    if (g == NULL && (g = segment_new(s, id, source, off == 0)) == NULL)
        return -ENOBUFS;
    if (g->source != source)
        return -EPERM;
    if (!agrees(g, off, bytes, len))
        return -EEXIST;
    bool new_run = intervals_begin_of(&g->filled, off) == off && !intervals_cover(&g->filled, off, off + 1) &&
                   (off == 0 || !intervals_cover(&g->filled, off - 1, off));
    int err = write_gaps(s, g, off, bytes, len, false);
    if (err < 0)
        return err;
    if (new_run && len >= STORE_KEY_BYTES)
        hints_put(&s->hints, store_key(s, bytes), position_of(g, off));
    index_bytes(s, g, off, len);
    if (!g->asked_disk && g->filled_bytes >= COLD_WORTH_BYTES) {
        /* the peer has all of it, and would refer to the rest if we had it too */
        g->asked_disk = cold_want(s, source, id);
    }
    *out = (struct slice){.chunk = chunk_ref(g->chunk), .off = off, .len = len};
    return 0;
}

bool store_resolve(struct store *s, const struct segment_id *id, uint32_t off, uint32_t len,
                   struct slice *out)
{
    struct segment *g = segment_find(s, id);
    if (g == NULL || off >= STORE_SEGMENT_BYTES || len == 0 || len > STORE_SEGMENT_BYTES - off ||
        !intervals_cover(&g->filled, off, off + len))
        return false;
    if (g->came_back)
        cold_read_ahead(s, g, off);
    segment_use(s, g);
    *out = (struct slice){.chunk = chunk_ref(g->chunk), .off = off, .len = len};
    return true;
}

int64_t store_source(const struct store *s, const struct segment_id *id)
{
    const struct segment *g = segment_find(s, id);
    return g == NULL ? -1 : (int64_t)g->source;
}

const struct intervals *store_filled(const struct store *s, const struct segment_id *id)
{
    const struct segment *g = segment_find(s, id);
    return g == NULL ? NULL : &g->filled;
}

/* ---- coming back, and reports ---- */

static void index_filled(struct store *s, const struct segment *g, const struct intervals *filled)
{
    for (uint32_t i = 0; i < filled->count; i++)
        index_bytes(s, g, filled->list[i].from, filled->list[i].to - filled->list[i].from);
}

/* Its source goes on filling it: what was read back is the rest of it. */
static int merge(struct store *s, struct segment *g, struct chunk *chunk, struct intervals *filled)
{
    g->call = s->call;
    for (uint32_t i = 0; i < filled->count; i++) {
        struct interval part = filled->list[i];
        int err = write_gaps(s, g, part.from, chunk->bytes + part.from, part.to - part.from, true);
        if (err < 0)
            return err;
    }
    index_filled(s, g, filled);
    intervals_clear(filled);
    chunk_unref(chunk);
    return 0;
}

static int adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source, bool newest)
{
    if (chunk->cap != STORE_SEGMENT_BYTES || !chunk_is_segment(chunk) || filled->count == 0 ||
        filled->list[filled->count - 1].to > STORE_SEGMENT_BYTES)
        return -EINVAL;
    struct segment *g = segment_find(s, &chunk->segment);
    if (g != NULL && g->source == source)
        return merge(s, g, chunk, filled);
    if (g != NULL && (source != 0 || !segment_evict(s, g)))
        return -EEXIST;
    int err = segment_adopt(s, chunk, filled, source, newest, &g);
    if (err < 0)
        return err;
    index_filled(s, g, &g->filled);
    return 0;
}

int store_adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source)
{
    s->call++;
    return chunk->segment.epoch == s->epoch ? -EEXIST : adopt(s, chunk, filled, source, false);
}

int store_cold_adopt(struct store *s, struct chunk *chunk, struct intervals *filled, uint32_t source)
{
    struct segment_id id = chunk->segment;
    s->call++;
    if (id.epoch == s->epoch && id.number >= s->next_number)
        return -EINVAL;
    struct segment *g = segment_find(s, &id);
    if (g != NULL && source == 0 && g->source == 0)
        return -EEXIST; /* it never went */
    if (g != NULL && g->source == source)
        g->call = s->call; /* it stays, whatever goes for the rest of it */
    int err = cold_make_room(s, chunk, filled) ? adopt(s, chunk, filled, source, true) : -ENOBUFS;
    if (err < 0)
        return err;
    cold_let_stay(s, segment_find(s, &id));
    s->counters.cold_adopted++;
    return 0;
}

void store_each(const struct store *s,
                void (*visit)(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                              const struct intervals *filled),
                void *arg)
{
    struct segment *g;
    TAILQ_FOREACH (g, &s->by_age, by_age)
        visit(arg, &g->chunk->segment, g->source, g->chunk, &g->filled);
}

/* By the time: what came back from disk stands first, but is young here. */
static uint64_t oldest_us(const struct store *s)
{
    uint64_t oldest = UINT64_MAX;
    const struct segment *g;
    TAILQ_FOREACH (g, &s->by_age, by_age)
        oldest = g->born_us < oldest ? g->born_us : oldest;
    return oldest != UINT64_MAX ? oldest : 0;
}

void store_read_counters(const struct store *s, struct store_counters *out)
{
    *out = s->counters;
    out->hints = s->hints.puts;
    out->index_bytes = (uint64_t)(s->hints.count + s->links.count) * HINTS_BUCKET_BYTES + s->cold.bytes;
    out->cold_files = s->cold.count;
    out->memory_bytes = s->used_bytes;
    out->max_bytes = s->max_bytes;
    out->oldest_us = oldest_us(s);
}
