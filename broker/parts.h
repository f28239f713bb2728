/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_PARTS_H
#define USHER_BROKER_PARTS_H

/* Private to the glue, the .c files of this folder: the parts of one broker and how they call each
 * other.
 *
 * Everything that arrives goes through ingress.c and becomes a post; everything that a turn wants
 * goes through egress.c. committer.c and queries.c are the two threads that touch the store,
 * clock.c is the one that waits for points in time. Put together and taken apart by assemble.c,
 * for broker.c, which adds the edges and the threads. */

#include <pthread.h>

#include "actors/instance.h"
#include "actors/user.h"
#include "base/awake.h"
#include "base/timer.h"
#include "base/trace.h"
#include "broker/activation.h"
#include "broker/broker.h"
#include "broker/link.h"
#include "identity/token.h"
#include "net/net.h"
#include "runtime/scheduler.h"

/* A thread that runs turns. */
struct thread {
    struct runner runner;
    struct turn turn;
    struct mailbox verdicts; /* login_jobs that were judged, for an I/O thread */
    unsigned batches;        /* of frames that an I/O thread has posted */
    _Atomic uint64_t beats;  /* how often it came round; see pulse.c */
};

struct admin_glue;
/* Where nng's threads run turns (link_turns.c). */
struct link_turns {
    pthread_mutex_t lock;
    struct thread *thread; /* whoever has the lock */
    bool open;
};

struct admission;
struct logins;
struct committer;
struct queries;
struct services;
struct clock;

/* Answers a command of operators with a Result of at most `room` bytes and some. False: it is
 * another's. For the thread of queries.c. */
typedef bool operate_command(struct broker *broker, const Usher__V1__Command *command, size_t room,
                             struct buffer *out);

/* A drain that is under way; of the thread that waits for signals. */
struct drain {
    uint64_t begun_ms, total_ms;
    uint64_t users, told;
    uint32_t cursor;
};

/* What was last said of the TLS certificates (certificate.c); under reload_lock. */
struct certificate_told {
    int64_t at_s;
    int state;
};

struct broker {
    /* set once at start */
    const struct options *options;
    const struct env *env; /* its clock stands still while the process does: base/awake.h */
    struct awake awake;    /* behind it; zeroed: a simulation's or a test's is in its place */
    struct log *log;
    struct metrics *metrics;
    struct traces *traces;
    struct store *store;
    struct registry *registry;
    struct scheduler *scheduler;
    struct net *net;
    struct link *link;
    struct feed *feed;
    struct admission *admission; /* NULL with auth.mode open */
    struct logins *logins;
    struct committer *committer;
    struct queries *queries;
    struct services *services;
    struct clock *clock;
    struct settings settings;
    struct counters counters;
    struct passed_sockets passed;
    uint64_t await_until_ms; /* await.c; 0: nothing had to be waited for */
    unsigned io_count, worker_count;
    struct link_turns link_turns;
    /* I/O threads, workers, committer, nng's threads, and one for everybody else */
    struct thread *threads;
    struct net_events net_events;
    struct link_events link_events;
    struct admin_glue *admin; /* NULL without admin.listen; see admin_glue.h */
    operate_command *operate; /* NULL: there are no operators, as in the simulation */
    _Atomic int state;         /* enum broker_state */
    _Atomic uint64_t drain_ms; /* what was asked for; 0: the option */
    _Atomic bool restart;      /* or this */
    struct drain drain;
    pthread_mutex_t reload_lock;
    int argc; /* broker_remember; under reload_lock, as what follows */
    char **argv;
    struct options in_force;
    struct certificate_told certificate_told;
    char reload_error[BROKER_ERROR_BYTES];
    _Atomic uint32_t secrets_exposed; /* as last looked at */
    struct link_token *link_tokens; /* all that ever held, the newest first */
};

/* --- broker.c ---------------------------------------------------------------------------------- */

/* The front end as the options want it, wired to an assembled broker, not yet started. */
int broker_open_net(struct broker *broker, char *error);

/* --- assemble.c: for broker.c, and for the simulation, which brings its own edges ------------- */

/* Fills a zeroed broker: settings, threads' places, actors, services, committer, clock, queries;
 * starts nothing. `store` is taken by a success. */
int broker_assemble(struct broker *broker, const struct options *options, const struct env *env,
                    struct log *log, struct store *store);

/* Joins the workers and the committer: nobody runs a turn afterwards. */
void broker_halt(struct broker *broker);

/* Frees what broker_assemble made, the store included but not the registry. No thread may be
 * left; broker_halt may have been called. */
void broker_dismantle(struct broker *broker);

/* Tells every actor that the broker stops, spreading the return of the clients. */
void broker_tell_all(struct broker *broker);

/* The same for one, who is not to come back before `after_ms`. */
void broker_tell(struct broker *broker, actor_handle actor, uint32_t after_ms);

/* A user is going to be told: nobody is let in any more, so his session does not expire. */
void broker_warn(struct broker *broker, actor_handle actor);

/* The room that the registry has for instances beside limits.users. */
uint32_t broker_instances_max(const struct broker *broker);

/* Where clients connect, by TLS or plainly. False: nowhere. */
bool broker_client_address(const struct broker *broker, bool tls, char to[NET_ADDRESS_BYTES_MAX]);

/* --- await.c ---------------------------------------------------------------------------------- */

/* Opens what listens by `open`, again and again for listen.wait_ms while its address is not there
 * or in use: what `open` gave last, or -ECANCELED when termination was asked for meanwhile. Blocks;
 * the main thread, at the start. */
int await_address(struct broker *broker, int (*open)(struct broker *broker, char *error),
                  char *error);

/* --- reload.c --------------------------------------------------------------------------------- */

/* Keys and token at the start, and what a later reload compares with. 0 or -errno with `error` set
 * (BROKER_ERROR_BYTES). */
int reload_first(struct broker *broker, char *error);
void reload_fini(struct broker *broker);

/* Whether a start of today would take the configuration and its files: 0, or -EINVAL with the first fault
 * (BROKER_ERROR_BYTES), logged. Any thread; blocks on the disk. */
int reload_check_start(struct broker *broker, char *error);

/* The report as the lines of the recorder have it: one of option_changed for each, or one of
 * reload_refused. */
void reload_lines(struct broker *broker, const struct reload_report *report, recorder_each *each,
                  void *context);

/* In the same way the one of restart_refused. */
void restart_lines(struct broker *broker, const char *error, recorder_each *each, void *context);

/* A line for each pair of options that goes badly together and is not refused. */
void reload_tell_odd(struct broker *broker, const struct options *options);

/* process.drain_ms as it is now. */
uint64_t reload_drain_ms(struct broker *broker);

/* --- ingress.c -------------------------------------------------------------------------------- */

extern const struct behaviour user_behaviour, instance_behaviour;

void ingress_wire(struct broker *broker);
void ingress_wire_link(struct broker *broker); /* ingress_link.c; part of ingress_wire */

/* After so long without a byte a connection is over: two heartbeats, and one for what was said at
 * the end of the second and is on its way. */
uint32_t silence_ms(const struct options *options);

/* --- link_turns.c ----------------------------------------------------------------------------- */

/* Closed at first. */
void link_turns_init(struct broker *broker, struct thread *thread);
void link_turns_fini(struct broker *broker);

/* Once it is closed no thread of nng's runs a turn, nor will; waits for the one that does. */
void link_turns_set_open(struct broker *broker, bool open);

/* A runner to post with, or NULL: post without one. Never blocks. */
struct runner *link_turns_begin(struct broker *broker);

/* Runs what is listed; NULL is nothing. */
void link_turns_end(struct broker *broker, struct runner *runner);

/* --- admission.c ------------------------------------------------------------------------------ */

/* A Login whose credentials are looked at. While that lasts its connection is unbound, keeps a
 * pointer to it (net_keep), and reads nothing of it but attach->id. */
struct login_job {
    struct message header;
    struct thread *home;           /* the I/O thread of its connection */
    struct attach_message *attach; /* owned; posted when the verdict is good */
    enum token_refusal refusal;    /* the verdict */
    uint32_t retry_after_ms;       /* with TOKEN_LIMITED */
    unsigned shares; /* so many steps of its source count it (base/source.h), until the verdict */
    uint64_t call;                 /* auth.mode service: what a backend was asked by */
    uint64_t due_ms;
    uint32_t token_size;
    uint8_t token[];
};

/* Takes `attach` and copies the token. NULL without memory; then nothing is taken. */
struct login_job *login_job_create(struct thread *home, struct attach_message *attach,
                                   struct bytes token);

/* Also frees `attach`, if it is still there. Leaves nothing of the token in memory. */
void login_job_destroy(struct login_job *job);

int admission_open(struct admission **admission, struct broker *broker);
int admission_start(struct admission *admission);

/* Takes what may change from the options; any thread. */
void admission_set_limits(struct admission *admission, const struct options *options);

/* Takes over a reference of the caller's: the keys for what is judged from now on. */
void admission_set_keys(struct admission *admission, struct keyring *keyring);

/* Of the keys in use; any thread. */
void admission_count_keys(struct admission *admission, uint64_t *used, uint64_t *passed_over);

/* Takes the job and gives 0; its verdict comes into home->verdicts, and on_begin of that
 * thread soon after. Otherwise the job is still the caller's: -EBUSY, too many wait; -EDQUOT, too
 * many of its source do; -EAGAIN, its address has failed too often, with job->retry_after_ms set.
 * Any thread; never blocks for long. */
int admission_submit(struct admission *admission, struct login_job *job);

/* Judges one login on the calling thread, or asks a service about it, or gives up one whose service
 * is late. False: nothing was to be done. */
bool admission_step(struct admission *admission);

/* Joins its threads and frees every job, those in the threads' verdicts too: no I/O thread may be
 * left. */
void admission_close(struct admission *admission);

/* --- logins.c --------------------------------------------------------------------------------- */

int logins_open(struct logins **logins, struct broker *broker);
void logins_close(struct logins *logins); /* NULL is fine */
void logins_set_limits(struct logins *logins, const struct options *options); /* any thread */

/* A login of that user from that address ("host:port"), or a resume, is to happen now: it is counted,
 * and `ms` is 0; or it comes too soon, after so many logins, and is not. Any thread. */
struct login_wait {
    uint32_t ms;
    const char *limit;
};
struct login_wait logins_take(struct logins *logins, struct bytes user, struct bytes address,
                              bool resume);

/* --- egress.c --------------------------------------------------------------------------------- */

/* Carries out what the turn holds, in order, and empties it. */
void egress_perform(struct broker *broker, struct runner *runner, struct turn *turn);

/* The user's session learns what waits in its connection, and goes on when there is room. */
void egress_settle(struct broker *broker, struct runner *runner, actor_handle self,
                   struct session *session);

/* What ends a connection when it waits there: limits.output_bytes, or what a frame of the largest size
 * needs that others send, and some answers beside it. */
uint32_t output_max(const struct options *options);

/* How much may wait in a connection for long: limits.output_soft_bytes, and half of what ends it at
 * once, so that what others send leaves room for answers. */
uint32_t output_window(const struct options *options);

/* Shows how full the user's inbox is. */
void egress_show(struct broker *broker, actor_handle self, const struct session *session);

/* A message that found no actor; takes it. */
void egress_bounce(void *context, struct runner *runner, struct message *message);

/* --- committer.c ------------------------------------------------------------------------------ */

int committer_open(struct committer **committer, struct broker *broker, struct thread *thread);
int committer_start(struct committer *committer);

/* Its thread comes round once, if it can. */
void committer_prod(struct committer *committer);

/* Takes the change; the actor is held until it is done. */
void committer_submit(struct committer *committer, struct change *change);

/* Commits what waits, on the calling thread: what the thread does in a loop, and the simulation
 * when its schedule says so. False: nothing waited. */
bool committer_step(struct committer *committer);

/* How it is doing; any thread. Each number is of some moment lately. */
struct committer_look {
    uint32_t waiting;          /* changes that no transaction has taken yet */
    int error;                 /* how the last transaction ended */
    uint64_t failing_since_ms; /* monotonic; 0: it works */
    uint64_t failed_ms;        /* when one failed last */
    uint64_t began_ms;         /* the transaction in progress, monotonic; 0: none */
};
struct committer_look committer_look(struct committer *committer);

/* Waits until nothing is queued or in progress. */
void committer_drain(struct committer *committer);
void committer_close(struct committer *committer);

/* --- queries.c -------------------------------------------------------------------------------- */

int queries_open(struct queries **queries, struct broker *broker);
int queries_start(struct queries *queries);

/* Answers one query on the calling thread. False: none waited. */
bool queries_step(struct queries *queries);

/* How many messages wait for the user, as his actor shows it at this moment; any thread. */
uint32_t broker_inbox_messages(struct broker *broker, const char *user);

/* Takes the query. */
void queries_submit(struct queries *queries, struct query_message *query);
void queries_close(struct queries *queries);

/* --- services.c ------------------------------------------------------------------------------- */

int services_create(struct services **services, struct broker *broker);
void services_destroy(struct services *services);

/* 0, or -ENOSPC when there are too many services or instances; then nothing was done. Joining
 * again ends a drain. */
int services_join(struct services *services, const char *service, actor_handle instance,
                  bool presence);
void services_drain(struct services *services, actor_handle instance, bool drain);

/* Routes a call to the instance of its service that its user is pinned to, otherwise by
 * rendezvous hashing, which pins him. Takes the message when it returns the instance; 0 with
 * *code set: why not, and the message is still the caller's. */
actor_handle services_route(struct services *services, struct runner *runner,
                            struct user_call_message *call, uint16_t *code);

/* How an instance goes, called in its own turns: it begins, hands its unprocessed mail on in as many
 * pieces as it likes, and leaves. New users are sent elsewhere from the beginning on; those that it
 * has go on coming to it until it has left, and then where their mail went, so no newer call
 * overtakes what it hands on.
 *
 * False: another one of its service is at that; new users are sent elsewhere all the same. */
bool services_begin_leave(struct services *services, actor_handle instance);

/* Some of its mail (a list, oldest first; taken) goes to other instances. Calls that find nobody are
 * answered SERVICE_LOST. */
void services_hand_on(struct services *services, struct runner *runner, actor_handle instance,
                      struct message *mail);

/* Takes it out. False: calls are still in its mailbox; nothing was done. */
bool services_leave(struct services *services, actor_handle instance);

/* Everybody in the directory, instances of one service in a row; a service without any has one row
 * with an empty instance. Gives how many; the lock is held while they are copied. */
struct service_look {
    char service[USERNAME_BYTES_MAX + 1];
    char instance[USERNAME_BYTES_MAX + 1];
    bool draining, leaving, lost, presence;
    uint32_t mail_waiting, calls_open;
    uint64_t last_fetch_ms; /* wall; 0: never */
};
size_t services_look(struct services *services, struct service_look *rows, size_t max);

/* Posts the stream's new end to all who follow it. */
void services_tell_presence(struct services *services, struct runner *runner, uint64_t last);

/* --- operate.c -------------------------------------------------------------------------------- */

bool operate(struct broker *broker, const Usher__V1__Command *command, size_t room,
             struct buffer *out);

/* Marks a user who has a session, or had one under a trace that still runs. 0, -ENOENT: nobody of
 * that name is there; others as trace_start. Any thread. To end it: trace_stop; to read:
 * trace_read, both with broker->traces. */
int broker_trace(struct broker *broker, const char *user, uint32_t seconds, uint32_t one_in);

/* --- clock.c ---------------------------------------------------------------------------------- */

int clock_open(struct clock **clock, struct broker *broker);
int clock_start(struct clock *clock);

/* Its thread comes round once, if it can; and how often it has. */
void clock_prod(struct clock *clock);
uint64_t clock_beats(const struct clock *clock);

/* Posts the ticks that are due at the env's time, on the calling thread. */
void clock_step(struct clock *clock);
/* The actor's tick comes at due_ms from now on, and not when it was to come before. In the actor's own
 * turn. */
void clock_set(struct clock *clock, actor_handle actor, uint64_t due_ms);
void clock_close(struct clock *clock);

/* --- keep.c ----------------------------------------------------------------------------------- */

/* After each transaction: so many sessions have been saved. */
typedef void keep_progress(uint64_t sessions);

/* Saves what waits in every inbox, for the next start. Runs when no thread runs a turn any more;
 * blocks on the disk. What could not be saved is logged and lost: gives of how many sessions.
 * `saved_so_far` may be NULL. */
uint64_t keep_inboxes(struct broker *broker, keep_progress *saved_so_far);

/* --- restore.c -------------------------------------------------------------------------------- */

/* Reads the session map and the saved inboxes, marks every session detached with one event, and
 * makes its actor. Runs before any other thread. 0 or -errno with `error` set. */
int restore_sessions(struct broker *broker, char *error);

#endif
