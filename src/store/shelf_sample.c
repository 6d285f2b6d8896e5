#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "shelf_internal.h"

/* Empty if there is none. */
static void read_sample(const struct shelf *s, int fd, const struct shelf_file *f, struct sample *out)
{
    uint8_t bytes[SHELF_SAMPLE_BYTES];
    if (pread(fd, bytes, sizeof(bytes), SHELF_HEADER_BYTES) != (ssize_t)sizeof(bytes) ||
        !shelf_get_sample(bytes, f->key, s->sampler.seed, out))
        out->count = 0;
}

int shelf_note_sample(const struct shelf *s, int fd, const struct shelf_file *f, const struct chunk *chunk,
                      const struct intervals *parts, struct sample *added)
{
    struct sample all;
    uint8_t bytes[SHELF_SAMPLE_BYTES];
    read_sample(s, fd, f, &all);
    for (uint32_t i = 0; i < parts->count; i++) {
        struct interval part = parts->list[i];
        sample_add(&s->sampler, chunk->bytes + part.from, part.to - part.from, &all, added);
    }
    if (added->count == 0)
        return 0;
    shelf_put_sample(bytes, f->key, s->sampler.seed, &all);
    ssize_t n = pwrite(fd, bytes, sizeof(bytes), SHELF_HEADER_BYTES);
    if (n < 0)
        return -errno;
    return n == (ssize_t)sizeof(bytes) ? 0 : -EIO;
}

int shelf_next_sample(struct shelf *s, bool (*wants)(void *arg, uint32_t source, uint32_t home), void *arg,
                      struct shelf_sample *out)
{
    struct shelf_file *f = TAILQ_FIRST(&s->by_telling);
    while (f != NULL && !wants(arg, f->label.source, f->label.home))
        f = TAILQ_NEXT(f, by_telling);
    if (f == NULL)
        return 0;
    TAILQ_REMOVE(&s->by_telling, f, by_telling);
    f->untold = false;
    out->segment = f->label.segment;
    out->source = f->label.source;
    out->sample.count = 0;
    int fd = shelf_open_file(s, f, O_RDONLY);
    if (fd >= 0) {
        read_sample(s, fd, f, &out->sample);
        close(fd);
    }
    return 1;
}
