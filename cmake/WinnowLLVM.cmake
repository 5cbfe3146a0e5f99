# Finds LLVM and MLIR 22 and links them statically.
#
# Debian's MLIR targets are exported from a build with LLVM_LINK_LLVM_DYLIB=ON, so each interface names the
# shared "LLVM" (and MLIRExecutionEngine's the shared "MLIR"): both names are dropped from every interface
# here, and winnow_link_mlir adds the static LLVM components by name.
list(APPEND CMAKE_PREFIX_PATH /usr/lib/llvm-22)
set(ZLIB_USE_STATIC_LIBS ON)
find_package(MLIR REQUIRED CONFIG)
list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})
include(TableGen)
include(AddLLVM)
include(AddMLIR)

file(STRINGS ${MLIR_CMAKE_DIR}/MLIRTargets.cmake mlir_targets REGEX "^add_library\\(MLIR")
foreach(line IN LISTS mlir_targets)
  string(REGEX REPLACE "^add_library\\(([A-Za-z0-9_]+) .*" "\\1" target "${line}")
  get_target_property(interface ${target} INTERFACE_LINK_LIBRARIES)
  if(interface)
    list(REMOVE_ITEM interface LLVM MLIR)
    set_target_properties(${target} PROPERTIES INTERFACE_LINK_LIBRARIES "${interface}")
  endif()
endforeach()
# LLVMSupport's interface names zstd::libzstd_shared.
set_target_properties(zstd::libzstd_shared PROPERTIES IMPORTED_LOCATION ${ZSTD_STATIC})

# Compile settings of a target that includes LLVM or MLIR headers. The Debian packages are built with RTTI on
# and exceptions off.
function(winnow_mlir_settings target)
  target_include_directories(${target} SYSTEM PUBLIC ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
  separate_arguments(definitions UNIX_COMMAND "${LLVM_DEFINITIONS}")
  target_compile_options(${target} PUBLIC ${definitions} PRIVATE -fno-exceptions)
endfunction()

# winnow_link_mlir(target MLIR <libraries...> COMPONENTS <llvm components...>)
function(winnow_link_mlir target)
  cmake_parse_arguments(ARG "" "" "MLIR;COMPONENTS" ${ARGN})
  llvm_map_components_to_libnames(llvm_libraries ${ARG_COMPONENTS})
  target_link_libraries(${target} PUBLIC ${ARG_MLIR} ${llvm_libraries})
endfunction()

# One precompiled header for every target with MLIR in it: parsing those headers is most of a build's time.
add_library(winnow_mlir_pch OBJECT ${CMAKE_SOURCE_DIR}/cmake/MlirPch.cpp)
winnow_mlir_settings(winnow_mlir_pch)
target_precompile_headers(winnow_mlir_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/MlirPch.h)
# winnow_mlir_library(target sources... [PRECOMPILE headers...] [REUSE target]): a static library with MLIR headers, settings
# and a precompiled header: that of MLIR alone, of the headers that are named besides, or of another library.
function(winnow_mlir_library target)
  cmake_parse_arguments(ARG "" "REUSE" "PRECOMPILE" ${ARGN})
  add_library(${target} STATIC ${ARG_UNPARSED_ARGUMENTS})
  winnow_mlir_settings(${target})
  if(ARG_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE ${CMAKE_SOURCE_DIR}/cmake/MlirPch.h ${ARG_PRECOMPILE})
  elseif(ARG_REUSE)
    target_precompile_headers(${target} REUSE_FROM ${ARG_REUSE})
  else()
    target_precompile_headers(${target} REUSE_FROM winnow_mlir_pch)
  endif()
endfunction()
