#include "hawser/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_un manager;
static socklen_t manager_len; /* 0: nobody to tell */
static uint64_t watchdog_us;

static uint64_t number_of(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' ? 0 : (uint64_t)value;
}

void notify_init(void)
{
    manager_len = 0;
    watchdog_us = 0;
    const char *path = getenv("NOTIFY_SOCKET");
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    if (path != NULL && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof(manager.sun_path)) {
        memset(&manager, 0, sizeof(manager));
        manager.sun_family = AF_UNIX;
        memcpy(manager.sun_path, path, strlen(path));
        if (path[0] == '@')
            manager.sun_path[0] = '\0';
        manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    if (usec != NULL && (pid == NULL || number_of(pid) == (uint64_t)getpid()))
        watchdog_us = number_of(usec);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

int notify_send(const char *assignments)
{
    if (manager_len == 0)
        return 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    ssize_t n =
        sendto(fd, assignments, strlen(assignments), MSG_NOSIGNAL, (struct sockaddr *)&manager, manager_len);
    int err = n < 0 ? -errno : 0;
    close(fd);
    return err;
}

int notify_reloading(void)
{
    struct timespec now;
    char text[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_us);
    return notify_send(text);
}

uint64_t notify_watchdog_us(void)
{
    return watchdog_us;
}
