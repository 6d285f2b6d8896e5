#include "params.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MAX_BPS   100e9
#define TIME_MAX_NS    3600e9
#define QUEUE_MAX_BYTE ((double)(UINT64_C(1) << 32))

struct unit {
    const char *suffix;
    double factor;
};

static const struct unit rate_units[] = {{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {NULL, 0}};
static const struct unit time_units[] = {{"us", 1e3}, {"ms", 1e6},   {"s", 1e9},
                                         {"m", 60e9}, {"h", 3600e9}, {NULL, 0}};
static const struct unit size_units[] = {
    {"", 1}, {"K", 1024}, {"M", 1024.0 * 1024}, {"G", 1024.0 * 1024 * 1024}, {NULL, 0}};
static const struct unit loss_units[] = {{"%", 0.01}, {NULL, 0}};

/* A plain decimal number and one of the units; a bare 0 needs none. False if it is anything else. */
static bool parse_quantity(const char *text, const struct unit *units, double max, double *out)
{
    if (strspn(text, "0123456789.") == 0 || text[0] == '.') {
        return false;
    }
    char *end;
    double number = strtod(text, &end);
    if ((size_t)(end - text) != strspn(text, "0123456789.")) {
        return false; /* two points, or a form such as 0x10 or 1e3 */
    }
    if (number == 0 && *end == '\0') {
        *out = 0;
        return true;
    }
    for (const struct unit *unit = units; unit->suffix; unit++) {
        if (strcmp(end, unit->suffix) == 0) {
            *out = number * unit->factor;
            return *out <= max;
        }
    }
    return false;
}

static bool set_rate(struct link_params *params, const char *value)
{
    double bps = 0;
    if (strcmp(value, "none") != 0 && !parse_quantity(value, rate_units, RATE_MAX_BPS, &bps)) {
        return false;
    }
    if (bps > 0 && bps < 1) {
        return false;
    }
    params->rate_bps = (uint64_t)llround(bps);
    return true;
}

static bool set_delay(struct link_params *params, const char *value)
{
    double ns;
    if (!parse_quantity(value, time_units, TIME_MAX_NS, &ns)) {
        return false;
    }
    params->delay_ns = (uint64_t)llround(ns);
    return true;
}

static bool set_jitter(struct link_params *params, const char *value)
{
    double ns;
    if (!parse_quantity(value, time_units, TIME_MAX_NS, &ns)) {
        return false;
    }
    params->jitter_ns = (uint64_t)llround(ns);
    return true;
}

static bool set_loss(struct link_params *params, const char *value)
{
    return parse_quantity(value, loss_units, 1.0, &params->loss);
}

static bool set_queue(struct link_params *params, const char *value)
{
    double amount;
    if (strcmp(value, "auto") == 0) {
        params->queue_form = QUEUE_AUTO;
        return true;
    }
    if (strcmp(value, "none") == 0) {
        params->queue_form = QUEUE_BYTES;
        params->queue_bytes = 0;
        return true;
    }
    if (parse_quantity(value, size_units, QUEUE_MAX_BYTE, &amount) && amount >= 1) {
        params->queue_form = QUEUE_BYTES;
        params->queue_bytes = (uint64_t)llround(amount);
        return true;
    }
    if (parse_quantity(value, time_units, TIME_MAX_NS, &amount) && amount >= 1) {
        params->queue_form = QUEUE_TIME;
        params->queue_ns = (uint64_t)llround(amount);
        return true;
    }
    return false;
}

static bool set_link(struct link_params *params, const char *value)
{
    if (strcmp(value, "up") != 0 && strcmp(value, "down") != 0) {
        return false;
    }
    params->link_up = strcmp(value, "up") == 0;
    return true;
}

static const struct {
    const char *name;
    bool (*set)(struct link_params *params, const char *value);
    const char *takes;
} table[] = {
    {"rate", set_rate, "a rate up to 100gbit, such as 512kbit or 1.5mbit, or none"},
    {"delay", set_delay, "a time up to an hour, such as 100us, 40ms or 0.3s"},
    {"jitter", set_jitter, "a time up to an hour, such as 100us, 40ms or 0.3s"},
    {"loss", set_loss, "a share from 0% to 100%, such as 0.5%"},
    {"queue", set_queue, "bytes (64K, 1M) up to 4G, a time (100ms), auto or none"},
    {"link", set_link, "up or down"},
};

void params_default(struct link_params *params)
{
    *params = (struct link_params){.queue_form = QUEUE_AUTO, .link_up = true};
}

int params_set(struct link_params *params, const char *name, const char *value, char *error, size_t error_len)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(name, table[i].name) != 0) {
            continue;
        }
        struct link_params changed = *params;
        if (!table[i].set(&changed, value)) {
            snprintf(error, error_len, "%s: '%s' is wrong, it takes %s", name, value, table[i].takes);
            return -EINVAL;
        }
        *params = changed;
        return 0;
    }
    snprintf(error, error_len, "'%s' is no parameter (rate, delay, jitter, loss, queue, link)", name);
    return -EINVAL;
}

const char *params_name(size_t index, const char **takes)
{
    if (index >= sizeof table / sizeof table[0]) {
        return NULL;
    }
    if (takes) {
        *takes = table[index].takes;
    }
    return table[index].name;
}

uint64_t params_queue_bytes(const struct link_params *params, uint64_t rtt_ns, uint32_t queue_max_ms)
{
    double bytes_a_ns = (double)params->rate_bps / 8e9;

    if (params->queue_form == QUEUE_BYTES) {
        return params->queue_bytes;
    }
    if (params->rate_bps == 0) {
        return 0; /* nothing ever waits */
    }
    if (params->queue_form == QUEUE_TIME) {
        return (uint64_t)llround(fmax(bytes_a_ns * (double)params->queue_ns, 1.0));
    }
    double bytes = bytes_a_ns * fmin((double)rtt_ns, queue_max_ms * 1e6);
    return (uint64_t)llround(fmax(bytes, QUEUE_AUTO_MIN_BYTES));
}

static const struct link_profile profiles[] = {
    /* name          rtt_us  down_kbit  up_kbit  loss  jitter_us  queue_max_ms */
    {"lan", 200, 1000000, 1000000, 0, 0, QUEUE_AUTO_MAX_MS},
    {"vpn", 80000, 20000, 20000, 0.001, 0, QUEUE_AUTO_MAX_MS},
    {"branch", 40000, 100000, 100000, 0, 0, QUEUE_AUTO_MAX_MS},
    {"intercontinental", 180000, 100000, 100000, 0.001, 0, QUEUE_AUTO_MAX_MS},
    {"geo", 600000, 50000, 5000, 0.005, 0, 200},
    {"geo-clean", 600000, 50000, 5000, 0, 0, 200},
    {"leo", 50000, 200000, 20000, 0.005, 10000, QUEUE_AUTO_MAX_MS},
    {"3g", 150000, 3000, 500, 0.01, 0, QUEUE_AUTO_MAX_MS},
    {"t1", 100000, 1500, 1500, 0, 0, QUEUE_AUTO_MAX_MS},
};

const struct link_profile *profile_at(size_t index)
{
    return index < sizeof profiles / sizeof profiles[0] ? &profiles[index] : NULL;
}

const struct link_profile *profile_find(const char *name)
{
    const struct link_profile *profile;
    for (size_t i = 0; (profile = profile_at(i)) != NULL; i++) {
        if (strcmp(profile->name, name) == 0) {
            return profile;
        }
    }
    return NULL;
}

void profile_apply(const struct link_profile *profile, struct link_params params[WANEM_DIRECTIONS])
{
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        params_default(&params[i]);
        params[i].delay_ns = (uint64_t)profile->rtt_us * 1000 / 2;
        params[i].jitter_ns = (uint64_t)profile->jitter_us * 1000;
        params[i].loss = profile->loss;
    }
    params[WANEM_A_TO_B].rate_bps = (uint64_t)profile->up_kbit * 1000;
    params[WANEM_B_TO_A].rate_bps = (uint64_t)profile->down_kbit * 1000;
}

const char *direction_name(enum wanem_direction direction)
{
    return direction == WANEM_A_TO_B ? "a-to-b" : "b-to-a";
}
