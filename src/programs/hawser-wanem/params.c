#include "params.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/units.h"

#define RATE_MAX_BPS    UINT64_C(100000000000)
#define TIME_MAX_NS     UINT64_C(3600000000000)
#define QUEUE_MAX_BYTES (UINT64_C(4) << 30)
#define BURST_MAX       1000000u
#define QUEUE_MAX_NS    UINT64_C(100000000)
#define WORDS_MAX       32
#define CHANGE_MAX      512

/* --- values ------------------------------------------------------------------------------------ */

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

bool params_time(const char *text, uint64_t max_ns, uint64_t *out_ns)
{
    uint64_t time_us;
    if (units_parse_time_us(text, &time_us) < 0 || time_us > max_ns / 1000) {
        return false;
    }
    *out_ns = time_us * 1000;
    return true;
}

static bool set_delay(struct link_params *params, const char *value)
{
    return params_time(value, TIME_MAX_NS, &params->delay_ns);
}

static bool set_jitter(struct link_params *params, const char *value)
{
    return params_time(value, TIME_MAX_NS, &params->jitter_ns);
}

static bool parse_switch(const char *value, const char *off, const char *on, bool *out)
{
    if (strcmp(value, off) != 0 && strcmp(value, on) != 0) {
        return false;
    }
    *out = strcmp(value, on) == 0;
    return true;
}

static bool set_reorder(struct link_params *params, const char *value)
{
    return parse_switch(value, "no", "yes", &params->reorder);
}

/* Not in thousandths, as shares are in units.h: good links lose less than that. */
static bool parse_share(const char *value, double *out)
{
    size_t digits = strspn(value, "0123456789.");
    char *end;
    if (strcmp(value, "0") == 0) {
        *out = 0;
        return true;
    }
    if (digits == 0 || value[0] == '.' || strcmp(value + digits, "%") != 0) {
        return false; /* also signs and words, which strtod would take */
    }
    *out = strtod(value, &end) / 100;
    return end == value + digits && *out <= 1.0;
}

static bool set_loss(struct link_params *params, const char *value)
{
    return parse_share(value, &params->loss);
}

static bool set_burst(struct link_params *params, const char *value)
{
    return parse_share(value, &params->burst);
}

static bool set_burst_length(struct link_params *params, const char *value)
{
    uint64_t packets;
    if (units_parse_count(value, &packets) < 0 || packets < 1 || packets > BURST_MAX) {
        return false;
    }
    params->burst_packets = packets;
    return true;
}

static bool set_burst_loss(struct link_params *params, const char *value)
{
    return parse_share(value, &params->burst_loss);
}

static bool set_duplicate(struct link_params *params, const char *value)
{
    return parse_share(value, &params->duplicate);
}

static bool set_corrupt(struct link_params *params, const char *value)
{
    return parse_share(value, &params->corrupt);
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
    return params_time(value, TIME_MAX_NS, &params->queue_ns) && params->queue_ns > 0;
}

static bool set_queue_max(struct link_params *params, const char *value)
{
    return params_time(value, TIME_MAX_NS, &params->queue_max_ns) && params->queue_max_ns > 0;
}

static bool set_link(struct link_params *params, const char *value)
{
    return parse_switch(value, "down", "up", &params->link_up);
}

static const struct {
    const char *name;
    bool (*set)(struct link_params *params, const char *value);
    const char *takes;
} table[] = {
    {"rate", set_rate, "a rate up to 100gbit, such as 512kbit or 1.5mbit, or none"},
    {"delay", set_delay, "a time up to an hour, such as 0.1ms, 40ms or 2s"},
    {"jitter", set_jitter, "a time up to an hour, such as 0.1ms, 40ms or 2s"},
    {"reorder", set_reorder, "yes or no (whether jitter lets packets overtake)"},
    {"loss", set_loss, "a share from 0% to 100%, such as 0.5%"},
    {"burst", set_burst, "a share from 0% to 100% (of packets that begin a burst of loss)"},
    {"burst-length", set_burst_length, "a mean number of packets from 1 to 1000000"},
    {"burst-loss", set_burst_loss, "a share from 0% to 100% (of the packets of a burst)"},
    {"duplicate", set_duplicate, "a share from 0% to 100%, such as 0.5%"},
    {"corrupt", set_corrupt, "a share from 0% to 100%, such as 0.5%"},
    {"queue", set_queue, "bytes (64K, 1M) up to 4G, a time (100ms), auto or none"},
    {"queue-max", set_queue_max, "a time up to an hour, such as 100ms (the bound of queue auto)"},
    {"link", set_link, "up or down"},
};

void params_default(struct link_params *params)
{
    *params = (struct link_params){.queue_form = QUEUE_AUTO,
                                   .queue_max_ns = QUEUE_MAX_NS,
                                   .burst_packets = 1,
                                   .burst_loss = 1,
                                   .link_up = true};
}

static int unknown_parameter(const char *name, char error[PARAMS_ERROR_MAX])
{
    size_t used = (size_t)snprintf(error, PARAMS_ERROR_MAX, "'%.60s' is no parameter; there are", name);
    for (size_t i = 0; i < sizeof table / sizeof table[0] && used < PARAMS_ERROR_MAX; i++) {
        used +=
            (size_t)snprintf(error + used, PARAMS_ERROR_MAX - used, "%s %s", i > 0 ? "," : "", table[i].name);
    }
    return -EINVAL;
}

int params_set(struct link_params *params, const char *name, const char *value, char error[PARAMS_ERROR_MAX])
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(name, table[i].name) != 0) {
            continue;
        }
        struct link_params changed = *params;
        if (!table[i].set(&changed, value)) {
            snprintf(error, PARAMS_ERROR_MAX, "%s: '%.100s' is wrong, it takes %s", name, value,
                     table[i].takes);
            return -EINVAL;
        }
        *params = changed;
        return 0;
    }
    return unknown_parameter(name, error);
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

/* --- queue limits ------------------------------------------------------------------------------ */

uint64_t params_queue_bytes(const struct link_params *params, uint64_t rtt_ns)
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
    double bytes = bytes_a_ns * fmin((double)rtt_ns, (double)params->queue_max_ns);
    return (uint64_t)llround(fmax(bytes, QUEUE_AUTO_MIN_BYTES));
}

uint64_t link_queue_bytes(const struct link_params link[WANEM_DIRECTIONS], int direction)
{
    return params_queue_bytes(&link[direction], link[WANEM_A_TO_B].delay_ns + link[WANEM_B_TO_A].delay_ns);
}

int link_check(const struct link_params link[WANEM_DIRECTIONS], uint32_t mtu, char error[PARAMS_ERROR_MAX])
{
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        uint64_t limit = link_queue_bytes(link, i);
        if (limit > 0 && limit < mtu) {
            snprintf(error, PARAMS_ERROR_MAX,
                     "queue: %llu bytes %s is less than one packet of the MTU, %u; make it larger",
                     (unsigned long long)limit, direction_name((enum wanem_direction)i), mtu);
            return -EINVAL;
        }
    }
    return 0;
}

/* --- changes ----------------------------------------------------------------------------------- */

const char *direction_name(enum wanem_direction direction)
{
    return direction == WANEM_A_TO_B ? "a-to-b" : "b-to-a";
}

unsigned direction_bits(const char *word)
{
    if (strcmp(word, "both") == 0) {
        return WANEM_BOTH;
    }
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        if (strcmp(word, direction_name((enum wanem_direction)i)) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

/* pairs[0..count): a parameter, its value, the next parameter and so on. */
static int set_pairs(struct link_params link[WANEM_DIRECTIONS], const char *where, char *const *pairs,
                     int count, char error[PARAMS_ERROR_MAX])
{
    unsigned directions = direction_bits(where);
    if (directions == 0) {
        snprintf(error, PARAMS_ERROR_MAX, "'%.60s' is no direction (a-to-b, b-to-a, both)", where);
        return -EINVAL;
    }
    if (count == 0 || count % 2 != 0) {
        snprintf(error, PARAMS_ERROR_MAX, "set takes a direction and pairs of parameter and value");
        return -EINVAL;
    }
    for (int word = 0; word < count; word += 2) {
        for (int i = 0; i < WANEM_DIRECTIONS; i++) {
            if ((directions & 1u << i) && params_set(&link[i], pairs[word], pairs[word + 1], error) < 0) {
                return -EINVAL;
            }
        }
    }
    return 0;
}

static int change_words(struct link_params link[WANEM_DIRECTIONS], char *const *words, int count,
                        char error[PARAMS_ERROR_MAX])
{
    if (count > 0 && strcmp(words[0], "set") == 0) {
        return set_pairs(link, count > 1 ? words[1] : "", words + 2, count > 2 ? count - 2 : 0, error);
    }
    if (count > 0 && count <= 2 && (strcmp(words[0], "down") == 0 || strcmp(words[0], "up") == 0)) {
        char parameter[] = "link";
        char *const pair[] = {parameter, words[0]};
        return set_pairs(link, count > 1 ? words[1] : "both", pair, 2, error);
    }
    snprintf(error, PARAMS_ERROR_MAX,
             "a change is 'set DIRECTION PARAMETER VALUE...', 'down [DIRECTION]' or 'up [DIRECTION]'");
    return -EINVAL;
}

int link_change(struct link_params link[WANEM_DIRECTIONS], const char *text, uint32_t mtu,
                char error[PARAMS_ERROR_MAX])
{
    struct link_params changed[WANEM_DIRECTIONS];
    char line[CHANGE_MAX], *words[WORDS_MAX], *rest = NULL;
    int count = 0;
    if (strlen(text) >= sizeof line) {
        snprintf(error, PARAMS_ERROR_MAX, "a change has at most %d characters; make it several",
                 CHANGE_MAX - 1);
        return -EINVAL;
    }
    memcpy(line, text, strlen(text) + 1);
    for (char *word = strtok_r(line, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest)) {
        if (count == WORDS_MAX) {
            snprintf(error, PARAMS_ERROR_MAX, "a change has at most %d words; make it several", WORDS_MAX);
            return -EINVAL;
        }
        words[count++] = word;
    }
    memcpy(changed, link, sizeof changed);
    if (change_words(changed, words, count, error) < 0 || link_check(changed, mtu, error) < 0) {
        return -EINVAL;
    }
    memcpy(link, changed, sizeof changed);
    return 0;
}
