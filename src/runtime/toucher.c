#include "hawser/toucher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* of Linux 5.14; headers may be older than the kernel */
#endif

struct toucher {
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows; held for a few instructions, once for each huge page */
    pthread_cond_t changed;
    struct slice asked; /* chunk NULL: nothing */
    bool cannot;        /* the kernel */
    bool stopping;
};

/* The huge page is a wish; the rest is not possible before Linux 5.14. */
static bool touch(const struct slice *s)
{
    uint8_t *bytes = s->chunk->bytes + s->off;
    madvise(bytes, s->len, MADV_HUGEPAGE);
    return madvise(bytes, s->len, MADV_POPULATE_WRITE) == 0 || errno != EINVAL;
}

static void *run(void *arg)
{
    struct toucher *t = arg;
    pthread_setname_np(pthread_self(), "hawserd/touch");
    pthread_mutex_lock(&t->lock);
    while (!t->stopping) {
        if (t->asked.chunk == NULL) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        bool can = touch(&t->asked); /* nobody else changes it while it is not empty */
        chunk_unref(t->asked.chunk);
        pthread_mutex_lock(&t->lock);
        t->asked.chunk = NULL;
        t->cannot = !can;
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int toucher_new(struct toucher **out)
{
    struct toucher *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    int err = -pthread_create(&t->thread, NULL, run, t);
    if (err == 0) {
        *out = t;
        return 0;
    }
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
    return err;
}

bool toucher_ask(struct toucher *t, struct chunk *chunk, uint32_t off, uint32_t len)
{
    if (t == NULL)
        return false;
    pthread_mutex_lock(&t->lock);
    bool takes = t->asked.chunk == NULL && !t->cannot;
    if (takes) {
        t->asked = (struct slice){.chunk = chunk_ref(chunk), .off = off, .len = len};
        pthread_cond_signal(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return takes;
}

void toucher_free(struct toucher *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    chunk_unref(t->asked.chunk);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
