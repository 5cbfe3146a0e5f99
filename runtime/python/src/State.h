// What the module holds for the length of its life, how a status of the C API becomes a Python
// exception, and a reference that counts itself. Errors here are Python's: a function that fails
// has set an exception and returns null or false.
#pragma once
#define PY_SSIZE_T_CLEAN
#include "runtime/api/winnow.h"
#include "runtime/python/src/Dlpack.h"
#include <Python.h>
#include <memory>
#include <string>

namespace winnow::python {

struct DropReference {
  void operator()(PyObject *object) const { Py_DecRef(object); }
};
/// A reference that is owned.
using Reference = std::unique_ptr<PyObject, DropReference>;

/// The arguments of Program.launch and Program.launch_backward, in the order in which they may be
/// given by position.
enum LaunchArgument {
  ArgQ,
  ArgK,
  ArgV,
  ArgOut,
  ArgPositional, ///< the rest by name alone
  ArgCuQ = ArgPositional,
  ArgCuK,
  ArgSeqK,
  ArgPageTable,
  ArgKBegin,
  ArgMaxQ,
  ArgMaxK,
  ArgTotalQ,
  ArgIds,
  ArgLse,
  ArgRows,
  ArgRowsTable,
  ArgKScale,
  ArgVScale,
  ArgPhase,
  ArgWorkspace,
  ArgStream,
  ArgDout, ///< from here on of launch_backward alone
  ArgDq,
  ArgDk,
  ArgDv,
  LaunchArgumentCount
};
const char *nameOf(LaunchArgument argument);

struct State {
  PyObject *errors[WINNOW_NOT_READY + 1]; ///< exception of each status; [0]: their base
  PyTypeObject *engine, *program;
  PyObject *launchNames[LaunchArgumentCount]; ///< interned
  PyObject *exchangeName;                     ///< "__dlpack_c_exchange_api__", interned
  /// The tensor type that was met last, and its exchange API (null: it has none).
  PyObject *tensorType;
  const DLPackExchangeApi *exchange;
  /// The names of the call before, and which arguments they are: a call of the same place in the
  /// caller's code brings the same tuple.
  PyObject *namesOfCall;
  LaunchArgument argumentsOfCall[LaunchArgumentCount];
  bool callIsBackward;
};

inline State &stateOf(PyObject *module) { return *static_cast<State *>(PyModule_GetState(module)); }
/// Of an object whose type this module made.
inline State &stateOfObject(PyObject *self) {
  return *static_cast<State *>(PyType_GetModuleState(Py_TYPE(self)));
}

/// Raises the exception of a failed call of the C API on this thread. Always null.
PyObject *raise(const State &state, winnow_status status);
/// The same with a sentence of this package's own.
PyObject *raise(const State &state, winnow_status status, const std::string &sentence);

/// The exceptions, added to the module.
bool addErrors(PyObject *module, State &state);
/// "Engine" and "Program".
bool addEngine(PyObject *module, State &state);
bool addProgram(PyObject *module, State &state);

} // namespace winnow::python
