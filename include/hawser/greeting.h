/* greeting.h - the first GREETING_BYTES that each end sends on a lane (floor 1, pure).
 * The byte layout is in PROTOCOL.md, 'Greeting'; this file and greeting.c are its only implementation. It
 * says who speaks and which protocol, never whether the peer is welcome: the pin decides that before. No fd,
 * clock or thread of its own: any thread. */
#ifndef HAWSER_GREETING_H
#define HAWSER_GREETING_H

#include <stdint.h>

enum {
    GREETING_BYTES = 16384, /* padding included: one full TLS record, so that an MTU black hole shows */
    GREETING_NAME_MAX = 63,
    GREETING_INSTANCE_BYTES = 16,
    PROTOCOL_VERSION = 1,
};

/* Bits of features; PROTOCOL.md, 'Versions and features'. */
#define GREETING_FEATURE_ZSTD       UINT64_C(1)
#define GREETING_FEATURE_REFERENCES UINT64_C(2) /* STORED, MISS, HOLD and DROP, where there is a store */
#define GREETING_FEATURES           GREETING_FEATURE_ZSTD /* what every node of this version can do */

struct greeting {
    uint16_t version;
    /* What this end can do; in use is what both can. */
    uint64_t features;
    /* Random, never all zero: the life of a tunnel at this end. Another one tells the peer that sessions of
     * the one before are held no longer. */
    uint8_t instance[GREETING_INSTANCE_BYTES];
    /* Bytes of new sessions, all together, that may be sent before their first CREDIT; at most
     * FRAME_OFFSET_MAX. */
    uint64_t opening_credit_bytes;
    /* Lane number in the tunnel; 0 = express. The dialling side's counts. */
    uint8_t slot;
    /* For people; may be empty. UTF-8 without control characters when it was read. */
    char name[GREETING_NAME_MAX + 1];
};

/* Fills exactly GREETING_BYTES. The caller gives values within the bounds above (asserted); only the name may
 * hold anything (see cursor_put_text). */
void greeting_put(uint8_t out[static GREETING_BYTES], const struct greeting *g);

/* The first GREETING_PREFIX_BYTES tell whether this is a greeting and of a version that fits, before the rest
 * is waited for: 0, -ERR_GREETING or -ERR_VERSION; greeting_prefix_version then says which, for the log. */
enum { GREETING_PREFIX_BYTES = 10 };
int greeting_check_prefix(const uint8_t in[static GREETING_PREFIX_BYTES]);
uint16_t greeting_prefix_version(const uint8_t in[static GREETING_PREFIX_BYTES]);

/* 0, or -ERR_GREETING, -ERR_VERSION, -ERR_WIRE_...; *out is touched by success only. Bytes after the known
 * fields are ignored (room for later versions' fields). */
int greeting_get(struct greeting *out, const uint8_t in[static GREETING_BYTES]);

#endif
