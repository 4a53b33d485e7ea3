// The subcommands. Each Add function declares its flags and returns what runs once they are parsed;
// the flags live inside it.
//
//   Command command = AddGenerate(app);
//   app.parse(...);
//   if (command.app->parsed()) return command.run();   // the exit code
#ifndef TESSERA_COORDINATOR_CLI_COMMANDS_H_
#define TESSERA_COORDINATOR_CLI_COMMANDS_H_

#include <functional>

namespace CLI {
class App;
}

namespace tessera::coordinator {

struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

Command AddServe(CLI::App& parent);
Command AddGenerate(CLI::App& parent);
Command AddChat(CLI::App& parent);
Command AddStatus(CLI::App& parent);
Command AddPlan(CLI::App& parent);
Command AddTokenize(CLI::App& parent);
Command AddBatch(CLI::App& parent);
Command AddPerplexity(CLI::App& parent);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_COMMANDS_H_
