/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_TLS_FIXTURE_H
#define USHER_TESTS_TLS_FIXTURE_H

/* Certificates made on the spot, in files of a folder of their own, and clients that speak TLS by
 * OpenSSL over blocking sockets. */

#include "net_fixture.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

/* Signed by `by`, or by itself. */
static inline struct identity make_identity(const char *name, const struct identity *by)
{
    struct identity made = {.key = EVP_EC_gen("P-256"), .certificate = X509_new()};
    X509_NAME *subject = X509_get_subject_name(made.certificate);
    const struct identity *signer = by != NULL ? by : &made;
    static long serial;
    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), 3600);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(made.certificate, X509_get_subject_name(signer->certificate));
    X509_set_pubkey(made.certificate, made.key);
    X509_EXTENSION *extension =
        X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, by == NULL ? "CA:TRUE" : "CA:FALSE");
    X509_add_ext(made.certificate, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(made.certificate, signer->key, EVP_sha256()) > 0);
    return made;
}

static inline void drop_identity(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
    *identity = (struct identity){0};
}

struct files {
    char folder[64];
    char certificate[128], key[128], client_ca[128];
};

static inline void write_identity(const struct files *files, const struct identity *identity)
{
    FILE *file = fopen(files->certificate, "w");
    assert_non_null(file);
    PEM_write_X509(file, identity->certificate);
    fclose(file);
    file = fopen(files->key, "w");
    assert_non_null(file);
    PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

static inline void write_client_ca(const struct files *files, const struct identity *authority)
{
    FILE *file = fopen(files->client_ca, "w");
    assert_non_null(file);
    PEM_write_X509(file, authority->certificate);
    fclose(file);
}

static inline void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static inline void open_files(struct files *files)
{
    snprintf(files->folder, sizeof(files->folder), "/tmp/usher-tls-XXXXXX");
    assert_non_null(mkdtemp(files->folder));
    snprintf(files->certificate, sizeof(files->certificate), "%s/certificate.pem", files->folder);
    snprintf(files->key, sizeof(files->key), "%s/key.pem", files->folder);
    snprintf(files->client_ca, sizeof(files->client_ca), "%s/client_ca.pem", files->folder);
}

static inline void remove_files(const struct files *files)
{
    unlink(files->certificate);
    unlink(files->key);
    unlink(files->client_ca);
    rmdir(files->folder);
}

/* --- clients ---------------------------------------------------------------------------------- */

/* What a client offers and shows. */
struct manner {
    int version;                  /* 0: any */
    const struct identity *shows; /* NULL: no certificate */
    const char *groups;           /* of the key exchange; NULL: the library's */
};

struct tls_peer {
    int fd;
    SSL *ssl;
    conn_handle conn;
};

static inline int tls_socket(struct fixture *fixture)
{
    int fd = new_socket();
    assert_int_equal(connect_to(fixture, fd, LISTENER_tls), 0);
    return fd;
}

static inline SSL *tls_client_on(int fd, const struct manner *manner)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(context);
    if (manner->version != 0) {
        SSL_CTX_set_min_proto_version(context, manner->version);
        SSL_CTX_set_max_proto_version(context, manner->version);
    }
    if (manner->groups != NULL)
        assert_int_equal(SSL_CTX_set1_groups_list(context, manner->groups), 1);
    if (manner->shows != NULL) {
        SSL_CTX_use_certificate(context, manner->shows->certificate);
        SSL_CTX_use_PrivateKey(context, manner->shows->key);
    }
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context);
    assert_non_null(ssl);
    SSL_set_fd(ssl, fd);
    return ssl;
}

/* NULL: the handshake failed. */
static inline SSL *shake_hands(int fd, const struct manner *manner)
{
    SSL *ssl = tls_client_on(fd, manner);
    if (SSL_connect(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    ERR_clear_error();
    return NULL;
}

static inline void tls_send_frame(SSL *ssl, size_t size, uint8_t fill)
{
    struct buffer out = {0};
    add_frame(&out, size, fill);
    assert_int_equal(SSL_write(ssl, out.data, (int)out.size), (int)out.size);
    buffer_fini(&out);
}

/* A client whose connection is known, as new_peer makes them. */
static inline struct tls_peer new_tls_peer(struct fixture *fixture, const struct manner *manner)
{
    unsigned before = records_count(fixture);
    struct tls_peer peer = {.fd = tls_socket(fixture)};
    peer.ssl = shake_hands(peer.fd, manner);
    assert_non_null(peer.ssl);
    tls_send_frame(peer.ssl, 1, 'h');
    WAIT_FOR(records_count(fixture) > before);
    peer.conn = record_handle(fixture, before);
    forget_frames(fixture, peer.conn);
    return peer;
}

static inline void tls_close(struct tls_peer *peer)
{
    SSL_free(peer->ssl);
    close(peer->fd);
}

static inline void tls_read_exactly(SSL *ssl, void *to, size_t size)
{
    uint8_t *at = to;
    while (size > 0) {
        int got = SSL_read(ssl, at, size > 1 << 20 ? 1 << 20 : (int)size);
        if (got <= 0)
            fail_msg("%zu bytes missing: %d", size, SSL_get_error(ssl, got));
        at += got;
        size -= (size_t)got;
    }
}

static inline void tls_expect_bytes(SSL *ssl, const void *data, size_t size)
{
    uint8_t *got = malloc(size + 1);
    tls_read_exactly(ssl, got, size);
    assert_memory_equal(got, data, size);
    free(got);
}

/* The other side has said that nothing more comes. */
static inline void tls_expect_end(SSL *ssl)
{
    uint8_t byte;
    int got = SSL_read(ssl, &byte, 1);
    assert_true(got <= 0);
    assert_int_equal(SSL_get_error(ssl, got), SSL_ERROR_ZERO_RETURN);
}

#endif
