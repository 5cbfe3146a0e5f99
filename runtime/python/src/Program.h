// The Python object of a prepared program: its handle and what launches check their tensors
// against.
#pragma once
#include "runtime/python/src/State.h"

namespace winnow::python {

/// The numbers of a spec, its defaults filled in.
struct SpecNumbers {
  int heads, kvHeads, headDim, valueDim, topk;
  bool paged;
  winnow_dtype dtype;
  winnow_kv_dtype kvDtype;
};

constexpr int kMostRows = 2; ///< tensors of winnow_launch_args::rows

struct ProgramObject {
  PyObject ob_base; ///< PyObject_HEAD
  winnow_program *program;
  PyObject *spec; ///< as it was given to Engine.prepare
  SpecNumbers numbers;
  int device;                                        ///< a GPU's index, or that of the CPU
  int selectHeads, rowsCount, rowsStride[kMostRows]; ///< what the handle tells of ids and rows
  winnow_origin origin;
};

/// A new Program object, which owns the handle; null with an exception, the handle destroyed.
PyObject *wrapProgram(State &state, winnow_program *program, PyObject *spec,
                      const SpecNumbers &numbers, int device, winnow_origin origin);

/// Program.launch. Takes the arguments as Python's fast calls do.
PyObject *launch(PyObject *self, PyObject *const *given, Py_ssize_t positional, PyObject *names);
/// Program.launch_backward, likewise.
PyObject *launchBackward(PyObject *self, PyObject *const *given, Py_ssize_t positional,
                         PyObject *names);

} // namespace winnow::python
