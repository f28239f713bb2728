/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The broker's certificate is always checked, against the system's authorities or a file, and
 * against the name or address that was asked for: TLS without that protects from nobody who is in
 * the way. There is no switch to leave it out.
 *
 * A read handles one record at most and then gives way to the program.
 *
 * A BIO of our own, because OpenSSL's for sockets raises SIGPIPE, which a library must not do to
 * the program around it. */

struct tls_client {
    SSL_CTX *context;
    BIO_METHOD *method;
    char *name; /* that the certificate must have: a host name or an address */
};

struct tls_link {
    SSL *ssl;
    int fd;
    bool wants_write;
    const char *fault;
};

/* --- the socket, as OpenSSL sees it ----------------------------------------------------------- */

static int socket_read(BIO *bio, char *to, int size)
{
    const struct tls_link *link = BIO_get_data(bio);
    ssize_t got = recv(link->fd, to, (size_t)size, 0);
    BIO_clear_retry_flags(bio);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)got;
}

static int socket_write(BIO *bio, const char *data, int size)
{
    const struct tls_link *link = BIO_get_data(bio);
    ssize_t sent = send(link->fd, data, (size_t)size, MSG_NOSIGNAL);
    BIO_clear_retry_flags(bio);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)sent;
}

static long socket_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *socket_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "usher client");
    if (method != NULL) {
        BIO_meth_set_read(method, socket_read);
        BIO_meth_set_write(method, socket_write);
        BIO_meth_set_ctrl(method, socket_control);
    }
    return method;
}

/* --- whom to trust and what to show ----------------------------------------------------------- */

static int no_passphrase(char *to, int size, int writes, void *context)
{
    (void)to, (void)size, (void)writes, (void)context;
    return -1; /* nobody is asked on the terminal */
}

/* OpenSSL keeps a list of what went wrong; one line of it is for people. */
static int complain(char error[TLS_CLIENT_ERROR_BYTES], const char *what, const char *file)
{
    /* The system's own words come first, those that say most of a file that was read come last. */
    unsigned long first = ERR_peek_error();
    unsigned long last = ERR_peek_last_error();
    const char *reason = "no PEM file, or one with a passphrase";
    if (ERR_SYSTEM_ERROR(first))
        reason = strerrordesc_np(ERR_GET_REASON(first));
    else if ((ERR_GET_REASON(last) & ERR_RFLAG_COMMON) == 0)
        reason = ERR_reason_error_string(last);
    snprintf(error, TLS_CLIENT_ERROR_BYTES, "%s %.150s cannot be used: %s", what, file,
             reason != NULL ? reason : "no PEM file");
    ERR_clear_error();
    return -EINVAL;
}

static int load(SSL_CTX *context, const struct usher_options *options,
                char error[TLS_CLIENT_ERROR_BYTES])
{
    const char *certificate = options->tls_certificate_file;
    const char *key = options->tls_key_file;
    if (options->tls_ca_file[0] == '\0') {
        if (SSL_CTX_set_default_verify_paths(context) != 1)
            return complain(error, "the authorities of", "the system");
    } else if (SSL_CTX_load_verify_file(context, options->tls_ca_file) != 1) {
        return complain(error, "the authority", options->tls_ca_file);
    }
    if (certificate[0] == '\0')
        return 0;
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        return complain(error, "the certificate", certificate);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return complain(error, "the key", key);
    return 0;
}

int tls_client_create(struct tls_client **out, const struct usher_options *options,
                      char error[TLS_CLIENT_ERROR_BYTES])
{
    struct tls_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return -ENOMEM;
    ERR_clear_error();
    client->context = SSL_CTX_new(TLS_client_method());
    client->method = socket_method();
    client->name =
        strdup(options->tls_server_name[0] != '\0' ? options->tls_server_name : options->host);
    if (client->context == NULL || client->method == NULL || client->name == NULL) {
        tls_client_destroy(client);
        return -ENOMEM;
    }
    SSL_CTX_set_min_proto_version(client->context, TLS1_2_VERSION);
    SSL_CTX_set_options(client->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(client->context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                          SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Otherwise a read goes on as long as the broker sends what is no data, such as KeyUpdates, and
     * the program does not get its turn. */
    SSL_CTX_clear_mode(client->context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_verify(client->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_default_passwd_cb(client->context, no_passphrase);
    int failed = load(client->context, options, error);
    if (failed != 0) {
        tls_client_destroy(client);
        return failed;
    }
    *out = client;
    return 0;
}

void tls_client_destroy(struct tls_client *client)
{
    if (client == NULL)
        return;
    SSL_CTX_free(client->context);
    BIO_meth_free(client->method);
    free(client->name);
    free(client);
}

/* --- one connection --------------------------------------------------------------------------- */

/* The name that the broker must prove. An address is not announced: SNI is for names. */
static bool expect_name(SSL *ssl, const char *name)
{
    uint8_t address[16];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

struct tls_link *tls_link_create(struct tls_client *client, int fd)
{
    struct tls_link *link = calloc(1, sizeof(*link));
    BIO *bio = BIO_new(client->method);
    SSL *ssl = SSL_new(client->context);
    if (link == NULL || bio == NULL || ssl == NULL || !expect_name(ssl, client->name)) {
        free(link);
        BIO_free(bio);
        SSL_free(ssl);
        return NULL;
    }
    link->ssl = ssl;
    link->fd = fd;
    link->fault = "";
    BIO_set_data(bio, link);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_connect_state(ssl);
    return link;
}

void tls_link_destroy(struct tls_link *link)
{
    if (link == NULL)
        return;
    ERR_clear_error();
    if (SSL_is_init_finished(link->ssl) && link->fault[0] == '\0')
        (void)SSL_shutdown(link->ssl);
    ERR_clear_error();
    SSL_free(link->ssl);
    free(link);
}

void tls_link_forsake(struct tls_link *link)
{
    link->fault = "forsaken";
}

/* After a call that failed: 0, -ESHUTDOWN, -ECONNRESET, -EPROTO. */
static int why(struct tls_link *link, int result)
{
    int error = SSL_get_error(link->ssl, result);
    unsigned long code = ERR_peek_error();
    ERR_clear_error();
    link->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return 0;
    if (error == SSL_ERROR_ZERO_RETURN ||
        ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return -ESHUTDOWN;
    if (error == SSL_ERROR_SYSCALL)
        return errno == 0 ? -ESHUTDOWN : -ECONNRESET;
    long verified = SSL_get_verify_result(link->ssl);
    link->fault = verified != X509_V_OK ? X509_verify_cert_error_string(verified)
                                        : ERR_reason_error_string(code);
    if (link->fault == NULL)
        link->fault = "a fault in TLS";
    return -EPROTO;
}

int tls_link_handshake(struct tls_link *link)
{
    ERR_clear_error();
    int result = SSL_do_handshake(link->ssl);
    return result == 1 ? 1 : why(link, result);
}

bool tls_link_wants_write(const struct tls_link *link)
{
    return link->wants_write;
}

ssize_t tls_link_read(struct tls_link *link, void *to, size_t size)
{
    size_t got = 0;
    ERR_clear_error();
    return SSL_read_ex(link->ssl, to, size, &got) == 1 ? (ssize_t)got : why(link, 0);
}

ssize_t tls_link_write(struct tls_link *link, const void *data, size_t size)
{
    size_t sent = 0;
    ERR_clear_error();
    return SSL_write_ex(link->ssl, data, size, &sent) == 1 ? (ssize_t)sent : why(link, 0);
}

const char *tls_link_fault(const struct tls_link *link)
{
    return link->fault;
}
