// SPDX-License-Identifier: Apache-2.0
export * from "../../../clients/js/src/codec.js";
export * from "../../../clients/js/src/fields.js";
export * from "../../../clients/js/src/joiner.js";
export * from "../../../clients/js/src/utf8.js";
