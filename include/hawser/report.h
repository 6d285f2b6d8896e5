/* report.h - the running engine as JSON (floor 7).
 * A report visits the workers one after the other, each on its own thread, and comes back to the main thread:
 * no lock, nothing stops. Called on the main thread. Field names: control.h. */
#ifndef HAWSER_REPORT_H
#define HAWSER_REPORT_H

#include <jansson.h>

#include "hawser/control.h"
#include "hawser/node.h"

/* Begin; `done` gets the document (its reference becomes the callee's), NULL when memory is out. 0 or -ENOMEM
 * (done is not called). For every verb but reload. */
int report_start(struct node *n, enum control_verb verb, void (*done)(void *arg, json_t *document),
                 void *arg);

#endif
