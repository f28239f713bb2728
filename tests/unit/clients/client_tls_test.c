/* SPDX-License-Identifier: Apache-2.0 */

/* A broker that has a good certificate and means no good: a flood of what TLS says to itself must not
 * keep the program from its turn. The ways of a good broker are in the plays. */

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "unit/clients/client_fake_broker.h"

enum { FLOOD_MS = 1500 };

struct server {
    struct fake fake;
    SSL_CTX *context;
    char ca_file[64];
    atomic_bool flooding;
};

static X509 *certificate_of(EVP_PKEY *key)
{
    X509 *made = X509_new();
    X509_NAME *name = X509_get_subject_name(made);
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), 1);
    X509_gmtime_adj(X509_getm_notBefore(made), -3600);
    X509_gmtime_adj(X509_getm_notAfter(made), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"game.test", -1, -1, 0);
    X509_set_issuer_name(made, name);
    X509_set_pubkey(made, key);
    assert_true(X509_sign(made, key, EVP_sha256()) > 0);
    return made;
}

static void server_open(struct server *server)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = certificate_of(key);
    memset(server, 0, sizeof *server);
    fake_open(&server->fake);
    server->context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(server->context, TLS1_3_VERSION);
    assert_int_equal(SSL_CTX_use_certificate(server->context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server->context, key), 1);
    snprintf(server->ca_file, sizeof server->ca_file, "/tmp/usher-ca-XXXXXX");
    FILE *file = fdopen(mkstemp(server->ca_file), "w");
    assert_non_null(file);
    PEM_write_X509(file, certificate);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void server_fini(struct server *server)
{
    unlink(server->ca_file);
    SSL_CTX_free(server->context);
    fake_fini(&server->fake);
}

/* Takes one client and a Login, then says nothing but that keys change. */
static void *flood(void *argument)
{
    struct server *server = argument;
    uint8_t login[256];
    fake_accept(&server->fake, NULL);
    SSL *ssl = SSL_new(server->context);
    SSL_set_fd(ssl, server->fake.peer);
    bool good = SSL_accept(ssl) == 1 && SSL_read(ssl, login, sizeof login) > 0;
    atomic_store(&server->flooding, true);
    uint64_t end_ms = fake_now_ms() + FLOOD_MS;
    while (good && fake_now_ms() < end_ms)
        good = SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1;
    SSL_free(ssl);
    return NULL;
}

static void a_flood_of_key_updates_leaves_the_program_its_turn(void **state)
{
    struct server server;
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN);
    server_open(&server);
    struct usher_options options = fake_options(&server.fake);
    options.tls = true;
    options.tls_ca_file = server.ca_file;
    options.tls_server_name = "game.test";
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(pthread_create(&thread, NULL, flood, &server), 0);
    assert_int_equal(usher_client_start(client), 0);
    while (!atomic_load(&server.flooding))
        fake_tick(client);
    uint64_t longest_ms = 0;
    uint64_t end_ms = fake_now_ms() + FLOOD_MS / 2;
    while (fake_now_ms() < end_ms) {
        uint64_t began_ms = fake_now_ms();
        (void)usher_client_process(client);
        uint64_t taken_ms = fake_now_ms() - began_ms;
        longest_ms = taken_ms > longest_ms ? taken_ms : longest_ms;
    }
    print_message("the longest turn took %llu ms\n", (unsigned long long)longest_ms);
    assert_int_equal(usher_client_state(client), USHER_STATE_GREETING);
    assert_in_range(longest_ms, 0, FLOOD_MS / 3);
    usher_client_destroy(client);
    pthread_join(thread, NULL);
    server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_of_key_updates_leaves_the_program_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
