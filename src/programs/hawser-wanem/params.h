/* params.h - what one direction of the emulated link is like: values, their text forms, and the text of a
 * change. Pure: no descriptor, clock or thread. The text forms are documented in hawser-wanem(8). */
#ifndef HAWSER_WANEM_PARAMS_H
#define HAWSER_WANEM_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wanem_direction { WANEM_A_TO_B, WANEM_B_TO_A, WANEM_DIRECTIONS };

#define WANEM_BOTH       (1u << WANEM_A_TO_B | 1u << WANEM_B_TO_A)
#define PARAMS_ERROR_MAX 512

enum queue_form {
    QUEUE_AUTO,  /* one bandwidth-delay product within bounds, see params_queue_bytes */
    QUEUE_BYTES, /* stays what it is when the rate changes */
    QUEUE_TIME,  /* so many nanoseconds of the rate: follows it */
};

struct link_params {
    uint64_t rate_bps;      /* bits a second of whole IP packets; 0 = no limit */
    uint64_t delay_ns;      /* one way, the exact lower bound */
    uint64_t jitter_ns;     /* 0 to this much on top, see path.h */
    bool reorder;           /* jitter is drawn for each packet, and packets may overtake */
    double loss;            /* shares of the packets, 0 to 1 */
    double burst;           /* a packet begins a burst of loss (Gilbert-Elliott: p) */
    uint64_t burst_packets; /* mean length of a burst (1/r) */
    double burst_loss;      /* what is lost in a burst (1-h); `loss` (1-k) counts outside only */
    double duplicate;
    double corrupt;
    enum queue_form queue_form;
    uint64_t queue_bytes;  /* for QUEUE_BYTES; 0 = no limit */
    uint64_t queue_ns;     /* for QUEUE_TIME */
    uint64_t queue_max_ns; /* for QUEUE_AUTO: at most so much of the rate */
    bool link_up;
};

#define QUEUE_AUTO_MIN_BYTES 65536u

/* A perfect link: no limit, delay or loss; up. */
void params_default(struct link_params *params);

/* Sets the parameter `name` from text. 0, or -EINVAL with a sentence that names the parameter in error; then
 * *params is as it was. */
int params_set(struct link_params *params, const char *name, const char *value, char error[PARAMS_ERROR_MAX]);

/* Name of parameter number `index`, NULL past the last; with what it takes in *takes (may be NULL). */
const char *params_name(size_t index, const char **takes);

/* A time as people write it ("30s", "100ms"), up to max_ns. */
bool params_time(const char *text, uint64_t max_ns, uint64_t *out_ns);

/* The queue limit in bytes, 0 = none. QUEUE_AUTO is rate x rtt_ns, at most queue_max_ns of the rate and at
 * least 64 KB. */
uint64_t params_queue_bytes(const struct link_params *params, uint64_t rtt_ns);
/* The same for a direction of a link, whose delays together are the rtt. */
uint64_t link_queue_bytes(const struct link_params link[WANEM_DIRECTIONS], int direction);

/* "a-to-b" or "b-to-a"; and the directions as bits that such a word, or "both", names: 0 if it names none. */
const char *direction_name(enum wanem_direction direction);
unsigned direction_bits(const char *word);

/* A change as text, for the control socket and schedules: "set DIRECTION PARAMETER VALUE...",
 * "down [DIRECTION]", "up [DIRECTION]". 0, or -EINVAL with a sentence; then the link is as it was. A queue
 * limit that is less than a packet of mtu bytes is refused: it would let nothing pass. */
int link_change(struct link_params link[WANEM_DIRECTIONS], const char *text, uint32_t mtu,
                char error[PARAMS_ERROR_MAX]);
/* Only that check of the queue limits. */
int link_check(const struct link_params link[WANEM_DIRECTIONS], uint32_t mtu, char error[PARAMS_ERROR_MAX]);

#endif
