/* chunk.h - reference-counted blocks of bytes, slices of them, and queues of slices (floor 0).
 * A byte read from a socket is put into a chunk once and travels by reference until it is written. Chunks of
 * the standard size come from a small spare list a thread. Bytes are written only by the chunk's creator,
 * before the slice that holds them is handed on. Chunks: any thread; one queue: one thread. */
#ifndef HAWSER_CHUNK_H
#define HAWSER_CHUNK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { CHUNK_STANDARD_BYTES = 65536 };

/* Where a chunk's bytes live in the store's address space: the chunk is a segment of that name. All zero: in
 * no segment. */
struct segment_id {
    uint64_t epoch;  /* random, of one life of one store */
    uint32_t number; /* counted up in that life; never used twice */
};

static inline bool segment_id_equal(const struct segment_id *a, const struct segment_id *b)
{
    return a->epoch == b->epoch && a->number == b->number;
}

/* Keys of a map by name (XXH3). A peer picks names at will, so the seed is secret; two names may share a key.
 */
uint64_t segment_id_hash(const struct segment_id *id, uint64_t seed);

struct chunk {
    _Atomic uint32_t refs;
    uint32_t cap; /* bytes */
    bool mapped;  /* by chunk_new_mapped */
    bool huge;    /* chunk_ask_huge: of its memory whole huge pages are taken */
    struct chunk *next_spare;
    struct segment_id segment;
    uint8_t bytes[];
};

static inline bool chunk_is_segment(const struct chunk *c)
{
    return c->segment.epoch != 0;
}

/* A chunk of at least cap bytes with one reference, or NULL when memory is out. */
struct chunk *chunk_new(size_t cap);
/* A chunk of cap bytes of address space (a multiple of 2 MB, zeros): memory is taken where it is first
 * written, in huge pages where the caller asks for them (madvise; bytes are aligned to 2 MB).
 * chunk_bytes_total does not count it, since only the writer knows what is touched. NULL when there is no
 * room. */
struct chunk *chunk_new_mapped(size_t cap);
/* Ask for huge pages in all of a mapped chunk, or for none; before anything is written. */
void chunk_ask_huge(struct chunk *c, bool huge);
struct chunk *chunk_ref(struct chunk *c);
void chunk_unref(struct chunk *c);
/* Bytes that all chunks of the process take now, mapped ones aside. */
uint64_t chunk_bytes_total(void);
/* Give back the calling thread's spare chunks; at its end. */
void chunk_thread_end(void);

/* len bytes at off of a chunk; whoever holds a slice holds one reference. */
struct slice {
    struct chunk *chunk;
    uint32_t off, len;
};

static inline const uint8_t *slice_bytes(const struct slice *s)
{
    return s->chunk->bytes + s->off;
}

/* A slice over a fresh chunk holding a copy; chunk NULL when memory is out. */
struct slice slice_copy(const void *bytes, size_t len);

/* A queue of slices; no memory while empty. Zero-initialised is empty. */
struct slices {
    struct slice *ring;
    uint32_t head, count, cap; /* cap is a power of two */
    uint64_t bytes;
};

/* A slice this small is copied behind the last one where that has room, so that a queue of single bytes costs
 * bytes. */
enum { SLICE_SMALL_BYTES = 512 };

/* Append to the last slice by copying, if both are small; the reference is taken over then. False: nothing
 * was done. */
bool slices_merge(struct slices *q, struct slice s);
/* The same for a slice that goes on where the last one ends, in the same chunk. */
bool slices_extend(struct slices *q, struct slice s);
/* Append, taking over the reference; -ENOMEM: the reference stays the caller's. */
int slices_push(struct slices *q, struct slice s);
/* The i-th slice from the front (i < count). */
static inline struct slice *slices_at(const struct slices *q, uint32_t i)
{
    return &q->ring[(q->head + i) & (q->cap - 1)];
}
/* Drop n bytes (n <= bytes) from the front. */
void slices_drop(struct slices *q, uint64_t n);
/* Take the first slice; the reference becomes the caller's. count must not be 0. */
struct slice slices_pop(struct slices *q);
void slices_clear(struct slices *q);
/* Up to max iovecs over the front, at most max_bytes; returns how many. */
int slices_iov(const struct slices *q, struct iovec *iov, int max, size_t max_bytes);

#endif
