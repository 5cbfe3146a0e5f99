// See KernelText.h. MLIR's parser forgets the names of values; what an editor asks it for tells
// where each is defined in the text.
#include "compiler/cuda/KernelText.h"
#include "mlir/AsmParser/AsmParser.h"
#include "mlir/AsmParser/AsmParserState.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;

namespace winnow {

/// "%kv_head" as "kv_head"; nothing for a name that the printer made up: "%12", "%c0_i32", "%arg1".
static StringRef givenName(llvm::SMRange range) {
  StringRef name(range.Start.getPointer(), range.End.getPointer() - range.Start.getPointer());
  name.consume_front("%");
  name = name.take_until([](char c) { return c == ':' || c == '#'; });
  if (name.empty() || llvm::isDigit(name[0]))
    return {};
  StringRef rest = name;
  const bool counted = (rest.consume_front("arg") || rest.consume_front("c")) && !rest.empty() &&
                       (llvm::isDigit(rest[0]) || rest[0] == '-');
  return counted || name.starts_with("cst") || name.starts_with("true") || name.starts_with("false")
             ? StringRef()
             : name;
}

static void setName(Value value, llvm::SMRange range) {
  if (StringRef name = givenName(range); !name.empty())
    value.setLoc(NameLoc::get(StringAttr::get(value.getContext(), name), value.getLoc()));
}

OwningOpRef<ModuleOp> parseKernels(MLIRContext &context, StringRef text, StringRef file) {
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text, file), {});
  ParserConfig config(&context, /*verifyAfterParse=*/false);
  AsmParserState state;
  OwningOpRef<ModuleOp> module = ModuleOp::create(UnknownLoc::get(&context));
  if (failed(parseAsmSourceFile(sources, module->getBody(), config, &state)))
    return nullptr;
  // `module { ... }` around the kernels, or the kernels alone.
  if (module->getBody()->getOperations().size() == 1)
    if (auto inner = dyn_cast<ModuleOp>(module->getBody()->front())) {
      inner->remove();
      module = inner;
    }
  for (const AsmParserState::OperationDefinition &definition : state.getOpDefs())
    for (auto [index, group] : llvm::enumerate(definition.resultGroups)) {
      const unsigned end = index + 1 < definition.resultGroups.size()
                               ? definition.resultGroups[index + 1].startIndex
                               : definition.op->getNumResults();
      for (unsigned result = group.startIndex; result < end; ++result)
        setName(definition.op->getResult(result), group.definition.loc);
    }
  for (const AsmParserState::BlockDefinition &definition : state.getBlockDefs())
    for (auto [argument, place] : llvm::zip(definition.block->getArguments(), definition.arguments))
      setName(argument, place.loc);
  if (failed(verify(*module)))
    return nullptr;
  return module;
}

} // namespace winnow
