// SPDX-License-Identifier: Apache-2.0
export * from "../../../clients/js/src/codec.js";
export { BOOL, BYTES, STRING, UINT } from "../../../clients/js/src/fields.js";
export * from "../../../clients/js-backend/src/fields.js";
export { ServiceStatus, UsherError } from "../../../clients/js-backend/src/errors.js";
export { OwnService } from "../../../clients/js-backend/src/service.js";
export { addressesOf } from "../../../clients/js-backend/src/where.js";
export * from "../../../clients/js-backend/src/sp.js";
export { CLOCK } from "../../../clients/js-backend/src/time.js";
