// The program `tessera`: parses the command line, runs one subcommand, returns its exit code.
//
// Exit codes: 0 done, 1 failed (one line "error: ..." on stderr), 2 the command line is wrong.
#ifndef TESSERA_COORDINATOR_CLI_APP_H_
#define TESSERA_COORDINATOR_CLI_APP_H_

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace tessera::coordinator {

// `args` without the program's name.
int RunCommandLine(const std::vector<std::string>& args);

// Shows all subcommands with their declared flags (deploy/flags.md is made of them).
void LookAtFlags(const std::function<void(const CLI::App&)>& look);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_APP_H_
