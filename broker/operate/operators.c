/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/operators.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "operate/announce.h"

#define DAY_MS UINT64_C(86400000)

/* Gives each module what it uses, and nothing else of what the layer was given. The order is that
 * of who asks whom. */

static void fill_pulse(struct pulse *pulse, const struct operators_options *options)
{
    *pulse = (struct pulse){
        .net = options->net,
        .scheduler = options->scheduler,
        .committer = options->committer,
        .clock = options->clock,
        .env = options->env,
        .io_count = options->io_count,
        .worker_count = options->worker_count,
    };
    memcpy(pulse->beats, options->beats, sizeof(pulse->beats));
}

static int open_reload(struct operators *operators, const struct operators_options *options,
                       char *error)
{
    const struct reload_options reload = {
        .config = options->config,
        .passed = options->passed,
        .env = options->env,
        .log = options->log,
        .net = options->net,
        .admission = options->admission,
        .webhook = options->webhook,
        .limits = options->limits,
        .link_token = &options->settings->link_token,
        .room_classes = &options->settings->room_classes,
        .certificate = &operators->certificate,
    };
    return reload_open(&operators->reload, &reload, error);
}

static void fill_leave(struct operators *operators, const struct operators_options *options)
{
    operators->leave = (struct leave){
        .goodbye = {options->registry, options->scheduler, options->env, options->limits},
        .net = options->net,
        .reload = operators->reload,
        .log = options->log,
        .goaways = &options->counters->goaways,
    };
}

static void fill_succession(struct operators *operators, const struct operators_options *options)
{
    succession_init(&operators->succession);
    operators->succession.leave = &operators->leave;
    operators->succession.hand_over = options->hand_over;
    operators->succession.context = options->successor;
}

static struct past past_of(const struct operators_options *options)
{
    return (struct past){options->store, options->env, options->config->history_days * DAY_MS};
}

static void fill_askers(struct operators *operators, const struct operators_options *options)
{
    operators->signals = (struct signals){
        .net = options->net,
        .log = options->log,
        .leave = &operators->leave,
        .reload = operators->reload,
        .pulse = &operators->pulse,
        .certificate = &operators->certificate,
        .succession = &operators->succession,
    };
    operators->commands = (struct link_commands){
        .settings = options->settings,
        .log = options->log,
        .metrics = options->metrics,
        .store = options->store,
        .registry = options->registry,
        .follow = &operators->follow,
        .leave = &operators->leave,
        .succession = &operators->succession,
        .reload = operators->reload,
        .past = past_of(options),
    };
}

static struct health health_of(const struct operators *operators,
                               const struct operators_options *options)
{
    return (struct health){
        .net = options->net,
        .registry = options->registry,
        .committer = options->committer,
        .admission = options->admission,
        .webhook = options->webhook,
        .counters = options->counters,
        .env = options->env,
        .limits = options->limits,
        .store_path = options->config->store_path,
        .certificate = &operators->certificate,
        .leave = &operators->leave,
        .pulse = &operators->pulse,
        .reload = operators->reload,
    };
}

static int open_http(struct operators *operators, const struct operators_options *options)
{
    const struct http_options http = {
        .config = options->config,
        .env = options->env,
        .log = options->log,
        .metrics = options->metrics,
        .block = options->metrics_block,
        .limits = options->limits,
        .node_boot = options->settings->node_boot,
        .store = options->store,
        .stored = options->stored,
        .registry = options->registry,
        .scheduler = options->scheduler,
        .passage = options->passage,
        .services = options->services,
        .room_classes = &options->settings->room_classes,
        .instances_max = options->instances_max,
        .net = options->net,
        .bounce = options->bounce,
        .context = options->context,
        .follow = &operators->follow,
        .leave = &operators->leave,
        .reload = operators->reload,
        .past = past_of(options),
        .health = health_of(operators, options),
    };
    return http_open(&operators->http, &http);
}

static int open_backends(struct operators *operators, const struct operators_options *options)
{
    const struct backends_options backends = {
        .config = options->config,
        .env = options->env,
        .log = options->log,
        .metrics = options->metrics,
        .block = options->metrics_block,
        .limits = options->limits,
        .counters = options->counters,
        .registry = options->registry,
        .scheduler = options->scheduler,
        .passage = options->passage,
        .behaviour = options->http_behaviour,
    };
    return backends_open(&operators->backends, &backends);
}

int operators_open(struct operators **out, const struct operators_options *options, char *error)
{
    CHECK(options->net != NULL && options->committer != NULL && options->clock != NULL);
    struct operators *operators = *out = calloc(1, sizeof(*operators));
    if (operators == NULL)
        return -ENOMEM;
    operators->config = options->config;
    operators->net = options->net;
    operators->log = options->log;
    operators->certificate = (struct certificate){
        .net = options->net, .env = options->env, .log = options->log, .lock = LOCK_INITIALIZER};
    operators->follow = (struct follow){options->registry, options->scheduler, options->passage,
                                        options->traces,   options->env,       options->log};
    fill_pulse(&operators->pulse, options);
    int failed = open_reload(operators, options, error);
    fill_leave(operators, options);
    fill_succession(operators, options);
    fill_askers(operators, options);
    failed = failed != 0 ? failed : open_http(operators, options);
    return failed != 0 ? failed : open_backends(operators, options);
}

int operators_listen(struct operators *operators, char *error)
{
    int failed = http_listen(operators->http, error);
    return failed != 0 ? failed : backends_listen(operators->backends, error);
}

void operators_join_link(struct operators *operators, struct link *link)
{
    atomic_store_explicit(&operators->commands.link, link, memory_order_release);
    http_join_link(operators->http, link);
}

int operators_start(struct operators *operators, char *error)
{
    int failed = http_start(operators->http, error);
    return failed != 0 ? failed : backends_start(operators->backends, error);
}

void operators_announce(struct operators *operators)
{
    const struct announce announce = {operators->net, operators->config, operators->log,
                                      http_port(operators->http),
                                      backends_port(operators->backends)};
    announce_all(&announce);
    certificate_tell(&operators->certificate, true);
    reload_tell_odd(operators->reload);
}

void operators_stop(struct operators *operators)
{
    if (operators == NULL)
        return;
    backends_stop(operators->backends);
    http_stop(operators->http);
}

void operators_close(struct operators *operators)
{
    if (operators == NULL)
        return;
    backends_close(operators->backends);
    http_close(operators->http);
    reload_close(operators->reload);
    lock_destroy(&operators->certificate.lock);
    free(operators);
}
