/* session.h - one proxied connection, seen from the tunnel (floor 5, shared by mux.c, session.c, transmit.c
 * and receive.c).
 *
 * A session is two halves that know nothing of each other: `out`, from our host into the tunnel, and `in`,
 * from the tunnel to our host. Each counts bytes from 0; the end of a direction counts as one more.
 *
 *   out:  acked <= sent <= read           see replay.h
 *   in:   consumed <= received            [consumed, received) is with the leg
 *
 * What came must fit into the credit: up to `granted`, which is at most a window past `consumed`, all of it;
 * and beyond that as long as no more than a window is held. Bytes that came as long references are not held:
 * the store has them. So a session holds at most twice its window (in chunks that are at least half full),
 * whatever its peer sends, and what `excess` says.
 *
 * A half goes OPEN -> ENDING (its final offset is known) -> DONE (the end was confirmed), or from OPEN and
 * ENDING to RESET. A session is over when both halves are DONE, or when it was reset and both sides have said
 * so; its id is never used again. What is owed to the peer is a set of wants, not a queue: a lost lane sets
 * them again and nothing is forgotten. */
#ifndef HAWSER_SESSION_H
#define HAWSER_SESSION_H

#include <sys/queue.h>

#include "hawser/early.h"
#include "hawser/heap.h"
#include "hawser/holdings.h"
#include "hawser/map.h"
#include "hawser/mux.h"
#include "hawser/ratewin.h"
#include "hawser/replay.h"
#include "hawser/rules.h"
#include "hawser/savings.h"
#include "hawser/spans.h"
#include "hawser/store.h"
#include "hawser/stored.h"

enum session_half { HALF_OPEN, HALF_ENDING, HALF_DONE, HALF_RESET };
enum { HALF_COUNT = 4 };

/* Frames that a session owes to its peer. */
enum session_want {
    WANT_OPEN = 1,
    WANT_ACK = 2,
    WANT_CREDIT = 4,
    WANT_FIN = 8,
    WANT_RST = 16,
    WANT_RST_ANSWER = 32,
    WANT_MISS = 64
};

struct session {
    struct mux *mux;
    struct leg *leg; /* NULL once it is closed and released */
    uint64_t id;     /* 0 until the OPEN is written */
    struct endpoint client, server;
    uint64_t born_us;
    int class_index;
    uint8_t dscp;
    bool near, confirmed, credited;
    bool origin_connected; /* far: the destination has answered */
    bool opaque;           /* encrypted by its ends: neither worth compressing nor worth a look */
    bool rst_heard;        /* the peer's RST is in */
    bool retired;          /* over for the tunnel; only the leg is waited for */
    bool finish_sent;      /* leg_finish was said */
    bool fin_sent;         /* over a lane that is not lost since */
    bool fin_said;         /* ever */
    enum frame_rst_reason rst_reason;
    enum session_half out, in;

    /* out */
    struct replay replay;
    struct store_stream stream; /* where matching and storing go on; see dedup.c */
    struct savings saved_out;   /* sent as references and not acknowledged */
    bool urgent;                /* some of what waits is not known to the peer, or began a message */
    uint64_t put_us;            /* the last STORED */
    struct spans answered;      /* what the peer asked for: goes without references, once a lane */
    uint64_t linger_us;         /* since when it waits for more of the same; 0: does not */
    uint64_t allowed;           /* the leg may read up to this offset */
    uint64_t raw_limit;         /* offset up to which the peer takes bytes, */
    uint64_t limit;             /* and up to which it pays for them: what was saved does not count */
    uint64_t opening_used;      /* of the tunnel's opening credit */
    uint64_t send_reserved;     /* of memory->growth */
    struct heap_node turn;      /* in its class's heap while something can be sent */
    uint8_t turn_lane;          /* which heap */
    double last_key;            /* log2 of the bytes sent lately, see transmit.c */
    int open_slot;              /* lane of the last OPEN */
    int last_slot;              /* lane of the last DATA, -1 none */
    struct {
        uint64_t from, end; /* of unacknowledged bytes that went over the lane: they may be lost with it */
    } slots[CONFIG_LANES_MAX];
    uint64_t twin_from, twin_end; /* small and fresh: to go over another lane than twin_slot too */
    int twin_slot;
    bool reset_after_sent; /* our host reset: so shall the peer's, once it has what came before */

    /* in */
    uint64_t received, consumed, final; /* final: UINT64_MAX until the FIN is in */
    uint64_t granted, acked_told, window;
    uint64_t excess;                   /* held past the window (see receive.c), of mux.excess_bytes */
    uint64_t epoch_us, epoch_consumed; /* for growing the window */
    struct early_list early;
    struct {
        uint64_t offset, position;
    } followed;              /* where the last bytes with an address ended: in the stream, in the store */
    struct savings saved_in; /* received as references and not with the host yet */
    uint64_t miss_from, miss_end;  /* asked for, since references in it did not resolve; equal: nothing */
    uint64_t miss_low, miss_known; /* of all that is missing */
    bool reset_after_final;        /* the peer's host reset after `final`: so do we, once it is delivered */

    uint32_t wants;
    struct mux_traffic sent, came;
    TAILQ_ENTRY(session) all, owing, late, twins, lingering;
    bool is_owing, is_late, is_twin;
};
TAILQ_HEAD(session_list, session);

/* One class's share of the tunnel. */
struct mux_class {
    struct heap heaps[2]; /* [0] for the express lane, [1] for bulk lanes */
    double virtual_time;  /* bytes sent / weight */
    uint32_t weight;
    struct config_rate limit;
    struct ratewin *window; /* of a limited class */
    struct mux_traffic sent, came;
};

/* Ids of closed sessions of the peer as ranges of (id >> 1), so that a late OPEN is not taken for a new one.
 */
enum { CLOSED_RANGES_MAX = 32768 }; /* more come only from a peer that leaves gaps on purpose */
struct closed_ids {
    struct closed_range {
        uint64_t first, last;
    } * ranges;
    size_t count, cap;
};

enum { MUX_REFUSED_KEPT = 64 };

struct mux {
    struct leg_host *home;
    const struct mux_world *world;
    struct config *config;
    size_t peer_index;
    const struct config_peer *peer;
    struct tunnel *tunnel;
    struct map by_id;
    struct session_list sessions, owing, late, twins, lingering;
    struct holdings holdings;
    struct mux_note {
        struct segment_id segment;
        uint32_t from, to; /* equal: a DROP, else a HOLD */
    } * notes;             /* about our store, for the peer to know */
    size_t note_count, note_cap;
    uint64_t recalled_parts;             /* this second, of segments: what HOLD and DROP moved */
    uint64_t mismatched_bytes;           /* this second, of frames whose references resolved to other bytes */
    bool announced;                      /* the peer was told what we hold */
    uint64_t noted_us[CONFIG_LANES_MAX]; /* when a note last went over the lane */
    TAILQ_ENTRY(mux) same_home;
    struct mux_class *classes; /* config's classes, then the default one */
    size_t class_count;
    bool looks_at_protocol;    /* a class has `proto` */
    struct ratewin *unlimited; /* what all other classes send; NULL: no class is limited */
    bool limiting;
    double virtual_now;
    uint64_t next_id; /* counter of our own sessions, without the side bit */
    struct closed_ids closed;
    uint64_t opening_left, opening_total;
    uint64_t excess_bytes; /* what sessions hold past their windows: the peer's opening credit pays, */
    uint64_t opening_ours; /* so much of it */
    struct mux_answer {
        uint64_t id;
        enum frame_rst_reason reason;
    } * answers; /* RST to answer with, for sessions that are no more or were refused */
    size_t answer_count;
    struct mux_answer refused[MUX_REFUSED_KEPT]; /* the last, a ring */
    size_t refused_next;
    uint64_t second_us; /* when the second began for which breaches, mismatches and recalls are counted */
    uint64_t breaches_logged; /* this second: a peer may break the protocol at will */
    struct event late_acks, hold, linger, held, say_again;
    struct mux_totals totals;
    size_t live;           /* sessions in memory */
    uint64_t far_sessions; /* live, opened by the peer */
    uint64_t down_us;      /* when the last lane was lost */
    bool ending;
    void (*gone)(void *arg);
    void *gone_arg;
};

enum {
    SESSION_RAW_WINDOW = 128 << 20, /* raw offset past what was delivered */
    SESSION_WINDOW_MIN =
        16 << 20, /* first window where memory allows: a lossy link needs several of its own */
    SESSION_WINDOW_MAX = 64 << 20,
    SESSION_UNSENT_MAX = 256 * 1024,
    SESSION_UNSENT_MIN = 64 * 1024,
    SESSION_BULK_BYTES = 128 * 1024,        /* sent lately: 4 KB a round trip of 60 ms is still interactive */
    SESSION_BULK_WAITING_BYTES = 32 * 1024, /* waiting: either makes it bulk */
    SESSION_TWIN_BYTES = 8 * 1024, /* an interactive session's bytes go over two lanes, if they are no more */
    SESSION_STORE_MIN_BYTES = 256, /* a shorter read is not worth an address */
    SESSION_LINGER_BYTES = 4 << 20, /* bytes that the peer holds wait for more, up to so many, */
    SESSION_LINGER_MAX_US = 25000,  /* and up to so long */
    SESSION_READ_AHEAD_HIT_BYTES = 8 << 20,
    SESSION_ANSWERED_MAX = 2 * EARLY_MAX, /* places that the peer asked for, unacknowledged: it keeps no more
                                           * between its gaps */
    MUX_ANSWERS_MAX = 65536,
    MUX_RECALLED_MAX = 4096,              /* parts a second: each costs as much as a segment has parts */
    MUX_MISMATCHED_MAX_BYTES = 512 << 20, /* a second: they were hashed in vain */
    MUX_SAY_AGAIN_S = 5,                  /* what the peer has not answered */
    MUX_NOTES_DOUBT_US = 20000000, /* a lane that is lost later than this after a note had delivered it: an
                                    * idle one is found dead after 15 s */
    MUX_NOTES_MAX = 65536,         /* HOLD and DROP waiting to be sent */
    MUX_LINGER_TICK_US = 5000,
    MUX_ACK_LATE_US = 20000,
    MUX_ACK_LATE_MAX_US = 80000,
    MUX_BREACHES_A_SECOND = 20,
    MUX_HOLD_NEW_US = 2000000, /* sessions that the peer has not confirmed wait no longer for a lane */
};

/* session.c */
struct session *session_new(struct mux *m, const struct endpoint *client, const struct endpoint *server,
                            uint8_t dscp, int class_index, bool near);
extern const struct leg_events session_leg_events;
/* One setter for both halves: logs, asserts the table. */
void session_set_out(struct session *s, enum session_half to);
void session_set_in(struct session *s, enum session_half to);
bool session_half_may(enum session_half from, enum session_half to);
/* Reset from here: the host's connection is aborted, the peer is told. */
void session_reset(struct session *s, enum frame_rst_reason reason);
/* What is counted a second begins anew, when one has passed. */
void session_renew_second(struct mux *m);
/* Whether another line about a breach may be logged this second. */
bool session_may_log(struct mux *m);
/* The peer's RST. */
void session_take_rst(struct session *s, const struct frame *f);
/* Want FIN or RST again, if it was said and not answered; false when nothing is. */
bool session_say_again(struct session *s);
/* What came before the peer's RST is delivered, or will not come: reset our host, answer. */
void session_finish_reset(struct session *s);
/* Without a word to the peer: its side is gone. */
void session_drop(struct session *s, enum frame_rst_reason reason);
/* The first bytes of a direction. Encrypted is a session whose either side says so first (an SSH server
 * speaks before its client); of the client's a class with `proto` may fit better now. */
void session_recognise(struct session *s, bool from_client, const uint8_t *bytes, size_t len);
/* Over? Then leave the map, and free when the leg has ended. The session may be gone afterwards. */
void session_check_over(struct session *s);
void session_want(struct session *s, uint32_t wants);
/* Take a first window, or a larger one, from memory. */
void session_grow_window(struct session *s, uint64_t wanted);
/* Let the host be read as far as memory and the queue allow. */
void session_update_allowed(struct session *s);
/* Everything was sent: then the end, or the reset, of the direction. */
void session_end_if_sent(struct session *s);
/* A lane is lost, or stalls: send again what may not have arrived over it. */
void session_lane_lost(struct session *s, unsigned slot);
const char *session_state_text(const struct session *s);

/* transmit.c */
int transmit_fill(void *owner, unsigned slot, enum tunnel_role role, struct cursor_out *out);
/* The session's place among those with something to send, after anything about that changed. */
void transmit_schedule(struct session *s);
void transmit_forget(struct session *s);

/* limits.c: classes with `limit` */
/* The class has to wait; asked for again by a kick. */
bool limits_hold(struct mux *m, struct mux_class *c);
/* Bytes of one turn of the class. */
uint64_t limits_turn_bytes(struct mux *m, const struct mux_class *c);
void limits_count(struct mux *m, struct mux_class *c, uint64_t bytes);

/* dedup.c: what the store has to do with sessions */
/* The feature is in use with this peer, and there is a store. */
bool mux_stores(const struct mux *m);
/* Bytes from the host go into the store, and their slices into the replay. 0, or -ENOMEM. */
int session_absorb(struct session *s, struct slice slice);
/* One STORED of at most `available` bytes at the cursor, which moves on. Returns decoded bytes; 0: no room.
 */
uint32_t session_put_stored(struct session *s, unsigned slot, struct replay_cursor *c, uint64_t available,
                            struct cursor_out *out);
/* The peer acknowledged everything before `upto`, and holds it therefore. */
void session_confirm_held(struct session *s, uint64_t upto);
int session_take_stored(struct session *s, const struct frame *f, struct chunk *chunk);
/* The peer lacks these bytes: they go again, as literals, unless they have been asked for before. */
void session_take_miss(struct session *s, uint64_t offset, uint64_t len);
/* [from, end) is not here and will not come by itself. */
void session_note_missing(struct session *s, uint64_t from, uint64_t end);
/* Ask for the next part of what is missing, if it is time. */
void session_pull_missing(struct session *s);
/* HOLD and DROP; a negative error where the feature is not in use. */
int mux_take_note(struct mux *m, const struct frame *f);
void mux_announce(struct mux *m);
/* The peer began anew, or is given up: nothing is known of what it holds, but what it has proved to know. */
void mux_forget_holdings(struct mux *m);
/* Store the literals of a STORED whose session has no use for them: its sender counts on it. */
void mux_only_fill(struct mux *m, const struct frame *f);
/* Write HOLD and DROP that wait, into a quarter of the block. */
void mux_put_notes(struct mux *m, unsigned slot, struct cursor_out *out);
/* Notes that went over the lane may not have arrived. */
void mux_doubt_notes(struct mux *m, unsigned slot);

/* receive.c */
/* Bytes up to `end` are past the session's end, or further ahead than any credit reaches. */
bool receive_is_breach(const struct session *s, uint64_t end);
/* Pieces that follow each other from offset on, some perhaps known: delivered, or kept behind a gap. Their
 * references are taken over, whatever comes of it. 0; -EDQUOT: credit does not cover them, and none is kept;
 * -ENOMEM: no memory, or too many gaps, and not all is kept. */
int receive_pieces(struct session *s, uint64_t offset, struct early_piece *pieces, uint32_t count);
/* Bytes that are not taken now: they are asked for, or the session is reset. */
void receive_refuse(struct session *s, uint64_t from, uint64_t end);
/* Bytes of a block as a slice of its own or of the chunk; chunk NULL: no memory. */
struct slice receive_slice(const uint8_t *bytes, uint32_t len, struct chunk *chunk);
int receive_frame(void *owner, unsigned slot, const struct frame *f, struct chunk *chunk);
void receive_consumed(struct session *s, uint64_t total);

/* mux.c */
/* Something was said that the peer has to answer. */
void mux_await_answer(struct mux *m);
void mux_answer_rst(struct mux *m, uint64_t id, enum frame_rst_reason reason);
struct mux_class *mux_class_of(struct mux *m, int class_index);
/* Count for the session, its class and the peer. */
void mux_count_sent(struct session *s, struct mux_traffic more);
void mux_count_came(struct session *s, struct mux_traffic more);
void mux_session_freed(struct mux *m);
enum frame_rst_reason session_reason_of_errno(int err, bool connected);

/* closed.c */
bool closed_has(const struct closed_ids *c, uint64_t id);
/* -ERR_WIRE_VALUE past `most` ranges. */
int closed_add(struct closed_ids *c, uint64_t id, uint64_t most);
void closed_clear(struct closed_ids *c);

#endif
