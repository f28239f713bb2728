/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "sim_room.h"

/* What owners are told of their rooms, by mail, and what anybody is told who asks. Rules:
 *
 *   NEWS   each piece once, or marked; in order; a number is left out only where the broker has
 *          counted one as lost; and they tell one story: who comes was not there, who goes was
 *   PAGE   a list of members is what the news up to its number have made of them; in the end it is
 *          who the clients think that they are */

enum { DROPPED_ASKS = 8 };

/* --- questions -------------------------------------------------------------------------------- */

void rooms_ask(struct world *world, uint32_t index, const Usher__V1__RoomAsk *ask)
{
    struct rooms_world *rooms = world->rooms;
    int room = rooms->on ? room_named(world, ask->room) : NOBODY;
    tell(world, "backend %u: may %s %llu in %s, kind %d%s", index, ask->user,
         (unsigned long long)ask->epoch, ask->room, (int)ask->kind,
         ask->redelivered ? " again" : "");
    count(world, COUNT_room_asks);
    if (room == NOBODY || !rooms->rooms[room].owned) {
        broken(world, "NEWS", "a question about %s, which has no owner", ask->room);
        return;
    }
    if (rooms->ask_count[index] == ROOM_ASKS || one_in(world, DROPPED_ASKS))
        return;
    rooms->asks[index][rooms->ask_count[index]++] =
        (struct room_ask){ask->call, ask->epoch, user_named(world, ask->user), room};
}

/* --- news ------------------------------------------------------------------------------------- */

static struct news_row *row_of(struct life *life, uint64_t seq)
{
    if (seq >= life->news_size) {
        uint64_t size = (seq + 1) * 2;
        life->news = realloc(life->news, size * sizeof(*life->news));
        CHECK_DEBT(life->news != NULL, "no memory for the simulation");
        memset(life->news + life->news_size, 0, (size - life->news_size) * sizeof(*life->news));
        life->news_size = size;
    }
    return &life->news[seq];
}

/* Who is in it, as the news up to a number say; false: some of them are not known. */
static bool members_by_news(const struct life *life, uint64_t seq, uint32_t *members,
                            uint32_t *away)
{
    *members = *away = 0;
    for (uint64_t i = 1; i <= seq; i++) {
        if (i >= life->news_size || life->news[i].kind == 0)
            return false;
        const struct news_row *row = &life->news[i];
        uint32_t bit = row->user != NOBODY ? 1u << row->user : 0;
        switch (row->kind) {
        case USHER__V1__ROOM_NEWS__KIND__JOINED:
            *members |= bit;
            *away &= ~bit;
            break;
        case USHER__V1__ROOM_NEWS__KIND__LEFT:
            *members &= ~bit;
            *away &= ~bit;
            break;
        case USHER__V1__ROOM_NEWS__KIND__AWAY:
            *away |= bit;
            break;
        case USHER__V1__ROOM_NEWS__KIND__BACK:
            *away &= ~bit;
            break;
        default:
            break;
        }
    }
    return true;
}

/* The story goes on from what it was. */
static void check_story(struct world *world, const struct life *life, uint64_t seq)
{
    uint32_t members, away;
    const struct news_row *row = &life->news[seq];
    if (!members_by_news(life, seq - 1, &members, &away))
        return;
    uint32_t bit = row->user != NOBODY ? 1u << row->user : 0;
    bool is_in = (members & bit) != 0, is_away = (away & bit) != 0;
    bool right = row->kind == USHER__V1__ROOM_NEWS__KIND__JOINED ? !is_in
                 : row->kind == USHER__V1__ROOM_NEWS__KIND__LEFT ? is_in
                 : row->kind == USHER__V1__ROOM_NEWS__KIND__AWAY ? is_in && !is_away
                 : row->kind == USHER__V1__ROOM_NEWS__KIND__BACK ? is_in && is_away
                                                                 : true;
    if ((row->kind == USHER__V1__ROOM_NEWS__KIND__OPENED) != (seq == 1))
        right = false;
    if (!right)
        broken(world, "NEWS", "news %llu of %s are kind %d of user %d; members %x, away %x",
               (unsigned long long)seq, world->rooms->rooms[life->room].name, row->kind, row->user,
               members, away);
}

static void compare(struct world *world, struct room_page *page)
{
    struct life *life = life_find(world, page->incarnation);
    uint32_t members, away, told = 0, told_away = 0;
    if (page->incarnation == 0 || life == NULL ||
        !members_by_news(life, page->news_seq, &members, &away))
        return;
    for (uint32_t i = 0; i < page->count; i++) {
        told |= 1u << page->rows[i].user;
        told_away |= page->rows[i].away ? 1u << page->rows[i].user : 0;
    }
    count(world, COUNT_room_pages);
    if (told != members || told_away != away)
        broken(world, "PAGE", "%s has the members %x, away %x, by news %llu %x and %x",
               world->rooms->rooms[life->room].name, told, told_away,
               (unsigned long long)page->news_seq, members, away);
    page->incarnation = 0;
}

static void note_gap(struct world *world, struct life *life, uint64_t seq)
{
    struct rooms_world *rooms = world->rooms;
    if (seq == life->news_last + 1)
        return;
    life->news_missing = true;
    rooms->news_gaps += seq - life->news_last - 1;
    count(world, COUNT_room_news_missing);
    uint64_t lost = metrics_read(world->broker->metrics, METRIC_room_news_lost);
    if (rooms->news_gaps > lost)
        broken(world, "NEWS", "%llu news are missing, %llu were counted as lost",
               (unsigned long long)rooms->news_gaps, (unsigned long long)lost);
}

static void check_numbers_of(struct world *world, uint32_t index, struct life *life,
                             const Usher__V1__RoomNews *news)
{
    struct backend *backend = &world->backends[index];
    if (life->link[index] == backend->link && news->news_seq <= life->link_seq[index])
        broken(world, "NEWS", "news %llu of %s come behind %llu",
               (unsigned long long)news->news_seq, news->room,
               (unsigned long long)life->link_seq[index]);
    life->link[index] = backend->link;
    life->link_seq[index] = news->news_seq;
    count(world, news->redelivered ? COUNT_room_news_again : COUNT_room_news);
    world_watch_instances(world);
    if (!backend_is_instance(backend))
        return; /* another has them meanwhile */
    if (news->news_seq <= life->news_last && !news->redelivered)
        broken(world, "NEWS", "news %llu of %s come again, unmarked, after %llu",
               (unsigned long long)news->news_seq, news->room, (unsigned long long)life->news_last);
    if (news->news_seq > life->news_last && world->broker != NULL) {
        note_gap(world, life, news->news_seq);
        life->news_last = news->news_seq;
    }
}

static void note_news(struct world *world, struct life *life, const Usher__V1__RoomNews *news)
{
    bool message = news->kind == USHER__V1__ROOM_NEWS__KIND__MESSAGE;
    struct news_row fresh = {.kind = (uint8_t)news->kind,
                             .user = *news->user != '\0' ? user_named(world, news->user) : NOBODY,
                             .epoch = news->epoch};
    struct news_row *row = row_of(life, news->news_seq);
    if (row->kind != 0 && (row->kind != fresh.kind || row->user != fresh.user))
        broken(world, "NEWS", "news %llu of %s are two", (unsigned long long)news->news_seq,
               news->room);
    bool known = row->kind != 0;
    *row = fresh;
    if (message)
        check_content(world, life, news->offset,
                      (struct bytes){news->payload.data, news->payload.len}, news->user,
                      news->service);
    else
        life_knows(life, news->offset);
    if (news->kind == USHER__V1__ROOM_NEWS__KIND__CLOSED)
        life->closed = true;
    if (!known)
        check_story(world, life, news->news_seq);
}

void rooms_news(struct world *world, uint32_t index, const Usher__V1__RoomNews *news)
{
    struct rooms_world *rooms = world->rooms;
    int room = rooms->on ? room_named(world, news->room) : NOBODY;
    tell(world, "backend %u: news %llu of %s %llu: %s %llu kind %d cause %d%s", index,
         (unsigned long long)news->news_seq, news->room, (unsigned long long)news->incarnation,
         news->user, (unsigned long long)news->epoch, (int)news->kind, (int)news->cause,
         news->redelivered ? " again" : "");
    if (room == NOBODY || !rooms->rooms[room].owned || news->news_seq == 0 ||
        (news->kind == USHER__V1__ROOM_NEWS__KIND__MESSAGE && !rooms->rooms[room].follows)) {
        broken(world, "NEWS", "news of %s are for nobody", news->room);
        return;
    }
    struct life *life = life_of(world, news->incarnation, room);
    check_numbers_of(world, index, life, news);
    note_news(world, life, news);
    for (uint32_t i = 0; i < rooms->page_count && world->rule == NULL; i++)
        if (rooms->pages[i].incarnation == news->incarnation)
            compare(world, &rooms->pages[i]);
}

/* --- pages ------------------------------------------------------------------------------------ */

/* All is quiet: they are whose clients think so. */
static void compare_with_views(struct world *world, struct life *life, uint32_t told)
{
    uint32_t members;
    if (!rooms_members(world, life, &members))
        return;
    count(world, COUNT_room_pages_final);
    if (told != members)
        broken(world, "PAGE", "%s has the members %x in the end, their clients say %x",
               world->rooms->rooms[life->room].name, told, members);
}

void rooms_page(struct world *world, const Usher__V1__RoomMemberList *list, int room)
{
    struct rooms_world *rooms = world->rooms;
    struct room_page page = {.incarnation = list->incarnation, .news_seq = list->news_seq};
    struct life *life = life_of(world, list->incarnation, room);
    uint32_t told = 0;
    life_knows(life, list->offset);
    if (list->n_members > USERS || *list->next != '\0') {
        broken(world, "PAGE", "a list of %zu members of %s, next %s", list->n_members,
               rooms->rooms[room].name, list->next);
        return;
    }
    for (size_t i = 0; i < list->n_members; i++) {
        const Usher__V1__RoomMemberInfo *member = list->members[i];
        int user = user_named(world, member->user);
        if (told & 1u << user)
            broken(world, "PAGE", "%s is listed twice in %s", member->user,
                   rooms->rooms[room].name);
        tell(world, "  in %s: %s %llu%s%s", rooms->rooms[room].name, member->user,
             (unsigned long long)member->epoch, member->away ? " away" : "",
             member->carry ? " stays" : "");
        told |= 1u << user;
        page.rows[page.count++] = (struct page_row){user, member->away};
    }
    if (world->healing && rooms->final_pages > 0)
        compare_with_views(world, life, told);
    if (!rooms->rooms[room].owned || rooms->page_count == PAGES_MAX)
        return;
    rooms->pages[rooms->page_count] = page;
    compare(world, &rooms->pages[rooms->page_count++]);
}
