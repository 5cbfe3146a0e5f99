// Fields of a launch by name; see LaunchStruct.h.
#include "runtime/api/LaunchStruct.h"
#include "runtime/api/HostBoundary.h"

namespace winnow {

Result<Shape> toShape(const winnow_shape *given) {
  return adopt(given, "shape").map([](const winnow_shape &c) {
    return Shape{c.batch, c.total_q, c.total_k, c.max_q, c.max_k};
  });
}

Result<LaunchCall> toLaunchCall(const winnow_launch_args *given) {
  WINNOW_TRY(winnow_launch_args c, adopt(given, "args"));
  WINNOW_TRY(Shape shape, toShape(c.shape));
  if (c.phase < WINNOW_ALL || c.phase > WINNOW_APPEND)
    return fail(ErrorKind::Usage, fmt::format("args: {} is not a winnow_phase", c.phase));
  LaunchCall call;
  LaunchArgs &own = call.args;
  own.q = c.q;
  own.k = c.k;
  own.v = c.v;
  own.out = c.out;
  own.lse = c.lse;
  own.ids = c.ids;
  own.cuQ = c.cu_q;
  own.cuK = c.cu_k;
  own.shape = shape;
  own.phase = static_cast<Phase>(c.phase);
  TensorLayout &layout = own.layout;
  std::copy_n(c.q_stride, 2, layout.qStride);
  std::copy_n(c.out_stride, 2, layout.outStride);
  std::copy_n(c.k_stride, 3, layout.kStride);
  std::copy_n(c.v_stride, 3, layout.vStride);
  layout.seqK = c.seq_k;
  layout.pageTable = c.page_table;
  layout.pageTableStride = c.page_table_stride;
  layout.kBegin = c.k_begin;
  layout.pageSize = c.page_size;
  for (int i = 0; i < kMostRows; ++i) {
    own.rows[i] = c.rows[i];
    std::copy_n(c.rows_stride[i], 3, layout.rowsStride[i]);
  }
  layout.rowsTable = c.rows_table;
  layout.rowsTableStride = c.rows_table_stride;
  own.kScale = c.k_scale;
  own.vScale = c.v_scale;
  call.workspace = c.workspace;
  call.workspaceBytes = c.workspace_bytes;
  return call;
}

Result<LaunchCall> toLaunchCall(const winnow_backward_args *given) {
  WINNOW_TRY(winnow_backward_args c, adopt(given, "args"));
  WINNOW_TRY(Shape shape, toShape(c.shape));
  LaunchCall call;
  LaunchArgs &own = call.args;
  own.q = c.q;
  own.k = c.k;
  own.v = c.v;
  own.out = const_cast<void *>(c.out); // read in this phase
  own.lse = const_cast<float *>(c.lse);
  own.ids = const_cast<int32_t *>(c.ids);
  own.dout = c.dout;
  own.dq = c.dq;
  own.dk = c.dk;
  own.dv = c.dv;
  own.cuQ = c.cu_q;
  own.cuK = c.cu_k;
  own.shape = shape;
  own.phase = Phase::Backward;
  call.workspace = c.workspace;
  call.workspaceBytes = c.workspace_bytes;
  return call;
}

} // namespace winnow
