# SPDX-License-Identifier: Apache-2.0
# layer(NAME DEPENDS a b FOREIGN x y): the .c files of this folder as one library. It sees the
# headers of its own folder and of the layers that it names, nothing else, so a wrong include
# does not compile. Headers are included by folder: "runtime/ring.h", "proto/frame.h".
#
# Each layer gets an include root of its own with one link in it, named as the folder.
function(layer name)
    cmake_parse_arguments(LAYER "" "" "DEPENDS;FOREIGN;EXCLUDE" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
    foreach(excluded IN LISTS LAYER_EXCLUDE)
        list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${excluded})
    endforeach()
    get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(root ${CMAKE_BINARY_DIR}/include/${name})
    file(MAKE_DIRECTORY ${root})
    file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${folder} SYMBOLIC)
    if(sources)
        add_library(usher_${name} STATIC ${sources})
        target_include_directories(usher_${name} PUBLIC ${root})
        target_link_libraries(usher_${name} PUBLIC Threads::Threads PRIVATE usher_flags
            PUBLIC ${LAYER_FOREIGN})
        foreach(dependency IN LISTS LAYER_DEPENDS)
            target_link_libraries(usher_${name} PUBLIC usher_${dependency})
        endforeach()
    endif()
endfunction()
