// The tensors of a launch: their pointers and strides, and whether they are what the program reads.
// Checked is what only tensors show: types, shapes, devices, and that the memory is as large as the
// call says.
#include "runtime/python/src/Launch.h"
#include <algorithm>

namespace winnow::python {

bool Launch::refuseShape(LaunchArgument argument, const Tensor &tensor, const std::string &wanted) {
  return refuse(text(argument) + " has shape " + tensor.shapeText() + ", not " + wanted);
}

/// Borrows a tensor until the launch has been made; it must lie on the program's device.
bool Launch::open(LaunchArgument argument, PyObject *object, Tensor &tensor) {
  if (!borrow(state, object, argument, tensor))
    return false;
  if (tensor.capsule)
    held.push_back(std::move(tensor.capsule));
  if (!exchange)
    exchange = tensor.exchange;
  const DLDevice device = tensor.view.device;
  const bool isHere = isOnCpu() ? device.type == DlCpu || device.type == DlCudaHost
                                : (device.type == DlCuda || device.type == DlCudaManaged) &&
                                      device.id == program.device;
  if (isHere)
    return true;
  return refuse(text(argument) + " lies on " + tensor.deviceText() +
                ", but the program was prepared for " +
                (isOnCpu() ? "the CPU" : "GPU " + std::to_string(program.device)));
}

/// Elements of the program's type, or their bits as whole numbers (numpy knows no bfloat16).
bool Launch::elements(LaunchArgument argument, const Tensor &tensor) {
  const bool isBf16 = program.numbers.dtype == WINNOW_BF16;
  if (tensor.hasType(isBf16 ? DlBfloat : DlFloat, 16) || tensor.hasType(DlUInt, 16))
    return true;
  return refuse(text(argument) + " is " + tensor.typeText() + "; this program takes " +
                (isBf16 ? "bfloat16" : "float16") + " (or its bits as uint16)");
}

/// Those of keys and values, which may be of a type of their own (a library without it: its bits).
bool Launch::keyElements(LaunchArgument argument, const Tensor &tensor) {
  if (program.numbers.kvDtype == WINNOW_KV_SAME)
    return elements(argument, tensor);
  return tensor.hasType(DlFloat8E4m3fn, 8) || tensor.hasType(DlUInt, 8) ||
         refuse(text(argument) + " is " + tensor.typeText() +
                "; this program takes float8_e4m3fn (or its bits as uint8)");
}

bool Launch::ofType(LaunchArgument argument, const Tensor &tensor, uint8_t code, const char *name) {
  return tensor.hasType(code, 32) ||
         refuse(text(argument) + " is " + tensor.typeText() + ", not " + name);
}

bool Launch::isRead(LaunchArgument argument) const {
  switch (argument) {
  case ArgQ:
  case ArgK:
  case ArgV:
  case ArgDout:
    return true;
  case ArgOut:
  case ArgLse:
    return isBackward;
  case ArgIds:
    return args.phase == WINNOW_ATTEND;
  default:
    return false;
  }
}

bool Launch::writable(LaunchArgument argument, const Tensor &tensor) {
  return isRead(argument) || !tensor.isReadOnly ||
         refuse(text(argument) + " is read-only, but the launch writes it");
}

/// Strides of all dimensions but the last, 0 where a dimension has one entry and its stride means
/// nothing. Programs that read packed tensors get none.
bool Launch::strides(LaunchArgument argument, const Tensor &tensor, int64_t *out) {
  auto refuseThat = [&](const std::string &what) { return refuse(text(argument) + what); };
  if (!program.numbers.paged)
    return tensor.isPacked() ||
           refuseThat(" is not contiguous: this program reads packed tensors; make it contiguous, "
                      "or prepare with paged=True");
  const int last = tensor.view.rank - 1;
  if (tensor.view.shape[last] > 1 && tensor.stride(last) != 1)
    return refuseThat(" has a last dimension of stride " + std::to_string(tensor.stride(last)) +
                      ": its elements must lie side by side");
  for (int i = 0; i < last; ++i) {
    const int64_t stride = tensor.view.shape[i] > 1 ? tensor.stride(i) : 0;
    if (tensor.view.shape[i] > 1 && stride == 0)
      return refuseThat(" repeats one entry along dimension " + std::to_string(i) +
                        " (stride 0): make it contiguous");
    out[i] = stride;
  }
  return true;
}

/// q, out or a gradient of them: [total_q, heads, dim].
bool Launch::queries(LaunchArgument argument, int dim, int64_t *out, const void *&data) {
  Tensor opened;
  if (argument != ArgQ && !open(argument, values[argument], opened))
    return false;
  const Tensor &tensor = argument == ArgQ ? query : opened;
  if (!elements(argument, tensor))
    return false;
  const int heads = program.numbers.heads;
  const int64_t *extents = tensor.view.shape;
  if (tensor.view.rank != 3 || extents[1] != heads || extents[2] != dim)
    return refuseShape(argument, tensor,
                       "(tokens, " + std::to_string(heads) + ", " + std::to_string(dim) + ")");
  if (extents[0] < shape.total_q)
    return refuse(text(argument) + " has " + std::to_string(extents[0]) + " tokens, the call " +
                  std::to_string(shape.total_q));
  data = tensor.data();
  return strides(argument, tensor, out) && writable(argument, tensor);
}

/// k, v or a gradient of them: [total_k, kv_heads, dim], or pages [pages, tokens, kv_heads, dim]. k
/// says which.
bool Launch::keys(LaunchArgument argument, int dim, int64_t *out, const void *&data) {
  Tensor tensor;
  if (!open(argument, values[argument], tensor) || !keyElements(argument, tensor))
    return false;
  const bool hasTable = isGiven(ArgPageTable);
  const int rank = hasTable ? 4 : 3, heads = program.numbers.kvHeads;
  const int64_t *extents = tensor.view.shape;
  if (tensor.view.rank != rank || extents[rank - 2] != heads || extents[rank - 1] != dim)
    return refuseShape(argument, tensor,
                       std::string(hasTable ? "(pages, tokens, " : "(tokens, ") +
                           std::to_string(heads) + ", " + std::to_string(dim) + ")" +
                           (hasTable ? "" : " (pages need a page_table)"));
  if (argument == ArgK) {
    pages = extents[0];
    args.page_size = hasTable ? static_cast<int32_t>(extents[1]) : 0;
    shape.total_k = hasTable ? 0 : static_cast<int32_t>(extents[0]);
  } else if (extents[0] != pages || (hasTable && extents[1] != args.page_size)) {
    return refuse(text(argument) + " has shape " + tensor.shapeText() +
                  ": its first dimensions are not those of k");
  }
  data = tensor.data();
  out[0] = 0; // of a tensor without pages
  return strides(argument, tensor, out + (hasTable ? 0 : 1)) && writable(argument, tensor);
}

/// Lengths of sequences: int32, one behind the other.
bool Launch::vector(LaunchArgument argument, int64_t length, const int32_t *&data) {
  if (!isGiven(argument))
    return true;
  Tensor tensor;
  if (!open(argument, values[argument], tensor) || !ofType(argument, tensor, DlInt, "int32"))
    return false;
  if (tensor.view.rank != 1 || tensor.view.shape[0] != length || !tensor.isPacked())
    return refuseShape(argument, tensor,
                       "(" + std::to_string(length) +
                           ",), contiguous: cu_q says how many "
                           "sequences there are");
  data = static_cast<const int32_t *>(tensor.data());
  return true;
}

/// What the stored numbers of each KV head are multiplied by: float32 [kv_heads].
bool Launch::headScale(LaunchArgument argument, const float *&data) {
  if (!isGiven(argument))
    return true;
  Tensor tensor;
  if (!open(argument, values[argument], tensor) || !ofType(argument, tensor, DlFloat, "float32"))
    return false;
  if (tensor.view.rank != 1 || tensor.view.shape[0] != program.numbers.kvHeads ||
      !tensor.isPacked())
    return refuseShape(argument, tensor,
                       "(" + std::to_string(program.numbers.kvHeads) + ",), contiguous");
  data = static_cast<const float *>(tensor.data());
  return true;
}

/// A table of pages: int32 [batch, at least the pages of the longest sequence].
bool Launch::table(LaunchArgument argument, const int32_t *&data, int64_t &stride) {
  if (!isGiven(argument))
    return true;
  Tensor tensor;
  if (!open(argument, values[argument], tensor) || !ofType(argument, tensor, DlInt, "int32"))
    return false;
  const bool hasRows = tensor.view.rank == 2 && tensor.view.shape[0] == shape.batch;
  if (!hasRows || (tensor.view.shape[1] > 1 && tensor.stride(1) != 1))
    return refuseShape(argument, tensor,
                       "(" + std::to_string(shape.batch) + ", entries), entries side by side");
  data = static_cast<const int32_t *>(tensor.data());
  stride = shape.batch > 1 ? tensor.stride(0) : tensor.view.shape[1];
  return true;
}

/// ids [first, total_q, third] or lse [first, total_q], which are packed.
bool Launch::result(LaunchArgument argument, int64_t first, int64_t third, uint8_t code,
                    const char *type, void *&data) {
  if (!isGiven(argument))
    return true;
  Tensor tensor;
  if (!open(argument, values[argument], tensor) || !ofType(argument, tensor, code, type))
    return false;
  const int64_t wanted[] = {first, shape.total_q, third};
  const int rank = third ? 3 : 2;
  if (tensor.view.rank != rank || !std::equal(wanted, wanted + rank, tensor.view.shape) ||
      !tensor.isPacked())
    return refuseShape(argument, tensor,
                       "(" + std::to_string(first) + ", " + std::to_string(shape.total_q) +
                           (third ? ", " + std::to_string(third) : "") + "), contiguous");
  data = tensor.data();
  return writable(argument, tensor);
}

bool Launch::tensors() {
  const SpecNumbers &spec = program.numbers;
  const void *out = nullptr;
  void *lse = nullptr, *ids = nullptr;
  if ((isGiven(ArgQ) && !queries(ArgQ, spec.headDim, args.q_stride, args.q)) ||
      (isGiven(ArgOut) && !queries(ArgOut, spec.valueDim, args.out_stride, out)) ||
      (isGiven(ArgK) && !keys(ArgK, spec.headDim, args.k_stride, args.k)) ||
      (isGiven(ArgV) && !keys(ArgV, spec.valueDim, args.v_stride, args.v)))
    return false;
  const int64_t sequences = shape.batch;
  if (!vector(ArgCuK, sequences + 1, args.cu_k) || !vector(ArgSeqK, sequences, args.seq_k) ||
      !vector(ArgKBegin, sequences, args.k_begin) ||
      !table(ArgPageTable, args.page_table, args.page_table_stride) ||
      !table(ArgRowsTable, args.rows_table, args.rows_table_stride) ||
      !headScale(ArgKScale, args.k_scale) || !headScale(ArgVScale, args.v_scale) ||
      !result(ArgLse, spec.heads, 0, DlFloat, "float32", lse) ||
      !result(ArgIds, program.selectHeads, spec.topk, DlInt, "int32", ids))
    return false;
  args.out = const_cast<void *>(out);
  args.lse = static_cast<float *>(lse);
  args.ids = static_cast<int32_t *>(ids);
  return true;
}

/// What launch_backward has beside the tensors of a launch.
bool Launch::gradientTensors() {
  const SpecNumbers &spec = program.numbers;
  int64_t packed[3] = {}; // there are no strides
  const void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  if ((isGiven(ArgDout) && !queries(ArgDout, spec.valueDim, packed, gradients.dout)) ||
      (isGiven(ArgDq) && !queries(ArgDq, spec.headDim, packed, dq)) ||
      (isGiven(ArgDk) && !keys(ArgDk, spec.headDim, packed, dk)) ||
      (isGiven(ArgDv) && !keys(ArgDv, spec.valueDim, packed, dv)))
    return false;
  gradients.dq = const_cast<void *>(dq);
  gradients.dk = const_cast<void *>(dk);
  gradients.dv = const_cast<void *>(dv);
  return true;
}

/// rows[index]: [pages, slots, kv_heads, head_dim], with a rows_table also [slots, kv_heads,
/// head_dim].
bool Launch::rowTensor(PyObject *object, int index) {
  Tensor tensor;
  if (!open(ArgRows, object, tensor) || !elements(ArgRows, tensor) || !writable(ArgRows, tensor))
    return false;
  const int stride = program.rowsStride[index];
  const int rank = tensor.view.rank;
  const int64_t *extents = tensor.view.shape;
  const bool isOfSlots = rank == 3 && isGiven(ArgRowsTable);
  const int64_t slots = isGiven(ArgRowsTable)   ? 1
                        : isGiven(ArgPageTable) ? args.page_size / stride
                                                : shape.max_k / stride;
  const int64_t atLeast = isGiven(ArgRowsTable) ? 0 : isGiven(ArgPageTable) ? pages : shape.batch;
  if ((rank != 4 && !isOfSlots) || extents[rank - 2] != program.numbers.kvHeads ||
      extents[rank - 1] != program.numbers.headDim || (rank == 4 && extents[1] < slots) ||
      extents[0] < atLeast)
    return refuse("rows[" + std::to_string(index) + "] has shape " + tensor.shapeText() +
                  ": summaries of " + std::to_string(stride) + " tokens take at least " +
                  std::to_string(atLeast) + " pages of " + std::to_string(slots) + " slots, " +
                  std::to_string(program.numbers.kvHeads) + " heads and " +
                  std::to_string(program.numbers.headDim) + " elements");
  args.rows[index] = tensor.data();
  int64_t *out = args.rows_stride[index];
  if (!isOfSlots)
    return strides(ArgRows, tensor, out);
  int64_t two[2] = {};
  if (!strides(ArgRows, tensor, two))
    return false;
  out[0] = two[0], out[1] = 0, out[2] = two[1];
  return true;
}

/// The summaries that the host keeps: as many tensors as the program has; one may stand by itself.
bool Launch::rows() {
  if (!isGiven(ArgRows))
    return true;
  PyObject *given = values[ArgRows];
  const bool isOne = !PyTuple_Check(given) && !PyList_Check(given);
  const Py_ssize_t count = isOne ? 1 : PySequence_Size(given);
  const int wanted = program.rowsCount;
  if (count != wanted)
    return refuse("rows has " + std::to_string(count) + " tensors, but this program keeps " +
                  std::to_string(wanted) + " summaries" +
                  (program.numbers.paged ? "" : ": prepare with paged=True to keep them"));
  for (int i = 0; i < wanted; ++i) {
    const Reference tensor(isOne ? Py_NewRef(given) : PySequence_GetItem(given, i));
    if (!tensor || !rowTensor(tensor.get(), i))
      return false;
  }
  return true;
}

} // namespace winnow::python
