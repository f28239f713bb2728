/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>

#include "loadgen.h"

/* Every server in its own words: raw (`limit`), NATS, MQTT 3.1.1 QoS 0, Redis pub/sub over RESP3,
 * and usher without acks, so that the grade of delivery is the same for all.
 *
 * A parser takes whole frames, tells what they mean and gives the bytes used. The servers are our
 * own and on loopback, so their bytes are believed further than a client may believe a peer. */

static void say(struct load *load, struct conn *c, const char *text)
{
    load_output(load, c, text, (uint32_t)strlen(text));
}

/* What a client subscribes to, or sends to: its own name, or a channel. */
static uint32_t topic(char *to, char separator, uint32_t number, bool fan)
{
    return (uint32_t)sprintf(to, "%s%c%u", fan ? "fan" : "u", separator, number);
}

static uint32_t own_topic(const struct load *load, const struct conn *c, char separator, char *to)
{
    if (load->scenario == ROOM)
        return topic(to, separator, load_room(load, c->id), true);
    if (load->scenario == FANOUT && c->id)
        return topic(to, separator, 0, true);
    return topic(to, separator, c->id, false);
}

/* --- raw: u32 length, u32 id (echo_forward.c) ------------------------------------------------- */

static void raw_login(struct load *load, struct conn *c)
{
    uint8_t b[8];
    put32(b, 4);
    put32(b + 4, c->id);
    load_output(load, c, b, 8);
}

static uint32_t raw_prefix(uint8_t *to, uint32_t dst, bool fan, uint32_t n)
{
    put32(to, 4 + n);
    put32(to + 4, fan ? UINT32_MAX : dst);
    return 8;
}

static uint32_t raw_parse(struct load *load, struct conn *c, uint8_t *p, uint32_t n)
{
    uint32_t at = 0;
    while (n - at >= 4) {
        uint32_t len = get32(p + at);
        if (n - at < 4 + len)
            break;
        if (len == 4)
            on_ready(load, c);
        else
            on_message(load, c, p + at + 8, len - 4);
        at += 4 + len;
    }
    return at;
}

/* --- NATS ------------------------------------------------------------------------------------- */

static void nats_login(struct load *load, struct conn *c)
{
    char b[200], t[32];
    say(load, c,
        "CONNECT "
        "{\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\","
        "\"protocol\":1}\r\n");
    own_topic(load, c, '.', t);
    snprintf(b, sizeof(b), "SUB %s 1\r\nPING\r\n", t);
    say(load, c, b);
}

static uint32_t nats_prefix(uint8_t *to, uint32_t dst, bool fan, uint32_t n)
{
    char t[32];
    topic(t, '.', dst, fan);
    return (uint32_t)sprintf((char *)to, "PUB %s %u\r\n", t, n);
}

static uint32_t nats_parse(struct load *load, struct conn *c, uint8_t *p, uint32_t n)
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
            on_message(load, c, e + 1, size);
            at += line + size + 2;
            continue;
        }
        if (line >= 4 && !memcmp(p + at, "PING", 4))
            say(load, c, "PONG\r\n");
        else if (line >= 4 && !memcmp(p + at, "PONG", 4))
            on_ready(load, c);
        else if (p[at] == '-') {
            fprintf(stderr, "nats: %.*s", (int)line, p + at);
            load->bad++;
        }
        at += line;
    }
    return at;
}

/* --- MQTT 3.1.1 ------------------------------------------------------------------------------- */

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

static void mqtt_login(struct load *load, struct conn *c)
{
    uint8_t b[128];
    char t[32], cid[32];
    uint32_t tl = own_topic(load, c, '/', t), k = 0;
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
    load_output(load, c, b, k);
}

static uint32_t mqtt_prefix(uint8_t *to, uint32_t dst, bool fan, uint32_t n)
{
    char t[32];
    uint32_t tl = topic(t, '/', dst, fan), k = 0;
    to[k++] = 0x30;
    k += mq_len(to + k, 2 + tl + n);
    to[k++] = 0;
    to[k++] = (uint8_t)tl;
    memcpy(to + k, t, tl);
    return k + tl;
}

static uint32_t mqtt_parse(struct load *load, struct conn *c, uint8_t *p, uint32_t n)
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
                load->bad++;
            break;
        case 0x90:
            on_ready(load, c);
            break;
        case 0x30:
            tl = (uint32_t)p[at + k] << 8 | p[at + k + 1];
            on_message(load, c, p + at + k + 2 + tl, len - 2 - tl);
            break;
        default:
            load->bad++;
        }
        at += k + len;
    }
    return at;
}

/* --- Redis RESP3 ------------------------------------------------------------------------------ */

static void redis_login(struct load *load, struct conn *c)
{
    char b[200], t[32];
    uint32_t tl = own_topic(load, c, '.', t);
    snprintf(b, sizeof(b), "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$%u\r\n%s\r\n",
             tl, t);
    say(load, c, b);
}

static uint32_t redis_prefix(uint8_t *to, uint32_t dst, bool fan, uint32_t n)
{
    char t[32];
    uint32_t tl = topic(t, '.', dst, fan);
    return (uint32_t)sprintf((char *)to, "*3\r\n$7\r\nPUBLISH\r\n$%u\r\n%s\r\n$%u\r\n", tl, t, n);
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
    for (uint8_t *q = p + 1; q < e - 1; q++)
        if (*q == '-')
            neg = 1;
        else
            v = v * 10 + (*q - '0');
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

static uint32_t redis_parse(struct load *load, struct conn *c, uint8_t *p, uint32_t n)
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
                on_message(load, c, s[2], l[2]);
            else
                on_ready(load, c);
        } else if (p[at] == '-') {
            fprintf(stderr, "redis: %.*s", (int)u, p + at);
            load->bad++;
        }
        at += u;
    }
    return at;
}

/* --- usher: delimited protobuf frames (docs/protocol.md) -------------------------------------- */

static uint32_t pb_len(uint32_t v)
{
    uint32_t k = 1;
    while (v >>= 7)
        k++;
    return k;
}

static void usher_login(struct load *load, struct conn *c)
{
    uint8_t b[64];
    char name[24];
    uint32_t n = (uint32_t)(load->scenario == FANOUT && c->id ? sprintf(name, "fan%u", c->id)
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
    load_output(load, c, b, k + n);
}

static uint32_t usher_prefix(uint8_t *to, uint32_t dst, bool fan, uint32_t n)
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

static uint32_t usher_parse(struct load *load, struct conn *c, uint8_t *p, uint32_t n)
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
                on_message(load, c, m, len);
            else
                load->bad++;
        } else if (pb_find(f, (uint32_t)frame, 2, &len)) {
            on_ready(load, c);
        } else if (pb_find(f, (uint32_t)frame, 6, &len) || pb_find(f, (uint32_t)frame, 8, &len)) {
            load->bad++;
        }
        at += u + (uint32_t)frame;
    }
    return at;
}

static const struct protocol protocols[] = {
    {"raw", raw_login, raw_prefix, raw_parse, ""},
    {"nats", nats_login, nats_prefix, nats_parse, "\r\n"},
    {"mqtt", mqtt_login, mqtt_prefix, mqtt_parse, ""},
    {"redis", redis_login, redis_prefix, redis_parse, "\r\n"},
    {"usher", usher_login, usher_prefix, usher_parse, ""},
};

const struct protocol *protocol_find(const char *name)
{
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
        if (!strcmp(protocols[i].name, name))
            return &protocols[i];
    return NULL;
}
