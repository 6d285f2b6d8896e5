/* proved.h - what a peer has proved to know, as bytes (floor 1, pure: no descriptor). PROTOCOL.md, 'The store
 * on disk', has them; proved.c is their only implementation, shelf_proved.c reads and writes the files. A
 * file is a header and then entries: of a segment, the parts that the peer surely held. In memory entries are
 * kept as they are on disk. Input is never trusted: a file that does not fit its sum, or is not well formed,
 * is none. Any thread. */
#ifndef HAWSER_PROVED_H
#define HAWSER_PROVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/chunk.h"
#include "hawser/cursor.h"
#include "hawser/intervals.h"
#include "hawser/shelf_format.h"

enum {
    PROVED_VERSION = 1,
    PROVED_HEADER_BYTES = 56,
    PROVED_ENTRY_BYTES = 20, /* and then its parts */
    PROVED_PART_BYTES = 8,
    PROVED_MOST_BYTES = 256 << 10, /* of a peer's entries; more are not kept */
};

struct proved_entry {
    struct segment_id segment;
    uint32_t source; /* of the segment, as in store.h */
    uint32_t count;
    const uint8_t *parts; /* borrowed */
};

/* The header of a file of these entries. peer: its number (tunnel_source_of). */
void proved_put_header(uint8_t out[static PROVED_HEADER_BYTES], const uint8_t pin[static SHELF_PIN_BYTES],
                       uint32_t peer, const uint8_t *entries, size_t len);
/* Whether these bytes are a whole file of this node and peer. Its entries follow the header. */
bool proved_is_sound(const uint8_t *bytes, size_t len, const uint8_t pin[static SHELF_PIN_BYTES],
                     uint32_t peer);

/* As many of the parts as there is room for. */
void proved_put(struct cursor_out *out, const struct segment_id *segment, uint32_t source,
                const struct intervals *parts);
/* The next entry; false: there is none, or (c->err) it is not well formed. */
bool proved_next(struct cursor *c, struct proved_entry *out);
/* The next entry of that segment, likewise; the parts of others are not looked at. */
bool proved_find(struct cursor *c, const struct segment_id *segment, struct proved_entry *out);
/* i < count */
struct interval proved_part(const struct proved_entry *e, uint32_t i);

#endif
