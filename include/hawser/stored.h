/* stored.h - the operations inside a STORED frame: DATA as literals, literals that have an address, and
 * references (floor 1, pure). PROTOCOL.md, 'STORED', has the bytes; this file and stored.c are their only
 * implementation. Input is never trusted: lengths, addresses and sums are bounded here, whether an address is
 * held by anybody is the caller's to know. Any thread, each on its own writer or reader.
 *
 * An operation is a varint: length << 2 | kind. Addresses are relative to where the operation before it in
 * the same segment ended; a segment is named once a frame and selected by number from then on. */
#ifndef HAWSER_STORED_H
#define HAWSER_STORED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/chunk.h"
#include "hawser/cursor.h"

enum {
    STORED_RAW_MAX = 16 << 20,    /* decoded bytes of one frame */
    STORED_OPS_MAX = 1024,        /* operations of one frame that yield bytes */
    STORED_SEGMENTS_MAX = 64,     /* segments that one frame names */
    STORED_OPS_BYTES_MAX = 65000, /* bytes of all its operations */
    STORED_HEADER_MAX = 1 + 10 + 10 + 4 + 4 + 2,
    STORED_OP_MAX = 1 + 8 + 5 + 5 + 5, /* an operation that names a new segment first, without its bytes */
    STORED_REFERENCE_COST = 64,        /* bytes of credit that a reference takes */
    STORED_SEGMENT_SPAN = 16 << 20,    /* addresses in a segment are below it */
};

enum stored_kind { STORED_PLAIN, STORED_LITERAL, STORED_REFERENCE, STORED_SEGMENT };

struct stored_op {
    enum stored_kind kind;     /* never STORED_SEGMENT */
    struct segment_id segment; /* of LITERAL and REFERENCE */
    uint32_t off, len;         /* len is not 0 */
    const uint8_t *bytes;      /* of PLAIN and LITERAL, borrowed from the block */
};

/* What both sides keep while they go through a frame. */
struct stored_segments {
    struct segment_id ids[STORED_SEGMENTS_MAX];
    uint32_t expected[STORED_SEGMENTS_MAX]; /* where the last operation in it ended */
    uint32_t count, selected;               /* selected == count: none yet */
};

/* XXH3 (64 bits) of a reference's bytes, seeded with that of the references before it. Literals are not in
 * it: they are in the lane's TLS record. */
uint64_t stored_checksum(uint64_t before, const uint8_t *bytes, size_t len);

/* ---- writing: begin, operations, end ---- */

struct stored_writer {
    struct cursor_out *out;
    uint8_t *frame, *fixed, *ops;
    struct stored_segments segments;
    uint32_t raw_bytes, op_count;
};

/* False when not even one operation of a byte would fit; nothing is written then. */
bool stored_begin(struct stored_writer *w, struct cursor_out *out, uint64_t session, uint64_t offset);
/* The bytes that a literal in that segment (NULL: a plain one) may have now; 0: end the frame. */
uint32_t stored_room(const struct stored_writer *w, const struct segment_id *segment);
/* len bytes, at most stored_room; returns where they go. */
uint8_t *stored_put_literal(struct stored_writer *w, const struct segment_id *segment, uint32_t off,
                            uint32_t len);
/* False: no room; nothing is written. */
bool stored_put_reference(struct stored_writer *w, const struct segment_id *segment, uint32_t off,
                          uint32_t len);
/* checksum: the low 32 bits of stored_checksum over the frame's references, from 0 on. A frame without
 * operations is taken back. */
void stored_end(struct stored_writer *w, uint32_t checksum);

/* ---- reading ---- */

struct stored_reader {
    struct cursor ops;
    struct stored_segments segments;
};

void stored_read(struct stored_reader *r, const uint8_t *ops, size_t len);
/* 1 with *op, 0 at the end, or -ERR_WIRE_... */
int stored_next(struct stored_reader *r, struct stored_op *op);
/* 0 if the operations are well formed and yield exactly raw_bytes, else -ERR_WIRE_... */
int stored_check(const uint8_t *ops, size_t len, uint32_t raw_bytes);

#endif
