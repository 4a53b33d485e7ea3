#include "kernels/simulated/call_sites.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace tessera::gpu_stubs {
namespace {

std::string Environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

class Sites {
 public:
  bool Reach(const std::string& site) {
    const std::lock_guard<std::mutex> lock(mu_);
    const int64_t calls = ++calls_[site];
    if (calls == 1 && !file_.empty()) WriteDown(site);
    return site == fail_site_ && rank_ == fail_rank_ && calls == fail_call_;
  }

 private:
  // One write, so that ranks that share the file do not mix their lines.
  void WriteDown(const std::string& site) const {
    const std::string line = rank_ + " " + site + "\n";
    const int file = open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (file < 0) return;
    if (write(file, line.data(), line.size()) < 0) std::abort();
    close(file);
  }

  const std::string file_ = Environment("TESSERA_STUB_SITES", "");
  const std::string rank_ = Environment("OMPI_COMM_WORLD_RANK", "0");
  const std::string fail_site_ = Environment("TESSERA_STUB_FAIL", "");
  const std::string fail_rank_ = Environment("TESSERA_STUB_FAIL_RANK", "0");
  const int64_t fail_call_ = std::atoll(Environment("TESSERA_STUB_FAIL_CALL", "1").c_str());
  std::mutex mu_;
  std::map<std::string, int64_t> calls_;
};

Sites& AllSites() {
  static Sites* const sites = new Sites;  // other statics may call while they are destroyed
  return *sites;
}

std::string Hex(uintptr_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%zx", static_cast<size_t>(value));
  return text;
}

}  // namespace

bool MustFail(const char* entry, const void* caller) {
  Dl_info module = {};
  const bool known = dladdr(caller, &module) != 0;
  const auto base = reinterpret_cast<uintptr_t>(known ? module.dli_fbase : nullptr);
  return AllSites().Reach(std::string(entry) + "@" +
                          Hex(reinterpret_cast<uintptr_t>(caller) - base));
}

bool KernelMustFail(const char* stage, const char* kernel) {
  return AllSites().Reach(std::string(stage) + "@" + kernel);
}

}  // namespace tessera::gpu_stubs
