/* bypass.h - why a connection went direct or was refused, numbered and counted (floor 5).
 * One table row is the number, the name, the text for people and what to do. Any thread. */
#ifndef HAWSER_BYPASS_H
#define HAWSER_BYPASS_H

#include <stdint.h>

#define BYPASS_TABLE(X)                                                                                      \
    X(BYPASS_PEER_DOWN, 1, "peer-down", "the peer that reaches the destination is down",                     \
      "look at `hawserctl peers`: its reason says why")                                                      \
    X(BYPASS_NO_PEER, 2, "no-peer", "no peer reaches the destination",                                       \
      "add the destination's network to `networks` of a [peer], or narrow your own firewall rules")          \
    X(BYPASS_CLASS, 3, "class", "a [class] with action = bypass fits", "nothing, if that is what you want")  \
    X(BYPASS_DENY, 4, "deny", "a [class] with action = deny fits; the connection was reset",                 \
      "nothing, if that is what you want")                                                                   \
    X(BYPASS_REFUSED, 5, "refused", "the destination refused a connection; new ones go direct for 60 s",     \
      "look at the destination: it does not listen, or a firewall there resets")                             \
    X(BYPASS_UNREACHABLE, 6, "unreachable",                                                                  \
      "the destination did not answer the far gateway; new connections go direct for 60 s",                  \
      "check the far gateway's route to the destination and the way back to the client (source = auto "      \
      "helps)")                                                                                              \
    X(BYPASS_FORBIDDEN, 7, "forbidden",                                                                      \
      "the far gateway does not let us open this; the connection was reset",                                 \
      "put the client's network in `networks` and the destination in `serve` of our [peer] at the far side") \
    X(BYPASS_SESSIONS, 8, "sessions", "the budget of sessions is used; new connections go direct",           \
      "raise [node] sessions, if there is memory")                                                           \
    X(BYPASS_MEMORY, 9, "memory", "the memory cap is reached; new connections go direct",                    \
      "raise [node] memory, or find the hosts that do not read (`hawserctl sessions`)")                      \
    X(BYPASS_DESCRIPTORS, 10, "descriptors", "no file descriptors are left; new connections go direct",      \
      "raise the limit of open files (LimitNOFILE= in the unit)")                                            \
    X(BYPASS_LOOP, 11, "loop",                                                                               \
      "a connection to the gateway itself came to the TPROXY listener; it was reset",                        \
      "your own firewall rules catch too much: exclude the gateway's and the peers' addresses")              \
    X(BYPASS_OPEN_SOURCE, 12, "open-source",                                                                 \
      "a peer asked to connect from an address outside its `networks`; refused",                             \
      "if that client is the peer's, add its network to `networks` of its [peer] here")                      \
    X(BYPASS_OPEN_DESTINATION, 13, "open-destination",                                                       \
      "a peer asked for a destination outside its `serve`; refused",                                         \
      "if the peer may go there, add the network to `serve` of its [peer] here")                             \
    X(BYPASS_OPEN_SPECIAL, 14, "open-special",                                                               \
      "a peer asked for a loopback, link-local, own or peer's address; refused",                             \
      "find out who there asks for it")                                                                      \
    X(BYPASS_NO_IPV6, 15, "no-ipv6", "this host has no IPv6: only IPv4 is caught",                           \
      "nothing, or enable IPv6 in the kernel")                                                               \
    X(BYPASS_SOURCE, 16, "source",                                                                           \
      "the far gateway could not take the client's address; the connection was reset",                       \
      "set source = auto or self at the far side, or give its engine NET_RAW")

enum bypass_reason {
#define BYPASS_ENUM(name, number, short_name, text, advice) name,
    BYPASS_TABLE(BYPASS_ENUM)
#undef BYPASS_ENUM
        BYPASS_COUNT
};

struct bypass_entry {
    unsigned number;
    const char *name, *text, *advice;
};
extern const struct bypass_entry bypass_entries[BYPASS_COUNT];

struct bypass_state {
    _Atomic uint64_t count, last_us, logged_us;
};
struct bypass {
    struct bypass_state reasons[BYPASS_COUNT];
};

/* Count one, and log it with its subject ("1.2.3.4:5 -> ...") unless this reason was logged less than a
 * minute ago. */
void bypass_note(struct bypass *b, enum bypass_reason reason, const char *subject);

#endif
