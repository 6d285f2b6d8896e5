#include "hawser/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct relay_side {
    struct relay *relay;
    struct leg *leg;
    struct relay_side *other;
    bool closed;
};

struct relay {
    struct relay_side client, server;
    void (*ended)(void *arg);
    void *arg;
};

static void on_connected(void *owner)
{
    (void)owner;
}

static void on_data(void *owner, struct slice s)
{
    struct relay_side *side = owner;
    if (side->other->closed)
        chunk_unref(s.chunk);
    else
        leg_write(side->other->leg, s);
}

static void on_eof(void *owner)
{
    struct relay_side *side = owner;
    if (!side->other->closed)
        leg_finish(side->other->leg);
}

static void on_consumed(void *owner, uint64_t total)
{
    struct relay_side *side = owner;
    if (!side->other->closed)
        leg_allow(side->other->leg, total + RELAY_WINDOW_BYTES);
}

static void on_closed(void *owner, int err)
{
    struct relay_side *side = owner;
    struct relay *r = side->relay;
    side->closed = true;
    leg_release(side->leg);
    side->leg = NULL;
    if (!side->other->closed) {
        if (err != 0)
            leg_abort(side->other->leg);
        return;
    }
    r->ended(r->arg);
    free(r);
}

static const struct leg_events relay_events = {
    .connected = on_connected,
    .data = on_data,
    .eof = on_eof,
    .consumed = on_consumed,
    .closed = on_closed,
};

int relay_start(struct leg_host *host, int fd, const struct leg_origin *origin, void (*ended)(void *arg),
                void *arg)
{
    struct relay *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        close(fd);
        leg_host_release(host, 2);
        return -ENOMEM;
    }
    r->client = (struct relay_side){.relay = r, .other = &r->server};
    r->server = (struct relay_side){.relay = r, .other = &r->client};
    r->ended = ended;
    r->arg = arg;
    r->server.leg = leg_new(host, host->loop, &relay_events, &r->server, -1, origin);
    if (r->server.leg == NULL) {
        close(fd);
        leg_host_release(host, 1);
        free(r);
        return -ENOMEM;
    }
    r->client.leg = leg_new(host, host->loop, &relay_events, &r->client, fd, NULL);
    if (r->client.leg == NULL) {
        r->client.closed = true;
        leg_start(r->server.leg, 0);
        leg_abort(r->server.leg);
        return 0; /* ends by itself */
    }
    leg_start(r->client.leg, RELAY_WINDOW_BYTES);
    leg_start(r->server.leg, RELAY_WINDOW_BYTES);
    return 0;
}
