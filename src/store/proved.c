#include "hawser/proved.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hawser/err.h"

enum { SUMMED_HEADER_BYTES = PROVED_HEADER_BYTES - 8 };

static const char magic[8] = {'h', 'a', 'w', 's', 'e', 'r', 'P', 'V'};

void proved_put_header(uint8_t out[static PROVED_HEADER_BYTES], const uint8_t pin[static SHELF_PIN_BYTES],
                       uint32_t peer, const uint8_t *entries, size_t len)
{
    struct cursor_out c = cursor_out_over(out, PROVED_HEADER_BYTES);
    cursor_put_bytes(&c, magic, sizeof(magic));
    cursor_put_be(&c, PROVED_VERSION, 4);
    cursor_put_be(&c, peer, 4);
    cursor_put_bytes(&c, pin, SHELF_PIN_BYTES);
    cursor_put_be(&c, XXH3_64bits_withSeed(entries, len, XXH3_64bits(out, SUMMED_HEADER_BYTES)), 8);
    assert(c.err == 0 && c.at == c.end);
}

bool proved_is_sound(const uint8_t *bytes, size_t len, const uint8_t pin[static SHELF_PIN_BYTES],
                     uint32_t peer)
{
    uint8_t header[PROVED_HEADER_BYTES];
    if (len < PROVED_HEADER_BYTES || len - PROVED_HEADER_BYTES > PROVED_MOST_BYTES)
        return false;
    const uint8_t *entries = bytes + PROVED_HEADER_BYTES;
    proved_put_header(header, pin, peer, entries, len - PROVED_HEADER_BYTES);
    if (memcmp(header, bytes, sizeof(header)) != 0)
        return false;
    struct cursor c = cursor_over(entries, len - PROVED_HEADER_BYTES);
    struct proved_entry e;
    while (proved_next(&c, &e))
        continue;
    return c.err == 0;
}

void proved_put(struct cursor_out *out, const struct segment_id *segment, uint32_t source,
                const struct intervals *parts)
{
    size_t left = cursor_out_left(out);
    size_t room = left < PROVED_ENTRY_BYTES ? 0 : (left - PROVED_ENTRY_BYTES) / PROVED_PART_BYTES;
    uint32_t count = parts->count < room ? parts->count : (uint32_t)room;
    if (count == 0)
        return;
    cursor_put_be(out, segment->epoch, 8);
    cursor_put_be(out, segment->number, 4);
    cursor_put_be(out, source, 4);
    cursor_put_be(out, count, 4);
    for (uint32_t i = 0; i < count; i++) {
        cursor_put_be(out, parts->list[i].from, 4);
        cursor_put_be(out, parts->list[i].to, 4);
    }
}

static bool is_well_formed(const struct proved_entry *e)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < e->count; i++) {
        struct interval part = proved_part(e, i);
        if (part.from >= part.to || part.to > SHELF_SEGMENT_BYTES || (i > 0 && part.from <= at))
            return false;
        at = part.to;
    }
    return e->count > 0 && e->segment.epoch != 0;
}

/* The parts may be anything yet. */
static bool read_entry(struct cursor *c, struct proved_entry *out)
{
    if (cursor_left(c) == 0)
        return false;
    struct proved_entry e = {.segment.epoch = cursor_be(c, 8)};
    e.segment.number = (uint32_t)cursor_be(c, 4);
    e.source = (uint32_t)cursor_be(c, 4);
    e.count = (uint32_t)cursor_be(c, 4);
    if (e.count > cursor_left(c) / PROVED_PART_BYTES)
        cursor_refuse(c, -ERR_WIRE_VALUE); /* their length may not fit a number */
    e.parts = cursor_bytes(c, (size_t)e.count * PROVED_PART_BYTES);
    *out = e;
    return c->err == 0;
}

static bool check(struct cursor *c, const struct proved_entry *e)
{
    if (!is_well_formed(e))
        cursor_refuse(c, -ERR_WIRE_VALUE);
    return c->err == 0;
}

bool proved_next(struct cursor *c, struct proved_entry *out)
{
    return read_entry(c, out) && check(c, out);
}

bool proved_find(struct cursor *c, const struct segment_id *segment, struct proved_entry *out)
{
    while (read_entry(c, out)) {
        if (segment_id_equal(segment, &out->segment))
            return check(c, out);
    }
    return false;
}

struct interval proved_part(const struct proved_entry *e, uint32_t i)
{
    struct cursor c = cursor_over(e->parts + (size_t)i * PROVED_PART_BYTES, PROVED_PART_BYTES);
    uint32_t from = (uint32_t)cursor_be(&c, 4);
    return (struct interval){.from = from, .to = (uint32_t)cursor_be(&c, 4)};
}
