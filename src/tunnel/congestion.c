#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "hawser/clock.h"
#include "tunnel_internal.h"

/* Which congestion control a lane runs. bbr is right for long and lossy paths. With `congestion = auto` a
 * lane whose round trip proves to be below a millisecond goes over to cubic: there bbr's pacing timer costs
 * the sender an eighth of its CPU and the transfer a fifth of its speed, and there is no queue that it could
 * spare.
 *
 * bbr drains the queue for a round trip (PROBE_RTT) ten seconds after it last saw its smallest round trip:
 * over a satellite that costs a transfer a second. A paced lane that was idle begins anew instead: its window
 * and its pacing stay, and the ten seconds start where the transfer does. */

enum {
    SHORT_PATH_US = 1000,
    IDLE_US = 1000000,
    FRESH_US = 4 * 1000000, /* younger than that bbr need not begin anew */
};

static bool is_auto(const struct config_peer *p)
{
    return strcmp(p->congestion, "auto") == 0;
}

const char *tunnel_congestion(const struct config_peer *p)
{
    return is_auto(p) ? "bbr" : p->congestion;
}

static bool run(int fd, const char *name)
{
    return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) == 0;
}

/* Another one between: to the name that it has the kernel says nothing. Any process may choose bbr and reno;
 * where tcp_allowed_congestion_control forbids it the keeper helps, and the lane does not begin anew. */
static void choose(struct slot *s, const char *name)
{
    const struct tunnel_world *w = s->tunnel->world;
    int fd = lane_fd(s->lane);
    s->chosen_us = clock_now_us();
    if (run(fd, "reno") && run(fd, name))
        return;
    s->choice_is_privileged = true;
    w->lane_socket(w->owner, fd, 0, 0, name);
}

void tunnel_settle_congestion(struct slot *s, uint64_t rtt_us)
{
    if (s->congestion_settled || rtt_us == 0)
        return;
    s->congestion_settled = true;
    s->short_path = is_auto(s->tunnel->peer) && rtt_us < SHORT_PATH_US;
    if (s->short_path)
        choose(s, "cubic");
}

void tunnel_refresh_congestion(struct slot *s, uint64_t now_us)
{
    const char *name = tunnel_congestion(s->tunnel->peer);
    bool paced = s->pacing != UINT64_MAX, idle = now_us - s->carried_us > IDLE_US;
    if (!paced || !idle || s->short_path || s->choice_is_privileged || now_us - s->chosen_us < FRESH_US ||
        strcmp(name, "bbr") != 0)
        return;
    choose(s, name);
}
