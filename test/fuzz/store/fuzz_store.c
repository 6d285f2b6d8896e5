/* fuzz_store.c - bytes go through one store, over the wire as it were, and into another, and back.
 *
 * The input is a program: an operation's byte (its low bits say what, its high bits which of STREAMS
 * streams), then its arguments; a missing argument is 0. What was taken is kept as history, so that repeats
 * and edits of it can be taken again. Whatever the program does, the far store must show the bytes that the
 * near one took, an address must never change its bytes, and the budget must hold. A hostile peer fills and
 * resolves what it likes in between. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

enum {
    STREAMS = 4,
    HISTORY = 1 << 20,
    NEAR_EPOCH = 10,
    FAR_EPOCH = 11,
    PEER = 1,
    HOSTILE = 2,
    SEEN_MOST = 64
};

enum operation {
    TAKE_INPUT,
    TAKE_REPEAT,
    TAKE_EDITED,
    TAKE_NOISE,
    END_STREAM,
    TURN_ROUND,
    FILL,
    RESOLVE,
    OPERATIONS
};

struct program {
    const uint8_t *at, *end;
};

static uint32_t number(struct program *p, unsigned bytes)
{
    uint32_t n = 0;
    while (bytes-- > 0)
        n = n << 8 | (p->at < p->end ? *p->at++ : 0u);
    return n;
}

/* What an address of a store was seen to hold. */
struct seen {
    const struct store *store;
    struct segment_id segment;
    uint32_t off, len;
    uint8_t first, last;
};

struct rig {
    struct budget memory;
    struct store *near, *far; /* the one that takes, and the one that is filled */
    struct store_stream streams[2][STREAMS];
    bool turned;
    uint8_t history[HISTORY];
    uint32_t history_len;
    uint8_t span[STORE_TAKE_MOST_BYTES];
    uint32_t arrived;
    struct seen seen[SEEN_MOST];
    unsigned seen_count;
};

static void note_seen(struct rig *r, const struct store *store, const struct slice *s)
{
    struct seen *seen = &r->seen[r->seen_count++ % SEEN_MOST];
    *seen = (struct seen){.store = store,
                          .segment = s->chunk->segment,
                          .off = s->off,
                          .len = s->len,
                          .first = slice_bytes(s)[0],
                          .last = slice_bytes(s)[s->len - 1]};
}

static void check_seen(struct rig *r, struct store *store)
{
    for (unsigned i = 0; i < SEEN_MOST && i < r->seen_count; i++) {
        const struct seen *seen = &r->seen[i];
        struct slice s;
        if (seen->store != store || !store_resolve(store, &seen->segment, seen->off, seen->len, &s))
            continue;
        CHECK(slice_bytes(&s)[0] == seen->first && slice_bytes(&s)[seen->len - 1] == seen->last);
        chunk_unref(s.chunk);
    }
}

/* As a node does it that knows its peers: what another one filled is not this one's to refer to. */
static bool resolve(struct rig *r, const struct slice *piece, struct slice *there)
{
    const struct segment_id *id = &piece->chunk->segment;
    int64_t source = store_source(r->far, id);
    return (source == 0 || source == PEER) && store_resolve(r->far, id, piece->off, piece->len, there);
}

static int arrive(void *arg, struct slice piece)
{
    struct rig *r = arg;
    struct slice there;
    struct segment_id id = piece.chunk->segment;
    CHECK(piece.len > 0 && piece.len <= sizeof(r->span) - r->arrived);
    CHECK(memcmp(slice_bytes(&piece), r->span + r->arrived, piece.len) == 0);
    if (!resolve(r, &piece, &there) &&
        store_fill(r->far, PEER, &id, piece.off, slice_bytes(&piece), piece.len, &there) < 0)
        there = slice_copy(slice_bytes(&piece), piece.len);
    CHECK(there.chunk != NULL);
    CHECK(there.len == piece.len && memcmp(slice_bytes(&there), slice_bytes(&piece), piece.len) == 0);
    r->arrived += piece.len;
    note_seen(r, r->near, &piece);
    chunk_unref(there.chunk);
    chunk_unref(piece.chunk);
    return 0;
}

static void take(struct rig *r, unsigned stream, uint32_t len)
{
    if (len == 0)
        return;
    uint8_t *exact = malloc(len); /* on its own, so that a read past the span is seen */
    CHECK(exact != NULL);
    memcpy(exact, r->span, len);
    r->arrived = 0;
    CHECK(store_take(r->near, &r->streams[r->turned][stream], exact, len, arrive, r) == 0);
    CHECK(r->arrived == len);
    free(exact);
    if (len > HISTORY - r->history_len)
        r->history_len = 0;
    memcpy(r->history + r->history_len, r->span, len);
    r->history_len += len;
}

static uint32_t repeat(struct rig *r, struct program *p)
{
    uint32_t from = number(p, 3), len = number(p, 2) + 1;
    if (r->history_len == 0)
        return 0;
    from %= r->history_len;
    len = len < r->history_len - from ? len : r->history_len - from;
    memcpy(r->span, r->history + from, len);
    return len;
}

/* A few bytes put over, put in or taken out. */
static uint32_t edited(struct rig *r, struct program *p)
{
    uint32_t len = repeat(r, p), at = number(p, 2), new = number(p, 1) % 40, old = number(p, 1) % 40;
    if (len == 0)
        return 0;
    at %= len;
    old = old < len - at ? old : len - at;
    new = new < sizeof(r->span) - (len - old) ? new : 0;
    memmove(r->span + at + new, r->span + at + old, len - at - old);
    for (uint32_t i = 0; i < new; i++)
        r->span[at + i] = (uint8_t)number(p, 1);
    return len - old + new;
}

static uint32_t noise(struct rig *r, struct program *p)
{
    uint64_t state = number(p, 2) + 1;
    uint32_t len = number(p, 2) + 1;
    for (uint32_t i = 0; i < len; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        r->span[i] = (uint8_t)(state >> 56);
    }
    return len;
}

static void turn_round(struct rig *r)
{
    struct store *was_near = r->near;
    r->near = r->far;
    r->far = was_near;
    r->turned = !r->turned;
}

static struct segment_id some_segment(struct program *p)
{
    uint32_t what = number(p, 1);
    return (struct segment_id){.epoch = what % 16, .number = what / 16 + number(p, 1)};
}

static void fill_anything(struct rig *r, struct program *p)
{
    struct segment_id id = some_segment(p);
    uint32_t off = number(p, 4), len = number(p, 1);
    len = len < (uint32_t)(p->end - p->at) ? len : (uint32_t)(p->end - p->at);
    struct slice s;
    if (store_fill(r->far, HOSTILE, &id, off, p->at, len, &s) == 0) {
        CHECK(id.epoch != 0 && store_source(r->far, &id) == HOSTILE);
        CHECK(s.off == off && s.len == len && off + len <= STORE_SEGMENT_BYTES);
        CHECK(memcmp(slice_bytes(&s), p->at, len) == 0);
        note_seen(r, r->far, &s);
        chunk_unref(s.chunk);
    }
    p->at += len;
}

static void resolve_anything(struct rig *r, struct program *p)
{
    struct segment_id id = some_segment(p);
    uint32_t off = number(p, 4), len = number(p, 4);
    struct slice s;
    if (store_resolve(r->far, &id, off, len, &s)) {
        CHECK(s.len == len && len > 0 && s.off == off && (uint64_t)off + len <= STORE_SEGMENT_BYTES);
        note_seen(r, r->far, &s);
        chunk_unref(s.chunk);
    }
}

static void step(struct rig *r, struct program *p)
{
    uint32_t byte = number(p, 1), stream = byte / OPERATIONS % STREAMS, len;
    switch ((enum operation)(byte % OPERATIONS)) {
    case TAKE_INPUT:
        len = number(p, 1);
        len = len < (uint32_t)(p->end - p->at) ? len : (uint32_t)(p->end - p->at);
        memcpy(r->span, p->at, len);
        p->at += len;
        take(r, stream, len);
        break;
    case TAKE_REPEAT:
        take(r, stream, repeat(r, p));
        break;
    case TAKE_EDITED:
        take(r, stream, edited(r, p));
        break;
    case TAKE_NOISE:
        take(r, stream, noise(r, p));
        break;
    case END_STREAM:
        store_stream_end(r->near, &r->streams[r->turned][stream]);
        break;
    case TURN_ROUND:
        turn_round(r);
        break;
    case FILL:
        fill_anything(r, p);
        break;
    case RESOLVE:
        resolve_anything(r, p);
        break;
    case OPERATIONS:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct program p = {.at = input, .end = input + len};
    struct rig *r = calloc(1, sizeof(*r));
    CHECK(r != NULL);
    budget_init(&r->memory, 2 * (uint64_t)STORE_LEAST_BYTES);
    CHECK(store_new(&r->near, &r->memory, STORE_LEAST_BYTES, 1, NEAR_EPOCH, NULL, NULL) == 0);
    CHECK(store_new(&r->far, &r->memory, STORE_LEAST_BYTES, 2, FAR_EPOCH, NULL, NULL) == 0);
    for (unsigned steps = 0; p.at < p.end && steps < 400; steps++) {
        step(r, &p);
        CHECK(budget_used(&r->memory) <= 2 * (uint64_t)STORE_LEAST_BYTES);
    }
    check_seen(r, r->near);
    check_seen(r, r->far);
    store_free(r->near);
    store_free(r->far);
    CHECK(budget_used(&r->memory) == 0);
    free(r);
    return 0;
}
