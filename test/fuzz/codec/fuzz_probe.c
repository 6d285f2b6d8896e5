/* fuzz_probe.c - a connection's first bytes: the answer comes in time and never changes with more bytes. */
#include <stdlib.h>
#include <string.h>

#include "hawser/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    uint32_t answer = 0;
    for (size_t n = 0; n <= len && n <= 2 * PROBE_BYTES_MAX; n++) {
        uint8_t *exact = malloc(n > 0 ? n : 1);
        CHECK(exact != NULL);
        if (n > 0)
            memcpy(exact, input, n);
        uint32_t now = probe_protocol(exact, n);
        free(exact);
        CHECK(now == 0 || now == PROBE_TLS || now == PROBE_SSH || now == PROBE_HTTP || now == PROBE_OTHER);
        CHECK(answer == 0 || now == answer);
        CHECK(n < PROBE_BYTES_MAX || now != 0);
        answer = now;
    }
    return 0;
}
