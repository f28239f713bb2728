/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_SIM_SIM_H
#define USHER_SIM_SIM_H

/* A whole small world in one thread under one seed: clients, backends, a network between them and
 * the real broker, a store that can fail, crashes, clocks. Nothing here reads a clock, a file or
 * the environment, so a seed gives the same history, byte for byte, each time.
 *
 * The broker's own code runs unchanged from the gate to the store; the simulation brings what
 * stands around it: an env (sim_env.c), net/net.h (sim_net.c) and broker/link.h (sim_link.c).
 * "When" in the rules is the step of the world: a total order of everything observed.
 *
 * Single-threaded throughout: one world, one caller. */

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/config.h"
#include "broker/parts.h"
#include "client.pb-c.h"
#include "proto/bytes.h"
#include "storage/store.h"

enum {
    USERS = 6,
    DEVICES_PER_USER = 3,
    DEVICES = USERS * DEVICES_PER_USER,
    BACKENDS = 2,
    SENDERS = USERS + BACKENDS, /* who can send a message to a user */
    WIRES_MAX = 1536,
    SESSIONS_MAX = WIRES_MAX, /* a wire has one at most */
    REQUESTS_MAX = 8192,
    PARCELS_MAX = 8192,
    EVENTS_MAX = 8192,
    EXCHANGES_MAX = 8192,
    LISTED_MAX = 256,
    NOBODY = -1,
};

/* The bugs that can be planted, for showing that the rules find them. */
enum sim_bug {
    BUG_NONE,
    BUG_LOST_END,       /* the net forgets to tell that a connection ended */
    BUG_LATE_END,       /* the end of a replaced connection is told of the one that replaced it */
    BUG_LOST_RECORD,    /* a crash loses a record that a Welcome was given for */
    BUG_TWICE,          /* frames are handed up twice */
    BUG_REORDER,        /* two batches of frames change places */
    BUG_ZOMBIE,         /* frames of a replaced connection count as those of the new one */
    BUG_KEEP_OPEN,      /* a released connection is not closed */
    BUG_LOST_WRITE,     /* output is dropped */
    BUG_FROZEN_TIMERS,  /* nobody is woken by time */
    BUG_ADDED_EVENT,    /* somebody else writes into the presence stream */
    BUG_LOST_ANSWER,    /* a backend's answer never arrives */
    BUG_COUNT
};

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
    bool choked; /* the broker gave its output up */
    /* the client */
    int user, device;
    int session; /* index, or NOBODY before the Welcome */
    struct buffer input;
    bool asked, acks, is_resume, forged, welcomed, got_close, over;
    uint64_t asked_epoch; /* Login: the user's highest welcomed epoch; Resume: the session's */
    uint64_t asked_step, next_seq, last_seq, last_id;
    /* what the checker knows */
    uint64_t bound_seq, bound_epoch; /* its ONLINE or RESUMED in the stream; 0: none */
    uint64_t superseded_step;        /* a later Welcome of the user was received; 0: none was */
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
    uint64_t last_order[SENDERS];  /* of what was processed, per sender; see rule C1 */
    uint64_t first_fresh[SENDERS]; /* the lowest that was not marked redelivered; 0: none */
};

struct device {
    int user;
    int wire;    /* the one in use, or NOBODY */
    int session; /* to come back to, or NOBODY */
    uint64_t rest_until_ms;
};

enum request_kind { ASK_LOGIN, ASK_RESUME, ASK_SEND, ASK_CALL, ASK_PING, ASK_LOGOUT, ASK_OTHER };

/* A request with an id. A session counts its own from 1, so every session uses the same ids. */
struct asked {
    enum request_kind kind;
    uint64_t id;
    int wire, parcel;
    uint64_t step;
    bool answered;
};

enum parcel_kind { PARCEL_SEND, PARCEL_CALL, PARCEL_PUSH };

/* A payload on its way; it bears the parcel's number. */
struct parcel {
    enum parcel_kind kind;
    int from, to; /* senders; to: a user */
    int wire;     /* it left on; NOBODY for a push */
    uint64_t step, ms, order;
    uint32_t size;
    bool until_delivered;
    bool accepted, reported;
    uint64_t accepted_epoch;
    uint32_t processed;
    uint64_t spent_epoch; /* of the session without acks that processed it; 0: none did */
    uint64_t epoch; /* call: of the session that made it */
};

/* --- what the store has said ------------------------------------------------------------------ */

struct user {
    char name[16];
    int state; /* 0: none, or enum session_state */
    uint64_t epoch;
    uint64_t live_step;    /* has a session since; 0: has none */
    uint64_t offline_step; /* the last OFFLINE */
    uint64_t welcomed_epoch;
    uint64_t next_order[SENDERS]; /* of what is sent to this user */
    uint64_t next_call_order;
};

/* --- backends --------------------------------------------------------------------------------- */

enum { CHANNEL_FETCH, CHANNEL_SUBMIT, CHANNELS, TODO_MAX = 64, PUSHES_MAX = 8 };

struct channel {
    bool to_send, waiting, answered;
    struct buffer request, answer;
    int exchange;
};

struct backend {
    bool alive;
    actor_handle actor; /* that the broker has for it */
    uint64_t stalled_until_ms;
    uint64_t incarnation, link, mail_seen, presence_seen, presence_next, submit_seq;
    bool wants_hello;
    bool new_boot; /* the broker is another process now: what the link numbered is void */
    struct channel channels[CHANNELS];
    struct {
        uint64_t call;
        int parcel;
    } todo[TODO_MAX];
    uint32_t todo_count;
    int pushed[PUSHES_MAX]; /* parcels of the Submit under way, by command; NOBODY: no push */
    uint32_t command_count;
    uint64_t submit_step;
    uint64_t call_order[USERS];
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
    uint64_t crash_step, stop_step, moved_step;
    bool faulty, stopping, healing;
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
    struct user users[USERS];
    struct device devices[DEVICES];
    struct backend backends[BACKENDS];
};

/* --- sim_net.c -------------------------------------------------------------------------------- */

void net_make(struct world *world);
void net_forget(struct world *world);    /* the process is gone: every wire is cut */
void net_silence(struct world *world);   /* nothing that is written goes anywhere any more */
bool net_step_random(struct world *world);
bool net_step_all(struct world *world);  /* everything that can be done now; false: nothing was */
uint32_t net_slots_used(struct world *world);

/* --- sim_link.c ------------------------------------------------------------------------------- */

void link_make(struct world *world);
void link_forget(struct world *world);
void link_silence(struct world *world);
bool link_step(struct world *world, bool all); /* carries requests and ends to the broker */
void link_cut(struct world *world, struct channel *channel);
uint32_t link_waiting(struct world *world);

/* --- sim_client.c, sim_frames.c --------------------------------------------------------------- */

void clients_make(struct world *world);
bool client_act(struct world *world); /* one random device; false: it has nothing to do */
bool client_read(struct world *world, uint32_t wire, bool all);
bool clients_read_all(struct world *world);
void clients_come_home(struct world *world); /* healing: whoever has a session gets a connection */
void clients_ping(struct world *world);
void clients_leave(struct world *world);       /* every connection is closed */
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
bool backend_act(struct world *world, uint32_t index, bool all);
void backend_die(struct world *world, uint32_t index);

/* --- sim_check.c: the rules ------------------------------------------------------------------- */

int parcel_make(struct world *world, enum parcel_kind kind, int from, int to, int wire);
void parcel_fill(struct world *world, int parcel, uint8_t *payload);
int parcel_read(struct world *world, struct bytes payload); /* NOBODY, and a broken rule */

void check_stream(struct world *world); /* after everything that may have committed */
void check_map(struct world *world);
void check_welcome(struct world *world, uint32_t wire, const Usher__V1__Welcome *welcome);

/* The request that is answered; NULL, and a broken rule, when there is none. */
const struct asked *check_answer(struct world *world, uint32_t wire, uint64_t id, bool ok);
void check_not_online(struct world *world, int user, uint64_t asked_step);
void check_delivered(struct world *world, const struct parcel *parcel, uint64_t epoch);
void check_message(struct world *world, uint32_t wire, const Usher__V1__Message *message,
                   int parcel);
void check_processed(struct world *world, struct client_session *session, int parcel,
                     bool redelivered);
void check_state_at(struct world *world, int user, uint64_t seq, int state, uint64_t epoch);
void check_healed(struct world *world);
void check_empty(struct world *world);
int user_named(struct world *world, const char *name);

/* --- sim_world.c ------------------------------------------------------------------------------ */

/* One world from its beginning to its end. */
void world_run(struct world *world, const struct sim_options *options);
void world_free(struct world *world);

/* Runs one turn of a random listed actor. False: none is listed. */
bool world_turn(struct world *world);

#endif
