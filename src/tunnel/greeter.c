#include "hawser/greeter.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/identity.h"
#include "hawser/log.h"

enum { LOG_EVERY_US = 1000000 };

struct guest {
    struct greeter *greeter;
    struct lane *lane;
    bool up; /* to be delivered, else to be freed */
    TAILQ_ENTRY(guest) link;
};
TAILQ_HEAD(guest_list, guest);

struct greeter {
    struct loop *loop;
    const struct greeter_world *world;
    struct guest_list pending, leaving;
    size_t pending_count;
    struct task clear;
    struct told {
        uint64_t logged_us, unlogged;
    } told[2]; /* of all else, and of unknown pins: one of those may be a peer */
};

/* Strangers knock often: one line a second and kind, with the number of those not told. */
static void log_failure(struct greeter *g, const struct lane *l, int err)
{
    struct told *told = &g->told[err == -ERR_PIN];
    uint64_t now = clock_now_us();
    if (now - told->logged_us < LOG_EVERY_US) {
        told->unlogged++;
        return;
    }
    char where[ENDPOINT_TEXT_MAX], pin[CONFIG_PIN_TEXT_MAX];
    endpoint_format(lane_remote(l), where);
    if (err == -ERR_PIN) {
        identity_pin_format(lane_pin(l), pin);
        log_warn("a connection from %s did not become a lane: it showed the pin %s, which no peer here has; "
                 "if this "
                 "is one of your peers, set pin = %s in its section (%llu more like it)",
                 where, pin, pin, (unsigned long long)told->unlogged);
    } else {
        log_warn("a connection from %s did not become a lane: %s (%llu more like it)", where, err_text(err),
                 (unsigned long long)told->unlogged);
    }
    told->logged_us = now;
    told->unlogged = 0;
}

static void leave(struct guest *guest, bool up)
{
    struct greeter *g = guest->greeter;
    TAILQ_REMOVE(&g->pending, guest, link);
    g->pending_count--;
    guest->up = up;
    TAILQ_INSERT_TAIL(&g->leaving, guest, link);
    loop_defer(g->loop, &g->clear);
}

static void run_clear(void *arg)
{
    struct greeter *g = arg;
    struct guest *guest;
    while ((guest = TAILQ_FIRST(&g->leaving)) != NULL) {
        TAILQ_REMOVE(&g->leaving, guest, link);
        if (guest->up)
            g->world->deliver(g->world->owner, guest->lane);
        else
            lane_free(guest->lane);
        free(guest);
    }
}

static int guest_identify(void *owner, struct lane *l, const uint8_t pin[static CONFIG_PIN_BYTES],
                          struct greeting *ours)
{
    struct guest *guest = owner;
    return guest->greeter->world->identify(guest->greeter->world->owner, lane_remote(l), pin, ours);
}

static void guest_up(void *owner, struct lane *l)
{
    lane_detach(l); /* nothing is read until its new owner attaches it */
    leave(owner, true);
}

static void guest_down(void *owner, struct lane *l, int err)
{
    struct guest *guest = owner;
    log_failure(guest->greeter, l, err);
    leave(guest, false);
}

static const struct lane_events guest_events = {
    .identify = guest_identify,
    .up = guest_up,
    .down = guest_down,
};

int greeter_new(struct greeter **out, struct loop *loop, const struct greeter_world *world)
{
    struct greeter *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return -ENOMEM;
    g->loop = loop;
    g->world = world;
    g->clear = (struct task){.run = run_clear, .owner = g};
    TAILQ_INIT(&g->pending);
    TAILQ_INIT(&g->leaving);
    *out = g;
    return 0;
}

void greeter_free(struct greeter *g)
{
    if (g == NULL)
        return;
    loop_cancel(g->loop, &g->clear);
    TAILQ_CONCAT(&g->leaving, &g->pending, link);
    struct guest *guest;
    while ((guest = TAILQ_FIRST(&g->leaving)) != NULL) {
        TAILQ_REMOVE(&g->leaving, guest, link);
        lane_free(guest->lane);
        free(guest);
    }
    free(g);
}

void greeter_take(struct greeter *g, int fd)
{
    struct guest *guest = calloc(1, sizeof(*guest));
    if (guest == NULL) {
        close(fd);
        return;
    }
    if (g->pending_count >= GREETER_PENDING_MAX) {
        struct guest *oldest = TAILQ_FIRST(&g->pending);
        log_failure(g, oldest->lane, -EBUSY);
        lane_close(oldest->lane);
        leave(oldest, false);
    }
    guest->greeter = g;
    int err = lane_new(&guest->lane, g->loop, g->world->accept_tls, true, false, fd, GREETER_TIMEOUT_US,
                       &guest_events, guest);
    if (err < 0) {
        log_warn("cannot take a tunnel connection: %s", err_text(err));
        free(guest);
        return;
    }
    TAILQ_INSERT_TAIL(&g->pending, guest, link);
    g->pending_count++;
}
