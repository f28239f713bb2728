/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_ADMISSION_H
#define USHER_DOOR_ADMISSION_H

/* Judges the credentials of Logins, on threads of its own. */

#include "broker/parts.h"

/* A Login whose credentials are looked at. While that lasts its connection is unbound, keeps a
 * pointer to it (net_keep), and reads nothing of it but attach->id. */
struct login_job {
    struct message header;
    struct thread *home;           /* the I/O thread of its connection */
    struct attach_message *attach; /* owned; posted when the verdict is good */
    enum token_refusal refusal;    /* the verdict */
    uint32_t retry_after_ms;       /* with TOKEN_LIMITED */
    unsigned shares; /* so many steps of its source count it (base/source.h), until the verdict */
    uint64_t call;   /* auth.mode service: what a backend was asked by */
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

#endif
