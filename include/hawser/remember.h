/* remember.h - what peers have proved to know (holdings.h), beyond the life of their muxes and of the node
 * (floor 5). A home keeps the entries (proved.h) of each of its peers: those that came back from disk, and
 * those that were collected since. They count only for segments that are our own or the peer's: their bytes
 * are the same under the same name for ever, but for what the peer itself has written there. One thread: the
 * home's. */
#ifndef HAWSER_REMEMBER_H
#define HAWSER_REMEMBER_H

#include "hawser/leg.h"

struct remembered {
    struct remembered *next;
    uint32_t peer; /* its number: a source of the store */
    uint32_t len;
    uint8_t *bytes; /* entries */
    bool fresh;     /* not on disk yet: who writes them says false */
    bool failed;    /* the last time they could not be written */
};

/* Entries as they came back from disk (copied). Where the peer's are known already they count. 0 or -ENOMEM.
 */
int remember_restore(struct leg_host *home, uint32_t peer, const uint8_t *entries, size_t len);
/* When that is to be collected and written: what a peer knows is written whole, so not while it still gets
 * more of it, and at most once a minute. Zero-initialised: at rest. */
enum { REMEMBER_QUIET_S = 4, REMEMBER_EVERY_S = 60 };
struct remember_pace {
    uint64_t changes;
    unsigned rests_s, waits_s, quiet_s;
};
/* Asked once a second. True: now. */
bool remember_is_due(struct remember_pace *p, const struct leg_host *home);
/* What has changed at the home's muxes goes into home->remembered. */
void remember_collect(struct leg_host *home);
/* Its entries were written (err 0), or could not be: then they are fresh again. True: for the first time
 * since they last were. */
bool remember_written(struct leg_host *home, uint32_t peer, int err);
void remember_free(struct leg_host *home);

/* The same for one mux, as before it ends. */
void remember_keep(struct mux *m);
/* Who the peer is, as far as it was not known yet: what is remembered of it is proved, where it is here. */
void remember_meet(struct mux *m);
/* The same of one segment, which came back into the store. */
void remember_segment(struct mux *m, const struct segment_id *id);

#endif
