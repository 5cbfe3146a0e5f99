// winnow_spec and the request it stands for: both sides of winnow_compiler's functions convert, so
// the C API (winnow.cpp) and the compiler library (compiler/library) share this.
#pragma once
#include "runtime/api/winnow.h"
#include "runtime/device/KernelStore.h"
#include <string>

namespace winnow {

/// Error: Usage, naming the field.
Result<ProgramRequest> toRequest(const winnow_spec *given);

/// A request as a struct of the C API, with every default filled in. The struct points into this
/// object and into the request.
class SpecStruct {
public:
  explicit SpecStruct(const ProgramRequest &request);
  SpecStruct(const SpecStruct &) = delete;
  SpecStruct &operator=(const SpecStruct &) = delete;
  const winnow_spec *get() const { return &spec; }

private:
  std::string params, config;
  winnow_spec spec{};
};

} // namespace winnow
