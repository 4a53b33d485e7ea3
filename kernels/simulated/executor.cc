#include "kernels/simulated/executor.h"

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/simulated/access_log.h"
#include "kernels/simulated/fiber.h"

namespace tessera::kernels::cuda::simt {
namespace {

constexpr int kWarp = 32;
constexpr int64_t kGranuleBytes = 2;
constexpr int64_t kMaxSharedBytes = 227 * 1024;  // what an sm_90 block may have
constexpr int kMaxThreads = 1024;

// Where a thread stands.
struct Place {
  const char* what = "";
  const char* file = "";
  int line = 0;

  bool operator==(const Place& other) const {
    return line == other.line && Same(what, other.what) && Same(file, other.file);
  }
  // Literals: mostly the very same, but one of several files need not be.
  static bool Same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }
  std::string Text() const {
    const char* slash = std::strrchr(file, '/');
    return absl::StrCat(what, " (", slash ? slash + 1 : file, ":", line, ")");
  }
};

struct Copy {
  SharedPlace to;
  std::byte data[16];
};

struct Warp {
  int arrived = 0;
  uint32_t epoch = 1;
  Place place;
  void* slots[kWarp] = {};
};

enum class State { kReady, kWaiting, kEnded };

class Executor;

struct Thread {
  Thread(Executor* e, int i);

  Executor* executor;
  int index;
  State state = State::kReady;
  Place waits_at;
  std::vector<std::vector<Copy>> groups;  // committed, oldest first
  std::vector<Copy> open;                 // not yet committed
  Fiber fiber;
};

class Executor {
 public:
  std::string Run(const Launched& launched, const Checks& checks);

  void Barrier(const Place& place);
  void WarpCollective(const Place& place, void* slot, void (*exchange)(void* const* slots),
                      bool orders_memory);
  SharedPlace StaticShared(const void* key, int64_t bytes);
  SharedPlace DynamicShared(int64_t offset, int64_t bytes);
  void CheckShared(AccessKind kind, int64_t offset, int64_t bytes, const char* view,
                   int64_t index);
  void CheckGlobal(AccessKind kind, const void* address, int64_t bytes, const char* view,
                   int64_t index);
  void AsyncCopy(const SharedPlace& to, const void* from, const char* view, int64_t index);
  void AsyncCommit();
  void AsyncWait(int groups);
  [[noreturn]] void Fail(std::string what);
  [[noreturn]] void ThreadMain(Thread* thread);

  const Here& here() const { return here_; }

 private:
  void RunBlock();
  // Runs others until this thread is ready again.
  void Wait(const Place& place);
  // The next ready thread, or the executor's own stack when there is none.
  void SwitchAway(Fiber* from);
  void MakeReady(int thread);
  std::string Stuck() const;
  Moment Now() const {
    return {epoch_, first_epoch_, warps_[here_.thread / kWarp].epoch, here_.thread};
  }
  std::string Where() const;
  void Arrive(const std::vector<Copy>& copies);

  Fiber main_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::vector<int> ready_;  // ring of thread indices
  size_t ready_begin_ = 0;
  size_t ready_count_ = 0;
  const Launched* launched_ = nullptr;
  Checks checks_;
  Here here_;
  std::string failure_;

  int barrier_arrived_ = 0;
  Place barrier_place_;
  uint64_t epoch_ = 0;        // of now; grows over all blocks and launches
  uint64_t first_epoch_ = 0;  // of the block
  uint64_t launch_first_epoch_ = 0;

  std::unique_ptr<std::byte[]> shared_storage_;
  std::byte* shared_ = nullptr;  // aligned; static memory from 0, dynamic behind
  std::vector<Granule> shared_log_;
  absl::flat_hash_map<const void*, std::pair<int64_t, int64_t>> static_places_;  // offset, bytes
  int64_t static_end_ = 0;
  absl::flat_hash_map<uintptr_t, Granule> global_log_;
};

thread_local Executor* running = nullptr;
thread_local std::string last_failure;
Submitter the_submitter = nullptr;
Checks the_checks;

void ThreadEntry(void* argument) {
  auto* thread = static_cast<Thread*>(argument);
  thread->executor->ThreadMain(thread);
}

Thread::Thread(Executor* e, int i) : executor(e), index(i), fiber(&ThreadEntry, this) {}

std::string Executor::Run(const Launched& launched, const Checks& checks) {
  if (launched.threads <= 0 || launched.threads % kWarp != 0 || launched.threads > kMaxThreads) {
    return absl::StrCat("kernel ", launched.name, ": ", launched.threads,
                        " threads per block; expected a multiple of 32 up to 1024");
  }
  if (launched.grid[0] < 1 || launched.grid[1] < 1 || launched.grid[2] < 1 ||
      launched.grid[0] > 0x7fffffff || launched.grid[1] > 65535 || launched.grid[2] > 65535) {
    return absl::StrCat("kernel ", launched.name, ": no such grid: ", launched.grid[0], ", ",
                        launched.grid[1], ", ", launched.grid[2]);
  }
  if (launched.shared_bytes < 0 || launched.shared_bytes > kMaxSharedBytes) {
    return absl::StrCat("kernel ", launched.name, ": ", launched.shared_bytes,
                        " bytes of dynamic shared memory; a block has at most ", kMaxSharedBytes);
  }
  if (shared_ == nullptr) {
    // Dynamic memory lies behind room for as much static.
    const int64_t bytes = 2 * kMaxSharedBytes + 2048;
    shared_storage_ = std::make_unique<std::byte[]>(bytes);
    const auto address = reinterpret_cast<uintptr_t>(shared_storage_.get());
    shared_ = shared_storage_.get() + (1024 - address % 1024);
    shared_log_.resize(2 * kMaxSharedBytes / kGranuleBytes);
  }
  launched_ = &launched;
  checks_ = checks;
  failure_.clear();
  global_log_.clear();
  launch_first_epoch_ = epoch_ + 1;
  while (static_cast<int>(threads_.size()) < launched.threads) {
    threads_.push_back(std::make_unique<Thread>(this, static_cast<int>(threads_.size())));
  }
  here_.grid_x = launched.grid[0];
  for (int64_t z = 0; z < launched.grid[2]; ++z) {
    for (int64_t y = 0; y < launched.grid[1]; ++y) {
      for (int64_t x = 0; x < launched.grid[0]; ++x) {
        here_.block[0] = x, here_.block[1] = y, here_.block[2] = z;
        RunBlock();
        if (!failure_.empty()) return failure_;
      }
    }
  }
  return failure_;
}

void Executor::RunBlock() {
  const int count = launched_->threads;
  first_epoch_ = ++epoch_;
  warps_.assign(count / kWarp, Warp());
  barrier_arrived_ = 0;
  static_places_.clear();
  static_end_ = 0;
  ready_.assign(count, 0);
  ready_begin_ = ready_count_ = 0;
  for (int t = 0; t < count; ++t) {
    Thread& thread = *threads_[t];
    thread.groups.clear();
    thread.open.clear();
    thread.fiber.Start();
    MakeReady(t);
  }
  SwitchAway(&main_);
  if (!failure_.empty()) return;
  for (int t = 0; t < count; ++t) {
    if (threads_[t]->state != State::kEnded) {
      failure_ = Stuck();
      return;
    }
  }
}

void Executor::MakeReady(int thread) {
  threads_[thread]->state = State::kReady;
  ready_[(ready_begin_ + ready_count_++) % ready_.size()] = thread;
}

void Executor::SwitchAway(Fiber* from) {
  Fiber* to = &main_;
  if (failure_.empty() && ready_count_ > 0) {
    here_.thread = ready_[ready_begin_];
    to = &threads_[here_.thread]->fiber;
    ready_begin_ = (ready_begin_ + 1) % ready_.size();
    --ready_count_;
  }
  if (to != from) Fiber::Switch(from, to);
}

void Executor::Wait(const Place& place) {
  const int self = here_.thread;
  threads_[self]->state = State::kWaiting;
  threads_[self]->waits_at = place;
  SwitchAway(&threads_[self]->fiber);
}

void Executor::ThreadMain(Thread* thread) {
  launched_->thread_body();
  thread->state = State::kEnded;
  SwitchAway(&thread->fiber);
  std::abort();  // nobody wakes an ended thread
}

// Does not return, so whatever its callers' frames own is lost: it empties `what` itself, and callers
// keep no other strings.
void Executor::Fail(std::string what) {
  {
    const std::string taken = std::move(what);
    failure_ = absl::StrCat(Where(), ": ", taken);
  }
  SwitchAway(&threads_[here_.thread]->fiber);
  std::abort();
}

std::string Executor::Where() const {
  return absl::StrCat("kernel ", launched_->name, ", block (", here_.block[0], ", ",
                      here_.block[1], ", ", here_.block[2], "), thread ", here_.thread);
}

// Nobody can go on and some have not ended: says who waits where, and who is missing.
std::string Executor::Stuck() const {
  int waiting = -1;
  int at_that_place = 0;
  for (int t = 0; t < launched_->threads; ++t) {
    if (threads_[t]->state != State::kWaiting) continue;
    if (waiting < 0) waiting = t;
    if (threads_[t]->waits_at == threads_[waiting]->waits_at) ++at_that_place;
  }
  const Place& place = threads_[waiting]->waits_at;
  const bool barrier = std::strcmp(place.what, "SyncThreads") == 0;
  std::string missing;
  const int begin = barrier ? 0 : waiting / kWarp * kWarp;
  const int end = barrier ? launched_->threads : begin + kWarp;
  for (int t = begin; t < end && missing.empty(); ++t) {
    if (threads_[t]->state == State::kEnded) {
      missing = absl::StrCat("thread ", t, " has ended");
    } else if (!(threads_[t]->waits_at == place)) {
      missing = absl::StrCat("thread ", t, " waits at ", threads_[t]->waits_at.Text());
    }
  }
  return absl::StrCat("kernel ", launched_->name, ", block (", here_.block[0], ", ",
                      here_.block[1], ", ", here_.block[2], "), thread ", waiting, ": waits at ",
                      place.Text(), ", which not all threads of the ",
                      barrier ? "block" : "warp", " reach: ", missing);
}

void Executor::Barrier(const Place& place) {
  if (barrier_arrived_ == 0) {
    barrier_place_ = place;
  } else if (!(barrier_place_ == place)) {
    std::string wrong = absl::StrCat("is at ", place.Text(), " while others of the block are at ",
                                     barrier_place_.Text());
    Fail(std::move(wrong));
  }
  if (++barrier_arrived_ < launched_->threads) return Wait(place);
  barrier_arrived_ = 0;
  ++epoch_;
  for (int t = 0; t < launched_->threads; ++t) {
    if (t != here_.thread) MakeReady(t);
  }
}

void Executor::WarpCollective(const Place& place, void* slot,
                              void (*exchange)(void* const* slots), bool orders_memory) {
  Warp& warp = warps_[here_.thread / kWarp];
  if (warp.arrived == 0) {
    warp.place = place;
  } else if (!(warp.place == place)) {
    std::string wrong = absl::StrCat("is at ", place.Text(), " while others of the warp are at ",
                                     warp.place.Text());
    Fail(std::move(wrong));
  }
  warp.slots[here_.thread % kWarp] = slot;
  if (++warp.arrived < kWarp) return Wait(place);
  warp.arrived = 0;
  if (orders_memory) ++warp.epoch;
  if (exchange) exchange(warp.slots);
  const int first = here_.thread / kWarp * kWarp;
  for (int t = first; t < first + kWarp; ++t) {
    if (t != here_.thread) MakeReady(t);
  }
}

SharedPlace Executor::StaticShared(const void* key, int64_t bytes) {
  auto [it, is_new] = static_places_.try_emplace(key, static_end_, bytes);
  if (is_new) {
    static_end_ = (static_end_ + bytes + 15) / 16 * 16;
    if (static_end_ > 48 * 1024) Fail("more than 48 KiB of static shared memory");
  }
  return {shared_ + it->second.first, it->second.first};
}

SharedPlace Executor::DynamicShared(int64_t offset, int64_t bytes) {
  if (offset < 0 || offset + bytes > launched_->shared_bytes) {
    Fail(absl::StrCat("dynamic shared memory [", offset, ", ", offset + bytes,
                      ") asked for; the launch has ", launched_->shared_bytes, " bytes"));
  }
  if (static_end_ + launched_->shared_bytes > kMaxSharedBytes) {
    Fail("more shared memory than a block may have");
  }
  return {shared_ + kMaxSharedBytes / 1024 * 1024 + offset,
          kMaxSharedBytes / 1024 * 1024 + offset};
}

void Executor::CheckShared(AccessKind kind, int64_t offset, int64_t bytes, const char* view,
                           int64_t index) {
  const Moment now = Now();
  for (int64_t g = offset / kGranuleBytes; g <= (offset + bytes - 1) / kGranuleBytes; ++g) {
    Granule& granule = shared_log_[g];
    granule.ForgetBefore(first_epoch_);
    const char* wrong = kind == AccessKind::kRead    ? granule.Read(now, true)
                        : kind == AccessKind::kWrite ? granule.Write(now)
                                                     : granule.Atomic(now);
    if (wrong) {
      Fail(absl::StrCat(kind == AccessKind::kRead ? "reads " : "writes ", view, "[", index,
                        "] (shared): ", wrong));
    }
  }
}

void Executor::CheckGlobal(AccessKind kind, const void* address, int64_t bytes, const char* view,
                           int64_t index) {
  if (!checks_.global_races) return;
  const Moment now = Now();
  const auto first = reinterpret_cast<uintptr_t>(address);
  for (uintptr_t g = first / kGranuleBytes; g <= (first + bytes - 1) / kGranuleBytes; ++g) {
    Granule& granule = global_log_[g];
    const char* wrong = kind == AccessKind::kRead ? granule.Read(now, false) : granule.Write(now);
    if (wrong) {
      Fail(absl::StrCat(kind == AccessKind::kRead ? "reads " : "writes ", view, "[", index,
                        "] (global): ", wrong));
    }
  }
}

void Executor::AsyncCopy(const SharedPlace& to, const void* from, const char* view,
                         int64_t index) {
  Copy copy{.to = to, .data = {}};
  if (from) std::memcpy(copy.data, from, sizeof(copy.data));
  const Moment now = Now();
  for (int64_t g = to.offset / kGranuleBytes; g < (to.offset + 16) / kGranuleBytes; ++g) {
    shared_log_[g].ForgetBefore(first_epoch_);
    if (const char* wrong = shared_log_[g].Write(now, /*pending=*/true)) {
      Fail(absl::StrCat("copies to ", view, "[", index, "] (shared): ", wrong));
    }
  }
  threads_[here_.thread]->open.push_back(copy);
}

void Executor::AsyncCommit() {
  Thread& thread = *threads_[here_.thread];
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}

void Executor::AsyncWait(int groups) {
  Thread& thread = *threads_[here_.thread];
  while (static_cast<int>(thread.groups.size()) > groups) {
    Arrive(thread.groups.front());
    thread.groups.erase(thread.groups.begin());
  }
}

void Executor::Arrive(const std::vector<Copy>& copies) {
  const Moment now = Now();
  for (const Copy& copy : copies) {
    std::memcpy(copy.to.data, copy.data, sizeof(copy.data));
    for (int64_t g = copy.to.offset / kGranuleBytes; g < (copy.to.offset + 16) / kGranuleBytes;
         ++g) {
      shared_log_[g].Arrive(now);
    }
  }
}

}  // namespace

std::string Execute(const Launched& launched) {
  thread_local Executor executor;
  running = &executor;
  std::string failure = executor.Run(launched, the_checks);
  running = nullptr;
  return failure;
}

void SetSubmitter(Submitter submitter) { the_submitter = submitter; }

int Submit(Stream stream, Launched launched) {
  if (the_submitter) return the_submitter(stream, std::move(launched));
  std::string failure = Execute(launched);
  if (failure.empty()) return kLaunched;
  last_failure = std::move(failure);
  return kLaunchFailure;
}

std::string TakeFailure() { return std::exchange(last_failure, {}); }

void SetChecks(const Checks& checks) { the_checks = checks; }

const Here& Current() { return running->here(); }
void Fail(std::string what) { running->Fail(std::move(what)); }
void Barrier(const char* file, int line) { running->Barrier({"SyncThreads", file, line}); }
void WarpBarrier(const char* file, int line) {
  running->WarpCollective({"SyncWarp", file, line}, nullptr, nullptr, true);
}
void WarpCollective(const char* what, const char* file, int line, void* slot,
                    void (*exchange)(void* const* slots)) {
  running->WarpCollective({what, file, line}, slot, exchange, false);
}
SharedPlace StaticSharedPlace(const void* key, int64_t bytes) {
  return running->StaticShared(key, bytes);
}
SharedPlace DynamicSharedPlace(int64_t offset, int64_t bytes) {
  return running->DynamicShared(offset, bytes);
}
void CheckShared(AccessKind kind, int64_t offset, int64_t bytes, const char* view, int64_t index) {
  running->CheckShared(kind, offset, bytes, view, index);
}
void CheckGlobal(AccessKind kind, const void* address, int64_t bytes, const char* view,
                 int64_t index) {
  running->CheckGlobal(kind, address, bytes, view, index);
}
void FailBounds(const char* view, int64_t index, int64_t elements, int64_t extent) {
  running->Fail(absl::StrCat("view ", view, ": elements [", index, ", ", index + elements,
                             ") of ", extent, " are out of bounds"));
}
void FailAlignment(const char* view, int64_t index, int64_t bytes) {
  running->Fail(absl::StrCat("view ", view, ": index ", index, " is not aligned to ", bytes,
                             " bytes"));
}
void AsyncCopy(const SharedPlace& to, const void* from, const char* view, int64_t index) {
  running->AsyncCopy(to, from, view, index);
}
void AsyncCommit() { running->AsyncCommit(); }
void AsyncWait(int groups) { running->AsyncWait(groups); }

}  // namespace tessera::kernels::cuda::simt
