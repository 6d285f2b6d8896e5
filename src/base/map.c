#include "hawser/map.h"

#include <errno.h>
#include <stdlib.h>

enum { MAP_CAP_MIN = 16 };

static size_t home_of(const struct map *m, uint64_t key)
{
    /* splitmix64's finalizer (Steele, Lea, Flood 2014) over the salted key */
    uint64_t x = key ^ m->salt;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return (size_t)(x ^ (x >> 31)) & (m->cap - 1);
}

static struct map_slot *find(const struct map *m, uint64_t key)
{
    size_t i = home_of(m, key);
    while (m->slots[i].value != NULL && m->slots[i].key != key)
        i = (i + 1) & (m->cap - 1);
    return &m->slots[i];
}

void *map_get(const struct map *m, uint64_t key)
{
    return m->cap == 0 ? NULL : find(m, key)->value;
}

static int resize(struct map *m, size_t cap)
{
    struct map bigger = {.cap = cap, .salt = m->salt, .count = m->count};
    bigger.slots = calloc(cap, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].value != NULL)
            *find(&bigger, m->slots[i].key) = m->slots[i];
    }
    free(m->slots);
    *m = bigger;
    return 0;
}

int map_put(struct map *m, uint64_t key, void *value)
{
    if ((m->count + 1) * 4 > m->cap * 3) {
        int err = resize(m, m->cap == 0 ? MAP_CAP_MIN : m->cap * 2);
        if (err < 0)
            return err;
    }
    struct map_slot *slot = find(m, key);
    if (slot->value == NULL)
        m->count++;
    slot->key = key;
    slot->value = value;
    return 0;
}

void *map_remove(struct map *m, uint64_t key)
{
    if (m->cap == 0)
        return NULL;
    struct map_slot *slot = find(m, key);
    void *value = slot->value;
    if (value == NULL)
        return NULL;
    m->count--;
    if (m->count == 0) {
        map_clear(m);
        return value;
    }
    /* close the gap: move back what would no longer be found (Knuth, TAOCP 3, 6.4 algorithm R) */
    size_t mask = m->cap - 1;
    size_t hole = (size_t)(slot - m->slots);
    for (size_t i = (hole + 1) & mask; m->slots[i].value != NULL; i = (i + 1) & mask) {
        size_t home = home_of(m, m->slots[i].key);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].value = NULL;
    return value;
}

void map_clear(struct map *m)
{
    free(m->slots);
    m->slots = NULL;
    m->count = m->cap = 0;
}

void *map_each(const struct map *m, size_t *iterator)
{
    while (*iterator < m->cap) {
        void *value = m->slots[(*iterator)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}
