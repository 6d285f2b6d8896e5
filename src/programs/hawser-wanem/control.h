/* control.h - the emulator as a whole: both directions, their parameters, and the commands that
 * change them through a unix socket. One thread (the main one). Commands: hawser-wanem(8). */
#ifndef HAWSER_WANEM_CONTROL_H
#define HAWSER_WANEM_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "params.h"
#include "pump.h"

#define DESCRIPTION_MAX 4096

struct emulator {
    struct pump *pumps[WANEM_DIRECTIONS];
    struct link_params params[WANEM_DIRECTIONS];
    const char *profile; /* borrowed; "none" if there is none */
    uint32_t mtu;
    uint32_t queue_max_ms; /* of the queue limit `auto` */
    uint64_t seed;
    uint64_t started_ms;
};

/* Parameters of both directions to the pumps, with the queue limits that follow from them. */
void emulator_apply(struct emulator *emulator);
/* A queue limit that is less than one packet would let nothing pass. 0, or -EINVAL with a sentence. */
int emulator_check(const struct emulator *emulator, char *error, size_t error_len);
/* All parameters and figures: one line of JSON with its newline, into out[out_len]; its length. */
size_t emulator_describe(const struct emulator *emulator, char *out, size_t out_len);
uint64_t emulator_now_ms(void);

struct control;

/* Listens at `path`, where a socket that nobody listens at any more is replaced. 0 or -errno; the
 * socket is removed by control_free. */
int control_open(const char *path, struct emulator *emulator, struct control **out);
void control_free(struct control *control);

/* Serves commands until a `quit` (0) or until stop_fd becomes readable (0); -errno if waiting fails. With
 * control NULL it only waits for stop_fd. */
int control_run(struct control *control, int stop_fd);

#endif
