#include "hawser/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/compress.h"
#include "hawser/err.h"
#include "hawser/store.h"
#include "metrics.h"

struct report {
    struct node *node;
    enum control_verb verb;
    json_t *list;            /* peers, lanes, sessions, classes or homes; touched by one thread at a time */
    json_t *classes, *homes; /* of metrics, whose list is of peers; else empty */
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

static void set_count(json_t *to, const char *name, uint64_t value)
{
    json_object_set_new(to, name, json_integer((json_int_t)value));
}

/* Less than nothing where it became more. */
static void set_percent(json_t *to, const char *name, uint64_t before, uint64_t after)
{
    json_object_set_new(to, name,
                        before > 0 ? json_real(100 - 100 * (double)after / (double)before) : json_null());
}

/* What compression did. */
static void add_compression(json_t *to, const struct lane_block_counters *in,
                            const struct lane_block_counters *out)
{
    add_blocks(to, "in", in);
    add_blocks(to, "out", out);
    set_percent(to, "zstd_percent", in->frame_bytes + out->frame_bytes, in->block_bytes + out->block_bytes);
}

/* What crossed as references, and what it came to with the frames' headers and what was sent again. */
static void add_dedup(json_t *to, const char *percent, const struct mux_traffic *in,
                      const struct mux_traffic *out)
{
    set_count(to, "in_saved_bytes", in->saved_bytes);
    set_count(to, "out_saved_bytes", out->saved_bytes);
    set_percent(to, percent, in->bytes + out->bytes, in->wire_bytes + out->wire_bytes);
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
        add_compression(lane, &r.in, &r.out);
        json_object_set_new(lane, "level", json_integer(r.level));
        if (with_peer)
            json_object_set_new(lane, "peer", json_string(mux_peer_name(m)));
        json_array_append_new(lanes, lane);
    }
    return lanes;
}

static json_t *store_ends_json(const struct mux *m)
{
    static const char *const texts[] = {[MUX_STORE_NONE] = "none",
                                        [MUX_STORE_HERE] = "here",
                                        [MUX_STORE_THERE] = "there",
                                        [MUX_STORE_BOTH] = "both"};
    return mux_is_up(m) ? json_string(texts[mux_store_ends(m)]) : json_null();
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
    json_t *rate_mbit = bits > 0 ? json_real((double)bits / 1e6) : json_null();
    json_t *rtt = up ? json_real(ms(tunnel_rtt_us(t))) : json_null();
    json_t *peer =
        json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "name", mux_peer_name(m),
                  "state", up ? "up" : "down", "lanes", lanes_json(m, false), "rtt_ms", rtt, "sessions",
                  (json_int_t)totals.sessions, "opened", (json_int_t)totals.opened, "in_bytes",
                  (json_int_t)totals.in_bytes, "out_bytes", (json_int_t)totals.out_bytes, "wire_in_bytes",
                  (json_int_t)wire.in_bytes, "wire_out_bytes", (json_int_t)wire.out_bytes, "rate_mbit",
                  rate_mbit, "reason", reason);
    add_dedup(peer, "dedup_percent", &totals.sent, &totals.came);
    add_compression(peer, &wire.in, &wire.out);
    set_percent(peer, "saved_percent", totals.sent.bytes + totals.came.bytes, wire.in_bytes + wire.out_bytes);
    json_object_set_new(peer, "store", store_ends_json(m));
    set_count(peer, "misses", totals.misses);
    set_count(peer, "missed_bytes", totals.missed_bytes);
    set_count(peer, "repeated_misses", totals.repeated_misses);
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
                  (json_int_t)r->out_bytes, "wire_bytes", (json_int_t)r->sent.wire_bytes, "unacked_bytes",
                  (json_int_t)r->unacked_bytes, "queued_bytes", (json_int_t)r->queued_bytes, "early_bytes",
                  (json_int_t)r->early_bytes, "lane", r->lane);
    set_count(s, "wire_in_bytes", r->came.wire_bytes);
    add_dedup(s, "saved_percent", &r->sent, &r->came);
    json_object_set_new(s, "encrypted", json_boolean(r->encrypted));
    json_array_append_new(v->list, s);
}

static void add_classes(json_t *list, struct mux *m)
{
    struct mux_class_report c;
    for (size_t i = 0; mux_report_class(m, i, &c); i++) {
        json_t *class = json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "name", c.name, "peer",
                                  mux_peer_name(m), "action", c.action, "weight", (int)c.weight, "sessions",
                                  (json_int_t)c.sessions, "bytes", (json_int_t)c.sent.bytes, "out_bytes",
                                  (json_int_t)c.came.bytes, "wire_bytes", (json_int_t)c.sent.wire_bytes,
                                  "wire_in_bytes", (json_int_t)c.came.wire_bytes);
        add_dedup(class, "saved_percent", &c.sent, &c.came);
        json_array_append_new(list, class);
    }
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
        add_classes(r->list, m);
    } else if (r->verb == CONTROL_VERB_PEERS) {
        json_array_append_new(r->list, peer_json(m));
    } else if (r->verb == CONTROL_VERB_METRICS) {
        json_array_append_new(r->list, peer_json(m));
        add_classes(r->classes, m);
    }
}

/* The share of what hosts here sent that the store knew already. */
static void set_hits(json_t *store)
{
    uint64_t taken = (uint64_t)json_integer_value(json_object_get(store, "taken_bytes"));
    uint64_t matched = (uint64_t)json_integer_value(json_object_get(store, "matched_bytes"));
    set_percent(store, "matched_percent", taken, taken - matched);
}

/* A worker's store, and what references to it or from it did not resolve. */
static json_t *home_json(const struct worker *w, uint64_t misses, uint64_t missed_bytes)
{
    struct store_counters c;
    store_read_counters(w->host.store, &c);
    json_t *home = json_pack("{s:i}", "home", (int)w->number);
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"memory_bytes", c.memory_bytes},
                  {"segments", c.segments},
                  {"held_bytes", c.segment_bytes},
                  {"index_bytes", c.index_bytes},
                  {"hints", c.hints},
                  {"taken_bytes", c.taken_bytes},
                  {"refused_bytes", c.refused_bytes},
                  {"matched_bytes", c.matched_bytes},
                  {"matches", c.matches},
                  {"filled_bytes", c.filled_bytes},
                  {"evicted_segments", c.evicted_segments},
                  {"uncollected_bytes", c.uncollected_bytes},
                  {"misses", misses},
                  {"missed_bytes", missed_bytes},
                  {"cold_files", c.cold_files},
                  {"cold_hits", c.cold_hits},
                  {"cold_adopted", c.cold_adopted}};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        set_count(home, counts[i].name, counts[i].value);
    json_object_set_new(home, "oldest_s",
                        c.segments > 0 ? json_real((double)(clock_now_us() - c.oldest_us) / 1e6)
                                       : json_null());
    set_hits(home);
    return home;
}

static void next_worker(struct node *n, void *arg);

static void report_free(struct report *r)
{
    json_decref(r->list);
    json_decref(r->classes);
    json_decref(r->homes);
    free(r);
}

static void visit_worker(struct worker *w, void *arg)
{
    struct report *r = arg;
    struct node_peer *p;
    uint64_t misses = 0, missed_bytes = 0;
    pthread_mutex_lock(&w->node->peers_lock); /* the list; a mux is touched by its home only, which we are */
    TAILQ_FOREACH (p, &w->node->peers, link) {
        struct mux_totals totals;
        if (p->home != w || p->mux == NULL)
            continue;
        add_mux(r, p->mux);
        mux_read_totals(p->mux, &totals);
        misses += totals.misses;
        missed_bytes += totals.missed_bytes;
    }
    pthread_mutex_unlock(&w->node->peers_lock);
    if (w->host.store != NULL && (r->verb == CONTROL_VERB_STORE || r->verb == CONTROL_VERB_METRICS))
        json_array_append_new(r->verb == CONTROL_VERB_STORE ? r->list : r->homes,
                              home_json(w, misses, missed_bytes));
    if (node_call(r->node, next_worker, r) < 0)
        report_free(r);
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
    return json_pack(
        "{s:s, s:s, s:f, s:o, s:I, s:I, s:I, s:I, s:b, s:I, s:I}", "version", HAWSER_VERSION, "node", n->name,
        "uptime_s", (double)(clock_now_us() - n->started_us) / 1e6, "workers", workers, "sessions",
        (json_int_t)atomic_load(&n->sessions), "sessions_max", (json_int_t)atomic_load(&n->sessions_max),
        "memory_bytes",
        (json_int_t)(chunk_bytes_total() + compress_bytes_total() + budget_used(&n->store_memory)),
        "memory_cap_bytes", (json_int_t)n->landscape->config->memory_bytes, "accepting",
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

/* What of the stores is on disk; null: nothing is meant to be. */
static json_t *disk_json(const struct node *n)
{
    struct shelf_counters c = {.error = n->store_error};
    if (n->shelving != NULL)
        shelving_read_counters(n->shelving, &c);
    else if (c.error == 0)
        return json_null();
    json_t *disk = json_pack("{s:o}", "error", c.error != 0 ? json_string(err_text(c.error)) : json_null());
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"bytes", c.bytes},
                  {"size_bytes", n->boot_config->store_size_bytes},
                  {"segments", c.segments},
                  {"written_bytes", c.written_bytes},
                  {"read_bytes", c.read_bytes},
                  {"fetched", c.fetched},
                  {"bad_records", c.bad_records},
                  {"bad_files", c.bad_files},
                  {"gone_files", c.gone_files},
                  {"unreadable_files", c.unreadable_files},
                  {"removed_files", c.removed_files},
                  {"skipped_bytes", c.skipped_bytes}};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        set_count(disk, counts[i].name, counts[i].value);
    return disk;
}

/* All homes' stores as one, beside them: counters are summed, the oldest segment is the oldest of any. */
static json_t *store_json(const struct node *n, const json_t *homes)
{
    json_t *all = json_pack("{s:b, s:I}", "enabled", (int)(n->store_memory.cap > 0), "memory_cap_bytes",
                            (json_int_t)n->store_memory.cap);
    const json_t *home;
    size_t i;
    json_array_foreach(homes, i, home)
    {
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)home, name, value)
        {
            const json_t *was = json_object_get(all, name);
            if (json_is_integer(value) && strcmp(name, "home") != 0)
                set_count(all, name, (uint64_t)(json_integer_value(was) + json_integer_value(value)));
            else if (strcmp(name, "oldest_s") == 0 && json_real_value(value) > json_real_value(was))
                json_object_set(all, name, value);
        }
    }
    set_hits(all);
    json_object_set_new(all, "disk", disk_json(n));
    return all;
}

/* The document that the list becomes; NULL when memory is out. */
static json_t *document_of(struct report *r)
{
    if (r->verb != CONTROL_VERB_METRICS && r->verb != CONTROL_VERB_STORE)
        return json_incref(r->list);
    json_t *homes = r->verb == CONTROL_VERB_STORE ? r->list : r->homes;
    json_t *store = store_json(r->node, homes), *document;
    if (r->verb == CONTROL_VERB_STORE) {
        document = json_incref(store);
        json_object_set(document, "homes", homes);
    } else {
        uint64_t bypassed[BYPASS_COUNT];
        read_bypass_counts(r->node, bypassed);
        document = metrics_json(r->node, bypassed, r->list, r->classes, store);
    }
    json_decref(store);
    return document;
}

static void finish(struct report *r)
{
    r->done(r->arg, document_of(r));
    report_free(r);
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
    if (verb == CONTROL_VERB_STATUS || verb == CONTROL_VERB_BYPASS) {
        done(arg, verb == CONTROL_VERB_STATUS ? status_json(n) : bypass_json(n));
        return 0;
    }
    struct report *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return -ENOMEM;
    r->list = json_array();
    r->classes = json_array();
    r->homes = json_array();
    if (r->list == NULL || r->classes == NULL || r->homes == NULL) {
        report_free(r);
        return -ENOMEM;
    }
    r->node = n;
    r->verb = verb;
    r->done = done;
    r->arg = arg;
    next_worker(n, r);
    return 0;
}
