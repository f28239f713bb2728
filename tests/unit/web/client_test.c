/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/web_server.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <time.h>

#include "base/env.h"
#include "web/client.h"

/* What may come back from whoever is asked, one by one: each is an answer or an error, within its
 * time and its size, and the next request is as good as ever. */

enum { TIMEOUT_MS = 400, LONG_MS = 20000 };

/* How one request ended. */
struct outcome {
    unsigned done;
    unsigned status;
    uint64_t retry_after_ms;
    char error[WEB_ERROR_BYTES];
    char body[256];
    size_t size;
};

struct stand {
    struct web_server *server;
    struct web_client *client;
};

static void on_done(void *context, const struct web_answer *answer)
{
    struct outcome *outcome = context;
    outcome->done++;
    outcome->status = answer->status;
    outcome->retry_after_ms = answer->retry_after_ms;
    outcome->size = answer->body.size;
    snprintf(outcome->error, sizeof(outcome->error), "%s",
             answer->error != NULL ? answer->error : "");
    snprintf(outcome->body, sizeof(outcome->body), "%.*s",
             (int)(answer->body.size < 255 ? answer->body.size : 255),
             answer->body.size > 0 ? (const char *)answer->body.data : "");
}

static void aim(struct stand *stand, const char *scheme, const char *host, const char *ca_file)
{
    char url[128];
    snprintf(url, sizeof(url), "%s://%s:%u/hook?x=1", scheme, host, stand->server->port);
    web_client_aim(stand->client, web_target_create(url, ca_file, "secret", NULL));
}

static struct web_client *make_client(unsigned connections)
{
    const struct web_client_options options = {"usher/test", connections, env_system()};
    struct web_client *client;
    assert_int_equal(web_client_open(&client, &options), 0);
    return client;
}

static int begin(void **state)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    stand->server = web_server_open();
    stand->client = make_client(2);
    aim(stand, "http", "127.0.0.1", "");
    *state = stand;
    return 0;
}

static int end(void **state)
{
    struct stand *stand = *state;
    web_client_close(stand->client);
    web_server_close(stand->server);
    free(stand);
    return 0;
}

static int post(struct stand *stand, const char *body, uint64_t timeout_ms, struct outcome *outcome)
{
    *outcome = (struct outcome){0};
    return web_client_post(stand->client, bytes_of_text(body), timeout_ms, on_done, outcome);
}

static void finish(struct stand *stand, const struct outcome *outcome)
{
    uint64_t until_ms = env_monotonic_ms(env_system()) + 2 * LONG_MS;
    while (outcome->done == 0 && env_monotonic_ms(env_system()) < until_ms)
        web_client_run(stand->client, 100);
    assert_int_equal(outcome->done, 1);
}

static struct outcome ask(struct stand *stand, enum web_deed does, uint64_t timeout_ms)
{
    struct outcome outcome;
    atomic_store(&stand->server->does, does);
    assert_int_equal(post(stand, "{\"a\":1}", timeout_ms, &outcome), 0);
    finish(stand, &outcome);
    return outcome;
}

/* An error that says so, and afterwards all is well. */
static void assert_fails(struct stand *stand, enum web_deed does, uint64_t timeout_ms,
                         const char *why)
{
    struct outcome outcome = ask(stand, does, timeout_ms);
    if (strstr(outcome.error, why) == NULL)
        fail_msg("'%s' does not say '%s'", outcome.error, why);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(web_client_busy(stand->client), 0);
    outcome = ask(stand, WEB_ANSWERS, LONG_MS);
    assert_string_equal(outcome.error, "");
    assert_int_equal(outcome.status, 200);
}

static void test_a_request(void **state)
{
    struct stand *stand = *state;
    stand->server->body = "{\"seq\":7}";
    stand->server->head = "Retry-After: 3\r\n";
    struct outcome outcome = ask(stand, WEB_ANSWERS, LONG_MS);
    assert_string_equal(outcome.error, "");
    assert_string_equal(outcome.body, "{\"seq\":7}");
    assert_int_equal(outcome.retry_after_ms, 3000);
    char *request = web_server_request(stand->server);
    assert_int_equal(strncmp(request, "POST /hook?x=1 HTTP/1.1\r\n", 25), 0);
    assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(request, "\r\nUser-Agent: usher/test\r\n"));
    assert_null(strcasestr(request, "\r\nExpect:"));
    assert_string_equal(strstr(request, "\r\n\r\n"), "\r\n\r\n{\"a\":1}");
    /* The signature is that of the moment and the body. */
    char wanted[WEB_SIGNATURE_BYTES];
    const char *signature = strstr(request, "\r\nUsher-Signature: t=");
    assert_non_null(signature);
    struct web_target *target = web_target_create("http://a", "", "secret", NULL);
    uint64_t second = strtoull(signature + strlen("\r\nUsher-Signature: t="), NULL, 10);
    assert_true(web_sign(target, second, bytes_of_text("{\"a\":1}"), wanted));
    assert_int_equal(strncmp(signature + strlen("\r\nUsher-Signature: "), wanted, strlen(wanted)),
                     0);
    web_target_destroy(target);
    free(request);
}

static void test_statuses(void **state)
{
    struct stand *stand = *state;
    static const unsigned statuses[] = {200, 204, 400, 401, 413, 429, 500, 503};
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        stand->server->status = statuses[i];
        struct outcome outcome = ask(stand, WEB_ANSWERS, LONG_MS);
        assert_string_equal(outcome.error, "");
        assert_int_equal(outcome.status, statuses[i]);
    }
    assert_int_equal(atomic_load(&stand->server->connections), 1); /* it is kept */
}

static void test_redirect(void **state)
{
    struct stand *stand = *state;
    struct web_server *elsewhere = web_server_open();
    char head[80];
    snprintf(head, sizeof(head), "Location: http://127.0.0.1:%u/\r\n", elsewhere->port);
    stand->server->head = head;
    for (unsigned status = 301; status <= 308; status++) {
        stand->server->status = status;
        assert_int_equal(ask(stand, WEB_ANSWERS, LONG_MS).status, status);
    }
    assert_int_equal(atomic_load(&elsewhere->connections), 0);
    web_server_close(elsewhere);
}

/* What the environment says of proxies is meant for others. */
static void test_proxy(void **state)
{
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(ask(*state, WEB_ANSWERS, LONG_MS).status, 200);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void test_late(void **state)
{
    assert_fails(*state, WEB_HANGS, TIMEOUT_MS, "timed out");
    assert_fails(*state, WEB_DRIPS, TIMEOUT_MS, "timed out");
}

static void test_large(void **state)
{
    assert_fails(*state, WEB_FLOODS, LONG_MS, "larger than 64 KiB");
    assert_fails(*state, WEB_HEADS, LONG_MS, "larger than 16 KiB");
    assert_fails(*state, WEB_INTERIM, LONG_MS, "larger than 16 KiB");
}

static void test_largest(void **state)
{
    struct stand *stand = *state;
    /* Two, as long as the server lives: it may still be sending from them. */
    static char largest[WEB_ANSWER_BYTES_MAX + 1], too_large[WEB_ANSWER_BYTES_MAX + 2];
    memset(largest, 'x', WEB_ANSWER_BYTES_MAX);
    memset(too_large, 'x', WEB_ANSWER_BYTES_MAX + 1);
    stand->server->body = largest;
    struct outcome outcome = ask(stand, WEB_ANSWERS, LONG_MS);
    assert_string_equal(outcome.error, "");
    assert_int_equal(outcome.size, WEB_ANSWER_BYTES_MAX);
    stand->server->body = too_large;
    assert_non_null(strstr(ask(stand, WEB_ANSWERS, LONG_MS).error, "larger than 64 KiB"));
}

static void test_broken(void **state)
{
    struct stand *stand = *state;
    assert_fails(stand, WEB_RESETS, LONG_MS, "");
    assert_true(ask(stand, WEB_RESETS, LONG_MS).error[0] != '\0');
    stand->server->body = "ok";
    assert_fails(stand, WEB_CUTS, LONG_MS, "");
    assert_true(ask(stand, WEB_CUTS, LONG_MS).error[0] != '\0');
    assert_fails(stand, WEB_BABBLES, LONG_MS, "");
    assert_true(ask(stand, WEB_BABBLES, LONG_MS).error[0] != '\0');
}

/* A kept connection that its other side has closed meanwhile is no error of the next request. */
static void test_closed_meanwhile(void **state)
{
    for (int i = 0; i < 5; i++)
        assert_string_equal(ask(*state, WEB_ANSWERS_ONCE, LONG_MS).error, "");
}

static void test_nobody(void **state)
{
    struct stand *stand = *state;
    struct outcome outcome;
    web_client_aim(stand->client, web_target_create("http://127.0.0.1:1/", "", "s", NULL));
    assert_int_equal(post(stand, "{}", LONG_MS, &outcome), 0);
    finish(stand, &outcome);
    assert_true(outcome.error[0] != '\0' && outcome.status == 0);
    web_client_aim(stand->client, NULL);
    assert_int_equal(post(stand, "{}", LONG_MS, &outcome), -EDESTADDRREQ);
    assert_int_equal(outcome.done, 0);
}

/* So many at once and no more; and whoever closes it gives up what is under way, once each. */
static void test_so_many_at_once(void **state)
{
    struct stand *stand = *state;
    struct outcome first, second, third;
    atomic_store(&stand->server->does, WEB_HANGS);
    assert_int_equal(post(stand, "{}", LONG_MS, &first), 0);
    assert_int_equal(post(stand, "{}", LONG_MS, &second), 0);
    assert_int_equal(post(stand, "{}", LONG_MS, &third), -EBUSY);
    assert_int_equal(web_client_busy(stand->client), 2);
    for (unsigned i = 0; i < 1000 && atomic_load(&stand->server->hanging) < 2; i++)
        web_client_run(stand->client, 20);
    assert_int_equal(atomic_load(&stand->server->hanging), 2); /* both are there */
    web_client_close(stand->client);
    assert_true(first.done == 1 && second.done == 1 && third.done == 0);
    assert_non_null(strstr(first.error, "given up"));
    stand->client = make_client(2);
}

/* Another target holds from the next request on; what is under way stays. */
static void test_aimed_elsewhere(void **state)
{
    struct stand *stand = *state;
    struct outcome first, second;
    struct web_server *here = stand->server, *elsewhere = web_server_open();
    atomic_store(&here->does, WEB_HANGS);
    assert_int_equal(post(stand, "{}", 2 * TIMEOUT_MS, &first), 0);
    stand->server = elsewhere;
    aim(stand, "http", "127.0.0.1", "");
    assert_int_equal(post(stand, "{}", LONG_MS, &second), 0);
    finish(stand, &second);
    assert_int_equal(second.status, 200);
    finish(stand, &first);
    assert_non_null(strstr(first.error, "timed out"));
    stand->server = here;
    web_server_close(elsewhere);
}

static void *wake(void *client)
{
    usleep(50 * 1000);
    web_client_wake(client);
    return NULL;
}

static void test_wake(void **state)
{
    struct stand *stand = *state;
    pthread_t thread;
    uint64_t began_ms = env_monotonic_ms(env_system());
    assert_int_equal(pthread_create(&thread, NULL, wake, stand->client), 0);
    web_client_run(stand->client, 60 * 1000);
    assert_true(env_monotonic_ms(env_system()) - began_ms < 50 * 1000);
    pthread_join(thread, NULL);
}

/* --- TLS -------------------------------------------------------------------------------------- */

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

static struct identity make_identity(const char *alternatives, const struct identity *by,
                                     long from_s, long until_s)
{
    struct identity made = {EVP_EC_gen("P-256"), X509_new()};
    const struct identity *signer = by != NULL ? by : &made;
    static long serial;
    char name[32];
    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), ++serial);
    snprintf(name, sizeof(name), "of the test %ld", serial);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), from_s);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), until_s);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.certificate), "CN", MBSTRING_ASC,
                               (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(made.certificate, X509_get_subject_name(signer->certificate));
    X509_set_pubkey(made.certificate, made.key);
    const struct {
        int nid;
        const char *value;
    } extensions[] = {{NID_basic_constraints, by == NULL ? "CA:TRUE" : "CA:FALSE"},
                      {NID_subject_alt_name, alternatives}};
    for (int i = 0; i < 2; i++) {
        X509_EXTENSION *extension =
            X509V3_EXT_conf_nid(NULL, NULL, extensions[i].nid, extensions[i].value);
        assert_non_null(extension);
        X509_add_ext(made.certificate, extension, -1);
        X509_EXTENSION_free(extension);
    }
    assert_true(X509_sign(made.certificate, signer->key, EVP_sha256()) > 0);
    return made;
}

static void drop_identity(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

/* In front of the server: takes TLS off, for one connection after the other. */
struct tls_front {
    int listener;
    unsigned port, behind;
    SSL_CTX *context;
    pthread_t thread;
    _Atomic unsigned shaken;
};

static void *run_front(void *argument)
{
    struct tls_front *front = argument;
    int socket;
    while ((socket = accept(front->listener, NULL, NULL)) >= 0) {
        char bytes[4096];
        SSL *ssl = SSL_new(front->context);
        SSL_set_fd(ssl, socket);
        if (SSL_accept(ssl) == 1) {
            atomic_fetch_add(&front->shaken, 1);
            bytes[0] = '\0';
            int size = 0, more;
            while (!web_is_whole(bytes) &&
                   (more = SSL_read(ssl, bytes + size, (int)sizeof(bytes) - 1 - size)) > 0)
                bytes[size += more] = '\0';
            static const char answer[] =
                "HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            SSL_write(ssl, answer, sizeof(answer) - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(socket);
    }
    return NULL;
}

static struct tls_front *open_front(const struct identity *identity)
{
    struct tls_front *front = calloc(1, sizeof(*front));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    front->context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(front->context, identity->certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(front->context, identity->key), 1);
    front->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(front->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(front->listener, 8), 0);
    assert_int_equal(getsockname(front->listener, (struct sockaddr *)&address, &size), 0);
    front->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&front->thread, NULL, run_front, front), 0);
    return front;
}

static void close_front(struct tls_front *front)
{
    shutdown(front->listener, SHUT_RDWR);
    pthread_join(front->thread, NULL);
    close(front->listener);
    SSL_CTX_free(front->context);
    free(front);
}

/* One request to somebody with that identity by that host; whom is `ca_file` to believe? */
static struct outcome ask_tls(struct stand *stand, const struct identity *identity,
                              const char *host, const char *ca_file, bool *believed)
{
    struct outcome outcome;
    char url[64];
    struct tls_front *front = open_front(identity);
    snprintf(url, sizeof(url), "https://%s:%u/", host, front->port);
    web_client_aim(stand->client, web_target_create(url, ca_file, "secret", NULL));
    assert_int_equal(post(stand, "{}", LONG_MS, &outcome), 0);
    finish(stand, &outcome);
    close_front(front);
    *believed = outcome.status == 200;
    return outcome;
}

static void test_tls(void **state)
{
    enum { HOUR_S = 3600 };
    struct stand *stand = *state;
    bool believed;
    char path[] = "/tmp/usher-unit-ca-XXXXXX", other_path[] = "/tmp/usher-unit-ca-XXXXXX";
    struct identity authority = make_identity("DNS:authority", NULL, -HOUR_S, HOUR_S);
    struct identity stranger = make_identity("DNS:stranger", NULL, -HOUR_S, HOUR_S);
    struct identity right = make_identity("IP:127.0.0.1", &authority, -HOUR_S, HOUR_S);
    struct identity wrong =
        make_identity("DNS:game.example,IP:127.0.0.2", &authority, -HOUR_S, HOUR_S);
    struct identity over = make_identity("IP:127.0.0.1", &authority, -2 * HOUR_S, -HOUR_S);
    FILE *file = fdopen(mkstemp(path), "w"), *other = fdopen(mkstemp(other_path), "w");
    PEM_write_X509(file, authority.certificate);
    PEM_write_X509(other, stranger.certificate);
    fclose(file);
    fclose(other);
    struct outcome outcome = ask_tls(stand, &right, "127.0.0.1", path, &believed);
    assert_string_equal(outcome.error, "");
    assert_true(believed);
    outcome = ask_tls(stand, &wrong, "127.0.0.1", path, &believed);
    assert_true(!believed && outcome.error[0] != '\0');
    outcome = ask_tls(stand, &over, "127.0.0.1", path, &believed);
    assert_true(!believed && outcome.error[0] != '\0');
    outcome = ask_tls(stand, &right, "127.0.0.1", other_path, &believed);
    assert_true(!believed && strstr(outcome.error, "certificate") != NULL);
    outcome = ask_tls(stand, &right, "127.0.0.1", "", &believed); /* the system's authorities */
    assert_true(!believed && strstr(outcome.error, "certificate") != NULL);
    outcome = ask_tls(stand, &right, "localhost", path, &believed);
    assert_true(!believed && outcome.error[0] != '\0');
    unlink(path);
    unlink(other_path);
    drop_identity(&authority);
    drop_identity(&stranger);
    drop_identity(&right);
    drop_identity(&wrong);
    drop_identity(&over);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_request, begin, end),
        cmocka_unit_test_setup_teardown(test_statuses, begin, end),
        cmocka_unit_test_setup_teardown(test_redirect, begin, end),
        cmocka_unit_test_setup_teardown(test_proxy, begin, end),
        cmocka_unit_test_setup_teardown(test_late, begin, end),
        cmocka_unit_test_setup_teardown(test_large, begin, end),
        cmocka_unit_test_setup_teardown(test_largest, begin, end),
        cmocka_unit_test_setup_teardown(test_broken, begin, end),
        cmocka_unit_test_setup_teardown(test_closed_meanwhile, begin, end),
        cmocka_unit_test_setup_teardown(test_nobody, begin, end),
        cmocka_unit_test_setup_teardown(test_so_many_at_once, begin, end),
        cmocka_unit_test_setup_teardown(test_aimed_elsewhere, begin, end),
        cmocka_unit_test_setup_teardown(test_wake, begin, end),
        cmocka_unit_test_setup_teardown(test_tls, begin, end),
    };
    signal(SIGPIPE, SIG_IGN); /* TLS writes to whoever has gone */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
