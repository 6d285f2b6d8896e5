/* fuzz_wanem.c - any bytes as a profile of hawser-wanem: a link and a schedule that keep what profile.h
 * promises, or an error that names the line and leaves everything as it was. */
#include <stdlib.h>
#include <string.h>

#define HAWSER_WANEM_PROFILES "/nowhere"
#include "../../../src/programs/hawser-wanem/params.c"
#include "../../../src/programs/hawser-wanem/profile.c"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len_bytes);

#define DEMAND(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static void demand_schedule(const struct schedule *schedule, const struct link_params *link)
{
    char error[PROFILE_ERROR_MAX], why[PARAMS_ERROR_MAX];
    struct link_params at[WANEM_DIRECTIONS];
    uint64_t before = 0;
    memcpy(at, link, sizeof at);
    DEMAND(schedule->count <= SCHEDULE_EVENTS_MAX);
    for (size_t i = 0; i < schedule->count; i++) {
        DEMAND(schedule->events[i].at_ns >= before);
        before = schedule->events[i].at_ns;
        DEMAND(link_change(at, schedule->events[i].change, 0, why) == 0);
    }
    DEMAND(schedule->repeat_ns == 0 || schedule->repeat_ns >= before);
    int err = schedule_check(schedule, link, 1500, error);
    DEMAND(err == 0 || (err == -EINVAL && memchr(error, '\0', sizeof error) != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len_bytes)
{
    struct link_params link[WANEM_DIRECTIONS], before[WANEM_DIRECTIONS];
    struct schedule schedule = {.count = 0};
    char error[PROFILE_ERROR_MAX];
    params_default(&link[0]);
    params_default(&link[1]);
    memcpy(before, link, sizeof before);
    int err = profile_parse("fuzz", (const char *)bytes, len_bytes, link, &schedule, error);
    if (err < 0) {
        DEMAND(err == -ENOMEM || (strncmp(error, "fuzz:", 5) == 0 && error[5] >= '1' && error[5] <= '9'));
        DEMAND(memchr(error, '\0', sizeof error) != NULL && schedule.count == 0);
        DEMAND(memcmp(before, link, sizeof before) == 0);
        return 0;
    }
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        DEMAND(link[i].rate_bps <= RATE_MAX_BPS && link[i].delay_ns <= TIME_MAX_NS);
        DEMAND(link[i].loss >= 0 && link[i].loss <= 1 && link[i].burst_packets >= 1);
    }
    demand_schedule(&schedule, link);
    schedule_free(&schedule);
    return 0;
}
