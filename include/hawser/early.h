/* early.h - bytes of a session that came before those in front of them (floor 5).
 * A gap is filled by another lane; what came after it waits here, in order of offset. Copies that follow one
 * another are joined, so that many small pieces cost bytes and not entries; pieces with gaps between them are
 * bounded in number. How many bytes may come at all is credit's to say. One thread: the home's. */
#ifndef HAWSER_EARLY_H
#define HAWSER_EARLY_H

#include "hawser/chunk.h"

enum {
    EARLY_MAX = 8192,         /* entries of a session */
    EARLY_SMALL_BYTES = 8192, /* a shorter slice is a copy (it must not pin a large chunk), and joined */
    EARLY_JOINED_BYTES = 64 * 1024,
};

struct early {
    uint64_t offset;
    struct slice slice;
    bool saved; /* came as a reference */
};

/* Zero-initialised is empty; no memory while empty. */
struct early_list {
    struct early *list; /* the entries are list[first .. first + count) */
    uint32_t first, count, cap;
    uint64_t bytes, saved; /* of the slices; of those, come as references */
};

/* Whether so many more can be kept, but for memory. */
bool early_has_room(const struct early_list *l, uint32_t entries);
/* Keep a slice that is not empty. 1: kept, the reference is taken over; 0: held already; -ENOMEM: no memory,
 * or more than EARLY_MAX entries. Slices may overlap. */
int early_keep(struct early_list *l, uint64_t offset, struct slice s, bool saved);
/* Take the first entry, if it begins at or before that offset. It may end before it. The reference becomes
 * the caller's. */
bool early_take(struct early_list *l, uint64_t upto, struct early *out);
/* Take the last entry, if it begins at or behind that offset. The reference becomes the caller's. */
bool early_take_last(struct early_list *l, uint64_t from, struct early *out);
/* The offset of the first entry, UINT64_MAX when there is none. */
uint64_t early_first(const struct early_list *l);
void early_clear(struct early_list *l);

#endif
