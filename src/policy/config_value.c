#include "config_value.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/units.h"

enum { NUMBER_TEXT_MAX = 32 };

static_assert(CONFIG_NAME_MAX >= UNITS_TEXT_MAX, "room for a formatted value");

void *value_field(const struct value *v)
{
    return (char *)v->base + v->option->offset;
}

int value_wrong(const struct value *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->why, CONFIG_ERROR_MAX, fmt, args);
    va_end(args);
    return -ERR_CONFIG;
}

int value_wrong_choice(const struct value *v, const char *text)
{
    return value_wrong(v, "'%.80s' is none of %s", text, v->option->choices);
}

/* ---- words ---- */

static bool is_name(const char *text)
{
    return text[0] != '\0' && text[0] != '-' && text[0] != '.' &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == strlen(text);
}

static int parse_name(const struct value *v)
{
    char *field = value_field(v);
    if (!is_name(v->text))
        return value_wrong(
            v, "'%.80s' is not a name: use letters, digits, '.', '_' and '-', a letter or digit first",
            v->text);
    if (strlen(v->text) >= CONFIG_NAME_MAX)
        return value_wrong(v, "the name is longer than %d bytes; shorten it", CONFIG_NAME_MAX - 1);
    strcpy(field, v->text);
    return 0;
}

static int parse_path(const struct value *v)
{
    char **field = value_field(v);
    char *copy = strdup(v->text);
    if (copy == NULL)
        return -ENOMEM;
    free(*field);
    *field = copy;
    return 0;
}

static int parse_socket(const struct value *v)
{
    size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (v->text[0] != '/')
        return value_wrong(v, "'%.80s' is not an absolute path; start it with '/'", v->text);
    if (strlen(v->text) > most)
        return value_wrong(
            v, "the path is longer than the %zu bytes that a socket's may have; choose a shorter one", most);
    return parse_path(v);
}

static int parse_word(const struct value *v)
{
    char *field = value_field(v);
    enum { WORD_MAX = sizeof(((struct config_peer *)NULL)->congestion) };
    if (!is_name(v->text) || strlen(v->text) >= WORD_MAX)
        return value_wrong(v, "'%.80s' is not a name of at most %d letters, digits, '_' and '-'", v->text,
                           WORD_MAX - 1);
    strcpy(field, v->text);
    return 0;
}

/* The position of text in "one|two|three", or -1. */
int value_choice_find(const char *choices, const char *text)
{
    size_t len = strlen(text);
    int position = 0;
    for (const char *at = choices;; at++, position++) {
        const char *end = strchrnul(at, '|');
        if ((size_t)(end - at) == len && memcmp(at, text, len) == 0)
            return position;
        if (*end == '\0')
            return -1;
        at = end;
    }
}

static int parse_choice(const struct value *v)
{
    int position = value_choice_find(v->option->choices, v->text);
    if (position < 0)
        return value_wrong_choice(v, v->text);
    *(int *)value_field(v) = position;
    return 0;
}

static int parse_yesno(const struct value *v)
{
    bool yes = strcmp(v->text, "yes") == 0;
    if (!yes && strcmp(v->text, "no") != 0)
        return value_wrong(v, "'%.80s' is neither yes nor no", v->text);
    *(bool *)value_field(v) = yes;
    return 0;
}

/* ---- numbers ---- */

char *config_value_format(const struct config_option *o, uint64_t value, char out[static CONFIG_NAME_MAX])
{
    if (o->type == CONFIG_TYPE_MEMORY || o->type == CONFIG_TYPE_BYTES)
        return units_format_bytes(value, out);
    if (o->type == CONFIG_TYPE_TIME)
        return units_format_time_us(value, out);
    if (o->type == CONFIG_TYPE_BITRATE || o->type == CONFIG_TYPE_LIMIT)
        return units_format_bits_per_s(value, out);
    snprintf(out, CONFIG_NAME_MAX, "%" PRIu64, value);
    return out;
}

typedef int (*units_parse)(const char *text, uint64_t *out);

/* A number of the option's unit and range; hint says how such a number is written. */
static int parse_in_range(const struct value *v, const char *text, units_parse parse, const char *hint,
                          uint64_t *out)
{
    char min[CONFIG_NAME_MAX], max[CONFIG_NAME_MAX];
    const struct config_option *o = v->option;
    uint64_t number = 0;
    int err = parse(text, &number);
    if (err == -EINVAL)
        return value_wrong(v, "'%.80s' is not %s", text, hint);
    if (err < 0 || number < o->min || (o->max != 0 && number > o->max))
        return value_wrong(v, "'%.80s' is out of range; it must be from %s to %s", text,
                           config_value_format(o, o->min, min), config_value_format(o, o->max, max));
    *out = number;
    return 0;
}

static int parse_count(const struct value *v)
{
    uint64_t number;
    int err = parse_in_range(v, v->text, units_parse_count, "a whole number", &number);
    if (err == 0)
        *(uint32_t *)value_field(v) = (uint32_t)number;
    return err;
}

static int parse_port(const struct value *v)
{
    uint64_t number;
    int err = parse_in_range(v, v->text, units_parse_count, "a port number", &number);
    if (err == 0)
        *(uint16_t *)value_field(v) = (uint16_t)number;
    return err;
}

static const char size_hint[] = "a size; write a number with K, M or G, as 512M";
static const char rate_hint[] = "a rate; write a number with kbit, mbit or gbit, as 50mbit";

static int parse_bytes(const struct value *v)
{
    return parse_in_range(v, v->text, units_parse_bytes, size_hint, value_field(v));
}

static int parse_time(const struct value *v)
{
    return parse_in_range(v, v->text, units_parse_time_us,
                          "a time; write a number with ms, s, m or h, as 10s", value_field(v));
}

static int parse_bitrate(const struct value *v)
{
    return parse_in_range(v, v->text, units_parse_bits_per_s, rate_hint, value_field(v));
}

static int parse_share(const struct value *v, unsigned min_permille, unsigned max_permille,
                       uint64_t *permille)
{
    char min[UNITS_TEXT_MAX], max[UNITS_TEXT_MAX];
    int err = units_parse_permille(v->text, permille);
    if (err == -EINVAL)
        return value_wrong(v, "'%.80s' is not a share; write a number with %%, as 25%%", v->text);
    if (err < 0 || *permille < min_permille || *permille > max_permille)
        return value_wrong(v, "'%.80s' is out of range; it must be from %s to %s", v->text,
                           units_format_permille(min_permille, min),
                           units_format_permille(max_permille, max));
    return 0;
}

static int parse_limit(const struct value *v)
{
    struct config_rate rate = {0};
    uint64_t permille = 0;
    int err;
    if (strchr(v->text, '%') != NULL)
        err = parse_share(v, 1, 1000, &permille);
    else
        err = parse_in_range(v, v->text, units_parse_bits_per_s, rate_hint, &rate.bits_per_s);
    rate.permille = (uint32_t)permille;
    if (err == 0)
        *(struct config_rate *)value_field(v) = rate;
    return err;
}

static int parse_memory(const struct value *v)
{
    uint64_t *field = value_field(v), permille = 0;
    if (strchr(v->text, '%') == NULL)
        return parse_in_range(v, v->text, units_parse_bytes, size_hint, field);
    int err = parse_share(v, 10, 900, &permille);
    if (err < 0)
        return err;
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t machine = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    uint64_t share = machine / 1000 * permille;
    if (share < v->option->min)
        share = v->option->min;
    *field = share > v->option->max ? v->option->max : share;
    return 0;
}

int config_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 0; /* more than 1024: EINVAL */
}

static uint32_t workers_auto(void)
{
    int count = config_cpus();
    return count < 1 ? 1 : count > CONFIG_WORKERS_MAX ? CONFIG_WORKERS_MAX : (uint32_t)count;
}

static int parse_workers(const struct value *v)
{
    struct config *c = v->base;
    char first[NUMBER_TEXT_MAX];
    uint64_t min = workers_auto(), max = min; /* auto: all can be homes */
    const char *dash = strchr(v->text, '-');
    size_t len = dash != NULL ? (size_t)(dash - v->text) : strlen(v->text);
    int err = 0;
    if (strcmp(v->text, "auto") != 0) {
        if (len >= sizeof(first))
            return value_wrong(v, "'%.80s' is not of the form %s", v->text, v->option->syntax);
        memcpy(first, v->text, len);
        first[len] = '\0';
        err = parse_in_range(v, first, units_parse_count, "auto, a number or MIN-MAX", &min);
        max = min;
    }
    if (err == 0 && dash != NULL)
        err = parse_in_range(v, dash + 1, units_parse_count, "auto, a number or MIN-MAX", &max);
    if (err < 0)
        return err;
    if (max < min)
        return value_wrong(v, "'%s' counts down; write the smaller number first", v->text);
    c->workers_min = (uint32_t)min;
    c->workers_max = (uint32_t)max;
    return 0;
}

static int parse_compress(const struct value *v)
{
    uint64_t level = 0;
    int err = 0;
    bool automatic = strcmp(v->text, "auto") == 0;
    if (!automatic && strcmp(v->text, "off") != 0)
        err = parse_in_range(v, v->text, units_parse_count, "auto, off or a level", &level);
    if (err == 0)
        *(int *)value_field(v) = automatic ? -1 : (int)level;
    return err;
}

static int parse_bits(const char *text, size_t len, uint32_t *out)
{
    char digits[NUMBER_TEXT_MAX];
    char *end;
    if (len == 0 || len > 10 || !isdigit((unsigned char)text[0]))
        return -EINVAL;
    memcpy(digits, text, len);
    digits[len] = '\0';
    /* Not base 0: a leading zero is no reason to read octal. */
    bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    if (hex && !isxdigit((unsigned char)digits[2]))
        return -EINVAL;
    uint64_t value = strtoull(digits, &end, hex ? 16 : 10);
    if (*end != '\0' || value > UINT32_MAX)
        return -EINVAL;
    *out = (uint32_t)value;
    return 0;
}

static int parse_mark(const struct value *v)
{
    struct config_mark mark = {.mask = UINT32_MAX};
    const char *slash = strchr(v->text, '/');
    size_t len = slash != NULL ? (size_t)(slash - v->text) : strlen(v->text);
    int err = parse_bits(v->text, len, &mark.value);
    if (err == 0 && slash != NULL)
        err = parse_bits(slash + 1, strlen(slash + 1), &mark.mask);
    if (err < 0)
        return value_wrong(v, "'%.80s' is not a mark; write VALUE/MASK in 32 bits, as 0x1/0x1", v->text);
    if (mark.value == 0)
        return value_wrong(v, "'%s' would fit every packet without a mark; give a value other than 0",
                           v->text);
    if ((mark.value & ~mark.mask) != 0)
        return value_wrong(v, "'%s' can never fit: the value has bits that the mask leaves out", v->text);
    *(struct config_mark *)value_field(v) = mark;
    return 0;
}

/* ---- addresses ---- */

static int parse_endpoint(const struct value *v)
{
    struct endpoint e;
    if (endpoint_parse(&e, v->text) < 0)
        return value_wrong(
            v, "'%.80s' is not ADDRESS:PORT; write 10.9.0.1:4430 or [fd00::1]:4430, no host name", v->text);
    if (e.port == 0)
        return value_wrong(v, "'%s' has port 0; give a port from 1 to 65535", v->text);
    *(struct endpoint *)value_field(v) = e;
    return 0;
}

static bool addr_is_zero(const struct addr *a)
{
    static const uint8_t zero[sizeof(a->bytes)];
    return memcmp(a->bytes, zero, sizeof(zero)) == 0;
}

static int parse_address(const struct value *v)
{
    struct endpoint was = *(struct endpoint *)value_field(v);
    int err = parse_endpoint(v);
    if (err < 0)
        return err;
    struct endpoint *field = value_field(v);
    bool multicast =
        field->addr.family == AF_INET ? field->addr.bytes[0] >= 224 : field->addr.bytes[0] == 0xff;
    if (addr_is_zero(&field->addr) || multicast) {
        *field = was;
        return value_wrong(v, "'%s' cannot be dialled; give the address of the peer's listen", v->text);
    }
    return 0;
}

/* ---- by type ---- */

static int parse_by_type(const struct value *v)
{
    static int (*const parsers[])(const struct value *v) = {
        [CONFIG_TYPE_NAME] = parse_name,
        [CONFIG_TYPE_PATH] = parse_path,
        [CONFIG_TYPE_SOCKET] = parse_socket,
        [CONFIG_TYPE_WORKERS] = parse_workers,
        [CONFIG_TYPE_MEMORY] = parse_memory,
        [CONFIG_TYPE_BYTES] = parse_bytes,
        [CONFIG_TYPE_TIME] = parse_time,
        [CONFIG_TYPE_BITRATE] = parse_bitrate,
        [CONFIG_TYPE_LIMIT] = parse_limit,
        [CONFIG_TYPE_COUNT] = parse_count,
        [CONFIG_TYPE_PORT] = parse_port,
        [CONFIG_TYPE_YESNO] = parse_yesno,
        [CONFIG_TYPE_CHOICE] = parse_choice,
        [CONFIG_TYPE_COMPRESS] = parse_compress,
        [CONFIG_TYPE_WORD] = parse_word,
        [CONFIG_TYPE_MARK] = parse_mark,
        [CONFIG_TYPE_ENDPOINT] = parse_endpoint,
        [CONFIG_TYPE_ADDRESS] = parse_address,
        [CONFIG_TYPE_INTERFACES] = config_list_parse,
        [CONFIG_TYPE_PINS] = config_list_parse,
        [CONFIG_TYPE_PREFIXES] = config_list_parse,
        [CONFIG_TYPE_SERVE] = config_list_parse,
        [CONFIG_TYPE_PORTS] = config_list_parse,
        [CONFIG_TYPE_DSCPS] = config_list_parse,
        [CONFIG_TYPE_PEERS] = config_list_parse,
        [CONFIG_TYPE_IFACES] = config_list_parse,
        [CONFIG_TYPE_PROTOS] = config_list_parse,
    };
    return parsers[v->option->type](v);
}

int config_value_parse(const struct config_option *o, void *base, const char *text,
                       char why[static CONFIG_ERROR_MAX])
{
    struct value v = {.option = o, .base = base, .text = text, .why = why};
    if (text[0] == '\0')
        return value_wrong(&v, "there is no value; write %s, or take the line out", o->syntax);
    int err = parse_by_type(&v);
    if (err == -ENOMEM)
        value_wrong(&v, "%s", err_text(err));
    return err;
}

static bool interfaces_equal(const struct config *a, const struct config *b)
{
    if (a->interface_count != b->interface_count)
        return false;
    for (size_t i = 0; i < a->interface_count; i++) {
        if (strcmp(a->interfaces[i], b->interfaces[i]) != 0)
            return false;
    }
    return true;
}

bool config_value_equal(const struct config_option *o, const void *a, const void *b)
{
    const void *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;
    if (o->type == CONFIG_TYPE_NAME)
        return strcmp(x, y) == 0;
    if (o->type == CONFIG_TYPE_PATH || o->type == CONFIG_TYPE_SOCKET) {
        const char *s = *(char *const *)x, *t = *(char *const *)y;
        return s == NULL || t == NULL ? s == t : strcmp(s, t) == 0;
    }
    if (o->type == CONFIG_TYPE_WORKERS) {
        const struct config *c = a, *d = b;
        return c->workers_min == d->workers_min && c->workers_max == d->workers_max;
    }
    if (o->type == CONFIG_TYPE_INTERFACES)
        return interfaces_equal(a, b);
    if (o->type == CONFIG_TYPE_COUNT)
        return *(const uint32_t *)x == *(const uint32_t *)y;
    if (o->type == CONFIG_TYPE_PORT)
        return *(const uint16_t *)x == *(const uint16_t *)y;
    if (o->type == CONFIG_TYPE_CHOICE)
        return *(const int *)x == *(const int *)y;
    if (o->type == CONFIG_TYPE_MARK)
        return memcmp(x, y, sizeof(struct config_mark)) == 0; /* two words: no padding */
    if (o->type == CONFIG_TYPE_ENDPOINT)
        return endpoint_equal(x, y);
    return *(const uint64_t *)x == *(const uint64_t *)y; /* CONFIG_TYPE_MEMORY, CONFIG_TYPE_BYTES */
}
