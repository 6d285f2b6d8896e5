/* pump.h - the thread of one direction: reads packets from one device, passes them through a path and
 * writes them to the other device when they are due. All functions may be called from any thread. */
#ifndef HAWSER_WANEM_PUMP_H
#define HAWSER_WANEM_PUMP_H

#include <stddef.h>
#include <stdint.h>

#include "params.h"
#include "path.h"

struct pump;

/* Descriptors are borrowed and outlive the pump. NULL: out of memory or descriptors. */
struct pump *pump_new(int from_fd, int to_fd, uint32_t mtu, uint64_t seed);
/* Starts the thread; 0 or -errno. */
int pump_start(struct pump *pump);
/* Ends the thread. The figures can still be read. */
void pump_stop(struct pump *pump);
void pump_free(struct pump *pump);

/* In force when it returns; after taking the link down nothing more comes out. */
void pump_set(struct pump *pump, const struct link_params *params, uint64_t queue_limit);
void pump_zero(struct pump *pump);

/* All figures of one moment. */
struct pump_figures {
    struct link_params params;
    uint64_t queue_limit; /* bytes, 0 = none */
    uint64_t queue_bytes;
    struct path_count inside;
    struct path_counters counters;
};
void pump_read(struct pump *pump, struct pump_figures *out);

#endif
