/* test_faults.c - two muxes with stores and everything between them in memory: lanes are queues of blocks,
 * hosts are arrays, time is counted in steps. Faults are injected while sessions carry bytes that mostly
 * repeat; whatever happens, each host gets exactly what its peer sent, and no session stands still. The same
 * faults each time. test_faults FAULTS: that many in all instead of 10000. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/log.h"
#include "hawser/session.h"

enum {
    SLOTS = 2,
    QUEUE_MOST = 8, /* blocks on a lane and direction */
    SESSIONS = 3,   /* at once */
    POOL = 2 << 20, /* what repeats */
    CONTENT_MOST = 400000,
    STEPS_MOST = 2000000, /* of a round of sessions: more is a standstill */
    STRANGER = 77,
};

enum { RUNS = 100 }; /* each from another seed, in a process of its own */
static uint64_t faults_wanted = 10000 / RUNS;
static uint64_t faults, delivered_bytes, random_state = 14;
static uint8_t *pool;

/* Time is what a step takes. */
static uint64_t now_us = 1000000;

uint64_t clock_now_us(void)
{
    return now_us;
}

static uint32_t roll(uint32_t below)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 32) % below);
}

static void fill_noise(uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)roll(256);
}

/* ---- hosts and legs ---- */

struct host {
    const uint8_t *send, *expect;
    uint32_t send_len, expect_len, sent, got;
};

struct leg {
    struct host *host;
    struct leg_host *place;
    const struct leg_events *events;
    void *owner;
    uint64_t allowed, consumed;
    bool eof_said, finishing, aborted, closed;
    TAILQ_ENTRY(leg) all;
};

static TAILQ_HEAD(leg_list, leg) legs = TAILQ_HEAD_INITIALIZER(legs);
static struct host hosts[SESSIONS][2]; /* [0] the near one's */
enum { NEAR_FD = 1 << 20, FAR_PORT = 1000 };

struct leg *leg_new(struct leg_host *place, struct loop *owner_loop, const struct leg_events *events,
                    void *owner, int fd, const struct leg_origin *origin)
{
    struct leg *l = calloc(1, sizeof(*l));
    (void)owner_loop;
    ck_assert_ptr_nonnull(l);
    l->host = fd >= 0 ? &hosts[fd - NEAR_FD][0] : &hosts[origin->server.port - FAR_PORT][1];
    l->place = place;
    l->events = events;
    l->owner = owner;
    TAILQ_INSERT_TAIL(&legs, l, all);
    return l;
}

void leg_start(struct leg *l, uint64_t allowed_bytes)
{
    l->allowed = allowed_bytes;
}

void leg_allow(struct leg *l, uint64_t total_bytes)
{
    ck_assert_uint_ge(total_bytes, l->allowed);
    l->allowed = total_bytes;
}

void leg_write(struct leg *l, struct slice s)
{
    struct host *h = l->host;
    ck_assert_uint_le(s.len, h->expect_len - h->got);
    if (memcmp(slice_bytes(&s), h->expect + h->got, s.len) != 0)
        ck_abort_msg("wrong bytes behind %u of %u, after %llu faults", h->got, h->expect_len,
                     (unsigned long long)faults);
    h->got += s.len;
    delivered_bytes += s.len;
    chunk_unref(s.chunk);
}

void leg_finish(struct leg *l)
{
    l->finishing = true;
}

void leg_abort(struct leg *l)
{
    l->aborted = true;
}

void leg_release(struct leg *l)
{
    TAILQ_REMOVE(&legs, l, all);
    leg_host_release(l->place, 1);
    free(l);
}

/* What a socket would have said meanwhile. */
static bool leg_turn(struct leg *l)
{
    struct host *h = l->host;
    ck_assert_msg(!l->aborted, "a session was reset after %llu faults", (unsigned long long)faults);
    bool moved = false;
    uint32_t may = h->send_len - h->sent, most = 1 + roll(65536);
    if (may > l->allowed - h->sent)
        may = (uint32_t)(l->allowed - h->sent);
    if (may > most)
        may = most;
    if (may > 0) {
        struct slice s = slice_copy(h->send + h->sent, may);
        ck_assert_ptr_nonnull(s.chunk);
        h->sent += may;
        l->events->data(l->owner, s);
        moved = true;
    }
    if (h->sent == h->send_len && !l->eof_said) {
        l->eof_said = moved = true;
        l->events->eof(l->owner);
    }
    if (l->consumed < h->got && roll(4) == 0) {
        l->consumed = h->got;
        l->events->consumed(l->owner, l->consumed);
        moved = true;
    }
    if (l->eof_said && l->finishing && l->consumed == h->got) {
        l->events->closed(l->owner, 0); /* frees it */
        return true;
    }
    return moved;
}

static bool legs_turn(void)
{
    bool moved = false;
    struct leg *l = TAILQ_FIRST(&legs), *next;
    for (; l != NULL; l = next) {
        next = TAILQ_NEXT(l, all);
        moved |= leg_turn(l);
    }
    return moved;
}

/* ---- nodes and lanes ---- */

struct block {
    uint8_t *bytes;
    uint32_t len;
};

struct tunnel {
    int number;
    const struct tunnel_events *events;
    void *owner;
    struct block queue[SLOTS][QUEUE_MOST]; /* what it has sent and the other has not read */
    unsigned count[SLOTS];
};

static struct tunnel tunnels[2];
static struct linkrate no_rate;

struct node {
    struct leg_host home;
    struct budget store_memory;
    struct mux_memory memory;
    struct mux_world world;
    struct tunnel_world tunnel_world;
    struct mux *mux;
    bool gone;
};

static struct node nodes[2];
static struct config *config;

int tunnel_new(struct tunnel **out, struct loop *loop, const struct tunnel_world *world,
               const struct config_peer *peer, uint64_t learned_rate_bits_per_s, uint64_t learned_rtt_us,
               const struct tunnel_events *events, void *owner)
{
    (void)loop, (void)peer, (void)learned_rate_bits_per_s, (void)learned_rtt_us;
    int number = world == &nodes[1].tunnel_world;
    tunnels[number] = (struct tunnel){.number = number, .events = events, .owner = owner};
    *out = &tunnels[number];
    return 0;
}

void tunnel_free(struct tunnel *t)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned i = 0; i < t->count[slot]; i++)
            free(t->queue[slot][i].bytes);
        t->count[slot] = 0;
    }
}

void tunnel_reconfigure(struct tunnel *t, const struct config_peer *peer)
{
    (void)t, (void)peer;
}

void tunnel_adopt(struct tunnel *t, struct lane *l)
{
    (void)t, (void)l;
}

void lane_free(struct lane *l)
{
    (void)l;
}

void tunnel_forget(struct tunnel *t)
{
    (void)t;
}

void tunnel_kick(struct tunnel *t)
{
    (void)t;
}

bool tunnel_is_up(const struct tunnel *t)
{
    (void)t;
    return true;
}

uint64_t tunnel_opening_credit(const struct tunnel *t)
{
    (void)t;
    return 16 << 20;
}

bool tunnel_is_lower(const struct tunnel *t)
{
    return t->number == 0;
}

const struct linkrate *tunnel_linkrate(const struct tunnel *t)
{
    (void)t;
    return &no_rate;
}

uint64_t tunnel_rtt_us(const struct tunnel *t)
{
    (void)t;
    return 0;
}

uint64_t tunnel_features(const struct tunnel *t)
{
    (void)t;
    return GREETING_FEATURE_REFERENCES;
}

uint64_t tunnel_peer_features(const struct tunnel *t)
{
    (void)t;
    return GREETING_FEATURE_REFERENCES;
}

uint32_t tunnel_peer_source(const struct tunnel *t)
{
    return 1 + (uint32_t)!t->number;
}

unsigned tunnel_lanes_up(const struct tunnel *t)
{
    (void)t;
    return SLOTS;
}

static bool fill_lane(struct tunnel *t, unsigned slot)
{
    static uint8_t payload[BLOCK_PAYLOAD_MAX];
    if (t->count[slot] == QUEUE_MOST)
        return false;
    struct cursor_out out = cursor_out_over(payload, 2000 + roll(sizeof(payload) - 2000));
    t->events->fill(t->owner, slot, slot == 0 ? TUNNEL_ROLE_EXPRESS : TUNNEL_ROLE_BULK, &out);
    struct block b = {.len = (uint32_t)(out.at - payload)};
    if (b.len == 0)
        return false;
    b.bytes = malloc(b.len);
    ck_assert_ptr_nonnull(b.bytes);
    memcpy(b.bytes, payload, b.len);
    t->queue[slot][t->count[slot]++] = b;
    return true;
}

/* The first block of the lane arrives. */
static bool read_lane(struct tunnel *from, unsigned slot)
{
    struct tunnel *to = &tunnels[!from->number];
    if (from->count[slot] == 0)
        return false;
    struct block b = from->queue[slot][0];
    from->count[slot]--;
    memmove(&from->queue[slot][0], &from->queue[slot][1], from->count[slot] * sizeof(b));
    struct chunk *chunk = chunk_new(b.len);
    ck_assert_ptr_nonnull(chunk);
    memcpy(chunk->bytes, b.bytes, b.len);
    free(b.bytes);
    struct cursor c = cursor_over(chunk->bytes, b.len);
    struct frame f;
    int got;
    while ((got = frame_next(&c, &f)) > 0)
        ck_assert_int_eq(to->events->frame(to->owner, slot, &f, chunk), 0);
    ck_assert_int_eq(got, 0);
    chunk_unref(chunk);
    return true;
}

/* ---- faults ---- */

static void lose_lane(void)
{
    unsigned slot = roll(SLOTS);
    for (int n = 0; n < 2; n++) {
        for (unsigned i = 0; i < tunnels[n].count[slot]; i++)
            free(tunnels[n].queue[slot][i].bytes);
        tunnels[n].count[slot] = 0;
    }
    for (int n = 0; n < 2; n++)
        tunnels[n].events->lane_lost(tunnels[n].owner, slot);
}

/* Everything on it arrives in the end, and other lanes carry it as well. */
static void stall_lane(void)
{
    unsigned slot = roll(SLOTS);
    for (int n = 0; n < 2; n++)
        tunnels[n].events->lane_stalls(tunnels[n].owner, slot);
}

/* Bytes at rest: what a slice points to is on its way to a host or a block already. */
static void turn_bytes(void *arg, const struct segment_id *id, uint32_t source, struct chunk *chunk,
                       const struct intervals *filled)
{
    (void)arg, (void)id, (void)source;
    if (atomic_load(&chunk->refs) > 1 || filled->count == 0)
        return;
    struct interval part = filled->list[roll(filled->count)];
    uint32_t at = part.from + roll(part.to - part.from);
    chunk->bytes[at] ^= (uint8_t)(1 + roll(255));
}

static void flip_bytes(void)
{
    store_each(nodes[roll(2)].home.store, turn_bytes, NULL);
}

static struct segment_id some_segment(void)
{
    return (struct segment_id){.epoch = 1 + roll(2), .number = roll(10)};
}

static void give(int to, const struct frame *f, struct chunk *chunk)
{
    int err = tunnels[to].events->frame(tunnels[to].owner, roll(SLOTS), f, chunk);
    ck_assert_int_eq(err, 0);
}

/* A reference to anything, of a session that is there, at or behind what it has received. */
static void forge_reference(void)
{
    int to = (int)roll(2);
    struct session *s = TAILQ_FIRST(&nodes[to].mux->sessions);
    if (s == NULL || !s->confirmed || s->in > HALF_ENDING)
        return; /* a frame confirms the session: one that the peer does not know would wait for ever */
    uint32_t expected = s->final != UINT64_MAX ? (uint32_t)s->final : s->leg->host->expect_len;
    uint32_t left = expected - (uint32_t)s->received,
             len = left > 0 ? 1 + roll(left < 50000 ? left : 50000) : 0;
    if (len == 0)
        return;
    struct chunk *chunk = chunk_new(1000);
    struct cursor_out out = cursor_out_over(chunk->bytes, 1000);
    struct stored_writer w;
    struct segment_id id = some_segment();
    ck_assert(stored_begin(&w, &out, s->id, s->received + roll(left - len + 1)));
    ck_assert(stored_put_reference(&w, &id, roll(STORED_SEGMENT_SPAN - len), len));
    stored_end(&w, 1 + roll(UINT32_MAX - 1));
    struct cursor block = cursor_over(chunk->bytes, (size_t)(out.at - chunk->bytes));
    struct frame f;
    ck_assert_int_eq(frame_next(&block, &f), 1);
    give(to, &f, chunk);
    chunk_unref(chunk);
}

static void forge_note(void)
{
    struct frame f = {.type = roll(2) == 0 ? FRAME_HOLD : FRAME_DROP};
    f.segment.segment = some_segment();
    f.segment.from = roll(STORED_SEGMENT_SPAN - 1);
    f.segment.to = f.segment.from + 1 + roll(STORED_SEGMENT_SPAN - f.segment.from);
    give((int)roll(2), &f, NULL);
}

static void forge_miss(void)
{
    int to = (int)roll(2);
    const struct session *s = TAILQ_FIRST(&nodes[to].mux->sessions);
    if (s == NULL || s->id == 0)
        return;
    struct frame f = {.type = FRAME_MISS, .session = s->id};
    const struct session *asking = map_get(&nodes[!to].mux->by_id, s->id);
    if (asking == NULL || asking->granted == 0)
        return;
    f.miss.offset = roll((uint32_t)asking->granted); /* what credit covers, as it must be */
    f.miss.len = 1 + roll((uint32_t)(asking->granted - f.miss.offset));
    give(to, &f, NULL);
}

static void evict_some(void)
{
    static uint8_t bytes[1 << 20];
    static uint32_t filled;
    struct store *store = nodes[roll(2)].home.store;
    struct segment_id id = {.epoch = 99, .number = filled / 16};
    struct slice slice;
    fill_noise(bytes, 1000);
    if (store_fill(store, STRANGER, &id, filled % 16 * sizeof(bytes), bytes, sizeof(bytes), &slice) == 0)
        chunk_unref(slice.chunk);
    filled++;
}

static void forget_holdings(void)
{
    holdings_clear(&nodes[roll(2)].mux->holdings);
}

static void believe_anything(void)
{
    struct segment_id id = some_segment();
    uint32_t off = roll(STORED_SEGMENT_SPAN / 2);
    holdings_add(&nodes[roll(2)].mux->holdings, &id, roll(3), off, 1 + roll(STORED_SEGMENT_SPAN / 2));
}

static void (*const injections[])(void) = {lose_lane,       stall_lane,      flip_bytes,
                                           forge_reference, forge_note,      forge_miss,
                                           evict_some,      forget_holdings, believe_anything};
enum { INJECTIONS = sizeof(injections) / sizeof(injections[0]) };

static void inject(void)
{
    injections[roll(INJECTIONS)]();
    faults++;
}

/* ---- rounds ---- */

static uint8_t *make_content(uint32_t *len)
{
    uint8_t *bytes = malloc(CONTENT_MOST);
    ck_assert_ptr_nonnull(bytes);
    uint32_t at = 0, wanted = roll(CONTENT_MOST);
    while (at < wanted) {
        uint32_t n = 1 + roll(60000);
        n = n < wanted - at ? n : wanted - at;
        if (roll(4) == 0)
            fill_noise(bytes + at, n);
        else
            memcpy(bytes + at, pool + roll(POOL - n + 1), n);
        at += n;
    }
    *len = wanted;
    return bytes;
}

static void open_session(int index)
{
    struct host *h = hosts[index];
    memset(h, 0, 2 * sizeof(*h));
    h[0].send = h[1].expect = make_content(&h[0].send_len);
    h[1].send = h[0].expect = make_content(&h[1].send_len);
    h[1].expect_len = h[0].send_len;
    h[0].expect_len = h[1].send_len;
    struct node *n = &nodes[roll(2)];
    struct endpoint e = {.addr = {.family = AF_INET, .bytes = {10, 0, 0, 1}}};
    struct mux_intercepted in = {.fd = NEAR_FD + index, .client = e, .server = e, .host = &n->home};
    in.server.port = (uint16_t)(FAR_PORT + index);
    in.class_index = RULES_NONE;
    leg_host_reserve(&n->home, 1);
    mux_open(n->mux, &in);
}

/* What timers would have done: ACKs that wait for more, and what is said again. */
static void pass_time(void)
{
    for (int n = 0; n < 2; n++) {
        struct session *s;
        TAILQ_FOREACH (s, &nodes[n].mux->sessions, all) {
            if (s->id != 0 && !s->retired)
                session_want(s, WANT_ACK);
            if (!s->retired)
                session_say_again(s);
        }
    }
}

static bool all_over(void)
{
    return TAILQ_EMPTY(&nodes[0].mux->sessions) && TAILQ_EMPTY(&nodes[1].mux->sessions);
}

static void step(void)
{
    struct tunnel *t = &tunnels[roll(2)];
    unsigned slot = roll(SLOTS);
    now_us += 100;
    bool moved = legs_turn();
    moved |= roll(2) == 0 ? fill_lane(t, slot) : read_lane(t, slot);
    if (!moved && roll(50) == 0)
        pass_time();
    if (faults < faults_wanted && roll(30) == 0)
        inject();
}

/* What was saved adds up, however often bytes went again. */
static void check_savings(void)
{
    for (int n = 0; n < 2; n++) {
        const struct session *s;
        TAILQ_FOREACH (s, &nodes[n].mux->sessions, all) {
            uint64_t unacknowledged = replay_sent(&s->replay) - s->replay.acked;
            const struct savings *saved = &s->saved_out;
            ck_assert(unacknowledged > 0 || saved->count == 0);
            ck_assert_uint_le(saved->total, saved->count == 0
                                                ? 0
                                                : replay_sent(&s->replay) - saved->list[saved->first].from);
            ck_assert_uint_le(s->sent.saved_bytes, s->replay.acked);
        }
    }
}

static void run_round(void)
{
    for (int i = 0; i < SESSIONS; i++)
        open_session(i);
    for (unsigned steps = 0; !all_over(); steps++) {
        ck_assert_msg(steps < STEPS_MOST, "a standstill after %llu faults", (unsigned long long)faults);
        step();
        if (steps % 16 == 0)
            check_savings();
    }
    for (int i = 0; i < SESSIONS; i++) {
        for (int end = 0; end < 2; end++) {
            ck_assert_uint_eq(hosts[i][end].got, hosts[i][end].expect_len);
            free((void *)(uintptr_t)hosts[i][end].send);
        }
    }
}

/* ---- the world ---- */

static struct leg_host *place(void *owner, struct leg_host *home)
{
    (void)owner;
    leg_host_reserve(home, 1);
    return home;
}

static enum frame_rst_reason admit(void *owner, struct leg_host *home, const struct config *c, size_t peer,
                                   const struct frame *open, int *class_index, enum config_source *source)
{
    (void)owner, (void)home, (void)c, (void)peer, (void)open;
    *class_index = RULES_NONE;
    *source = CONFIG_SOURCE_SELF;
    return FRAME_RST_OTHER;
}

static void refused(void *owner, const struct endpoint *server, enum frame_rst_reason reason)
{
    (void)owner, (void)server, (void)reason;
}

static void state(void *owner, const char *peer_name, bool up)
{
    (void)owner, (void)peer_name, (void)up;
}

static void session_ended(void *owner)
{
    (void)owner;
}

static bool session_starts(void *owner, uint64_t for_peer)
{
    (void)owner, (void)for_peer;
    return true;
}

static void is_gone(void *arg)
{
    struct node *n = arg;
    n->gone = true;
}

static void start(struct loop *loop)
{
    static const struct store_events events = {.evicted = mux_segment_evicted};
    static const char text[] = "[node]\nname = n\nidentity = /nowhere\n[tunnel]\nlisten = 127.0.0.1:1\n"
                               "[peer other]\npin = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
                               "networks = 10.0.0.0/8\n";
    char error[CONFIG_ERROR_MAX];
    ck_assert_msg(config_parse(&config, "faults", text, strlen(text), error) == 0, "%s", error);
    pool = malloc(POOL);
    ck_assert_ptr_nonnull(pool);
    fill_noise(pool, POOL);
    for (int i = 0; i < 2; i++) {
        struct node *n = &nodes[i];
        TAILQ_INIT(&n->home.muxes);
        n->home.loop = loop;
        n->memory.session_floor_bytes = 64 * 1024;
        budget_init(&n->memory.floor, 1ull << 40);
        budget_init(&n->memory.growth, 4 << 20); /* small windows */
        budget_init(&n->store_memory, STORE_LEAST_BYTES);
        ck_assert_int_eq(store_new(&n->home.store, &n->store_memory, STORE_LEAST_BYTES, 1 + (uint64_t)i,
                                   1 + (uint64_t)i, &events, &n->home),
                         0);
        n->world = (struct mux_world){.memory = &n->memory,
                                      .owner = n,
                                      .place = place,
                                      .admit = admit,
                                      .refused = refused,
                                      .state = state,
                                      .session_ended = session_ended,
                                      .session_starts = session_starts};
        ck_assert_int_eq(mux_new(&n->mux, &n->home, &n->world, &n->tunnel_world, config, 0, 0, 0), 0);
    }
    for (int i = 0; i < 2; i++)
        tunnels[i].events->up(tunnels[i].owner);
}

static void end(void)
{
    for (int i = 0; i < 2; i++) {
        struct node *n = &nodes[i];
        mux_end(n->mux, is_gone, n);
        ck_assert(n->gone);
        store_free(n->home.store);
        ck_assert_uint_eq(budget_used(&n->memory.floor) + budget_used(&n->memory.growth), 0);
        ck_assert_uint_eq(budget_used(&n->store_memory), 0);
        ck_assert_uint_eq(atomic_load(&n->home.live), 0);
    }
    config_unref(config);
    free(pool);
    chunk_thread_end();
    ck_assert_uint_eq(chunk_bytes_total(), 0);
}

START_TEST(every_byte_is_right_whatever_goes_wrong)
{
    struct loop *loop;
    random_state += (uint64_t)_i;
    ck_assert_int_eq(loop_new(&loop), 0);
    start(loop);
    while (faults < faults_wanted)
        run_round();
    struct mux_totals totals[2];
    for (int i = 0; i < 2; i++)
        mux_read_totals(nodes[i].mux, &totals[i]);
    uint64_t saved = totals[0].sent.saved_bytes + totals[1].sent.saved_bytes;
    ck_assert_uint_gt(saved, delivered_bytes / 50); /* or the faults would have hit nothing */
    ck_assert_uint_gt(totals[0].misses + totals[1].misses, faults_wanted / 50);
    printf("%llu faults, %llu MB delivered, %llu MB as references, %llu misses\n", (unsigned long long)faults,
           (unsigned long long)delivered_bytes >> 20, (unsigned long long)saved >> 20,
           (unsigned long long)(totals[0].misses + totals[1].misses));
    end();
    loop_free(loop);
}
END_TEST

/* ---- what is told of the stores ---- */

/* HOLD frames that the node has put on the express lane; the lane is empty then. */
static unsigned holds_told(int number)
{
    struct tunnel *t = &tunnels[number];
    unsigned holds = 0;
    while (fill_lane(t, 0)) {
        struct block b = t->queue[0][--t->count[0]];
        struct cursor c = cursor_over(b.bytes, b.len);
        struct frame f;
        while (frame_next(&c, &f) > 0)
            holds += f.type == FRAME_HOLD;
        free(b.bytes);
    }
    return holds;
}

START_TEST(notes_are_told_again_when_a_lane_is_lost_and_not_when_it_stalls)
{
    struct loop *loop;
    struct slice slice;
    const struct segment_id theirs = {.epoch = 1, .number = 1};
    ck_assert_int_eq(loop_new(&loop), 0);
    start(loop);
    ck_assert_int_eq(
        store_fill(nodes[1].home.store, tunnel_peer_source(&tunnels[1]), &theirs, 0, pool, 1000, &slice), 0);
    chunk_unref(slice.chunk);
    ck_assert_uint_eq(holds_told(1), 1);
    for (int i = 0; i < 3; i++) {
        tunnels[1].events->lane_stalls(tunnels[1].owner, 0);
        ck_assert_uint_eq(holds_told(1), 0);
    }
    tunnels[1].events->lane_lost(tunnels[1].owner, 0);
    ck_assert_uint_eq(holds_told(1), 1);
    tunnels[1].events->lane_stalls(tunnels[1].owner, 0);
    now_us += 15000000; /* an idle lane: found dead only now */
    tunnels[1].events->lane_lost(tunnels[1].owner, 0);
    ck_assert_uint_eq(holds_told(1), 1);
    end();
    loop_free(loop);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1)
        faults_wanted = strtoull(argv[1], NULL, 10) / RUNS;
    log_set_level(getenv("RIG_LOG") == NULL ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG);
    Suite *suite = suite_create("faults");
    TCase *t = tcase_create("faults");
    tcase_set_timeout(t, 1200);
    tcase_add_test(t, notes_are_told_again_when_a_lane_is_lost_and_not_when_it_stalls);
    tcase_add_loop_test(t, every_byte_is_right_whatever_goes_wrong, 0, RUNS);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
