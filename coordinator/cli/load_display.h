// How far the shards have loaded: a bar on a terminal, a line per quarter elsewhere.
//
//   LoadDisplay display(std::cout, IsTerminal(STDOUT_FILENO));
//   display.Update({.bytes_loaded = 10, .bytes_total = 100});
//   display.End();                       // wipes the bar
#ifndef TESSERA_COORDINATOR_CLI_LOAD_DISPLAY_H_
#define TESSERA_COORDINATOR_CLI_LOAD_DISPLAY_H_

#include <ostream>
#include <string>

#include "coordinator/cli/cluster_map.h"

namespace tessera::coordinator {

class LoadDisplay {
 public:
  LoadDisplay(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}

  void Update(const LoadProgress& progress);
  void End();

 private:
  std::ostream& out_;
  const bool terminal_;
  std::string shown_;       // the bar on the screen
  int quarters_shown_ = 0;  // lines written, elsewhere
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_CLI_LOAD_DISPLAY_H_
