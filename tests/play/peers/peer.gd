# SPDX-License-Identifier: Apache-2.0
# A client on the WebSocketClient of Godot 3, with its default buffers. README.md says what it does.
extends SceneTree

var client = WebSocketClient.new()
var count = 0
var leaving = false


func _init():
    client.connect("connection_established", self, "on_open")
    client.connect("data_received", self, "on_data")
    client.connect("server_close_request", self, "on_close")
    client.connect("connection_closed", self, "on_closed")
    client.connect("connection_error", self, "on_error")
    if OS.get_environment("PEER_CA") != "":
        var authority = X509Certificate.new()
        authority.load(OS.get_environment("PEER_CA"))
        client.set_trusted_ssl_certificate(authority)
    client.connect_to_url(OS.get_environment("PEER_URL"), ["usher.v1"])


func _idle(_delta):
    client.poll()


func varint(number):
    var bytes = PoolByteArray()
    while number >= 128:
        bytes.append(number & 127 | 128)
        number = number >> 7
    bytes.append(number)
    return bytes


func number_field(field, value):
    return varint(field << 3) + varint(value)


func bytes_field(field, bytes):
    return varint(field << 3 | 2) + varint(bytes.size()) + bytes


func send(id, kind, body):
    var frame = number_field(1, id) + bytes_field(kind, body)
    client.get_peer(1).put_packet(varint(frame.size()) + frame)


# Gives the value and where the next one begins.
func read_varint(bytes, at):
    var value = 0
    var shift = 0
    while true:
        value |= (bytes[at] & 127) << shift
        at += 1
        if bytes[at - 1] < 128:
            return [value, at]
        shift += 7


# Up to the byte `end`.
func read_fields(bytes, at, end):
    var fields = {}
    while at < end:
        var tag = read_varint(bytes, at)
        var value = read_varint(bytes, tag[1])
        at = value[1]
        if tag[0] & 7 == 2:
            fields[tag[0] >> 3] = bytes.subarray(at, at + value[0] - 1) if value[0] > 0 else PoolByteArray()
            at += value[0]
        else:
            fields[tag[0] >> 3] = value[0]
    return fields


func on_open(protocol):
    print("open ", protocol)
    client.get_peer(1).set_write_mode(WebSocketPeer.WRITE_MODE_BINARY)
    var name = OS.get_environment("PEER_NAME").to_utf8()
    send(1, 2, bytes_field(1, name) + bytes_field(3, "peer.gd".to_utf8()) + number_field(4, 1))


func on_data():
    var bytes = client.get_peer(1).get_packet()
    var at = 0
    while at < bytes.size():
        var size = read_varint(bytes, at)
        at = size[1] + size[0]
        var frame = read_fields(bytes, size[1], at)
        if frame.has(3):
            answer(read_fields(frame[3], 0, frame[3].size()))
        elif frame.has(8):
            var close = read_fields(frame[8], 0, frame[8].size())
            print("said ", close[1], " ", close.get(2, PoolByteArray()).get_string_from_utf8())


func answer(message):
    var payload = message.get(4, PoolByteArray()).get_string_from_utf8()
    count += 1
    send(0, 6, number_field(1, message[1]))
    if payload.begins_with("echo "):
        reply(message[2], payload.substr(5))
    elif payload == "count":
        reply(message[2], str(count))
    elif payload == "leave":
        leaving = true
        client.disconnect_from_host(1000, "bye")


func reply(to, text):
    send(count + 1, 4, bytes_field(1, to) + bytes_field(2, text.to_utf8()))


func on_close(code, reason):
    print("closed ", code, " ", reason)


# Godot calls an end that it has begun unclean, also when it was answered.
func on_closed(_clean):
    if leaving:
        print("closed 1000")
    quit()


func on_error():
    print("failed")
    quit()
