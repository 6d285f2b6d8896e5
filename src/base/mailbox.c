#include "hawser/mailbox.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mailbox_init(struct mailbox *b)
{
    atomic_init(&b->newest, NULL);
    b->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return b->event_fd < 0 ? -errno : 0;
}

void mailbox_end(struct mailbox *b)
{
    if (b->event_fd >= 0)
        close(b->event_fd);
    b->event_fd = -1;
}

void mailbox_post(struct mailbox *b, struct mail *m)
{
    struct mail *was = atomic_load_explicit(&b->newest, memory_order_relaxed);
    do {
        m->next = was;
    } while (!atomic_compare_exchange_weak_explicit(&b->newest, &was, m, memory_order_release,
                                                    memory_order_relaxed));
    if (was == NULL) {
        uint64_t one = 1;
        ssize_t n = write(b->event_fd, &one, sizeof(one));
        (void)n; /* EAGAIN: the counter is at its maximum, so the reader is awake anyway */
    }
}

struct mail *mailbox_take(struct mailbox *b)
{
    uint64_t count;
    ssize_t n = read(b->event_fd, &count, sizeof(count));
    (void)n; /* EAGAIN: nobody rang */
    struct mail *newest = atomic_exchange_explicit(&b->newest, NULL, memory_order_acquire);
    struct mail *oldest = NULL;
    while (newest != NULL) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}
