// mpi.h without the C++ bindings that MPI itself has withdrawn.
#ifndef TESSERA_WORKER_COMM_MPI_HEADERS_H_
#define TESSERA_WORKER_COMM_MPI_HEADERS_H_

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX
#endif
#include <mpi.h>

#endif  // TESSERA_WORKER_COMM_MPI_HEADERS_H_
