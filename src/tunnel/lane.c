#include "hawser/lane.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/clock.h"
#include "hawser/identity.h"
#include "hawser/log.h"
#include "lane_out.h"
#include "lane_stream.h"

/* The bytes' way out: frames are put into the thread's stage, lane_commit makes a block of them
 * (lane_stream.c) and encrypts it, OpenSSL hands the records to out_bio_write, which appends them to the out
 * buffer, and lane_flush writes that to the socket. The way in: OpenSSL reads the socket through in_bio_read
 * in large pieces (read-ahead), SSL_read puts plaintext into the in chunk, and whole blocks are given up from
 * there, raw ones without a copy.
 *
 * The socket is registered edge-triggered, once; `readable` and `writable` remember what the edges said. */

enum {
    LANE_READ_TURN_BYTES = 512 * 1024, /* taken in one turn before other sockets get theirs */
    LANE_RECORD_BYTES = 16384,
    LANE_RECORD_MAX = LANE_RECORD_BYTES + 256,
    LANE_REKEY_RECORDS = 1 << 23,
    LANE_OUT_EXTRA = 1024, /* of a large block: its records' headers, the end of a frame, a key update */
    LANE_IDLE_US = 2 * 1000000,
};

struct lane {
    struct loop *loop;
    struct lane *next; /* the owner's */
    const struct lane_events *events;
    void *owner;
    struct event io, timeout;
    struct task again; /* more to read, or a failure to tell */
    SSL *ssl;
    int fd;
    enum lane_state state;
    bool server, readable, writable, hangup, attached;
    int failure;
    struct endpoint remote;
    uint8_t pin[CONFIG_PIN_BYTES];

    struct lane_out out;

    struct chunk *in;
    uint32_t in_start, in_fill; /* [start, fill) is not parsed yet */

    struct greeting ours, theirs;
    bool greeting_sent;
    struct lane_counters counters;
    struct lane_stream stream;
    uint64_t records;  /* sent with this key */
    size_t turn_bytes; /* read, and decoded, in this turn */
};

static_assert((int)LANE_BLOCK_LARGE <= (int)COMPRESS_INPUT_MAX, "what a block may hold can be compressed");
static_assert((int)LANE_OUT_BYTES >= (int)BLOCK_PAYLOAD_MAX + (int)LANE_OUT_EXTRA,
              "the largest block fits when nothing waits");

static _Thread_local uint8_t stage[BLOCK_HEADER_BYTES + LANE_BLOCK_LARGE];

const char *lane_state_text(enum lane_state s)
{
    static const char *const text[] = {"connecting", "handshake", "greeting", "up", "closed"};
    return text[s];
}

/* ---- BIOs ---- */

static int out_bio_write(BIO *bio, const char *bytes, int len)
{
    struct lane *l = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    int err = lane_out_put(&l->out, bytes, (size_t)len);
    if (err == -ENOBUFS)
        BIO_set_retry_write(bio);
    if (err < 0)
        return -1;
    return len;
}

static int in_bio_read(BIO *bio, char *bytes, int len)
{
    struct lane *l = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = recv(l->fd, bytes, (size_t)len, 0);
    if (n > 0) {
        l->counters.in_bytes += (uint64_t)n;
        l->counters.last_in_us = clock_now_us();
        if (n < len && !l->hangup)
            l->readable = false; /* drained: an edge tells of more; after a FIN none would */
        return (int)n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        l->readable = errno == EINTR;
        l->hangup = false; /* after an end recv never says so */
        BIO_set_retry_read(bio);
        return -1;
    }
    l->failure = n == 0 ? -ERR_CLOSED : -errno;
    return n == 0 ? 0 : -1;
}

static long bio_ctrl(BIO *bio, int cmd, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method;

/* One method serves all lanes and threads; made before any of them. */
static void __attribute__((constructor)) make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hawser lane");
    if (bio_method == NULL)
        return;
    BIO_meth_set_write(bio_method, out_bio_write);
    BIO_meth_set_read(bio_method, in_bio_read);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static void __attribute__((destructor)) free_bio_method(void)
{
    BIO_meth_free(bio_method);
}

/* ---- failure ---- */

static void stop_events(struct lane *l)
{
    if (!l->attached)
        return;
    event_del(&l->io);
    event_del(&l->timeout);
    loop_cancel(l->loop, &l->again);
    l->attached = false;
}

static void release_buffers(struct lane *l)
{
    lane_out_free(&l->out);
    chunk_unref(l->in);
    l->in = NULL;
    l->in_start = l->in_fill = 0;
    lane_stream_free(&l->stream);
}

static void shut(struct lane *l)
{
    stop_events(l);
    l->state = LANE_CLOSED;
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    release_buffers(l);
}

static void fail(struct lane *l, int err)
{
    if (l->state == LANE_CLOSED)
        return;
    shut(l);
    l->events->down(l->owner, l, err);
}

/* A failure met while the owner is inside one of our calls: told in a later turn. */
static int fail_later(struct lane *l, int err)
{
    if (l->failure == 0)
        l->failure = err;
    loop_defer(l->loop, &l->again);
    return l->failure;
}

/* What OpenSSL's last error means to us. */
static int ssl_failure(struct lane *l, int ssl_error)
{
    if (l->failure != 0)
        return l->failure;
    if (ssl_error == SSL_ERROR_ZERO_RETURN)
        return -ERR_CLOSED;
    unsigned long queued = ERR_peek_last_error();
    char text[160], where[ENDPOINT_TEXT_MAX];
    ERR_error_string_n(queued, text, sizeof(text));
    log_debug("lane with %s: TLS: %s", endpoint_format(&l->remote, where), text);
    return -ERR_TLS;
}

/* ---- out ---- */

void lane_set_queue(struct lane *l, uint32_t bytes)
{
    int lowat = (int)bytes;
    setsockopt(l->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
    l->out.short_queue = bytes < LANE_LONG_QUEUE_BYTES;
}

size_t lane_flush(struct lane *l)
{
    while (l->writable && lane_out_waiting(&l->out) > 0) {
        ssize_t n = lane_out_send(&l->out, l->fd);
        if (n < 0) {
            l->writable = false;
            if (n != -EAGAIN)
                fail_later(l, (int)n);
            break;
        }
        l->counters.out_bytes += (uint64_t)n;
        l->counters.last_out_us = l->out.sent_us;
    }
    if (l->writable)
        lane_out_free(&l->out); /* nothing waits: an idle lane holds nothing */
    return lane_out_waiting(&l->out);
}

uint32_t lane_room(const struct lane *l)
{
    size_t left = LANE_OUT_BYTES - lane_out_waiting(&l->out);
    if (l->state != LANE_UP || l->failure != 0 || left < LANE_RECORD_MAX)
        return 0;
    if (!l->stream.compresses || left < LANE_BLOCK_MAX + LANE_OUT_EXTRA)
        return LANE_BLOCK_MAX;
    left -= LANE_OUT_EXTRA;
    return left < LANE_BLOCK_LARGE ? (uint32_t)left : LANE_BLOCK_LARGE;
}

int lane_level(const struct lane *l)
{
    return l->stream.out != NULL ? compressor_level(l->stream.out) : 0;
}

uint32_t lane_gain(const struct lane *l)
{
    return l->stream.gain;
}

uint8_t *lane_stage(struct lane *l)
{
    (void)l;
    return stage + BLOCK_HEADER_BYTES;
}

static int write_records(struct lane *l, const uint8_t *bytes, size_t len)
{
    l->records += (len + LANE_RECORD_BYTES - 1) / LANE_RECORD_BYTES;
    if (l->records >= LANE_REKEY_RECORDS) { /* RFC 8446, 5.5: a key's limit is 2^24.5 records */
        SSL_key_update(l->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
        l->records = 0;
    }
    ERR_clear_error();
    int n = SSL_write(l->ssl, bytes, (int)len);
    if (n == (int)len)
        return 0;
    return fail_later(l, ssl_failure(l, SSL_get_error(l->ssl, n)));
}

int lane_commit(struct lane *l, uint32_t payload_bytes, int level)
{
    assert(payload_bytes <= LANE_BLOCK_LARGE);
    const uint8_t *wire;
    int len =
        lane_stream_put(&l->stream, stage, payload_bytes, level, clock_now_us(), &l->counters.out, &wire);
    if (len < 0)
        return fail_later(l, len);
    int err = write_records(l, wire, (size_t)len);
    return err < 0 ? err : len;
}

void lane_rest(struct lane *l, uint64_t now_us)
{
    const uint8_t *wire;
    if (lane_room(l) == 0)
        return;
    int len = lane_stream_end(&l->stream, now_us, LANE_IDLE_US, &wire);
    if (len < 0)
        fail_later(l, len);
    else if (len > 0 && write_records(l, wire, (size_t)len) == 0)
        lane_flush(l);
}

/* ---- in ---- */

/* Room for at least one record behind what is not parsed yet. */
static int make_in_room(struct lane *l, uint32_t wanted)
{
    if (l->in != NULL && l->in->cap - l->in_fill >= wanted)
        return 0;
    uint32_t kept = l->in_fill - l->in_start;
    size_t cap = CHUNK_STANDARD_BYTES;
    if (kept + wanted > cap)
        cap = BLOCK_HEADER_BYTES + BLOCK_PAYLOAD_MAX + (size_t)LANE_RECORD_MAX;
    struct chunk *c = chunk_new(cap);
    if (c == NULL)
        return -ENOMEM;
    if (kept > 0)
        memcpy(c->bytes, l->in->bytes + l->in_start, kept);
    chunk_unref(l->in);
    l->in = c;
    l->in_start = 0;
    l->in_fill = kept;
    return 0;
}

static int send_greeting(struct lane *l)
{
    l->ours = (struct greeting){.version = PROTOCOL_VERSION, .features = GREETING_FEATURES};
    int err = l->events->identify(l->owner, l, l->pin, &l->ours);
    if (err < 0)
        return err;
    uint8_t *bytes = malloc(GREETING_BYTES);
    if (bytes == NULL)
        return -ENOMEM;
    greeting_put(bytes, &l->ours);
    err = write_records(l, bytes, GREETING_BYTES);
    free(bytes);
    l->greeting_sent = err == 0;
    lane_flush(l);
    return err;
}

static int do_handshake(struct lane *l)
{
    ERR_clear_error();
    int n = SSL_do_handshake(l->ssl);
    lane_flush(l);
    if (n != 1) {
        int e = SSL_get_error(l->ssl, n);
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : ssl_failure(l, e);
    }
    int err = identity_pin_of_ssl(l->ssl, l->pin);
    if (err < 0)
        return err;
    l->state = LANE_GREETING;
    return send_greeting(l);
}

static int take_greeting(struct lane *l)
{
    uint32_t have = l->in_fill - l->in_start;
    const uint8_t *at = l->in->bytes + l->in_start;
    if (have >= GREETING_PREFIX_BYTES) {
        int err = greeting_check_prefix(at);
        if (err < 0)
            return err;
    }
    if (have < GREETING_BYTES)
        return 0;
    int err = greeting_get(&l->theirs, at);
    if (err < 0)
        return err;
    l->in_start += GREETING_BYTES;
    l->stream.compresses = (l->ours.features & l->theirs.features & GREETING_FEATURE_ZSTD) != 0;
    l->state = LANE_UP;
    event_del(&l->timeout);
    l->events->up(l->owner, l);
    return 0;
}

static int take_block(struct lane *l, enum block_kind kind, const uint8_t *payload, uint32_t len)
{
    struct chunk *chunk = l->in;
    int frames_len = lane_stream_get(&l->stream, kind, &payload, len, &chunk, &l->counters.in);
    if (frames_len <= 0)
        return frames_len; /* 0: the end of a zstd frame */
    if (kind != BLOCK_RAW)
        l->turn_bytes += (size_t)frames_len;
    return l->events->block(l->owner, l, chunk, payload, (uint32_t)frames_len);
}

static int take_blocks(struct lane *l)
{
    while (l->state == LANE_UP && l->attached && l->turn_bytes < LANE_READ_TURN_BYTES) {
        uint32_t have = l->in_fill - l->in_start;
        if (have < BLOCK_HEADER_BYTES)
            return 0;
        enum block_kind kind;
        uint32_t len;
        int err = block_header_get(l->in->bytes + l->in_start, &kind, &len);
        if (err < 0)
            return err;
        if (have - BLOCK_HEADER_BYTES < len)
            return make_in_room(l, BLOCK_HEADER_BYTES + len - have);
        const uint8_t *payload = l->in->bytes + l->in_start + BLOCK_HEADER_BYTES;
        l->in_start += BLOCK_HEADER_BYTES + len;
        err = take_block(l, kind, payload, len);
        if (err < 0)
            return err;
    }
    return 0;
}

static int take_plaintext(struct lane *l)
{
    int err = 0;
    if (l->state == LANE_GREETING)
        err = take_greeting(l);
    if (err == 0 && l->state == LANE_UP && l->attached)
        err = take_blocks(l);
    if (l->state != LANE_CLOSED && l->in != NULL && l->in_start == l->in_fill &&
        (l->in->cap - l->in_fill < LANE_RECORD_MAX || !l->readable)) {
        chunk_unref(l->in);
        l->in = NULL;
        l->in_start = l->in_fill = 0;
        if (!l->readable)
            lane_stream_rest(&l->stream);
    }
    return err;
}

/* Read until the socket is empty or the turn's share is used. */
static int read_turn(struct lane *l)
{
    l->turn_bytes = 0;
    int err = take_blocks(l); /* what the last turn had no time for */
    if (err < 0)
        return err;
    while (l->attached && l->state != LANE_CLOSED && l->turn_bytes < LANE_READ_TURN_BYTES) {
        if (l->state == LANE_HANDSHAKE) {
            err = do_handshake(l);
            if (err < 0 || l->state == LANE_HANDSHAKE)
                return err;
        }
        err = make_in_room(l, LANE_RECORD_MAX);
        if (err < 0)
            return err;
        ERR_clear_error();
        int n = SSL_read(l->ssl, l->in->bytes + l->in_fill, (int)(l->in->cap - l->in_fill));
        if (n <= 0) {
            int e = SSL_get_error(l->ssl, n);
            if (e != SSL_ERROR_WANT_READ)
                return ssl_failure(l, e);
            err = take_plaintext(l);
            if (err < 0)
                return err;
            if (!l->readable)
                break;
            continue;
        }
        l->in_fill += (uint32_t)n;
        l->turn_bytes += (size_t)n;
        err = take_plaintext(l);
        if (err < 0)
            return err;
    }
    if (l->attached && l->state != LANE_CLOSED && l->turn_bytes >= LANE_READ_TURN_BYTES)
        loop_defer(l->loop, &l->again);
    return 0;
}

static void read_remote(struct lane *l)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (getpeername(l->fd, (struct sockaddr *)&sa, &len) == 0)
        endpoint_from_sockaddr(&l->remote, (struct sockaddr *)&sa);
}

static void finish_connect(struct lane *l)
{
    int err = 0;
    socklen_t len = sizeof(err);
    getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0) {
        fail(l, -err);
        return;
    }
    read_remote(l);
    l->state = LANE_HANDSHAKE;
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct lane *l = arg;
    (void)fd;
    if (what & EV_WRITE)
        l->writable = true;
    if (what & EV_READ)
        l->readable = true;
    /* an error comes as both at once, without EV_CLOSED: then too there may be no further edge */
    if ((what & EV_CLOSED) || (what & (EV_READ | EV_WRITE)) == (EV_READ | EV_WRITE))
        l->readable = l->hangup = true;
    if (l->state == LANE_CONNECTING && (what & (EV_WRITE | EV_READ)))
        finish_connect(l);
    if (l->state == LANE_CLOSED)
        return;
    if (l->state != LANE_CONNECTING && (l->readable || l->state == LANE_HANDSHAKE)) {
        int err = read_turn(l);
        if (err < 0)
            fail(l, err);
    }
    if (l->state == LANE_CLOSED || !l->attached)
        return;
    if (l->writable) {
        lane_flush(l);
        if (l->state == LANE_UP && l->writable && l->failure == 0)
            l->events->writable(l->owner, l);
    }
}

static void run_again(void *arg)
{
    struct lane *l = arg;
    if (l->failure != 0) {
        fail(l, l->failure);
        return;
    }
    on_io(l->fd, EV_READ, l);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    fail(arg, -ETIMEDOUT);
}

/* ---- life ---- */

static void start_events(struct lane *l)
{
    event_assign(&l->io, loop_base(l->loop), l->fd, EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
                 on_io, l);
    event_assign(&l->timeout, loop_base(l->loop), -1, EV_TIMEOUT, on_timeout, l);
    event_add(&l->io, NULL);
    l->attached = true;
}

static int make_ssl(struct lane *l, SSL_CTX *tls)
{
    l->ssl = SSL_new(tls);
    if (l->ssl == NULL)
        return -ENOMEM;
    BIO *bio = BIO_new(bio_method);
    if (bio == NULL)
        return -ENOMEM;
    BIO_set_data(bio, l);
    BIO_set_init(bio, 1);
    SSL_set_bio(l->ssl, bio, bio);
    SSL_set_read_ahead(l->ssl, 1);
    SSL_set_default_read_buffer_len(l->ssl, 4 * LANE_RECORD_MAX);
    if (l->server)
        SSL_set_accept_state(l->ssl);
    else
        SSL_set_connect_state(l->ssl);
    return 0;
}

int lane_new(struct lane **out, struct loop *loop, SSL_CTX *tls, bool server, bool connecting, int fd,
             uint64_t timeout_us, const struct lane_events *events, void *owner)
{
    struct lane *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        close(fd);
        return -ENOMEM;
    }
    l->loop = loop;
    l->events = events;
    l->owner = owner;
    l->fd = fd;
    l->server = server;
    l->state = connecting ? LANE_CONNECTING : LANE_HANDSHAKE;
    l->again = (struct task){.run = run_again, .owner = l};
    l->counters.last_in_us = l->counters.last_out_us = clock_now_us();
    lane_stream_init(&l->stream);
    int err = make_ssl(l, tls);
    if (err < 0) {
        lane_free(l);
        return err;
    }
    if (!connecting)
        read_remote(l);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    start_events(l);
    struct timeval tv = {(time_t)(timeout_us / 1000000), (suseconds_t)(timeout_us % 1000000)};
    event_add(&l->timeout, &tv);
    if (!connecting)
        loop_defer(loop, &l->again); /* the first flight may be there already */
    *out = l;
    return 0;
}

void lane_free(struct lane *l)
{
    if (l == NULL)
        return;
    shut(l);
    SSL_free(l->ssl);
    free(l);
}

void lane_put_next(struct lane *l, struct lane *next)
{
    l->next = next;
}

struct lane *lane_next(const struct lane *l)
{
    return l->next;
}

void lane_detach(struct lane *l)
{
    stop_events(l);
}

void lane_attach(struct lane *l, struct loop *loop, const struct lane_events *events, void *owner)
{
    l->loop = loop;
    l->events = events;
    l->owner = owner;
    l->readable = l->writable = l->hangup = true; /* edges may have been missed on the way */
    start_events(l);
    loop_defer(loop, &l->again);
}

void lane_close(struct lane *l)
{
    if (l->state == LANE_CLOSED)
        return;
    if (l->state == LANE_UP && l->failure == 0) {
        ERR_clear_error();
        SSL_shutdown(l->ssl);
        lane_flush(l);
    }
    shut(l);
}

enum lane_state lane_state(const struct lane *l)
{
    return l->state;
}

const struct greeting *lane_greeting(const struct lane *l)
{
    return &l->theirs;
}

bool lane_is_dialled(const struct lane *l)
{
    return !l->server;
}

const struct endpoint *lane_remote(const struct lane *l)
{
    return &l->remote;
}

const uint8_t *lane_pin(const struct lane *l)
{
    return l->pin;
}

const struct greeting *lane_own_greeting(const struct lane *l)
{
    return l->greeting_sent ? &l->ours : NULL;
}

int lane_fd(const struct lane *l)
{
    return l->fd;
}

const struct lane_counters *lane_counters(const struct lane *l)
{
    return &l->counters;
}
