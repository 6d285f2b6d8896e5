/* greeter.h - accepted tunnel connections until their lane is up (floor 4).
 * A greeter belongs to one loop; it runs the TLS handshake and the greeting of connections whose peer is not
 * known yet, and hands the lane to the peer's home. At most GREETER_PENDING_MAX are under way: past that the
 * oldest is closed, so that half-finished handshakes cannot keep peers out. */
#ifndef HAWSER_GREETER_H
#define HAWSER_GREETER_H

#include "hawser/lane.h"

enum { GREETER_PENDING_MAX = 256, GREETER_TIMEOUT_US = 10 * 1000000 };

struct greeter;

struct greeter_world {
    SSL_CTX *accept_tls;
    void *owner;
    /* Whose key is this, and our greeting for it; -ERR_PIN: nobody's. Any greeter's thread. */
    int (*identify)(void *owner, const struct endpoint *from, const uint8_t pin[static CONFIG_PIN_BYTES],
                    struct greeting *ours);
    /* The lane is up, detached, and the callee's from now on. Any greeter's thread. */
    void (*deliver)(void *owner, struct lane *l);
};

int greeter_new(struct greeter **out, struct loop *loop, const struct greeter_world *world);
void greeter_free(struct greeter *g);
/* On the greeter's loop. fd is owned. */
void greeter_take(struct greeter *g, int fd);

#endif
