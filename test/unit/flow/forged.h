/* forged.h - frames that no node of ours would write, given to node 1 of a bed (dedup_bed.h). */
#ifndef TEST_FLOW_FORGED_H
#define TEST_FLOW_FORGED_H

#include "flow/dedup_bed.h"

/* One frame, given to node 1 as if node 0 had sent it. */
struct forged {
    struct frame frame;       /* but for a STORED, which is: */
    struct segment_id id;     /* one reference */
    uint32_t off, len, spoil; /* spoil: added to the checksum */
    const uint8_t *bytes;     /* what is there */
    uint32_t plain;           /* not a reference: operations of so many bytes each, in plain */
    uint32_t edited;          /* many references: so many bytes, then EDIT in plain, and so on */
    uint64_t skip;            /* from where the session is */
    int result;
    size_t notes; /* that the node wants to write because of it */
};

static __attribute__((unused)) struct session *first_session(struct rig_node *n)
{
    struct session *s = TAILQ_FIRST(&n->mux->sessions);
    ck_assert_ptr_nonnull(s);
    return s;
}

enum { EDIT = 20 };

static __attribute__((unused)) void put_edited(const struct forged *g, struct stored_writer *w)
{
    uint64_t checksum = 0;
    for (uint32_t at = 0; at < g->len; at += g->edited + EDIT) {
        ck_assert(stored_put_reference(w, &g->id, g->off + at, g->edited));
        checksum = stored_checksum(checksum, g->bytes + at, g->edited);
        memcpy(stored_put_literal(w, NULL, 0, EDIT), g->bytes + at + g->edited, EDIT);
    }
    stored_end(w, (uint32_t)checksum + g->spoil);
}

static __attribute__((unused)) void give_reference(struct forged *g, struct rig_node *n)
{
    struct chunk *chunk = chunk_new(CHUNK_STANDARD_BYTES);
    ck_assert_ptr_nonnull(chunk);
    struct session *s = first_session(n);
    struct cursor_out out = cursor_out_over(chunk->bytes, CHUNK_STANDARD_BYTES);
    struct stored_writer w;
    ck_assert(stored_begin(&w, &out, s->id, s->received + g->skip));
    if (g->edited > 0) {
        put_edited(g, &w);
    } else if (g->plain == 0) {
        ck_assert(stored_put_reference(&w, &g->id, g->off, g->len));
        stored_end(&w, (uint32_t)stored_checksum(0, g->bytes, g->len) + g->spoil);
    } else {
        for (uint32_t at = 0; at < g->len; at += g->plain)
            memcpy(stored_put_literal(&w, NULL, 0, g->plain), g->bytes + at, g->plain);
        stored_end(&w, 0);
    }
    struct cursor block = cursor_over(chunk->bytes, (size_t)(out.at - chunk->bytes));
    struct frame f;
    ck_assert_int_eq(frame_next(&block, &f), 1);
    g->result = receive_frame(n->mux, 0, &f, chunk);
    chunk_unref(chunk);
}

static __attribute__((unused)) void give(void *arg)
{
    struct forged *g = arg;
    struct rig_node *n = &rig.nodes[1];
    if (g->bytes != NULL) {
        give_reference(g, n);
        return;
    }
    if (g->frame.type != FRAME_HOLD && g->frame.type != FRAME_DROP)
        g->frame.session = first_session(n)->id;
    size_t before = n->mux->note_count;
    g->result = receive_frame(n->mux, 0, &g->frame, NULL);
    g->notes = n->mux->note_count - before;
}

static __attribute__((unused)) int forge(struct forged g)
{
    rig_on(rig.nodes[1].home.loop, give, &g);
    return g.result;
}

#endif
