/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/source.h"
#include "base/wait.h"
#include "door/admission.h"
#include "door/private.h"

/* Who checks credentials, so that no I/O thread does: a signature costs as much as thousands of
 * messages, and strangers choose how many there are.
 *
 * A job goes from the I/O thread into the one bounded queue, is judged by one of the admission
 * threads, and comes back through the mailbox of the I/O thread that it came from, which alone may
 * touch its connection, still unbound then (lobby.c). The pushing thread that finds that mailbox
 * idle wakes it. A connection that ends meanwhile drops its pointer to the job, so the verdict
 * finds nobody; the job is freed there in any case.
 *
 * Addresses whose logins fail too often are refused before their token is looked at: once when the
 * job is submitted, and once more before it is judged, since many may have been submitted before
 * the first failed. Good logins are never counted.
 *
 * A job that nobody waits for any more is judged all the same, since it may have been asked about.
 * So who leaves gives up his place among those who have not logged in, and his job keeps one of its
 * own: of a source no more jobs wait than it may have connections there (docs/decisions/0086).
 *
 * With auth.mode service a backend judges instead (door/admission_ask.c), with auth.mode http
 * somebody who is asked by HTTP (door/admission_http.c), on one thread; queue, limits and the way
 * back are the same.
 *
 * The lock is a leaf and held for moments: nothing is verified under it. The keyring is taken
 * under it and held by its own count while it is used, so new keys wait for nobody. */

/* --- jobs ------------------------------------------------------------------------------------- */

struct login_job *admission_job_create(unsigned home, struct attach_message *attach,
                                       struct bytes token)
{
    struct login_job *job = message_create(0, sizeof(*job) + token.size);
    if (job == NULL)
        return NULL;
    message_count_as(&job->header, MEMORY_OF_LOGINS);
    job->home = home;
    job->attach = attach;
    job->refusal = TOKEN_GOOD;
    job->retry_after_ms = 0;
    job->shares = job->asked_shares = 0;
    job->call = job->due_ms = 0;
    job->rooms = job->detail = NULL;
    job->admission = NULL;
    job->token_size = (uint32_t)token.size;
    if (token.size > 0)
        memcpy(job->token, token.data, token.size);
    return job;
}

void admission_job_destroy(struct login_job *job)
{
    if (job->attach != NULL)
        message_destroy(&job->attach->header);
    free(job->rooms);
    free(job->detail);
    explicit_bzero(job->token, job->token_size);
    message_destroy(&job->header);
}

/* Gives how many. */
static uint64_t destroy_all(struct message *jobs)
{
    uint64_t count = 0;
    for (; jobs != NULL; count++) {
        struct message *next = jobs->next;
        admission_job_destroy((struct login_job *)jobs);
        jobs = next;
    }
    return count;
}

static uint32_t wait_ms(struct admission *admission, const struct login_job *job)
{
    CHECK(lock_held(&admission->lock));
    return failures_wait_ms(admission->failures, bytes_of_text(job->attach->address),
                            env_monotonic_ms(admission->options.env));
}

static unsigned source_keys(const struct admission *admission, const struct login_job *job,
                            uint64_t keys[SOURCE_STEPS])
{
    struct bytes address = bytes_of_text(job->attach->address);
    unsigned count = source_steps(source_of_text(address.data, address.size), keys);
    for (unsigned step = 0; step < count; step++)
        keys[step] = hash_keyed(admission->source_key, &keys[step], sizeof(keys[step]));
    return count;
}

/* `steps` is how many the job holds of those shares. */
static void give_shares(struct admission *admission, struct shares *shares,
                        const struct login_job *job, unsigned *steps)
{
    uint64_t keys[SOURCE_STEPS];
    CHECK(lock_held(&admission->lock));
    unsigned count = *steps > 0 ? source_keys(admission, job, keys) : 0;
    CHECK(*steps <= count);
    while (*steps > 0)
        shares_give(shares, keys[--*steps]);
}

/* False: of its source, or a wider one, there are as many as may be: `max`, and of a wider one more
 * than that, but not more than `most`. */
static bool take_shares(struct admission *admission, struct shares *shares,
                        const struct login_job *job, unsigned *steps, uint32_t max, uint32_t most)
{
    uint64_t keys[SOURCE_STEPS];
    CHECK(lock_held(&admission->lock) && *steps == 0);
    unsigned count = source_keys(admission, job, keys);
    while (*steps < count) {
        uint32_t allowed = source_allowed(max, *steps);
        if (shares_take(shares, keys[*steps], allowed < most ? allowed : most) != 0) {
            give_shares(admission, shares, job, steps);
            return false;
        }
        ++*steps;
    }
    return true;
}

static bool may_wait(struct admission *admission, struct login_job *job)
{
    uint32_t max = limits_prelogin_per_source(admission->options.limits);
    return max == 0 ||
           take_shares(admission, &admission->sources, job, &job->shares, max, UINT32_MAX);
}

/* Whoever has something to do sleeps by the condition, or in libcurl. */
static void wake(struct admission *admission)
{
    if (admission->web != NULL)
        web_client_wake(admission->web);
    else
        pthread_cond_signal(&admission->more);
}

int admission_submit(struct admission *admission, struct login_job *job)
{
    int error = 0;
    CHECK(job->home < admission->options.homes && job->attach != NULL);
    lock_take(&admission->lock);
    job->retry_after_ms = wait_ms(admission, job);
    if (job->retry_after_ms != 0) {
        error = -EAGAIN;
    } else if (admission->waiting >= limits_logins_waiting(admission->options.limits)) {
        error = -EBUSY;
    } else if (!may_wait(admission, job)) {
        error = -EDQUOT;
    } else {
        job->due_ms =
            env_monotonic_ms(admission->options.env) + auth_deadline_ms(admission->options.limits);
        message_append(&admission->jobs, &job->header);
        admission->waiting++;
    }
    lock_give(&admission->lock);
    if (error == 0)
        wake(admission);
    return error;
}

/* --- judging ---------------------------------------------------------------------------------- */

struct login_job *admission_take_job(struct admission *admission, struct keyring **keyring)
{
    lock_take(&admission->lock);
    struct login_job *job = (struct login_job *)message_take(&admission->jobs);
    if (job != NULL) {
        job->retry_after_ms = wait_ms(admission, job);
        *keyring = admission->keyring != NULL ? keyring_acquire(admission->keyring) : NULL;
    }
    lock_give(&admission->lock);
    return job;
}

/* A quarter of the connections, and half of them for a whole network. */
static bool may_be_asked(struct admission *admission, struct login_job *job)
{
    uint32_t all = (uint32_t)admission->options.options->auth_http_connections;
    return limits_prelogin_per_source(admission->options.limits) == 0 ||
           take_shares(admission, &admission->asked_sources, job, &job->asked_shares,
                       all >= 4 ? all / 4 : 1, all >= 2 ? all / 2 : 1);
}

struct login_job *admission_take_fair(struct admission *admission)
{
    struct message *before = NULL;
    struct login_job *job = NULL;
    lock_take(&admission->lock);
    struct message *next = admission->jobs.first;
    for (unsigned looked = 0; next != NULL && looked < ADMISSION_LOOKS_MAX; looked++) {
        if (may_be_asked(admission, (struct login_job *)next)) {
            job = (struct login_job *)message_take_behind(&admission->jobs, before);
            job->retry_after_ms = wait_ms(admission, job);
            break;
        }
        before = next;
        next = next->next;
    }
    lock_give(&admission->lock);
    return job;
}

/* What tells something about who tried. */
static bool is_failure(enum token_refusal refusal)
{
    return refusal != TOKEN_GOOD && refusal != TOKEN_LIMITED && refusal != TOKEN_UNAVAILABLE;
}

void admission_decide(struct admission *admission, struct login_job *job,
                      enum token_refusal refusal)
{
    job->refusal = refusal;
    lock_take(&admission->lock);
    CHECK(admission->waiting > 0);
    admission->waiting--;
    give_shares(admission, &admission->sources, job, &job->shares);
    give_shares(admission, &admission->asked_sources, job, &job->asked_shares);
    if (is_failure(refusal))
        failures_note(admission->failures, bytes_of_text(job->attach->address),
                      env_monotonic_ms(admission->options.env));
    lock_give(&admission->lock);
    /* After the push the job is the I/O thread's. */
    uint64_t conn = job->attach->conn;
    if (mailbox_push(admission_verdicts(admission, job->home), &job->header))
        admission->options.wake(admission->options.context, conn);
}

struct mailbox *admission_verdicts(struct admission *admission, unsigned home)
{
    CHECK(home < admission->options.homes);
    return &admission->verdicts[home];
}

void admission_set_rooms(struct login_job *job, const char *rooms)
{
    CHECK(job->rooms == NULL);
    if (rooms[0] != '\0')
        MEMORY_MUST((job->rooms = strdup(rooms)) != NULL, "a login");
}

static enum token_refusal judge(struct admission *admission, const struct keyring *keyring,
                                struct login_job *job)
{
    struct token_claims claims;
    char *user = job->attach->user;
    enum token_refusal refusal =
        token_verify(keyring, &admission->rules, (struct bytes){job->token, job->token_size},
                     env_wall_ms(admission->options.env), &claims);
    if (refusal != TOKEN_GOOD)
        return refusal;
    if (user[0] != '\0' && strcmp(user, claims.user) != 0)
        return TOKEN_NAME;
    memcpy(user, claims.user, sizeof(claims.user));
    job->attach->token_ends_ms = claims.expires_ms + admission->rules.skew_ms;
    admission_set_rooms(job, claims.rooms);
    return TOKEN_GOOD;
}

bool admission_step(struct admission *admission)
{
    struct keyring *keyring = NULL;
    if (admission->web != NULL)
        return admission_http_step(admission);
    if (admission_give_up_late(admission))
        return true;
    struct login_job *job = admission_take_job(admission, &keyring);
    if (job == NULL)
        return false;
    if (job->retry_after_ms != 0)
        admission_decide(admission, job, TOKEN_LIMITED);
    else if (admission->actor != 0)
        admission_ask(admission, job);
    else
        admission_decide(admission, job, judge(admission, keyring, job));
    keyring_release(keyring);
    return true;
}

/* Until there is a job, or one that was asked about is late. */
static void wait_for_work(struct admission *admission)
{
    struct timespec until;
    CHECK(lock_held(&admission->lock));
    const struct login_job *asked = (const struct login_job *)admission->asked.first;
    if (asked == NULL) {
        lock_wait(&admission->lock, &admission->more);
        return;
    }
    until = env_until(admission->options.env, asked->due_ms);
    lock_wait_until(&admission->lock, &admission->more, &until);
}

static void *run(void *argument)
{
    struct admission *admission = argument;
    bool open = true;
    while (open) {
        if (admission_step(admission))
            continue;
        lock_take(&admission->lock);
        if (admission->jobs.first == NULL && !admission->closing)
            wait_for_work(admission);
        open = !admission->closing;
        lock_give(&admission->lock);
    }
    return NULL;
}

void admission_set_keys(struct admission *admission, struct keyring *keyring)
{
    lock_take(&admission->lock);
    struct keyring *old = admission->keyring;
    admission->keyring = keyring;
    lock_give(&admission->lock);
    keyring_release(old);
}

void admission_set_target(struct admission *admission, struct web_target *target)
{
    CHECK(admission->web != NULL);
    lock_take(&admission->lock);
    struct web_target *unused = admission->target;
    admission->target = target;
    lock_give(&admission->lock);
    web_target_destroy(unused);
    wake(admission);
}

uint64_t admission_count(struct admission *admission)
{
    lock_take(&admission->lock);
    uint64_t count = admission->waiting;
    lock_give(&admission->lock);
    return count;
}

void admission_count_keys(struct admission *admission, uint64_t *used, uint64_t *passed_over)
{
    lock_take(&admission->lock);
    const struct keyring *keyring = admission->keyring;
    *used = keyring != NULL ? keyring_count(keyring) : 0;
    *passed_over = keyring != NULL ? keyring_passed_count(keyring) : 0;
    lock_give(&admission->lock);
}

/* --- life ------------------------------------------------------------------------------------- */

/* It waits for points in the time that env_until tells. */
static void init_lock(struct admission *admission)
{
    lock_init(&admission->lock);
    wait_condition_init(&admission->more);
}

void admission_review(struct admission *admission)
{
    lock_take(&admission->lock);
    admission_hasten(admission);
    pthread_cond_signal(&admission->more); /* whoever sleeps until the deadline of before */
    lock_give(&admission->lock);
}

static int make_verdicts(struct admission *admission)
{
    admission->verdicts = calloc(admission->options.homes, sizeof(*admission->verdicts));
    for (unsigned i = 0; admission->verdicts != NULL && i < admission->options.homes; i++)
        mailbox_init(&admission->verdicts[i]);
    return admission->verdicts != NULL ? 0 : -ENOMEM;
}

static int make_failures(struct admission *admission)
{
    uint64_t key[2];
    env_random(admission->options.env, key, sizeof(key));
    env_random(admission->options.env, admission->source_key, sizeof(admission->source_key));
    admission->failures =
        failures_create(limits_failed_logins_per_source, admission->options.limits, key);
    return admission->failures != NULL ? 0 : -ENOMEM;
}

int admission_open(struct admission **out, const struct admission_options *given)
{
    const struct options *options = given->options;
    struct admission *admission = calloc(1, sizeof(*admission));
    if (admission == NULL)
        return -ENOMEM;
    admission->options = *given;
    admission->rules = (struct token_rules){.issuer = options->auth_issuer,
                                            .audience = options->auth_audience,
                                            .skew_ms = (uint32_t)options->auth_skew_ms};
    init_lock(admission);
    int error = make_verdicts(admission);
    if (error == 0)
        error = make_failures(admission);
    if (error == 0 && options->auth_mode == AUTH_MODE_SERVICE)
        error = admission_prepare_asking(admission);
    if (error == 0 && options->auth_mode == AUTH_MODE_HTTP)
        error = admission_prepare_http(admission);
    if (error == 0)
        *out = admission;
    else
        admission_close(admission);
    return error;
}

int admission_start(struct admission *admission)
{
    CHECK(admission->keyring != NULL || admission->actor != 0 || admission->web != NULL);
    CHECK(admission->started == 0);
    CHECK(threads_admission(admission->options.limits) <= ADMISSION_THREADS_MAX);
    bool by_http = admission->web != NULL;
    unsigned wanted = by_http ? 1 : (unsigned)threads_admission(admission->options.limits);
    int error = 0;
    while (error == 0 && admission->started < wanted) {
        error = pthread_create(&admission->pthreads[admission->started], NULL,
                               by_http ? admission_http_run : run, admission);
        admission->started += error == 0;
    }
    return -error;
}

void admission_close(struct admission *admission)
{
    lock_take(&admission->lock);
    admission->closing = true;
    lock_give(&admission->lock);
    pthread_cond_broadcast(&admission->more);
    if (admission->web != NULL)
        web_client_wake(admission->web);
    for (unsigned i = 0; i < admission->started; i++)
        pthread_join(admission->pthreads[i], NULL);
    if (admission->verdicts != NULL)
        web_client_close(admission->web); /* decides what is under way */
    web_target_destroy(admission->target);
    uint64_t undecided = destroy_all(admission->jobs.first) + destroy_all(admission->asked.first);
    CHECK(undecided == admission->waiting); /* no thread has one in its hands */
    for (unsigned i = 0; admission->verdicts != NULL && i < admission->options.homes; i++)
        if (!mailbox_is_idle(&admission->verdicts[i]))
            destroy_all(mailbox_take(&admission->verdicts[i]));
    free(admission->verdicts);
    shares_fini(&admission->sources);
    shares_fini(&admission->asked_sources);
    keyring_release(admission->keyring);
    failures_destroy(admission->failures);
    lock_destroy(&admission->lock);
    pthread_cond_destroy(&admission->more);
    free(admission);
}
