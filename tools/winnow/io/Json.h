// How every command prints JSON. Paths and names may hold any bytes, JSON holds UTF-8 alone: what
// is none becomes the replacement character, in this one place.
#pragma once
#include "runtime/program/KernelFacts.h"
#include <cstdio>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>

namespace winnow {

/// A JSON value (of either order of members) as text; indent < 0: on one line.
template <typename Json> std::string textOf(const Json &value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

/// The facts that a kernel has, by name.
inline nlohmann::json factsJson(const KernelFacts &facts) {
  nlohmann::json object = nlohmann::json::object();
  for (const FactField &field : factFields())
    if (const KernelFacts::Fact &fact = facts.*field.member)
      object[field.name] = *fact;
  return object;
}

/// The one value that --json puts on stdout.
template <typename Json> void printJson(const Json &value, int indent = 2) {
  fmt::print("{}\n", textOf(value, indent));
}

} // namespace winnow
