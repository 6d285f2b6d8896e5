/* Memory: a list of 256 KB chunks, oldest first. Packets are packed into them in order of arrival,
 * each a `struct packet` and its bytes, padded to 8. As order is kept, all is first in, first out:
 * a chunk is given back when the delivery cursor leaves it, to the top of a stack, so that no more
 * memory is ever touched than was needed at once.
 *
 *     head (next to be delivered) ... wire (next to have been sent whole) ... tail (next to arrive)
 *     |------ in the air --------|------ queue, its first being sent -------|
 *
 * Invariants: done_ns and due_ns never decrease from head to tail; due_ns >= done_ns; queue_bytes is
 * the sum of len from wire to tail. A lost packet keeps its header (it takes its turn in the queue)
 * but not its bytes. */
#include "path.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_BYTES (256u << 10)
#define CHUNK_ROOM  (CHUNK_BYTES - (uint32_t)sizeof(struct chunk))

struct chunk {
    struct chunk *next;
    uint32_t used;
    uint32_t pad;
    uint8_t bytes[];
};

struct packet {
    uint64_t done_ns; /* has left the sender whole */
    uint64_t due_ns;  /* arrives */
    uint32_t len;
    uint32_t lost; /* 0 or 1; of this width so that bytes starts where the structure ends */
    uint8_t bytes[];
};

struct cursor {
    struct chunk *chunk;
    uint32_t at;
};

struct path {
    struct link_params params;
    uint64_t queue_limit;
    uint64_t loss_below; /* a random number below this is a loss */
    uint32_t max_packet;

    uint64_t free_ns;   /* the sender is free from then on */
    uint64_t remainder; /* of the division by the rate, so that no fraction of a ns gets lost */
    uint64_t last_due_ns;
    uint64_t queue_bytes;
    struct path_count inside;
    struct path_counters counters;

    uint64_t loss_state;
    uint64_t jitter_seed;

    uint8_t *memory;
    uint32_t chunks_made;
    struct chunk *spare; /* stack of chunks that are not in use */
    struct chunk *tail;
    struct cursor head;
    struct cursor wire;
    uint8_t *overflow; /* a slot for what will be dropped */
};

/* Sebastiano Vigna's splitmix64: each state gives one well mixed number. */
static uint64_t mix(uint64_t state)
{
    state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
    return state ^ (state >> 31);
}

static uint64_t random_next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(*state);
}

/* --- memory ------------------------------------------------------------------------------------ */

static uint32_t packet_room(uint32_t payload)
{
    return ((uint32_t)sizeof(struct packet) + payload + 7u) & ~7u;
}

static struct chunk *chunk_take(struct path *path)
{
    struct chunk *chunk = path->spare;
    if (chunk) {
        path->spare = chunk->next;
    } else if (path->chunks_made < PATH_MEMORY_BYTES / CHUNK_BYTES) {
        chunk = (struct chunk *)(void *)(path->memory + (size_t)path->chunks_made * CHUNK_BYTES);
        path->chunks_made++;
    } else {
        return NULL;
    }
    chunk->next = NULL;
    chunk->used = 0;
    return chunk;
}

/* The packet under the cursor, NULL at the tail. */
static struct packet *cursor_packet(const struct cursor *cursor)
{
    if (cursor->at == cursor->chunk->used) {
        if (!cursor->chunk->next || cursor->chunk->next->used == 0) {
            return NULL;
        }
        return (struct packet *)(void *)cursor->chunk->next->bytes;
    }
    return (struct packet *)(void *)(cursor->chunk->bytes + cursor->at);
}

static void cursor_step(struct cursor *cursor)
{
    if (cursor->at == cursor->chunk->used) {
        cursor->chunk = cursor->chunk->next;
        cursor->at = 0;
    }
    const struct packet *packet = (const struct packet *)(const void *)(cursor->chunk->bytes + cursor->at);
    cursor->at += packet_room(packet->lost ? 0 : packet->len);
}

/* Gives back the chunks from `first` up to, without, `end`. */
static void chunks_give(struct path *path, struct chunk *first, const struct chunk *end)
{
    while (first != end) {
        struct chunk *next = first->next;
        first->next = path->spare;
        path->spare = first;
        first = next;
    }
}

/* Takes the oldest packet out and gives back a chunk that this emptied. */
static void pop(struct path *path)
{
    struct chunk *before = path->head.chunk;
    const struct packet *packet = cursor_packet(&path->head);
    path->inside.packets--;
    path->inside.bytes -= packet->len;
    cursor_step(&path->head);
    chunks_give(path, before, path->head.chunk);
    if (path->inside.packets == 0) { /* start over at the front: the memory is still in the cache */
        assert(path->queue_bytes == 0);
        chunks_give(path, path->head.chunk, path->tail);
        path->tail->used = 0;
        path->head = (struct cursor){path->tail, 0};
        path->wire = path->head;
    }
}

/* --- life -------------------------------------------------------------------------------------- */

struct path *path_new(uint32_t max_packet, uint64_t seed)
{
    struct path *path = calloc(1, sizeof *path);
    if (!path) {
        return NULL;
    }
    path->max_packet = max_packet;
    params_default(&path->params);
    path->loss_state = mix(seed + 1);
    path->jitter_seed = mix(path->loss_state);
    path->overflow = malloc(max_packet + 1u);
    void *memory = mmap(NULL, PATH_MEMORY_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!path->overflow || memory == MAP_FAILED) {
        free(path->overflow);
        free(path);
        return NULL;
    }
    path->memory = memory;
    path->tail = chunk_take(path);
    path->head = (struct cursor){path->tail, 0};
    path->wire = path->head;
    return path;
}

void path_free(struct path *path)
{
    if (path) {
        munmap(path->memory, PATH_MEMORY_BYTES);
        free(path->overflow);
        free(path);
    }
}

/* --- the way of a packet ----------------------------------------------------------------------- */

static void count(struct path_count *counter, size_t len)
{
    counter->packets++;
    counter->bytes += len;
}

/* What has been sent whole by now leaves the queue. */
static void settle(struct path *path, uint64_t now_ns)
{
    const struct packet *packet;
    while (path->queue_bytes > 0 && (packet = cursor_packet(&path->wire)) != NULL &&
           packet->done_ns <= now_ns) {
        path->queue_bytes -= packet->len;
        cursor_step(&path->wire);
    }
}

/* Extra delay at a moment: on the line between the random values before and after it. */
static uint64_t jitter_at(const struct path *path, uint64_t now_ns)
{
    uint64_t jitter_ns = path->params.jitter_ns;
    if (jitter_ns == 0) {
        return 0;
    }
    uint64_t period_ns = 2 * jitter_ns;
    uint64_t knot = now_ns / period_ns;
    double part = (double)(now_ns % period_ns) / (double)period_ns;
    double before = (double)(mix(path->jitter_seed + knot) >> 11) * 0x1p-53;
    double after = (double)(mix(path->jitter_seed + knot + 1) >> 11) * 0x1p-53;
    return (uint64_t)((before + (after - before) * part) * (double)jitter_ns);
}

/* Gives the packet its turn at the sender and its arrival, both by arithmetic. */
static void schedule(struct path *path, struct packet *packet, uint64_t now_ns)
{
    uint64_t start_ns = path->free_ns;
    if (start_ns <= now_ns) {
        start_ns = now_ns;
        path->remainder = 0;
    }
    packet->done_ns = start_ns;
    if (path->params.rate_bps > 0) {
        uint64_t bits_ns = (uint64_t)packet->len * 8 * UINT64_C(1000000000) + path->remainder;
        packet->done_ns += bits_ns / path->params.rate_bps;
        path->remainder = bits_ns % path->params.rate_bps;
    }
    path->free_ns = packet->done_ns;
    packet->due_ns = packet->done_ns + path->params.delay_ns + jitter_at(path, packet->done_ns);
    if (packet->due_ns < path->last_due_ns) {
        packet->due_ns = path->last_due_ns; /* the delay was made smaller: nobody overtakes */
    }
    path->last_due_ns = packet->due_ns;
}

void *path_slot(struct path *path)
{
    /* One byte more than the largest packet, so that a longer one is noticed. */
    if (CHUNK_ROOM - path->tail->used < packet_room(path->max_packet + 1u)) {
        struct chunk *chunk = chunk_take(path);
        if (!chunk) {
            return path->overflow;
        }
        path->tail->next = chunk;
        path->tail = chunk;
    }
    return path->tail->bytes + path->tail->used + sizeof(struct packet);
}

void path_admit(struct path *path, size_t len, uint64_t now_ns)
{
    bool lost = random_next(&path->loss_state) < path->loss_below;

    count(&path->counters.in, len);
    if (!path->params.link_up) {
        count(&path->counters.drop_down, len);
        return;
    }
    if (len > path->max_packet || CHUNK_ROOM - path->tail->used < packet_room((uint32_t)len)) {
        count(&path->counters.drop_error, len);
        return;
    }
    settle(path, now_ns);
    if (path->queue_limit > 0 && path->queue_bytes + len > path->queue_limit) {
        count(&path->counters.drop_queue, len);
        return;
    }
    struct packet *packet = (struct packet *)(void *)(path->tail->bytes + path->tail->used);
    packet->len = (uint32_t)len;
    packet->lost = lost;
    schedule(path, packet, now_ns);
    path->tail->used += packet_room(lost ? 0 : packet->len);
    path->queue_bytes += len;
    count(&path->inside, len);
    if (path->queue_bytes > path->counters.queue_max_bytes) {
        path->counters.queue_max_bytes = path->queue_bytes;
    }
}

const void *path_due(struct path *path, uint64_t now_ns, size_t *len)
{
    settle(path, now_ns);
    const struct packet *packet;
    while ((packet = cursor_packet(&path->head)) != NULL && packet->due_ns <= now_ns) {
        if (!packet->lost) {
            *len = packet->len;
            return packet->bytes;
        }
        count(&path->counters.drop_loss, packet->len);
        pop(path);
    }
    return NULL;
}

void path_delivered(struct path *path, bool ok, uint64_t now_ns)
{
    const struct packet *packet = cursor_packet(&path->head);
    assert(packet);
    if (ok) {
        uint64_t step = (now_ns - packet->due_ns) / (PATH_LATE_STEP_US * 1000u);
        path->counters.late[step < PATH_LATE_STEPS ? step : PATH_LATE_STEPS - 1]++;
        count(&path->counters.out, packet->len);
    } else {
        count(&path->counters.drop_error, packet->len);
    }
    pop(path);
}

uint64_t path_next_ns(const struct path *path)
{
    const struct packet *packet = cursor_packet(&path->head);
    return packet ? packet->due_ns : PATH_NEVER;
}

/* --- parameters and figures -------------------------------------------------------------------- */

/* What still waits behind the packet being sent gets its turn by the new parameters. */
static void reschedule(struct path *path, uint64_t now_ns)
{
    struct cursor cursor = path->wire;
    struct packet *packet = cursor_packet(&cursor);
    if (path->queue_bytes == 0 || !packet) {
        return;
    }
    path->free_ns = packet->done_ns;
    path->last_due_ns = packet->due_ns;
    path->remainder = 0;
    for (cursor_step(&cursor); (packet = cursor_packet(&cursor)) != NULL; cursor_step(&cursor)) {
        schedule(path, packet, now_ns);
    }
}

static void drop_inside(struct path *path)
{
    const struct packet *packet;
    path->queue_bytes = 0; /* pop resets wire once all is out */
    while ((packet = cursor_packet(&path->head)) != NULL) {
        count(&path->counters.drop_down, packet->len);
        pop(path);
    }
    path->free_ns = 0;
    path->last_due_ns = 0;
}

void path_set(struct path *path, const struct link_params *params, uint64_t queue_limit, uint64_t now_ns)
{
    settle(path, now_ns);
    path->params = *params;
    path->queue_limit = queue_limit;
    path->loss_below = params->loss >= 1.0 ? UINT64_MAX : (uint64_t)(params->loss * 0x1p64);
    if (params->link_up) {
        reschedule(path, now_ns);
    } else {
        drop_inside(path);
    }
}

const struct link_params *path_params(const struct path *path)
{
    return &path->params;
}

uint64_t path_queue_limit(const struct path *path)
{
    return path->queue_limit;
}

const struct path_counters *path_counters(const struct path *path)
{
    return &path->counters;
}

struct path_count path_inside(const struct path *path)
{
    return path->inside;
}

uint64_t path_queue_now(struct path *path, uint64_t now_ns)
{
    settle(path, now_ns);
    return path->queue_bytes;
}

uint32_t path_late_us(const struct path *path, double share)
{
    uint64_t total = 0, seen = 0;
    for (uint32_t i = 0; i < PATH_LATE_STEPS; i++) {
        total += path->counters.late[i];
    }
    for (uint32_t i = 0; i < PATH_LATE_STEPS && total > 0; i++) {
        seen += path->counters.late[i];
        if ((double)seen >= share * (double)total) {
            return (i + 1) * PATH_LATE_STEP_US;
        }
    }
    return 0;
}

void path_zero(struct path *path)
{
    memset(&path->counters, 0, sizeof path->counters);
    path->counters.in = path->inside;
    path->counters.queue_max_bytes = path->queue_bytes;
}
