/* probe.h - recognising a protocol by the first bytes that a client sends (floor 1, pure).
 * It names what the bytes look like for the rules ('proto' of a class); it never parses a protocol, and
 * nothing that guards anything may rest on it: a client can send what it likes. No state: any thread. */
#ifndef HAWSER_PROBE_H
#define HAWSER_PROBE_H

#include <stddef.h>
#include <stdint.h>

/* The bits of enum config_proto (a higher floor; a test holds the two together). */
enum probe_proto { PROBE_TLS = 1, PROBE_SSH = 2, PROBE_HTTP = 4, PROBE_OTHER = 8 };

/* With so many bytes the answer is never 0. */
enum { PROBE_BYTES_MAX = 16 };

/* One bit of enum probe_proto, or 0 when more bytes are needed; an answer never changes with more bytes. A
 * connection that ends, or whose server speaks first, may never have an answer: then it is PROBE_OTHER, and
 * the caller says when. Looked for: a TLS or SSL 3 ClientHello (RFC 8446, 5.1), an SSH identification (RFC
 * 4253, 4.2), an HTTP/1 request line with a method of RFC 9110 or WebDAV (RFC 9112, 3), or the HTTP/2 preface
 * (RFC 9113, 3.4). */
uint32_t probe_protocol(const uint8_t *bytes, size_t len);

#endif
