// SPDX-License-Identifier: Apache-2.0
// What carries frames. A connection gives whole frames, one or more at a time, and is told by `end`
// that it is over, once.

export interface Link {
    send(frame: Uint8Array): void;
    close(): void;
    /** Bytes that were given to it and are not on their way yet. */
    waiting(): number;
}

export interface LinkEvents {
    open(): void;
    data(frames: Uint8Array): void;
    /** `code` and `detail` are those of WebSocket's Close, or 0 and what went wrong. */
    end(code: number, detail: string): void;
}

export type Dial = (url: string, events: LinkEvents) => Link;

/** Of a browser's WebSocket, or one like it. */
export function overWebSocket(given: unknown): Dial {
    return (url, events) => {
        const socket = new ((given || WebSocket) as typeof WebSocket)(url, "usher.v1");
        socket.binaryType = "arraybuffer";
        socket.onopen = () => events.open();
        socket.onmessage = (event) => events.data(new Uint8Array(event.data));
        socket.onclose = (event) => events.end(event.code, event.reason);
        // An error is followed by a close, but npm's ws ends the process when nobody listens.
        socket.onerror = () => {};
        return {
            send: (frame) => socket.send(frame),
            close: () => socket.close(),
            waiting: () => socket.bufferedAmount,
        };
    };
}
