// A method's text as its author meets it: parsed with the name of its file, and what is wrong with
// it said in plain words at its place. The one door for everybody who reads such texts.
#pragma once
#include "dialect/select/Select.h"
#include <string>

namespace winnow {

/// "file:line:column" of a location or an op, for messages.
std::string place(mlir::Location location);
std::string place(mlir::Operation *op);

/// Keeps the first error that a context reports while it lives, in plain words: MLIR's own wording
/// is replaced where it would not say what to do.
class Complaints {
public:
  /// `text`: what the locations point into, if there is one; it outlives this.
  explicit Complaints(mlir::MLIRContext &context, llvm::StringRef text = {});
  /// "file:line:column: what is wrong"; empty where nothing is.
  const std::string &first() const { return complaint; }
  /// Whether it is sound, but more than Winnow serves.
  bool isUnsupported() const { return unsupported; }

private:
  llvm::StringRef text;
  std::string complaint;
  bool unsupported = false;
  mlir::ScopedDiagnosticHandler handler;
};

/// Marks an error as one about something that is not served.
void markUnsupported(mlir::InFlightDiagnostic &error);

struct ParsedMethod {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  select::MethodOp method; ///< the module's only one; null where the text is refused
  std::string complaint;   ///< why
  bool unsupported = false;
};

/// Parses and verifies the one method in `text`; the context has loaded the dialects that it may
/// hold. `file` is the name in messages, as the user knows it.
ParsedMethod parseMethod(mlir::MLIRContext &context, llvm::StringRef text, llvm::StringRef file);

} // namespace winnow
