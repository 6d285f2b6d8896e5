/* fuzz_proved.c - bytes as a peer's entries: the reader stays inside them, and what it takes for entries
 * gives the same bytes when it is written again. As a whole file they are none but with their sum, so it is
 * made. */
#include <stdlib.h>
#include <string.h>

#include "hawser/proved.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

#define CHECK(condition) ((condition) ? (void)0 : abort())

enum { PEER = 7 };

static const uint8_t pin[SHELF_PIN_BYTES] = {1};

static void put_again(struct cursor_out *out, const struct proved_entry *e)
{
    struct intervals parts = {0};
    for (uint32_t i = 0; i < e->count; i++) {
        struct interval part = proved_part(e, i);
        CHECK(part.from < part.to && part.to <= SHELF_SEGMENT_BYTES);
        CHECK(intervals_add(&parts, part.from, part.to) == 0 && parts.count == i + 1);
    }
    proved_put(out, &e->segment, e->source, &parts);
    intervals_clear(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    if (len > PROVED_MOST_BYTES)
        return 0;
    uint8_t *file = malloc(PROVED_HEADER_BYTES + len), *again = malloc(len + 1);
    CHECK(file != NULL && again != NULL);
    uint8_t *entries = file + PROVED_HEADER_BYTES;
    if (len > 0)
        memcpy(entries, input, len);
    proved_put_header(file, pin, PEER, entries, len);
    struct cursor c = cursor_over(entries, len);
    struct cursor_out out = cursor_out_over(again, len);
    struct proved_entry e;
    while (proved_next(&c, &e))
        put_again(&out, &e);
    struct cursor whole = cursor_over(entries, len);
    struct segment_id first = {0};
    if (len >= PROVED_ENTRY_BYTES) {
        struct cursor id = cursor_over(entries, len);
        first.epoch = cursor_be(&id, 8);
        first.number = (uint32_t)cursor_be(&id, 4);
    }
    CHECK(!proved_find(&whole, &first, &e) || segment_id_equal(&first, &e.segment));
    CHECK(out.err == 0 && memcmp(again, entries, (size_t)(out.at - again)) == 0);
    CHECK((c.err == 0) == (out.at == again + len));
    CHECK(proved_is_sound(file, PROVED_HEADER_BYTES + len, pin, PEER) == (c.err == 0));
    CHECK(!proved_is_sound(file, PROVED_HEADER_BYTES + len, pin, PEER + 1));
    CHECK(!proved_is_sound(input, len, pin, PEER) || len >= PROVED_HEADER_BYTES);
    free(file);
    free(again);
    return 0;
}
