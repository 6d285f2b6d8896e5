/* shelf_jobs.c - the shelf's thread: what the mails do there, and what to say of the disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/err.h"
#include "hawser/log.h"
#include "shelving_internal.h"

enum {
    TRY_AGAIN_US = 30000000, /* a disk that could not be written */
    TELL_US = 60000000       /* of damage, at most as often */
};

/* Damage that is found after the start, which tells of its own (log_what_came_back). */
static void tell_damage(struct shelving *s, const struct shelf_counters *now)
{
    uint64_t faults = now->bad_records + now->bad_files + now->gone_files + now->unreadable_files;
    uint64_t now_us = clock_now_us();
    if (atomic_load(&s->reading) > 0)
        s->told_faults = faults;
    if (faults == s->told_faults || (s->told_us > 0 && now_us - s->told_us < TELL_US))
        return;
    s->told_faults = faults;
    s->told_us = now_us;
    log_warn(
        "[store] path = %s: in this run %llu parts of files and %llu files were damaged (the last: "
        "%016llx.segment), %llu files were gone, and %llu could not be opened, read or removed; what was "
        "in them crosses the link once more. Check the disk, and who else writes into that folder",
        s->path, (unsigned long long)now->bad_records, (unsigned long long)now->bad_files,
        (unsigned long long)now->bad_serial, (unsigned long long)now->gone_files,
        (unsigned long long)now->unreadable_files);
}

static void publish(struct shelving *s)
{
    struct shelf_counters now;
    shelf_read_counters(s->shelf, &now);
    tell_damage(s, &now);
    pthread_mutex_lock(&s->lock);
    s->counters = now;
    pthread_mutex_unlock(&s->lock);
}

static void set_error(struct shelving *s, int err)
{
    atomic_store(&s->failed, true);
    pthread_mutex_lock(&s->lock);
    s->counters.error = err;
    pthread_mutex_unlock(&s->lock);
}

static void cannot_open(struct shelving *s, int err)
{
    set_error(s, err);
    if (err == -EWOULDBLOCK)
        log_error("[store] path = %s: another hawserd uses this folder; give each one of its own. This one "
                  "keeps its store in memory only",
                  s->path);
    else
        log_error("[store] path = %s: cannot use it: %s; the store is in memory only, and cold after a "
                  "restart. Mend that, or name another folder, then restart",
                  s->path, err_text(err));
}

static void cannot_write(struct shelving *s, int err)
{
    static const struct timeval second = {1, 0};
    set_error(s, err);
    s->tried_us = clock_now_us();
    event_add(&s->second, &second);
    log_error(
        "[store] path = %s: cannot write%s: %s; what is new is in memory only, and lost when it leaves it. "
        "Mend that, or name another folder and restart; it is tried again each %d s",
        s->path, err == -ENOSPC || err == -EDQUOT ? ", the disk is full" : "", err_text(err),
        TRY_AGAIN_US / 1000000);
}

/* A passing error uses up no time. */
static void try_again(struct shelving *s)
{
    int err = shelf_try_again(s->shelf);
    if (err != -ENOMEM && err != -EMFILE && err != -ENFILE)
        s->tried_us = clock_now_us();
    publish(s);
    if (err < 0)
        return;
    atomic_store(&s->failed, false);
    event_del(&s->second);
    log_info("[store] path = %s: it can be written again", s->path);
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    struct shelving *s = arg;
    (void)fd;
    (void)what;
    if (clock_now_us() - s->tried_us >= TRY_AGAIN_US)
        try_again(s);
}

void shelf_job_end(struct mail *m)
{
    struct shelving *s = (struct shelving *)(void *)((char *)m - offsetof(struct shelving, end));
    if (s->shelf != NULL && atomic_load(&s->failed))
        try_again(s);
}

void shelf_job_write(struct mail *m)
{
    struct job *j = (struct job *)(void *)m;
    struct shelving *s = j->home->shelving;
    if (s->shelf != NULL) {
        j->err = shelf_append(s->shelf, j->home->number, j->source, j->chunk, &j->parts, &j->added);
        publish(s);
        if (j->err < 0 && !atomic_load(&s->failed))
            cannot_write(s, j->err);
    }
    j->mail.deliver = shelving_take_job;
    loop_post(j->home->host->loop, &j->mail);
}

static bool is_for(void *arg, uint32_t source, uint32_t number)
{
    const struct home *h = arg;
    const struct shelving *s = h->shelving;
    if (source != 0)
        return map_get(&s->by_source, source) == h;
    return number % s->home_count == h->number;
}

static bool is_for_any(void *arg, uint32_t source, uint32_t number)
{
    const struct shelving *s = arg;
    (void)number;
    return source == 0 || map_get(&s->by_source, source) != NULL;
}

void shelf_job_answer(struct mail *m)
{
    struct question *q = (struct question *)(void *)m;
    struct home *h = q->home;
    struct shelving *s = h->shelving;
    if (s->shelf != NULL && !atomic_load(&s->stopping)) {
        q->found = shelf_read(s->shelf, is_for, h, &q->segment);
        publish(s);
    }
    q->mail.deliver = shelving_take_answer;
    loop_post(h->host->loop, &q->mail);
}

void shelf_job_tell(struct mail *m)
{
    struct telling *t = (struct telling *)(void *)m;
    struct shelving *s = t->home->shelving;
    t->found = 0;
    if (!atomic_load(&s->stopping))
        t->found = shelf_next_sample(s->shelf, is_for, t->home, &t->sample);
    t->mail.deliver = shelving_take_sample;
    loop_post(t->home->host->loop, &t->mail);
}

void shelf_job_fetch(struct mail *m)
{
    struct fetch *f = (struct fetch *)(void *)m;
    struct shelving *s = f->home->shelving;
    f->found = -ECANCELED;
    if (!atomic_load(&s->stopping)) {
        f->found = shelf_fetch(s->shelf, &f->id, &f->segment);
        publish(s);
    }
    f->mail.deliver = shelving_take_fetched;
    loop_post(f->home->host->loop, &f->mail);
}

void shelf_job_write_proved(struct mail *m)
{
    struct proved_job *j = (struct proved_job *)(void *)m;
    struct shelving *s = j->home->shelving;
    j->err = s->shelf != NULL ? shelf_write_proved(s->shelf, j->peer, j->entries, j->len) : 0;
    struct shelf_counters c = {0};
    if (j->err < 0 && !atomic_load(&s->failed))
        shelf_read_counters(s->shelf, &c);
    if (c.error < 0) /* the whole disk's */
        cannot_write(s, c.error);
    j->logged = atomic_load(&s->failed);
    j->mail.deliver = shelving_take_proved;
    loop_post(j->home->host->loop, &j->mail);
}

/* A peer that is no longer configured has no home. */
static int hand_out_proved(void *arg, uint32_t peer, const uint8_t *entries, size_t len)
{
    struct shelving *s = arg;
    struct home *h = map_get(&s->by_source, peer);
    struct proved_job *j = h != NULL ? proved_job_new(h, peer, entries, len) : NULL;
    if (j == NULL)
        return h != NULL ? -ENOMEM : 0;
    j->mail.deliver = shelving_take_restored;
    loop_post(h->host->loop, &j->mail);
    return 1;
}

void *shelf_job_run(void *arg)
{
    struct shelving *s = arg;
    pthread_setname_np(pthread_self(), "hawserd/shelf");
    loop_run(s->loop);
    chunk_thread_end();
    return NULL;
}

struct proved_job *proved_job_new(struct home *h, uint32_t peer, const uint8_t *entries, size_t len)
{
    struct proved_job *j = malloc(sizeof(*j) + len);
    if (j == NULL)
        return NULL;
    *j = (struct proved_job){.home = h, .peer = peer, .len = (uint32_t)len};
    memcpy(j->entries, entries, len);
    return j;
}

void shelf_job_open(struct mail *m)
{
    struct shelving *s = (struct shelving *)(void *)((char *)m - offsetof(struct shelving, begin));
    int err = shelf_open(&s->shelf, s->path, s->size_bytes, s->seed, s->pin);
    if (err < 0) {
        cannot_open(s, err);
        return;
    }
    event_assign(&s->second, loop_base(s->loop), -1, EV_PERSIST, on_second, s);
    shelf_drop_unwanted(s->shelf, is_for_any, s); /* of peers that are no longer configured */
    shelf_read_proved(s->shelf, hand_out_proved, s);
    publish(s);
    if (s->counters.error < 0)
        cannot_write(s, s->counters.error);
    if (s->counters.unreadable_files > 0)
        log_warn(
            "[store] path = %s: %llu files could not be opened, read or removed, and are left alone; look at "
            "their owners and modes, or remove them",
            s->path, (unsigned long long)s->counters.unreadable_files);
    for (uint32_t i = 0; i < s->home_count; i++) {
        s->homes[i]->start.deliver = shelving_start_asking;
        loop_post(s->homes[i]->host->loop, &s->homes[i]->start);
    }
}
