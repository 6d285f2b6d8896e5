/* rules.h - which peer and which class a new connection belongs to (floor 2, pure).
 * Built from a configuration, immutable afterwards: any thread may ask. Longest prefix wins among peers'
 * networks; the first class in file order of which every given key fits wins among classes. */
#ifndef HAWSER_RULES_H
#define HAWSER_RULES_H

#include "hawser/config.h"

struct rules;

/* NULL when memory is out. Holds a reference to the configuration. */
struct rules *rules_new(struct config *c);
void rules_free(struct rules *r);

#define RULES_NONE (-1)

/* Index of the peer through which dst is reached (longest prefix), or RULES_NONE. */
int rules_peer_for(const struct rules *r, const struct addr *dst);

struct rules_flow {
    struct endpoint client, server;
    uint8_t dscp;      /* 0..63 */
    const char *iface; /* may be NULL */
    int peer;          /* index, or RULES_NONE */
    uint32_t proto; /* one bit of enum config_proto, or 0 while unknown: rules with proto do not fit then */
};
/* Index of the class, or RULES_NONE for the default class (accelerate, weight 1). */
int rules_class_for(const struct rules *r, const struct rules_flow *f);

enum rules_open { RULES_OPEN_OK, RULES_OPEN_SOURCE, RULES_OPEN_DESTINATION, RULES_OPEN_SPECIAL };
/* May this peer open src -> dst here? src must be in the peer's networks (ignored when the far side connects
 * as itself, source = self: pass NULL), dst in its serve (or, where not set, in local[]), and dst neither
 * special nor in forbidden[] (our own and our peers' addresses). */
enum rules_open rules_may_open(const struct rules *r, size_t peer, const struct addr *src,
                               const struct addr *dst, const struct prefix *local, size_t local_count,
                               const struct addr *forbidden, size_t forbidden_count);

#endif
