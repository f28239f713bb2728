/* SPDX-License-Identifier: Apache-2.0 */
#include "net/private.h"
#include "tls_fixture.h"

#include <fcntl.h>

#include "client.pb-c.h"
#include "net/tls.h"

/* Connections over TLS: like others once they are in, and bounded until then. */

static struct files files;
static struct identity server;

static const struct manner any = {0};
static const struct manner version_2 = {.version = TLS1_2_VERSION};
static const struct manner version_3 = {.version = TLS1_3_VERSION};

static int set_up_tls(void **state)
{
    set_up(state);
    struct fixture *fixture = *state;
    fixture->options.listen[LISTENER_tls].address = "127.0.0.1:0";
    fixture->options.tls_certificate_file = files.certificate;
    fixture->options.tls_key_file = files.key;
    fixture->options.tls_client_ca_file = "";
    fixture->limits.limits_handshakes = 16;
    fixture->limits.limits_handshake_deadline_ms = 60000;
    write_identity(&files, &server);
    return 0;
}

static int read_files_again(struct fixture *fixture, char *error)
{
    const struct net_tls_files names = {files.certificate, files.key, ""};
    return net_reload_tls(fixture->net, &names, error);
}

/* --- like any other --------------------------------------------------------------------------- */

static void talk(struct fixture *fixture, const struct manner *manner)
{
    struct tls_peer peer = new_tls_peer(fixture, manner);
    for (unsigned size = 0; size < 40000; size = size * 3 + 1) {
        struct buffer frame = {0};
        add_frame(&frame, size, 'q');
        assert_int_equal(SSL_write(peer.ssl, frame.data, (int)frame.size), (int)frame.size);
        expect_frames(fixture, peer.conn, frame.data, frame.size);
        forget_frames(fixture, peer.conn);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, frame.data, frame.size), 0);
        tls_expect_bytes(peer.ssl, frame.data, frame.size);
        buffer_fini(&frame);
    }
    net_write(fixture->net, 0, peer.conn, "bye", 3);
    net_release(fixture->net, peer.conn);
    tls_expect_bytes(peer.ssl, "bye", 3);
    tls_expect_end(peer.ssl);
    tls_close(&peer);
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void frames_and_answers(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    talk(fixture, &version_3);
    talk(fixture, &version_2);
    assert_int_equal(metric_of(fixture, METRIC_tls_handshakes), 2);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 0);
}

static void old_versions_are_refused(void **state)
{
    struct fixture *fixture = *state;
    static const struct manner old = {.version = TLS1_1_VERSION};
    start(fixture);
    int fd = tls_socket(fixture);
    SSL *ssl = tls_client_on(fd, &old);
    SSL_set_security_level(ssl, 0);
    assert_true(SSL_connect(ssl) <= 0);
    SSL_free(ssl);
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    WAIT_FOR(metric_of(fixture, METRIC_tls_failed) == 1);
    assert_int_equal(records_count(fixture), 0); /* nobody above heard of it */
}

/* The client's bytes, as they go over the wire, in two parts cut at `at`. */
static void send_cut(int fd, const uint8_t *data, size_t size, size_t at)
{
    send_all(fd, data, at);
    nap_ms(1);
    send_all(fd, data + at, size - at);
}

/* Records cut at any byte, the handshake's and those of data, and many in one segment. */
static void records_in_any_pieces(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &version_3);
    BIO *wire = BIO_new(BIO_s_mem());
    SSL_set0_wbio(peer.ssl, wire);
    for (size_t at = 0; at < 80; at++) {
        struct buffer frames = {0};
        char *bytes;
        for (unsigned i = 0; i < 3; i++) {
            tls_send_frame(peer.ssl, 5, (uint8_t)('a' + i));
            add_frame(&frames, 5, (uint8_t)('a' + i));
        }
        size_t size = (size_t)BIO_get_mem_data(wire, &bytes);
        send_cut(peer.fd, (const uint8_t *)bytes, size, at < size ? at : size);
        (void)BIO_reset(wire);
        expect_frames(fixture, peer.conn, frames.data, frames.size);
        forget_frames(fixture, peer.conn);
        buffer_fini(&frames);
    }
    tls_close(&peer);
}

/* A part of a record is waited for without being asked for again and again; and the peer's end
 * behind it is found. */
static void half_a_record(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &any);
    BIO *wire = BIO_new(BIO_s_mem());
    char *bytes;
    SSL_set0_wbio(peer.ssl, wire);
    tls_send_frame(peer.ssl, 100, 'x');
    assert_true(BIO_get_mem_data(wire, &bytes) > 50);
    send_all(peer.fd, bytes, 50);
    nap_ms(50);
    uint64_t batches = batches_count(fixture);
    uint64_t cpu = cpu_ms();
    nap_ms(300);
    assert_true(batches_count(fixture) - batches < 5);
    assert_true(cpu_ms() - cpu < 100);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    shutdown(peer.fd, SHUT_WR);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    tls_close(&peer);
}

/* The same, told by one event together: the I/O thread is kept busy until both are there. */
static void half_a_record_and_the_end(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct peer other = new_peer(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &any);
    BIO *wire = BIO_new(BIO_s_mem());
    char *bytes;
    SSL_set0_wbio(peer.ssl, wire);
    tls_send_frame(peer.ssl, 100, 'x');
    assert_true(BIO_get_mem_data(wire, &bytes) > 50);
    gate(fixture, true);
    send_frame(other.fd, 1, 'o');
    WAIT_FOR(frames_size(fixture, other.conn) > 0);
    send_all(peer.fd, bytes, 50);
    shutdown(peer.fd, SHUT_WR);
    nap_ms(20);
    gate(fixture, false);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
    tls_close(&peer);
    close(other.fd);
}

static void the_end_of_the_peer(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    for (unsigned polite = 0; polite < 2; polite++) {
        struct tls_peer peer = new_tls_peer(fixture, &any);
        tls_send_frame(peer.ssl, 3, 'z'); /* what came before the end is heard */
        if (polite)
            SSL_shutdown(peer.ssl);
        shutdown(peer.fd, SHUT_WR);
        WAIT_FOR(look(fixture, peer.conn).ends == 1);
        assert_int_equal(look(fixture, peer.conn).end, CONN_LOST);
        assert_int_equal(look(fixture, peer.conn).calls, 1);
        tls_close(&peer);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
}

struct reader {
    SSL *ssl;
    uint8_t *got;
    size_t size;
    _Atomic bool done;
};

static void *reads_all(void *argument)
{
    struct reader *reader = argument;
    tls_read_exactly(reader->ssl, reader->got, reader->size);
    reader->done = true;
    return NULL;
}

/* More than the socket takes: what waits is written later, in order, whatever records it began. */
static void output_that_waits(void **state)
{
    struct fixture *fixture = *state;
    enum { CHUNK = 50000, MOST = 20 * 1024 * 1024 };
    fixture->limits.limits_output_bytes = MOST;
    fixture->limits.limits_output_soft_bytes = MOST;
    /* The write side is this thread's, until it releases it. */
    fixture->binds = fixture->flushes_not = fixture->keeps = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &any);
    uint8_t *sent = malloc(MOST);
    size_t size = 0;
    while (size + CHUNK < MOST - CHUNK) {
        for (size_t i = 0; i < CHUNK; i++)
            sent[size + i] = (uint8_t)((size + i) * 2654435761u >> 13);
        assert_int_equal(net_write(fixture->net, 0, peer.conn, sent + size, CHUNK), 0);
        size += CHUNK;
    }
    struct reader reader = {.ssl = peer.ssl, .got = malloc(MOST), .size = size};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, reads_all, &reader), 0);
    unsigned seen = 0;
    while (!reader.done) { /* written when it is told, never otherwise */
        WAIT_FOR(reader.done || look(fixture, peer.conn).writables > seen);
        seen = look(fixture, peer.conn).writables;
        assert_int_equal(net_flush(fixture->net, 0, peer.conn), 0);
    }
    pthread_join(thread, NULL);
    assert_true(seen > 0);
    assert_memory_equal(reader.got, sent, size);
    free(reader.got);
    free(sent);
    net_release(fixture->net, peer.conn);
    tls_close(&peer);
}

struct talker {
    struct fixture *fixture;
    struct tls_peer *peer;
    unsigned rounds;
    _Atomic bool stop;
};

static void *writes_much(void *argument)
{
    struct talker *talker = argument;
    uint8_t data[600];
    memset(data, 'w', sizeof(data));
    for (unsigned i = 0; i < talker->rounds; i++)
        if (net_write(talker->fixture->net, 1, talker->peer->conn, data, sizeof(data)) != 0)
            return talker;
    while (!talker->stop) {
        nap_ms(1);
        net_flush(talker->fixture->net, 1, talker->peer->conn);
    }
    return NULL;
}

/* The owner writes on one thread while the I/O thread reads, and the client's KeyUpdates make the
 * reading change what the writing uses. */
static void both_sides_at_once(void **state)
{
    struct fixture *fixture = *state;
    enum { ROUNDS = 2000, UPDATES = 20 };
    fixture->limits.limits_output_bytes = fixture->limits.limits_output_soft_bytes =
        16 * 1024 * 1024;
    fixture->binds = fixture->flushes_not = fixture->keeps = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &version_3);
    struct talker talker = {.fixture = fixture, .peer = &peer, .rounds = ROUNDS};
    pthread_t thread;
    uint8_t got[600];
    void *failed;
    assert_int_equal(pthread_create(&thread, NULL, writes_much, &talker), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        tls_send_frame(peer.ssl, 100, 'r');
        if (i % (ROUNDS / UPDATES) == 0)
            assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        tls_read_exactly(peer.ssl, got, sizeof(got));
        assert_int_equal(got[599], 'w');
    }
    talker.stop = true;
    pthread_join(thread, &failed);
    assert_null(failed);
    WAIT_FOR(frames_size(fixture, peer.conn) == ROUNDS * 101);
    net_release(fixture->net, peer.conn);
    tls_close(&peer);
}

static void idle_it_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct tls_peer peers[5];
    for (unsigned i = 0; i < 5; i++)
        peers[i] = new_tls_peer(fixture, &any);
    nap_ms(50);
    uint64_t batches = batches_count(fixture);
    nap_ms(300);
    assert_int_equal(batches_count(fixture), batches);
    for (unsigned i = 0; i < 5; i++)
        tls_close(&peers[i]);
}

static void many_on_several_threads(void **state)
{
    struct fixture *fixture = *state;
    enum { PEERS = 12 };
    fixture->options.reactors = 3;
    fixture->binds = true;
    start(fixture);
    struct tls_peer peers[PEERS];
    for (unsigned i = 0; i < PEERS; i++)
        peers[i] = new_tls_peer(fixture, i % 2 ? &version_2 : &version_3);
    for (unsigned i = 0; i < PEERS; i++) {
        net_write(fixture->net, 3, peers[i].conn, &peers[i].conn, 8);
        tls_expect_bytes(peers[i].ssl, &peers[i].conn, 8);
        tls_close(&peers[i]);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* --- before they are in ----------------------------------------------------------------------- */

/* Silent, or in the middle of it: closed at the deadline, whatever trickles in. */
static void the_deadline_is_absolute(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_handshake_deadline_ms = 300;
    start(fixture);
    uint64_t began = clock_ms();
    int silent = tls_socket(fixture);
    int half = tls_socket(fixture);
    int trickling = tls_socket(fixture);
    static const uint8_t hello[] = {0x16, 3, 1, 0x02, 0, 1, 0, 0x01, 0xfc, 3, 3};
    send_all(half, hello, sizeof(hello));
    uint8_t byte;
    for (unsigned i = 0; i < 200; i++) {
        if (send(trickling, hello + i % 11, 1, MSG_NOSIGNAL) <= 0 && i > 20)
            break;
        if (i == 10) /* a whole beginning; from here on anything is part of the hello */
            nap_ms(1);
        nap_ms(10);
        if (recv(trickling, &byte, 1, MSG_DONTWAIT) == 0)
            break;
    }
    WAIT_FOR(net_count(fixture->net) == 0);
    uint64_t took = clock_ms() - began;
    assert_true(took >= 300);
    assert_true(took < 300 + SLACK_MS);
    assert_int_equal(recv(silent, &byte, 1, 0), 0);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 3);
    assert_int_equal(records_count(fixture), 0);
    close(silent);
    close(half);
    close(trickling);
}

/* The login's deadline begins when the handshake is done. */
static void the_login_has_its_own_deadline(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_login_deadline_ms = 300;
    fixture->options.silence_ms = 2400;
    start(fixture);
    int fd = tls_socket(fixture);
    nap_ms(250);
    uint64_t began = clock_ms(); /* the handshake ends after this, whoever sees it when */
    SSL *ssl = shake_hands(fd, &any);
    assert_non_null(ssl);
    WAIT_FOR(records_count(fixture) == 1);
    uint64_t took = clock_ms() - began;
    struct record record = look(fixture, record_handle(fixture, 0));
    assert_int_equal(record.end, CONN_LOGIN_DEADLINE);
    assert_in_range(took, 299, 300 + SLACK_MS);
    tls_expect_end(ssl);
    SSL_free(ssl);
    close(fd);
}

/* Whoever gives up in the middle is gone at once, and not at the deadline. */
static void given_up_in_the_middle(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t hello[] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3};
    start(fixture);
    for (size_t size = 0; size <= sizeof(hello); size++) {
        int fd = tls_socket(fixture);
        send_all(fd, hello, size);
        if (size % 2)
            WAIT_FOR(net_count(fixture->net) == 1);
        close(fd);
        WAIT_FOR(net_count(fixture->net) == 0); /* the deadline is a minute */
    }
}

static void handshakes_limit(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 3 };
    fixture->limits.limits_handshakes = LIMIT;
    fixture->binds = true;
    start(fixture);
    int fds[LIMIT];
    uint8_t byte;
    for (unsigned i = 0; i < LIMIT; i++)
        fds[i] = tls_socket(fixture);
    WAIT_FOR(net_count(fixture->net) == LIMIT);
    int extra = tls_socket(fixture);
    assert_int_equal(recv(extra, &byte, 1, 0), 0);
    close(extra);
    WAIT_FOR(metric_of(fixture, METRIC_refused_handshakes) == 1);
    /* Those who are in a handshake are not hindered; one who is done makes room, and so does one
     * who leaves. */
    SSL *ssl = shake_hands(fds[0], &any);
    assert_non_null(ssl);
    WAIT_FOR(metric_of(fixture, METRIC_tls_handshakes) == 1);
    struct tls_peer more = new_tls_peer(fixture, &any);
    close(fds[1]);
    WAIT_FOR(net_count(fixture->net) == LIMIT);
    struct tls_peer another = new_tls_peer(fixture, &any);
    assert_int_equal(metric_of(fixture, METRIC_refused_handshakes), 1);
    tls_close(&more);
    tls_close(&another);
    SSL_free(ssl);
    close(fds[0]);
    close(fds[2]);
}

/* Older ones outside the handshake would be no help. */
static void the_oldest_handshake_goes_for_a_newcomer(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_handshakes = 2;
    fixture->options.unbound_age_ms = 1;
    start(fixture);
    int plain = client(fixture);
    WAIT_FOR(net_count(fixture->net) == 1);
    nap_ms(5);
    int first = tls_socket(fixture);
    WAIT_FOR(net_count(fixture->net) == 2);
    nap_ms(5);
    int second = tls_socket(fixture);
    WAIT_FOR(net_count(fixture->net) == 3);
    nap_ms(5);
    fixture->binds = true;
    struct tls_peer next = new_tls_peer(fixture, &any);
    expect_end(first);
    expect_silence(second, 1);
    expect_silence(plain, 1);
    assert_int_equal(metric_of(fixture, METRIC_strangers_displaced), 1);
    assert_int_equal(metric_of(fixture, METRIC_refused_handshakes), 0);
    tls_close(&next);
    close(first);
    close(second);
    close(plain);
}

static void frames_on_the_tls_port(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    int fd = tls_socket(fixture);
    send_frame(fd, 20, 'x');
    uint8_t bytes[256];
    size_t size = 0;
    ssize_t got;
    while ((got = recv(fd, bytes + size, sizeof(bytes) - size, 0)) > 0)
        size += (size_t)got;
    assert_int_equal(got, 0);
    struct bytes frame;
    size_t used;
    assert_int_equal(frame_next((struct bytes){bytes, size}, 1000, &frame, &used), 1);
    Usher__V1__BrokerFrame *close_frame =
        usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    assert_non_null(close_frame);
    assert_int_equal(close_frame->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(close_frame->close->reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    assert_non_null(strstr(close_frame->close->detail, "TLS"));
    usher__v1__broker_frame__free_unpacked(close_frame, NULL);
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_plain_on_tls_port), 1);
    /* The place in the count of handshakes was given back. */
    fixture->binds = true;
    for (unsigned i = 0; i < 20; i++) {
        struct tls_peer peer = new_tls_peer(fixture, &any);
        tls_close(&peer);
    }
}

static void tls_on_the_plain_port(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    int fd = client(fixture);
    SSL *ssl = tls_client_on(fd, &any);
    assert_true(SSL_connect(ssl) <= 0);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
    SSL_free(ssl);
    ERR_clear_error();
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_tls_on_plain_port), 1);
    assert_int_equal(records_count(fixture), 0);
}

/* Refused by what they announce, before anything is kept of them. */
static void hellos_that_cannot_be(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t large[] = {0x16, 3, 1, 0x40, 0, 1, 0, 0x40, 1};
    static const uint8_t at_most[] = {0x16, 3, 1, 0x40, 0, 1, 0, 0x40, 0};
    static const uint8_t other[] = {0x16, 3, 1, 0, 4, 2, 0, 0, 0};
    start(fixture);
    uint8_t byte;
    int fd = tls_socket(fixture);
    send_all(fd, large, sizeof(large));
    WAIT_FOR(metric_of(fixture, METRIC_tls_failed) == 1);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    fd = tls_socket(fixture);
    send_all(fd, other, sizeof(other));
    assert_int_equal(recv(fd, &byte, 1, 0), 1); /* a Close in plain text */
    close(fd);
    fd = tls_socket(fixture);
    send_all(fd, at_most, sizeof(at_most));
    expect_silence(fd, 50);
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
}

/* A ClientHello that announces little and comes in records of one byte each: 64 KiB are taken, and
 * not a byte more. */
static void a_handshake_of_too_many_bytes(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t first[] = {0x16, 3, 1, 0, 4, 1, 0, 0x40, 0};
    static const uint8_t record[] = {0x16, 3, 1, 0, 1, 'x'};
    enum {
        MOST = 64 * 1024,
        RECORDS = (MOST - sizeof(first)) / sizeof(record),
        REST = (MOST - sizeof(first)) % sizeof(record)
    };
    struct buffer bytes = {0};
    assert_int_equal(buffer_append(&bytes, first, sizeof(first)), 0);
    for (unsigned i = 0; i < RECORDS; i++)
        assert_int_equal(buffer_append(&bytes, record, sizeof(record)), 0);
    assert_int_equal(buffer_append(&bytes, record, REST), 0);
    assert_int_equal(bytes.size, MOST);
    start(fixture);
    int fd = tls_socket(fixture);
    send_all(fd, bytes.data, bytes.size);
    expect_silence(fd, 200);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 0);
    send_all(fd, record + REST, 1);
    WAIT_FOR(metric_of(fixture, METRIC_tls_failed) == 1);
    WAIT_FOR(net_count(fixture->net) == 0);
    close(fd);
    buffer_fini(&bytes);
}

static void garbage_in_the_handshake(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    for (unsigned seed = 1; seed <= 40; seed++) {
        uint8_t bytes[600] = {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};
        uint32_t chance = seed * 2654435761u;
        for (size_t i = 11; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)((chance = chance * 1664525u + 1013904223u) >> 24);
        int fd = tls_socket(fixture);
        send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
        while (recv(fd, bytes, sizeof(bytes), 0) > 0)
            ;
        close(fd);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 40);
    fixture->binds = true;
    talk(fixture, &any);
}

static void stop_accepting_ends_handshakes(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    fixture->binds = true;
    start(fixture);
    int fds[4];
    uint8_t byte;
    for (unsigned i = 0; i < 4; i++)
        fds[i] = tls_socket(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &any);
    WAIT_FOR(net_count(fixture->net) == 5);
    net_stop_accepting(fixture->net);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(recv(fds[i], &byte, 1, 0), 0);
        close(fds[i]);
    }
    WAIT_FOR(net_count(fixture->net) == 1);
    tls_close(&peer);
}

static enum hello peek(const char *bytes, size_t size)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    if (size > 0)
        assert_int_equal(send(ends[0], bytes, size, 0), size);
    enum hello hello = transport_tls.handshake->peek(ends[1]);
    close(ends[0]);
    close(ends[1]);
    return hello;
}

/* Each byte counts as soon as it is there. */
static void what_is_no_hello_is_known_by_its_first_bytes(void **state)
{
    assert_int_equal(peek("", 0), HELLO_AWAITED);
    assert_int_equal(peek("\x15", 1), HELLO_FOREIGN);
    assert_int_equal(peek("\x16", 1), HELLO_AWAITED);
    assert_int_equal(peek("\x16\x02", 2), HELLO_FOREIGN);
    assert_int_equal(peek("\x16\x03\1\0\x80", 5), HELLO_AWAITED);
    assert_int_equal(peek("\x16\x03\1\0\x80\2", 6), HELLO_FOREIGN);
    assert_int_equal(peek("\x16\x03\1\0\x80\1", 6), HELLO_AWAITED);
}

/* In the library's words, where it has some. */
static void what_went_wrong_has_a_name(void **state)
{
    struct tls_domain *domain;
    const struct tls_files names = {files.certificate, files.key, ""};
    char error[TLS_ERROR_BYTES];
    int ends[2];
    assert_int_equal(tls_domain_open(&domain, &names, error), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    const struct transport_handshake *handshake = transport_tls.handshake;
    const struct transport_site site = {.tls = domain};
    void *tls = handshake->begin(&site, ends[1], "here", false);
    assert_int_equal(send(ends[0], "\x16\x03\1\0\4\1\0\0\0", 9, 0), 9); /* an empty hello */
    assert_int_equal(handshake->shake(&site, ends[1], tls), -EPROTO);
    assert_string_equal(handshake->fault(tls).reason, "length too short");
    transport_tls.destroy(tls);
    tls_domain_close(domain);
    close(ends[0]);
    close(ends[1]);
}

/* --- what TLS itself allows to do ------------------------------------------------------------- */

static void an_attempt_to_renegotiate_ends_it(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &version_2);
    struct tls_peer other = new_tls_peer(fixture, &version_2);
    /* It only asks, and then waits: the end is the broker's doing. */
    assert_int_equal(fcntl(peer.fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(SSL_renegotiate(peer.ssl), 1);
    assert_true(SSL_do_handshake(peer.ssl) <= 0);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 1);
    tls_send_frame(other.ssl, 1, 'o');
    WAIT_FOR(look(fixture, other.conn).calls == 1);
    ERR_clear_error();
    tls_close(&peer);
    tls_close(&other);
}

static bool agrees(struct fixture *fixture, int version, const char *groups)
{
    const struct manner manner = {.version = version, .groups = groups};
    int fd = tls_socket(fixture);
    SSL *ssl = shake_hands(fd, &manner);
    SSL_free(ssl);
    close(fd);
    return ssl != NULL;
}

/* A step of a handshake is made on an I/O thread: what the client chooses must not make it long. */
static void costly_groups_are_not_taken(void **state)
{
    struct fixture *fixture = *state;
    static const char *const costly[] = {"P-384",     "P-521",     "X448",      "ffdhe2048",
                                         "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"};
    start(fixture);
    for (unsigned i = 0; i < sizeof(costly) / sizeof(*costly); i++) {
        char and_another[64];
        snprintf(and_another, sizeof(and_another), "%s:P-256", costly[i]);
        assert_false(agrees(fixture, TLS1_3_VERSION, costly[i]));
        assert_true(agrees(fixture, TLS1_3_VERSION, and_another)); /* is asked for the other */
    }
    assert_false(agrees(fixture, TLS1_2_VERSION, "P-521:P-384"));
    assert_true(agrees(fixture, TLS1_2_VERSION, "P-521:P-256"));
    assert_true(agrees(fixture, TLS1_3_VERSION, "X25519"));
    /* The last may not have told its failure yet. */
    WAIT_FOR(metric_of(fixture, METRIC_tls_failed) == sizeof(costly) / sizeof(*costly) + 1);
}

/* More has come than one read has room for, and no event will tell of the rest. */
static void what_one_read_leaves_is_read(void **state)
{
    struct fixture *fixture = *state;
    enum { FIRST = 60000, BEGINNING = 40000, SECOND = 30000 };
    struct buffer sent = {0};
    fixture->binds = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &any), other = new_tls_peer(fixture, &any);
    add_frame(&sent, FIRST, 'a');
    add_frame(&sent, SECOND, 'b');
    uint64_t before = metric_of(fixture, METRIC_bytes_in);
    assert_int_equal(SSL_write(peer.ssl, sent.data, BEGINNING), BEGINNING);
    WAIT_FOR(metric_of(fixture, METRIC_bytes_in) == before + BEGINNING);
    gate(fixture, true);
    tls_send_frame(other.ssl, 1, 'x');
    WAIT_FOR(look(fixture, other.conn).calls == 1); /* the I/O thread waits there */
    int rest = (int)sent.size - BEGINNING;
    assert_int_equal(SSL_write(peer.ssl, sent.data + BEGINNING, rest), rest);
    gate(fixture, false);
    expect_frames(fixture, peer.conn, sent.data, sent.size);
    buffer_fini(&sent);
    tls_close(&peer);
    tls_close(&other);
}

/* Until the peer's window is closed and nothing moves any more. */
static void stuff(int fd)
{
    static const uint8_t data[4096];
    int size = sizeof(data);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* and it does not grow */
    for (unsigned quiet = 0; quiet < 20; quiet++) {
        while (send(fd, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            quiet = 0;
        nap_ms(10);
    }
}

/* A KeyUpdate wants an answer, and the socket is full. The read does not wait for that: what comes
 * behind is read, and the answer goes out with the next write. (tls.c relies upon it.) What fills
 * the socket is written past TLS. True: it was full to the end. */
static bool is_read_with_a_full_socket(struct fixture *fixture)
{
    static const uint8_t data[1];
    struct tls_peer peer = new_tls_peer(fixture, &version_3);
    int fd = slot_find(fixture->net, peer.conn)->fd;
    stuff(fd);
    assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    tls_send_frame(peer.ssl, 5, 'k');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    bool full = send(fd, data, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0;
    net_release(fixture->net, peer.conn);
    tls_close(&peer);
    return full;
}

/* What the peer sends says how much room he has, so there may be some after all: then it is done
 * again, with another. */
static void a_read_does_not_wait_to_write(void **state)
{
    struct fixture *fixture = *state;
    bool full = false;
    fixture->binds = true;
    start(fixture);
    for (unsigned tries = 0; tries < 10 && !full; tries++)
        full = is_read_with_a_full_socket(fixture);
    assert_true(full);
}

static bool update_keys(SSL *ssl)
{
    return SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1;
}

static void key_updates_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    enum { MOST = 32 }; /* KEY_UPDATES_MAX */
    fixture->binds = true;
    start(fixture);
    struct tls_peer peer = new_tls_peer(fixture, &version_3);
    for (unsigned i = 0; i < MOST; i++)
        assert_true(update_keys(peer.ssl));
    tls_send_frame(peer.ssl, 5, 'k');
    WAIT_FOR(look(fixture, peer.conn).calls == 1);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, "ok", 2), 0);
    tls_expect_bytes(peer.ssl, "ok", 2);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    update_keys(peer.ssl);
    WAIT_FOR(look(fixture, peer.conn).ends == 1);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 1);
    tls_close(&peer);
}

/* --- certificates ----------------------------------------------------------------------------- */

static long serial_seen(SSL *ssl)
{
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(certificate));
    X509_free(certificate);
    return serial;
}

static long serial_of(const struct identity *identity)
{
    return ASN1_INTEGER_get(X509_get0_serialNumber(identity->certificate));
}

static void reload(void **state)
{
    struct fixture *fixture = *state;
    char error[256] = "";
    fixture->binds = true;
    start(fixture);
    struct tls_peer before = new_tls_peer(fixture, &any);
    assert_int_equal(serial_seen(before.ssl), serial_of(&server));
    struct identity newer = make_identity("newer", NULL);
    write_identity(&files, &newer);
    struct tls_peer still = new_tls_peer(fixture, &any);
    assert_int_equal(serial_seen(still.ssl), serial_of(&server));
    assert_int_equal(read_files_again(fixture, error), 0);
    struct tls_peer after = new_tls_peer(fixture, &any);
    assert_int_equal(serial_seen(after.ssl), serial_of(&newer));
    tls_send_frame(before.ssl, 2, 'b');
    WAIT_FOR(look(fixture, before.conn).calls == 1);
    /* The key of another: refused whole, whatever of it was fine. */
    struct identity third = make_identity("third", NULL);
    write_identity(&files, &third);
    FILE *file = fopen(files.key, "w");
    PEM_write_PrivateKey(file, newer.key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    assert_int_equal(read_files_again(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "tls.key_file"));
    struct tls_peer last = new_tls_peer(fixture, &any);
    assert_int_equal(serial_seen(last.ssl), serial_of(&newer));
    tls_close(&before);
    tls_close(&still);
    tls_close(&after);
    tls_close(&last);
    drop_identity(&newer);
    drop_identity(&third);
}

struct reloader {
    struct fixture *fixture;
    _Atomic bool stop;
    _Atomic unsigned count;
};

static void *reloads(void *argument)
{
    struct reloader *reloader = argument;
    char error[256];
    while (!reloader->stop)
        if (read_files_again(reloader->fixture, error) != 0)
            return reloader;
        else
            reloader->count++;
    return NULL;
}

static void reload_while_they_knock(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    fixture->binds = true;
    start(fixture);
    struct reloader reloader = {.fixture = fixture};
    pthread_t thread;
    void *failed;
    assert_int_equal(pthread_create(&thread, NULL, reloads, &reloader), 0);
    for (unsigned i = 0; i < 60; i++) {
        struct tls_peer peer = new_tls_peer(fixture, i % 2 ? &version_2 : &version_3);
        tls_close(&peer);
    }
    reloader.stop = true;
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(metric_of(fixture, METRIC_tls_failed), 0);
}

/* Who looks when the certificate ends does so beside reloads. */
static void validity_beside_reloads(void **state)
{
    struct fixture *fixture = *state;
    enum { RELOADS = 5 };
    start(fixture);
    struct reloader reloader = {.fixture = fixture};
    pthread_t thread;
    void *failed;
    assert_int_equal(pthread_create(&thread, NULL, reloads, &reloader), 0);
    /* Relaxed, so that the test orders nothing. */
    while (atomic_load_explicit(&reloader.count, memory_order_relaxed) < RELOADS) {
        struct net_validity validity;
        assert_true(net_certificate_validity(fixture->net, &validity));
        assert_true(validity.ends_s > validity.begins_s);
    }
    reloader.stop = true;
    pthread_join(thread, &failed);
    assert_null(failed);
}

static void files_that_make_no_server(void **state)
{
    struct fixture *fixture = *state;
    char error[256] = "";
    write_text(files.key, "nothing that could be a key");
    assert_int_equal(open_front(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "tls.key_file"));
    unlink(files.key);
    assert_int_equal(open_front(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "No such file"));
    /* A key of another kind than the certificate's. */
    write_identity(&files, &server);
    EVP_PKEY *other = EVP_RSA_gen(2048);
    FILE *file = fopen(files.key, "w");
    PEM_write_PrivateKey(file, other, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    EVP_PKEY_free(other);
    assert_int_equal(open_front(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "tls.key_file"));
    write_identity(&files, &server);
    write_text(files.certificate, "");
    assert_int_equal(open_front(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "tls.certificate_file"));
    write_identity(&files, &server);
    fixture->options.tls_client_ca_file = "/nowhere/at/all";
    assert_int_equal(open_front(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "tls.client_ca_file"));
    assert_null(fixture->net);
}

/* Nobody is asked for a passphrase on the terminal. */
static void a_key_with_a_passphrase(void **state)
{
    struct fixture *fixture = *state;
    char error[256] = "";
    FILE *file = fopen(files.key, "w");
    PEM_write_PrivateKey(file, server.key, EVP_aes_128_cbc(), (const uint8_t *)"x", 1, NULL, NULL);
    fclose(file);
    assert_int_equal(open_front(fixture, error), -EINVAL);
    assert_non_null(strstr(error, "tls.key_file"));
}

static void client_certificates(void **state)
{
    struct fixture *fixture = *state;
    struct identity authority = make_identity("authority", NULL);
    struct identity known = make_identity("known", &authority);
    struct identity stranger = make_identity("stranger", NULL);
    write_client_ca(&files, &authority);
    fixture->options.tls_client_ca_file = files.client_ca;
    fixture->binds = true;
    start(fixture);
    for (unsigned i = 0; i < 2; i++) {
        int version = i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        const struct manner good = {.version = version, .shows = &known};
        const struct manner wrong = {.version = version, .shows = &stranger};
        const struct manner none = {.version = version};
        const struct manner *const bad[] = {&wrong, &none};
        struct tls_peer peer = new_tls_peer(fixture, &good);
        tls_close(&peer);
        for (unsigned b = 0; b < 2; b++) {
            unsigned before = records_count(fixture);
            int fd = tls_socket(fixture);
            SSL *ssl = shake_hands(fd, bad[b]);
            uint8_t byte;
            if (ssl != NULL) /* in 1.3 the client is done before it is judged */
                assert_true(SSL_read(ssl, &byte, 1) <= 0);
            SSL_free(ssl);
            ERR_clear_error();
            close(fd);
            assert_int_equal(records_count(fixture), before);
        }
    }
    WAIT_FOR(metric_of(fixture, METRIC_tls_failed) == 4);
    drop_identity(&authority);
    drop_identity(&known);
    drop_identity(&stranger);
}

/* A client comes back with the ticket of its first visit: also when certificates are asked for. */
static void comes_back(struct fixture *fixture, const struct manner *manner)
{
    struct tls_peer peer = new_tls_peer(fixture, manner);
    net_write(fixture->net, 0, peer.conn, "x", 1);
    tls_expect_bytes(peer.ssl, "x", 1);
    SSL_SESSION *session = SSL_get1_session(peer.ssl);
    SSL_shutdown(peer.ssl); /* OpenSSL does not use it again otherwise */
    tls_close(&peer);
    int fd = tls_socket(fixture);
    SSL *ssl = tls_client_on(fd, manner);
    SSL_set_session(ssl, session);
    assert_int_equal(SSL_connect(ssl), 1);
    assert_int_equal(SSL_session_reused(ssl), 1);
    SSL_SESSION_free(session);
    SSL_free(ssl);
    close(fd);
    WAIT_FOR(net_count(fixture->net) == 0);
}

static void tickets(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    comes_back(fixture, &version_3);
    comes_back(fixture, &version_2);
}

static void tickets_with_certificates(void **state)
{
    struct fixture *fixture = *state;
    struct identity authority = make_identity("authority", NULL);
    struct identity known = make_identity("known", &authority);
    const struct manner manner = {.shows = &known};
    write_client_ca(&files, &authority);
    fixture->options.tls_client_ca_file = files.client_ca;
    fixture->binds = true;
    start(fixture);
    comes_back(fixture, &manner);
    drop_identity(&authority);
    drop_identity(&known);
}

static void closed_with_everything_open(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.reactors = 2;
    fixture->binds = fixture->judges = fixture->keeps = true;
    start(fixture);
    struct tls_peer peers[3];
    for (unsigned i = 0; i < 3; i++)
        peers[i] = new_tls_peer(fixture, &any);
    int half = tls_socket(fixture);
    send_all(half, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
    uint8_t *data = calloc(1, 100000);
    int error = 0;
    while (error == 0)
        error = net_write(fixture->net, 0, peers[0].conn, data, 100000);
    net_unbind(fixture->net, peers[1].conn, data, 100);
    net_stop(fixture->net);
    net_close(fixture->net);
    fixture->net = NULL;
    for (unsigned i = 0; i < 3; i++)
        tls_close(&peers[i]);
    close(half);
    free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(frames_and_answers),
        TEST(old_versions_are_refused),
        TEST(records_in_any_pieces),
        TEST(half_a_record),
        TEST(half_a_record_and_the_end),
        TEST(the_end_of_the_peer),
        TEST(output_that_waits),
        TEST(both_sides_at_once),
        TEST(idle_it_costs_nothing),
        TEST(many_on_several_threads),
        TEST(the_deadline_is_absolute),
        TEST(the_login_has_its_own_deadline),
        TEST(given_up_in_the_middle),
        TEST(handshakes_limit),
        TEST(the_oldest_handshake_goes_for_a_newcomer),
        TEST(frames_on_the_tls_port),
        TEST(tls_on_the_plain_port),
        TEST(hellos_that_cannot_be),
        TEST(what_is_no_hello_is_known_by_its_first_bytes),
        TEST(what_went_wrong_has_a_name),
        TEST(a_handshake_of_too_many_bytes),
        TEST(garbage_in_the_handshake),
        TEST(stop_accepting_ends_handshakes),
        TEST(an_attempt_to_renegotiate_ends_it),
        TEST(costly_groups_are_not_taken),
        TEST(what_one_read_leaves_is_read),
        TEST(a_read_does_not_wait_to_write),
        TEST(key_updates_are_bounded),
        TEST(reload),
        TEST(reload_while_they_knock),
        TEST(validity_beside_reloads),
        TEST(files_that_make_no_server),
        TEST(a_key_with_a_passphrase),
        TEST(client_certificates),
        TEST(tickets),
        TEST(tickets_with_certificates),
        TEST(closed_with_everything_open),
    };
    signal(SIGPIPE, SIG_IGN);
    open_files(&files);
    server = make_identity("localhost", NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    drop_identity(&server);
    remove_files(&files);
    return failed;
}
