/* kernel.h - what only root may do to the network, done by the keeper (floor 3).
 * The nft table (owner flag: the kernel removes it when this process ends, even by kill -9), the policy
 * rules and routes for TPROXY, the routes that start lanes at the link's bandwidth-delay product, and the privileged
 * options of a lane's socket. Libraries: libnftables, libmnl. One thread. design.md's interception rules:
 * see ARCHITECTURE.md, 'Interception'. Every failure fills error[] with what to do. */
#ifndef HAWSER_KERNEL_H
#define HAWSER_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/addr.h"
#include "hawser/config.h"

struct kernel;

#define KERNEL_ERROR_MAX 512

/* Install everything that the configuration asks for (firewall = auto): policy rules and local routes for both families
 * (IPv4 only, with a log line, where the host has no IPv6), rule and private table for lane-mark routes, and the table
 * "inet hawser" with its sets empty: nothing is caught until kernel_set_peers. Rules and routes left
 * by a killed keeper are adopted; a table left by a live other owner is an error. firewall = none: nothing of the firewall,
 * nor the TPROXY rules and routes; only the lane routes work. */
int kernel_new(struct kernel **out, const struct config *c, char error[static KERNEL_ERROR_MAX]);
/* Apply another configuration's classes and exclusions (reload) in one nft transaction; running connections are not
 * touched. */
int kernel_reconfigure(struct kernel *k, const struct config *c, char error[static KERNEL_ERROR_MAX]);
/* Take everything down again. kernel_free(NULL) is fine. */
void kernel_free(struct kernel *k);

/* The destinations that are caught from now on: networks of the peers that are up. Replaces the set at once.
 * up[i] tells whether peer i of the configuration is up. */
int kernel_set_peers(struct kernel *k, const struct config *c, const bool *up, char error[static KERNEL_ERROR_MAX]);
/* New connections to this endpoint go direct for timeout_s seconds. */
int kernel_add_refused(struct kernel *k, const struct endpoint *server, uint32_t timeout_s,
                       char error[static KERNEL_ERROR_MAX]);

/* A route to the peer for sockets that carry lane-mark, like the main table's, with these windows in segments (0: leave
 * out). Replaces an earlier one. */
int kernel_lane_route(struct kernel *k, const struct addr *peer, uint32_t initcwnd, uint32_t initrwnd,
                      char error[static KERNEL_ERROR_MAX]);

/* The privileged options of a lane's socket before connect or listen: buffers past rmem_max/wmem_max
 * (SO_RCVBUFFORCE, SO_SNDBUFFORCE; 0: leave), congestion control (unset or unavailable: -ENOENT, the socket keeps its own). */
int kernel_lane_socket(int fd, uint64_t rcvbuf_bytes, uint64_t sndbuf_bytes, const char *congestion);

/* The ruleset that kernel_new would load, as text for nft -f (owned by the caller, free()); NULL: no memory.
 * For tests, for contrib's scripts and for hawserd's debug log. */
char *kernel_ruleset(const struct config *c, bool ipv6);

/* Networks of an interface's addresses (getifaddrs), and all addresses of this host; for the default of `serve` and the
 * exclusions. Fills up to max, returns the number there are, or -errno. */
int kernel_interface_networks(const char *iface, struct prefix *out, size_t max);
int kernel_own_addresses(struct addr *out, size_t max);

#endif
