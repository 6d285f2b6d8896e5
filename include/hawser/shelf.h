/* shelf.h - the store's folder (floor 1): a file a segment, appended to as it fills, read back after a
 * restart. It knows files, not stores: what is new in a segment is told (store_collect), what was read is
 * handed out (for store_adopt). No thread of its own, and every call may wait for the disk: none is a
 * worker's (shelving.h). One thread at a time. The bytes of a file: shelf_format.h.
 *
 * Files are named SERIAL.segment; serials count up, so names sort by age without a clock. Nothing is synced:
 * the kernel writes when it likes, kill -9 loses nothing that was appended, and what a power cut tears is
 * found out by its sums and dropped. A cold cache is the worst that can happen. */
#ifndef HAWSER_SHELF_H
#define HAWSER_SHELF_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/chunk.h"
#include "hawser/intervals.h"
#include "hawser/shelf_format.h"

struct shelf;

enum {
    SHELF_PART_LEAST_BYTES = 512, /* shorter parts are not worth a record's head */
    SHELF_FILE_MOST_BYTES = 18 << 20,
};

/* The folder at path, which exists, for files of up to size_bytes in all (counted in blocks of 4 KB). Files
 * that are damaged, of another version or of another node are removed, and the oldest beyond size_bytes; one
 * that cannot be opened or removed is stepped over, and keeps its room. One that can only be read is opened,
 * too: counters.error says why. 0, -EWOULDBLOCK (another process uses it), or -errno. */
int shelf_open(struct shelf **out, const char *path, uint64_t size_bytes, uint64_t seed,
               const uint8_t pin[static SHELF_PIN_BYTES]);
void shelf_close(struct shelf *s);

/* Append parts of a segment (a labelled chunk of SHELF_SEGMENT_BYTES) to its file, which is made where there
 * is none; the oldest other files go to make room. added: what the file's sample gained by it. 0: written, or
 * skipped for want of room (skipped_bytes); or -errno: from the first error on nothing is written until
 * shelf_try_again, so a full disk is not asked for each part. */
int shelf_append(struct shelf *s, uint32_t home, uint32_t source, const struct chunk *chunk,
                 const struct intervals *parts, struct sample *added);
/* After an error: whether the folder can be written again, or another that has taken the place of one that
 * was removed. 0: writing goes on; or -errno: -ENOMEM, -EMFILE, -ENFILE say nothing of the disk. */
int shelf_try_again(struct shelf *s);

/* What was read: the chunk with one reference (chunk_new_mapped, labelled), and what is filled in it. */
struct shelf_segment {
    struct chunk *chunk;
    struct intervals filled;
    uint32_t source;
};
/* Files that nobody wants are no longer looked at by the two questions below (shelf_fetch finds them). */
void shelf_drop_unwanted(struct shelf *s, bool (*wants)(void *arg, uint32_t source, uint32_t home),
                         void *arg);
/* The newest file that was not read yet, is of another run, and is wanted. 1; 0: there is none left; -ENOMEM.
 * A file without a single sound record is removed and not handed out. */
int shelf_read(struct shelf *s, bool (*wants)(void *arg, uint32_t source, uint32_t home), void *arg,
               struct shelf_segment *out);

/* The file of that segment, whenever it was written; it becomes the newest. 1; 0: there is none, or nothing
 * sound in it; -ENOMEM. */
int shelf_fetch(struct shelf *s, const struct segment_id *id, struct shelf_segment *out);

struct shelf_sample {
    struct segment_id segment;
    uint32_t source;
    struct sample sample; /* empty: it is damaged, or of another seed */
};
/* The sample of the oldest file of another run that was not handed out yet, and is wanted. 1; 0: there is
 * none left. */
int shelf_next_sample(struct shelf *s, bool (*wants)(void *arg, uint32_t source, uint32_t home), void *arg,
                      struct shelf_sample *out);

/* What a peer has proved to know (proved.h), whole, into a file of its own; one that is there is replaced
 * when the new one is written, but not one that could not be read. 0, or -errno: it is not, and ought to be
 * tried again later; if that is the whole disk's, all else follows as for shelf_append (counters.error). */
int shelf_write_proved(struct shelf *s, uint32_t peer, const uint8_t *entries, size_t len);
/* All these files, once. Those that are damaged, of another version or node, or not wanted, are removed;
 * those that could not be read, or not be taken, are left alone, and counted as such. take: 1 taken, 0 not
 * wanted, or -errno; the entries are borrowed. */
typedef int shelf_take_proved(void *arg, uint32_t peer, const uint8_t *entries, size_t len);
void shelf_read_proved(struct shelf *s, shelf_take_proved *take, void *arg);

struct shelf_counters {
    uint64_t segments, bytes;           /* files now, and what they take */
    uint64_t written_bytes, read_bytes; /* of segments, in this run */
    uint64_t fetched;                   /* segments that were read since they were wanted */
    uint64_t bad_records, bad_files;    /* dropped: damaged, cut short, of another version or node */
    uint64_t bad_serial;                /* the file of the last of these */
    uint64_t gone_files;                /* somebody else removed them */
    uint64_t unreadable_files;          /* left alone: they could not be opened, read or removed */
    uint64_t removed_files;             /* the oldest, for `size` */
    uint64_t skipped_bytes;             /* not written for want of room, or of a file to write to */
    int error;                          /* -errno that stopped writing, while it lasts; 0: none */
};
void shelf_read_counters(const struct shelf *s, struct shelf_counters *out);

#endif
