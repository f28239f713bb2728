/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/connections.h"

#include "admin/admin.h"
#include "link/link.h"
#include "process/open_files.h"

_Static_assert((int)OPTION_LINK_URLS_MAX <= (int)LINK_URLS_MAX, "a listener for each of link.urls");

/* Of one that is under way: its socket, another one while it is not known by which address it goes,
 * and two between the threads that look up its name. */
enum { FILES_PER_REQUEST = 4 };

/* Files that are kept from clients. Whoever fills the admin port or that of backends by HTTP, for
 * which it takes no token, has had them from those that clients, backends and the store were
 * promised. */
static uint64_t files_reserved(const struct options *options)
{
    uint64_t admin = options->admin_connections + ADMIN_SPARE_CONNECTIONS(ADMIN_JOBS_MAX);
    uint64_t http = options->http_connections +
                    ADMIN_SPARE_CONNECTIONS(options->http_requests + options->http_waits);
    uint64_t asked = options->auth_mode == AUTH_MODE_HTTP
                         ? options->auth_http_connections * FILES_PER_REQUEST
                         : 0;
    return options->limits_files_reserved + asked + (options->admin_listen[0] != '\0' ? admin : 0) +
           (options->http_listen[0] != '\0' ? http : 0);
}

uint64_t connections_of_link(const struct options *options)
{
    uint64_t files = open_files_max();
    uint64_t others = options->limits_connections + files_reserved(options);
    uint64_t share = files > others && files - others > files / 8 ? files - others : files / 8;
    return share < LINK_FILES_MAX ? share : LINK_FILES_MAX;
}

uint32_t connections_max(const struct options *options)
{
    uint64_t others = files_reserved(options) + connections_of_link(options);
    return (uint32_t)open_files_left(others, options->limits_connections);
}

void connections_warn(const struct options *options, struct log *log)
{
    uint32_t most = connections_max(options);
    if (most < options->limits_connections)
        LOG(log, FEWER_CONNECTIONS, LOG_U("files", open_files_max()), LOG_U("connections", most));
}
