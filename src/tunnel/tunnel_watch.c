#include <assert.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "tunnel_internal.h"

/* The tick looks at the kernel's view of every lane (TCP_INFO): it paces, learns the rate, finds lanes that
 * make no progress while another does, and pings lanes that are silent. */

enum {
    TICK_BUSY_US = 500000,
    PING_BUSY_US = 1500000,
    PING_IDLE_US = 5 * 1000000,
    DEAD_BUSY_US = 5 * 1000000,
    DEAD_IDLE_US = 15 * 1000000,
    STALL_MIN_US = 1000000,
    NOTSENT_MIN_BYTES = 8 * 1024,
    NOTSENT_GUESSED_MIN_BYTES = 32 * 1024,
    NOTSENT_MAX_BYTES = 256 * 1024,
    NOTSENT_US = 5000, /* of the link's rate; what overtakes nothing there waits so long */
};

void tunnel_set_notsent(struct tunnel *t, struct slot *s)
{
    /* a rate that is only guessed must not hold back the congestion control that finds it */
    bool sure = t->rate.configured != 0;
    uint64_t bytes = linkrate_bytes_in(&t->rate, sure ? NOTSENT_US : 2 * NOTSENT_US);
    uint64_t least = sure ? NOTSENT_MIN_BYTES : NOTSENT_GUESSED_MIN_BYTES;
    if (bytes < least)
        bytes = least;
    if (bytes > NOTSENT_MAX_BYTES)
        bytes = NOTSENT_MAX_BYTES;
    if (bytes == s->notsent)
        return;
    s->notsent = bytes;
    lane_set_queue(s->lane, (uint32_t)bytes);
}

void tunnel_set_pacing(struct slot *s, uint64_t bytes_per_s)
{
    uint64_t was = s->pacing;
    if (bytes_per_s == was ||
        (was != UINT64_MAX && bytes_per_s < was + was / 50 && bytes_per_s + was / 50 > was))
        return;
    s->pacing = bytes_per_s;
    setsockopt(lane_fd(s->lane), SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_s, sizeof(bytes_per_s));
}

void tunnel_want_tick(struct tunnel *t, uint64_t us)
{
    struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
    event_add(&t->tick, &tv);
}

/* Read the kernel's view of a lane; adds to the sample. True when bytes are on the way. */
static bool look(struct slot *s, struct linkrate_sample *sample)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);
    memset(&info, 0, sizeof(info));
    if (getsockopt(lane_fd(s->lane), IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return false;
    bool outstanding = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
    bool acked_more = info.tcpi_bytes_acked > s->acked;
    if (acked_more || !s->outstanding || !outstanding)
        s->progress_us = sample->now_us; /* the clock runs from the first look that finds bytes on the way */
    s->outstanding = outstanding;
    if (acked_more) {
        s->alive_us = sample->now_us;
        if (s->stalled)
            tunnel_kick(s->tunnel); /* its turn again: the edge that told of room may be long past */
        s->stalled = false;
    }
    sample->acked_bytes += info.tcpi_bytes_acked - s->acked;
    sample->retransmitted_bytes += info.tcpi_bytes_retrans - s->retransmitted;
    if (info.tcpi_min_rtt > 0 && info.tcpi_min_rtt != UINT32_MAX &&
        (sample->rtt_us == 0 || info.tcpi_min_rtt < sample->rtt_us))
        sample->rtt_us = info.tcpi_min_rtt;
    if (info.tcpi_bytes_acked > 100000 && info.tcpi_snd_mss > sample->mss)
        sample->mss = info.tcpi_snd_mss;
    if (!info.tcpi_delivery_rate_app_limited && acked_more &&
        info.tcpi_delivery_rate > sample->delivery_bytes_per_s)
        sample->delivery_bytes_per_s = info.tcpi_delivery_rate;
    s->acked = info.tcpi_bytes_acked;
    s->retransmitted = info.tcpi_bytes_retrans;
    s->srtt_us = info.tcpi_rtt;
    tunnel_settle_congestion(s, info.tcpi_min_rtt == UINT32_MAX ? 0 : info.tcpi_min_rtt);
    return outstanding;
}

static void find_stalled(struct tunnel *t, uint64_t now)
{
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        struct slot *s = &t->slots[i];
        uint64_t limit = 3 * s->srtt_us > STALL_MIN_US ? 3 * s->srtt_us : STALL_MIN_US;
        if (s->lane == NULL || s->stalled || now - s->progress_us <= limit)
            continue;
        for (unsigned j = 0; j < CONFIG_LANES_MAX; j++) {
            struct slot *other = &t->slots[j];
            if (j == i || !slot_usable(other) || now - other->progress_us > limit / 2)
                continue;
            log_info("peer %s: lane %u makes no progress, lane %u takes over", t->peer->name, i, j);
            s->stalled = true;
            t->events->lane_stalls(t->owner, i);
            tunnel_kick(t);
            break;
        }
    }
}

/* Ping a silent lane, give up a dead one. True when the lane is gone. */
static bool check_silence(struct slot *s, uint64_t now, bool busy)
{
    /* Behind a gap an answer may take long to be read; what the peer's kernel acknowledges is a sign of life
     * too. */
    uint64_t heard_us = lane_counters(s->lane)->last_in_us;
    if (s->alive_us > heard_us)
        heard_us = s->alive_us;
    uint64_t silent = now - heard_us, ping_after = busy ? PING_BUSY_US : PING_IDLE_US;
    bool asked = s->ping_sent_us > heard_us;
    uint64_t patience = (busy ? DEAD_BUSY_US : DEAD_IDLE_US) - ping_after;
    if (patience < 3 * s->srtt_us)
        patience = 3 * s->srtt_us;
    if (asked && now - s->ping_sent_us > patience) {
        lane_close(s->lane);
        tunnel_lose(s, -ETIMEDOUT);
        return true;
    }
    if (!asked && silent > ping_after) {
        s->owes_ping = true;
        s->ping_sent_us = now;
        tunnel_kick(s->tunnel);
    }
    return false;
}

static void pace(struct tunnel *t, const uint64_t *out_delta, uint64_t elapsed_us)
{
    uint64_t express = elapsed_us > 0 ? out_delta[0] * 1000000 / elapsed_us : 0;
    /* Smoothed over about a second, since a new session's burst is over before the bulk lane could give way
     * to it; forgotten fast, since what made the burst has moved to the bulk lane. */
    uint64_t was = t->express_bytes_per_s;
    if (elapsed_us > TUNNEL_TICK_IDLE_US / 4)
        t->express_bytes_per_s = express;
    else
        t->express_bytes_per_s = express < was ? (was + express) / 2 : (was * 9 + express) / 10;
    unsigned sending = 0;
    for (unsigned i = 1; i < CONFIG_LANES_MAX; i++)
        sending += t->slots[i].lane != NULL && out_delta[i] > 0;
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        struct slot *s = &t->slots[i];
        if (s->lane == NULL)
            continue;
        uint64_t rate = linkrate_pacing(&t->rate, i == 0 ? 0 : t->express_bytes_per_s);
        if (i > 0 && sending > 1 && rate != UINT64_MAX)
            rate /= sending;
        tunnel_set_pacing(s, rate);
        tunnel_set_notsent(t, s);
    }
}

static void tell_learned(struct tunnel *t)
{
    uint64_t was = t->learned_told, is = t->rate.best;
    if (is <= was + was / 20)
        return;
    t->learned_told = is;
    t->world->learned(t->world->owner, t->peer->name, is, t->rate.rtt_us);
}

static void choose_level(struct tunnel *t, uint64_t now_us, uint64_t frame_bytes)
{
    uint64_t cpu_us = clock_thread_cpu_us();
    struct effort_sample s = {.now_us = now_us,
                              .elapsed_us = now_us - t->tick_us,
                              .cpu_us = cpu_us - t->tick_cpu_us,
                              .bytes = frame_bytes,
                              .link_full = !t->starved};
    t->tick_cpu_us = cpu_us;
    if (effort_update(&t->effort, &s))
        log_debug("peer %s: compression level %d", t->peer->name, t->effort.level);
}

void tunnel_on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct tunnel *t = arg;
    (void)fd;
    (void)what;
    struct linkrate_sample sample = {.now_us = clock_now_us(), .limited_by_us = t->starved};
    uint64_t out_delta[CONFIG_LANES_MAX] = {0}, frame_bytes = 0;
    bool outstanding = false, moved = false, busy = t->events->busy(t->owner);
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        struct slot *s = &t->slots[i];
        if (s->lane == NULL)
            continue;
        outstanding = look(s, &sample) || outstanding;
        if (check_silence(s, sample.now_us, busy))
            continue;
        lane_rest(s->lane, sample.now_us);
        frame_bytes += lane_counters(s->lane)->out.frame_bytes - s->frame_bytes;
        s->frame_bytes = lane_counters(s->lane)->out.frame_bytes;
        uint64_t out = lane_counters(s->lane)->out_bytes;
        out_delta[i] = out - s->out_bytes;
        s->out_bytes = out;
        moved = moved || out_delta[i] > 0;
    }
    if (linkrate_update(&t->rate, &sample))
        tell_learned(t);
    pace(t, out_delta, sample.now_us - t->tick_us);
    choose_level(t, sample.now_us, frame_bytes);
    t->tick_us = sample.now_us;
    if (outstanding)
        find_stalled(t, sample.now_us);
    if (!busy && !outstanding)
        tunnel_renew_leader(t);
    t->tick_active = outstanding || moved;
    tunnel_want_tick(t, t->tick_active ? TUNNEL_TICK_ACTIVE_US : busy ? TICK_BUSY_US : TUNNEL_TICK_IDLE_US);
}

/* ---- reports ---- */

bool tunnel_report_lane(const struct tunnel *t, unsigned slot, struct tunnel_lane_report *out)
{
    if (slot >= CONFIG_LANES_MAX)
        return false;
    const struct slot *s = &t->slots[slot];
    const struct lane *l = s->lane != NULL ? s->lane : s->dialled;
    memset(out, 0, sizeof(*out));
    out->slot = slot;
    out->role = slot == 0 ? TUNNEL_ROLE_EXPRESS : TUNNEL_ROLE_BULK;
    out->state = l == NULL ? NULL : s->stalled ? "stalled" : lane_state_text(lane_state(l));
    if (l == NULL)
        return true;
    out->remote = *lane_remote(l);
    out->in_bytes = lane_counters(l)->in_bytes;
    out->out_bytes = lane_counters(l)->out_bytes;
    out->in = lane_counters(l)->in;
    out->out = lane_counters(l)->out;
    out->level = lane_level(l);
    struct tcp_info info;
    socklen_t len = sizeof(info);
    memset(&info, 0, sizeof(info));
    if (getsockopt(lane_fd(l), IPPROTO_TCP, TCP_INFO, &info, &len) == 0) {
        out->rtt_us = info.tcpi_rtt;
        out->cwnd_bytes = (uint64_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss;
        out->pacing_bytes_per_s = info.tcpi_pacing_rate;
        out->delivery_bytes_per_s = info.tcpi_delivery_rate;
        out->retransmits = info.tcpi_total_retrans;
    }
    return true;
}

static void add_blocks(struct lane_block_counters *sum, const struct lane_block_counters *c)
{
    sum->blocks += c->blocks;
    sum->raw_blocks += c->raw_blocks;
    sum->frame_bytes += c->frame_bytes;
    sum->block_bytes += c->block_bytes;
}

void tunnel_count_lane(struct lane_counters *sum, const struct lane *l)
{
    const struct lane_counters *c = lane_counters(l);
    sum->in_bytes += c->in_bytes;
    sum->out_bytes += c->out_bytes;
    add_blocks(&sum->in, &c->in);
    add_blocks(&sum->out, &c->out);
}

void tunnel_count(const struct tunnel *t, struct lane_counters *sum)
{
    *sum = t->retired;
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        if (t->slots[i].lane != NULL)
            tunnel_count_lane(sum, t->slots[i].lane);
    }
}

bool tunnel_is_up(const struct tunnel *t)
{
    return t->up_count > 0;
}

unsigned tunnel_lanes_up(const struct tunnel *t)
{
    return t->up_count;
}

uint64_t tunnel_opening_credit(const struct tunnel *t)
{
    return t->opening_credit;
}

uint64_t tunnel_peer_features(const struct tunnel *t)
{
    return t->peer_features;
}

uint64_t tunnel_features(const struct tunnel *t)
{
    return t->peer_features & t->world->features;
}

uint32_t tunnel_source_of(const struct tunnel_world *world, const uint8_t pin[static CONFIG_PIN_BYTES])
{
    uint8_t both[IDENTITY_SECRET_BYTES + CONFIG_PIN_BYTES], hash[SHA256_DIGEST_LENGTH];
    memcpy(both, world->source_secret, IDENTITY_SECRET_BYTES);
    memcpy(both + IDENTITY_SECRET_BYTES, pin, CONFIG_PIN_BYTES);
    SHA256(both, sizeof(both), hash);
    uint32_t source = (uint32_t)hash[0] << 24 | (uint32_t)hash[1] << 16 | (uint32_t)hash[2] << 8 | hash[3];
    return source != 0 ? source : 1;
}

uint32_t tunnel_peer_source(const struct tunnel *t)
{
    assert(t->knows_pin);
    return t->peer_source;
}

bool tunnel_is_lower(const struct tunnel *t)
{
    assert(t->knows_pin);
    return t->is_lower;
}

const struct linkrate *tunnel_linkrate(const struct tunnel *t)
{
    return &t->rate;
}

uint64_t tunnel_rtt_us(const struct tunnel *t)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < CONFIG_LANES_MAX; i++) {
        const struct slot *s = &t->slots[i];
        if (s->lane != NULL && s->srtt_us > 0 && (best == 0 || s->srtt_us < best))
            best = s->srtt_us;
    }
    return best != 0 ? best : t->rate.rtt_us;
}

const char *tunnel_reason(const struct tunnel *t)
{
    return t->reason;
}
