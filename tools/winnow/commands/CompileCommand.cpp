// `winnow compile`: from a method to any stage of the way: printable texts, PTX, cubins, or a
// program image.
#include "runtime/cache/Files.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

namespace winnow {
namespace {

const std::vector<std::string> kTextStages = {"select", "kernels", "tile", "cuda"};
const std::vector<std::string> kAllStages = {"select", "kernels", "tile", "cuda",
                                             "ptx",    "cubin",   "image"};

class CompileCommand {
public:
  CompileCommand(CLI::App &command, Session &session) : session(session) {
    flags.addTo(command);
    flags.addTargetFlags(command, "sm_80,sm_89,sm_90a");
    flags.addTunedFlags(command, /*withHints=*/true);
    command
        .add_option("--emit", emit,
                    "select, kernels, tile, cuda, ptx, cubin, image or all; separated by commas")
        ->check(listOf());
    command
        .add_option("-o,--output", directory,
                    "Folder for the emitted files; made if it does not exist")
        ->needs("--emit");
    command.add_flag("--print-key", printKey, "Print the cache key of each architecture and stop")
        ->excludes("--emit");
    command.add_flag("--no-cache", noCache, "Compile even if the cache has it, and store nothing");
  }

  Status run() {
    WINNOW_TRY(CompileRequest parsed, flags.request());
    request = parsed;
    WINNOW_TRY(std::vector<std::string> archs, flags.architectures());
    WINNOW_CHECK(chooseStages());
    const Cache files;
    TunedConfigs tuned(flags.tunes(), noCache ? nullptr : &files);
    for (const std::string &arch : archs) {
      request = parsed;
      request.arch = arch;
      choice = tuned.fill(request, flags.workload, flags.deviceName);
      object["tuned"][arch] = choiceJson(choice);
      WINNOW_CHECK(printKey ? keyOf() : compileOne());
    }
    return finish();
  }

private:
  bool wants(const std::string &stage) const {
    return std::find(stages.begin(), stages.end(), stage) != stages.end();
  }

  Status chooseStages() {
    for (const std::string &stage : splitList(emit)) {
      if (stage == "all")
        stages = kAllStages;
      else if (std::find(kAllStages.begin(), kAllStages.end(), stage) != kAllStages.end())
        stages.push_back(stage);
      else
        return fail(ErrorKind::Usage, fmt::format("--emit {}: known are {}, all", stage,
                                                  fmt::join(kAllStages, ", ")));
    }
    bool onlyText = std::all_of(stages.begin(), stages.end(), [](const std::string &stage) {
      return stage == "ptx" ||
             std::find(kTextStages.begin(), kTextStages.end(), stage) != kTextStages.end();
    });
    if (directory.empty() && !onlyText)
      return fail(ErrorKind::Usage, "--emit cubin, image and all write files: name a folder by -o");
    if (!directory.empty() && ::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST)
      return fail(ErrorKind::Usage,
                  fmt::format("cannot make the folder {}: {}", directory, std::strerror(errno)));
    return {};
  }

  Status keyOf() {
    if (Status status = isServed(request); !status) // a key names what can be built
      return status;
    WINNOW_TRY(std::string key, programKey(request));
    if (session.json)
      object["keys"][request.arch] = key;
    else
      fmt::print("{} {}\n", request.arch, key);
    return {};
  }

  Status compileOne() {
    bool texts = std::any_of(kTextStages.begin(), kTextStages.end(),
                             [&](const std::string &s) { return wants(s); });
    if (texts)
      WINNOW_CHECK(emitTexts());
    if (wants("ptx"))
      WINNOW_CHECK(emitPtx());
    bool cubins = wants("cubin") || wants("image") || stages.empty();
    return cubins ? emitBinaries() : Status{};
  }

  Status emitTexts() {
    WINNOW_TRY(auto lowered, lowerProgram(request));
    object["mlir_ms"][request.arch] = lowered.first.mlirMs;
    for (const StageText &stage : lowered.second) {
      if (!wants(stage.stage))
        continue;
      std::string extension = stage.stage == "cuda" ? "cu" : stage.stage + ".mlir";
      std::string kernel = stage.kernel.empty() ? "" : "." + stage.kernel;
      if (Status status = put(fmt::format("{}{}.{}", request.arch, kernel, extension), stage.text);
          !status)
        return status;
    }
    return {};
  }

  Status emitPtx() {
    CompileRequest virtualRequest = request;
    virtualRequest.form = CodeForm::Ptx;
    WINNOW_TRY(ProgramImage image, compileProgram(virtualRequest));
    for (const Kernel &kernel : image.kernels)
      if (Status status = put(fmt::format("{}.{}.ptx", request.arch, kernel.name), kernel.cubin);
          !status)
        return status;
    return {};
  }

  Status emitBinaries() {
    CacheOptions options = noCache ? CacheOptions{} : defaultCacheOptions();
    Cache cache(options);
    WINNOW_TRY(ObtainedProgram program, obtainProgram(request, cache));
    if (wants("cubin"))
      for (const Kernel &kernel : program.image->kernels)
        if (Status status =
                put(fmt::format("{}.{}.cubin", request.arch, kernel.name), kernel.cubin);
            !status)
          return status;
    if (wants("image")) {
      std::string path =
          fmt::format("{}/{}.{}.winnow", directory, program.image->method, request.arch);
      WINNOW_CHECK(saveImageFile(*program.image, path));
      object["files"].push_back(path);
      say("wrote " + path);
    }
    programs.push_back(std::move(program));
    choices.push_back(choiceText(choice, programs.back().image->selectHeads > 0));
    return {};
  }

  /// One emitted file, or text on stdout without a folder.
  Status put(const std::string &name, const std::string &content) {
    if (directory.empty()) {
      if (session.json)
        object["texts"][name] = content;
      else
        fmt::print("// ---- {} ----\n{}\n", name, content);
      return {};
    }
    std::string path = directory + "/" + name;
    WINNOW_CHECK(publishFile(systemFiles(), path, content));
    object["files"].push_back(path);
    say("wrote " + path);
    return {};
  }

  Status finish() {
    if (!session.json) {
      if (!programs.empty())
        fmt::print("{}\n{}", programTable(programs), factTable(programs));
      for (size_t i = 0; i < programs.size(); ++i) {
        const ObtainedProgram &program = programs[i];
        say(fmt::format("{}: {} ({}; MLIR {}); tunables: {}", program.image->arch,
                        durationText(program.milliseconds),
                        program.cacheHit ? "from the cache" : "compiled",
                        durationText(program.image->mlirMs), choices[i]));
      }
      return {};
    }
    for (const ObtainedProgram &program : programs)
      for (const Kernel &kernel : program.image->kernels)
        object["kernels"].push_back({{"kernel", kernel.name},
                                     {"arch", program.image->arch},
                                     {"registers", kernel.registers},
                                     {"spill_bytes", kernel.spillBytes},
                                     {"shared_bytes", kernel.sharedBytes},
                                     {"static_shared_bytes", kernel.staticSharedBytes},
                                     {"facts", factsJson(kernel.facts)},
                                     {"compile_ms", kernel.compileMs},
                                     {"key", program.image->key},
                                     {"program_ms", program.milliseconds},
                                     {"mlir_ms", program.image->mlirMs},
                                     {"cache", program.cacheHit ? "hit" : "miss"}});
    printJson(object);
    return {};
  }

  CompileRequest request;
  std::vector<std::string> stages;
  ChosenConfig choice; ///< of `request`
  std::vector<ObtainedProgram> programs;
  std::vector<std::string> choices; ///< in words, one per program
  nlohmann::json object = nlohmann::json::object();

  Session &session;
  ProgramFlags flags;
  std::string emit, directory;
  bool printKey = false, noCache = false;
};

} // namespace

void addCompileCommand(CLI::App &app, Session &session) {
  CLI::App *command =
      app.add_subcommand("compile", "Compiles a method for GPU architectures, to any stage");
  command->footer(kCompileHelp);
  auto state = std::make_shared<CompileCommand>(*command, session);
  setBody(*command, session, [state] { return state->run(); });
}

} // namespace winnow
