// The type winnow._winnow.Engine: a winnow_engine with the compiler library where there is one.
// Prepare may take minutes, so it runs without the interpreter's lock.
#include "runtime/python/src/Spec.h"

namespace winnow::python {
namespace {

struct EngineObject {
  PyObject ob_base; ///< PyObject_HEAD
  winnow_engine *engine;
  PyObject *noCompiler; ///< why it has none that it looked for, or null
};

EngineObject &object(PyObject *self) { return *reinterpret_cast<EngineObject *>(self); }
winnow_engine *of(PyObject *self) { return object(self).engine; }

/// Engine(compiler, cache_dir, driver, tuned_files, decisions, tuning, replay_only, allow_ptx).
/// `compiler` is a path, None for the library's own search, "" for none; where the search finds
/// none, the engine serves what is in the cache.
PyObject *make(PyTypeObject *type, PyObject *arguments, PyObject *names) {
  static const char *const keywords[] = {"compiler",    "cache_dir", "driver",
                                         "tuned_files", "decisions", "tuning",
                                         "replay_only", "allow_ptx", nullptr};
  const char *library = nullptr;
  int tuning = 1;
  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  if (!PyArg_ParseTupleAndKeywords(arguments, names, "|$zzzzzppp:Engine",
                                   const_cast<char **>(keywords), &library, &options.cache_dir,
                                   &options.driver_path, &options.tuned_files, &options.decisions,
                                   &tuning, &options.replay_only, &options.allow_ptx))
    return nullptr;
  options.no_tuning = !tuning;
  auto &state = *static_cast<State *>(PyType_GetModuleState(type));
  winnow_engine *engine = nullptr;
  winnow_status status = WINNOW_OK;
  std::string noCompiler;
  Py_BEGIN_ALLOW_THREADS;
  if (!library || *library)
    status = winnow_compiler_load(library, &options.compiler);
  if (status != WINNOW_OK && !library)
    noCompiler = winnow_last_error();
  if (status == WINNOW_OK || !library)
    status = winnow_engine_create(&options, &engine);
  Py_END_ALLOW_THREADS;
  if (status != WINNOW_OK)
    return raise(state, status);
  Reference made(PyType_GenericAlloc(type, 0));
  if (!made) {
    winnow_engine_destroy(engine);
    return nullptr;
  }
  object(made.get()).engine = engine;
  if (!noCompiler.empty() &&
      !(object(made.get()).noCompiler = PyUnicode_FromString(noCompiler.c_str())))
    return nullptr;
  return made.release();
}

/// Raises the exception of a prepare that failed; where a compiler is what was missing, with why.
PyObject *raisePrepare(PyObject *self, winnow_status status) {
  std::string sentence = winnow_last_error();
  const char *why = object(self).noCompiler && status == WINNOW_UNSUPPORTED
                        ? PyUnicode_AsUTF8AndSize(object(self).noCompiler, nullptr)
                        : nullptr;
  if (why)
    sentence += std::string(" (") + why + ")";
  return raise(stateOfObject(self), status, sentence);
}

void dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  winnow_engine_destroy(of(self));
  Py_XDECREF(object(self).noCompiler);
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DecRef(reinterpret_cast<PyObject *>(type));
}

PyObject *prepare(PyObject *self, PyObject *arguments) {
  PyObject *given = nullptr;
  int device = 0;
  GivenSpec spec;
  if (!PyArg_ParseTuple(arguments, "Oi:prepare", &given, &device) || !spec.read(given))
    return nullptr;
  winnow_program *program = nullptr;
  winnow_origin origin{};
  winnow_status status = WINNOW_OK;
  Py_BEGIN_ALLOW_THREADS;
  status = winnow_prepare(of(self), &spec.get(), device, &program, &origin);
  Py_END_ALLOW_THREADS;
  return status == WINNOW_OK
             ? wrapProgram(stateOfObject(self), program, given, spec.numbers(), device, origin)
             : raisePrepare(self, status);
}

PyObject *find(PyObject *self, PyObject *arguments) {
  PyObject *given = nullptr;
  int device = 0;
  GivenSpec spec;
  if (!PyArg_ParseTuple(arguments, "Oi:find", &given, &device) || !spec.read(given))
    return nullptr;
  winnow_program *program = nullptr;
  const winnow_status status = winnow_find(of(self), &spec.get(), device, &program);
  State &state = stateOfObject(self);
  return status == WINNOW_OK
             ? wrapProgram(state, program, given, spec.numbers(), device, WINNOW_FROM_MEMORY)
             : raise(state, status);
}

PyObject *seal(PyObject *self, PyObject * /*unused*/) {
  const winnow_status status = winnow_engine_seal(of(self));
  return status == WINNOW_OK ? Py_BuildValue("") : raise(stateOfObject(self), status);
}

PyObject *counters(PyObject *self, PyObject * /*unused*/) {
  winnow_counters counts{};
  counts.struct_size = sizeof(counts);
  if (winnow_status status = winnow_engine_counters(of(self), &counts); status != WINNOW_OK)
    return raise(stateOfObject(self), status);
  return Py_BuildValue("{s:K,s:K,s:K,s:K}", "builds", counts.builds, "disk_hits", counts.disk_hits,
                       "memory_hits", counts.memory_hits, "refused", counts.refused);
}

PyObject *exportDecisions(PyObject *self, PyObject * /*unused*/) {
  std::string lines;
  const winnow_sink sink = [](void *context, const void *bytes, size_t size) {
    static_cast<std::string *>(context)->assign(static_cast<const char *>(bytes), size);
  };
  const winnow_status status = winnow_engine_export_decisions(of(self), sink, &lines);
  return status == WINNOW_OK
             ? PyUnicode_FromStringAndSize(lines.data(), static_cast<Py_ssize_t>(lines.size()))
             : raise(stateOfObject(self), status);
}

PyMethodDef methods[] = {
    {"prepare", &prepare, METH_VARARGS, "prepare(spec, device): compiles or loads a Program."},
    {"find", &find, METH_VARARGS, "find(spec, device): a Program that was prepared before."},
    {"seal", &seal, METH_NOARGS, "From now on nothing is compiled."},
    {"counters", &counters, METH_NOARGS, "What prepare did so far."},
    {"export_decisions", &exportDecisions, METH_NOARGS, "The configurations decided on."},
    {nullptr, nullptr, 0, nullptr}};

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void *>(&make)},
                       {Py_tp_dealloc, reinterpret_cast<void *>(&dealloc)},
                       {Py_tp_methods, methods},
                       {0, nullptr}};

PyType_Spec typeSpec = {"winnow._winnow.Engine", sizeof(EngineObject), 0,
                        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, slots};

} // namespace

bool addEngine(PyObject *module, State &state) {
  state.engine =
      reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &typeSpec, nullptr));
  return state.engine && PyModule_AddType(module, state.engine) == 0;
}

} // namespace winnow::python
