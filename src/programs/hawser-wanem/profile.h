/* profile.h - reads profiles: INI files that say what a link is like and how it changes as time goes by.
 * Their form is documented in hawser-wanem(8). Any bytes may be given to it. */
#ifndef HAWSER_WANEM_PROFILE_H
#define HAWSER_WANEM_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#include "params.h"

#define PROFILE_NAME_MAX    64
#define PROFILE_BYTES_MAX   (256u << 10)
#define PROFILE_ERROR_MAX   (PARAMS_ERROR_MAX + 256)
#define SCHEDULE_EVENTS_MAX 1000u
#define SCHEDULE_CHANGE_MAX 192
#define SCHEDULE_TIME_MAX   UINT64_C(604800000000000) /* a week */
#define SCHEDULE_REPEAT_MIN UINT64_C(10000000)

struct schedule_event {
    uint64_t at_ns;                   /* since the start of the round */
    char change[SCHEDULE_CHANGE_MAX]; /* text for link_change */
};

struct schedule {
    struct schedule_event *events; /* by time; of one time in the order of the file */
    size_t count;
    uint64_t repeat_ns; /* a new round begins after each; 0 = once */
};

void schedule_free(struct schedule *schedule);

/* Sets what the file says in *link; a [schedule] in it takes the place of *schedule. `name` is the file's,
 * for messages. 0, or -EINVAL or -ENOMEM with "NAME:LINE: sentence"; then both are as they were. That the
 * changes of a schedule are possible is checked, that their queues hold a packet is not, see
 * schedule_check. */
int profile_parse(const char *name, const char *text, size_t len, struct link_params link[WANEM_DIRECTIONS],
                  struct schedule *schedule, char error[PROFILE_ERROR_MAX]);

/* The same from a file: a path if there is a slash in it, else NAME.ini in the folder of the profiles. Its
 * name without folder and ending goes to out_name. */
int profile_read(const char *profile, struct link_params link[WANEM_DIRECTIONS], struct schedule *schedule,
                 char out_name[PROFILE_NAME_MAX], char error[PROFILE_ERROR_MAX]);

/* Goes through the schedule (twice if it repeats) from *link on: 0, or -EINVAL with a sentence if a queue
 * would be less than a packet of mtu bytes. */
int schedule_check(const struct schedule *schedule, const struct link_params link[WANEM_DIRECTIONS],
                   uint32_t mtu, char error[PROFILE_ERROR_MAX]);

#endif
