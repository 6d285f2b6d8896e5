/* mailbox.h - messages from any thread to one (floor 0).
 * Many posters, one reader, no lock: a stack built by compare-and-swap, taken whole and turned round, so
 * mails from one poster arrive in order. The eventfd becomes readable when the box stops being empty. */
#ifndef HAWSER_MAILBOX_H
#define HAWSER_MAILBOX_H

#include <stdatomic.h>

/* Embedded as the first member of what is sent. Owned by the box from post to deliver; `deliver` runs on the
 * reading thread and owns the mail from then on. */
struct mail {
    struct mail *next;
    void (*deliver)(struct mail *m);
};

struct mailbox {
    _Atomic(struct mail *) newest;
    int event_fd;
};

/* 0 or -errno. */
int mailbox_init(struct mailbox *b);
/* Mails still inside are the caller's to deliver first. */
void mailbox_end(struct mailbox *b);
/* Any thread. */
void mailbox_post(struct mailbox *b, struct mail *m);
/* The reader: everything that is there, oldest first, NULL when empty. Clears the eventfd. */
struct mail *mailbox_take(struct mailbox *b);

#endif
