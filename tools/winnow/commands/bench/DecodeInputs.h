// Inputs of `winnow bench decode`: a batch of sequences over a pool of pages, as an engine decodes
// them. Every sequence reads the same structured text (BenchInputs) with queries of its own, and
// has its keys in pages of its own at random places, so host memory holds one text whatever the
// batch.
#pragma once
#include "reference/conformance/Layout.h"
#include "tools/winnow/commands/bench/BenchInputs.h"
#include <algorithm>
#include <optional>

namespace winnow {

/// What one row of the benchmark decodes.
struct DecodeShape {
  int batch = 1, keys = 0; ///< sequences, and keys of the longest one
  int queries = 1;         ///< tokens of each sequence, its last ones
  bool ragged = false;     ///< lengths spread between keys / 4 and keys
  int pageRun = 1;         ///< pages that lie beside each other
};

class DecodeInputs {
public:
  /// `text` has at least shape.keys tokens and outlives this. `pageSize`: tokens, for layouts with
  /// pages.
  DecodeInputs(const Spec &spec, const DecodeShape &shape, Layout layout, int pageSize,
               const BenchInputs &text);

  /// Places of the pages (PageOrder.h): another order for each set of tensors. Empty for a layout
  /// without pages.
  std::vector<int32_t> table(int set) const;
  /// Fills `count` parts of the pool from `first` on, of keys or (where they lie apart) values;
  /// rows that belong to no sequence become NaN, and fp8 takes a word for each element. A part is a
  /// page or, without pages, a sequence.
  void fill(const std::vector<int32_t> &table, bool values, int first, int count,
            uint16_t *words) const;
  int parts() const;
  /// Elements of a part.
  int64_t partElements(bool values, int part) const;
  /// The element of the pool at which a part begins.
  int64_t partBegin(bool values, int part) const;
  int64_t elements(bool values) const { return partBegin(values, parts()); }

  /// One sequence as the reference reads it; its queries lie in `q`.
  reference::Problem sequence(int s) const;
  /// Block lists for all of them: [select_heads, total_q, topk], neighbours as `overlappingIds`
  /// makes them.
  std::vector<int32_t> ids(const reference::Method &method, int overlap) const;
  /// Bytes that a launch reads by definition: the keys and values of the blocks that `ids` selects
  /// for any query, once per sequence and KV head; with `summaries` also those that are scored.
  double bytesRead(const reference::Method &method, const int32_t *ids, bool summaries) const;
  /// About as many, before anything is selected.
  double bytesExpected(const reference::Method &method) const;

  int longest() const { return *std::max_element(lengths.begin(), lengths.end()); } ///< keys

  reference::Problem problem;           ///< numbers, lengths and queries; no keys
  std::vector<int32_t> lengths, kBegin; ///< the latter may be empty
  PagePool pool;
  int64_t tableStride = 0;

private:
  int pagesOf(int sequence) const;
  double rowBytes() const; ///< of a key and its value, of one KV head

  const BenchInputs &text;
  Layout layout;
  int pageRun;
  std::vector<uint16_t> q;
};

} // namespace winnow
