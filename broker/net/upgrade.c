/* SPDX-License-Identifier: Apache-2.0 */
#include "net/upgrade.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"

/* The only HTTP that is spoken on a port for clients: one request, one answer, and then WebSocket
 * or the end.
 *
 * A proxy in front must see the same request as we do, or what it let pass is not what we serve. So
 * whatever RFC 9112 lets a server guess about is refused: lines without a carriage return, folded
 * lines, control characters, a body, bytes behind the head (of a second request, or of frames whose
 * sender has not seen our answer), two of what there may be one of. What proxies and browsers do
 * differ in is taken: names in any case, lists with other members, HTTP/1.0 for health checks.
 *
 * Nothing is judged before the head is whole, but its size and its line ends: a stranger who sends
 * byte by byte costs one look at each, and one walk at the end. */

enum {
    KEY_BYTES = 24, /* 16 in base64, whose last two are no characters */
    KEY_CHARACTERS = 22,
    ACCEPT_BYTES = 28,
    HEAD_BYTES_OUT_MAX = 512, /* of an answer, with the longest reason */
    WRONG_PORT_BYTES = 128,
};

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
static const char protocol_name[] = "usher.v1";
static const char health_path[] = "/health";

/* --- fields ----------------------------------------------------------------------------------- */

/* The first ones may come once. */
enum field {
    FIELD_HOST,
    FIELD_KEY,
    FIELD_VERSION,
    FIELD_ORIGIN,
    FIELD_SINGLES,
    FIELD_UPGRADE = FIELD_SINGLES,
    FIELD_CONNECTION,
    FIELD_PROTOCOL,
    FIELD_FORWARDED,
    FIELD_CONTENT_LENGTH,
    FIELD_TRANSFER_ENCODING,
    FIELDS,
};

static const struct {
    const char *name;
    const char *repeated; /* the reason for the refusal of a second one */
} field_rows[FIELDS] = {
    [FIELD_HOST] = {"Host", "two Host"},
    [FIELD_KEY] = {"Sec-WebSocket-Key", "two Sec-WebSocket-Key"},
    [FIELD_VERSION] = {"Sec-WebSocket-Version", "two Sec-WebSocket-Version"},
    [FIELD_ORIGIN] = {"Origin", "two Origin"},
    [FIELD_UPGRADE] = {"Upgrade", NULL},
    [FIELD_CONNECTION] = {"Connection", NULL},
    [FIELD_PROTOCOL] = {"Sec-WebSocket-Protocol", NULL},
    [FIELD_FORWARDED] = {"X-Forwarded-For", NULL},
    [FIELD_CONTENT_LENGTH] = {"Content-Length", NULL},
    [FIELD_TRANSFER_ENCODING] = {"Transfer-Encoding", NULL},
};

/* What the head says. */
struct request {
    struct bytes method, path;
    unsigned major, minor;
    struct bytes single[FIELD_SINGLES];
    bool seen[FIELD_SINGLES];
    bool upgrade, connection, body;
};

static bool is_text(struct bytes bytes, const char *text)
{
    return bytes_equal(bytes, bytes_of_text(text));
}

static bool is_text_any_case(struct bytes bytes, const char *text)
{
    return bytes.size == strlen(text) &&
           strncasecmp((const char *)bytes.data, text, bytes.size) == 0;
}

static struct bytes part(struct bytes bytes, size_t from, size_t to)
{
    return (struct bytes){bytes.data + from, to - from};
}

/* Where that byte is; the size when it is nowhere. */
static size_t find(struct bytes bytes, uint8_t byte)
{
    const uint8_t *found = bytes.size == 0 ? NULL : memchr(bytes.data, byte, bytes.size);
    return found == NULL ? bytes.size : (size_t)(found - bytes.data);
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct bytes trimmed(struct bytes bytes)
{
    while (bytes.size > 0 && is_blank(bytes.data[0]))
        bytes = part(bytes, 1, bytes.size);
    while (bytes.size > 0 && is_blank(bytes.data[bytes.size - 1]))
        bytes.size--;
    return bytes;
}

/* Whether the list, whose members stand between commas, has this one. */
static bool list_has(struct bytes list, const char *member, bool any_case)
{
    while (list.size > 0) {
        size_t comma = find(list, ',');
        struct bytes one = trimmed(part(list, 0, comma));
        if (any_case ? is_text_any_case(one, member) : is_text(one, member))
            return true;
        list = part(list, comma < list.size ? comma + 1 : comma, list.size);
    }
    return false;
}

/* --- characters ------------------------------------------------------------------------------- */

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_alphanumeric(uint8_t byte)
{
    return is_digit(byte) || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
}

static bool is_one_of(uint8_t byte, const char *characters)
{
    return byte != '\0' && strchr(characters, byte) != NULL;
}

static bool is_token(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_alphanumeric(text.data[i]) && !is_one_of(text.data[i], "!#$%&'*+-.^_`|~"))
            return false;
    return text.size > 0;
}

static bool is_value(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((text.data[i] < ' ' && text.data[i] != '\t') || text.data[i] == 0x7f)
            return false;
    return true;
}

static bool is_host(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_alphanumeric(text.data[i]) && !is_one_of(text.data[i], "-._~!$&'()*+,;=%:[]"))
            return false;
    return true;
}

static bool is_key(struct bytes text)
{
    if (text.size != KEY_BYTES || memcmp(text.data + KEY_CHARACTERS, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < KEY_CHARACTERS; i++)
        if (!is_alphanumeric(text.data[i]) && !is_one_of(text.data[i], "+/"))
            return false;
    return true;
}

/* --- the head --------------------------------------------------------------------------------- */

static void refuse(struct upgrade *upgrade, unsigned status, const char *reason)
{
    upgrade->verdict = UPGRADE_REFUSED;
    upgrade->status = status;
    upgrade->reason = reason;
}

static enum field field_of(struct bytes name)
{
    unsigned field = 0;
    while (field < FIELDS && !is_text_any_case(name, field_rows[field].name))
        field++;
    return field;
}

static void take_forwarded(struct upgrade *upgrade, struct bytes value)
{
    if (upgrade->forwarded_count == UPGRADE_FORWARDED_MAX)
        memmove(upgrade->forwarded, upgrade->forwarded + 1,
                --upgrade->forwarded_count * sizeof(*upgrade->forwarded));
    upgrade->forwarded[upgrade->forwarded_count++] = value;
}

/* NULL, or why it is refused. */
static const char *take_field(struct request *request, struct upgrade *upgrade, enum field field,
                              struct bytes value)
{
    if (field < FIELD_SINGLES) {
        if (request->seen[field])
            return field_rows[field].repeated;
        request->seen[field] = true;
        request->single[field] = value;
    } else if (field == FIELD_UPGRADE) {
        request->upgrade |= list_has(value, "websocket", true);
    } else if (field == FIELD_CONNECTION) {
        request->connection |= list_has(value, "upgrade", true);
    } else if (field == FIELD_PROTOCOL) {
        upgrade->protocol |= list_has(value, protocol_name, false);
    } else if (field == FIELD_FORWARDED) {
        take_forwarded(upgrade, value);
    } else if (field == FIELD_CONTENT_LENGTH) {
        request->body |= !is_text(value, "0");
    } else if (field == FIELD_TRANSFER_ENCODING) {
        request->body = true;
    }
    return NULL;
}

/* A line behind the first one, without its end. NULL, or why it is refused. */
static const char *take_line(struct request *request, struct upgrade *upgrade, struct bytes line)
{
    size_t colon = find(line, ':');
    struct bytes name = part(line, 0, colon);
    if (is_blank(line.data[0]))
        return "a folded line";
    if (colon == line.size || !is_token(name))
        return "a line that is not NAME: VALUE";
    struct bytes value = trimmed(part(line, colon + 1, line.size));
    if (!is_value(value))
        return "a control character";
    return take_field(request, upgrade, field_of(name), value);
}

/* The path of the target, which may be that of a proxy (http://host/path); without its query. */
static bool take_target(struct request *request, struct bytes target)
{
    for (size_t i = 0; i < target.size; i++)
        if (target.data[i] <= ' ' || target.data[i] >= 0x7f || target.data[i] == '#')
            return false;
    size_t colon = find(target, ':');
    bool absolute = is_token(part(target, 0, colon)) && target.size - colon > 3 &&
                    memcmp(target.data + colon, "://", 3) == 0;
    if (absolute) {
        struct bytes behind = part(target, colon + 3, target.size);
        target = part(behind, find(behind, '/'), behind.size);
    }
    request->path = part(target, 0, find(target, '?'));
    return target.size > 0 || absolute;
}

static bool take_version(struct request *request, struct bytes version)
{
    const uint8_t *text = version.data;
    if (version.size != 8 || memcmp(text, "HTTP/", 5) != 0 || !is_digit(text[5]) ||
        text[6] != '.' || !is_digit(text[7]))
        return false;
    request->major = text[5] - '0';
    request->minor = text[7] - '0';
    return true;
}

/* METHOD SP TARGET SP VERSION */
static bool take_request_line(struct request *request, struct bytes line)
{
    size_t first = find(line, ' ');
    struct bytes behind = part(line, first < line.size ? first + 1 : first, line.size);
    size_t second = find(behind, ' ');
    request->method = part(line, 0, first);
    return is_token(request->method) && second < behind.size &&
           take_target(request, part(behind, 0, second)) &&
           take_version(request, part(behind, second + 1, behind.size));
}

/* All lines of a whole head. NULL, or why it is refused. */
static const char *take_head(struct request *request, struct upgrade *upgrade, struct bytes head)
{
    size_t end = find(head, '\n');
    if (!take_request_line(request, part(head, 0, end - 1)))
        return "a request line that is not METHOD TARGET HTTP/1.1";
    const char *reason = NULL;
    while (reason == NULL) {
        head = part(head, end + 1, head.size);
        end = find(head, '\n');
        if (end == 1) /* the empty line */
            break;
        reason = take_line(request, upgrade, part(head, 0, end - 1));
    }
    return reason;
}

/* --- who may come ----------------------------------------------------------------------------- */

/* HOST or HOST:PORT. */
static bool is_loopback(struct bytes host)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr address;
    bool bracketed = host.size > 0 && host.data[0] == '[';
    size_t from = bracketed ? find(host, ']') : 0;
    size_t end = from + find(part(host, from, host.size), ':');
    for (size_t i = end + 1; i < host.size; i++)
        if (!is_digit(host.data[i]))
            return false;
    host = part(host, 0, end);
    if (is_text(host, "localhost") || is_text(host, "[::1]"))
        return true;
    if (host.size >= sizeof(text))
        return false;
    memcpy(text, host.data, host.size);
    text[host.size] = '\0';
    return inet_pton(AF_INET, text, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

/* A page of this machine: of a server on it, or of its disk as Chromium calls that. "null", as
 * others do, is what any page of the web can have its frames say (a sandbox), so it is nobody's. */
static bool is_local(struct bytes origin)
{
    size_t colon = find(origin, ':');
    if (is_text(origin, "file://"))
        return true;
    return origin.size - colon > 3 && memcmp(origin.data + colon, "://", 3) == 0 &&
           is_token(part(origin, 0, colon)) && is_loopback(part(origin, colon + 3, origin.size));
}

/* Only browsers say an origin, so who says none is no page. */
static bool origin_allowed(const struct upgrade_rules *rules, const struct request *request)
{
    struct bytes origin = request->single[FIELD_ORIGIN];
    if (!request->seen[FIELD_ORIGIN])
        return true;
    for (size_t i = 0; i < rules->origins_count; i++)
        if (is_text(origin, rules->origins[i]))
            return true;
    return rules->origins_count == 0 && (!rules->open || is_local(origin));
}

/* --- the verdict ------------------------------------------------------------------------------ */

/* The rules of RFC 6455 4.2.1, behind those of HTTP. */
static void judge_websocket(const struct upgrade_rules *rules, const struct request *request,
                            struct upgrade *upgrade)
{
    struct bytes key = request->single[FIELD_KEY];
    if (request->minor == 0)
        return refuse(upgrade, 426, "HTTP/1.0, which has no Upgrade");
    if (!request->upgrade)
        return refuse(upgrade, 426, "no Upgrade: websocket");
    if (!request->connection)
        return refuse(upgrade, 426, "no Connection: Upgrade");
    if (!is_text(request->single[FIELD_VERSION], "13"))
        return refuse(upgrade, 426, "a Sec-WebSocket-Version other than 13");
    if (!is_key(key))
        return refuse(upgrade, 400, "a Sec-WebSocket-Key that is not 16 bytes in base64");
    if (!origin_allowed(rules, request))
        return refuse(upgrade, 403, "an origin that ws.origins does not name");
    upgrade->key = key;
    upgrade->verdict = UPGRADE_ACCEPTED;
    upgrade->status = 101;
}

static void judge_request(const struct upgrade_rules *rules, const struct request *request,
                          struct upgrade *upgrade)
{
    bool get = is_text(request->method, "GET");
    upgrade->health = is_text(request->path, health_path);
    if (request->major != 1)
        return refuse(upgrade, 505, "a version other than HTTP/1");
    if (!is_host(request->single[FIELD_HOST]) || (request->minor > 0 && !request->seen[FIELD_HOST]))
        return refuse(upgrade, 400, "no Host, or one that cannot be");
    if (!upgrade->health && !is_text(request->path, rules->path))
        return refuse(upgrade, 404, "a path that is not here");
    if (!get && !(upgrade->health && upgrade->head))
        return refuse(upgrade, 405, "a method other than GET");
    if (request->body)
        return refuse(upgrade, 400, "a body");
    if (!upgrade->health)
        return judge_websocket(rules, request, upgrade);
    upgrade->verdict = UPGRADE_HEALTH;
    upgrade->status = rules->draining ? 503 : 200;
}

static void judge_head(struct bytes input, const struct upgrade_rules *rules,
                       struct upgrade *upgrade)
{
    struct request request = {0};
    const char *reason = take_head(&request, upgrade, part(input, 0, upgrade->size));
    upgrade->origin = request.single[FIELD_ORIGIN];
    upgrade->head = is_text(request.method, "HEAD");
    if (reason != NULL)
        refuse(upgrade, 400, reason);
    else
        judge_request(rules, &request, upgrade);
    if (upgrade->verdict != UPGRADE_REFUSED && input.size > upgrade->size)
        refuse(upgrade, 400, "bytes behind the head");
}

void upgrade_judge(struct bytes input, const struct upgrade_rules *rules, struct upgrade *upgrade)
{
    size_t most = input.size < rules->head_bytes ? input.size : rules->head_bytes;
    while (upgrade->size < most) {
        size_t at = upgrade->size + find(part(input, upgrade->size, most), '\n');
        upgrade->size = at < most ? at + 1 : most;
        if (at == most)
            break;
        if (at == 0 || input.data[at - 1] != '\r')
            return refuse(upgrade, 400, "a line feed without a carriage return");
        if (at == 1 || input.data[at - 2] == '\n')
            return judge_head(input, rules, upgrade);
    }
    if (input.size >= rules->head_bytes)
        refuse(upgrade, 431, "a head of too many bytes");
}

/* --- answers ---------------------------------------------------------------------------------- */

static const char *phrase(unsigned status)
{
    static const struct {
        unsigned status;
        const char *phrase;
    } rows[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {426, "Upgrade Required"},
        {431, "Request Header Fields Too Large"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    size_t i = 0;
    while (i < sizeof(rows) / sizeof(*rows) && rows[i].status != status)
        i++;
    CHECK(i < sizeof(rows) / sizeof(*rows));
    return rows[i].phrase;
}

static int append(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

/* An answer after which the connection ends. `fields` are lines; of two texts of the body the
 * second one may be empty. */
static int answer(struct buffer *out, unsigned status, const char *fields, const char *text,
                  const char *more, bool head)
{
    char line[HEAD_BYTES_OUT_MAX];
    size_t before = out->size;
    snprintf(line, sizeof(line),
             "HTTP/1.1 %u %s\r\n"
             "Content-Type: text/plain; charset=utf-8\r\n"
             "Content-Length: %zu\r\n"
             "Cache-Control: no-store\r\n"
             "%s%s\r\n",
             status, phrase(status), strlen(text) + strlen(more) + 1,
             status == 426 ? "Connection: close, Upgrade\r\nUpgrade: websocket\r\n"
                           : "Connection: close\r\n",
             fields);
    int result = append(out, line);
    if (!head && result == 0)
        result = append(out, text) < 0 || append(out, more) < 0 ? -ENOMEM : append(out, "\n");
    if (result < 0)
        out->size = before;
    return result;
}

/* RFC 6455 4.2.2: the key and a constant, hashed. False without memory. */
static bool accept_of(struct bytes key, char text[ACCEPT_BYTES + 1])
{
    uint8_t input[KEY_BYTES + sizeof(guid) - 1], digest[SHA_DIGEST_LENGTH];
    memcpy(bytes_put(input, key), guid, sizeof(guid) - 1);
    if (SHA1(input, sizeof(input), digest) == NULL)
        return false;
    EVP_EncodeBlock((uint8_t *)text, digest, sizeof(digest));
    return true;
}

static int answer_accepted(struct buffer *out, const struct upgrade *upgrade)
{
    char text[HEAD_BYTES_OUT_MAX], accept[ACCEPT_BYTES + 1];
    if (!accept_of(upgrade->key, accept))
        return -ENOMEM;
    snprintf(text, sizeof(text),
             "HTTP/1.1 101 Switching Protocols\r\n"
             "Upgrade: websocket\r\n"
             "Connection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n"
             "%s%s%s"
             "\r\n",
             accept, upgrade->protocol ? "Sec-WebSocket-Protocol: " : "",
             upgrade->protocol ? protocol_name : "", upgrade->protocol ? "\r\n" : "");
    return append(out, text);
}

int upgrade_answer(struct buffer *out, const struct upgrade *upgrade)
{
    const char *fields = "";
    if (upgrade->verdict == UPGRADE_ACCEPTED)
        return answer_accepted(out, upgrade);
    if (upgrade->status == 405)
        fields = upgrade->health ? "Allow: GET, HEAD\r\n" : "Allow: GET\r\n";
    if (upgrade->status == 426)
        fields = "Sec-WebSocket-Version: 13\r\n";
    const char *text = upgrade->status == 200 ? "ready" : "draining";
    return answer(out, upgrade->status, fields,
                  upgrade->verdict == UPGRADE_REFUSED ? upgrade->reason : text, "", upgrade->head);
}

int upgrade_forwarded(struct buffer *out, const struct upgrade *upgrade)
{
    size_t before = out->size;
    for (size_t i = 0; i < upgrade->forwarded_count; i++) {
        struct bytes value = upgrade->forwarded[i];
        if (append(out, i > 0 ? ", " : "") < 0 || buffer_append(out, value.data, value.size) < 0) {
            out->size = before;
            return -ENOMEM;
        }
    }
    return 0;
}

int upgrade_overloaded(struct buffer *out, uint32_t retry_after_ms, const char *detail)
{
    char field[sizeof("Retry-After: 4294967\r\n")];
    uint32_t seconds = retry_after_ms / 1000 + (retry_after_ms % 1000 > 0);
    snprintf(field, sizeof(field), "Retry-After: %u\r\n", seconds);
    return answer(out, 503, field, detail, "", false);
}

int upgrade_wrong_port(struct buffer *out, const char *spoken, const char *option,
                       const char *where)
{
    char text[WRONG_PORT_BYTES];
    if (where != NULL)
        snprintf(text, sizeof(text), "this port speaks %s; WebSocket is at %s, ", spoken, option);
    else
        snprintf(text, sizeof(text), "this port speaks %s; %s is not set", spoken, option);
    return answer(out, 426, "", text, where != NULL ? where : "", false);
}

bool upgrade_is_http(struct bytes input, bool *awaited)
{
    static const char *const methods[] = {"GET ",     "HEAD ",  "POST ",    "PUT ",  "DELETE ",
                                          "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "};
    *awaited = false;
    for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
        size_t size = strlen(methods[i]);
        size_t common = input.size < size ? input.size : size;
        if (common > 0 && memcmp(input.data, methods[i], common) != 0)
            continue;
        if (common == size)
            return true;
        *awaited = true;
    }
    return false;
}
