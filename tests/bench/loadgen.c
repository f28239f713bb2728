/* SPDX-License-Identifier: Apache-2.0 */
/* Neutral load generator for user->user message brokers.
 *
 * One process, one thread, one epoll set.  It plays every client, so it knows
 * both ends of each message: closed-loop credits, end-to-end latency on one
 * clock, order and loss are all checked here and not in the broker.
 *
 * Protocols: raw (u32 length + u32 id), skynet (u16 length + u32 id),
 *            nats, mqtt (3.1.1 QoS 0), redis (RESP3 pub/sub).
 * Scenarios: forward, fanout, idle (also the connect storm).
 * Output: one line of key=value pairs on stdout.
 */
#include "benchnet.h"
#include <ctype.h>
#include <dirent.h>
#include <getopt.h>
#include <inttypes.h>
#include <sys/prctl.h>

#define RBUF (256 * 1024)
#define MINPAY 24

enum {
    CLOSED,
    CONNECTING,
    LOGIN,
    READY
};
enum {
    FORWARD,
    FANOUT,
    IDLE
};

struct conn {
    int fd;
    uint8_t state, dirty, wantw;
    uint32_t id, next_seq, exp_seq;
    uint32_t credit_left; /* for counted traffic; UINT32_MAX = no end */
    uint8_t *pre;         /* bytes before the payload, fixed per connection */
    uint32_t pre_len;
    struct buf in, out;
};

struct proto {
    const char *name;
    void (*login)(struct conn *);
    uint32_t (*prefix)(uint8_t *to, uint32_t dst, int fan, uint32_t plen);
    uint32_t (*parse)(struct conn *, uint8_t *, uint32_t);
    const char *suffix;
};

static int scenario, users = 100, window = 1, plen = 32, port, storm_cap = 256;
static double secs = 3, warm = 0.7, rate, settle = 2;
static int after_msgs, srcs = 1, verbose;
static pid_t bpid;
static const struct proto *P;
static struct conn *C;
static int ep, ready, connecting;
static uint32_t next_connect;
static uint64_t sent, got, order_err, bad, lost_hint;
static uint8_t payload[65536];
static int suffix_len, running, recording;
static uint32_t *dirty, ndirty;
static uint64_t tnow;

/* ---- latency histogram: 64 linear steps per power of two ---- */
#define SUB 64
static uint64_t hist[64 * SUB], hist_n, hist_max;
static void hist_add(uint64_t v)
{
    uint32_t b;
    if (v < SUB) {
        b = (uint32_t)v;
    } else {
        int e = 63 - __builtin_clzll(v);
        b = (uint32_t)(e - 5) * SUB + (uint32_t)((v >> (e - 6)) & (SUB - 1));
    }
    hist[b]++;
    hist_n++;
    if (v > hist_max)
        hist_max = v;
}
static double hist_pct(double q)
{
    uint64_t want = (uint64_t)(q * (double)hist_n), acc = 0;
    for (uint32_t b = 0; b < 64 * SUB; b++) {
        acc += hist[b];
        if (acc > want) {
            if (b < SUB)
                return b / 1000.0;
            uint32_t e = b / SUB + 5, s = b % SUB;
            return (double)((uint64_t)(SUB + s) << (e - 6)) / 1000.0;
        }
    }
    return (double)hist_max / 1000.0;
}

/* ---- the broker as /proc sees it ---- */
static void cpu_of(pid_t pid, double *u, double *s)
{
    char path[64], line[2048], *q;
    unsigned long ut = 0, st = 0;
    FILE *f;
    *u = *s = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    if (!f)
        return;
    if (fgets(line, sizeof line, f) && (q = strrchr(line, ')')))
        sscanf(q + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &ut, &st);
    fclose(f);
    *u = (double)ut / (double)sysconf(_SC_CLK_TCK);
    *s = (double)st / (double)sysconf(_SC_CLK_TCK);
}
static double self_cpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_stime.tv_sec +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}
/* CPU seconds of every process (reaped children included) and what the host
 * took away: tells a disturbed run from a calm one.  Summed per process, because
 * /proc/stat samples by tick and misjudges short bursts. */
static void machine_cpu(double *busy, double *steal)
{
    char path[64], line[2048], *q;
    unsigned long v[8] = {0}, ut, st;
    long cu, cs;
    double hz = (double)sysconf(_SC_CLK_TCK);
    struct dirent *e;
    DIR *d = opendir("/proc");
    FILE *f;
    *busy = *steal = 0;
    while (d && (e = readdir(d))) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        f = fopen(path, "r");
        if (!f)
            continue;
        if (fgets(line, sizeof line, f) && (q = strrchr(line, ')')) &&
            sscanf(q + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &ut, &st,
                   &cu, &cs) == 4)
            *busy += (double)(ut + st) / hz + (double)(cu + cs) / hz;
        fclose(f);
    }
    if (d)
        closedir(d);
    f = fopen("/proc/stat", "r");
    if (f && fscanf(f, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", v, v + 1, v + 2, v + 3, v + 4, v + 5,
                    v + 6, v + 7) == 8)
        *steal = (double)v[7] / hz;
    if (f)
        fclose(f);
}
struct mem {
    long rss, pss, anon, slab, tcppages;
};
static long field(const char *path, const char *key)
{
    char line[512];
    long v = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) {
            char *q = line + strlen(key);
            if (!strcmp(key, "TCP:")) {
                q = strstr(line, "mem ");
                q = q ? q + 3 : line + 4;
            }
            v = atol(q);
            break;
        }
    fclose(f);
    return v;
}
static struct mem mem_of(pid_t pid)
{
    char path[64];
    struct mem m;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    m.rss = field(path, "Rss:");
    m.pss = field(path, "Pss:");
    m.anon = field(path, "Anonymous:");
    m.slab = field("/proc/meminfo", "Slab:");
    m.tcppages = field("/proc/net/sockstat", "TCP:");
    return m;
}

/* ---- sending ---- */
static void mark(struct conn *c)
{
    if (!c->dirty) {
        c->dirty = 1;
        dirty[ndirty++] = c->id;
    }
}
static void out_str(struct conn *c, const char *s)
{
    buf_add(&c->out, s, (uint32_t)strlen(s));
    mark(c);
}
static void send_msg(struct conn *c, uint64_t stamp)
{
    uint32_t seq = c->next_seq++;
    memcpy(payload, &stamp, 8);
    memcpy(payload + 8, &c->id, 4);
    memcpy(payload + 12, &seq, 4);
    uint8_t *o = buf_room(&c->out, c->pre_len + (uint32_t)plen + 2);
    memcpy(o, c->pre, c->pre_len);
    memcpy(o + c->pre_len, payload, (size_t)plen);
    memcpy(o + c->pre_len + plen, P->suffix, (size_t)suffix_len);
    c->out.len += c->pre_len + (uint32_t)plen + (uint32_t)suffix_len;
    mark(c);
    sent++;
}
static void flush(struct conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = c->id};
    while (c->out.off < c->out.len) {
        ssize_t n = send(c->fd, c->out.p + c->out.off, c->out.len - c->out.off, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN)
                die("send");
            if (!c->wantw) {
                c->wantw = 1;
                ev.events |= EPOLLOUT;
                epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
            }
            return;
        }
        c->out.off += (uint32_t)n;
    }
    c->out.off = c->out.len = 0;
    if (c->wantw) {
        c->wantw = 0;
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    }
}
static void flush_all(void)
{
    for (uint32_t i = 0; i < ndirty; i++) {
        C[dirty[i]].dirty = 0;
        flush(&C[dirty[i]]);
    }
    ndirty = 0;
}

/* ---- events from the parsers ---- */
static void on_ready(struct conn *c)
{
    if (c->state != LOGIN)
        return;
    c->state = READY;
    ready++;
    connecting--;
    if (scenario == IDLE) /* keep this process small */
        buf_free(&c->out);
}
static void fan_pump(void)
{
    uint64_t subs = (uint64_t)users - 1;
    while (running && sent * subs < got + lost_hint + (uint64_t)window * subs)
        send_msg(&C[0], tnow);
}
static void on_msg(struct conn *c, const uint8_t *p, uint32_t n)
{
    uint64_t stamp;
    uint32_t src, seq;
    if (n != (uint32_t)plen) {
        bad++;
        return;
    }
    memcpy(&stamp, p, 8);
    memcpy(&src, p + 8, 4);
    memcpy(&seq, p + 12, 4);
    if (src != (scenario == FANOUT ? 0 : (c->id + (uint32_t)users - 1) % (uint32_t)users)) {
        bad++;
        return;
    }
    if (seq != c->exp_seq)
        order_err++;
    c->exp_seq = seq + 1;
    got++;
    if (recording)
        hist_add(tnow > stamp ? tnow - stamp : 0);
    if (running && rate == 0 && scenario != FANOUT) {
        struct conn *s = &C[src];
        if (s->credit_left) {
            if (s->credit_left != UINT32_MAX)
                s->credit_left--;
            send_msg(s, tnow);
        }
    }
}

/* ---- raw and skynet framing ---- */
static void raw_login(struct conn *c)
{
    uint8_t b[8];
    put32(b, 4);
    put32(b + 4, c->id);
    buf_add(&c->out, b, 8);
    mark(c);
}
static uint32_t raw_prefix(uint8_t *to, uint32_t dst, int fan, uint32_t n)
{
    put32(to, 4 + n);
    put32(to + 4, fan ? UINT32_MAX : dst);
    return 8;
}
static uint32_t raw_parse(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (n - at >= 4) {
        uint32_t len = get32(p + at);
        if (n - at < 4 + len)
            break;
        if (len == 4)
            on_ready(c);
        else
            on_msg(c, p + at + 8, len - 4);
        at += 4 + len;
    }
    return at;
}
static void sky_login(struct conn *c)
{
    uint8_t b[6] = {0, 4};
    put32(b + 2, c->id);
    buf_add(&c->out, b, 6);
    mark(c);
}
static uint32_t sky_prefix(uint8_t *to, uint32_t dst, int fan, uint32_t n)
{
    to[0] = (uint8_t)((n + 4) >> 8);
    to[1] = (uint8_t)(n + 4);
    put32(to + 2, fan ? UINT32_MAX : dst);
    return 6;
}
static uint32_t sky_parse(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (n - at >= 2) {
        uint32_t len = (uint32_t)p[at] << 8 | p[at + 1];
        if (n - at < 2 + len)
            break;
        if (len == 4)
            on_ready(c);
        else
            on_msg(c, p + at + 6, len - 4);
        at += 2 + len;
    }
    return at;
}

/* ---- NATS ---- */
static void nats_login(struct conn *c)
{
    char b[200];
    out_str(c, "CONNECT "
               "{\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\","
               "\"protocol\":1}\r\n");
    if (scenario == FANOUT && c->id)
        snprintf(b, sizeof b, "SUB fan 1\r\nPING\r\n");
    else
        snprintf(b, sizeof b, "SUB u.%u 1\r\nPING\r\n", c->id);
    out_str(c, b);
}
static uint32_t nats_prefix(uint8_t *to, uint32_t dst, int fan, uint32_t n)
{
    if (fan)
        return (uint32_t)sprintf((char *)to, "PUB fan %u\r\n", n);
    return (uint32_t)sprintf((char *)to, "PUB u.%u %u\r\n", dst, n);
}
static uint32_t nats_parse(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (at < n) {
        uint8_t *e = memchr(p + at, '\n', n - at), *q;
        uint32_t line, size = 0, mul = 1;
        if (!e)
            break;
        line = (uint32_t)(e - (p + at)) + 1;
        if (p[at] == 'M') {
            for (q = e - 2; isdigit(*q); q--, mul *= 10)
                size += (uint32_t)(*q - '0') * mul;
            if (n - at < line + size + 2)
                break;
            on_msg(c, e + 1, size);
            at += line + size + 2;
            continue;
        }
        if (line >= 4 && !memcmp(p + at, "PING", 4))
            out_str(c, "PONG\r\n");
        else if (line >= 4 && !memcmp(p + at, "PONG", 4))
            on_ready(c);
        else if (p[at] == '-') {
            fprintf(stderr, "nats: %.*s", (int)line, p + at);
            bad++;
        }
        at += line;
    }
    return at;
}

/* ---- MQTT 3.1.1 ---- */
static uint32_t mq_len(uint8_t *to, uint32_t v)
{
    uint32_t k = 0;
    do {
        uint8_t b = v & 127;
        v >>= 7;
        to[k++] = (uint8_t)(b | (v ? 128 : 0));
    } while (v);
    return k;
}
static uint32_t mq_topic(char *t, uint32_t id, int fan)
{
    return (uint32_t)(fan ? sprintf(t, "fan") : sprintf(t, "u/%u", id));
}
static void mqtt_login(struct conn *c)
{
    uint8_t b[128];
    char t[32], cid[32];
    uint32_t tl = mq_topic(t, c->id, scenario == FANOUT && c->id), k = 0;
    uint32_t cl = (uint32_t)sprintf(cid, "c%u", c->id);
    b[k++] = 0x10;
    k += mq_len(b + k, 12 + cl);
    memcpy(b + k, "\0\4MQTT\4\2\0\0", 10); /* level 4, clean session, no keepalive */
    k += 10;
    b[k++] = 0;
    b[k++] = (uint8_t)cl;
    memcpy(b + k, cid, cl);
    k += cl;
    b[k++] = 0x82;
    k += mq_len(b + k, 5 + tl);
    b[k++] = 0;
    b[k++] = 1;
    b[k++] = 0;
    b[k++] = (uint8_t)tl;
    memcpy(b + k, t, tl);
    k += tl;
    b[k++] = 0;
    buf_add(&c->out, b, k);
    mark(c);
}
static uint32_t mqtt_prefix(uint8_t *to, uint32_t dst, int fan, uint32_t n)
{
    char t[32];
    uint32_t tl = mq_topic(t, dst, fan), k = 0;
    to[k++] = 0x30;
    k += mq_len(to + k, 2 + tl + n);
    to[k++] = 0;
    to[k++] = (uint8_t)tl;
    memcpy(to + k, t, tl);
    return k + tl;
}
static uint32_t mqtt_parse(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (n - at >= 2) {
        uint32_t len = 0, k = 1, sh = 0, tl;
        while (at + k < n && (p[at + k] & 128) && k < 4) {
            len |= (uint32_t)(p[at + k++] & 127) << sh;
            sh += 7;
        }
        if (at + k >= n)
            break;
        len |= (uint32_t)p[at + k++] << sh;
        if (n - at < k + len)
            break;
        switch (p[at] & 0xf0) {
        case 0x20:
            if (p[at + k + 1])
                bad++;
            break;
        case 0x90:
            on_ready(c);
            break;
        case 0x30:
            tl = (uint32_t)p[at + k] << 8 | p[at + k + 1];
            on_msg(c, p + at + k + 2 + tl, len - 2 - tl);
            break;
        default:
            bad++;
        }
        at += k + len;
    }
    return at;
}

/* ---- Redis RESP3 ---- */
static void redis_login(struct conn *c)
{
    char b[200], t[32];
    int tl = scenario == FANOUT && c->id ? sprintf(t, "fan") : sprintf(t, "u.%u", c->id);
    snprintf(b, sizeof b, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n",
             tl, t);
    out_str(c, b);
}
static uint32_t redis_prefix(uint8_t *to, uint32_t dst, int fan, uint32_t n)
{
    char t[32];
    int tl = fan ? sprintf(t, "fan") : sprintf(t, "u.%u", dst);
    return (uint32_t)sprintf((char *)to, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%u\r\n", tl, t, n);
}
/* one RESP value; returns bytes used or 0 when incomplete; bulk strings noted */
static uint32_t resp_one(uint8_t *p, uint32_t n, uint8_t **str, uint32_t *slen, int *nstr)
{
    uint8_t *e;
    uint32_t k;
    long v = 0;
    int neg = 0;
    if (!n || !(e = memchr(p, '\n', n)))
        return 0;
    k = (uint32_t)(e - p) + 1;
    if (p[0] == '+' || p[0] == ':' || p[0] == '-' || p[0] == '_' || p[0] == '#' || p[0] == ',')
        return k;
    for (uint8_t *q = p + 1; q < e - 1; q++) {
        if (*q == '-')
            neg = 1;
        else
            v = v * 10 + (*q - '0');
    }
    if (neg)
        return k;
    if (p[0] == '$') {
        if (n < k + (uint32_t)v + 2)
            return 0;
        if (*nstr < 4) {
            str[*nstr] = p + k;
            slen[(*nstr)++] = (uint32_t)v;
        }
        return k + (uint32_t)v + 2;
    }
    if (p[0] == '%')
        v *= 2;
    for (long i = 0; i < v; i++) {
        uint32_t u = resp_one(p + k, n - k, str, slen, nstr);
        if (!u)
            return 0;
        k += u;
    }
    return k;
}
static uint32_t redis_parse(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (at < n) {
        uint8_t *s[4];
        uint32_t l[4];
        int k = 0;
        uint32_t u = resp_one(p + at, n - at, s, l, &k);
        if (!u)
            break;
        if (p[at] == '>' && k >= 2) {
            if (l[0] == 7 && s[0][0] == 'm' && k == 3)
                on_msg(c, s[2], l[2]);
            else
                on_ready(c);
        } else if (p[at] == '-') {
            fprintf(stderr, "redis: %.*s", (int)u, p + at);
            bad++;
        }
        at += u;
    }
    return at;
}

/* ---- usher: delimited protobuf frames (docs/protocol.md) ---- */
static uint32_t pb_len(uint32_t v)
{
    uint32_t k = 1;
    while (v >>= 7)
        k++;
    return k;
}
static void usher_login(struct conn *c)
{
    uint8_t b[64];
    char name[24];
    uint32_t n = (uint32_t)(scenario == FANOUT && c->id ? sprintf(name, "fan%u", c->id)
                                                        : sprintf(name, "u%u", c->id));
    uint32_t k = 0, login = 2 + n;
    b[k++] = (uint8_t)(2 + 2 + login); /* frame length */
    b[k++] = 0x08;                     /* id = 1 */
    b[k++] = 1;
    b[k++] = 0x12; /* login */
    b[k++] = (uint8_t)login;
    b[k++] = 0x0a; /* username */
    b[k++] = (uint8_t)n;
    memcpy(b + k, name, n);
    buf_add(&c->out, b, k + n);
    mark(c);
}
static uint32_t usher_prefix(uint8_t *to, uint32_t dst, int fan, uint32_t n)
{
    char name[24];
    uint32_t t = (uint32_t)(fan ? sprintf(name, "fan") : sprintf(name, "u%u", dst)), k = 0;
    uint32_t send = 2 + t + 1 + pb_len(n) + n;
    k += mq_len(to + k, 1 + pb_len(send) + send);
    to[k++] = 0x22; /* send */
    k += mq_len(to + k, send);
    to[k++] = 0x0a; /* to */
    to[k++] = (uint8_t)t;
    memcpy(to + k, name, t);
    k += t;
    to[k++] = 0x12; /* payload, last */
    return k + mq_len(to + k, n);
}
/* one varint; returns bytes used, 0 when incomplete */
static uint32_t pb_get(const uint8_t *p, uint32_t n, uint64_t *v)
{
    *v = 0;
    for (uint32_t k = 0; k < n && k < 10; k++) {
        *v |= (uint64_t)(p[k] & 127) << (7 * k);
        if (!(p[k] & 128))
            return k + 1;
    }
    return 0;
}
/* walks the fields of one message; returns the body of field `want`, NULL when absent */
static uint8_t *pb_find(uint8_t *p, uint32_t n, uint32_t want, uint32_t *len)
{
    uint32_t at = 0, u;
    uint64_t tag, v;
    while (at < n && (u = pb_get(p + at, n - at, &tag))) {
        at += u;
        if (!(u = pb_get(p + at, n - at, &v)))
            return NULL;
        at += u;
        if ((tag & 7) == 0)
            continue;
        if ((tag & 7) != 2 || v > n - at)
            return NULL;
        if (tag >> 3 == want) {
            *len = (uint32_t)v;
            return p + at;
        }
        at += (uint32_t)v;
    }
    return NULL;
}
static uint32_t usher_parse(struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0, u, len;
    uint64_t frame;
    while (at < n && (u = pb_get(p + at, n - at, &frame))) {
        uint8_t *f = p + at + u, *m;
        if (n - at - u < frame)
            break;
        if ((m = pb_find(f, (uint32_t)frame, 3, &len))) {
            m = pb_find(m, len, 4, &len);
            if (m)
                on_msg(c, m, len);
            else
                bad++;
        } else if (pb_find(f, (uint32_t)frame, 2, &len)) {
            on_ready(c);
        } else if (pb_find(f, (uint32_t)frame, 6, &len) || pb_find(f, (uint32_t)frame, 8, &len)) {
            bad++;
        }
        at += u + (uint32_t)frame;
    }
    return at;
}

static const struct proto protos[] = {
    {"raw", raw_login, raw_prefix, raw_parse, ""},
    {"skynet", sky_login, sky_prefix, sky_parse, ""},
    {"nats", nats_login, nats_prefix, nats_parse, "\r\n"},
    {"mqtt", mqtt_login, mqtt_prefix, mqtt_parse, ""},
    {"redis", redis_login, redis_prefix, redis_parse, "\r\n"},
    {"usher", usher_login, usher_prefix, usher_parse, ""},
};

/* ---- the loop ---- */
static void start_connect(uint32_t i)
{
    struct conn *c = &C[i];
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.u32 = i};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (srcs > 1) {
        struct sockaddr_in me = {.sin_family = AF_INET};
        me.sin_addr.s_addr = htonl(0x7f000002u + i % (uint32_t)srcs);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&me, sizeof me))
            die("bind");
    }
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(c->fd, (struct sockaddr *)&sa, sizeof sa) && errno != EINPROGRESS)
        die("connect");
    c->state = CONNECTING;
    c->wantw = 1;
    connecting++;
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev);
}
static void on_read(struct conn *c)
{
    static uint8_t rb[RBUF];
    uint32_t have = c->in.len - c->in.off, used;
    ssize_t n;
    if (have)
        memcpy(rb, c->in.p + c->in.off, have);
    n = recv(c->fd, rb + have, RBUF - have, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        fprintf(stderr, "%s: server closed connection %u (%s)\n", P->name, c->id,
                n ? strerror(errno) : "eof");
        exit(3);
    }
    tnow = now_ns();
    used = P->parse(c, rb, have + (uint32_t)n);
    c->in.off = c->in.len = 0;
    if (have + (uint32_t)n > used)
        buf_add(&c->in, rb + used, have + (uint32_t)n - used);
    else if (c->in.p && scenario == IDLE)
        buf_free(&c->in);
}
static void turn(int64_t wait_ns)
{
    struct epoll_event evs[1024];
    struct timespec ts = {wait_ns / 1000000000, wait_ns % 1000000000};
    int n = epoll_pwait2(ep, evs, 1024, &ts, NULL);
    tnow = now_ns();
    for (int i = 0; i < n; i++) {
        struct conn *c = &C[evs[i].data.u32];
        if (evs[i].events & EPOLLOUT) {
            if (c->state == CONNECTING) {
                int err = 0;
                socklen_t l = sizeof err;
                getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &l);
                if (err) {
                    fprintf(stderr, "connect: %s\n", strerror(err));
                    exit(3);
                }
                c->state = LOGIN;
                P->login(c);
            }
            mark(c);
        }
        if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            on_read(c);
    }
    if (scenario == FANOUT)
        fan_pump();
    flush_all();
}
static void quiet(double s)
{
    uint64_t end = now_ns() + (uint64_t)(s * 1e9);
    while ((tnow = now_ns()) < end)
        turn((int64_t)(end - tnow));
}

int main(int argc, char **argv)
{
    int o;
    const char *pn = "raw", *sn = "forward", *label = NULL;
    while ((o = getopt(argc, argv, "P:S:p:u:w:s:t:W:r:b:l:c:a:i:T:v")) != -1) {
        switch (o) {
        case 'P':
            pn = optarg;
            break;
        case 'S':
            sn = optarg;
            break;
        case 'p':
            port = atoi(optarg);
            break;
        case 'u':
            users = atoi(optarg);
            break;
        case 'w':
            window = atoi(optarg);
            break;
        case 's':
            plen = atoi(optarg);
            break;
        case 't':
            secs = atof(optarg);
            break;
        case 'W':
            warm = atof(optarg);
            break;
        case 'r':
            rate = atof(optarg);
            break;
        case 'b':
            bpid = atoi(optarg);
            break;
        case 'l':
            label = optarg;
            break;
        case 'c':
            storm_cap = atoi(optarg);
            break;
        case 'a':
            after_msgs = atoi(optarg);
            break;
        case 'i':
            srcs = atoi(optarg);
            break;
        case 'T':
            settle = atof(optarg);
            break;
        case 'v':
            verbose = 1;
            break;
        default:
            fprintf(stderr,
                    "usage: %s -P raw|skynet|nats|mqtt|redis|usher -S forward|fanout|idle -p PORT "
                    "-b BROKER_PID\n"
                    "  -u users  -w window  -s payload bytes  -t seconds  -W warm-up seconds\n"
                    "  -r rate (open loop, msgs/s; 0 = closed loop)  -l label\n"
                    "  -c logins in progress at once  -i source addresses  -a messages per user "
                    "after idle\n"
                    "  -T settle seconds\n",
                    argv[0]);
            return 2;
        }
    }
    for (size_t i = 0; i < sizeof protos / sizeof *protos; i++)
        if (!strcmp(protos[i].name, pn))
            P = &protos[i];
    scenario = !strcmp(sn, "fanout") ? FANOUT : !strcmp(sn, "idle") ? IDLE : FORWARD;
    if (!P || !port || users < 2 || plen < MINPAY || plen > 60000) {
        fprintf(stderr, "bad options\n");
        return 2;
    }
    if (scenario == FANOUT)
        users++; /* user 0 publishes, the rest subscribe */
    suffix_len = (int)strlen(P->suffix);
    raise_nofile();
    prctl(PR_SET_TIMERSLACK, 1000);
    C = calloc((size_t)users, sizeof *C);
    dirty = calloc((size_t)users, sizeof *dirty);
    ep = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < plen; i++)
        payload[i] = (uint8_t)('a' + i % 26);

    double u0, s0, u1, s1;
    struct mem m0 = {0}, m1, m2;
    if (scenario == IDLE)
        m0 = mem_of(bpid);
    cpu_of(bpid, &u0, &s0);
    uint64_t t0 = now_ns(), limit = t0 + 180000000000ull;
    for (int i = 0; i < users; i++)
        C[i].id = (uint32_t)i;
    while (ready < users) {
        while (next_connect < (uint32_t)users && connecting < storm_cap)
            start_connect(next_connect++);
        turn(1000000000);
        if (tnow > limit) {
            fprintf(stderr, "%s: only %d of %d ready\n", P->name, ready, users);
            return 3;
        }
    }
    uint64_t t1 = now_ns();
    double conn_s = (double)(t1 - t0) / 1e9;
    cpu_of(bpid, &u1, &s1);
    printf("peer=%s scen=%s users=%d", label ? label : P->name, sn,
           scenario == FANOUT ? users - 1 : users);
    if (scenario != FANOUT || users <= 2000)
        for (int i = 0; i < (scenario == FANOUT ? 1 : users); i++) {
            uint8_t h[128];
            C[i].pre_len =
                P->prefix(h, (uint32_t)((i + 1) % users), scenario == FANOUT, (uint32_t)plen);
            C[i].pre = malloc(C[i].pre_len);
            memcpy(C[i].pre, h, C[i].pre_len);
            C[i].credit_left = UINT32_MAX;
        }

    if (scenario == IDLE) {
        quiet(settle);
        m1 = mem_of(bpid);
        printf(" conns_per_s=%.0f conn_cpu_us=%.1f conn_sys_us=%.1f", users / conn_s,
               (u1 - u0 + s1 - s0) * 1e6 / users, (s1 - s0) * 1e6 / users);
        printf(" base_rss_kb=%ld rss_kb=%ld rss_per_conn=%.0f pss_per_conn=%.0f anon_per_conn=%.0f "
               "slab_per_conn=%.0f tcpmem_pages=%ld",
               m0.rss, m1.rss, (m1.rss - m0.rss) * 1024.0 / users,
               (m1.pss - m0.pss) * 1024.0 / users, (m1.anon - m0.anon) * 1024.0 / users,
               (m1.slab - m0.slab) * 1024.0 / users, m1.tcppages);
        cpu_of(bpid, &u0, &s0);
        quiet(settle);
        cpu_of(bpid, &u1, &s1);
        printf(" idle_cpu_pct=%.2f", (u1 - u0 + s1 - s0) * 100 / settle);
        if (after_msgs) {
            uint64_t want = (uint64_t)users * (uint64_t)after_msgs;
            running = 1;
            for (int i = 0; i < users; i++) {
                C[i].credit_left = (uint32_t)after_msgs - 1;
                tnow = now_ns();
                send_msg(&C[i], tnow);
                if (i % 256 == 255)
                    turn(0);
            }
            while (got < want && now_ns() < limit)
                turn(100000000);
            quiet(settle);
            m2 = mem_of(bpid);
            printf(" after_delivered=%" PRIu64 " after_want=%" PRIu64
                   " after_rss_per_conn=%.0f after_anon_per_conn=%.0f order_err=%" PRIu64,
                   got, want, (m2.rss - m0.rss) * 1024.0 / users,
                   (m2.anon - m0.anon) * 1024.0 / users, order_err);
        }
        printf(" bad=%" PRIu64 "\n", bad);
        return 0;
    }

    /* forward / fanout */
    uint64_t start = now_ns(), ms = start + (uint64_t)(warm * 1e9),
             me = ms + (uint64_t)(secs * 1e9);
    uint64_t next_due = start, step = rate > 0 ? (uint64_t)(1e9 / rate) : 0, got0 = 0, got1, gm,
             sent0 = 0;
    uint32_t rr = 0;
    double self0 = 0, self1, mb0 = 0, ms0 = 0, mb1, ms1;
    tnow = start;
    running = 1;
    if (rate == 0 && scenario == FORWARD)
        for (int i = 0; i < users; i++)
            for (int k = 0; k < window; k++)
                send_msg(&C[i], now_ns());
    if (scenario == FANOUT)
        fan_pump();
    flush_all();
    gm = 0;
    while ((tnow = now_ns()) < me) {
        if (!gm && tnow >= ms) {
            gm = tnow;
            got0 = got;
            sent0 = sent;
            recording = 1;
            cpu_of(bpid, &u0, &s0);
            self0 = self_cpu();
            machine_cpu(&mb0, &ms0);
        }
        if (rate > 0) {
            while (next_due <= tnow) {
                send_msg(&C[rr], next_due);
                rr = scenario == FANOUT ? 0 : (rr + 1) % (uint32_t)users;
                next_due += step;
            }
            flush_all();
            turn((int64_t)(next_due > tnow ? next_due - tnow : 0));
        } else {
            turn(20000000);
        }
    }
    recording = 0;
    got1 = got;
    cpu_of(bpid, &u1, &s1);
    self1 = self_cpu();
    machine_cpu(&mb1, &ms1);
    uint64_t te = now_ns();
    running = 0;
    uint64_t expect = scenario == FANOUT ? sent * ((uint64_t)users - 1) : sent,
             drain = te + 5000000000ull;
    (void)sent0;
    while (got < expect && now_ns() < drain)
        turn(20000000);
    double dt = (double)(te - gm) / 1e9, n = (double)(got1 - got0);
    printf(
        " window=%d size=%d rate=%.0f msgs_per_s=%.0f broker_cpu_s_per_M=%.3f broker_user=%.3f "
        "broker_sys=%.3f broker_cpu_pct=%.0f loadgen_cpu_pct=%.0f other_cpu_pct=%.0f steal_pct=%.0f"
        " p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.0f lost=%" PRId64 " order_err=%" PRIu64
        " bad=%" PRIu64 " connect_s=%.3f\n",
        window, plen, rate, n / dt, (u1 - u0 + s1 - s0) * 1e6 / n, (u1 - u0) * 1e6 / n,
        (s1 - s0) * 1e6 / n, (u1 - u0 + s1 - s0) * 100 / dt, (self1 - self0) * 100 / dt,
        (mb1 - mb0 - (u1 - u0 + s1 - s0) - (self1 - self0)) * 100 / dt, (ms1 - ms0) * 100 / dt,
        hist_pct(.5), hist_pct(.99), hist_pct(.999), (double)hist_max / 1000.0,
        (int64_t)(expect - got), order_err, bad, conn_s);
    return got == expect && !order_err && !bad ? 0 : 1;
}
