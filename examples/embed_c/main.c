/* An engine that ships its kernels: they lie in a bundle inside this binary, no compiler is there,
 * and nothing is read or written at run time. Attends once over made-up tensors.
 * Usage: embed_c [DRIVER]. DRIVER: path of a CUDA driver; without it the system's.
 * Exit: 0 when the launch was accepted and its results came back. */
#include "../device/cuda_driver.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winnow.h>

enum { HEADS = 32, KV_HEADS = 2, DIM = 128, TOPK = 96, TOKENS = 8192 };

extern const char winnow_programs[], winnow_programs_end[]; /* bundle.S */

static void *device_bytes(const cuda_driver *cuda, size_t bytes) {
  unsigned long long pointer = 0;
  if (cuda->cuMemAlloc_v2(&pointer, bytes) != 0) {
    fprintf(stderr, "embed_c: the device has no %zu bytes left\n", bytes);
    exit(1);
  }
  return (void *)(uintptr_t)pointer;
}

/* `count` words of 16 bits on the device, all of them `word`. */
static void *device_words(const cuda_driver *cuda, size_t count, uint16_t word) {
  uint16_t *host = malloc(count * sizeof(*host));
  void *device = device_bytes(cuda, count * sizeof(*host));
  for (size_t i = 0; host && i < count; ++i)
    host[i] = word;
  if (!host || cuda->cuMemcpyHtoD_v2((uintptr_t)device, host, count * sizeof(*host)) != 0) {
    fprintf(stderr, "embed_c: a tensor could not be copied to the device\n");
    exit(1);
  }
  free(host);
  return device;
}

static void expect(const char *what, winnow_status status) {
  if (status == WINNOW_OK)
    return;
  fprintf(stderr, "embed_c: %s: %s\n", what, winnow_last_error());
  exit(1);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : NULL;
  winnow_engine_options options = {0};
  winnow_engine *engine = NULL;
  winnow_spec spec = {0};
  winnow_program *program = NULL;
  winnow_origin origin = WINNOW_COMPILED;
  options.struct_size = sizeof(options);
  options.cache_dir = "";           /* no cache on disk, */
  options.bundle = winnow_programs; /* the programs are these */
  options.bundle_bytes = (size_t)(winnow_programs_end - winnow_programs);
  options.driver_path = path;
  expect("engine", winnow_engine_create(&options, &engine));

  spec.struct_size = sizeof(spec);
  spec.method = "infllm_v2";
  spec.heads = HEADS;
  spec.kv_heads = KV_HEADS;
  spec.head_dim = DIM;
  spec.topk = TOPK;
  expect("prepare", winnow_prepare(engine, &spec, 0, &program, &origin));
  expect("seal", winnow_engine_seal(engine)); /* from here on nothing could be compiled anyway */
  printf("program %.12s, %d kernels, %s\n", winnow_program_key(program),
         (int)winnow_program_kernel_count(program),
         origin == WINNOW_COMPILED ? "compiled" : "from the bundle");

  cuda_driver cuda;
  if (!cuda_driver_open(&cuda, path)) {
    fprintf(stderr, "embed_c: no CUDA driver\n");
    return 1;
  }
  const int32_t lengths[2] = {0, TOKENS};
  const uint16_t one = 0x3f80; /* 1.0 in bfloat16: the mean of ones is 1, whatever is selected */
  winnow_shape shape = {sizeof(shape), 1, TOKENS, TOKENS, TOKENS, TOKENS};
  winnow_launch_args args = {0};
  args.struct_size = sizeof(args);
  args.q = device_words(&cuda, (size_t)TOKENS * HEADS * DIM, one);
  args.k = device_words(&cuda, (size_t)TOKENS * KV_HEADS * DIM, one);
  args.v = device_words(&cuda, (size_t)TOKENS * KV_HEADS * DIM, one);
  args.out = device_words(&cuda, (size_t)TOKENS * HEADS * DIM, 0);
  args.ids = device_bytes(&cuda, (size_t)winnow_program_select_heads(program) * TOKENS * TOPK * 4);
  args.cu_q = args.cu_k = device_bytes(&cuda, sizeof(lengths));
  args.shape = &shape;
  expect("workspace", winnow_workspace_size(program, &shape, &args.workspace_bytes));
  args.workspace = device_bytes(&cuda, args.workspace_bytes);
  uint16_t first = 0;
  if (cuda.cuMemcpyHtoD_v2((uintptr_t)args.cu_q, lengths, sizeof(lengths)) != 0)
    return 1;
  expect("launch", winnow_launch(program, &args, /*stream=*/NULL));
  if (cuda.cuStreamSynchronize(NULL) != 0 ||
      cuda.cuMemcpyDtoH_v2(&first, (uintptr_t)args.out, sizeof(first)) != 0) {
    fprintf(stderr, "embed_c: the launch failed on the device\n");
    return 1;
  }
  const uint32_t bits = (uint32_t)first << 16;
  float value = 0;
  memcpy(&value, &bits, sizeof(value));
  printf("the first output is %g (a GPU gives 1)\n", value);

  const void *memory[] = {args.q, args.k, args.v, args.out, args.ids, args.cu_q, args.workspace};
  for (size_t i = 0; i < sizeof(memory) / sizeof(*memory); ++i)
    cuda.cuMemFree_v2((uintptr_t)memory[i]);
  winnow_program_destroy(program);
  winnow_engine_destroy(engine);
  return 0;
}
