/* Memory: a list of 256 KB chunks, oldest first. Packets are packed into them in order of arrival,
 * each a `struct packet` and its bytes, padded to 8. A copy stands right behind its original.
 *
 *     head (oldest inside) ... wire (next to have been sent whole) ... tail (next to arrive)
 *     |---- in the air ------|-------- queue, its first being sent -------|
 *
 * All that is inside is also in one list by the time it is due. A packet is mostly due after all that came
 * before it and goes to the list's end; where packets overtake it is as many steps from there as it
 * overtakes. A delivered packet is marked gone, and memory is given back from the head on as far as all is
 * gone, to the top of a stack, so that no more memory is ever touched than was needed at once.
 *
 * Invariants: done_ns never decreases from head to tail, due_ns never along the list; due_ns >= done_ns, so
 * nothing is gone that the wire has not passed; queue_bytes is the sum of len from wire to tail, but for
 * copies. A lost packet keeps its header (it takes its turn in the queue) but not its bytes. */
#include "path.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "luck.h"

#define CHUNK_BYTES (256u << 10)
#define CHUNK_ROOM  (CHUNK_BYTES - (uint32_t)sizeof(struct chunk))

/* The device looks at the first four bits, the version of IP, and takes no packet that is neither. */
#define VERSION_BITS 4

struct chunk {
    struct chunk *next;
    uint32_t used;
    uint32_t pad;
    uint8_t bytes[];
};

enum packet_fate { ARRIVES, LOST, LOST_IN_BURST };

struct packet {
    uint64_t arrived_ns;
    uint64_t done_ns; /* has left the sender whole */
    uint64_t due_ns;  /* arrives */
    uint64_t number;  /* of arrival, from 0 */
    struct packet *sooner;
    struct packet *later;
    uint32_t len;
    uint8_t fate; /* enum packet_fate */
    bool copy;
    bool gone;
    uint8_t pad; /* so that bytes starts where the structure ends */
    uint8_t bytes[];
};

struct cursor {
    struct chunk *chunk;
    uint32_t at;
};

struct path {
    struct link_params params;
    uint64_t queue_limit;
    uint32_t max_packet;

    uint64_t free_ns;   /* the sender is free from then on */
    uint64_t remainder; /* of the division by the rate, so that no fraction of a ns gets lost */
    uint64_t queue_bytes;
    struct path_count inside;
    struct path_counters counters;

    struct luck luck;
    uint64_t arrivals;
    uint64_t delivered_next; /* one past the highest number delivered */
    bool in_burst;

    uint8_t *memory;
    uint32_t chunks_made;
    struct chunk *spare; /* stack of chunks that are not in use */
    struct chunk *tail;
    struct cursor head;
    struct cursor wire;
    struct packet *soonest; /* the list by due_ns */
    struct packet *latest;
    uint8_t *overflow; /* a slot for what will be dropped */
};

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
    cursor->at += packet_room(packet->fate == ARRIVES ? packet->len : 0);
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

/* --- the list ---------------------------------------------------------------------------------- */

/* Behind all that are due no later, so that what is due at once keeps its order. */
static void list_insert(struct path *path, struct packet *packet)
{
    struct packet *before = path->latest;
    while (before && before->due_ns > packet->due_ns) {
        before = before->sooner;
    }
    packet->sooner = before;
    packet->later = before ? before->later : path->soonest;
    *(before ? &before->later : &path->soonest) = packet;
    *(packet->later ? &packet->later->sooner : &path->latest) = packet;
}

static void list_remove(struct path *path, struct packet *packet)
{
    *(packet->sooner ? &packet->sooner->later : &path->soonest) = packet->later;
    *(packet->later ? &packet->later->sooner : &path->latest) = packet->sooner;
}

/* Takes the packet that is due first out and gives back the chunks that this emptied. */
static void pop(struct path *path)
{
    struct packet *packet = path->soonest;
    path->inside.packets--;
    path->inside.bytes -= packet->len;
    list_remove(path, packet);
    packet->gone = true;
    while ((packet = cursor_packet(&path->head)) != NULL && packet->gone) {
        struct chunk *before = path->head.chunk;
        cursor_step(&path->head);
        chunks_give(path, before, path->head.chunk);
    }
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
    luck_init(&path->luck, seed);
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
    while ((packet = cursor_packet(&path->wire)) != NULL && packet->done_ns <= now_ns) {
        path->queue_bytes -= packet->copy ? 0 : packet->len;
        cursor_step(&path->wire);
    }
}

/* Extra delay at a moment: on the line between the random values before and after it. */
static double wander_at(const struct path *path, uint64_t now_ns)
{
    uint64_t period_ns = 2 * path->params.jitter_ns;
    uint64_t point = now_ns / period_ns;
    double part = (double)(now_ns % period_ns) / (double)period_ns;
    double before = luck_fraction(&path->luck, LUCK_WANDER, point);
    double after = luck_fraction(&path->luck, LUCK_WANDER, point + 1);
    return before + (after - before) * part;
}

static uint64_t jitter_of(const struct path *path, const struct packet *packet)
{
    uint64_t jitter_ns = path->params.jitter_ns;
    if (jitter_ns == 0) {
        return 0;
    }
    enum luck_stream stream = packet->copy ? LUCK_COPY : LUCK_JITTER;
    double share = path->params.reorder ? luck_fraction(&path->luck, stream, packet->number)
                                        : wander_at(path, packet->done_ns);
    return (uint64_t)(share * (double)jitter_ns);
}

/* Gives the packet its turn at the sender and its arrival, both by arithmetic, and puts it into the list. A
 * copy leaves the sender together with its original, which was scheduled just before. */
static void schedule(struct path *path, struct packet *packet, uint64_t now_ns)
{
    if (!packet->copy) {
        if (path->free_ns <= now_ns) {
            path->free_ns = now_ns;
            path->remainder = 0;
        }
        if (path->params.rate_bps > 0) {
            uint64_t bits_ns = (uint64_t)packet->len * 8 * UINT64_C(1000000000) + path->remainder;
            path->free_ns += bits_ns / path->params.rate_bps;
            path->remainder = bits_ns % path->params.rate_bps;
        }
    }
    packet->done_ns = path->free_ns;
    packet->due_ns = packet->done_ns + path->params.delay_ns + jitter_of(path, packet);
    if (!path->params.reorder && path->latest && packet->due_ns < path->latest->due_ns) {
        packet->due_ns = path->latest->due_ns; /* the delay was made smaller: nobody overtakes */
    }
    list_insert(path, packet);
}

/* One byte more than the largest packet, so that a longer one is noticed. */
static bool tail_has_room(const struct path *path)
{
    return CHUNK_ROOM - path->tail->used >= packet_room(path->max_packet + 1u);
}

void *path_slot(struct path *path)
{
    if (!tail_has_room(path)) {
        struct chunk *chunk = chunk_take(path);
        if (!chunk) {
            return path->overflow;
        }
        path->tail->next = chunk;
        path->tail = chunk;
    }
    return path->tail->bytes + path->tail->used + sizeof(struct packet);
}

/* Whether the packet that arrives is lost in the air. Called once for each, whatever becomes of it. */
static enum packet_fate fate_of(struct path *path, uint64_t number)
{
    const struct link_params *params = &path->params;
    double leaves = path->in_burst ? 1.0 / (double)params->burst_packets : params->burst;
    if (luck_hits(&path->luck, LUCK_BURST, number, leaves)) {
        path->in_burst = !path->in_burst;
    }
    if (!luck_hits(&path->luck, LUCK_LOSS, number, path->in_burst ? params->burst_loss : params->loss)) {
        return ARRIVES;
    }
    return path->in_burst ? LOST_IN_BURST : LOST;
}

/* Takes the packet that path_slot has room for, with its bytes in place, into the memory and the list. */
static void take_in(struct path *path, const struct packet *as, uint64_t now_ns)
{
    struct packet *packet = (struct packet *)(void *)(path->tail->bytes + path->tail->used);
    *packet = *as;
    path->tail->used += packet_room(packet->fate == ARRIVES ? packet->len : 0);
    count(&path->inside, packet->len);
    schedule(path, packet, now_ns);
}

/* After a packet was taken in: the same bytes once more, if there is memory. */
static void take_copy(struct path *path, const uint8_t *bytes, struct packet *as, uint64_t now_ns)
{
    count(&path->counters.duplicated, as->len);
    uint8_t *slot = path_slot(path);
    if (slot == path->overflow) {
        count(&path->counters.drop_error, as->len);
        return;
    }
    memcpy(slot, bytes, as->len);
    as->copy = true;
    take_in(path, as, now_ns);
}

static void turn_bit(struct path *path, uint8_t *bytes, size_t len, uint64_t number)
{
    uint64_t bits = (uint64_t)len * 8 - VERSION_BITS;
    uint64_t bit = VERSION_BITS + luck_bits(&path->luck, LUCK_BIT, number) % bits;
    bytes[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
    count(&path->counters.corrupted, len);
}

void path_admit(struct path *path, size_t len, uint64_t now_ns)
{
    uint64_t number = path->arrivals++;
    enum packet_fate fate = fate_of(path, number);

    count(&path->counters.in, len);
    if (!path->params.link_up) {
        count(&path->counters.drop_down, len);
        return;
    }
    if (len == 0 || len > path->max_packet || !tail_has_room(path)) {
        count(&path->counters.drop_error, len);
        return;
    }
    settle(path, now_ns);
    if (path->queue_limit > 0 && path->queue_bytes + len > path->queue_limit) {
        count(&path->counters.drop_queue, len);
        return;
    }
    uint8_t *bytes = path->tail->bytes + path->tail->used + sizeof(struct packet);
    struct packet packet = {
        .arrived_ns = now_ns, .number = number, .len = (uint32_t)len, .fate = (uint8_t)fate};
    if (fate == ARRIVES && luck_hits(&path->luck, LUCK_CORRUPT, number, path->params.corrupt)) {
        turn_bit(path, bytes, len, number);
    }
    path->queue_bytes += len;
    take_in(path, &packet, now_ns);
    if (fate == ARRIVES && luck_hits(&path->luck, LUCK_DUPLICATE, number, path->params.duplicate)) {
        take_copy(path, bytes, &packet, now_ns);
    }
    if (path->queue_bytes > path->counters.queue_max_bytes) {
        path->counters.queue_max_bytes = path->queue_bytes;
    }
}

const void *path_due(struct path *path, uint64_t now_ns, size_t *len)
{
    settle(path, now_ns);
    const struct packet *packet;
    while ((packet = path->soonest) != NULL && packet->due_ns <= now_ns) {
        if (packet->fate == ARRIVES) {
            *len = packet->len;
            return packet->bytes;
        }
        count(packet->fate == LOST ? &path->counters.drop_loss : &path->counters.drop_burst, packet->len);
        pop(path);
    }
    return NULL;
}

void path_delivered(struct path *path, bool ok, uint64_t now_ns)
{
    const struct packet *packet = path->soonest;
    assert(packet);
    if (ok) {
        delays_add(&path->counters.given, now_ns - packet->arrived_ns);
        delays_add(&path->counters.late, now_ns - packet->due_ns);
        count(&path->counters.out, packet->len);
        if (packet->number + 1 < path->delivered_next) {
            count(&path->counters.reordered, packet->len);
        } else {
            path->delivered_next = packet->number + 1;
        }
    } else {
        count(&path->counters.drop_error, packet->len);
    }
    pop(path);
}

uint64_t path_next_ns(const struct path *path)
{
    return path->soonest ? path->soonest->due_ns : PATH_NEVER;
}

/* --- parameters and figures -------------------------------------------------------------------- */

/* What still waits behind the packet being sent gets its turn by the new parameters. */
static void reschedule(struct path *path, uint64_t now_ns)
{
    struct cursor first = path->wire;
    struct packet *packet = cursor_packet(&first);
    if (!packet) {
        return;
    }
    path->free_ns = packet->done_ns;
    path->remainder = 0;
    cursor_step(&first);
    for (struct cursor at = first; (packet = cursor_packet(&at)) != NULL; cursor_step(&at)) {
        list_remove(path, packet); /* all of them before any is put back: they are no bound to each other */
    }
    for (struct cursor at = first; (packet = cursor_packet(&at)) != NULL; cursor_step(&at)) {
        schedule(path, packet, now_ns);
    }
}

static void drop_inside(struct path *path)
{
    path->queue_bytes = 0; /* pop resets wire once all is out */
    while (path->soonest) {
        count(&path->counters.drop_down, path->soonest->len);
        pop(path);
    }
    path->free_ns = 0;
}

void path_set(struct path *path, const struct link_params *params, uint64_t queue_limit, uint64_t now_ns)
{
    settle(path, now_ns);
    path->params = *params;
    path->queue_limit = queue_limit;
    path->in_burst = path->in_burst && params->burst > 0;
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

void path_zero(struct path *path)
{
    memset(&path->counters, 0, sizeof path->counters);
    path->counters.in = path->inside;
    path->counters.queue_max_bytes = path->queue_bytes;
}
