// One call of Program.launch or Program.launch_backward, from its arguments to the launch. Each
// step returns false with an exception where it fails.
#pragma once
#include "runtime/python/src/Program.h"
#include "runtime/python/src/Tensor.h"
#include <cstdlib>
#include <vector>

namespace winnow::python {

struct FreeMemory {
  void operator()(void *memory) const { std::free(memory); }
};

class Launch {
public:
  Launch(State &state, const ProgramObject &program, bool isBackward)
      : state(state), program(program), isBackward(isBackward) {
    args.struct_size = sizeof(args);
    gradients.struct_size = sizeof(gradients);
    shape.struct_size = sizeof(shape);
    args.shape = &shape;
    if (isBackward) // ids are given
      args.phase = WINNOW_ATTEND;
  }
  bool take(PyObject *const *given, Py_ssize_t positional, PyObject *names);
  bool fill();
  PyObject *run();

private:
  bool isGiven(LaunchArgument argument) const {
    return values[argument] && values[argument] != Py_None;
  }
  bool refuse(const std::string &sentence) {
    raise(state, WINNOW_INVALID, std::string(call()) + ": " + sentence);
    return false;
  }
  /// The argument as messages call it.
  static std::string text(LaunchArgument argument) { return nameOf(argument); }
  const char *call() const { return isBackward ? "launch_backward" : "launch"; }
  bool isOnCpu() const { return program.device == WINNOW_CPU; }

  // Launch.cpp: what is no tensor.
  bool takes(LaunchArgument argument) const;
  bool takeNames(PyObject *names, Py_ssize_t count);
  bool number(LaunchArgument argument, int &value);
  bool takePhase();
  bool takeStream();
  bool batch();
  void *allocate(size_t bytes);
  bool scratch();
  bool room();
  winnow_status enqueue() const;

  // LaunchTensors.cpp: what each tensor must be.
  bool open(LaunchArgument argument, PyObject *object, Tensor &tensor);
  bool refuseShape(LaunchArgument argument, const Tensor &tensor, const std::string &wanted);
  bool elements(LaunchArgument argument, const Tensor &tensor);
  bool keyElements(LaunchArgument argument, const Tensor &tensor);
  bool ofType(LaunchArgument argument, const Tensor &tensor, uint8_t code, const char *name);
  bool isRead(LaunchArgument argument) const;
  bool writable(LaunchArgument argument, const Tensor &tensor);
  bool strides(LaunchArgument argument, const Tensor &tensor, int64_t *out);
  bool queries(LaunchArgument argument, int dim, int64_t *out, const void *&data);
  bool keys(LaunchArgument argument, int dim, int64_t *out, const void *&data);
  bool vector(LaunchArgument argument, int64_t length, const int32_t *&data);
  bool headScale(LaunchArgument argument, const float *&data);
  bool table(LaunchArgument argument, const int32_t *&data, int64_t &stride);
  bool result(LaunchArgument argument, int64_t first, int64_t third, uint8_t code, const char *type,
              void *&data);
  bool tensors();
  bool gradientTensors();
  bool rowTensor(PyObject *object, int index);
  bool rows();

  State &state;
  const ProgramObject &program;
  const bool isBackward;
  PyObject *values[LaunchArgumentCount] = {};
  winnow_launch_args args{};
  winnow_backward_args gradients{}; ///< of launch_backward: its own tensors alone, until the call
  winnow_shape shape{};
  void *stream = nullptr;
  const DLPackExchangeApi *exchange = nullptr; ///< of the first tensor that has one
  Tensor query;                                ///< q
  int64_t pages = 0;                           ///< of k
  std::vector<Reference> held;                 ///< capsules of tensors
  std::unique_ptr<void, FreeMemory> memory[2];
  int memoryCount = 0;
};

} // namespace winnow::python
