/* node.h - the running engine: workers, peers, listeners and what they share (floor 6).
 * engine.c starts and stops it, worker.c runs the threads, peers.c knows the peers and lends muxes what they
 * need, intercept.c accepts and balances, links.c remembers what was learned about links (links_file.h).
 *
 * Threads: the main thread is the balancer: it accepts, talks to the keeper and answers the control socket.
 * What is marked 'main' is touched only there; 'home' only on that worker; atomics and what a mutex guards by
 * any thread. */
#ifndef HAWSER_NODE_H
#define HAWSER_NODE_H

#include <pthread.h>
#include <sys/queue.h>

#include "hawser/balance.h"
#include "hawser/bypass.h"
#include "hawser/greeter.h"
#include "hawser/keeper.h"
#include "hawser/links_file.h"
#include "hawser/mux.h"
#include "hawser/rules.h"
#include "hawser/shelving.h"
#include "hawser/toucher.h"

enum {
    NODE_WORKERS_MAX = 256,
    NODE_LOCAL_MAX = 256,
    NODE_FORBIDDEN_MAX = 2 * CONFIG_PEERS_MAX + 256,
    NODE_REFUSED_SLOTS = 4096,
    NODE_REFUSED_S = 60,
};

/* What decides where sessions may go; a snapshot, replaced as a whole. Reference counted. */
struct landscape {
    _Atomic uint32_t refs;
    struct config *config;
    struct rules *rules;
    struct prefix local[NODE_LOCAL_MAX];     /* networks of the [intercept] interfaces */
    uint8_t local_interface[NODE_LOCAL_MAX]; /* index in config->interfaces */
    size_t local_count;
    size_t forbidden_count;
    struct addr forbidden[]; /* our own and the peers' addresses */
};

struct node;

struct worker {
    struct leg_host host; /* first: a leg_host is a worker */
    struct node *node;
    unsigned number;
    bool permanent;
    pthread_t thread;
    clockid_t cpu_clock;
    _Atomic bool usable;
    struct greeter *greeter;      /* home */
    struct landscape *landscape;  /* home */
    unsigned greeted;             /* main: tunnel connections given to it */
    uint64_t homed_bits_per_s;    /* main: of the peers whose home this is */
    uint64_t cpu_us, moved_bytes; /* main: at the last look */
    uint32_t cpu_permille;        /* main: in the last second */
    _Atomic uint64_t moved_lately;
    bool joined; /* main: the thread has ended */
};

/* A peer that is or was configured; lives as long as the node. */
struct node_peer {
    char name[CONFIG_NAME_MAX];
    struct worker *home;
    struct mux *mux;       /* home; NULL while not configured */
    bool configured;       /* main */
    bool up;               /* main */
    size_t index;          /* main: in the current configuration */
    struct addr lane_from; /* main: where its lanes come from, AF_UNSPEC: not known */
    TAILQ_ENTRY(node_peer) link;
    /* under node.peers_lock: what greetings on other threads need */
    uint8_t pins[CONFIG_PINS_MAX][CONFIG_PIN_BYTES];
    size_t pin_count;
    uint8_t instance[GREETING_INSTANCE_BYTES]; /* of its tunnel at our end; all zero before there is one */
    uint32_t route_window;                     /* first window of lanes towards it in segments */
};
TAILQ_HEAD(node_peer_list, node_peer);

/* What was learned about the link to a peer (links.c). */
struct link_memory {
    char peer[CONFIG_NAME_MAX];
    uint64_t rate_bits_per_s, rtt_us;
};

struct node {
    struct loop *loop; /* main */
    struct keeper_link *keeper;
    struct landscape *landscape; /* main */
    struct config *boot_config;  /* what needs a restart is as it says */
    struct identity *identity;
    SSL_CTX *accept_tls, *dial_tls;
    struct tunnel_world tunnel_world;
    struct mux_world mux_world;
    struct mux_memory memory;
    struct budget store_memory; /* of all homes' stores; cap 0: there are none */
    struct shelving *shelving;  /* of those stores; NULL: in memory only */
    int store_error;            /* why shelving is NULL though there is a folder, or 0 */
    struct toucher *toucher;    /* of those stores; NULL: too few processors */
    uint64_t store_seed;        /* of those stores, where they are on disk: the same after each start */
    struct greeter_world greeter_world;
    struct bypass bypass;
    char name[CONFIG_NAME_MAX];
    uint64_t started_us;

    struct worker *workers[NODE_WORKERS_MAX];
    _Atomic size_t worker_count; /* slots used, retired ones included */
    size_t workers_min, workers_max;
    size_t homes; /* of workers_min, the first */
    struct balance_size size;

    pthread_mutex_t peers_lock;
    struct node_peer_list peers; /* written by main under peers_lock */
    struct node_peer **by_index; /* main */
    size_t by_index_count, ending_count;
    void (*ended)(struct node *n);

    _Atomic uint64_t sessions;
    _Atomic size_t peer_count; /* configured */
    _Atomic uint64_t sessions_max;
    uint64_t descriptors_max;
    int intercept_fd[2], tunnel_fd; /* main; -1: closed */
    struct event intercept_event[2], tunnel_event;
    bool wants_intercept, accepting, draining;
    enum bypass_reason closed_for; /* while !accepting */
    struct {
        struct endpoint server;
        uint64_t until_us;
    } refused[NODE_REFUSED_SLOTS]; /* main */

    struct link_memory *links; /* main */
    size_t link_count;
    bool links_changed;
    struct links_file *links_file; /* NULL: no folder */

    struct event second, keeper_event, addresses; /* addresses: look at them again, soon */
    int control_fd;
    unsigned seconds; /* since the start */
    bool stopping;
    /* Told after a reload was applied; the keys that need a restart, "" for none. */
    void (*reloaded)(struct node *n, void *arg, const char *restart_needed);
    void *reloaded_arg;
    int exit_code;
};

/* ---- worker.c ---- */
/* Start a thread. The first of the permanent workers are homes. 0 or -errno. Main. */
int worker_start(struct node *n, bool permanent);
/* Stop all, join, free. Main, after every mux has ended. */
void workers_stop(struct node *n);
/* Once a second: load figures, growing and retiring. Main. */
void workers_tick(struct node *n);
/* The worker for a new session whose peer's home is `home` (NULL: none); one count of live is reserved. Any
 * thread. */
struct worker *worker_pick(struct node *n, struct worker *home);
/* Run work(worker, arg) on the worker's thread. Any thread. 0 or -ENOMEM (not run). */
int worker_call(struct worker *w, void (*work)(struct worker *w, void *arg), void *arg);
/* The same on the main thread. */
int node_call(struct node *n, void (*work)(struct node *n, void *arg), void *arg);

/* ---- peers.c ---- */
/* Fill in the worlds that tunnels, muxes and greeters are lent. Main, once. */
void peers_lend_worlds(struct node *n);
/* Start, change and end muxes so that they are those of n->landscape's configuration. Main. */
int peers_apply(struct node *n);
/* End all; `done` runs on main when nothing is left. */
void peers_end(struct node *n, void (*done)(struct node *n));
/* The configured peer with that index, or NULL. Main. */
/* What a peer's link is taken for, where no rate is set as well: bits a second. */
uint64_t peer_rate(const struct config_peer *c);
struct node_peer *peers_by_index(struct node *n, size_t index);
/* A new landscape for a configuration, with the addresses that the peers' lanes come from; *out is NULL when
 * that is what the node has already. Main. */
int peers_landscape(struct node *n, struct landscape **out, struct config *config);
/* Tell the keeper which peers are up. Main. */
void peers_tell_keeper(struct node *n);

/* ---- landscape.c ---- */
/* more: further addresses that no peer may reach, e.g. where lanes come from. was: NULL, or the one to
 * replace: when configuration and addresses are still its own, *out is NULL and no rules are made. */
int landscape_new(struct landscape **out, const struct landscape *was, struct config *config,
                  const struct addr *more, size_t more_count);
struct landscape *landscape_ref(struct landscape *l);
void landscape_unref(struct landscape *l);
/* Log which of the peers' networks overlap those of our [intercept] interfaces. */
void landscape_log_overlaps(const struct landscape *l);
/* The [intercept] interface behind which the client is, NULL when that cannot be told: the only one there is,
 * or the one whose network holds the client (a socket does not tell where its SYN came in). */
const char *landscape_interface_of(const struct landscape *l, const struct addr *client);
/* Hand it to the node and every worker. Takes the reference over. Main. */
void landscape_set(struct node *n, struct landscape *l);

/* ---- intercept.c ---- */
/* Open the listeners that the configuration asks for. 0, or -errno with a log line that says what to do.
 * Main. */
int intercept_open(struct node *n);
void intercept_close(struct node *n);
/* Once a second: take tunnel connections again, if descriptors had run out. Main. */
void intercept_resume_tunnel(struct node *n);
/* Once a second: budgets; closes and opens the TPROXY listener. Main. */
void intercept_tick(struct node *n);
/* Connections that the firewall let go direct because their peer was down. Main; waits for the keeper. */
uint64_t intercept_count_peer_down(struct node *n);
/* A destination that the far side could not reach. Main. */
void intercept_refused(struct node *n, const struct endpoint *server);

/* ---- links.c ---- */
/* What was learned before, from the store's folder; a disk that stands is waited for 1 s, and then all is
 * learned anew. 0 or -errno: no thread. Main, at the start. */
int links_load(struct node *n);
/* Have written what has changed; waits for nothing. Main. */
void links_save(struct node *n);
/* The last word: waits at most 1 s for what is still being written. Main. */
void links_end(struct node *n);
void links_learn(struct node *n, const char *peer, uint64_t rate_bits_per_s, uint64_t rtt_us);
/* What is remembered of a peer's link, NULL when nothing is. */
const struct link_memory *links_find(const struct node *n, const char *peer);

#endif
