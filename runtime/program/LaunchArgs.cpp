// The arguments of a launch: are they what the program reads, and how they reach the kernels. On
// exit of checkArgs every pointer that a kernel will follow is there, and aligned for how it is
// read.
#include "runtime/program/Launcher.h"
#include "templates/Params.h"
#include <fmt/format.h>

namespace winnow {

namespace {

bool isAligned(const void *pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

/// What turns a division by `size` into a product: n / size = n * magic >> shift for n below 2^31
/// (Granlund and Montgomery 1994, figure 4.1, with 31-bit dividends).
void setDivision(int size, unsigned &magic, int &shift) {
  int bits = 0;
  while (int64_t(1) << bits < size)
    ++bits;
  shift = 31 + bits;
  magic = static_cast<unsigned>(((uint64_t(1) << shift) + size - 1) / size);
}

} // namespace

Status LoadedProgram::checkArgs(const LaunchArgs &args) const {
  const bool selects = args.phase != Phase::Attend, attends = args.phase != Phase::Select;
  const bool hasQueries = args.shape.totalQ > 0,
             hasKeys = program->spec.paged ? args.shape.maxK > 0 : args.shape.totalK > 0;
  const struct {
    const char *name;
    const void *pointer;
    bool needed;
    size_t alignment; ///< 16: rows are moved 16 bytes at a time
  } tensors[] = {
      {"q", args.q, hasQueries, 16},
      {"k", args.k, hasKeys, 16},
      {"v", args.v, attends && hasKeys, 16},
      {"out", args.out, attends && hasQueries, 16},
      {"lse", args.lse, false, 4},
      {"ids", args.ids, program->selectHeads > 0 && hasQueries, 4},
      {"cu_q", args.cuQ, true, 4},
      {"cu_k", args.cuK, !program->spec.paged, 4},
      {"seq_k", args.seqK, false, 4},
      {"page_table", args.pageTable, false, 4},
      {"k_begin", args.kBegin, false, 4},
  };
  for (const auto &tensor : tensors) {
    if (tensor.needed && !tensor.pointer)
      return fail(ErrorKind::Usage, fmt::format("launch: {} is null", tensor.name));
    if (!isAligned(tensor.pointer, tensor.alignment))
      return fail(ErrorKind::Usage, fmt::format("launch: {} is not aligned to {} bytes",
                                                tensor.name, tensor.alignment));
  }
  if (selects && !attends && program->selectHeads == 0)
    return fail(ErrorKind::Usage,
                fmt::format("launch: method {} selects nothing", program->method));
  return checkLayout(args);
}

/// Strides, tables and lengths per sequence: right for a paged program, absent for any other.
Status LoadedProgram::checkLayout(const LaunchArgs &args) const {
  const struct {
    const char *name;
    const int64_t *values;
    int count;
  } strides[] = {{"q_stride", args.qStride, 2},
                 {"out_stride", args.outStride, 2},
                 {"k_stride", args.kStride, 3},
                 {"v_stride", args.vStride, 3}};
  bool any = args.seqK || args.pageTable || args.kBegin || args.pageTableStride || args.pageSize;
  for (const auto &stride : strides)
    for (int i = 0; i < stride.count; ++i) {
      any = any || stride.values[i] != 0;
      if (stride.values[i] < 0 || stride.values[i] % 8 != 0)
        return fail(ErrorKind::Usage,
                    fmt::format("launch: {}[{}] is {}: take a multiple of 8 elements, or 0 for "
                                "packed",
                                stride.name, i, stride.values[i]));
    }
  if (!program->spec.paged)
    return any ? fail(ErrorKind::Usage,
                      "launch: this program reads packed tensors: prepare it with `paged` set to "
                      "give strides, lengths per sequence or page tables")
               : Status();
  if (!args.cuK && !(args.seqK && args.pageTable))
    return fail(ErrorKind::Usage,
                "launch: cu_k is null: without it, seq_k and page_table must be given");
  if (!args.pageTable)
    return {};
  if (args.pageSize < 1)
    return fail(ErrorKind::Usage,
                fmt::format("launch: page_size is {}: take 1 or more tokens", args.pageSize));
  const int64_t pages = (int64_t(args.shape.maxK) + args.pageSize - 1) / args.pageSize;
  if (args.pageTableStride < pages && args.shape.batch > 1)
    return fail(ErrorKind::Usage,
                fmt::format("launch: page_table_stride is {}, but sequences of up to {} keys have "
                            "{} pages of {} tokens",
                            args.pageTableStride, args.shape.maxK, pages, args.pageSize));
  return {};
}

/// Strides with their defaults, tables and what divides by the page size.
void LoadedProgram::setLayout(const LaunchArgs &args, Params &params) const {
  const Spec &spec = program->spec;
  auto orPacked = [](int64_t given, int64_t packed) { return given != 0 ? given : packed; };
  auto rows = [&](const int64_t *given, int heads, int dim, long long *own) {
    own[1] = orPacked(given[1], dim);
    own[0] = orPacked(given[0], int64_t(heads) * dim);
  };
  auto pages = [&](const int64_t *given, int dim, long long *own) {
    own[2] = orPacked(given[2], dim);
    own[1] = orPacked(given[1], int64_t(spec.kvHeads) * dim);
    own[0] = orPacked(given[0], own[1] * args.pageSize);
  };
  rows(args.qStride, spec.heads, spec.headDim, params.q_stride);
  rows(args.outStride, spec.heads, spec.valueWidth(), params.out_stride);
  pages(args.kStride, spec.headDim, params.k_stride);
  pages(args.vStride, spec.valueWidth(), params.v_stride);
  params.seq_k = args.seqK;
  params.page_table = args.pageTable;
  params.page_table_stride = args.pageTableStride;
  params.k_begin = args.kBegin;
  params.page_size = args.pageSize;
  setDivision(std::max(args.pageSize, 1), params.page_magic, params.page_shift);
}

} // namespace winnow
