// What the values of enums are called by people: without the prefix that protobuf's style asks for.
//
//   model::TypeName(v1::DATA_TYPE_Q4_1);   // "Q4_1"
#ifndef TESSERA_PROTO_MODEL_ENUM_NAMES_H_
#define TESSERA_PROTO_MODEL_ENUM_NAMES_H_

#include <string>

#include "tessera/v1/model.pb.h"

namespace tessera::model {

std::string TypeName(int type);      // of v1::DataType, as files write it: "Q4_1"
std::string AxisName(v1::ShardAxis axis);  // "Q_HEAD_ROWS"

}  // namespace tessera::model

#endif  // TESSERA_PROTO_MODEL_ENUM_NAMES_H_
