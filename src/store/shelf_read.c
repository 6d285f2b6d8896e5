#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "shelf_internal.h"

/* A chunk with nearly all of its bytes filled is worth huge pages. */
enum { NEARLY_FULL_BYTES = SHELF_SEGMENT_BYTES / 16 * 15 };

/* Where a scan is. */
struct scan {
    uint64_t at;   /* offset in the file of the window's first byte */
    size_t filled; /* bytes in the window */
    int sound;
};

static void count_bad_record(struct shelf *s, const struct shelf_file *f)
{
    s->counters.bad_records++;
    s->counters.bad_serial = f->serial;
}

/* All whole records of the window; false: no more can be found. */
static bool scan_window(struct shelf *s, struct scan *scan, struct shelf_file *f,
                        int (*visit)(void *arg, const struct shelf_record *r), void *arg, int *err)
{
    size_t at = 0;
    enum shelf_found found;
    struct shelf_record r;
    do {
        found = shelf_next(s->window, scan->filled, &at, f->key, &r);
        if (found == SHELF_RECORD) {
            scan->sound++;
            shelf_note(f, r.off, r.off + r.len);
            *err = visit != NULL ? visit(arg, &r) : 0;
        }
        if (found == SHELF_CHANGED || found == SHELF_BROKEN)
            count_bad_record(s, f);
    } while (*err == 0 && (found == SHELF_RECORD || found == SHELF_CHANGED));
    scan->at += at;
    scan->filled -= at;
    memmove(s->window, s->window + at, scan->filled);
    return found == SHELF_MORE;
}

/* What follows goes, so that more can be appended; where the file can only be read it stays as it is. */
static void cut(struct shelf *s, struct shelf_file *f, uint64_t at)
{
    int fd = at < f->bytes ? shelf_open_file(s, f, O_WRONLY) : -1;
    f->sound = at >= f->bytes || (fd >= 0 && ftruncate(fd, (off_t)at) == 0);
    if (f->sound)
        shelf_set_bytes(s, f, at);
    if (fd >= 0)
        close(fd);
}

int shelf_scan(struct shelf *s, int fd, struct shelf_file *f,
               int (*visit)(void *arg, const struct shelf_record *r), void *arg)
{
    struct scan scan = {.at = SHELF_LOG_AT};
    int err = 0;
    ssize_t n = 1;
    intervals_clear(&f->noted);
    bool more = true;
    while (more && n > 0 && err == 0) {
        n = pread(fd, s->window + scan.filled, SHELF_WINDOW_BYTES - scan.filled,
                  (off_t)(scan.at + scan.filled));
        if (n < 0)
            return -errno;
        scan.filled += (size_t)n;
        more = scan_window(s, &scan, f, visit, arg, &err);
    }
    if (err < 0)
        return err;
    if (more && (scan.filled > 0 || scan.at < f->bytes))
        count_bad_record(s, f); /* cut short */
    cut(s, f, scan.at);
    return scan.sound;
}

static int copy_record(void *arg, const struct shelf_record *r)
{
    struct shelf_segment *out = arg;
    int err = intervals_add(&out->filled, r->off, r->off + r->len);
    if (err == 0)
        memcpy(out->chunk->bytes + r->off, r->bytes, r->len);
    return err;
}

/* Nothing came of it: it is gone, or there is nothing sound in it and it is removed, or it cannot be read
 * now. */
static void give_up(struct shelf *s, struct shelf_file *f, int err)
{
    bool cannot = err < 0 && err != -ENOENT && err != -EIO && err != -ELOOP;
    s->counters.gone_files += err == -ENOENT;
    s->counters.unreadable_files += cannot && !f->was_left;
    f->was_left |= cannot;
    if (cannot)
        return;
    if (err != -ENOENT) {
        s->counters.bad_files++;
        s->counters.bad_serial = f->serial;
    }
    err = shelf_remove(s, f);
    (void)err; /* it stays in the list then, as one that was read */
}

/* 1, 0 (nothing came of it), or -ENOMEM. */
static int read_file(struct shelf *s, struct shelf_file *f, struct shelf_segment *out)
{
    *out = (struct shelf_segment){.chunk = chunk_new_mapped(SHELF_SEGMENT_BYTES), .source = f->label.source};
    if (out->chunk == NULL)
        return -ENOMEM;
    chunk_ask_huge(out->chunk, f->bytes >= NEARLY_FULL_BYTES);
    out->chunk->segment = f->label.segment;
    int fd = shelf_open_file(s, f, O_RDONLY);
    int sound = fd < 0 ? fd : shelf_scan(s, fd, f, copy_record, out);
    if (fd >= 0)
        close(fd);
    if (sound > 0) {
        s->counters.read_bytes += intervals_total(&out->filled);
        return 1;
    }
    chunk_unref(out->chunk);
    intervals_clear(&out->filled);
    if (shelf_is_passing(sound))
        return -ENOMEM;
    give_up(s, f, sound);
    return 0;
}

void shelf_drop_unwanted(struct shelf *s, bool (*wants)(void *arg, uint32_t source, uint32_t home), void *arg)
{
    struct shelf_file *f;
    TAILQ_FOREACH (f, &s->by_age, by_age) {
        if (wants(arg, f->label.source, f->label.home))
            continue;
        if (f->unread)
            TAILQ_REMOVE(&s->by_reading, f, by_reading);
        if (f->untold)
            TAILQ_REMOVE(&s->by_telling, f, by_telling);
        f->unread = f->untold = false;
    }
}

int shelf_read(struct shelf *s, bool (*wants)(void *arg, uint32_t source, uint32_t home), void *arg,
               struct shelf_segment *out)
{
    struct shelf_file *f = TAILQ_FIRST(&s->by_reading), *next;
    for (int found = 0; f != NULL; f = next) {
        next = TAILQ_NEXT(f, by_reading);
        if (!wants(arg, f->label.source, f->label.home))
            continue;
        TAILQ_REMOVE(&s->by_reading, f, by_reading);
        f->unread = false;
        found = read_file(s, f, out);
        if (found != 0)
            return found;
    }
    return 0;
}

int shelf_fetch(struct shelf *s, const struct segment_id *id, struct shelf_segment *out)
{
    struct shelf_file *f = shelf_find(s, id);
    if (f == NULL)
        return 0;
    if (f->unread)
        TAILQ_REMOVE(&s->by_reading, f, by_reading);
    f->unread = false;
    TAILQ_REMOVE(&s->by_age, f, by_age);
    TAILQ_INSERT_TAIL(&s->by_age, f, by_age);
    int found = read_file(s, f, out);
    s->counters.fetched += found > 0;
    return found;
}
