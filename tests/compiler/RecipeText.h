// A program's launch recipe as text for people: everything that a launch depends on besides the
// kernels' code. Goldens show it, digests are made of it.
#pragma once
#include "runtime/program/ProgramImage.h"

namespace winnow {

/// Of one kernel: step, condition, grid, block, shared memory, chunks.
std::string recipeText(const Kernel &kernel);
/// What the kernels share: their order, heads, score layout, chunks, workspace, tensor maps.
std::string sharedRecipeText(const ProgramImage &image);
/// The whole recipe.
std::string recipeText(const ProgramImage &image);

} // namespace winnow
