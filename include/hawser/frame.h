/* frame.h - what a lane carries after its greeting: blocks of frames (floor 1, pure).
 * The byte layout is in PROTOCOL.md; this file and frame.c are its only implementation. No fd, clock or thread;
 * input is never trusted: every field is bounded here, what a field means is checked by the caller.
 *
 * A lane is a stream of blocks: kind (1 byte), payload length (3 bytes, big-endian), payload. A raw block's
 * payload is whole frames. A frame: type (1 byte), then its fields; varints unless said. */
#ifndef HAWSER_FRAME_H
#define HAWSER_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "hawser/addr.h"
#include "hawser/cursor.h"

enum {
    BLOCK_HEADER_BYTES = 4,
    BLOCK_PAYLOAD_MAX = 65536,      /* a longer length field is an error before anything is waited for */
    FRAME_CLASS_MAX = 63,           /* bytes of a class name in OPEN */
    FRAME_DATA_MAX = 65000,         /* bytes of one DATA */
    FRAME_DATA_HEADER_MAX = 1 + 10 + 10 + 3,
    FRAME_CONTROL_MAX = 192,        /* no frame but DATA is longer */
};

enum block_kind { BLOCK_RAW = 0 };

#define FRAME_TABLE(X)                                                                                       \
    X(FRAME_OPEN, 1)                                                                                         \
    X(FRAME_DATA, 2)                                                                                         \
    X(FRAME_ACK, 3)                                                                                          \
    X(FRAME_CREDIT, 4)                                                                                       \
    X(FRAME_FIN, 5)                                                                                          \
    X(FRAME_RST, 6)                                                                                          \
    X(FRAME_PING, 7)                                                                                         \
    X(FRAME_PONG, 8)

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
const char *frame_rst_text(enum frame_rst_reason reason);

/* One frame. Only the part that `type` names is valid. Byte pointers are borrowed from the block. */
struct frame {
    enum frame_type type;
    uint64_t session; /* all but PING and PONG; opener's side in bit 0, never used twice */
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
            uint32_t len;    /* 1..FRAME_DATA_MAX */
        } data;
        struct {
            uint64_t offset; /* everything before it is with the destination's socket; past the FIN: final + 1 */
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
    };
};

/* Write a frame; sticky error in `out` when it does not fit (nothing half-written then: `out->at` is put back).
 * DATA's bytes are copied. The caller gives valid values (asserted). */
int frame_put(struct cursor_out *out, const struct frame *f);

/* Write a DATA header for len bytes and advance over them, giving back where the caller copies them to, or NULL when there is no room. */
uint8_t *frame_put_data(struct cursor_out *out, uint64_t session, uint64_t offset, uint32_t len);

/* Next frame of a raw block's payload: 1 with *f, 0 at the end, or -ERR_WIRE_.... */
int frame_next(struct cursor *block, struct frame *f);

/* Fill or read a block header. block_header_get: 0, or -ERR_WIRE_UNKNOWN / -ERR_WIRE_LONG. */
void block_header_put(uint8_t out[static BLOCK_HEADER_BYTES], enum block_kind kind, uint32_t payload_bytes);
int block_header_get(const uint8_t in[static BLOCK_HEADER_BYTES], enum block_kind *kind, uint32_t *payload_bytes);

/* ---- the greeting ---- */
enum {
    GREETING_BYTES = 16384,       /* on the wire, padding included: one full TLS record, so that an MTU black hole shows */
    GREETING_NAME_MAX = 63,
    GREETING_INSTANCE_BYTES = 16, /* random, new at every start of an engine */
    PROTOCOL_VERSION = 1,
};

struct greeting {
    uint16_t version;
    uint64_t features;  /* bits of both must meet; none are defined by version 1 */
    uint8_t instance[GREETING_INSTANCE_BYTES];
    char name[GREETING_NAME_MAX + 1];
    uint8_t slot;       /* lane number in the tunnel; 0 = express. The dialling side's counts */
    uint64_t opening_credit_bytes; /* bytes of new sessions, all together, that may be sent before their first CREDIT */
    uint8_t resume_instance[GREETING_INSTANCE_BYTES]; /* the peer's instance we still hold sessions of; zero: none */
};

/* Fills exactly GREETING_BYTES. */
void greeting_put(uint8_t out[static GREETING_BYTES], const struct greeting *g);
/* The first GREETING_PREFIX_BYTES tell whether this is a greeting and of a version that fits, before the rest is waited for. */
enum { GREETING_PREFIX_BYTES = 10 };
int greeting_check_prefix(const uint8_t in[static GREETING_PREFIX_BYTES]);
/* 0, or -ERR_GREETING, -ERR_VERSION, -ERR_WIRE_.... Bytes after the known fields are ignored (room for later versions' fields). */
int greeting_get(struct greeting *out, const uint8_t in[static GREETING_BYTES]);

/* ---- recognising a protocol by a connection's first bytes (probe.c) ---- */
/* One bit of enum config_proto's numbering (1 tls, 2 ssh, 4 http, 8 other), or 0 when more bytes are needed. Pure. */
uint32_t probe_protocol(const uint8_t *bytes, size_t len);

#endif
