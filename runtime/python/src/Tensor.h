// A tensor of another library, borrowed for one call: by the C exchange API where its type has one
// (a few nanoseconds, and the library's current stream), else by `__dlpack__`.
#pragma once
#include "runtime/python/src/State.h"

namespace winnow::python {

struct Tensor {
  DLTensor view{};
  bool isReadOnly = false;
  const DLPackExchangeApi *exchange = nullptr; ///< through which it came; null: a capsule
  Reference capsule; ///< owns what `view` points to; null where the tensor itself does

  void *data() const { return static_cast<char *>(view.data) + view.byteOffset; }
  /// Elements between neighbours of one dimension.
  int64_t stride(int dimension) const {
    return view.strides ? view.strides[dimension] : packedStride(dimension);
  }
  int64_t packedStride(int dimension) const; ///< where its elements lie one behind the other
  int64_t elements() const;
  /// Whether its elements lie one behind the other, the last dimension innermost.
  bool isPacked() const;
  bool hasType(uint8_t code, uint8_t bits) const {
    return view.dtype.code == code && view.dtype.bits == bits && view.dtype.lanes == 1;
  }
  std::string shapeText() const;  ///< "(4, 8, 128)"
  std::string typeText() const;   ///< "float32"
  std::string deviceText() const; ///< "GPU 0"
};

/// Makes `type` the tensor type that was met last; gives its exchange API.
const DLPackExchangeApi *meetType(State &state, PyObject *type);
/// borrow, by `__dlpack__`.
bool borrowCapsule(State &state, PyObject *object, const char *name, Tensor &tensor);
/// Says of whose tensor the exception that is set now speaks. Always false.
bool refuseTensor(State &state, const char *name);

/// Borrows `object` as a new `tensor`; messages call it `argument`. False with an exception where
/// it is no tensor. Inline: a launch has a dozen tensors, most of them of the type that was met
/// last.
inline bool borrow(State &state, PyObject *object, LaunchArgument argument, Tensor &tensor) {
  auto *type = reinterpret_cast<PyObject *>(Py_TYPE(object));
  tensor.exchange = type == state.tensorType ? state.exchange : meetType(state, type);
  if (!tensor.exchange)
    return borrowCapsule(state, object, nameOf(argument), tensor);
  return tensor.exchange->exportTensor(object, &tensor.view) == 0 ||
         refuseTensor(state, nameOf(argument));
}

} // namespace winnow::python
