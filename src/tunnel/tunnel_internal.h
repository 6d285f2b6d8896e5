/* tunnel_internal.h - the parts of a tunnel: tunnel.c keeps lanes, tunnel_dial.c makes ours, tunnel_watch.c
 * looks after them (floor 4). Nobody else includes this. */
#ifndef HAWSER_TUNNEL_INTERNAL_H
#define HAWSER_TUNNEL_INTERNAL_H

#include "hawser/effort.h"
#include "hawser/tunnel.h"

enum {
    TUNNEL_TICK_ACTIVE_US = 100000, /* while bytes move or are outstanding */
    TUNNEL_TICK_IDLE_US = 2500000,  /* while no session lives */
    TUNNEL_LEFT_KEPT = 4,
    TUNNEL_BATCH_US = 5000, /* of the link's rate */
    TUNNEL_REDIAL_FIRST_US = 200000,
};

struct slot {
    struct tunnel *tunnel;
    unsigned number;
    struct lane *lane;    /* UP, ours or accepted */
    struct lane *dialled; /* under way */
    struct event redial;
    uint64_t backoff_us, up_since_us;
    unsigned mss_step;
    bool stalled, owes_ping, owes_pong, outstanding;
    uint64_t alive_us;    /* the peer's kernel acknowledged new bytes */
    uint64_t burst_bytes; /* sent since the lane was idle */
    uint64_t pong_token, ping_sent_us;
    /* the last tick's reading */
    uint64_t acked, retransmitted, out_bytes, frame_bytes, progress_us, srtt_us;
    uint64_t pacing;     /* what the socket has */
    uint64_t chosen_us;  /* when its congestion control began */
    uint64_t carried_us; /* when it last carried more than pings and copies of small messages */
    bool congestion_settled, short_path;
    uint64_t notsent;
};

struct tunnel {
    struct loop *loop;
    const struct tunnel_world *world;
    const struct config_peer *peer;
    const struct tunnel_events *events;
    void *owner;
    struct slot slots[CONFIG_LANES_MAX];
    struct task kick, reap;
    struct event tick;
    bool tick_active;
    uint64_t tick_us, tick_cpu_us; /* when it ran last; what the thread had used */
    uint64_t express_bytes_per_s;  /* smoothed */
    struct lane *dead;             /* a list; freed at the end of the turn */
    unsigned up_count;
    struct linkrate rate;
    struct effort effort; /* for what leaves the level open */
    uint64_t learned_told;
    bool starved;                 /* a bulk lane had room and nothing to send when it was last fed */
    bool leader_is_old;           /* slot 0's lane came first, without the route of those after it */
    struct lane_counters retired; /* of lanes that are gone */
    uint8_t instance[GREETING_INSTANCE_BYTES], peer_instance[GREETING_INSTANCE_BYTES];
    uint8_t left[TUNNEL_LEFT_KEPT][GREETING_INSTANCE_BYTES]; /* the peer's former ones, in turn; zero: none */
    unsigned left_next;
    bool knows_peer, is_lower, knows_pin;
    uint8_t peer_pin[CONFIG_PIN_BYTES];
    uint32_t peer_source; /* tunnel_source_of that pin */
    uint64_t opening_credit, peer_features;
    char reason[320];
};

/* Lanes that may be given data. */
static inline bool slot_usable(const struct slot *s)
{
    return s->lane != NULL && !s->stalled;
}

/* tunnel.c: the lane of a slot is gone, by itself or by us. */
void tunnel_lose(struct slot *s, int err);
/* A lane that is UP and detached enters its slot, unless a better one is there: then false, and the caller
 * closes it. The lane's own callbacks may be on the stack, those of the lanes in the slots are not. */
bool tunnel_settle(struct slot *s, struct lane *l);
/* Free a lane in a later turn. */
void tunnel_bury(struct tunnel *t, struct lane *l);
/* Why no lane is up, for reports: what failed towards the peer's address. */
void tunnel_note_reason(struct tunnel *t, const char *what, const struct endpoint *with, int err);
/* The route by which the next lane to that address starts at the link's rate. */
void tunnel_set_route(struct tunnel *t, const struct addr *remote);
bool tunnel_is_pinned(const struct config_peer *peer, const uint8_t *pin);

/* tunnel_dial.c */
void tunnel_dial_init(struct slot *s);
void tunnel_dial_first(struct tunnel *t);
/* Dial a slot's lane after a wait, if it is ours to dial and there is none. */
void tunnel_want_redial(struct slot *s);
/* Dial the first lane anew, if it began before its route was set; at a quiet moment. */
void tunnel_renew_leader(struct tunnel *t);

/* congestion.c: what a lane runs once its round trip is known; and, before bulk is flushed, after a pause. */
void tunnel_settle_congestion(struct slot *s, uint64_t rtt_us);
void tunnel_refresh_congestion(struct slot *s, uint64_t now_us);

/* tunnel_watch.c */
void tunnel_count_lane(struct lane_counters *sum, const struct lane *l);
void tunnel_want_tick(struct tunnel *t, uint64_t us);
void tunnel_on_tick(evutil_socket_t fd, short what, void *arg);
void tunnel_set_notsent(struct tunnel *t, struct slot *s);
void tunnel_set_pacing(struct slot *s, uint64_t bytes_per_s);

#endif
