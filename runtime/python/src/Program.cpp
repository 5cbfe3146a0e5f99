// The type winnow.Program. Objects come from Engine.prepare alone.
#include "runtime/python/src/Program.h"
#include <algorithm>
#include <optional>

namespace winnow::python {
namespace {

ProgramObject &of(PyObject *self) { return *reinterpret_cast<ProgramObject *>(self); }

void dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  winnow_program_destroy(of(self).program);
  Py_DecRef(of(self).spec);
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DecRef(reinterpret_cast<PyObject *>(type));
}

using SizeFunction = winnow_status (*)(const winnow_program *, const winnow_shape *, size_t *);

template <SizeFunction function>
PyObject *sizeOf(PyObject *self, PyObject *arguments, PyObject *names) {
  static const char *const keywords[] = {"batch", "total_q", "max_q", "max_k", "total_k", nullptr};
  winnow_shape shape{};
  shape.struct_size = sizeof(shape);
  if (PyTuple_Size(arguments) != 0) {
    PyErr_SetString(PyExc_TypeError, "the size of a workspace takes its arguments by name");
    return nullptr;
  }
  if (!PyArg_ParseTupleAndKeywords(arguments, names, "iiii|i:workspace_size",
                                   const_cast<char **>(keywords), &shape.batch, &shape.total_q,
                                   &shape.max_q, &shape.max_k, &shape.total_k))
    return nullptr;
  size_t bytes = 0;
  const winnow_status status = function(of(self).program, &shape, &bytes);
  return status == WINNOW_OK ? PyLong_FromSize_t(bytes) : raise(stateOfObject(self), status);
}

/// The phase that the one argument of a method names; nothing where it raised an error.
std::optional<winnow_phase> phaseOf(PyObject *self, PyObject *arguments, const char *method) {
  const char *phase = nullptr;
  if (!PyArg_ParseTuple(arguments, (std::string("s:") + method).c_str(), &phase))
    return std::nullopt;
  constexpr std::pair<const char *, winnow_phase> known[] = {{"select", WINNOW_SELECT},
                                                             {"attend", WINNOW_ATTEND},
                                                             {"decode", WINNOW_DECODE},
                                                             {"backward", WINNOW_BACKWARD}};
  for (const auto &[name, value] : known)
    if (std::string(phase) == name)
      return value;
  raise(stateOfObject(self), WINNOW_INVALID,
        std::string(method) + ": the phase is 'select', 'attend', 'decode' or 'backward'");
  return std::nullopt;
}

PyObject *rung(PyObject *self, PyObject *arguments) {
  static const char *const names[] = {"exact", "nearest", "other_device",
                                      "model", "default", "given"}; // by winnow_rung
  const std::optional<winnow_phase> phase = phaseOf(self, arguments, "rung");
  if (!phase)
    return nullptr;
  winnow_rung found{};
  const winnow_status status = winnow_program_rung(of(self).program, *phase, &found);
  return status == WINNOW_OK ? PyUnicode_FromString(names[found])
                             : raise(stateOfObject(self), status);
}

PyObject *timeOf(PyObject *self, PyObject *arguments) {
  const std::optional<winnow_phase> phase = phaseOf(self, arguments, "time");
  if (!phase)
    return nullptr;
  winnow_phase_time time{};
  time.struct_size = sizeof(time);
  if (winnow_status status = winnow_program_time(of(self).program, *phase, &time);
      status != WINNOW_OK)
    return raise(stateOfObject(self), status);
  if (time.microseconds == 0) {
    Py_IncRef(Py_None);
    return Py_None;
  }
  return Py_BuildValue("{s:d,s:i,s:i,s:O}", "microseconds", time.microseconds, "tokens",
                       time.tokens, "batch", time.batch, "modelled",
                       time.modelled != 0 ? Py_True : Py_False);
}

PyObject *getKey(PyObject *self, void * /*unused*/) {
  return PyUnicode_FromString(winnow_program_key(of(self).program));
}

PyObject *getConfig(PyObject *self, void * /*unused*/) {
  return PyUnicode_FromString(winnow_program_config(of(self).program));
}

PyObject *getSelectHeads(PyObject *self, void * /*unused*/) {
  return PyLong_FromLong(winnow_program_select_heads(of(self).program));
}

PyObject *getRowsLayout(PyObject *self, void * /*unused*/) {
  const winnow_program *program = of(self).program;
  const int32_t count = winnow_rows_count(program);
  Reference layout(PyTuple_New(count));
  for (int32_t i = 0; layout && i < count; ++i) {
    int32_t window = 0, stride = 0;
    if (winnow_status status = winnow_rows_layout(program, i, &window, &stride);
        status != WINNOW_OK)
      return raise(stateOfObject(self), status);
    PyObject *pair = Py_BuildValue("(ii)", window, stride);
    if (!pair || PyTuple_SetItem(layout.get(), i, pair) < 0)
      return nullptr;
  }
  return layout.release();
}

PyObject *getKernels(PyObject *self, void * /*unused*/) {
  const winnow_program *program = of(self).program;
  const int32_t count = winnow_program_kernel_count(program);
  Reference kernels(PyTuple_New(count));
  for (int32_t i = 0; kernels && i < count; ++i) {
    winnow_kernel_info info{};
    info.struct_size = sizeof(info);
    if (winnow_status status = winnow_program_kernel(program, i, &info); status != WINNOW_OK)
      return raise(stateOfObject(self), status);
    PyObject *facts =
        Py_BuildValue("{s:s,s:s,s:i,s:i,s:i,s:i}", "name", info.name, "step", info.step, "threads",
                      info.threads, "registers", info.registers, "spill_bytes", info.spill_bytes,
                      "shared_bytes", info.shared_bytes);
    if (!facts || PyTuple_SetItem(kernels.get(), i, facts) < 0)
      return nullptr;
  }
  return kernels.release();
}

PyObject *getSpec(PyObject *self, void * /*unused*/) {
  Py_IncRef(of(self).spec);
  return of(self).spec;
}

PyObject *getDevice(PyObject *self, void * /*unused*/) { return PyLong_FromLong(of(self).device); }

PyObject *getOrigin(PyObject *self, void * /*unused*/) {
  static const char *const names[] = {"memory", "disk", "compiled"}; // by winnow_origin
  return PyUnicode_FromString(names[of(self).origin]);
}

PyObject *repr(PyObject *self) {
  return PyUnicode_FromFormat("<winnow.Program of %R, device %d>", of(self).spec, of(self).device);
}

PyMethodDef methods[] = {
    {"launch", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&launch)),
     METH_FASTCALL | METH_KEYWORDS,
     "Runs the program over tensors of any library with DLPack; on a GPU enqueues it."},
    {"launch_backward",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&launchBackward)),
     METH_FASTCALL | METH_KEYWORDS,
     "Makes the gradients of a launch, of a program that was prepared with backward=True."},
    {"workspace_size",
     reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&sizeOf<&winnow_workspace_size>)),
     METH_VARARGS | METH_KEYWORDS, "Bytes of workspace that a launch of this shape needs."},
    {"backward_workspace_size",
     reinterpret_cast<PyCFunction>(
         reinterpret_cast<void (*)()>(&sizeOf<&winnow_backward_workspace_size>)),
     METH_VARARGS | METH_KEYWORDS, "The same of launch_backward."},
    {"rung", &rung, METH_VARARGS,
     "Where the tunables of 'select' or 'attend' come from, the surest first: 'exact', 'nearest', "
     "'other device', 'model', 'default'; or 'given'."},
    {"time", &timeOf, METH_VARARGS,
     "How long 'select' or 'attend' should take on this GPU, and whether that is modelled; None "
     "where it is not known."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef members[] = {
    {"key", &getKey, nullptr, "The 64 hexadecimal digits that name the program in the cache.",
     nullptr},
    {"config", &getConfig, nullptr, "The tunables that it was built with.", nullptr},
    {"select_heads", &getSelectHeads, nullptr,
     "Heads of the ids tensor; 0 where the method selects nothing.", nullptr},
    {"rows_layout", &getRowsLayout, nullptr,
     "(window, stride) in tokens of each summary that a host may keep.", nullptr},
    {"kernels", &getKernels, nullptr,
     "Of each kernel on a GPU, in launch order: name, step, threads, registers, spill_bytes, "
     "shared_bytes.",
     nullptr},
    {"spec", &getSpec, nullptr, "The spec that it was prepared for.", nullptr},
    {"device", &getDevice, nullptr, "The GPU's index, or -1 for the CPU.", nullptr},
    {"origin", &getOrigin, nullptr, "Where it came from: 'memory', 'disk' or 'compiled'.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void *>(&dealloc)},
                       {Py_tp_repr, reinterpret_cast<void *>(&repr)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, members},
                       {Py_tp_doc, const_cast<char *>("A method compiled for one device.")},
                       {0, nullptr}};

PyType_Spec typeSpec = {
    "winnow.Program", sizeof(ProgramObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, slots};

} // namespace

PyObject *wrapProgram(State &state, winnow_program *program, PyObject *spec,
                      const SpecNumbers &numbers, int device, winnow_origin origin) {
  PyObject *made = PyType_GenericAlloc(state.program, 0);
  if (!made) {
    winnow_program_destroy(program);
    return nullptr;
  }
  Py_IncRef(spec);
  ProgramObject &object = of(made);
  object.program = program;
  object.spec = spec;
  object.numbers = numbers;
  object.device = device;
  object.selectHeads = winnow_program_select_heads(program);
  object.rowsCount = std::min<int>(winnow_rows_count(program), kMostRows);
  for (int i = 0; i < object.rowsCount; ++i) {
    int32_t window = 0;
    (void)winnow_rows_layout(program, i, &window, &object.rowsStride[i]); // there is such a summary
  }
  object.origin = origin;
  return made;
}

bool addProgram(PyObject *module, State &state) {
  state.program =
      reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &typeSpec, nullptr));
  return state.program && PyModule_AddType(module, state.program) == 0;
}

} // namespace winnow::python
