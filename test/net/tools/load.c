/* load - many sessions at once between two ends, each with bytes of its own that both ends check.
 *
 *   load server [-4 | -6 | --address A] --ports FIRST[-LAST] [--sessions N] [--deadline S]
 *   load client ADDRESS FIRST[-LAST] --group KIND:COUNT[,KEY=VALUE...] ... [--at-once N] [--opening N]
 * [--rate N]
 *               [--source A[,A...]] [--seed N] [--hold] [--deadline S]
 *
 * KIND and its defaults (up, down: bytes a round; K, M, G):
 *   short   up=200,down=2000,rounds=1         a question, its answer, the end
 *   stream  up=1M,down=1M,rounds=1,duplex=1   both directions at once
 *   idle    up=16,down=16,rounds=2            after the first round held open until the release
 *   slow    up=16,down=256K,rounds=1,every_ms=1000   takes a byte every every_ms until the release, then the
 * rest echo    up=64,down=64,rounds=1000         questions and answers; every_ms=N: a pause before each
 * question rst     up=1000,down=64K,rounds=1         goes by RST after `after` bytes of the answer (default
 * 1) silent  as rst                            goes without a word (TCP_REPAIR; the caller drops the kernel's
 * RSTs) Further keys: after=BYTES, rcvbuf=BYTES (SO_RCVBUF), linger=1 (rst, silent: go at the release).
 *
 * The server prints "ready", the client "held" once all that will be held are, and with --hold waits for a
 * line or the end of its standard input before the release; without, the release follows at once. The last
 * line is the result, as JSON. Exit code 1: wrong bytes, an end that is missing, an end that came too early,
 * or out of time. The server ends after N sessions, at SIGTERM (a session that is then unfinished is an
 * error), or with the deadline.
 *
 * One thread, epoll, level-triggered. Memory: some 200 bytes a session. See load_stream.h for the bytes. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load_end.h"
#include "load_options.h"
#include "load_result.h"

static uint8_t buffer[BUFFER_BYTES], expected[BUFFER_BYTES];

/* ---- sessions: life ---- */

/* Nothing to watch: not in the set at all, for it would tell of a hang-up again and again. */
static void watch(struct session *s, uint32_t events)
{
    if (s->events == events)
        return;
    struct epoll_event e = {.events = events, .data.ptr = s};
    epoll_ctl(end.epoll,
              events == 0      ? EPOLL_CTL_DEL
              : s->events == 0 ? EPOLL_CTL_ADD
                               : EPOLL_CTL_MOD,
              s->fd, &e);
    s->events = events;
}

static struct session *session_new(int fd, uint32_t events)
{
    struct session *s = calloc(1, sizeof(*s));
    struct epoll_event e = {.events = events, .data.ptr = s};
    if (s == NULL || epoll_ctl(end.epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
        free(s);
        close(fd);
        return NULL;
    }
    s->fd = fd;
    s->events = events;
    s->number = (uint32_t)end.opened++;
    s->born_us = end.last_open_us = now_us();
    TAILQ_INSERT_TAIL(&end.live, s, link);
    if (++end.live_count > end.most_at_once)
        end.most_at_once = end.live_count;
    return s;
}

static void session_end(struct session *s)
{
    if (s->asleep)
        TAILQ_REMOVE(&s->group->sleeping, s, nap);
    if (s->connecting)
        end.opening--;
    if (s->group != NULL)
        s->group->finished++;
    if (s->group != NULL && is_held_kind(s->group) && !end.released) {
        end.to_hold--;
        end.held -= s->held;
    }
    TAILQ_REMOVE(&end.live, s, link);
    end.live_count--;
    close(s->fd);
    free(s);
}

static void session_fail(struct session *s, const char *what)
{
    note_error(s, "%s", what);
    session_end(s);
}

/* ---- what may be sent, what is awaited ---- */

static uint64_t rounds_in(const struct session *s)
{
    uint64_t head = end.is_server ? LOAD_HEADER_BYTES : LOAD_REPLY_BYTES;
    uint64_t a_round = end.is_server ? s->plan.up_bytes : s->plan.down_bytes;
    if (s->in < head)
        return 0;
    return a_round == 0 ? s->plan.rounds : (s->in - head) / a_round;
}

/* Offset up to which this end may send now. */
static uint64_t may_send(const struct session *s)
{
    const struct load_plan *p = &s->plan;
    if (end.is_server) {
        if (!s->known)
            return 0;
        if (s->ended_in)
            return load_down_total(p);
        uint64_t rounds = p->flags & LOAD_DUPLEX ? p->rounds : rounds_in(s);
        return LOAD_REPLY_BYTES + p->down_bytes * rounds;
    }
    uint64_t rounds = rounds_in(s) + 1;
    if (p->flags & LOAD_DUPLEX || rounds > p->rounds)
        rounds = p->rounds;
    if (s->group->kind == KIND_IDLE && !end.released)
        rounds = 1;
    if (s->asleep && s->group->kind == KIND_ECHO)
        rounds--;
    return LOAD_HEADER_BYTES + p->up_bytes * rounds;
}

static void direction_out(const struct session *s, struct load_direction *d, uint8_t *fixed)
{
    if (end.is_server) {
        load_reply_put(fixed, &s->plan);
        load_trailer_put(fixed + LOAD_REPLY_BYTES, load_up_body(&s->plan), load_sum_end(&s->body));
        *d = (struct load_direction){.head = fixed,
                                     .tail = fixed + LOAD_REPLY_BYTES,
                                     .head_len = LOAD_REPLY_BYTES,
                                     .body_len = load_down_body(&s->plan),
                                     .key = load_key_down(&s->plan)};
        return;
    }
    *d = (struct load_direction){.head = s->head,
                                 .tail = NULL,
                                 .head_len = LOAD_HEADER_BYTES,
                                 .body_len = load_up_body(&s->plan),
                                 .key = load_key_up(&s->plan)};
}

static void direction_in(const struct session *s, struct load_direction *d, uint8_t *fixed)
{
    if (end.is_server) {
        *d = (struct load_direction){.head = s->head,
                                     .tail = NULL,
                                     .head_len = LOAD_HEADER_BYTES,
                                     .body_len = load_up_body(&s->plan),
                                     .key = load_key_up(&s->plan)};
        return;
    }
    load_reply_put(fixed, &s->plan);
    load_trailer_put(fixed + LOAD_REPLY_BYTES, load_up_body(&s->plan), load_sum_end(&s->body));
    *d = (struct load_direction){.head = fixed,
                                 .tail = fixed + LOAD_REPLY_BYTES,
                                 .head_len = LOAD_REPLY_BYTES,
                                 .body_len = load_down_body(&s->plan),
                                 .key = load_key_down(&s->plan)};
}

/* Send what may go. 0 fine (also when the socket is full), -1 the session is over. */
static int send_some(struct session *s)
{
    uint8_t fixed[LOAD_REPLY_BYTES + LOAD_TRAILER_BYTES];
    struct load_direction d;
    uint64_t allowed = may_send(s);
    size_t turn = 0;
    while (s->out < allowed && turn < TURN_BYTES) {
        direction_out(s, &d, fixed);
        size_t len = 0, wanted = allowed - s->out < BUFFER_BYTES ? (size_t)(allowed - s->out) : BUFFER_BYTES;
        while (len < wanted)
            len += load_piece(&d, s->out + len, buffer + len, wanted - len);
        ssize_t n = send(s->fd, buffer, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -1;
        if (!end.is_server && s->out + (uint64_t)n > LOAD_HEADER_BYTES) {
            size_t skip = s->out < LOAD_HEADER_BYTES ? (size_t)(LOAD_HEADER_BYTES - s->out) : 0;
            load_sum_add(&s->body, buffer + skip, (size_t)n - skip);
        }
        s->out += (uint64_t)n;
        turn += (size_t)n;
        *(end.is_server ? &end.down_bytes : &end.up_bytes) += (uint64_t)n;
    }
    if (!end.is_server && !s->ended_out && s->out == load_up_total(&s->plan) &&
        !(s->plan.flags & LOAD_LEAVES)) {
        shutdown(s->fd, SHUT_WR);
        s->ended_out = true;
    }
    return 0;
}

/* ---- receiving ---- */

/* Compare n received bytes with what they must be; an error's text, or NULL. */
static const char *check(struct session *s, size_t n)
{
    uint8_t fixed[LOAD_REPLY_BYTES + LOAD_TRAILER_BYTES];
    struct load_direction d;
    size_t done = 0;
    if (end.is_server && !s->known) {
        size_t missing = (size_t)(LOAD_HEADER_BYTES - s->in);
        done = n < missing ? n : missing;
        memcpy(s->head + s->in, buffer, done);
        s->in += done;
        if (s->in < LOAD_HEADER_BYTES)
            return NULL;
        if (!load_header_get(&s->plan, s->head))
            return "what came is no header";
        s->known = true;
    }
    uint64_t total = end.is_server ? load_up_total(&s->plan) : load_down_total(&s->plan);
    if (n - done > total - s->in)
        return "bytes came behind the end";
    direction_in(s, &d, fixed);
    while (done < n) {
        size_t len = load_piece(&d, s->in, expected, n - done);
        if (memcmp(buffer + done, expected, len) != 0)
            return s->in >= d.head_len + d.body_len ? "the server got other bytes" : "wrong bytes came";
        if (end.is_server && s->in >= LOAD_HEADER_BYTES)
            load_sum_add(&s->body, buffer + done, len);
        s->in += len;
        done += len;
    }
    return NULL;
}

static void time_rounds(struct session *s, uint64_t now)
{
    if (!s->first_timed)
        latency_add(&s->group->first, now - s->born_us);
    s->first_timed = true;
    if (s->plan.flags & LOAD_DUPLEX || rounds_in(s) <= s->rounds_timed || s->rounds_timed >= s->plan.rounds)
        return;
    s->rounds_timed++;
    latency_add(&s->group->round, now - s->asked_us);
    s->asked_us = now;
}

static void sleep_until(struct session *s, uint64_t wake_us)
{
    s->asleep = true;
    s->wake_us = wake_us;
    TAILQ_INSERT_TAIL(&s->group->sleeping, s, nap);
}

static void hold(struct session *s)
{
    if (s->held)
        return;
    s->held = true;
    end.held++;
}

/* The client goes without saying so. */
static void leave(struct session *s)
{
    int on = 1;
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (s->group->kind == KIND_RST) {
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    } else if (setsockopt(s->fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0) {
        session_fail(s, "TCP_REPAIR is refused");
        return;
    }
    end.left++;
    session_end(s);
}

/* What a client's session does after bytes came. False: it is gone. */
static bool client_after_bytes(struct session *s)
{
    struct group *g = s->group;
    uint64_t now = now_us();
    uint32_t timed = s->rounds_timed;
    time_rounds(s, now);
    if (g->kind == KIND_IDLE && rounds_in(s) >= 1)
        hold(s);
    if (g->kind == KIND_SLOW && !end.released) {
        hold(s);
        sleep_until(s, now + g->every_us);
    }
    if (g->kind == KIND_ECHO && g->every_us > 0 && s->rounds_timed > timed &&
        s->rounds_timed < s->plan.rounds)
        sleep_until(s, now + g->every_us);
    if (leaves(g) && s->in >= LOAD_REPLY_BYTES + g->after) {
        if (g->linger && !end.released) {
            hold(s);
            return true;
        }
        leave(s);
        return false;
    }
    return true;
}

static bool takes_bytes(const struct session *s)
{
    if (s->group == NULL)
        return true;
    return !(s->asleep && s->group->kind == KIND_SLOW) && !(leaves(s->group) && s->held);
}

static void session_done(struct session *s)
{
    end.finished++;
    session_end(s);
}

/* The socket failed, or its stream ended before it should have. */
static void session_broke(struct session *s, const char *how)
{
    if (end.is_server && s->known && (s->plan.flags & LOAD_LEAVES)) {
        end.left++;
        session_end(s);
    } else {
        session_fail(s, how);
    }
}

/* The stream ended. False: the session is gone. */
static bool at_end(struct session *s)
{
    uint64_t total = end.is_server ? load_up_total(&s->plan) : load_down_total(&s->plan);
    if ((end.is_server && !s->known) || s->in < total) {
        session_broke(s, "the stream ended too early");
        return false;
    }
    s->ended_in = true;
    if (!end.is_server)
        session_done(s);
    return end.is_server;
}

/* False: the session is gone. */
static bool receive_some(struct session *s)
{
    size_t turn = 0;
    while (turn < TURN_BYTES && takes_bytes(s)) {
        bool slow = s->group != NULL && s->group->kind == KIND_SLOW && !end.released;
        ssize_t n = recv(s->fd, buffer, slow ? 1 : BUFFER_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0) {
            session_broke(s, strerror(errno));
            return false;
        }
        if (n == 0)
            return at_end(s);
        *(end.is_server ? &end.up_bytes : &end.down_bytes) += (uint64_t)n;
        const char *wrong = check(s, (size_t)n);
        if (wrong != NULL) {
            session_fail(s, wrong);
            return false;
        }
        turn += (size_t)n;
        if (s->group != NULL && !client_after_bytes(s))
            return false;
        if (n < BUFFER_BYTES)
            break;
    }
    return true;
}

/* ---- one session's turn ---- */

/* False: it failed, the session is gone. */
static bool finish_connect(struct session *s)
{
    int err = 0;
    socklen_t len = sizeof(err);
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0) {
        session_fail(s, strerror(err));
        return false;
    }
    s->connecting = false;
    end.opening--;
    s->asked_us = now_us();
    latency_add(&s->group->connected, s->asked_us - s->born_us);
    return true;
}

static void run(struct session *s, uint32_t what)
{
    if (s->connecting && !finish_connect(s))
        return;
    if ((what & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !s->ended_in && takes_bytes(s) && !receive_some(s))
        return;
    if (send_some(s) < 0) {
        session_broke(s, strerror(errno));
        return;
    }
    if (end.is_server && s->ended_in && s->out == load_down_total(&s->plan)) {
        session_done(s);
        return;
    }
    uint32_t events = s->out < may_send(s) ? EPOLLOUT : 0;
    if (!s->ended_in && takes_bytes(s))
        events |= EPOLLIN;
    watch(s, events);
}

/* ---- the server ---- */

static void count_peer(const struct sockaddr_storage *sa)
{
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff}; /* IPv4-mapped */
    if (sa->ss_family == AF_INET)
        memcpy(address + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
    else
        memcpy(address, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
    size_t i = 0;
    while (i < end.peer_count && memcmp(end.peers[i].address, address, 16) != 0)
        i++;
    if (i == PEERS_MAX)
        return;
    if (i == end.peer_count)
        memcpy(end.peers[end.peer_count++].address, address, 16);
    end.peers[i].count++;
}

static void accept_some(int listener)
{
    for (;;) {
        struct sockaddr_storage sa;
        socklen_t len = sizeof(sa);
        int one = 1, fd = accept4(listener, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            note_error(NULL, "accept: %s", strerror(errno));
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        count_peer(&sa);
        if (session_new(fd, EPOLLIN) == NULL)
            note_error(NULL, "no memory for a session");
    }
}

static void listen_on(const char *address, unsigned port)
{
    struct sockaddr_storage sa = {0};
    struct sockaddr_in *v4 = (void *)&sa;
    struct sockaddr_in6 *v6 = (void *)&sa;
    int one = 1, off = 0;
    bool is_v4 = inet_pton(AF_INET, address, &v4->sin_addr) == 1;
    sa.ss_family = is_v4 ? AF_INET : AF_INET6;
    if (!is_v4 && inet_pton(AF_INET6, address, &v6->sin6_addr) != 1)
        usage("%s is no address", address);
    *(is_v4 ? &v4->sin_port : &v6->sin6_port) = htons((uint16_t)port);
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (!is_v4)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &end.listeners[end.listener_count]};
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, is_v4 ? sizeof(*v4) : sizeof(*v6)) < 0 ||
        listen(fd, BACKLOG) < 0 || epoll_ctl(end.epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
        fprintf(stderr, "load: cannot listen on %s port %u: %s\n", address, port, strerror(errno));
        exit(1);
    }
    end.listeners[end.listener_count++] = fd;
}

/* ---- the client ---- */

/* The group of the next session: by chance, in proportion to what is left of each. */
static struct group *next_group(void)
{
    uint64_t left = end.sessions - end.opened;
    end.random = load_mix(end.random);
    uint64_t pick = end.random % left;
    for (size_t i = 0; i < end.group_count; i++) {
        struct group *g = &end.groups[i];
        if (pick < g->count - g->started)
            return g;
        pick -= g->count - g->started;
    }
    return &end.groups[0]; /* not reached: the groups sum up to the sessions */
}

static int open_socket(const struct group *g)
{
    int one = 1, fd = socket(end.server.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (g->rcvbuf > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &g->rcvbuf, sizeof(g->rcvbuf));
    if (end.source_count > 0) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(fd, (struct sockaddr *)&end.sources[end.opened % end.source_count], end.server_len) < 0) {
            close(fd);
            return -1;
        }
    }
    unsigned port = end.port_first + (unsigned)(end.opened % (end.port_last - end.port_first + 1));
    if (end.server.ss_family == AF_INET)
        ((struct sockaddr_in *)(void *)&end.server)->sin_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in6 *)(void *)&end.server)->sin6_port = htons((uint16_t)port);
    if (connect(fd, (struct sockaddr *)&end.server, end.server_len) < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void start_one(void)
{
    struct group *g = next_group();
    int fd = open_socket(g);
    g->started++;
    struct session *s = fd >= 0 ? session_new(fd, EPOLLOUT) : NULL;
    if (s == NULL) {
        note_error(NULL, "cannot open a session: %s", strerror(errno));
        if (fd < 0)
            end.opened++;
        g->finished++;
        end.to_hold -= is_held_kind(g) && !end.released;
        return;
    }
    s->group = g;
    s->connecting = true;
    end.opening++;
    s->plan = (struct load_plan){.seed = load_mix(end.seed + s->number),
                                 .up_bytes = g->up_bytes,
                                 .down_bytes = g->down_bytes,
                                 .rounds = g->rounds};
    s->plan.flags = (g->duplex ? LOAD_DUPLEX : 0) | (leaves(g) ? LOAD_LEAVES : 0);
    load_header_put(s->head, &s->plan);
}

/* Start what may be started; when to come again, UINT64_MAX: an event will tell. */
static uint64_t start_some(void)
{
    for (unsigned i = 0; i < EVENTS_MAX && end.opened < end.sessions; i++) {
        if (end.live_count >= end.at_once || end.opening >= end.opening_most)
            return UINT64_MAX;
        uint64_t due = end.rate > 0 ? end.began_us + end.opened * 1000000 / end.rate : 0;
        if (due > now_us())
            return due;
        start_one();
    }
    return end.opened < end.sessions ? 0 : UINT64_MAX;
}

/* Wake whose pause is over; when the next one ends. */
static uint64_t wake_some(void)
{
    uint64_t now = now_us(), next = UINT64_MAX;
    for (size_t i = 0; i < end.group_count; i++) {
        struct session *s;
        while ((s = TAILQ_FIRST(&end.groups[i].sleeping)) != NULL && (s->wake_us <= now || end.released)) {
            if (s->wake_us > now && s->group->kind == KIND_ECHO)
                break;
            TAILQ_REMOVE(&end.groups[i].sleeping, s, nap);
            s->asleep = false;
            s->asked_us = now;
            run(s, EPOLLIN);
        }
        s = TAILQ_FIRST(&end.groups[i].sleeping);
        if (s != NULL && s->wake_us < next)
            next = s->wake_us;
    }
    return next;
}

static void release(void)
{
    struct session *s, *after;
    uint64_t now = now_us();
    end.released = true;
    for (s = TAILQ_FIRST(&end.live); s != NULL; s = after) {
        after = TAILQ_NEXT(s, link);
        s->asked_us = s->held ? now : s->asked_us;
        if (s->held && leaves(s->group))
            leave(s);
        else if (s->held && !s->asleep)
            run(s, EPOLLIN);
    }
}

static void consider_release(void)
{
    if (end.is_server || end.released || end.held < end.to_hold)
        return;
    if (!end.held_told) {
        puts("held");
        fflush(stdout);
        end.held_told = true;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &end.stdin_watched};
    if (end.wait_for_release && !end.stdin_watched)
        end.stdin_watched =
            epoll_ctl(end.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &e) == 0; /* not with a file: end of input */
    if (!end.stdin_watched)
        release();
}

/* ---- the loop ---- */

static bool is_over(void)
{
    uint64_t closed = end.opened - end.live_count;
    if (end.asked_to_end || now_us() >= end.deadline_us)
        return true;
    return end.is_server ? end.wanted > 0 && closed >= end.wanted : closed >= end.sessions;
}

static void turn(int timeout_ms, const void *signals)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(end.epoll, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < n; i++) {
        uint8_t *who = events[i].data.ptr;
        if (who == signals) {
            end.asked_to_end = true;
        } else if (who == (uint8_t *)&end.stdin_watched) {
            epoll_ctl(end.epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
            release();
            return; /* some sessions of this batch may be gone; epoll tells of the others again */
        } else if (who >= (uint8_t *)end.listeners && who < (uint8_t *)(end.listeners + PORTS_MAX)) {
            accept_some(*(int *)(void *)who);
        } else {
            run(events[i].data.ptr, events[i].events);
        }
    }
}

static int serve(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &set};
    epoll_ctl(end.epoll, EPOLL_CTL_ADD, signals, &e);
    end.began_us = now_us();
    end.deadline_us = end.began_us + end.deadline_us;
    if (end.is_server) {
        puts("ready");
        fflush(stdout);
    }
    while (!is_over()) {
        uint64_t start = end.is_server ? UINT64_MAX : start_some();
        uint64_t next = wake_some(), now = now_us();
        consider_release();
        if (is_over())
            break;
        next = start < next ? start : next;
        next = end.deadline_us < next ? end.deadline_us : next;
        turn(next <= now ? 0 : (int)((next - now + 999) / 1000), &set);
    }
    return result();
}

int main(int argc, char **argv)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (argc < 2 || (strcmp(argv[1], "server") != 0 && strcmp(argv[1], "client") != 0))
        usage("load server | client ...");
    const char *address = access("/proc/sys/net/ipv6", F_OK) == 0 ? "::" : "0.0.0.0";
    end.is_server = argv[1][0] == 's';
    end.at_once = UINT64_MAX;
    end.opening_most = 512;
    end.deadline_us = 300ull * 1000000;
    end.seed = 1;
    TAILQ_INIT(&end.live);
    end.epoll = epoll_create1(EPOLL_CLOEXEC);
    options(argc - 1, argv + 1, &address);
    char **rest = argv + 1 + optind;
    if (end.is_server) {
        if (end.port_first == 0 || *rest != NULL)
            usage("load server --ports FIRST[-LAST]");
        for (unsigned port = end.port_first; port <= end.port_last; port++)
            listen_on(address, port);
        return serve();
    }
    if (argc - 1 - optind != 2 || end.sessions == 0)
        usage("load client ADDRESS FIRST[-LAST] --group ...");
    end.server_len = address_of(rest[0], &end.server);
    ports_of(rest[1]);
    end.random = end.seed;
    return serve();
}
