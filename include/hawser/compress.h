/* compress.h - one direction's zstd stream of a lane, a block at a time (floor 1, pure).
 * PROTOCOL.md, 'Blocks', has the bytes. A compressor turns a block's frames into the payload
 * of a block of kind BLOCK_ZSTD, a decompressor turns it back; what is in a block they do not know. No fd or
 * clock.
 *
 * All blocks of a direction are one stream, so that later ones refer to earlier ones. The stream is zstd
 * frames (RFC 8878) end to end; each begins and ends where a payload does. Between two of them neither end
 * holds a context: an idle lane ends its frame and gives the context back, and a level changes only there.
 *
 * Contexts come from a pool of the calling thread. One thread a context at a time; it may be given back on
 * another one than it was taken on. */
#ifndef HAWSER_COMPRESS_H
#define HAWSER_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/frame.h"

enum {
    COMPRESS_LEVEL_MIN = 1,
    COMPRESS_LEVEL_MAX = 19,
    COMPRESS_WINDOW_LOG = 21,   /* a frame that wants its decoder to keep more than 2 MB is refused */
    COMPRESS_INPUT_MAX = 65024, /* so that the payload fits a block even when nothing can be saved */
    COMPRESS_SAMPLE_BYTES = 1024,
};

/* ---- worth it? ---- */

/* Whether zstd is likely to save anything on these bytes. Looks at 1 KB, taken as 16 times 64 bytes: the sum
 * of squares of how often each byte value occurs is least for random bytes, and within a quarter of that for
 * what is compressed or encrypted already. Fewer bytes than 512 are always worth it: they are no sample. */
bool compress_is_worth(const uint8_t *bytes, size_t len);

/* ---- out ---- */

struct compressor;

/* NULL when memory is out, or the cap reached: send the block raw. */
struct compressor *compressor_take(int level);
int compressor_level(const struct compressor *c);
/* Compress len bytes (at most COMPRESS_INPUT_MAX) into a block's payload, all of which the other end can
 * decode at once; last: the frame ends with them, and the next call begins another. len may be 0 only to end
 * a frame that was begun. The payload's length, or -ENOMEM or -ERR_COMPRESSED: the stream is broken then and
 * what is left is to give the compressor back and end the lane. */
int compressor_put(struct compressor *c, uint8_t out[static BLOCK_PAYLOAD_MAX], const uint8_t *bytes,
                   size_t len, bool last);
/* A frame has begun and has not ended. */
bool compressor_is_open(const struct compressor *c);
/* Back to the pool, whatever state it is in. NULL is fine. */
void compressor_give(struct compressor *c);

/* ---- in ---- */

struct decompressor;

/* What a payload claims, before anything is decoded: 0 with the decoded length and the piece of the stream
 * that follows (borrowed), or -ERR_WIRE_... */
int compress_payload_get(const uint8_t *payload, size_t len, uint32_t *decoded_len, const uint8_t **piece,
                         size_t *piece_len);

struct decompressor *decompressor_take(void); /* NULL: memory is out */
/* Decode a piece into out; it must give exactly out_len bytes, or 0 bytes and the frame's end. 1: the frame
 * ended with it, the decompressor may be given back; 0: it goes on; -ENOMEM or -ERR_COMPRESSED: give it back
 * and end the lane. */
int decompressor_get(struct decompressor *d, uint8_t *out, size_t out_len, const uint8_t *piece,
                     size_t piece_len);
void decompressor_give(struct decompressor *d);

/* ---- memory ---- */

/* Bytes that all contexts of the process take now, those in pools too. Any thread. */
uint64_t compress_bytes_total(void);
/* Past so many no compressor is made anew; what is compressed by the peers is decoded all the same, a context
 * of at most 2.5 MB a lane. UINT64_MAX at first. */
void compress_set_cap(uint64_t bytes);

/* Free the calling thread's pool; at its end. */
void compress_thread_end(void);

#endif
