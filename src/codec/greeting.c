#include "hawser/greeting.h"

#include <assert.h>
#include <string.h>

#include "hawser/cursor.h"
#include "hawser/frame.h"

/* Line ends in it, so that a connection which is not what it seems (a text proxy, a port scanner's HTTP) is
 * told apart by its first bytes. */
static const uint8_t magic[8] = {'H', 'A', 'W', 'S', 'E', 'R', '\r', '\n'};
static_assert(GREETING_PREFIX_BYTES == sizeof(magic) + 2, "the prefix is magic and version");

static bool is_zero(const uint8_t instance[static GREETING_INSTANCE_BYTES])
{
    static const uint8_t zero[GREETING_INSTANCE_BYTES];
    return memcmp(instance, zero, sizeof(zero)) == 0;
}

void greeting_put(uint8_t out[static GREETING_BYTES], const struct greeting *g)
{
    size_t name_len = strnlen(g->name, GREETING_NAME_MAX);
    assert(!is_zero(g->instance) && g->opening_credit_bytes <= FRAME_OFFSET_MAX);
    struct cursor_out c = cursor_out_over(out, GREETING_BYTES);
    cursor_put_bytes(&c, magic, sizeof(magic));
    cursor_put_be(&c, g->version, 2);
    cursor_put_be(&c, g->features, 8);
    cursor_put_bytes(&c, g->instance, GREETING_INSTANCE_BYTES);
    cursor_put_be(&c, g->opening_credit_bytes, 8);
    cursor_put_be(&c, g->slot, 1);
    cursor_put_be(&c, name_len, 1);
    cursor_put_text(&c, g->name, name_len);
    memset(c.at, 0, cursor_out_left(&c));
}

uint16_t greeting_prefix_version(const uint8_t in[static GREETING_PREFIX_BYTES])
{
    struct cursor c = cursor_over(in + sizeof(magic), 2);
    return cursor_u16(&c);
}

int greeting_check_prefix(const uint8_t in[static GREETING_PREFIX_BYTES])
{
    if (memcmp(in, magic, sizeof(magic)) != 0)
        return -ERR_GREETING;
    return greeting_prefix_version(in) == PROTOCOL_VERSION ? 0 : -ERR_VERSION;
}

/* The fields after the prefix. */
static void get_fields(struct cursor *c, struct greeting *g)
{
    g->features = cursor_be(c, 8);
    const uint8_t *instance = cursor_bytes(c, GREETING_INSTANCE_BYTES);
    g->opening_credit_bytes = cursor_be(c, 8);
    g->slot = cursor_u8(c);
    size_t name_len = cursor_u8(c);
    if (name_len > GREETING_NAME_MAX)
        cursor_refuse(c, -ERR_WIRE_LONG);
    const char *name = cursor_text(c, name_len);
    if (c->err != 0)
        return;
    if (is_zero(instance) || g->opening_credit_bytes > FRAME_OFFSET_MAX)
        cursor_refuse(c, -ERR_WIRE_VALUE);
    memcpy(g->instance, instance, GREETING_INSTANCE_BYTES);
    memcpy(g->name, name, name_len);
    g->name[name_len] = '\0';
}

int greeting_get(struct greeting *out, const uint8_t in[static GREETING_BYTES])
{
    int err = greeting_check_prefix(in);
    if (err < 0)
        return err;
    struct greeting g;
    memset(&g, 0, sizeof(g));
    g.version = greeting_prefix_version(in);
    struct cursor c = cursor_over(in + GREETING_PREFIX_BYTES, GREETING_BYTES - GREETING_PREFIX_BYTES);
    get_fields(&c, &g);
    if (c.err != 0)
        return c.err;
    *out = g;
    return 0;
}
