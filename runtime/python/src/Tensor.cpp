// Tensors by DLPack. Nothing is copied or synchronised: the launch runs on the stream of the
// tensors' library, or on one that the caller names.
#include "runtime/python/src/Tensor.h"
#include <utility>

namespace winnow::python {

int64_t Tensor::packedStride(int dimension) const {
  int64_t stride = 1;
  for (int i = view.rank - 1; i > dimension; --i)
    stride *= view.shape[i];
  return stride;
}

int64_t Tensor::elements() const {
  int64_t count = 1;
  for (int i = 0; i < view.rank; ++i)
    count *= view.shape[i];
  return count;
}

bool Tensor::isPacked() const {
  if (!view.strides || elements() == 0)
    return true;
  int64_t expected = 1;
  for (int i = view.rank - 1; i >= 0; --i) {
    if (view.shape[i] != 1 && view.strides[i] != expected)
      return false;
    expected *= view.shape[i];
  }
  return true;
}

std::string Tensor::shapeText() const {
  std::string text = "(";
  for (int i = 0; i < view.rank; ++i)
    text += (i ? ", " : "") + std::to_string(view.shape[i]);
  return text + (view.rank == 1 ? ",)" : ")");
}

std::string Tensor::typeText() const {
  const std::string bits = std::to_string(view.dtype.bits);
  switch (view.dtype.code) {
  case DlInt:
    return "int" + bits;
  case DlUInt:
    return "uint" + bits;
  case DlFloat:
    return "float" + bits;
  case DlBfloat:
    return "bfloat" + bits;
  case DlFloat8E4m3fn:
    return "float8_e4m3fn";
  default:
    return "of DLPack type code " + std::to_string(view.dtype.code);
  }
}

std::string Tensor::deviceText() const {
  switch (view.device.type) {
  case DlCpu:
  case DlCudaHost:
    return "the CPU";
  case DlCuda:
  case DlCudaManaged:
    return "GPU " + std::to_string(view.device.id);
  default:
    return "a device of DLPack type " + std::to_string(view.device.type);
  }
}

namespace {

/// The exchange API of a type, of the version that this package knows; null where there is none.
const DLPackExchangeApi *findExchange(State &state, PyObject *type) {
  const Reference capsule(PyObject_GetAttr(type, state.exchangeName));
  if (!capsule) {
    PyErr_Clear();
    return nullptr;
  }
  if (!PyCapsule_IsValid(capsule.get(), "dlpack_exchange_api"))
    return nullptr;
  auto *api = static_cast<const DLPackExchangeApi *>(
      PyCapsule_GetPointer(capsule.get(), "dlpack_exchange_api"));
  while (api && api->version.major != kDlpackMajor)
    api = api->previous;
  return api && api->exportTensor ? api : nullptr;
}

bool isCuda(PyObject *object) {
  const Reference device(PyObject_CallMethod(object, "__dlpack_device__", nullptr));
  int type = 0, id = 0;
  if (device && PyTuple_Check(device.get()) && PyArg_ParseTuple(device.get(), "ii", &type, &id))
    return type == DlCuda || type == DlCudaManaged;
  PyErr_Clear(); // `__dlpack__` says what is wrong
  return false;
}

/// Calls `__dlpack__`: of a GPU's tensor without synchronisation (stream -1), of libraries before
/// DLPack 1 without the version.
PyObject *callDlpack(PyObject *object, bool versioned) {
  const Reference method(PyObject_GetAttrString(object, "__dlpack__"));
  const Reference none(PyTuple_New(0)), names(PyDict_New());
  if (!method || !none || !names)
    return nullptr;
  if (isCuda(object)) {
    const Reference stream(PyLong_FromLong(-1));
    if (!stream || PyDict_SetItemString(names.get(), "stream", stream.get()) < 0)
      return nullptr;
  }
  if (versioned) {
    const Reference version(Py_BuildValue("(ii)", static_cast<int>(kDlpackMajor), 0));
    if (!version || PyDict_SetItemString(names.get(), "max_version", version.get()) < 0)
      return nullptr;
  }
  return PyObject_Call(method.get(), none.get(), names.get());
}

bool openCapsule(State &state, const char *name, Tensor &tensor) {
  PyObject *capsule = tensor.capsule.get();
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    auto *managed = static_cast<DLManagedTensorVersioned *>(
        PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    if (managed->version.major == kDlpackMajor) {
      tensor.view = managed->tensor;
      tensor.isReadOnly = (managed->flags & kDlReadOnly) != 0;
      return true;
    }
  } else if (PyCapsule_IsValid(capsule, "dltensor")) {
    tensor.view = *static_cast<DLTensor *>(PyCapsule_GetPointer(capsule, "dltensor"));
    return true;
  }
  raise(state, WINNOW_INVALID,
        std::string("launch: ") + name + " came in a capsule that is not of DLPack 0 or 1");
  return false;
}

} // namespace

bool refuseTensor(State &state, const char *name) {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  const Reference held[] = {Reference(type), Reference(value), Reference(trace)};
  const Reference text(value ? PyObject_Str(value) : nullptr);
  const char *words = text ? PyUnicode_AsUTF8AndSize(text.get(), nullptr) : nullptr;
  raise(state, WINNOW_INVALID,
        std::string("launch: ") + name +
            " does not give its memory by DLPack: " + (words ? words : "no reason was given"));
  return false;
}

const DLPackExchangeApi *meetType(State &state, PyObject *type) {
  state.exchange = findExchange(state, type);
  Py_IncRef(type);
  Py_DecRef(std::exchange(state.tensorType, type));
  return state.exchange;
}

bool borrowCapsule(State &state, PyObject *object, const char *name, Tensor &tensor) {
  const Reference method(PyObject_GetAttrString(object, "__dlpack__"));
  if (!method) {
    PyErr_Clear();
    const Reference type(PyType_GetName(Py_TYPE(object)));
    PyErr_Format(PyExc_TypeError,
                 "launch: %s is of type %U, not a tensor: give one with __dlpack__ (torch, numpy, "
                 "cupy, jax)",
                 name, type.get());
    return false;
  }
  tensor.capsule.reset(callDlpack(object, /*versioned=*/true));
  if (!tensor.capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear();
    tensor.capsule.reset(callDlpack(object, /*versioned=*/false));
  }
  if (tensor.capsule)
    return openCapsule(state, name, tensor);
  return refuseTensor(state, name);
}

} // namespace winnow::python
