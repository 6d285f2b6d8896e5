/* cursor.h - read and write wire fields with a sticky error (floor 1, header only, pure).
 * Read many fields, check once: after the first field that does not fit, every further read gives zero and
 * `err` stays. Integers are big-endian; a varint is LEB128 of at most 10 bytes, shortest form only. One thread. */
#ifndef HAWSER_CURSOR_H
#define HAWSER_CURSOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hawser/err.h"

struct cursor {
    const uint8_t *at, *end;
    int err; /* 0 or -ERR_WIRE_... */
};

struct cursor_out {
    uint8_t *at, *end;
    int err; /* 0 or -ENOBUFS-like: -ERR_WIRE_LONG when something did not fit */
};

static inline struct cursor cursor_over(const uint8_t *bytes, size_t len)
{
    return (struct cursor){.at = bytes, .end = bytes + len, .err = 0};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* The next len bytes in place (borrowed), or NULL with the error set. */
static inline const uint8_t *cursor_bytes(struct cursor *c, size_t len)
{
    if (c->err == 0 && len > cursor_left(c))
        c->err = -ERR_WIRE_SHORT;
    if (c->err != 0)
        return NULL;
    const uint8_t *p = c->at;
    c->at += len;
    return p;
}

static inline uint64_t cursor_be(struct cursor *c, size_t len)
{
    const uint8_t *p = cursor_bytes(c, len);
    uint64_t v = 0;
    for (size_t i = 0; p != NULL && i < len; i++)
        v = v << 8 | p[i];
    return v;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)cursor_be(c, 1);
}

static inline uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)cursor_be(c, 2);
}

static inline uint64_t cursor_varint(struct cursor *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = cursor_u8(c);
        if (c->err != 0)
            return 0;
        if ((shift == 63 && b > 1) || (b == 0 && shift > 0)) {
            c->err = -ERR_WIRE_VALUE; /* past 64 bits, or not the shortest form */
            return 0;
        }
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return v;
    }
    c->err = -ERR_WIRE_VALUE;
    return 0;
}

static inline struct cursor_out cursor_out_over(uint8_t *bytes, size_t room)
{
    return (struct cursor_out){.at = bytes, .end = bytes + room, .err = 0};
}

static inline void cursor_put_bytes(struct cursor_out *c, const void *bytes, size_t len)
{
    if (c->err == 0 && len > (size_t)(c->end - c->at))
        c->err = -ERR_WIRE_LONG;
    if (c->err != 0 || len == 0)
        return;
    memcpy(c->at, bytes, len);
    c->at += len;
}

static inline void cursor_put_be(struct cursor_out *c, uint64_t v, size_t len)
{
    uint8_t b[8];
    for (size_t i = 0; i < len; i++)
        b[i] = (uint8_t)(v >> (8 * (len - 1 - i)));
    cursor_put_bytes(c, b, len);
}

static inline void cursor_put_varint(struct cursor_out *c, uint64_t v)
{
    uint8_t b[10];
    size_t n = 0;
    do {
        b[n] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        n++;
        v >>= 7;
    } while (v != 0);
    cursor_put_bytes(c, b, n);
}

#endif
