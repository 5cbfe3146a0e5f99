// Prints launch recipes. Structured bindings name every field, so that a new one does not compile
// until it is printed here or said not to matter to a launch.
#include "tests/compiler/RecipeText.h"
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {
namespace {

std::string text(const Buffer &buffer) {
  const auto &[name, bytes] = buffer;
  return fmt::format("buffer {}: {} bytes\n", name, bytes);
}

std::string text(const TensorMapRecipe &map, size_t index) {
  const auto &[tensor, extents, strides, box] = map;
  return fmt::format("map {}: of {}, extents [{}], strides [{}] bytes, box [{}]\n", index, tensor,
                     fmt::join(extents, ", "), fmt::join(strides, ", "), fmt::join(box, ", "));
}

} // namespace

std::string recipeText(const Kernel &kernel) {
  const auto &[name, step, when, gridX, gridY, inClusters, cooperative, blockThreads, sharedBytes,
               perChunk, early, facts, registers, spillBytes, staticSharedBytes, compileMs, cubin,
               source] = kernel;
  // Facts about the code, and the code.
  (void)facts, (void)registers, (void)spillBytes, (void)staticSharedBytes, (void)compileMs,
      (void)cubin, (void)source;
  return fmt::format("kernel {}: step {}, {}\n"
                     "  when {}\n"
                     "  grid ({}, {}){}\n"
                     "  block of {} threads, {} bytes of shared memory{}\n",
                     name, step, perChunk ? "once per chunk" : "once", when, gridX, gridY,
                     inClusters    ? ", in clusters"
                     : cooperative ? ", all at the same time"
                                   : "",
                     blockThreads, sharedBytes, early ? ", started early" : "");
}

std::string sharedRecipeText(const ProgramImage &image) {
  const auto &[method, key, ingredients, arch, spec, defaults, config, selectHeads, denseLength,
               parts, cluster, decodeStep, scoreStride, chunkTokens, backwardChunkTokens, buffers,
               backwardBuffers, tensorMaps, backwardMaps, summaries, kernels, mlirMs] = image;
  // The name, where the program comes from, and the time that it took.
  (void)method, (void)key, (void)ingredients, (void)arch, (void)spec, (void)defaults, (void)config,
      (void)mlirMs, (void)summaries;
  std::string out = fmt::format("select_heads: {}\nscore_stride: {}\nchunk_tokens: {}\n",
                                selectHeads, scoreStride, chunkTokens);
  if (!denseLength.empty())
    out += fmt::format("dense_length: {}\n", denseLength);
  if (!parts.empty())
    out += fmt::format("parts: {}\n", parts);
  if (!cluster.empty())
    out += fmt::format("cluster: {}\n", cluster);
  if (!decodeStep.empty())
    out += fmt::format("step: {}\n", decodeStep);
  if (!backwardChunkTokens.empty())
    out += fmt::format("backward_chunk_tokens: {}\n", backwardChunkTokens);
  for (const Buffer &buffer : buffers)
    out += text(buffer);
  for (const Buffer &buffer : backwardBuffers)
    out += "backward " + text(buffer);
  for (size_t i = 0; i < tensorMaps.size(); ++i)
    out += text(tensorMaps[i], i);
  for (size_t i = 0; i < backwardMaps.size(); ++i)
    out += "backward " + text(backwardMaps[i], i);
  for (size_t i = 0; i < summaries.size(); ++i)
    out += fmt::format("rows {}: means of {} keys at stride {}\n", i, summaries[i].window,
                       summaries[i].stride);
  out += "order:";
  for (const Kernel &kernel : kernels)
    out += " " + kernel.name;
  return out + "\n";
}

std::string recipeText(const ProgramImage &image) {
  std::string out = sharedRecipeText(image);
  for (const Kernel &kernel : image.kernels)
    out += recipeText(kernel);
  return out;
}

} // namespace winnow
