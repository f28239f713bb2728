/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/memory.h"
#include "net/ws_private.h"

/* A WebSocket that goes over to another process: how far the frame has been read that it is in the
 * middle of, how far the message has been written, and what it has to say by itself. One that is on
 * its way out does not go. */

static ProtobufCBinaryData binary(const void *data, size_t size)
{
    return (ProtobufCBinaryData){size, (uint8_t *)(uintptr_t)data};
}

static void pack_reader(const struct ws_reader *reader, Usher__V1__HandoverWebSocket *to)
{
    to->control = binary(reader->control, reader->control != NULL ? reader->control_size : 0);
    to->control_size = reader->control_size;
    to->message_bytes = reader->message_bytes;
    to->fragments = reader->fragments;
    to->frame_bytes = reader->frame_bytes;
    to->left = reader->left;
    to->mask = binary(reader->mask, sizeof(reader->mask));
    to->step = reader->step;
    to->first = reader->first;
    to->in_message = reader->in_message;
    to->length_bytes = reader->length_bytes;
}

bool websocket_pack(const struct ws *ws, Usher__V1__HandoverWebSocket *to)
{
    uintptr_t shared = atomic_load_explicit(&ws->words, memory_order_acquire);
    const struct words *words = (const struct words *)(shared & ~(uintptr_t)CLOSING);
    if (ws->phase != PHASE_OPEN || ws->end != END_NOT || (shared & CLOSING) != 0)
        return false;
    pack_reader(&ws->reader, to);
    to->announced = ws->announced;
    to->header_sent = ws->header_sent;
    if (ws->saying != NULL)
        to->saying =
            binary(ws->saying->bytes + ws->saying->said, ws->saying->size - ws->saying->said);
    if (words != NULL)
        to->words = binary(words->bytes, words->size);
    to->pinged = ws->pinged;
    to->owes_pong = ws->owes_pong;
    to->controls = ws->controls;
    to->controls_s = ws->controls_s;
    return true;
}

/* --- in --------------------------------------------------------------------------------------- */

static bool can_be(const Usher__V1__HandoverWebSocket *from)
{
    return from->mask.len == sizeof(((struct ws_reader *)NULL)->mask) &&
           from->control_size <= WS_CONTROL_BYTES_MAX &&
           (from->control.len == 0 || from->control.len == from->control_size) &&
           from->saying.len <= WS_CLOSE_FRAME_BYTES_MAX &&
           from->words.len <= WS_CLOSE_FRAME_BYTES_MAX && from->step <= UINT8_MAX &&
           from->first <= UINT8_MAX && from->length_bytes < 8 && from->header_sent <= UINT8_MAX;
}

static bool unpack_reader(struct ws_reader *reader, const Usher__V1__HandoverWebSocket *from)
{
    if (from->control.len > 0 && !ws_reader_move_in(reader, from->control.data, from->control.len))
        return false;
    reader->control_size = (uint8_t)from->control_size;
    reader->message_bytes = from->message_bytes;
    reader->fragments = from->fragments;
    reader->frame_bytes = from->frame_bytes;
    reader->left = from->left;
    memcpy(reader->mask, from->mask.data, sizeof(reader->mask));
    reader->step = (uint8_t)from->step;
    reader->first = (uint8_t)from->first;
    reader->in_message = from->in_message;
    reader->length_bytes = from->length_bytes & 7;
    return true;
}

bool websocket_unpack(struct ws *ws, const Usher__V1__HandoverWebSocket *from)
{
    ws->phase = PHASE_OPEN; /* whatever comes of it, it has words and no head */
    if (!can_be(from) || !unpack_reader(&ws->reader, from))
        return false;
    ws->announced = from->announced;
    ws->header_sent = (uint8_t)from->header_sent;
    ws->pinged = from->pinged;
    ws->owes_pong = from->owes_pong;
    ws->controls = (uint8_t)from->controls;
    ws->controls_s = (uint8_t)from->controls_s;
    struct words *words = NULL;
    if (from->saying.len > 0)
        ws->saying = websocket_words(from->saying.data, from->saying.len);
    if (from->words.len > 0)
        words = websocket_words(from->words.data, from->words.len);
    atomic_store_explicit(&ws->words, (uintptr_t)words, memory_order_relaxed);
    return (from->saying.len == 0 || ws->saying != NULL) && (from->words.len == 0 || words != NULL);
}
