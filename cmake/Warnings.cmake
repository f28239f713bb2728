# SPDX-License-Identifier: Apache-2.0
# The same warnings and hardening for all of our code; generated code is exempt (ProtobufC.cmake).
add_library(usher_flags INTERFACE)
target_compile_definitions(usher_flags INTERFACE _GNU_SOURCE USHER_VERSION="${PROJECT_VERSION}")
target_compile_options(usher_flags INTERFACE
    -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
    -Wvla -Wundef -Wformat=2 -Wno-unused-parameter -fno-common -fstack-protector-strong
    -fstack-clash-protection
    $<$<CONFIG:RelWithDebInfo>:-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2>
    # Checks stay on in release: CHECK is ours, assert is not used. Those that cost a walk do not.
    $<$<CONFIG:Debug>:-Og;-DUSHER_CHECK_SLOW>)
target_link_options(usher_flags INTERFACE -Wl,-z,relro,-z,now)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
