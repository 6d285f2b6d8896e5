#include "hawser/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { FRACTION_DIGITS_MAX = 6 };

struct unit {
    const char *name;
    uint64_t factor;
};

/* Smallest first; "" is a number without a unit. */
static const struct unit size_units[] = {{"", 1}, {"K", 1u << 10}, {"M", 1u << 20}, {"G", 1u << 30}};
static const struct unit time_units[] = {
    {"ms", 1000}, {"s", 1000000}, {"m", 60u * 1000000}, {"h", 3600ull * 1000000}};
static const struct unit rate_units[] = {{"kbit", 1000}, {"mbit", 1000000}, {"gbit", 1000000000}};
static const struct unit share_units[] = {{"%", 10}};

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* whole + fraction / scale, and where the number ends. */
struct decimal {
    uint64_t whole, fraction, scale;
    const char *end;
};

static int decimal_parse(const char *text, struct decimal *d)
{
    const char *p = text;
    *d = (struct decimal){.scale = 1};
    if (!isdigit((unsigned char)*p))
        return -EINVAL;
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(d->whole, 10u, &d->whole) ||
            __builtin_add_overflow(d->whole, (unsigned)(*p - '0'), &d->whole))
            return -ERANGE;
    }
    if (*p == '.') {
        const char *first = ++p;
        for (; isdigit((unsigned char)*p); p++) {
            if (p - first == FRACTION_DIGITS_MAX)
                return -EINVAL;
            d->fraction = d->fraction * 10 + (uint64_t)(*p - '0');
            d->scale *= 10;
        }
        if (p == first)
            return -EINVAL;
    }
    d->end = p;
    return 0;
}

static int parse_with(const struct unit *units, size_t count, const char *text, uint64_t *out)
{
    struct decimal d;
    int err = decimal_parse(text, &d);
    if (err < 0)
        return err;
    while (*d.end == ' ')
        d.end++;
    for (size_t i = 0; i < count; i++) {
        uint64_t whole, part;
        if (strcasecmp(d.end, units[i].name) != 0)
            continue;
        /* Less than 10^6 times 2^32: cannot overflow. What is left over is part of a byte, bit or
         * microsecond, too little to argue about; a share that is not kept as written would be. */
        part = d.fraction * units[i].factor;
        if (units == share_units && part % d.scale != 0)
            return -EINVAL;
        if (__builtin_mul_overflow(d.whole, units[i].factor, &whole) ||
            __builtin_add_overflow(whole, part / d.scale, &whole))
            return -ERANGE;
        *out = whole;
        return 0;
    }
    return -EINVAL;
}

int units_parse_count(const char *text, uint64_t *out)
{
    struct decimal d;
    int err = decimal_parse(text, &d);
    if (err < 0)
        return err;
    if (d.scale != 1 || *d.end != '\0')
        return -EINVAL;
    *out = d.whole;
    return 0;
}

int units_parse_bytes(const char *text, uint64_t *out)
{
    return parse_with(size_units, COUNT_OF(size_units), text, out);
}

int units_parse_time_us(const char *text, uint64_t *out)
{
    if (strcmp(text, "0") == 0) {
        *out = 0;
        return 0;
    }
    return parse_with(time_units, COUNT_OF(time_units), text, out);
}

int units_parse_bits_per_s(const char *text, uint64_t *out)
{
    return parse_with(rate_units, COUNT_OF(rate_units), text, out);
}

int units_parse_permille(const char *text, uint64_t *out)
{
    return parse_with(share_units, COUNT_OF(share_units), text, out);
}

/* The largest unit that leaves the value whole, else the smallest with as many decimals as it needs (every
 * smallest factor is a power of ten, or 1). */
static char *format_with(const struct unit *units, size_t count, uint64_t value,
                         char out[static UNITS_TEXT_MAX])
{
    size_t i = count - 1;
    while (i > 0 && (value == 0 || value % units[i].factor != 0))
        i--;
    uint64_t rest = value % units[i].factor;
    int used = snprintf(out, UNITS_TEXT_MAX, "%" PRIu64, value / units[i].factor);
    if (rest != 0) {
        int digits = 0;
        for (uint64_t f = units[i].factor; f > 1; f /= 10)
            digits++;
        for (; rest % 10 == 0; rest /= 10)
            digits--;
        used += snprintf(out + used, UNITS_TEXT_MAX - (size_t)used, ".%0*" PRIu64, digits, rest);
    }
    snprintf(out + used, UNITS_TEXT_MAX - (size_t)used, "%s", units[i].name);
    return out;
}

char *units_format_bytes(uint64_t bytes, char out[static UNITS_TEXT_MAX])
{
    return format_with(size_units, COUNT_OF(size_units), bytes, out);
}

char *units_format_time_us(uint64_t us, char out[static UNITS_TEXT_MAX])
{
    return format_with(time_units, COUNT_OF(time_units), us, out);
}

char *units_format_bits_per_s(uint64_t bits_per_s, char out[static UNITS_TEXT_MAX])
{
    return format_with(rate_units, COUNT_OF(rate_units), bits_per_s, out);
}

char *units_format_permille(uint64_t permille, char out[static UNITS_TEXT_MAX])
{
    return format_with(share_units, COUNT_OF(share_units), permille, out);
}
