/* fuzz_frame.c - blocks and frames from hostile bytes.
 * The input is read twice: as a lane's stream of blocks, and as one block's payload (so that a change of a
 * frame's length is not hidden behind the block's). Beyond "no crash", what was read must be within the
 * bounds that frame.h promises, and must give the same bytes when put again. */
#include <stdlib.h>
#include <string.h>

#include "hawser/frame.h"
#include "hawser/stored.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

static void check_bounds(const struct frame *f)
{
    bool of_session =
        f->type != FRAME_PING && f->type != FRAME_PONG && f->type != FRAME_HOLD && f->type != FRAME_DROP;
    CHECK(!of_session || f->session >= FRAME_SESSION_MIN);
    if (f->type == FRAME_OPEN) {
        CHECK(f->open.client.addr.family == f->open.server.addr.family);
        CHECK(f->open.dscp < 64 && f->open.class_len <= FRAME_CLASS_MAX);
        for (size_t i = 0; i < f->open.class_len; i++)
            CHECK((uint8_t)f->open.class_name[i] >= 0x20);
    }
    if (f->type == FRAME_DATA) {
        CHECK(f->data.len >= 1 && f->data.len <= FRAME_DATA_MAX);
        CHECK(f->data.offset + f->data.len <= FRAME_OFFSET_MAX);
    }
}

/* The frame's bytes are [was, now) of the block. */
static void check_round_trip(const struct frame *f, const uint8_t *was, const uint8_t *now)
{
    static uint8_t again[FRAME_DATA_HEADER_MAX + FRAME_DATA_MAX];
    size_t len = (size_t)(now - was);
    if (f->type == FRAME_STORED) {
        CHECK(stored_check(f->stored.ops, f->stored.ops_bytes, f->stored.raw_bytes) == 0);
        return; /* operations have several spellings */
    }
    CHECK(f->type == FRAME_DATA || len <= FRAME_CONTROL_MAX);
    struct cursor_out out = cursor_out_over(again, len);
    CHECK(frame_put(&out, f) == 0);
    CHECK(out.at == again + len);
    if (f->type == FRAME_RST && f->rst.reason == FRAME_RST_OTHER)
        return; /* the byte may have been a reason that we do not know */
    CHECK(memcmp(again, was, len) == 0);
}

static void read_payload(const uint8_t *bytes, size_t len)
{
    uint8_t *exact = malloc(len > 0 ? len : 1); /* on its own, so that a read past the block is seen */
    CHECK(exact != NULL);
    if (len > 0)
        memcpy(exact, bytes, len);
    struct cursor block = cursor_over(exact, len);
    struct frame f;
    const uint8_t *was = block.at;
    int got;
    while ((got = frame_next(&block, &f)) == 1) {
        check_bounds(&f);
        check_round_trip(&f, was, block.at);
        was = block.at;
    }
    CHECK(got == 0 ? block.at == block.end : frame_next(&block, &f) == got);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    read_payload(input, len <= BLOCK_PAYLOAD_MAX ? len : BLOCK_PAYLOAD_MAX);
    while (len >= BLOCK_HEADER_BYTES) {
        enum block_kind kind;
        uint32_t payload_bytes;
        if (block_header_get(input, &kind, &payload_bytes) < 0)
            return 0;
        input += BLOCK_HEADER_BYTES;
        len -= BLOCK_HEADER_BYTES;
        CHECK((kind == BLOCK_RAW || kind == BLOCK_ZSTD) && payload_bytes >= 1 &&
              payload_bytes <= BLOCK_PAYLOAD_MAX);
        if (len < payload_bytes)
            return 0; /* the lane would wait for more */
        if (kind == BLOCK_RAW)
            read_payload(input, payload_bytes);
        input += payload_bytes;
        len -= payload_bytes;
    }
    return 0;
}
