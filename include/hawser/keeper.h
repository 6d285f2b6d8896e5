/* keeper.h - the root process: owns nft, rules and routes, supervises the engine (floor 6).
 * It forks the engine (no exec), which drops to its own user with NET_RAW and NET_BIND_SERVICE only; it answers a handful of
 * typed verbs over a SOCK_SEQPACKET pair, restarts a dead or hung engine (0.2 s to 10 s), and exits last, leaving
 * nothing behind. It never holds the TPROXY listener. One thread, plain poll(2) (signalfd, pidfd or SIGCHLD). */
#ifndef HAWSER_KEEPER_H
#define HAWSER_KEEPER_H

#include "hawser/config.h"
#include "hawser/identity.h"

/* What the engine is given when it starts; everything stays owned by the keeper's side of the fork, so the engine may
 * keep using it. */
struct keeper_engine_start {
    struct config *config;
    struct identity *identity;
    int keeper_fd;          /* the engine's end of the verbs' socket */
    int control_fd;         /* listening unix socket for hawserctl, or -1 */
    const char *config_path;
};

/* The engine's main: returns the process's exit code. */
typedef int keeper_engine_main(const struct keeper_engine_start *start);

/* Read the file and the identity, set up, supervise until SIGTERM or SIGINT. Exit code for main. SIGHUP reloads: the file is read
 * and checked again, and what is good is sent to the engine. */
int keeper_run(const char *config_path, keeper_engine_main *engine_main);

/* ---- the engine's side (verbs) ----
 * All are called from the engine's main (balancer) thread or, where said, from any thread; a call is one request and waits
 * for the one reply (the keeper answers in microseconds to a few milliseconds). 0 or -errno. */
struct keeper_link;
struct keeper_link *keeper_link_new(int keeper_fd);
void keeper_link_free(struct keeper_link *l);
/* The descriptor to poll for messages from the keeper (a new configuration; EOF: the keeper is gone, exit). */
int keeper_link_fd(const struct keeper_link *l);

enum keeper_event { KEEPER_EVENT_NONE, KEEPER_EVENT_RELOAD, KEEPER_EVENT_STOP, KEEPER_EVENT_GONE };
/* Take one waiting message; RELOAD gives *config (owned by the caller). */
enum keeper_event keeper_link_read(struct keeper_link *l, struct config **config);

/* The engine works: sent once listeners are open (sd_notify READY=1), then every second or so as heartbeat, no reply. An engine
 * silent for 10 s is killed and started anew. */
void keeper_tell_ready(struct keeper_link *l);
void keeper_tell_alive(struct keeper_link *l);
/* Ask the keeper to read the file again now (hawserctl reload). 0 when the file was good; else error[] tells, as config_load does. */
int keeper_ask_reload(struct keeper_link *l, char error[static CONFIG_ERROR_MAX]);
/* nft sets; see kernel.h. No reply is waited for. up has peer_count entries. */
void keeper_set_peers(struct keeper_link *l, const bool *up, size_t peer_count);
void keeper_add_refused(struct keeper_link *l, const struct endpoint *server, uint32_t timeout_s);
/* Any thread; no reply is waited for: verbs that name a route. */
void keeper_lane_route(struct keeper_link *l, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd);
/* Any thread (a mutex inside: this is not the data path); the keeper sets the options on the passed descriptor, the reply is waited for. */
int keeper_lane_socket(struct keeper_link *l, int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion);

#endif
