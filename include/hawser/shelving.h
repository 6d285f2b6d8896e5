/* shelving.h - the thread between the stores in memory and their folder on disk (floor 6).
 * Once a second each home hands over what is new in its store, by reference; the thread writes it (shelf.h).
 * After a start each home asks for its segments, newest first, a few at a time, until there are no more or
 * its memory is used up; they are adopted (store.h) and the peers are told (mux_segment_adopted). Of the
 * others, and of what is evicted later, the store knows samples; what it then wants is read back and adopted
 * in the same way. No worker ever waits for the disk: what is slow is later, what is too slow is not written
 * and only cold after a restart.
 *
 * Made, begun, stopped and freed by the main thread; counters may be read by any. */
#ifndef HAWSER_SHELVING_H
#define HAWSER_SHELVING_H

#include "hawser/leg.h"
#include "hawser/shelf.h"

struct shelving;

/* Starts the thread. waiting_most: memory of segments that may wait to be written, and cannot be evicted
 * meanwhile; one segment may go beyond it. seed: of the samples, and of the homes' stores. 0 or
 * -errno. What the disk says comes later, and is logged. */
int shelving_new(struct shelving **out, const char *path, uint64_t size_bytes, uint64_t waiting_most,
                 uint64_t seed, const uint8_t pin[static SHELF_PIN_BYTES]);
/* Before it begins: the next home. Homes are numbered in this order, and what is our own comes back to the
 * home of its number. Its store collects already (store_collect_begin). 0 or -ENOMEM. */
int shelving_add_home(struct shelving *s, struct leg_host *host);
/* Segments that this source filled come back to that home. 0 or -ENOMEM. */
int shelving_set_home(struct shelving *s, uint32_t source, const struct leg_host *host);
/* Open the folder, read and write. */
void shelving_begin(struct shelving *s);

/* When the homes' threads have ended and before their loops and stores are freed: writes what is new, as far
 * as it may wait, and ends the thread. */
void shelving_stop(struct shelving *s);
/* When the homes' loops are freed. NULL is fine. */
void shelving_free(struct shelving *s);

void shelving_read_counters(struct shelving *s, struct shelf_counters *out);

#endif
