// All leaf functions, by concern. Included by the arch header, which has declared the instructions
// before. A leaf has no loop over key blocks, no barrier protocol and no roles: those are printed
// by the generator.
#pragma once
#include "winnow/attention.cuh"
#include "winnow/block_ranks.cuh"
#include "winnow/decode_scores.cuh"
#include "winnow/fp8.cuh"
#include "winnow/gradients.cuh"
#include "winnow/head_weights.cuh"
#include "winnow/parts.cuh"
#include "winnow/pipeline.cuh"
#include "winnow/region.cuh"
#include "winnow/rescore.cuh"
#include "winnow/score_row.cuh"
#include "winnow/scoring.cuh"
#include "winnow/sequence.cuh"
#include "winnow/summarize.cuh"
#include "winnow/tile.cuh"
#include "winnow/token_lists.cuh"
#include "winnow/top_k.cuh"
#include "winnow/wanted.cuh"
