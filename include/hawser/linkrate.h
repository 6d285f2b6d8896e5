/* linkrate.h - what the link towards a peer is good for, and how fast its lanes may therefore send (floor 2,
 * pure). Time and measurements in, pacing out. One thread.
 *
 * A configured rate is believed from the first packet, but only as long as the link delivers it: when much is
 * retransmitted while less than the target arrives, the target falls to what arrives, and climbs back slowly.
 * Without a configured rate lanes run as their congestion control likes, and the best rate seen is learned. A
 * learned value is used at half (compare draft-ietf-tsvwg-careful-resume) as the first window of the next
 * lane, and as a cap that lifts while the link delivers it: without one the start-up of bbr fills the queue
 * nearly threefold. */
#ifndef HAWSER_LINKRATE_H
#define HAWSER_LINKRATE_H

#include <stdbool.h>
#include <stdint.h>

struct linkrate {
    uint64_t configured; /* payload and headers, bits a second; 0: unknown */
    uint64_t learned;    /* likewise, from earlier lanes; 0: nothing */
    uint64_t target;     /* what is believed now; 0: unpaced */
    uint64_t best;       /* best delivery of payload seen, bits a second: the second best of the last samples,
                            against outliers */
    uint64_t recent[8];  /* the kernel's delivery rates */
    unsigned recent_next;
    uint64_t cap;    /* without a configured rate: payload bits a second not to be exceeded; 0: none */
    uint64_t rtt_us; /* smallest round trip seen; 0: unknown */
    uint64_t learned_rtt_us; /* believed until one is seen */
    uint32_t mss;            /* payload bytes of a full segment */
    uint32_t overhead;       /* header bytes of one: IP, TCP and its timestamps */
    uint64_t window_start_us;
    uint64_t window_acked, window_retransmitted;
    bool window_full, was_full; /* the lane always had something to send in this window, in the one before */
    uint64_t raised_us;
};

/* learned_rtt_us goes with learned; 0: unknown. */
void linkrate_init(struct linkrate *r, uint64_t configured, uint64_t learned, uint64_t learned_rtt_us,
                   bool ipv6);
void linkrate_configure(struct linkrate *r, uint64_t configured);

/* One look at the lanes' sockets, all lanes added up, since the last look. */
struct linkrate_sample {
    uint64_t now_us;
    uint64_t acked_bytes, retransmitted_bytes; /* since the last sample */
    uint64_t delivery_bytes_per_s;             /* tcpi_delivery_rate while there was enough to send, else 0 */
    uint64_t rtt_us;                           /* smallest of the lanes, 0 unknown */
    uint32_t mss;
    bool limited_by_us; /* a lane had nothing to send at some time */
};
/* True when target or best changed enough to set the sockets again. */
bool linkrate_update(struct linkrate *r, const struct linkrate_sample *s);

/* Bytes of payload a second for SO_MAX_PACING_RATE of the bulk lane while the others send others_bytes_per_s
 * (a quarter is taken off at most); UINT64_MAX: no limit. */
uint64_t linkrate_pacing(const struct linkrate *r, uint64_t others_bytes_per_s);
/* First window of a new lane in segments. */
uint32_t linkrate_initial_window(const struct linkrate *r);
/* Bytes in flight that fill the link (rate x round trip), at least 64K; the guess is generous while unknown.
 */
uint64_t linkrate_bdp_bytes(const struct linkrate *r);
/* Bytes worth us microseconds of the link; UINT64_MAX while the rate is unknown. */
uint64_t linkrate_bytes_in(const struct linkrate *r, uint64_t us);

#endif
