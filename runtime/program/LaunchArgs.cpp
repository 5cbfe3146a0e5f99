// The arguments of a launch: are they what the program reads, and how they reach the kernels. On
// exit of checkArgs every pointer that a kernel will follow is there, and aligned for how it is
// read.
#include "runtime/program/Launcher.h"
#include "templates/Params.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {

static_assert(kMostRows == WINNOW_MAX_ROWS);

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

/// Strides, tables and lengths per sequence: right for a paged program, absent for any other.
Status checkLayout(const ProgramImage &program, const LaunchArgs &args) {
  const TensorLayout &layout = args.layout;
  const struct {
    const char *name;
    const int64_t *values;
    int count;
  } strides[] = {{"q_stride", layout.qStride, 2},
                 {"out_stride", layout.outStride, 2},
                 {"k_stride", layout.kStride, 3},
                 {"v_stride", layout.vStride, 3},
                 {"rows_stride[0]", layout.rowsStride[0], 3},
                 {"rows_stride[1]", layout.rowsStride[1], 3}};
  bool any =
      layout.seqK || layout.pageTable || layout.kBegin || layout.pageTableStride || layout.pageSize;
  for (const auto &stride : strides)
    for (int i = 0; i < stride.count; ++i) {
      any = any || stride.values[i] != 0;
      if (stride.values[i] < 0 || stride.values[i] % 8 != 0)
        return fail(ErrorKind::Usage,
                    fmt::format("launch: {}[{}] is {}: take a multiple of 8 elements, or 0 for "
                                "packed",
                                stride.name, i, stride.values[i]));
    }
  if (!program.spec.paged)
    return any ? fail(ErrorKind::Usage,
                      "launch: this program reads packed tensors: prepare it with `paged` set to "
                      "give strides, lengths per sequence or page tables")
               : Status();
  if (!args.cuK && !(layout.seqK && layout.pageTable))
    return fail(ErrorKind::Usage,
                "launch: cu_k is null: without it, seq_k and page_table must be given");
  if (!layout.pageTable)
    return {};
  if (layout.pageSize < 1)
    return fail(ErrorKind::Usage,
                fmt::format("launch: page_size is {}: take 1 or more tokens", layout.pageSize));
  const int64_t pages = (int64_t(args.shape.maxK) + layout.pageSize - 1) / layout.pageSize;
  if (layout.pageTableStride < pages && args.shape.batch > 1)
    return fail(ErrorKind::Usage,
                fmt::format("launch: page_table_stride is {}, but sequences of up to {} keys have "
                            "{} pages of {} tokens",
                            layout.pageTableStride, args.shape.maxK, pages, layout.pageSize));
  return {};
}

/// Scales, and strides that let 16 bytes be read at a time where an element has one.
Status checkFp8(const ProgramImage &program, const LaunchArgs &args) {
  if (!program.spec.hasFp8Keys())
    return args.kScale || args.vScale
               ? fail(ErrorKind::Usage,
                      "launch: k_scale or v_scale is given, but this program's keys are not fp8: "
                      "prepare it with kv_dtype fp8_e4m3, or leave them null")
               : Status();
  const std::pair<const char *, const int64_t *> strides[] = {{"k_stride", args.layout.kStride},
                                                              {"v_stride", args.layout.vStride}};
  for (const auto &[name, values] : strides)
    for (int i = 0; i < 3; ++i)
      if (values[i] % 16 != 0)
        return fail(ErrorKind::Usage,
                    fmt::format("launch: {}[{}] is {}: take a multiple of 16 elements of fp8, or 0 "
                                "for packed",
                                name, i, values[i]));
  return {};
}

/// The summaries that a host keeps: all that the program has and no other, in pages that hold whole
/// strides.
Status checkRows(const ProgramImage &program, const LaunchArgs &args) {
  const TensorLayout &layout = args.layout;
  const std::vector<SummaryShape> &summaries = program.summaries;
  const bool any = args.rows[0] || args.rows[1];
  if (!any && args.phase != Phase::Append)
    return layout.rowsTable || layout.rowsTableStride
               ? fail(ErrorKind::Usage, "launch: rows_table is given without rows")
               : Status();
  if (!program.spec.paged)
    return fail(ErrorKind::Usage, "launch: this program makes its summaries anew at each launch: "
                                  "prepare it with `paged` set to keep them as rows");
  if (summaries.empty())
    return fail(
        ErrorKind::Usage,
        fmt::format("launch: method {} has no summaries that can be kept as rows", program.method));
  for (int i = 0; i < kMostRows; ++i)
    if ((args.rows[i] != nullptr) != (static_cast<size_t>(i) < summaries.size()))
      return fail(ErrorKind::Usage,
                  fmt::format("launch: rows[{}] is {}: this program keeps {} {}", i,
                              args.rows[i] ? "given" : "null", summaries.size(),
                              summaries.size() == 1 ? "summary" : "summaries"));
  if (layout.kBegin && layout.pageTable && !layout.rowsTable && layout.pageSize < args.shape.maxK)
    return fail(ErrorKind::Usage,
                "launch: k_begin is given with rows in pages of keys: rows count from the first "
                "key, so that they would lie in other pages than their keys; give rows_table, or "
                "a page for each sequence");
  return layout.checkRows(summaries, args.shape.batch, args.shape.maxK);
}

} // namespace

Status checkArgs(const ProgramImage &program, const LaunchArgs &args) {
  const bool all = args.phase == Phase::All;
  const bool selects = all || args.phase == Phase::Select,
             attends = all || args.phase == Phase::Attend, backward = args.phase == Phase::Backward;
  const bool hasQueries = args.shape.totalQ > 0,
             hasKeys = program.spec.paged ? args.shape.maxK > 0 : args.shape.totalK > 0;
  const struct {
    const char *name;
    const void *pointer;
    bool needed;
    size_t alignment; ///< 16: rows are moved 16 bytes at a time
  } tensors[] = {
      {"q", args.q, (selects || attends || backward) && hasQueries, 16},
      {"k", args.k, hasKeys, 16},
      {"v", args.v, (attends || backward) && hasKeys, 16},
      {"out", args.out, (attends || backward) && hasQueries, 16},
      {"lse", args.lse, backward && hasQueries, 4},
      {"ids", args.ids, (selects || attends || backward) && program.selectHeads > 0 && hasQueries,
       4},
      {"dout", args.dout, backward && hasQueries, 16},
      {"dq", args.dq, backward && hasQueries, 16},
      {"dk", args.dk, backward && hasKeys, 16},
      {"dv", args.dv, backward && hasKeys, 16},
      {"cu_q", args.cuQ, true, 4},
      {"cu_k", args.cuK, !program.spec.paged, 4},
      {"seq_k", args.layout.seqK, false, 4},
      {"page_table", args.layout.pageTable, false, 4},
      {"k_begin", args.layout.kBegin, false, 4},
      {"rows[0]", args.rows[0], false, 16},
      {"rows[1]", args.rows[1], false, 16},
      {"rows_table", args.layout.rowsTable, false, 4},
      {"k_scale", args.kScale, false, 4},
      {"v_scale", args.vScale, false, 4},
  };
  for (const auto &tensor : tensors) {
    if (tensor.needed && !tensor.pointer)
      return fail(ErrorKind::Usage, fmt::format("launch: {} is null", tensor.name));
    if (!isAligned(tensor.pointer, tensor.alignment))
      return fail(ErrorKind::Usage, fmt::format("launch: {} is not aligned to {} bytes",
                                                tensor.name, tensor.alignment));
  }
  if (backward && !program.spec.backward)
    return fail(ErrorKind::Usage,
                "launch: this program has no gradients: prepare it with `backward` set");
  if (selects && !attends && program.selectHeads == 0)
    return fail(ErrorKind::Usage, fmt::format("launch: method {} selects nothing", program.method));
  WINNOW_CHECK(checkLayout(program, args));
  WINNOW_CHECK(checkFp8(program, args));
  return checkRows(program, args);
}

Status LoadedProgram::checkWorkspace(const void *workspace, size_t bytes, int64_t needed) {
  if (bytes < static_cast<size_t>(needed))
    return fail(
        ErrorKind::Usage,
        fmt::format("launch: the workspace has {} bytes, this shape needs {}", bytes, needed));
  if (needed > 0 && (!workspace || !isAligned(workspace, kWorkspaceAlignment)))
    return fail(ErrorKind::Usage,
                fmt::format("launch: the workspace is null or not aligned to {} bytes",
                            kWorkspaceAlignment));
  return {};
}

/// Strides, tables and what divides by the sizes of pages.
void LoadedProgram::setLayout(const LaunchArgs &args, Params &params) const {
  const std::vector<SummaryShape> &summaries = program->summaries;
  const TensorLayout layout = args.layout.withStrides(program->spec, summaries, args.shape.maxK);
  std::copy_n(layout.qStride, 2, params.q_stride);
  std::copy_n(layout.outStride, 2, params.out_stride);
  std::copy_n(layout.kStride, 3, params.k_stride);
  std::copy_n(layout.vStride, 3, params.v_stride);
  params.seq_k = layout.seqK;
  params.page_table = layout.pageTable;
  params.page_table_stride = layout.pageTableStride;
  params.k_begin = layout.kBegin;
  params.page_size = layout.pageSize;
  setDivision(std::max(layout.pageSize, 1), params.page_magic, params.page_shift);
  params.k_scale = args.kScale;
  params.v_scale = args.vScale;
  params.rows_table = layout.rowsTable;
  params.rows_table_stride = layout.rowsTableStride;
  for (size_t i = 0; i < summaries.size(); ++i) {
    params.rows[i] = args.rows[i];
    std::copy_n(layout.rowsStride[i], 3, params.rows_stride[i]);
    params.rows_page[i] = layout.rowsPage(summaries[i], args.shape.maxK);
    setDivision(params.rows_page[i], params.rows_magic[i], params.rows_shift[i]);
  }
}

} // namespace winnow
