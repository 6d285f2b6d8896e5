/* fuzz_shelf.c - bytes as a segment's file. Whatever they are, the reader stays inside them and moves on, and
 * what it takes for a record is one: written again it has the same head; and so for a sample. */
#include <stdlib.h>
#include <string.h>

#include "hawser/shelf_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

enum { SEED = 99 };

static void check_sample(const uint8_t bytes[static SHELF_SAMPLE_BYTES], uint64_t key)
{
    struct sample sample, again;
    uint8_t written[SHELF_SAMPLE_BYTES];
    bool sound = shelf_get_sample(bytes, key, SEED, &sample);
    CHECK(sample.count <= SAMPLE_MOST && (sound || sample.count == 0));
    shelf_put_sample(written, key, SEED, &sample);
    CHECK(shelf_get_sample(written, key, SEED, &again) && again.count == sample.count);
    CHECK(memcmp(again.keys, sample.keys, sample.count * sizeof(sample.keys[0])) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct shelf_label label;
    uint64_t key;
    if (len < SHELF_LOG_AT || !shelf_get_header(input, &label, &key))
        return 0;
    uint8_t header[SHELF_HEADER_BYTES], head[SHELF_HEAD_BYTES];
    CHECK(shelf_put_header(header, &label) == key && memcmp(header, input, sizeof(header)) == 0);
    check_sample(input + SHELF_HEADER_BYTES, key);
    size_t exact_len = len - SHELF_LOG_AT, at = 0, was = 0;
    uint8_t *exact = malloc(exact_len > 0 ? exact_len : 1); /* on its own, so that a read past it is seen */
    CHECK(exact != NULL);
    if (exact_len > 0)
        memcpy(exact, input + SHELF_LOG_AT, exact_len);
    for (;;) {
        struct shelf_record r;
        enum shelf_found found = shelf_next(exact, exact_len, &at, key, &r);
        if (found != SHELF_RECORD && found != SHELF_CHANGED) {
            CHECK(at == was);
            break;
        }
        CHECK(at > was && at <= exact_len && r.len > 0 && r.off <= SHELF_SEGMENT_BYTES - r.len);
        shelf_put_head(head, key, r.off, r.bytes, r.len);
        CHECK((memcmp(head, exact + was, sizeof(head)) == 0) == (found == SHELF_RECORD));
        was = at;
    }
    free(exact);
    return 0;
}
