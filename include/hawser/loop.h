/* loop.h - one thread's event queue: a libevent base, a mailbox, and work for the end of a turn (floor 0).
 * Everything that lives on a loop is touched only by the loop's thread; the rest of the world posts mails.
 * A turn: socket events and timers, then all mails, then the tasks that were asked for meanwhile (so that
 * what many sockets brought in one turn leaves in one batch). */
#ifndef HAWSER_LOOP_H
#define HAWSER_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "hawser/mailbox.h"

struct loop;

/* A piece of work to do once at the end of the turn. Embedded by its owner, who sets `run` and `owner`. */
struct task {
    struct task *next;
    void (*run)(void *owner);
    void *owner;
    bool queued;
};

/* 0 or -errno. */
int loop_new(struct loop **out);
/* Mails still waiting are delivered first; call it on the loop's thread or after that thread has ended. */
void loop_free(struct loop *l);
struct event_base *loop_base(struct loop *l);

/* Run until loop_stop. The calling thread becomes the loop's. */
void loop_run(struct loop *l);
/* Any thread. */
void loop_stop(struct loop *l);

/* Deliver m on the loop's thread, in the order of posting. Any thread. */
void loop_post(struct loop *l, struct mail *m);
/* Run t at the end of this turn; once, however often it is asked for. The loop's thread only. */
void loop_defer(struct loop *l, struct task *t);
/* Forget t if it waits. The loop's thread only. */
void loop_cancel(struct loop *l, struct task *t);

/* True on the loop's own thread. */
bool loop_is_mine(const struct loop *l);

#endif
