#include "params.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/units.h"

#define RATE_MAX_BPS    UINT64_C(100000000000)
#define TIME_MAX_US     UINT64_C(3600000000)
#define QUEUE_MAX_BYTES (UINT64_C(4) << 30)

static bool set_rate(struct link_params *params, const char *value)
{
    uint64_t bits_per_s;
    if (strcmp(value, "none") == 0) {
        params->rate_bps = 0;
        return true;
    }
    if (units_parse_bits_per_s(value, &bits_per_s) < 0 || bits_per_s < 1 || bits_per_s > RATE_MAX_BPS) {
        return false;
    }
    params->rate_bps = bits_per_s;
    return true;
}

static bool parse_time(const char *value, uint64_t *out_ns)
{
    uint64_t time_us;
    if (units_parse_time_us(value, &time_us) < 0 || time_us > TIME_MAX_US) {
        return false;
    }
    *out_ns = time_us * 1000;
    return true;
}

static bool set_delay(struct link_params *params, const char *value)
{
    return parse_time(value, &params->delay_ns);
}

static bool set_jitter(struct link_params *params, const char *value)
{
    return parse_time(value, &params->jitter_ns);
}

/* Not in thousandths, as shares are in units.h: good links lose less than that. */
static bool set_loss(struct link_params *params, const char *value)
{
    size_t digits = strspn(value, "0123456789.");
    char *end;
    if (strcmp(value, "0") == 0) {
        params->loss = 0;
        return true;
    }
    if (digits == 0 || value[0] == '.' || strcmp(value + digits, "%") != 0) {
        return false; /* also signs and words, which strtod would take */
    }
    params->loss = strtod(value, &end) / 100;
    return end == value + digits && params->loss <= 1.0;
}

static bool set_queue(struct link_params *params, const char *value)
{
    uint64_t bytes;
    if (strcmp(value, "auto") == 0) {
        params->queue_form = QUEUE_AUTO;
        return true;
    }
    if (strcmp(value, "none") == 0) {
        params->queue_form = QUEUE_BYTES;
        params->queue_bytes = 0;
        return true;
    }
    if (units_parse_bytes(value, &bytes) == 0) {
        params->queue_form = QUEUE_BYTES;
        params->queue_bytes = bytes;
        return bytes >= 1 && bytes <= QUEUE_MAX_BYTES;
    }
    params->queue_form = QUEUE_TIME;
    return parse_time(value, &params->queue_ns) && params->queue_ns > 0;
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
    {"delay", set_delay, "a time up to an hour, such as 0.1ms, 40ms or 2s"},
    {"jitter", set_jitter, "a time up to an hour, such as 0.1ms, 40ms or 2s"},
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
