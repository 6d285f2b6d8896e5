/* map.h - a hash map from 64-bit keys to pointers (floor 0). Open addressing, linear probing, no memory while
 * empty. Keys are the caller's; for keys that an outsider picks the hash is salted by `salt`. One thread. */
#ifndef HAWSER_MAP_H
#define HAWSER_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot {
    uint64_t key;
    void *value; /* NULL: empty */
};

struct map {
    struct map_slot *slots;
    size_t count, cap; /* cap is 0 or a power of two */
    uint64_t salt;
};

void *map_get(const struct map *m, uint64_t key);
/* value must not be NULL; an earlier value under the key is replaced. 0 or -ENOMEM. */
int map_put(struct map *m, uint64_t key, void *value);
/* Takes the key out and returns its value, or NULL. */
void *map_remove(struct map *m, uint64_t key);
void map_clear(struct map *m);

/* for (size_t i = 0; (v = map_each(m, &i)) != NULL;) visits every value; the map must not change meanwhile.
 */
void *map_each(const struct map *m, size_t *iterator);

#endif
