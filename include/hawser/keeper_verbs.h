/* keeper_verbs.h - the verbs between engine and keeper: their bytes, and the keeper's side (floor 6).
 * Two SOCK_SEQPACKET pairs: notes (engine to keeper, no reply) share one with the events (keeper to engine);
 * calls have one of their own, where each request waits for its reply, so a worker that waits never takes an
 * event meant for the main thread. A message is one packet: struct keeper_head and exactly the verb's
 * payload, in host order, since both ends are the same program. The keeper trusts nothing in it: lengths,
 * ranges, and that it speaks only of what is configured. Never blocks. One thread. */
#ifndef HAWSER_KEEPER_VERBS_H
#define HAWSER_KEEPER_VERBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/config.h"
#include "hawser/kernel.h"

enum {
    KEEPER_BUFFER_MAX = 256 << 20, /* bytes of a lane socket's buffer */
    KEEPER_WINDOW_MAX = 65535,     /* segments of an initial window */
    KEEPER_REFUSED_MAX_S = 3600,
    KEEPER_CONGESTION_MAX = 16, /* bytes, NUL included (TCP_CA_NAME_MAX) */
};

/* name, bytes of payload, answered (a call), carries a descriptor */
#define KEEPER_VERB_TABLE(X)                                                                                 \
    X(READY, 0, false, false)                                                                                \
    X(ALIVE, 0, false, false)                                                                                \
    X(SET_PEERS, sizeof(struct keeper_peers), false, false)                                                  \
    X(ADD_REFUSED, sizeof(struct keeper_refused), false, false)                                              \
    X(LANE_ROUTE, sizeof(struct keeper_route), false, false)                                                 \
    X(LANE_SOCKET, sizeof(struct keeper_socket), true, true)                                                 \
    X(COUNT_PEER_DOWN, 0, true, false)                                                                       \
    X(RELOAD, 0, true, false)

enum keeper_verb {
#define KEEPER_ENUM(name, payload_bytes, answered, descriptor) KEEPER_VERB_##name,
    KEEPER_VERB_TABLE(KEEPER_ENUM)
#undef KEEPER_ENUM
        KEEPER_VERB_COUNT
};

struct keeper_head {
    uint32_t verb;
    uint32_t serial; /* of a call: comes back in the reply */
};
struct keeper_peers {
    uint32_t generation; /* of the configuration that the bits mean: the reloads since this engine started */
    uint32_t count;
    uint8_t bits[CONFIG_PEERS_MAX / 8];
};
struct keeper_refused {
    struct endpoint server;
    uint32_t timeout_s;
};
struct keeper_route {
    struct addr peer;
    uint32_t initcwnd, initrwnd;
};
struct keeper_socket {
    uint64_t rcvbuf_bytes, sndbuf_bytes;
    char congestion[KEEPER_CONGESTION_MAX];
};
struct keeper_message {
    struct keeper_head head;
    union {
        struct keeper_peers peers;
        struct keeper_refused refused;
        struct keeper_route route;
        struct keeper_socket socket;
    } is;
};
_Static_assert(offsetof(struct keeper_message, is) == sizeof(struct keeper_head),
               "a packet has no gap after its head");

struct keeper_reply {
    uint32_t serial;
    int32_t result; /* 0 or negative, as err.h */
    uint64_t count; /* of COUNT_PEER_DOWN */
    char text[CONFIG_ERROR_MAX];
};
struct keeper_event_message {
    uint32_t event; /* enum keeper_event */
    uint32_t generation;
    uint64_t text_bytes; /* RELOAD: length of the text in the memfd that comes along */
};

/* What the keeper does to the machine: kernel.h's functions, or a test's. */
struct keeper_actions {
    int (*kernel_new)(struct kernel **out, const struct config *c, char error[static KERNEL_ERROR_MAX]);
    int (*kernel_reconfigure)(struct kernel *k, const struct config *c, char error[static KERNEL_ERROR_MAX]);
    void (*kernel_free)(struct kernel *k);
    int (*kernel_set_peers)(struct kernel *k, const struct config *c, const bool *up,
                            char error[static KERNEL_ERROR_MAX]);
    int (*kernel_add_refused)(struct kernel *k, const struct endpoint *server, uint32_t timeout_s,
                              char error[static KERNEL_ERROR_MAX]);
    int (*kernel_lane_route)(struct kernel *k, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                             char error[static KERNEL_ERROR_MAX]);
    int (*kernel_lane_socket)(int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion);
    int (*kernel_count_peer_down)(struct kernel *k, uint64_t *out);
};
extern const struct keeper_actions keeper_actions_real;

struct keeper_verbs {
    const struct keeper_actions *actions;
    struct kernel *kernel; /* borrowed */
    struct config *config; /* borrowed: what verbs are checked against */
    uint32_t generation;
    bool behind;               /* the kernel does not do what up[] says: keeper_verbs_retry */
    bool frozen;               /* we are stopping: nothing is caught any more, whatever the engine says */
    uint32_t complaints;       /* lines logged about this engine's verbs: bounded */
    bool up[CONFIG_PEERS_MAX]; /* what the kernel was last told */
};

/* A new engine: generation and complaints begin anew, no peer is up, and the kernel is told so. */
void keeper_verbs_reset(struct keeper_verbs *v);
/* Another configuration: which peers are up is carried over by name and pins, the kernel is told, the
 * generation goes up. */
void keeper_verbs_reconfigure(struct keeper_verbs *v, struct config *config);

/* If the kernel could not be told which peers are up, try again. Called once a second: what is caught for a
 * peer that is down goes nowhere. */
void keeper_verbs_retry(struct keeper_verbs *v);

enum keeper_took {
    KEEPER_TOOK_NOTHING, /* nothing waits */
    KEEPER_TOOK_DONE,    /* a verb was done, or refused with a log line */
    KEEPER_TOOK_READY,
    KEEPER_TOOK_ALIVE,
    KEEPER_TOOK_RELOAD, /* the caller reloads and calls keeper_verbs_reply */
    KEEPER_TOOK_CLOSED, /* the engine's end is closed */
};
/* Take one message from fd (calls: the pair on which replies are sent) and do what it says. */
enum keeper_took keeper_verbs_take(struct keeper_verbs *v, int fd, bool calls, uint32_t *serial);
/* Send a reply; its serial, result and count are set. */
void keeper_verbs_reply(int fd, struct keeper_reply *reply, const char *text);

/* One packet, and a descriptor with it unless that is negative; flags of sendmsg. 0 or -errno. */
int keeper_packet_send(int to, const void *bytes, size_t len, int fd, int flags);
/* Send an event; with RELOAD the text, in a sealed memfd. -EAGAIN: the engine does not read. */
int keeper_event_send(int fd, uint32_t event, uint32_t generation, const char *text, size_t text_bytes);

#endif
