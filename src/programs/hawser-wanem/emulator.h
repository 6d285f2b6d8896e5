/* emulator.h - the emulator as a whole: both directions with their parameters, and the schedule of changes
 * that a profile may have. One thread (the main one). */
#ifndef HAWSER_WANEM_EMULATOR_H
#define HAWSER_WANEM_EMULATOR_H

#include <stdint.h>

#include "params.h"
#include "profile.h"
#include "pump.h"

#define EMULATOR_NEVER UINT64_MAX

struct emulator {
    struct pump *pumps[WANEM_DIRECTIONS];
    struct link_params link[WANEM_DIRECTIONS];
    struct schedule schedule;
    char profile[PROFILE_NAME_MAX]; /* "none" if there is none */
    uint32_t mtu;
    uint64_t seed;
    uint64_t started_ns;

    size_t event_next;       /* of the schedule */
    uint64_t round_start_ns; /* when the present round of the schedule began */
};

uint64_t emulator_now_ns(void);

/* Sets the clock of the schedule to its start and hands the parameters to the pumps. */
void emulator_start(struct emulator *emulator, uint64_t now_ns);
/* Carries out a change as text, see link_change. */
int emulator_change(struct emulator *emulator, const char *text, char error[PARAMS_ERROR_MAX]);

/* When the schedule has its next event, EMULATOR_NEVER if it has no more. */
uint64_t emulator_event_ns(const struct emulator *emulator);
/* Carries out the next event; its text, and in error why it was refused ("" if it was not: a schedule is
 * checked when it is read, but a command may have made the rate too low for the queue of an event since). */
const char *emulator_event(struct emulator *emulator, char error[PARAMS_ERROR_MAX]);

#endif
