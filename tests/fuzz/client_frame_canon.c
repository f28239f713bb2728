/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "fuzz/client_frame_oracle.h"

/* client_frame_canon: reads frames from stdin, each behind its size as 4 bytes, little-endian, and
 * prints one line for each: `refused`, or the id, the number of the body and its fields in their
 * order. The play of the differential test compares the lines with what another implementation of
 * protobuf reads. Each frame is also compared with protobuf-c; a line that says `DIFFER` is a
 * disagreement with that one. */

enum { FRAME_BYTES_MAX = 1 << 20 };

static void print_bytes(struct bytes bytes)
{
    putchar(' ');
    putchar('x');
    for (size_t i = 0; i < bytes.size; i++)
        printf("%02x", bytes.data[i]);
}

static void print_number(uint64_t number)
{
    printf(" %" PRIu64, number);
}

static void print_fields(const struct client_frame *frame)
{
    switch (frame->body) {
    case CLIENT_LOGIN:
        print_bytes(frame->login.username);
        print_bytes(frame->login.token);
        print_bytes(frame->login.client);
        print_number(frame->login.acks);
        break;
    case CLIENT_RESUME:
        print_bytes(frame->resume.username);
        print_number(frame->resume.epoch);
        print_bytes(frame->resume.secret);
        print_number(frame->resume.last_seq);
        print_number(frame->resume.received_seq);
        break;
    case CLIENT_SEND:
        print_bytes(frame->send.to);
        print_bytes(frame->send.payload);
        print_number(frame->send.until);
        break;
    case CLIENT_CALL:
        print_bytes(frame->call.service);
        print_bytes(frame->call.method);
        print_bytes(frame->call.payload);
        print_number(frame->call.timeout_ms);
        break;
    case CLIENT_ACK:
        print_number(frame->ack.seq);
        break;
    case CLIENT_PING:
        print_number(frame->ping.stamp);
        break;
    default:
        break;
    }
}

static void print_line(struct bytes bytes)
{
    struct client_frame frame;
    if (oracle_compare(bytes) == ORACLE_DIFFER) {
        puts("DIFFER");
    } else if (client_frame_read(bytes, &frame) != 0) {
        puts("refused");
    } else {
        printf("%" PRIu64 " %d", frame.id, (int)frame.body);
        print_fields(&frame);
        putchar('\n');
    }
}

int main(void)
{
    uint8_t *data = malloc(FRAME_BYTES_MAX);
    uint8_t head[4];
    bool good = data != NULL;
    while (good && fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        size_t size = 0;
        for (int i = 3; i >= 0; i--)
            size = size << 8 | head[i];
        good = size <= FRAME_BYTES_MAX && fread(data, 1, size, stdin) == size;
        if (good)
            print_line((struct bytes){data, size});
    }
    free(data);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
