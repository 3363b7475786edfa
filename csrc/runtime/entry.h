// A kernel's entry point in a loaded shared object, as a Python object.
#ifndef OPDSL_ENTRY_H
#define OPDSL_ENTRY_H

#include "runtime/numpy_api.h"

#include "simd/abi.h"

namespace opdsl {

struct EntryObject {
  PyObject_HEAD
  opdsl_entry function;
  PyObject* path;
  PyObject* symbol;
};

bool is_entry(PyObject* object);
// A new Entry, or null with OSError set. The library stays loaded for the life of the process.
PyObject* load_entry(const char* path, const char* symbol);
bool add_entry_type(PyObject* module);

// Calls `function` without the GIL: None, or the (code, reports, dropped) of a launch that has something to say.
PyObject* call_entry(opdsl_entry function, const opdsl_array* arrays, const opdsl_scalar* scalars);

}  // namespace opdsl
#endif
