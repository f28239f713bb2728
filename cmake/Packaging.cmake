# SPDX-License-Identifier: Apache-2.0
# Debian packages: `cpack` in a build tree, `./dev package` for all of it. Everything below /usr is
# what `cmake --install` installs; the component `system` (unit, configuration) has absolute paths,
# so it is part of packages only.
set(from ${CMAKE_SOURCE_DIR}/cmake/package)
find_program(GZIP gzip REQUIRED)
set(packages usher usher-tools libusher0 libusher-backend0 libusher-dev python3-usher-backend usher-doc)
set(components broker tools client backend development python documents)

set(here ${CMAKE_BINARY_DIR}/package)
file(MAKE_DIRECTORY ${here})
configure_file(${from}/changelog.in ${here}/changelog @ONLY)
execute_process(COMMAND ${GZIP} -9nf ${here}/changelog COMMAND_ERROR_IS_FATAL ANY)

install(FILES ${from}/usher.service ${from}/usher.socket DESTINATION /lib/systemd/system
    COMPONENT system EXCLUDE_FROM_ALL)
install(FILES ${from}/usherd.yaml DESTINATION /etc/usher COMPONENT system EXCLUDE_FROM_ALL)
install(FILES ${CMAKE_SOURCE_DIR}/docs/openapi.json DESTINATION /usr/share/doc/usher COMPONENT system
    EXCLUDE_FROM_ALL)
# To look at a broker with; a program needs none of them.
set(monitoring ${CMAKE_SOURCE_DIR}/broker/admin/monitoring)
install(FILES ${monitoring}/grafana.json ${monitoring}/alerts.yaml
    DESTINATION ${CMAKE_INSTALL_DATADIR}/usher COMPONENT broker)
# The book, lying as it does in the sources, so that its references lead somewhere.
set(book ${CMAKE_INSTALL_DATADIR}/doc/usher-doc)
install(FILES ${CMAKE_SOURCE_DIR}/README.md DESTINATION ${book} COMPONENT documents EXCLUDE_FROM_ALL)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs DESTINATION ${book} COMPONENT documents EXCLUDE_FROM_ALL
    PATTERN man EXCLUDE)
foreach(package component IN ZIP_LISTS packages components)
    set(group ${component})
    if(component STREQUAL "broker")
        set(component system)
    else()
        set(component ${component}_papers)
    endif()
    install(FILES ${from}/copyright ${here}/changelog.gz DESTINATION /usr/share/doc/${package}
        COMPONENT ${component} EXCLUDE_FROM_ALL)
    # What lintian would say of every package, and of this one.
    file(READ ${from}/all.overrides overrides)
    if(EXISTS ${from}/${package}.overrides)
        file(READ ${from}/${package}.overrides more)
        string(APPEND overrides "${more}")
    endif()
    file(WRITE ${here}/${package} "${overrides}")
    install(FILES ${here}/${package} DESTINATION /usr/share/lintian/overrides
        COMPONENT ${component} EXCLUDE_FROM_ALL)
    string(TOUPPER ${group} upper)
    set(CPACK_COMPONENT_GROUP_${upper} ${group})
    string(TOUPPER ${component} papers)
    set(CPACK_COMPONENT_${papers}_GROUP ${group})
    set(CPACK_COMPONENT_${upper}_GROUP ${group})
    set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${package})
    list(APPEND CPACK_COMPONENTS_ALL ${group} ${component})
endforeach()

set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_SET_DESTDIR ON) # absolute paths go below the package's root, not into this machine's
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_NAME usher)
set(CPACK_PACKAGE_CONTACT "The usher developers <usher@localhost.localdomain>")
set(CPACK_PACKAGE_VENDOR usher)
set(CPACK_STRIP_FILES ON)
set(CPACK_OUTPUT_FILE_PREFIX ${CMAKE_SOURCE_DIR}/build/packages)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ
    GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

file(WRITE ${here}/conffiles "/etc/usher/usherd.yaml\n")
set(CPACK_DEBIAN_BROKER_PACKAGE_CONTROL_EXTRA
    ${from}/postinst ${from}/prerm ${from}/postrm ${here}/conffiles)

file(WRITE ${here}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_CLIENT_PACKAGE_CONTROL_EXTRA ${here}/triggers)
set(CPACK_DEBIAN_BACKEND_PACKAGE_CONTROL_EXTRA ${here}/triggers)

# Debian compiles modules where they are installed.
set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA ${from}/python/postinst ${from}/python/prerm)
set(CPACK_DEBIAN_PYTHON_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_PYTHON_PACKAGE_SECTION python)
set(CPACK_DEBIAN_PYTHON_PACKAGE_DEPENDS "python3 (>= 3.11), python3-protobuf (>= 3.21)")
set(CPACK_DEBIAN_PYTHON_PACKAGE_SHLIBDEPS OFF)

set(CPACK_DEBIAN_DOCUMENTS_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_DOCUMENTS_PACKAGE_SECTION doc)
set(CPACK_DEBIAN_DOCUMENTS_PACKAGE_SHLIBDEPS OFF)

set(CPACK_DEBIAN_BROKER_PACKAGE_SECTION net)
set(CPACK_DEBIAN_BROKER_PACKAGE_DEPENDS "adduser, init-system-helpers (>= 1.54~)")
set(CPACK_DEBIAN_BROKER_PACKAGE_RECOMMENDS "usher-tools")
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION net)
set(CPACK_DEBIAN_CLIENT_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_BACKEND_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libusher0 (= ${PROJECT_VERSION}), libusher-backend0 (= ${PROJECT_VERSION}), libprotobuf-c-dev, libssl-dev")

# The first line is the short description. CPack puts the project's own before it unless that is
# the one that it has by default.
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "usher built using CMake")
set(about "usher knows who is online, keeps one connection per player, carries messages\n\
between players, and calls from players to services.")
function(describe group short long)
    set(CPACK_DEBIAN_${group}_DESCRIPTION "${short}\n${about}\n\n${long}" PARENT_SCOPE)
endfunction()
describe(BROKER "message broker for online games"
    "This package has the broker, usherd, as a service of systemd.")
describe(TOOLS "programs around the usher message broker"
    "This package has a client for people and scripts, the program that asks\n\
and steers a broker, a small service, tokens for development and load.")
describe(CLIENT "usher message broker, library for game clients"
    "This package has the shared library for game clients.")
describe(BACKEND "usher message broker, library for services"
    "This package has the shared library for services behind the broker.")
describe(DEVELOPMENT "usher message broker, development files"
    "This package has headers, a static libusher and files for pkg-config and CMake.")
describe(PYTHON "usher message broker, Python library for services"
    "This package has usher_backend, with which services are written on asyncio.")
describe(DOCUMENTS "usher message broker, documentation"
    "This package has the book: tutorial, protocol, libraries, operation and why.")
include(CPack)
