/* shelf_format.h - the bytes of a segment's file on disk (floor 1, pure: no descriptor). PROTOCOL.md, 'The
 * store on disk', has them; shelf_format.c is their only implementation. Input is never trusted: what does
 * not fit its sum is dropped. Any thread.
 *
 * A file is a header, a sample, and then a log of records, each a part of the segment. The sample is written
 * anew in its place when records are appended; a torn one, or one by another seed, is none, and the segment
 * is then not found by its content until it is written to again. A record that was cut short or changed costs
 * itself, and if its own head is concerned all that follows, since only the head tells where the next one
 * begins. All sums are seeded with that of the file's header, so a record of another file is none here. */
#ifndef HAWSER_SHELF_FORMAT_H
#define HAWSER_SHELF_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/chunk.h"
#include "hawser/sample.h"

enum {
    SHELF_VERSION = 2,
    SHELF_PIN_BYTES = 32,
    SHELF_HEADER_BYTES = 72,
    SHELF_SAMPLE_BYTES = 8 + 8 * SAMPLE_MOST + 8,
    SHELF_LOG_AT = SHELF_HEADER_BYTES + SHELF_SAMPLE_BYTES, /* where the records begin */
    SHELF_HEAD_BYTES = 32,                                  /* of a record */
    SHELF_RECORD_MOST = 1 << 20,                            /* bytes of the segment in one record */
    SHELF_SEGMENT_BYTES = 16 << 20,                         /* offsets are below it */
};

/* What a file says about itself. */
struct shelf_label {
    struct segment_id segment;
    uint32_t source;              /* as in store.h; 0: our own */
    uint32_t home;                /* number of the home whose store it is of */
    uint8_t pin[SHELF_PIN_BYTES]; /* of the node whose file it is */
};

/* Returns the file's key: the seed of all sums in it. */
uint64_t shelf_put_header(uint8_t out[static SHELF_HEADER_BYTES], const struct shelf_label *label);
/* False: no such header, or one of another version. */
bool shelf_get_header(const uint8_t bytes[static SHELF_HEADER_BYTES], struct shelf_label *label,
                      uint64_t *key);

/* seed: the sampler's. Sums depend on it, since samples of another seed would find nothing. */
void shelf_put_sample(uint8_t out[static SHELF_SAMPLE_BYTES], uint64_t key, uint64_t seed,
                      const struct sample *sample);
/* False, and an empty one: there is no such sample. */
bool shelf_get_sample(const uint8_t bytes[static SHELF_SAMPLE_BYTES], uint64_t key, uint64_t seed,
                      struct sample *sample);

/* The head of a record of [off, off + len), which the bytes follow; len is 1 to SHELF_RECORD_MOST. */
void shelf_put_head(uint8_t out[static SHELF_HEAD_BYTES], uint64_t key, uint32_t off, const uint8_t *bytes,
                    uint32_t len);

struct shelf_record {
    uint32_t off, len;
    const uint8_t *bytes; /* borrowed */
};

enum shelf_found {
    SHELF_RECORD,  /* a sound one */
    SHELF_CHANGED, /* one whose bytes are not what they were; it was stepped over */
    SHELF_MORE,    /* it goes on behind what is there (or the file was cut) */
    SHELF_BROKEN,  /* no record: nothing behind it can be found */
};
/* The next record in bytes[*at .. len), which moves on. */
enum shelf_found shelf_next(const uint8_t *bytes, size_t len, size_t *at, uint64_t key,
                            struct shelf_record *out);

#endif
