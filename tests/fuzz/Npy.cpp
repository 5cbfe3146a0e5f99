// NumPy files: read, converted, written and read again.
#include "reference/recorded/Npy.h"
#include "tests/fuzz/Fuzz.h"

using namespace winnow;
using namespace winnow::fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  MemoryFile file(textOf(data, size));
  Result<NpyArray> array = readNpy(file.path());
  if (!array)
    return 0;
  countAccepted();
  require(array->elements() == 0 || array->data.size() % array->elements() == 0,
          "an array has the elements of its shape");
  (void)array->shapeText();
  for (Dtype dtype : {Dtype::BF16, Dtype::FP16})
    if (Result<std::vector<uint16_t>> words = toWords(*array, dtype))
      require(words->size() == array->elements(), "every element is converted");
  if (Result<std::vector<int32_t>> numbers = toInt32(*array))
    require(numbers->size() == array->elements(), "every element is converted");
  return 0;
}
