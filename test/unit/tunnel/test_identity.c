/* test_identity.c - key files, pins, and handshakes between two contexts over memory BIOs. */
#include "hawser/identity.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hawser/err.h"

static char root[] = "/tmp/hawser-identity-XXXXXX";
static char folder[PATH_MAX];
static char other_folder[PATH_MAX];
static char error[IDENTITY_ERROR_MAX];

static const char *in(const char *dir, const char *name)
{
    static char path[2 * PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char below[PATH_MAX];

    if (dir != NULL) {
        while ((entry = readdir(dir)) != NULL) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            ck_assert_int_lt(snprintf(below, sizeof(below), "%s/%s", path, entry->d_name), PATH_MAX);
            remove_tree(below);
        }
        closedir(dir);
    }
    (void)remove(path);
}

static void set_up(void)
{
    strcpy(root + sizeof(root) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    (void)snprintf(folder, sizeof(folder), "%s/one", root);
    (void)snprintf(other_folder, sizeof(other_folder), "%s/other", root);
    error[0] = '\0';
}

static void tear_down(void)
{
    remove_tree(root);
}

static size_t read_whole(const char *path, char *out, size_t size)
{
    FILE *from = fopen(path, "re");

    ck_assert_ptr_nonnull(from);
    size_t n = fread(out, 1, size, from);
    fclose(from);
    return n;
}

static void write_whole(const char *path, const char *text)
{
    FILE *to = fopen(path, "we");

    ck_assert_ptr_nonnull(to);
    ck_assert_int_ge(fputs(text, to), 0);
    ck_assert_int_eq(fclose(to), 0);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void generate(const char *dir)
{
    ck_assert_msg(identity_generate(dir, "branch", error) == 0, "%s", error);
}

static struct identity *load(const char *dir)
{
    struct identity *id = NULL;

    ck_assert_msg(identity_load(&id, dir, error) == 0, "%s", error);
    return id;
}

static X509 *read_certificate(const char *path)
{
    FILE *from = fopen(path, "re");

    ck_assert_ptr_nonnull(from);
    X509 *certificate = PEM_read_X509(from, NULL, NULL, NULL);
    fclose(from);
    ck_assert_ptr_nonnull(certificate);
    return certificate;
}

/* ---- files ---- */

START_TEST(test_generate_makes_folder_key_and_certificate)
{
    char deep[PATH_MAX];
    mode_t mask = umask(0);

    ck_assert_int_lt(snprintf(deep, sizeof(deep), "%s/etc/hawser/branch/", root), PATH_MAX);
    generate(deep);
    umask(mask);
    ck_assert_uint_eq(mode_of(deep), 0700);
    ck_assert_uint_eq(mode_of(in(deep, "node.key")), 0600);
    ck_assert_uint_eq(mode_of(in(deep, "node.crt")), 0644);
    identity_free(load(deep));
}
END_TEST

START_TEST(test_generate_ignores_a_narrow_umask)
{
    mode_t mask = umask(0777);

    (void)mkdir(folder, 0);
    ck_assert_int_eq(chmod(folder, 0750), 0);
    generate(folder);
    umask(mask);
    ck_assert_uint_eq(mode_of(folder), 0750); /* a folder that was there keeps its mode */
    ck_assert_uint_eq(mode_of(in(folder, "node.key")), 0600);
    ck_assert_uint_eq(mode_of(in(folder, "node.crt")), 0644);
    identity_free(load(folder));
}
END_TEST

START_TEST(test_generate_keeps_an_existing_key)
{
    char before[4096], after[4096];

    generate(folder);
    size_t n = read_whole(in(folder, "node.key"), before, sizeof(before));
    ck_assert_int_eq(unlink(in(folder, "node.crt")), 0);
    ck_assert_int_eq(identity_generate(folder, "branch", error), -EEXIST);
    ck_assert_ptr_nonnull(strstr(error, "node.key"));
    ck_assert_uint_eq(read_whole(in(folder, "node.key"), after, sizeof(after)), n);
    ck_assert_mem_eq(before, after, n);
    ck_assert_int_eq(access(in(folder, "node.crt"), F_OK), -1);
}
END_TEST

START_TEST(test_generate_keeps_an_existing_certificate_and_leaves_no_key)
{
    char after[64];

    ck_assert_int_eq(mkdir(folder, 0700), 0);
    write_whole(in(folder, "node.crt"), "mine");
    ck_assert_int_eq(identity_generate(folder, "branch", error), -EEXIST);
    ck_assert_ptr_nonnull(strstr(error, "node.crt"));
    ck_assert_uint_eq(read_whole(in(folder, "node.crt"), after, sizeof(after)), 4);
    ck_assert_int_eq(access(in(folder, "node.key"), F_OK), -1);
}
END_TEST

START_TEST(test_generate_does_not_follow_a_link)
{
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(symlink("../elsewhere", in(folder, "node.key")), 0);
    ck_assert_int_eq(identity_generate(folder, "branch", error), -EEXIST);
    ck_assert_int_eq(access(in(root, "elsewhere"), F_OK), -1);
}
END_TEST

START_TEST(test_generate_refuses_what_cannot_work)
{
    char name[CONFIG_NAME_MAX + 1];

    ck_assert_int_eq(identity_generate("", "branch", error), -ENOENT);
    ck_assert_int_eq(identity_generate(folder, "", error), -EINVAL);
    memset(name, 'n', sizeof(name));
    name[CONFIG_NAME_MAX] = '\0';
    ck_assert_int_eq(identity_generate(folder, name, error), -EINVAL);
    ck_assert_int_eq(identity_generate(folder, "\xff\xfe", error), -ERR_TLS);
    ck_assert_ptr_nonnull(strstr(error, "UTF-8"));
    write_whole(folder, "a file");
    ck_assert_int_eq(identity_generate(folder, "branch", error), -ENOTDIR);
    ck_assert_int_eq(access(in(folder, "node.key"), F_OK), -1);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}
END_TEST

START_TEST(test_longest_name_fits)
{
    char name[CONFIG_NAME_MAX];

    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    ck_assert_msg(identity_generate(folder, name, error) == 0, "%s", error);
    identity_free(load(folder));
}
END_TEST

START_TEST(test_certificate_has_no_well_defined_end)
{
    struct tm when;

    generate(folder);
    X509 *certificate = read_certificate(in(folder, "node.crt"));
    ck_assert_int_eq(ASN1_TIME_to_tm(X509_get0_notBefore(certificate), &when), 1);
    ck_assert_int_eq(when.tm_year, 70);
    ck_assert_int_eq(X509_get0_notAfter(certificate)->type, V_ASN1_GENERALIZEDTIME);
    ck_assert_str_eq((const char *)ASN1_STRING_get0_data(X509_get0_notAfter(certificate)), "99991231235959Z");
    ck_assert_int_eq(X509_get_version(certificate), X509_VERSION_3);
    ck_assert_int_eq(X509_verify(certificate, X509_get0_pubkey(certificate)), 1);
    char name[CONFIG_NAME_MAX];
    ck_assert_int_eq(
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name)), 6);
    ck_assert_str_eq(name, "branch");
    X509_free(certificate);
}
END_TEST

/* ---- loading what is broken ---- */

static void load_fails(int expected, const char *word)
{
    struct identity *id = (struct identity *)&error; /* must stay as it is */

    ck_assert_int_eq(identity_load(&id, folder, error), expected);
    ck_assert_ptr_eq(id, (struct identity *)&error);
    ck_assert_msg(strstr(error, word) != NULL, "'%s' does not say '%s'", error, word);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}

START_TEST(test_load_refuses_missing_files)
{
    load_fails(-ENOENT, "keygen");
    generate(folder);
    ck_assert_int_eq(unlink(in(folder, "node.crt")), 0);
    load_fails(-ENOENT, "node.crt");
}
END_TEST

START_TEST(test_load_refuses_an_endless_path)
{
    char *path = malloc(3 * PATH_MAX);
    struct identity *id = NULL;

    memset(path, 'p', 3 * PATH_MAX - 1);
    path[3 * PATH_MAX - 1] = '\0';
    ck_assert_int_eq(identity_load(&id, path, error), -ENAMETOOLONG);
    ck_assert_int_eq(identity_generate(path, "branch", error), -ENAMETOOLONG);
    free(path);
}
END_TEST

/* Every shorter file, and every file with one byte turned, is refused or still the same key: never a crash,
 * never another identity. */
START_TEST(test_load_refuses_a_corrupt_key)
{
    char whole[4096], part[4096];
    struct identity *id;

    generate(folder);
    size_t n = read_whole(in(folder, "node.key"), whole, sizeof(whole) - 1);
    for (size_t cut = 0; cut + 2 < n; cut++) {
        memcpy(part, whole, cut);
        part[cut] = '\0';
        write_whole(in(folder, "node.key"), part);
        load_fails(-ERR_CONFIG, "node.key");
    }
    whole[n] = '\0';
    for (size_t turned = 0; turned < n; turned++) {
        memcpy(part, whole, n + 1);
        part[turned] = part[turned] == 'A' ? 'B' : 'A';
        write_whole(in(folder, "node.key"), part);
        int err = identity_load(&id, folder, error);
        ck_assert(err == 0 || err == -ERR_CONFIG);
        if (err == 0)
            identity_free(id);
    }
}
END_TEST

START_TEST(test_load_refuses_what_is_no_small_file)
{
    char big[70000];

    generate(folder);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    write_whole(in(folder, "node.key"), big);
    load_fails(-ERR_CONFIG, "regular file");
    ck_assert_int_eq(unlink(in(folder, "node.key")), 0);
    ck_assert_int_eq(mkfifo(in(folder, "node.key"), 0600), 0);
    load_fails(-ERR_CONFIG, "regular file");
    ck_assert_int_eq(unlink(in(folder, "node.key")), 0);
    ck_assert_int_eq(mkdir(in(folder, "node.key"), 0700), 0);
    load_fails(-ERR_CONFIG, "regular file");
}
END_TEST

START_TEST(test_load_refuses_a_key_that_others_can_get_at)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0602, 0777};
    char command[PATH_MAX];
    struct identity *id = NULL;

    generate(folder);
    ck_assert_int_lt(snprintf(command, sizeof(command), "chmod 600 %s", in(folder, "node.key")), PATH_MAX);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        ck_assert_int_eq(chmod(in(folder, "node.key"), modes[i]), 0);
        load_fails(-ERR_CONFIG, command);
    }
    ck_assert_int_eq(chmod(in(folder, "node.key"), 0400), 0);
    ck_assert_msg(identity_load(&id, folder, error) == 0, "%s", error);
    identity_free(id);
}
END_TEST

START_TEST(test_load_refuses_a_key_of_another_certificate)
{
    char text[4096];

    generate(folder);
    generate(other_folder);
    size_t n = read_whole(in(other_folder, "node.key"), text, sizeof(text) - 1);
    text[n] = '\0';
    write_whole(in(folder, "node.key"), text);
    load_fails(-ERR_CONFIG, "different identities");
}
END_TEST

static void write_key(const char *path, EVP_PKEY *key, const char *passphrase)
{
    mode_t mask = umask(0077);
    FILE *to = fopen(path, "we");

    umask(mask);
    ck_assert_ptr_nonnull(to);
    ck_assert_int_eq(PEM_write_PKCS8PrivateKey(to, key, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
                                               passphrase, passphrase != NULL ? (int)strlen(passphrase) : 0,
                                               NULL, NULL),
                     1);
    fclose(to);
}

/* A certificate of any key, as a stranger would make it. */
static X509 *foreign_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();

    ck_assert_ptr_nonnull(certificate);
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate), -3600); /* expired: nobody may look */
    X509_set_pubkey(certificate, key);
    ck_assert_int_gt(X509_sign(certificate, key, EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256()), 0);
    return certificate;
}

START_TEST(test_load_refuses_other_kinds_of_key)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = foreign_certificate(key);

    ck_assert_int_eq(mkdir(folder, 0700), 0);
    write_key(in(folder, "node.key"), key, NULL);
    FILE *to = fopen(in(folder, "node.crt"), "we");
    ck_assert_int_eq(PEM_write_X509(to, certificate), 1);
    fclose(to);
    load_fails(-ERR_CONFIG, "Ed25519");
    X509_free(certificate);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(test_load_refuses_an_encrypted_key_without_asking)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    generate(folder);
    write_key(in(folder, "node.key"), key, "secret");
    load_fails(-ERR_CONFIG, "unencrypted");
    EVP_PKEY_free(key);
}
END_TEST

/* ---- pins ---- */

/* What `openssl x509 -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64`
 * says, by another road than the module's: the public key itself, encoded anew. */
static void independent_pin(EVP_PKEY *key, uint8_t pin[static CONFIG_PIN_BYTES])
{
    unsigned char *der = NULL;
    int len_bytes = i2d_PUBKEY(key, &der);
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    ck_assert_int_eq(len_bytes, 44); /* RFC 8410: 12 bytes of header, 32 of key */
    ck_assert_int_eq(EVP_DigestInit_ex(md, EVP_sha256(), NULL), 1);
    ck_assert_int_eq(EVP_DigestUpdate(md, der, (size_t)len_bytes), 1);
    ck_assert_int_eq(EVP_DigestFinal_ex(md, pin, NULL), 1);
    EVP_MD_CTX_free(md);
    OPENSSL_free(der);
}

START_TEST(test_pin_is_the_hash_of_the_public_key_info)
{
    uint8_t expected[CONFIG_PIN_BYTES], pin[CONFIG_PIN_BYTES];

    generate(folder);
    FILE *from = fopen(in(folder, "node.key"), "re");
    EVP_PKEY *key = PEM_read_PrivateKey(from, NULL, NULL, NULL);
    fclose(from);
    ck_assert_ptr_nonnull(key);
    independent_pin(key, expected);
    EVP_PKEY_free(key);

    struct identity *id = load(folder);
    identity_pin(id, pin);
    ck_assert_mem_eq(pin, expected, sizeof(pin));
    identity_free(id);
    memset(pin, 0, sizeof(pin));
    ck_assert_int_eq(identity_pin_of_file(in(folder, "node.crt"), pin, error), 0);
    ck_assert_mem_eq(pin, expected, sizeof(pin));
}
END_TEST

START_TEST(test_secret_is_of_key_and_purpose)
{
    uint8_t first[IDENTITY_SECRET_BYTES], again[IDENTITY_SECRET_BYTES], other[IDENTITY_SECRET_BYTES];

    generate(folder);
    for (int i = 0; i < 2; i++) {
        struct identity *id = load(folder);
        ck_assert_int_eq(identity_secret(id, "one", i == 0 ? first : again), 0);
        ck_assert_int_eq(identity_secret(id, "two", other), 0);
        ck_assert_mem_ne(other, i == 0 ? first : again, sizeof(other));
        identity_free(id);
    }
    ck_assert_mem_eq(first, again, sizeof(first));
    unlink(in(folder, "node.key"));
    unlink(in(folder, "node.crt"));
    generate(folder);
    struct identity *id = load(folder);
    ck_assert_int_eq(identity_secret(id, "one", other), 0);
    ck_assert_mem_ne(first, other, sizeof(first));
    identity_free(id);
}
END_TEST

/* A fixed certificate and what OpenSSL's command line printed for it. */
START_TEST(test_pin_of_a_known_certificate)
{
    static const char known[] = "-----BEGIN CERTIFICATE-----\n"
                                "MIIBNDCB56ADAgECAhRXjMb3SfG2dfwLMfbvQQ+cnatRWDAFBgMrZXAwEDEOMAwG\n"
                                "A1UEAwwFa25vd24wHhcNMjYxMTIwMTkyNTMyWhcNMzYxMTE3MTkyNTMyWjAQMQ4w\n"
                                "DAYDVQQDDAVrbm93bjAqMAUGAytlcAMhAEyr9XMOWDYJ5xm2bqzpqY4zg7FDp6mD\n"
                                "yrTnAyO+jbybo1MwUTAdBgNVHQ4EFgQUIl6AV3sf14E1BF/KYhsDiHg+/QwwHwYD\n"
                                "VR0jBBgwFoAUIl6AV3sf14E1BF/KYhsDiHg+/QwwDwYDVR0TAQH/BAUwAwEB/zAF\n"
                                "BgMrZXADQQB0GOmxBmAqTw8Yd1B+KHNpqjpEBpltGpzhWaq/ugiir4alZM8iTMWv\n"
                                "O/5jORiyxNP6S1A1bU6Tibuua2ToMY8L\n"
                                "-----END CERTIFICATE-----\n";
    uint8_t pin[CONFIG_PIN_BYTES];
    char text[CONFIG_PIN_TEXT_MAX];

    write_whole(folder, known);
    ck_assert_msg(identity_pin_of_file(folder, pin, error) == 0, "%s", error);
    identity_pin_format(pin, text);
    ck_assert_str_eq(text, "nuYmm+spbwphkqD4yLf19zSaCJl8AxZjlPxouarhCf8=");
}
END_TEST

START_TEST(test_pin_of_a_file_that_is_none)
{
    uint8_t pin[CONFIG_PIN_BYTES];

    ck_assert_int_eq(identity_pin_of_file(folder, pin, error), -ENOENT);
    generate(folder);
    ck_assert_int_eq(identity_pin_of_file(in(folder, "node.key"), pin, error), -ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(error, "certificate"));
    ck_assert_int_eq(identity_pin_of_file(folder, pin, error), -ERR_CONFIG);
}
END_TEST

START_TEST(test_pin_format_is_base64)
{
    uint8_t pin[CONFIG_PIN_BYTES];
    char text[CONFIG_PIN_TEXT_MAX];

    memset(pin, 0, sizeof(pin));
    memset(text, 'x', sizeof(text));
    identity_pin_format(pin, text);
    ck_assert_str_eq(text, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    memset(pin, 0xff, sizeof(pin));
    identity_pin_format(pin, text);
    ck_assert_str_eq(text, "//////////////////////////////////////////8=");
}
END_TEST

/* ---- handshakes ---- */

struct ends {
    SSL *client, *server;
    int client_done, server_done; /* 1 = up, -1 = failed */
};

static void ends_open(struct ends *ends, SSL_CTX *client, SSL_CTX *server)
{
    BIO *a, *b;

    memset(ends, 0, sizeof(*ends));
    ck_assert_int_eq(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    ends->client = SSL_new(client);
    ends->server = SSL_new(server);
    SSL_set_bio(ends->client, a, a);
    SSL_set_bio(ends->server, b, b);
    SSL_set_connect_state(ends->client);
    SSL_set_accept_state(ends->server);
}

static void ends_close(struct ends *ends)
{
    SSL_free(ends->client);
    SSL_free(ends->server);
    ERR_clear_error();
}

static int step(SSL *ssl, int done)
{
    if (done != 0)
        return done;
    int n = SSL_do_handshake(ssl);
    if (n == 1)
        return 1;
    int why = SSL_get_error(ssl, n);
    ERR_clear_error();
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* Turn by turn until both ends know, or nothing moves any more. */
static void ends_shake(struct ends *ends)
{
    for (int turn = 0; turn < 20; turn++) {
        ends->client_done = step(ends->client, ends->client_done);
        ends->server_done = step(ends->server, ends->server_done);
    }
}

static void pass_bytes(SSL *from, SSL *to)
{
    char sent[5000], got[5000];

    memset(sent, 'h', sizeof(sent));
    ck_assert_int_eq(SSL_write(from, sent, sizeof(sent)), (int)sizeof(sent));
    ck_assert_int_eq(SSL_read(to, got, sizeof(got)), (int)sizeof(got));
    ck_assert_mem_eq(sent, got, sizeof(got));
}

/* Two identities and the contexts of a client with the first, a server with the second. */
static struct identity *near_id, *far_id;
static SSL_CTX *client_tls, *server_tls;

static void set_up_tls(void)
{
    set_up();
    generate(folder);
    generate(other_folder);
    near_id = load(folder);
    far_id = load(other_folder);
    ck_assert_int_eq(identity_tls_context(near_id, 0, &client_tls), 0);
    ck_assert_int_eq(identity_tls_context(far_id, 1, &server_tls), 0);
}

static void tear_down_tls(void)
{
    SSL_CTX_free(client_tls);
    SSL_CTX_free(server_tls);
    identity_free(near_id);
    identity_free(far_id);
    tear_down();
}

START_TEST(test_handshake_shows_both_pins)
{
    uint8_t near_pin[CONFIG_PIN_BYTES], far_pin[CONFIG_PIN_BYTES], pin[CONFIG_PIN_BYTES];
    struct ends ends;

    identity_pin(near_id, near_pin);
    identity_pin(far_id, far_pin);
    ck_assert_mem_ne(near_pin, far_pin, sizeof(pin));
    identity_free(near_id); /* the contexts outlive their identities */
    identity_free(far_id);
    near_id = far_id = NULL;
    ends_open(&ends, client_tls, server_tls);
    ends_shake(&ends);
    ck_assert_int_eq(ends.client_done, 1);
    ck_assert_int_eq(ends.server_done, 1);
    ck_assert_int_eq(identity_pin_of_ssl(ends.client, pin), 0);
    ck_assert_mem_eq(pin, far_pin, sizeof(pin));
    ck_assert_int_eq(identity_pin_of_ssl(ends.server, pin), 0);
    ck_assert_mem_eq(pin, near_pin, sizeof(pin));
    ck_assert_int_eq(SSL_version(ends.client), TLS1_3_VERSION);
    ck_assert_int_eq(SSL_get_negotiated_group(ends.client), NID_X25519);
    pass_bytes(ends.client, ends.server);
    pass_bytes(ends.server, ends.client);
    ends_close(&ends);
}
END_TEST

static int tickets_seen;

static int count_ticket(SSL *ssl, SSL_SESSION *unused)
{
    (void)ssl;
    (void)unused;
    tickets_seen++;
    return 0;
}

START_TEST(test_no_tickets_and_no_names_are_sent)
{
    struct ends ends;

    tickets_seen = 0;
    SSL_CTX_set_session_cache_mode(client_tls, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(client_tls, count_ticket);
    ends_open(&ends, client_tls, server_tls);
    ends_shake(&ends);
    pass_bytes(ends.server, ends.client);
    ck_assert_int_eq(tickets_seen, 0);
    ck_assert_int_eq(sk_X509_NAME_num(SSL_get0_peer_CA_list(ends.client)), -1);
    ends_close(&ends);
}
END_TEST

START_TEST(test_slower_end_without_aes_gets_chacha)
{
    struct ends ends;

    ck_assert_int_eq(
        SSL_CTX_set_ciphersuites(server_tls, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"), 1);
    ck_assert_int_eq(
        SSL_CTX_set_ciphersuites(client_tls, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"), 1);
    ends_open(&ends, client_tls, server_tls);
    ends_shake(&ends);
    ck_assert_str_eq(SSL_get_cipher_name(ends.client), "TLS_CHACHA20_POLY1305_SHA256");
    ends_close(&ends);
    ck_assert_int_eq(
        SSL_CTX_set_ciphersuites(client_tls, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"), 1);
    ends_open(&ends, client_tls, server_tls);
    ends_shake(&ends);
    ck_assert_str_eq(SSL_get_cipher_name(ends.client), "TLS_AES_128_GCM_SHA256");
    ends_close(&ends);
}
END_TEST

START_TEST(test_tls12_is_refused)
{
    struct ends ends;

    SSL_CTX_set_min_proto_version(client_tls, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(client_tls, TLS1_2_VERSION);
    ends_open(&ends, client_tls, server_tls);
    ends_shake(&ends);
    ck_assert_int_eq(ends.server_done, -1);
    ck_assert_int_eq(ends.client_done, -1);
    ends_close(&ends);

    SSL_CTX_set_min_proto_version(client_tls, TLS1_3_VERSION);
    SSL_CTX_set_max_proto_version(client_tls, TLS1_3_VERSION);
    SSL_CTX_set_min_proto_version(server_tls, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(server_tls, TLS1_2_VERSION);
    ends_open(&ends, client_tls, server_tls);
    ends_shake(&ends);
    ck_assert_int_eq(ends.client_done, -1);
    ends_close(&ends);
}
END_TEST

static void server_refuses(SSL_CTX *client)
{
    struct ends ends;
    uint8_t pin[CONFIG_PIN_BYTES];

    ends_open(&ends, client, server_tls);
    ends_shake(&ends);
    ck_assert_int_eq(ends.server_done, -1);
    ck_assert_int_eq(identity_pin_of_ssl(ends.server, pin), -ERR_PIN);
    ends_close(&ends);
    SSL_CTX_free(client);
}

START_TEST(test_no_certificate_is_refused)
{
    SSL_CTX *bare = SSL_CTX_new(TLS_client_method());

    ck_assert_ptr_nonnull(bare);
    server_refuses(bare);
}
END_TEST

/* Also: a key of a kind that no node has never gets as far as a pin. */
START_TEST(test_other_kinds_of_certificate_are_refused)
{
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = foreign_certificate(key);

    ck_assert_int_eq(SSL_CTX_use_certificate(client, certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(client, key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    server_refuses(client);
}
END_TEST

static SSL_CTX *expired_client(EVP_PKEY *key)
{
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    X509 *certificate = foreign_certificate(key);

    ck_assert_int_eq(SSL_CTX_use_certificate(client, certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(client, key), 1);
    X509_free(certificate);
    return client;
}

START_TEST(test_an_expired_certificate_is_known_by_its_pin)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    SSL_CTX *client = expired_client(key);
    uint8_t pin[CONFIG_PIN_BYTES], expected[CONFIG_PIN_BYTES];
    struct ends ends;

    ends_open(&ends, client, server_tls);
    ends_shake(&ends);
    ck_assert_int_eq(ends.server_done, 1);
    ck_assert_int_eq(identity_pin_of_ssl(ends.server, pin), 0);
    independent_pin(key, expected);
    ck_assert_mem_eq(pin, expected, sizeof(pin));
    ends_close(&ends);
    SSL_CTX_free(client);
    EVP_PKEY_free(key);
}
END_TEST

/* A stranger must not make us hold a chain of a megabyte before its pin is known. */
START_TEST(test_an_endless_chain_is_refused)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    SSL_CTX *client = expired_client(key);

    for (int i = 0; i < 200; i++)
        ck_assert_int_eq((int)SSL_CTX_add0_chain_cert(client, foreign_certificate(key)), 1);
    EVP_PKEY_free(key);
    server_refuses(client);
}
END_TEST

START_TEST(test_pin_before_the_handshake_is_none)
{
    uint8_t pin[CONFIG_PIN_BYTES];
    SSL *ssl = SSL_new(server_tls);

    ck_assert_int_eq(identity_pin_of_ssl(ssl, pin), -ERR_PIN);
    SSL_free(ssl);
}
END_TEST

static TCase *files_case(void)
{
    TCase *files = tcase_create("files");

    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_test(files, test_generate_makes_folder_key_and_certificate);
    tcase_add_test(files, test_generate_ignores_a_narrow_umask);
    tcase_add_test(files, test_generate_keeps_an_existing_key);
    tcase_add_test(files, test_generate_keeps_an_existing_certificate_and_leaves_no_key);
    tcase_add_test(files, test_generate_does_not_follow_a_link);
    tcase_add_test(files, test_generate_refuses_what_cannot_work);
    tcase_add_test(files, test_longest_name_fits);
    tcase_add_test(files, test_certificate_has_no_well_defined_end);
    tcase_add_test(files, test_load_refuses_missing_files);
    tcase_add_test(files, test_load_refuses_an_endless_path);
    tcase_add_test(files, test_load_refuses_a_corrupt_key);
    tcase_add_test(files, test_load_refuses_what_is_no_small_file);
    tcase_add_test(files, test_load_refuses_a_key_that_others_can_get_at);
    tcase_add_test(files, test_load_refuses_a_key_of_another_certificate);
    tcase_add_test(files, test_load_refuses_other_kinds_of_key);
    tcase_add_test(files, test_load_refuses_an_encrypted_key_without_asking);
    tcase_add_test(files, test_pin_is_the_hash_of_the_public_key_info);
    tcase_add_test(files, test_secret_is_of_key_and_purpose);
    tcase_add_test(files, test_pin_of_a_known_certificate);
    tcase_add_test(files, test_pin_of_a_file_that_is_none);
    tcase_add_test(files, test_pin_format_is_base64);
    return files;
}

int main(void)
{
    Suite *suite = suite_create("identity");
    TCase *handshakes = tcase_create("handshakes");

    tcase_add_checked_fixture(handshakes, set_up_tls, tear_down_tls);
    tcase_add_test(handshakes, test_handshake_shows_both_pins);
    tcase_add_test(handshakes, test_no_tickets_and_no_names_are_sent);
    tcase_add_test(handshakes, test_slower_end_without_aes_gets_chacha);
    tcase_add_test(handshakes, test_tls12_is_refused);
    tcase_add_test(handshakes, test_no_certificate_is_refused);
    tcase_add_test(handshakes, test_other_kinds_of_certificate_are_refused);
    tcase_add_test(handshakes, test_an_expired_certificate_is_known_by_its_pin);
    tcase_add_test(handshakes, test_an_endless_chain_is_refused);
    tcase_add_test(handshakes, test_pin_before_the_handshake_is_none);
    suite_add_tcase(suite, files_case());
    suite_add_tcase(suite, handshakes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
