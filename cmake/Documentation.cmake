# SPDX-License-Identifier: Apache-2.0
# Man pages (docs/man/) and bash completion. Both are made from the output of the programs, so
# not in sanitizer builds, whose programs may not run as they are; those are not installed anyway.
if(USHER_SANITIZE)
    return()
endif()
find_program(GZIP gzip REQUIRED)
set(generator ${CMAKE_SOURCE_DIR}/cmake/package/generate.py)
set(made ${CMAKE_BINARY_DIR}/man)
file(MAKE_DIRECTORY ${made})
set(documentation)

# man_page(NAME SECTION TARGET COMPONENT): from docs/man/NAME.SECTION.in
function(man_page name section target component)
    set(page ${made}/${name}.${section})
    add_custom_command(OUTPUT ${page}.gz
        COMMAND /usr/bin/python3 ${generator} man ${CMAKE_SOURCE_DIR}/docs/man/${name}.${section}.in
            ${PROJECT_VERSION} 2026-11-21 $<TARGET_FILE:${target}> ${page}
        COMMAND ${GZIP} -9nf ${page}
        DEPENDS ${generator} ${target} ${CMAKE_SOURCE_DIR}/docs/man/${name}.${section}.in
        VERBATIM)
    install(FILES ${page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section}
        COMPONENT ${component})
    set(documentation ${documentation} ${page}.gz PARENT_SCOPE)
endfunction()

function(bash_completion name target component)
    set(script ${made}/${name}.bash)
    add_custom_command(OUTPUT ${script}
        COMMAND /usr/bin/python3 ${generator} completion $<TARGET_FILE:${target}> ${script}
        DEPENDS ${generator} ${target} VERBATIM)
    install(FILES ${script} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME ${name} COMPONENT ${component})
    set(documentation ${documentation} ${script} PARENT_SCOPE)
endfunction()

man_page(usherd 8 usherd broker)
man_page(usherd.yaml 5 usherd broker)
bash_completion(usherd usherd broker)
foreach(tool usher usherctl usher-store usher-echo usher-token usher-bench)
    man_page(${tool} 1 ${tool} tools)
    bash_completion(${tool} ${tool} tools)
endforeach()
add_custom_target(documentation ALL DEPENDS ${documentation})
