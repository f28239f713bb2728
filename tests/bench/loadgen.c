/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <inttypes.h>
#include <sys/prctl.h>

#include "loadgen.h"

/* Forward, fan-out, idle: the same load for every server (loadgen.h). Output: one line of
 * key=value pairs. Exit codes: 0 done, 1 something was lost, reordered or malformed, more: the run
 * failed. `usher-bench` knows all that usher can do; this program knows what all of them can. */

static const char usage[] =
    "usage: loadgen -P raw|nats|mqtt|redis|usher -S forward|fanout|room|idle -p PORT -b "
    "BROKER_PID\n"
    "  -u users  -w window  -s payload bytes  -t seconds  -W warm-up seconds\n"
    "  -r rate (open loop, messages/s; 0: closed loop)  -l label\n"
    "  -c logins in progress at once  -i source addresses\n"
    "  -a messages per user after idling  -T seconds to settle\n"
    "  -R rooms (a window only with one)  -n publishers in each (0: all)\n";

struct sample {
    uint64_t now, sent, got;
    struct process_sample server, self;
    double busy_s, stolen_s;
};

static struct sample sample(struct load *load)
{
    struct sample taken = {.now = now_ns(), .sent = load->sent, .got = load->got};

    process_sample((uint64_t)load->pid, &taken.server);
    process_sample(0, &taken.self);
    machine_cpu(&taken.busy_s, &taken.stolen_s);
    return taken;
}

static double cpu_s(const struct process_sample *from, const struct process_sample *to)
{
    return to->cpu_s - from->cpu_s;
}

/* What stands before each payload, once. */
static void make_prefixes(struct load *load)
{
    bool fan = load->scenario == FANOUT || load->scenario == ROOM;

    for (uint32_t i = 0; i < (load->scenario == FANOUT ? 1 : load->users); i++) {
        uint32_t to = load->scenario == ROOM     ? load_room(load, i)
                      : load->scenario == FANOUT ? 0
                                                 : (i + 1) % load->users;
        struct conn *conn = &load->conns[i];
        uint8_t bytes[PREFIX_BYTES_MAX];

        conn->prefix_bytes = load->protocol->prefix(bytes, to, fan, load->payload_bytes);
        conn->prefix = malloc(conn->prefix_bytes);
        memcpy(conn->prefix, bytes, conn->prefix_bytes);
        conn->credit = CREDIT_ENDLESS;
    }
}

/* --- idle ------------------------------------------------------------------------------------ */

static double each_bytes(const struct load *load, long from_kb, long to_kb)
{
    return (double)(to_kb - from_kb) * 1024 / load->users;
}

static void print_memory(const struct load *load, const struct memory *a, const struct memory *b)
{
    printf(" base_rss_kb=%ld rss_kb=%ld rss_per_conn=%.0f pss_per_conn=%.0f anon_per_conn=%.0f "
           "slab_per_conn=%.0f tcpmem_pages=%ld",
           a->rss_kb, b->rss_kb, each_bytes(load, a->rss_kb, b->rss_kb),
           each_bytes(load, a->pss_kb, b->pss_kb),
           each_bytes(load, a->anonymous_kb, b->anonymous_kb),
           each_bytes(load, a->slab_kb, b->slab_kb), b->tcp_pages);
}

static void idle_traffic(struct load *load, const struct memory *empty)
{
    uint64_t want = (uint64_t)load->users * load->after_messages;
    uint64_t end = now_ns() + 120000000000ull;

    make_prefixes(load);
    load->running = true;
    for (uint32_t i = 0; i < load->users; i++) {
        load->conns[i].credit = load->after_messages - 1;
        load->now = now_ns();
        load_send(load, &load->conns[i], load->now);
        if (i % 256 == 255)
            load_turn(load, 0);
    }
    while (load->got < want && now_ns() < end)
        load_turn(load, 100000000);
    load_quiet(load, load->settle_s);
    struct memory after = memory_of(load->pid);
    printf(" after_rss_per_conn=%.0f after_anon_per_conn=%.0f lost=%" PRId64 " order_err=%" PRIu64,
           each_bytes(load, empty->rss_kb, after.rss_kb),
           each_bytes(load, empty->anonymous_kb, after.anonymous_kb), (int64_t)(want - load->got),
           load->order_errors);
}

static int run_idle(struct load *load)
{
    struct memory empty = memory_of(load->pid);
    struct sample start = sample(load);
    load_connect(load);
    struct sample online = sample(load);
    double seconds = (double)(online.now - start.now) / 1e9;

    load_quiet(load, load->settle_s);
    struct memory settled = memory_of(load->pid);
    printf("peer=%s scen=idle users=%u conns_per_s=%.0f conn_cpu_us=%.1f conn_sys_us=%.1f",
           load->label, load->users, load->users / seconds,
           cpu_s(&start.server, &online.server) * 1e6 / load->users,
           (online.server.system_s - start.server.system_s) * 1e6 / load->users);
    print_memory(load, &empty, &settled);
    struct sample quiet = sample(load);
    load_quiet(load, load->settle_s);
    struct sample later = sample(load);
    printf(" idle_cpu_pct=%.2f", cpu_s(&quiet.server, &later.server) * 100 / load->settle_s);
    if (load->after_messages)
        idle_traffic(load, &empty);
    printf(" bad=%" PRIu64 "\n", load->bad);
    return load->order_errors || load->bad || load->got != load->sent;
}

/* --- forward and fan-out --------------------------------------------------------------------- */

/* Sends what is due and waits for what comes next. */
static void turn_at_rate(struct load *load, uint64_t *due, uint64_t step, uint32_t *next)
{
    while (*due <= load->now) {
        if (load->scenario == ROOM)
            load_publish(load, *due);
        else
            load_send(load, &load->conns[*next], *due);
        *next = load->scenario == FANOUT ? 0 : (*next + 1) % load->users;
        *due += step;
    }
    load_flush(load);
    load_turn(load, (int64_t)(*due > load->now ? *due - load->now : 0));
}

static void run_until(struct load *load, uint64_t end, uint64_t *due, uint32_t *next)
{
    uint64_t step = load->rate > 0 ? (uint64_t)(1e9 / load->rate) : 0;

    while ((load->now = now_ns()) < end)
        if (load->rate > 0)
            turn_at_rate(load, due, step, next);
        else
            load_turn(load, 20000000);
}

static void begin_windows(struct load *load)
{
    if (load->rate > 0 || load->scenario != FORWARD)
        return;
    for (uint32_t i = 0; i < load->users; i++)
        for (uint32_t k = 0; k < load->window; k++)
            load_send(load, &load->conns[i], now_ns());
    load_flush(load);
}

static uint64_t expected(const struct load *load)
{
    if (load->scenario == ROOM)
        return load->sent * (load->users / load->rooms);
    return load->scenario == FANOUT ? load->sent * (load->users - 1) : load->sent;
}

static void print_traffic(const struct load *load, const struct sample *a, const struct sample *b)
{
    double seconds = (double)(b->now - a->now) / 1e9, count = (double)(b->got - a->got);
    double server_s = cpu_s(&a->server, &b->server), self_s = cpu_s(&a->self, &b->self);
    double user_s = b->server.user_s - a->server.user_s;
    double other_s = b->busy_s - a->busy_s - server_s - self_s;

    printf("peer=%s scen=%s users=%u window=%u size=%u rate=%.0f msgs_per_s=%.0f "
           "broker_cpu_s_per_M=%.3f broker_user=%.3f broker_sys=%.3f broker_cpu_pct=%.0f "
           "loadgen_cpu_pct=%.0f other_cpu_pct=%.0f steal_pct=%.0f",
           load->label,
           load->scenario == FANOUT ? "fanout"
           : load->scenario == ROOM ? "room"
                                    : "forward",
           load->scenario == FANOUT ? load->users - 1 : load->users, load->window,
           load->payload_bytes, load->rate, count / seconds, server_s * 1e6 / count,
           user_s * 1e6 / count, (b->server.system_s - a->server.system_s) * 1e6 / count,
           server_s * 100 / seconds, self_s * 100 / seconds, other_s * 100 / seconds,
           (b->stolen_s - a->stolen_s) * 100 / seconds);
    printf(" p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.0f lost=%" PRId64 " order_err=%" PRIu64
           " bad=%" PRIu64 "\n",
           (double)histogram_quantile(&load->latency, .5) / 1e3,
           (double)histogram_quantile(&load->latency, .99) / 1e3,
           (double)histogram_quantile(&load->latency, .999) / 1e3,
           (double)load->latency.largest / 1e3, (int64_t)(expected(load) - load->got),
           load->order_errors, load->bad);
}

static int run_traffic(struct load *load)
{
    uint32_t next = 0;

    load_connect(load);
    make_prefixes(load);
    load->running = true;
    begin_windows(load);
    uint64_t due = now_ns(), start = due;
    run_until(load, start + (uint64_t)(load->warm_s * 1e9), &due, &next);
    load->recording = true;
    struct sample from = sample(load);
    run_until(load, from.now + (uint64_t)(load->seconds * 1e9), &due, &next);
    load->recording = false;
    struct sample to = sample(load);
    load->running = false;
    uint64_t drain = now_ns() + 5000000000ull;
    while (load->got < expected(load) && now_ns() < drain)
        load_turn(load, 20000000);
    print_traffic(load, &from, &to);
    return load->got != expected(load) || load->order_errors || load->bad;
}

/* --- the command line ------------------------------------------------------------------------ */

static bool take_option(struct load *load, int letter, const char *value)
{
    switch (letter) {
    case 'P':
        load->protocol = protocol_find(value);
        return load->protocol != NULL;
    case 'S':
        load->scenario = !strcmp(value, "fanout") ? FANOUT
                         : !strcmp(value, "room") ? ROOM
                         : !strcmp(value, "idle") ? IDLE
                                                  : FORWARD;
        return true;
    case 'l':
        load->label = value;
        return true;
    case 't':
        load->seconds = atof(value);
        return true;
    case 'W':
        load->warm_s = atof(value);
        return true;
    case 'r':
        load->rate = atof(value);
        return true;
    case 'T':
        load->settle_s = atof(value);
        return true;
    default:
        return false;
    }
}

static bool take_number(struct load *load, int letter, int value)
{
    const struct {
        int letter;
        uint32_t *field;
    } fields[] = {
        {'u', &load->users},   {'w', &load->window},         {'s', &load->payload_bytes},
        {'i', &load->sources}, {'a', &load->after_messages}, {'c', &load->joining_max},
        {'R', &load->rooms},   {'n', &load->publishers},
    };

    if (letter == 'p')
        load->port = value;
    if (letter == 'b')
        load->pid = value;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i].letter == letter)
            *fields[i].field = (uint32_t)value;
    return value >= 0;
}

static bool read_options(struct load *load, int argc, char **argv)
{
    bool valid = true;
    int letter;

    *load = (struct load){.users = 100,
                          .window = 1,
                          .payload_bytes = 32,
                          .seconds = 3,
                          .warm_s = 0.7,
                          .settle_s = 2,
                          .joining_max = 256,
                          .rooms = 1,
                          .sources = 1};
    while (valid && (letter = getopt(argc, argv, "P:S:p:u:w:s:t:W:r:b:l:c:a:i:T:R:n:")) != -1)
        valid = strchr("PSltWrT", letter)
                    ? take_option(load, letter, optarg)
                    : letter != '?' && take_number(load, letter, atoi(optarg));
    if (valid && load->label == NULL && load->protocol != NULL)
        load->label = load->protocol->name;
    if (load->publishers == 0)
        load->publishers = load->users / (load->rooms ? load->rooms : 1);
    return valid && load->protocol && load->port && load->users >= 2 && load->rooms >= 1 &&
           load->users % load->rooms == 0 &&
           (load->rooms == 1 || load->rate > 0 || load->scenario != ROOM) &&
           load->payload_bytes >= PAYLOAD_BYTES_MIN && load->payload_bytes <= 60000;
}

int main(int argc, char **argv)
{
    static struct load load;

    if (!read_options(&load, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (load.scenario == FANOUT)
        load.users++; /* user 0 publishes, the rest subscribe */
    raise_nofile();
    prctl(PR_SET_TIMERSLACK, 1000);
    load.conns = calloc(load.users, sizeof(*load.conns));
    load.dirty = calloc(load.users, sizeof(*load.dirty));
    load.input = malloc(READ_BYTES);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < load.users; i++)
        load.conns[i].id = i;
    for (uint32_t i = 0; i < load.payload_bytes; i++)
        load.payload[i] = (uint8_t)('a' + i % 26);
    return load.scenario == IDLE ? run_idle(&load) : run_traffic(&load);
}
