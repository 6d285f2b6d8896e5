/* key_pair.h - two identities with their TLS contexts, for tests that need both ends of a tunnel. Made once,
 * before the tests fork. */
#ifndef KEY_PAIR_H
#define KEY_PAIR_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hawser/identity.h"

static struct {
    SSL_CTX *accept, *dial;
    uint8_t pin[CONFIG_PIN_BYTES];
    char pin_text[CONFIG_PIN_TEXT_MAX];
} keys[2];

static void make_keys(void)
{
    char error[IDENTITY_ERROR_MAX];
    for (int i = 0; i < 2; i++) {
        char dir[] = "/tmp/hawser-keys-XXXXXX", path[64];
        struct identity *id = NULL;
        if (mkdtemp(dir) == NULL || identity_generate(dir, "test", error) < 0 ||
            identity_load(&id, dir, error) < 0 || identity_tls_context(id, 1, &keys[i].accept) < 0 ||
            identity_tls_context(id, 0, &keys[i].dial) < 0) {
            fprintf(stderr, "no identity: %s\n", error);
            exit(EXIT_FAILURE);
        }
        identity_pin(id, keys[i].pin);
        identity_pin_format(keys[i].pin, keys[i].pin_text);
        identity_free(id);
        snprintf(path, sizeof(path), "%s/node.key", dir);
        unlink(path);
        snprintf(path, sizeof(path), "%s/node.crt", dir);
        unlink(path);
        rmdir(dir);
    }
}

static void free_keys(void)
{
    for (int i = 0; i < 2; i++) {
        SSL_CTX_free(keys[i].accept);
        SSL_CTX_free(keys[i].dial);
    }
}

#endif
