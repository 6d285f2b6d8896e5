/* metrics.h - the reports' figures in the Prometheus text format, version 0.0.4 (floor 7). Pure; main thread.
 */
#ifndef HAWSER_METRICS_H
#define HAWSER_METRICS_H

#include <jansson.h>

#include "hawser/node.h"

/* {"text": all of it}, or NULL when memory is out. bypassed: connections that went direct, by reason; the
 * others are documents of report.c. */
json_t *metrics_json(const struct node *n, const uint64_t bypassed[static BYPASS_COUNT], const json_t *peers,
                     const json_t *classes, const json_t *store);

#endif
