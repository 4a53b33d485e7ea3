// Whose turn it is: the requests that wait, and what every tenant has had.
//
// Between tenants: weighted deficit round robin over tokens (Shreedhar & Varghese, SIGCOMM 1995). A
// tenant with work (waiting or running) stands in a ring; every turn adds weight × quantum to its
// credit, every token computed for it is charged, and one whose credit is used up lets the next one
// go first. Without work a tenant loses credit and debt beyond one quantum, so that neither is
// hoarded. Within a tenant: by arrival, or by (priority, arrival).
//
// Pure and not thread-safe: the scheduler's.
//
//   TenantQueue queue({.policy = SchedulingPolicy::kFcfs});
//   int tenant = queue.TenantIndex("search");          // created when new
//   queue.Push({.arrival = 7, .tenant = tenant});
//   while (auto next = queue.Front()) { ...; queue.Erase(*next); queue.AddRunning(tenant, +1); }
//   queue.Charge(tenant, 512);
#ifndef TESSERA_COORDINATOR_SCHEDULE_TENANT_QUEUE_H_
#define TESSERA_COORDINATOR_SCHEDULE_TENANT_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/schedule/scheduling_policy.h"

namespace tessera::coordinator {

enum class SchedulingPolicy { kFcfs, kPriority };

struct TenantQueueOptions {
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  int quantum_tokens = policy::kQuantumTokens;  // of weight 1, per turn
  std::map<std::string, double> weights = {};   // positive; tenants not named have weight 1
};

class TenantQueue {
 public:
  struct Entry {
    int64_t arrival = 0;  // unique; smaller = earlier
    int tenant = 0;
    int32_t priority = 0;  // lower first; ignored with kFcfs
  };

  explicit TenantQueue(TenantQueueOptions options);
  ~TenantQueue();

  // Small and dense; the same name has the same index as long as the tenant has work (idle tenants
  // are forgotten once there are many, so that names sent by clients cost no memory for ever).
  int TenantIndex(const std::string& name);

  void Push(const Entry& entry);
  bool Erase(int64_t arrival);
  size_t size() const;
  bool empty() const { return size() == 0; }

  // Who is to be admitted next: the arrival; nullopt when nobody waits. Moves the ring on past
  // tenants without credit, and is otherwise without effect.
  std::optional<int64_t> Front();
  // The first of the requests of one tenant; nullopt when none of them waits.
  std::optional<int64_t> FrontOf(int tenant) const;

  void AddRunning(int tenant, int change);  // sequences
  void Charge(int tenant, int64_t tokens);  // computed for it in a step
  int running(int tenant) const;
  int waiting(int tenant) const;
  double weight(int tenant) const;
  // Tenants with waiting or running work, in the order of the ring.
  std::vector<int> Active() const;
  // Tokens that the tenant may still use in this turn; negative: it is ahead of its share.
  double credit(int tenant) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_SCHEDULE_TENANT_QUEUE_H_
