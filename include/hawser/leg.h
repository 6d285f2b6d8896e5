/* leg.h - the LAN socket of a session (floor 5).
 * A leg lives on any worker; its owner (a session on the peer's home, or a relay) may live on another loop.
 * They speak only by mails: commands down, events up, each in order, bytes by reference. A leg reads no
 * further than it is allowed (that is how back-pressure reaches the host) and queues what the host does not
 * take. A reset by the host is noticed even then; what it said before is let through first, while it moves.
 *
 * Life: leg_new and the commands are the owner's; events run on the owner's loop. `closed` is the last event;
 * after it the owner calls leg_release, its last command, which frees the leg. */
#ifndef HAWSER_LEG_H
#define HAWSER_LEG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "hawser/addr.h"
#include "hawser/chunk.h"
#include "hawser/config.h"
#include "hawser/loop.h"

struct leg;
struct mux;
struct store;

/* Destinations that did not answer to a client's own address (source = auto); one a worker, a small
 * direct-mapped cache. */
enum { ORIGIN_MEMORY_SLOTS = 256 };
struct origin_memory {
    struct {
        struct addr addr;
        uint64_t until_us;
    } slots[ORIGIN_MEMORY_SLOTS];
};

/* What a worker is to its legs, and to the peers whose home it is. live and moved_bytes are read by the
 * balancer. */
struct leg_host {
    struct loop *loop;
    _Atomic uint32_t live;
    _Atomic uint64_t moved_bytes;
    struct origin_memory memory;
    struct store *store; /* of the peers that are at home here; NULL: none */
    TAILQ_HEAD(mux_list, mux) muxes;
    struct remembered *remembered; /* of its peers (remember.h) */
    bool remembers;                /* somebody writes it to disk */
};

/* live is counted before a leg is made (by whoever picks the worker), so that a retiring worker sees it
 * coming. A leg takes one of these counts over and gives it back when it is freed; leg_new that fails gives
 * it back too. */
static inline void leg_host_reserve(struct leg_host *h, uint32_t n)
{
    atomic_fetch_add(&h->live, n);
}

static inline void leg_host_release(struct leg_host *h, uint32_t n)
{
    atomic_fetch_sub(&h->live, n);
}

struct leg_events {
    void (*connected)(void *owner);
    void (*data)(void *owner, struct slice s); /* the reference becomes the owner's */
    void (*eof)(void *owner);
    void (*consumed)(void *owner, uint64_t total_bytes); /* written to the socket so far */
    void (*closed)(void *owner, int err);                /* 0: both directions ended in order */
};

/* Connect to a destination. */
struct leg_origin {
    struct endpoint client, server;
    enum config_source source;
    uint8_t dscp;
    uint64_t timeout_us;
};

/* A leg over an accepted descriptor (fd >= 0, owned from now on), or one that connects (fd < 0, origin
 * copied). It takes over one count of host->live. The owner's loop is the calling one. NULL: no memory (fd is
 * closed). Nothing happens before leg_start. */
struct leg *leg_new(struct leg_host *host, struct loop *owner_loop, const struct leg_events *events,
                    void *owner, int fd, const struct leg_origin *origin);
/* Begin on the host's loop; up to allowed_bytes may be read. */
void leg_start(struct leg *l, uint64_t allowed_bytes);

/* Absolute limit of bytes to read from the host; never falls. */
void leg_allow(struct leg *l, uint64_t total_bytes);
/* Bytes for the host; takes the reference over. */
void leg_write(struct leg *l, struct slice s);
/* After what was written: the end of this direction. */
void leg_finish(struct leg *l);
/* Reset the host's connection now. */
void leg_abort(struct leg *l);
/* After `closed`: free. */
void leg_release(struct leg *l);

/* Give back what the calling thread keeps for its legs; at its end. */
void leg_thread_end(void);

/* The socket of an origin, connecting; origin.c. as_self: in our own name. fd or -errno. */
int origin_connect(const struct leg_origin *o, bool as_self);
bool origin_remembered_self(struct origin_memory *m, const struct addr *server, uint64_t now_us);
void origin_remember_self(struct origin_memory *m, const struct addr *server, uint64_t now_us);

#endif
