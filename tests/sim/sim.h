/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_SIM_SIM_H
#define USHER_SIM_SIM_H

/* A whole small world in one thread under one seed: clients, backends, a network between them and
 * the real broker, a store that can fail, crashes, clocks. Nothing here reads a clock, a file or
 * the environment, so a seed gives the same history, byte for byte, each time.
 *
 * The broker's own code runs unchanged from the gate to the store; the simulation brings what
 * stands around it: an env (sim_env.c), net/net.h (sim_net.c) and broker/link/link.h (sim_link.c).
 * "When" in the rules is the step of the world: a total order of everything observed.
 *
 * Each run has some kinds of faults (sim_counts.def), chosen by its seed.
 *
 * Single-threaded throughout: one world, one caller. */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend.pb-c.h"
#include "broker/parts.h"
#include "client.pb-c.h"
#include "config/config.h"
#include "proto/bytes.h"
#include "storage/store.h"

enum {
    USERS = 6,
    DEVICES_PER_USER = 3,
    DEVICES = USERS * DEVICES_PER_USER,
    INSTANCES = 2,            /* of the one service */
    BACKENDS = INSTANCES + 1, /* and one that only observes */
    LANES = 3,
    SENDERS = USERS + BACKENDS * LANES, /* who can send messages in an order */
    WIRES_MAX = 1536,
    SESSIONS_MAX = WIRES_MAX, /* a wire has one at most */
    REQUESTS_MAX = 8192,
    PARCELS_MAX = 8192,
    EVENTS_MAX = 8192,
    EXCHANGES_MAX = 8192,
    LISTED_MAX = 256,
    KICKS_MAX = 1024,
    NOBODY = -1,
};

/* The bugs that can be planted, for showing that the rules find them. */
enum sim_bug {
    BUG_NONE,
    BUG_LOST_END,      /* the net forgets to tell that a connection ended */
    BUG_LATE_END,      /* the end of a replaced connection is told of the one that replaced it */
    BUG_LOST_RECORD,   /* a crash loses a record that a Welcome was given for */
    BUG_TWICE,         /* frames are handed up twice */
    BUG_REORDER,       /* two batches of frames change places */
    BUG_ZOMBIE,        /* frames of a replaced connection count as those of the new one */
    BUG_KEEP_OPEN,     /* a released connection is not closed */
    BUG_LOST_WRITE,    /* output is dropped */
    BUG_FROZEN_TIMERS, /* nobody is woken by time */
    BUG_ADDED_EVENT,   /* somebody else writes into the presence stream */
    BUG_LOST_ANSWER,   /* a backend's answer never arrives */
    BUG_COUNT
};

/* The kinds of faults, and what is counted. */
#define COUNT(name, text)
#define FAULT(name, text) FAULT_##name,
enum fault {
#include "sim_counts.def"
    FAULTS
};
#undef COUNT
#undef FAULT
#define COUNT(name, text) COUNT_##name,
#define FAULT(name, text)
enum count {
#include "sim_counts.def"
    COUNTS
};
#undef COUNT
#undef FAULT

/* --- sim_env.c: chance, time, history --------------------------------------------------------- */

struct world;

/* 0 to n - 1. */
uint32_t below(struct world *world, uint32_t n);
bool one_in(struct world *world, uint32_t n);

/* One line of what was observed: goes into the history's hash, and to stdout when verbose. */
void tell(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A rule is broken: remembers the first one, which ends the run. */
void broken(struct world *world, const char *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void env_init(struct world *world, uint64_t seed);

/* The virtual time; moves both clocks. */
void advance(struct world *world, uint64_t ms);

/* --- sim_faults.c ----------------------------------------------------------------------------- */

/* Chooses the kinds of faults of this run. */
void faults_choose(struct world *world);
bool faults_has(const struct world *world, enum fault fault);

/* The run has that kind, and it is time: one in n. */
bool strikes(struct world *world, enum fault fault, uint32_t n);
void count(struct world *world, enum count which);

/* The counts of all runs, one a line. False: something never happened. */
bool counts_print(const uint64_t counts[COUNTS]);

/* --- wires: what a client and the broker share ------------------------------------------------ */

/* One TCP connection, never used again. Its number is its index; its address names it. */
struct wire {
    struct buffer up, down; /* bytes under way */
    uint32_t down_room;     /* what the way down holds */
    /* the client's end */
    bool client_closed;      /* sends nothing more */
    bool reset;              /* and takes nothing more */
    uint64_t end_visible_ms; /* when the broker can see that; UINT64_MAX: never */
    /* the broker's end */
    bool accepted;
    bool broker_closed; /* nothing comes behind what is in `down` */
    bool crashed;
    bool choked;           /* the broker gave its output up */
    bool slow;             /* its client reads seldom */
    uint64_t lag_until_ms; /* nothing moves on it, either way */
    /* the client */
    int user, device;
    int session; /* index, or NOBODY before the Welcome */
    struct buffer input;
    bool asked, acks, is_resume, forged, welcomed, got_close, over;
    bool partial; /* PARTIAL was said: who sends anything now has heard it, on this wire or not */
    bool of_new_device;   /* it knows of no mid */
    bool vouched;         /* COMPLETE was said; what it promises comes before whatever is newer */
    uint64_t asked_epoch; /* Login: the user's highest welcomed epoch; Resume: the session's */
    uint64_t asked_step, next_seq, last_seq, last_id;
    uint64_t ended_step; /* the client closed it, or saw its end; 0: did not yet */
    uint64_t known_step; /* Resume: bound_step of the session when it was asked for */
    /* what the checker knows */
    uint64_t bound_seq, bound_epoch; /* its ONLINE or RESUMED in the stream; 0: none */
    uint64_t bound_step;             /* when that was stored */
    uint64_t written_seq;     /* the last Message of its session that was handed out before */
    uint64_t superseded_step; /* a later Welcome of the user was received; 0: none was */
};

/* --- clients and what they have been promised ------------------------------------------------- */

/* A session as its client knows it: made by a Welcome. */
struct client_session {
    int user, device, wire; /* wire: the one whose messages count */
    uint64_t epoch;
    uint8_t secret[16];
    bool acks;
    bool over; /* replaced, kicked, logged out, refused */
    uint64_t last_seq, last_id;
    uint64_t acked_seq;            /* the highest that the client told it has processed */
    uint64_t bound_step;           /* when the binding was stored whose Welcome was received last */
    uint64_t last_mid, mid_step;   /* of the last stored one, and when it came */
    uint64_t partial_step;         /* that of the last one that was called partial */
    uint64_t last_order[SENDERS];  /* of what was processed, per sender; see rule C1 */
    uint64_t first_fresh[SENDERS]; /* the lowest that was not marked redelivered; 0: none */
};

struct device {
    int user;
    int wire;    /* the one in use, or NOBODY */
    int session; /* to come back to, or NOBODY */
    uint64_t last_mid;
    uint64_t newest_epoch; /* what comes on connections of earlier ones it does not look at */
    uint64_t rest_until_ms;
};

enum request_kind {
    ASK_LOGIN,
    ASK_RESUME,
    ASK_SEND,
    ASK_CALL,
    ASK_PING,
    ASK_LOGOUT,
    ASK_WATCH,
    ASK_STATUS,
    ASK_OTHER,
    ASK_JOIN, /* from here on `parcel` is sim_room.h's */
    ASK_LEAVE,
    ASK_PUBLISH,
};

/* A request with an id. A session counts its own from 1, so every session uses the same ids. */
struct asked {
    enum request_kind kind;
    uint64_t id;
    int wire, parcel;
    uint64_t step;
    bool answered;
    uint8_t friends_add, friends_remove; /* of a Watch: users by their bits */
};

enum parcel_kind { PARCEL_SEND, PARCEL_CALL, PARCEL_PUSH };

/* What one sender sends to one receiver. Its payload bears the number of its group's first one:
 * a Push to several names is a group with the same payload. */
struct parcel {
    enum parcel_kind kind;
    int from, to; /* senders; to: a user */
    int first;    /* of its group */
    int wire;     /* it left on; NOBODY for a push */
    uint64_t step, ms, order;
    uint32_t size;
    bool until_delivered;
    bool transient;
    bool keep, told;        /* it is to be stored; its sender was told that it is */
    bool may_expire, spent; /* its keep_s is short; it was handed to a session without acks */
    bool glimpsed;          /* a device saw it on a connection that it had given up */
    uint64_t mid;           /* 0: not known */
    bool dropped, went;     /* its sender was told that it did not go; that it did */
    uint64_t answered_step; /* transient: its sender was told how it ended; 0: was not */
    bool accepted, reported;
    uint64_t accepted_epoch; /* 0: not known */
    uint64_t accepted_step;
    uint64_t fence; /* push: the only epoch that may take it; 0: any */
    uint32_t processed;
    int seen_session; /* that processed it last, under seen_seq */
    uint64_t seen_seq;
    bool acked;                   /* an earlier session did, and acknowledged it */
    uint64_t spent_epoch;         /* of the session without acks that processed it; 0: none did */
    uint64_t epoch;               /* call: of the session that made it */
    uint32_t timeout_ms;          /* call; 0: the default */
    uint64_t mail_link, mail_seq; /* call: under which an instance saw it last */
    uint64_t lost_ms; /* call: when the instance was lost that had acknowledged it; 0: was not */
    bool timed_out;   /* call: its caller was told so */
};

struct kick {
    int user;
    uint64_t fence;
    bool used;
};

/* --- what the store has said ------------------------------------------------------------------ */

struct user {
    char name[16];
    int state; /* 0: none, or enum session_state */
    uint64_t epoch;
    uint64_t live_step;    /* has a session since; 0: has none */
    uint64_t offline_step; /* the last OFFLINE */
    uint64_t epoch_before; /* the epoch that was there before; 0: none */
    uint64_t welcomed_epoch;
    uint64_t written_epoch, written_seq; /* the last Message that the broker has written */
    uint64_t next_order[SENDERS];        /* of what is sent to this user */
    uint64_t next_call_order;
    uint64_t first_call_step; /* to this process of the broker; 0: made none */
    /* calls as instances saw them, without those that were marked */
    uint64_t call_order;
    int call_backend;
    actor_handle call_actor;
};

/* --- backends --------------------------------------------------------------------------------- */

enum { CHANNEL_FETCH, CHANNEL_SUBMIT, CHANNEL_OTHER, CHANNELS, TODO_MAX = 64, COMMANDS = 4 };

struct channel {
    bool to_send, waiting, answered;
    struct buffer request, answer;
    int exchange;
    bool repeated;      /* an answer was lost, so it was sent again */
    struct buffer lost; /* the Results that were lost; empty: none were */
};

/* A command, and what its result can be judged by. */
struct asked_command {
    int kind;  /* Usher__V1__Command__BodyCase */
    int names; /* Push, Lookup */
    int users[COMMANDS];
    int parcels;                         /* Push: the first */
    uint64_t fence;                      /* Push to one name, Kick */
    uint64_t user_epoch, user_live_step; /* of that user, when it was asked */
    uint64_t after, limit;               /* pages */
    char prefix[8], after_name[16];
    bool resync;                        /* for the mirror */
    uint8_t friends_mask, friends_mode; /* of a WatchList */
    bool friends_last;                  /* that of the end */
};

/* A Submit under way, one per channel that submits. */
struct errand {
    uint32_t lane, count;
    uint64_t step;
    uint64_t stream_seq; /* the last event when it was made */
    struct asked_command commands[COMMANDS];
};

/* What a follower of the stream makes of it: who is there, true for `seq`. */
struct mirror {
    bool lost; /* events were missed; a snapshot is needed */
    uint64_t seq;
    struct {
        int state;
        uint64_t epoch;
    } users[USERS];
};

struct backend {
    bool alive;
    actor_handle actor;  /* that the broker has for it */
    bool leaving;        /* that one hands its mail on, and goes */
    actor_handle member; /* the one that it was accepted as */
    uint64_t member_step;
    uint64_t drained_step; /* its Drain was answered; 0: it takes everybody */
    bool drains;           /* it was asked for */
    uint64_t stalled_until_ms;
    uint64_t incarnation, link, mail_seen, presence_seen, presence_next;
    uint64_t fetch_cursor, fetch_mail; /* of the last Fetch */
    uint64_t acked_link, acked_mail;   /* what it has acknowledged in one that was answered */
    uint64_t safe_cursor;              /* where nothing was missed yet */
    uint64_t resync_seq;               /* of the last snapshot that was taken for the mirror */
    uint64_t lane_seq[LANES];
    bool wants_hello;
    bool new_boot; /* the broker is another process now: what the link numbered is void */
    struct channel channels[CHANNELS];
    struct errand errands[CHANNELS];
    struct {
        uint64_t call;
        int parcel;
    } todo[TODO_MAX];
    uint32_t todo_count;
    uint64_t call_order[USERS]; /* of the mail of this link */
    struct mirror mirror;
};

/* --- the world -------------------------------------------------------------------------------- */

struct sim_options {
    uint64_t seed;
    uint32_t steps;
    enum sim_bug bug;
    bool verbose;
};

struct world {
    struct sim_options options;
    uint64_t chance, secrets; /* two generators: the world's choices, the broker's random bytes */
    uint64_t history;         /* hash of everything told */
    uint64_t step, now_ms;
    uint64_t leap_ms; /* the end of the last long time in which nobody did anything */
    int64_t wall_offset_ms;
    const char *rule; /* the first that was broken; NULL: none */
    char what[512];
    struct env env;
    struct options broker_options;
    struct store *store;
    struct broker *broker; /* NULL: crashed */
    struct net *net;
    struct link *link;
    uint64_t restart_ms;
    uint64_t loss_step; /* when memory was lost that was not saved */
    uint64_t stop_step;
    bool faulty, stopping, healing;
    bool stores;      /* some messages have a keep_s */
    bool cut_is_kept; /* the commit in which power is lost */
    bool has_fault[FAULTS];
    uint64_t counts[COUNTS];
    uint64_t published_seq; /* the last event in the feed */
    int devices_per_user;
    uint32_t listed[LISTED_MAX]; /* taken out of the run queue */
    uint32_t listed_count;
    struct wire *wires;
    uint32_t wire_count;
    struct client_session *sessions;
    uint32_t session_count;
    struct asked *requests;
    uint32_t request_count;
    struct parcel *parcels;
    uint32_t parcel_count;
    struct presence_event *events;
    uint64_t event_count; /* seq of the last */
    struct kick *kicks;
    uint32_t kick_count;
    struct user users[USERS];
    struct device devices[DEVICES];
    struct backend backends[BACKENDS];
    struct friends_book *friends;
    struct rooms_world *rooms; /* sim_room.h */
};

/* --- sim_net.c -------------------------------------------------------------------------------- */

void net_make(struct world *world);
void net_forget(struct world *world);  /* the process is gone: every wire is cut */
void net_silence(struct world *world); /* nothing that is written goes anywhere any more */
bool net_step_random(struct world *world);
bool net_step_all(struct world *world); /* everything that can be done now; false: nothing was */
uint32_t net_slots_used(struct world *world);

/* --- sim_link.c ------------------------------------------------------------------------------- */

void link_make(struct world *world);
void link_forget(struct world *world);
void link_silence(struct world *world);
bool link_step(struct world *world, bool all); /* carries requests and ends to the broker */
void link_cut(struct world *world, struct channel *channel);

/* The connection breaks and comes again: the request is sent again, as the transport does. */
void link_break(struct world *world, struct channel *channel);
uint32_t link_waiting(struct world *world);

/* --- sim_client.c, sim_frames.c --------------------------------------------------------------- */

void clients_make(struct world *world);
bool client_act(struct world *world); /* one random device; false: it has nothing to do */
bool client_read(struct world *world, uint32_t wire, bool all);
bool clients_read_all(struct world *world);
void clients_come_home(struct world *world); /* healing: whoever has a session gets a connection */
void clients_ping(struct world *world);
void clients_leave(struct world *world); /* every connection is closed */
void wire_close(struct world *world, struct wire *wire, uint64_t visible_ms, bool reset);

/* A request is about to be sent: gives its id, 0 when there is no room for one. */
uint64_t request_make(struct world *world, enum request_kind kind, int wire, int parcel);
void wire_send(struct world *world, struct wire *wire, const Usher__V1__ClientFrame *frame);
void client_frame_in(struct world *world, uint32_t wire, struct bytes bytes);
/* A login or resume was refused: another try on the same connection, or the end of it. */
void client_refused(struct world *world, uint32_t wire, uint32_t code);
void client_ack(struct world *world, struct client_session *session);

/* --- sim_backend.c ---------------------------------------------------------------------------- */

void backends_make(struct world *world);
void backends_free(struct world *world);
bool backend_act(struct world *world, uint32_t index, bool all);
void backend_die(struct world *world, uint32_t index);

/* Takes a snapshot for the truth. */
void backend_resync(struct world *world, struct backend *backend,
                    const Usher__V1__SessionList *list);
void check_mirrors(struct world *world);

/* Sends a LinkRequest on a channel that is idle. */
void backend_ask(struct backend *backend, unsigned channel, const Usher__V1__LinkRequest *request);

/* --- sim_command.c: what backends submit ------------------------------------------------------ */

void command_submit(struct world *world, uint32_t backend, unsigned channel);
void command_results(struct world *world, uint32_t backend, unsigned channel,
                     const Usher__V1__Results *results);

/* --- sim_stream.c: the rules about the stream, the map and what is told of both --------------- */

void check_stream(struct world *world); /* after everything that may have committed */
void check_map(struct world *world);
void check_no_inboxes(struct world *world);
void check_published(struct world *world, struct bytes topic, struct bytes body);

/* The user as of event `seq`: 0, or enum session_state. */
int state_at(const struct world *world, int user, uint64_t seq, uint64_t *epoch);

/* The event as of the stream; false: it is another. */
bool event_matches(const struct world *world, const Usher__V1__PresenceEvent *event);

/* A page of those after a name and with a prefix. */
void check_page(struct world *world, const Usher__V1__SessionList *list,
                const struct asked_command *asked);
void check_lookup(struct world *world, const Usher__V1__SessionList *list,
                  const struct asked_command *asked);
void check_event_page(struct world *world, const Usher__V1__EventList *list,
                      const struct asked_command *asked);
void check_numbers(struct world *world, const Usher__V1__NumberList *list, uint64_t since_seq);

/* Whether an OFFLINE by a kick of that epoch stands in the stream behind `since_seq`. */
bool was_kicked(const struct world *world, int user, uint64_t epoch, uint64_t since_seq);
int user_named(struct world *world, const char *name);

/* --- sim_check.c: the rules about connections, requests and messages -------------------------- */

/* A group of `names` parcels, to the users of that list. */
int parcel_make(struct world *world, enum parcel_kind kind, int from, const int *to, int names,
                int wire);
void parcel_fill(struct world *world, int parcel, uint8_t *payload);

/* The parcel of that payload for the receiver (NOBODY: a call); NOBODY, and a broken rule. */
int parcel_read(struct world *world, struct bytes payload, int receiver);

void check_welcome(struct world *world, uint32_t wire, const Usher__V1__Welcome *welcome);

/* What a COMPLETE promised is there, now that something else than a Message came. */
void check_vouched(struct world *world, uint32_t wire);

/* The request that is answered; NULL, and a broken rule, when there is none. */
const struct asked *check_answer(struct world *world, uint32_t wire, uint64_t id, bool ok);
void check_not_online(struct world *world, int user, uint64_t asked_step);
void check_delivered(struct world *world, const struct parcel *parcel, uint64_t epoch);
void check_message(struct world *world, uint32_t wire, const Usher__V1__Message *message,
                   int parcel);
void check_processed(struct world *world, struct client_session *session, int parcel, uint64_t seq,
                     bool redelivered);

/* One without a number: on any wire; that its client looks at; its sender was told of it. */
void check_transient(struct world *world, uint32_t wire, const Usher__V1__Message *message,
                     int parcel);
void check_transient_processed(struct world *world, struct client_session *session, int parcel);
void check_transient_answer(struct world *world, int parcel, bool went, bool dropped);
void check_timeout(struct world *world, const struct parcel *parcel);

/* The instance is gone: what it had acknowledged is lost. */
void check_lost(struct world *world, uint32_t backend);
/* It is one in the broker's eyes too, not one that was given up and does not know. */
bool backend_is_instance(const struct backend *backend);
void check_call(struct world *world, uint32_t backend, const Usher__V1__UserCall *call, int parcel);
void check_healed(struct world *world);
void check_empty(struct world *world);

/* --- sim_friends.c: who watches whom, and the rules about it ---------------------------------- */

void friends_make(struct world *world); /* with the options that it needs */
void friends_free(struct world *world);

/* A client says something about friends, perhaps; when all heals, whom it wants to see at the end.
 */
void friends_crowd(struct world *world); /* after a commit: many came with it, now and then */
bool friends_speak(struct world *world, int wire);
void friends_heal(struct world *world, int wire);
void friends_welcomed(struct world *world, uint32_t wire);
void friends_in(struct world *world, uint32_t wire, const Usher__V1__FriendStates *states);
void friends_done(struct world *world, int session, const struct asked *request);
void friends_pong(struct world *world, uint32_t wire, uint64_t asked_step);

/* A WatchList, or false: none is due. */
bool friends_list(struct world *world, struct asked_command *asked);
size_t friends_list_names(struct world *world, const struct asked_command *asked,
                          char *names[USERS]);
void friends_listed(struct world *world, const struct errand *errand,
                    const struct asked_command *asked, const Usher__V1__Result *result);

/* All heals, and somebody has not been given his list of the end. */
bool friends_are_due(const struct world *world);

/* At the end, of a connection that is there. */
void friends_check(struct world *world, uint32_t wire);

/* --- sim_stored.c: messages with keep_s, and the rules about them ----------------------------- */

void stored_options(struct world *world);

/* A group that is about to be sent: its keep_s, 0 for most. */
uint32_t stored_keep_s(struct world *world, int first, int names);

/* What a Login on that wire says. */
uint64_t stored_last_mid(struct world *world, int wire);
void stored_told(struct world *world, int parcel, uint64_t mid); /* 0: of several, not known */
void stored_welcomed(struct world *world, uint32_t wire, const Usher__V1__Welcome *welcome);
void stored_handed_out(struct world *world, const struct wire *wire,
                       const Usher__V1__Message *message);
void stored_processed(struct world *world, struct client_session *session, int parcel,
                      uint64_t mid);

/* When all heals he comes, also without a session. */
bool stored_waits_for(const struct world *world, int user);
void stored_check_healed(struct world *world);

/* --- sim_world.c ------------------------------------------------------------------------------ */

/* One world from its beginning to its end. */
void world_run(struct world *world, const struct sim_options *options);
void world_free(struct world *world);

/* Runs one turn of a random listed actor. False: none is listed. */
bool world_turn(struct world *world);

/* Sees which backends are instances in the broker's eyes. */
void world_watch_instances(struct world *world);

/* Power was lost: nothing that the broker does has an effect any more. */
bool world_is_dark(const struct world *world);

#endif
