// SPDX-License-Identifier: Apache-2.0
// The same for usher-client/social, whose tables are longer.
import { extendTables } from "../../../clients/js/src/social-fields.js";

export * from "./internals.js";

extendTables();
