# SPDX-License-Identifier: Apache-2.0
# usher_protobuf(TARGET FILE.proto ...): a static library of the generated protobuf-c code.
find_program(PROTOC_C protoc-c REQUIRED)
function(usher_protobuf target)
    set(outputs)
    foreach(schema IN LISTS ARGN)
        get_filename_component(stem ${schema} NAME_WE)
        set(base ${CMAKE_CURRENT_BINARY_DIR}/${stem}.pb-c)
        add_custom_command(
            OUTPUT ${base}.c ${base}.h
            COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR}
                    --c_out=${CMAKE_CURRENT_BINARY_DIR} ${schema}
            DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${schema}
            VERBATIM)
        list(APPEND outputs ${base}.c ${base}.h)
    endforeach()
    add_library(${target} STATIC ${outputs})
    target_include_directories(${target} SYSTEM PUBLIC ${CMAKE_CURRENT_BINARY_DIR})
    target_link_libraries(${target} PUBLIC PkgConfig::PROTOBUF_C)
endfunction()
