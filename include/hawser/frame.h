/* frame.h - what a lane carries after its greeting: blocks of frames (floor 1, pure).
 * The byte layout is in PROTOCOL.md, 'Blocks' and 'Frames'; this file and frame.c are its only
 * implementation. No fd, clock or thread of its own: any thread, each on its own cursor. Input is never
 * trusted: every field is bounded here; what a field means (does the session exist, is there credit) is
 * checked by the caller, never here.
 *
 * A lane is a stream of blocks: kind (1 byte), payload length (3 bytes, big-endian), payload. A raw block's
 * payload is whole frames. A frame: type (1 byte), then its fields; varints unless said. Every value has
 * exactly one spelling, so a frame that was read and is put again gives the same bytes. */
#ifndef HAWSER_FRAME_H
#define HAWSER_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "hawser/addr.h"
#include "hawser/chunk.h"
#include "hawser/cursor.h"
#include "hawser/greeting.h" /* what precedes the blocks on every lane */

enum {
    BLOCK_HEADER_BYTES = 4,
    BLOCK_PAYLOAD_MAX = 65536, /* a longer length field is an error before anything is waited for */
    FRAME_CLASS_MAX = 63,      /* bytes of a class name in OPEN */
    FRAME_DATA_MAX = 65000,    /* bytes of one DATA */
    FRAME_DATA_HEADER_MAX = 1 + 10 + 10 + 3,
    FRAME_CONTROL_MAX = 192, /* no frame but DATA is longer */
    FRAME_SESSION_MIN = 2,   /* ids are n << 1 | side with n from 1 */
};

/* No offset, final, limit or end of DATA is above this (an ACK may be one above, for the FIN), so that sums
 * of two of them never wrap. As a limit it means: as much as you like. */
#define FRAME_OFFSET_MAX (UINT64_C(1) << 62)

enum block_kind {
    BLOCK_RAW = 0,
    BLOCK_ZSTD = 1, /* see compress.h; only where both greetings have GREETING_FEATURE_ZSTD */
};

#define FRAME_TABLE(X)                                                                                       \
    X(FRAME_OPEN, 1)                                                                                         \
    X(FRAME_DATA, 2)                                                                                         \
    X(FRAME_ACK, 3)                                                                                          \
    X(FRAME_CREDIT, 4)                                                                                       \
    X(FRAME_FIN, 5)                                                                                          \
    X(FRAME_RST, 6)                                                                                          \
    X(FRAME_PING, 7)                                                                                         \
    X(FRAME_PONG, 8)                                                                                         \
    X(FRAME_STORED, 9)                                                                                       \
    X(FRAME_MISS, 10)                                                                                        \
    X(FRAME_HOLD, 11)                                                                                        \
    X(FRAME_DROP, 12)

enum frame_type {
#define FRAME_ENUM(name, number) name = number,
    FRAME_TABLE(FRAME_ENUM)
#undef FRAME_ENUM
};

/* Why a session was reset; on the wire as one byte. Unknown values read as FRAME_RST_OTHER. */
#define FRAME_RST_TABLE(X)                                                                                   \
    X(FRAME_RST_OTHER, 0, "reset")                                                                           \
    X(FRAME_RST_BY_HOST, 1, "the host reset its connection")                                                 \
    X(FRAME_RST_REFUSED, 2, "the destination refused the connection")                                        \
    X(FRAME_RST_UNREACHABLE, 3, "the destination is unreachable")                                            \
    X(FRAME_RST_TIMEOUT, 4, "the destination did not answer")                                                \
    X(FRAME_RST_FORBIDDEN, 5, "the peer may not open this connection")                                       \
    X(FRAME_RST_OVERLOAD, 6, "no memory or descriptor left for the connection")                              \
    X(FRAME_RST_UNKNOWN, 7, "no such session")                                                               \
    X(FRAME_RST_PROTOCOL, 8, "the session broke the protocol")                                               \
    X(FRAME_RST_TUNNEL, 9, "the tunnel was lost")                                                            \
    X(FRAME_RST_SOURCE, 10, "the client's address cannot be used at the far side")

enum frame_rst_reason {
#define FRAME_RST_ENUM(name, number, text) name = number,
    FRAME_RST_TABLE(FRAME_RST_ENUM)
#undef FRAME_RST_ENUM
};
/* Static text; a value outside the table reads as FRAME_RST_OTHER. */
const char *frame_rst_text(enum frame_rst_reason reason);

/* One frame. Only the part that `type` names is valid. Byte pointers are borrowed from the block. */
struct frame {
    enum frame_type type;
    uint64_t session; /* all but PING, PONG, HOLD and DROP; opener's side in bit 0, never used twice */
    union {
        struct {
            struct endpoint client, server; /* of one family */
            uint8_t dscp;                   /* 0..63 */
            const char *class_name;         /* not NUL-terminated, class_len bytes; none: 0 */
            uint8_t class_len;
            uint64_t raw_limit, cost_limit; /* first credit for the opposite direction, as in CREDIT */
        } open;
        struct {
            uint64_t offset; /* of the first byte in the session's direction */
            const uint8_t *bytes;
            uint32_t len; /* 1..FRAME_DATA_MAX */
        } data;
        struct {
            uint64_t offset; /* all before it is with the destination's socket; the FIN too: final + 1 */
        } ack;
        struct {
            uint64_t raw_limit;  /* offset up to which bytes may be sent */
            uint64_t cost_limit; /* sum of costs up to which bytes may be sent */
        } credit;
        struct {
            uint64_t final; /* offset after the last byte */
        } fin;
        struct {
            enum frame_rst_reason reason;
            uint8_t answer; /* 1: answers an RST and is not answered itself */
            uint64_t final; /* bytes that were sent before */
        } rst;
        struct {
            uint64_t token; /* PONG gives PING's back */
        } ping;
        struct {
            uint64_t offset;    /* of the first decoded byte in the session's direction */
            uint32_t raw_bytes; /* decoded, 1..STORED_RAW_MAX */
            uint32_t checksum;  /* of the bytes referred to; see stored.h */
            const uint8_t *ops; /* well formed and yielding raw_bytes; see stored.h */
            uint32_t ops_bytes;
        } stored; /* written by stored_begin and its like, never by frame_put */
        struct {
            uint64_t offset, len; /* of bytes whose references did not resolve; len is not 0 */
        } miss;
        struct {
            struct segment_id segment;
            uint32_t from, to; /* what the sender holds of it; of HOLD only */
        } segment;
    };
    uint32_t wire_bytes; /* its length in the block; of frames that were read */
};

/* Write a frame: 0, or -ERR_WIRE_LONG when it does not fit; then nothing is half-written (`out->at` is put
 * back) and the error is sticky in `out`. DATA's bytes are copied. The caller gives values within the bounds
 * above (asserted); only a class name may be anything (see cursor_put_text). */
int frame_put(struct cursor_out *out, const struct frame *f);

/* Write a DATA header for len bytes and advance over them, giving back where the caller copies them to, or
 * NULL when there is no room (error and `out->at` as frame_put). */
uint8_t *frame_put_data(struct cursor_out *out, uint64_t session, uint64_t offset, uint32_t len);

/* Next frame of a raw block's payload: 1 with *f, 0 at the end, or -ERR_WIRE_... (sticky; *f is not touched):
 * the lane cannot be read on and must be closed. */
int frame_next(struct cursor *block, struct frame *f);

/* Fill or read a block header. payload_bytes is 1..BLOCK_PAYLOAD_MAX (asserted when filling).
 * block_header_get: 0, or -ERR_WIRE_UNKNOWN (kind), -ERR_WIRE_LONG, -ERR_WIRE_VALUE (an empty block); nothing
 * is touched then. */
void block_header_put(uint8_t out[static BLOCK_HEADER_BYTES], enum block_kind kind, uint32_t payload_bytes);
int block_header_get(const uint8_t in[static BLOCK_HEADER_BYTES], enum block_kind *kind,
                     uint32_t *payload_bytes);

#endif
