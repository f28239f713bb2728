/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/instance.h"
#include "actors/bounce.h"
#include "actors/refuse.h"

#include <stdlib.h>
#include <string.h>

#include "actors/held.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "instance/access.h"
#include "instance/private.h"
#include "proto/link_answer.h"
#include "proto/link_frame.h"
#include "proto/username.h"

/* The life of an instance: Hello, heard of by its Fetches, lost, left.
 *
 * An instance is one actor under the name of (service, instance), whatever happens to its
 * connections: a connection means nothing here but that an exchange waits for its answer. The same
 * incarnation saying Hello again gets the link it had, so that its cursors and lanes go on. A
 * newer one takes over: what the old one had not acknowledged is sent again, marked; what it had
 * acknowledged and not answered is lost, because nobody will answer it.
 *
 * It is lost when no Fetch came for link_fetch_timeout_ms, or the peer of its last Fetch is gone,
 * whether that waits or not, and no new one came within link_grace_ms. Then it leaves (EFFECT_LINK
 * / LINK_LEAVE): it hands its mail on, some of it in each turn, until there is none and none is on
 * its way. Until then newer calls of its users come to it and go behind the mail. Then the
 * directory takes it out, and it retires. There is no other way out for one that has joined, and it
 * has neither mail nor calls at the end of this one. */

enum {
    TICK_SLACK_MS = 1,
    SWEEP_MS = 1000,
    WALK_STEP = 512,  /* places of the table of calls that one turn looks at */
    LEAVE_STEP = 256, /* calls that one turn hands on */
};

bool instance_key(const Usher__V1__Hello *hello, char key[INSTANCE_KEY_BYTES])
{
    struct bytes service = bytes_of_text(hello->service);
    struct bytes instance = bytes_of_text(hello->instance);
    if ((service.size > 0 && !username_valid(service)) || !username_valid(instance))
        return false;
    char *at = key;
    *at++ = '!';
    memcpy(at, service.data, service.size);
    at += service.size;
    *at++ = '/';
    memcpy(at, instance.data, instance.size);
    at[instance.size] = '\0';
    return true;
}

/* --- answers ---------------------------------------------------------------------------------- */

void instance_answer(struct turn *turn, uint64_t exchange, size_t offset)
{
    struct effect *effect = turn_effect(turn, EFFECT_ANSWER, exchange);
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)(turn->out.size - offset);
}

void instance_arm(struct instance *instance, struct turn *turn, uint64_t due_ms)
{
    if (instance->timer_ms != 0 && instance->timer_ms <= due_ms)
        return;
    instance->timer_ms = due_ms;
    turn_effect(turn, EFFECT_TIMER, due_ms);
}

void instance_lose_call(struct turn *turn, const struct call *call, uint16_t code)
{
    struct call_result_message *result;
    MEMORY_MUST((result = call_result_create(code, 0, (struct bytes){0})) != NULL, "a result");
    result->request = call->request;
    result->call = call->call;
    result->epoch = call->epoch;
    turn_post(turn, call->caller, &result->header);
}

/* Goes on with the walk over the calls: those of an earlier incarnation nobody will answer, and of
 * those whose time is over the caller has told its client already. However many there are, a turn
 * looks at a bounded number. */
static void walk_on(struct instance *instance, struct turn *turn)
{
    const struct calls_wanted wanted = {turn->now_ms, instance->mail_base};
    uint32_t places = WALK_STEP;
    struct call call;
    while (instance_close_next(instance, &wanted, &places, &call))
        if (call.deadline_ms > turn->now_ms)
            instance_lose_call(turn, &call, USHER__V1__ERROR__CODE__SERVICE_LOST);
    if (calls_walk_is_over(instance->calls) || instance->walking)
        return;
    instance->walking = true;
    turn_post(turn, turn->self, message_create(MESSAGE_WALK, sizeof(struct message)));
}

void instance_sweep(struct instance *instance, struct turn *turn)
{
    calls_walk(instance->calls);
    walk_on(instance, turn);
}

/* --- Hello ------------------------------------------------------------------------------------ */

static struct instance *create(struct turn *turn)
{
    struct instance *instance;
    MEMORY_MUST((instance = calloc(1, sizeof(*instance))) != NULL, "an instance");
    MEMORY_MUST((instance->calls = calls_create()) != NULL, "an instance");
    MEMORY_MUST(arena_init(&instance->arena, INSTANCE_ARENA_BYTES) == 0, "an instance");
    return instance;
}

static void accept(struct instance *instance, uint64_t exchange, struct turn *turn)
{
    const struct accepted_fields fields = {
        .link = instance->link,
        .node = turn->settings->node,
        .node_boot = turn->settings->node_boot,
        .frame_bytes_max = link_frame_bytes(turn->limits),
        .park_ms = link_park_ms(turn->limits),
        .presence_from = instance->presence_done + 1,
        .number = instance->number,
    };
    size_t offset = turn->out.size;
    MEMORY_MUST(link_answer_accepted(&turn->out, &fields) == 0, "an answer");
    instance_answer(turn, exchange, offset);
}

static void drop_lanes(struct instance *instance)
{
    for (unsigned i = 0; i < LANES_MAX; i++) {
        held_fini(&instance->lanes[i].answer);
        instance->lanes[i] = (struct lane){0};
    }
}

/* A new process under the same name. */
static void supersede(struct instance *instance, struct turn *turn)
{
    if (instance->fetch_exchange != 0)
        refuse_exchange(turn, instance->fetch_exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "a newer incarnation of this instance is linked");
    instance->fetch_exchange = 0;
    instance_drop_submits(instance, turn);
    drop_lanes(instance);
    /* What waits in the mail is kept for the new one; the rest nobody will answer. */
    instance_rewind_mail(instance);
    instance_sweep(instance, turn);
}

static void begin_link(struct instance *instance, const Usher__V1__Hello *hello, struct turn *turn)
{
    CHECK(strlen(hello->service) < sizeof(instance->service) &&
          strlen(hello->instance) < sizeof(instance->name)); /* instance_key has looked */
    if (instance->link != 0)
        supersede(instance, turn);
    instance->incarnation = hello->incarnation;
    strcpy(instance->service, hello->service);
    strcpy(instance->name, hello->instance);
    do {
        instance->number =
            atomic_fetch_add_explicit(&turn->counters->link_last, 1, memory_order_relaxed) + 1;
        instance->link =
            access_seal(turn->settings->link_key, instance->number, actor_slot(turn->self));
    } while (instance->link == 0);
}

/* Into the directory: with a first Hello, and with one that newly wants presence. */
static void join(struct instance *instance, const Usher__V1__Hello *hello, struct turn *turn)
{
    CHECK(instance->link != 0 && !instance->leaving);
    if (instance->joined && (instance->presence || !hello->presence))
        return;
    struct join_message *message = message_create(MESSAGE_JOINED, sizeof(*message));
    message->presence = hello->presence;
    strcpy(message->service, instance->service);
    struct effect *effect = turn_effect(turn, EFFECT_LINK, 0);
    effect->detail = LINK_JOIN;
    effect->message = &message->header;
    instance->joined = true;
}

static void follow_presence(struct instance *instance, const Usher__V1__Hello *hello,
                            struct turn *turn)
{
    uint64_t last = atomic_load_explicit(&turn->counters->presence_last, memory_order_acquire);
    instance->presence = hello->presence;
    instance->presence_done = hello->presence_after != 0 ? hello->presence_after : last;
    instance->reset_from = 0;
    if (instance->presence_done > last)
        /* It has seen more than this node ever stored: another life of the store. */
        instance_reset_presence(instance, last);
    instance_drop_events(instance);
}

static void hear(struct instance *instance, struct turn *turn)
{
    instance->lost_due_ms = turn->now_ms + link_fetch_timeout_ms(turn->limits);
    instance_arm(instance, turn, instance->lost_due_ms + TICK_SLACK_MS);
}

static void hello(struct instance *instance, uint64_t exchange, const Usher__V1__Hello *hello,
                  struct turn *turn)
{
    if (instance->link != 0 && hello->incarnation < instance->incarnation) {
        refuse_exchange(turn, exchange, USHER__V1__REFUSED__CODE__BANNED,
                        "a newer incarnation of this instance is linked");
        return;
    }
    if (instance->link == 0 || hello->incarnation > instance->incarnation)
        begin_link(instance, hello, turn);
    join(instance, hello, turn);
    follow_presence(instance, hello, turn);
    if (instance->draining) {
        instance->draining = false;
        turn_effect(turn, EFFECT_LINK, 0)->detail = LINK_DRAIN;
    }
    turn_count(turn, METRIC_link_hellos, 1);
    LOG(turn->log, LINK_HELLO, LOG_S("service", instance->service),
        LOG_S("instance", instance->name), LOG_U("incarnation", instance->incarnation),
        LOG_U("link", instance->number));
    hear(instance, turn);
    instance->heard_exchange = 0; /* it is back, whatever becomes of an earlier connection */
    accept(instance, exchange, turn);
}

/* --- losing it -------------------------------------------------------------------------------- */

static void leave(struct instance *instance, struct turn *turn)
{
    CHECK(instance->link != 0 && !instance->leaving);
    instance_goaway_done(instance, turn);
    LOG(turn->log, LINK_LOST, LOG_S("service", instance->service),
        LOG_S("instance", instance->name), LOG_U("mail", instance->mail_count));
    instance->leaving = true;
    if (instance->fetch_exchange != 0)
        refuse_exchange(turn, instance->fetch_exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this instance was not heard of in time; say Hello again");
    instance->fetch_exchange = 0;
    instance_drop_submits(instance, turn);
    struct leave_message *begin = message_create(MESSAGE_LEAVE, sizeof(*begin));
    begin->begun = false;
    turn_post(turn, turn->self, &begin->header);
}

/* Some of the unprocessed mail moves on; what was acknowledged and not answered is lost. This comes
 * when all messages of the turn are in the mail, and the directory takes the instance out only with
 * nothing in its mailbox: so no call is left behind. */
static void hand_on(struct instance *instance, struct turn *turn)
{
    static const struct calls_wanted none = {.due_ms = UINT64_MAX};
    struct call call;
    struct message_list moved = {0};
    struct user_call_message *mail;
    for (uint32_t left = LEAVE_STEP; left > 0; left--) {
        if ((mail = instance_take_mail(instance)) == NULL)
            break;
        bool wanted = mail->control == 0 &&
                      (mail->call == 0 || instance_close_call(instance, mail->call, &call));
        if (wanted) {
            message_append(&moved, &mail->header);
        } else {
            /* Its caller was told TIMEOUT, or has his answer. */
            turn_count(turn, METRIC_calls_late,
                       mail->control == 0 && mail->deadline_ms <= turn->now_ms);
            message_destroy(&mail->header);
        }
    }
    if (instance->mail.first == NULL) {
        uint32_t places = WALK_STEP;
        calls_walk(instance->calls);
        while (instance_close_next(instance, &none, &places, &call))
            instance_lose_call(turn, &call, USHER__V1__ERROR__CODE__SERVICE_LOST);
    }
    bool all = instance->mail.first == NULL && calls_count(instance->calls) == 0;
    struct effect *effect = turn_effect(turn, EFFECT_LINK, all ? LEAVE_ALL : LEAVE_SOME);
    effect->detail = LINK_LEAVE;
    effect->message = moved.first;
}

static void take_leave(struct instance *instance, const struct leave_message *message,
                       struct turn *turn)
{
    instance->hands_on = message->begun;
    if (!message->begun)
        turn_effect(turn, EFFECT_LINK, LEAVE_BEGIN)->detail = LINK_LEAVE;
}

static void tick(struct instance *instance, struct turn *turn)
{
    instance->timer_ms = 0;
    if (instance->link == 0 || instance->leaving)
        return;
    if (instance->fetch_exchange != 0 && instance->park_due_ms <= turn->now_ms)
        instance_answer_fetch(instance, turn, true);
    if (instance->fetch_exchange == 0 && instance->lost_due_ms <= turn->now_ms) {
        leave(instance, turn);
        return;
    }
    if (instance->sweep_ms <= turn->now_ms) {
        instance->sweep_ms = turn->now_ms + SWEEP_MS;
        instance_sweep(instance, turn);
    }
    uint64_t due = instance->fetch_exchange != 0 ? instance->park_due_ms : instance->lost_due_ms;
    if (calls_count(instance->calls) > 0 && instance->sweep_ms < due)
        due = instance->sweep_ms;
    instance_arm(instance, turn, due + TICK_SLACK_MS);
}

void instance_show(struct instance_place *place)
{
    const struct instance *instance = place->instance;
    struct instance_shown *shown = &place->shown;
    if (instance == NULL)
        return;
    /* Relaxed: numbers for people. */
    atomic_store_explicit(&shown->mail_waiting, instance->mail_count, memory_order_relaxed);
    atomic_store_explicit(&shown->calls_open,
                          instance->calls != NULL ? calls_count(instance->calls) : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&shown->last_fetch_ms, instance->fetched_ms, memory_order_relaxed);
    atomic_store_explicit(&shown->lost, instance->gone, memory_order_relaxed);
}

static void link_gone(struct instance *instance, uint64_t exchange, struct turn *turn)
{
    for (struct submit *submit = instance->submits; submit != NULL; submit = submit->next)
        if (submit->exchange == exchange)
            return; /* it is answered when its commands are done; nobody will read it */
    if (instance->heard_exchange != exchange || exchange == 0 || instance->leaving)
        return;
    CHECK(instance->link != 0);
    uint64_t due_ms = turn->now_ms + link_grace_ms(turn->limits);
    if (instance->fetch_exchange == exchange) {
        refuse_exchange(turn, exchange, USHER__V1__REFUSED__CODE__STALE_LINK, "the peer is gone");
        instance->fetch_exchange = 0;
        instance->lost_due_ms = due_ms;
    } else if (due_ms < instance->lost_due_ms) {
        instance->lost_due_ms = due_ms;
    }
    instance->heard_exchange = 0;
    instance->gone = true;
    instance_arm(instance, turn, instance->lost_due_ms + TICK_SLACK_MS);
}

/* Without a place in the directory it would get nothing: it is sent away. */
static void joined(struct instance *instance, const struct join_message *message, struct turn *turn)
{
    if (message->error == 0)
        return;
    LOG(turn->log, LIMIT_HIT, LOG_S("limit", "limits.services"),
        LOG_S("service", instance->service));
    if (instance->fetch_exchange != 0)
        refuse_exchange(turn, instance->fetch_exchange, USHER__V1__REFUSED__CODE__BUSY,
                        "limits.services is reached");
    instance->fetch_exchange = 0;
    if (!instance->leaving)
        leave(instance, turn); /* it may have a place from an earlier Hello */
}

/* --- the table -------------------------------------------------------------------------------- */

/* It has shown the token, or knows the number of our link. */
static void vouch(const struct link_request_message *message, struct turn *turn)
{
    if (message->stranger)
        turn_effect(turn, EFFECT_VOUCH, message->exchange);
}

static void request(struct instance *instance, struct link_request_message *message,
                    struct turn *turn)
{
    arena_reset(&instance->arena);
    const Usher__V1__LinkRequest *request =
        link_request_read(&instance->arena, (struct bytes){message->bytes, message->size});
    CHECK(request != NULL); /* ingress has read it before */
    uint64_t exchange = message->exchange;
    if (request->body_case == USHER__V1__LINK_REQUEST__BODY_HELLO) {
        vouch(message, turn);
        if (instance->leaving)
            refuse_exchange(turn, exchange, USHER__V1__REFUSED__CODE__BUSY,
                            "this instance is being closed; say Hello again");
        else
            hello(instance, exchange, request->hello, turn);
    } else if (request->body_case == USHER__V1__LINK_REQUEST__BODY_FETCH) {
        if (request->fetch->link != instance->link || instance->link == 0 || instance->leaving) {
            refuse_exchange(turn, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                            "this link is not known; say Hello again");
        } else {
            vouch(message, turn);
            hear(instance, turn);
            instance_fetch(instance, exchange, request->fetch, turn);
        }
    } else if (request->submit->link != instance->link || instance->leaving) {
        refuse_exchange(turn, exchange, USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link is not known; say Hello again");
    } else {
        if (instance->link != 0)
            vouch(message, turn);
        else if (message->by_http[0] != '\0')
            strcpy(instance->service, HTTP_SERVICE);
        instance_submit(instance, message, request->submit, turn);
        return;
    }
    message_destroy(&message->header);
}

static void stop(struct instance *instance, struct turn *turn)
{
    if (instance->link == 0 || instance->leaving || instance->goaway)
        return;
    instance->goaway = true;
    atomic_fetch_add_explicit(&turn->counters->goaways, 1, memory_order_relaxed);
    instance_put_control(instance, USHER__V1__CONTROL__KIND__GOAWAY, turn);
}

void instance_receive(struct instance **state, struct message *message, struct turn *turn)
{
    CHECK(turn->begun && turn->change == NULL); /* nothing of an instance is stored */
    if (*state == NULL)
        *state = create(turn);
    struct instance *instance = *state;
    switch ((enum message_kind)message->kind) {
    case MESSAGE_LINK_REQUEST:
        request(instance, (struct link_request_message *)message, turn);
        return;
    case MESSAGE_USER_CALL:
        instance_take_call(instance, (struct user_call_message *)message, turn);
        return;
    case MESSAGE_QUERY_RESULT: {
        struct query_result_message *result = (struct query_result_message *)message;
        if (result->kind == QUERY_PRESENCE) {
            instance_take_events(instance, result, turn);
            return;
        }
        CHECK(instance->questions > 0);
        instance->questions--;
        instance_query_done(instance, result->token, (struct bytes){result->bytes, result->size},
                            turn);
        break;
    }
    case MESSAGE_PUSHED_ALL:
        instance_pushed_all(instance, (struct push_all_message *)message, turn);
        break;
    case MESSAGE_ROOM_ANSWER:
        instance_room_done(instance, (struct room_answer_message *)message, turn);
        break;
    case MESSAGE_WATCH_LISTED:
        instance_watch_listed(instance, (const struct watch_listed_message *)message, turn);
        break;
    case MESSAGE_RESULT: {
        struct result_message *result = (struct result_message *)message;
        instance_command_done(instance, result->request, result->code, result->mid, turn);
        break;
    }
    case MESSAGE_JOINED:
        joined(instance, (struct join_message *)message, turn);
        break;
    case MESSAGE_LEAVE:
        take_leave(instance, (struct leave_message *)message, turn);
        break;
    case MESSAGE_WALK:
        CHECK(instance->walking);
        instance->walking = false;
        walk_on(instance, turn);
        break;
    case MESSAGE_LINK_GONE:
        link_gone(instance, ((struct link_gone_message *)message)->exchange, turn);
        break;
    case MESSAGE_MOVED:
        instance_moved(instance, message, turn);
        return;
    case MESSAGE_TICK:
        tick(instance, turn);
        break;
    case MESSAGE_STOP:
        stop(instance, turn);
        break;
    case MESSAGE_DELIVER:
    case MESSAGE_KICK:
    case MESSAGE_ROOM_INVITE:
    case MESSAGE_ROOM_EXPEL:
    case MESSAGE_WATCH_LIST:
        bounce(message, turn); /* a command that names an instance: there is no such user */
        return;
    default: /* MESSAGE_PRESENCE: instance_finish looks at the stream */
        break;
    }
    message_destroy(message);
}

void instance_finish(struct instance **state, struct turn *turn)
{
    struct instance *instance = *state;
    if (instance == NULL)
        return;
    if (instance->fetch_exchange != 0 && !instance->leaving)
        instance_answer_fetch(instance, turn, false);
    if (instance->hands_on)
        hand_on(instance, turn);
    instance->hands_on = false;
}

static void destroy(struct instance **state, struct turn *turn)
{
    struct instance *instance = *state;
    instance_goaway_done(instance, turn);
    instance_drop_submits(instance, turn);
    drop_lanes(instance);
    calls_destroy(instance->calls);
    shares_fini(&instance->asked);
    instance_drop_events(instance);
    arena_fini(&instance->arena);
    free(instance);
    *state = NULL;
}

void instance_fini(struct instance **state, struct turn *turn)
{
    if (*state == NULL)
        return;
    /* Somebody waits for each of them. */
    CHECK((*state)->mail.first == NULL && calls_count((*state)->calls) == 0);
    CHECK((*state)->shares.count == 0 && (*state)->asked.count == 0);
    destroy(state, turn);
}

void instance_end(struct instance **state, struct turn *turn)
{
    struct user_call_message *mail;
    if (*state == NULL)
        return;
    while ((mail = instance_take_mail(*state)) != NULL)
        message_destroy(&mail->header);
    destroy(state, turn);
}
