/* relay.h - a caught connection that goes direct after all (floor 5).
 * Two legs tied together on one worker: what the firewall would have let through, when it cannot be told in
 * time or is the user's own (firewall = none). Bounded: each direction holds at most RELAY_WINDOW_BYTES. */
#ifndef HAWSER_RELAY_H
#define HAWSER_RELAY_H

#include "hawser/leg.h"

enum { RELAY_WINDOW_BYTES = 256 * 1024 };

/* On the host's loop. fd is owned; origin says where to. `ended(arg)` runs when everything is closed and
 * freed. 0 or -ENOMEM (fd is closed, ended is not called). host is reserved twice by the caller (host->live).
 */
int relay_start(struct leg_host *host, int fd, const struct leg_origin *origin, void (*ended)(void *arg),
                void *arg);

#endif
