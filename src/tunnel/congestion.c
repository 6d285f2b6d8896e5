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

/* Where a process like this one may not choose it (tcp_allowed_congestion_control) the keeper does. */
static void choose(struct slot *s, const char *name)
{
    const struct tunnel_world *w = s->tunnel->world;
    int fd = lane_fd(s->lane);
    s->chosen_us = clock_now_us();
    if (!run(fd, name))
        w->lane_socket(w->owner, fd, 0, 0, name);
}

/* Another one between: to the name that it has the kernel says nothing. Any process may choose reno. */
static void begin_anew(struct slot *s, const char *name)
{
    int fd = lane_fd(s->lane);
    char has[16] = "";
    socklen_t len = sizeof(has) - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, has, &len) < 0 || strcmp(has, name) != 0)
        return; /* the kernel has no such one */
    if (run(fd, "reno"))
        choose(s, name);
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
    if (!paced || !idle || s->short_path || now_us - s->chosen_us < FRESH_US || strcmp(name, "bbr") != 0)
        return;
    begin_anew(s, name);
}
