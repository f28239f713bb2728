/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/presence_json.h"

#include "backend.pb-c.h"

/* Numbers are below 2^53 (proto/number.h), so whoever reads them as doubles has them exactly. Texts
 * of clients may be any bytes: what is not UTF-8 is "?". */

static const char *kind_name(uint32_t kind)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
        &usher__v1__presence_event__kind__descriptor, (int)kind);
    return value != NULL ? value->name : "UNKNOWN";
}

json_t *presence_json(const struct event_fields *event)
{
    json_t *client = json_string(event->client);
    return json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:s, s:I, s:s, s:o}", "seq",
                     (json_int_t)event->seq, "time_ms", (json_int_t)event->time_ms, "user",
                     event->user, "kind", kind_name(event->kind), "epoch", (json_int_t)event->epoch,
                     "previous_epoch", (json_int_t)event->previous_epoch, "cause",
                     presence_cause_name((uint8_t)event->cause), "until_ms",
                     (json_int_t)event->until_ms, "address", event->address, "client",
                     client != NULL ? client : json_string("?"));
}
