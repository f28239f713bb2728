/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "libusher/session.h"
#include "unit/libusher/fake_broker.h"

/* Somebody with a certificate that is not good at one address, the broker at the next; and a broker
 * that has a good one and means no good: a flood of what TLS says to itself must not keep the
 * program from its turn. The ways of a good broker are in the plays. */

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
    memset(server, 0, sizeof(*server));
    fake_open(&server->fake);
    server->context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(server->context, TLS1_3_VERSION);
    assert_int_equal(SSL_CTX_use_certificate(server->context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server->context, key), 1);
    snprintf(server->ca_file, sizeof(server->ca_file), "/tmp/usher-ca-XXXXXX");
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
    bool good = SSL_accept(ssl) == 1 && SSL_read(ssl, login, sizeof(login)) > 0;
    atomic_store(&server->flooding, true);
    uint64_t end_ms = fake_now_ms() + FLOOD_MS;
    while (good && fake_now_ms() < end_ms)
        good = SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1;
    SSL_free(ssl);
    return NULL;
}

/* By this thread: a loaded machine does not count. */
static uint64_t computed_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
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
    uint64_t end_ms =
        fake_now_ms() + FLOOD_MS / 2; /* the turn under way then ends with the flood */
    while (fake_now_ms() < end_ms) {
        uint64_t began_ms = computed_ms();
        (void)usher_client_process(client);
        uint64_t taken_ms = computed_ms() - began_ms;
        longest_ms = taken_ms > longest_ms ? taken_ms : longest_ms;
    }
    print_message("the longest turn computed for %llu ms\n", (unsigned long long)longest_ms);
    assert_int_equal(usher_client_state(client), USHER_STATE_GREETING);
    assert_in_range(longest_ms, 0, FLOOD_MS / 15);
    usher_client_destroy(client);
    pthread_join(thread, NULL);
    server_fini(&server);
}

/* Somebody else first, then the broker. */
static int two_addresses(const char *host, uint16_t port, struct addresses *found)
{
    memset(found, 0, sizeof(*found));
    found->count = 2;
    for (uint32_t i = 0; i < 2; i++) {
        found->list[i].at.v4.sin_family = AF_INET;
        found->list[i].at.v4.sin_port = htons(port);
        found->list[i].at.v4.sin_addr.s_addr = htonl(fake_host(2 - i));
    }
    return 0;
}

/* Somebody else's server, at the broker's port. */
static void server_move(struct server *server, uint16_t port)
{
    struct addresses found;
    two_addresses("", port, &found);
    close(server->fake.listener);
    server->fake.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        bind(server->fake.listener, &found.list[0].at.any, sizeof(found.list[0].at.v4)), 0);
    assert_int_equal(listen(server->fake.listener, 8), 0);
}

/* Takes one client and welcomes him, if he speaks. */
static void *welcome(void *argument)
{
    struct server *server = argument;
    uint8_t login[256];
    fake_accept(&server->fake, NULL);
    SSL *ssl = SSL_new(server->context);
    SSL_set_fd(ssl, server->fake.peer);
    bool spoke = SSL_accept(ssl) == 1 && SSL_read(ssl, login, sizeof(login)) > 0;
    static const uint8_t frame[] = {0x04, 0x12, 0x02, 0x08, 0x07}; /* Welcome, epoch 7 */
    if (spoke)
        SSL_write(ssl, frame, sizeof(frame));
    SSL_free(ssl);
    return spoke ? argument : NULL;
}

static void a_certificate_that_is_not_good_gives_way_to_the_next_address(void **state)
{
    struct server broker, other;
    pthread_t broker_thread, other_thread;
    void *broker_heard, *other_heard;
    signal(SIGPIPE, SIG_IGN);
    server_open(&broker);
    server_open(&other);
    server_move(&other, broker.fake.port);
    struct usher_options options = fake_options(&broker.fake);
    options.host = "game.test";
    options.tls = true;
    options.tls_ca_file = broker.ca_file;
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    client->find_addresses = two_addresses;
    assert_int_equal(pthread_create(&broker_thread, NULL, welcome, &broker), 0);
    assert_int_equal(pthread_create(&other_thread, NULL, welcome, &other), 0);
    assert_int_equal(usher_client_start(client), 0);
    assert_int_equal(expect_event(client, USHER_WELCOME).epoch, 7);
    pthread_join(other_thread, &other_heard);
    assert_null(other_heard); /* not a byte of the Login */
    pthread_join(broker_thread, &broker_heard);
    assert_non_null(broker_heard);
    usher_client_destroy(client);
    server_fini(&broker);
    server_fini(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_that_is_not_good_gives_way_to_the_next_address),
        cmocka_unit_test(a_flood_of_key_updates_leaves_the_program_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
