#include <stdio.h>

#include "estimate.h"
#include "hawser/clock.h"

enum { FIRST_AFTER_US = 1000000, EVERY_US = 200000, BAR = 30 };

void progress_add(struct run *run, uint64_t len_bytes)
{
    run->bytes_done += len_bytes;
    if (!run->shows_progress || run->bytes_total == 0)
        return;
    uint64_t now = clock_now_us(), took = now - run->began_us;
    if (took < FIRST_AFTER_US || now - run->shown_us < EVERY_US)
        return;
    run->shown_us = now;
    double part = (double)run->bytes_done / (double)run->bytes_total;
    part = part < 1 ? part : 1; /* a file has grown meanwhile */
    char bar[BAR + 1], done[16], total[16];
    for (int i = 0; i < BAR; i++)
        bar[i] = i < (int)(part * BAR) ? '#' : '.';
    bar[BAR] = '\0';
    fprintf(stderr, "\r[%s] %3.0f%%  %s of %s, %.0f s left \033[K", bar, 100 * part,
            show_bytes(run->bytes_done, done), show_bytes(run->bytes_total, total),
            part > 0 ? (double)took / 1e6 * (1 - part) / part : 0);
}

void progress_end(struct run *run)
{
    if (run->shown_us != 0)
        fputs("\r\033[K", stderr);
}
