// Program.launch and launch_backward: the arguments of a call, what of them is no tensor, and the
// launch. What the C API checks is left to it.
#include "runtime/python/src/Launch.h"
#include <algorithm>
#include <climits>

namespace winnow::python {
namespace {

constexpr const char *kArgumentNames[LaunchArgumentCount] = {
    "q",     "k",         "v",       "out",  "cu_q", "cu_k", "seq_k",      "page_table", "k_begin",
    "max_q", "max_k",     "total_q", "ids",  "lse",  "rows", "rows_table", "k_scale",    "v_scale",
    "phase", "workspace", "stream",  "dout", "dq",   "dk",   "dv"};
constexpr const char *kPhases[] = {"all", "select", "attend", "append"}; // by winnow_phase
constexpr size_t kWorkspaceAlignment = 256;

} // namespace

/// Whether the call has such an argument: gradients are of packed tensors, and have no phases.
bool Launch::takes(LaunchArgument argument) const {
  constexpr LaunchArgument kForwardOnly[] = {ArgSeqK,      ArgPageTable, ArgKBegin, ArgRows,
                                             ArgRowsTable, ArgKScale,    ArgVScale, ArgPhase};
  if (!isBackward)
    return argument < ArgDout;
  return std::find(std::begin(kForwardOnly), std::end(kForwardOnly), argument) ==
         std::end(kForwardOnly);
}

/// Which arguments the names of a call are, for this call and for those after it.
bool Launch::takeNames(PyObject *names, Py_ssize_t count) {
  Py_CLEAR(state.namesOfCall); // until all are known
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *name = PyTuple_GetItem(names, i);
    PyObject **end = state.launchNames + LaunchArgumentCount;
    PyObject **found = std::find(state.launchNames, end, name); // names in code are interned
    if (found == end)
      found = std::find_if(state.launchNames, end,
                           [&](PyObject *known) { return PyUnicode_Compare(known, name) == 0; });
    const auto argument = static_cast<LaunchArgument>(found - state.launchNames);
    if (argument == LaunchArgumentCount || !takes(argument)) {
      PyErr_Format(PyExc_TypeError, "%s has no argument '%U'", call(), name);
      return false;
    }
    state.argumentsOfCall[i] = argument; // a call has no name twice, so there is room
  }
  state.callIsBackward = isBackward;
  state.namesOfCall = Py_NewRef(names);
  return true;
}

/// Sorts the arguments of a fast call by name.
bool Launch::take(PyObject *const *given, Py_ssize_t positional, PyObject *names) {
  if (positional > ArgPositional) {
    PyErr_Format(PyExc_TypeError, "%s takes q, k, v and out by position, %zd were given", call(),
                 positional);
    return false;
  }
  std::copy_n(given, positional, values);
  const Py_ssize_t count = names ? PyTuple_Size(names) : 0;
  const bool isKnown = names == state.namesOfCall && isBackward == state.callIsBackward;
  if (count > 0 && !isKnown && !takeNames(names, count))
    return false;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject *&value = values[state.argumentsOfCall[i]];
    if (value) {
      PyErr_Format(PyExc_TypeError, "%s got '%U' twice", call(), PyTuple_GetItem(names, i));
      return false;
    }
    value = given[positional + i];
  }
  for (LaunchArgument needed : {ArgCuQ, ArgMaxQ, ArgMaxK})
    if (!isGiven(needed)) {
      PyErr_Format(PyExc_TypeError, "%s needs '%s'", call(), kArgumentNames[needed]);
      return false;
    }
  return true;
}

bool Launch::number(LaunchArgument argument, int &value) {
  const long given = PyLong_AsLong(values[argument]);
  if (given == -1 && PyErr_Occurred())
    return false;
  if (given < 0 || given > INT_MAX)
    return refuse(text(argument) + " is " + std::to_string(given) + ": take 0 to 2^31 - 1");
  value = static_cast<int>(given);
  return true;
}

bool Launch::takePhase() {
  if (!isGiven(ArgPhase))
    return true;
  for (int phase = WINNOW_ALL; phase <= WINNOW_APPEND; ++phase)
    if (PyUnicode_Check(values[ArgPhase]) &&
        PyUnicode_CompareWithASCIIString(values[ArgPhase], kPhases[phase]) == 0) {
      args.phase = phase;
      return true;
    }
  return refuse("phase is not one of 'all', 'select', 'attend', 'append'");
}

/// The stream that is given (a number, a torch.cuda.Stream, or what has `__cuda_stream__`), or that
/// on which the tensors' library works now.
bool Launch::takeStream() {
  if (isOnCpu())
    return true;
  if (!isGiven(ArgStream))
    return !exchange || exchange->currentStream(DlCuda, program.device, &stream) == 0;
  Reference number;
  PyObject *given = values[ArgStream];
  if (!PyLong_Check(given)) {
    number.reset(PyObject_GetAttrString(given, "cuda_stream"));
    if (!number) {
      PyErr_Clear();
      const Reference pair(PyObject_CallMethod(given, "__cuda_stream__", nullptr));
      number.reset(pair ? PySequence_GetItem(pair.get(), 1) : nullptr);
    }
    if (!number) {
      PyErr_Clear();
      return refuse("stream is no CUDA stream: give its address as a number, a torch.cuda.Stream, "
                    "or an object with __cuda_stream__");
    }
    given = number.get();
  }
  stream = PyLong_AsVoidPtr(given);
  return stream || !PyErr_Occurred();
}

/// How many sequences and query tokens there are. Both lie on the host: in the extents of cu_q and
/// q.
bool Launch::batch() {
  Tensor lengths;
  if (!open(ArgCuQ, values[ArgCuQ], lengths) || !ofType(ArgCuQ, lengths, DlInt, "int32"))
    return false;
  if (lengths.view.rank != 1 || lengths.view.shape[0] < 2 || !lengths.isPacked())
    return refuseShape(ArgCuQ, lengths, "(sequences + 1,), contiguous");
  args.cu_q = static_cast<const int32_t *>(lengths.data());
  shape.batch = static_cast<int32_t>(lengths.view.shape[0] - 1);
  if (!number(ArgMaxQ, shape.max_q) || !number(ArgMaxK, shape.max_k))
    return false;
  if (isGiven(ArgQ) && !open(ArgQ, values[ArgQ], query))
    return false;
  if (isGiven(ArgTotalQ))
    return number(ArgTotalQ, shape.total_q);
  if (!isGiven(ArgQ)) { // an upper bound will do where queries are not read
    shape.total_q =
        static_cast<int32_t>(std::min<int64_t>(int64_t(shape.batch) * shape.max_q, INT_MAX));
    return true;
  }
  if (query.view.rank < 1 || query.view.shape[0] > INT_MAX)
    return refuseShape(ArgQ, query, "(fewer than 2^31 tokens, heads, elements)");
  shape.total_q = static_cast<int32_t>(query.view.shape[0]);
  return true;
}

void *Launch::allocate(size_t bytes) {
  void *made = std::calloc(1, bytes);
  if (!made) {
    PyErr_NoMemory();
    return nullptr;
  }
  memory[memoryCount++].reset(made);
  return made;
}

/// Ids and workspace that the caller leaves out: on the CPU they are made here; a GPU's launch
/// allocates nothing.
bool Launch::scratch() {
  const int64_t heads = program.selectHeads;
  if (isOnCpu() && args.phase == WINNOW_ALL && !args.ids && heads > 0) {
    args.ids = static_cast<int32_t *>(allocate(
        sizeof(int32_t) * static_cast<size_t>(heads * shape.total_q * program.numbers.topk + 1)));
    if (!args.ids)
      return false;
  }
  return args.phase == WINNOW_APPEND || room();
}

/// The workspace, 256-byte aligned.
bool Launch::room() {
  if (isGiven(ArgWorkspace)) {
    Tensor tensor;
    if (!open(ArgWorkspace, values[ArgWorkspace], tensor) || !writable(ArgWorkspace, tensor))
      return false;
    if (!tensor.isPacked())
      return refuse("the workspace is not contiguous");
    args.workspace = tensor.data();
    args.workspace_bytes = static_cast<size_t>(tensor.elements()) * tensor.view.dtype.bits *
                           tensor.view.dtype.lanes / 8;
    return true;
  }
  size_t bytes = 0;
  auto *size = isBackward ? &winnow_backward_workspace_size : &winnow_workspace_size;
  if (winnow_status status = size(program.program, &shape, &bytes); status != WINNOW_OK) {
    raise(state, status);
    return false;
  }
  if (bytes == 0)
    return true;
  if (!isOnCpu())
    return refuse("this shape needs a workspace of " + std::to_string(bytes) + " bytes (Program." +
                  (isBackward ? "backward_" : "") + "workspace_size): give one on the GPU");
  void *made = allocate(bytes + kWorkspaceAlignment);
  if (!made)
    return false;
  const auto address = reinterpret_cast<uintptr_t>(made);
  args.workspace =
      static_cast<char *>(made) + (kWorkspaceAlignment - address % kWorkspaceAlignment);
  args.workspace_bytes = bytes;
  return true;
}

bool Launch::fill() {
  if (isBackward)
    return batch() && tensors() && gradientTensors() && room() && takeStream();
  return takePhase() && batch() && tensors() && rows() && scratch() && takeStream();
}

winnow_status Launch::enqueue() const {
  if (!isBackward)
    return winnow_launch(program.program, &args, stream);
  winnow_backward_args all = gradients;
  all.q = args.q;
  all.k = args.k;
  all.v = args.v;
  all.out = args.out;
  all.lse = args.lse;
  all.ids = args.ids;
  all.cu_q = args.cu_q;
  all.cu_k = args.cu_k;
  all.shape = &shape;
  all.workspace = args.workspace;
  all.workspace_bytes = args.workspace_bytes;
  return winnow_launch_backward(program.program, &all, stream);
}

/// On the CPU the work is done here, without the interpreter's lock.
PyObject *Launch::run() {
  winnow_status status = WINNOW_OK;
  if (isOnCpu()) {
    Py_BEGIN_ALLOW_THREADS;
    status = enqueue();
    Py_END_ALLOW_THREADS;
  } else {
    status = enqueue();
  }
  if (status != WINNOW_OK)
    return raise(state, status);
  Py_IncRef(Py_None);
  return Py_None;
}

const char *nameOf(LaunchArgument argument) { return kArgumentNames[argument]; }

static PyObject *run(PyObject *self, PyObject *const *given, Py_ssize_t positional, PyObject *names,
                     bool isBackward) {
  Launch call(stateOfObject(self), *reinterpret_cast<ProgramObject *>(self), isBackward);
  return call.take(given, positional, names) && call.fill() ? call.run() : nullptr;
}

PyObject *launch(PyObject *self, PyObject *const *given, Py_ssize_t positional, PyObject *names) {
  return run(self, given, positional, names, /*isBackward=*/false);
}

PyObject *launchBackward(PyObject *self, PyObject *const *given, Py_ssize_t positional,
                         PyObject *names) {
  return run(self, given, positional, names, /*isBackward=*/true);
}

} // namespace winnow::python
