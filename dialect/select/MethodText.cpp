// Parsing of method texts, and MLIR's complaints about them in plain words.
#include "dialect/select/MethodText.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;

namespace winnow {
namespace {

/// What the values of a type are called, and where they come from.
struct Kind {
  StringRef type, noun, origin;
};
constexpr Kind kKinds[] = {
    {"!select.query", "queries", "they are the method's first input"},
    {"!select.key", "keys", "they are the method's second input"},
    {"!select.value", "values", "they are the method's third input"},
    {"!select.summary", "summaries", "make them with select.summarize"},
    {"!select.lse", "a log-sum-exp", "make it with select.logsumexp"},
    {"!select.scores", "scores", "make them with select.score"},
    {"!select.ids", "block ids", "make them with select.top_k"},
    {"!select.output", "attention output", "make it with select.attend"},
};

const Kind *kindOf(StringRef type) {
  const auto *kind = llvm::find_if(kKinds, [&](const Kind &kind) { return kind.type == type; });
  return kind == std::end(kKinds) ? nullptr : kind;
}

/// One diagnostic: MLIR's words, and the text up to its place.
struct Reported {
  MLIRContext *context;
  std::string words;
  StringRef before, after; ///< of the text, around the place

  /// The op whose operands stand in front of the place.
  StringRef step() const {
    size_t begin = before.rfind("select.");
    StringRef name = begin == StringRef::npos ? "the step" : before.drop_front(begin);
    return name.take_while([](char c) { return llvm::isAlnum(c) || c == '_' || c == '.'; });
  }
  /// The %name at the place.
  StringRef name() const {
    return after.take_while(
        [](char c) { return llvm::isAlnum(c) || StringRef("%_#$.-").contains(c); });
  }
};

/// The words between `begin` and `end` in `text`; empty if they do not stand there.
StringRef between(StringRef text, StringRef begin, StringRef end) {
  size_t from = text.find(begin);
  if (from == StringRef::npos)
    return {};
  text = text.drop_front(from + begin.size());
  size_t to = text.find(end);
  return to == StringRef::npos ? StringRef() : text.take_front(to);
}

std::string wrongType(const Reported &reported) {
  auto [head, types] = StringRef(reported.words).split("prior uses: ");
  auto [wanted, given] = types.split(" vs ");
  wanted = wanted.trim('\''), given = given.trim('\'');
  StringRef name = between(head, "'", "'");
  const Kind *need = kindOf(wanted), *have = kindOf(given);
  if (!need || !have)
    return llvm::formatv("{0} is {1}, and {2} is needed here", name, given, wanted).str();
  return llvm::formatv("{0} takes {1} here, and {2} holds {3}: {4}", reported.step(), need->noun,
                       name, have->noun, need->origin)
      .str();
}

std::string unknownOp(const Reported &reported) {
  StringRef name = between(reported.words, "custom op '", "'");
  if (name.starts_with("arith.") || name.starts_with("math."))
    return llvm::formatv("there is no op {0}", name).str();
  SmallVector<std::string> known;
  for (RegisteredOperationName op : reported.context->getRegisteredOperations())
    if (op.getDialectNamespace() == "select" && op.getStringRef() != "select.method" &&
        op.getStringRef() != "select.kernel" && op.getStringRef() != "select.yield" &&
        op.getStringRef() != "select.attend_backward") // derived, never written
      known.push_back(op.getStringRef().str());
  llvm::sort(known);
  return llvm::formatv("there is no step '{0}'; known are {1}", name, llvm::join(known, ", "))
      .str();
}

/// MLIR's words, or ours where a user would not know what to do.
std::string plain(const Reported &reported) {
  StringRef words = reported.words;
  if (words.contains("expects different type than prior uses"))
    return wrongType(reported);
  if (words.starts_with("custom op '") && words.contains("' is unknown"))
    return unknownOp(reported);
  if (words.contains("not found for custom op '"))
    return unknownOp(reported);
  if (words == "expected operation name in quotes")
    return "a step is expected here (%name = select...), or the brace that closes the method";
  if (words.starts_with("definition of SSA value '")) // used before, as another type
    return llvm::formatv("{0} is taken by a step in front of this one, as something else",
                         between(words, "'", "#"))
        .str();
  if (words.contains("does not dominate this use"))
    return "this step takes what is made only behind it: put the step that makes it in front";
  if (words.contains("use of undeclared SSA value"))
    return llvm::formatv("nothing in front of this is named {0}", reported.name()).str();
  if (words.starts_with("redefinition of SSA value"))
    return llvm::formatv("{0} is the name of an earlier result already: choose another one",
                         between(words, "'", "'"))
        .str();
  if (words.contains("results but was provided"))
    return "a step makes one result: write one name in front of it";
  // "custom op 'select.force' expected 'local'", "'select.force' op needs ..."
  StringRef custom = between(words, "custom op '", "' ");
  if (words.starts_with("custom op '") && !custom.empty()) {
    words = words.drop_front(words.find("' ") + 2);
    if (words.consume_front("expected "))
      return llvm::formatv("{0}: {1} is expected here", custom, words).str();
    return llvm::formatv("{0}: {1}", custom, words).str();
  }
  if (words.consume_front("'") && words.contains("' op ")) {
    auto [op, rest] = words.split("' op ");
    return llvm::formatv("{0}: {1}", op, rest).str();
  }
  return reported.words;
}

/// Offset of a line and column, both from 1.
size_t offsetOf(StringRef text, unsigned line, unsigned column) {
  size_t offset = 0;
  for (unsigned i = 1; i < line && offset != StringRef::npos; ++i)
    offset =
        text.find('\n', offset) == StringRef::npos ? StringRef::npos : text.find('\n', offset) + 1;
  return offset == StringRef::npos ? text.size() : std::min(text.size(), offset + column - 1);
}

constexpr StringRef kUnsupported = "unsupported";

} // namespace

std::string place(Operation *op) { return place(op->getLoc()); }

std::string place(Location location) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  if (auto file = location->findInstanceOf<FileLineColLoc>())
    stream << file.getFilename().getValue() << ":" << file.getLine() << ":" << file.getColumn();
  else
    stream << location;
  return text;
}

Complaints::Complaints(MLIRContext &context, StringRef text)
    : text(text), handler(&context, [this, &context](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() != DiagnosticSeverity::Error || !complaint.empty())
          return success();
        Reported reported{&context, diagnostic.str(), {}, {}};
        auto file = diagnostic.getLocation()->findInstanceOf<FileLineColLoc>();
        if (file) {
          size_t offset = offsetOf(this->text, file.getLine(), file.getColumn());
          reported.before = this->text.take_front(offset);
          reported.after = this->text.drop_front(offset);
          complaint = place(file) + ": ";
        }
        complaint += plain(reported);
        for (DiagnosticArgument &mark : diagnostic.getMetadata())
          unsupported |= mark.getKind() == DiagnosticArgument::DiagnosticArgumentKind::String &&
                         mark.getAsString() == kUnsupported;
        return success();
      }) {}

void markUnsupported(InFlightDiagnostic &error) {
  error.getUnderlyingDiagnostic()->getMetadata().push_back(DiagnosticArgument(kUnsupported));
}

ParsedMethod parseMethod(MLIRContext &context, StringRef text, StringRef file) {
  ParsedMethod parsed;
  Complaints complaints(context, text);
  auto refused = [&](const std::string &otherwise) {
    parsed.complaint = complaints.first().empty() ? otherwise : complaints.first();
    parsed.unsupported = complaints.isUnsupported();
    parsed.method = nullptr;
    return std::move(parsed);
  };
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text, file), llvm::SMLoc());
  // Verified below, once it is known that there is one method.
  parsed.module =
      parseSourceFile<ModuleOp>(sources, ParserConfig(&context, /*verifyAfterParse=*/false));
  if (!parsed.module)
    return refused(file.str() + ": this is no method's text");
  auto methods = parsed.module->getOps<select::MethodOp>();
  const auto count = std::distance(methods.begin(), methods.end());
  if (count != 1)
    return refused(
        llvm::formatv("{0}: a method file holds exactly one select.method, not {1}", file, count)
            .str());
  parsed.method = *methods.begin();
  if (failed(verify(*parsed.module)))
    return refused(file.str() + ": this is no method's text");
  parsed.method.walk([&](select::KernelOp kernel) {
    kernel.emitError("select.kernel is made by the compiler: write its steps without it");
  });
  if (!complaints.first().empty())
    return refused({});
  return parsed;
}

} // namespace winnow
