/* notify.h - tell the service manager how we are (floor 6).
 * The datagram protocol of sd_notify(3) itself, which systemd documents as stable ("Notes": a single AF_UNIX
 * datagram of NEWLINE-separated assignments to $NOTIFY_SOCKET, '@' first for an abstract name), and
 * sd_watchdog_enabled(3)'s $WATCHDOG_USEC and $WATCHDOG_PID; thirty lines here against a library of a
 * megabyte in the root process. Without $NOTIFY_SOCKET everything is a no-op. One thread. */
#ifndef HAWSER_NOTIFY_H
#define HAWSER_NOTIFY_H

#include <stdint.h>

/* Take the environment's variables, and remove them from it: no child is to speak for us. */
void notify_init(void);
/* Send assignments, e.g. "READY=1\nSTATUS=two peers". 0 (also without a manager) or -errno. */
int notify_send(const char *assignments);
/* "RELOADING=1" with the MONOTONIC_USEC that Type=notify-reload asks for. */
int notify_reloading(void);
/* The manager's watchdog interval, or 0: none. */
uint64_t notify_watchdog_us(void);

#endif
