/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_UNIT_LIBUSHER_BACKEND_FAKE_NODE_H
#define USHER_TESTS_UNIT_LIBUSHER_BACKEND_FAKE_NODE_H

/* A node for the tests of libusher-backend: a REP socket with a few threads that answers by the
 * book, from what the test has laid out, and records what it was asked. A hook may answer
 * otherwise or break the connection. Everything is under one mutex; the hook runs under it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above */
#include <cmocka.h>

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.pb-c.h"

enum { FAKE_THREADS = 4, FAKE_MAX = 32 };

enum fake_verdict {
    FAKE_AS_USUAL,
    FAKE_ANSWERED,   /* the hook filled the answer */
    FAKE_DISCONNECT, /* as usual, but the answer is lost */
};

struct fake_page {
    const char *after;
    const char *users[4];
    uint64_t stamp;
    bool more;
};

struct fake {
    nng_socket socket;
    char url[64];
    pthread_t threads[FAKE_THREADS];
    atomic_bool stopping;
    pthread_mutex_t mutex;

    /* What the test lays out. */
    uint64_t link; /* the one that the next hello gets; a fetch for another is stale */
    uint64_t presence_from;
    Usher__V1__UserCall calls[FAKE_MAX];
    uint64_t call_seqs[FAKE_MAX];
    size_t call_count;
    Usher__V1__PresenceEvent events[FAKE_MAX];
    size_t event_count;
    Usher__V1__Mail *instead[FAKE_MAX]; /* other mail, in place of that call; NULL: the call */
    Usher__V1__AuthCall *login;         /* goes in place of the call of that number; NULL: none */
    uint64_t presence_last;
    bool presence_reset; /* once */
    struct fake_page pages[4];
    size_t page_count;
    enum fake_verdict (*hook)(struct fake *fake, const Usher__V1__LinkRequest *request,
                              Usher__V1__LinkAnswer *answer);

    /* What happened. */
    unsigned hellos;
    unsigned fetches;
    uint64_t hello_presence_after;
    char hello_node_boot[32];
    char hello_token[32];
    uint64_t submit_links[FAKE_MAX];
    uint64_t submit_seqs[FAKE_MAX];
    unsigned submits;
    unsigned effects; /* commands done: a repeated seq does not count */
    uint64_t seq_done;
    uint64_t reply_call;
    uint32_t reply_status;
    char reply_text[64];
    uint64_t reply_token_ends_ms;
    char reply_rooms[64]; /* apart by spaces */
    unsigned replies;
    unsigned snapshots;
};

/* Parts of the answer being made; one per thread. */
struct fake_desk {
    struct fake *fake;
    nng_ctx context;
    nng_aio *aio;
    Usher__V1__Accepted accepted;
    Usher__V1__Batch batch;
    Usher__V1__Mail mail[FAKE_MAX];
    Usher__V1__Mail *mail_list[FAKE_MAX];
    Usher__V1__PresenceEvent *event_list[FAKE_MAX];
    Usher__V1__Results results;
    Usher__V1__Result result[FAKE_MAX];
    Usher__V1__Result *result_list[FAKE_MAX];
    Usher__V1__SessionList sessions;
    Usher__V1__SessionInfo session[8];
    Usher__V1__SessionInfo *session_list[8];
    Usher__V1__NumberList numbers;
    Usher__V1__Number number;
    Usher__V1__Number *number_list[1];
    Usher__V1__Refused refused;
};

static void fake_refuse(Usher__V1__LinkAnswer *answer, Usher__V1__Refused *refused,
                        Usher__V1__Refused__Code code)
{
    usher__v1__refused__init(refused);
    refused->code = code;
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_REFUSED;
    answer->refused = refused;
}

static void fake_hello(struct fake_desk *desk, const Usher__V1__Hello *hello,
                       Usher__V1__LinkAnswer *answer)
{
    struct fake *fake = desk->fake;

    fake->hellos++;
    fake->hello_presence_after = hello->presence_after;
    snprintf(fake->hello_node_boot, sizeof(fake->hello_node_boot), "%s", hello->node_boot);
    snprintf(fake->hello_token, sizeof(fake->hello_token), "%.*s", (int)hello->token.len,
             (const char *)hello->token.data);
    fake->seq_done = 0;
    usher__v1__accepted__init(&desk->accepted);
    desk->accepted.link = fake->link;
    desk->accepted.node_boot = (char *)(uintptr_t) "boot-1";
    desk->accepted.frame_bytes_max = 16384;
    desk->accepted.park_ms = 100;
    desk->accepted.presence_from = fake->presence_from;
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_ACCEPTED;
    answer->accepted = &desk->accepted;
}

static void fake_fetch(struct fake_desk *desk, const Usher__V1__Fetch *fetch,
                       Usher__V1__LinkAnswer *answer)
{
    struct fake *fake = desk->fake;

    fake->fetches++;
    if (fetch->link != fake->link) {
        fake_refuse(answer, &desk->refused, USHER__V1__REFUSED__CODE__STALE_LINK);
        return;
    }
    usher__v1__batch__init(&desk->batch);
    for (size_t i = 0; i < fake->call_count; i++) {
        if (fake->call_seqs[i] <= fetch->mail_done)
            continue;
        Usher__V1__Mail *mail = &desk->mail[desk->batch.n_mail];
        usher__v1__mail__init(mail);
        mail->seq = fake->call_seqs[i];
        mail->body_case = USHER__V1__MAIL__BODY_CALL;
        mail->call = &fake->calls[i];
        if (fake->login != NULL && fake->login->call == fake->calls[i].call) {
            mail->body_case = USHER__V1__MAIL__BODY_AUTH;
            mail->auth = fake->login;
        }
        if (fake->instead[i] != NULL)
            *mail = *fake->instead[i];
        mail->seq = fake->call_seqs[i];
        desk->mail_list[desk->batch.n_mail++] = mail;
    }
    for (size_t i = 0; i < fake->event_count && !fake->presence_reset; i++)
        if (fake->events[i].seq > fetch->presence_done)
            desk->event_list[desk->batch.n_presence++] = &fake->events[i];
    desk->batch.mail = desk->mail_list;
    desk->batch.presence = desk->event_list;
    desk->batch.presence_reset = fake->presence_reset;
    desk->batch.presence_last = fake->presence_last;
    fake->presence_reset = false;
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_BATCH;
    answer->batch = &desk->batch;
}

static void fake_page(struct fake_desk *desk, const Usher__V1__Snapshot *snapshot,
                      Usher__V1__Result *result)
{
    struct fake *fake = desk->fake;

    fake->snapshots++;
    usher__v1__session_list__init(&desk->sessions);
    desk->sessions.sessions = desk->session_list;
    for (size_t i = 0; i < fake->page_count; i++) {
        if (strcmp(fake->pages[i].after, snapshot->after) != 0)
            continue;
        desk->sessions.presence_seq = fake->pages[i].stamp;
        desk->sessions.more = fake->pages[i].more;
        for (size_t k = 0; k < 4 && fake->pages[i].users[k] != NULL; k++) {
            Usher__V1__SessionInfo *session = &desk->session[k];
            usher__v1__session_info__init(session);
            session->user = (char *)(uintptr_t)fake->pages[i].users[k];
            session->state = USHER__V1__SESSION_INFO__STATE__ONLINE;
            session->epoch = 7;
            desk->session_list[desk->sessions.n_sessions++] = session;
        }
    }
    result->value_case = USHER__V1__RESULT__VALUE_SESSIONS;
    result->sessions = &desk->sessions;
}

static void fake_command(struct fake_desk *desk, const Usher__V1__Command *command, bool again,
                         Usher__V1__Result *result)
{
    struct fake *fake = desk->fake;

    usher__v1__result__init(result);
    fake->effects += again ? 0 : 1;
    if (command->body_case == USHER__V1__COMMAND__BODY_REPLY_TO) {
        fake->replies++;
        fake->reply_call = command->reply_to->call;
        fake->reply_status = command->reply_to->status;
        fake->reply_token_ends_ms = command->reply_to->token_ends_ms;
        fake->reply_rooms[0] = '\0';
        for (size_t i = 0; i < command->reply_to->n_rooms; i++) {
            strncat(fake->reply_rooms, command->reply_to->rooms[i], 20);
            strcat(fake->reply_rooms, " ");
        }
        snprintf(fake->reply_text, sizeof(fake->reply_text), "%.*s",
                 (int)command->reply_to->payload.len,
                 (const char *)command->reply_to->payload.data);
    } else if (command->body_case == USHER__V1__COMMAND__BODY_SNAPSHOT) {
        fake_page(desk, command->snapshot, result);
    } else if (command->body_case == USHER__V1__COMMAND__BODY_COUNT) {
        usher__v1__number_list__init(&desk->numbers);
        usher__v1__number__init(&desk->number);
        desk->number.name = (char *)(uintptr_t) "sessions";
        desk->number.value = 42;
        desk->number_list[0] = &desk->number;
        desk->numbers.n_numbers = 1;
        desk->numbers.numbers = desk->number_list;
        result->value_case = USHER__V1__RESULT__VALUE_NUMBERS;
        result->numbers = &desk->numbers;
    }
}

static void fake_submit(struct fake_desk *desk, const Usher__V1__Submit *submit,
                        Usher__V1__LinkAnswer *answer)
{
    struct fake *fake = desk->fake;
    bool again = submit->link != 0 && submit->seq <= fake->seq_done;

    if (submit->link != 0) {
        if (fake->submits < FAKE_MAX) {
            fake->submit_links[fake->submits] = submit->link;
            fake->submit_seqs[fake->submits++] = submit->seq;
        }
        if (submit->link != fake->link) {
            fake_refuse(answer, &desk->refused, USHER__V1__REFUSED__CODE__STALE_LINK);
            return;
        }
        if (submit->seq > fake->seq_done + 1) {
            fake_refuse(answer, &desk->refused, USHER__V1__REFUSED__CODE__MALFORMED);
            return;
        }
        fake->seq_done = again ? fake->seq_done : submit->seq;
    }
    usher__v1__results__init(&desk->results);
    desk->results.seq = submit->seq;
    desk->results.results = desk->result_list;
    for (size_t i = 0; i < submit->n_commands && i < FAKE_MAX; i++) {
        fake_command(desk, submit->commands[i], again, &desk->result[i]);
        desk->result_list[desk->results.n_results++] = &desk->result[i];
    }
    answer->body_case = USHER__V1__LINK_ANSWER__BODY_RESULTS;
    answer->results = &desk->results;
}

static nng_msg *fake_answer(struct fake_desk *desk, const Usher__V1__LinkRequest *request,
                            enum fake_verdict *verdict, bool *idle)
{
    struct fake *fake = desk->fake;
    Usher__V1__LinkAnswer answer = USHER__V1__LINK_ANSWER__INIT;
    nng_msg *message = NULL;

    pthread_mutex_lock(&fake->mutex);
    *verdict = fake->hook != NULL ? fake->hook(fake, request, &answer) : FAKE_AS_USUAL;
    if (*verdict != FAKE_ANSWERED) {
        if (request->body_case == USHER__V1__LINK_REQUEST__BODY_HELLO)
            fake_hello(desk, request->hello, &answer);
        else if (request->body_case == USHER__V1__LINK_REQUEST__BODY_FETCH)
            fake_fetch(desk, request->fetch, &answer);
        else if (request->body_case == USHER__V1__LINK_REQUEST__BODY_SUBMIT)
            fake_submit(desk, request->submit, &answer);
    }
    *idle = answer.body_case == USHER__V1__LINK_ANSWER__BODY_BATCH && answer.batch->n_mail == 0 &&
            answer.batch->n_presence == 0 && !answer.batch->presence_reset;
    if (nng_msg_alloc(&message, usher__v1__link_answer__get_packed_size(&answer)) == 0)
        usher__v1__link_answer__pack(&answer, nng_msg_body(message));
    pthread_mutex_unlock(&fake->mutex);
    return message;
}

static void fake_serve(struct fake_desk *desk, nng_msg *message)
{
    Usher__V1__LinkRequest *request =
        usher__v1__link_request__unpack(NULL, nng_msg_len(message), nng_msg_body(message));
    nng_pipe pipe = nng_msg_get_pipe(message);
    enum fake_verdict verdict;
    nng_msg *answer;
    bool idle;

    nng_msg_free(message);
    if (request == NULL)
        return;
    answer = fake_answer(desk, request, &verdict, &idle);
    usher__v1__link_request__free_unpacked(request, NULL);
    if (idle)
        usleep(10 * 1000); /* parked */
    if (verdict == FAKE_DISCONNECT) {
        nng_msg_free(answer);
        nng_pipe_close(pipe);
        return;
    }
    nng_aio_set_msg(desk->aio, answer);
    nng_ctx_send(desk->context, desk->aio);
    nng_aio_wait(desk->aio);
    if (nng_aio_result(desk->aio) != 0)
        nng_msg_free(answer);
}

/* A message, or NULL after a short while. */
static nng_msg *fake_receive(struct fake_desk *desk)
{
    nng_aio_set_timeout(desk->aio, 20);
    nng_ctx_recv(desk->context, desk->aio);
    nng_aio_wait(desk->aio);
    return nng_aio_result(desk->aio) == 0 ? nng_aio_get_msg(desk->aio) : NULL;
}

static void *fake_work(void *argument)
{
    struct fake_desk *desk = calloc(1, sizeof(*desk));

    desk->fake = argument;
    if (nng_ctx_open(&desk->context, desk->fake->socket) == 0 &&
        nng_aio_alloc(&desk->aio, NULL, NULL) == 0) {
        while (!atomic_load(&desk->fake->stopping)) {
            nng_msg *message = fake_receive(desk);

            if (message != NULL)
                fake_serve(desk, message);
        }
        nng_ctx_close(desk->context);
        nng_aio_free(desk->aio);
    }
    free(desk);
    return NULL;
}

static int fake_setup(void **state)
{
    struct fake *fake = calloc(1, sizeof(*fake));

    pthread_mutex_init(&fake->mutex, NULL);
    fake->link = 11;
    snprintf(fake->url, sizeof(fake->url), "ipc:///tmp/usher-fake-%ld.sock", (long)getpid());
    if (nng_rep0_open(&fake->socket) != 0 || nng_listen(fake->socket, fake->url, NULL, 0) != 0)
        return -1;
    for (size_t i = 0; i < FAKE_THREADS; i++)
        pthread_create(&fake->threads[i], NULL, fake_work, fake);
    *state = fake;
    return 0;
}

static int fake_teardown(void **state)
{
    struct fake *fake = *state;

    atomic_store(&fake->stopping, true);
    for (size_t i = 0; i < FAKE_THREADS; i++)
        pthread_join(fake->threads[i], NULL);
    nng_close(fake->socket);
    pthread_mutex_destroy(&fake->mutex);
    free(fake);
    return 0;
}

#endif
