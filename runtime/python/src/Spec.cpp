// Spec._fields() of the package gives the fields in the order of this file's format.
#include "runtime/python/src/Spec.h"

namespace winnow::python {

bool GivenSpec::read(PyObject *given) {
  spec = winnow_spec{};
  spec.struct_size = sizeof(spec);
  fields.reset(PyObject_CallMethod(given, "_fields", nullptr));
  if (!fields)
    return false;
  long long tokens = 0;
  if (!PyArg_ParseTuple(fields.get(), "siiiiiiidsszLipipi", &spec.method, &spec.heads,
                        &spec.kv_heads, &spec.head_dim, &spec.value_dim, &spec.block, &spec.topk,
                        &spec.dtype, &spec.scale, &spec.params, &spec.config, &spec.arch, &tokens,
                        &spec.expected_overlap, &spec.paged, &spec.expected_batch, &spec.backward,
                        &spec.kv_dtype))
    return false;
  spec.expected_tokens = tokens;
  return true;
}

SpecNumbers GivenSpec::numbers() const {
  return {spec.heads,
          spec.kv_heads,
          spec.head_dim,
          spec.value_dim ? spec.value_dim : spec.head_dim,
          spec.topk,
          spec.paged != 0,
          static_cast<winnow_dtype>(spec.dtype),
          static_cast<winnow_kv_dtype>(spec.kv_dtype)};
}

} // namespace winnow::python
