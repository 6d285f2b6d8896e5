#include "hawser/leg.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/clock.h"

/* The socket is registered edge-triggered, once. Commands and socket events of one turn are acted on together
 * by `pump`, a task at the turn's end: one read, one writev, one `consumed`.
 *
 * Invariants: (1) read_bytes <= allowed_bytes; (2) after `closed` is posted the descriptor is closed and
 * every command but release is dropped; (3) a mail that cannot be had for lack of memory closes the leg by a
 * mail that is part of it, so `closed` always arrives. */

enum {
    LEG_READ_BYTES = CHUNK_STANDARD_BYTES,
    LEG_KEEP_BYTES = 16 * 1024, /* a smaller read is copied, and the large chunk used again */
    LEG_TURN_BYTES = 256 * 1024,
    LEG_IOV_MAX = 64,
    LEG_KEEPALIVE_S = 60,
    LEG_KEEPALIVE_PROBE_S = 10,
    LEG_AUTO_TRY_US = 3000000,       /* source = auto: how long the client's name gets before ours is tried */
    LEG_RESET_PATIENCE_US = 5000000, /* after a host's reset: how long what it said before waits for leave */
};

enum leg_word {
    LEG_START,
    LEG_ALLOW,
    LEG_WRITE,
    LEG_FINISH,
    LEG_ABORT,
    LEG_RELEASE,
    LEG_CONNECTED,
    LEG_DATA,
    LEG_EOF,
    LEG_CONSUMED,
    LEG_CLOSED,
};

struct leg_mail {
    struct mail mail;
    struct leg *leg;
    enum leg_word word;
    int err;
    uint64_t number;
    struct slice slice;
};

struct leg {
    struct leg_host *host;
    struct loop *owner_loop;
    const struct leg_events *events;
    void *owner;
    struct event io, timeout;
    struct task pump;
    int fd;
    bool connecting, as_self, reset_met, readable, writable, hangup, suspect, eof, finish_wanted, finished,
        closed, watched;
    uint64_t allowed_bytes, read_bytes;
    uint64_t consumed_bytes, consumed_told;
    uint64_t patient_at_bytes; /* read_bytes when the patience with a reset began */
    struct slices out;
    struct leg_origin origin;
    /* Kept ready, so that these never fail: START and RELEASE (never both at once), ABORT, CLOSED. */
    struct leg_mail life_mail, abort_mail, closed_mail;
    bool abort_sent;
};

static void take_command(struct mail *m);
static void take_event(struct mail *m);

static void mail_init(struct leg_mail *m, struct leg *l, enum leg_word word)
{
    *m = (struct leg_mail){.leg = l, .word = word};
    m->mail.deliver = word < LEG_CONNECTED ? take_command : take_event;
}

static struct leg_mail *mail_new(struct leg *l, enum leg_word word)
{
    struct leg_mail *m = malloc(sizeof(*m));
    if (m != NULL)
        mail_init(m, l, word);
    return m;
}

static void mail_free(struct leg_mail *m)
{
    struct leg *l = m->leg;
    if (m != &l->life_mail && m != &l->abort_mail && m != &l->closed_mail)
        free(m);
}

static void close_now(struct leg *l, int err);

static void tell(struct leg *l, enum leg_word word, uint64_t number, struct slice s)
{
    struct leg_mail *m = mail_new(l, word);
    if (m == NULL) {
        chunk_unref(s.chunk);
        close_now(l, -ENOMEM);
        return;
    }
    m->number = number;
    m->slice = s;
    loop_post(l->owner_loop, &m->mail);
}

static void take_event(struct mail *mail)
{
    struct leg_mail *m = (struct leg_mail *)(void *)mail;
    const struct leg_events *events = m->leg->events;
    void *owner = m->leg->owner;
    enum leg_word word = m->word;
    int err = m->err;
    uint64_t number = m->number;
    struct slice s = m->slice;
    mail_free(m);
    if (word == LEG_CONNECTED)
        events->connected(owner);
    else if (word == LEG_DATA)
        events->data(owner, s);
    else if (word == LEG_EOF)
        events->eof(owner);
    else if (word == LEG_CONSUMED)
        events->consumed(owner, number);
    else
        events->closed(owner, err);
}

/* ---- on the host's loop ---- */

static void unwatch(struct leg *l)
{
    if (l->watched) {
        event_del(&l->io);
        event_del(&l->timeout);
    }
    l->watched = false;
    loop_cancel(l->host->loop, &l->pump);
}

/* From the start a close means RST: should this process die in the middle, the kernel must not tell the host
 * of an orderly end. Only an orderly end takes it away. */
static void set_reset_on_close(int fd, bool on)
{
    struct linger linger = {.l_onoff = on, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void close_now(struct leg *l, int err)
{
    if (l->closed)
        return;
    l->closed = true;
    unwatch(l);
    if (l->fd >= 0) {
        if (err == 0)
            set_reset_on_close(l->fd, false);
        close(l->fd);
    }
    l->fd = -1;
    slices_clear(&l->out);
    mail_init(&l->closed_mail, l, LEG_CLOSED);
    l->closed_mail.err = err;
    loop_post(l->owner_loop, &l->closed_mail.mail);
}

static _Thread_local struct chunk *read_chunk;

/* One recv; its bytes, 0 at the end, or -errno. */
static ssize_t read_once(struct leg *l, struct slice *out)
{
    if (read_chunk == NULL && (read_chunk = chunk_new(LEG_READ_BYTES)) == NULL)
        return -ENOMEM;
    uint64_t left = l->allowed_bytes - l->read_bytes;
    size_t want = left < LEG_READ_BYTES ? (size_t)left : LEG_READ_BYTES;
    ssize_t n = recv(l->fd, read_chunk->bytes, want, 0);
    if (n < 0)
        return -errno;
    if (n > 0 && (size_t)n < want && !l->hangup)
        l->readable = false; /* drained: an edge tells of more; after a FIN none would */
    if (n >= LEG_KEEP_BYTES) {
        *out = (struct slice){.chunk = read_chunk, .off = 0, .len = (uint32_t)n};
        read_chunk = NULL;
    } else if (n > 0) {
        *out = slice_copy(read_chunk->bytes, (size_t)n);
        if (out->chunk == NULL)
            return -ENOMEM;
    }
    return n;
}

static void read_host(struct leg *l)
{
    size_t turn = 0;
    while (l->readable && !l->eof && l->read_bytes < l->allowed_bytes && !l->closed) {
        if (turn >= LEG_TURN_BYTES) {
            loop_defer(l->host->loop, &l->pump);
            return;
        }
        struct slice s;
        ssize_t n = read_once(l, &s);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN) {
            l->readable = l->hangup = l->suspect = false;
        } else if (n < 0 || (n == 0 && l->reset_met)) {
            close_now(l, n < 0 ? (int)n : -ECONNRESET);
        } else if (n == 0) {
            l->eof = true;
            tell(l, LEG_EOF, l->read_bytes, (struct slice){0});
        } else {
            turn += (size_t)n;
            l->read_bytes += (uint64_t)n;
            atomic_fetch_add_explicit(&l->host->moved_bytes, (uint64_t)n, memory_order_relaxed);
            tell(l, LEG_DATA, 0, s);
        }
    }
}

static void on_impatience(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    close_now(arg, -ECONNRESET);
}

/* What the host said before it reset waits for leave to be read, for as long as some of it is let through. */
static void be_patient(struct leg *l)
{
    static const struct timeval patience = {LEG_RESET_PATIENCE_US / 1000000, 0};
    if (event_pending(&l->timeout, EV_TIMEOUT, NULL) && l->patient_at_bytes == l->read_bytes)
        return;
    l->patient_at_bytes = l->read_bytes;
    event_del(&l->timeout);
    event_assign(&l->timeout, loop_base(l->host->loop), -1, EV_TIMEOUT, on_impatience, l);
    event_add(&l->timeout, &patience);
}

/* A leg that may not read does not meet a reset by reading. Asked only after an edge that can be one. */
static void look_for_reset(struct leg *l)
{
    int err = 0, unread = 0;
    socklen_t len = sizeof(err);
    bool reads = !l->eof && l->read_bytes < l->allowed_bytes;
    if (l->closed || reads || (!l->suspect && !l->reset_met))
        return;
    l->suspect = false;
    if (!l->reset_met && getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0)
        return;
    l->reset_met = true; /* asking took the error away */
    if (l->eof || ioctl(l->fd, FIONREAD, &unread) < 0 || unread == 0)
        close_now(l, -ECONNRESET);
    else
        be_patient(l);
}

static void write_host(struct leg *l)
{
    if (l->reset_met) { /* nobody is there; failing would take with it what is still to be read */
        slices_clear(&l->out);
        return;
    }
    while (l->writable && l->out.count > 0) {
        struct iovec iov[LEG_IOV_MAX];
        struct msghdr message = {.msg_iov = iov};
        message.msg_iovlen = (size_t)slices_iov(&l->out, iov, LEG_IOV_MAX, SIZE_MAX);
        ssize_t n = sendmsg(l->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            l->writable = false;
            break;
        }
        if (n < 0) {
            close_now(l, -errno);
            return;
        }
        slices_drop(&l->out, (uint64_t)n);
        l->consumed_bytes += (uint64_t)n;
        atomic_fetch_add_explicit(&l->host->moved_bytes, (uint64_t)n, memory_order_relaxed);
    }
    if (l->consumed_bytes != l->consumed_told) {
        l->consumed_told = l->consumed_bytes;
        tell(l, LEG_CONSUMED, l->consumed_bytes, (struct slice){0});
    }
    if (l->finish_wanted && !l->finished && l->out.count == 0 && !l->closed) {
        l->finished = true;
        shutdown(l->fd, SHUT_WR); /* ENOTCONN: the read side tells */
    }
}

static void run_pump(void *arg)
{
    struct leg *l = arg;
    if (l->closed || l->connecting)
        return;
    read_host(l); /* first: a write to a host that has reset fails, and what it said before would be lost */
    look_for_reset(l);
    if (!l->closed)
        write_host(l);
    if (!l->closed && l->eof && l->finished)
        close_now(l, 0);
}

static void watch(struct leg *l);

/* A failed attempt to connect: in our own name now, if that was not tried and may help, else the end. */
static void connect_failed(struct leg *l, int err)
{
    bool may_help = err == -ETIMEDOUT || err == -EADDRNOTAVAIL || err == -EHOSTUNREACH ||
                    err == -ENETUNREACH || err == -EADDRINUSE || err == -EINVAL;
    if (l->origin.source != CONFIG_SOURCE_AUTO || l->as_self || !may_help) {
        close_now(l, err);
        return;
    }
    unwatch(l);
    if (l->fd >= 0)
        close(l->fd);
    l->as_self = true;
    origin_remember_self(&l->host->memory, &l->origin.server.addr, clock_now_us());
    l->fd = origin_connect(&l->origin, true);
    if (l->fd < 0)
        close_now(l, l->fd);
    else
        watch(l);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    connect_failed(arg, -ETIMEDOUT);
}

static void finish_connect(struct leg *l)
{
    int err = 0;
    socklen_t len = sizeof(err);
    getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0 && err != ECONNRESET) {
        connect_failed(l, -err);
        return;
    }
    /* Refused says ECONNREFUSED: this one was accepted, and reset since. What was said before can still be
     * read; asking took the error away, so the end of it must be told from an orderly one. */
    l->reset_met = err == ECONNRESET;
    l->connecting = false;
    event_del(&l->timeout);
    tell(l, LEG_CONNECTED, 0, (struct slice){0});
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct leg *l = arg;
    (void)fd;
    if (l->connecting) {
        finish_connect(l);
        if (l->closed || l->connecting)
            return;
    }
    if (what & EV_WRITE)
        l->writable = true;
    if (what & EV_READ)
        l->readable = true;
    /* an error comes as both at once, without EV_CLOSED: then too there may be no further edge */
    if ((what & EV_CLOSED) || (what & (EV_READ | EV_WRITE)) == (EV_READ | EV_WRITE))
        l->readable = l->hangup = l->suspect = true;
    loop_defer(l->host->loop, &l->pump);
}

static void set_options(int fd)
{
    int one = 1, idle_s = LEG_KEEPALIVE_S, probe_s = LEG_KEEPALIVE_PROBE_S;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    set_reset_on_close(fd, true);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof(probe_s));
}

static void watch(struct leg *l)
{
    set_options(l->fd);
    event_assign(&l->io, loop_base(l->host->loop), l->fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
                 on_io, l);
    event_assign(&l->timeout, loop_base(l->host->loop), -1, EV_TIMEOUT, on_timeout, l);
    event_add(&l->io, NULL);
    l->watched = true;
    if (!l->connecting)
        return;
    uint64_t us = l->origin.timeout_us;
    if (l->origin.source == CONFIG_SOURCE_AUTO && !l->as_self && us > LEG_AUTO_TRY_US)
        us = LEG_AUTO_TRY_US;
    struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};
    event_add(&l->timeout, &tv);
}

static void start(struct leg *l)
{
    if (l->closed)
        return;
    if (l->connecting) {
        l->as_self = l->origin.source == CONFIG_SOURCE_SELF ||
                     (l->origin.source == CONFIG_SOURCE_AUTO &&
                      origin_remembered_self(&l->host->memory, &l->origin.server.addr, clock_now_us()));
        l->fd = origin_connect(&l->origin, l->as_self);
        if (l->fd < 0) {
            int err = l->fd;
            l->fd = -1;
            connect_failed(l, err);
            return;
        }
    }
    watch(l);
    if (!l->connecting) {
        l->readable = l->writable = true; /* ask the socket itself the first time */
        loop_defer(l->host->loop, &l->pump);
    }
}

static void take_write(struct leg *l, struct slice s)
{
    if (!l->closed && !l->finish_wanted && (slices_extend(&l->out, s) || slices_merge(&l->out, s))) {
        loop_defer(l->host->loop, &l->pump);
        return;
    }
    if (l->closed || l->finish_wanted || slices_push(&l->out, s) < 0) {
        chunk_unref(s.chunk);
        if (!l->closed && !l->finish_wanted)
            close_now(l, -ENOMEM);
        return;
    }
    loop_defer(l->host->loop, &l->pump);
}

static void leg_free(struct leg *l)
{
    assert(l->closed);
    leg_host_release(l->host, 1); /* the last that is heard of it on this loop */
    free(l);
}

static void take_command(struct mail *mail)
{
    struct leg_mail *m = (struct leg_mail *)(void *)mail;
    struct leg *l = m->leg;
    enum leg_word word = m->word;
    uint64_t number = m->number;
    struct slice s = m->slice;
    mail_free(m);
    if (word == LEG_START) {
        l->allowed_bytes = number;
        start(l);
    } else if (word == LEG_WRITE) {
        take_write(l, s);
    } else if (word == LEG_RELEASE) {
        leg_free(l);
    } else if (!l->closed) {
        if (word == LEG_ALLOW)
            l->allowed_bytes = number;
        else if (word == LEG_FINISH)
            l->finish_wanted = true;
        else
            close_now(l, -ECONNABORTED);
        if (!l->closed)
            loop_defer(l->host->loop, &l->pump);
    }
}

/* ---- the owner's side ---- */

struct leg *leg_new(struct leg_host *host, struct loop *owner_loop, const struct leg_events *events,
                    void *owner, int fd, const struct leg_origin *origin)
{
    struct leg *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        leg_host_release(host, 1);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    l->host = host;
    l->owner_loop = owner_loop;
    l->events = events;
    l->owner = owner;
    l->fd = fd;
    l->pump = (struct task){.run = run_pump, .owner = l};
    if (origin != NULL) {
        l->origin = *origin;
        l->connecting = true;
    }
    return l;
}

static void command(struct leg *l, enum leg_word word, uint64_t number, struct slice s)
{
    struct leg_mail *m = mail_new(l, word);
    if (m == NULL) {
        chunk_unref(s.chunk); /* a lost command would hang the session: end it */
        leg_abort(l);
        return;
    }
    m->number = number;
    m->slice = s;
    loop_post(l->host->loop, &m->mail);
}

void leg_start(struct leg *l, uint64_t allowed_bytes)
{
    mail_init(&l->life_mail, l, LEG_START);
    l->life_mail.number = allowed_bytes;
    loop_post(l->host->loop, &l->life_mail.mail);
}

void leg_allow(struct leg *l, uint64_t total_bytes)
{
    command(l, LEG_ALLOW, total_bytes, (struct slice){0});
}

void leg_write(struct leg *l, struct slice s)
{
    command(l, LEG_WRITE, 0, s);
}

void leg_finish(struct leg *l)
{
    command(l, LEG_FINISH, 0, (struct slice){0});
}

void leg_abort(struct leg *l)
{
    if (l->abort_sent)
        return;
    l->abort_sent = true;
    mail_init(&l->abort_mail, l, LEG_ABORT);
    loop_post(l->host->loop, &l->abort_mail.mail);
}

/* `closed` has arrived, so START has been taken and its mail is free again. */
void leg_release(struct leg *l)
{
    mail_init(&l->life_mail, l, LEG_RELEASE);
    loop_post(l->host->loop, &l->life_mail.mail);
}

void leg_thread_end(void)
{
    chunk_unref(read_chunk);
    read_chunk = NULL;
}
