/* hubload - many peers of one hub, played by one process: real TLS lanes, idle sessions.
 *
 *   hubload keygen DIR N                 makes the identities DIR/0 .. DIR/N-1, prints a pin a line
 *   hubload serve ADDRESS:PORT           accepts, answers each connection's first byte with the same, holds it
 *   hubload peers DIR N HUB:PORT SERVER:PORT LANES SESSIONS
 *
 * Peer k is identity DIR/k and speaks for 10.(128 + k / 256).(k % 256).0/24. Each dials slots 0 to LANES-1; once
 * all lanes of all peers are up, a line {"lanes": n} is printed. A line on standard input then lets each peer
 * open SESSIONS sessions to SERVER over slot 0: OPEN and one byte. A session is open when that byte was confirmed
 * (ACK) and its echo came back, so the server's socket has been read and written; it is refused when the hub
 * resets it for want of memory or descriptors. When each is one or the other, a line {"open": n, "refused": n}
 * follows. From then on PINGs are answered and nothing is sent otherwise. At the end of standard input: a last
 * line with what happened since, exit 0. A lane that is lost, or any other reset, is the end: exit 1. One thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hawser/err.h"
#include "hawser/identity.h"
#include "hawser/lane.h"

enum {
    PEERS_MAX = CONFIG_PEERS_MAX,
    DIALLING_MOST = 48,  /* lanes: a hub keeps at most GREETER_PENDING_MAX strangers */
    OPENING_MOST = 256,  /* sessions: a server's backlog is not what is measured here */
    HANDSHAKE_US = 60 * 1000000,
    CREDIT_BYTES = 1 << 20,
    OPEN_BYTES = 64, /* of OPEN and its byte together, at most */
    ANSWER_BYTES = 32,
    SESSIONS_MAX = 100, /* of a peer: frames_cap stays below LANE_BLOCK_MAX */
    FIRST_PORT = 20000,
};

static const uint8_t QUESTION = 'q';

enum session_state { SESSION_UNUSED, SESSION_OPENING, SESSION_OPEN, SESSION_REFUSED };

struct member_session {
    uint8_t state;
    bool confirmed, echoed;
};

struct member_lane {
    struct member *member;
    struct lane *lane;
    uint8_t *frames; /* that wait for room */
    size_t frames_bytes, frames_cap;
    uint8_t slot;
    bool up;
};

/* One peer of the hub. */
struct member {
    uint32_t number, side, opened;
    uint8_t pin[CONFIG_PIN_BYTES], instance[GREETING_INSTANCE_BYTES];
    SSL_CTX *tls;
    struct member_lane *lanes;
    struct member_session *sessions;
};

static struct {
    struct loop *loop;
    struct member *members;
    uint32_t member_count, lanes_each, sessions_each;
    struct endpoint hub, server;
    uint32_t lanes_dialled, lanes_up;
    uint32_t sessions_begun, open, refused;
    uint64_t pings;
    bool go;
    struct event input;
} all;

static void die(const char *what, int err)
{
    fprintf(stderr, "hubload: %s: %s\n", what, err_text(err));
    exit(1);
}

static void *must(void *memory)
{
    if (memory == NULL)
        die("memory", -ENOMEM);
    return memory;
}

static void raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static uint32_t number_of(const char *text, uint32_t least, uint32_t most)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || n < least || n > most) {
        fprintf(stderr, "hubload: '%s' is not a number from %u to %u\n", text, least, most);
        exit(2);
    }
    return (uint32_t)n;
}

static struct endpoint endpoint_of(const char *text)
{
    struct endpoint e;
    if (endpoint_parse(&e, text) < 0) {
        fprintf(stderr, "hubload: '%s' is not ADDRESS:PORT\n", text);
        exit(2);
    }
    return e;
}

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
}

/* ---- keygen ---- */

static int run_keygen(const char *dir, uint32_t count)
{
    for (uint32_t k = 0; k < count; k++) {
        char path[4096], name[CONFIG_NAME_MAX], error[IDENTITY_ERROR_MAX], text[CONFIG_PIN_TEXT_MAX];
        uint8_t pin[CONFIG_PIN_BYTES];
        struct identity *id;
        snprintf(path, sizeof(path), "%s/%u", dir, k);
        snprintf(name, sizeof(name), "member%u", k);
        if (identity_generate(path, name, error) < 0 || identity_load(&id, path, error) < 0) {
            fprintf(stderr, "hubload: %s\n", error);
            return 1;
        }
        identity_pin(id, pin);
        identity_free(id);
        identity_pin_format(pin, text);
        puts(text);
    }
    return 0;
}

/* ---- serve ---- */

struct guest {
    struct event event;
    int fd;
};

static void serve_read(evutil_socket_t fd, short what, void *arg)
{
    struct guest *g = arg;
    uint8_t byte;
    (void)what;
    ssize_t n = recv((int)fd, &byte, 1, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 1 && send((int)fd, &byte, 1, MSG_NOSIGNAL) == 1)
        return;
    event_del(&g->event);
    close(g->fd);
    free(g);
}

static void serve_accept(evutil_socket_t fd, short what, void *arg)
{
    int one;
    (void)what;
    (void)arg;
    while ((one = accept4((int)fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct guest *g = must(calloc(1, sizeof(*g)));
        g->fd = one;
        event_assign(&g->event, loop_base(all.loop), one, EV_READ | EV_PERSIST, serve_read, g);
        event_add(&g->event, NULL);
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        die("accept", -errno);
}

static int run_serve(const struct endpoint *at)
{
    struct sockaddr_storage address;
    socklen_t len = endpoint_to_sockaddr(at, &address);
    int one = 1, fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 4096) < 0)
        die("cannot listen", -errno);
    struct event listening;
    event_assign(&listening, loop_base(all.loop), fd, EV_READ | EV_PERSIST, serve_accept, NULL);
    event_add(&listening, NULL);
    say("ready");
    loop_run(all.loop);
    return 0;
}

/* ---- peers: sending ---- */

static void lane_send_waiting(struct member_lane *m)
{
    if (m->frames_bytes == 0 || !m->up)
        return;
    if (lane_room(m->lane) < m->frames_bytes)
        lane_flush(m->lane);
    /* What waits never exceeds a block: see frames_cap and SESSIONS_MAX. */
    if (lane_room(m->lane) < m->frames_bytes)
        return; /* `writable` comes */
    memcpy(lane_stage(m->lane), m->frames, m->frames_bytes);
    int err = lane_commit(m->lane, (uint32_t)m->frames_bytes, 0);
    if (err < 0)
        die("cannot send", err);
    m->frames_bytes = 0;
    lane_flush(m->lane);
}

static void lane_put(struct member_lane *m, const struct frame *f)
{
    struct cursor_out out = cursor_out_over(m->frames + m->frames_bytes, m->frames_cap - m->frames_bytes);
    if (frame_put(&out, f) < 0)
        die("the hub asks without taking answers", -ENOBUFS);
    m->frames_bytes = (size_t)(out.at - m->frames);
}

static void open_session(struct member *p)
{
    uint32_t n = p->opened++;
    struct frame open = {.type = FRAME_OPEN, .session = (uint64_t)(n + 1) << 1 | p->side};
    const uint8_t client[4] = {10, (uint8_t)(128 + p->number / 256), (uint8_t)(p->number % 256), 2};
    open.open.client.addr.family = AF_INET;
    memcpy(open.open.client.addr.bytes, client, sizeof(client));
    open.open.client.port = (uint16_t)(FIRST_PORT + n);
    open.open.server = all.server;
    open.open.raw_limit = open.open.cost_limit = CREDIT_BYTES;
    struct frame data = {.type = FRAME_DATA, .session = open.session};
    data.data.bytes = &QUESTION;
    data.data.len = 1;
    p->sessions[n].state = SESSION_OPENING;
    lane_put(&p->lanes[0], &open);
    lane_put(&p->lanes[0], &data);
    lane_send_waiting(&p->lanes[0]);
    all.sessions_begun++;
}

/* One of each peer in turn, as many at once as OPENING_MOST. */
static void open_more(void)
{
    uint32_t total = all.member_count * all.sessions_each;
    while (all.go && all.sessions_begun < total && all.sessions_begun - all.open - all.refused < OPENING_MOST)
        open_session(&all.members[all.sessions_begun % all.member_count]);
}

static void settle(struct member_session *s, enum session_state state)
{
    s->state = (uint8_t)state;
    *(state == SESSION_OPEN ? &all.open : &all.refused) += 1;
    if (all.open + all.refused == all.member_count * all.sessions_each) {
        char line[96];
        snprintf(line, sizeof(line), "{\"open\": %u, \"refused\": %u}", all.open, all.refused);
        say(line);
    }
    open_more();
}

/* ---- peers: receiving ---- */

static struct member_session *session_of(struct member *p, uint64_t id)
{
    uint64_t n = id >> 1;
    if ((id & 1) != p->side || n < 1 || n > p->opened)
        die("a frame of a session that is none of ours", -ERR_WIRE_VALUE);
    return &p->sessions[n - 1];
}

static void take_reset(const struct frame *f, struct member_session *s)
{
    if (s->state != SESSION_OPENING || f->rst.reason != FRAME_RST_OVERLOAD) {
        fprintf(stderr, "hubload: session %" PRIu64 " was reset: %s\n", f->session, frame_rst_text(f->rst.reason));
        exit(1);
    }
    settle(s, SESSION_REFUSED);
}

static void take_frame(struct member_lane *m, const struct frame *f)
{
    struct frame answer = {.session = f->session};
    if (f->type == FRAME_PING) {
        all.pings++;
        answer.type = FRAME_PONG;
        answer.ping.token = f->ping.token;
        lane_put(m, &answer);
        return;
    }
    if (f->type == FRAME_PONG || f->type == FRAME_CREDIT)
        return;
    if (f->type == FRAME_FIN || f->type == FRAME_OPEN)
        die("a frame that nothing here asks for", -ERR_WIRE_UNKNOWN);
    struct member_session *s = session_of(m->member, f->session);
    if (f->type == FRAME_RST) {
        if (!f->rst.answer) {
            answer.type = FRAME_RST;
            answer.rst.answer = 1;
            answer.rst.final = 1;
            lane_put(m, &answer);
        }
        take_reset(f, s);
        return;
    }
    if (f->type == FRAME_ACK) {
        s->confirmed |= f->ack.offset == 1;
    } else {
        if (f->data.offset != 0 || f->data.len != 1 || f->data.bytes[0] != QUESTION)
            die("the echo is another one", -ERR_CHECKSUM);
        s->echoed = true;
        answer.type = FRAME_ACK;
        answer.ack.offset = 1;
        lane_put(m, &answer);
    }
    if (s->state == SESSION_OPENING && s->confirmed && s->echoed)
        settle(s, SESSION_OPEN);
}

static int member_block(void *owner, struct lane *l, struct chunk *chunk, const uint8_t *payload, uint32_t len)
{
    struct member_lane *m = owner;
    struct cursor block = cursor_over(payload, len);
    struct frame f;
    int got;
    (void)l;
    (void)chunk;
    while ((got = frame_next(&block, &f)) > 0)
        take_frame(m, &f);
    lane_send_waiting(m);
    return got;
}

static void member_writable(void *owner, struct lane *l)
{
    (void)l;
    lane_send_waiting(owner);
}

static void member_down(void *owner, struct lane *l, int err)
{
    struct member_lane *m = owner;
    fprintf(stderr, "hubload: lane %u of peer %u, %s: %s\n", m->slot, m->member->number, m->up ? "up" : "not up yet",
            err_text(err));
    (void)l;
    exit(1);
}

static int member_identify(void *owner, struct lane *l, const uint8_t pin[static CONFIG_PIN_BYTES],
                           struct greeting *ours)
{
    struct member_lane *m = owner;
    struct member *p = m->member;
    (void)l;
    p->side = memcmp(p->pin, pin, CONFIG_PIN_BYTES) < 0;
    memcpy(ours->instance, p->instance, sizeof(ours->instance));
    ours->opening_credit_bytes = CREDIT_BYTES;
    ours->slot = m->slot;
    snprintf(ours->name, sizeof(ours->name), "member%u", p->number);
    return 0;
}

static void dial_more(void);

static void member_up(void *owner, struct lane *l)
{
    struct member_lane *m = owner;
    (void)l;
    m->up = true;
    all.lanes_up++;
    if (all.lanes_up == all.member_count * all.lanes_each) {
        char line[64];
        snprintf(line, sizeof(line), "{\"lanes\": %u}", all.lanes_up);
        say(line);
    }
    dial_more();
}

static const struct lane_events member_events = {
    .identify = member_identify,
    .up = member_up,
    .block = member_block,
    .writable = member_writable,
    .down = member_down,
};

/* ---- peers: set-up ---- */

static void dial(struct member_lane *m)
{
    struct sockaddr_storage address;
    socklen_t len = endpoint_to_sockaddr(&all.hub, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&address, len) < 0 && errno != EINPROGRESS))
        die("cannot connect to the hub", -errno);
    int err =
        lane_new(&m->lane, all.loop, m->member->tls, false, true, fd, HANDSHAKE_US, &member_events, m);
    if (err < 0)
        die("cannot make a lane", err);
}

static void dial_more(void)
{
    uint32_t total = all.member_count * all.lanes_each;
    while (all.lanes_dialled < total && all.lanes_dialled - all.lanes_up < DIALLING_MOST) {
        uint32_t n = all.lanes_dialled++;
        dial(&all.members[n / all.lanes_each].lanes[n % all.lanes_each]);
    }
}

static void member_init(struct member *p, uint32_t number, const char *dir)
{
    char path[4096], error[IDENTITY_ERROR_MAX];
    struct identity *id;
    snprintf(path, sizeof(path), "%s/%u", dir, number);
    if (identity_load(&id, path, error) < 0) {
        fprintf(stderr, "hubload: %s\n", error);
        exit(1);
    }
    identity_pin(id, p->pin);
    int err = identity_tls_context(id, 0, &p->tls);
    identity_free(id);
    if (err < 0)
        die("cannot set up TLS", err);
    p->number = number;
    if (getrandom(p->instance, sizeof(p->instance), 0) != (ssize_t)sizeof(p->instance))
        die("getrandom", -errno);
    p->sessions = must(calloc(all.sessions_each + 1, sizeof(*p->sessions)));
    p->lanes = must(calloc(all.lanes_each, sizeof(*p->lanes)));
    for (uint32_t slot = 0; slot < all.lanes_each; slot++) {
        struct member_lane *m = &p->lanes[slot];
        m->member = p;
        m->slot = (uint8_t)slot;
        m->frames_cap = (size_t)all.sessions_each * (OPEN_BYTES + ANSWER_BYTES) + 1024;
        m->frames = must(malloc(m->frames_cap));
    }
}

static void take_input(evutil_socket_t fd, short what, void *arg)
{
    char text[64];
    (void)what;
    (void)arg;
    ssize_t n = read((int)fd, text, sizeof(text));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        event_del(&all.input);
        loop_stop(all.loop);
        return;
    }
    all.go = true;
    open_more();
}

static int run_peers(const char *dir)
{
    all.members = must(calloc(all.member_count, sizeof(*all.members)));
    for (uint32_t k = 0; k < all.member_count; k++)
        member_init(&all.members[k], k, dir);
    event_assign(&all.input, loop_base(all.loop), 0, EV_READ | EV_PERSIST, take_input, NULL);
    event_add(&all.input, NULL);
    dial_more();
    loop_run(all.loop);
    char line[128];
    snprintf(line, sizeof(line), "{\"lanes\": %u, \"open\": %u, \"refused\": %u, \"pings\": %" PRIu64 "}", all.lanes_up,
             all.open, all.refused, all.pings);
    say(line);
    return 0; /* the kernel closes the lanes */
}

static int usage(void)
{
    fputs("usage: hubload keygen DIR N\n"
          "       hubload serve ADDRESS:PORT\n"
          "       hubload peers DIR N HUB:PORT SERVER:PORT LANES SESSIONS\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    raise_files();
    int err = loop_new(&all.loop);
    if (err < 0)
        die("cannot make a loop", err);
    if (argc == 4 && strcmp(argv[1], "keygen") == 0)
        return run_keygen(argv[2], number_of(argv[3], 1, PEERS_MAX));
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        struct endpoint at = endpoint_of(argv[2]);
        return run_serve(&at);
    }
    if (argc != 8 || strcmp(argv[1], "peers") != 0)
        return usage();
    all.member_count = number_of(argv[3], 1, PEERS_MAX);
    all.hub = endpoint_of(argv[4]);
    all.server = endpoint_of(argv[5]);
    all.lanes_each = number_of(argv[6], 1, CONFIG_LANES_MAX);
    all.sessions_each = number_of(argv[7], 0, SESSIONS_MAX);
    return run_peers(argv[2]);
}
