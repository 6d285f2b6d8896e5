#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/err.h"
#include "hawser/log.h"
#include "hawser/mux.h"
#include "hawser/store.h"
#include "shelving_internal.h"

/* Everything crosses by mail, there and back: parts to write, which bring back what the file's sample gained;
 * the questions of a start; then samples of files that were not read; and segments that the store wants from
 * disk, one at a time. A home has at most READS_AHEAD questions under way, so the thread reads one segment
 * while the home indexes another, and what was read never piles up.
 *
 * A segment that waits to be written cannot be evicted, so what waits is counted by the memory of segments:
 * each once, however many mails speak of it. */

enum {
    FETCHES_A_SECOND = 16,     /* segments that may come back for a hit: 256 MB, and 5 % of the home's time */
    JOB_COST_BYTES = 64 << 10, /* of a mail and its lists, at most */
    LAST_PART_LEAST_BYTES = 256, /* at the end nothing is waited for */
};

/* ---- what is handed over ---- */

static uint64_t pin_key(const struct chunk *chunk)
{
    return (uintptr_t)chunk;
}

/* One job more for this segment; NULL: no memory. */
static struct pin *add_pin(struct home *h, const struct store_fresh *fresh)
{
    struct pin *p = map_get(&h->pins, pin_key(fresh->chunk));
    if (p == NULL) {
        p = calloc(1, sizeof(*p));
        if (p == NULL || map_put(&h->pins, pin_key(fresh->chunk), p) < 0) {
            free(p);
            return NULL;
        }
    }
    /* at the end nothing is evicted any more, and what counts is how much there is to write */
    uint64_t bytes = h->stopped ? p->bytes + intervals_total(&fresh->parts) : fresh->memory_bytes;
    if (bytes > p->bytes) {
        atomic_fetch_add(&h->shelving->waiting_bytes, bytes - p->bytes);
        p->bytes = bytes;
    }
    atomic_fetch_add(&h->shelving->waiting_bytes, JOB_COST_BYTES);
    p->jobs++;
    return p;
}

static void remove_pin(struct home *h, struct pin *p, const struct chunk *chunk)
{
    uint64_t bytes = JOB_COST_BYTES;
    if (--p->jobs == 0) {
        bytes += p->bytes;
        map_remove(&h->pins, pin_key(chunk));
        free(p);
    }
    atomic_fetch_sub(&h->shelving->waiting_bytes, bytes);
}

static bool may_wait(const struct shelving *s)
{
    return atomic_load(&s->waiting_bytes) < s->waiting_most;
}

static bool post_job(void *arg, struct store_fresh *fresh)
{
    struct home *h = arg;
    struct job *j = calloc(1, sizeof(*j));
    struct pin *pin = j != NULL ? add_pin(h, fresh) : NULL;
    if (pin == NULL) {
        free(j);
        atomic_fetch_add(&h->shelving->lost_bytes, intervals_total(&fresh->parts));
        intervals_clear(&fresh->parts);
        return false;
    }
    j->mail.deliver = shelf_job_write;
    j->home = h;
    j->chunk = chunk_ref(fresh->chunk);
    j->pin = pin;
    j->source = fresh->source;
    j->id = fresh->chunk->segment;
    j->parts = fresh->parts;
    loop_post(h->shelving->loop, &j->mail);
    return may_wait(h->shelving);
}

/* What does not fit waits in the store, where it may be evicted; all does while the disk cannot be written.
 */
static void hand_over(struct home *h, uint32_t least_bytes)
{
    if (atomic_load(&h->shelving->failed) && !h->stopped)
        return;
    h->behind = !may_wait(h->shelving) || !store_collect(h->host->store, least_bytes, post_job, h);
}

static void fetch_next(void *arg);

void shelving_take_job(struct mail *m)
{
    struct job *j = (struct job *)(void *)m;
    struct home *h = j->home;
    if (j->err < 0 && !h->stopped)
        store_collect_again(h->host->store, &j->id, &j->parts);
    remove_pin(h, j->pin, j->chunk);
    chunk_unref(j->chunk);
    intervals_clear(&j->parts);
    if (!h->stopped) {
        if (j->added.count > 0)
            store_cold_note(h->host->store, &j->id, j->source, &j->added);
        if (h->behind)
            hand_over(h, SHELF_PART_LEAST_BYTES);
        fetch_next(h); /* it may have waited for memory */
    }
    free(j);
}

/* ---- what the store wants ---- */

static void fetch_next(void *arg)
{
    struct home *h = arg;
    if (h->fetching || h->stopped || h->fetched >= FETCHES_A_SECOND ||
        !store_cold_next(h->host->store, &h->fetch.id))
        return;
    h->fetching = true;
    h->fetched++;
    h->fetch.mail.deliver = shelf_job_fetch;
    loop_post(h->shelving->loop, &h->fetch.mail);
}

void shelving_take_fetched(struct mail *m)
{
    struct fetch *f = (struct fetch *)(void *)m;
    struct home *h = f->home;
    bool taken =
        f->found > 0 && !h->stopped &&
        store_cold_adopt(h->host->store, f->segment.chunk, &f->segment.filled, f->segment.source) == 0;
    h->fetching = false;
    if (f->found > 0 && !taken) {
        chunk_unref(f->segment.chunk);
        intervals_clear(&f->segment.filled);
    }
    if (h->stopped)
        return;
    store_cold_end(h->host->store, &f->id, f->found == 0);
    if (taken)
        mux_segment_adopted(h->host, &f->id);
    fetch_next(h);
}

static void ask_for_samples(struct home *h)
{
    h->telling.mail.deliver = shelf_job_tell;
    loop_post(h->shelving->loop, &h->telling.mail);
}

void shelving_take_sample(struct mail *m)
{
    struct telling *t = (struct telling *)(void *)m;
    struct home *h = t->home;
    if (h->stopped || t->found <= 0)
        return;
    if (t->sample.sample.count > 0)
        store_cold_note(h->host->store, &t->sample.segment, t->sample.source, &t->sample.sample);
    ask_for_samples(h);
}

/* ---- what peers have proved ---- */

void shelving_take_restored(struct mail *m)
{
    struct proved_job *j = (struct proved_job *)(void *)m;
    if (remember_restore(j->home->host, j->peer, j->entries, j->len) < 0)
        log_warn(
            "out of memory: what a peer has got before the restart crosses once more when it comes back; "
            "give more memory in [node]");
    free(j);
}

/* The last ones are on disk before the next are on their way. */
static void hand_over_proved(struct home *h)
{
    if (h->proved_jobs > 0 && !h->stopped)
        return;
    remember_collect(h->host);
    for (struct remembered *r = h->host->remembered; r != NULL; r = r->next) {
        struct proved_job *j = r->fresh ? proved_job_new(h, r->peer, r->bytes, r->len) : NULL;
        if (j == NULL)
            continue; /* no memory: the next time */
        j->mail.deliver = shelf_job_write_proved;
        r->fresh = false;
        h->proved_jobs++;
        loop_post(h->shelving->loop, &j->mail);
    }
}

void shelving_take_proved(struct mail *m)
{
    struct proved_job *j = (struct proved_job *)(void *)m;
    j->home->proved_jobs--;
    if (remember_written(j->home->host, j->peer, j->err) && !j->logged)
        log_warn(
            "[store] path = %s: %08x.proved cannot be read or written: %s; what that peer has got crosses "
            "once more after a restart. Look at the owner and mode of it and of proved.new, or remove them, "
            "then restart",
            j->home->shelving->path, j->peer, err_text(j->err));
    free(j);
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
    struct home *h = arg;
    (void)fd;
    (void)what;
    hand_over(h, SHELF_PART_LEAST_BYTES);
    h->fetched = 0;
    fetch_next(h);
    if (remember_is_due(&h->pace, h->host))
        hand_over_proved(h);
}

/* ---- after a start ---- */

static void ask(struct home *h)
{
    for (unsigned i = 0; i < READS_AHEAD && !h->full && !h->stopped; i++) {
        struct question *q = &h->questions[i];
        if (q->asked)
            continue;
        *q = (struct question){.mail.deliver = shelf_job_answer, .home = h, .asked = true};
        loop_post(h->shelving->loop, &q->mail);
    }
}

static void log_what_came_back(struct shelving *s)
{
    struct shelf_counters c;
    shelving_read_counters(s, &c);
    if (c.bad_files + c.bad_records > 0)
        log_warn("[store] path = %s: %llu files and %llu parts of files were damaged, cut short or not of "
                 "this node and version; they are dropped, what was in them crosses the link once more",
                 s->path, (unsigned long long)c.bad_files, (unsigned long long)c.bad_records);
    if (c.segments == 0)
        log_info("the store is back: %s is empty, and is filled from now on", s->path);
    else
        log_info("the store is back: %llu MB were read from %s, which has %llu files of %llu MB",
                 (unsigned long long)c.read_bytes >> 20, s->path, (unsigned long long)c.segments,
                 (unsigned long long)c.bytes >> 20);
}

static void adopt(struct home *h, struct shelf_segment *segment)
{
    struct segment_id id = segment->chunk->segment;
    int err = store_adopt(h->host->store, segment->chunk, &segment->filled, segment->source);
    if (err == 0) {
        mux_segment_adopted(h->host, &id);
        return;
    }
    h->full = h->full || err == -ENOBUFS;
    chunk_unref(segment->chunk);
    intervals_clear(&segment->filled);
}

void shelving_take_answer(struct mail *m)
{
    struct question *q = (struct question *)(void *)m;
    struct home *h = q->home;
    bool was_full = h->full;
    q->asked = false;
    if (q->found > 0 && h->stopped) {
        chunk_unref(q->segment.chunk);
        intervals_clear(&q->segment.filled);
    } else if (q->found > 0) {
        adopt(h, &q->segment);
    } else {
        h->full = true;
    }
    if (h->stopped)
        return;
    ask(h);
    if (!h->full || was_full)
        return;
    ask_for_samples(h); /* of what did not fit */
    if (atomic_fetch_sub(&h->shelving->reading, 1) == 1)
        log_what_came_back(h->shelving);
}

/* A home may ask from now on. */
void shelving_start_asking(struct mail *m)
{
    static const struct timeval second = {1, 0};
    struct home *h = (struct home *)(void *)((char *)m - offsetof(struct home, start));
    if (h->stopped)
        return;
    int err = store_cold_begin(h->host->store, h->shelving->size_bytes, fetch_next, h);
    if (err < 0)
        log_warn(
            "[store] path = %s: what does not fit into memory is not looked for there: %s; give more memory "
            "in [node]",
            h->shelving->path, err_text(err));
    event_assign(&h->second, loop_base(h->host->loop), -1, EV_PERSIST, on_second, h);
    event_add(&h->second, &second);
    ask(h);
}

/* ---- life ---- */

int shelving_new(struct shelving **out, const char *path, uint64_t size_bytes, uint64_t waiting_most,
                 uint64_t seed, const uint8_t pin[static SHELF_PIN_BYTES])
{
    struct shelving *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    pthread_mutex_init(&s->lock, NULL);
    s->size_bytes = size_bytes;
    s->waiting_most = waiting_most;
    s->seed = seed;
    memcpy(s->pin, pin, SHELF_PIN_BYTES);
    s->path = strdup(path);
    int err = s->path == NULL ? -ENOMEM : loop_new(&s->loop);
    if (err == 0)
        err = -pthread_create(&s->thread, NULL, shelf_job_run, s);
    if (err == 0) {
        *out = s;
        return 0;
    }
    loop_free(s->loop);
    s->loop = NULL;
    shelving_free(s);
    return err;
}

int shelving_add_home(struct shelving *s, struct leg_host *host)
{
    struct home *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return -ENOMEM;
    assert(s->home_count < CONFIG_WORKERS_MAX);
    *h = (struct home){
        .shelving = s, .host = host, .number = s->home_count, .telling.home = h, .fetch.home = h};
    s->homes[s->home_count++] = h;
    host->remembers = true;
    return 0;
}

int shelving_set_home(struct shelving *s, uint32_t source, const struct leg_host *host)
{
    for (uint32_t i = 0; i < s->home_count; i++) {
        if (s->homes[i]->host == host)
            return map_put(&s->by_source, source, s->homes[i]);
    }
    return 0;
}

void shelving_begin(struct shelving *s)
{
    atomic_store(&s->reading, s->home_count);
    s->begin.deliver = shelf_job_open;
    loop_post(s->loop, &s->begin);
}

void shelving_stop(struct shelving *s)
{
    if (s == NULL || s->loop == NULL)
        return;
    atomic_store(&s->stopping, true);
    s->end.deliver = shelf_job_end;
    loop_post(s->loop, &s->end);
    for (uint32_t i = 0; i < s->home_count; i++) {
        struct home *h = s->homes[i];
        h->stopped = true;
        if (event_initialized(&h->second))
            event_del(&h->second);
        hand_over(h, LAST_PART_LEAST_BYTES);
        hand_over_proved(h);
    }
    loop_stop(s->loop);
    pthread_join(s->thread, NULL);
    if (event_initialized(&s->second))
        event_del(&s->second);
    loop_free(s->loop);
    s->loop = NULL;
    shelf_close(s->shelf);
    s->shelf = NULL;
}

void shelving_free(struct shelving *s)
{
    if (s == NULL)
        return;
    shelving_stop(s);
    for (uint32_t i = 0; i < s->home_count; i++) {
        map_clear(&s->homes[i]->pins);
        free(s->homes[i]);
    }
    map_clear(&s->by_source);
    pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s);
}

void shelving_read_counters(struct shelving *s, struct shelf_counters *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->counters;
    pthread_mutex_unlock(&s->lock);
    out->skipped_bytes += atomic_load(&s->lost_bytes);
}
