#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/log.h"
#include "hawser/node.h"

/* ---- what tunnels ask for ---- */

static int lend_lane_socket(void *owner, int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes,
                            const char *congestion)
{
    struct node *n = owner;
    int err = keeper_lane_socket(n->keeper, fd, rcvbuf_bytes, sndbuf_bytes, congestion);
    if (err == -ENOENT)
        log_warn("the kernel has no congestion control '%s': lanes use its own default; load the module "
                 "(modprobe tcp_%s) or "
                 "set `congestion`",
                 congestion, congestion);
    else if (err < 0)
        log_warn("a lane runs without its socket options: %s", err_text(err));
    return err;
}

static void lend_lane_route(void *owner, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd)
{
    struct node *n = owner;
    keeper_lane_route(n->keeper, peer, initcwnd, initrwnd);
}

/* A note to the main thread about a peer. */
struct peer_note {
    char name[CONFIG_NAME_MAX];
    bool up;
    uint64_t rate_bits_per_s, rtt_us;
};

static struct peer_note *note_new(const char *name)
{
    struct peer_note *note = calloc(1, sizeof(*note));
    if (note != NULL)
        snprintf(note->name, sizeof(note->name), "%s", name);
    return note;
}

static void take_learned(struct node *n, void *arg)
{
    struct peer_note *note = arg;
    if (!n->stopping)
        links_learn(n, note->name, note->rate_bits_per_s, note->rtt_us);
    free(note);
}

static void lend_learned(void *owner, const char *peer_name, uint64_t rate_bits_per_s, uint64_t rtt_us)
{
    struct peer_note *note = note_new(peer_name);
    if (note == NULL)
        return;
    note->rate_bits_per_s = rate_bits_per_s;
    note->rtt_us = rtt_us;
    if (node_call(owner, take_learned, note) < 0)
        free(note);
}

static struct node_peer *find_by_name(struct node *n, const char *name)
{
    struct node_peer *p;
    TAILQ_FOREACH (p, &n->peers, link) {
        if (strcmp(p->name, name) == 0)
            return p;
    }
    return NULL;
}

static void lend_instance(void *owner, const char *peer_name,
                          const uint8_t instance[static GREETING_INSTANCE_BYTES])
{
    struct node *n = owner;
    pthread_mutex_lock(&n->peers_lock);
    struct node_peer *p = find_by_name(n, peer_name);
    if (p != NULL)
        memcpy(p->instance, instance, GREETING_INSTANCE_BYTES);
    pthread_mutex_unlock(&n->peers_lock);
}

/* ---- what greeters ask for ---- */

static bool has_pin(const struct node_peer *p, const uint8_t *pin)
{
    for (size_t i = 0; i < p->pin_count; i++) {
        if (memcmp(p->pins[i], pin, CONFIG_PIN_BYTES) == 0)
            return true;
    }
    return false;
}

static struct node_peer *find_by_pin(struct node *n, const uint8_t *pin)
{
    struct node_peer *p;
    TAILQ_FOREACH (p, &n->peers, link) {
        if (has_pin(p, pin))
            return p;
    }
    return NULL;
}

static int greet_identify(void *owner, const struct endpoint *from,
                          const uint8_t pin[static CONFIG_PIN_BYTES], struct greeting *ours)
{
    static const uint8_t none[GREETING_INSTANCE_BYTES];
    struct node *n = owner;
    snprintf(ours->name, sizeof(ours->name), "%s", n->name);
    ours->opening_credit_bytes = n->tunnel_world.opening_credit_bytes;
    ours->features |= n->tunnel_world.features;
    pthread_mutex_lock(&n->peers_lock);
    struct node_peer *p = find_by_pin(n, pin);
    if (p != NULL)
        memcpy(ours->instance, p->instance, sizeof(ours->instance));
    uint32_t window = p != NULL ? p->route_window : 0;
    pthread_mutex_unlock(&n->peers_lock);
    if (p == NULL)
        return -ERR_PIN;
    if (memcmp(ours->instance, none, sizeof(none)) == 0)
        return -ERR_STARTING;
    keeper_lane_route(n->keeper, &from->addr, window, 0); /* where the peer's further lanes start */
    return 0;
}

struct delivery {
    struct node_peer *peer;
    struct lane *lane;
    struct addr from;
};

static void take_lane(struct worker *w, void *arg)
{
    struct delivery *d = arg;
    (void)w;
    if (d->peer->mux != NULL)
        mux_adopt(d->peer->mux, d->lane);
    else
        lane_free(d->lane);
    free(d);
}

/* A peer must not reach another peer's gateway through us, wherever that dials in from. */
static void take_lane_address(struct node *n, void *arg)
{
    struct delivery *d = arg;
    if (!n->stopping && !addr_equal(&d->peer->lane_from, &d->from)) {
        d->peer->lane_from = d->from;
        static const struct timeval soon = {0, 20000}; /* a hub's branches dial in together */
        event_add(&n->addresses, &soon);
    }
    free(d);
}

static void note_lane_address(struct node *n, struct node_peer *p, const struct addr *from)
{
    struct delivery *d = malloc(sizeof(*d));
    if (d == NULL)
        return;
    *d = (struct delivery){.peer = p, .from = *from};
    if (node_call(n, take_lane_address, d) < 0)
        free(d);
}

int peers_landscape(struct node *n, struct landscape **out, struct config *config)
{
    static struct addr more[CONFIG_PEERS_MAX]; /* main thread only */
    size_t count = 0;
    struct node_peer *p;
    TAILQ_FOREACH (p, &n->peers, link) {
        if (p->configured && p->lane_from.family != AF_UNSPEC && count < CONFIG_PEERS_MAX)
            more[count++] = p->lane_from;
    }
    return landscape_new(out, n->landscape, config, more, count);
}

static void greet_deliver(void *owner, struct lane *l)
{
    struct node *n = owner;
    struct delivery *d = malloc(sizeof(*d));
    pthread_mutex_lock(&n->peers_lock);
    struct node_peer *p = find_by_pin(n, lane_pin(l));
    pthread_mutex_unlock(&n->peers_lock);
    if (p != NULL && d != NULL) {
        note_lane_address(n, p, &lane_remote(l)->addr);
        *d = (struct delivery){.peer = p, .lane = l};
        if (worker_call(p->home, take_lane, d) == 0)
            return;
    }
    free(d);
    lane_free(l);
}

/* ---- what muxes ask for ---- */

static struct leg_host *lend_place(void *owner, struct leg_host *home)
{
    return &worker_pick(owner, (struct worker *)(void *)home)->host;
}

static int class_named(const struct config *c, const char *name, size_t len)
{
    for (size_t i = 0; len > 0 && i < c->class_count; i++) {
        if (strlen(c->classes[i].name) == len && memcmp(c->classes[i].name, name, len) == 0)
            return (int)i;
    }
    return RULES_NONE;
}

static void note_open(struct node *n, enum bypass_reason reason, const char *peer, const struct frame *open)
{
    char subject[2 * ENDPOINT_TEXT_MAX + CONFIG_NAME_MAX + 16], from[ENDPOINT_TEXT_MAX],
        to[ENDPOINT_TEXT_MAX];
    snprintf(subject, sizeof(subject), "peer %s: %s -> %s", peer, endpoint_format(&open->open.client, from),
             endpoint_format(&open->open.server, to));
    bypass_note(&n->bypass, reason, subject);
}

static size_t index_of_name(const struct config *c, size_t guess, const char *name)
{
    if (guess < c->peer_count && strcmp(c->peers[guess].name, name) == 0)
        return guess;
    for (size_t i = 0; i < c->peer_count; i++) {
        if (strcmp(c->peers[i].name, name) == 0)
            return i;
    }
    return SIZE_MAX;
}

static enum frame_rst_reason lend_admit(void *owner, struct leg_host *home, const struct config *config,
                                        size_t peer, const struct frame *open, int *class_index,
                                        enum config_source *source)
{
    struct node *n = owner;
    const struct landscape *l = ((struct worker *)(void *)home)->landscape;
    const char *name = config->peers[peer].name;
    size_t index =
        index_of_name(l->config, peer, name); /* a reload may have reached this worker but not the mux */
    if (index == SIZE_MAX)
        return FRAME_RST_FORBIDDEN;
    *source = l->config->peers[index].source;
    const struct addr *from = *source == CONFIG_SOURCE_SELF ? NULL : &open->open.client.addr;
    static const enum bypass_reason reasons[] = {
        [RULES_OPEN_SOURCE] = BYPASS_OPEN_SOURCE,
        [RULES_OPEN_DESTINATION] = BYPASS_OPEN_DESTINATION,
        [RULES_OPEN_SPECIAL] = BYPASS_OPEN_SPECIAL,
    };
    enum rules_open verdict = rules_may_open(l->rules, index, from, &open->open.server.addr, l->local,
                                             l->local_count, l->forbidden, l->forbidden_count);
    if (verdict != RULES_OPEN_OK) {
        note_open(n, reasons[verdict], name, open);
        return FRAME_RST_FORBIDDEN;
    }
    struct rules_flow flow = {.client = open->open.client,
                              .server = open->open.server,
                              .dscp = open->open.dscp,
                              .iface = NULL,
                              .peer = (int)index};
    int by_rule = rules_class_for(l->rules, &flow);
    if (by_rule >= 0 && l->config->classes[by_rule].action == CONFIG_ACTION_DENY) {
        note_open(n, BYPASS_DENY, name, open);
        return FRAME_RST_FORBIDDEN;
    }
    /* the class index must be one of the mux's own configuration */
    const char *class_name = by_rule >= 0 ? l->config->classes[by_rule].name : "";
    int by_name = class_named(config, open->open.class_name, open->open.class_len);
    *class_index = by_name >= 0 ? by_name : class_named(config, class_name, strlen(class_name));
    return FRAME_RST_OTHER;
}

static int lend_classify(void *owner, struct leg_host *home, const struct config *config, size_t peer,
                         const struct endpoint *client, const struct endpoint *server, uint8_t dscp,
                         uint32_t proto)
{
    const struct landscape *l = ((struct worker *)(void *)home)->landscape;
    size_t index = index_of_name(l->config, peer, config->peers[peer].name);
    (void)owner;
    struct rules_flow flow = {.client = *client,
                              .server = *server,
                              .dscp = dscp,
                              .iface = NULL,
                              .proto = proto,
                              .peer = index == SIZE_MAX ? RULES_NONE : (int)index};
    int found = rules_class_for(l->rules, &flow);
    const char *name = found >= 0 ? l->config->classes[found].name : "";
    return class_named(config, name, strlen(name));
}

struct refusal {
    struct endpoint server;
    enum frame_rst_reason reason;
};

static void take_refusal(struct node *n, void *arg)
{
    struct refusal *r = arg;
    if (n->stopping) {
        free(r);
        return;
    }
    char text[ENDPOINT_TEXT_MAX];
    endpoint_format(&r->server, text);
    switch (r->reason) {
    case FRAME_RST_REFUSED:
        bypass_note(&n->bypass, BYPASS_REFUSED, text);
        intercept_refused(n, &r->server);
        break;
    case FRAME_RST_UNREACHABLE:
    case FRAME_RST_TIMEOUT:
        bypass_note(&n->bypass, BYPASS_UNREACHABLE, text);
        intercept_refused(n, &r->server);
        break;
    case FRAME_RST_FORBIDDEN:
        bypass_note(&n->bypass, BYPASS_FORBIDDEN, text);
        break;
    case FRAME_RST_SOURCE:
        bypass_note(&n->bypass, BYPASS_SOURCE, text);
        break;
    case FRAME_RST_OVERLOAD:
        bypass_note(&n->bypass, BYPASS_SESSIONS, text);
        intercept_refused(n, &r->server);
        break;
    case FRAME_RST_OTHER:
    case FRAME_RST_BY_HOST:
    case FRAME_RST_UNKNOWN:
    case FRAME_RST_PROTOCOL:
    case FRAME_RST_TUNNEL:
        break;
    }
    free(r);
}

static void lend_refused(void *owner, const struct endpoint *server, enum frame_rst_reason reason)
{
    struct refusal *r = malloc(sizeof(*r));
    if (r == NULL)
        return;
    *r = (struct refusal){.server = *server, .reason = reason};
    if (node_call(owner, take_refusal, r) < 0)
        free(r);
}

static void take_state(struct node *n, void *arg)
{
    struct peer_note *note = arg;
    struct node_peer *p = find_by_name(n, note->name);
    if (p != NULL && p->configured) {
        p->up = note->up;
        peers_tell_keeper(n);
    }
    free(note);
}

static void lend_state(void *owner, const char *peer_name, bool up)
{
    struct peer_note *note = note_new(peer_name);
    if (note == NULL)
        return;
    note->up = up;
    if (node_call(owner, take_state, note) < 0)
        free(note);
}

static void lend_session_ended(void *owner)
{
    struct node *n = owner;
    atomic_fetch_sub(&n->sessions, 1);
}

static bool lend_session_starts(void *owner, uint64_t for_peer)
{
    struct node *n = owner;
    uint64_t max = atomic_load(&n->sessions_max), all = atomic_load(&n->sessions);
    uint64_t others = all > for_peer ? all - for_peer : 0;
    if (for_peer > 0 && atomic_load(&n->peer_count) > 1 &&
        (others >= max || for_peer * 4 > (max - others) * 3))
        return false;
    if (atomic_fetch_add(&n->sessions, 1) < atomic_load(&n->sessions_max))
        return true;
    atomic_fetch_sub(&n->sessions, 1);
    return false;
}

void peers_lend_worlds(struct node *n)
{
    n->tunnel_world.owner = n;
    n->tunnel_world.lane_socket = lend_lane_socket;
    n->tunnel_world.lane_route = lend_lane_route;
    n->tunnel_world.learned = lend_learned;
    n->tunnel_world.instance = lend_instance;
    n->mux_world.owner = n;
    n->mux_world.place = lend_place;
    n->mux_world.admit = lend_admit;
    n->mux_world.classify = lend_classify;
    n->mux_world.refused = lend_refused;
    n->mux_world.state = lend_state;
    n->mux_world.session_ended = lend_session_ended;
    n->mux_world.session_starts = lend_session_starts;
    n->greeter_world.owner = n;
    n->greeter_world.identify = greet_identify;
    n->greeter_world.deliver = greet_deliver;
}

/* ---- the peers that are configured ---- */

struct node_peer *peers_by_index(struct node *n, size_t index)
{
    return index < n->by_index_count ? n->by_index[index] : NULL;
}

void peers_tell_keeper(struct node *n)
{
    bool *up = calloc(n->by_index_count, sizeof(*up));
    if (up == NULL)
        return;
    for (size_t i = 0; i < n->by_index_count; i++)
        up[i] = n->by_index[i] != NULL && n->by_index[i]->up;
    keeper_set_peers(n->keeper, up, n->by_index_count);
    free(up);
}

struct assignment {
    struct node_peer *peer;
    struct config *config;
    size_t index;
    struct link_memory learned; /* zero: nothing */
};

static void apply_on_home(struct worker *w, void *arg)
{
    struct assignment *a = arg;
    int err = 0;
    if (a->peer->mux != NULL)
        mux_reconfigure(a->peer->mux, a->config, a->index);
    else
        err = mux_new(&a->peer->mux, &w->host, &w->node->mux_world, &w->node->tunnel_world, a->config,
                      a->index, a->learned.rate_bits_per_s, a->learned.rtt_us);
    if (err < 0) {
        a->peer->mux = NULL;
        log_error("peer %s: cannot start its tunnel: %s", a->peer->name, err_text(err));
    }
    config_unref(a->config);
    free(a);
}

uint64_t peer_rate(const struct config_peer *c)
{
    enum { RATE_UNKNOWN = 100000000 };
    return c->rate_bits_per_s != 0 ? c->rate_bits_per_s : RATE_UNKNOWN;
}

static struct worker *choose_home(struct node *n, const struct config_peer *c)
{
    struct worker *best = n->workers[0]; /* there is always one */
    for (size_t i = 1; i < n->homes; i++) {
        if (n->workers[i]->homed_bits_per_s < best->homed_bits_per_s)
            best = n->workers[i];
    }
    best->homed_bits_per_s += peer_rate(c);
    return best;
}

static struct node_peer *peer_new(struct node *n, const struct config_peer *c)
{
    struct node_peer *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    snprintf(p->name, sizeof(p->name), "%s", c->name);
    p->home = choose_home(n, c);
    pthread_mutex_lock(&n->peers_lock);
    TAILQ_INSERT_TAIL(&n->peers, p, link);
    pthread_mutex_unlock(&n->peers_lock);
    return p;
}

static void set_greeting_facts(struct node *n, struct node_peer *p, const struct config_peer *c)
{
    struct linkrate rate;
    const struct link_memory *known = links_find(n, c->name);
    linkrate_init(&rate, c->rate_bits_per_s, known != NULL ? known->rate_bits_per_s : 0,
                  known != NULL ? known->rtt_us : 0, c->address.addr.family == AF_INET6);
    pthread_mutex_lock(&n->peers_lock);
    memcpy(p->pins, c->pins, sizeof(p->pins));
    p->pin_count = c->pin_count;
    p->route_window = linkrate_initial_window(&rate);
    pthread_mutex_unlock(&n->peers_lock);
}

static int apply_one(struct node *n, size_t index)
{
    struct config *config = n->landscape->config;
    const struct config_peer *c = &config->peers[index];
    struct node_peer *p = find_by_name(n, c->name);
    if (p == NULL)
        p = peer_new(n, c);
    struct assignment *a = malloc(sizeof(*a));
    if (p == NULL || a == NULL) {
        free(a);
        return -ENOMEM;
    }
    p->configured = true;
    p->index = index;
    n->by_index[index] = p;
    set_greeting_facts(n, p, c);
    *a = (struct assignment){.peer = p, .config = config_ref(config), .index = index};
    const struct link_memory *known = links_find(n, c->name);
    if (known != NULL)
        a->learned = *known;
    return worker_call(p->home, apply_on_home, a);
}

static void nothing_more(void *arg)
{
    (void)arg;
}

static void remove_on_home(struct worker *w, void *arg)
{
    struct node_peer *p = arg;
    (void)w;
    struct mux *m = p->mux;
    p->mux = NULL;
    if (m != NULL)
        mux_end(m, nothing_more, NULL);
}

static void remove_peer(struct node *n, struct node_peer *p)
{
    p->configured = p->up = false;
    pthread_mutex_lock(&n->peers_lock);
    p->pin_count = 0;
    pthread_mutex_unlock(&n->peers_lock);
    log_info("peer %s is no longer configured", p->name);
    worker_call(p->home, remove_on_home, p);
}

int peers_apply(struct node *n)
{
    const struct config *config = n->landscape->config;
    struct node_peer **by_index = calloc(config->peer_count + 1, sizeof(struct node_peer *));
    if (by_index == NULL)
        return -ENOMEM;
    free(n->by_index);
    n->by_index = by_index;
    n->by_index_count = config->peer_count;
    atomic_store(&n->peer_count, config->peer_count);
    struct node_peer *p;
    TAILQ_FOREACH (p, &n->peers, link) {
        if (p->configured && index_of_name(config, p->index, p->name) == SIZE_MAX)
            remove_peer(n, p);
    }
    for (size_t i = 0; i < config->peer_count; i++) {
        int err = apply_one(n, i);
        if (err < 0)
            return err;
    }
    peers_tell_keeper(n);
    return 0;
}

/* ---- the end ---- */

static void one_gone(struct node *n, void *arg)
{
    (void)arg;
    if (--n->ending_count == 0)
        n->ended(n);
}

static void mux_gone(void *arg)
{
    struct node *n = arg;
    if (node_call(n, one_gone, NULL) < 0)
        log_error("out of memory while stopping");
}

static void end_on_home(struct worker *w, void *arg)
{
    struct node_peer *p = arg;
    struct mux *m = p->mux;
    p->mux = NULL;
    if (m != NULL)
        mux_end(m, mux_gone, w->node);
    else
        mux_gone(w->node);
}

void peers_end(struct node *n, void (*done)(struct node *n))
{
    n->ended = done;
    n->ending_count = 1;
    struct node_peer *p;
    TAILQ_FOREACH (p, &n->peers, link) {
        if (worker_call(p->home, end_on_home, p) == 0)
            n->ending_count++;
    }
    one_gone(n, NULL);
}
