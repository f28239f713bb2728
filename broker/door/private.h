/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_PRIVATE_H
#define USHER_DOOR_PRIVATE_H

/* Private to admission.c (queue, threads, tokens), door/admission_ask.c (asking a service) and
 * door/admission_http.c (asking by HTTP). */

#include <pthread.h>

#include "actors/shares.h"
#include "base/lock.h"
#include "door/admission.h"
#include "identity/failures.h"
#include "web/client.h"

enum { ADMISSION_THREADS_MAX = 16 };

struct admission {
    struct admission_options options;
    struct token_rules rules;
    struct mailbox *verdicts; /* of each home */
    uint64_t source_key[2];
    actor_handle actor;     /* auth.mode service: what the answers are posted to; else 0 */
    struct web_client *web; /* auth.mode http: its thread's; else NULL */
    pthread_t pthreads[ADMISSION_THREADS_MAX];
    unsigned started;
    struct lock lock;
    pthread_cond_t more;
    /* under lock */
    struct message_list jobs;
    struct message_list asked;   /* about whom a service was asked, oldest first */
    uint64_t waiting;            /* jobs in both lists and in the threads' hands */
    struct shares sources;       /* of those jobs, by where they come from */
    struct shares asked_sources; /* auth.mode http: of those that are asked about */
    struct keyring *keyring;
    struct failures *failures;
    struct web_target *target; /* to be taken; NULL: none is new */
    bool closing;
};

/* The verdict on a job that is in no list; takes the job. Any thread. */
void admission_decide(struct admission *admission, struct login_job *job,
                      enum token_refusal refusal);

/* The oldest job, and the keys to judge it with, held; NULL: none. */
struct login_job *admission_take_job(struct admission *admission, struct keyring **keyring);

/* The oldest job whose source has less than its part of auth.http.connections, among so many; NULL:
 * none. */
enum { ADMISSION_LOOKS_MAX = 256 };
struct login_job *admission_take_fair(struct admission *admission);

/* It belongs to the login as that of a token does, and what is wrong with it is as bad there: the
 * moment until which a yes holds (0: none is said), whose clock is forgiven as much as a token's
 * issuer's; and the name, which the login may have left empty. */
enum token_refusal admission_read_end(const struct admission *admission, struct login_job *job,
                                      uint64_t token_ends_ms);
enum token_refusal admission_read_name(struct login_job *job, struct bytes name);

/* --- door/admission_http.c --- */

/* 0 or -ENOMEM. */
int admission_prepare_http(struct admission *admission);

/* Asks about one login, or gives up one that has waited too long. False: nothing was to be done. */
bool admission_http_step(struct admission *admission);

/* The one thread of this mode; the argument is the admission. */
void *admission_http_run(void *admission);

/* --- door/admission_ask.c --- */

/* Makes the actor. 0 or -ENOMEM. */
int admission_prepare_asking(struct admission *admission);

/* Asks the service; takes the job. */
void admission_ask(struct admission *admission, struct login_job *job);

/* Under the lock: a new auth.deadline_ms holds for those too about whom a service was asked
 * already, when it is less. */
void admission_hasten(struct admission *admission);

/* Gives up the oldest that was asked about, if its service is late. False: none is. */
bool admission_give_up_late(struct admission *admission);

#endif
