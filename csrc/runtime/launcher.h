// The fast way from a Python call to a compiled kernel.
#ifndef OPDSL_LAUNCHER_H
#define OPDSL_LAUNCHER_H

#include "runtime/numpy_api.h"

namespace opdsl {

bool add_launcher_type(PyObject* module);

// Tells launchers what NumPy calls an element type that is not NumPy's own (bf16, f8e4m3, f8e5m2).
bool register_dtype(const char* name, PyObject* descriptor);

}  // namespace opdsl
#endif
