#include "hawser/linkrate.h"

#include <string.h>

enum {
    WINDOW_MIN_US = 400000,
    ROUND_TRIP_GUESS_US =
        700000, /* a long satellite hop: too large a first window is harmless while it is paced */
    INITIAL_SEGMENTS_MIN = 10,
    INITIAL_SEGMENTS_UNKNOWN = 32, /* 46 KB: any queue takes it, and a long link is filled two round trips sooner */
    INITIAL_SEGMENTS_MAX = 30000,
    BDP_MIN_BYTES = 65536,
    BDP_UNKNOWN_BYTES = 4 << 20,
    LOSS_HIGH_PERMILLE = 60, /* retransmitted of acknowledged: more than a lossy link's own loss */
    LOSS_LEAST_SEGMENTS = 64,
    PACING_PERMILLE = 970,
    RAISE_PERMILLE = 50,
    CAP_REACHED_PERCENT = 85,
    CAP_RAISE_PERCENT = 25,
};

void linkrate_init(struct linkrate *r, uint64_t configured, uint64_t learned, uint64_t learned_rtt_us,
                   bool ipv6)
{
    memset(r, 0, sizeof(*r));
    r->configured = r->target = configured;
    r->learned = learned;
    r->learned_rtt_us = learned_rtt_us;
    r->cap = configured == 0 ? learned + learned / 100 * CAP_RAISE_PERCENT : 0;
    r->overhead = (ipv6 ? 40 : 20) + 20 + 12;
    r->mss = 1500 - r->overhead;
}

void linkrate_configure(struct linkrate *r, uint64_t configured)
{
    if (configured != r->configured)
        r->configured = r->target = configured;
}

/* Payload's share of a rate that counts headers too. */
static uint64_t payload_of(const struct linkrate *r, uint64_t rate)
{
    return rate / (r->mss + r->overhead) * r->mss;
}

static uint64_t gross_of(const struct linkrate *r, uint64_t payload)
{
    return payload / r->mss * (r->mss + r->overhead);
}

static uint64_t window_us(const struct linkrate *r)
{
    return 2 * r->rtt_us > WINDOW_MIN_US ? 2 * r->rtt_us : WINDOW_MIN_US;
}

static bool judge_unconfigured(struct linkrate *r, bool full, uint64_t delivered)
{
    uint64_t was = r->cap;
    if (full && r->cap > 0 && delivered > r->cap / 100 * CAP_REACHED_PERCENT)
        r->cap += r->cap / 2; /* the link is better than it was: soon out of the way */
    return r->cap != was;
}

/* Judge a finished window: lower a target that the link does not deliver, raise it again when it does. */
static bool judge(struct linkrate *r, uint64_t now_us, uint64_t length_us)
{
    uint64_t delivered = r->window_acked * 8 * 1000000 / length_us; /* payload bits a second */
    bool full = r->window_full && r->was_full; /* a transfer's first acknowledgements are a round trip late */
    r->was_full = r->window_full;
    uint64_t moved = r->window_acked + r->window_retransmitted;
    bool lossy = moved > (uint64_t)LOSS_LEAST_SEGMENTS * r->mss &&
                 r->window_retransmitted * 1000 > r->window_acked * LOSS_HIGH_PERMILLE;
    if (r->configured == 0)
        return judge_unconfigured(r, full, delivered);
    uint64_t pace = payload_of(r, r->target) / 1000 * PACING_PERMILLE;
    if (full && lossy && delivered * 10 < pace * 9) {
        if (delivered < r->best)
            r->best -=
                r->best / 10; /* one bad window may be chance; a link that became slower shows in several */
        uint64_t most = delivered > r->best ? delivered : r->best;
        uint64_t now = gross_of(r, most + most / 20);
        if (now < r->configured / 16)
            now = r->configured / 16;
        r->target = now;
        r->raised_us = now_us;
        return true;
    }
    if (!lossy && full && r->target < r->configured && now_us - r->raised_us >= 2 * length_us) {
        r->target += r->target / 1000 * RAISE_PERMILLE;
        if (r->target > r->configured)
            r->target = r->configured;
        r->raised_us = now_us;
        return true;
    }
    return false;
}

/* The second best of the last samples: one may be an artefact of acknowledgements that came in a bunch. */
static bool take_delivery(struct linkrate *r, uint64_t bytes_per_s)
{
    const unsigned count = sizeof(r->recent) / sizeof(r->recent[0]);
    uint64_t most = 0, second = 0;
    r->recent[r->recent_next++ % count] = bytes_per_s * 8;
    for (unsigned i = 0; i < count; i++) {
        if (r->recent[i] > most) {
            second = most;
            most = r->recent[i];
        } else if (r->recent[i] > second) {
            second = r->recent[i];
        }
    }
    if (second <= r->best)
        return false;
    r->best = second;
    return true;
}

bool linkrate_update(struct linkrate *r, const struct linkrate_sample *s)
{
    if (s->mss >= 200)
        r->mss = s->mss;
    if (s->rtt_us > 0 && (r->rtt_us == 0 || s->rtt_us < r->rtt_us))
        r->rtt_us = s->rtt_us;
    if (r->window_start_us == 0) {
        r->window_start_us = s->now_us;
        r->window_full = true;
        return false;
    }
    r->window_acked += s->acked_bytes;
    r->window_retransmitted += s->retransmitted_bytes;
    if (s->limited_by_us)
        r->window_full = false;
    bool changed =
        s->delivery_bytes_per_s > 0 && !s->limited_by_us && take_delivery(r, s->delivery_bytes_per_s);
    uint64_t length_us = s->now_us - r->window_start_us;
    if (length_us < window_us(r))
        return changed;
    changed = judge(r, s->now_us, length_us) || changed;
    r->window_start_us = s->now_us;
    r->window_acked = r->window_retransmitted = 0;
    r->window_full = true;
    return changed;
}

uint64_t linkrate_pacing(const struct linkrate *r, uint64_t others_bytes_per_s)
{
    if (r->target == 0 && r->cap == 0)
        return UINT64_MAX;
    uint64_t all = r->target != 0 ? payload_of(r, r->target) / 8 / 1000 * PACING_PERMILLE : r->cap / 8;
    uint64_t most = all / 4; /* bulk gives way to the others, but bbr believes what it measured: never much */
    return all - (others_bytes_per_s < most ? others_bytes_per_s : most);
}

static uint64_t round_trip_us(const struct linkrate *r)
{
    return r->rtt_us != 0 ? r->rtt_us : r->learned_rtt_us;
}

uint32_t linkrate_initial_window(const struct linkrate *r)
{
    uint64_t rate = r->target != 0 ? r->target : r->learned / 2;
    uint64_t rtt_us = round_trip_us(r);
    if (rate == 0 || (rtt_us == 0 && r->target == 0))
        return INITIAL_SEGMENTS_UNKNOWN; /* unpaced, a window for a guessed round trip would be a burst */
    rtt_us = rtt_us != 0 ? rtt_us + rtt_us / 4 : ROUND_TRIP_GUESS_US;
    uint64_t segments = rate / 8 * rtt_us / 1000000 / (r->mss + r->overhead);
    if (segments < INITIAL_SEGMENTS_MIN)
        return INITIAL_SEGMENTS_MIN;
    return (uint32_t)(segments < INITIAL_SEGMENTS_MAX ? segments : INITIAL_SEGMENTS_MAX);
}

static uint64_t believed(const struct linkrate *r)
{
    uint64_t rate = r->target;
    if (rate < r->learned)
        rate = r->learned;
    return rate > r->best ? rate : r->best;
}

uint64_t linkrate_bdp_bytes(const struct linkrate *r)
{
    uint64_t rate = believed(r);
    if (rate == 0 || (r->configured == 0 && r->learned == 0))
        return BDP_UNKNOWN_BYTES;
    uint64_t rtt_us = round_trip_us(r) != 0 ? round_trip_us(r) : ROUND_TRIP_GUESS_US;
    uint64_t bytes = rate / 8 * rtt_us / 1000000;
    return bytes > BDP_MIN_BYTES ? bytes : BDP_MIN_BYTES;
}

uint64_t linkrate_bytes_in(const struct linkrate *r, uint64_t us)
{
    uint64_t rate = believed(r);
    return rate == 0 ? UINT64_MAX : rate / 8 * us / 1000000;
}
