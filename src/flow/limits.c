#include "hawser/clock.h"
#include "hawser/session.h"

/* `limit` of a class: what it may take while the others, together, want the link. They do from when they send
 * more than the high mark until they send less than the low one; otherwise the link belongs to whoever wants
 * it. A held class leaves its sessions where they are; a timer asks again. */

enum {
    HIGH_PERMILLE = 50, /* of the link's rate */
    LOW_PERMILLE = 25,
    MARK_MIN_BYTES = 8192, /* a second; and where the link's rate is unknown */
    TURN_MIN_BYTES = 1400,
    TURNS_A_SECOND = 20, /* a limited class sends its share in so many pieces at least */
};

static uint64_t link_bytes_per_s(const struct mux *m)
{
    const struct linkrate *r = tunnel_linkrate(m->tunnel);
    return (r->configured != 0 ? r->configured : r->best) / 8;
}

/* 0: not limited, or by a share of a rate that is not known yet. */
static uint64_t limit_of(const struct mux *m, const struct mux_class *c)
{
    if (c->window == NULL)
        return 0;
    if (c->limit.permille == 0)
        return c->limit.bits_per_s / 8;
    return link_bytes_per_s(m) / 1000 * c->limit.permille;
}

static bool others_want_it(struct mux *m, uint64_t now_us)
{
    uint64_t link = link_bytes_per_s(m), permille = m->limiting ? LOW_PERMILLE : HIGH_PERMILLE;
    uint64_t mark = link / 1000 * permille;
    if (mark < MARK_MIN_BYTES)
        mark = MARK_MIN_BYTES;
    m->limiting = ratewin_rate(m->unlimited, now_us) > mark;
    return m->limiting;
}

bool limits_hold(struct mux *m, struct mux_class *c)
{
    uint64_t limit = limit_of(m, c);
    if (limit == 0)
        return false;
    uint64_t now = clock_now_us();
    if (!others_want_it(m, now))
        return false;
    uint32_t wait_us = ratewin_wait(c->window, now, limit);
    if (wait_us == 0)
        return false;
    if (!event_pending(&m->held, EV_TIMEOUT, NULL)) {
        struct timeval tv = {0, (suseconds_t)wait_us};
        event_add(&m->held, &tv);
    }
    return true;
}

uint64_t limits_turn_bytes(struct mux *m, const struct mux_class *c)
{
    uint64_t limit = limit_of(m, c);
    if (limit == 0 || !m->limiting)
        return UINT64_MAX;
    return limit / TURNS_A_SECOND > TURN_MIN_BYTES ? limit / TURNS_A_SECOND : TURN_MIN_BYTES;
}

void limits_count(struct mux *m, struct mux_class *c, uint64_t bytes)
{
    if (c->window != NULL)
        ratewin_add(c->window, clock_now_us(), bytes);
    else if (m->unlimited != NULL)
        ratewin_add(m->unlimited, clock_now_us(), bytes);
}
