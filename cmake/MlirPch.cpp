// Carries the precompiled header of MlirPch.h.
