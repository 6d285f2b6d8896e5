#include "luck.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t state)
{
    state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
    return state ^ (state >> 31);
}

void luck_init(struct luck *luck, uint64_t seed)
{
    uint64_t state = mix(seed + GOLDEN);
    for (int i = 0; i < LUCK_STREAMS; i++) {
        luck->seeds[i] = mix(state += GOLDEN);
    }
}

uint64_t luck_bits(const struct luck *luck, enum luck_stream stream, uint64_t number)
{
    return mix(luck->seeds[stream] + (number + 1) * GOLDEN);
}

double luck_fraction(const struct luck *luck, enum luck_stream stream, uint64_t number)
{
    return (double)(luck_bits(luck, stream, number) >> 11) * 0x1p-53;
}

bool luck_hits(const struct luck *luck, enum luck_stream stream, uint64_t number, double share)
{
    return share > 0 && luck_fraction(luck, stream, number) < share;
}
