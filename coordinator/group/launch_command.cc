#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "coordinator/group/launcher.h"

namespace tessera::coordinator {
namespace {

bool NamesHosts(const std::vector<std::string>& args) {
  return std::any_of(args.begin(), args.end(), [](const std::string& arg) {
    return arg == "--hostfile" || arg == "-hostfile" || arg == "--machinefile" ||
           arg == "-machinefile" || arg == "--host" || arg == "-host" || arg == "-H";
  });
}

}  // namespace

int CoresOfThisHost() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max<int>(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

std::vector<std::string> LaunchCommand(const LaunchOptions& options,
                                       const std::string& session_dir) {
  const int cores = options.cores > 0 ? options.cores : CoresOfThisHost();
  std::vector<std::string> argv = {options.launcher_program, "-n",
                                   absl::StrCat(options.world_size), "--bind-to", "none"};
  auto add = [&](std::initializer_list<std::string> args) {
    argv.insert(argv.end(), args.begin(), args.end());
  };
  if (geteuid() == 0) add({"--allow-run-as-root"});
  // Without a host file mpirun counts physical cores as slots and refuses more ranks than that.
  if (!NamesHosts(options.launcher_args)) {
    add({"--oversubscribe"});
    // Ranks of one host need no fabric; looking for one is half of mpirun's start.
    add({"--mca", "pml", "ob1"});
  }
  // A rank that spins while another one needs its core would stop both.
  if (options.world_size >= cores) add({"--mca", "mpi_yield_when_idle", "1"});
  if (!session_dir.empty()) add({"--mca", "orte_tmpdir_base", session_dir});
  // When a rank dies mpirun kills the others at once, not after a second: they have nothing to save.
  add({"--mca", "odls_base_sigkill_timeout", "0"});
  // Copying straight out of a neighbour's memory is denied in most containers, noisily.
  add({"--mca", "btl_vader_single_copy_mechanism", "none"});
  argv.insert(argv.end(), options.launcher_args.begin(), options.launcher_args.end());

  add({options.worker_program, "--coordinator", options.coordinator, "--model", options.model});
  // It dies with its coordinator, and is started again by it rather than coming back.
  add({"--rejoin-timeout", "0"});
  if (!options.group_id.empty()) add({"--group-id", options.group_id});
  if (!options.load_format.empty()) add({"--load-format", options.load_format});
  if (options.threads_per_rank > 0) {
    add({"--threads-per-rank", absl::StrCat(options.threads_per_rank)});
  }
  if (options.health_port > 0) add({"--health-port", absl::StrCat(options.health_port)});
  argv.insert(argv.end(), options.worker_args.begin(), options.worker_args.end());
  return argv;
}

}  // namespace tessera::coordinator
