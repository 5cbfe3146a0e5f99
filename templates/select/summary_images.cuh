// Summaries as ready-made tiles: what score on warpgroups multiplies, written by summarize. A tile
// image holds 128 summary rows exactly as they lie in a PanelTile, so that one bulk copy brings it
// in. Its rows are in the order of summary_order.cuh. Per key/value head
// there are total_k / (128 kStride) + batch images; those of sequence s begin at image
// cu_k[s] / (128 kStride) + s, so that sequences never share one.
#pragma once
#include "winnow/summarize.cuh"
#include "winnow/summary_order.cuh"
#include "winnow/warpgroup.cuh"

// Images of one sequence and key/value head.
template <class T, int kDim> struct SummaryImages {
  using Tile = PanelTile<128, kDim, T>;
  unsigned char *first;
};

// The images of the tile's sequence. `buffer`: [kv_heads, images of a head] images.
template <class T, int kDim, int kStride>
__device__ __forceinline__ SummaryImages<T, kDim> images_of(void *buffer, int kv_head, int total_k,
                                                            int batch, const TokenTile &tile) {
  const long long image = static_cast<long long>(kv_head) * (total_k / (128 * kStride) + batch) +
                          tile.k_row / (128 * kStride) + tile.sequence;
  return {static_cast<unsigned char *>(buffer) + image * SummaryImages<T, kDim>::Tile::kBytes};
}

// The address of elements [8 chunk, 8 chunk + 8) of summary `row`.
template <class T, int kDim>
__device__ __forceinline__ unsigned char *image_words(const SummaryImages<T, kDim> &images, int row,
                                                      int chunk) {
  using Tile = typename SummaryImages<T, kDim>::Tile;
  return images.first + static_cast<long long>(row / 128) * Tile::kBytes +
         Tile::offset(image_row(row % 128), chunk);
}

// These elements = sums / count * factor, rounded to T.
template <class T, int kDim>
__device__ __forceinline__ void store_image_row(const SummaryImages<T, kDim> &images, int row,
                                                int chunk, const ChannelSums &sums, float count,
                                                float factor) {
  *reinterpret_cast<uint4 *>(image_words(images, row, chunk)) = mean_words<T>(sums, count, factor);
}

// sums += these elements.
template <class T, int kDim>
__device__ __forceinline__ void add_row(ChannelSums &sums, const SummaryImages<T, kDim> &images,
                                        int row, int chunk) {
  add_words<T>(sums, *reinterpret_cast<const uint4 *>(image_words(images, row, chunk)));
}

// Starts copying image `index` into the tile; by one thread.
template <class T, int kDim>
__device__ __forceinline__ void copy_image(const PanelTile<128, kDim, T> &tile,
                                           const SummaryImages<T, kDim> &images, int index,
                                           unsigned barrier) {
  copy_bytes(tile.base, images.first + static_cast<long long>(index) * tile.kBytes, tile.kBytes,
             barrier);
}
