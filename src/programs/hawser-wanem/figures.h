/* figures.h - what the emulator tells: figures as JSON, the live line of a terminal, the report at the end.
 * Their meaning is documented in hawser-wanem(8). One thread (the main one). */
#ifndef HAWSER_WANEM_FIGURES_H
#define HAWSER_WANEM_FIGURES_H

#include <stdbool.h>
#include <stdio.h>

#include "emulator.h"

/* Parameters and counters as one line of JSON with its newline; with the histograms of the delays or without.
 */
void figures_json(const struct emulator *emulator, bool histograms, FILE *out);
/* Text as a JSON string with its quotes. */
void figures_json_string(const char *text, FILE *out);

/* The figures of the live lines, to compare the next ones with. */
struct figures_live {
    struct pump_figures last[WANEM_DIRECTIONS];
    uint64_t last_ns;
    bool shown; /* the cursor is at the end of the last line */
};
void figures_live_start(const struct emulator *emulator, struct figures_live *live);
/* What has happened since the last call, a line a direction in the place of those lines, each cut to the
 * width of the terminal. */
void figures_live_lines(const struct emulator *emulator, struct figures_live *live, int columns, FILE *out);
/* Takes the lines away; something else may be written in their place. */
void figures_live_clear(struct figures_live *live, FILE *out);

/* For people: received against sent, drops by cause, the delays given. */
void figures_report(const struct emulator *emulator, FILE *out);

#endif
