/* budget.h - a bounded amount shared by threads (floor 0).
 * The global memory cap: what is taken must be given back by the same amount. Any thread (atomics). */
#ifndef HAWSER_BUDGET_H
#define HAWSER_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    _Atomic uint64_t used;
    uint64_t cap;
};

static inline void budget_init(struct budget *b, uint64_t cap)
{
    atomic_init(&b->used, 0);
    b->cap = cap;
}

/* Take n if it fits under the cap. */
static inline bool budget_take(struct budget *b, uint64_t n)
{
    if (n > b->cap)
        return false;
    uint64_t was = atomic_fetch_add_explicit(&b->used, n, memory_order_relaxed);
    if (was <= b->cap - n)
        return true;
    atomic_fetch_sub_explicit(&b->used, n, memory_order_relaxed);
    return false;
}

static inline void budget_give(struct budget *b, uint64_t n)
{
    atomic_fetch_sub_explicit(&b->used, n, memory_order_relaxed);
}

static inline uint64_t budget_used(const struct budget *b)
{
    return atomic_load_explicit(&b->used, memory_order_relaxed);
}

static inline uint64_t budget_left(const struct budget *b)
{
    uint64_t used = budget_used(b);
    return used < b->cap ? b->cap - used : 0;
}

#endif
