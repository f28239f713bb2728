/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_ADMISSION_H
#define USHER_DOOR_ADMISSION_H

/* Judges the credentials of Logins, on threads of its own. */

#include "actors/messages.h"
#include "base/env.h"
#include "config/config.h"
#include "identity/token.h"
#include "runtime/scheduler.h"

struct admission;
struct passage;
struct services;
struct web_target;

/* All that it points to outlives admission. */
struct admission_options {
    const struct options *options; /* auth.* */
    const struct limits *limits;
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
    unsigned block;
    unsigned homes; /* I/O threads: as many mailboxes for verdicts */
    /* The I/O thread of that connection begins a batch soon; any thread. */
    void (*wake)(void *context, uint64_t conn);
    /* --- auth.mode service: who is asked, and the actor that gets the answers */
    struct registry *registry;
    struct services *services;
    struct passage *passage;     /* of the calls to it */
    _Atomic uint64_t *call_last; /* the numbers of all calls */
    /* What comes to that actor and is not for it; takes it. */
    void (*bounce)(void *context, struct runner *runner, struct message *message);
    void *context;
};

/* A Login whose credentials are looked at. While that lasts its connection is unbound, keeps a
 * pointer to it (net_keep), and reads nothing of it but attach->id. */
struct login_job {
    struct message header;
    unsigned home;                 /* the index of its connection's I/O thread */
    struct attach_message *attach; /* owned; posted when the verdict is good */
    char *rooms;                   /* of the verdict, for attach_with_rooms; NULL: none */
    char *detail;                  /* what the client is told beside the refusal; NULL: nothing */
    enum token_refusal refusal;    /* the verdict */
    uint32_t retry_after_ms;       /* with TOKEN_LIMITED */
    unsigned shares; /* so many steps of its source count it (base/source.h), until the verdict */
    unsigned asked_shares;       /* auth.mode http: the same, among those who are asked about */
    struct admission *admission; /* auth.mode http: whose answer it waits for */
    uint64_t call;               /* auth.mode service: what a backend was asked by */
    uint64_t due_ms;
    uint32_t token_size;
    uint8_t token[];
};

/* Takes `attach` and copies the token. NULL without memory; then nothing is taken. */
struct login_job *admission_job_create(unsigned home, struct attach_message *attach,
                                       struct bytes token);

/* What its credentials say of rooms; "" is nothing. By whoever judges, once. */
void admission_set_rooms(struct login_job *job, const char *rooms);

/* Also frees `attach`, if it is still there. Leaves nothing of the token in memory. */
void admission_job_destroy(struct login_job *job);

/* 0 or -ENOMEM; then nothing is judged until it is started or stepped. With auth.mode token it
 * needs keys before that. */
int admission_open(struct admission **admission, const struct admission_options *options);

/* 0 or -errno. */
int admission_start(struct admission *admission);

/* The limits may have changed: a shorter auth.deadline_ms holds for those too who are being asked
 * about. Any thread. */
void admission_review(struct admission *admission);

/* Takes over a reference of the caller's: the keys for what is judged from now on. */
void admission_set_keys(struct admission *admission, struct keyring *keyring);

/* auth.mode http: whom logins are asked about at from now on. Takes it; any thread. */
void admission_set_target(struct admission *admission, struct web_target *target);

/* Of the keys in use; any thread. */
void admission_count_keys(struct admission *admission, uint64_t *used, uint64_t *passed_over);

/* Takes the job and gives 0; its verdict comes into its home's mailbox, and the I/O thread is woken
 * then. Otherwise the job is still the caller's: -EBUSY, too many wait; -EDQUOT, too
 * many of its source do; -EAGAIN, its address has failed too often, with job->retry_after_ms set.
 * Any thread; never blocks for long. */
int admission_submit(struct admission *admission, struct login_job *job);

/* How many have been submitted and are not judged; any thread. */
uint64_t admission_count(struct admission *admission);

/* Judges one login on the calling thread, or asks a service about it, or gives up one whose service
 * is late. False: nothing was to be done. */
bool admission_step(struct admission *admission);

/* The login_jobs that were judged, for that I/O thread alone to take. */
struct mailbox *admission_verdicts(struct admission *admission, unsigned home);

/* Joins its threads and frees every job, the verdicts that nobody took too: no I/O thread may be
 * left. */
void admission_close(struct admission *admission);

#endif
