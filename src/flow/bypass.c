#include "hawser/bypass.h"

#include <stdatomic.h>

#include "hawser/clock.h"
#include "hawser/log.h"

enum { LOG_EVERY_US = 60 * 1000000 };

const struct bypass_entry bypass_entries[BYPASS_COUNT] = {
#define BYPASS_ENTRY(id, number, name, text, advice) {number, name, text, advice},
    BYPASS_TABLE(BYPASS_ENTRY)
#undef BYPASS_ENTRY
};

void bypass_note(struct bypass *b, enum bypass_reason reason, const char *subject)
{
    struct bypass_state *s = &b->reasons[reason];
    uint64_t now = clock_now_us();
    uint64_t count = atomic_fetch_add(&s->count, 1) + 1;
    atomic_store(&s->last_us, now);
    uint64_t logged = atomic_load(&s->logged_us);
    if (logged != 0 && now - logged < LOG_EVERY_US)
        return;
    if (!atomic_compare_exchange_strong(&s->logged_us, &logged, now))
        return; /* another thread says it */
    const struct bypass_entry *e = &bypass_entries[reason];
    log_warn("bypass %u %s: %s: %s (%llu so far); %s", e->number, e->name, subject, e->text,
             (unsigned long long)count, e->advice);
}
