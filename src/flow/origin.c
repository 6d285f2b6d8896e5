#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/leg.h"

enum { REMEMBER_US = 600 * 1000000 };

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

static int make_socket(const struct leg_origin *o)
{
    int family = o->server.addr.family, one = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int tos = o->dscp << 2;
    if (tos != 0 && family == AF_INET)
        setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
    else if (tos != 0)
        setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
    return fd;
}

/* Bind to an address that is not ours (ip(7), IP_TRANSPARENT). port 0: the kernel picks one at connect. */
static int bind_as(int fd, const struct endpoint *client, uint16_t port)
{
    int one = 1, zero = 0, err;
    if (client->addr.family == AF_INET)
        err = setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one));
    else
        err = setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof(one));
    if (err < 0)
        return -errno;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, port == 0 ? &one : &zero, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    struct endpoint from = {.addr = client->addr, .port = port};
    struct sockaddr_storage sa;
    socklen_t len = endpoint_to_sockaddr(&from, &sa);
    return bind(fd, (struct sockaddr *)&sa, len) < 0 ? -errno : 0;
}

static int connect_to(int fd, const struct endpoint *server)
{
    struct sockaddr_storage sa;
    socklen_t len = endpoint_to_sockaddr(server, &sa);
    return connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS ? -errno : 0;
}

static int try_connect(const struct leg_origin *o, bool as_self, uint16_t port)
{
    int fd = make_socket(o);
    if (fd < 0)
        return fd;
    int err = as_self ? 0 : bind_as(fd, &o->client, port);
    if (err == 0)
        err = connect_to(fd, &o->server);
    if (err == 0)
        return fd;
    close(fd);
    return err;
}

int origin_connect(const struct leg_origin *o, bool as_self)
{
    int fd = try_connect(o, as_self, o->client.port);
    if (!as_self && (fd == -EADDRINUSE || fd == -EADDRNOTAVAIL))
        fd = try_connect(o, as_self, 0); /* the client's port is taken here: its address alone */
    return fd;
}

/* A clash only forgets an entry. */
static size_t slot_of(const struct addr *server)
{
    return endpoint_hash(&(struct endpoint){.addr = *server}) % ORIGIN_MEMORY_SLOTS;
}

bool origin_remembered_self(struct origin_memory *m, const struct addr *server, uint64_t now_us)
{
    size_t i = slot_of(server);
    return m->slots[i].until_us > now_us && addr_equal(&m->slots[i].addr, server);
}

void origin_remember_self(struct origin_memory *m, const struct addr *server, uint64_t now_us)
{
    size_t i = slot_of(server);
    m->slots[i].addr = *server;
    m->slots[i].until_us = now_us + REMEMBER_US;
}
