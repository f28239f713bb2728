/* SPDX-License-Identifier: Apache-2.0 */
#include "config/limits.h"

uint32_t output_max(const struct options *options)
{
    uint64_t frame = options->limits_frame_bytes + options->limits_output_bytes / 4;
    return (uint32_t)(options->limits_output_bytes > frame ? options->limits_output_bytes : frame);
}

uint32_t output_window(const struct options *options)
{
    uint64_t half = output_max(options) / 2;
    return (uint32_t)(options->limits_output_soft_bytes < half ? options->limits_output_soft_bytes
                                                               : half);
}
