// Jinja's filters that run over items. For jinja_filters.cc.
#ifndef TESSERA_COORDINATOR_TEXT_JINJA_ITEM_FILTERS_H_
#define TESSERA_COORDINATOR_TEXT_JINJA_ITEM_FILTERS_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/jinja/builtins.h"

namespace tessera::coordinator {

using JinjaFilter = absl::StatusOr<JinjaValue> (*)(const JinjaValue& subject,
                                                   const JinjaArguments& arguments,
                                                   JinjaBudget& budget);

// Null for another name.
JinjaFilter FindJinjaItemFilter(absl::string_view name);

}  // namespace tessera::coordinator

#endif  // TESSERA_COORDINATOR_TEXT_JINJA_ITEM_FILTERS_H_
