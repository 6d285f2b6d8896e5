/* Waking: a lone packet is read as soon as it comes and written when it is due, to the accuracy of the
 * kernel's timers. When wake-ups follow each other closely the thread takes a nap and then handles all
 * that came or fell due meanwhile, as the interrupt moderation of a network card does: the machine's
 * cores are needed for what is being measured. A nap is a hundredth of the link's delay, within bounds.
 * The price is a nap of lateness at most at each end, and none of it goes into the rate, which is
 * arithmetic (path.h).
 *
 * Where it is allowed all threads have the lowest real-time priority (main.c): a real link does not wait
 * until a program beside it has used up its share of the processor. Without, on two cores that are both busy,
 * one packet in a hundred came some 4 ms late. */
#include "pump.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NAP_MIN_NS UINT64_C(50000)
#define NAP_MAX_NS UINT64_C(200000)
#define BUSY_NAPS  4   /* wake-ups closer than so many naps are too many */
#define BATCH      128 /* packets read or written under one hold of the lock */

struct pump {
    int from_fd;
    int to_fd;
    int wake_fd; /* eventfd: something was changed, sleep no longer on old times */
    uint32_t mtu;
    bool running; /* the thread exists; of pump_start and pump_stop only */
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    struct path *path;
    bool stop;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static int read_packets(struct pump *pump)
{
    int packets = 0;
    while (packets < BATCH) {
        ssize_t len = read(pump->from_fd, path_slot(pump->path), pump->mtu + 1u);
        if (len <= 0) {
            break; /* nothing there, or the device is down: poll says when that changes */
        }
        path_admit(pump->path, (size_t)len, now_ns());
        packets++;
    }
    return packets;
}

static int write_packets(struct pump *pump)
{
    int packets = 0;
    size_t len;
    const void *bytes;
    uint64_t now = now_ns();
    while (packets < BATCH && (bytes = path_due(pump->path, now, &len)) != NULL) {
        ssize_t written = write(pump->to_fd, bytes, len);
        now = now_ns();
        path_delivered(pump->path, written == (ssize_t)len, now);
        packets++;
    }
    return packets;
}

static uint64_t nap_ns(const struct path *path)
{
    uint64_t nap = path_params(path)->delay_ns / 100;
    return nap < NAP_MIN_NS ? NAP_MIN_NS : nap > NAP_MAX_NS ? NAP_MAX_NS : nap;
}

/* Sleeps until a moment (PATH_NEVER: for ever), a change, or, if `packets`, a packet. */
static void sleep_until(struct pump *pump, uint64_t until_ns, bool packets)
{
    struct pollfd fds[2] = {{.fd = pump->wake_fd, .events = POLLIN},
                            {.fd = packets ? pump->from_fd : -1, .events = POLLIN}};
    struct timespec timeout, *limit = NULL;
    if (until_ns != PATH_NEVER) {
        uint64_t now = now_ns();
        uint64_t wait_ns = until_ns > now ? until_ns - now : 0;
        timeout.tv_sec = (time_t)(wait_ns / UINT64_C(1000000000));
        timeout.tv_nsec = (long)(wait_ns % UINT64_C(1000000000));
        limit = &timeout;
    }
    if (ppoll(fds, 2, limit, NULL) > 0) {
        uint64_t changes;
        if (fds[0].revents && read(pump->wake_fd, &changes, sizeof changes) < 0) {
            return; /* another turn of the loop finds nothing to do */
        }
        if (fds[1].revents & (POLLERR | POLLHUP)) {
            /* The device was deleted under us. Its counters can still be asked for. */
            struct timespec pause = {.tv_nsec = 100000000};
            nanosleep(&pause, NULL);
        }
    }
}

static void *pump_run(void *argument)
{
    struct pump *pump = argument;
    uint64_t woke_ns = 0;

    prctl(PR_SET_TIMERSLACK, 1UL);
    for (;;) {
        uint64_t before_ns = woke_ns;
        woke_ns = now_ns();
        pthread_mutex_lock(&pump->lock);
        bool stop = pump->stop;
        int packets_read = read_packets(pump);
        int packets_written = write_packets(pump);
        uint64_t next_ns = path_next_ns(pump->path);
        uint64_t nap = nap_ns(pump->path);
        pthread_mutex_unlock(&pump->lock);
        if (stop) {
            return NULL;
        }
        if (packets_read == BATCH || packets_written == BATCH) {
            continue;
        }
        if (packets_read + packets_written > 0 && woke_ns - before_ns < BUSY_NAPS * nap) {
            sleep_until(pump, woke_ns + nap, false);
        } else {
            sleep_until(pump, next_ns, true);
        }
    }
}

struct pump *pump_new(int from_fd, int to_fd, uint32_t mtu, uint64_t seed)
{
    struct pump *pump = calloc(1, sizeof *pump);
    if (!pump) {
        return NULL;
    }
    pump->from_fd = from_fd;
    pump->to_fd = to_fd;
    pump->mtu = mtu;
    pthread_mutex_init(&pump->lock, NULL);
    pump->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pump->path = path_new(mtu, seed);
    if (pump->wake_fd < 0 || !pump->path) {
        pump_free(pump);
        return NULL;
    }
    return pump;
}

int pump_start(struct pump *pump)
{
    int err = pthread_create(&pump->thread, NULL, pump_run, pump);
    pump->running = err == 0;
    return -err;
}

static void pump_wake(struct pump *pump)
{
    uint64_t one = 1;
    if (write(pump->wake_fd, &one, sizeof one) < 0) {
        return; /* full of earlier wakes: it will wake */
    }
}

void pump_stop(struct pump *pump)
{
    if (!pump || !pump->running) {
        return;
    }
    pthread_mutex_lock(&pump->lock);
    pump->stop = true;
    pthread_mutex_unlock(&pump->lock);
    pump_wake(pump);
    pthread_join(pump->thread, NULL);
    pump->running = false;
}

void pump_free(struct pump *pump)
{
    if (!pump) {
        return;
    }
    pump_stop(pump);
    if (pump->wake_fd >= 0) {
        close(pump->wake_fd);
    }
    path_free(pump->path);
    pthread_mutex_destroy(&pump->lock);
    free(pump);
}

void pump_set(struct pump *pump, const struct link_params *params, uint64_t queue_limit)
{
    pthread_mutex_lock(&pump->lock);
    path_set(pump->path, params, queue_limit, now_ns());
    pthread_mutex_unlock(&pump->lock);
    pump_wake(pump);
}

void pump_zero(struct pump *pump)
{
    pthread_mutex_lock(&pump->lock);
    path_zero(pump->path);
    pthread_mutex_unlock(&pump->lock);
}

void pump_read(struct pump *pump, struct pump_figures *out)
{
    pthread_mutex_lock(&pump->lock);
    out->params = *path_params(pump->path);
    out->queue_limit = path_queue_limit(pump->path);
    out->queue_bytes = path_queue_now(pump->path, now_ns());
    out->inside = path_inside(pump->path);
    out->counters = *path_counters(pump->path);
    pthread_mutex_unlock(&pump->lock);
}
