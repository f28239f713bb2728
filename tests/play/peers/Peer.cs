// SPDX-License-Identifier: Apache-2.0
// A client on ClientWebSocket, as mono has it. README.md says what it does.
using System;
using System.Collections.Generic;
using System.Net.WebSockets;
using System.Text;
using System.Threading;

static class Peer
{
    static readonly ClientWebSocket socket = new ClientWebSocket();

    static byte[] Varint(ulong number)
    {
        var bytes = new List<byte>();
        for (; number >= 128; number >>= 7)
            bytes.Add((byte)(number & 127 | 128));
        bytes.Add((byte)number);
        return bytes.ToArray();
    }

    static byte[] Join(params byte[][] parts)
    {
        var bytes = new List<byte>();
        foreach (var part in parts)
            bytes.AddRange(part);
        return bytes.ToArray();
    }

    static byte[] Field(int field, ulong value)
    {
        return Join(Varint((ulong)field << 3), Varint(value));
    }

    static byte[] Field(int field, byte[] value)
    {
        return Join(Varint((ulong)field << 3 | 2), Varint((ulong)value.Length), value);
    }

    static void Send(ulong id, int kind, byte[] body)
    {
        var frame = Join(Field(1, id), Field(kind, body));
        var data = new ArraySegment<byte>(Join(Varint((ulong)frame.Length), frame));
        socket.SendAsync(data, WebSocketMessageType.Binary, true, CancellationToken.None).Wait();
    }

    static ulong ReadVarint(byte[] data, ref int at)
    {
        ulong value = 0;
        for (int shift = 0; ; shift += 7)
        {
            value |= (ulong)(data[at] & 127) << shift;
            if (data[at++] < 128)
                return value;
        }
    }

    // Numbers and bytes by the number of their field.
    static Dictionary<int, object> ReadFields(byte[] data)
    {
        var fields = new Dictionary<int, object>();
        for (int at = 0; at < data.Length;)
        {
            ulong tag = ReadVarint(data, ref at), value = ReadVarint(data, ref at);
            if ((tag & 7) == 2)
            {
                var bytes = new byte[value];
                Array.Copy(data, at, bytes, 0, (int)value);
                at += (int)value;
                fields[(int)(tag >> 3)] = bytes;
            }
            else
                fields[(int)(tag >> 3)] = value;
        }
        return fields;
    }

    static string Text(Dictionary<int, object> fields, int field)
    {
        return fields.ContainsKey(field) ? Encoding.UTF8.GetString((byte[])fields[field]) : "";
    }

    static void Answer(Dictionary<int, object> message, ulong count)
    {
        string payload = Text(message, 4), reply = null;
        Send(0, 6, Field(1, (ulong)message[1]));
        if (payload.StartsWith("echo "))
            reply = payload.Substring(5);
        else if (payload == "count")
            reply = count.ToString();
        else if (payload == "leave")
            socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, "bye", CancellationToken.None).Wait();
        if (reply != null)
            Send(count + 1, 4, Join(Field(1, (byte[])message[2]), Field(2, Encoding.UTF8.GetBytes(reply))));
    }

    // A whole message, or null at the Close frame.
    static byte[] Receive(byte[] room)
    {
        int size = 0;
        while (true)
        {
            var free = new ArraySegment<byte>(room, size, room.Length - size);
            var got = socket.ReceiveAsync(free, CancellationToken.None).Result;
            if (got.MessageType == WebSocketMessageType.Close)
                return null;
            size += got.Count;
            if (got.EndOfMessage)
                break;
        }
        var data = new byte[size];
        Array.Copy(room, data, size);
        return data;
    }

    static void Main()
    {
        var room = new byte[1 << 20];
        ulong count = 0;
        socket.Options.AddSubProtocol("usher.v1");
        var url = new Uri(Environment.GetEnvironmentVariable("PEER_URL"));
        var name = Encoding.UTF8.GetBytes(Environment.GetEnvironmentVariable("PEER_NAME"));
        socket.ConnectAsync(url, CancellationToken.None).Wait();
        Console.WriteLine("open " + socket.SubProtocol);
        Send(1, 2, Join(Field(1, name), Field(3, Encoding.UTF8.GetBytes("Peer.cs")), Field(4, 1)));
        for (byte[] data; (data = Receive(room)) != null;)
            for (int at = 0; at < data.Length;)
            {
                var bytes = new byte[ReadVarint(data, ref at)];
                Array.Copy(data, at, bytes, 0, bytes.Length);
                at += bytes.Length;
                var frame = ReadFields(bytes);
                if (frame.ContainsKey(3))
                    Answer(ReadFields((byte[])frame[3]), ++count);
                else if (frame.ContainsKey(8))
                {
                    var close = ReadFields((byte[])frame[8]);
                    Console.WriteLine("said " + close[1] + " " + Text(close, 2));
                }
            }
        Console.WriteLine("closed " + (int)socket.CloseStatus + " " + socket.CloseStatusDescription);
    }
}
