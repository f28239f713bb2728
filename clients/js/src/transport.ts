// SPDX-License-Identifier: Apache-2.0
// What carries frames. A connection gives whole frames, one or more at a time, and is told by `_end`
// that it is over, once.

export interface Link {
    _send(frame: Uint8Array): void;
    _close(): void;
    /** Bytes that were given to it and are not on their way yet. */
    _waiting(): number;
}

export interface LinkEvents {
    _open(): void;
    _data(frames: Uint8Array): void;
    /** `code` and `detail` are those of WebSocket's Close, or 0 and what went wrong. */
    _end(code: number, detail: string): void;
}

export type Dial = (url: string, events: LinkEvents) => Link;

/** Of a browser's WebSocket, or one like it. */
export function overWebSocket(given: unknown): Dial {
    return (url, events) => {
        const socket = new ((given || WebSocket) as typeof WebSocket)(url, "usher.v1");
        socket.binaryType = "arraybuffer";
        socket.onopen = () => events._open();
        // A text is not ours. As a length (new Uint8Array("2000000000")) it would be memory.
        socket.onmessage = ({ data }) => data.byteLength && events._data(new Uint8Array(data));
        socket.onclose = (event) => events._end(event.code, event.reason);
        // An error is followed by a close, but npm's ws ends the process when nobody listens.
        socket.onerror = () => {};
        return {
            _send: (frame) => socket.send(frame),
            _close: () => socket.close(),
            _waiting: () => socket.bufferedAmount,
        };
    };
}
