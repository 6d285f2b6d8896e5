#include "hawser/frame.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/stored.h"

static_assert(FRAME_DATA_HEADER_MAX + FRAME_DATA_MAX <= BLOCK_PAYLOAD_MAX, "the longest DATA fits one block");
static_assert(1 + 10 + 1 + 2 * (16 + 2) + 1 + 1 + FRAME_CLASS_MAX + 10 + 10 <= FRAME_CONTROL_MAX,
              "the longest OPEN");

enum { WIRE_IPV4 = 4, WIRE_IPV6 = 6, DSCP_MAX = 63 };

const char *frame_rst_text(enum frame_rst_reason reason)
{
    switch (reason) {
#define RST_CASE(name, number, text)                                                                         \
    case name:                                                                                               \
        return text;
        FRAME_RST_TABLE(RST_CASE)
#undef RST_CASE
    default:
        return frame_rst_text(FRAME_RST_OTHER);
    }
}

static bool type_is_known(uint8_t byte)
{
    switch (byte) {
#define TYPE_KNOWN(name, number) case number:
        FRAME_TABLE(TYPE_KNOWN)
#undef TYPE_KNOWN
        return true;
    default:
        return false;
    }
}

/* ---- writing ---- */

static void put_endpoint(struct cursor_out *out, const struct endpoint *e)
{
    cursor_put_bytes(out, e->addr.bytes, e->addr.family == AF_INET ? 4 : 16);
    cursor_put_be(out, e->port, 2);
}

static void put_open(struct cursor_out *out, const struct frame *f)
{
    uint8_t family = f->open.client.addr.family;
    assert((family == AF_INET || family == AF_INET6) && f->open.server.addr.family == family);
    assert(f->open.dscp <= DSCP_MAX && f->open.class_len <= FRAME_CLASS_MAX);
    assert(f->open.raw_limit <= FRAME_OFFSET_MAX && f->open.cost_limit <= FRAME_OFFSET_MAX);
    cursor_put_be(out, family == AF_INET ? WIRE_IPV4 : WIRE_IPV6, 1);
    put_endpoint(out, &f->open.client);
    put_endpoint(out, &f->open.server);
    cursor_put_be(out, f->open.dscp, 1);
    cursor_put_be(out, f->open.class_len, 1);
    cursor_put_text(out, f->open.class_name, f->open.class_len);
    cursor_put_varint(out, f->open.raw_limit);
    cursor_put_varint(out, f->open.cost_limit);
}

static void put_data_header(struct cursor_out *out, uint64_t offset, uint32_t len)
{
    assert(len >= 1 && len <= FRAME_DATA_MAX && offset <= FRAME_OFFSET_MAX - len);
    cursor_put_varint(out, offset);
    cursor_put_varint(out, len);
}

static void put_rst(struct cursor_out *out, const struct frame *f)
{
    assert(f->rst.answer <= 1 && f->rst.final <= FRAME_OFFSET_MAX);
    cursor_put_be(out, f->rst.reason, 1);
    cursor_put_be(out, f->rst.answer, 1);
    cursor_put_varint(out, f->rst.final);
}

static void put_segment(struct cursor_out *out, const struct frame *f)
{
    assert(f->segment.segment.epoch != 0);
    cursor_put_be(out, f->segment.segment.epoch, 8);
    cursor_put_varint(out, f->segment.segment.number);
    if (f->type == FRAME_DROP)
        return;
    assert(f->segment.from < f->segment.to && f->segment.to <= STORED_SEGMENT_SPAN);
    cursor_put_varint(out, f->segment.from);
    cursor_put_varint(out, f->segment.to - f->segment.from);
}

static void put_fields(struct cursor_out *out, const struct frame *f)
{
    switch (f->type) {
    case FRAME_OPEN:
        put_open(out, f);
        return;
    case FRAME_DATA:
        put_data_header(out, f->data.offset, f->data.len);
        cursor_put_bytes(out, f->data.bytes, f->data.len);
        return;
    case FRAME_ACK:
        assert(f->ack.offset <= FRAME_OFFSET_MAX + 1);
        cursor_put_varint(out, f->ack.offset);
        return;
    case FRAME_CREDIT:
        assert(f->credit.raw_limit <= FRAME_OFFSET_MAX && f->credit.cost_limit <= FRAME_OFFSET_MAX);
        cursor_put_varint(out, f->credit.raw_limit);
        cursor_put_varint(out, f->credit.cost_limit);
        return;
    case FRAME_FIN:
        assert(f->fin.final <= FRAME_OFFSET_MAX);
        cursor_put_varint(out, f->fin.final);
        return;
    case FRAME_RST:
        put_rst(out, f);
        return;
    case FRAME_PING:
    case FRAME_PONG:
        cursor_put_varint(out, f->ping.token);
        return;
    case FRAME_MISS:
        assert(f->miss.len > 0 && f->miss.offset <= FRAME_OFFSET_MAX - f->miss.len);
        cursor_put_varint(out, f->miss.offset);
        cursor_put_varint(out, f->miss.len);
        return;
    case FRAME_HOLD:
    case FRAME_DROP:
        put_segment(out, f);
        return;
    case FRAME_STORED:
        assert(false && "STORED is written by stored_begin");
        return;
    }
}

static bool has_session(enum frame_type type)
{
    return type != FRAME_PING && type != FRAME_PONG && type != FRAME_HOLD && type != FRAME_DROP;
}

static void put_head(struct cursor_out *out, enum frame_type type, uint64_t session)
{
    cursor_put_be(out, type, 1);
    if (!has_session(type))
        return;
    assert(session >= FRAME_SESSION_MIN);
    cursor_put_varint(out, session);
}

int frame_put(struct cursor_out *out, const struct frame *f)
{
    uint8_t *was = out->at;
    assert(type_is_known((uint8_t)f->type));
    put_head(out, f->type, f->session);
    put_fields(out, f);
    if (out->err != 0)
        out->at = was;
    return out->err;
}

uint8_t *frame_put_data(struct cursor_out *out, uint64_t session, uint64_t offset, uint32_t len)
{
    uint8_t *was = out->at;
    put_head(out, FRAME_DATA, session);
    put_data_header(out, offset, len);
    if (out->err == 0 && len > cursor_out_left(out))
        out->err = -ERR_WIRE_LONG;
    if (out->err != 0) {
        out->at = was;
        return NULL;
    }
    uint8_t *bytes = out->at;
    out->at += len;
    return bytes;
}

/* ---- reading: each field is bounded as it is read; the first breach stays in the cursor ---- */

static uint64_t get_at_most(struct cursor *c, uint64_t max)
{
    uint64_t v = cursor_varint(c);
    if (v > max)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    return v;
}

static void get_endpoint(struct cursor *c, uint8_t family, struct endpoint *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    size_t len = family == AF_INET ? 4 : 16;
    const uint8_t *p = cursor_bytes(c, len);
    /* An IPv4 address in IPv6's clothes would pass checks that are made for the one and reach the other. */
    if (p != NULL && family == AF_INET6 && memcmp(p, mapped, sizeof(mapped)) == 0)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    if (p != NULL)
        memcpy(out->addr.bytes, p, len);
    out->addr.family = family;
    out->port = cursor_u16(c);
}

static void get_open(struct cursor *c, struct frame *f)
{
    uint8_t version = cursor_u8(c);
    if (version != WIRE_IPV4 && version != WIRE_IPV6)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    uint8_t family = version == WIRE_IPV4 ? AF_INET : AF_INET6;
    get_endpoint(c, family, &f->open.client);
    get_endpoint(c, family, &f->open.server);
    f->open.dscp = cursor_u8(c);
    if (f->open.dscp > DSCP_MAX)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    f->open.class_len = cursor_u8(c);
    if (f->open.class_len > FRAME_CLASS_MAX)
        cursor_refuse(c, -ERR_WIRE_LONG);
    f->open.class_name = cursor_text(c, f->open.class_len);
    f->open.raw_limit = get_at_most(c, FRAME_OFFSET_MAX);
    f->open.cost_limit = get_at_most(c, FRAME_OFFSET_MAX);
}

static void get_data(struct cursor *c, struct frame *f)
{
    f->data.offset = cursor_varint(c);
    uint64_t len = cursor_varint(c);
    if (len > FRAME_DATA_MAX)
        cursor_refuse(c, -ERR_WIRE_LONG);
    if (len == 0 || f->data.offset > FRAME_OFFSET_MAX - len)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    f->data.len = (uint32_t)len;
    f->data.bytes = cursor_bytes(c, f->data.len);
}

static enum frame_rst_reason rst_reason(uint8_t byte)
{
    switch (byte) {
#define RST_KNOWN(name, number, text)                                                                        \
    case number:                                                                                             \
        return name;
        FRAME_RST_TABLE(RST_KNOWN)
#undef RST_KNOWN
    default:
        return FRAME_RST_OTHER; /* a later version's reason: still a reset */
    }
}

static void get_rst(struct cursor *c, struct frame *f)
{
    f->rst.reason = rst_reason(cursor_u8(c));
    f->rst.answer = cursor_u8(c);
    if (f->rst.answer > 1)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    f->rst.final = get_at_most(c, FRAME_OFFSET_MAX);
}

static void get_session(struct cursor *c, struct frame *f)
{
    f->session = cursor_varint(c);
    if (f->session < FRAME_SESSION_MIN)
        cursor_refuse(c, -ERR_WIRE_VALUE);
}

static void get_stored(struct cursor *c, struct frame *f)
{
    f->stored.offset = cursor_varint(c);
    f->stored.raw_bytes = (uint32_t)cursor_be(c, 4);
    f->stored.checksum = (uint32_t)cursor_be(c, 4);
    f->stored.ops_bytes = cursor_u16(c);
    if (f->stored.raw_bytes > STORED_RAW_MAX || f->stored.ops_bytes > STORED_OPS_BYTES_MAX)
        cursor_refuse(c, -ERR_WIRE_LONG);
    if (f->stored.raw_bytes == 0 || f->stored.offset > FRAME_OFFSET_MAX - f->stored.raw_bytes)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    f->stored.ops = cursor_bytes(c, f->stored.ops_bytes);
    int err = c->err == 0 ? stored_check(f->stored.ops, f->stored.ops_bytes, f->stored.raw_bytes) : 0;
    if (err < 0)
        cursor_refuse(c, err);
}

static void get_segment(struct cursor *c, struct frame *f)
{
    f->segment.segment.epoch = cursor_be(c, 8);
    f->segment.segment.number = (uint32_t)get_at_most(c, UINT32_MAX);
    if (f->segment.segment.epoch == 0)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    if (f->type == FRAME_DROP)
        return;
    uint64_t from = get_at_most(c, STORED_SEGMENT_SPAN), len = get_at_most(c, STORED_SEGMENT_SPAN);
    if (len == 0 || from > STORED_SEGMENT_SPAN - len)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    f->segment.from = (uint32_t)from;
    f->segment.to = (uint32_t)(from + len);
}

static void get_fields(struct cursor *c, struct frame *f)
{
    if (has_session(f->type))
        get_session(c, f);
    switch (f->type) {
    case FRAME_OPEN:
        get_open(c, f);
        return;
    case FRAME_DATA:
        get_data(c, f);
        return;
    case FRAME_ACK:
        f->ack.offset = get_at_most(c, FRAME_OFFSET_MAX + 1);
        return;
    case FRAME_CREDIT:
        f->credit.raw_limit = get_at_most(c, FRAME_OFFSET_MAX);
        f->credit.cost_limit = get_at_most(c, FRAME_OFFSET_MAX);
        return;
    case FRAME_FIN:
        f->fin.final = get_at_most(c, FRAME_OFFSET_MAX);
        return;
    case FRAME_RST:
        get_rst(c, f);
        return;
    case FRAME_PING:
    case FRAME_PONG:
        f->ping.token = cursor_varint(c);
        return;
    case FRAME_STORED:
        get_stored(c, f);
        return;
    case FRAME_MISS:
        f->miss.offset = get_at_most(c, FRAME_OFFSET_MAX);
        f->miss.len = get_at_most(c, FRAME_OFFSET_MAX);
        if (f->miss.len == 0 || f->miss.offset > FRAME_OFFSET_MAX - f->miss.len)
            cursor_refuse(c, -ERR_WIRE_VALUE);
        return;
    case FRAME_HOLD:
    case FRAME_DROP:
        get_segment(c, f);
        return;
    }
}

int frame_next(struct cursor *block, struct frame *f)
{
    if (block->err != 0)
        return block->err;
    if (cursor_left(block) == 0)
        return 0;
    const uint8_t *begin = block->at;
    uint8_t type = cursor_u8(block);
    if (!type_is_known(type)) {
        cursor_refuse(block, -ERR_WIRE_UNKNOWN);
        return block->err;
    }
    struct frame got;
    memset(&got, 0, sizeof(got));
    got.type = (enum frame_type)type;
    get_fields(block, &got);
    if (block->err != 0)
        return block->err;
    got.wire_bytes = (uint32_t)(block->at - begin);
    *f = got;
    return 1;
}

/* ---- blocks ---- */

void block_header_put(uint8_t out[static BLOCK_HEADER_BYTES], enum block_kind kind, uint32_t payload_bytes)
{
    assert(payload_bytes >= 1 && payload_bytes <= BLOCK_PAYLOAD_MAX);
    struct cursor_out c = cursor_out_over(out, BLOCK_HEADER_BYTES);
    cursor_put_be(&c, kind, 1);
    cursor_put_be(&c, payload_bytes, 3);
}

int block_header_get(const uint8_t in[static BLOCK_HEADER_BYTES], enum block_kind *kind,
                     uint32_t *payload_bytes)
{
    struct cursor c = cursor_over(in, BLOCK_HEADER_BYTES);
    uint8_t kind_byte = cursor_u8(&c);
    uint32_t len = (uint32_t)cursor_be(&c, 3);
    if (kind_byte != BLOCK_RAW && kind_byte != BLOCK_ZSTD)
        return -ERR_WIRE_UNKNOWN;
    if (len > BLOCK_PAYLOAD_MAX)
        return -ERR_WIRE_LONG;
    if (len == 0)
        return -ERR_WIRE_VALUE;
    *kind = (enum block_kind)kind_byte;
    *payload_bytes = len;
    return 0;
}
