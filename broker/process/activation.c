/* SPDX-License-Identifier: Apache-2.0 */
#include "process/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"

/* The service manager opens the sockets before it starts us and keeps them while we are restarted,
 * so clients who connect meanwhile wait instead of being refused; and a port below 1024 needs no
 * right of ours.
 *
 * Descriptors come from 3 on. A socket's name says which option it stands for (base/listeners.def);
 * one without such a name is listen.tcp, if it is not called as another option is. What cannot be
 * served is an error, never ignored: the manager would hold a port open that nobody answers. The
 * rule that auth.mode open is for loopback alone holds for the address that the socket really has.
 */

enum { FIRST_FD = 3, FDS_MAX = ACTIVATION_FDS_MAX };

static int refuse(char *error, int fd, const char *name, const char *what)
{
    char accepted[256] = "";
    for (size_t kind = 0, size = 0; kind < LISTENERS && size < sizeof(accepted); kind++)
        size += (size_t)snprintf(accepted + size, sizeof(accepted) - size, "%s for %s",
                                 kind == 0 ? "" : " and one", listener_rows[kind].option);
    snprintf(error, ACTIVATION_ERROR_BYTES,
             "socket activation: descriptor %d (%.40s) %s; accepted: one listening TCP socket%s, "
             "called so by FileDescriptorName=",
             fd, name, what, accepted);
    return -EINVAL;
}

static bool has_option(int fd, int option, int wanted)
{
    int value = 0;
    socklen_t size = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int check_socket(int fd, const char *name, const struct options *options, char *error)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6) ||
        !has_option(fd, SO_TYPE, SOCK_STREAM) || !has_option(fd, SO_ACCEPTCONN, 1))
        return refuse(error, fd, name, "is no TCP socket that listens");
    if (options->auth_allow_open_network || is_loopback(&address))
        return 0;
    if (options->auth_mode == AUTH_MODE_OPEN)
        return refuse(error, fd, name,
                      "is not on a loopback address, and auth.mode open believes every name");
    if (options->friends_mode == FRIENDS_OPEN)
        return refuse(error, fd, name,
                      "is not on a loopback address, and friends.mode open shows everybody to "
                      "everybody");
    return 0;
}

/* Called by another option that is an address: no name of a unit looks like that, and what was
 * meant for operators or backends must not be a door for players. */
static bool is_of_others(const char *name)
{
    static const char *const others[] = {"admin.listen", "http.listen", "link.urls", "feed.url"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strcmp(name, others[i]) == 0)
            return true;
    return false;
}

static int take_one(struct passed_sockets *passed, int fd, const char *name,
                    const struct options *options, char *error)
{
    enum listener_kind kind = listener_of_option(name);
    if (kind == LISTENERS && is_of_others(name))
        return refuse(error, fd, name, "is not for players, and only theirs can be passed");
    int *place = &passed->fds[kind != LISTENERS ? kind : LISTENER_tcp];
    if (*place != 0)
        return refuse(error, fd, name, "is the second of its kind");
    int failed = check_socket(fd, name, options, error);
    if (failed != 0)
        return failed;
    /* Another process may have set it up for blocking calls, and left it open for our children. */
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        return refuse(error, fd, name, "cannot be set up");
    *place = fd;
    passed->managed[kind != LISTENERS ? kind : LISTENER_tcp] = true;
    return 0;
}

/* How many were passed, to this process and not to one that it was started by. */
static long passed_count(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    return strtol(count, NULL, 10);
}

/* The next of the names between colons, "" at their end. */
static void next_name(const char **names, char *name, size_t size)
{
    size_t length = *names != NULL ? strcspn(*names, ":") : 0;
    snprintf(name, size, "%.*s", (int)length, *names != NULL ? *names : "");
    if (*names != NULL)
        *names = (*names)[length] == ':' ? *names + length + 1 : NULL;
}

void activation_keep(struct kept_sockets *kept, const struct passed_sockets *passed)
{
    size_t size = 0;
    *kept = (struct kept_sockets){0};
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        if (!passed->managed[kind])
            continue;
        kept->fds[kept->count] = fcntl(passed->fds[kind], F_DUPFD_CLOEXEC, 10);
        size += (size_t)snprintf(kept->names + size, sizeof(kept->names) - size, "%s%s",
                                 kept->count == 0 ? "" : ":", listener_rows[kind].option);
        CHECK(size < sizeof(kept->names));
        kept->count++;
    }
}

void activation_give(const struct kept_sockets *kept)
{
    char number[16];
    if (kept->count == 0)
        return;
    for (int i = 0; i < kept->count; i++)
        (void)!dup2(kept->fds[i], FIRST_FD + i);
    snprintf(number, sizeof(number), "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
    snprintf(number, sizeof(number), "%d", kept->count);
    setenv("LISTEN_FDS", number, 1);
    setenv("LISTEN_FDNAMES", kept->names, 1);
}

int activation_take(struct passed_sockets *passed, const struct options *options, char *error)
{
    const char *names = getenv("LISTEN_FDNAMES");
    long count = passed_count();
    int failed = 0;
    *passed = (struct passed_sockets){0};
    for (int i = 0; i < count && failed == 0; i++) {
        char name[256];
        next_name(&names, name, sizeof(name));
        failed = i < FDS_MAX ? take_one(passed, FIRST_FD + i, name, options, error)
                             : refuse(error, FIRST_FD + i, name, "is one too many");
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return failed;
}
