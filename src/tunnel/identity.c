/* identity.c - keys, certificates and pins; see hawser/identity.h. */
#include "hawser/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "hawser/err.h"

#define KEY_FILE         "node.key"
#define CERTIFICATE_FILE "node.crt"

enum {
    FILE_MAX_BYTES = 64 * 1024,       /* a key or certificate of ours is under 1 KB */
    PEER_CHAIN_MAX_BYTES = 16 * 1024, /* what a stranger may make us hold before its pin is known */
    SERIAL_BYTES = 16,
};

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    uint8_t pin[CONFIG_PIN_BYTES];
};

__attribute__((format(printf, 2, 3))) static void explain(char error[static IDENTITY_ERROR_MAX],
                                                          const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(error, IDENTITY_ERROR_MAX, fmt, args);
    va_end(args);
    ERR_clear_error(); /* what the library noted is said now; the next handshake must not find it */
}

static const char *advice(int err)
{
    switch (err) {
    case EACCES:
    case EPERM:
        return "; run as root, or give this user access";
    case ENOENT:
        return "; make an identity with: hawserctl keygen DIR";
    case EROFS:
    case ENOSPC:
        return "; choose a folder that can be written";
    default:
        return "";
    }
}

/* ---- making one ---- */

static int set_dates(X509 *certificate)
{
    /* Gateways without a clock battery wake up in 1970, and RFC 5280 (4.1.2.5) gives this end to certificates
     * without a well-defined one. Nobody here looks, but other tools that do must not object. */
    return ASN1_TIME_set_string_X509(X509_getm_notBefore(certificate), "19700101000000Z") == 1 &&
           ASN1_TIME_set_string_X509(X509_getm_notAfter(certificate), "99991231235959Z") == 1;
}

static int set_serial(X509 *certificate)
{
    uint8_t bytes[SERIAL_BYTES];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return 0;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive and of full length */
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    int ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;

    BN_free(number);
    return ok;
}

static int set_name(X509 *certificate, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(certificate);

    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) ==
               1 &&
           X509_set_issuer_name(certificate, subject) == 1;
}

static X509 *certificate_new(EVP_PKEY *key, const char *name)
{
    X509 *certificate = X509_new();

    if (certificate != NULL && X509_set_version(certificate, X509_VERSION_3) == 1 &&
        set_serial(certificate) && set_dates(certificate) && set_name(certificate, name) &&
        X509_set_pubkey(certificate, key) == 1 && X509_sign(certificate, key, NULL) > 0)
        return certificate;
    X509_free(certificate);
    return NULL;
}

/* Make the folder and those above it. One that is there already is left as it is. */
static int make_folders(const char *dir)
{
    char path[PATH_MAX];
    size_t len = strlen(dir);

    if (len == 0)
        return -ENOENT;
    if (len >= sizeof(path))
        return -ENAMETOOLONG;
    memcpy(path, dir, len + 1);
    while (len > 1 && path[len - 1] == '/')
        path[--len] = '\0';
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_all(int fd, const char *bytes, size_t len_bytes)
{
    while (len_bytes > 0) {
        ssize_t n = write(fd, bytes, len_bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        len_bytes -= (size_t)n;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* O_EXCL is what keeps an existing key: there is no moment between looking and writing. A file that could not
 * be written whole is taken away again. */
static int write_new_file(int dir_fd, const char *name, mode_t mode, BIO *from)
{
    char *bytes;
    long len_bytes = BIO_get_mem_data(from, &bytes);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0600);
    int err;

    if (fd < 0)
        return -errno;
    err = write_all(fd, bytes, (size_t)len_bytes);
    if (err == 0 && fchmod(fd, mode) < 0) /* whatever the umask says */
        err = -errno;
    if (close(fd) < 0 && err == 0)
        err = -errno;
    if (err != 0)
        (void)unlinkat(dir_fd, name, 0);
    return err;
}

static int write_pair(int dir_fd, const char *dir, EVP_PKEY *key, X509 *certificate,
                      char error[static IDENTITY_ERROR_MAX])
{
    BIO *key_text = BIO_new(BIO_s_mem());
    BIO *certificate_text = BIO_new(BIO_s_mem());
    const char *file = KEY_FILE;
    int err = -ENOMEM;

    if (key_text == NULL || certificate_text == NULL ||
        PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        PEM_write_bio_X509(certificate_text, certificate) != 1) {
        explain(error, "%s: out of memory", dir);
        goto out;
    }
    err = write_new_file(dir_fd, KEY_FILE, 0600, key_text);
    if (err == 0) {
        file = CERTIFICATE_FILE;
        err = write_new_file(dir_fd, CERTIFICATE_FILE, 0644, certificate_text);
        if (err == 0 && fsync(dir_fd) < 0)
            err = -errno;
        if (err != 0)
            (void)unlinkat(dir_fd, KEY_FILE, 0);
    }
    if (err == -EEXIST)
        explain(error, "%s/%s is there already; choose another folder, or move the old identity away", dir,
                file);
    else if (err != 0)
        explain(error, "%s/%s: cannot write it: %s%s", dir, file, err_text(err), advice(-err));
out:
    BIO_free(key_text); /* memory BIOs are cleansed as they are freed */
    BIO_free(certificate_text);
    return err;
}

static int open_folder(const char *dir, char error[static IDENTITY_ERROR_MAX])
{
    int fd = make_folders(dir);

    if (fd == 0) {
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            fd = -errno;
    }
    if (fd < 0)
        explain(error, "%s: cannot make or open this folder: %s%s", dir, err_text(fd), advice(-fd));
    return fd;
}

int identity_generate(const char *dir, const char *name, char error[static IDENTITY_ERROR_MAX])
{
    X509 *certificate = NULL;
    int err = -ERR_TLS;

    if (name[0] == '\0' || strlen(name) >= CONFIG_NAME_MAX) {
        explain(error, "the name of an identity has 1 to %d bytes", CONFIG_NAME_MAX - 1);
        return -EINVAL;
    }
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    if (key != NULL)
        certificate = certificate_new(key, name);
    if (certificate == NULL) {
        explain(error, "OpenSSL cannot make an Ed25519 certificate named '%s'; is the name UTF-8?", name);
    } else {
        err = open_folder(dir, error);
        if (err >= 0) {
            int dir_fd = err;

            err = write_pair(dir_fd, dir, key, certificate, error);
            (void)close(dir_fd);
        }
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return err;
}

/* ---- reading one ---- */

static int read_all(int fd, char *buffer, size_t *len_bytes)
{
    size_t got = 0;

    while (got < *len_bytes) {
        ssize_t n = read(fd, buffer + got, *len_bytes - got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *len_bytes = got;
    return 0;
}

/* A small regular file into *bytes (FILE_MAX_BYTES large), which the caller cleanses and frees. A secret one
 * must be closed to all but its owner. */
static int read_file(const char *path, bool secret, char **bytes, size_t *len_bytes,
                     char error[static IDENTITY_ERROR_MAX])
{
    char *buffer = NULL;
    struct stat st;
    int err = 0;
    /* O_NONBLOCK: a fifo put there by mistake must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    *len_bytes = FILE_MAX_BYTES;
    if (fd < 0 || fstat(fd, &st) < 0) {
        err = -errno;
    } else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
        err = -ERR_CONFIG;
        explain(error, "%s: not a regular file of at most %d bytes", path, FILE_MAX_BYTES);
    } else if (secret && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        err = -ERR_CONFIG;
        explain(
            error,
            "%s: not only its owner can get at this key (mode %04o); run: chmod 600 %s (if it may have been "
            "read, make a new identity)",
            path, (unsigned)st.st_mode & 07777, path);
    } else {
        buffer = OPENSSL_malloc(FILE_MAX_BYTES);
        err = buffer != NULL ? read_all(fd, buffer, len_bytes) : -ENOMEM;
    }
    if (fd >= 0)
        (void)close(fd);
    if (err != 0) {
        OPENSSL_clear_free(buffer, FILE_MAX_BYTES);
        if (err != -ERR_CONFIG)
            explain(error, "%s: cannot read it: %s%s", path, err_text(err), advice(-err));
        return err;
    }
    *bytes = buffer;
    return 0;
}

/* Without this the library would ask for a passphrase on the terminal. */
static int refuse_passphrase(char *buf, int size, int writing, void *unused)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)unused;
    return -1;
}

static int read_pem(const char *path, EVP_PKEY **key, X509 **certificate,
                    char error[static IDENTITY_ERROR_MAX])
{
    char *bytes = NULL;
    size_t len_bytes = 0;
    int err = read_file(path, key != NULL, &bytes, &len_bytes, error);

    if (err != 0)
        return err;
    BIO *from = BIO_new_mem_buf(bytes, (int)len_bytes);
    void *made = NULL;

    if (from != NULL && key != NULL)
        made = *key = PEM_read_bio_PrivateKey(from, NULL, refuse_passphrase, NULL);
    else if (from != NULL)
        made = *certificate = PEM_read_bio_X509(from, NULL, refuse_passphrase, NULL);
    BIO_free(from);
    OPENSSL_clear_free(bytes, FILE_MAX_BYTES);
    if (made == NULL) {
        explain(error, "%s: this is no %s; restore it, or make a new identity with: hawserctl keygen DIR",
                path, key != NULL ? "unencrypted private key in PEM form" : "certificate in PEM form");
        return -ERR_CONFIG;
    }
    return 0;
}

static int pin_of(const X509 *certificate, uint8_t pin[static CONFIG_PIN_BYTES])
{
    unsigned char *der = NULL;
    int len_bytes = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    int ok = len_bytes > 0 && EVP_Digest(der, (size_t)len_bytes, pin, NULL, EVP_sha256(), NULL) == 1;

    OPENSSL_free(der);
    return ok ? 0 : -ERR_TLS;
}

static int check_pair(const struct identity *id, const char *dir, char error[static IDENTITY_ERROR_MAX])
{
    if (EVP_PKEY_is_a(id->key, "ED25519") != 1) {
        explain(error, "%s/" KEY_FILE ": not an Ed25519 key; make an identity with: hawserctl keygen DIR",
                dir);
        return -ERR_CONFIG;
    }
    if (X509_check_private_key(id->certificate, id->key) != 1) {
        explain(error,
                "%s: " KEY_FILE " and " CERTIFICATE_FILE " are of different identities; restore the one that "
                "is missing, or make a new identity in another folder",
                dir);
        return -ERR_CONFIG;
    }
    return 0;
}

int identity_load(struct identity **out, const char *dir, char error[static IDENTITY_ERROR_MAX])
{
    char key_path[PATH_MAX], certificate_path[PATH_MAX];
    struct identity *id;
    int err;

    if (strlen(dir) > PATH_MAX - sizeof("/" CERTIFICATE_FILE)) {
        explain(error, "the identity's path is too long");
        return -ENAMETOOLONG;
    }
    (void)snprintf(key_path, sizeof(key_path), "%s/" KEY_FILE, dir);
    (void)snprintf(certificate_path, sizeof(certificate_path), "%s/" CERTIFICATE_FILE, dir);
    id = calloc(1, sizeof(*id));
    if (id == NULL) {
        explain(error, "%s: out of memory", dir);
        return -ENOMEM;
    }
    err = read_pem(key_path, &id->key, NULL, error);
    if (err == 0)
        err = read_pem(certificate_path, NULL, &id->certificate, error);
    if (err == 0)
        err = check_pair(id, dir, error);
    if (err == 0) {
        err = pin_of(id->certificate, id->pin);
        if (err != 0)
            explain(error, "%s: the certificate's key cannot be hashed", certificate_path);
    }
    if (err != 0) {
        identity_free(id);
        return err;
    }
    *out = id;
    return 0;
}

void identity_free(struct identity *id)
{
    if (id == NULL)
        return;
    EVP_PKEY_free(id->key);
    X509_free(id->certificate);
    free(id);
}

/* ---- pins ---- */

void identity_pin(const struct identity *id, uint8_t pin[static CONFIG_PIN_BYTES])
{
    memcpy(pin, id->pin, CONFIG_PIN_BYTES);
}

int identity_secret(const struct identity *id, const char *purpose,
                    uint8_t secret[static IDENTITY_SECRET_BYTES])
{
    uint8_t key[32];
    size_t len = sizeof(key);
    bool made =
        EVP_PKEY_get_raw_private_key(id->key, key, &len) == 1 &&
        HMAC(EVP_sha256(), key, (int)len, (const uint8_t *)purpose, strlen(purpose), secret, NULL) != NULL;
    OPENSSL_cleanse(key, sizeof(key));
    return made ? 0 : -ERR_TLS;
}

int identity_pin_of_file(const char *path, uint8_t pin[static CONFIG_PIN_BYTES],
                         char error[static IDENTITY_ERROR_MAX])
{
    X509 *certificate = NULL;
    int err = read_pem(path, NULL, &certificate, error);

    if (err != 0)
        return err;
    err = pin_of(certificate, pin);
    if (err != 0)
        explain(error, "%s: the certificate's key cannot be hashed", path);
    X509_free(certificate);
    return err;
}

int identity_pin_of_ssl(SSL *ssl, uint8_t pin[static CONFIG_PIN_BYTES])
{
    const X509 *certificate = SSL_get0_peer_certificate(ssl);

    return certificate != NULL ? pin_of(certificate, pin) : -ERR_PIN;
}

void identity_pin_format(const uint8_t pin[static CONFIG_PIN_BYTES], char out[static CONFIG_PIN_TEXT_MAX])
{
    (void)EVP_EncodeBlock((unsigned char *)out, pin, CONFIG_PIN_BYTES);
}

/* ---- TLS ---- */

/* Stands in for the whole check of a chain: no dates, no issuers, no names. That the other side owns the key
 * it shows is proved by its CertificateVerify signature, which this does not touch. */
static int accept_any_chain(X509_STORE_CTX *chain, void *unused)
{
    (void)unused;
    X509_STORE_CTX_set_error(chain, X509_V_OK);
    return 1;
}

static bool cpu_has_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    enum { HWCAP_BIT_AES = 1 << 3, HWCAP_BIT_PMULL = 1 << 4 };
    unsigned long bits = getauxval(AT_HWCAP);

    return (bits & HWCAP_BIT_AES) != 0 && (bits & HWCAP_BIT_PMULL) != 0;
#else
    return false;
#endif
}

static bool set_algorithms(SSL_CTX *tls)
{
    const char *suites = cpu_has_aes() ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
                                       : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
    char groups[] = "X25519", signatures[] = "ed25519"; /* not const: the macros below cast that away */

    /* ChaCha20 is used as soon as one of the two ends is without AES instructions: the server prefers its own
     * order, unless the client puts ChaCha20 first. */
    SSL_CTX_set_options(tls, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    return SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(tls, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(tls, suites) == 1 && SSL_CTX_set1_groups_list(tls, groups) == 1 &&
           SSL_CTX_set1_sigalgs_list(tls, signatures) == 1 &&
           SSL_CTX_set1_client_sigalgs_list(tls, signatures) == 1;
}

int identity_tls_context(struct identity *id, int server, SSL_CTX **out)
{
    SSL_CTX *tls = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    if (tls == NULL)
        return -ENOMEM;
    if (!set_algorithms(tls) || SSL_CTX_use_certificate(tls, id->certificate) != 1 ||
        SSL_CTX_use_PrivateKey(tls, id->key) != 1 || SSL_CTX_set_num_tickets(tls, 0) != 1) {
        ERR_clear_error();
        SSL_CTX_free(tls);
        return -ERR_TLS;
    }
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(tls, accept_any_chain, NULL);
    SSL_CTX_set_max_cert_list(tls, PEER_CHAIN_MAX_BYTES);
    (void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(tls, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    (void)SSL_CTX_clear_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    *out = tls;
    return 0;
}
