#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/kernel.h"
#include "hawser/log.h"
#include "hawser/node.h"

enum { OVERLAPS_LOGGED_MAX = 10 };

static size_t add_local(struct landscape *l, const struct config *config)
{
    size_t count = 0;
    for (size_t i = 0; i < config->interface_count && count < NODE_LOCAL_MAX; i++) {
        int n = kernel_interface_networks(config->interfaces[i], l->local + count, NODE_LOCAL_MAX - count);
        if (n < 0)
            log_warn("interface %s: %s; its networks are not among those that peers may reach",
                     config->interfaces[i], err_text(n));
        for (int k = 0; k < n && count < NODE_LOCAL_MAX; k++)
            l->local_interface[count++] = (uint8_t)i;
    }
    return count;
}

/* The addresses alone: without rules it is good for nothing but a comparison. */
static int look(struct landscape **out, struct config *config, const struct addr *more, size_t more_count)
{
    struct landscape *l = calloc(1, sizeof(*l) + NODE_FORBIDDEN_MAX * sizeof(struct addr));
    if (l == NULL)
        return -ENOMEM;
    atomic_init(&l->refs, 1);
    l->config = config_ref(config);
    l->local_count = add_local(l, config);
    int own = kernel_own_addresses(l->forbidden, NODE_FORBIDDEN_MAX - 2 * CONFIG_PEERS_MAX);
    if (own < 0) {
        log_error("cannot list this host's addresses: %s", err_text(own));
        landscape_unref(l);
        return own;
    }
    if (own > NODE_FORBIDDEN_MAX - 2 * CONFIG_PEERS_MAX)
        own = NODE_FORBIDDEN_MAX - 2 * CONFIG_PEERS_MAX;
    l->forbidden_count = (size_t)own;
    for (size_t i = 0; i < config->peer_count; i++) {
        if (config->peers[i].address.addr.family != AF_UNSPEC)
            l->forbidden[l->forbidden_count++] = config->peers[i].address.addr;
    }
    for (size_t i = 0; i < more_count && l->forbidden_count < NODE_FORBIDDEN_MAX; i++)
        l->forbidden[l->forbidden_count++] = more[i];
    *out = l;
    return 0;
}

static bool same_addresses(const struct landscape *a, const struct landscape *b)
{
    return a->local_count == b->local_count && a->forbidden_count == b->forbidden_count &&
           memcmp(a->local, b->local, a->local_count * sizeof(a->local[0])) == 0 &&
           memcmp(a->forbidden, b->forbidden, a->forbidden_count * sizeof(a->forbidden[0])) == 0;
}

int landscape_new(struct landscape **out, const struct landscape *was, struct config *config,
                  const struct addr *more, size_t more_count)
{
    struct landscape *l = NULL;
    int err = look(&l, config, more, more_count);
    if (err < 0)
        return err;
    if (was != NULL && was->config == config && same_addresses(was, l)) {
        landscape_unref(l);
        *out = NULL;
        return 0;
    }
    l->rules = rules_new(config);
    if (l->rules == NULL) {
        landscape_unref(l);
        return -ENOMEM;
    }
    *out = l;
    return 0;
}

/* One peer's network against all of ours; returns how many overlap. */
static unsigned log_overlaps_of(const struct landscape *l, const struct config_peer *peer,
                                const struct prefix *network, unsigned logged)
{
    char theirs[PREFIX_TEXT_MAX], ours[PREFIX_TEXT_MAX];
    unsigned count = 0;
    for (size_t i = 0; i < l->local_count; i++) {
        if (!prefix_overlaps(network, &l->local[i]) || logged + count++ >= OVERLAPS_LOGGED_MAX)
            continue;
        log_warn(
            "[peer %s] networks: %s overlaps %s of %s here, so that connections to there are sent to the "
            "peer; give the peer networks that leave it out",
            peer->name, prefix_format(network, theirs), prefix_format(&l->local[i], ours),
            l->config->interfaces[l->local_interface[i]]);
    }
    return count;
}

void landscape_log_overlaps(const struct landscape *l)
{
    unsigned count = 0;
    for (size_t i = 0; i < l->config->peer_count; i++) {
        const struct config_peer *peer = &l->config->peers[i];
        for (size_t k = 0; k < peer->networks.count; k++)
            count += log_overlaps_of(l, peer, &peer->networks.list[k], count);
    }
    if (count > OVERLAPS_LOGGED_MAX)
        log_warn("%u more networks of peers overlap some of our interfaces", count - OVERLAPS_LOGGED_MAX);
}

const char *landscape_interface_of(const struct landscape *l, const struct addr *client)
{
    if (l->config->interface_count == 1)
        return l->config->interfaces[0];
    const char *best = NULL;
    int best_bits = -1;
    for (size_t i = 0; i < l->local_count; i++) {
        if (l->local[i].len_bits <= best_bits || !prefix_contains(&l->local[i], client))
            continue;
        best = l->config->interfaces[l->local_interface[i]];
        best_bits = l->local[i].len_bits;
    }
    return best;
}

struct landscape *landscape_ref(struct landscape *l)
{
    atomic_fetch_add(&l->refs, 1);
    return l;
}

void landscape_unref(struct landscape *l)
{
    if (l == NULL || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    rules_free(l->rules);
    config_unref(l->config);
    free(l);
}

static void take(struct worker *w, void *arg)
{
    landscape_unref(w->landscape);
    w->landscape = arg;
}

void landscape_set(struct node *n, struct landscape *l)
{
    landscape_unref(n->landscape);
    n->landscape = l;
    for (size_t i = 0; i < atomic_load(&n->worker_count); i++) {
        if (n->workers[i]->joined)
            continue;
        landscape_ref(l);
        if (worker_call(n->workers[i], take, l) < 0) {
            landscape_unref(l);
            log_error("out of memory: worker %zu keeps the old rules", i);
        }
    }
}
