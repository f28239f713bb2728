/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/websocket.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/check.h"

/* Output is wrapped where it lies: the owner appends frames as he does for TCP, and before a write
 * what is new becomes messages, with headers between. So whatever waits for a slow socket is
 * whole messages, and a Pong finds its place between two of them. Of several Pings the last is
 * answered (RFC 6455, 5.5.3): a flood of them keeps one Pong waiting.
 *
 * Who must know which of his frames the server cannot have seen asks websocket_sent: a frame may be
 * acted upon as soon as its last byte is there, whatever is missing of its message.
 *
 * A mask must be a number that those who chose the payload cannot know (RFC 6455, 10.3): else what
 * a player sends could be made to look, to a proxy on the way, like a request or an answer of HTTP.
 * So it comes from the system's generator, anew for each frame, and is used once. A system call for
 * four bytes would double what a small message costs, so they are drawn 64 at a time; that the pool
 * stays in memory betrays nothing, because a mask travels in the open, beside what it masks. After
 * a fork both processes hold the same numbers: a connection belongs to one of them. */

/* 0, or -EAGAIN. */
static int draw_mask(struct websocket_masks *masks, uint8_t mask[WEBSOCKET_MASK_BYTES])
{
    if (masks->left < WEBSOCKET_MASK_BYTES) {
        /* Up to 256 bytes come whole or not at all. */
        ssize_t got = getrandom(masks->pool, sizeof(masks->pool), GRND_NONBLOCK);
        if (got != (ssize_t)sizeof(masks->pool))
            return -EAGAIN;
        masks->left = sizeof(masks->pool);
    }
    masks->left -= WEBSOCKET_MASK_BYTES;
    memcpy(mask, masks->pool + masks->left, WEBSOCKET_MASK_BYTES);
    return 0;
}

/* --- the upgrade ------------------------------------------------------------------------------ */

int websocket_begin(struct websocket *websocket, const struct url *url,
                    struct websocket_masks *masks, struct buffer *output)
{
    CHECK(output->size == 0);
    *websocket = (struct websocket){.masks = masks, .answer.fault = ""};
    int result = websocket_request(output, url, websocket->accept);
    websocket->wrapped = websocket->header_left = websocket->framing = output->size;
    return result;
}

int websocket_open(struct websocket *websocket, struct bytes input, size_t *used)
{
    int result = websocket_answer_read(input, websocket->accept, &websocket->answer);
    websocket->open = result == 1;
    *used = websocket->answer.size;
    return result;
}

/* --- what comes ------------------------------------------------------------------------------- */

static void take_ping(struct websocket *websocket, struct bytes payload)
{
    if (payload.size > 0)
        memcpy(websocket->pong, payload.data, payload.size);
    websocket->pong_bytes = (uint8_t)payload.size;
    websocket->pong_waits = true;
}

static void take_close(struct websocket *websocket, struct bytes payload)
{
    if (payload.size < 2)
        return;
    websocket->close_code = (unsigned)payload.data[0] << 8 | payload.data[1];
    memcpy(websocket->close_text, payload.data + 2, payload.size - 2);
    websocket->close_text[payload.size - 2] = '\0';
}

int websocket_take(struct websocket *websocket, uint8_t *data, size_t size, size_t *payload)
{
    struct websocket_input input = {.data = data, .size = size};
    struct bytes control;
    int result;
    CHECK(websocket->open);
    while ((result = websocket_read(&websocket->reader, &input, &control)) == WEBSOCKET_PING)
        take_ping(websocket, control);
    *payload = input.payload;
    if (result == WEBSOCKET_CLOSE) {
        take_close(websocket, control);
        return -ESHUTDOWN;
    }
    return result;
}

/* --- what goes -------------------------------------------------------------------------------- */

/* Between what is wrapped and what is not. */
static int put_pong(struct websocket *websocket, struct buffer *output)
{
    uint8_t mask[WEBSOCKET_MASK_BYTES];
    size_t size = websocket->pong_bytes;
    size_t whole = websocket_header_bytes(size) + size;
    if (buffer_reserve(output, whole) == NULL)
        return -ENOMEM;
    int result = draw_mask(websocket->masks, mask);
    if (result < 0)
        return result;
    uint8_t *place = output->data + websocket->wrapped;
    memmove(place + whole, place, output->size - websocket->wrapped);
    place += websocket_header(place, WEBSOCKET_PONG, size, mask);
    memcpy(place, websocket->pong, size);
    websocket_mask(place, size, mask);
    output->size += whole;
    websocket->wrapped += whole;
    websocket->framing += whole;
    websocket->pong_waits = false;
    return 0;
}

/* What the headers of all messages will take. */
static size_t headers_bytes(struct bytes frames, const struct websocket_batch *batch)
{
    size_t sum = 0;
    while (frames.size > 0) {
        size_t size = websocket_cut(frames, batch->bytes_max, batch->frames_max);
        sum += websocket_header_bytes(size);
        frames.data += size;
        frames.size -= size;
    }
    return sum;
}

/* The frames move back by the room for all headers, and then forward, message by message. */
int websocket_wrap(struct websocket *websocket, struct buffer *output,
                   const struct websocket_batch *batch)
{
    int result = websocket->open && websocket->pong_waits ? put_pong(websocket, output) : 0;
    CHECK(websocket->wrapped <= output->size);
    if (result < 0 || websocket->wrapped == output->size)
        return result;
    CHECK(websocket->open);
    struct bytes left = {output->data + websocket->wrapped, output->size - websocket->wrapped};
    size_t headers = headers_bytes(left, batch);
    if (buffer_reserve(output, headers) == NULL)
        return -ENOMEM;
    uint8_t *to = output->data + websocket->wrapped;
    left.data = to + headers;
    memmove(to + headers, to, left.size);
    while (left.size > 0) {
        uint8_t mask[WEBSOCKET_MASK_BYTES];
        size_t size = websocket_cut(left, batch->bytes_max, batch->frames_max);
        result = draw_mask(websocket->masks, mask);
        if (result < 0)
            return result;
        to += websocket_header(to, WEBSOCKET_BINARY, size, mask);
        memmove(to, left.data, size);
        websocket_mask(to, size, mask);
        to += size;
        left.data += size;
        left.size -= size;
    }
    output->size += headers;
    websocket->framing += headers;
    websocket->wrapped = output->size;
    return 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The next piece of the output: what we wrote there is read again, because only the pieces on
 * their way need to be known. */
static void begin_piece(struct websocket *websocket, const uint8_t *at)
{
    uint8_t second = at[1] & 0x7f;
    size_t more = second == 127 ? 8 : second == 126 ? 2 : 0;
    websocket->header_left = 2 + more + WEBSOCKET_MASK_BYTES;
    websocket->payload_left = more == 0 ? second : 0;
    for (size_t i = 0; i < more; i++)
        websocket->payload_left = websocket->payload_left << 8 | at[2 + i];
    websocket->payload_counts = (at[0] & 0x0f) == WEBSOCKET_BINARY;
}

size_t websocket_sent(struct websocket *websocket, const struct buffer *output, size_t count)
{
    size_t frames = 0;
    CHECK(count <= websocket->wrapped);
    for (size_t at = 0; at < count;) {
        if (websocket->header_left == 0 && websocket->payload_left == 0)
            begin_piece(websocket, output->data + at);
        size_t header = smaller(websocket->header_left, count - at);
        size_t payload = smaller(websocket->payload_left, count - at - header);
        websocket->header_left -= header;
        websocket->payload_left -= payload;
        frames += websocket->payload_counts ? payload : 0;
        at += header + payload;
    }
    CHECK(websocket->framing >= count - frames);
    websocket->framing -= count - frames;
    websocket->wrapped -= count;
    return frames;
}

size_t websocket_goodbye(struct websocket *websocket, uint8_t to[WEBSOCKET_GOODBYE_BYTES_MAX],
                         unsigned code)
{
    uint8_t mask[WEBSOCKET_MASK_BYTES];
    if (!websocket->open || websocket->wrapped != 0 || websocket->header_left != 0 ||
        websocket->payload_left != 0 || draw_mask(websocket->masks, mask) < 0)
        return 0;
    size_t header = websocket_header(to, WEBSOCKET_CLOSE, 2, mask);
    to[header] = (uint8_t)(code >> 8);
    to[header + 1] = (uint8_t)code;
    websocket_mask(to + header, 2, mask);
    return header + 2;
}
