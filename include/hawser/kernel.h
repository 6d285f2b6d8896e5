/* kernel.h - what only root may do to the network, done by the keeper (floor 3).
 * The nft table (owner flag: the kernel removes it when this process ends, even by kill -9), the policy
 * rules and routes for TPROXY, the routes that start lanes at the link's bandwidth-delay product, and the
 * privileged options of a lane's socket. Libraries: libnftables, libmnl. One thread. design.md's interception
 * rules: see ARCHITECTURE.md, 'Interception'. Every failure fills error[] with what to do.
 *
 * What it puts there: the table "inet hawser"; "fwmark mark lookup 100" and "fwmark lane-mark lookup 101" at
 * priorities 100 and 101; a local default route in table 100; lane routes in table 101; all with protocol
 * 104, by which a later start knows what a killed keeper left. Bit 0x10000 of the conntrack mark is used for
 * what is caught. A host firewall that drops by default must accept what carries `mark` in its input chain.
 *
 * The netfilter socket owns the table: a process forked without exec must close it, or the table outlives us.
 */
#ifndef HAWSER_KERNEL_H
#define HAWSER_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/addr.h"
#include "hawser/config.h"

struct kernel;

#define KERNEL_ERROR_MAX 512

/* Install everything that the configuration asks for (firewall = auto): policy rules and local routes for
 * both families (IPv4 only, with a log line, where the host has no IPv6), the rule for lane routes, and the
 * table "inet hawser" with its peers empty: nothing is caught until kernel_set_peers. Rules and routes left
 * by a killed keeper are replaced; a table that is there already is -EEXIST, and nothing of its owner's is
 * touched. firewall = none: nothing of the firewall, nor the TPROXY rules and routes; only the lane routes
 * work. Both set tcp_slow_start_after_idle to 0 until kernel_free. */
int kernel_new(struct kernel **out, const struct config *c, char error[static KERNEL_ERROR_MAX]);
/* Apply another configuration's classes, networks and exclusions (reload) in one nft transaction; running
 * connections are not touched, and the sets of kernel_set_peers and kernel_add_refused keep their elements.
 * Interfaces, port, marks and firewall stay those of kernel_new. */
int kernel_reconfigure(struct kernel *k, const struct config *c, char error[static KERNEL_ERROR_MAX]);
/* Take everything down again. kernel_free(NULL) is fine. */
void kernel_free(struct kernel *k);

/* The destinations that are caught from now on: what reaches a peer that is up by the longest prefix of all
 * peers' networks (a network of a peer that is down is left out, also inside one of a peer that is up).
 * Replaces the sets in one transaction. up[i] tells whether peer i of the configuration is up. */
int kernel_set_peers(struct kernel *k, const struct config *c, const bool *up,
                     char error[static KERNEL_ERROR_MAX]);
/* New connections to this endpoint go direct for timeout_s seconds (more than 0; an earlier time that still
 * runs stays). At most 8192 endpoints a family are remembered: then -ENFILE, until some time out. */
int kernel_add_refused(struct kernel *k, const struct endpoint *server, uint32_t timeout_s,
                       char error[static KERNEL_ERROR_MAX]);

/* How many SYNs were not caught because the peer of their destination was down, since kernel_new (a SYN that
 * is sent again counts again); 0 with firewall = none. */
int kernel_count_peer_down(struct kernel *k, uint64_t *out);

/* A route to the peer for sockets that carry lane-mark, like the one without the mark, with these windows in
 * segments (0: leave out). Replaces an earlier one. It is a copy of the routing of this moment: ask again
 * before each dial, so that a changed gateway is followed. -ENETUNREACH and the like when there is no route.
 */
int kernel_lane_route(struct kernel *k, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                      char error[static KERNEL_ERROR_MAX]);

/* The privileged options of a lane's socket before connect or listen: buffers past rmem_max/wmem_max
 * (SO_RCVBUFFORCE, SO_SNDBUFFORCE; 0: leave), congestion control (NULL or "": leave). -ENOENT: the kernel has
 * no such congestion control; the buffers are set and the socket keeps its own. */
int kernel_lane_socket(int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion);

/* The ruleset that kernel_new would load, as text for nft -f (owned by the caller, free()); NULL: no memory,
 * or an interface whose name nft cannot take. For tests and for hawserd's debug log. */
char *kernel_ruleset(const struct config *c, bool ipv6);

/* Networks of an interface's addresses (getifaddrs; without link-local and loopback ones, each once), and all
 * addresses of this host; for the default of `serve` and the exclusions. Fills up to max, returns the number
 * there are, or -errno. */
int kernel_interface_networks(const char *iface, struct prefix *out, size_t max);
int kernel_own_addresses(struct addr *out, size_t max);

#endif
