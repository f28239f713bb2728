/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/check.h"
#include "base/lock.h"
#include "files/token_file.h"
#include "net/transport.h"

/* TLS as a server.
 *
 * Two threads. The read side of a connection is the I/O thread's, the write side that of whichever
 * thread runs its user's turn, and an SSL object is not for two threads: reading changes the keys
 * that writing uses (KeyUpdate) and may itself write (alerts). So each connection has a lock, held
 * for one call. It is a leaf: under it are OpenSSL, `recv` and `send`, which never come back here
 * but to the functions of the BIO below. It is nearly never contended, because a user's turn writes
 * in answer to what the I/O thread has read before. The alternative, to hand every write to the I/O
 * thread, would cost a copy and a wake-up per write, and could not tell the turn that the output
 * limit is reached. Plain connections have none of this.
 *
 * One BIO of our own instead of OpenSSL's for sockets: it sends without SIGPIPE, takes no more than
 * a budget in one call (a flood of records that carry no data would keep SSL_read from returning),
 * and remembers whether it has emptied the socket, because descriptors are edge-triggered.
 *
 * Strangers. Nothing is allocated until the first bytes look like a ClientHello of a sane size:
 * OpenSSL would make room for whatever length is announced. In the handshake the bytes are
 * counted, and of the groups of a key exchange only the cheap ones are there to be chosen.
 * Afterwards TLS itself can be abused: each attempt to renegotiate (refused since the options say
 * so) and too many KeyUpdates end the connection. */

enum {
    HELLO_BYTES_SEEN = 9,
    HELLO_BYTES_MAX = 16 * 1024,
    HANDSHAKE_BYTES_MAX = 64 * 1024,
    CLIENT_CHAIN_BYTES_MAX = 32 * 1024,
    READ_BUDGET_BYTES = 64 * 1024,
    RECORD_BYTES = 16 * 1024,
    PEER_BYTES_MAX = 56,  /* as NET_ADDRESS_BYTES_MAX */
    KEY_UPDATES_MAX = 32, /* before this many bytes of data have come: */
    KEY_UPDATE_BYTES = 1024 * 1024,
    ALERT_NO_RENEGOTIATION = 100,
};

struct tls_domain {
    BIO_METHOD *method;
    struct lock lock;
    SSL_CTX *context;             /* under lock; an SSL holds a reference of its own */
    struct tls_validity validity; /* under lock, as the context */
};

struct tls {
    char peer[PEER_BYTES_MAX]; /* set once */
    struct lock lock;
    /* under lock */
    SSL *ssl;
    int fd;
    int failed; /* what every further read says */
    const char *fault;
    size_t budget; /* of the read in progress */
    bool drained;  /* the socket was found empty in it */
    bool established;
    bool write_waits_to_read;
    bool renegotiates;
    uint32_t handshake_bytes;
    uint32_t key_updates;
    uint32_t data_bytes; /* since key_updates was 0 */
};

/* --- the socket, as OpenSSL sees it ----------------------------------------------------------- */

static int wire_read(BIO *bio, char *to, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    CHECK(lock_held(&tls->lock));
    if (tls->drained || tls->budget == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t wanted = (size_t)size < tls->budget ? (size_t)size : tls->budget;
    ssize_t got = recv(tls->fd, to, wanted, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        tls->drained = errno == EAGAIN;
        BIO_set_retry_read(bio);
        return -1;
    }
    if (got <= 0)
        return (int)got;
    tls->budget -= (size_t)got;
    tls->drained = (size_t)got < wanted;
    if (!tls->established) {
        tls->handshake_bytes += (uint32_t)got;
        if (tls->handshake_bytes > HANDSHAKE_BYTES_MAX) {
            tls->fault = "a handshake of too many bytes";
            return -1;
        }
    }
    return (int)got;
}

static int wire_write(BIO *bio, const char *data, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    CHECK(lock_held(&tls->lock));
    ssize_t sent = send(tls->fd, data, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM))
        BIO_set_retry_write(bio);
    return (int)sent;
}

static long wire_control(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH; /* nothing is kept; of the rest nothing is needed */
}

static BIO_METHOD *wire_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "usher wire");
    if (method != NULL) {
        BIO_meth_set_read(method, wire_read);
        BIO_meth_set_write(method, wire_write);
        BIO_meth_set_ctrl(method, wire_control);
    }
    return method;
}

/* Every message of the protocol, in both directions: the two kinds that a client may abuse. */
static void on_message(int written, int version, int type, const void *data, size_t size, SSL *ssl,
                       void *context)
{
    struct tls *tls = context;
    const uint8_t *bytes = data;
    if (tls == NULL || !tls->established || size < 1)
        return;
    if (!written && type == SSL3_RT_HANDSHAKE && bytes[0] == SSL3_MT_KEY_UPDATE)
        tls->key_updates++;
    else if (written && type == SSL3_RT_ALERT && size == 2 && bytes[1] == ALERT_NO_RENEGOTIATION)
        tls->renegotiates = true;
}

/* --- the domain ------------------------------------------------------------------------------- */

/* A key with a passphrase would be asked for on the terminal. */
static int no_passphrase(char *to, int size, int writes, void *context)
{
    return -1;
}

static int complain(char error[TLS_ERROR_BYTES], const char *option, const char *file)
{
    /* The system's own words come first, those that say most of a file that was read come last. */
    unsigned long first = ERR_peek_error();
    unsigned long last = ERR_peek_last_error();
    const char *reason = "no PEM file, or one with a passphrase";
    if (ERR_SYSTEM_ERROR(first))
        reason = strerrordesc_np(ERR_GET_REASON(first));
    else if ((ERR_GET_REASON(last) & ERR_RFLAG_COMMON) == 0)
        reason = ERR_reason_error_string(last);
    snprintf(error, TLS_ERROR_BYTES, "%s %.160s: %s", option, file,
             reason != NULL ? reason : "cannot be used");
    ERR_clear_error();
    return -EINVAL;
}

/* A step of the handshake is ours to pay and the client's to choose: the library would take groups
 * of 8192 bits, which cost a hundred of our signatures (docs/decisions/0085). The second list is
 * for libraries that are kept from X25519. */
static bool set_groups(SSL_CTX *context)
{
    return SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 ||
           SSL_CTX_set1_groups_list(context, "P-256") == 1;
}

static void set_rules(SSL_CTX *context)
{
    static const unsigned char identity[] = "usher";
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20");
    /* A moving buffer: what waits is moved to the front between two tries. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    /* Tickets carry the sessions, so none is kept here; their key lives and dies with the context,
     * hence a reload makes all of them void. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(context, identity, sizeof(identity) - 1);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_max_cert_list(context, CLIENT_CHAIN_BYTES_MAX);
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_msg_callback(context, on_message);
}

/* The library opens by name, waits at a pipe, and reads what has no end. */
static int check_files(const struct tls_files *files, char error[TLS_ERROR_BYTES])
{
    const char *const rows[][2] = {{"tls.certificate_file", files->certificate},
                                   {"tls.key_file", files->key},
                                   {"tls.client_ca_file", files->client_ca}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int failed = rows[i][1][0] != '\0' || i < 2 ? file_check(rows[i][1]) : 0;
        if (failed == 0)
            continue;
        snprintf(error, TLS_ERROR_BYTES, "%s %.160s: %s", rows[i][0], rows[i][1],
                 file_fault(failed));
        return -EINVAL;
    }
    return 0;
}

static int ask_clients(SSL_CTX *context, const char *file, char error[TLS_ERROR_BYTES])
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (names == NULL || SSL_CTX_load_verify_file(context, file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return complain(error, "tls.client_ca_file", file);
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int load(const struct tls_files *files, SSL_CTX **loaded, char error[TLS_ERROR_BYTES])
{
    int failed = check_files(files, error);
    if (failed != 0)
        return failed;
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return -ENOMEM;
    set_rules(context);
    if (!set_groups(context))
        failed = -ENOMEM;
    else if (SSL_CTX_use_certificate_chain_file(context, files->certificate) != 1)
        failed = complain(error, "tls.certificate_file", files->certificate);
    else if (SSL_CTX_use_PrivateKey_file(context, files->key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(context) != 1)
        failed = complain(error, "tls.key_file", files->key);
    else if (files->client_ca[0] != '\0')
        failed = ask_clients(context, files->client_ca, error);
    if (failed != 0) {
        SSL_CTX_free(context);
        return failed;
    }
    *loaded = context;
    return 0;
}

static int64_t unix_time(const ASN1_TIME *time)
{
    struct tm parts = {0};
    return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

static void narrow(struct tls_validity *validity, const X509 *certificate)
{
    int64_t begins_s = unix_time(X509_get0_notBefore(certificate));
    int64_t ends_s = unix_time(X509_get0_notAfter(certificate));
    if (begins_s > validity->begins_s)
        validity->begins_s = begins_s;
    if (ends_s < validity->ends_s) {
        validity->ends_s = ends_s;
        validity->life_s = ends_s > begins_s ? ends_s - begins_s : 0;
    }
}

/* A client judges the whole chain, so the first of them to end counts. */
static struct tls_validity read_validity(SSL_CTX *context)
{
    struct tls_validity validity = {.ends_s = INT64_MAX};
    STACK_OF(X509) *chain = NULL;
    narrow(&validity, SSL_CTX_get0_certificate(context));
    SSL_CTX_get0_chain_certs(context, &chain);
    for (int i = 0; i < sk_X509_num(chain); i++)
        narrow(&validity, sk_X509_value(chain, i));
    return validity;
}

int tls_domain_open(struct tls_domain **out, const struct tls_files *files,
                    char error[TLS_ERROR_BYTES])
{
    struct tls_domain *domain = calloc(1, sizeof(*domain));
    if (domain == NULL)
        return -ENOMEM;
    domain->method = wire_method();
    lock_init(&domain->lock);
    int failed = domain->method != NULL ? load(files, &domain->context, error) : -ENOMEM;
    if (failed != 0) {
        tls_domain_close(domain);
        return failed;
    }
    domain->validity = read_validity(domain->context);
    *out = domain;
    return 0;
}

int tls_domain_reload(struct tls_domain *domain, const struct tls_files *files,
                      char error[TLS_ERROR_BYTES])
{
    SSL_CTX *context;
    int failed = load(files, &context, error);
    if (failed != 0)
        return failed;
    struct tls_validity validity = read_validity(context);
    lock_take(&domain->lock);
    SSL_CTX *old = domain->context;
    domain->context = context;
    domain->validity = validity;
    lock_give(&domain->lock);
    SSL_CTX_free(old);
    return 0;
}

struct tls_validity tls_domain_validity(struct tls_domain *domain)
{
    lock_take(&domain->lock);
    struct tls_validity validity = domain->validity;
    lock_give(&domain->lock);
    return validity;
}

void tls_domain_close(struct tls_domain *domain)
{
    if (domain == NULL)
        return;
    SSL_CTX_free(domain->context);
    BIO_meth_free(domain->method);
    lock_destroy(&domain->lock);
    free(domain);
}

/* --- the first bytes -------------------------------------------------------------------------- */

static enum hello tls_peek(int fd)
{
    uint8_t bytes[HELLO_BYTES_SEEN];
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return HELLO_AWAITED;
    if (got <= 0)
        return HELLO_END;
    /* A record: type 22, version 3.x, its length; in it a ClientHello: type 1, its length. */
    if (bytes[0] != SSL3_RT_HANDSHAKE || (got > 1 && bytes[1] != SSL3_VERSION_MAJOR) ||
        (got > 5 && bytes[5] != SSL3_MT_CLIENT_HELLO))
        return HELLO_FOREIGN;
    if (got < HELLO_BYTES_SEEN)
        return HELLO_AWAITED;
    uint32_t size = (uint32_t)bytes[6] << 16 | (uint32_t)bytes[7] << 8 | bytes[8];
    return size <= HELLO_BYTES_MAX ? HELLO_FINE : HELLO_LARGE;
}

/* --- one connection --------------------------------------------------------------------------- */

static void *tls_begin(const struct transport_site *site, int fd, const char *peer, bool forwards)
{
    struct tls_domain *domain = site->tls;
    struct tls *tls = calloc(1, sizeof(*tls));
    BIO *bio = BIO_new(domain->method);
    if (tls == NULL || bio == NULL) {
        free(tls);
        BIO_free(bio);
        return NULL;
    }
    lock_take(&domain->lock);
    SSL *ssl = SSL_new(domain->context);
    lock_give(&domain->lock);
    if (ssl == NULL) {
        free(tls);
        BIO_free(bio);
        return NULL;
    }
    tls->ssl = ssl;
    tls->fd = fd;
    strncpy(tls->peer, peer, sizeof(tls->peer) - 1);
    lock_init(&tls->lock);
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_msg_callback_arg(ssl, tls);
    SSL_set_accept_state(ssl);
    return tls;
}

static void tls_destroy(void *state)
{
    struct tls *tls = state;
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    lock_destroy(&tls->lock);
    free(tls);
}

/* Under lock, after a call that failed: 0 when the socket must be waited for. */
static int why(struct tls *tls, int result, int *wanted)
{
    CHECK(lock_held(&tls->lock));
    int error = SSL_get_error(tls->ssl, result);
    *wanted = error;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return 0;
    unsigned long code = ERR_peek_error();
    if (tls->fault == NULL && code != 0)
        tls->fault = ERR_reason_error_string(code);
    bool broken =
        error == SSL_ERROR_SYSCALL || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    if (tls->fault == NULL)
        tls->fault = broken ? "the connection was lost" : "a fault in TLS";
    ERR_clear_error();
    return broken ? -ECONNRESET : -EPROTO;
}

static int tls_shake(const struct transport_site *site, int fd, void *state)
{
    struct tls *tls = state;
    int wanted;
    lock_take(&tls->lock);
    ERR_clear_error();
    tls->budget = READ_BUDGET_BYTES;
    tls->drained = false;
    CHECK(!tls->established);
    int result = SSL_do_handshake(tls->ssl);
    tls->established = result == 1;
    result = tls->established ? SHAKEN_DONE : why(tls, result, &wanted);
    lock_give(&tls->lock);
    return result;
}

/* Under lock: what a client may do with TLS itself. */
static int abuse(struct tls *tls)
{
    if (tls->data_bytes >= KEY_UPDATE_BYTES)
        tls->data_bytes = tls->key_updates = 0;
    if (tls->renegotiates)
        tls->fault = "an attempt to renegotiate";
    else if (tls->key_updates > KEY_UPDATES_MAX)
        tls->fault = "too many KeyUpdates";
    else
        return 0;
    return -EPROTO;
}

/* Under lock. Bytes; 0 at the end; -EAGAIN; an error that stays. Behind the handshake a read never
 * waits to write: the answer to a KeyUpdate goes out with the next write, and nothing is
 * negotiated again. */
static ssize_t read_record(struct tls *tls, uint8_t *to, size_t size)
{
    size_t got = 0;
    int wanted;
    CHECK(lock_held(&tls->lock) && tls->established);
    int result = SSL_read_ex(tls->ssl, to, size, &got);
    tls->data_bytes += (uint32_t)got;
    tls->failed = abuse(tls);
    if (tls->failed != 0 || result == 1)
        return tls->failed != 0 ? tls->failed : (ssize_t)got;
    if (SSL_get_error(tls->ssl, result) == SSL_ERROR_ZERO_RETURN)
        return 0;
    tls->failed = why(tls, result, &wanted);
    return tls->failed != 0 ? tls->failed : -EAGAIN;
}

static ssize_t tls_read(int fd, void *state, struct transport_read *read)
{
    struct tls *tls = state;
    size_t done = 0;
    ssize_t got = 1;
    lock_take(&tls->lock);
    ERR_clear_error();
    tls->budget = READ_BUDGET_BYTES;
    tls->drained = false;
    if (tls->failed != 0)
        got = tls->failed;
    while (got > 0 && done < read->size) {
        got = read_record(tls, (uint8_t *)read->to + done, read->size - done);
        done += got > 0 ? (size_t)got : 0;
    }
    /* No room, or the budget is spent; or an end or a fault behind some bytes, told by the next
     * call. A part of a record is nothing that one could come back for. */
    read->next = got != -EAGAIN || !tls->drained ? TRANSPORT_MORE : 0;
    if (tls->write_waits_to_read)
        read->next |= TRANSPORT_WRITE_AGAIN;
    tls->write_waits_to_read = false;
    lock_give(&tls->lock);
    read->wire_bytes = done;
    return done > 0 ? (ssize_t)done : got;
}

static ssize_t tls_write(int fd, void *state, const void *data, size_t size)
{
    struct tls *tls = state;
    size_t done = 0;
    int wanted = 0;
    ssize_t result;
    lock_take(&tls->lock);
    ERR_clear_error();
    if (!tls->established) {
        result = -EPIPE;
    } else if (SSL_write_ex(tls->ssl, data, size, &done) == 1) {
        result = (ssize_t)done;
    } else {
        result = why(tls, 0, &wanted) == 0 ? -EAGAIN : -EPIPE;
        tls->write_waits_to_read = wanted == SSL_ERROR_WANT_READ;
    }
    lock_give(&tls->lock);
    return result;
}

static void say_end(struct tls *tls)
{
    lock_take(&tls->lock);
    ERR_clear_error();
    if (tls->established && tls->failed == 0)
        (void)SSL_shutdown(tls->ssl);
    ERR_clear_error();
    lock_give(&tls->lock);
}

static int tls_shut(int fd, void *state)
{
    if (state != NULL)
        say_end(state);
    shutdown(fd, SHUT_WR);
    return 0;
}

static const char *tls_peer(const void *state)
{
    return ((const struct tls *)state)->peer;
}

static struct transport_fault tls_fault(void *state)
{
    struct tls *tls = state;
    lock_take(&tls->lock);
    const char *fault = tls->fault != NULL ? tls->fault : "";
    lock_give(&tls->lock);
    return (struct transport_fault){
        .reason = fault, .metric = METRIC_tls_failed, .event = LOG_EVENT_TLS_FAILED};
}

/* Before the handshake it has no words. */
static int tls_refuse(struct buffer *out, const char *detail, uint32_t retry_after_ms)
{
    return -ENOTSUP;
}

static const struct transport_handshake handshake = {
    .peek = tls_peek,
    .begin = tls_begin,
    .shake = tls_shake,
    .fault = tls_fault,
    .refuse = tls_refuse,
    .language = "TLS",
    .costly = true,
    .keeps_peer = true,
    .event = LOG_EVENT_TLS_FAILED,
    .done = METRIC_tls_handshakes,
    .failed = METRIC_tls_failed,
    .foreign = METRIC_plain_on_tls_port,
};

const struct transport transport_tls = {
    .handshake = &handshake,
    .read = tls_read,
    .write = tls_write,
    .shut = tls_shut,
    .peer = tls_peer,
    .destroy = tls_destroy,
    .ahead_bytes = RECORD_BYTES,
};
