/* engine.h - the life of the unprivileged process (floor 6): start everything, serve, stop in order. Main
 * thread. */
#ifndef HAWSER_ENGINE_H
#define HAWSER_ENGINE_H

#include "hawser/node.h"

/* Set up the node and its threads; nothing is accepted yet. 0, or -errno with a log line that says what to
 * do. */
int engine_start(struct node **out, const struct keeper_engine_start *start);
/* Open the listeners, tell the keeper, serve until told to stop. The process's exit code. */
int engine_serve(struct node *n);
void engine_free(struct node *n);

#endif
