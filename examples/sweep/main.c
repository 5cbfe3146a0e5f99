/* An engine that ships records of an offline sweep (tune.sh): each length gets the kernels that
 * were found for it, the log says where the answer is not exact, and other ranks replay the
 * decisions. Usage: sweep TUNED.jsonl [DRIVER]. DRIVER: path of a CUDA driver; without it the
 * system's. Exit: 0 when every program was prepared; its line says how its tunables were chosen. */
#include <stdio.h>
#include <winnow.h>

static const char *const rungs[] = {"measured for this problem on this GPU",
                                    "measured on this GPU for a problem like it",
                                    "measured on another GPU of the architecture",
                                    "chosen by the performance model, not measured",
                                    "the compiler's own choice",
                                    "given"};

static int failed(const char *what, winnow_status status) {
  if (status != WINNOW_OK)
    fprintf(stderr, "sweep: %s: %s\n", what, winnow_last_error());
  return status != WINNOW_OK;
}

static void count_lines(void *context, const void *bytes, size_t size) {
  for (size_t i = 0; i < size; ++i)
    *(int *)context += ((const char *)bytes)[i] == '\n';
}

static int tell(const winnow_program *program, long long tokens, int phase, const char *name) {
  winnow_rung rung = WINNOW_TUNED_DEFAULT;
  winnow_phase_time time = {0};
  time.struct_size = sizeof(time);
  if (failed("rung", winnow_program_rung(program, phase, &rung)) ||
      failed("time", winnow_program_time(program, phase, &time)))
    return 1;
  printf("%7lld tokens, %s: %s", tokens, name, rungs[rung]);
  if (time.microseconds > 0)
    printf(", %.3f ms (%s)", time.microseconds / 1000, time.modelled ? "estimated" : "measured");
  printf("\n");
  return 0;
}

/* Prepares one program for sequences of about this many tokens. */
static int prepare(winnow_engine *engine, long long tokens) {
  winnow_spec spec = {0};
  winnow_program *program = NULL;
  spec.struct_size = sizeof(spec);
  spec.method = "infllm_v2";
  spec.heads = 32;
  spec.kv_heads = 2;
  spec.topk = 96;
  spec.expected_tokens = tokens;
  if (failed("prepare", winnow_prepare(engine, &spec, 0, &program, NULL)))
    return 1;
  const int wrong = tell(program, tokens, WINNOW_SELECT, "selection") ||
                    tell(program, tokens, WINNOW_ATTEND, "attention");
  printf("                tunables: %s\n", winnow_program_config(program));
  winnow_program_destroy(program);
  return wrong;
}

int main(int argc, char **argv) {
  winnow_engine_options options = {0};
  winnow_engine *engine = NULL;
  int decisions = 0;
  if (argc < 2) {
    fprintf(stderr, "usage: sweep TUNED.jsonl [DRIVER]\n");
    return 2;
  }
  options.struct_size = sizeof(options);
  options.tuned_files = argv[1]; /* beside those that come with Winnow */
  options.driver_path = argc > 2 ? argv[2] : NULL;
  if (failed("compiler", winnow_compiler_load(NULL, &options.compiler)) ||
      failed("engine", winnow_engine_create(&options, &engine)))
    return 1;
  const int wrong =
      prepare(engine, 16384) || prepare(engine, 131072) ||
      failed("decisions", winnow_engine_export_decisions(engine, count_lines, &decisions));
  printf("%d decisions for the other ranks to replay\n", decisions);
  winnow_engine_destroy(engine);
  return wrong;
}
