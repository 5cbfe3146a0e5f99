// The SM clock and the power of a GPU while it works, from the management library that comes with
// the driver. A time without its clock says little on a card that is limited by power.
#pragma once
#include <string>

namespace winnow {

/// Reads clock and power of the device with this UUID; 0 where the management library is missing or
/// refuses.
class DeviceClock {
public:
  explicit DeviceClock(const std::string &uuid);
  int smMegahertz() const;
  /// What the board draws, averaged by the board over some milliseconds.
  int watts() const;
  /// "580.159.04", or empty.
  std::string driverVersion() const;

private:
  void *device = nullptr;
  int (*getClock)(void *, int, unsigned *) = nullptr;
  int (*getPower)(void *, unsigned *) = nullptr;
  int (*getVersion)(char *, unsigned) = nullptr;
};

} // namespace winnow
