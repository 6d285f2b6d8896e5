#include "hawser/probe.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* What one recogniser says of a prefix. */
enum verdict { NO, MAYBE, YES };

enum { TLS_RECORD_MAX = 16384 };

/* Does `bytes` begin with text, as far as it goes? */
static enum verdict begins_with(const uint8_t *bytes, size_t len, const char *text)
{
    size_t text_len = strlen(text);
    size_t n = len < text_len ? len : text_len;
    if (memcmp(bytes, text, n) != 0)
        return NO;
    return n == text_len ? YES : MAYBE;
}

/* handshake(22), version 3.x, a length that a record may have, client_hello(1). */
static enum verdict is_tls(const uint8_t *bytes, size_t len)
{
    if (bytes[0] != 22 || (len > 1 && bytes[1] != 3) || (len > 2 && bytes[2] > 4))
        return NO;
    if (len > 4) {
        unsigned record = (unsigned)bytes[3] << 8 | bytes[4];
        if (record < 4 || record > TLS_RECORD_MAX)
            return NO;
    }
    if (len > 5)
        return bytes[5] == 1 ? YES : NO;
    return MAYBE;
}

/* The target after a method: a path, an absolute URI of http, or "*"; CONNECT has an authority, anything
 * visible. RTSP and SIP, whose request lines are HTTP's otherwise, have a URI of their own scheme there. */
static bool target_may_begin_with(const char *method, uint8_t byte)
{
    if (strcmp(method, "CONNECT ") == 0)
        return byte > ' ' && byte < 0x7f;
    return byte == '/' || byte == '*' || byte == 'h' || byte == 'H';
}

static enum verdict is_http(const uint8_t *bytes, size_t len)
{
    static const char *const methods[] = {
        "GET ",   "POST ",   "HEAD ",      "PUT ",      "OPTIONS ", "CONNECT ", "DELETE ",
        "PATCH ", "TRACE ",  "PRI ",       "PROPFIND ", "MKCOL ",   "COPY ",    "MOVE ",
        "LOCK ",  "UNLOCK ", "PROPPATCH ", "REPORT ",   "SEARCH ",
    };
    enum verdict best = NO;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        size_t method_len = strlen(methods[i]);
        assert(method_len < PROBE_BYTES_MAX);
        enum verdict v = begins_with(bytes, len, methods[i]);
        if (v == YES && len > method_len)
            return target_may_begin_with(methods[i], bytes[method_len]) ? YES : NO;
        if (v != NO)
            best = MAYBE;
    }
    return best;
}

uint32_t probe_protocol(const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return 0;
    enum verdict tls = is_tls(bytes, len);
    enum verdict ssh = begins_with(bytes, len, "SSH-");
    enum verdict http = is_http(bytes, len);
    if (tls == YES)
        return PROBE_TLS;
    if (ssh == YES)
        return PROBE_SSH;
    if (http == YES)
        return PROBE_HTTP;
    return tls == MAYBE || ssh == MAYBE || http == MAYBE ? 0 : PROBE_OTHER;
}
