/* fuzz_config.c - any bytes as a configuration: a value that holds what config.h promises, or an error that
 * names the place; never anything left behind. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/config.h"
#include "hawser/err.h"
#include "hawser/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len_bytes);

#define DEMAND(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void demand_peers(struct config *c)
{
    DEMAND(c->peer_count >= 1 && c->peer_count <= CONFIG_PEERS_MAX);
    for (size_t i = 0; i < c->peer_count; i++) {
        const struct config_peer *p = &c->peers[i];
        DEMAND(p->name[0] != '\0' && p->pin_count >= 1 && p->pin_count <= CONFIG_PINS_MAX &&
               p->networks.count >= 1);
        DEMAND(p->lanes >= 1 && p->lanes <= CONFIG_LANES_MAX && p->congestion[0] != '\0');
        DEMAND(p->address.addr.family != AF_UNSPEC || c->listen.addr.family != AF_UNSPEC);
        DEMAND(p->source == CONFIG_SOURCE_CLIENT || p->source == CONFIG_SOURCE_SELF ||
               p->source == CONFIG_SOURCE_AUTO);
    }
}

static void demand_rules(struct config *c)
{
    struct rules *r = rules_new(c);
    DEMAND(r != NULL);
    for (size_t i = 0; i < c->peer_count; i++) {
        const struct prefix *network = &c->peers[i].networks.list[0];
        /* Another may be reached through a longer prefix, but nobody is not an answer. */
        DEMAND(rules_peer_for(r, &network->addr) != RULES_NONE);
        struct rules_flow flow = {.client.addr = network->addr, .server.addr = network->addr, .peer = (int)i};
        int k = rules_class_for(r, &flow);
        DEMAND(k >= RULES_NONE && k < (int)c->class_count);
    }
    rules_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len_bytes)
{
    struct config *c = NULL;
    char error[CONFIG_ERROR_MAX], keys[64];
    int err = config_parse(&c, "fuzz", (const char *)bytes, len_bytes, error);
    if (err < 0) {
        DEMAND(c == NULL && memchr(error, '\0', sizeof(error)) != NULL);
        DEMAND(err == -ENOMEM || (strncmp(error, "fuzz:", 5) == 0 && error[5] >= '1' && error[5] <= '9'));
        return 0;
    }
    DEMAND(c->name[0] != '\0' && c->identity != NULL && c->control != NULL);
    DEMAND(c->workers_min >= 1 && c->workers_max >= c->workers_min && c->workers_max <= CONFIG_WORKERS_MAX);
    DEMAND(c->memory_bytes >= (32u << 20) && c->port != 0 && c->class_count <= CONFIG_CLASSES_MAX);
    DEMAND(config_restart_needed(c, c, keys, sizeof(keys)) == 0);
    demand_peers(c);
    demand_rules(c);
    config_unref(c);
    return 0;
}
