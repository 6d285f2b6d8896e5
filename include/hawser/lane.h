/* lane.h - one TCP connection to a peer, carrying TLS 1.3 (floor 4).
 * It owns all stream state and takes it along when it dies. It turns blocks into records and back; what is in
 * a block it does not know. PROTOCOL.md, 'Lanes' and 'Greeting'. A lane lives on one loop and is touched by
 * its thread only; an accepted lane may be handed to another loop by lane_detach and lane_attach.
 *
 * Where both ends can, blocks are compressed, a stream a direction (compress.h): what is worth it is decided
 * here, how hard by the caller.
 *
 * Buffers: plaintext is put into one block at a time, ciphertext waits in an out buffer of at most
 * LANE_OUT_BYTES; the kernel holds little more than it has in flight (TCP_NOTSENT_LOWAT). An idle lane holds
 * no buffer and no zstd context at all. */
#ifndef HAWSER_LANE_H
#define HAWSER_LANE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "hawser/addr.h"
#include "hawser/chunk.h"
#include "hawser/config.h"
#include "hawser/frame.h"
#include "hawser/loop.h"

struct lane;

enum {
    LANE_OUT_BYTES = 96 * 1024,
    LANE_BLOCK_MAX = 16384 - BLOCK_HEADER_BYTES, /* payload bytes of a block that is one TLS record */
    LANE_BLOCK_LARGE = 65024, /* where blocks are compressed: the longer, the more is saved */
    LANE_GAIN_ONE = 256,
    LANE_LONG_QUEUE_BYTES = 128 * 1024,
};

enum lane_state { LANE_CONNECTING, LANE_HANDSHAKE, LANE_GREETING, LANE_UP, LANE_CLOSED };
const char *lane_state_text(enum lane_state s);

/* What the lane tells its owner, always from its loop; the owner may close the lane inside (lane_close),
 * never free it there. */
struct lane_events {
    /* The peer's key is known, nothing is sent yet: fill in our greeting, or refuse with a negative error. */
    int (*identify)(void *owner, struct lane *l, const uint8_t pin[static CONFIG_PIN_BYTES],
                    struct greeting *ours);
    /* Both greetings are in: lane_greeting tells the peer's. */
    void (*up)(void *owner, struct lane *l);
    /* A block's frames, in a chunk that may be referenced further; a negative return closes the lane
     * with it. */
    int (*block)(void *owner, struct lane *l, struct chunk *chunk, const uint8_t *payload, uint32_t len);
    /* Room for more: write blocks while lane_room() and something is there. */
    void (*writable)(void *owner, struct lane *l);
    /* The connection is gone (after lane_close too, unless it was called by the owner). Free it from a later
     * turn. */
    void (*down)(void *owner, struct lane *l, int err);
};

/* A lane over fd, which it owns from now on (also when this fails). connecting: fd has a connect under way.
 * tls is borrowed for the call. 0 or -errno. The handshake must be done within timeout_us, else down with
 * -ETIMEDOUT. */
int lane_new(struct lane **out, struct loop *loop, SSL_CTX *tls, bool server, bool connecting, int fd,
             uint64_t timeout_us, const struct lane_events *events, void *owner);
void lane_free(struct lane *l);
/* For whoever keeps lanes in a list: the one that was put behind this one, at first NULL. */
void lane_put_next(struct lane *l, struct lane *next);
struct lane *lane_next(const struct lane *l);

/* Hand over to another loop: detach on the old thread, attach on the new one with the new owner. Only while
 * UP. */
void lane_detach(struct lane *l);
void lane_attach(struct lane *l, struct loop *loop, const struct lane_events *events, void *owner);

/* Close at once (what is written is flushed as far as the socket takes it, close_notify with it). No event
 * follows. */
void lane_close(struct lane *l);

/* The payload bytes that a block may have now: 0 while the out buffer is full or the lane not UP. Put
 * frames into lane_stage() and commit their length. The stage is shared by all lanes of a thread. */
uint32_t lane_room(const struct lane *l);
uint8_t *lane_stage(struct lane *l);
/* level: 0 leaves the block raw, 1 to 19 compresses it if that is likely to save anything and the peer can
 * decode it. Bytes of the block as it goes into TLS, or a negative error: the lane is down (event follows in
 * a later turn). */
int lane_commit(struct lane *l, uint32_t payload_bytes, int level);
/* How many bytes of frames a byte of blocks carried lately, times LANE_GAIN_ONE; somewhat less than that when
 * nothing can be saved. */
uint32_t lane_gain(const struct lane *l);
/* The level of the zstd frame that is open, 0: none is. */
int lane_level(const struct lane *l);
/* Asked now and then: a lane that compressed nothing for two seconds gives its zstd context back. */
void lane_rest(struct lane *l, uint64_t now_us);
/* How much the kernel should hold that it has not sent (TCP_NOTSENT_LOWAT). It looks only when it begins
 * another buffer of up to 64 KB, so for a short queue what is flushed at once gets a buffer of its own
 * (MSG_EOR). */
void lane_set_queue(struct lane *l, uint32_t bytes);
/* Hand the out buffer to the kernel as far as it takes it. Returns bytes still waiting. */
size_t lane_flush(struct lane *l);

enum lane_state lane_state(const struct lane *l);
const struct greeting *lane_greeting(const struct lane *l);
bool lane_is_dialled(const struct lane *l); /* by us */
const struct endpoint *lane_remote(const struct lane *l);
const uint8_t *lane_pin(const struct lane *l);
/* Ours, once it was sent: the peer's key was right. NULL before. */
const struct greeting *lane_own_greeting(const struct lane *l);
int lane_fd(const struct lane *l);

/* Of one direction. */
struct lane_block_counters {
    uint64_t blocks, raw_blocks;       /* raw: not worth compressing, or not wanted */
    uint64_t frame_bytes, block_bytes; /* before compression, and after it with headers */
};

struct lane_counters {
    uint64_t in_bytes, out_bytes; /* of ciphertext, from and to the socket */
    struct lane_block_counters in, out;
    uint64_t last_in_us, last_out_us; /* clock_now_us of the last byte from and to the socket */
};
const struct lane_counters *lane_counters(const struct lane *l);

#endif
