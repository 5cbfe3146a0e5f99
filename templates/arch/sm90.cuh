// Instructions of the sm_90a level (Hopper): those of sm_80 for now; wgmma and TMA join them here.
#pragma once
#include "winnow/sm80.cuh"
