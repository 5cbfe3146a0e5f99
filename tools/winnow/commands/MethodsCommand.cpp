// `winnow methods`: the built-in methods, the text of one of them, or what a region may hold.
#include "compiler/driver/Compile.h"
#include "dialect/select/RegionOps.h"
#include "runtime/Printable.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/help.inc"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {

void addMethodsCommand(CLI::App &app, Session &session) {
  CLI::App *command = app.add_subcommand("methods", "Lists the built-in methods, or prints one");
  command->footer(kMethodsHelp);
  auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, "Print the text of this method");
  auto ops = std::make_shared<bool>(false);
  command->add_flag("--ops", *ops, "List the ops of a 'rewrite' region");
  setBody(*command, session, [&session, name, ops]() -> Status {
    if (*ops) {
      nlohmann::json list = nlohmann::json::array();
      for (const RegionOp &op : regionOps())
        list.push_back({{"name", op.name},
                        {"types", signaturesOf(op)},
                        {"meaning", op.meaning},
                        {"cuda", op.cuda}});
      fmt::print("{}", session.json ? list.dump(2) + "\n" : regionOpsText());
      return {};
    }
    if (!name->empty()) {
      WINNOW_TRY(MethodInfo method, loadMethod(*name));
      if (session.json)
        printJson(nlohmann::json{{"name", method.name}, {"text", method.text}});
      else
        fmt::print("{}", printable(method.text));
      return {};
    }
    if (builtinMethods().empty())
      return fail(ErrorKind::Unsupported, "this build has no compiler and so no method texts");
    nlohmann::json list = nlohmann::json::array();
    Table table({"method", "what it does"});
    for (const MethodInfo &method : builtinMethods()) {
      table.add({method.name, method.description});
      list.push_back({{"name", method.name}, {"description", method.description}});
    }
    if (session.json)
      printJson(list);
    else
      fmt::print("{}", table.text());
    return {};
  });
}

} // namespace winnow
