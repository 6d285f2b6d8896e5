/* control_server.h - answers hawserctl over the control socket (floor 7). The protocol: control.h. Main
 * thread. */
#ifndef HAWSER_CONTROL_SERVER_H
#define HAWSER_CONTROL_SERVER_H

#include "hawser/node.h"

struct control_server;

/* Serve on n->control_fd until freed; free it before the node. 0 or -errno. */
int control_server_new(struct control_server **out, struct node *n);
void control_server_free(struct control_server *s);

#endif
