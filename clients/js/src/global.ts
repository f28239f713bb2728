// SPDX-License-Identifier: Apache-2.0
// For a script tag: what index.ts exports is `usher` there.
import { connect, StatusError, UsherError } from "./index.js";

Object.assign(globalThis, { usher: { connect, StatusError, UsherError } });
