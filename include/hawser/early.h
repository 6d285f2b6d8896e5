/* early.h - bytes of a session that came before those in front of them (floor 5).
 * A gap is filled by another lane; what came after it waits here, in order of offset. An entry is a run of
 * bytes without a gap, as pieces; no byte is held twice. Small plain pieces that follow one another are
 * joined, so that many of them cost bytes and not pieces. Entries are bounded in number; how many bytes may
 * come at all is credit's to say. One thread: the home's. */
#ifndef HAWSER_EARLY_H
#define HAWSER_EARLY_H

#include "hawser/chunk.h"

enum {
    EARLY_MAX = 8192,               /* entries of a session */
    EARLY_SMALL_BYTES = 8192,       /* a shorter piece that saves nothing is joined with the one before */
    EARLY_JOINED_BYTES = 64 * 1024, /* into no more than this */
};

struct early_piece {
    struct slice slice;
    uint32_t saves; /* of its bytes, those that take no memory of the session's: it came as a reference */
};

/* Zero-initialised is empty; no memory while empty. */
struct early_list {
    struct early *list; /* the entries are list[first .. first + count) */
    uint32_t first, count, cap;
    uint64_t bytes, saved; /* of all pieces; of those, what they save */
};

/* Keep what is not here yet of pieces that follow each other from offset on, none of them empty. What a piece
 * costs (its bytes less what it saves) each kept part of it costs, up to its length. Of a chunk that is no
 * segment, less than half is kept as a copy. The references are taken over, whatever comes of it. Adds one
 * entry at most. 0; -ENOMEM: no memory, and not all is kept, or it would be an entry more than EARLY_MAX, and
 * nothing is. */
int early_keep(struct early_list *l, uint64_t offset, const struct early_piece *pieces, uint32_t count);
/* Take the first piece, if it begins at or before upto; it may end before it. The reference becomes the
 * caller's, out is set on success only. */
bool early_take(struct early_list *l, uint64_t upto, uint64_t *offset, struct early_piece *out);
/* Of [*from, *to) the first part that is not here; false: all is. */
bool early_lacks(const struct early_list *l, uint64_t *from, uint64_t *to);
/* The offset of the first entry, UINT64_MAX when there is none. */
uint64_t early_first(const struct early_list *l);
void early_clear(struct early_list *l);

#endif
