#include "hawser/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct loop {
    struct event_base *base;
    struct mailbox box;
    struct event box_event;          /* the eventfd */
    struct event turn_event;         /* activated by hand: mails from this thread and tasks */
    struct mail *first, **last;      /* mails posted by this thread */
    struct task *tasks, **last_task; /* for the end of this turn */
    struct task *running_tasks;      /* being run now */
    bool turn_asked, running_tasks_now;
    _Atomic bool stopping;
};

static _Thread_local struct loop *running;

bool loop_is_mine(const struct loop *l)
{
    return running == l;
}

static void ask_turn(struct loop *l)
{
    if (l->turn_asked)
        return;
    l->turn_asked = true;
    if (l->running_tasks_now) {
        /* asked for by a task: sockets and timers come first, else a busy task would starve them */
        static const struct timeval at_once = {0, 0};
        event_add(&l->turn_event, &at_once);
        return;
    }
    event_active(&l->turn_event, EV_TIMEOUT, 0);
}

static void deliver_own(struct loop *l)
{
    while (l->first != NULL) {
        struct mail *m = l->first;
        l->first = m->next;
        if (l->first == NULL)
            l->last = &l->first;
        m->deliver(m);
    }
}

static void end_turn(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    (void)fd;
    (void)what;
    l->turn_asked = false;
    deliver_own(l);
    /* tasks asked for by tasks run in the next turn, so that sockets are not starved */
    l->running_tasks = l->tasks;
    l->tasks = NULL;
    l->last_task = &l->tasks;
    l->running_tasks_now = true;
    while (l->running_tasks != NULL) {
        struct task *t = l->running_tasks;
        l->running_tasks = t->next;
        t->queued = false;
        t->run(t->owner);
    }
    l->running_tasks_now = false;
}

static void take_box(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    (void)fd;
    (void)what;
    struct mail *m = mailbox_take(&l->box);
    while (m != NULL) {
        struct mail *next = m->next;
        m->deliver(m);
        m = next;
    }
    if (atomic_load(&l->stopping))
        event_base_loopbreak(l->base);
}

int loop_new(struct loop **out)
{
    struct loop *l = calloc(1, sizeof(*l));
    struct event_config *config = event_config_new();
    int err = -ENOMEM;
    if (l == NULL || config == NULL)
        goto fail;
    l->last = &l->first;
    l->last_task = &l->tasks;
    l->box.event_fd = -1;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    l->base = event_base_new_with_config(config);
    if (l->base == NULL)
        goto fail;
    err = mailbox_init(&l->box);
    if (err < 0)
        goto fail;
    event_assign(&l->box_event, l->base, l->box.event_fd, EV_READ | EV_PERSIST, take_box, l);
    event_assign(&l->turn_event, l->base, -1, EV_TIMEOUT, end_turn, l);
    event_add(&l->box_event, NULL);
    event_config_free(config);
    *out = l;
    return 0;
fail:
    if (config != NULL)
        event_config_free(config);
    if (l != NULL && l->base != NULL)
        event_base_free(l->base);
    free(l);
    return err;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    struct loop *was = running;
    running = l;
    struct mail *m;
    while ((m = mailbox_take(&l->box)) != NULL || l->first != NULL) {
        while (m != NULL) {
            struct mail *next = m->next;
            m->deliver(m);
            m = next;
        }
        deliver_own(l);
    }
    running = was == l ? NULL : was;
    event_del(&l->box_event);
    event_del(&l->turn_event);
    mailbox_end(&l->box);
    event_base_free(l->base);
    free(l);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

void loop_run(struct loop *l)
{
    running = l;
    while (!atomic_load(&l->stopping)) {
        if (event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY) != 0)
            break;
    }
    running = NULL;
}

static void wake(struct mail *m)
{
    free(m); /* its arrival is the message */
}

void loop_stop(struct loop *l)
{
    atomic_store(&l->stopping, true);
    struct mail *m = malloc(sizeof(*m));
    if (m == NULL) {
        eventfd_t one = 1;
        ssize_t n = write(l->box.event_fd, &one, sizeof(one));
        (void)n;
        return;
    }
    m->deliver = wake;
    mailbox_post(&l->box, m);
}

void loop_post(struct loop *l, struct mail *m)
{
    if (running != l) {
        mailbox_post(&l->box, m);
        return;
    }
    m->next = NULL;
    *l->last = m;
    l->last = &m->next;
    ask_turn(l);
}

void loop_defer(struct loop *l, struct task *t)
{
    if (t->queued)
        return;
    t->queued = true;
    t->next = NULL;
    *l->last_task = t;
    l->last_task = &t->next;
    ask_turn(l);
}

static bool unlink_task(struct task **at, struct task *t, struct task ***last)
{
    for (; *at != NULL; at = &(*at)->next) {
        if (*at != t)
            continue;
        *at = t->next;
        if (last != NULL && *last == &t->next)
            *last = at;
        return true;
    }
    return false;
}

void loop_cancel(struct loop *l, struct task *t)
{
    if (!t->queued)
        return;
    t->queued = false;
    if (!unlink_task(&l->tasks, t, &l->last_task))
        unlink_task(&l->running_tasks, t, NULL);
}
