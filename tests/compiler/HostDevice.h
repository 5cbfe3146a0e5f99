// Stand-ins for CUDA's own names and for functions of templates/arch, so that device headers
// compile into a host test. Included inside the test's unnamed namespace, before those headers and
// behind <algorithm>, <cmath> and <limits>; the keywords are defined in CMakeLists.txt.

// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier): CUDA's names and ours
using std::fmaf;
using std::max;
using std::min;
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
struct uint4 {
  unsigned x, y, z, w;
};
[[maybe_unused]] float2 make_float2(float x, float y) { return {x, y}; }
[[maybe_unused]] float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
[[maybe_unused]] uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
[[maybe_unused]] uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
[[maybe_unused]] float log2_fast(float x) { return std::log2(x); }
/// cvt.rni.s32.f32: saturates, NaN becomes 0.
[[maybe_unused]] int __float2int_rn(float x) {
  if (std::isnan(x))
    return 0;
  return static_cast<int>(std::clamp<double>(std::nearbyint(static_cast<double>(x)),
                                             std::numeric_limits<int>::min(),
                                             std::numeric_limits<int>::max()));
}
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)
