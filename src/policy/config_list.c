#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "config_value.h"
#include "hawser/units.h"

enum { ITEM_MAX = 64 }; /* bytes of one item, with its NUL: longer than any good one */

/* ---- networks ---- */

/* The prefix without the host bits that the user left in it. */
static void prefix_suggest(const char *text, char out[static PREFIX_TEXT_MAX])
{
    char host[ADDR_TEXT_MAX] = "";
    const char *slash = strchr(text, '/');
    struct prefix p = {0};
    memcpy(host, text, (size_t)(slash - text)); /* prefix_parse took both parts for good */
    p.len_bits = (uint8_t)strtoul(slash + 1, NULL, 10);
    (void)addr_parse(&p.addr, host);
    for (unsigned bit = p.len_bits; bit < sizeof(p.addr.bytes) * 8; bit++)
        p.addr.bytes[bit / 8] &= (uint8_t) ~(0x80 >> (bit % 8));
    prefix_format(&p, out);
}

/* Whether every address of p is one that no session may have. */
static bool prefix_is_special(const struct prefix *p)
{
    struct addr last = p->addr;
    bool v4 = last.family == AF_INET;
    /* 0.0.0.0/0 and ::/0 begin and end specially, but not between; no special block is as wide as this. */
    if (p->len_bits < (v4 ? 4 : 8))
        return false;
    for (unsigned bit = p->len_bits; bit < (v4 ? 32u : 128u); bit++)
        last.bytes[bit / 8] |= (uint8_t)(0x80 >> (bit % 8));
    return addr_is_special(&p->addr) && addr_is_special(&last);
}

static int prefix_read(const struct value *v, const char *item, struct prefix *out)
{
    char better[PREFIX_TEXT_MAX];
    int err = prefix_parse(out, item);
    if (err == -EDOM) {
        prefix_suggest(item, better);
        return value_wrong(v, "'%s' has bits set past its length; write %s", item, better);
    }
    if (err < 0)
        return value_wrong(v, "'%s' is not a network; write 10.2.0.0/24 or fd00:2::/64", item);
    if (prefix_is_special(out))
        return value_wrong(
            v, "'%s' is loopback, link-local, multicast or reserved: no session goes there; take it out",
            item);
    return 0;
}

/* ---- items ---- */

/* Take the next item off v->text. 1, 0 at the end, or an error. A comma may end the text, because the list
 * may go on in the next line. */
static int next_item(struct value *v, char item[static ITEM_MAX])
{
    while (isspace((unsigned char)*v->text))
        v->text++;
    if (*v->text == '\0')
        return 0;
    const char *end = strchrnul(v->text, ',');
    size_t len = (size_t)(end - v->text);
    while (len > 0 && isspace((unsigned char)v->text[len - 1]))
        len--;
    if (len == 0)
        return value_wrong(v, "there is nothing before a comma; take the comma out");
    if (len >= ITEM_MAX)
        return value_wrong(v, "'%.40s...' is too long; are the items separated by commas?", v->text);
    memcpy(item, v->text, len);
    item[len] = '\0';
    v->text = *end == ',' ? end + 1 : end;
    return 1;
}

void *config_list_grow(void *list, size_t count, size_t item_bytes)
{
    if ((count & (count - 1)) != 0)
        return list;
    return reallocarray(list, count == 0 ? 1 : count * 2, item_bytes);
}

typedef int (*item_take)(const struct value *v, const char *item);

static int parse_list(const struct value *whole, item_take take)
{
    struct value v = *whole;
    char item[ITEM_MAX];
    int more, err = 0;
    while (err == 0 && (more = next_item(&v, item)) != 0)
        err = more < 0 ? more : take(&v, item);
    return err;
}

static int take_interface(const struct value *v, const char *item)
{
    struct config *c = v->base;
    if (strlen(item) >= IFNAMSIZ || strpbrk(item, "/ \t:%") != NULL || strcmp(item, ".") == 0 ||
        strcmp(item, "..") == 0)
        return value_wrong(v, "'%s' is not the name of an interface; 'ip link' lists them", item);
    for (size_t i = 0; i < c->interface_count; i++) {
        if (strcmp(c->interfaces[i], item) == 0)
            return value_wrong(v, "'%s' is given twice; take one out", item);
    }
    if (c->interface_count == CONFIG_INTERFACES_MAX)
        return value_wrong(v, "there are more than %d interfaces; take some out", CONFIG_INTERFACES_MAX);
    strcpy(c->interfaces[c->interface_count++], item);
    return 0;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* 43 digits and one '=' make 32 bytes; the last digit's two low bits are left over and must be 0, or one pin
 * could be written in four ways. */
static int pin_parse(const char *text, uint8_t pin[static CONFIG_PIN_BYTES])
{
    uint32_t held = 0;
    unsigned bits = 0;
    size_t count = 0;
    if (strlen(text) != CONFIG_PIN_TEXT_MAX - 1 || text[CONFIG_PIN_TEXT_MAX - 2] != '=')
        return -EINVAL;
    for (size_t i = 0; i < CONFIG_PIN_TEXT_MAX - 2; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return -EINVAL;
        held = (held << 6 | (uint32_t)digit) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            pin[count++] = (uint8_t)(held >> bits);
        }
    }
    return (held & ((1u << bits) - 1)) == 0 ? 0 : -EINVAL;
}

static int take_pin(const struct value *v, const char *item)
{
    struct config_peer *p = v->base;
    if (p->pin_count == CONFIG_PINS_MAX)
        return value_wrong(v, "there are more than %d pins; take the oldest out", CONFIG_PINS_MAX);
    if (pin_parse(item, p->pins[p->pin_count]) < 0)
        return value_wrong(
            v, "'%s' is not a pin; copy the last line of 'hawserctl keygen' or of 'hawserctl pin node.crt'",
            item);
    if (p->pin_count == 1 && memcmp(p->pins[0], p->pins[1], CONFIG_PIN_BYTES) == 0)
        return value_wrong(v, "the same pin is given twice; take one out");
    p->pin_count++;
    return 0;
}

static int take_prefix(const struct value *v, const char *item)
{
    struct config_prefixes *field = value_field(v);
    struct prefix p = {0};
    int err = prefix_read(v, item, &p);
    if (err < 0)
        return err;
    struct prefix *list = config_list_grow(field->list, field->count, sizeof(*list));
    if (list == NULL)
        return -ENOMEM;
    field->list = list;
    field->list[field->count++] = p;
    return 0;
}

static int parse_serve(const struct value *v)
{
    struct config_peer *p = v->base;
    bool none = strcmp(v->text, "none") == 0;
    if (none && p->serve.count > 0)
        return value_wrong(v, "none cannot follow networks; take one or the other out");
    if (!none && p->serve_set && p->serve.count == 0)
        return value_wrong(v, "networks cannot follow none; take one or the other out");
    p->serve_set = true;
    return none ? 0 : parse_list(v, take_prefix);
}

static int take_port_range(const struct value *v, const char *item)
{
    struct config_class *c = v->base;
    char first[ITEM_MAX];
    uint64_t low = 0, high = 0;
    const char *dash = strchr(item, '-');
    strcpy(first, item);
    if (dash != NULL)
        first[dash - item] = '\0';
    int bad = units_parse_count(first, &low);
    if (bad == 0)
        bad = units_parse_count(dash != NULL ? dash + 1 : item, &high);
    if (bad < 0 || low < 1 || high > 65535)
        return value_wrong(v, "'%s' is not a port; write 1 to 65535, or two with '-' between, as 27000-28000",
                           item);
    if (high < low)
        return value_wrong(v, "'%s' counts down; write the smaller port first", item);
    struct config_port_range *list = config_list_grow(c->ports, c->port_count, sizeof(*list));
    if (list == NULL)
        return -ENOMEM;
    c->ports = list;
    c->ports[c->port_count++] = (struct config_port_range){(uint16_t)low, (uint16_t)high};
    return 0;
}

/* The code points with a name: RFC 2474 (cs), RFC 2597 (af), RFC 3246 (ef), RFC 8622 (le). */
static int dscp_parse(const char *text)
{
    uint64_t number;
    if (units_parse_count(text, &number) == 0)
        return number <= 63 ? (int)number : -1;
    if (strcmp(text, "ef") == 0)
        return 46;
    if (strcmp(text, "le") == 0)
        return 1;
    if (strncmp(text, "cs", 2) == 0 && text[2] >= '0' && text[2] <= '7' && text[3] == '\0')
        return (text[2] - '0') * 8;
    if (strncmp(text, "af", 2) == 0 && text[2] >= '1' && text[2] <= '4' && text[3] >= '1' && text[3] <= '3' &&
        text[4] == '\0')
        return (text[2] - '0') * 8 + (text[3] - '0') * 2;
    return -1;
}

static int take_dscp(const struct value *v, const char *item)
{
    struct config_class *c = v->base;
    int dscp = dscp_parse(item);
    if (dscp < 0)
        return value_wrong(v, "'%s' is not a DSCP; write 0 to 63, ef, le, cs0 to cs7 or af11 to af43", item);
    c->dscp_mask |= (uint64_t)1 << dscp;
    return 0;
}

static int take_proto(const struct value *v, const char *item)
{
    struct config_class *c = v->base;
    int position = value_choice_find(v->option->choices, item);
    if (position < 0)
        return value_wrong_choice(v, item);
    c->proto_mask |= 1u << position;
    return 0;
}

static int add_name(char (**list)[CONFIG_NAME_MAX], size_t *count, const char *item)
{
    char(*grown)[CONFIG_NAME_MAX] = config_list_grow(*list, *count, sizeof(**list));
    if (grown == NULL)
        return -ENOMEM;
    *list = grown;
    static_assert((int)ITEM_MAX <= (int)CONFIG_NAME_MAX, "an item fits in a name");
    strcpy(grown[(*count)++], item);
    return 0;
}

static int take_peer(const struct value *v, const char *item)
{
    struct config_class *c = v->base;
    return add_name(&c->peers, &c->peer_count, item);
}

static int take_iface(const struct value *v, const char *item)
{
    struct config_class *c = v->base;
    return add_name(&c->ifaces, &c->iface_count, item);
}

int config_list_parse(const struct value *v)
{
    static const item_take takers[] = {
        [CONFIG_TYPE_INTERFACES] = take_interface, [CONFIG_TYPE_PINS] = take_pin,
        [CONFIG_TYPE_PREFIXES] = take_prefix,      [CONFIG_TYPE_PORTS] = take_port_range,
        [CONFIG_TYPE_DSCPS] = take_dscp,           [CONFIG_TYPE_PEERS] = take_peer,
        [CONFIG_TYPE_IFACES] = take_iface,         [CONFIG_TYPE_PROTOS] = take_proto,
    };
    if (v->option->type == CONFIG_TYPE_SERVE)
        return parse_serve(v);
    return parse_list(v, takers[v->option->type]);
}
