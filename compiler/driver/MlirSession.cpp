// The one context of a call: Winnow's dialects, and errors that are kept instead of printed.
#include "compiler/driver/MlirSession.h"

using namespace mlir;

namespace winnow {

MlirSession::MlirSession() : context(MLIRContext::Threading::DISABLED), complaints(context) {
  context.loadDialect<select::SelectDialect, tile::TileDialect, arith::ArithDialect,
                      math::MathDialect, scf::SCFDialect>();
}

tl::unexpected<Error> MlirSession::error(ErrorKind kind, const std::string &what) {
  return fail(kind, complaints.first().empty() ? what : complaints.first());
}

Result<ParsedMethod> MlirSession::parse(const MethodInfo &info) {
  ParsedMethod parsed = parseMethod(context, info.text, info.file);
  if (!parsed.method)
    return fail(parsed.unsupported ? ErrorKind::Unsupported : ErrorKind::Usage, parsed.complaint);
  return parsed;
}

std::string print(Operation *op) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  op->print(stream, OpPrintingFlags().printNameLocAsPrefix());
  return text;
}

} // namespace winnow
