// SPDX-License-Identifier: Apache-2.0
// For a script tag: what social.ts exports is `usher` there.
import { StatusError, UsherError } from "./errors.js";
import { connect } from "./social.js";

Object.assign(globalThis, { usher: { connect, StatusError, UsherError } });
