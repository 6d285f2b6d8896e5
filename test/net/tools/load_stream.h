/* load_stream.h - what travels in a session of the load generator, and how either end makes and checks it.
 * Part of load.c only. Bytes in, bytes out; no descriptor, clock or thread.
 *
 *   up    (client to server)   header 64 | body up_bytes * rounds | end of stream
 *   down  (server to client)   reply 16  | body down_bytes * rounds | trailer 16 | end of stream
 *
 * Header, big-endian: "HWLOAD" 0 1, u64 seed, u64 up_bytes, u64 down_bytes, u32 rounds, u32 flags, zeros, u64
 * sum of the bytes before it. Reply: "HWREPLY" 1, u64 seed. Trailer: u64 length and u64 sum of the up body as
 * the server got it. Body: 64-bit words of a counter-based generator (splitmix64: Steele, Lea, Flood, 2014),
 * keyed by the seed and the direction, so that any byte can be told from its offset alone and a byte out of
 * place never fits.
 *
 * Without LOAD_DUPLEX a round is a question and its answer: down_bytes of the down body may go when up_bytes
 * more of the up body are in. The trailer goes when the up stream has ended. */
#ifndef LOAD_STREAM_H
#define LOAD_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    LOAD_HEADER_BYTES = 64,
    LOAD_REPLY_BYTES = 16,
    LOAD_TRAILER_BYTES = 16,
    LOAD_DUPLEX = 1, /* the server does not wait for questions */
    LOAD_LEAVES = 2, /* the client may go at any point: that is no error */
};

struct load_plan {
    uint64_t seed, up_bytes, down_bytes;
    uint32_t rounds, flags;
};

static inline uint64_t load_up_body(const struct load_plan *p)
{
    return p->up_bytes * p->rounds;
}

static inline uint64_t load_down_body(const struct load_plan *p)
{
    return p->down_bytes * p->rounds;
}

static inline uint64_t load_up_total(const struct load_plan *p)
{
    return LOAD_HEADER_BYTES + load_up_body(p);
}

static inline uint64_t load_down_total(const struct load_plan *p)
{
    return LOAD_REPLY_BYTES + load_down_body(p) + LOAD_TRAILER_BYTES;
}

/* ---- integers, words, sums ---- */

static inline void load_put(uint8_t *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static inline uint64_t load_get(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | from[i];
    return value;
}

static inline uint64_t load_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Bytes [offset, offset + len) of the body with that key. */
static inline void load_body(uint64_t key, uint64_t offset, uint8_t *to, size_t len)
{
    while (len > 0) {
        uint64_t word = load_mix(key + (offset >> 3) * 0x9e3779b97f4a7c15u);
        unsigned skip = (unsigned)(offset & 7);
        size_t n = 8 - skip < len ? 8 - skip : len;
        memcpy(to, (const uint8_t *)&word + skip, n);
        to += n;
        offset += n;
        len -= n;
    }
}

static inline uint64_t load_key_up(const struct load_plan *p)
{
    return load_mix(p->seed);
}

static inline uint64_t load_key_down(const struct load_plan *p)
{
    return load_mix(~p->seed);
}

/* A sum over a stream that comes in pieces; the pieces do not show in it. */
struct load_sum {
    uint64_t value, part;
    unsigned have; /* bytes in part */
};

static inline void load_sum_word(struct load_sum *s, uint64_t word)
{
    uint64_t x = s->value ^ word;
    s->value = (x << 27 | x >> 37) * 0x9fb21c651e98df25u + 1;
}

static inline void load_sum_add(struct load_sum *s, const uint8_t *bytes, size_t len)
{
    for (; len > 0 && s->have > 0; bytes++, len--) {
        s->part |= (uint64_t)*bytes << (8 * s->have++);
        if (s->have < 8)
            continue;
        load_sum_word(s, s->part);
        s->part = s->have = 0;
    }
    for (; len >= 8; bytes += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        load_sum_word(s, word);
    }
    for (; len > 0; bytes++, len--)
        s->part |= (uint64_t)*bytes << (8 * s->have++);
}

static inline uint64_t load_sum_end(const struct load_sum *s)
{
    return load_mix(s->value ^ s->part ^ (uint64_t)s->have << 60);
}

/* ---- the fixed parts ---- */

static inline void load_header_put(uint8_t *to, const struct load_plan *p)
{
    memset(to, 0, LOAD_HEADER_BYTES);
    memcpy(to, "HWLOAD\0\1", 8);
    load_put(to + 8, p->seed, 8);
    load_put(to + 16, p->up_bytes, 8);
    load_put(to + 24, p->down_bytes, 8);
    load_put(to + 32, p->rounds, 4);
    load_put(to + 36, p->flags, 4);
    struct load_sum s = {0};
    load_sum_add(&s, to, LOAD_HEADER_BYTES - 8);
    load_put(to + LOAD_HEADER_BYTES - 8, load_sum_end(&s), 8);
}

/* False when it is not one. */
static inline bool load_header_get(struct load_plan *p, const uint8_t *from)
{
    struct load_sum s = {0};
    load_sum_add(&s, from, LOAD_HEADER_BYTES - 8);
    if (memcmp(from, "HWLOAD\0\1", 8) != 0 || load_get(from + LOAD_HEADER_BYTES - 8, 8) != load_sum_end(&s))
        return false;
    *p = (struct load_plan){.seed = load_get(from + 8, 8),
                            .up_bytes = load_get(from + 16, 8),
                            .down_bytes = load_get(from + 24, 8),
                            .rounds = (uint32_t)load_get(from + 32, 4),
                            .flags = (uint32_t)load_get(from + 36, 4)};
    return p->up_bytes < 1ull << 40 && p->down_bytes < 1ull << 40 && p->rounds < 1u << 22;
}

static inline void load_reply_put(uint8_t *to, const struct load_plan *p)
{
    memcpy(to, "HWREPLY\1", 8);
    load_put(to + 8, p->seed, 8);
}

static inline void load_trailer_put(uint8_t *to, uint64_t len, uint64_t sum)
{
    load_put(to, len, 8);
    load_put(to + 8, sum, 8);
}

/* One of the three parts of a direction: fixed head, body, fixed tail. */
struct load_direction {
    const uint8_t *head, *tail;
    uint64_t head_len, body_len, key;
};

/* Up to len bytes from the offset on, never across a part's end; how many there are. */
static inline size_t load_piece(const struct load_direction *d, uint64_t offset, uint8_t *to, size_t len)
{
    uint64_t end, start = 0;
    const uint8_t *fixed = d->head;
    if (offset < d->head_len) {
        end = d->head_len;
    } else if (offset < d->head_len + d->body_len) {
        end = d->head_len + d->body_len;
        fixed = NULL;
    } else {
        start = d->head_len + d->body_len;
        end = start + LOAD_TRAILER_BYTES;
        fixed = d->tail;
    }
    size_t n = end - offset < len ? (size_t)(end - offset) : len;
    if (fixed != NULL)
        memcpy(to, fixed + (offset - start), n);
    else
        load_body(d->key, offset - d->head_len, to, n);
    return n;
}

#endif
