/* mux.h - the sessions of one tunnel (floor 5).
 * A mux lives on the peer's home loop, owns the tunnel and the sessions, and turns legs' bytes into frames
 * and back: mux.c (life, tunnel's events), session.c (a session's states), transmit.c (what goes next into a
 * block), receive.c (what a frame does). All calls are the home's. PROTOCOL.md, 'Sessions'. */
#ifndef HAWSER_MUX_H
#define HAWSER_MUX_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/budget.h"
#include "hawser/config.h"
#include "hawser/frame.h"
#include "hawser/leg.h"
#include "hawser/tunnel.h"

struct mux;

/* Memory that sessions may hold: `floor` pays each session's least window, `growth` everything above. */
struct mux_memory {
    struct budget floor, growth;
    uint64_t session_floor_bytes;
};

/* What the node lends to its muxes; outlives them. Callbacks may come from any home loop. */
struct mux_world {
    struct mux_memory *memory;
    _Atomic uint64_t connect_timeout_us;
    void *owner;
    /* A worker for a new session's leg, the home where it is not too loaded; one count of its live is
     * reserved. */
    struct leg_host *(*place)(void *owner, struct leg_host *home);
    /* The peer (its name, and its index in the mux's configuration) asks to open this: FRAME_RST_OTHER to go
     * on (with *class_index and *source filled in), else the reason to refuse. */
    enum frame_rst_reason (*admit)(void *owner, struct leg_host *home, const struct config *config,
                                   size_t peer, const struct frame *open, int *class_index,
                                   enum config_source *source);
    /* The class of a session whose client's first bytes are of that protocol (a bit of enum config_proto), as
     * an index of config's classes. Asked only where a class has `proto`. */
    int (*classify)(void *owner, struct leg_host *home, const struct config *config, size_t peer,
                    const struct endpoint *client, const struct endpoint *server, uint8_t dscp,
                    uint32_t proto);
    /* The far side could not reach this destination. */
    void (*refused)(void *owner, const struct endpoint *server, enum frame_rst_reason reason);
    /* The tunnel came up or went down. */
    void (*state)(void *owner, const char *peer_name, bool up);
    /* A session ended; the node's count of sessions goes down. */
    void (*session_ended)(void *owner);
    /* Count a session in; false when the node's budget of sessions is used. for_peer: how many the peer that
     * opens it has here already, of which it may not have more than three quarters of what the others leave,
     * where there are others; 0 for our own clients' sessions. */
    bool (*session_starts)(void *owner, uint64_t for_peer);
};

/* config is referenced; peer is the index in it. 0 or -errno. */
int mux_new(struct mux **out, struct leg_host *home, const struct mux_world *world,
            const struct tunnel_world *tunnel_world, struct config *config, size_t peer,
            uint64_t learned_rate_bits_per_s, uint64_t learned_rtt_us);
/* Resets all sessions and closes the lanes. Legs on other loops go on for the mails it takes them to end:
 * `gone` is called on the home when everything is freed. */
void mux_end(struct mux *m, void (*gone)(void *arg), void *arg);
/* Another configuration (reload) in which the same peer has that index. */
void mux_reconfigure(struct mux *m, struct config *config, size_t peer);

/* An intercepted connection becomes a session; fd is owned from now on. The caller has counted it
 * (session_starts). */
struct mux_intercepted {
    int fd;
    struct endpoint client, server;
    uint8_t dscp;
    int class_index;       /* RULES_NONE: default */
    struct leg_host *host; /* one count of its live is reserved */
};
void mux_open(struct mux *m, const struct mux_intercepted *in);
/* An accepted lane of this peer. */
void mux_adopt(struct mux *m, struct lane *l);

/* store_events.evicted; owner: the home whose store it is. */
void mux_segment_evicted(void *owner, const struct segment_id *id);
/* A segment came back into the home's store: peers that were told before what is held are told of it. */
void mux_segment_adopted(struct leg_host *home, const struct segment_id *id);

bool mux_is_up(const struct mux *m);
/* Which ends of the tunnel have a store: bytes are deduplicated where both have. What was so when it was up
 * last. */
enum mux_store_ends { MUX_STORE_NONE, MUX_STORE_HERE, MUX_STORE_THERE, MUX_STORE_BOTH };
enum mux_store_ends mux_store_ends(const struct mux *m);
struct tunnel *mux_tunnel(struct mux *m);
const char *mux_peer_name(const struct mux *m);

/* For reports. */

/* Of sessions, in one direction. */
struct mux_traffic {
    uint64_t bytes;       /* of the host that sends, once each */
    uint64_t saved_bytes; /* of them: crossed as references, the last time; of what is sent: once confirmed */
    uint64_t wire_bytes;  /* of the frames that carried them, again after a loss too; before compression */
};
struct mux_totals {
    uint64_t sessions, opened, in_bytes,
        out_bytes; /* in: from hosts here into the tunnel; out: to hosts here */
    struct mux_traffic sent, came;
    uint64_t misses,
        missed_bytes; /* frames here whose references did not resolve; bytes sent again for the peer's */
    uint64_t repeated_misses; /* the peer asked only for what it had asked for before */
};
void mux_read_totals(const struct mux *m, struct mux_totals *out);
struct mux_session_report {
    uint64_t id, age_us, in_bytes, out_bytes;
    struct mux_traffic sent, came;
    uint64_t unacked_bytes; /* read here, not yet with the host over there */
    uint64_t queued_bytes;  /* received here, not yet taken by our host */
    uint64_t early_bytes;   /* of queued: behind a gap */
    struct endpoint client, server;
    const char *class_name, *state, *lane;
    bool near, encrypted;
};
struct mux_class_report {
    const char *name, *action;
    uint32_t weight;
    uint64_t sessions;
    struct mux_traffic sent, came;
};
/* The i-th class, the default one last; false past it. */
bool mux_report_class(const struct mux *m, size_t i, struct mux_class_report *out);
void mux_each_session(const struct mux *m, void (*visit)(void *arg, const struct mux_session_report *r),
                      void *arg);

#endif
