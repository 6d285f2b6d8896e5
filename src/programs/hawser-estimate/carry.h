/* carry.h - what a link between two nodes carries of given bytes.
 * The sending node's own code (store, references to what crossed before, frames, blocks, compression) without
 * a link: the other end is taken to hold everything that crossed and is still stored here, and nothing is
 * lost. Both directions share that store, as they do where a peer is at home. What the other direction
 * confirms (ACK, CREDIT) and headers of TCP and IP are not counted, TLS is. One thread. */
#ifndef HAWSER_ESTIMATE_CARRY_H
#define HAWSER_ESTIMATE_CARRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/store.h"

enum { CARRY_WAYS = 2 }; /* directions of the link */

struct carry_tally {
    uint64_t bytes;       /* of hosts */
    uint64_t saved_bytes; /* of them: crossed as references */
    uint64_t frame_bytes; /* that carried them, before compression */
    uint64_t wire_bytes;  /* and after it, with blocks' headers and TLS */
};

struct carry;

/* store_bytes: at least STORE_LEAST_BYTES. level: of zstd, 0 for none. 0, or -ENOMEM. */
int carry_new(struct carry **out, uint64_t store_bytes, int level);
void carry_free(struct carry *c);
void carry_read_store(const struct carry *c, struct store_counters *out);

/* One direction of a session. */
struct carry_stream {
    struct store_stream stored;
    struct carry_tally *tally; /* borrowed; another one may take its place between calls */
    uint64_t session, offset;
    unsigned way;
    bool encrypted; /* nothing of it is stored or compressed; the caller knows */
};

/* A new session's direction from its client, and the one back. What returns int: 0, or -ENOMEM or
 * -ERR_COMPRESSED, after which only carry_free is left. */
int carry_open(struct carry *c, struct carry_stream *s, unsigned way, struct carry_tally *tally);
void carry_open_back(const struct carry_stream *client, struct carry_stream *s, struct carry_tally *tally);
int carry_bytes(struct carry *c, struct carry_stream *s, const uint8_t *bytes, size_t len);
/* Nothing more is at hand in that direction: what was begun goes. */
int carry_pause(struct carry *c, struct carry_stream *s);
/* The direction ends; the stream can be opened again. */
int carry_close(struct carry *c, struct carry_stream *s);

#endif
