#include "hawser/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/compress.h"

struct report {
    struct node *node;
    enum control_verb verb;
    json_t *list; /* peers, lanes, sessions or classes; touched by one thread at a time */
    size_t next_worker;
    void (*done)(void *arg, json_t *document);
    void *arg;
};

static json_t *text_of(const struct endpoint *e)
{
    char text[ENDPOINT_TEXT_MAX];
    return json_string(endpoint_format(e, text));
}

static double mbit(uint64_t bytes_per_s)
{
    return bytes_per_s == UINT64_MAX ? 0 : (double)bytes_per_s * 8 / 1e6;
}

static double ms(uint64_t us)
{
    return (double)us / 1000;
}

/* ---- on a peer's home ---- */

static void add_blocks(json_t *to, const char *direction, const struct lane_block_counters *c)
{
    char name[32];
    const struct {
        const char *what;
        uint64_t value;
    } fields[] = {{"frame_bytes", c->frame_bytes},
                  {"block_bytes", c->block_bytes},
                  {"blocks", c->blocks},
                  {"raw_blocks", c->raw_blocks}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        snprintf(name, sizeof(name), "%s_%s", direction, fields[i].what);
        json_object_set_new(to, name, json_integer((json_int_t)fields[i].value));
    }
}

/* What compression did; less than nothing where blocks became longer than what was in them. */
static void add_savings(json_t *to, const struct lane_block_counters *in,
                        const struct lane_block_counters *out)
{
    double before = (double)(in->frame_bytes + out->frame_bytes);
    double after = (double)(in->block_bytes + out->block_bytes);
    add_blocks(to, "in", in);
    add_blocks(to, "out", out);
    json_object_set_new(to, "saved_percent",
                        before > 0 ? json_real(100 - 100 * after / before) : json_null());
}

static json_t *lane_json(const struct tunnel_lane_report *r)
{
    return json_pack("{s:i, s:s, s:s, s:o, s:f, s:I, s:f, s:f, s:I, s:I, s:I}", "id", (int)r->slot, "role",
                     tunnel_role_text(r->role), "state", r->state, "address", text_of(&r->remote), "rtt_ms",
                     ms(r->rtt_us), "cwnd_bytes", (json_int_t)r->cwnd_bytes, "pacing_mbit",
                     mbit(r->pacing_bytes_per_s), "delivery_mbit", mbit(r->delivery_bytes_per_s),
                     "retransmits", (json_int_t)r->retransmits, "in_bytes", (json_int_t)r->in_bytes,
                     "out_bytes", (json_int_t)r->out_bytes);
}

static json_t *lanes_json(struct mux *m, bool with_peer)
{
    json_t *lanes = json_array();
    struct tunnel_lane_report r;
    for (unsigned slot = 0; tunnel_report_lane(mux_tunnel(m), slot, &r); slot++) {
        if (r.state == NULL)
            continue;
        json_t *lane = lane_json(&r);
        add_savings(lane, &r.in, &r.out);
        json_object_set_new(lane, "level", json_integer(r.level));
        if (with_peer)
            json_object_set_new(lane, "peer", json_string(mux_peer_name(m)));
        json_array_append_new(lanes, lane);
    }
    return lanes;
}

static json_t *peer_json(struct mux *m)
{
    struct mux_totals totals;
    struct lane_counters wire;
    struct tunnel *t = mux_tunnel(m);
    mux_read_totals(m, &totals);
    tunnel_count(t, &wire);
    const struct linkrate *rate = tunnel_linkrate(t);
    uint64_t bits = rate->target != 0 ? rate->target : rate->best != 0 ? rate->best : rate->learned;
    bool up = mux_is_up(m);
    json_t *reason = up ? json_null() : json_string(tunnel_reason(t));
    json_t *peer =
        json_pack("{s:s, s:s, s:o, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "name", mux_peer_name(m),
                  "state", up ? "up" : "down", "lanes", lanes_json(m, false), "rtt_ms", ms(tunnel_rtt_us(t)),
                  "sessions", (json_int_t)totals.sessions, "opened", (json_int_t)totals.opened, "in_bytes",
                  (json_int_t)totals.in_bytes, "out_bytes", (json_int_t)totals.out_bytes, "wire_in_bytes",
                  (json_int_t)wire.in_bytes, "wire_out_bytes", (json_int_t)wire.out_bytes, "rate_mbit",
                  (double)bits / 1e6, "reason", reason);
    add_savings(peer, &wire.in, &wire.out);
    return peer;
}

struct session_visit {
    json_t *list;
    const char *peer;
};

static void visit_session(void *arg, const struct mux_session_report *r)
{
    struct session_visit *v = arg;
    json_t *s =
        json_pack("{s:I, s:o, s:o, s:s, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "id",
                  (json_int_t)r->id, "client", text_of(&r->client), "server", text_of(&r->server), "peer",
                  v->peer, "class", r->class_name, "state", r->state, "half", r->near ? "near" : "far",
                  "age_s", (double)r->age_us / 1e6, "in_bytes", (json_int_t)r->in_bytes, "out_bytes",
                  (json_int_t)r->out_bytes, "wire_bytes", (json_int_t)r->wire_bytes, "unacked_bytes",
                  (json_int_t)r->unacked_bytes, "queued_bytes", (json_int_t)r->queued_bytes, "early_bytes",
                  (json_int_t)r->early_bytes, "lane", r->lane);
    json_array_append_new(v->list, s);
}

static void add_mux(struct report *r, struct mux *m)
{
    if (r->verb == CONTROL_VERB_LANES) {
        json_t *lanes = lanes_json(m, true);
        json_array_extend(r->list, lanes);
        json_decref(lanes);
    } else if (r->verb == CONTROL_VERB_SESSIONS) {
        struct session_visit v = {.list = r->list, .peer = mux_peer_name(m)};
        mux_each_session(m, visit_session, &v);
    } else if (r->verb == CONTROL_VERB_CLASSES) {
        struct mux_class_report c;
        for (size_t i = 0; mux_report_class(m, i, &c); i++) {
            json_array_append_new(r->list, json_pack("{s:s, s:s, s:s, s:i, s:I, s:I}", "name", c.name, "peer",
                                                     mux_peer_name(m), "action", c.action, "weight",
                                                     (int)c.weight, "sessions", (json_int_t)c.sessions,
                                                     "bytes", (json_int_t)c.bytes));
        }
    } else {
        json_array_append_new(r->list, peer_json(m));
    }
}

static void next_worker(struct node *n, void *arg);

static void visit_worker(struct worker *w, void *arg)
{
    struct report *r = arg;
    struct node_peer *p;
    pthread_mutex_lock(&w->node->peers_lock); /* the list; a mux is touched by its home only, which we are */
    TAILQ_FOREACH (p, &w->node->peers, link) {
        if (p->home == w && p->mux != NULL)
            add_mux(r, p->mux);
    }
    pthread_mutex_unlock(&w->node->peers_lock);
    if (node_call(r->node, next_worker, r) < 0) {
        json_decref(r->list);
        free(r);
    }
}

/* ---- on the main thread ---- */

static json_t *status_json(struct node *n)
{
    json_t *workers = json_array();
    size_t up = 0;
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++) {
        const struct worker *w = n->workers[i];
        if (w->joined)
            continue;
        json_array_append_new(workers,
                              json_pack("{s:i, s:I, s:f, s:b}", "id", (int)w->number, "sessions",
                                        (json_int_t)atomic_load(&w->host.live), "cpu_percent",
                                        (double)w->cpu_permille / 10, "permanent", (int)w->permanent));
    }
    for (size_t i = 0; i < n->by_index_count; i++)
        up += n->by_index[i] != NULL && n->by_index[i]->up;
    return json_pack("{s:s, s:s, s:f, s:o, s:I, s:I, s:I, s:I, s:b, s:I, s:I}", "version", HAWSER_VERSION,
                     "node", n->name, "uptime_s", (double)(clock_now_us() - n->started_us) / 1e6, "workers",
                     workers, "sessions", (json_int_t)atomic_load(&n->sessions), "sessions_max",
                     (json_int_t)atomic_load(&n->sessions_max), "memory_bytes",
                     (json_int_t)(chunk_bytes_total() + compress_bytes_total()), "memory_cap_bytes",
                     (json_int_t)n->landscape->config->memory_bytes, "accepting",
                     (int)(n->accepting || !n->wants_intercept), "peers_up", (json_int_t)up, "peers_total",
                     (json_int_t)n->by_index_count);
}

/* What the engine saw and, for peers that are down, what the firewall let pass: it does not say when. */
static void read_bypass_counts(struct node *n, uint64_t counts[static BYPASS_COUNT])
{
    for (size_t i = 0; i < BYPASS_COUNT; i++)
        counts[i] = atomic_load(&n->bypass.reasons[i].count);
    counts[BYPASS_PEER_DOWN] += intercept_count_peer_down(n);
}

static json_t *bypass_json(struct node *n)
{
    json_t *list = json_array();
    uint64_t now = clock_now_us(), counts[BYPASS_COUNT];
    read_bypass_counts(n, counts);
    for (size_t i = 0; i < BYPASS_COUNT; i++) {
        uint64_t count = counts[i], last = atomic_load(&n->bypass.reasons[i].last_us);
        const struct bypass_entry *e = &bypass_entries[i];
        json_t *ago = last > 0 ? json_real((double)(now - last) / 1e6) : json_null();
        json_array_append_new(list, json_pack("{s:i, s:s, s:I, s:o, s:s, s:s}", "number", (int)e->number,
                                              "name", e->name, "count", (json_int_t)count, "last_s_ago", ago,
                                              "text", e->text, "advice", e->advice));
    }
    return list;
}

/* ---- metrics: the Prometheus text format, version 0.0.4 ---- */

struct lines {
    char *text;
    size_t len, cap;
};

static void __attribute__((format(printf, 2, 3))) add_line(struct lines *l, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(line))
        return;
    if (l->len + (size_t)n + 1 > l->cap) {
        size_t cap = l->cap == 0 ? 4096 : l->cap * 2;
        char *text = realloc(l->text, cap);
        if (text == NULL)
            return;
        l->text = text;
        l->cap = cap;
    }
    memcpy(l->text + l->len, line, (size_t)n + 1);
    l->len += (size_t)n;
}

static const struct {
    const char *field, *metric, *kind, *help;
} peer_metrics[] = {
    {"sessions", "hawser_peer_sessions", "gauge", "Live sessions with the peer"},
    {"opened", "hawser_peer_sessions_opened_total", "counter", "Sessions opened with the peer"},
    {"in_bytes", "hawser_peer_in_bytes_total", "counter", "Bytes read from hosts here, towards the peer"},
    {"out_bytes", "hawser_peer_out_bytes_total", "counter", "Bytes from the peer given to hosts here"},
    {"wire_in_bytes", "hawser_peer_wire_in_bytes_total", "counter", "Bytes received on the peer's lanes"},
    {"wire_out_bytes", "hawser_peer_wire_out_bytes_total", "counter", "Bytes sent on the peer's lanes"},
    {"out_frame_bytes", "hawser_peer_out_frame_bytes_total", "counter",
     "Bytes sent to the peer, before compression"},
    {"out_block_bytes", "hawser_peer_out_block_bytes_total", "counter",
     "Bytes sent to the peer, after compression"},
    {"out_raw_blocks", "hawser_peer_out_raw_blocks_total", "counter", "Blocks sent without compression"},
    {"in_frame_bytes", "hawser_peer_in_frame_bytes_total", "counter",
     "Bytes received from the peer, decompressed"},
    {"in_block_bytes", "hawser_peer_in_block_bytes_total", "counter",
     "Bytes received from the peer, as they came"},
};

static void add_peer_metrics(struct lines *l, const json_t *peers)
{
    size_t i;
    const json_t *p;
    add_line(l, "# HELP hawser_peer_up Whether a lane to the peer is up\n# TYPE hawser_peer_up gauge\n");
    json_array_foreach(peers, i, p)
    {
        add_line(l, "hawser_peer_up{peer=\"%s\"} %d\n", json_string_value(json_object_get(p, "name")),
                 strcmp(json_string_value(json_object_get(p, "state")), "up") == 0);
    }
    for (size_t k = 0; k < sizeof(peer_metrics) / sizeof(peer_metrics[0]); k++) {
        add_line(l, "# HELP %s %s\n# TYPE %s %s\n", peer_metrics[k].metric, peer_metrics[k].help,
                 peer_metrics[k].metric, peer_metrics[k].kind);
        json_array_foreach(peers, i, p)
        {
            add_line(l, "%s{peer=\"%s\"} %lld\n", peer_metrics[k].metric,
                     json_string_value(json_object_get(p, "name")),
                     (long long)json_integer_value(json_object_get(p, peer_metrics[k].field)));
        }
    }
}

static json_t *metrics_json(struct node *n, const json_t *peers)
{
    struct lines l = {0};
    add_line(&l, "# HELP hawser_sessions Live sessions\n# TYPE hawser_sessions gauge\nhawser_sessions %llu\n",
             (unsigned long long)atomic_load(&n->sessions));
    add_line(
        &l,
        "# HELP hawser_memory_bytes Bytes held for sessions and for compression\n# TYPE hawser_memory_bytes "
        "gauge\nhawser_memory_bytes %llu\n",
        (unsigned long long)(chunk_bytes_total() + compress_bytes_total()));
    add_line(&l,
             "# HELP hawser_accepting Whether new connections are caught\n# TYPE hawser_accepting "
             "gauge\nhawser_accepting %d\n",
             n->accepting);
    add_line(&l, "# HELP hawser_bypass_total Connections that went direct or were refused\n# TYPE "
                 "hawser_bypass_total counter\n");
    uint64_t counts[BYPASS_COUNT];
    read_bypass_counts(n, counts);
    for (size_t i = 0; i < BYPASS_COUNT; i++)
        add_line(&l, "hawser_bypass_total{reason=\"%s\"} %llu\n", bypass_entries[i].name,
                 (unsigned long long)counts[i]);
    add_peer_metrics(&l, peers);
    json_t *document = l.text != NULL ? json_pack("{s:s}", "text", l.text) : NULL;
    free(l.text);
    return document;
}

static void finish(struct report *r)
{
    json_t *document = r->list;
    if (r->verb == CONTROL_VERB_METRICS) {
        document = metrics_json(r->node, r->list);
        json_decref(r->list);
    }
    r->done(r->arg, document);
    free(r);
}

static void next_worker(struct node *n, void *arg)
{
    struct report *r = arg;
    while (r->next_worker < atomic_load(&n->worker_count)) {
        struct worker *w = n->workers[r->next_worker++];
        if (!w->permanent)
            continue; /* homes are permanent workers */
        if (worker_call(w, visit_worker, r) == 0)
            return;
    }
    finish(r);
}

int report_start(struct node *n, enum control_verb verb, void (*done)(void *arg, json_t *document), void *arg)
{
    if (verb == CONTROL_VERB_STATUS || verb == CONTROL_VERB_BYPASS || verb == CONTROL_VERB_STORE) {
        json_t *document = verb == CONTROL_VERB_STATUS   ? status_json(n)
                           : verb == CONTROL_VERB_BYPASS ? bypass_json(n)
                                                         : json_pack("{s:b}", "enabled", 0);
        done(arg, document);
        return 0;
    }
    struct report *r = calloc(1, sizeof(*r));
    if (r == NULL || (r->list = json_array()) == NULL) {
        free(r);
        return -ENOMEM;
    }
    r->node = n;
    r->verb = verb;
    r->done = done;
    r->arg = arg;
    next_worker(n, r);
    return 0;
}
