/* shelf_internal.h - what the files of the shelf share (floor 1).
 *
 *   shelf_format.c   bytes of a file
 *   shelf.c          the catalogue, appending, making room
 *   shelf_read.c     reading back
 *   shelf_sample.c   samples in files
 *   shelf_proved.c   what peers have proved to know
 */
#ifndef HAWSER_SHELF_INTERNAL_H
#define HAWSER_SHELF_INTERNAL_H

#include <sys/queue.h>
#include <sys/uio.h>

#include "hawser/map.h"
#include "hawser/shelf.h"

enum {
    SHELF_NAME_BYTES = 16 + sizeof(".segment"),
    SHELF_NOTED_MOST = 64, /* of a file's intervals: what comes once more need not be written again */
    SHELF_UNREAD_MOST = 64,
    SHELF_WINDOW_BYTES = 2 << 20, /* read at once; holds the longest record */
};

struct shelf_file {
    TAILQ_ENTRY(shelf_file) by_age, by_reading, by_telling;
    struct shelf_label label;
    uint64_t serial, key, bytes;
    struct intervals noted; /* in the file, as far as it is noted (SHELF_NOTED_MOST) */
    bool is_left, was_left; /* it could not be removed: now; ever */
    bool sound;             /* every record up to `bytes` can be found */
    bool unread;            /* of another run, and in the list of what can be read */
    bool untold;            /* of another run, and in the list of what has a sample to hand out */
};

struct shelf {
    int folder;
    char *path;
    uint64_t size_bytes, next_serial, salt;
    struct sampler sampler;
    uint8_t pin[SHELF_PIN_BYTES];
    TAILQ_HEAD(shelf_by_age, shelf_file) by_age;         /* oldest first */
    TAILQ_HEAD(shelf_by_reading, shelf_file) by_reading; /* newest first */
    TAILQ_HEAD(shelf_by_telling, shelf_file) by_telling; /* oldest first */
    struct map by_segment;
    uint8_t *window;
    int left_err;                       /* of the last file that could not be removed */
    uint32_t unread[SHELF_UNREAD_MOST]; /* peers whose file of what they proved could not be read */
    unsigned unread_count;              /* more: which is not noted */
    int unread_err;
    struct shelf_counters counters;
};

void shelf_name(char name[static SHELF_NAME_BYTES], uint64_t serial);
struct shelf_file *shelf_find(const struct shelf *s, const struct segment_id *id);
/* Whether it may go better next time, and tells nothing of the file or the disk. */
bool shelf_is_passing(int err);
/* Whether the error is the whole disk's, and not one file's. */
bool shelf_is_of_disk(int err);
int shelf_open_file(const struct shelf *s, const struct shelf_file *f, int flags);
/* [from, to) is in the file. */
void shelf_note(struct shelf_file *f, uint32_t from, uint32_t to);
void shelf_set_bytes(struct shelf *s, struct shelf_file *f, uint64_t bytes);
/* The file, too; f is gone. 0 or -errno. */
int shelf_remove(struct shelf *s, struct shelf_file *f);
/* A file of that name in the folder, made anew. 0 or -errno, and it is gone. */
int shelf_write_file(const struct shelf *s, const char *name, const struct iovec parts[2]);
/* Go through the file; each sound record is told (visit may be NULL). It is cut where it is broken, and sound
 * then, unless it can only be read. How many records are sound, or -errno. */
int shelf_scan(struct shelf *s, int fd, struct shelf_file *f,
               int (*visit)(void *arg, const struct shelf_record *r), void *arg);
/* The file's sample grows by these parts. 0 or -errno. */
int shelf_note_sample(const struct shelf *s, int fd, const struct shelf_file *f, const struct chunk *chunk,
                      const struct intervals *parts, struct sample *added);

#endif
