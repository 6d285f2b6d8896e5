/* luck.h - the random numbers that decide on each packet. Pure.
 * Each decision has a stream of its own, and number n of a stream depends on the seed and n alone: with the
 * same seed the n-th packet meets the same luck, whatever else is switched on and whatever became of the
 * packets before it. Source: Steele, Lea and Flood, 'Fast splittable pseudorandom number generators'
 * (splitmix64), read at any place instead of one after the other. */
#ifndef HAWSER_WANEM_LUCK_H
#define HAWSER_WANEM_LUCK_H

#include <stdbool.h>
#include <stdint.h>

enum luck_stream {
    LUCK_LOSS,
    LUCK_BURST,     /* begin and end of bursts of loss */
    LUCK_DUPLICATE, /* whether there is a copy */
    LUCK_CORRUPT,   /* whether a bit is turned */
    LUCK_BIT,       /* which one */
    LUCK_JITTER,    /* of a packet, where packets may overtake */
    LUCK_COPY,      /* the same for a copy */
    LUCK_WANDER,    /* jitter that keeps the order: its value at point n */
    LUCK_STREAMS
};

struct luck {
    uint64_t seeds[LUCK_STREAMS];
};

void luck_init(struct luck *luck, uint64_t seed);
/* 64 random bits. */
uint64_t luck_bits(const struct luck *luck, enum luck_stream stream, uint64_t number);
/* From 0 to just below 1. */
double luck_fraction(const struct luck *luck, enum luck_stream stream, uint64_t number);
/* True for a share (0 to 1) of all numbers. */
bool luck_hits(const struct luck *luck, enum luck_stream stream, uint64_t number, double share);

#endif
