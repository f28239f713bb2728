/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "admin/prometheus.h"

/* What the HTTP thread answers by itself: numbers and health. It asks the broker only what never
 * waits for the disk, so these answers come when they are needed most. */

static enum MHD_Result reply_metrics(struct admin *admin, struct MHD_Connection *connection)
{
    char *text = NULL;
    size_t size = 0;
    uint64_t readings[READING_COUNT] = {0};
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return MHD_NO;
    admin->options.read(admin->options.context, readings);
    prometheus_write(out, admin->options.metrics, readings, admin->options.node);
    process_write(admin->process_started, out);
    if (fclose(out) != 0) {
        free(text);
        return MHD_NO;
    }
    return reply_text(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text,
                      size);
}

static enum MHD_Result reply_stats(struct admin *admin, struct MHD_Connection *connection)
{
    uint64_t readings[READING_COUNT] = {0};
    json_t *json = json_object();
    admin->options.read(admin->options.context, readings);
    json_object_set_new(json, "now_ms", json_integer((json_int_t)env_wall_ms(admin->options.env)));
    prometheus_fill_stats(json, admin->options.metrics, readings);
    process_fill(admin->process_started, json_object_get(json, "counters"),
                 json_object_get(json, "gauges"));
    return reply_json(connection, MHD_HTTP_OK, json);
}

static bool all_good(const struct admin_check *checks, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!checks[i].ok)
            return false;
    return true;
}

static json_t *checks_json(const struct admin_check *checks, unsigned count)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < count; i++)
        json_array_append_new(array, json_pack("{s:s, s:b, s:s}", "name", checks[i].name, "ok",
                                               (int)checks[i].ok, "detail", checks[i].detail));
    return array;
}

static enum MHD_Result reply_alive(struct admin *admin, struct MHD_Connection *connection)
{
    struct admin_check checks[ADMIN_CHECKS_MAX];
    unsigned count = admin->options.alive(admin->options.context, checks);
    bool good = all_good(checks, count);
    return reply_json(
        connection, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
        json_pack("{s:b, s:o}", "alive", (int)good, "checks", checks_json(checks, count)));
}

static enum MHD_Result reply_ready(struct admin *admin, struct MHD_Connection *connection)
{
    struct admin_check checks[ADMIN_CHECKS_MAX];
    unsigned count = admin->options.ready(admin->options.context, checks);
    const char *state = admin->options.state(admin->options.context);
    bool good = all_good(checks, count);
    bool wanted = access_right(&admin->access, NULL) == ACCESS_NONE;
    return reply_json(connection, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                      json_pack("{s:b, s:s, s:b, s:o}", "ready", (int)good, "state", state,
                                "token_wanted", (int)wanted, "checks", checks_json(checks, count)));
}

static const struct {
    const char *path;
    bool open;
    enum MHD_Result (*reply)(struct admin *admin, struct MHD_Connection *connection);
} numbers[] = {
    {"/metrics", false, reply_metrics},
    {"/api/stats", false, reply_stats},
    {"/healthz", true, reply_alive},
    {"/readyz", true, reply_ready},
};

bool numbers_are_open(const char *path)
{
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i].open && strcmp(numbers[i].path, path) == 0)
            return true;
    return false;
}

bool numbers_reply(struct admin *admin, struct MHD_Connection *connection, const char *path,
                   enum MHD_Result *result)
{
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strcmp(numbers[i].path, path) == 0) {
            *result = numbers[i].reply(admin, connection);
            return true;
        }
    return false;
}
