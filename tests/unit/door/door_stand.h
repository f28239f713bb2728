/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_DOOR_STAND_H
#define USHER_TESTS_DOOR_STAND_H

/* The door alone: lobby, admission and logins between a front end that writes down what it is told
 * and users who keep what comes to them. Connections are numbers from 1 on, all of one I/O thread,
 * which the test's own is. */

#include "actors/kinds.h"
#include "actors/messages.h"
#include "directory/services.h"
#include "door/lobby.h"
#include "unit/hall.h"
#include "unit/told.h"

enum { STAND_ACTORS = 128 };

static const struct behaviour stand_user = {
    .name = "user", .kind = KIND_USER, .receive = probe_receive, .finish = probe_finish};

struct stand {
    struct hall hall;
    struct net net;
    struct options options;
    struct limits limits; /* of them */
    struct log *log;
    struct services *services;
    struct logins *logins;
    struct admission *admission;
    struct lobby lobby;
    uint64_t proof_key[2];
    _Atomic uint64_t call_last;
};

static inline void stand_wake(void *context, uint64_t conn)
{
    net_wake(&((struct stand *)context)->net, conn);
}

static inline void stand_bounce(void *context, struct runner *runner, struct message *message)
{
    hall_bounce(&((struct stand *)context)->hall, runner, message);
}

static inline void stand_open_admission(struct stand *stand)
{
    const struct services_options services = {.registry = stand->hall.registry,
                                              .scheduler = stand->hall.scheduler,
                                              .env = stand->hall.env,
                                              .metrics = stand->hall.metrics,
                                              .services_max = 8,
                                              .users_max = STAND_ACTORS};
    const struct admission_options admission = {.options = &stand->options,
                                                .limits = &stand->limits,
                                                .env = stand->hall.env,
                                                .metrics = stand->hall.metrics,
                                                .homes = 1,
                                                .wake = stand_wake,
                                                .registry = stand->hall.registry,
                                                .call_last = &stand->call_last,
                                                .bounce = stand_bounce,
                                                .context = stand};
    struct admission_options with_services = admission;
    assert_int_equal(services_create(&stand->services, &services), 0);
    with_services.services = stand->services;
    if (stand->options.auth_mode != AUTH_MODE_OPEN)
        assert_int_equal(admission_open(&stand->admission, &with_services), 0);
}

/* `prepare` may change the options; NULL: nothing. */
static inline struct stand *stand_make(bool own_clock, void (*prepare)(struct options *options))
{
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    assert_int_equal(options_init(&stand->options), 0);
    stand->options.limits_users = STAND_ACTORS / 2;
    if (prepare != NULL)
        prepare(&stand->options);
    limits_fill(&stand->limits, &stand->options);
    hall_open(&stand->hall, STAND_ACTORS, own_clock);
    told_init(&stand->net);
    env_random(stand->hall.env, stand->proof_key, sizeof(stand->proof_key));
    stand_open_admission(stand);
    assert_int_equal(logins_open(&stand->logins, &stand->limits, stand->hall.env), 0);
    stand->lobby = (struct lobby){.net = &stand->net,
                                  .registry = stand->hall.registry,
                                  .scheduler = stand->hall.scheduler,
                                  .user = &stand_user,
                                  .admission = stand->admission,
                                  .logins = stand->logins,
                                  .proof_key = stand->proof_key,
                                  .users_max = stand->options.limits_users,
                                  .limits = &stand->limits,
                                  .env = stand->hall.env,
                                  .metrics = stand->hall.metrics};
    return stand;
}

static inline void stand_free(struct stand *stand)
{
    if (stand->admission != NULL)
        admission_close(stand->admission);
    logins_close(stand->logins);
    services_destroy(stand->services);
    hall_close(&stand->hall);
    told_fini(&stand->net);
    options_fini(&stand->options);
    free(stand);
}

/* --- what an I/O thread does ------------------------------------------------------------------ */

static inline void give_frame(struct stand *stand, conn_handle conn,
                              const Usher__V1__ClientFrame *frame)
{
    uint8_t bytes[8192];
    size_t size = usher__v1__client_frame__pack(frame, bytes);
    lobby_admit(&stand->lobby, &stand->hall.runner, conn, (struct bytes){bytes, size});
}

static inline void give_token(struct stand *stand, conn_handle conn, const char *user,
                              const char *token)
{
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    Usher__V1__Login login = USHER__V1__LOGIN__INIT;
    login.username = (char *)(uintptr_t)user;
    login.token = (ProtobufCBinaryData){strlen(token), (uint8_t *)(uintptr_t)token};
    frame.id = 7;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
    frame.login = &login;
    give_frame(stand, conn, &frame);
}

static inline void give_end(struct stand *stand, conn_handle conn, enum conn_end end)
{
    lobby_end(&stand->lobby, &stand->hall.runner, conn, end);
}

static inline void next_batch(struct stand *stand)
{
    lobby_take_verdicts(&stand->lobby, &stand->hall.runner);
}

/* --- what was said and done ------------------------------------------------------------------- */

static inline void expect_said(struct stand *stand, conn_handle conn, unsigned number, int body,
                               uint32_t code)
{
    struct told told = told_find(&stand->net, TOLD_WRITE, conn, number);
    assert_int_equal(told.body, body);
    assert_int_equal(told.code, code);
}

static inline void expect_refused(struct stand *stand, conn_handle conn, uint32_t error,
                                  uint32_t reason)
{
    expect_said(stand, conn, 0, USHER__V1__BROKER_FRAME__BODY_ERROR, error);
    expect_said(stand, conn, 1, USHER__V1__BROKER_FRAME__BODY_CLOSE, reason);
    assert_int_equal(told_times(&stand->net, TOLD_WRITE, conn), 2);
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, conn), 1);
}

/* What the connection's login or resume brought to its user; NULL: it came to nobody. */
static inline struct attach_message *attach_of(struct stand *stand, conn_handle conn)
{
    for (uint32_t slot = 0; slot < STAND_ACTORS; slot++)
        for (struct message *at = stand->hall.probes[slot].first; at != NULL; at = at->next)
            if (at->kind == MESSAGE_ATTACH && ((struct attach_message *)at)->conn == conn)
                return (struct attach_message *)at;
    return NULL;
}

/* It is its user's from now on, and was told nothing. */
static inline void expect_attached(struct stand *stand, conn_handle conn)
{
    struct attach_message *attach = attach_of(stand, conn);
    assert_non_null(attach);
    actor_handle user = registry_find(stand->hall.registry, attach->user, strlen(attach->user));
    assert_int_not_equal(user, 0);
    assert_int_equal(net_owner(&stand->net, conn), user);
    assert_null(net_kept(&stand->net, conn));
    assert_int_equal(told_times(&stand->net, TOLD_RELEASE, conn), 0);
}

#endif
