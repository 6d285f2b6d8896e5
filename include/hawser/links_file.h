/* links_file.h - the file `links` in the store's folder, by a thread of its own (floor 6).
 * The disk of that folder may stand for minutes, or its server be gone: open, write and rename then return
 * when they like. So nobody waits for this thread longer than he says, and what is to be written is a copy:
 * while one text is under way the newest waits, and those before it are dropped. The file is replaced as a
 * whole; what lies in its place and is no regular file is neither opened for long nor followed. What is in it
 * is links.c's.
 *
 * Made, asked and freed by the main thread. */
#ifndef HAWSER_LINKS_FILE_H
#define HAWSER_LINKS_FILE_H

#include <stdint.h>

enum { LINKS_FILE_MAX_BYTES = 1 << 20 };

struct links_file;

/* Starts the thread, which first reads what is there. 0 or -errno. */
int links_file_new(struct links_file **out, const char *folder);
/* What was there into *out, NUL-terminated and the caller's; NULL where nothing was, or nothing that could be
 * read, which is logged. Once. 0, or -ETIMEDOUT: not known within wait_us, and *out is untouched. */
int links_file_take(struct links_file *f, uint64_t wait_us, char **out);
/* To be written; the text was allocated, and is given away. */
void links_file_put(struct links_file *f, char *text);
/* 0 when what was put is written, or could not be, which is logged; -ETIMEDOUT when the thread was still at
 * it after wait_us: it ends alone, if the process lives so long. NULL is fine. */
int links_file_free(struct links_file *f, uint64_t wait_us);

#endif
