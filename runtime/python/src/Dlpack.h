// What this package reads of DLPack 1 (github.com/dmlc/dlpack, include/dlpack/dlpack.h): the layout
// of a tensor, of the two capsules that `__dlpack__` returns, and of the C exchange API that a
// tensor's type may offer as `__dlpack_c_exchange_api__`. Names and order are the standard's.
#pragma once
#include <cstdint>

namespace winnow::python {

enum DLDeviceType : int32_t {
  DlNowhere = 0,
  DlCpu = 1,
  DlCuda = 2,
  DlCudaHost = 3,
  DlCudaManaged = 13
};
enum DLDataTypeCode : uint8_t {
  DlInt = 0,
  DlUInt = 1,
  DlFloat = 2,
  DlBfloat = 4,
  DlFloat8E4m3fn = 10
};

struct DLDevice {
  DLDeviceType type;
  int32_t id;
};

struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void *data;
  DLDevice device;
  int32_t rank;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides; ///< in elements; null: packed, rows in order
  uint64_t byteOffset;
};

struct DLPackVersion {
  uint32_t major, minor;
};

/// What a capsule named "dltensor_versioned" holds; one named "dltensor" holds a DLTensor first.
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void *context;
  void (*deleter)(DLManagedTensorVersioned *self);
  uint64_t flags;
  DLTensor tensor;
};
constexpr uint64_t kDlReadOnly = 1; ///< of flags

struct DLPackExchangeApi {
  DLPackVersion version;
  DLPackExchangeApi *previous; ///< of an older major version, or null
  int (*allocate)();           ///< not used here, nor are the next two
  int (*exportManaged)();
  int (*importManaged)();
  int (*exportTensor)(void *object, DLTensor *tensor); ///< may be null; nothing is synchronised
  int (*currentStream)(DLDeviceType type, int32_t id, void **stream);
};
constexpr uint32_t kDlpackMajor = 1;

} // namespace winnow::python
