# SPDX-License-Identifier: Apache-2.0
# layer(NAME DEPENDS a b USES c FOREIGN x y): the .c files of this folder as one library. It sees the
# headers of its own folder and of the layers that it names, nothing else, so a wrong include
# does not compile. Headers are included by folder: "runtime/ring.h", "proto/frame.h". Who names a
# layer sees what it DEPENDS on, because its headers may speak of it, but not what it USES.
#
# Each layer gets an include root of its own with one link in it, named as the folder.
function(layer name)
    cmake_parse_arguments(LAYER "" "" "DEPENDS;USES;FOREIGN;EXCLUDE" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
    foreach(excluded IN LISTS LAYER_EXCLUDE)
        list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${excluded})
    endforeach()
    get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(root ${CMAKE_BINARY_DIR}/include/${name})
    file(MAKE_DIRECTORY ${root})
    file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${folder} SYMBOLIC)
    set(kind PUBLIC)
    if(sources)
        add_library(usher_${name} STATIC ${sources})
        target_link_libraries(usher_${name} PRIVATE usher_flags)
    else() # a program of one file
        add_library(usher_${name} INTERFACE)
        set(kind INTERFACE)
    endif()
    target_include_directories(usher_${name} ${kind} ${root})
    target_link_libraries(usher_${name} ${kind} Threads::Threads ${LAYER_FOREIGN})
    foreach(dependency IN LISTS LAYER_DEPENDS)
        target_link_libraries(usher_${name} ${kind} usher_${dependency})
    endforeach()
    foreach(dependency IN LISTS LAYER_USES)
        target_link_libraries(usher_${name} PRIVATE usher_${dependency})
    endforeach()
endfunction()

# program(NAME DEPENDS ...): main.c of this folder as the program NAME, installed; the other .c files
# are the layer NAME, which tests can link.
function(program name)
    layer(${name} EXCLUDE main.c ${ARGN})
    add_executable(${name} main.c)
    target_link_libraries(${name} PRIVATE usher_${name} usher_flags)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endfunction()

# api(NAME HEADER): the layer NAME for those who see no more of it than what is installed of it. They
# name NAME_api and include "HEADER", as a program elsewhere does.
function(api name header)
    set(root ${CMAKE_BINARY_DIR}/include/${name}_api)
    file(MAKE_DIRECTORY ${root})
    file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/${header} ${root}/${header} SYMBOLIC)
    target_include_directories(usher_${name} PUBLIC ${root})
    add_library(usher_${name}_api INTERFACE)
    target_include_directories(usher_${name}_api INTERFACE ${root})
    target_link_libraries(usher_${name}_api INTERFACE $<LINK_ONLY:usher_${name}>)
endfunction()

# part(NAME LAYER HEADER...): some headers of this folder, for those who see no more of it. They name
# NAME and include as everybody does: "base/check.h".
function(part name layer)
    get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(root ${CMAKE_BINARY_DIR}/include/${name})
    file(MAKE_DIRECTORY ${root}/${folder})
    foreach(header IN LISTS ARGN)
        file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/${header} ${root}/${folder}/${header} SYMBOLIC)
    endforeach()
    add_library(usher_${name} INTERFACE)
    target_include_directories(usher_${name} INTERFACE ${root})
    target_link_libraries(usher_${name} INTERFACE $<LINK_ONLY:usher_${layer}>)
endfunction()
