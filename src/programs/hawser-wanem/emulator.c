#include "emulator.h"

#include <time.h>

uint64_t emulator_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void apply(struct emulator *emulator)
{
    for (int i = 0; i < WANEM_DIRECTIONS; i++) {
        pump_set(emulator->pumps[i], &emulator->link[i], link_queue_bytes(emulator->link, i));
    }
}

void emulator_start(struct emulator *emulator, uint64_t now_ns)
{
    emulator->started_ns = now_ns;
    emulator->round_start_ns = now_ns;
    emulator->event_next = 0;
    apply(emulator);
}

int emulator_change(struct emulator *emulator, const char *text, char error[PARAMS_ERROR_MAX])
{
    int err = link_change(emulator->link, text, emulator->mtu, error);
    if (err == 0) {
        apply(emulator);
    }
    return err;
}

uint64_t emulator_event_ns(const struct emulator *emulator)
{
    const struct schedule *schedule = &emulator->schedule;
    return emulator->event_next < schedule->count
               ? emulator->round_start_ns + schedule->events[emulator->event_next].at_ns
               : EMULATOR_NEVER;
}

const char *emulator_event(struct emulator *emulator, char error[PARAMS_ERROR_MAX])
{
    const struct schedule *schedule = &emulator->schedule;
    const struct schedule_event *event = &schedule->events[emulator->event_next];
    error[0] = '\0';
    emulator_change(emulator, event->change, error);
    emulator->event_next++;
    if (emulator->event_next == schedule->count && schedule->repeat_ns > 0) {
        emulator->event_next = 0;
        emulator->round_start_ns += schedule->repeat_ns;
    }
    return event->change;
}
