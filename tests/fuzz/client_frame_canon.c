/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "fuzz/client_frame_oracle.h"

/* client_frame_canon: reads frames from stdin, each behind its size as 4 bytes, little-endian, and
 * prints one line for each: `refused`, or the id, the number of the body and its fields in their
 * order; of what is repeated `[`, the items and `]`. The play of the differential test compares the
 * lines with what another implementation of protobuf reads. Each frame is also compared with
 * protobuf-c; a line that says `DIFFER` is a disagreement with that one. */

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

static void print_texts(struct client_list list)
{
    struct bytes text;
    fputs(" [", stdout);
    while (client_list_text(&list, &text))
        print_bytes(text);
    fputs(" ]", stdout);
}

static void print_positions(struct client_list list)
{
    struct client_position at;
    fputs(" [", stdout);
    while (client_list_position(&list, &at)) {
        print_number(at.room);
        print_number(at.incarnation);
        print_number(at.offset);
    }
    fputs(" ]", stdout);
}

#define PRINT_TEXT print_bytes
#define PRINT_PEER print_bytes
#define PRINT_BYTES print_bytes
#define PRINT_PAYLOAD print_bytes
#define PRINT_UINT64 print_number
#define PRINT_UINT32 print_number
#define PRINT_BOOL print_number
#define PRINT_TEXTS print_texts
#define PRINT_POSITIONS print_positions

static void print_fields(const struct client_frame *frame)
{
    switch (frame->body) {
    case CLIENT_NONE:
        break;
#define FIELD(body, number, kind, name) PRINT_##kind(frame->body.name);
#define BODY(number, NAME, name, handler, fields) \
    case CLIENT_##NAME:                           \
        fields break;
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
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
