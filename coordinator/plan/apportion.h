// Dividing a row of units among ranks by weight.
//
//   Apportion(9, {3, 1})                 // [0, 7) [7, 9)
//   Apportion(9, EvenWeights(4))         // [0, 3) [3, 5) [5, 7) [7, 9)
#ifndef TESSERA_COORDINATOR_PLAN_APPORTION_H_
#define TESSERA_COORDINATOR_PLAN_APPORTION_H_

#include <vector>

namespace tessera::coordinator {

// Half-open, in units.
struct Span {
  int begin = 0;
  int end = 0;

  int size() const { return end - begin; }
};

std::vector<double> EvenWeights(int ranks);

// Each weight's part of their sum. Needs positive finite weights, at least one.
std::vector<double> Shares(const std::vector<double>& weights);

// Consecutive spans that cover [0, units), one per weight, by the largest-remainder method; ties go
// to the lower rank. A rank whose share rounds to nothing still gets one unit, from the rank that
// is furthest above its share. Needs units >= weights.size() >= 1 and positive finite weights.
std::vector<Span> Apportion(int units, const std::vector<double>& weights);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_PLAN_APPORTION_H_
