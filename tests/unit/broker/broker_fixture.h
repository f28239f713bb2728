/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_BROKER_FIXTURE_H
#define USHER_TESTS_BROKER_FIXTURE_H

/* A broker without sockets: broker_assemble with the memory store, and in place of net/ and the
 * link the functions below, which write down what they are told. Its threads are started by the
 * tests that want them; without them the test's own thread runs turns and steps.
 *
 * A *probe* is an actor that keeps whatever it receives. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "backend.pb-c.h"
#include "broker/parts.h"
#include "client.pb-c.h"
#include "directory/services.h"
#include "persist/committer.h"
#include "proto/frame.h"

enum {
    GLUE_USERS = 4096,
    GLUE_SERVICES = 8,
    TOLD_MAX = 8192,
    GLUE_WAIT_MS = 20000,
    GLUE_CONNS = 64
};

/* One call of the front end. */
enum told_kind { TOLD_WRITE, TOLD_RELEASE, TOLD_UNBIND, TOLD_RETURN, TOLD_CONSUMED, TOLD_WAKE };

struct told {
    enum told_kind kind;
    conn_handle conn;
    int body;               /* of the last frame: a USHER__V1__BROKER_FRAME__BODY */
    uint32_t code;          /* of an Error, reason of a Close */
    uint64_t epoch;         /* of a Welcome */
    uint64_t presence_last; /* at that time */
};

struct probe {
    actor_handle self;
    struct message *first, *last; /* what it received, oldest first */
    unsigned count;
    uint64_t first_ms; /* when the first came */
    unsigned place;    /* of the first, among all that all probes received */
    bool leaving;
    _Atomic bool left;
};

struct glue {
    struct broker broker; /* first: the behaviours get its address */
    struct options options;
    struct store *store; /* the broker's */
    struct env env;
    _Atomic uint64_t now_ms; /* of the test's own clock, if env is that */
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct told told[TOLD_MAX];
    unsigned told_count;
    void *kept[GLUE_CONNS]; /* by connection */
    const char *address;    /* of every connection; NULL: none */
    bool gate_closed;       /* writes wait */
    unsigned at_gate;
    unsigned places;
    struct probe *probes; /* by slot */
};

static inline struct glue *glue_of(const void *made_from)
{
    return (struct glue *)(uintptr_t)made_from;
}

static inline uint64_t clock_ms(void)
{
    return env_monotonic_ms(env_system());
}

static inline void nap_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

#define WAIT_FOR(condition)                                                         \
    do {                                                                            \
        uint64_t give_up_ms = clock_ms() + GLUE_WAIT_MS;                            \
        while (!(condition) && clock_ms() < give_up_ms)                             \
            nap_ms(1);                                                              \
        if (!(condition))                                                           \
            fail_msg("%s:%d: never came true: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* --- in place of net/ ------------------------------------------------------------------------- */

static inline void describe_frame(struct told *told, const void *data, size_t size)
{
    struct bytes left = {data, size};
    struct bytes frame;
    size_t used;
    while (frame_next(left, UINT32_MAX, &frame, &used) == 1) {
        Usher__V1__BrokerFrame *said =
            usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
        if (said == NULL)
            abort();
        told->body = (int)said->body_case;
        if (said->body_case == USHER__V1__BROKER_FRAME__BODY_ERROR)
            told->code = said->error->code;
        if (said->body_case == USHER__V1__BROKER_FRAME__BODY_CLOSE)
            told->code = said->close->reason;
        if (said->body_case == USHER__V1__BROKER_FRAME__BODY_WELCOME)
            told->epoch = said->welcome->epoch;
        usher__v1__broker_frame__free_unpacked(said, NULL);
        left = (struct bytes){left.data + used, left.size - used};
    }
}

static inline void tell(struct net *net, enum told_kind kind, conn_handle conn, const void *data,
                        size_t size)
{
    struct glue *glue = glue_of(net);
    struct told told = {.kind = kind, .conn = conn};
    describe_frame(&told, data, size);
    told.presence_last = atomic_load(&glue->broker.counters.presence_last);
    pthread_mutex_lock(&glue->lock);
    if (glue->told_count == TOLD_MAX)
        abort();
    glue->told[glue->told_count++] = told;
    glue->at_gate++;
    while (kind == TOLD_WRITE && glue->gate_closed)
        pthread_cond_wait(&glue->changed, &glue->lock);
    glue->at_gate--;
    pthread_mutex_unlock(&glue->lock);
}

int net_write(struct net *net, unsigned block, conn_handle conn, const void *data, size_t size)
{
    tell(net, TOLD_WRITE, conn, data, size);
    return 0;
}

uint32_t net_waiting(struct net *net, conn_handle conn)
{
    return 0;
}

int net_flush(struct net *net, unsigned block, conn_handle conn)
{
    return 0;
}

void net_welcome(struct net *net, conn_handle conn)
{
}

void net_release(struct net *net, conn_handle conn)
{
    tell(net, TOLD_RELEASE, conn, NULL, 0);
}

void net_unbind(struct net *net, conn_handle conn, const void *last_words, size_t size)
{
    tell(net, TOLD_UNBIND, conn, last_words, size);
}

void net_return(struct net *net, conn_handle conn, void *item)
{
    struct broker *broker = &glue_of(net)->broker;
    tell(net, TOLD_RETURN, conn, NULL, 0);
    broker->net_events.on_returned(broker, &broker->threads[0], conn, item);
}

void net_consumed(struct net *net, conn_handle conn)
{
    tell(net, TOLD_CONSUMED, conn, NULL, 0);
}

void net_bind(struct net *net, conn_handle conn, uint64_t owner)
{
}

uint64_t net_owner(struct net *net, conn_handle conn)
{
    return 0;
}

bool net_address(struct net *net, conn_handle conn, char text[NET_ADDRESS_BYTES_MAX])
{
    const char *address = glue_of(net)->address;
    snprintf(text, NET_ADDRESS_BYTES_MAX, "%s", address != NULL ? address : "");
    return true;
}

void net_keep(struct net *net, conn_handle conn, void *item)
{
    glue_of(net)->kept[conn % GLUE_CONNS] = item;
}

void *net_kept(struct net *net, conn_handle conn)
{
    return glue_of(net)->kept[conn % GLUE_CONNS];
}

void net_wake(struct net *net, conn_handle conn)
{
    tell(net, TOLD_WAKE, conn, NULL, 0);
}

/* --- in place of the link --------------------------------------------------------------------- */

void link_answer(struct link *link, uint64_t exchange, struct bytes frame)
{
}

bool link_is_stranger(struct link *link, uint64_t exchange)
{
    return false;
}

bool link_is_crowded(struct link *link)
{
    return false;
}

void link_vouch(struct link *link, uint64_t exchange)
{
}

struct link_health link_health(struct link *link)
{
    return (struct link_health){.listening = true};
}

/* --- what was told ---------------------------------------------------------------------------- */

/* The how-many-th call of that kind about that connection (0: any), from 0; kind -1 without. */
static inline struct told find_told(struct glue *glue, enum told_kind kind, conn_handle conn,
                                    unsigned number)
{
    struct told found = {.kind = (enum told_kind) - 1};
    pthread_mutex_lock(&glue->lock);
    for (unsigned i = 0; i < glue->told_count; i++)
        if (glue->told[i].kind == kind && (conn == 0 || glue->told[i].conn == conn) &&
            number-- == 0) {
            found = glue->told[i];
            break;
        }
    pthread_mutex_unlock(&glue->lock);
    return found;
}

static inline unsigned count_told(struct glue *glue, enum told_kind kind, conn_handle conn)
{
    unsigned count = 0;
    pthread_mutex_lock(&glue->lock);
    for (unsigned i = 0; i < glue->told_count; i++)
        count += glue->told[i].kind == kind && (conn == 0 || glue->told[i].conn == conn);
    pthread_mutex_unlock(&glue->lock);
    return count;
}

static inline void gate(struct glue *glue, bool closed)
{
    pthread_mutex_lock(&glue->lock);
    glue->gate_closed = closed;
    pthread_cond_broadcast(&glue->changed);
    pthread_mutex_unlock(&glue->lock);
}

static inline bool somebody_is_at_the_gate(struct glue *glue)
{
    pthread_mutex_lock(&glue->lock);
    bool any = glue->at_gate > 0;
    pthread_mutex_unlock(&glue->lock);
    return any;
}

/* --- probes ----------------------------------------------------------------------------------- */

static inline bool probe_receive(void *context, struct runner *runner, actor_handle self,
                                 void *state, struct message *message)
{
    struct glue *glue = context;
    struct probe *probe = &glue->probes[actor_slot(self)];
    pthread_mutex_lock(&glue->lock);
    probe->first_ms = probe->count == 0 ? env_monotonic_ms(glue->broker.env) : probe->first_ms;
    probe->place = probe->count == 0 ? glue->places : probe->place;
    glue->places++;
    probe->count++;
    bool leave = message->kind == MESSAGE_LEAVE;
    probe->leaving = probe->leaving || leave;
    if (leave) {
        message_destroy(message);
    } else {
        if (probe->last != NULL)
            probe->last->next = message;
        else
            probe->first = message;
        probe->last = message;
    }
    pthread_mutex_unlock(&glue->lock);
    return true;
}

/* One that leaves hands on what it received, a piece in each turn, as an instance does. */
enum { PROBE_PIECE = 20 };

static inline struct message *probe_piece(struct probe *probe)
{
    struct message *first = probe->first;
    struct message *last = first;
    for (unsigned i = 1; i < PROBE_PIECE && last != NULL && last->next != NULL; i++)
        last = last->next;
    probe->first = last != NULL ? last->next : NULL;
    if (last != NULL)
        last->next = NULL;
    if (probe->first == NULL)
        probe->last = NULL;
    return first;
}

static inline enum verdict probe_finish(void *context, struct runner *runner, actor_handle self,
                                        void *state)
{
    struct glue *glue = context;
    struct probe *probe = &glue->probes[actor_slot(self)];
    if (!probe->leaving)
        return VERDICT_GO_ON;
    struct services *services = glue->broker.services;
    if (services_begin_leave(services, self))
        services_hand_on(services, runner, self, probe_piece(probe));
    if (probe->first != NULL || !services_leave(services, self)) {
        struct message *again = message_create(MESSAGE_LEAVE, sizeof(*again));
        if (again == NULL || scheduler_post(glue->broker.scheduler, runner, self, again) != 0)
            abort();
        return VERDICT_GO_ON;
    }
    probe->leaving = false;
    atomic_store(&probe->left, true);
    return VERDICT_RETIRE;
}

static const struct behaviour probe_behaviour = {
    .name = "probe", .receive = probe_receive, .finish = probe_finish};

static inline struct probe *new_probe(struct glue *glue, const char *name)
{
    actor_handle self = registry_claim(glue->broker.registry, name, strlen(name), &probe_behaviour);
    assert_int_not_equal(self, 0);
    struct probe *probe = &glue->probes[actor_slot(self)];
    *probe = (struct probe){.self = self};
    return probe;
}

static inline unsigned probe_count(struct glue *glue, const struct probe *probe)
{
    pthread_mutex_lock(&glue->lock);
    unsigned count = probe->count;
    pthread_mutex_unlock(&glue->lock);
    return count;
}

/* The oldest that it received and was not asked for, or NULL; the caller's from now on. */
static inline struct message *probe_take(struct glue *glue, struct probe *probe)
{
    pthread_mutex_lock(&glue->lock);
    struct message *message = probe->first;
    if (message != NULL) {
        probe->first = message->next;
        probe->last = probe->first == NULL ? NULL : probe->last;
        message->next = NULL;
    }
    pthread_mutex_unlock(&glue->lock);
    return message;
}

static inline void probe_empty(struct glue *glue, struct probe *probe)
{
    struct message *message;
    while ((message = probe_take(glue, probe)) != NULL)
        message_destroy(message);
}

/* --- the broker ------------------------------------------------------------------------------- */

static inline uint64_t glue_monotonic_ns(void *context)
{
    return atomic_load(&((struct glue *)context)->now_ms) * 1000000;
}

static inline uint64_t glue_wall_ms(void *context)
{
    return 1700000000000;
}

static inline void glue_random(void *context, void *to, size_t size)
{
    env_random(env_system(), to, size);
}

static inline struct runner *own_runner(struct glue *glue)
{
    return &glue->broker.threads[0].runner;
}

/* Runs what is listed, on this thread. */
static inline size_t run_turns(struct glue *glue)
{
    struct runner *runner = own_runner(glue);
    runner->now_ms = env_monotonic_ms(glue->broker.env);
    runner->wall_ms = env_wall_ms(glue->broker.env);
    return scheduler_run(glue->broker.scheduler, runner, 1000000);
}

static inline void prepare_glue_worker(void *context, struct runner *runner, unsigned worker)
{
    struct broker *broker = context;
    struct thread *thread = &broker->threads[broker->io_count + worker];
    runner->index = thread->runner.index;
    runner->scratch = thread;
}

static inline void start_workers(struct glue *glue)
{
    assert_int_equal(
        scheduler_start(glue->broker.scheduler, glue->broker.worker_count, prepare_glue_worker), 0);
}

/* Takes the store; NULL: a memory store that keeps `events_kept` events. own_clock: time stands
 * still but for glue->now_ms. `prepare` may change the options; NULL: nothing. */
static inline struct glue *glue_make_with(struct store *store, uint64_t events_kept, bool own_clock,
                                          void (*prepare)(struct options *options))
{
    struct glue *glue = calloc(1, sizeof(*glue));
    const struct store_options kept = {.events_kept_max = events_kept};
    assert_non_null(glue);
    assert_int_equal(options_init(&glue->options), 0);
    glue->options.limits_users = GLUE_USERS;
    glue->options.limits_services = GLUE_SERVICES;
    glue->options.threads_io = 1;
    glue->options.threads_workers = 2;
    if (prepare != NULL)
        prepare(&glue->options);
    pthread_mutex_init(&glue->lock, NULL);
    pthread_cond_init(&glue->changed, NULL);
    glue->env = (struct env){glue_monotonic_ns, glue_wall_ms, glue_random, glue};
    atomic_store(&glue->now_ms, 1000);
    if (store == NULL)
        assert_int_equal(store_open_memory(&store, &kept), 0);
    glue->store = store;
    assert_int_equal(broker_assemble(&glue->broker, &glue->options,
                                     own_clock ? &glue->env : env_system(), NULL, store),
                     0);
    glue->broker.net = (struct net *)(uintptr_t)glue;
    glue->broker.link = (struct link *)(uintptr_t)glue;
    glue->probes = calloc(registry_capacity(glue->broker.registry), sizeof(struct probe));
    assert_non_null(glue->probes);
    return glue;
}

static inline struct glue *glue_make(struct store *store, uint64_t events_kept, bool own_clock)
{
    return glue_make_with(store, events_kept, own_clock, NULL);
}

static inline void glue_free(struct glue *glue)
{
    uint32_t capacity = registry_capacity(glue->broker.registry);
    gate(glue, false);
    scheduler_stop(glue->broker.scheduler);
    while (glue->broker.committer != NULL && committer_step(glue->broker.committer))
        continue; /* of a committer that was never started */
    broker_dismantle(&glue->broker);
    for (uint32_t i = 0; i < capacity; i++)
        probe_empty(glue, &glue->probes[i]);
    options_fini(&glue->options);
    pthread_mutex_destroy(&glue->lock);
    pthread_cond_destroy(&glue->changed);
    free(glue->probes);
    free(glue);
}

static inline int set_up(void **state)
{
    *state = glue_make(NULL, 100000, false);
    return 0;
}

static inline int set_up_own_clock(void **state)
{
    *state = glue_make(NULL, 100000, true);
    return 0;
}

static inline int tear_down(void **state)
{
    glue_free(*state);
    return 0;
}

static inline uint64_t metric_of(struct glue *glue, enum metric_id id)
{
    return metrics_read(glue->broker.metrics, id);
}

/* A login that passed the gate; nobody has run its turn yet. */
static inline actor_handle log_in(struct glue *glue, const char *user, conn_handle conn)
{
    struct attach_message *attach = message_create(MESSAGE_ATTACH, sizeof(*attach));
    struct message header = attach->header;
    memset(attach, 0, sizeof(*attach));
    attach->header = header;
    attach->conn = conn;
    attach->id = 1;
    snprintf(attach->user, sizeof(attach->user), "%s", user);
    snprintf(attach->address, sizeof(attach->address), "192.0.2.1:%u", (unsigned)conn);
    actor_handle self = registry_claim(glue->broker.registry, user, strlen(user), &user_behaviour);
    assert_int_not_equal(self, 0);
    assert_int_equal(scheduler_post(glue->broker.scheduler, NULL, self, &attach->header), 0);
    return self;
}

static inline struct store_position position_of(struct glue *glue)
{
    struct store_position position = {0};
    assert_int_equal(store_position(glue->store, &position), 0);
    return position;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
