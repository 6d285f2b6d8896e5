#include "hawser/shelving.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/clock.h"
#include "hawser/config.h"
#include "hawser/err.h"
#include "hawser/log.h"
#include "hawser/map.h"
#include "hawser/mux.h"
#include "hawser/remember.h"
#include "hawser/store.h"

/* Everything crosses by mail, there and back: parts to write, which bring back what the file's sample gained;
 * the questions of a start; then samples of files that were not read; and segments that the store wants from
 * disk, one at a time. A home has at most READS_AHEAD questions under way, so the thread reads one segment
 * while the home indexes another, and what was read never piles up.
 *
 * A segment that waits to be written cannot be evicted, so what waits is counted by the memory of segments:
 * each once, however many mails speak of it. */

enum {
    READS_AHEAD = 2,
    FETCHES_A_SECOND = 16,     /* segments that may come back for a hit: 256 MB, and 5 % of the home's time */
    JOB_COST_BYTES = 64 << 10, /* of a mail and its lists, at most */
    LAST_PART_LEAST_BYTES = 256, /* at the end nothing is waited for */
    TRY_AGAIN_US = 30000000,     /* a disk that could not be written */
};

/* After a start: the next segment. */
struct question {
    struct mail mail; /* first */
    struct home *home;
    bool asked;
    int found; /* of shelf_read */
    struct shelf_segment segment;
};

/* A sample on its way. */
struct telling {
    struct mail mail; /* first */
    struct home *home;
    int found; /* of shelf_next_sample */
    struct shelf_sample sample;
};

/* A segment that the store wants. */
struct fetch {
    struct mail mail; /* first */
    struct home *home;
    struct segment_id id;
    int found; /* of shelf_fetch */
    struct shelf_segment segment;
};

struct home {
    struct shelving *shelving;
    struct leg_host *host;
    uint32_t number;
    struct event second;
    struct mail start;
    struct question questions[READS_AHEAD];
    bool full; /* nothing more fits, or nothing more is there */
    bool stopped;
    bool behind;     /* the disk is: more could be handed over */
    struct map pins; /* by chunk: segments that wait to be written */
    struct telling telling;
    struct fetch fetch;
    bool fetching;
    unsigned fetched; /* in this second */
    struct remember_pace pace;
    unsigned proved_jobs;
};

struct shelving {
    char *path;
    uint64_t size_bytes, waiting_most, seed;
    uint8_t pin[SHELF_PIN_BYTES];
    struct loop *loop;
    pthread_t thread;
    struct home *homes[CONFIG_WORKERS_MAX];
    uint32_t home_count;
    struct map by_source;
    _Atomic uint64_t waiting_bytes;
    _Atomic uint64_t lost_bytes; /* there was no memory to hand them over */
    _Atomic uint32_t reading;    /* homes that are not full yet */
    _Atomic bool stopping;
    struct mail begin;

    struct shelf *shelf; /* the thread's; NULL: memory only */
    bool failed;         /* the thread's */
    uint64_t tried_us;   /* the thread's: when it failed, or was last tried again */

    pthread_mutex_t lock;
    struct shelf_counters counters;
};

/* ---- on the thread ---- */

static void publish(struct shelving *s)
{
    struct shelf_counters now;
    shelf_read_counters(s->shelf, &now);
    pthread_mutex_lock(&s->lock);
    s->counters = now;
    pthread_mutex_unlock(&s->lock);
}

static void set_error(struct shelving *s, int err)
{
    s->failed = true;
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
    set_error(s, err);
    s->tried_us = clock_now_us();
    log_error(
        "[store] path = %s: cannot write%s: %s; what is new is in memory only, and cold after a restart. "
        "Mend that, or name another folder and restart; it is tried again each %d s",
        s->path, err == -ENOSPC || err == -EDQUOT ? ", the disk is full" : "", err_text(err),
        TRY_AGAIN_US / 1000000);
}

/* A segment that waits to be written, by one job or several. */
struct pin {
    unsigned jobs;
    uint64_t bytes;
};

struct job {
    struct mail mail; /* first */
    struct home *home;
    struct chunk *chunk;
    struct pin *pin;
    uint32_t source;
    struct segment_id id;
    struct intervals parts;
    struct sample added;
};

static void take_job(struct mail *m);

static void append(struct shelving *s, struct job *j)
{
    if (s->failed && clock_now_us() - s->tried_us >= TRY_AGAIN_US) {
        shelf_try_again(s->shelf);
        s->tried_us = clock_now_us();
    }
    int err = shelf_append(s->shelf, j->home->number, j->source, j->chunk, &j->parts, &j->added);
    publish(s);
    if (err < 0 && !s->failed)
        cannot_write(s, err);
    if (err < 0 || !s->failed)
        return;
    s->failed = false;
    log_info("[store] path = %s: it can be written again", s->path);
}

static void write_job(struct mail *m)
{
    struct job *j = (struct job *)(void *)m;
    struct shelving *s = j->home->shelving;
    if (s->shelf != NULL)
        append(s, j);
    j->mail.deliver = take_job;
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

static void take_answer(struct mail *m);

static void answer(struct mail *m)
{
    struct question *q = (struct question *)(void *)m;
    struct home *h = q->home;
    struct shelving *s = h->shelving;
    if (s->shelf != NULL && !atomic_load(&s->stopping)) {
        q->found = shelf_read(s->shelf, is_for, h, &q->segment);
        publish(s);
    }
    q->mail.deliver = take_answer;
    loop_post(h->host->loop, &q->mail);
}

static void take_sample(struct mail *m);

static void tell(struct mail *m)
{
    struct telling *t = (struct telling *)(void *)m;
    struct shelving *s = t->home->shelving;
    t->found = 0;
    if (!atomic_load(&s->stopping))
        t->found = shelf_next_sample(s->shelf, is_for, t->home, &t->sample);
    t->mail.deliver = take_sample;
    loop_post(t->home->host->loop, &t->mail);
}

static void take_fetched(struct mail *m);

static void read_back(struct mail *m)
{
    struct fetch *f = (struct fetch *)(void *)m;
    struct shelving *s = f->home->shelving;
    f->found = -ECANCELED;
    if (!atomic_load(&s->stopping)) {
        f->found = shelf_fetch(s->shelf, &f->id, &f->segment);
        publish(s);
    }
    f->mail.deliver = take_fetched;
    loop_post(f->home->host->loop, &f->mail);
}

/* What a peer has proved, on its way to disk or back. */
struct proved_job {
    struct mail mail; /* first */
    struct home *home;
    uint32_t peer, len;
    int err;     /* of shelf_write_proved */
    bool logged; /* what to do about it */
    uint8_t entries[];
};

static struct proved_job *proved_job_new(struct home *h, uint32_t peer, const uint8_t *entries, size_t len)
{
    struct proved_job *j = malloc(sizeof(*j) + len);
    if (j == NULL)
        return NULL;
    *j = (struct proved_job){.home = h, .peer = peer, .len = (uint32_t)len};
    memcpy(j->entries, entries, len);
    return j;
}

static void take_proved_job(struct mail *m);

static void write_proved(struct mail *m)
{
    struct proved_job *j = (struct proved_job *)(void *)m;
    struct shelving *s = j->home->shelving;
    j->err = s->shelf != NULL ? shelf_write_proved(s->shelf, j->peer, j->entries, j->len) : 0;
    struct shelf_counters c = {0};
    if (j->err < 0 && !s->failed)
        shelf_read_counters(s->shelf, &c);
    if (c.error < 0) /* the whole disk's */
        cannot_write(s, c.error);
    j->logged = s->failed;
    j->mail.deliver = take_proved_job;
    loop_post(j->home->host->loop, &j->mail);
}

static void take_restored(struct mail *m);

/* A peer that is no longer configured has no home. */
static int hand_out_proved(void *arg, uint32_t peer, const uint8_t *entries, size_t len)
{
    struct shelving *s = arg;
    struct home *h = map_get(&s->by_source, peer);
    struct proved_job *j = h != NULL ? proved_job_new(h, peer, entries, len) : NULL;
    if (j == NULL)
        return h != NULL ? -ENOMEM : 0;
    j->mail.deliver = take_restored;
    loop_post(h->host->loop, &j->mail);
    return 1;
}

static void *run(void *arg)
{
    struct shelving *s = arg;
    pthread_setname_np(pthread_self(), "hawserd/shelf");
    loop_run(s->loop);
    chunk_thread_end();
    return NULL;
}

/* ---- at home ---- */

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
    j->mail.deliver = write_job;
    j->home = h;
    j->chunk = chunk_ref(fresh->chunk);
    j->pin = pin;
    j->source = fresh->source;
    j->id = fresh->chunk->segment;
    j->parts = fresh->parts;
    loop_post(h->shelving->loop, &j->mail);
    return may_wait(h->shelving);
}

/* What does not fit waits in the store, where it may be evicted. */
static void hand_over(struct home *h, uint32_t least_bytes)
{
    h->behind = !may_wait(h->shelving) || !store_collect(h->host->store, least_bytes, post_job, h);
}

static void fetch_next(void *arg);

static void take_job(struct mail *m)
{
    struct job *j = (struct job *)(void *)m;
    struct home *h = j->home;
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
    h->fetch.mail.deliver = read_back;
    loop_post(h->shelving->loop, &h->fetch.mail);
}

static void take_fetched(struct mail *m)
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
    h->telling.mail.deliver = tell;
    loop_post(h->shelving->loop, &h->telling.mail);
}

static void take_sample(struct mail *m)
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

static void take_restored(struct mail *m)
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
        j->mail.deliver = write_proved;
        r->fresh = false;
        h->proved_jobs++;
        loop_post(h->shelving->loop, &j->mail);
    }
}

static void take_proved_job(struct mail *m)
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
        *q = (struct question){.mail.deliver = answer, .home = h, .asked = true};
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

static void take_answer(struct mail *m)
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
static void start_asking(struct mail *m)
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

static void open_shelf(struct mail *m)
{
    struct shelving *s = (struct shelving *)(void *)((char *)m - offsetof(struct shelving, begin));
    int err = shelf_open(&s->shelf, s->path, s->size_bytes, s->seed, s->pin);
    if (err < 0) {
        cannot_open(s, err);
        return;
    }
    shelf_read_proved(s->shelf, hand_out_proved, s);
    publish(s);
    if (s->counters.unreadable_files > 0)
        log_warn(
            "[store] path = %s: %llu files could not be opened, read or removed, and are left alone; look at "
            "their owners and modes, or remove them",
            s->path, (unsigned long long)s->counters.unreadable_files);
    for (uint32_t i = 0; i < s->home_count; i++) {
        s->homes[i]->start.deliver = start_asking;
        loop_post(s->homes[i]->host->loop, &s->homes[i]->start);
    }
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
        err = -pthread_create(&s->thread, NULL, run, s);
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
    s->begin.deliver = open_shelf;
    loop_post(s->loop, &s->begin);
}

void shelving_stop(struct shelving *s)
{
    if (s == NULL || s->loop == NULL)
        return;
    atomic_store(&s->stopping, true);
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
