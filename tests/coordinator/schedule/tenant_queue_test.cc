#include "coordinator/schedule/tenant_queue.h"

#include <algorithm>
#include <random>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tessera::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(TenantQueueTest, OneTenantIsServedByArrival) {
  TenantQueue queue({});
  EXPECT_EQ(queue.Front(), std::nullopt);
  const int tenant = queue.TenantIndex("");
  for (const int64_t arrival : {5, 3, 9}) queue.Push({.arrival = arrival, .tenant = tenant});
  EXPECT_EQ(queue.size(), 3u);
  EXPECT_EQ(queue.waiting(tenant), 3);
  for (const int64_t arrival : {3, 5, 9}) {
    EXPECT_EQ(queue.Front(), arrival);
    EXPECT_EQ(queue.Front(), arrival);  // asking changes nothing
    EXPECT_TRUE(queue.Erase(arrival));
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_FALSE(queue.Erase(3));
}

TEST(TenantQueueTest, PriorityCountsOnlyUnderItsPolicy) {
  for (const SchedulingPolicy policy : {SchedulingPolicy::kFcfs, SchedulingPolicy::kPriority}) {
    TenantQueue queue({.policy = policy, .quantum_tokens = 256, .weights = {}});
    const int tenant = queue.TenantIndex("a");
    queue.Push({.arrival = 1, .tenant = tenant, .priority = 5});
    queue.Push({.arrival = 2, .tenant = tenant, .priority = -1});
    queue.Push({.arrival = 3, .tenant = tenant, .priority = -1});
    EXPECT_EQ(queue.Front(), policy == SchedulingPolicy::kFcfs ? 1 : 2);
    EXPECT_EQ(queue.FrontOf(tenant), queue.Front());
    EXPECT_TRUE(queue.Erase(2));
    EXPECT_EQ(queue.Front(), policy == SchedulingPolicy::kFcfs ? 1 : 3);
  }
}

TEST(TenantQueueTest, ATenantWithoutWaitingRequestsIsPassedOver) {
  TenantQueue queue({});
  const int a = queue.TenantIndex("a");
  const int b = queue.TenantIndex("b");
  queue.AddRunning(a, 3);
  queue.Push({.arrival = 1, .tenant = b});
  EXPECT_EQ(queue.Front(), 1);
  EXPECT_EQ(queue.FrontOf(a), std::nullopt);
  EXPECT_EQ(queue.running(a), 3);
  EXPECT_EQ(queue.running(b), 0);
}

TEST(TenantQueueTest, WhoHasUsedUpItsTurnLetsTheNextGoFirst) {
  TenantQueue queue({.quantum_tokens = 100, .weights = {}});
  const int a = queue.TenantIndex("a");
  const int b = queue.TenantIndex("b");
  for (int64_t i = 0; i < 4; ++i) queue.Push({.arrival = i, .tenant = a});
  for (int64_t i = 4; i < 8; ++i) queue.Push({.arrival = i, .tenant = b});
  EXPECT_EQ(queue.Front(), 0);
  queue.Charge(a, 60);
  EXPECT_EQ(queue.Front(), 0);  // 40 left
  queue.Charge(a, 60);
  EXPECT_EQ(queue.credit(a), -20);
  EXPECT_EQ(queue.Front(), 4);
  queue.Charge(b, 100);
  EXPECT_EQ(queue.Front(), 0);
  EXPECT_EQ(queue.credit(a), 80);  // the debt was paid
}

// Turns go through a queue whose tenants always have work: what each gets of 100,000 tokens.
std::vector<double> Shares(TenantQueue& queue, const std::vector<int>& tenants,
                           std::mt19937& random) {
  std::vector<double> tokens(tenants.size(), 0);
  int64_t arrival = 0;
  std::map<int64_t, size_t> owner;
  for (size_t i = 0; i < tenants.size(); ++i) {
    owner[arrival] = i;
    queue.Push({.arrival = arrival++, .tenant = tenants[i]});
  }
  double total = 0;
  while (total < 1'000'000) {
    const int64_t front = *queue.Front();
    const size_t i = owner.at(front);
    owner.erase(front);
    owner[arrival] = i;
    queue.Push({.arrival = arrival++, .tenant = tenants[i]});
    queue.Erase(front);
    // The tenants' requests differ in size: it is tokens that are shared out, not requests.
    const int size = 1 + static_cast<int>(random() % (i == 0 ? 2000 : 50));
    queue.Charge(tenants[i], size);
    tokens[i] += size;
    total += size;
  }
  for (double& share : tokens) share /= total;
  return tokens;
}

TEST(TenantQueueTest, WeightsShareOutTokens) {
  std::mt19937 random(1);
  TenantQueue queue({.quantum_tokens = 256, .weights = {{"heavy", 3}}});
  const std::vector<int> tenants = {queue.TenantIndex("heavy"), queue.TenantIndex("light")};
  EXPECT_EQ(queue.weight(tenants[0]), 3);
  EXPECT_EQ(queue.weight(tenants[1]), 1);
  const std::vector<double> shares = Shares(queue, tenants, random);
  EXPECT_NEAR(shares[0] / shares[1], 3.0, 0.06);
}

TEST(TenantQueueTest, ExtremeWeightsEndAndKeepTheirOrder) {
  std::mt19937 random(1);
  TenantQueue queue({.quantum_tokens = 256, .weights = {{"much", 1e9}, {"little", 1e-12}}});
  const std::vector<double> shares =
      Shares(queue, {queue.TenantIndex("much"), queue.TenantIndex("little")}, random);
  EXPECT_GT(shares[0], 0.999);
}

TEST(TenantQueueTest, DeepDebtIsPaidInOneCall) {
  TenantQueue queue({.quantum_tokens = 1, .weights = {}});
  const int a = queue.TenantIndex("a");
  const int b = queue.TenantIndex("b");
  queue.Push({.arrival = 1, .tenant = a});
  queue.Push({.arrival = 2, .tenant = b});
  queue.Charge(a, 2'000'000'000'000);
  queue.Charge(b, 1'000'000'000'000);
  EXPECT_EQ(queue.Front(), 2);
  EXPECT_GT(queue.credit(b), 0);
  EXPECT_NEAR(queue.credit(a), -1e12, 10);
}

TEST(TenantQueueTest, WithoutWorkNeitherCreditNorDebtIsHoarded) {
  TenantQueue queue({.quantum_tokens = 100, .weights = {}});
  const int idle = queue.TenantIndex("idle");
  const int busy = queue.TenantIndex("busy");
  queue.Push({.arrival = 1, .tenant = idle});
  queue.Charge(idle, 1'000'000);
  queue.Erase(1);
  EXPECT_EQ(queue.credit(idle), -100);  // of the debt, one turn's worth is remembered
  // Many turns pass for somebody else.
  queue.Push({.arrival = 2, .tenant = busy});
  for (int i = 0; i < 1000; ++i) {
    queue.Front();
    queue.Charge(busy, 100);
  }
  EXPECT_EQ(queue.credit(idle), -100);
  // And a tenant that only lets one stream run does not save up either.
  const int modest = queue.TenantIndex("modest");
  queue.AddRunning(modest, 1);
  for (int i = 0; i < 1000; ++i) {
    queue.Front();
    queue.Charge(busy, 100);
    queue.Charge(modest, 1);
  }
  EXPECT_LE(queue.credit(modest), 100);
  EXPECT_GT(queue.credit(modest), 0);
}

TEST(TenantQueueTest, NobodyWaitsLongerThanARoundHoweverManyNewcomersThereAre) {
  TenantQueue queue({.quantum_tokens = 100, .weights = {}});
  int64_t arrival = 0;
  const int first = queue.TenantIndex("patient");
  const int flooding = queue.TenantIndex("flooding");
  queue.Push({.arrival = arrival++, .tenant = flooding});
  EXPECT_EQ(queue.Front(), 0);
  queue.Push({.arrival = 1'000'000, .tenant = first});
  // Every time somebody is served, a tenant never seen before arrives.
  int turns = 0;
  while (*queue.Front() != 1'000'000) {
    ASSERT_LT(++turns, 5);
    queue.Charge(flooding, 100);
    queue.Push({.arrival = arrival++, .tenant = queue.TenantIndex(absl::StrCat("new", turns))});
  }
}

TEST(TenantQueueTest, ActiveTenantsAreThoseWithWork) {
  TenantQueue queue({});
  const int a = queue.TenantIndex("a");
  const int b = queue.TenantIndex("b");
  queue.TenantIndex("c");
  EXPECT_THAT(queue.Active(), IsEmpty());
  queue.Push({.arrival = 1, .tenant = b});
  queue.AddRunning(a, 1);
  EXPECT_THAT(queue.Active(), ElementsAre(b, a));
  EXPECT_TRUE(queue.Erase(1));
  EXPECT_THAT(queue.Active(), ElementsAre(a));
  queue.AddRunning(a, -1);
  EXPECT_THAT(queue.Active(), IsEmpty());
}

TEST(TenantQueueTest, NamesSentByClientsCostNoMemoryForEver) {
  TenantQueue queue({});
  const int kept = queue.TenantIndex("kept");
  queue.AddRunning(kept, 1);
  int largest = 0;
  for (int64_t i = 0; i < 100'000; ++i) {
    const int tenant = queue.TenantIndex(absl::StrCat("tenant-", i));
    largest = std::max(largest, tenant);
    queue.Push({.arrival = i, .tenant = tenant});
    EXPECT_TRUE(queue.Erase(i));
  }
  EXPECT_LE(largest, 1100);  // indices are used again, and so is what stands behind them
  EXPECT_EQ(queue.TenantIndex("kept"), kept);
  EXPECT_EQ(queue.running(kept), 1);
}

TEST(TenantQueueDeathTest, BrokenInvariantsAbort) {
  EXPECT_DEATH(TenantQueue({.quantum_tokens = 256, .weights = {{"a", 0}}}), "weight of tenant a");
  EXPECT_DEATH(TenantQueue({.quantum_tokens = 0, .weights = {}}), "tokens per turn");
  TenantQueue queue({});
  const int a = queue.TenantIndex("a");
  queue.Push({.arrival = 1, .tenant = a});
  EXPECT_DEATH(queue.Push({.arrival = 1, .tenant = a}), "pushed twice");
  EXPECT_DEATH(queue.AddRunning(a, -1), "running sequences");
  EXPECT_DEATH(queue.Push({.arrival = 2, .tenant = 99}), "no tenant");
}

// Against a model that knows nothing of rings: who waits, and in which order within a tenant.
TEST(TenantQueueRandomTest, ServesExactlyWhoWaitsInTheOrderOfItsTenant) {
  std::mt19937 random(3);
  TenantQueue queue({.policy = SchedulingPolicy::kPriority, .quantum_tokens = 50, .weights = {}});
  std::map<int, std::set<std::pair<int32_t, int64_t>>> model;  // by tenant
  std::map<int64_t, std::pair<int, int32_t>> entries;
  for (int64_t i = 0; i < 50'000; ++i) {
    if (random() % 5 < 3) {
      const int tenant = queue.TenantIndex(absl::StrCat(random() % 40));
      const int32_t priority = static_cast<int32_t>(random() % 3);
      queue.Push({.arrival = i, .tenant = tenant, .priority = priority});
      model[tenant].emplace(priority, i);
      entries[i] = {tenant, priority};
      continue;
    }
    std::optional<int64_t> arrival = queue.Front();
    ASSERT_EQ(arrival.has_value(), !entries.empty());
    if (!arrival) continue;
    ASSERT_TRUE(entries.count(*arrival));
    if (random() % 4 == 0) arrival = entries.begin()->first;  // cancelled, not served
    const auto [tenant, priority] = entries[*arrival];
    if (arrival == queue.Front()) {
      ASSERT_EQ(*arrival, model[tenant].begin()->second);
      ASSERT_GT(queue.credit(tenant), 0);
    }
    ASSERT_TRUE(queue.Erase(*arrival));
    queue.Charge(tenant, static_cast<int64_t>(random() % 200));
    model[tenant].erase({priority, *arrival});
    entries.erase(*arrival);
    ASSERT_EQ(queue.size(), entries.size());
    ASSERT_EQ(queue.waiting(tenant), static_cast<int>(model[tenant].size()));
  }
}

}  // namespace
}  // namespace tessera::coordinator
