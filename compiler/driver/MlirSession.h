// An MLIR context for one call of the compiler, with what every caller needs of it: a method's text
// read in, an op printed, and the first error in words instead of on stderr.
#pragma once
#include "compiler/driver/Compile.h"
#include "dialect/select/MethodText.h"
#include "dialect/tile/Tile.h"

namespace winnow {

class MlirSession {
public:
  MlirSession();
  Result<ParsedMethod> parse(const MethodInfo &info);
  /// `what`, or the first error that the context has reported.
  tl::unexpected<Error> error(ErrorKind kind, const std::string &what);

  mlir::MLIRContext context;

private:
  Complaints complaints;
};

std::string print(mlir::Operation *op);
/// The parameters that a method declares, with their defaults.
std::map<std::string, std::string> declaredParameters(select::MethodOp method);

} // namespace winnow
