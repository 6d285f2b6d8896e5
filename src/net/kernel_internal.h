/* kernel_internal.h - the parts of kernel.h's module, each in a file of its own (floor 3).
 * kernel_ranges.c: prefixes to disjoint ranges (pure). kernel_ruleset.c: a configuration to nft's text
 * (pure). kernel_nft.c: the one netfilter socket that owns the table. kernel_netlink.c: rtnetlink requests.
 * kernel_counter.c: one counter of the table. kernel_policy.c: policy rules and local routes. kernel_route.c:
 * lane routes. Nobody outside src/net includes this. */
#ifndef HAWSER_NET_KERNEL_INTERNAL_H
#define HAWSER_NET_KERNEL_INTERNAL_H

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdio.h>

#include "hawser/kernel.h"

enum {
    KERNEL_TABLE_CATCH = 100,  /* local default routes: what carries `mark` is delivered to this host */
    KERNEL_TABLE_LANES = 101,  /* routes to peers with initial windows, for what carries `lane-mark` */
    KERNEL_PRIORITY_SKIP = 99, /* packets and lookups of this host itself go past the next rule */
    KERNEL_PRIORITY_CATCH = 100,
    KERNEL_PRIORITY_LANES = 101,
    /* In rules and routes that are ours, where static or kernel stand in others' (rtnetlink(7),
     * rtm_protocol): what carries it may be removed, whoever put it there; nothing else is. */
    KERNEL_PROTOCOL = 104,
    KERNEL_REFUSED_MAX = 8192, /* endpoints a family */
    KERNEL_CT_MARK = 0x10000,  /* bit of the conntrack mark: the SYN was caught */
};

#define KERNEL_COUNTER_PEER_DOWN "peer_down"

/* ---- ranges ---- */

struct kernel_owned {
    struct prefix prefix;
    size_t owner;
};

struct kernel_range {
    struct addr first, last;
    size_t owner;
};

struct kernel_ranges {
    struct kernel_range *list;
    size_t count;
};

/* Cut prefixes, which may nest and repeat, into ascending ranges that do not overlap; each belongs to the
 * owner of the longest prefix that holds it. Sorts owned[]. 0 or -ENOMEM; kernel_ranges_end frees. */
int kernel_ranges_build(struct kernel_ranges *out, struct kernel_owned *owned, size_t count);
/* The networks of all peers; an owner is a peer's index. */
int kernel_ranges_of_peers(struct kernel_ranges *out, const struct config *c);
/* One list; the owner is 0. */
int kernel_ranges_of_prefixes(struct kernel_ranges *out, const struct config_prefixes *prefixes);
void kernel_ranges_end(struct kernel_ranges *r);
/* Print those of one family whose owner is wanted (NULL: all) as "a-b, c", neighbours joined, with before in
 * front of the first and after behind the last. Returns how many; 0: nothing was printed. */
size_t kernel_ranges_print(FILE *to, const struct kernel_ranges *r, int family, const bool *wanted,
                           const char *before, const char *after);

/* ---- the ruleset ---- */

/* What replaces the rules and the configured sets of a loaded table in one transaction; the peers' and
 * refused sets keep their elements. NULL: no memory. */
char *kernel_ruleset_again(const struct config *c, bool ipv6);
/* What replaces the elements of the sets peers4 and peers6. NULL: no memory. */
char *kernel_ruleset_peers(const struct config *c, const bool *up, bool ipv6);
/* Whether an interface's name can stand in a ruleset: nft has no way to quote some. */
bool kernel_ruleset_takes_name(const char *iface);

/* ---- nft ---- */

struct kernel_nft;
int kernel_nft_open(struct kernel_nft **out, char error[static KERNEL_ERROR_MAX]);
/* Closes the socket: the kernel removes the table. */
void kernel_nft_close(struct kernel_nft *n);
/* One transaction: all of it is done or nothing. */
int kernel_nft_run(struct kernel_nft *n, const char *text, char error[static KERNEL_ERROR_MAX]);
/* Add to refused4 or refused6. The same as a line of text, but past libnftables, which would first read every
 * interval set of the host (0.2 s beside a list of 50,000 networks), while engines wait for the keeper. */
int kernel_nft_add_refused(struct kernel_nft *n, const struct endpoint *server, uint32_t timeout_s,
                           char error[static KERNEL_ERROR_MAX]);
/* 1: somebody has a table "inet hawser", 0: nobody, or -errno. */
int kernel_nft_table_exists(struct kernel_nft *n, char error[static KERNEL_ERROR_MAX]);

/* The packets that a named counter of the table has seen. 0 or -errno. */
int kernel_counter_read(const char *name, uint64_t *packets);

/* ---- rtnetlink ---- */

struct kernel_netlink {
    struct mnl_socket *socket;
    uint32_t sequence;
};
enum { KERNEL_MESSAGE_MAX = 4096 }; /* bytes of a request that we build */

int kernel_netlink_open(struct kernel_netlink *n, char error[static KERNEL_ERROR_MAX]);
void kernel_netlink_close(struct kernel_netlink *n);
/* Start a message in buffer (aligned, KERNEL_MESSAGE_MAX bytes): header with an ACK wanted, and a struct of
 * extra_bytes, zeroed, to be filled. */
struct nlmsghdr *kernel_netlink_start(void *buffer, uint16_t type, uint16_t flags, size_t extra_bytes,
                                      void **extra);
/* Send and wait for the end of the answer; 0 or -errno. */
int kernel_netlink_talk(struct kernel_netlink *n, struct nlmsghdr *message, mnl_cb_t each,
                        void *each_argument);

/* ---- rules and routes ---- */

/* Remove every rule, and every route in our two tables, that carries our protocol number: what a killed
 * keeper left, or what we put there. */
int kernel_policy_flush(struct kernel_netlink *n, int family);
int kernel_policy_catch(struct kernel_netlink *n, int family, const struct config_mark *mark,
                        char error[static KERNEL_ERROR_MAX]);
int kernel_policy_lanes(struct kernel_netlink *n, int family, const struct config_mark *mark,
                        char error[static KERNEL_ERROR_MAX]);
int kernel_route_set(struct kernel_netlink *n, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                     char error[static KERNEL_ERROR_MAX]);

/* Printf into error[]; returns err, so that it can stand in a return. */
int kernel_fail(char error[static KERNEL_ERROR_MAX], int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
