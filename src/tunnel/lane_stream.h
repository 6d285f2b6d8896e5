/* lane_stream.h - the blocks of one lane: raw or compressed, and back (floor 4). Only lane.c includes this.
 * It holds the lane's two zstd contexts while a frame of theirs is open, and none while the lane is idle.
 * PROTOCOL.md, 'Blocks'. The lane's thread. */
#ifndef HAWSER_LANE_STREAM_H
#define HAWSER_LANE_STREAM_H

#include "hawser/chunk.h"
#include "hawser/compress.h"
#include "hawser/lane.h"

struct lane_stream {
    bool compresses; /* both greetings say so */
    struct compressor *out;
    struct decompressor *in;
    struct chunk *decoded; /* where blocks are decoded into, as long as they fit */
    uint32_t decoded_fill;
    uint64_t used_us;  /* when a block was compressed last */
    uint64_t began_us; /* the frame: its level stays for a while */
    uint32_t gain;     /* see lane_gain */
};

void lane_stream_init(struct lane_stream *s);
void lane_stream_free(struct lane_stream *s);

/* Make a block of len bytes of frames, which stand BLOCK_HEADER_BYTES behind the start of stage. level: as
 * lane_commit has it. *wire is what is to be written (borrowed until the thread's next call: the stage, or a
 * buffer of this module), which may begin with the block that ends a frame of another level. Its length, or a
 * negative error. */
int lane_stream_put(struct lane_stream *s, uint8_t *stage, uint32_t len, int level, uint64_t now_us,
                    struct lane_block_counters *counters, const uint8_t **wire);

/* End the frame, if one is open and none of its blocks is younger than idle_us, and give its context back;
 * length and *wire as above, 0 when there is nothing to end. */
int lane_stream_end(struct lane_stream *s, uint64_t now_us, uint64_t idle_us, const uint8_t **wire);

/* The frames of a block, whose payload stands in *chunk: where it is compressed, *chunk (borrowed, to be
 * referenced further) and *payload are changed to what it was decoded to. The length of the frames, 0 when
 * the block only ends a zstd frame, or a negative error. */
int lane_stream_get(struct lane_stream *s, enum block_kind kind, const uint8_t **payload, uint32_t len,
                    struct chunk **chunk, struct lane_block_counters *counters);
/* Nothing more to decode for now. */
void lane_stream_rest(struct lane_stream *s);

#endif
