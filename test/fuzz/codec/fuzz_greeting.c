/* fuzz_greeting.c - a greeting from hostile bytes.
 * A short input is continued with zeros, as the padding is, so that seeds stay small. What was read must be
 * within the bounds that greeting.h promises, and must be the same when put and read again. */
#include <stdlib.h>
#include <string.h>

#include "hawser/frame.h"
#include "hawser/greeting.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

static void check_greeting(const struct greeting *g)
{
    static uint8_t first[GREETING_BYTES], again[GREETING_BYTES];
    struct greeting second;
    CHECK(g->version == PROTOCOL_VERSION && g->opening_credit_bytes <= FRAME_OFFSET_MAX);
    CHECK(memchr(g->name, '\0', sizeof(g->name)) != NULL);
    for (const char *p = g->name; *p != '\0'; p++)
        CHECK((uint8_t)*p >= 0x20 && *p != 0x7f);
    greeting_put(first, g);
    CHECK(greeting_get(&second, first) == 0);
    greeting_put(again, &second);
    CHECK(memcmp(first, again, sizeof(first)) == 0);
    CHECK(second.features == g->features && second.slot == g->slot && strcmp(second.name, g->name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    uint8_t *exact = calloc(1, GREETING_BYTES);
    CHECK(exact != NULL);
    if (len > 0)
        memcpy(exact, input, len <= GREETING_BYTES ? len : GREETING_BYTES);

    uint8_t prefix[GREETING_PREFIX_BYTES];
    memcpy(prefix, exact, sizeof(prefix));
    int checked = greeting_check_prefix(prefix);
    struct greeting g;
    int got = greeting_get(&g, exact);
    CHECK(checked == 0 || got == checked); /* the prefix's verdict is not softened by what follows */
    if (got == 0)
        check_greeting(&g);
    free(exact);
    return 0;
}
