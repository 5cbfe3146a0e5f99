// The module winnow._winnow: the C API (runtime/api/winnow.h) for Python, for every CPython from
// 3.11 on (abi3). What is convenience is written in Python, in the package around it.
#include "runtime/python/src/Spec.h"

namespace winnow::python {
namespace {

/// Where a function of a winnow_compiler leaves its answer or its error.
void collect(void *context, const void *bytes, size_t size) {
  static_cast<std::string *>(context)->assign(static_cast<const char *>(bytes), size);
}

PyObject *bytesOf(const std::string &text) {
  return PyBytes_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

using CompileFunction = int (*)(void *, const winnow_spec *, winnow_sink, void *);

/// What the compiler library says to a spec: its key, or its image. `library` as in Engine.
PyObject *ask(PyObject *module, PyObject *arguments, CompileFunction winnow_compiler::*function) {
  PyObject *given = nullptr;
  const char *library = nullptr;
  GivenSpec spec;
  if (!PyArg_ParseTuple(arguments, "Oz", &given, &library) || !spec.read(given))
    return nullptr;
  State &state = stateOf(module);
  const winnow_compiler *compiler = nullptr;
  std::string answer;
  int status = WINNOW_OK;
  bool isLoaded = false;
  Py_BEGIN_ALLOW_THREADS;
  status = winnow_compiler_load(library, &compiler);
  isLoaded = status == WINNOW_OK;
  if (isLoaded)
    status = (compiler->*function)(compiler->user, &spec.get(), &collect, &answer);
  Py_END_ALLOW_THREADS;
  if (status == WINNOW_OK)
    return bytesOf(answer);
  const auto failed = static_cast<winnow_status>(status);
  return isLoaded ? raise(state, failed, answer) : raise(state, failed);
}

PyObject *compilerLoad(PyObject *module, PyObject *arguments) {
  const char *library = nullptr;
  if (!PyArg_ParseTuple(arguments, "z", &library))
    return nullptr;
  const winnow_compiler *compiler = nullptr;
  winnow_status status = WINNOW_OK;
  Py_BEGIN_ALLOW_THREADS;
  status = winnow_compiler_load(library, &compiler);
  Py_END_ALLOW_THREADS;
  return status == WINNOW_OK ? Py_BuildValue("") : raise(stateOf(module), status);
}

PyObject *compilerKey(PyObject *module, PyObject *arguments) {
  return ask(module, arguments, &winnow_compiler::key);
}

PyObject *compilerBuild(PyObject *module, PyObject *arguments) {
  return ask(module, arguments, &winnow_compiler::build);
}

/// Appends (name, code, source) of a kernel to a list; the first failure ends it.
void appendKernel(void *context, const winnow_kernel_code *kernel) {
  if (PyErr_Occurred())
    return;
  const Reference entry(Py_BuildValue("(sy#s)", kernel->name, kernel->code,
                                      static_cast<Py_ssize_t>(kernel->code_bytes), kernel->source));
  if (entry)
    PyList_Append(static_cast<PyObject *>(context), entry.get());
}

PyObject *imageKernels(PyObject *module, PyObject *arguments) {
  const char *image = nullptr;
  Py_ssize_t size = 0;
  if (!PyArg_ParseTuple(arguments, "y#:image_kernels", &image, &size))
    return nullptr;
  Reference kernels(PyList_New(0));
  if (!kernels)
    return nullptr;
  const winnow_status status =
      winnow_image_kernels(image, static_cast<size_t>(size), &appendKernel, kernels.get());
  if (PyErr_Occurred())
    return nullptr;
  return status == WINNOW_OK ? kernels.release() : raise(stateOf(module), status);
}

PyObject *version(PyObject * /*unused*/, PyObject * /*unused*/) {
  return PyUnicode_FromString(winnow_version());
}

PyMethodDef functions[] = {
    {"version", &version, METH_NOARGS, "The version of libwinnow.so."},
    {"compiler_load", &compilerLoad, METH_VARARGS, "compiler_load(library) -> None"},
    {"compiler_key", &compilerKey, METH_VARARGS, "compiler_key(spec, library) -> bytes"},
    {"compiler_build", &compilerBuild, METH_VARARGS, "compiler_build(spec, library) -> image"},
    {"image_kernels", &imageKernels, METH_VARARGS, "image_kernels(image) -> [(name, code, text)]"},
    {nullptr, nullptr, 0, nullptr}};

int execute(PyObject *module) {
  State &state = stateOf(module);
  for (int i = 0; i < LaunchArgumentCount; ++i)
    if (!(state.launchNames[i] =
              PyUnicode_InternFromString(nameOf(static_cast<LaunchArgument>(i)))))
      return -1;
  state.exchangeName = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  const bool isDone = state.exchangeName && addErrors(module, state) && addEngine(module, state) &&
                      addProgram(module, state) &&
                      PyModule_AddIntConstant(module, "CPU", WINNOW_CPU) == 0;
  return isDone ? 0 : -1;
}

/// Every object that the state holds, by `visit`, which may change it.
template <typename Visit> void forEach(State &state, Visit visit) {
  for (PyObject *&error : state.errors)
    visit(error);
  for (PyObject *&name : state.launchNames)
    visit(name);
  visit(state.exchangeName);
  visit(state.tensorType);
  visit(state.namesOfCall);
  visit(reinterpret_cast<PyObject *&>(state.engine));
  visit(reinterpret_cast<PyObject *&>(state.program));
}

int traverse(PyObject *module, visitproc visit, void *arg) {
  int result = 0;
  if (PyModule_GetState(module))
    forEach(stateOf(module), [&](PyObject *&object) {
      if (object && result == 0)
        result = visit(object, arg);
    });
  return result;
}

int clear(PyObject *module) {
  if (PyModule_GetState(module))
    forEach(stateOf(module), [](PyObject *&object) { Py_CLEAR(object); });
  return 0;
}

PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void *>(&execute)}, {0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "winnow._winnow",
                          "The C API of Winnow; use the package winnow.",
                          sizeof(State),
                          functions,
                          slots,
                          &traverse,
                          &clear,
                          nullptr};

} // namespace
} // namespace winnow::python

// The name by which the interpreter finds the module.
PyMODINIT_FUNC
PyInit__winnow() { // NOLINT(bugprone-reserved-identifier,readability-identifier-naming)
  return PyModuleDef_Init(&winnow::python::definition);
}
