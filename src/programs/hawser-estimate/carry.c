/* carry.c - see carry.h. */
#include "carry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/compress.h"
#include "hawser/session.h"

enum {
    REFERENCE_MIN_BYTES = 16,
    PARTS_MAX = 1024,       /* pieces of streams in a block, for who pays how much of it */
    LEAST_COMPRESSED = 128, /* bytes of frames; fewer go raw, as in a lane */
    TLS_RECORD_BYTES = 16384,
    TLS_OVERHEAD_BYTES = 5 + 1 + 16, /* header, content type, tag */
};

/* A block that is being filled. */
struct block {
    uint8_t bytes[COMPRESS_INPUT_MAX];
    uint32_t len;
    bool raw; /* of what it holds nothing is to be compressed */
    struct {
        struct carry_tally *tally;
        uint32_t bytes;
    } parts[PARTS_MAX];
    uint32_t part_count;
    struct compressor *compressor;
};

struct carry {
    struct budget memory;
    struct store *store;
    struct holdings holdings;
    int level;
    uint64_t sessions;
    struct slices pieces; /* of the span that is taken, or of several that were held whole */
    bool held;            /* all of them are */
    struct carry_stream *owner;
    struct block blocks[CARRY_WAYS];
};

static void forget(void *owner, const struct segment_id *id)
{
    struct carry *c = owner;
    holdings_forget(&c->holdings, id);
}

int carry_new(struct carry **out, uint64_t store_bytes, int level)
{
    static const struct store_events events = {.evicted = forget};
    struct carry *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    budget_init(&c->memory, store_bytes);
    /* Any seed does: nobody chooses these bytes so as to collide, and the same input gives the same answer.
     */
    int err = store_new(&c->store, &c->memory, store_bytes, 1, 1, &events, c);
    if (err < 0) {
        free(c);
        return err;
    }
    c->level = level;
    *out = c;
    return 0;
}

void carry_free(struct carry *c)
{
    if (c == NULL)
        return;
    for (unsigned way = 0; way < CARRY_WAYS; way++)
        compressor_give(c->blocks[way].compressor);
    slices_clear(&c->pieces);
    store_free(c->store);
    holdings_clear(&c->holdings);
    compress_thread_end();
    chunk_thread_end();
    free(c);
}

void carry_read_store(const struct carry *c, struct store_counters *out)
{
    store_read_counters(c->store, out);
}

/* ---- blocks ---- */

/* Everybody in the block pays by the length of its frames. */
static void share_out(struct block *b, uint64_t wire_bytes)
{
    uint64_t paid = 0;
    for (uint32_t i = 0; i < b->part_count; i++) {
        uint64_t part = i + 1 < b->part_count ? wire_bytes * b->parts[i].bytes / b->len : wire_bytes - paid;
        b->parts[i].tally->frame_bytes += b->parts[i].bytes;
        b->parts[i].tally->wire_bytes += part;
        paid += part;
    }
    b->part_count = b->len = 0;
}

static int flush_block(struct carry *c, unsigned way)
{
    static uint8_t payload[BLOCK_PAYLOAD_MAX];
    struct block *b = &c->blocks[way];
    uint64_t len = b->len;
    if (len == 0)
        return 0;
    if (!b->raw && c->level > 0 && len >= LEAST_COMPRESSED && compress_is_worth(b->bytes, b->len)) {
        if (b->compressor == NULL)
            b->compressor = compressor_take(c->level);
        int n =
            b->compressor != NULL ? compressor_put(b->compressor, payload, b->bytes, b->len, false) : -ENOMEM;
        if (n < 0)
            return n;
        len = (uint64_t)n;
    }
    len += BLOCK_HEADER_BYTES;
    share_out(b, len + (len + TLS_RECORD_BYTES - 1) / TLS_RECORD_BYTES * TLS_OVERHEAD_BYTES);
    return 0;
}

/* Where the stream's next frame goes; its block has more than BLOCK_TAIL_BYTES left. */
static int begin_frame(struct carry *c, struct carry_stream *s, size_t least, struct cursor_out *out)
{
    struct block *b = &c->blocks[s->way];
    if ((b->len > 0 && b->raw != s->encrypted) || b->part_count == PARTS_MAX ||
        sizeof(b->bytes) - b->len < least) {
        int err = flush_block(c, s->way);
        if (err < 0)
            return err;
    }
    b->raw = s->encrypted;
    *out = cursor_out_over(b->bytes + b->len, sizeof(b->bytes) - b->len);
    return 0;
}

static void end_frame(struct carry *c, struct carry_stream *s, const struct cursor_out *out)
{
    struct block *b = &c->blocks[s->way];
    uint32_t end = (uint32_t)(out->at - b->bytes);
    b->parts[b->part_count].tally = s->tally;
    b->parts[b->part_count++].bytes = end - b->len;
    b->len = end;
}

/* ---- frames ---- */

enum { LEAST_ROOM_BYTES = STORED_HEADER_MAX + STORED_OP_MAX + 64 };

static int put_small(struct carry *c, struct carry_stream *s, const struct frame *f)
{
    struct cursor_out out;
    int err = begin_frame(c, s, FRAME_CONTROL_MAX, &out);
    if (err < 0)
        return err;
    err = frame_put(&out, f);
    if (err == 0)
        end_frame(c, s, &out);
    return err;
}

static int put_plain(struct carry *c, struct carry_stream *s, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        struct cursor_out out;
        int err = begin_frame(c, s, FRAME_DATA_HEADER_MAX + 64, &out);
        if (err < 0)
            return err;
        size_t most = cursor_out_left(&out) - FRAME_DATA_HEADER_MAX;
        most = most < FRAME_DATA_MAX ? most : FRAME_DATA_MAX;
        uint32_t now = (uint32_t)(len < most ? len : most);
        memcpy(frame_put_data(&out, s->session, s->offset, now), bytes, now);
        end_frame(c, s, &out);
        s->offset += now;
        bytes += now;
        len -= now;
    }
    return 0;
}

/* As much of a piece as goes into one operation; 0: no room. */
static uint32_t put_part(struct carry *c, struct carry_stream *s, struct stored_writer *w,
                         const struct slice *part, uint64_t *checksum)
{
    const struct segment_id *id = &part->chunk->segment;
    bool held;
    uint32_t len = holdings_span(&c->holdings, id, 0, part->off, part->len, &held);
    if (held && len >= REFERENCE_MIN_BYTES) {
        if (!stored_put_reference(w, id, part->off, len))
            return 0;
        *checksum = stored_checksum(*checksum, slice_bytes(part), len);
        s->tally->saved_bytes += len;
        return len;
    }
    uint32_t room = stored_room(w, id);
    len = len < room ? len : room;
    if (len == 0)
        return 0;
    memcpy(stored_put_literal(w, id, part->off, len), slice_bytes(part), len);
    holdings_add(&c->holdings, id, HOLDINGS_THEIRS, part->off, len);
    return len;
}

/* One STORED frame from the front of the pieces. */
static int put_stored(struct carry *c, struct carry_stream *s)
{
    struct cursor_out out;
    struct stored_writer w;
    uint64_t checksum = 0;
    int err = begin_frame(c, s, LEAST_ROOM_BYTES, &out);
    if (err < 0)
        return err;
    if (!stored_begin(&w, &out, s->session, s->offset))
        return -ERR_WIRE_LONG;
    while (c->pieces.count > 0 && w.raw_bytes < STORED_RAW_MAX) {
        struct slice part = *slices_at(&c->pieces, 0);
        uint32_t left = STORED_RAW_MAX - w.raw_bytes;
        part.len = part.len < left ? part.len : left;
        uint32_t len = put_part(c, s, &w, &part, &checksum);
        if (len == 0)
            break;
        slices_drop(&c->pieces, len);
    }
    stored_end(&w, (uint32_t)checksum);
    s->offset += w.raw_bytes;
    if (w.raw_bytes > 0)
        end_frame(c, s, &out);
    else
        err = flush_block(c, s->way); /* a fresh block has room */
    return err;
}

/* All pieces into frames. */
static int put_pieces(struct carry *c)
{
    int err = 0;
    while (err == 0 && c->pieces.count > 0)
        err = put_stored(c, c->owner);
    c->held = true;
    return err;
}

/* ---- streams ---- */

static int keep_piece(void *arg, struct slice piece)
{
    struct carry *c = arg;
    bool held;
    uint32_t alike = holdings_span(&c->holdings, &piece.chunk->segment, 0, piece.off, piece.len, &held);
    c->held = c->held && held && alike == piece.len;
    return slices_extend(&c->pieces, piece) ? 0 : slices_push(&c->pieces, piece);
}

/* A span goes through the store as a session's read does; what is held whole waits for more of the same, so
 * that references grow long. */
static int take_span(struct carry *c, struct carry_stream *s, const uint8_t *bytes, uint32_t len)
{
    int err = c->owner != s ? put_pieces(c) : 0;
    if (err < 0)
        return err;
    c->owner = s;
    bool stored = !s->encrypted && len >= SESSION_STORE_MIN_BYTES;
    err = stored ? store_take(c->store, &s->stored, bytes, len, keep_piece, c) : -ENOBUFS;
    if (err == -ENOMEM)
        return err;
    if (err == 0)
        return c->held && c->pieces.bytes < SESSION_LINGER_BYTES ? 0 : put_pieces(c);
    err = put_pieces(c);
    return err < 0 ? err : put_plain(c, s, bytes, len);
}

int carry_bytes(struct carry *c, struct carry_stream *s, const uint8_t *bytes, size_t len)
{
    int err = 0;
    s->tally->bytes += len;
    while (err == 0 && len > 0) {
        uint32_t span = len < STORE_TAKE_MOST_BYTES ? (uint32_t)len : STORE_TAKE_MOST_BYTES;
        err = take_span(c, s, bytes, span);
        bytes += span;
        len -= span;
    }
    return err;
}

int carry_open(struct carry *c, struct carry_stream *s, unsigned way, struct carry_tally *tally)
{
    struct frame f = {.type = FRAME_OPEN};
    memset(s, 0, sizeof(*s));
    s->session = f.session = ++c->sessions << 1;
    s->way = way;
    s->tally = tally;
    f.open.client.addr.family = f.open.server.addr.family = AF_INET;
    f.open.class_name = "";
    f.open.raw_limit = SESSION_RAW_WINDOW;
    f.open.cost_limit = SESSION_WINDOW_MIN;
    return put_small(c, s, &f);
}

void carry_open_back(const struct carry_stream *client, struct carry_stream *s, struct carry_tally *tally)
{
    memset(s, 0, sizeof(*s));
    s->session = client->session;
    s->way = !client->way;
    s->tally = tally;
}

int carry_pause(struct carry *c, struct carry_stream *s)
{
    int err = c->owner == s ? put_pieces(c) : 0;
    return err < 0 ? err : flush_block(c, s->way);
}

int carry_close(struct carry *c, struct carry_stream *s)
{
    struct frame f = {.type = FRAME_FIN, .session = s->session};
    int err = c->owner == s ? put_pieces(c) : 0;
    f.fin.final = s->offset;
    if (err == 0)
        err = put_small(c, s, &f);
    if (err == 0)
        err = flush_block(c, s->way);
    store_stream_end(c->store, &s->stored);
    if (c->owner == s)
        c->owner = NULL;
    return err;
}
