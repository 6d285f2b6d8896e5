/* params.h - what one direction of the emulated link is like: values, their text forms, profiles.
 * Pure: no descriptor, clock or thread. The text forms are documented in hawser-wanem(8). */
#ifndef HAWSER_WANEM_PARAMS_H
#define HAWSER_WANEM_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wanem_direction { WANEM_A_TO_B, WANEM_B_TO_A, WANEM_DIRECTIONS };

enum queue_form {
    QUEUE_AUTO,  /* one bandwidth-delay product within bounds, see params_queue_bytes */
    QUEUE_BYTES, /* stays what it is when the rate changes */
    QUEUE_TIME,  /* so many nanoseconds of the rate: follows it */
};

struct link_params {
    uint64_t rate_bps;  /* bits a second of whole IP packets; 0 = no limit */
    uint64_t delay_ns;  /* one way, the exact lower bound */
    uint64_t jitter_ns; /* 0 to this much on top, see path.h */
    double loss;        /* fraction of the packets, 0 to 1 */
    enum queue_form queue_form;
    uint64_t queue_bytes; /* for QUEUE_BYTES; 0 = no limit */
    uint64_t queue_ns;    /* for QUEUE_TIME */
    bool link_up;
};

struct link_profile {
    const char *name;
    uint32_t rtt_us;
    uint32_t down_kbit; /* b-to-a: towards the branch */
    uint32_t up_kbit;   /* a-to-b */
    double loss;
    uint32_t jitter_us;
    uint32_t queue_max_ms;
};

#define QUEUE_AUTO_MIN_BYTES 65536u
#define QUEUE_AUTO_MAX_MS    100u

/* A perfect link: no limit, delay or loss; up. */
void params_default(struct link_params *params);

/* Sets the parameter `name` (rate, delay, jitter, loss, queue, link) from text. 0, or -EINVAL with a
 * sentence that names the parameter in error[error_len]; then *params is as it was. */
int params_set(struct link_params *params, const char *name, const char *value, char *error,
               size_t error_len);

/* Name of parameter number `index`, NULL past the last; with what it takes in *takes (may be NULL). */
const char *params_name(size_t index, const char **takes);

/* The queue limit in bytes, 0 = none. QUEUE_AUTO is rate x rtt_ns, at most queue_max_ms of the rate
 * and at least 64 KB. */
uint64_t params_queue_bytes(const struct link_params *params, uint64_t rtt_ns, uint32_t queue_max_ms);

/* A profile by name, NULL if there is none; by number for lists, NULL past the last. */
const struct link_profile *profile_find(const char *name);
const struct link_profile *profile_at(size_t index);
void profile_apply(const struct link_profile *profile, struct link_params params[WANEM_DIRECTIONS]);

/* "a-to-b" or "b-to-a". */
const char *direction_name(enum wanem_direction direction);

#endif
