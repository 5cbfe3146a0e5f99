/* The one argument of every generated kernel, passed by value: shared by host and device, so that
 * what the launcher writes is what the kernel reads. Plain C types only; NVRTC and the host
 * compiler both read this file.
 *
 * Shapes: q [total_q, heads, head_dim], k [total_k, kv_heads, head_dim], v [total_k, kv_heads,
 * value_dim], out [total_q, heads, value_dim], lse [heads, total_q] fp32, ids [select_heads,
 * total_q, topk] int32 (select_heads = kv_heads, or heads where a method selects per query head).
 * Ragged batches: cu_q and cu_k hold batch + 1 cumulative lengths (int32, device memory). A query
 * at index t of its segment has absolute position (k length
 * - q length) + t. */
#ifndef WINNOW_TEMPLATES_PARAMS_H
#define WINNOW_TEMPLATES_PARAMS_H

#define WINNOW_MAX_BUFFERS 8
#define WINNOW_MAX_TENSOR_MAPS 8
#define WINNOW_MAX_ROWS 2 /* summaries that a host keeps */

/* A tensor map of the bulk tensor copies (TMA), as the driver encodes it: CUtensorMap, opaque. */
struct __attribute__((aligned(128))) TensorMap {
  unsigned long long words[16];
};

struct Params {
  struct TensorMap map[WINNOW_MAX_TENSOR_MAPS]; /* in the order of the program's metadata */
  const void *q;
  const void *k;
  const void *v;
  void *out;  /* may be null when only the selection is wanted */
  float *lse; /* may be null */
  int *ids;   /* written by the selection kernels, read by attend */
  const int *cu_q;
  const int *cu_k;
  void *buffer[WINNOW_MAX_BUFFERS]; /* workspace buffers, in the order of the program's metadata */
  int batch;
  int total_q;
  int total_k;
  int max_q;       /* longest query segment */
  int max_k;       /* longest key sequence, in tokens */
  int token_begin; /* selection runs over [token_begin, token_end) of total_q: one chunk of the
                      workspace */
  int token_end;
  int score_stride; /* elements of one row of block scores (see the score buffer's formula) */

  int parts;   /* blocks of threads that share one token at decode; ranges of tokens of gradients */
  int selects; /* 1: ids are written by this launch, forced blocks among them; 0: by the caller */

  /* Read by programs whose spec is `paged`; strides in elements. There max_k stands for the room of
   * one sequence: sequence s has the summaries of keys [s max_k, (s + 1) max_k), and total_k is
   * batch max_k. */
  const int *seq_k;      /* keys of each sequence; null: from cu_k */
  const int *page_table; /* null: sequence s begins at token cu_k[s] */
  const int *k_begin;    /* tokens before a sequence's first key; null: none */
  long long page_table_stride;
  long long q_stride[2], out_stride[2]; /* token, head */
  long long k_stride[3], v_stride[3];   /* page, token, head */
  int page_size;
  unsigned page_magic; /* slot / page_size = slot * page_magic >> page_shift, slot below 2^31 */
  int page_shift;
  int box_rows; /* rows of keys that one bulk copy brings, a multiple of 8; 0: none can be brought
                   so */

  /* The summaries that the host keeps, in the order of the program's; null: none. Row j of window W
   * and stride S lies in slot j + (W - 1) / S of its sequence, the slot in which its last key's
   * token lies too, so that a page of rows depends on nothing behind its own end. */
  void *rows[WINNOW_MAX_ROWS];
  const int *rows_table; /* pages of rows; null: page_table, and without one sequence s is page s */
  long long rows_table_stride;
  long long rows_stride[WINNOW_MAX_ROWS][3]; /* page, row, head */
  int rows_page[WINNOW_MAX_ROWS];            /* rows of a page, and what divides by them */
  unsigned rows_magic[WINNOW_MAX_ROWS];
  int rows_shift[WINNOW_MAX_ROWS];

  /* Read by programs whose keys are fp8: [kv_heads] what turns stored elements into true ones;
   * null: 1. */
  const float *k_scale, *v_scale;

  /* Read by programs whose dense_len is `auto`: sequences with fewer keys attend to every key. */
  int dense_length;

  int step; /* tiles of 32 summaries of a chunk, where a decode step is one launch; else 0 */

  /* Of launches of gradients alone, which read out and lse: gradients of out, q, k and v, each like
   * its tensor. */
  const void *dout;
  void *dq, *dk, *dv;
};

#endif
