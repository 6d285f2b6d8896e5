/* What one option demands of another. Each check looks at the whole file and blames one line of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_reader.h"
#include "hawser/err.h"
#include "hawser/store.h"

static const struct section_place *place_of(const struct config_reader *r, enum config_section section,
                                            size_t index)
{
    for (size_t i = 0; i < r->place_count; i++) {
        if (r->places[i].section == section && r->places[i].index == index)
            return &r->places[i];
    }
    return NULL;
}

enum { STORE_MEMORY_MIN = 2 * STORE_LEAST_BYTES }; /* half of it is the store's */

static int check_sections(struct config_reader *r)
{
    if (place_of(r, CONFIG_SECTION_NODE, 0) == NULL)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "there is no [node] section; add one with name and identity");
    if (r->config->peer_count == 0)
        return reader_fail(r, -ERR_CONFIG, r->line,
                           "there is no [peer NAME] section; add one for each node at the other "
                           "end, with pin and networks");
    return 0;
}

static int check_node(struct config_reader *r)
{
    const struct config *c = r->config;
    if (c->homes <= c->workers_min)
        return 0;
    return reader_warn(r, place_line(place_of(r, CONFIG_SECTION_NODE, 0), "homes"),
                       "[node] homes is more than the %u permanent workers; raise workers, or lower homes",
                       c->workers_min);
}

/* A packet that carries one mark must not be taken for one that carries the other. */
static int check_marks(struct config_reader *r)
{
    const struct config_mark *a = &r->config->mark, *b = &r->config->lane_mark;
    const struct section_place *p = place_of(r, CONFIG_SECTION_INTERCEPT, 0);
    uint32_t both = a->mask & b->mask;
    if (p == NULL || both == 0 || (a->value & both) != (b->value & both))
        return 0;
    unsigned line = place_line(p, "mark"), lane_line = place_line(p, "lane-mark");
    return reader_fail(
        r, -ERR_CONFIG, lane_line > line ? lane_line : line,
        "[intercept] mark and lane-mark can be on the same packet; give them values that differ inside "
        "both masks");
}

static bool on_loopback_or_any(const struct addr *a)
{
    static const struct addr any4 = {.family = AF_INET}, any6 = {.family = AF_INET6};
    static const struct addr loop6 = {.family = AF_INET6, .bytes = {[15] = 1}};
    return addr_equal(a, &any4) || addr_equal(a, &any6) || addr_equal(a, &loop6) ||
           (a->family == AF_INET && a->bytes[0] == 127);
}

static int check_ports(struct config_reader *r)
{
    const struct config *c = r->config;
    const struct section_place *tunnel = place_of(r, CONFIG_SECTION_TUNNEL, 0);
    const struct section_place *admin = place_of(r, CONFIG_SECTION_ADMIN, 0);
    if (c->listen.addr.family != AF_UNSPEC && c->listen.port == c->port &&
        on_loopback_or_any(&c->listen.addr))
        return reader_fail(r, -ERR_CONFIG, place_line(tunnel, "listen"),
                           "[tunnel] listen has the port of [intercept], %u; choose another",
                           (unsigned)c->port);
    if (c->http.addr.family != AF_UNSPEC && c->http.port == c->port && on_loopback_or_any(&c->http.addr))
        return reader_fail(r, -ERR_CONFIG, place_line(admin, "http"),
                           "[admin] http has the port of [intercept], %u; choose another", (unsigned)c->port);
    if (c->http.addr.family != AF_UNSPEC && c->listen.addr.family != AF_UNSPEC &&
        endpoint_equal(&c->http, &c->listen))
        return reader_fail(r, -ERR_CONFIG, place_line(admin, "http"),
                           "[admin] http is the same as [tunnel] listen; choose another port");
    return 0;
}

/* The folder is made by the keeper and used by the engine: it must not depend on where one was started. */
static int check_store(struct config_reader *r)
{
    const struct config *c = r->config;
    const struct section_place *store = place_of(r, CONFIG_SECTION_STORE, 0);
    if (store == NULL)
        return 0;
    if (c->store_path != NULL && c->store_path[0] != '/')
        return reader_fail(r, -ERR_CONFIG, place_line(store, "path"),
                           "[store] path: '%.80s' is not an absolute path; start it with '/'", c->store_path);
    if (c->store_path != NULL && c->memory_bytes < STORE_MEMORY_MIN)
        return reader_warn(
            r, place_line(store, "path"),
            "[store] path has no effect with so little memory in [node]: there is a store from 128M on");
    if (c->store_path == NULL && place_has(store, "size"))
        return reader_warn(
            r, place_line(store, "size"),
            "[store] size has no effect without path, since it is of the disk; add path, or set "
            "memory in [node] for a store in memory");
    return 0;
}

static int check_peer(struct config_reader *r, const struct section_place *p)
{
    char place[PLACE_TEXT_MAX];
    struct config_peer *peer = &r->config->peers[p->index];
    peer->pin_line = place_line(p, "pin");
    if (peer->address.addr.family == AF_UNSPEC && r->config->listen.addr.family == AF_UNSPEC)
        return reader_fail(
            r, -ERR_CONFIG, p->heading_line,
            "%s can neither be dialled nor dial; give it an address, or this node a listen in [tunnel]",
            place_format(r, p, place));
    return 0;
}

static bool has_peer(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->peer_count; i++) {
        if (strcmp(c->peers[i].name, name) == 0)
            return true;
    }
    return false;
}

static bool has_interface(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->interface_count; i++) {
        if (strcmp(c->interfaces[i], name) == 0)
            return true;
    }
    return false;
}

/* `share = no` says what dedup and compress are; to say them as well is fine, to say otherwise is a mistake.
 */
static int apply_share(struct config_reader *r, const struct section_place *p)
{
    char place[PLACE_TEXT_MAX];
    struct config_class *k = &r->config->classes[p->index];
    const char *other = k->dedup && place_has(p, "dedup")              ? "dedup = yes"
                        : k->compress != 0 && place_has(p, "compress") ? "compress"
                                                                       : NULL;
    if (k->share)
        return 0;
    if (other != NULL)
        return reader_fail(r, -ERR_CONFIG, place_line(p, "share"),
                           "%s has share = no and %s, but what is kept apart is neither deduplicated nor "
                           "compressed; remove one of the two",
                           place_format(r, p, place), other);
    k->dedup = false;
    k->compress = 0;
    return 0;
}

static int check_class(struct config_reader *r, const struct section_place *p)
{
    char place[PLACE_TEXT_MAX];
    const struct config *c = r->config;
    const struct config_class *k = &c->classes[p->index];
    place_format(r, p, place);
    for (size_t i = 0; i < k->peer_count; i++) {
        if (!has_peer(c, k->peers[i]))
            return reader_fail(r, -ERR_CONFIG, place_line(p, "peer"),
                               "%s peer: there is no [peer %s]; correct the name or add the section", place,
                               k->peers[i]);
    }
    for (size_t i = 0; i < k->iface_count; i++) {
        if (!has_interface(c, k->ifaces[i]))
            return reader_fail(
                r, -ERR_CONFIG, place_line(p, "iface"),
                "%s iface: '%s' is not among interface in [intercept]; correct it or add it there", place,
                k->ifaces[i]);
    }
    if (k->proto_mask != 0 && k->action != CONFIG_ACTION_ACCELERATE)
        return reader_fail(
            r, -ERR_CONFIG, place_line(p, "proto"),
            "%s has proto with action bypass or deny, but the first bytes are seen only after the "
            "connection was caught; use ports instead",
            place);
    return apply_share(r, p);
}

/* A pin and the peer that has it. */
struct pin_place {
    const uint8_t *pin;
    size_t peer;
};

static int pin_place_compare(const void *a, const void *b)
{
    const struct pin_place *x = a, *y = b;
    int order = memcmp(x->pin, y->pin, CONFIG_PIN_BYTES);
    return order != 0 ? order : (x->peer > y->peer) - (x->peer < y->peer);
}

/* The pin says who a peer is, so two cannot share one. */
static int check_pins(struct config_reader *r)
{
    const struct config *c = r->config;
    size_t count = 0;
    struct pin_place *all = reallocarray(NULL, c->peer_count * CONFIG_PINS_MAX, sizeof(*all));
    if (all == NULL)
        return reader_fail(r, -ENOMEM, r->line, "%s", err_text(-ENOMEM));
    for (size_t i = 0; i < c->peer_count; i++) {
        for (size_t n = 0; n < c->peers[i].pin_count; n++)
            all[count++] = (struct pin_place){c->peers[i].pins[n], i};
    }
    qsort(all, count, sizeof(*all), pin_place_compare);
    for (size_t i = 1; i < count && r->err == 0; i++) {
        if (memcmp(all[i - 1].pin, all[i].pin, CONFIG_PIN_BYTES) == 0)
            reader_fail(
                r, -ERR_CONFIG, place_line(place_of(r, CONFIG_SECTION_PEER, all[i].peer), "pin"),
                "[peer %s] has a pin of [peer %s]; each node has a key of its own, made by hawserctl keygen",
                c->peers[all[i].peer].name, c->peers[all[i - 1].peer].name);
    }
    free(all);
    return r->err;
}

static int network_place_compare(const void *a, const void *b)
{
    const struct network_place *x = a, *y = b;
    if (x->prefix.addr.family != y->prefix.addr.family)
        return x->prefix.addr.family < y->prefix.addr.family ? -1 : 1;
    int order = memcmp(x->prefix.addr.bytes, y->prefix.addr.bytes, sizeof(x->prefix.addr.bytes));
    if (order != 0)
        return order;
    if (x->prefix.len_bits != y->prefix.len_bits)
        return x->prefix.len_bits < y->prefix.len_bits ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* The longest prefix wins, which says nothing about two of one length. */
static int check_networks(struct config_reader *r)
{
    char text[PREFIX_TEXT_MAX];
    qsort(r->networks, r->network_count, sizeof(*r->networks), network_place_compare);
    for (size_t i = 1; i < r->network_count; i++) {
        const struct network_place *was = &r->networks[i - 1], *is = &r->networks[i];
        if (addr_equal(&was->prefix.addr, &is->prefix.addr) && was->prefix.len_bits == is->prefix.len_bits)
            return reader_fail(
                r, -ERR_CONFIG, is->line,
                "[peer %s] networks: %s is a network of [peer %s] already, in line %u; take one out",
                r->config->peers[is->peer].name, prefix_format(&is->prefix, text),
                r->config->peers[was->peer].name, was->line);
    }
    return 0;
}

/* One warning an option that this version has no use for yet, at the first place where it is set. */
static int warn_of_unbuilt(struct config_reader *r)
{
    char place[PLACE_TEXT_MAX];
    int err = 0;
    for (size_t i = 0; err == 0 && i < config_option_count; i++) {
        const struct config_option *o = &config_options[i];
        const struct section_place *first = NULL;
        unsigned count = 0;
        for (size_t n = 0; o->unbuilt != NULL && n < r->place_count; n++) {
            if (r->places[n].option_line[i] == 0)
                continue;
            first = first == NULL ? &r->places[n] : first;
            count++;
        }
        if (count == 1)
            err = reader_warn(r, first->option_line[i], "%s %s: %s", place_format(r, first, place), o->key,
                              o->unbuilt);
        else if (count > 1)
            err = reader_warn(r, first->option_line[i], "%s %s, and %u more like it: %s",
                              place_format(r, first, place), o->key, count - 1, o->unbuilt);
    }
    return err;
}

static int warn_if_nothing_is_served(struct config_reader *r)
{
    const struct config *c = r->config;
    bool serves = c->interface_count > 0;
    for (size_t i = 0; i < c->peer_count; i++)
        serves = serves || c->peers[i].serve_set;
    return serves ? 0
                  : reader_warn(r, r->line,
                                "neither [intercept] interface nor a peer's serve is set: nothing is caught "
                                "and peers can open nothing here; set one of them");
}

int config_check(struct config_reader *r)
{
    int err = check_sections(r);
    if (err == 0)
        err = check_marks(r);
    if (err == 0)
        err = check_ports(r);
    if (err == 0)
        err = check_store(r);
    if (err == 0)
        err = check_node(r);
    for (size_t i = 0; err == 0 && i < r->place_count; i++) {
        if (r->places[i].section == CONFIG_SECTION_PEER)
            err = check_peer(r, &r->places[i]);
        if (err == 0 && r->places[i].section == CONFIG_SECTION_CLASS)
            err = check_class(r, &r->places[i]);
    }
    if (err == 0)
        err = check_pins(r);
    if (err == 0)
        err = check_networks(r);
    if (err == 0)
        err = warn_of_unbuilt(r);
    return err == 0 ? warn_if_nothing_is_served(r) : err;
}
