# SPDX-License-Identifier: Apache-2.0
set(USHER_SANITIZE "" CACHE STRING "Sanitizers for everything, as -fsanitize takes them")
if(USHER_SANITIZE)
    add_compile_options(-fsanitize=${USHER_SANITIZE} -fno-omit-frame-pointer
        -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${USHER_SANITIZE})
endif()
