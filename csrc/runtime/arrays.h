// NumPy arrays in pooled memory, and views of what other libraries hand over by DLPack.
#ifndef OPDSL_ARRAYS_H
#define OPDSL_ARRAYS_H

#include "runtime/numpy_api.h"

namespace opdsl {

// A C-contiguous array whose memory comes from, and goes back to, the pool; null with an exception set.
PyObject* empty_array(PyObject* shape, PyObject* dtype);

// A view of the tensor in a DLPack capsule, which it consumes. `dtypes` maps our names of element types to NumPy dtypes.
PyObject* array_from_dlpack_capsule(PyObject* capsule, PyObject* dtypes);

}  // namespace opdsl
#endif
