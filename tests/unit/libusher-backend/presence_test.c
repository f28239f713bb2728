/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>

#include "unit/libusher-backend/fake_node.h"

#include <errno.h>

#include "usher_backend.h"

/* Presence as a service sees it: no gap, nothing twice, and a picture when something was missed.
 * Each test compares one line: what was told, in order. */

struct watcher {
    struct usher_backend *backend;
    char told[512];
    const char *until; /* stops after this was told */
    bool blind;        /* takes no pictures */
};

static void tell(struct watcher *watcher, const char *word)
{
    size_t size = strlen(watcher->told);

    snprintf(watcher->told + size, sizeof(watcher->told) - size, "%s%s", size > 0 ? " " : "", word);
    if (watcher->until != NULL && strcmp(word, watcher->until) == 0)
        usher_backend_stop(watcher->backend);
}

static void on_presence(void *context, const struct usher_backend_event *event)
{
    char word[64];

    snprintf(word, sizeof(word), "%s:%llu:%s", event->user, (unsigned long long)event->seq,
             usher_backend_kind_name(event->kind));
    tell(context, word);
}

static void on_reset(void *context)
{
    tell(context, "RESET");
}

static void on_snapshot(void *context, const struct usher_backend_session *session)
{
    tell(context, session->user);
}

static void on_current(void *context)
{
    tell(context, "CURRENT");
}

static void watch(struct watcher *watcher, const struct fake *fake, uint64_t after)
{
    const char *url = fake->url;
    struct usher_backend_options options = {
        .urls = &url,
        .url_count = 1,
        .presence = true,
        .presence_after = after,
        .callbacks =
            {
                .on_presence = on_presence,
                .on_presence_reset = on_reset,
                .on_presence_snapshot = watcher->blind ? NULL : on_snapshot,
                .on_presence_current = on_current,
            },
        .context = watcher,
    };

    assert_int_equal(usher_backend_open(&watcher->backend, &options), 0);
}

static void run_and_close(struct watcher *watcher)
{
    assert_int_equal(usher_backend_run(watcher->backend, 4000), 0);
    usher_backend_close(watcher->backend);
}

static void fake_event(struct fake *fake, uint64_t seq, const char *user,
                       Usher__V1__PresenceEvent__Kind kind)
{
    Usher__V1__PresenceEvent *event = &fake->events[fake->event_count++];

    usher__v1__presence_event__init(event);
    event->seq = seq;
    event->user = (char *)(uintptr_t)user;
    event->kind = kind;
    fake->presence_last = seq;
}

#define ONLINE USHER__V1__PRESENCE_EVENT__KIND__ONLINE
#define OFFLINE USHER__V1__PRESENCE_EVENT__KIND__OFFLINE

static void two_pages(struct fake *fake)
{
    fake->pages[0] = (struct fake_page){"", {"alice", "bob"}, 10, true};
    fake->pages[1] = (struct fake_page){"bob", {"carol"}, 12, false};
    fake->page_count = 2;
}

static void the_first_link_takes_a_picture(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "zoe:14:offline"};

    two_pages(fake);
    fake->presence_from = 9;
    /* alice's page is true for 10, that of the names behind bob for 12. */
    fake_event(fake, 9, "alice", OFFLINE);
    fake_event(fake, 10, "zoe", ONLINE);
    fake_event(fake, 11, "alice", OFFLINE);
    fake_event(fake, 12, "carol", ONLINE);
    fake_event(fake, 13, "carol", OFFLINE);
    fake_event(fake, 14, "zoe", OFFLINE);
    watch(&watcher, fake, 0);
    run_and_close(&watcher);
    assert_string_equal(watcher.told, "RESET alice bob carol CURRENT alice:11:offline "
                                      "carol:13:offline zoe:14:offline");
    assert_int_equal(fake->snapshots, 2);
}

static void a_known_cursor_goes_on(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "bob:8:offline"};

    fake->presence_from = 7;
    fake_event(fake, 6, "old", ONLINE);
    fake_event(fake, 7, "bob", ONLINE);
    fake_event(fake, 8, "bob", OFFLINE);
    watch(&watcher, fake, 6);
    run_and_close(&watcher);
    assert_string_equal(watcher.told, "bob:7:online bob:8:offline");
    assert_int_equal(fake->hello_presence_after, 6);
}

static void a_gap_takes_a_picture(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "CURRENT"};

    two_pages(fake);
    fake->presence_from = 7;
    fake_event(fake, 7, "bob", ONLINE);
    fake_event(fake, 9, "bob", OFFLINE); /* 8 is missing */
    watch(&watcher, fake, 6);
    run_and_close(&watcher);
    assert_string_equal(watcher.told, "bob:7:online RESET alice bob carol CURRENT");
}

static void without_pictures_a_gap_is_told_and_passed(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "bob:10:online", .blind = true};

    fake->presence_from = 7;
    fake_event(fake, 7, "bob", ONLINE);
    fake_event(fake, 9, "bob", OFFLINE);
    fake_event(fake, 10, "bob", ONLINE);
    watch(&watcher, fake, 6);
    run_and_close(&watcher);
    assert_string_equal(watcher.told, "bob:7:online RESET bob:9:offline bob:10:online");
    assert_int_equal(fake->snapshots, 0);
}

static void a_reset_takes_a_picture_and_goes_on(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "alice:13:offline"};

    two_pages(fake);
    fake->presence_from = 4;
    fake->presence_reset = true;
    fake_event(fake, 11, "alice", ONLINE);
    fake_event(fake, 12, "dave", ONLINE);
    fake_event(fake, 13, "alice", OFFLINE);
    fake->presence_last = 0; /* the stamp of the first page says where to go on */
    watch(&watcher, fake, 3);
    run_and_close(&watcher);
    assert_string_equal(watcher.told,
                        "RESET alice bob carol CURRENT alice:11:online alice:13:offline");
}

static void a_node_with_other_numbers_takes_a_picture(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "CURRENT"};

    two_pages(fake);
    fake->presence_from = 2; /* its store was lost: it never heard of 500 */
    watch(&watcher, fake, 500);
    run_and_close(&watcher);
    assert_string_equal(watcher.told, "RESET alice bob carol CURRENT");
}

static void an_endless_picture_ends(void **state)
{
    struct fake *fake = *state;
    struct watcher watcher = {.until = "CURRENT"};

    fake->pages[0] = (struct fake_page){"", {"bob"}, 10, true};
    fake->pages[1] = (struct fake_page){"bob", {"bob"}, 10, true};
    fake->page_count = 2;
    watch(&watcher, fake, 0);
    run_and_close(&watcher);
    assert_int_equal(fake->snapshots, 2);
}

#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NODE(the_first_link_takes_a_picture),
        WITH_NODE(a_known_cursor_goes_on),
        WITH_NODE(a_gap_takes_a_picture),
        WITH_NODE(without_pictures_a_gap_is_told_and_passed),
        WITH_NODE(a_reset_takes_a_picture_and_goes_on),
        WITH_NODE(a_node_with_other_numbers_takes_a_picture),
        WITH_NODE(an_endless_picture_ends),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    nng_fini();
    return failed;
}
