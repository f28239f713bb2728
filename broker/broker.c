/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/broker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/parts.h"
#include "door/admission.h"
#include "operate/connections.h"
#include "operate/operators.h"
#include "operate/presence_json.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "persist/restore.h"
#include "persist/save.h"
#include "process/await.h"
#include "process/failure.h"
#include "process/notify.h"
#include "webhook/webhook.h"

/* The composition root: makes the parts, wires them, starts and stops them in order.
 *
 * Up: store, actors, services, committer, clock, queries; then the sessions are restored while no
 * other thread runs; then the listeners are opened, and last the threads that bring work. Down is
 * the reverse: no new work, everybody is told, what they caused is committed, then the threads
 * that bring work, the workers, the store. A start that fails half-way takes down what it has. */

/* In which a slow phone has done what is next, its handshake or its Login: before that it goes for
 * no newcomer. */
enum { STRANGER_AGE_MS = 1000 };

/* For how long a stop tells the webhook what it has caused itself. */
enum { WEBHOOK_STOP_MS = 2000 };

/* For how long the end of the process before this one is waited for, at first. */
enum { END_MS = 5000 };

#define DAY_MS UINT64_C(86400000)

int broker_open_net(struct broker *broker, char *error)
{
    const struct options *options = broker->options;
    struct net_options net = {
        .tls_certificate_file = options->tls_certificate_file,
        .tls_key_file = options->tls_key_file,
        .tls_client_ca_file = options->tls_client_ca_file,
        .ws_path = options->ws_path,
        .ws_origins = (const char *const *)options->ws_origins.items,
        .ws_origins_count = options->ws_origins.count,
        .ws_strict = options->auth_mode == AUTH_MODE_OPEN,
        .reactors = broker->counts.io,
        .limits = &broker->limits,
        .connections_max = connections_max(options),
        .unbound_age_ms = STRANGER_AGE_MS,
        .silence_ms = ingress_silence_ms(options),
        .env = broker->env,
        .log = broker->log,
        .metrics = broker->metrics,
    };
    for (unsigned i = 0; i < net.reactors; i++)
        net.threads[i] = &broker->threads[i];
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        net.listen[kind] =
            (struct net_listen){options_listen(options, kind), broker->passed.fds[kind]};
    struct net *made = NULL;
    const struct net_events events = ingress_net_events(&broker->ingress);
    int failed = net_open(&made, &net, &events, error);
    broker_join_net(broker, made);
    return failed;
}

static int open_net(void *context, char *error)
{
    return broker_open_net(context, error);
}

static int open_admin(void *context, char *error)
{
    return operators_listen(((struct broker *)context)->operators, error);
}

static int open_feed(void *context, char *error)
{
    struct broker *broker = context;
    const struct options *options = broker->options;
    struct egress *egress = &broker->egress;
    unsigned subscribers = (unsigned)connections_of_link(options) / LINK_FILES_PART;
    return options->feed_url[0] != '\0'
               ? feed_open(&egress->feed, options->feed_url, subscribers, egress->metrics, error)
               : 0;
}

static int open_link(void *context, char *error)
{
    struct broker *broker = context;
    struct egress *egress = &broker->egress;
    static const unsigned modes[] = {0600, 0660, 0666}; /* in the order of the option's words */
    const struct options *options = broker->options;
    struct link_options link = {
        .url_count = options->link_urls.count,
        .socket_mode = modes[options->link_socket_mode],
        .socket_group = options->link_socket_group,
        .frame_bytes_max = (size_t)options->link_frame_bytes,
        .contexts = (unsigned)options->link_contexts,
        .strangers = (unsigned)options->link_contexts / LINK_STRANGERS_PART,
        .files = (unsigned)connections_of_link(options),
        .feed = egress->feed,
        .log = broker->log,
        .metrics = egress->metrics,
    };
    for (size_t i = 0; i < link.url_count; i++)
        link.urls[i] = options->link_urls.items[i];
    const struct link_events events = ingress_link_events(&broker->ingress);
    int failed = link_open(&egress->link, &link, &events, error);
    operators_join_link(broker->operators, egress->link);
    return failed;
}

static int open_store(struct store **store, const struct options *options, int lock,
                      struct log *log, char *error)
{
    struct store_options store_options = {
        .path = options->store_path,
        .map_bytes_max = options->store_map_bytes,
        .events_kept_max = options->store_events_kept,
        .history_max = options->history_events,
        .history_age_ms = options->history_days * DAY_MS,
        .lock = lock,
    };
    int failed = store_open_lmdb(store, &store_options, error);
    failed =
        failure_of_disk(options->store_path, failed, "open the store", error, BROKER_ERROR_BYTES);
    if (failed == 0 && store_upgraded_from(*store) != NULL)
        LOG(log, STORE_UPGRADED, LOG_S("path", options->store_path),
            LOG_S("from", store_upgraded_from(*store)));
    return failed;
}

static void keep_cursor(void *context, uint64_t seq)
{
    committer_keep(((struct broker *)context)->committer, seq);
}

static int open_webhook(struct broker *broker)
{
    const struct webhook_options webhook = {
        .store = broker->store,
        .env = broker->env,
        .limits = &broker->limits,
        .log = broker->log,
        .metrics = broker->metrics,
        .block = thread_place(broker->counts, ROLE_OTHERS),
        .settings = &broker->settings,
        .agent = "usher/" USHER_VERSION,
        .presence_last = &broker->counters.presence_last,
        .event = presence_json,
        .keep = keep_cursor,
        .context = broker,
    };
    int failed = webhook_open(&broker->webhook, &webhook);
    broker->egress.webhook = broker->webhook;
    return failed;
}

static bool operate(void *context, const Usher__V1__Command *command, size_t room,
                    struct buffer *out)
{
    struct operators *operators = ((struct broker *)context)->operators;
    return link_commands_answer(&operators->commands, command, room, out);
}

static int open_operators(struct broker *broker, char *error)
{
    struct egress *egress = &broker->egress;
    const struct thread_counts counts = broker->counts;
    struct operators_options operators = {
        .config = broker->options,
        .passed = &broker->passed,
        .env = egress->env,
        .log = broker->log,
        .metrics = egress->metrics,
        .traces = broker->traces,
        .store = broker->store,
        .stored = broker->stored,
        .registry = egress->registry,
        .scheduler = egress->scheduler,
        .passage = &broker->passage,
        .net = egress->net,
        .admission = broker->admission,
        .webhook = broker->webhook,
        .committer = egress->committer,
        .services = egress->services,
        .clock = egress->clock,
        .limits = &broker->limits, /* a reload writes them */
        .settings = &broker->settings,
        .counters = &broker->counters,
        .instances_max = broker_instances_max(broker),
        .io_count = counts.io,
        .worker_count = counts.workers,
        .metrics_block = thread_place(counts, ROLE_OTHERS),
        .bounce = egress_bounce,
        .context = egress,
        .http_behaviour = &http_behaviour,
        .hand_over = broker_succeed,
        .successor = broker,
    };
    const unsigned last = thread_place(counts, ROLE_COMMITTER);
    CHECK(last < PULSE_THREADS_MAX); /* by the ranges in options.def */
    for (unsigned i = 0; i <= last; i++)
        operators.beats[i] = &broker->threads[i].beats;
    int failed = operators_open(&broker->operators, &operators, error);
    if (failed == 0 && broker->operators->backends != NULL)
        egress->http =
            (struct egress_http){backends_answer, backends_stored, broker->operators->backends};
    return failed;
}

/* Those that bring work come last. */
static int start_threads(struct broker *broker, char *error)
{
    const struct egress *egress = &broker->egress;
    int failed = committer_start(egress->committer);
    if (failed == 0)
        failed = webhook_start(broker->webhook);
    if (failed == 0)
        failed = clock_start(egress->clock);
    if (failed == 0)
        failed = queries_start(egress->queries);
    if (failed == 0 && broker->admission != NULL)
        failed = admission_start(broker->admission);
    if (failed == 0)
        failed = scheduler_start(egress->scheduler, broker->counts.workers, kinds_prepare_worker);
    if (failed == 0)
        failed = net_start(egress->net);
    if (failed == 0)
        guest_turns_set_open(&broker->ingress.guest_turns, true);
    return failed;
}

/* What is open for operators and backends. */
static int open_doors(struct broker *broker, struct await *await, char *error)
{
    int failed = link_check_threads(error);
    if (failed == 0)
        failed = await_address(await, open_feed, broker, error);
    if (failed == 0)
        failed = await_address(await, open_link, broker, error);
    return failed;
}

static int restore(struct broker *broker, char *error)
{
    return failure_of_disk(broker->options->store_path, restore_sessions(&broker->survivors, error),
                           "restore the sessions", error, BROKER_ERROR_BYTES);
}

/* From what the store has. */
static int begin_anew(struct broker *broker, struct await *await, char *error)
{
    int failed = open_operators(broker, error);
    if (failed == 0)
        failed = await_address(await, open_admin, broker, error);
    if (failed == 0)
        failed = restore(broker, error);
    if (failed == 0)
        failed = open_doors(broker, await, error);
    if (failed == 0)
        failed = start_threads(broker, error);
    return failed;
}

/* From what the process before has. Its clients are served first: its other addresses are free when
 * it has gone. */
static int go_on(struct broker *broker, struct await *await, char *error)
{
    int failed = broker_take(broker, error);
    if (failed == 0)
        failed = open_operators(broker, error);
    if (failed == 0)
        failed = broker_confirm(broker, error);
    if (failed == 0)
        failed = start_threads(broker, error);
    if (failed == 0) /* if it takes longer, its addresses are waited for */
        (void)handover_await_end(broker->handover, env_monotonic_ms(env_system()) + END_MS);
    if (failed == 0)
        failed = await_address(await, open_admin, broker, error);
    if (failed == 0)
        failed = open_doors(broker, await, error);
    return failed;
}

/* The sockets of listeners come from the process before, or from who has started this one. */
static int take_sockets(struct broker *broker, char *error)
{
    if (broker->handover == NULL)
        return activation_take(&broker->passed, broker->options, error);
    broker->passed = broker->gifts.listeners;
    return 0;
}

static int set_up(struct broker *broker, const struct options *options, struct log *log,
                  char *error)
{
    struct store *store;
    struct await await = {env_system(), log, options->listen_wait_ms, 0};
    broker->operate = operate;
    awake_init(&broker->awake, env_system());
    int failed =
        broker->handover != NULL ? upgrade_take_gifts(broker->handover, &broker->gifts, error) : 0;
    if (failed == 0)
        failed = open_store(&store, options, broker->gifts.lock, log, error);
    if (broker->gifts.lock != 0)
        close(broker->gifts.lock); /* the store has a copy */
    if (failed == 0)
        failed = broker_assemble(broker, options, &broker->awake.env, log, store);
    if (failed == 0)
        failed = take_sockets(broker, error);
    if (failed == 0)
        connections_warn(options, log);
    if (failed == 0)
        failed = await_address(&await, open_net, broker, error);
    if (failed == 0)
        failed = open_webhook(broker);
    if (failed == 0)
        failed = broker->handover != NULL ? go_on(broker, &await, error)
                                          : begin_anew(broker, &await, error);
    return failed == 0 ? operators_start(broker->operators, error) : failed;
}

/* Nobody runs a turn afterwards. */
static void halt(struct broker *broker)
{
    struct net *net = broker->egress.net;
    operators_stop(broker->operators);
    if (net != NULL)
        net_stop(net);
    if (broker->ingress.guest_turns.runner != NULL)
        guest_turns_set_open(&broker->ingress.guest_turns, false);
    if (broker->webhook != NULL)
        webhook_stop(broker->webhook, 0);
    broker_halt(broker);
}

static void take_down(struct broker *broker)
{
    const struct egress edges = broker->egress;
    if (edges.link != NULL)
        link_close(edges.link);
    webhook_close(broker->webhook);
    broker_dismantle(broker);
    if (edges.net != NULL)
        net_close(edges.net);
    if (edges.feed != NULL)
        feed_close(edges.feed);
    operators_close(broker->operators);
    awake_fini(&broker->awake);
    free(broker);
}

int broker_start(struct broker **out, const struct options *options, struct log *log,
                 struct handover *handover, char *error)
{
    struct broker *broker = calloc(1, sizeof(*broker));
    error[0] = '\0';
    if (broker == NULL) {
        snprintf(error, BROKER_ERROR_BYTES, "no memory");
        return EXIT_RESOURCES;
    }
    broker->handover = handover;
    int failed = set_up(broker, options, log, error);
    if (failed != 0) {
        if (error[0] == '\0')
            snprintf(error, BROKER_ERROR_BYTES, "cannot start: %s", strerror(-failed));
        failure_advise(failed, error, BROKER_ERROR_BYTES);
        halt(broker);
        take_down(broker);
        return failure_code(failed);
    }
    handover_close(handover);
    broker->handover = NULL;
    operators_announce(broker->operators);
    *out = broker;
    return 0;
}

void broker_remember(struct broker *broker, int argc, char **argv)
{
    reload_remember(broker->operators->reload, argc, argv);
    broker->arguments = argv;
}

void broker_keep_sockets(const struct broker *broker, struct kept_sockets *kept)
{
    activation_keep(kept, &broker->passed);
}

bool broker_serve(struct broker *broker, const sigset_t *set, const char *recorder_path)
{
    return signals_serve(&broker->operators->signals, set, recorder_path);
}

/* A disk that is slow may take its time, one that does nothing may not: the manager's patience
 * begins anew with each transaction. */
static void tell_saved(uint64_t sessions)
{
    notify_manager("EXTEND_TIMEOUT_USEC=%u%s\nSTATUS=stopping, inboxes of %" PRIu64
                   " sessions saved",
                   NOTIFY_EXTEND_US, notify_watchdog_ms() != 0 ? "\nWATCHDOG=1" : "", sessions);
}

int broker_stop(struct broker *broker)
{
    leave_stop(&broker->operators->leave);
    committer_drain(broker->committer);
    webhook_stop(broker->webhook, WEBHOOK_STOP_MS);
    halt(broker);
    uint64_t lost = save_inboxes(&broker->survivors, tell_saved);
    LOG(broker->log, STOPPED, LOG_U("presence_last", atomic_load(&broker->counters.presence_last)));
    take_down(broker);
    return lost == 0 ? 0 : EXIT_UNSAVED;
}
