/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/wait.h"

/* Addresses. The care is all about ipc paths, because nng has none: it deletes whatever sits at
 * the path, a regular file too, and its test whether somebody serves the path is a connect and
 * close, which kills the listener of a running broker. So a lock file beside the socket decides
 * who owns the path, before anything touches the path itself. The lock file is never removed:
 * removing it while another process opens it would give the path two owners.
 *
 * A socket file found under our own lock is no broker's. It may still belong to some other
 * program, so we connect once, and remove it only when nobody answers. */

int link_errno(int error)
{
    if (error & NNG_ESYSERR)
        return -(error & ~NNG_ESYSERR);
    switch (error) {
    case 0:
        return 0;
    case NNG_ENOMEM:
        return -ENOMEM;
    case NNG_EADDRINUSE:
        return -EADDRINUSE;
    case NNG_EADDRINVAL:
    case NNG_EINVAL:
        return -EINVAL;
    case NNG_EPERM:
        return -EACCES;
    case NNG_ENOFILES:
        return -EMFILE;
    case NNG_ENOSPC:
        return -ENOSPC;
    case NNG_ENOTSUP:
        return -ENOTSUP;
    default:
        return -EIO;
    }
}

static int complain(char *error, int code, const char *what, const char *why)
{
    snprintf(error, LINK_ERROR_BYTES, "%s: %s", what, why);
    return code;
}

struct place endpoint_place(const char *path)
{
    struct place place = {.path = {.sun_family = AF_UNIX}, .size = sizeof(place.path)};
    snprintf(place.path.sun_path, sizeof(place.path.sun_path), "%s", path);
    return place;
}

int endpoint_init(struct endpoint *endpoint, const char *url, char *error)
{
    *endpoint = (struct endpoint){.lock_fd = -1, .mode = 0600, .group = (gid_t)-1};
    if (url == NULL || strlen(url) >= sizeof(endpoint->url))
        return complain(error, -ENAMETOOLONG, "link URL", "absent or too long");
    strcpy(endpoint->url, url);
    if (strncmp(url, "tcp://", 6) == 0)
        return 0;
    if (strncmp(url, "ipc://", 6) != 0 || url[6] == '\0')
        return complain(error, -EINVAL, url, "must be ipc://PATH or tcp://HOST:PORT");
    endpoint->path = endpoint->url + 6;
    struct sockaddr_un address;
    if (strlen(endpoint->path) >= sizeof(address.sun_path))
        return complain(error, -ENAMETOOLONG, url, "the path is longer than a socket's may be");
    endpoint->place = endpoint_place(endpoint->path);
    return 0;
}

static int make_folder(const char *path, char *error)
{
    char folder[LINK_URL_BYTES_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder)
        return 0;
    *slash = '\0';
    if (mkdir(folder, 0700) == 0 || errno == EEXIST)
        return 0;
    int code = -errno;
    return complain(error, code, folder, strerror(-code));
}

static int take_lock(struct endpoint *endpoint, char *error)
{
    char path[LINK_URL_BYTES_MAX + 8];
    snprintf(path, sizeof(path), "%s.lock", endpoint->path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int code = -errno;
        return complain(error, code, path, strerror(-code));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int code = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
        close(fd);
        return complain(error, code, endpoint->path,
                        code == -EADDRINUSE ? "another usher serves it" : strerror(-code));
    }
    endpoint->lock_fd = fd;
    return 0;
}

/* 1: a socket, 0: nothing, or -EEXIST and others. */
static int look_at(const char *path, char *error)
{
    struct stat status;
    if (lstat(path, &status) != 0) {
        int code = -errno;
        return code == -ENOENT ? 0 : complain(error, code, path, strerror(-code));
    }
    if (!S_ISSOCK(status.st_mode))
        return complain(error, -EEXIST, path, "exists and is not a socket; it is left alone");
    return 1;
}

/* Never waits: a full backlog is -EAGAIN. */
static int connect_place(const struct place *place)
{
    int fd = socket(place->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, &place->any, place->size) == 0 || errno == EINPROGRESS)
        return fd;
    int code = -errno;
    close(fd);
    return code;
}

/* Under the lock: what still sits at the path is stale, or it belongs to somebody else. */
static int check_claimed(const struct endpoint *endpoint, char *error)
{
    CHECK(endpoint->lock_fd >= 0);
    int code = look_at(endpoint->path, error); /* again: now nobody of us changes it */
    if (code <= 0)
        return code;
    int fd = connect_place(&endpoint->place);
    if (fd >= 0)
        close(fd);
    if (fd != -ECONNREFUSED && fd != -ENOENT)
        return complain(error, -EADDRINUSE, endpoint->path, "another program serves it");
    endpoint_unlink(endpoint);
    return 0;
}

int endpoint_claim(struct endpoint *endpoint, char *error)
{
    if (endpoint->path == NULL)
        return 0;
    CHECK(endpoint->lock_fd < 0);
    int code = make_folder(endpoint->path, error);
    if (code == 0)
        code = look_at(endpoint->path, error);
    if (code < 0)
        return code;
    code = take_lock(endpoint, error);
    if (code != 0)
        return code;
    code = check_claimed(endpoint, error);
    if (code != 0)
        endpoint_release(endpoint); /* so that nobody removes what is not ours */
    return code;
}

/* Makes a listener with our limits that does not listen yet; nng_listener_close if not started. */
static int make_listener(const struct endpoint *endpoint, nng_listener *listener, char *error)
{
    int failed = nng_listener_create(listener, endpoint->socket, endpoint->url);
    if (failed != 0)
        return complain(error, link_errno(failed), endpoint->url, nng_strerror(failed));
    failed = nng_listener_set_size(*listener, NNG_OPT_RECVMAXSZ, LINK_RECEIVE_BYTES_MAX);
    if (failed == 0 && endpoint->path != NULL)
        failed = nng_listener_set_int(*listener, NNG_OPT_IPC_PERMISSIONS, 0600);
    if (failed == 0 && endpoint->path == NULL)
        failed = nng_listener_set_bool(*listener, NNG_OPT_TCP_KEEPALIVE, true);
    if (failed == 0)
        return 0;
    nng_listener_close(*listener);
    return complain(error, link_errno(failed), endpoint->url, nng_strerror(failed));
}

int endpoint_group(const char *name, gid_t *group, char *error)
{
    *group = (gid_t)-1;
    if (name == NULL || name[0] == '\0')
        return 0;
    bool digits = name[strspn(name, "0123456789")] == '\0';
    unsigned long number = digits ? strtoul(name, NULL, 10) : ULONG_MAX;
    const struct group *found = digits ? NULL : getgrnam(name);
    if (found == NULL && number >= (gid_t)-1) { /* which is no group, and larger ones are cut */
        snprintf(error, LINK_ERROR_BYTES, "link.socket_group: there is no group \"%s\"", name);
        return -EINVAL;
    }
    *group = found != NULL ? found->gr_gid : (gid_t)number;
    return 0;
}

int link_check_group(const char *name, char *error)
{
    gid_t group;
    return endpoint_group(name, &group, error);
}

/* nng has made it for the owner alone; only then it is opened for whom it is. */
static int share(const struct endpoint *endpoint, char *error)
{
    if (endpoint->path == NULL)
        return 0;
    if ((endpoint->group == (gid_t)-1 || chown(endpoint->path, (uid_t)-1, endpoint->group) == 0) &&
        (endpoint->mode == 0600 || chmod(endpoint->path, endpoint->mode) == 0))
        return 0;
    int code = -errno;
    snprintf(error, LINK_ERROR_BYTES, "%s: link.socket_group and link.socket_mode: %s",
             endpoint->path, strerror(-code));
    return code;
}

/* Where it is bound; nothing for a path, which is known. A wildcard address is good enough: the
 * machine connects to itself. */
static void learn_place(struct endpoint *endpoint, nng_listener listener)
{
    nng_sockaddr bound;
    if (endpoint->path != NULL || nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &bound) != 0)
        return;
    endpoint->place = (struct place){0};
    if (bound.s_family == NNG_AF_INET) {
        endpoint->place.size = sizeof(endpoint->place.v4);
        endpoint->place.v4.sin_family = AF_INET;
        endpoint->place.v4.sin_port = bound.s_in.sa_port;
        endpoint->place.v4.sin_addr.s_addr = bound.s_in.sa_addr;
    } else if (bound.s_family == NNG_AF_INET6) {
        endpoint->place.size = sizeof(endpoint->place.v6);
        endpoint->place.v6.sin6_family = AF_INET6;
        endpoint->place.v6.sin6_port = bound.s_in6.sa_port;
        memcpy(&endpoint->place.v6.sin6_addr, bound.s_in6.sa_addr,
               sizeof(endpoint->place.v6.sin6_addr));
    }
}

/* A path's before it listens; that of an address as soon as it is known. */
static int open_gate(const struct endpoint *endpoint, char *error)
{
    int code = endpoint->place.size != 0 ? gate_open(&endpoint->place, endpoint->visitor) : 0;
    return code == 0 ? 0 : complain(error, code, endpoint->url, strerror(-code));
}

int endpoint_listen(struct endpoint *endpoint, char *error)
{
    nng_listener listener;
    CHECK(endpoint->path == NULL || endpoint->lock_fd >= 0);
    CHECK(endpoint->socket.id != 0 && endpoint->visitor != 0);
    int code = endpoint->path != NULL ? open_gate(endpoint, error) : 0;
    if (code == 0)
        code = make_listener(endpoint, &listener, error);
    if (code != 0)
        return code;
    int failed = nng_listener_start(listener, 0);
    if (failed != 0)
        nng_listener_close(listener); /* it never listened: nothing hangs on it */
    if (failed == NNG_EADDRINVAL)     /* its word for EADDRNOTAVAIL */
        return complain(error, -EADDRNOTAVAIL, endpoint->url, strerror(EADDRNOTAVAIL));
    if (failed != 0)
        return complain(error, link_errno(failed), endpoint->url, nng_strerror(failed));
    endpoint->listener = listener;
    atomic_store(&endpoint->state, ENDPOINT_SERVING);
    learn_place(endpoint, listener);
    code = open_gate(endpoint, error);
    return code == 0 ? share(endpoint, error) : code;
}

static uint64_t child_value(nng_stat *stat, const char *name)
{
    for (nng_stat *child = nng_stat_child(stat); child != NULL; child = nng_stat_next(child))
        if (strcmp(nng_stat_name(child), name) == 0)
            return nng_stat_value(child);
    return 0;
}

/* Listeners stand in the tree beside the sockets, under ids of their own. */
uint64_t endpoint_number(const struct endpoint *endpoint, const char *name)
{
    nng_stat *root;
    uint64_t number = 0;
    if (nng_stats_get(&root) != 0)
        return 0;
    for (nng_stat *stat = nng_stat_child(root); stat != NULL; stat = nng_stat_next(stat))
        if (strcmp(nng_stat_name(stat), "listener") == 0 &&
            child_value(stat, "id") == (uint64_t)nng_listener_id(endpoint->listener))
            number = child_value(stat, name);
    nng_stats_free(root);
    return number;
}

void endpoint_unlink(const struct endpoint *endpoint)
{
    struct stat status;
    if (endpoint->path == NULL || endpoint->lock_fd < 0)
        return;
    if (lstat(endpoint->path, &status) == 0 && S_ISSOCK(status.st_mode))
        unlink(endpoint->path);
}

void endpoint_release(struct endpoint *endpoint)
{
    gate_close(&endpoint->place);
    if (endpoint->lock_fd >= 0)
        close(endpoint->lock_fd);
    endpoint->lock_fd = -1;
}

/* A connect to our own machine is over at once, or never. */
int endpoint_knock(const struct endpoint *endpoint)
{
    struct place peer = {.size = sizeof(peer.path)};
    int fd = endpoint->place.size != 0 ? connect_place(&endpoint->place) : -EINVAL;
    for (int i = 0; fd >= 0 && i < 50 && getpeername(fd, &peer.any, &peer.size) != 0; i++)
        wait_nap(10);
    return fd;
}

bool endpoint_greet(const struct endpoint *endpoint, int fd)
{
    const uint8_t hello[8] = {0, 'S', 'P', 0, 0, endpoint->visitor, 0, 0};
    return send(fd, hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello);
}

nng_sockaddr endpoint_address(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } own = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof(own);
    nng_sockaddr address = {.s_family = NNG_AF_IPC};
    if (getsockname(fd, &own.any, &size) != 0)
        return address;
    if (own.any.sa_family == AF_INET) {
        address.s_in = (nng_sockaddr_in){.sa_family = NNG_AF_INET,
                                         .sa_port = own.in.sin_port,
                                         .sa_addr = own.in.sin_addr.s_addr};
    } else if (own.any.sa_family == AF_INET6) {
        address.s_in6 = (nng_sockaddr_in6){.sa_family = NNG_AF_INET6, .sa_port = own.in6.sin6_port};
        memcpy(address.s_in6.sa_addr, &own.in6.sin6_addr, sizeof(address.s_in6.sa_addr));
    }
    return address;
}
