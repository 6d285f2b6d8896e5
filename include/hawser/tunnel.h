/* tunnel.h - one peer's lanes: dialled, greeted, watched, paced and fed (floor 4).
 * A tunnel lives on one loop, its home; every call is made there. It carries frames of sessions without
 * knowing what a session is: the flow floor hands it frames when a lane has room (fill) and takes what
 * arrives (frame). Slot 0 is the express lane, the others are bulk lanes; while only one kind is up it serves
 * for both. */
#ifndef HAWSER_TUNNEL_H
#define HAWSER_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/config.h"
#include "hawser/frame.h"
#include "hawser/identity.h"
#include "hawser/lane.h"
#include "hawser/linkrate.h"
#include "hawser/loop.h"

struct tunnel;

/* Which sessions a lane carries. */
enum tunnel_role { TUNNEL_ROLE_ANY, TUNNEL_ROLE_EXPRESS, TUNNEL_ROLE_BULK };
const char *tunnel_role_text(enum tunnel_role r);

/* The congestion control that lanes to this peer begin with. */
const char *tunnel_congestion(const struct config_peer *p);

/* What the node lends to its tunnels; outlives them. The callbacks may be called from any home loop. */
struct tunnel_world {
    SSL_CTX *dial_tls;
    const char *node_name;
    uint8_t pin[CONFIG_PIN_BYTES];
    uint8_t source_secret[IDENTITY_SECRET_BYTES]; /* of tunnel_source_of */
    struct config_mark lane_mark;
    uint64_t opening_credit_bytes;
    uint64_t features; /* of the sessions' frames, for our greetings */
    void *owner;
    /* Privileged socket options; may fail, the lane then runs with what it has. */
    int (*lane_socket)(void *owner, int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes,
                       const char *congestion);
    void (*lane_route)(void *owner, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd);
    /* A better estimate of the link to this peer, to be remembered. */
    void (*learned)(void *owner, const char *peer_name, uint64_t rate_bits_per_s, uint64_t rtt_us);
    /* Our instance from now on, for greetings to this peer that other threads send; first in tunnel_new. */
    void (*instance)(void *owner, const char *peer_name,
                     const uint8_t instance[static GREETING_INSTANCE_BYTES]);
};

enum { TUNNEL_LEVEL_AUTO = -1 };

struct tunnel_events {
    void (*up)(void *owner);   /* the first lane is up */
    void (*down)(void *owner); /* the last lane is gone */
    /* What was sent over the lane in this slot may not have arrived: send again what is unconfirmed. */
    void (*lane_lost)(void *owner, unsigned slot);
    /* It comes late, over a lane that makes no progress and is up still: others had better carry it, too. */
    void (*lane_stalls)(void *owner, unsigned slot);
    /* The peer started anew, or gave up our sessions: they are void. Comes before up. */
    void (*peer_restarted)(void *owner);
    /* A session's frame. chunk holds the bytes of DATA. 0, or a negative error that closes the lane. */
    int (*frame)(void *owner, unsigned slot, const struct frame *f, struct chunk *chunk);
    /* Write frames for a lane of that role into out; nothing when there is nothing to send. How the block is
     * to be compressed: 0 not at all, 1 to 19 at this level, TUNNEL_LEVEL_AUTO as the tunnel sees fit. */
    int (*fill)(void *owner, unsigned slot, enum tunnel_role role, struct cursor_out *out);
    /* Sessions live now (decides how soon a silent peer is found dead). */
    bool (*busy)(void *owner);
};

/* peer is borrowed and must outlive the tunnel or its next tunnel_reconfigure. 0 or -errno. Starts to dial at
 * once where the peer has an address. */
int tunnel_new(struct tunnel **out, struct loop *loop, const struct tunnel_world *world,
               const struct config_peer *peer, uint64_t learned_rate_bits_per_s, uint64_t learned_rtt_us,
               const struct tunnel_events *events, void *owner);
/* Closes the lanes; no event follows. */
void tunnel_free(struct tunnel *t);
/* Other values for the same peer (reload). */
void tunnel_reconfigure(struct tunnel *t, const struct config_peer *peer);

/* An accepted lane that is UP and detached becomes this tunnel's, or is closed and freed (the slot is taken
 * by a better one, or the slot is out of range). */
void tunnel_adopt(struct tunnel *t, struct lane *l);
/* Our sessions with this peer were given up while it was away: the next greeting says so. */
void tunnel_forget(struct tunnel *t);
/* Something to send: lanes with room are filled at the end of the turn. */
void tunnel_kick(struct tunnel *t);

bool tunnel_is_up(const struct tunnel *t);
/* The peer's opening credit; 0 while never up. */
uint64_t tunnel_opening_credit(const struct tunnel *t);
/* Whether this node has the lower pin (side bit of session ids). */
bool tunnel_is_lower(const struct tunnel *t);
const struct linkrate *tunnel_linkrate(const struct tunnel *t);
/* Smoothed round trip of the best lane, 0 unknown. */
uint64_t tunnel_rtt_us(const struct tunnel *t);

/* Features that both ends have, and those of the peer, which are 0 before it was up. */
uint64_t tunnel_features(const struct tunnel *t);
uint64_t tunnel_peer_features(const struct tunnel *t);
/* A number that names the peer (by its key) as a source of the store, not 0; once a lane was up. */
uint32_t tunnel_peer_source(const struct tunnel *t);
/* The number of a peer with that pin: a hash of the pin and of this node's secret, the same after each start.
 * Only this node can say which it is, so nobody can look for a key whose number is another peer's. */
uint32_t tunnel_source_of(const struct tunnel_world *world, const uint8_t pin[static CONFIG_PIN_BYTES]);

struct tunnel_lane_report {
    unsigned slot;
    enum tunnel_role role;
    const char *state;
    struct endpoint remote;
    uint64_t rtt_us, cwnd_bytes, pacing_bytes_per_s, delivery_bytes_per_s, retransmits;
    uint64_t in_bytes, out_bytes;
    struct lane_block_counters in, out;
    int level; /* of compression, 0: none */
};
/* A look at one slot, for reports. False past the last slot. */
bool tunnel_report_lane(const struct tunnel *t, unsigned slot, struct tunnel_lane_report *out);
unsigned tunnel_lanes_up(const struct tunnel *t);
/* Bytes and blocks over all lanes so far. */
void tunnel_count(const struct tunnel *t, struct lane_counters *sum);
/* Why there is no lane, for people: "" while up. */
const char *tunnel_reason(const struct tunnel *t);

#endif
