#include "hawser/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int heap_reserve(struct heap *h, size_t count)
{
    if (count <= h->cap)
        return 0;
    size_t cap = h->cap == 0 ? 16 : h->cap;
    while (cap < count)
        cap *= 2;
    struct heap_node **nodes = realloc(h->nodes, cap * sizeof(struct heap_node *));
    if (nodes == NULL)
        return -ENOMEM;
    h->nodes = nodes;
    h->cap = cap;
    return 0;
}

static void place(struct heap *h, size_t i, struct heap_node *n)
{
    h->nodes[i] = n;
    n->index = i;
}

static void sift_up(struct heap *h, struct heap_node *n)
{
    size_t i = n->index;
    while (i > 0 && h->nodes[(i - 1) / 2]->key > n->key) {
        place(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(h, i, n);
}

static void sift_down(struct heap *h, struct heap_node *n)
{
    size_t i = n->index;
    for (size_t child = 2 * i + 1; child < h->count; child = 2 * i + 1) {
        if (child + 1 < h->count && h->nodes[child + 1]->key < h->nodes[child]->key)
            child++;
        if (h->nodes[child]->key >= n->key)
            break;
        place(h, i, h->nodes[child]);
        i = child;
    }
    place(h, i, n);
}

void heap_push(struct heap *h, struct heap_node *n)
{
    assert(n->index == HEAP_OUT && h->count < h->cap);
    n->index = h->count++;
    sift_up(h, n);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    if (n->index == HEAP_OUT)
        return;
    size_t i = n->index;
    struct heap_node *last = h->nodes[--h->count];
    n->index = HEAP_OUT;
    if (last == n)
        return;
    place(h, i, last);
    heap_update(h, last);
}

void heap_update(struct heap *h, struct heap_node *n)
{
    sift_up(h, n);
    sift_down(h, n);
}

void heap_end(struct heap *h)
{
    free(h->nodes);
    *h = (struct heap){0};
}
