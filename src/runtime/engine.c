#include "hawser/engine.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/log.h"
#include "hawser/store.h"

enum {
    SESSION_FLOOR_MAX_BYTES = 16 * 1024, /* least memory of a direction of a session */
    SESSION_FLOOR_MIN_BYTES = 4 * 1024,
    OPENING_MAX_BYTES = 4 << 20,
    OPENING_MIN_BYTES = 64 * 1024,
    DESCRIPTORS_SPARE = 256,
    SAVE_LINKS_EVERY_S = 10,
    LOOK_AT_ADDRESSES_EVERY_S = 15,
    RATE_OF_A_HOME = 1000000000, /* bits a second; a CPU carries new bytes at twice that */
    HEAP_KEEP_BYTES = 256 << 20,
    HEAP_MMAP_BYTES = 4 << 20,
    SHELVING_WAITING_MAX_BYTES = 128 << 20,
};

/* ---- set-up ---- */

static void limit_sessions(struct node *n, const struct config *c)
{
    uint64_t most = c->sessions_max;
    if (most > n->descriptors_max)
        most = n->descriptors_max;
    if (most > n->memory.floor.cap / (2 * n->memory.session_floor_bytes))
        most = n->memory.floor.cap / (2 * n->memory.session_floor_bytes);
    atomic_store(&n->sessions_max, most);
    if (most < c->sessions_max)
        log_info("at most %llu sessions instead of %u: %s allows no more", (unsigned long long)most,
                 c->sessions_max, most == n->descriptors_max ? "the limit of open files" : "[node] memory");
}

static void divide_memory(struct node *n, const struct config *c)
{
    uint64_t store = c->memory_bytes / 2 >= STORE_LEAST_BYTES ? c->memory_bytes / 2 : 0;
    uint64_t half = (c->memory_bytes - store) / 2,
             opening = half / 4 / (c->peer_count > 0 ? c->peer_count : 1);
    if (opening > OPENING_MAX_BYTES)
        opening = OPENING_MAX_BYTES;
    if (opening < OPENING_MIN_BYTES)
        opening = OPENING_MIN_BYTES;
    n->tunnel_world.opening_credit_bytes = opening;
    budget_init(&n->store_memory, store);
    if (store > 0)
        n->tunnel_world.features |= GREETING_FEATURE_REFERENCES;
    else
        log_warn("nothing is deduplicated: the store takes half of `memory` in [node], and needs %d MB; give "
                 "memory %d MB or more",
                 STORE_LEAST_BYTES >> 20, STORE_LEAST_BYTES >> 19);
    uint64_t reserved = opening * c->peer_count;
    compress_set_cap(c->memory_bytes / 8);
    budget_init(&n->memory.floor, half);
    budget_init(&n->memory.growth, reserved < half / 2 ? half - reserved : half / 2);

    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    uint64_t spare = DESCRIPTORS_SPARE;
    for (size_t i = 0; i < c->peer_count; i++)
        spare += c->peers[i].lanes + 1; /* one more while a lane is renewed */
    n->descriptors_max = files.rlim_cur > spare ? files.rlim_cur - spare : 1;
    uint64_t most = c->sessions_max < n->descriptors_max ? c->sessions_max : n->descriptors_max;
    uint64_t floor = half / 2 / most;
    if (floor > SESSION_FLOOR_MAX_BYTES)
        floor = SESSION_FLOOR_MAX_BYTES;
    if (floor < SESSION_FLOOR_MIN_BYTES)
        floor = SESSION_FLOOR_MIN_BYTES;
    n->memory.session_floor_bytes = floor;
    limit_sessions(n, c);
}

static int set_up_identity(struct node *n, const struct keeper_engine_start *start)
{
    const struct config *c = start->config;
    n->identity = start->identity;
    identity_pin(n->identity, n->tunnel_world.pin);
    snprintf(n->name, sizeof(n->name), "%s", c->name);
    n->tunnel_world.node_name = n->name;
    n->tunnel_world.lane_mark = c->lane_mark;
    int err = identity_secret(n->identity, "hawser store sources", n->tunnel_world.source_secret);
    if (err == 0)
        err = identity_tls_context(n->identity, 0, &n->dial_tls);
    if (err == 0)
        err = identity_tls_context(n->identity, 1, &n->accept_tls);
    n->tunnel_world.dial_tls = n->dial_tls;
    n->greeter_world.accept_tls = n->accept_tls;
    return err;
}

/* Where there are a folder and stores. */
static int start_shelving(struct node *n, const struct config *c)
{
    uint64_t waiting_most = n->store_memory.cap / 4;
    uint8_t secret[IDENTITY_SECRET_BYTES];
    if (c->store_path == NULL || n->store_error < 0 || n->store_memory.cap == 0)
        return 0;
    int err = identity_secret(n->identity, "hawser store samples", secret);
    if (err < 0)
        return err;
    memcpy(&n->store_seed, secret, sizeof(n->store_seed));
    explicit_bzero(secret, sizeof(secret));
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of write */
    return shelving_new(&n->shelving, c->store_path, c->store_size_bytes,
                        waiting_most < SHELVING_WAITING_MAX_BYTES ? waiting_most : SHELVING_WAITING_MAX_BYTES,
                        n->store_seed, n->tunnel_world.pin);
}

/* Peers find what they filled at the home that they have. */
static int begin_shelving(struct node *n)
{
    const struct config *c = n->landscape->config;
    int err = 0;
    if (n->shelving == NULL)
        return 0;
    for (size_t i = 0; i < n->homes && err == 0; i++)
        err = shelving_add_home(n->shelving, &n->workers[i]->host);
    for (size_t i = 0; i < c->peer_count && err == 0; i++) {
        for (size_t k = 0; k < c->peers[i].pin_count && err == 0; k++)
            err = shelving_set_home(n->shelving, tunnel_source_of(&n->tunnel_world, c->peers[i].pins[k]),
                                    &n->by_index[i]->home->host);
    }
    if (err == 0)
        shelving_begin(n->shelving);
    return err;
}

/* Peers at one home have one store: as few as the links need. */
static size_t homes_of(const struct config *c, size_t workers, uint64_t store_bytes)
{
    uint64_t rates = 0, homes = c->homes;
    for (size_t i = 0; i < c->peer_count; i++)
        rates += peer_rate(&c->peers[i]);
    if (homes == 0) {
        homes = (rates + RATE_OF_A_HOME - 1) / RATE_OF_A_HOME;
        homes = homes < c->peer_count ? homes : c->peer_count;
    }
    uint64_t shares = store_bytes / STORE_LEAST_BYTES; /* each needs so much of the store's memory */
    uint64_t most = workers < shares || shares == 0 ? workers : shares;
    if (c->homes > most && most < workers) /* more than workers: the configuration's reader has said it */
        log_warn("[node] homes = %u: %llu here, raise memory for more", c->homes, (unsigned long long)most);
    homes = homes < most ? homes : most;
    return homes > 0 ? (size_t)homes : 1;
}

static int start_workers(struct node *n, const struct config *c)
{
    n->workers_min = c->workers_min < NODE_WORKERS_MAX ? c->workers_min : NODE_WORKERS_MAX;
    n->homes = homes_of(c, n->workers_min, n->store_memory.cap);
    n->workers_max = c->workers_max < NODE_WORKERS_MAX ? c->workers_max : NODE_WORKERS_MAX;
    for (size_t i = 0; i < n->workers_min; i++) {
        int err = worker_start(n, true);
        if (err < 0)
            return err;
    }
    return 0;
}

void engine_free(struct node *n)
{
    if (n == NULL)
        return;
    intercept_close(n);
    if (event_initialized(&n->addresses))
        event_del(&n->addresses);
    links_end(n);
    workers_stop(n);
    n->stopping = true;
    if (n->loop != NULL)
        loop_free(n->loop); /* delivers what waits: before what it names is freed */
    shelving_free(n->shelving);
    landscape_unref(n->landscape);
    SSL_CTX_free(n->accept_tls);
    SSL_CTX_free(n->dial_tls);
    struct node_peer *p;
    while ((p = TAILQ_FIRST(&n->peers)) != NULL) {
        TAILQ_REMOVE(&n->peers, p, link);
        free(p);
    }
    free(n->by_index);
    config_unref(n->boot_config);
    keeper_link_free(n->keeper);
    pthread_mutex_destroy(&n->peers_lock);
    chunk_thread_end();
    free(n);
}

static void on_addresses(evutil_socket_t fd, short what, void *arg);

int engine_start(struct node **out, const struct keeper_engine_start *start)
{
    mallopt(M_TRIM_THRESHOLD, HEAP_KEEP_BYTES); /* buffers come and go: keep their pages */
    mallopt(M_MMAP_THRESHOLD, HEAP_MMAP_BYTES);
    log_set_level((enum log_level)start->config->log_level);
    struct node *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return -ENOMEM;
    n->intercept_fd[0] = n->intercept_fd[1] = n->tunnel_fd = -1;
    n->control_fd = start->control_fd;
    n->store_error = start->store_error;
    n->boot_config = config_ref(start->config);
    n->started_us = clock_now_us();
    TAILQ_INIT(&n->peers);
    pthread_mutex_init(&n->peers_lock, NULL);
    divide_memory(n, start->config);
    n->mux_world.memory = &n->memory;
    n->mux_world.connect_timeout_us = start->config->connect_timeout_us;
    peers_lend_worlds(n);
    n->keeper = keeper_link_new(start->keeper_fd, start->keeper_call_fd);
    int err = n->keeper != NULL ? loop_new(&n->loop) : -ENOMEM, cpus = config_cpus();
    if (err == 0)
        err = set_up_identity(n, start);
    if (err == 0)
        err = landscape_new(&n->landscape, NULL, start->config, NULL, 0);
    if (err == 0)
        err = start_shelving(n, start->config);
    if (err == 0 && n->store_memory.cap > 0 && (cpus == 0 || cpus >= TOUCHER_CPUS_LEAST))
        err = toucher_new(&n->toucher);
    if (err == 0)
        err = start_workers(n, start->config);
    if (err == 0)
        err = links_load(n);
    if (err == 0)
        landscape_log_overlaps(n->landscape);
    if (err < 0) {
        log_error("cannot start: %s", err_text(err));
        engine_free(n);
        return err;
    }
    event_assign(&n->addresses, loop_base(n->loop), -1, EV_TIMEOUT, on_addresses, n);
    *out = n;
    return 0;
}

/* ---- events of the main thread ---- */

static void everything_ended(struct node *n)
{
    loop_stop(n->loop);
}

static void stop(struct node *n, int exit_code)
{
    if (n->stopping)
        return;
    n->stopping = true;
    n->exit_code = exit_code;
    intercept_close(n);
    links_save(n);
    peers_end(n, everything_ended);
}

static void apply(struct node *n, struct config *config)
{
    char keys[CONFIG_KEYS_BYTES] = "";
    config_restart_needed(n->boot_config, config, keys, sizeof(keys)); /* the keeper logs them */
    struct landscape *l = NULL;
    int err = peers_landscape(n, &l, config);
    if (err == 0) {
        landscape_log_overlaps(l);
        landscape_set(n, l);
        log_set_level((enum log_level)config->log_level);
        n->mux_world.connect_timeout_us = config->connect_timeout_us;
        limit_sessions(n, config);
        err = peers_apply(n);
    }
    if (err < 0)
        log_error("the new configuration is not applied as a whole: %s; try again or restart", err_text(err));
    else
        log_info("the configuration is applied");
    config_unref(config);
    if (n->reloaded != NULL)
        n->reloaded(n, n->reloaded_arg, keys);
}

static void on_keeper(evutil_socket_t fd, short what, void *arg)
{
    struct node *n = arg;
    (void)fd;
    (void)what;
    for (;;) {
        struct config *config = NULL;
        switch (keeper_link_read(n->keeper, &config)) {
        case KEEPER_EVENT_NONE:
            return;
        case KEEPER_EVENT_RELOAD:
            if (!n->stopping)
                apply(n, config);
            else
                config_unref(config);
            break;
        case KEEPER_EVENT_STOP:
            stop(n, 0);
            break;
        case KEEPER_EVENT_GONE:
            event_del(&n->keeper_event);
            stop(n, 1);
            return;
        }
    }
}

/* Addresses may come and go while we run. */
static void look_at_addresses(struct node *n)
{
    struct landscape *fresh = NULL;
    if (peers_landscape(n, &fresh, n->landscape->config) == 0 && fresh != NULL)
        landscape_set(n, fresh);
}

static void on_addresses(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    look_at_addresses(arg);
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    struct node *n = arg;
    (void)fd;
    (void)what;
    keeper_tell_alive(n->keeper);
    if (n->stopping)
        return;
    intercept_resume_tunnel(n);
    n->seconds++;
    workers_tick(n);
    intercept_tick(n);
    if (n->seconds % SAVE_LINKS_EVERY_S == 0)
        links_save(n);
    if (n->seconds % LOOK_AT_ADDRESSES_EVERY_S == 0)
        look_at_addresses(n);
}

int engine_serve(struct node *n)
{
    static const struct timeval second = {1, 0};
    int err = intercept_open(n);
    if (err == 0)
        err = peers_apply(n);
    if (err == 0)
        err = begin_shelving(n);
    if (err < 0) {
        n->ended = everything_ended;
        stop(n, 1);
    } else {
        event_assign(&n->second, loop_base(n->loop), -1, EV_PERSIST, on_second, n);
        event_add(&n->second, &second);
        event_assign(&n->keeper_event, loop_base(n->loop), keeper_link_fd(n->keeper), EV_READ | EV_PERSIST,
                     on_keeper, n);
        event_add(&n->keeper_event, NULL);
        keeper_tell_ready(n->keeper);
        log_info("%s is ready: %zu peers, %zu workers, at most %llu sessions", n->name, n->by_index_count,
                 n->workers_min, (unsigned long long)atomic_load(&n->sessions_max));
    }
    loop_run(n->loop);
    int code = n->exit_code;
    if (event_initialized(&n->second)) {
        event_del(&n->second);
        event_del(&n->keeper_event);
    }
    return code;
}
