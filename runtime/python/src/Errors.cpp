// The exceptions of the package: one for each status of the C API, all under winnow.Error, each
// also of the built-in class that a Python programmer would catch.
#include "runtime/python/src/State.h"

namespace winnow::python {
namespace {

struct ErrorClass {
  winnow_status status;
  const char *name, *doc;
  PyObject *alsoOf;
};

/// Makes the exception `name` with a class attribute `status`.
PyObject *makeError(const char *name, const char *doc, PyObject *bases, int status) {
  const std::string qualified = std::string("winnow.") + name;
  const Reference members(Py_BuildValue("{s:i}", "status", status));
  return members ? PyErr_NewExceptionWithDoc(qualified.c_str(), doc, bases, members.get())
                 : nullptr;
}

} // namespace

PyObject *raise(const State &state, winnow_status status, const std::string &sentence) {
  const bool known = status >= WINNOW_INVALID && status <= WINNOW_NOT_READY;
  PyErr_SetString(state.errors[known ? status : 0], sentence.c_str());
  return nullptr;
}

PyObject *raise(const State &state, winnow_status status) {
  return raise(state, status, winnow_last_error());
}

bool addErrors(PyObject *module, State &state) {
  state.errors[0] = makeError("Error", "The base of all errors; `status` is the C API's number.",
                              PyExc_Exception, 0);
  if (!state.errors[0] || PyModule_AddObjectRef(module, "Error", state.errors[0]) < 0)
    return false;
  const ErrorClass classes[] = {
      {WINNOW_INVALID, "InvalidError", "A wrong argument, shape, file or method text.",
       PyExc_ValueError},
      {WINNOW_UNSUPPORTED, "UnsupportedError", "Legal, but not served by this build or this GPU.",
       PyExc_NotImplementedError},
      {WINNOW_COMPILE_FAILED, "CompileError", "The compiler refused.", PyExc_RuntimeError},
      {WINNOW_DEVICE_FAILED, "DeviceError", "No driver, no device, or a driver call failed.",
       PyExc_RuntimeError},
      {WINNOW_NOT_READY, "NotReadyError", "The program was not prepared beforehand.",
       PyExc_RuntimeError},
  };
  for (const ErrorClass &error : classes) {
    const Reference bases(PyTuple_Pack(2, state.errors[0], error.alsoOf));
    if (!bases)
      return false;
    PyObject *&made = state.errors[error.status];
    made = makeError(error.name, error.doc, bases.get(), error.status);
    if (!made || PyModule_AddObjectRef(module, error.name, made) < 0)
      return false;
  }
  state.errors[1] = state.errors[0]; // no status of the C API
  Py_IncRef(state.errors[1]);
  return true;
}

} // namespace winnow::python
