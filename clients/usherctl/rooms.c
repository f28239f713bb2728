/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "usherctl/ctl.h"
#include "usherctl/print.h"

/* The rooms, and who is in one: page after page. A node that does not get ahead would be asked, and
 * printed, without end. */

struct pages {
    const struct ctl *ctl;
    struct usher_backend_query query;
    void (*print_head)(const struct ctl *ctl);
    /* Prints a page and gives what to ask for next; NULL: this was the last. */
    const char *(*print)(const struct ctl *ctl, const struct usher_backend_answer *page);
    bool rises; /* what is asked for next, as a text */
};

static bool is_ahead(const struct pages *pages, const char *next)
{
    const char *after = pages->query.after_user != NULL ? pages->query.after_user : "";
    return pages->rises ? strcmp(next, after) > 0 : strcmp(next, after) != 0;
}

static int print_all(struct pages *pages, struct usher_backend *backend)
{
    struct usher_backend_answer *before = NULL;
    int result = CTL_OK;
    for (bool more = true; more && result == CTL_OK;) {
        struct usher_backend_answer *page;
        result = ctl_ask(pages->ctl, backend, &pages->query, &page);
        if (page == NULL)
            break;
        if (before == NULL)
            pages->print_head(pages->ctl);
        const char *next = pages->print(pages->ctl, page);
        more = next != NULL;
        if (more && !is_ahead(pages, next))
            result = ctl_complain(pages->ctl, -EPROTO);
        pages->query.after_user = next;
        usher_backend_answer_free(before);
        before = page;
    }
    usher_backend_answer_free(before);
    return result;
}

static int with_pages(struct pages *pages)
{
    struct usher_backend *backend;
    int result = ctl_open(pages->ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = print_all(pages, backend);
    usher_backend_close(backend);
    return result;
}

static const char *print_rooms(const struct ctl *ctl, const struct usher_backend_answer *page)
{
    for (size_t i = 0; i < page->room_count; i++)
        print_room(ctl, &page->rooms[i]);
    return page->more && page->room_count > 0 ? page->rooms[page->room_count - 1].name : NULL;
}

int ctl_rooms(const struct ctl *ctl)
{
    struct pages pages = {
        .ctl = ctl,
        .query = {.kind = USHER_BACKEND_ROOMS,
                  .prefix = ctl->argument_count > 0 ? ctl->arguments[0] : NULL},
        .print_head = print_room_head,
        .print = print_rooms,
        .rises = true,
    };
    return with_pages(&pages);
}

static const char *print_members(const struct ctl *ctl, const struct usher_backend_answer *page)
{
    for (size_t i = 0; i < page->member_count; i++)
        print_member(ctl, &page->members[i]);
    return page->more && page->member_count > 0 ? page->next : NULL;
}

int ctl_room(const struct ctl *ctl)
{
    struct pages pages = {
        .ctl = ctl,
        .query = {.kind = USHER_BACKEND_ROOM_MEMBERS, .room = ctl->arguments[0]},
        .print_head = print_member_head,
        .print = print_members,
    };
    return with_pages(&pages);
}
