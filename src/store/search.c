/* search.c - which parts of a span the store knows already.
 *
 * A span is gone through once, from its beginning; everything before `at` is decided. Bytes after it that
 * were looked at in vain may still join a later match, which is extended backwards as far as `at`. Where to
 * look, cheapest and likeliest first:
 *
 *   1. the expected continuation: what follows the last match in the store (a repeated transfer is nothing
 * else); then, each time a match has ended and the continuation with it:
 *   2. links: where a stream went on from there before, when a part of it was known and lay elsewhere.
 * Without them what comes again is followed until it leaves what it is only like;
 *   3. the ends of the stream's last matches: records that are interleaved, a part that was taken out and
 * comes back;
 *   4. resync: bytes were replaced (the same alignment goes on), or put in or taken out (another alignment,
 * not far);
 *   5. the 32 bytes right after the match, in the index: where a run of new bytes began last time;
 *   6. anchors of the next block, in the index. The block doubles while nothing is found.
 *
 * Anchors that led to nothing may belong to a segment that is on disk only: then it is asked for, and these
 * bytes go without it (cold.h).
 *
 * What is known is not always used. Few bytes that came before, in the midst of new ones (a licence, a
 * table's row), would leave gaps in what is stored of the stream, and when all of it comes again each gap
 * costs a search and a reference at least. So they are stored once more with what is around them: what comes
 * again is in one piece, and zstd makes little of bytes that are near. A chain is matches that follow each
 * other in the store as they do in the stream, at once or after an edit; it is used when it is long and its
 * edits are few.
 *
 * The index says only where to look. What counts is that bytes are equal and filled. */
#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hawser/compress.h"
#include "store_internal.h"

enum {
    CANDIDATES_MOST = 4,
    GOOD_MATCH_BYTES = 4096,   /* no better candidate is looked for */
    ANCHOR_MATCH_LEAST = 96,   /* from an anchor: a shorter one costs more than zstd makes of the bytes */
    RESYNC_WINDOW_BYTES = 512, /* how far an edit may have moved or replaced bytes */
    FIRST_BLOCK_BYTES = 1024,
    NORMAL_ONE_IN = 256,
    LINK_STEPS = 3, /* the last is a match */
    CHAIN_LEAST_BYTES = 2048,
    CHAIN_PART_LEAST_BYTES = 256, /* on average, between edits */
    MESSAGE_BYTES = 8192          /* what a shorter span knows is all there is to gain */
};

struct search {
    struct store *store;
    struct store_stream *stream;
    const uint8_t *bytes;
    uint32_t len, at;
    /* anchors of [.., scanned_to); those before `anchor` are done with */
    uint32_t anchor, anchor_count, scanned_to, block_bytes, one_in;
};

uint64_t store_key(const struct store *s, const uint8_t *p)
{
    return XXH3_64bits_withSeed(p, STORE_KEY_BYTES, s->seed);
}

uint64_t store_link_key(const struct store *s, uint64_t position)
{
    return XXH3_64bits_withSeed(&position, sizeof(position), s->seed);
}

/* ---- comparing ---- */

static uint64_t load_word(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word;
}

/* How many bytes of two different words are equal: from the lowest address, and from the highest. */
static uint32_t equal_in_front(uint64_t difference)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint32_t)__builtin_clzll(difference) / 8;
#else
    return (uint32_t)__builtin_ctzll(difference) / 8;
#endif
}

static uint32_t equal_at_back(uint64_t difference)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (uint32_t)__builtin_ctzll(difference) / 8;
#else
    return (uint32_t)__builtin_clzll(difference) / 8;
#endif
}

uint32_t search_equal(const uint8_t *a, const uint8_t *b, uint32_t most)
{
    enum { STEP = 1024 }; /* memcmp is the fastest, but does not say where */
    uint32_t n = 0;
    for (; n + 8 <= most && n < 64; n += 8) {
        uint64_t difference = load_word(a + n) ^ load_word(b + n);
        if (difference != 0)
            return n + equal_in_front(difference);
    }
    while (n + STEP <= most && memcmp(a + n, b + n, STEP) == 0)
        n += STEP;
    for (; n + 8 <= most; n += 8) {
        uint64_t difference = load_word(a + n) ^ load_word(b + n);
        if (difference != 0)
            return n + equal_in_front(difference);
    }
    while (n < most && a[n] == b[n])
        n++;
    return n;
}

/* Bytes that are equal before a and b. */
static uint32_t equal_before(const uint8_t *a, const uint8_t *b, uint32_t most)
{
    uint32_t n = 0;
    for (; n + 8 <= most; n += 8) {
        uint64_t difference = load_word(a - n - 8) ^ load_word(b - n - 8);
        if (difference != 0)
            return n + equal_at_back(difference);
    }
    while (n < most && a[-1 - (int64_t)n] == b[-1 - (int64_t)n])
        n++;
    return n;
}

/* ---- places in the store ---- */

struct place {
    struct segment *segment;
    const uint8_t *bytes;   /* at the position */
    uint32_t before, after; /* bytes that are filled around it, without a gap */
};

/* Only what lies between parts that are given up; false: the place itself is. */
static bool keep_off_given_up(const struct segment *g, uint32_t off, struct place *p)
{
    const struct intervals *given_up = &g->given_up;
    if (intervals_end_of(given_up, off) > off)
        return false;
    uint32_t next = intervals_next_from(given_up, off);
    if (next - off < p->after)
        p->after = next - off;
    for (uint32_t i = 0; i < given_up->count && given_up->list[i].to <= off; i++) {
        if (off - given_up->list[i].to < p->before)
            p->before = off - given_up->list[i].to;
    }
    return true;
}

/* False: nothing is filled there. */
static bool look_at(const struct store *s, uint64_t position, struct place *p)
{
    struct segment *g = position_segment(s, position);
    uint32_t off = position_off(position);
    if (g == NULL)
        return false;
    p->after = intervals_end_of(&g->filled, off) - off;
    if (p->after == 0)
        return false;
    p->segment = g;
    p->before = off - intervals_begin_of(&g->filled, off);
    p->bytes = g->chunk->bytes + off;
    return g->given_up.count == 0 || keep_off_given_up(g, off, p);
}

/* ---- what was found ---- */

/* Bytes [from, from + len) of the span are those at the position; nothing at or after `from` is decided. */
static void note_match(struct search *f, uint32_t from, uint32_t len, uint64_t position)
{
    struct store *s = f->store;
    struct store_stream *stream = f->stream;
    struct match *last = s->match_count > 0 ? &s->matches[s->match_count - 1] : NULL;
    struct segment *g = position_segment(s, position);
    assert(g != NULL); /* its bytes were just compared */
    g->call = s->call;
    segment_use(s, g);
    if (g->came_back)
        cold_read_ahead(s, g, position_off(position));
    bool goes_on = last != NULL && last->from + last->len == from && last->position + last->len == position;
    if (goes_on && position_off(position) > 0) { /* 0: it is the next slot's */
        last->len += len;
    } else {
        assert(s->match_count < STORE_MATCHES_MOST);
        s->matches[s->match_count++] = (struct match){.from = from, .len = len, .position = position};
    }
    stream->expect = position + len;
    stream->since_bytes = 0;
    stream->ends[stream->end_next] = stream->expect;
    stream->end_next = (uint8_t)((stream->end_next + 1) % STORE_STREAM_ENDS);
    f->at = from + len;
    if (f->at > f->scanned_to) {
        f->scanned_to = f->at;
        f->block_bytes = FIRST_BLOCK_BYTES;
    }
}

static void remember(struct search *f, uint32_t from, uint64_t key)
{
    struct store *s = f->store;
    if (s->pending_count < STORE_PENDING_MOST)
        s->pending[s->pending_count++] = (struct pending){.from = from, .key = key};
}

/* A stream that goes on with bytes it already goes on with may be short, down to one byte. */
static bool try_continuation(struct search *f)
{
    struct place p;
    if (!look_at(f->store, f->stream->expect, &p))
        return false;
    uint32_t most = p.after < f->len ? p.after : f->len, equal = search_equal(f->bytes, p.bytes, most);
    if (equal < STORE_MATCH_MIN && (equal < f->len || f->stream->since_bytes > 0))
        return false;
    note_match(f, 0, equal, f->stream->expect);
    return true;
}

static bool try_ends(struct search *f)
{
    uint32_t most_left = f->len - f->at, best = STORE_MATCH_MIN - 1;
    uint64_t best_position = 0;
    for (unsigned i = 0; i < STORE_STREAM_ENDS; i++) {
        uint64_t position = f->stream->ends[i];
        struct place p;
        if (position == 0 || !look_at(f->store, position, &p))
            continue;
        uint32_t equal = search_equal(f->bytes + f->at, p.bytes, p.after < most_left ? p.after : most_left);
        if (equal > best) {
            best = equal;
            best_position = position;
        }
    }
    if (best_position == 0)
        return false;
    note_match(f, f->at, best, best_position);
    return true;
}

/* The longest that byte `at` of the span begins, of what links from `end` lead to. */
static uint32_t best_link(const struct search *f, uint32_t at, uint64_t end, uint64_t *position)
{
    uint64_t candidates[HINTS_IN_BUCKET];
    unsigned count = hints_find(&f->store->links, store_link_key(f->store, end), candidates);
    uint32_t best = 0, left = f->len - at;
    for (unsigned i = 0; i < count; i++) {
        struct place p;
        if (!look_at(f->store, candidates[i], &p))
            continue;
        uint32_t equal = search_equal(f->bytes + at, p.bytes, p.after < left ? p.after : left);
        if (equal > best) {
            best = equal;
            *position = candidates[i];
        }
    }
    return best;
}

/* Edits of a few bytes were stored, too, and are too short to be matches: a link leads on from there. */
static bool try_links(struct search *f)
{
    uint64_t end = f->stream->expect, position;
    uint32_t at = f->at;
    if (end == 0 || f->stream->since_bytes > 0)
        return false;
    for (unsigned step = 0; step < LINK_STEPS; step++) {
        uint32_t equal = best_link(f, at, end, &position);
        if (equal >= STORE_MATCH_MIN) {
            note_match(f, at, equal, position);
            return true;
        }
        if (equal == 0)
            return false;
        at += equal;
        end = position + equal;
    }
    return false;
}

/* The longest match around byte `from` of the span and a place. */
static uint32_t extend(const struct search *f, uint32_t from, const struct place *p, uint32_t *back)
{
    uint32_t left = f->len - from, behind = from - f->at;
    uint32_t ahead = search_equal(f->bytes + from, p->bytes, p->after < left ? p->after : left);
    *back = equal_before(f->bytes + from, p->bytes, p->before < behind ? p->before : behind);
    return *back + ahead;
}

/* Bytes were replaced by as many others: two words in a row that are equal where they were expected. */
static bool try_same_alignment(struct search *f, uint64_t position, const struct place *p)
{
    uint32_t left = f->len - f->at, most = left < p->after ? left : p->after;
    const uint8_t *new = f->bytes + f->at;
    if (most > RESYNC_WINDOW_BYTES)
        most = RESYNC_WINDOW_BYTES;
    for (uint32_t i = 0; i + 16 <= most; i += 8) {
        if (load_word(new + i) != load_word(p->bytes + i) ||
            load_word(new + i + 8) != load_word(p->bytes + i + 8))
            continue;
        struct place there = {.bytes = p->bytes + i, .before = p->before + i, .after = p->after - i};
        uint32_t back, equal = extend(f, f->at + i, &there, &back);
        if (equal >= STORE_MATCH_MIN) {
            note_match(f, f->at + i - back, equal, position + i - back);
            return true;
        }
    }
    return false;
}

/* Bytes were put in or taken out: a few words of what comes are looked for in what was expected. */
static bool try_other_alignment(struct search *f, uint64_t position, const struct place *p)
{
    static const uint32_t probes[] = {16, 48, 112, 240};
    uint32_t window = p->after < RESYNC_WINDOW_BYTES ? p->after : RESYNC_WINDOW_BYTES;
    for (unsigned i = 0; i < sizeof(probes) / sizeof(probes[0]) && f->len - f->at >= probes[i] + 32; i++) {
        const uint8_t *wanted = f->bytes + f->at + probes[i], *old = p->bytes, *end = p->bytes + window;
        if (load_word(wanted) == wanted[0] * 0x0101010101010101ULL)
            continue; /* one byte again and again is anywhere */
        while ((old = memmem(old, (size_t)(end - old), wanted, 8)) != NULL) {
            uint32_t moved = (uint32_t)(old - p->bytes), back;
            struct place there = {.bytes = old, .before = p->before + moved, .after = p->after - moved};
            uint32_t equal = extend(f, f->at + probes[i], &there, &back);
            if (equal >= STORE_KEY_BYTES) {
                note_match(f, f->at + probes[i] - back, equal, position + moved - back);
                return true;
            }
            old++;
        }
    }
    return false;
}

static bool try_resync(struct search *f)
{
    struct store_stream *stream = f->stream;
    uint64_t position = stream->expect + stream->since_bytes;
    struct place p;
    if (stream->expect == 0 || position >> STORE_OFFSET_BITS != stream->expect >> STORE_OFFSET_BITS ||
        !look_at(f->store, position, &p))
        return false;
    return try_same_alignment(f, position, &p) || try_other_alignment(f, position, &p);
}

/* The same bytes may be there twice. Our own, and the peer's, it is likely to hold; those of a third node
 * less so. */
static bool is_likely_held(const struct search *f, const struct segment *g)
{
    return g->source == 0 || g->source == f->stream->peer || f->stream->peer == 0;
}

/* The best match of a key's candidates around byte `from`; 0: none. */
static uint32_t best_candidate(const struct search *f, uint32_t from, uint64_t key, uint64_t *position,
                               uint32_t *back)
{
    uint64_t candidates[HINTS_IN_BUCKET];
    unsigned count = hints_find(&f->store->hints, key, candidates);
    uint32_t best = 0;
    uint64_t best_worth = 0;
    for (unsigned i = 0; i < count && i < CANDIDATES_MOST; i++) {
        struct segment *g = position_segment(f->store, candidates[i]);
        uint32_t off = position_off(candidates[i]), behind;
        struct place p;
        if (g == NULL || off > STORE_SEGMENT_BYTES - STORE_KEY_BYTES ||
            memcmp(f->bytes + from, g->chunk->bytes + off, STORE_KEY_BYTES) != 0 ||
            !look_at(f->store, candidates[i], &p) || p.after < STORE_KEY_BYTES)
            continue;
        bool held = is_likely_held(f, g);
        uint32_t equal = extend(f, from, &p, &behind);
        uint64_t worth = held ? 2 * (uint64_t)equal : equal;
        if (worth > best_worth) {
            best = equal;
            best_worth = worth;
            *back = behind;
            *position = candidates[i] - behind;
        }
        if (held && (from + equal - behind == f->len || equal - behind > GOOD_MATCH_BYTES))
            break;
    }
    return best;
}

static bool try_first(struct search *f)
{
    uint64_t key = store_key(f->store, f->bytes + f->at), position;
    uint32_t back, equal = best_candidate(f, f->at, key, &position, &back);
    if (equal >= STORE_KEY_BYTES) {
        note_match(f, f->at - back, equal, position);
        return true;
    }
    if (f->stream->since_bytes == 0)
        remember(f, f->at, key); /* a run of new bytes begins here */
    return false;
}

/* ---- anchors ---- */

/* What a sample is made of: a look at the table for nothing costs as much as some hundred bytes. */
static bool may_be_cold(const struct search *f, uint32_t from, uint64_t key)
{
    const struct store *s = f->store;
    return sample_has(key) && s->cold.count > 0 &&
           anchors_is_one(&s->anchors, f->bytes + from, SAMPLE_ANCHORS_ONE_IN);
}

/* False: the span has no further block. */
static bool scan_block(struct search *f)
{
    struct store *s = f->store;
    if (f->len < STORE_KEY_BYTES || f->scanned_to > f->len - STORE_KEY_BYTES)
        return false;
    uint32_t end = f->len - STORE_KEY_BYTES + 1;
    uint32_t to = end - f->scanned_to > f->block_bytes ? f->scanned_to + f->block_bytes : end;
    f->anchor = 0;
    f->anchor_count = anchors_find(&s->anchors, f->bytes, f->scanned_to, to, f->one_in, s->anchor_at);
    for (uint32_t i = 0; i < f->anchor_count; i++) {
        s->anchor_key[i] = store_key(s, f->bytes + s->anchor_at[i]);
        hints_prefetch(&s->hints, s->anchor_key[i]);
        if (may_be_cold(f, s->anchor_at[i], s->anchor_key[i]))
            cold_prefetch(&s->cold, s->anchor_key[i]);
    }
    f->scanned_to = to;
    if (f->block_bytes < STORE_SCAN_BYTES)
        f->block_bytes *= 2;
    return true;
}

/* Go through anchors until one of them leads to a match; false: the span ends without. */
static bool try_anchors(struct search *f)
{
    struct store *s = f->store;
    do {
        for (; f->anchor < f->anchor_count; f->anchor++) {
            uint32_t from = s->anchor_at[f->anchor], back;
            uint64_t key = s->anchor_key[f->anchor], position;
            if (from < f->at)
                continue;
            uint32_t equal = best_candidate(f, from, key, &position, &back);
            if (equal >= ANCHOR_MATCH_LEAST) {
                note_match(f, from - back, equal, position);
                return true;
            }
            if (may_be_cold(f, from, key))
                cold_meet(s, key);
            remember(f, from, key);
        }
    } while (scan_block(f));
    return false;
}

/* ---- compressible or not ---- */

static uint32_t density(const struct store_stream *stream)
{
    if (stream->incompressible_bytes >= 4 << 20)
        return 4096;
    if (stream->incompressible_bytes >= 256 << 10)
        return 1024;
    return NORMAL_ONE_IN;
}

/* What is compressed or encrypted already and new goes on being so, and zstd leaves nothing for anchors to
 * compete with: long matches are all there is to find. */
static void note_compressibility(const struct store *s, struct store_stream *stream, const uint8_t *bytes,
                                 uint32_t len)
{
    uint32_t new_bytes = len;
    for (uint32_t i = 0; i < s->match_count; i++)
        new_bytes -= s->matches[i].len;
    if (new_bytes < len / 2 || compress_is_worth(bytes, len))
        stream->incompressible_bytes = 0;
    else
        stream->incompressible_bytes += new_bytes;
}

/* ---- chains ---- */

/* A match goes on from `end` in the store after `gap` new bytes of the stream, or in the stream with no gap
 * at all. */
static bool is_chained(uint64_t end, uint64_t gap, const struct match *m)
{
    return gap == 0 ||
           (m->position + RESYNC_WINDOW_BYTES >= end && m->position <= end + gap + RESYNC_WINDOW_BYTES);
}

static bool is_chain_of_use(const struct store_stream *stream)
{
    return stream->chain_bytes >= CHAIN_LEAST_BYTES &&
           stream->chain_bytes >= stream->chain_edits * CHAIN_PART_LEAST_BYTES;
}

/* Leave out matches of chains that are of no use: their bytes are new ones then. The last match before the
 * span ended at `end`, gap bytes ago. A chain that began in an earlier span goes on with what it had there.
 */
static void leave_out_chains(struct store *s, struct store_stream *stream, uint64_t end, uint64_t gap)
{
    uint32_t kept = 0, chain = 0, at = 0;
    for (uint32_t i = 0; i < s->match_count; i++) {
        struct match m = s->matches[i];
        gap += m.from - at;
        if (!is_chained(end, gap, &m)) {
            chain = kept = is_chain_of_use(stream) ? kept : chain;
            stream->chain_bytes = stream->chain_edits = 0;
        }
        stream->chain_bytes += m.len;
        stream->chain_edits += gap > 0;
        s->matches[kept++] = m;
        at = m.from + m.len;
        end = m.position + m.len;
        gap = 0;
    }
    s->match_count = is_chain_of_use(stream) ? kept : chain;
}

/* ---- a span ---- */

void search_span(struct store *s, struct store_stream *stream, const uint8_t *bytes, uint32_t len)
{
    struct search f = {.store = s,
                       .stream = stream,
                       .bytes = bytes,
                       .len = len,
                       .block_bytes = FIRST_BLOCK_BYTES,
                       .one_in = density(stream)};
    s->match_count = s->pending_count = 0;
    uint64_t end = stream->expect, gap = stream->since_bytes;
    try_continuation(&f);
    while (f.len - f.at >= STORE_MATCH_MIN) {
        bool found = try_links(&f) || try_ends(&f);
        if (!found && f.len - f.at >= STORE_KEY_BYTES)
            found = try_first(&f) || try_resync(&f) || try_anchors(&f);
        if (!found)
            break;
    }
    stream->since_bytes += len - f.at;
    if (len >= MESSAGE_BYTES)
        leave_out_chains(s, stream, end, gap);
    else
        stream->chain_bytes = stream->chain_edits = 0;
    note_compressibility(s, stream, bytes, len);
}
