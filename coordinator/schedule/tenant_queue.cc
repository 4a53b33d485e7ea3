#include "coordinator/schedule/tenant_queue.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace tessera::coordinator {
namespace {

constexpr int kNone = -1;

// Names come from clients. So many without work are remembered (for their credit); the one idle for
// longest is forgotten first.
constexpr int kMaxIdleTenants = 1024;

// Beyond these, sums of credits would lose tokens to rounding.
constexpr double kMinWeight = 1e-4;
constexpr double kMaxWeight = 1e4;

[[noreturn]] void Die(const char* what, double value) {
  std::fprintf(stderr, "TenantQueue: %s %g\n", what, value);
  std::abort();
}

}  // namespace

struct TenantQueue::Impl {
  struct Tenant {
    std::string name;
    double turn = 0;  // weight × quantum, in tokens
    double weight = 1;
    double credit = 0;
    int running = 0;
    std::set<std::pair<int32_t, int64_t>> waiting;  // (priority, arrival)
    // In the ring while there is work, otherwise in the list of the idle.
    int previous = kNone;
    int next = kNone;

    bool working() const { return running > 0 || !waiting.empty(); }
  };

  // Tenants in the order in which something happened to them, by index; links are in Tenant.
  struct List {
    int first = kNone;
    int last = kNone;
    int size = 0;
  };

  struct Place {
    int tenant = 0;
    int32_t priority = 0;
  };

  const TenantQueueOptions options;
  std::vector<Tenant> tenants;
  std::vector<int> unused;  // indices of forgotten tenants
  absl::flat_hash_map<std::string, int> by_name;
  absl::flat_hash_map<int64_t, Place> places;  // by arrival
  List ring;                                   // circular in meaning: behind last comes first
  List idle;                                   // longest idle first
  int turn = kNone;                            // whose turn it is; kNone: the first one's is next

  explicit Impl(TenantQueueOptions given) : options(std::move(given)) {
    if (options.quantum_tokens < 1) Die("tokens per turn:", options.quantum_tokens);
    for (const auto& [name, weight] : options.weights) {
      if (!(weight > 0)) Die(("the weight of tenant " + name + " is").c_str(), weight);
    }
  }

  Tenant& at(int index) {
    if (index < 0 || index >= static_cast<int>(tenants.size())) Die("no tenant with index", index);
    return tenants[static_cast<size_t>(index)];
  }

  // ---- lists

  // Behind `place`; kNone: at the front.
  void InsertAfter(int place, int index, List* list) {
    Tenant& tenant = at(index);
    tenant.previous = place;
    tenant.next = place == kNone ? list->first : at(place).next;
    (tenant.previous == kNone ? list->first : at(tenant.previous).next) = index;
    (tenant.next == kNone ? list->last : at(tenant.next).previous) = index;
    ++list->size;
  }

  void Remove(int index, List* list) {
    const Tenant& tenant = at(index);
    (tenant.previous == kNone ? list->first : at(tenant.previous).next) = tenant.next;
    (tenant.next == kNone ? list->last : at(tenant.next).previous) = tenant.previous;
    --list->size;
  }

  // ---- tenants coming and going

  int Create(const std::string& name) {
    int index = static_cast<int>(tenants.size());
    if (unused.empty()) {
      tenants.emplace_back();
    } else {
      index = unused.back();
      unused.pop_back();
    }
    const auto weight = options.weights.find(name);
    Tenant& tenant = at(index);
    tenant = Tenant{};
    tenant.name = name;
    tenant.weight =
        weight == options.weights.end() ? 1 : std::clamp(weight->second, kMinWeight, kMaxWeight);
    tenant.turn = tenant.weight * options.quantum_tokens;
    by_name.emplace(name, index);
    InsertAfter(idle.last, index, &idle);
    if (idle.size > kMaxIdleTenants) Forget(idle.first);
    return index;
  }

  void Forget(int index) {
    Remove(index, &idle);
    by_name.erase(at(index).name);
    unused.push_back(index);
  }

  // Behind everybody else: however many newcomers there are, nobody waits longer than a round.
  void Enter(int index) {
    Remove(index, &idle);
    InsertAfter(turn == kNone ? ring.last : at(turn).previous, index, &ring);
  }

  void Leave(int index) {
    Tenant& tenant = at(index);
    if (turn == index) turn = tenant.previous;
    Remove(index, &ring);
    tenant.credit = std::clamp(tenant.credit, -tenant.turn, tenant.turn);
    InsertAfter(idle.last, index, &idle);
    if (idle.size > kMaxIdleTenants) Forget(idle.first);
  }

  // Around every change of a tenant's work.
  template <typename Change>
  void ChangeWork(int index, Change change) {
    const bool worked = at(index).working();
    change(at(index));
    const bool works = at(index).working();
    if (works && !worked) Enter(index);
    if (worked && !works) Leave(index);
  }

  // ---- turns

  // Unused credit is not saved for later turns.
  static void GiveTurns(double turns, Tenant* tenant) {
    tenant->credit = std::min(tenant->credit + turns * tenant->turn, tenant->turn);
  }

  void NextTurn() {
    turn = turn == kNone || at(turn).next == kNone ? ring.first : at(turn).next;
    GiveTurns(1, &at(turn));
  }

  bool ServesTurn() { return turn != kNone && !at(turn).waiting.empty() && at(turn).credit > 0; }

  // As many whole rounds at once as leave nobody who waits with credit, all but the last one.
  void SkipRounds() {
    double rounds = HUGE_VAL;
    for (int i = ring.first; i != kNone; i = at(i).next) {
      const Tenant& tenant = at(i);
      if (tenant.waiting.empty()) continue;
      rounds = std::min(rounds, std::floor(std::max(0.0, -tenant.credit) / tenant.turn));
    }
    for (int i = ring.first; i != kNone; i = at(i).next) GiveTurns(rounds, &at(i));
  }

  int FindTurn() {
    while (true) {
      for (int i = 0; i <= ring.size; ++i) {
        if (ServesTurn()) return turn;
        NextTurn();
      }
      SkipRounds();
    }
  }
};

TenantQueue::TenantQueue(TenantQueueOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
TenantQueue::~TenantQueue() = default;

int TenantQueue::TenantIndex(const std::string& name) {
  const auto known = impl_->by_name.find(name);
  return known != impl_->by_name.end() ? known->second : impl_->Create(name);
}

void TenantQueue::Push(const Entry& entry) {
  const int32_t priority =
      impl_->options.policy == SchedulingPolicy::kPriority ? entry.priority : 0;
  if (!impl_->places.emplace(entry.arrival, Impl::Place{entry.tenant, priority}).second) {
    Die("pushed twice: arrival", static_cast<double>(entry.arrival));
  }
  impl_->ChangeWork(entry.tenant,
                    [&](Impl::Tenant& tenant) { tenant.waiting.emplace(priority, entry.arrival); });
}

bool TenantQueue::Erase(int64_t arrival) {
  const auto found = impl_->places.find(arrival);
  if (found == impl_->places.end()) return false;
  const Impl::Place place = found->second;
  impl_->places.erase(found);
  impl_->ChangeWork(place.tenant, [&](Impl::Tenant& tenant) {
    tenant.waiting.erase({place.priority, arrival});
  });
  return true;
}

size_t TenantQueue::size() const { return impl_->places.size(); }

std::optional<int64_t> TenantQueue::Front() {
  if (empty()) return std::nullopt;
  return FrontOf(impl_->FindTurn());
}

std::optional<int64_t> TenantQueue::FrontOf(int tenant) const {
  const auto& waiting = impl_->at(tenant).waiting;
  if (waiting.empty()) return std::nullopt;
  return waiting.begin()->second;
}

void TenantQueue::AddRunning(int tenant, int change) {
  impl_->ChangeWork(tenant, [&](Impl::Tenant& changed) {
    changed.running += change;
    if (changed.running < 0) Die("running sequences of a tenant:", changed.running);
  });
}

void TenantQueue::Charge(int tenant, int64_t tokens) {
  impl_->at(tenant).credit -= static_cast<double>(tokens);
}

int TenantQueue::running(int tenant) const { return impl_->at(tenant).running; }
int TenantQueue::waiting(int tenant) const {
  return static_cast<int>(impl_->at(tenant).waiting.size());
}
double TenantQueue::weight(int tenant) const { return impl_->at(tenant).weight; }
double TenantQueue::credit(int tenant) const { return impl_->at(tenant).credit; }

std::vector<int> TenantQueue::Active() const {
  std::vector<int> active;
  active.reserve(static_cast<size_t>(impl_->ring.size));
  const int start = impl_->turn == kNone ? impl_->ring.first : impl_->turn;
  for (int i = start; i != kNone; i = impl_->at(i).next) active.push_back(i);
  for (int i = impl_->ring.first; i != start; i = impl_->at(i).next) active.push_back(i);
  return active;
}

}  // namespace tessera::coordinator
