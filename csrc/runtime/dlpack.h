// DLPack's structures (those of its C header, version 1), as far as they are read here.
#ifndef OPDSL_DLPACK_H
#define OPDSL_DLPACK_H

#include <cstdint>

namespace opdsl {

struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  int32_t device_type;
  int32_t device_id;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: C-contiguous
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  uint32_t major;
  uint32_t minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

// The C functions behind a type's `__dlpack_c_exchange_api__`, a capsule of this name.
constexpr const char* kDLPackExchangeCapsule = "dlpack_exchange_api";
struct DLPackExchange {
  uint32_t major;
  uint32_t minor;
  void* previous;
  int (*allocate)();  // the signatures of those that are not called here are not right
  int (*managed_from_object)();
  int (*managed_to_object)();
  // A view that is valid until control returns to Python; may be null. 0, or -1 with an exception.
  int (*tensor_from_object)(void* object, DLTensor* tensor);
};

constexpr int32_t kCpuDevice = 1;
constexpr int32_t kCudaHostDevice = 3;

inline bool dlpack_is_on_host(const DLTensor& tensor) {
  return tensor.device_type == kCpuDevice || tensor.device_type == kCudaHostDevice;
}

// Our name of an element type, or null.
inline const char* dlpack_dtype_name(const DLDataType& type) {
  if (type.lanes != 1) return nullptr;
  switch (type.code) {
    case 0: return type.bits == 64 ? "i64" : type.bits == 32 ? "i32" : type.bits == 16 ? "i16" : type.bits == 8 ? "i8" : nullptr;
    case 1: return type.bits == 64 ? "u64" : type.bits == 32 ? "u32" : type.bits == 16 ? "u16" : type.bits == 8 ? "u8" : nullptr;
    case 2: return type.bits == 64 ? "f64" : type.bits == 32 ? "f32" : type.bits == 16 ? "f16" : nullptr;
    case 4: return type.bits == 16 ? "bf16" : nullptr;
    case 6: return type.bits == 8 ? "bool" : nullptr;
    case 10: return "f8e4m3";  // float8_e4m3fn
    case 12: return "f8e5m2";
    default: return nullptr;
  }
}

}  // namespace opdsl
#endif
