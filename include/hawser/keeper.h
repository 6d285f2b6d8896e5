/* keeper.h - the root process: owns nft, rules and routes, supervises the engine (floor 6).
 * It forks the engine (no exec), which drops to its own user with NET_RAW and NET_BIND_SERVICE only; it
 * answers a handful of typed verbs over two SOCK_SEQPACKET pairs (keeper_verbs.h), restarts a dead or hung
 * engine (0.2 s to 10 s), and exits last, leaving nothing behind. It never holds the TPROXY listener. One
 * thread, plain poll(2) and signalfd(2). */
#ifndef HAWSER_KEEPER_H
#define HAWSER_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/config.h"
#include "hawser/identity.h"

/* What the engine is given when it starts; everything stays owned by the keeper's side of the fork, so the
 * engine may keep using it. All other descriptors but 0, 1 and 2 are closed. SIGINT, SIGHUP and SIGPIPE are
 * ignored (the keeper gets the first two and passes on what they mean), all other signals are at their
 * defaults and unblocked. */
struct keeper_engine_start {
    struct config *config;
    struct identity *identity;
    int keeper_fd;      /* the engine's end of the one-way pair: notes to the keeper, events from it */
    int keeper_call_fd; /* the engine's end of the pair for verbs that are answered */
    int control_fd;     /* listening unix socket for hawserctl, or -1 */
    int store_error; /* -errno: the store's folder could not be made, which is logged; it is not to be used */
    const char *config_path;
};

/* The engine's main: returns the process's exit code, which is handed to _exit(2) (nothing of the keeper's is
 * to be flushed or freed by the engine). 1 before any engine was ever ready means: hopeless, do not try
 * again; the engine has logged why. */
typedef int keeper_engine_main(const struct keeper_engine_start *start);

/* Read the file and the identity, set up, supervise until SIGTERM or SIGINT. Exit code for main. SIGHUP
 * reloads: the file is read and checked again, and what is good is sent to the engine. What a reload could
 * not apply (config_restart_needed) is applied if the engine has to be started anew. */
int keeper_run(const char *config_path, keeper_engine_main *engine_main);

/* The same with other kernel calls and times, for tests. */
struct keeper_actions;
struct keeper_times {
    uint64_t silent_us;        /* an engine silent for so long is killed */
    uint64_t backoff_first_us; /* wait before the first restart, doubled each time ... */
    uint64_t backoff_last_us;  /* ... up to this ... */
    uint64_t good_us;          /* ... and forgotten after an engine that lived so long */
    uint64_t stop_us;          /* what an engine has to stop by itself */
};
extern const struct keeper_times keeper_times_default;
int keeper_run_with(const char *config_path, keeper_engine_main *engine_main,
                    const struct keeper_actions *actions, const struct keeper_times *times);

/* ---- the engine's side (verbs) ----
 * Each is called from the engine's main (balancer) thread or, where said, from any thread. 0 or -errno. */
struct keeper_link;
/* Takes over both descriptors; NULL: no memory (they stay the caller's). */
struct keeper_link *keeper_link_new(int keeper_fd, int keeper_call_fd);
void keeper_link_free(struct keeper_link *l);
/* The descriptor to poll for messages from the keeper (a new configuration; EOF: the keeper is gone, exit).
 */
int keeper_link_fd(const struct keeper_link *l);

enum keeper_event { KEEPER_EVENT_NONE, KEEPER_EVENT_RELOAD, KEEPER_EVENT_STOP, KEEPER_EVENT_GONE };
/* Take one waiting message; RELOAD gives *config (owned by the caller). From here on keeper_set_peers means
 * the peers of that configuration: send it anew. (The keeper has carried over, by name and pins, which peers
 * are up.) A configuration that cannot be taken (no memory) is GONE, too: the keeper starts the next engine
 * with it. */
enum keeper_event keeper_link_read(struct keeper_link *l, struct config **config);

/* The engine works: ready is sent once listeners are open (sd_notify READY=1), alive every second or so as
 * heartbeat (also while it is still starting), no reply. An engine silent for 10 s is killed and started
 * anew. */
void keeper_tell_ready(struct keeper_link *l);
void keeper_tell_alive(struct keeper_link *l);
/* Ask the keeper to read the file again now (hawserctl reload). 0 when the file was good; else error[] tells,
 * as config_load does. The RELOAD event follows over keeper_link_fd. */
int keeper_ask_reload(struct keeper_link *l, char error[static CONFIG_ERROR_MAX]);
/* Which peers are up: their networks are caught from now on; see kernel.h. No reply is waited for and it
 * never blocks: what did not fit is sent again with the next keeper_tell_alive. up has peer_count entries,
 * those of the configuration the engine has last been given. */
void keeper_set_peers(struct keeper_link *l, const bool *up, size_t peer_count);
/* Any thread, no reply, never blocks (lost when the keeper is busy: the next refusal repeats it).
 * timeout_s 1..3600. */
void keeper_add_refused(struct keeper_link *l, const struct endpoint *server, uint32_t timeout_s);
/* Any thread, no reply, never blocks: a route for lanes to this peer, see kernel.h. Windows up to 65535
 * segments. */
void keeper_lane_route(struct keeper_link *l, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd);
/* Any thread (a mutex inside: this is not the data path); the keeper sets the options on the passed TCP
 * descriptor, the reply is waited for. Buffers up to 256M, 0: leave; congestion [a-z0-9_]{1,15}, NULL or "":
 * leave. -ENOENT: the kernel has no such congestion control, the buffers are set. */
int keeper_lane_socket(struct keeper_link *l, int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes,
                       const char *congestion);

/* Any thread, the reply is waited for: see kernel_count_peer_down. */
int keeper_count_peer_down(struct keeper_link *l, uint64_t *out);

#endif
