/* err.h - one space of error codes for the whole project (floor 0).
 * A function that can fail returns 0 or a count when fine, else -errno or one of the codes below, which
 * start past every errno. Any thread. */
#ifndef HAWSER_ERR_H
#define HAWSER_ERR_H

#define ERR_TABLE(X)                                                                                         \
    X(ERR_WIRE_SHORT, "a frame ends before its fields do")                                                   \
    X(ERR_WIRE_LONG, "a frame is longer than its type allows")                                               \
    X(ERR_WIRE_UNKNOWN, "a frame or block of an unknown type")                                               \
    X(ERR_WIRE_VALUE, "a field of a frame holds a value that its type forbids")                              \
    X(ERR_WIRE_CREDIT, "the peer sent more than it was given credit for")                                    \
    X(ERR_WIRE_OFFSET, "a session offset that contradicts an earlier one")                                   \
    X(ERR_CHECKSUM, "decoded bytes do not match their checksum")                                             \
    X(ERR_COMPRESSED, "a compressed block does not decode to what it says")                                  \
    X(ERR_GREETING, "not a hawser greeting")                                                                 \
    X(ERR_VERSION, "the peer speaks another version of the protocol")                                        \
    X(ERR_PIN, "the peer's key is not one that is pinned here")                                              \
    X(ERR_TLS, "TLS failed")                                                                                 \
    X(ERR_CLOSED, "the other end closed the connection")                                                     \
    X(ERR_CHANGED, "the configuration has changed")                                                          \
    X(ERR_CONFIG, "the configuration is wrong")                                                              \
    X(ERR_STARTING, "the tunnel to this peer has not been started yet")                                      \
    X(ERR_MEMORY_CAP, "the memory cap is reached")

#define ERR_BASE 10000
enum err_code {
    ERR_BEFORE_FIRST = ERR_BASE,
#define ERR_ENUM(name, text) name,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* Text of a negative return value (-errno or -ERR_...); static or thread-local, valid until the thread's
 * next call. */
const char *err_text(int err);

#endif
