# cmake --install build/release --prefix PREFIX:
#
#   bin/tessera, bin/tessera-worker      the two programs; serve and describe find the worker beside
#                                        themselves
#   bin/tessera-fetch-model              fetches the default model, prints its path
#   share/tessera/proto                  what clients in other languages generate their code from
#   share/doc/tessera                    LICENSE, README.md
#
# What builds or measures (deploy/build.sh, tests, benchmarks) stays in the source tree.
include(GNUInstallDirs)

# NCCL and MPI are found where they were linked from.
set_target_properties(tessera tessera-worker PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)

install(TARGETS tessera tessera-worker RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(PROGRAMS deploy/fetch-model.sh DESTINATION ${CMAKE_INSTALL_BINDIR}
  RENAME tessera-fetch-model)
install(DIRECTORY proto/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tessera/proto
  FILES_MATCHING PATTERN "*.proto"
  PATTERN base EXCLUDE PATTERN flags EXCLUDE PATTERN model EXCLUDE PATTERN wire EXCLUDE)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
