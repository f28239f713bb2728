/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "usherctl/ctl.h"
#include "usherctl/print.h"

/* What is stored for a user, page after page: for somebody who asks why a message does not come,
 * and before it is dropped. A node that does not get ahead would be asked without end. */

static void print_page(const struct ctl *ctl, const struct usher_backend_answer *page)
{
    for (size_t i = 0; i < page->stored_rows; i++)
        print_stored(ctl, &page->stored[i]);
}

int ctl_inbox(const struct ctl *ctl)
{
    struct usher_backend_query query = {.kind = USHER_BACKEND_INBOX, .user = ctl->arguments[0]};
    struct usher_backend *backend;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    for (bool more = true, first = true; more && result == CTL_OK; first = false) {
        struct usher_backend_answer *page;
        result = ctl_ask(ctl, backend, &query, &page);
        if (page == NULL)
            break;
        if (first)
            print_stored_head(ctl, page->stored_count, page->stored_bytes);
        print_page(ctl, page);
        more = page->more && page->stored_rows > 0;
        uint64_t last_mid = more ? page->stored[page->stored_rows - 1].mid : 0;
        if (more && last_mid <= query.mid)
            result = ctl_complain(ctl, -EPROTO);
        query.mid = last_mid;
        usher_backend_answer_free(page);
    }
    usher_backend_close(backend);
    return result;
}
