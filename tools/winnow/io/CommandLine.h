// CLI11, which lies wholly in its headers. A process parses one command line, so that nothing is
// gained by optimising its 190 functions in each file of a command, which took half of its time.
#pragma once
#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>
#ifdef __clang__
#pragma clang optimize off
#include <CLI/CLI.hpp>
#pragma clang optimize on
#else
#include <CLI/CLI.hpp>
#endif
