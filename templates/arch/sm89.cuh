// Instructions of the sm_89 level (Ada): those of sm_80. A file of its own, so that a difference
// has a home.
#pragma once
#include "winnow/sm80.cuh"
