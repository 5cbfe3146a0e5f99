// Regions from text to values, on each back end that a machine without a GPU has.
#pragma once
#include "dialect/select/Select.h"
#include "reference/methods/RegionCode.h"
#include <string>
#include <vector>

namespace winnow {

/// Arguments of a region.
struct RegionInput {
  float value;
  int32_t query, key;
};

/// Methods, each with one region, in a context of their own.
class Regions {
public:
  Regions();
  /// Texts as methodWith takes them. Ends the test where one does not parse.
  void add(const std::string &region);
  size_t count() const { return regions.size(); }

  /// Results [region][input] of the reference, of the CPU target's machine code, and of the printed
  /// CUDA text compiled for the host with the emulator's headers.
  std::vector<std::vector<float>> reference(const std::vector<RegionInput> &inputs);
  std::vector<std::vector<float>> cpu(const std::vector<RegionInput> &inputs);
  std::vector<std::vector<float>> printed(const std::vector<RegionInput> &inputs);
  /// The printed hooks in one kernel, as NVRTC takes it.
  std::string kernel();
  const std::string &text(size_t region) const { return texts[region]; }
  /// Its derivative as the compiler makes it, as a text for add(); empty where it has none.
  std::string derivative(size_t region);
  /// What the reference says of the same, NaN where there is none.
  std::vector<std::vector<float>> slopes(const std::vector<RegionInput> &inputs);

private:
  std::string hooks();

  mlir::MLIRContext context;
  std::vector<mlir::OwningOpRef<mlir::ModuleOp>> modules;
  std::vector<mlir::Region *> regions;
  std::vector<std::string> texts;
};

} // namespace winnow
