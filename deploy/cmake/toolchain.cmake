# Compiler flags, sanitizers, ccache and the linker. Included once from the top level.

# Paths below the source folder are hashed relative to it, so that clones share what was compiled;
# the sloppiness is what precompiled headers need.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(TESSERA_CCACHE ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${TESSERA_CCACHE})
    add_compile_options($<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-fpch-preprocess>)
  endif()
endif()

find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

# Every target of ours links this; packages' headers are SYSTEM and stay outside its warnings.
add_library(tessera_options INTERFACE)
target_compile_options(tessera_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror
  -fno-math-errno -ffp-contract=off)
# What GCC 12 guesses about memory from code that a sanitizer has instrumented is often wrong.
target_compile_options(tessera_options INTERFACE $<$<CONFIG:Debug>:-Wno-error=array-bounds
  -Wno-error=dangling-pointer -Wno-error=maybe-uninitialized -Wno-error=restrict
  -Wno-error=stringop-overflow>)
target_include_directories(tessera_options INTERFACE ${CMAKE_SOURCE_DIR})

if(TESSERA_SANITIZER STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(TESSERA_SANITIZER STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(TESSERA_SANITIZER)
  message(FATAL_ERROR "TESSERA_SANITIZER is '${TESSERA_SANITIZER}'; expected address, thread or empty")
endif()
