# SPDX-License-Identifier: Apache-2.0
# console_files(VARIABLE): what the admin endpoint serves at /: the files of broker/admin/console/
# and those of uPlot, which `./dev` fetches (cmake/npm/fetch.py). Without them, as after a build
# without a network, the console says that its charts were left out.
set(USHER_UPLOT ${CMAKE_SOURCE_DIR}/build/uplot CACHE PATH "The folder with uPlot's files")
function(console_files variable)
    set(folder ${CMAKE_SOURCE_DIR}/broker/admin/console)
    set(patterns)
    foreach(type html js css svg)
        list(APPEND patterns ${folder}/*.${type})
    endforeach()
    file(GLOB files CONFIGURE_DEPENDS ${patterns} ${USHER_UPLOT}/uPlot.*)
    set(${variable} ${files} PARENT_SCOPE)
endfunction()
