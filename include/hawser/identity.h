/* identity.h - a node's key, certificate and pin (floor 4).
 * An Ed25519 key and a self-signed certificate; peers know each other by the pin, the SHA-256 of the
 * certificate's SubjectPublicKeyInfo (RFC 7469's spki pin). Dates, names and chains are never looked at, and
 * this module never decides whether a pin is a welcome one: the lane does. Any thread for distinct values. */
#ifndef HAWSER_IDENTITY_H
#define HAWSER_IDENTITY_H

#include <openssl/ssl.h>
#include <stddef.h>
#include <stdint.h>

#include "hawser/config.h"

struct identity;

/* Make DIR (0700, and the folders above it) where it is missing, and in it node.key (0600, PKCS#8 PEM) and
 * node.crt, whose common name is the given one (1..63 bytes of UTF-8; for people only). -EEXIST when a key or
 * a certificate is there already (nothing is touched). On failure error[] says what to do, and neither file
 * is left behind. */
#define IDENTITY_ERROR_MAX 256
int identity_generate(const char *dir, const char *name, char error[static IDENTITY_ERROR_MAX]);

/* Read node.key and node.crt from DIR; checks that they fit each other, that the key is Ed25519, and that its
 * file is closed to group and others. -errno when a file cannot be read, -ERR_CONFIG when what it holds or
 * its mode is wrong; error[] says what to do. Never asks for a passphrase: an encrypted key is refused. *out
 * is owned by the caller. */
int identity_load(struct identity **out, const char *dir, char error[static IDENTITY_ERROR_MAX]);
void identity_free(struct identity *id);

/* The identity's own pin. */
void identity_pin(const struct identity *id, uint8_t pin[static CONFIG_PIN_BYTES]);
/* 32 bytes that follow from the key and a purpose: the same whenever the identity is loaded, and known to
 * nobody without the key. 0 or -ERR_TLS. */
enum { IDENTITY_SECRET_BYTES = 32 };
int identity_secret(const struct identity *id, const char *purpose,
                    uint8_t secret[static IDENTITY_SECRET_BYTES]);
/* The pin of a PEM certificate file; errors as identity_load. */
int identity_pin_of_file(const char *path, uint8_t pin[static CONFIG_PIN_BYTES],
                         char error[static IDENTITY_ERROR_MAX]);
/* The pin of the certificate the other end of a finished handshake showed; -ERR_PIN when it showed none. */
int identity_pin_of_ssl(SSL *ssl, uint8_t pin[static CONFIG_PIN_BYTES]);
/* base64, NUL-terminated. */
void identity_pin_format(const uint8_t pin[static CONFIG_PIN_BYTES], char out[static CONFIG_PIN_TEXT_MAX]);

/* A TLS context for lanes: TLS 1.3 only, this identity, the other side must show an Ed25519 certificate (any
 * such is let through the handshake; the lane compares the pin), AES-128-GCM first where the CPU has it else
 * ChaCha20, X25519, no tickets, no session cache, SSL_MODE_RELEASE_BUFFERS, partial writes off. server: the
 * accepting side. One context may be shared by threads, and outlives the identity. Owned by the caller
 * (SSL_CTX_free). -ERR_TLS when the library refuses a setting, -ENOMEM. */
int identity_tls_context(struct identity *id, int server, SSL_CTX **out);

#endif
