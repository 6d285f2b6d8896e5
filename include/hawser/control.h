/* control.h - what hawserctl and hawserd say to each other over the control socket (floor 7).
 * A unix stream socket, [admin] control, whose mode and group are the only access control. The client sends
 * one line, a verb of the table below and a newline, CONTROL_REQUEST_MAX bytes at most with it; the answer is
 * one JSON document (RFC 8259, UTF-8), then the server closes. A line that is longer, is not a verb, or does
 * not come within CONTROL_REQUEST_MS is answered with {"error": text} and closed. Any number of clients at
 * once.
 *
 * Every answer is an object or an array of objects. A field may be null or absent where nothing is known, and
 * fields may be added: a reader ignores what it does not know. Units are in the names; _mbit is 10^6 bits a
 * second, addresses are "1.2.3.4:80" or "[fd00::1]:80", in_ is what was read from hosts here, out_ what was
 * given to hosts here (of lanes: in_ from the peer, out_ to it), wire_ counts bytes on the WAN.
 *
 * percent is what was saved of what came in, below 0 where it became more, null of nothing.
 *
 * any: {"error": "what to do"}
 *
 * status: {"version", "node", "uptime_s", "workers": [{"id", "sessions", "cpu_percent"}], "sessions",
 * "memory_bytes", "memory_cap_bytes", "accepting": true | false, "peers_up", "peers_total"}
 *
 * peers: [{"name", "state": "up" | "down", "lanes": [{"id", "role": "express" | "bulk", "state", "rtt_ms"}],
 * "rtt_ms" (null: down), "sessions", "opened", "in_bytes", "out_bytes", "wire_in_bytes", "wire_out_bytes",
 * "rate_mbit" (null: nobody knows), "store": which ends have one, "both" | "here" | "there" | "none" (null:
 * down), "reason": why it is down, or null, "dedup_percent": by references, with frames' headers,
 * "zstd_percent": by compression, "saved_percent": of the WAN, all in all, "in_saved_bytes",
 * "out_saved_bytes": crossed as references, "misses": frames here whose references did not resolve,
 * "missed_bytes": sent again for the peer's, "repeated_misses": of the peer's, for what had been sent again,
 * "in_blocks", "in_raw_blocks", "in_frame_bytes", "in_block_bytes", and out_ likewise}]
 *
 * lanes: [{"peer", "id", "role", "state", "address", "rtt_ms", "cwnd_bytes", "pacing_mbit", "delivery_mbit",
 * "retransmits", "in_bytes", "out_bytes", "level", "zstd_percent", "in_blocks" and so on as of peers}]
 *
 * sessions: [{"id", "client", "server", "peer", "class", "state", "half": "near" | "far", "age_s",
 * "in_bytes", "out_bytes", "wire_bytes": of frames sent, before compression, "wire_in_bytes": of those
 * received, "in_saved_bytes", "out_saved_bytes", "saved_percent", "encrypted": true | false, "lane"}]
 *
 * classes, of each peer: [{"name", "peer", "action", "weight", "sessions", "bytes": sent, "out_bytes",
 * "wire_bytes", "wire_in_bytes", "in_saved_bytes", "out_saved_bytes", "saved_percent"}]
 *
 * store: {"enabled": true | false, "memory_bytes", "memory_cap_bytes", "held_bytes", "segments",
 * "evicted_segments", "uncollected_bytes": gone before they could be written to disk, "oldest_s",
 * "index_bytes", "hints", "taken_bytes": from hosts here, "matched_bytes": of them, known already, "matches",
 * "matched_percent", "filled_bytes": stored that peers sent, "misses", "missed_bytes", "homes": [{"home": the
 * worker, and the same for it alone}], "disk": null where it is in memory only, else {"bytes", "size_bytes",
 * "segments", "written_bytes", "read_bytes", "bad_records", "bad_files", "unreadable_files", "removed_files",
 * "skipped_bytes", "gone_files", "error": what stopped writing, while it lasts, or null}}
 *
 * bypass: [{"number", "name", "count", "last_s_ago": null when never or not known, "text", "advice"}]
 *
 * metrics: {"text": the Prometheus exposition format, version 0.0.4}
 *
 * reload: {"ok": true, "restart_needed": "key, key", empty when all was applied} */
#ifndef HAWSER_CONTROL_H
#define HAWSER_CONTROL_H

#define CONTROL_SOCKET_DEFAULT "/run/hawser/control.sock"

enum {
    CONTROL_REQUEST_MAX = 256, /* bytes of a request, its newline included */
    CONTROL_REQUEST_MS = 5000, /* a client that has not sent its line by then is closed */
};

/* verb, what it answers for people */
#define CONTROL_VERB_TABLE(X)                                                                                \
    X(STATUS, "status", "the node, its workers, memory and whether it takes connections")                    \
    X(PEERS, "peers", "the peers, whether they are up, and what went through their tunnels")                 \
    X(LANES, "lanes", "the TCP connections to the peers")                                                    \
    X(SESSIONS, "sessions", "the proxied connections")                                                       \
    X(CLASSES, "classes", "the classes and what they carry")                                                 \
    X(STORE, "store", "the deduplication store")                                                             \
    X(BYPASS, "bypass", "why connections went direct, and what to do about it")                              \
    X(METRICS, "metrics", "all counters in the Prometheus text format")                                      \
    X(RELOAD, "reload", "read the configuration again and apply peers, rules and classes")

enum control_verb {
#define CONTROL_VERB_ENUM(name, text, help) CONTROL_VERB_##name,
    CONTROL_VERB_TABLE(CONTROL_VERB_ENUM)
#undef CONTROL_VERB_ENUM
        CONTROL_VERB_COUNT
};

#endif
