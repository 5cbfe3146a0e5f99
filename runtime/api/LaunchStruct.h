// winnow_shape, winnow_launch_args and winnow_backward_args as the launcher and the compiler
// library's CPU target read them.
#pragma once
#include "runtime/api/winnow.h"
#include "runtime/program/Launcher.h"

namespace winnow {

Result<Shape> toShape(const winnow_shape *given);

/// What a launch is called with; workspace and its size are not part of LaunchArgs.
struct LaunchCall {
  LaunchArgs args;
  void *workspace = nullptr;
  size_t workspaceBytes = 0;
};
/// Error: Usage for structs and phases that are none; whether the rest is right, checkArgs says.
Result<LaunchCall> toLaunchCall(const winnow_launch_args *given);
/// The same of a launch of gradients, Phase::Backward.
Result<LaunchCall> toLaunchCall(const winnow_backward_args *given);

} // namespace winnow
