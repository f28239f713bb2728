/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

/* Why nng's poller can take a whole processor, and what is done about it.
 *
 * nng puts a new connection into its epoll without asking for any event, and asks, for one event at
 * a time, only when a read or a write has to wait. A listener that has died goes on accepting and
 * makes the handshake. When the peer's part of it was there at once, nothing had to wait, and then
 * nobody reads from the connection any more: it stays in the epoll without a wish and without
 * EPOLLONESHOT. When such a peer hangs up (or resets, on tcp), epoll says so, which cannot be
 * declined, and says it again at once, and nng has no use for it: a loop for ever.
 *
 * The kernel shows what each epoll watches (/proc/self/fdinfo). A connection in nng's that is
 * watched for nothing, is hung up, and was so at the last look, a second ago, is an orphan: nng
 * itself closes what hangs up at once. We may not close it, because nng would close the number
 * again when it is somebody else's. So another open socket, which never has an event, is put
 * under its number: the kernel forgets the old one, its memory is free, and whatever nng does with
 * the number later meets a socket. The same may happen to a living connection whose peer has left
 * while all contexts were busy for a second: what nng then tries with it fails, as it should.
 *
 * Two looks at the same inode make sure that nng is not at it just then. */

enum { WATCHED_FOR_NOTHING = 0x18 /* EPOLLERR and EPOLLHUP, which are always on */ };

static bool read_info(int fd, char **text, size_t *size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool got = getdelim(text, size, '\0', file) > 0;
    fclose(file);
    return got;
}

/* The next watched descriptor of an epoll's text, and what it is watched for; NULL: no more. Not by
 * sscanf, which looks for the end of the text each time: ours watch thousands. */
static const char *next_watched(const char *text, int *fd, unsigned *events)
{
    static const char first[] = "tfd:", second[] = " events:";
    while ((text = strstr(text, first)) != NULL) {
        char *end;
        text += strlen(first);
        *fd = (int)strtol(text, &end, 10);
        if (strncmp(end, second, strlen(second)) == 0) {
            *events = (unsigned)strtoul(end + strlen(second), &end, 16);
            return end;
        }
    }
    return NULL;
}

static bool listens(int fd)
{
    int value = 0;
    socklen_t size = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value != 0;
}

static bool watches_a_listener(int epoll)
{
    char *text = NULL;
    size_t size = 0;
    int fd;
    unsigned events;
    bool found = false;
    if (read_info(epoll, &text, &size))
        for (const char *at = text; !found && (at = next_watched(at, &fd, &events)) != NULL;)
            found = listens(fd);
    free(text);
    return found;
}

static bool is_epoll(DIR *folder, const char *name)
{
    char target[64] = "";
    return readlinkat(dirfd(folder), name, target, sizeof(target) - 1) > 0 &&
           strcmp(target, "anon_inode:[eventpoll]") == 0;
}

static int find_poller(void)
{
    int found = -1;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return -1;
    for (struct dirent *entry; found < 0 && (entry = readdir(folder)) != NULL;)
        if (is_epoll(folder, entry->d_name) && watches_a_listener(atoi(entry->d_name)))
            found = atoi(entry->d_name);
    closedir(folder);
    return found;
}

int orphans_open(struct orphans *orphans)
{
    int pair[2] = {-1, -1};
    orphans->count = 0;
    orphans->poller = find_poller();
    if (orphans->poller >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        orphans->poller = -1;
    orphans->quiet = pair[0];
    orphans->other = pair[1];
    return orphans->poller >= 0 ? 0 : -ENOENT;
}

void orphans_close(struct orphans *orphans)
{
    if (orphans->quiet >= 0)
        close(orphans->quiet);
    if (orphans->other >= 0)
        close(orphans->other);
    orphans->quiet = orphans->other = orphans->poller = -1;
}

/* The inode of a socket that is hung up; 0: it is none. */
static uint64_t hung_up(int fd)
{
    struct stat status;
    struct pollfd look = {.fd = fd};
    bool gone = poll(&look, 1, 0) == 1 && (look.revents & (POLLHUP | POLLERR)) != 0;
    return gone && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

static bool was_seen(const struct orphans *orphans, int fd, uint64_t inode)
{
    for (unsigned i = 0; i < orphans->count; i++)
        if (orphans->seen[i].fd == fd && orphans->seen[i].inode == inode)
            return true;
    return false;
}

unsigned orphans_sweep(struct orphans *orphans)
{
    struct orphan now[LINK_ORPHANS_MAX];
    unsigned count = 0;
    unsigned swept = 0;
    char *text = NULL;
    size_t size = 0;
    int fd;
    unsigned events;
    if (orphans->poller < 0 || !read_info(orphans->poller, &text, &size)) {
        free(text);
        return 0;
    }
    CHECK(orphans->quiet >= 0 && orphans->count <= LINK_ORPHANS_MAX);
    for (const char *at = text; (at = next_watched(at, &fd, &events)) != NULL;) {
        uint64_t inode = events == WATCHED_FOR_NOTHING ? hung_up(fd) : 0;
        if (inode == 0)
            continue;
        if (was_seen(orphans, fd, inode))
            swept += dup3(orphans->quiet, fd, O_CLOEXEC) == fd;
        else if (count < LINK_ORPHANS_MAX)
            now[count++] = (struct orphan){fd, inode};
    }
    free(text);
    memcpy(orphans->seen, now, count * sizeof(*now));
    orphans->count = count;
    return swept;
}
