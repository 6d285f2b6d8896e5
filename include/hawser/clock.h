/* clock.h - time since boot, suspended time included (floor 0). Any thread. Source: clock_gettime(2). */
#ifndef HAWSER_CLOCK_H
#define HAWSER_CLOCK_H

#include <stdint.h>

/* Microseconds of CLOCK_BOOTTIME. */
uint64_t clock_now_us(void);
/* Microseconds of CPU that the calling thread has used (CLOCK_THREAD_CPUTIME_ID). */
uint64_t clock_thread_cpu_us(void);

#endif
