/* heap.h - a binary min-heap of intrusive nodes with a double key (floor 0). One thread. */
#ifndef HAWSER_HEAP_H
#define HAWSER_HEAP_H

#include <stddef.h>

#define HEAP_OUT ((size_t)-1)

struct heap_node {
    double key;
    size_t index; /* HEAP_OUT while in no heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count, cap;
};

static inline void heap_node_init(struct heap_node *n)
{
    n->index = HEAP_OUT;
    n->key = 0;
}

static inline struct heap_node *heap_top(const struct heap *h)
{
    return h->count > 0 ? h->nodes[0] : NULL;
}

/* Room for count nodes, so that heap_push cannot fail afterwards. 0 or -ENOMEM. */
int heap_reserve(struct heap *h, size_t count);
/* n must be in no heap, and room reserved. */
void heap_push(struct heap *h, struct heap_node *n);
/* Fine when n is in no heap. */
void heap_remove(struct heap *h, struct heap_node *n);
/* After n->key changed. */
void heap_update(struct heap *h, struct heap_node *n);
void heap_end(struct heap *h);

#endif
