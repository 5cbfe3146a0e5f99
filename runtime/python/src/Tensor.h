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
  int64_t stride(int dimension) const;
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

/// Borrows `object`, which messages call `name`. False with an exception where it is no tensor.
bool borrow(State &state, PyObject *object, const char *name, Tensor &tensor);

} // namespace winnow::python
