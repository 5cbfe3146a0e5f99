/* The C API of Winnow: block-sparse attention kernels, prepared once and launched on the caller's
 * streams.
 *
 * Prepare is slow (it may compile), thread-safe, and builds each program once. Launch never
 * compiles, allocates, synchronises or reads back, and may be captured in a CUDA graph. Handles are
 * opaque; every options struct begins with its own size, so that later versions can add fields
 * (fields beyond the given size count as zero; a size that no version had is refused). Functions
 * return a winnow_status;
 * winnow_last_error() then has one sentence for the calling thread. Device pointers and streams are
 * plain pointers: no CUDA header is needed. */
#ifndef WINNOW_H
#define WINNOW_H
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define WINNOW_API __attribute__((visibility("default")))
#else
#define WINNOW_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Values 1 to 5 are the exit codes of the command line as well. */
typedef enum winnow_status {
  WINNOW_OK = 0,
  WINNOW_INVALID = 2,        /* bad argument, shape, file or method text */
  WINNOW_UNSUPPORTED = 3,    /* legal, but not served by this build or this GPU */
  WINNOW_COMPILE_FAILED = 4, /* the compiler refused */
  WINNOW_DEVICE_FAILED = 5,  /* no driver, no device, or a driver call failed */
  WINNOW_NOT_READY = 6       /* the program was not prepared for this device; or, in replay-only
                                mode, nothing was decided for it */
} winnow_status;

typedef enum winnow_dtype { WINNOW_BF16 = 0, WINNOW_FP16 = 1 } winnow_dtype;

/* Elements of k and v: those of q and out, or fp8 (OCP E4M3: finite but for NaN, up to 448), for
 * `paged` programs on GPUs of compute capability 8.9 and newer, with head_dim and value_dim
 * multiples of 64. Summaries (`rows`) keep the dtype of q. */
typedef enum winnow_kv_dtype { WINNOW_KV_SAME = 0, WINNOW_KV_FP8_E4M3 = 1 } winnow_kv_dtype;

/* Which steps a launch runs: all of those below, appending where `rows` are given; the selection
 * (writes ids); attention over given ids; or the summaries of new keys alone, into `rows`. */
typedef enum winnow_phase {
  WINNOW_ALL = 0,
  WINNOW_SELECT = 1,
  WINNOW_ATTEND = 2,
  WINNOW_APPEND = 3, /* reads k and lengths; needs neither q, v, out, ids nor workspace */
  /* Of winnow_program_rung and winnow_program_time alone: */
  WINNOW_BACKWARD = 4, /* the gradients, which winnow_launch_backward makes */
  WINNOW_DECODE = 5    /* launches of at most 16 query tokens per sequence, all steps of them */
} winnow_phase;

/* Where a prepared program came from. */
typedef enum winnow_origin {
  WINNOW_FROM_MEMORY = 0,
  WINNOW_FROM_DISK = 1,
  WINNOW_COMPILED = 2
} winnow_origin;

/* Where the tunables of a program's phase come from, the surest first. */
typedef enum winnow_rung {
  WINNOW_TUNED_EXACT = 0,        /* measured: this problem on this GPU */
  WINNOW_TUNED_NEAREST = 1,      /* measured on this GPU, for a problem like it */
  WINNOW_TUNED_OTHER_DEVICE = 2, /* measured on another GPU of the architecture */
  WINNOW_TUNED_MODEL = 3,        /* chosen by the performance model; nothing was run */
  WINNOW_TUNED_DEFAULT = 4,      /* the compiler's own choice */
  WINNOW_TUNED_GIVEN = 5         /* set by the caller, or part of an image file */
} winnow_rung;

typedef struct winnow_engine winnow_engine;
typedef struct winnow_program winnow_program;

/* A specialisation of a method. Zero or null fields after kv_heads take the defaults given here. */
typedef struct winnow_spec {
  size_t struct_size;
  const char *method; /* built-in name or path of a method's text */
  int32_t heads;      /* query heads, a multiple of kv_heads */
  int32_t kv_heads;
  int32_t head_dim;   /* elements; 128 */
  int32_t block;      /* tokens per selectable key block; 64 */
  int32_t topk;       /* blocks selected per token; 96 */
  int32_t dtype;      /* winnow_dtype */
  double scale;       /* softmax scale; 0 = head_dim^-0.5 */
  const char *params; /* "NAME=VALUE,NAME=VALUE": the method's own parameters */
  const char *config; /* "attend_warps=8 ...": tunables of the generated kernels. Where none of a
                         phase's (score_*, attend_*, decode_*) is set, they are looked up */
  const char *arch;   /* "sm_80", ...; null = that of the device */
  int32_t value_dim;  /* elements of a value or output row; 0 = head_dim */
  /* Hints for the choice of tunables, never limits; few values are told apart. */
  int32_t expected_overlap; /* over how many tokens a selection turns into a new one; 0 = unknown,
                               32 */
  int64_t expected_tokens;  /* of a typical sequence; 0 = unknown, 131072 */
  int32_t paged;    /* nonzero: launches give strides, lengths per sequence and page tables (see
                       winnow_launch_args); zero: they give packed tensors */
  int32_t reserved; /* zero */
  int32_t kv_dtype; /* winnow_kv_dtype; anything but WINNOW_KV_SAME asks for `paged` */
  int32_t expected_batch; /* a hint as those above: sequences of a launch of decode; 0 = unknown,
                             16 */
  int32_t backward;       /* nonzero: winnow_launch_backward too, not for `paged`; its kernels are
                             compiled beside the others */
  int32_t reserved2;      /* zero */
} winnow_spec;

/* In place of a GPU's index: the program runs on the CPU, by the functions of a compiler that has
 * them (winnow_compiler_load). Tensors lie in host memory; launches take the same arguments, need
 * no workspace, ignore the stream and return when the results are there. */
#define WINNOW_CPU (-1)

/* What a compiler tells of a program on the CPU. */
typedef struct winnow_cpu_program {
  size_t struct_size;
  void *handle;           /* for cpu_launch and cpu_free */
  int32_t select_heads;   /* as winnow_program_select_heads */
  int32_t rows_count;     /* as winnow_rows_count */
  int32_t rows_window[2]; /* as winnow_rows_layout */
  int32_t rows_stride[2];
  const char *dense_length; /* formula of winnow_program_dense_length, which lives as long as
                               `handle`; null or empty: 0 */
} winnow_cpu_program;

typedef struct winnow_launch_args winnow_launch_args;
typedef struct winnow_backward_args winnow_backward_args;

/* A compiler for programs that are not in the cache. Its functions return a winnow_status and
 * report through `sink`, which they call exactly once: with the key (hexadecimal digits) or the
 * bytes of a program image; on failure with the error's sentence. Called from any thread, several
 * at once. `request` is valid during the call; its defaults are filled in and its arch is set. */
typedef void (*winnow_sink)(void *context, const void *bytes, size_t size);
typedef struct winnow_compiler {
  size_t struct_size;
  void *user;
  int (*key)(void *user, const winnow_spec *request, winnow_sink sink, void *context);
  int (*build)(void *user, const winnow_spec *request, winnow_sink sink, void *context);
  /* May be null. Refuses in milliseconds what build would refuse: tuned configurations pass here
   * before they are used. Calls `sink` on failure only. */
  int (*check)(void *user, const winnow_spec *request, winnow_sink sink, void *context);
  /* Of the compiler library: the build of Winnow that it belongs to. A host's own leaves it null.
   */
  const char *build_digest;
  /* Programs on the CPU; all three or none. cpu_load compiles the program of a request without an
   * arch, fills `program` and gives `sink` its key. cpu_launch runs it on arguments that have been
   * checked, at most as many calls at once as the host makes, and calls `sink` on failure only. */
  int (*cpu_load)(void *user, const winnow_spec *request, winnow_cpu_program *program,
                  winnow_sink sink, void *context);
  int (*cpu_launch)(void *user, void *handle, const winnow_launch_args *args, winnow_sink sink,
                    void *context);
  void (*cpu_free)(void *user, void *handle);
  /* The same for gradients; may be null, then programs on the CPU have none. */
  int (*cpu_launch_backward)(void *user, void *handle, const winnow_backward_args *args,
                             winnow_sink sink, void *context);
} winnow_compiler;

/* Gets one line at a time; called from any thread. No function of the host should throw; where one
 * does, the call that led to it fails. */
typedef void (*winnow_log)(void *user, const char *line);

/* A store of programs that the host keeps, as one that all machines of a service share, searched
 * after the cache, its bundles and what is in memory. Programs are known by keys, which a compiler
 * makes: engines without one do not ask. Called from any thread, several at once. */
typedef struct winnow_storage {
  size_t struct_size;
  void *user;
  /* Gives `sink` the bytes stored under `key` (hexadecimal digits), or does nothing where there are
   * none. They hold a digest: what is damaged is not used. */
  void (*load)(void *user, const char *key, winnow_sink sink, void *context);
  /* Keeps the bytes of a program that was compiled, or does not. May be null. */
  void (*store)(void *user, const char *key, const void *bytes, size_t size);
} winnow_storage;

/* Told after each program of winnow_prepare_list: how many of `count` are there, and the method of
 * the last one. Called from any thread, one call at a time. Nonzero cancels: programs that were not
 * begun are WINNOW_NOT_READY. */
typedef int (*winnow_progress)(void *user, size_t done, size_t count, const char *method);

typedef struct winnow_engine_options {
  size_t struct_size;
  const char *cache_dir; /* null: from the environment; "": no cache on disk */
  const winnow_compiler
      *compiler;           /* null: cached kernels only; copied, user must outlive the engine */
  const char *driver_path; /* null: the system's libcuda.so.1 */
  int32_t allow_ptx;       /* nonzero: images may hold PTX, compiled by the driver */
  int32_t no_tuning;       /* nonzero: tunables that a spec leaves open are the compiler's */
  const char *tuned_files; /* tuned configurations beside the shipped ones, separated by ':'; null:
                              from the environment; "": none */
  const char *decisions;   /* from winnow_engine_export_decisions, of this or another process */
  int32_t replay_only;     /* nonzero: nothing is looked up; a program without a decision is
                              WINNOW_NOT_READY */
  int32_t reserved;        /* zero */
  winnow_log log; /* null: warnings go to stderr; told where a program's tunables come from, unless
                     the answer is exact, what is wrong with tuned files or the cache, and for whom
                     a prepare waits */
  void *log_user;
  const void *bundle; /* programs made by `winnow cache export`, in memory that outlives the
                         engine, e.g. in the engine's binary; searched last; null: none */
  size_t bundle_bytes;
  winnow_progress progress; /* null: nobody is told, nothing is cancelled */
  void *progress_user;
  const winnow_storage *storage; /* null: none; copied, user must outlive the engine */
} winnow_engine_options;

/* One kernel of a program on a GPU, as it was compiled. */
typedef struct winnow_kernel_info {
  size_t struct_size;
  const char *name; /* both live as long as the program's handle */
  const char *step; /* "append", "summarize", "score", "top_k", "rescore", "attend", "merge" or
                       "backward" */
  int32_t threads;  /* of a block */
  int32_t registers;
  int32_t spill_bytes;
  int32_t shared_bytes; /* of a block, static and dynamic */
} winnow_kernel_info;

/* How long a phase should take on this GPU: the time in the record that its tunables come from. */
typedef struct winnow_phase_time {
  size_t struct_size;
  double microseconds; /* of one launch over one sequence, all of whose tokens are queries, in
                          packed tensors; of WINNOW_DECODE over `batch` sequences with one query
                          token each, in pages, with kept summaries; 0 = not known: the record is of
                          another problem or another GPU, there is none, or the decision came from
                          elsewhere */
  int32_t tokens;   /* of each sequence: winnow_spec's expected_tokens, in the few values that are
                       told apart */
  int32_t modelled; /* nonzero: an estimate of the performance model; nothing was run */
  int32_t batch;    /* of WINNOW_DECODE: winnow_spec's expected_batch, likewise; else 1; as all of
                       these 0 where the time is not known */
} winnow_phase_time;

/* What prepare did since the engine was created. */
typedef struct winnow_counters {
  size_t struct_size;
  uint64_t builds;      /* programs compiled */
  uint64_t disk_hits;   /* found in the cache */
  uint64_t memory_hits; /* prepared before in this process */
  uint64_t refused;     /* would have had to be compiled after winnow_engine_seal */
} winnow_counters;

/* Sizes of one call; all counts in tokens, below 2^31. */
typedef struct winnow_shape {
  size_t struct_size;
  int32_t batch;   /* sequences */
  int32_t total_q; /* query tokens of all sequences */
  int32_t total_k; /* key tokens of all sequences. For programs whose spec is `paged`: of launches
                    * without a page table how many tokens of k and v may be read, cu_k's last
                    * entry (0: not known, attention is slower then); of others not read */
  int32_t max_q;   /* longest query segment, or an upper bound */
  int32_t max_k;   /* longest key sequence, or an upper bound */
} winnow_shape;

/* Device pointers of one call. q [total_q, heads, head_dim], k [total_k, kv_heads, head_dim],
 * v [total_k, kv_heads, value_dim], out [total_q, heads, value_dim]: 16-byte aligned, in the spec's
 * dtype. lse [heads, total_q] fp32, natural logarithm, may be null. ids [select_heads, total_q,
 * topk] int32, ascending, -1 padding. cu_q, cu_k: batch + 1 cumulative lengths, int32. */
struct winnow_launch_args {
  size_t struct_size;
  const void *q;
  const void *k;
  const void *v;
  void *out;
  float *lse;
  int32_t *ids;
  const int32_t *cu_q;
  const int32_t *cu_k;
  const winnow_shape *shape;
  int32_t phase; /* winnow_phase */
  void *
      workspace; /* 256-byte aligned device memory, in use until the stream has passed the launch */
  size_t workspace_bytes; /* at least winnow_workspace_size() */

  /* From here on: for programs whose spec is `paged`, for all others zero. Strides in elements, the
   * innermost dimension is contiguous, every stride is a multiple of 8; 0 = packed. */
  int64_t q_stride[2];       /* token, head */
  int64_t out_stride[2];     /* token, head */
  int64_t k_stride[3];       /* page, token, head; without a page table the page's is not used */
  int64_t v_stride[3];       /* likewise. K and V may be halves of one row, or of one page */
  const int32_t *seq_k;      /* [batch] keys of each sequence, new ones included; null: from cu_k */
  const int32_t *page_table; /* [batch, page_table_stride] pages of each sequence; entries behind
                                ceil((k_begin + seq_k) / page_size) are not read; null: sequence s
                                begins at token cu_k[s] of k and v */
  int64_t page_table_stride;
  const int32_t *k_begin; /* [batch] tokens of the sequence's first page that come before its first
                             key (left padding); null = 0 */
  int32_t page_size;      /* tokens, any number from 1 on; a page may be a whole row of a batch */
  int32_t reserved;       /* zero */

  /* The summaries that the host keeps from launch to launch, one tensor for each index of
   * winnow_rows_layout, all or none: dtype and head_dim of the keys, 16-byte aligned, strides
   * multiples of 8. Row j of windows of W keys at stride S lies in slot j + (W - 1) / S of its
   * sequence; the slots before it are not used. The new keys of a sequence are the last ones, as
   * many as it has queries: appending finishes each row whose last key is among them and writes
   * nothing else, so keys that are replaced (drafts) are appended once more. */
  void *rows[2];
  int64_t rows_stride[2][3]; /* of each: page, slot, head. 0 = packed [page, slot, kv_heads,
                                head_dim]; a page's alone: what slots and heads take together */
  /* Which page holds slot i of sequence s:
   *   with rows_table [batch, rows_table_stride], page rows_table[s][i], which is that one slot;
   *     entries of slots without rows are not read;
   *   else with page_table, slot i % n of page page_table[s][i / n], n = page_size / S; page_size
   *     must be a multiple of S. With k_begin only where one page holds a whole sequence, since
   *     slots count from the first key;
   *   else slot i of page s, packed pages of ceil(max_k / S) slots. Give the page's stride where
   *     max_k changes from launch to launch. */
  const int32_t *rows_table;
  int64_t rows_table_stride;

  /* For programs whose kv_dtype is fp8, for all others null: [kv_heads] fp32 in device memory, read
   * by the launch. The true keys and values of a head are the stored ones times its number, which
   * is above 0; null: times 1. Strides of k and v are multiples of 16 there. Summaries are made of
   * true keys, lse is that of true logits. */
  const float *k_scale;
  const float *v_scale;
};

/* Pointers of one call for gradients, packed and aligned as those of winnow_launch_args: what the
 * attention had and gave, the gradient of its output, and where those of q, k and v go. The
 * selection carries none: it is the one of `ids`, and keys that no query attended to get exact
 * zeros. Sums run in fp32 and in a fixed order: the same arguments give the same bits. */
struct winnow_backward_args {
  size_t struct_size;
  const void *q;
  const void *k;
  const void *v;
  const void *out;    /* as winnow_launch has written it, and lse as well */
  const float *lse;   /* not null */
  const int32_t *ids; /* null where the program selects nothing */
  const void *dout;   /* like out */
  void *dq;           /* like q */
  void *dk;           /* like k, its total_k tokens */
  void *dv;           /* like v, likewise */
  const int32_t *cu_q;
  const int32_t *cu_k;
  const winnow_shape *shape;
  void *workspace;
  size_t workspace_bytes; /* at least winnow_backward_workspace_size() */
};

/* The version of this library, "MAJOR.MINOR.PATCH". */
WINNOW_API const char *winnow_version(void);
/* One sentence about the last failure on this thread; "" when there was none. Valid until the next
 * call on it. */
WINNOW_API const char *winnow_last_error(void);

/* The compiler for winnow_engine_options: opens libwinnow_compiler.so at `path`; where that is
 * null, at the path in the environment variable WINNOW_COMPILER_LIBRARY, else beside this library,
 * else by name as the system's loader finds it. The library stays open, `compiler` lives as long as
 * the process. WINNOW_UNSUPPORTED where there is none, or one of another build of Winnow. */
WINNOW_API winnow_status winnow_compiler_load(const char *path, const winnow_compiler **compiler);

/* Opens the driver and the cache. `options` may be null. With a compiler that serves the CPU there
 * need be no driver: what it lacks is said by the first prepare for a GPU. */
WINNOW_API winnow_status winnow_engine_create(const winnow_engine_options *options,
                                              winnow_engine **engine);
/* Programs stay usable until they are destroyed themselves. Null is allowed. */
WINNOW_API void winnow_engine_destroy(winnow_engine *engine);

/* Compiles or loads the program for `device` (index among the visible GPUs, or WINNOW_CPU).
 * `origin` may be null. */
WINNOW_API winnow_status winnow_prepare(winnow_engine *engine, const winnow_spec *spec,
                                        int32_t device, winnow_program **program,
                                        winnow_origin *origin);
/* Prepares `count` programs, several at a time. `specs` is an array with one struct_size;
 * `programs` (may be null) receives a handle per spec, null where that one failed. The status and
 * the sentence are those of the first spec that failed; all others are prepared nevertheless. */
WINNOW_API winnow_status winnow_prepare_list(winnow_engine *engine, const winnow_spec *specs,
                                             size_t count, int32_t device,
                                             winnow_program **programs);
/* From now on this engine compiles nothing: prepare still serves what is in memory or in the cache,
 * and returns WINNOW_NOT_READY for everything else. */
WINNOW_API winnow_status winnow_engine_seal(winnow_engine *engine);
/* Fills `counters`, of which only struct_size need be set. */
WINNOW_API winnow_status winnow_engine_counters(const winnow_engine *engine,
                                                winnow_counters *counters);
/* Loads the program of an image file, made by `winnow compile --emit image`. */
WINNOW_API winnow_status winnow_prepare_image(winnow_engine *engine, const char *path,
                                              int32_t device, winnow_program **program);
/* One kernel of a program image. Pointers are valid during the call that hands them out. */
typedef struct winnow_kernel_code {
  size_t struct_size;
  const char *name; /* entry point */
  const void *code; /* a cubin (ELF), or PTX text */
  size_t code_bytes;
  const char *source; /* the CUDA text that it was compiled from */
} winnow_kernel_code;
/* Calls `sink` for each kernel of an image (the bytes that a winnow_compiler builds, or of a file
 * from `winnow compile --emit image`), in launch order. Needs neither driver nor engine. */
WINNOW_API winnow_status winnow_image_kernels(const void *image, size_t bytes,
                                              void (*sink)(void *context,
                                                           const winnow_kernel_code *kernel),
                                              void *context);
/* The program of an equal spec that was prepared for `device`, or WINNOW_NOT_READY. Never compiles
 * or loads. */
WINNOW_API winnow_status winnow_find(winnow_engine *engine, const winnow_spec *spec, int32_t device,
                                     winnow_program **program);
/* The configurations that this engine decided on, as JSON lines, by one call of `sink`. Engines of
 * other ranks that get them as `decisions` run the same kernels. */
WINNOW_API winnow_status winnow_engine_export_decisions(winnow_engine *engine, winnow_sink sink,
                                                        void *context);
/* Every handle from prepare and find is destroyed once. Null is allowed. */
WINNOW_API void winnow_program_destroy(winnow_program *program);
/* Heads of the ids tensor: kv_heads or heads; 0 where the method selects nothing. */
WINNOW_API int32_t winnow_program_select_heads(const winnow_program *program);
/* From how many keys on a sequence is selected from in a launch of `batch` sequences with at most
 * `max_q` queries each: shorter ones attend to every key. Of a program whose dense_len is `auto`;
 * of all others 0, whatever their dense_len. Where a launch's max_k is below it no selection kernel
 * runs, and ids are not written. */
WINNOW_API winnow_status winnow_program_dense_length(const winnow_program *program, int32_t batch,
                                                     int32_t max_q, int32_t *keys);
/* How many summaries a host may keep for this program: 0 for a spec that is not `paged`, for
 * methods that select without them, and where a softmax score's normaliser is not over means of
 * the scored summaries. */
WINNOW_API int32_t winnow_rows_count(const winnow_program *program);
/* Summary `index` is the mean of `window` keys, from each `stride`-th key on; a sequence of k keys
 * takes k / stride slots (rounded down) of kv_heads rows of head_dim elements. */
WINNOW_API winnow_status winnow_rows_layout(const winnow_program *program, int32_t index,
                                            int32_t *window, int32_t *stride);
/* The 64 hexadecimal digits that name this program, of a GPU in the cache. */
WINNOW_API const char *winnow_program_key(const winnow_program *program);
/* The tunables it was built with, "attend_warps=8 ..."; "" on the CPU; lives as long as the handle.
 */
WINNOW_API const char *winnow_program_config(const winnow_program *program);
/* Where the tunables of a phase come from: WINNOW_SELECT, WINNOW_ATTEND, of a program with
 * gradients WINNOW_BACKWARD, of a paged one WINNOW_DECODE. */
WINNOW_API winnow_status winnow_program_rung(const winnow_program *program, int32_t phase,
                                             winnow_rung *rung);
/* Fills `time` for a phase, likewise, of which only struct_size need be set. Looks nothing up and
 * measures nothing. */
WINNOW_API winnow_status winnow_program_time(const winnow_program *program, int32_t phase,
                                             winnow_phase_time *time);
/* Kernels of a program, in launch order, those included that not every shape runs; 0 on the CPU. */
WINNOW_API int32_t winnow_program_kernel_count(const winnow_program *program);
/* Fills `info`, of which only struct_size need be set. */
WINNOW_API winnow_status winnow_program_kernel(const winnow_program *program, int32_t index,
                                               winnow_kernel_info *info);

/* Bytes of workspace that a launch of this shape needs. */
WINNOW_API winnow_status winnow_workspace_size(const winnow_program *program,
                                               const winnow_shape *shape, size_t *bytes);
/* Enqueues the program on `stream` (a CUstream or cudaStream_t). The device's context must be
 * current. On the CPU: runs it, on as many threads as there are cores. */
WINNOW_API winnow_status winnow_launch(const winnow_program *program,
                                       const winnow_launch_args *args, void *stream);
/* The same for launches of gradients, of programs whose spec has `backward`. */
WINNOW_API winnow_status winnow_backward_workspace_size(const winnow_program *program,
                                                        const winnow_shape *shape, size_t *bytes);
/* Enqueues what makes the gradients of one launch, as winnow_launch enqueues a launch. */
WINNOW_API winnow_status winnow_launch_backward(const winnow_program *program,
                                                const winnow_backward_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif
