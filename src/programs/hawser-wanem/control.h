/* control.h - commands that are sent to the emulator through a unix socket, see hawser-wanem(8). One thread
 * (the main one). */
#ifndef HAWSER_WANEM_CONTROL_H
#define HAWSER_WANEM_CONTROL_H

#include <stdint.h>

#include "emulator.h"

struct control;

/* Listens at `path`, where a socket that nobody listens at any more is replaced. 0 or -errno; the
 * socket is removed by control_free. */
int control_open(const char *path, struct emulator *emulator, struct control **out);
void control_free(struct control *control);

enum control_end { CONTROL_TIME, CONTROL_ENDED };

/* Serves commands until a moment (EMULATOR_NEVER: none): CONTROL_TIME; or until a `quit` or until stop_fd
 * becomes readable: CONTROL_ENDED; -errno if waiting fails. With control NULL it only waits. */
int control_run(struct control *control, int stop_fd, uint64_t until_ns);

#endif
