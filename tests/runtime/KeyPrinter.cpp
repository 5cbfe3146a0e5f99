// Prints the canonical texts and the key of a fixed request: run many times by the tests, which
// compare (F08, F10).
#include "runtime/cache/Digest.h"
#include "runtime/program/Spec.h"
#include <clocale>
#include <cstdio>

int main() {
  std::setlocale(LC_ALL, ""); // a locale with decimal commas must change nothing
  winnow::Spec spec;
  spec.scale = 0.125;
  spec.params = {{"window", "32"}, {"init", "1"}, {"lse", "coarse"}};
  std::string key = winnow::keyFrom({{"spec", spec.text()}, {"config", winnow::Config().text()}});
  std::printf("%s %s\n%s\n", key.c_str(), spec.text().c_str(), winnow::Config().text().c_str());
}
