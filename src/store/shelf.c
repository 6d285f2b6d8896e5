/* shelf.c - the catalogue of the folder, appending, and making room.
 *
 * A file of an earlier run is `sound` up to a length that only reading it tells, so it is read through before
 * anything is appended to it; otherwise new records would lie behind a torn one, where nobody finds them. */
#include "hawser/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shelf_internal.h"

enum {
    BLOCK_BYTES = 4096,
    FILE_SHARE_BYTES = 256 << 10,
    RECORDS_AT_ONCE = 32,
    SERIAL_DIGITS = 16,
    PROBE_BYTES = SHELF_RECORD_MOST
};

static uint64_t on_disk(uint64_t bytes)
{
    return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

void shelf_name(char name[static SHELF_NAME_BYTES], uint64_t serial)
{
    snprintf(name, SHELF_NAME_BYTES, "%016llx.segment", (unsigned long long)serial);
}

/* A matter of this segment, or of this moment. */
bool shelf_is_passing(int err)
{
    return err == -EEXIST || err == -ENOMEM || err == -ENOBUFS || err == -EMFILE || err == -ENFILE;
}

bool shelf_is_of_disk(int err)
{
    return err == -ENOSPC || err == -EDQUOT || err == -EIO || err == -EROFS || err == -ENOENT;
}

/* ---- the catalogue ---- */

static uint64_t key_of(const struct shelf *s, const struct segment_id *id)
{
    return segment_id_hash(id, s->salt);
}

struct shelf_file *shelf_find(const struct shelf *s, const struct segment_id *id)
{
    struct shelf_file *f = map_get(&s->by_segment, key_of(s, id));
    return f != NULL && segment_id_equal(&f->label.segment, id) ? f : NULL;
}

void shelf_set_bytes(struct shelf *s, struct shelf_file *f, uint64_t bytes)
{
    s->counters.bytes += on_disk(bytes) - on_disk(f->bytes);
    f->bytes = bytes;
}

void shelf_note(struct shelf_file *f, uint32_t from, uint32_t to)
{
    if (f->noted.count >= SHELF_NOTED_MOST || intervals_add(&f->noted, from, to) < 0)
        return; /* it may be written twice */
}

static void forget(struct shelf *s, struct shelf_file *f)
{
    shelf_set_bytes(s, f, 0);
    s->counters.segments--;
    TAILQ_REMOVE(&s->by_age, f, by_age);
    if (f->unread)
        TAILQ_REMOVE(&s->by_reading, f, by_reading);
    if (f->untold)
        TAILQ_REMOVE(&s->by_telling, f, by_telling);
    map_remove(&s->by_segment, key_of(s, &f->label.segment));
    intervals_clear(&f->noted);
    free(f);
}

int shelf_remove(struct shelf *s, struct shelf_file *f)
{
    char name[SHELF_NAME_BYTES];
    shelf_name(name, f->serial);
    int err = unlinkat(s->folder, name, 0) < 0 && errno != ENOENT ? -errno : 0;
    if (err == 0)
        forget(s, f);
    return err;
}

/* Named and counted, with nothing in it yet; NULL: no memory, or another segment has its key. */
static struct shelf_file *enter(struct shelf *s, const struct shelf_label *label, uint64_t serial)
{
    uint64_t key = key_of(s, &label->segment);
    struct shelf_file *f = map_get(&s->by_segment, key) == NULL ? calloc(1, sizeof(*f)) : NULL;
    if (f == NULL || map_put(&s->by_segment, key, f) < 0) {
        free(f);
        return NULL;
    }
    f->label = *label;
    f->serial = serial;
    TAILQ_INSERT_TAIL(&s->by_age, f, by_age);
    s->counters.segments++;
    return f;
}

/* ---- opening ---- */

static bool serial_of(const char *name, uint64_t *serial)
{
    char again[SHELF_NAME_BYTES], *end;
    if (strlen(name) != SHELF_NAME_BYTES - 1)
        return false;
    *serial = strtoull(name, &end, 16);
    shelf_name(again, *serial);
    return end == name + SERIAL_DIGITS && strcmp(name, again) == 0;
}

static int by_serial(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

struct serials {
    uint64_t *list;
    size_t count, cap;
};

static int add_serial(struct serials *s, uint64_t serial)
{
    if (s->count == s->cap) {
        size_t cap = s->cap == 0 ? 256 : 2 * s->cap;
        uint64_t *list = realloc(s->list, cap * sizeof(*list));
        if (list == NULL)
            return -ENOMEM;
        s->list = list;
        s->cap = cap;
    }
    s->list[s->count++] = serial;
    return 0;
}

/* Serials of the files, ascending. */
static int list_files(int folder, struct serials *out)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int err = dir == NULL ? -errno : 0;
    if (dir == NULL && fd >= 0)
        close(fd);
    const struct dirent *entry;
    uint64_t serial;
    while (err == 0 && (entry = readdir(dir)) != NULL) {
        if (serial_of(entry->d_name, &serial))
            err = add_serial(out, serial);
    }
    if (dir != NULL)
        closedir(dir);
    if (err == 0 && out->count > 1)
        qsort(out->list, out->count, sizeof(*out->list), by_serial);
    return err;
}

/* The header of a file: 0, -EBADMSG (not ours, or no file at all), -errno. */
static int look_at(struct shelf *s, uint64_t serial, struct shelf_label *label, uint64_t *key,
                   uint64_t *bytes)
{
    char name[SHELF_NAME_BYTES];
    uint8_t header[SHELF_HEADER_BYTES];
    struct stat is;
    shelf_name(name, serial);
    int fd = openat(s->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), err = 0;
    if (fd < 0 || fstat(fd, &is) < 0)
        err = errno == ELOOP ? -EBADMSG : -errno;
    else if (!S_ISREG(is.st_mode) || pread(fd, header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
             !shelf_get_header(header, label, key) || memcmp(label->pin, s->pin, SHELF_PIN_BYTES) != 0 ||
             is.st_size > SHELF_FILE_MOST_BYTES) /* no file of ours, and no room is made for it */
        err = -EBADMSG;
    else
        *bytes = (uint64_t)is.st_size;
    if (fd >= 0)
        close(fd);
    return err;
}

/* Of two files of one segment the newer one counts. */
static int take_file(struct shelf *s, uint64_t serial)
{
    struct shelf_label label;
    uint64_t key, bytes = 0;
    char name[SHELF_NAME_BYTES];
    int err = look_at(s, serial, &label, &key, &bytes);
    if (err == -EBADMSG || err == -EIO) {
        s->counters.bad_files++;
        shelf_name(name, serial);
        return unlinkat(s->folder, name, 0) < 0 && errno != EISDIR ? -errno : 0;
    }
    if (err < 0)
        return err == -ENOENT ? 0 : err;
    struct shelf_file *old = map_get(&s->by_segment, key_of(s, &label.segment));
    if (old != NULL && (err = shelf_remove(s, old)) < 0)
        return err;
    struct shelf_file *f = enter(s, &label, serial);
    if (f == NULL)
        return -ENOMEM;
    f->key = key;
    f->unread = f->untold = true;
    TAILQ_INSERT_HEAD(&s->by_reading, f, by_reading);
    TAILQ_INSERT_TAIL(&s->by_telling, f, by_telling);
    shelf_set_bytes(s, f, bytes);
    return 0;
}

static uint64_t files_most(const struct shelf *s)
{
    return s->size_bytes / FILE_SHARE_BYTES;
}

/* It cannot be removed (it may be immutable): it keeps its room, and the next one goes. */
static void leave(struct shelf *s, struct shelf_file *f, int err)
{
    s->counters.unreadable_files += !f->was_left;
    f->is_left = f->was_left = true;
    s->left_err = err;
}

static struct shelf_file *oldest_but(const struct shelf *s, const struct shelf_file *keep)
{
    struct shelf_file *f = TAILQ_FIRST(&s->by_age);
    while (f != NULL && (f == keep || f->is_left))
        f = TAILQ_NEXT(f, by_age);
    return f;
}

/* Room for more_bytes and more_files; `keep` stays. 0, -errno when what is left cannot be removed, -ENOBUFS
 * when nothing is left. */
static int make_room(struct shelf *s, uint64_t more_bytes, unsigned more_files, const struct shelf_file *keep)
{
    while (more_bytes > s->size_bytes || s->counters.bytes > s->size_bytes - more_bytes ||
           s->counters.segments + more_files > files_most(s)) {
        struct shelf_file *oldest = oldest_but(s, keep);
        if (oldest == NULL)
            return s->left_err < 0 ? s->left_err : -ENOBUFS;
        int err = shelf_remove(s, oldest);
        if (shelf_is_of_disk(err))
            return err;
        if (err < 0)
            leave(s, oldest, err);
        s->counters.removed_files += err == 0;
    }
    return 0;
}

static int take_folder(struct shelf *s)
{
    struct serials found = {0};
    int err = list_files(s->folder, &found);
    for (size_t i = 0; err == 0 && i < found.count; i++) {
        int one = take_file(s, found.list[i]);
        if (shelf_is_passing(one))
            err = one; /* the others would go the same way */
        else if (one < 0)
            s->counters.unreadable_files++;
    }
    uint64_t next = found.count > 0 ? found.list[found.count - 1] + 1 : 1;
    s->next_serial = next > s->next_serial ? next : s->next_serial;
    free(found.list);
    if (err == 0 && make_room(s, 0, 0, NULL) < 0)
        return 0; /* what is there can be read */
    return err;
}

/* A descriptor of it that nobody else has, or -errno. */
static int open_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    err = -errno;
    if (fd >= 0)
        close(fd);
    return err;
}

/* Whether the folder takes what is new. */
static int probe(struct shelf *s)
{
    struct iovec zeros[2] = {{s->window, PROBE_BYTES}, {NULL, 0}};
    int err = make_room(s, PROBE_BYTES, 0, NULL);
    if (err < 0)
        return err;
    memset(s->window, 0, PROBE_BYTES);
    err = shelf_write_file(s, "probe.new", zeros);
    if (err == 0 && unlinkat(s->folder, "probe.new", 0) < 0)
        err = -errno;
    return err;
}

int shelf_open(struct shelf **out, const char *path, uint64_t size_bytes, uint64_t seed,
               const uint8_t pin[static SHELF_PIN_BYTES])
{
    struct shelf *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    TAILQ_INIT(&s->by_age);
    TAILQ_INIT(&s->by_reading);
    TAILQ_INIT(&s->by_telling);
    sampler_init(&s->sampler, seed);
    s->size_bytes = size_bytes;
    memcpy(s->pin, pin, SHELF_PIN_BYTES);
    s->folder = open_folder(path);
    int err = s->folder < 0 ? s->folder : 0;
    s->path = strdup(path);
    s->window = malloc(SHELF_WINDOW_BYTES);
    if (err == 0 && (s->path == NULL || s->window == NULL))
        err = -ENOMEM;
    if (err == 0 && getrandom(&s->salt, sizeof(s->salt), 0) != (ssize_t)sizeof(s->salt))
        err = -EIO;
    if (err == 0)
        err = take_folder(s);
    if (err < 0) {
        shelf_close(s);
        return err;
    }
    int cannot = probe(s);
    s->counters.error = shelf_is_passing(cannot) ? 0 : cannot;
    *out = s;
    return 0;
}

void shelf_close(struct shelf *s)
{
    if (s == NULL)
        return;
    while (!TAILQ_EMPTY(&s->by_age))
        forget(s, TAILQ_FIRST(&s->by_age));
    if (s->folder >= 0)
        close(s->folder);
    map_clear(&s->by_segment);
    free(s->window);
    free(s->path);
    free(s);
}

/* ---- appending ---- */

/* A batch of records, and where they go. */
struct batch {
    struct iovec iov[1 + 2 * RECORDS_AT_ONCE];
    uint8_t heads[RECORDS_AT_ONCE][SHELF_HEAD_BYTES];
    uint8_t head[SHELF_LOG_AT]; /* of the file */
    unsigned records;
    int count;
    uint64_t bytes, segment_bytes;
};

static void batch_put(struct batch *b, const void *bytes, size_t len)
{
    b->iov[b->count].iov_base = (void *)(uintptr_t)bytes;
    b->iov[b->count].iov_len = len;
    b->count++;
    b->bytes += len;
}

/* All of it, or a negative error and the file as long as it was. */
static int batch_write(struct shelf *s, int fd, struct shelf_file *f, struct batch *b)
{
    struct iovec *iov = b->iov;
    uint64_t at = f->bytes, end = at + b->bytes;
    while (at < end) {
        ssize_t n = pwritev(fd, iov, b->count, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int err = n < 0 ? -errno : -EIO, cut = ftruncate(fd, (off_t)f->bytes);
            (void)cut; /* half a record at the end is found out by its sum as well */
            return err;
        }
        at += (uint64_t)n;
        for (size_t left = (size_t)n; left > 0;) {
            size_t part = left < iov->iov_len ? left : iov->iov_len;
            iov->iov_base = (uint8_t *)iov->iov_base + part;
            iov->iov_len -= part;
            left -= part;
            if (iov->iov_len == 0) {
                iov++;
                b->count--;
            }
        }
    }
    shelf_set_bytes(s, f, end);
    s->counters.written_bytes += b->segment_bytes;
    b->records = 0;
    b->count = 0;
    b->bytes = b->segment_bytes = 0;
    return 0;
}

/* Where what is not in the file yet begins, from `at` on; its end into *to. At most `end`. */
static uint32_t next_new(const struct shelf_file *f, uint32_t at, uint32_t end, uint32_t *to)
{
    at = intervals_end_of(&f->noted, at);
    *to = intervals_next_from(&f->noted, at);
    *to = *to < end ? *to : end;
    *to = *to - at < SHELF_RECORD_MOST || at >= end ? *to : at + SHELF_RECORD_MOST;
    return at < end ? at : end;
}

static int write_part(struct shelf *s, int fd, struct shelf_file *f, struct batch *b,
                      const struct chunk *chunk, struct interval part)
{
    int err = 0;
    for (uint32_t to, at = part.from; err == 0 && (at = next_new(f, at, part.to, &to)) < part.to; at = to) {
        shelf_put_head(b->heads[b->records], f->key, at, chunk->bytes + at, to - at);
        batch_put(b, b->heads[b->records], SHELF_HEAD_BYTES);
        batch_put(b, chunk->bytes + at, to - at);
        b->segment_bytes += to - at;
        if (++b->records == RECORDS_AT_ONCE)
            err = batch_write(s, fd, f, b);
    }
    return err;
}

static int write_parts(struct shelf *s, int fd, struct shelf_file *f, const struct chunk *chunk,
                       const struct intervals *parts, struct sample *added)
{
    struct batch b = {0};
    int err = 0;
    if (f->bytes == 0) {
        static const struct sample none;
        f->key = shelf_put_header(b.head, &f->label);
        shelf_put_sample(b.head + SHELF_HEADER_BYTES, f->key, s->sampler.seed, &none);
        batch_put(&b, b.head, sizeof(b.head));
    }
    for (uint32_t i = 0; i < parts->count && err == 0; i++)
        err = write_part(s, fd, f, &b, chunk, parts->list[i]);
    if (err == 0 && b.count > 0)
        err = batch_write(s, fd, f, &b);
    if (err == 0)
        err = shelf_note_sample(s, fd, f, chunk, parts, added);
    for (uint32_t i = 0; i < parts->count && err == 0; i++)
        shelf_note(f, parts->list[i].from, parts->list[i].to);
    return err;
}

/* Bytes of the parts that are in the file already. */
static uint64_t known_of(const struct shelf_file *f, const struct intervals *parts)
{
    uint64_t known = 0;
    for (uint32_t i = 0; i < parts->count; i++) {
        struct interval part = parts->list[i];
        uint32_t at = part.from;
        while ((at = intervals_next_from(&f->noted, at)) < part.to) {
            uint32_t to = intervals_end_of(&f->noted, at);
            to = to < part.to ? to : part.to;
            known += to - at;
            at = to;
        }
    }
    return known;
}

/* Most that the parts take in a file. */
static uint64_t cost_of(const struct intervals *parts)
{
    uint64_t cost = 0;
    for (uint32_t i = 0; i < parts->count; i++) {
        uint32_t len = parts->list[i].to - parts->list[i].from;
        cost += len + (uint64_t)(len / SHELF_RECORD_MOST + 1) * SHELF_HEAD_BYTES;
    }
    return cost;
}

int shelf_open_file(const struct shelf *s, const struct shelf_file *f, int flags)
{
    char name[SHELF_NAME_BYTES];
    shelf_name(name, f->serial);
    int fd = openat(s->folder, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    return fd < 0 ? -errno : fd;
}

/* A file that cannot be opened for writing is its segment's matter, not the disk's. */
static int open_to_append(const struct shelf *s, const struct shelf_file *f)
{
    int fd = shelf_open_file(s, f, O_RDWR);
    return fd == -EPERM || fd == -EACCES || fd == -EBUSY || fd == -ETXTBSY ? -EEXIST : fd;
}

/* The segment's file if it can be gone on with; one that is damaged or has grown too long is removed. */
static int find_file(struct shelf *s, const struct shelf_label *label, const struct intervals *parts,
                     struct shelf_file **out)
{
    struct shelf_file *f = map_get(&s->by_segment, key_of(s, &label->segment));
    *out = f;
    if (f == NULL)
        return 0;
    if (f != shelf_find(s, &label->segment) || f->label.source != label->source)
        return -EEXIST;
    int fd = open_to_append(s, f);
    bool damaged = fd >= 0 && !f->sound && (shelf_scan(s, fd, f, NULL, NULL) < 0 || !f->sound);
    bool too_long = fd >= 0 && f->bytes + cost_of(parts) - known_of(f, parts) > SHELF_FILE_MOST_BYTES;
    if (fd != -ENOENT && !damaged && !too_long)
        return fd;
    s->counters.gone_files += fd == -ENOENT;
    if (fd >= 0)
        close(fd);
    *out = NULL;
    return too_long && f->unread ? -EEXIST : shelf_remove(s, f);
}

/* A descriptor to append the parts with, or negative. */
static int need_file(struct shelf *s, const struct shelf_label *label, const struct intervals *parts,
                     struct shelf_file **out)
{
    int fd = find_file(s, label, parts, out);
    if (fd < 0)
        return fd;
    bool new = *out == NULL;
    uint64_t cost = cost_of(parts) - (new ? 0 : known_of(*out, parts));
    int err = make_room(s, cost + SHELF_LOG_AT + BLOCK_BYTES, new, *out);
    if (err == 0 && new) {
        *out = enter(s, label, s->next_serial++);
        fd = *out == NULL ? -ENOMEM : shelf_open_file(s, *out, O_RDWR | O_CREAT | O_EXCL);
        if (fd < 0 && *out != NULL)
            forget(s, *out);
        else if (fd >= 0)
            (*out)->sound = true;
        return fd;
    }
    if (err < 0 && !new)
        close(fd);
    return err < 0 ? err : fd;
}

int shelf_append(struct shelf *s, uint32_t home, uint32_t source, const struct chunk *chunk,
                 const struct intervals *parts, struct sample *added)
{
    struct shelf_label label = {.segment = chunk->segment, .source = source, .home = home};
    memcpy(label.pin, s->pin, SHELF_PIN_BYTES);
    struct shelf_file *f = NULL;
    uint64_t before = s->counters.written_bytes, wanted = intervals_total(parts);
    added->count = 0;
    if (s->counters.error < 0)
        return s->counters.error;
    int fd = need_file(s, &label, parts, &f);
    wanted -= fd < 0 ? 0 : known_of(f, parts);
    int err = fd < 0 ? fd : write_parts(s, fd, f, chunk, parts, added);
    if (fd >= 0)
        close(fd);
    if (shelf_is_passing(err)) {
        s->counters.skipped_bytes += wanted - (s->counters.written_bytes - before);
        err = 0;
    }
    s->counters.error = err;
    return err;
}

/* The folder was removed while it was open: the one that has its name now. */
static int open_folder_again(struct shelf *s)
{
    struct stat is;
    if (fstat(s->folder, &is) < 0 || is.st_nlink > 0)
        return 0;
    int folder = open_folder(s->path);
    if (folder < 0)
        return folder;
    while (!TAILQ_EMPTY(&s->by_age))
        forget(s, TAILQ_FIRST(&s->by_age));
    close(s->folder);
    s->folder = folder;
    s->unread_count = 0;
    return take_folder(s);
}

/* For a file: else a full disk would be written to its end, and fail, each time. */
static bool has_room(const struct shelf *s)
{
    struct statvfs disk;
    return fstatvfs(s->folder, &disk) < 0 || (uint64_t)disk.f_bavail * disk.f_frsize >= SHELF_FILE_MOST_BYTES;
}

int shelf_try_again(struct shelf *s)
{
    struct shelf_file *f;
    int err = open_folder_again(s);
    TAILQ_FOREACH (f, &s->by_age, by_age)
        f->is_left = false;
    s->left_err = 0;
    if (err == 0 && s->counters.error == -ENOSPC && !has_room(s))
        err = -ENOSPC;
    if (err == 0)
        err = probe(s);
    if (!shelf_is_passing(err))
        s->counters.error = err;
    return err;
}

void shelf_read_counters(const struct shelf *s, struct shelf_counters *out)
{
    *out = s->counters;
}
