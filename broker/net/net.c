/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/forwarded.h"
#include "net/private.h"

/* The front end as a whole: opened, started, limited, stopped, closed. Nothing is accepted and no
 * thread runs before net_start, so a start that fails half-way takes down what it has alone. */

int net_open(struct net **out, const struct net_options *options, const struct net_events *events,
             char *error)
{
    struct net *net = calloc(1, sizeof(*net));
    if (net == NULL)
        return -ENOMEM;
    /* A frame of the largest size has room with what its codec puts round it; by the ranges. */
    CHECK(output_max(options->limits) >=
          limits_frame_bytes(options->limits) + codec_overhead_bytes());
    net->options = *options;
    net->events = *events;
    net->slots_max = options->connections_max + CHUNK_CONNS;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        net->listeners[kind].fd = -1;
    net->ws = (struct ws_site){
        .path = options->ws_path != NULL ? options->ws_path : "",
        .origins = options->ws_origins,
        .origins_count = options->ws_origins_count,
        .open = options->ws_strict,
        .limits = options->limits,
    };
    net->site.ws = &net->ws;
    lock_init(&net->trust_lock);
    net->sources = sources_create(options->limits, options->env);
    int failed = net->sources != NULL ? listener_open(net, error) : -ENOMEM;
    unsigned opened = 0;
    while (failed == 0 && opened < options->reactors) {
        failed = reactor_open(net, opened++);
        if (failed != 0)
            snprintf(error, 256, "cannot start an I/O thread: %s", strerror(-failed));
    }
    if (failed != 0) {
        net->options.reactors = opened;
        net_close(net);
        return failed;
    }
    *out = net;
    return 0;
}

int net_start(struct net *net)
{
    CHECK(net->started == 0);
    int error = listener_watch(&net->reactors[0]);
    for (unsigned i = 0; error == 0 && i < net->options.reactors; i++) {
        error = -pthread_create(&net->reactors[i].pthread, NULL, reactor_run, &net->reactors[i]);
        if (error == 0)
            net->started++;
    }
    return error;
}

void net_set_trust(struct net *net, const struct net_trust *trust)
{
    lock_take(&net->trust_lock);
    net->trust = *trust;
    lock_give(&net->trust_lock);
}

bool net_trusts(struct net *net, const struct prefixes *list, const struct sockaddr_storage *from)
{
    lock_take(&net->trust_lock);
    bool held = prefixes_hold(list, (const struct sockaddr *)from);
    lock_give(&net->trust_lock);
    return held;
}

bool net_forwarded(struct net *net, struct bytes values, struct sockaddr_storage *address)
{
    lock_take(&net->trust_lock);
    bool found = forwarded_address(values, &net->trust.forwarders, address);
    lock_give(&net->trust_lock);
    return found;
}

uint16_t net_port(const struct net *net, enum listener_kind kind)
{
    return net->listeners[kind].port;
}

void net_listen_address(const struct net *net, enum listener_kind kind,
                        char text[NET_ADDRESS_BYTES_MAX])
{
    memcpy(text, net->listeners[kind].address, sizeof(net->listeners[kind].address));
}

int net_reload_tls(struct net *net, const struct net_tls_files *files, char *error)
{
    const struct tls_files names = {
        .certificate = files->certificate, .key = files->key, .client_ca = files->client_ca};
    error[0] = '\0';
    return net->site.tls != NULL ? tls_domain_reload(net->site.tls, &names, error) : -ENOTSUP;
}

bool net_certificate_validity(struct net *net, struct net_validity *validity)
{
    if (net->site.tls == NULL)
        return false;
    struct tls_validity found = tls_domain_validity(net->site.tls);
    *validity = (struct net_validity){found.begins_s, found.ends_s, found.life_s};
    return true;
}

bool net_has_certificate(const struct net *net)
{
    return net->site.tls != NULL;
}

int net_check_tls(const struct net_tls_files *files, char *error)
{
    const struct tls_files names = {
        .certificate = files->certificate, .key = files->key, .client_ca = files->client_ca};
    struct tls_domain *domain = NULL;
    error[0] = '\0';
    int failed = tls_domain_open(&domain, &names, error);
    tls_domain_close(domain);
    return failed;
}

uint32_t net_count(struct net *net)
{
    return atomic_load_explicit(&net->open, memory_order_relaxed);
}

void net_drain(struct net *net)
{
    atomic_store_explicit(&net->ws.draining, true, memory_order_relaxed);
    atomic_store_explicit(&net->accept_off, true, memory_order_release);
    net_wake_all(net);
}

void net_stop_accepting(struct net *net)
{
    atomic_store_explicit(&net->answers_off, true, memory_order_relaxed);
    atomic_store_explicit(&net->accept_off, true, memory_order_release);
    net_wake_all(net);
}

void net_stop(struct net *net)
{
    atomic_store_explicit(&net->stopping, true, memory_order_seq_cst);
    net_wake_all(net);
    for (unsigned i = 0; i < net->started; i++)
        pthread_join(net->reactors[i].pthread, NULL);
    net->started = 0;
}

void net_close(struct net *net)
{
    CHECK(net->started == 0);
    net->options.metrics = NULL;
    net->options.log = NULL;
    for (unsigned i = 0; i < net->options.reactors; i++)
        reactor_close(&net->reactors[i]);
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        if (net->listeners[kind].fd >= 0)
            close(net->listeners[kind].fd);
    tls_domain_close(net->site.tls);
    sources_destroy(net->sources);
    lock_destroy(&net->trust_lock);
    free(net);
}
