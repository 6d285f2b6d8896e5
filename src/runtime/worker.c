#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/log.h"
#include "hawser/node.h"
#include "hawser/remember.h"
#include "hawser/store.h"

/* A worker above MIN retires when the load is low: it is marked unusable, keeps its sessions until they end,
 * and its thread stops when none is left. worker_pick counts itself in (host.live) before it looks at
 * `usable`, and the main thread looks at host.live after it has cleared `usable`: one of the two sees the
 * other, so no session is placed on a worker that stops. The slot and the memory stay until the node ends; a
 * later growth uses the slot again. */

struct call {
    struct mail mail;
    struct worker *worker;
    struct node *node;
    void (*on_worker)(struct worker *w, void *arg);
    void (*on_main)(struct node *n, void *arg);
    void *arg;
};

static void take_call(struct mail *m)
{
    struct call c = *(struct call *)(void *)m;
    free(m);
    if (c.on_worker != NULL)
        c.on_worker(c.worker, c.arg);
    else
        c.on_main(c.node, c.arg);
}

static int post(struct loop *loop, struct call wanted)
{
    struct call *c = malloc(sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    *c = wanted;
    c->mail.deliver = take_call;
    loop_post(loop, &c->mail);
    return 0;
}

int worker_call(struct worker *w, void (*work)(struct worker *w, void *arg), void *arg)
{
    return post(w->host.loop, (struct call){.worker = w, .on_worker = work, .arg = arg});
}

int node_call(struct node *n, void (*work)(struct node *n, void *arg), void *arg)
{
    return post(n->loop, (struct call){.node = n, .on_main = work, .arg = arg});
}

static void *run(void *arg)
{
    struct worker *w = arg;
    char name[16];
    snprintf(name, sizeof(name), "hawserd/w%u", w->number);
    pthread_setname_np(pthread_self(), name);
    loop_run(w->host.loop);
    leg_thread_end();
    compress_thread_end();
    chunk_thread_end();
    return NULL;
}

static int start_thread(struct worker *w)
{
    int err = pthread_create(&w->thread, NULL, run, w);
    if (err != 0)
        return -err;
    if (pthread_getcpuclockid(w->thread, &w->cpu_clock) != 0)
        w->cpu_clock = CLOCK_MONOTONIC;
    w->joined = false;
    w->cpu_us = 0;
    atomic_store(&w->usable, true);
    return 0;
}

static uint64_t store_now_us(void *owner)
{
    (void)owner;
    return clock_now_us();
}

static bool touch_ahead(void *owner, struct chunk *chunk, uint32_t off, uint32_t len)
{
    const struct worker *w = owner;
    return toucher_ask(w->node->toucher, chunk, off, len);
}

/* What peers at home here were sent, and sent us. */
static int make_store(struct worker *w)
{
    static const struct store_events events = {
        .evicted = mux_segment_evicted, .now_us = store_now_us, .touch_ahead = touch_ahead};
    struct budget *memory = &w->node->store_memory;
    uint64_t random[2];
    if (memory->cap == 0)
        return 0;
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EIO;
    size_t peers = w->node->boot_config->peer_count,
           shares =
               w->node->homes < peers ? w->node->homes : peers; /* else the first that is busy takes all */
    uint64_t share = memory->cap / shares;
    bool on_disk = w->node->shelving != NULL;
    uint64_t seed = on_disk ? w->node->store_seed : random[0];
    int err = store_new(&w->host.store, memory, share, seed, random[1] | 1, &events, &w->host);
    if (err == 0 && on_disk)
        store_collect_begin(w->host.store);
    return err;
}

static void worker_free(struct worker *w)
{
    greeter_free(w->greeter);
    w->greeter = NULL; /* a connection may still wait in the loop's box */
    loop_free(w->host.loop);
    store_free(w->host.store);
    remember_free(&w->host);
    landscape_unref(w->landscape);
    free(w);
}

/* A retired worker starts again. */
static int restart(struct node *n)
{
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++) {
        struct worker *w = n->workers[i];
        if (!w->joined)
            continue;
        loop_free(w->host.loop);
        w->host.loop = NULL;
        int err = loop_new(&w->host.loop);
        if (err < 0)
            return err;
        landscape_unref(w->landscape);
        w->landscape = landscape_ref(n->landscape);
        err = start_thread(w);
        return err < 0 ? err : 1;
    }
    return 0;
}

int worker_start(struct node *n, bool permanent)
{
    size_t slot = atomic_load(&n->worker_count);
    int err = permanent ? 0 : restart(n);
    if (err != 0)
        return err < 0 ? err : 0;
    if (slot >= NODE_WORKERS_MAX)
        return -ENOSPC;
    struct worker *w = calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    w->node = n;
    w->number = (unsigned)slot;
    w->permanent = permanent;
    w->landscape = landscape_ref(n->landscape);
    TAILQ_INIT(&w->host.muxes);
    err = loop_new(&w->host.loop);
    if (err == 0 && slot < n->homes)
        err = make_store(w);
    if (err == 0 && permanent)
        err = greeter_new(&w->greeter, w->host.loop, &n->greeter_world);
    if (err == 0)
        err = start_thread(w);
    if (err < 0) {
        if (w->host.loop != NULL)
            loop_free(w->host.loop);
        w->host.loop = NULL;
        store_free(w->host.store);
        free(w);
        return err;
    }
    n->workers[slot] = w;
    atomic_store(&n->worker_count, slot + 1);
    return 0;
}

static void stop_thread(struct worker *w)
{
    if (w->joined)
        return;
    loop_stop(w->host.loop);
    pthread_join(w->thread, NULL);
    w->joined = true;
    w->cpu_permille = 0;
}

void workers_stop(struct node *n)
{
    size_t count = atomic_load(&n->worker_count);
    for (size_t i = 0; i < count; i++)
        stop_thread(n->workers[i]);
    shelving_stop(n->shelving);
    toucher_free(n->toucher);
    n->toucher = NULL;
    for (size_t i = 0; i < count; i++)
        worker_free(n->workers[i]);
    atomic_store(&n->worker_count, 0);
}

struct worker *worker_pick(struct node *n, struct worker *home)
{
    for (;;) {
        struct balance_load loads[NODE_WORKERS_MAX];
        size_t count = atomic_load(&n->worker_count), home_index = BALANCE_NONE;
        for (size_t i = 0; i < count; i++) {
            struct worker *w = n->workers[i];
            loads[i] = (struct balance_load){
                .live_sessions = atomic_load_explicit(&w->host.live, memory_order_relaxed),
                .moved_bytes = atomic_load_explicit(&w->moved_lately, memory_order_relaxed),
                .usable = atomic_load(&w->usable),
            };
            if (w == home)
                home_index = i;
        }
        struct worker *w =
            n->workers[balance_pick(loads, count, home_index)]; /* permanent ones are always usable */
        leg_host_reserve(&w->host, 1);
        if (atomic_load(&w->usable))
            return w;
        leg_host_release(&w->host, 1);
    }
}

static uint64_t cpu_us(const struct worker *w)
{
    struct timespec t;
    if (w->joined || w->cpu_clock == CLOCK_MONOTONIC || clock_gettime(w->cpu_clock, &t) < 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static size_t usable_count(const struct node *n)
{
    size_t usable = 0;
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++)
        usable += atomic_load(&n->workers[i]->usable);
    return usable;
}

static void retire_one(struct node *n)
{
    for (size_t i = atomic_load(&n->worker_count); i-- > 0;) {
        struct worker *w = n->workers[i];
        if (w->permanent || !atomic_load(&w->usable))
            continue;
        atomic_store(&w->usable, false);
        log_info("worker %u retires: the load is low", w->number);
        return;
    }
}

/* A retiring worker whose last session has ended. */
static void collect_retired(struct node *n)
{
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++) {
        struct worker *w = n->workers[i];
        if (!w->joined && !atomic_load(&w->usable) && atomic_load(&w->host.live) == 0) {
            stop_thread(w);
            log_info("worker %u has ended", w->number);
        }
    }
}

void workers_tick(struct node *n)
{
    uint32_t busy = 0;
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++) {
        struct worker *w = n->workers[i];
        uint64_t cpu = cpu_us(w), moved = atomic_load(&w->host.moved_bytes);
        w->cpu_permille = cpu > w->cpu_us ? (uint32_t)((cpu - w->cpu_us) / 1000) : 0;
        w->cpu_us = cpu;
        atomic_store(&w->moved_lately, (atomic_load(&w->moved_lately) + moved - w->moved_bytes) / 2);
        w->moved_bytes = moved;
        if (atomic_load(&w->usable))
            busy += w->cpu_permille;
    }
    collect_retired(n);
    size_t active = usable_count(n);
    size_t wanted = balance_resize(&n->size, active, n->workers_min, n->workers_max, busy);
    if (wanted < active)
        retire_one(n);
    if (wanted <= active)
        return;
    int err = worker_start(n, false);
    if (err < 0)
        log_warn("cannot start another worker: %s", err_text(err));
    else
        log_info("a worker joins: %zu at work", wanted);
}
