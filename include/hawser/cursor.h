/* cursor.h - read and write wire fields with a sticky error (floor 1, header only, pure).
 * Read many fields, check once: after the first field that does not fit, every further read gives zero or
 * NULL and `err` stays. Integers are big-endian; a varint is LEB128 of at most 10 bytes, shortest form only,
 * so that every value has one spelling (PROTOCOL.md, 'Conventions'). Knows no frame and owns no memory. One
 * thread a cursor. */
#ifndef HAWSER_CURSOR_H
#define HAWSER_CURSOR_H

#include <stdbool.h>
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
    int err; /* 0, or -ERR_WIRE_LONG when something did not fit; nothing of it was written then */
};

/* bytes may be NULL when len is 0: nothing may be added to NULL, so it is replaced. */
static inline struct cursor cursor_over(const uint8_t *bytes, size_t len)
{
    const uint8_t *at = bytes != NULL ? bytes : (const uint8_t *)"";
    return (struct cursor){.at = at, .end = at + len, .err = 0};
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* A field was read whose value its frame forbids. The first error stays. */
static inline void cursor_refuse(struct cursor *c, int err)
{
    if (c->err == 0)
        c->err = err;
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

/* An integer of len bytes, at most 8. */
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

/* Length of the UTF-8 character at p that a person may be shown, or 0: malformed, overlong, a surrogate, past
 * U+10FFFF (RFC 3629), or a control character of C0 or C1. len is not 0. */
static inline size_t cursor_text_step(const uint8_t *p, size_t len)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    bool control = p[0] == 0xc2 && p[1] < 0xa0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool no_character = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return control || overlong || no_character ? 0 : n;
}

static inline bool cursor_text_valid(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = cursor_text_step(bytes + i, len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

/* As cursor_bytes, for a name that ends up in logs and JSON: UTF-8 without control characters, else
 * -ERR_WIRE_VALUE. Not NUL-terminated. */
static inline const char *cursor_text(struct cursor *c, size_t len)
{
    const uint8_t *p = cursor_bytes(c, len);
    if (p != NULL && !cursor_text_valid(p, len))
        c->err = -ERR_WIRE_VALUE;
    return c->err == 0 ? (const char *)p : NULL;
}

/* room may be 0 with bytes NULL: then nothing fits. */
static inline struct cursor_out cursor_out_over(uint8_t *bytes, size_t room)
{
    return (struct cursor_out){.at = bytes, .end = room > 0 ? bytes + room : bytes, .err = 0};
}

static inline size_t cursor_out_left(const struct cursor_out *c)
{
    return (size_t)(c->end - c->at);
}

static inline void cursor_put_bytes(struct cursor_out *c, const void *bytes, size_t len)
{
    if (c->err == 0 && len > cursor_out_left(c))
        c->err = -ERR_WIRE_LONG;
    if (c->err != 0 || len == 0)
        return;
    memcpy(c->at, bytes, len);
    c->at += len;
}

/* The low len bytes of v, at most 8. */
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

/* A name as cursor_text will take it. One that is not such text (it came from a user) is still sent, with a
 * '?' for every byte that is not plain ASCII, rather than have the peer refuse the frame. */
static inline void cursor_put_text(struct cursor_out *c, const char *text, size_t len)
{
    uint8_t *was = c->at;
    cursor_put_bytes(c, text, len);
    if (c->err != 0 || cursor_text_valid(was, len))
        return;
    for (uint8_t *p = was; p < c->at; p++) {
        if (*p < 0x20 || *p > 0x7e)
            *p = '?';
    }
}

#endif
