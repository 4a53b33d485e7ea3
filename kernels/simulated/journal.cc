#include "kernels/simulated/journal.h"

#include <atomic>
#include <mutex>
#include <utility>

namespace tessera::gpu_stubs {
namespace {

using Clock = std::chrono::steady_clock;

std::mutex mu;
bool writing = false;
std::vector<std::string> lines;
std::atomic<Clock::time_point> still_until = Clock::time_point::min();

}  // namespace

void StartJournal() {
  const std::lock_guard<std::mutex> lock(mu);
  writing = true;
}

std::vector<std::string> StopJournal() {
  const std::lock_guard<std::mutex> lock(mu);
  writing = false;
  return std::exchange(lines, {});
}

void Note(std::string line) {
  const std::lock_guard<std::mutex> lock(mu);
  if (writing) lines.push_back(std::move(line));
}

void StandStill(std::chrono::milliseconds how_long) { still_until = Clock::now() + how_long; }

bool StandsStill() { return Clock::now() < still_until.load(); }

}  // namespace tessera::gpu_stubs
