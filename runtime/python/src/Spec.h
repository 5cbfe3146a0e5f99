// A winnow.Spec as the C API takes it.
#pragma once
#include "runtime/python/src/Program.h"

namespace winnow::python {

class GivenSpec {
public:
  /// Reads a winnow.Spec. False with an exception.
  bool read(PyObject *spec);
  /// Valid while this object lives: it owns the texts.
  const winnow_spec &get() const { return spec; }
  SpecNumbers numbers() const;

private:
  Reference fields;
  winnow_spec spec{};
};

} // namespace winnow::python
