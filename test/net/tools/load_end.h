/* load_end.h - what one end of the load generator knows: its sessions, groups and counters (part of load.c
 * only; one thread). */
#ifndef LOAD_END_H
#define LOAD_END_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <time.h>

#include "load_latency.h"
#include "load_stream.h"

enum {
    BUFFER_BYTES = 64 * 1024,
    TURN_BYTES = 256 * 1024, /* one session moves at most this before the others get theirs */
    EVENTS_MAX = 512,
    GROUPS_MAX = 16,
    SOURCES_MAX = 64,
    PORTS_MAX = 1024,
    PEERS_MAX = 256,
    BACKLOG = 4096,
};

enum kind { KIND_SHORT, KIND_STREAM, KIND_IDLE, KIND_SLOW, KIND_ECHO, KIND_RST, KIND_SILENT, KIND_COUNT };
static const char *const kind_text[KIND_COUNT] = {"short", "stream", "idle", "slow", "echo", "rst", "silent"};

struct session;
TAILQ_HEAD(session_list, session);

struct group {
    enum kind kind;
    uint64_t count, started, finished, up_bytes, down_bytes, after, every_us;
    uint32_t rounds;
    int rcvbuf;
    bool duplex, linger;
    struct session_list sleeping; /* in order of wake_us: every pause of a group is as long */
    struct latency connected, first, round;
};

struct session {
    struct group *group; /* NULL: the server's side */
    struct load_plan plan;
    int fd;
    uint32_t events; /* what epoll watches */
    uint32_t number;
    bool connecting, known, held, asleep, first_timed;
    bool ended_in, ended_out; /* the other's end came, ours is sent */
    uint64_t out, in;         /* bytes of each direction so far */
    struct load_sum body;     /* of the up body: sent (client) or received (server) */
    uint64_t born_us, asked_us, wake_us;
    uint32_t rounds_timed;
    uint8_t head[LOAD_HEADER_BYTES]; /* of the up direction */
    TAILQ_ENTRY(session) link;       /* in live */
    TAILQ_ENTRY(session) nap;
};

struct end {
    bool is_server;
    int epoll, family;
    bool asked_to_end, held_told, released, wait_for_release, stdin_watched;
    uint64_t sessions, opened, finished, left, errors, most_at_once, live_count, opening, to_hold, held;
    uint64_t up_bytes, down_bytes, began_us, last_open_us, deadline_us;
    char first_error[256];
    struct session_list live;
    /* server */
    uint64_t wanted;
    int listeners[PORTS_MAX];
    size_t listener_count;
    struct {
        uint8_t address[16];
        uint64_t count;
    } peers[PEERS_MAX];
    size_t peer_count;
    /* client */
    struct sockaddr_storage server;
    socklen_t server_len;
    unsigned port_first, port_last;
    struct sockaddr_storage sources[SOURCES_MAX];
    size_t source_count;
    struct group groups[GROUPS_MAX];
    size_t group_count;
    uint64_t at_once, opening_most, rate, seed, random;
};

static struct end end;
static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static bool leaves(const struct group *g)
{
    return g->kind == KIND_RST || g->kind == KIND_SILENT;
}

static bool is_held_kind(const struct group *g)
{
    return g->kind == KIND_IDLE || g->kind == KIND_SLOW || (leaves(g) && g->linger);
}

static void __attribute__((format(printf, 2, 3))) note_error(const struct session *s, const char *fmt, ...)
{
    if (end.errors++ > 0)
        return;
    char what[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    if (s == NULL)
        snprintf(end.first_error, sizeof(end.first_error), "%s", what);
    else
        snprintf(end.first_error, sizeof(end.first_error),
                 "%s session %u: %s (%llu bytes in, %llu out, %.1f s old)",
                 s->group != NULL ? kind_text[s->group->kind] : "server's", s->number, what,
                 (unsigned long long)s->in, (unsigned long long)s->out,
                 (double)(now_us() - s->born_us) / 1e6);
}

#endif
