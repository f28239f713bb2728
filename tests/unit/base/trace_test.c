/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { NOW_US = 5000000, SECOND_US = 1000000, TEXT_BYTES_MAX = TRACE_LINE_BYTES_MAX * 16 };
static const uint64_t WALL_US = UINT64_C(1700000000000000);

/* What a reading gave: how many lines, and the text of the first ones. */
struct seen {
    size_t count;
    size_t count_max; /* 0: all */
    size_t size;
    char text[TEXT_BYTES_MAX];
    struct trace_state state;
};

static bool see(void *context, const char *line, size_t size)
{
    struct seen *seen = context;
    if (seen->count_max != 0 && seen->count == seen->count_max)
        return false;
    assert_true(size < TRACE_LINE_BYTES_MAX);
    assert_int_equal(line[size - 1], '}');
    seen->count++;
    if (seen->size + size + 2 < sizeof(seen->text)) {
        memcpy(seen->text + seen->size, line, size);
        seen->size += size;
        seen->text[seen->size++] = '\n';
    }
    return true;
}

static struct seen seen; /* too large for a stack */

static struct seen *read_from(struct traces *traces, const char *user, uint64_t after,
                              uint64_t now_us, size_t count_max)
{
    memset(&seen, 0, sizeof(seen));
    seen.count_max = count_max;
    assert_int_equal(trace_read(traces, user, after, now_us, see, &seen, &seen.state), 0);
    return &seen;
}

static uint8_t start(struct traces *traces, const char *user, uint32_t seconds, uint32_t one_in)
{
    uint8_t slot = 0;
    assert_int_equal(trace_start(traces, user, seconds, one_in, NOW_US, WALL_US, &slot), 0);
    assert_in_range(slot, 1, TRACES_MAX);
    return slot;
}

static bool note(struct traces *traces, uint8_t slot, const char *user, uint64_t id,
                 uint64_t now_us)
{
    const struct trace_point point = {.stage = TRACE_TURN,
                                      .in = true,
                                      .kind = "send",
                                      .id = id,
                                      .peer = "bob",
                                      .peer_size = 3,
                                      .bytes = 9,
                                      .wait_us = 42};
    return trace_record(traces, slot, user, now_us, &point);
}

static int missing(struct traces *traces, const char *user)
{
    struct trace_state state;
    return trace_read(traces, user, 0, NOW_US, see, &seen, &state);
}

/* --- records ---------------------------------------------------------------------------------- */

static void a_record_tells_what_happened_and_when_by_the_wall(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 10, 1);
    assert_true(note(traces, slot, "alice", 7, NOW_US + 1500));
    assert_string_equal(read_from(traces, "alice", 0, NOW_US + 2000, 0)->text,
                        "{\"seq\":1,\"time_us\":1700000000001500,\"stage\":\"turn\","
                        "\"direction\":\"in\",\"kind\":\"send\",\"id\":7,\"peer\":\"bob\","
                        "\"bytes\":9,\"wait_us\":42}\n");
    assert_true(seen.state.active);
    assert_int_equal(seen.state.left_ms, 9998);
    assert_int_equal(seen.state.last, 1);
    traces_destroy(traces);
    traces_destroy(NULL);
}

static void put(struct traces *traces, uint8_t slot, enum trace_stage stage, bool in, uint64_t id,
                const void *trace_id)
{
    const struct trace_point point = {
        .stage = stage, .in = in, .kind = "call", .id = id, .trace_id = trace_id};
    assert_true(trace_record(traces, slot, "alice", NOW_US, &point));
}

static bool last_has(struct traces *traces, const char *trace_id)
{
    char wanted[100];
    snprintf(wanted, sizeof(wanted), ",\"trace_id\":\"%s\"}\n", trace_id);
    const struct seen *last = read_from(traces, "alice", seen.state.last, NOW_US, 0);
    assert_int_equal(last->count, 1);
    assert_int_equal(strstr(last->text, "trace_id") != NULL, strstr(last->text, wanted) != NULL);
    return strstr(last->text, wanted) != NULL;
}

/* The session has forgotten it when the answer comes; its turn has not. */
static void an_answer_has_the_trace_id_of_its_request(void **state)
{
    static const char digits[] = "4bf92f3577b34da6a3ce929d0e0e4736-and-more";
    static const char id[] = "4bf92f3577b34da6a3ce929d0e0e4736";
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 1);
    memset(&seen, 0, sizeof(seen));
    put(traces, slot, TRACE_ARRIVED, true, 7, digits);
    assert_true(last_has(traces, id));
    put(traces, slot, TRACE_TURN, true, 7, digits);
    assert_true(last_has(traces, id));
    put(traces, slot, TRACE_TURN, true, 8, NULL);
    assert_false(last_has(traces, id));
    put(traces, slot, TRACE_SENT, false, 7, NULL); /* a message of that number */
    assert_false(last_has(traces, id));
    put(traces, slot, TRACE_ACKED, true, 7, NULL);
    assert_true(last_has(traces, id));
    put(traces, slot, TRACE_REFUSED, true, 8, NULL);
    assert_false(last_has(traces, id));
    put(traces, slot, TRACE_TURN, true, 7, NULL); /* the id is used again */
    assert_false(last_has(traces, id));
    put(traces, slot, TRACE_ACKED, true, 7, NULL);
    assert_false(last_has(traces, id));
    put(traces, slot, TRACE_SENT, false, 9, digits);
    assert_true(last_has(traces, id));
    traces_destroy(traces);
}

/* Also where the record of the turn is the very one that is written over. */
static void the_look_back_has_an_end(void **state)
{
    static const char id[] = "4bf92f3577b34da6a3ce929d0e0e4736";
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 1);
    memset(&seen, 0, sizeof(seen));
    for (unsigned others = 255; others <= 256; others++) {
        put(traces, slot, TRACE_TURN, true, 7, id);
        for (unsigned i = 0; i < others; i++)
            put(traces, slot, TRACE_TURN, true, 1000 + i, NULL);
        read_from(traces, "alice", seen.state.last, NOW_US, 0);
        put(traces, slot, TRACE_ACKED, true, 7, NULL);
        assert_int_equal(last_has(traces, id), others < 256);
    }
    traces_destroy(traces);
}

/* A peer as somebody sent it, before it was refused: never a broken line. */
static void a_peer_that_is_no_name_is_cut_or_left_out(void **state)
{
    static const char *const bad[] = {"a\"b", "a\\b", "a b", "a\nb", "\x7f", "\xff"};
    struct traces *traces = traces_create();
    char longest[300];
    uint8_t slot = start(traces, "alice", 0, 1);
    struct trace_point point = {.kind = "send"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        point.peer = bad[i];
        point.peer_size = strlen(bad[i]);
        assert_true(trace_record(traces, slot, "alice", NOW_US, &point));
        assert_non_null(strstr(read_from(traces, "alice", i, NOW_US, 0)->text, "\"peer\":\"\""));
    }
    memset(longest, 'n', sizeof(longest));
    point.peer = longest;
    point.peer_size = sizeof(longest);
    point.id = point.wait_us = point.offset = UINT64_MAX;
    point.trace_id = longest;
    point.bytes = UINT32_MAX;
    assert_true(trace_record(traces, slot, "alice", NOW_US, &point));
    const char *peer = strstr(read_from(traces, "alice", seen.state.last, NOW_US, 0)->text, "nn");
    assert_int_equal(strspn(peer, "n"), TRACE_NAME_BYTES_MAX);
    traces_destroy(traces);
}

static void names_are_compared_whole(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 1);
    assert_false(note(traces, slot, "alic", 1, NOW_US));
    assert_false(note(traces, slot, "alice2", 1, NOW_US));
    assert_false(note(traces, slot % TRACES_MAX + 1, "alice", 1, NOW_US)); /* another's slot */
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 0)->count, 0);
    assert_true(note(traces, slot, "alice", 1, NOW_US));
    assert_int_equal(missing(traces, "alic"), -ENOENT);
    assert_int_equal(missing(traces, "alice2"), -ENOENT);
    assert_int_equal(missing(traces, ""), -ENOENT); /* not a slot that was never used */
    assert_int_equal(trace_stop(traces, ""), -ENOENT);
    traces_destroy(traces);
}

static void one_in_so_many_ids_whole(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 10);
    for (uint64_t id = 1; id <= 100; id++)
        for (int stage = 0; stage < 3; stage++)
            assert_true(note(traces, slot, "alice", id, NOW_US)); /* the mark holds */
    read_from(traces, "alice", 0, NOW_US, 4);
    assert_non_null(strstr(seen.text, "\"seq\":1,"));
    assert_non_null(strstr(seen.text, "\"id\":10,"));
    assert_non_null(strstr(seen.text, "\"seq\":4,"));
    assert_non_null(strstr(seen.text, "\"id\":20,"));
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 0)->count, 30);
    traces_destroy(traces);
}

static void the_newest_are_kept_and_the_others_counted(void **state)
{
    enum { MORE = 100 };
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 1);
    for (uint64_t id = 1; id <= TRACE_RECORDS_MAX; id++)
        assert_true(note(traces, slot, "alice", id, NOW_US));
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 0)->count, TRACE_RECORDS_MAX);
    assert_int_equal(seen.state.dropped, 0);
    for (uint64_t id = 1; id <= MORE; id++)
        assert_true(note(traces, slot, "alice", TRACE_RECORDS_MAX + id, NOW_US));
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 0)->count, TRACE_RECORDS_MAX);
    assert_int_equal(seen.state.dropped, MORE);
    assert_int_equal(seen.state.last, TRACE_RECORDS_MAX + MORE);
    assert_non_null(strstr(seen.text, "{\"seq\":101,"));
    assert_non_null(strstr(seen.text, "\"id\":101,"));
    read_from(traces, "alice", MORE - 10, NOW_US, 0);
    assert_int_equal(seen.state.dropped, 10); /* the others had been read */
    read_from(traces, "alice", MORE, NOW_US, 0);
    assert_int_equal(seen.state.dropped, 0);
    traces_destroy(traces);
}

static void pages_go_on_after_the_last_one_given(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 1);
    for (uint64_t id = 1; id <= 10; id++)
        assert_true(note(traces, slot, "alice", id, NOW_US));
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 4)->state.last, 4);
    assert_int_equal(read_from(traces, "alice", 4, NOW_US, 4)->state.last, 8);
    assert_non_null(strstr(seen.text, "{\"seq\":5,"));
    assert_null(strstr(seen.text, "{\"seq\":9,"));
    assert_int_equal(read_from(traces, "alice", 8, NOW_US, 4)->state.last, 10);
    assert_int_equal(seen.count, 2);
    assert_int_equal(read_from(traces, "alice", 10, NOW_US, 4)->state.last, 10);
    assert_int_equal(read_from(traces, "alice", 5000, NOW_US, 4)->count, 0);
    assert_int_equal(seen.state.last, 5000);
    assert_int_equal(read_from(traces, "alice", UINT64_MAX, NOW_US, 4)->count, 0);
    traces_destroy(traces);
}

struct reader {
    struct traces *traces;
    uint8_t slot;
    size_t lines;
};

/* Somebody who takes his time, while the user goes on. */
static bool note_beside(void *context, const char *line, size_t size)
{
    struct reader *reader = context;
    reader->lines++;
    assert_true(note(reader->traces, reader->slot, "alice", reader->lines, NOW_US));
    return true;
}

/* Under the lock this would wait for itself; and what comes meanwhile is for the next page. */
static void who_reads_holds_nobody_up(void **state)
{
    enum { RECORDS = 100 };
    struct reader reader = {.traces = traces_create()};
    struct trace_state end;
    reader.slot = start(reader.traces, "alice", 0, 1);
    for (uint64_t id = 1; id <= RECORDS; id++)
        assert_true(note(reader.traces, reader.slot, "alice", id, NOW_US));
    alarm(60);
    assert_int_equal(trace_read(reader.traces, "alice", 0, NOW_US, note_beside, &reader, &end), 0);
    alarm(0);
    assert_int_equal(reader.lines, RECORDS);
    assert_int_equal(end.last, RECORDS);
    assert_int_equal(end.dropped, 0);
    assert_int_equal(read_from(reader.traces, "alice", RECORDS, NOW_US, 0)->count, RECORDS);
    traces_destroy(reader.traces);
}

/* --- slots and ends --------------------------------------------------------------------------- */

static void it_ends_by_time(void **state)
{
    struct traces *traces = traces_create();
    assert_false(traces_any(NULL));
    assert_false(traces_any(traces));
    uint8_t slot = start(traces, "alice", 2, 1);
    assert_true(traces_any(traces));
    assert_true(note(traces, slot, "alice", 1, NOW_US + 2 * SECOND_US - 1));
    assert_false(note(traces, slot, "alice", 2, NOW_US + 2 * SECOND_US));
    assert_false(traces_any(traces));
    assert_int_equal(read_from(traces, "alice", 0, NOW_US + 3 * SECOND_US, 0)->count, 1);
    assert_false(seen.state.active);
    assert_int_equal(seen.state.left_ms, 0);
    /* Also when nothing happens any more but that somebody looks; the default is a minute. */
    start(traces, "bob", 0, 0);
    uint64_t minute_us = (uint64_t)TRACE_SECONDS_DEFAULT * SECOND_US;
    assert_true(read_from(traces, "bob", 0, NOW_US + minute_us - 1, 0)->state.active);
    assert_false(read_from(traces, "bob", 0, NOW_US + minute_us, 0)->state.active);
    assert_false(traces_any(traces));
    traces_destroy(traces);
}

static void stopped_it_keeps_its_records_and_begins_anew(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slot = start(traces, "alice", 0, 1);
    assert_true(note(traces, slot, "alice", 1, NOW_US));
    assert_int_equal(trace_stop(traces, "bob"), -ENOENT);
    assert_int_equal(trace_stop(traces, "alice"), 0);
    assert_int_equal(trace_stop(traces, "alice"), -ENOENT);
    assert_false(traces_any(traces));
    assert_false(note(traces, slot, "alice", 2, NOW_US));
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 0)->count, 1);
    assert_false(seen.state.active);
    assert_int_equal(start(traces, "alice", 0, 1), slot);
    assert_int_equal(read_from(traces, "alice", 0, NOW_US, 0)->count, 0);
    assert_true(seen.state.active);
    assert_int_equal(start(traces, "alice", 0, 1), slot); /* while it goes on */
    assert_int_equal(trace_stop(traces, "alice"), 0);
    assert_false(traces_any(traces)); /* and was counted once */
    traces_destroy(traces);
}

/* A slot is taken again only when its trace is over, and the mark of before is then nobody's. */
static void there_are_so_many_slots(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slots[TRACES_MAX], slot = 0;
    char name[16];
    for (unsigned i = 0; i < TRACES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "user%u", i);
        slots[i] = start(traces, name, i == 5 ? 1 : 60, 1);
        for (unsigned j = 0; j < i; j++)
            assert_int_not_equal(slots[i], slots[j]);
        assert_true(note(traces, slots[i], name, 1, NOW_US));
    }
    assert_int_equal(trace_start(traces, "more", 0, 1, NOW_US, WALL_US, &slot), -EBUSY);
    assert_int_equal(trace_stop(traces, "user3"), 0);
    assert_int_equal(start(traces, "more", 0, 1), slots[3]);
    assert_false(note(traces, slots[3], "user3", 2, NOW_US));
    assert_int_equal(read_from(traces, "more", 0, NOW_US, 0)->count, 0);
    assert_int_equal(missing(traces, "user3"), -ENOENT); /* its records are gone */
    uint64_t later_us = NOW_US + SECOND_US;              /* when user5's trace is over by itself */
    assert_int_equal(trace_start(traces, "last", 0, 1, later_us, WALL_US, &slot), 0);
    assert_int_equal(slot, slots[5]);
    assert_int_equal(trace_start(traces, "nobody", 0, 1, later_us, WALL_US, &slot), -EBUSY);
    traces_destroy(traces);
}

static void what_cannot_be_followed_is_refused(void **state)
{
    struct traces *traces = traces_create();
    uint8_t slot = 0;
    char name[TRACE_NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof(name));
    name[TRACE_NAME_BYTES_MAX + 1] = '\0';
    assert_int_equal(trace_start(traces, name, 0, 1, NOW_US, WALL_US, &slot), -EINVAL);
    assert_int_equal(trace_start(traces, "", 0, 1, NOW_US, WALL_US, &slot), -EINVAL);
    assert_int_equal(trace_start(traces, "a", TRACE_SECONDS_MAX + 1, 1, NOW_US, WALL_US, &slot),
                     -EINVAL);
    assert_int_equal(slot, 0);
    assert_false(traces_any(traces));
    name[TRACE_NAME_BYTES_MAX] = '\0';
    slot = start(traces, name, TRACE_SECONDS_MAX, UINT32_MAX);
    assert_true(note(traces, slot, name, 1, NOW_US));
    assert_int_equal(read_from(traces, name, 0, NOW_US, 0)->count, 0);
    traces_destroy(traces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_tells_what_happened_and_when_by_the_wall),
        cmocka_unit_test(an_answer_has_the_trace_id_of_its_request),
        cmocka_unit_test(the_look_back_has_an_end),
        cmocka_unit_test(a_peer_that_is_no_name_is_cut_or_left_out),
        cmocka_unit_test(names_are_compared_whole),
        cmocka_unit_test(one_in_so_many_ids_whole),
        cmocka_unit_test(the_newest_are_kept_and_the_others_counted),
        cmocka_unit_test(pages_go_on_after_the_last_one_given),
        cmocka_unit_test(who_reads_holds_nobody_up),
        cmocka_unit_test(it_ends_by_time),
        cmocka_unit_test(stopped_it_keeps_its_records_and_begins_anew),
        cmocka_unit_test(there_are_so_many_slots),
        cmocka_unit_test(what_cannot_be_followed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
