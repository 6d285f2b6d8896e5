/* fuzz_shelf.c - bytes as a segment's file. Whatever they are, the reader stays inside them and moves on, and
 * what it takes for a record is one: written again it has the same head. */
#include <stdlib.h>
#include <string.h>

#include "hawser/shelf_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct shelf_label label;
    uint64_t key;
    if (len < SHELF_HEADER_BYTES || !shelf_get_header(input, &label, &key))
        return 0;
    uint8_t header[SHELF_HEADER_BYTES], head[SHELF_HEAD_BYTES];
    CHECK(shelf_put_header(header, &label) == key && memcmp(header, input, sizeof(header)) == 0);
    size_t exact_len = len - SHELF_HEADER_BYTES, at = 0, was = 0;
    uint8_t *exact = malloc(exact_len > 0 ? exact_len : 1); /* on its own, so that a read past it is seen */
    CHECK(exact != NULL);
    if (exact_len > 0)
        memcpy(exact, input + SHELF_HEADER_BYTES, exact_len);
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
