#include "runtime/arrays.h"

#include <string.h>

#include "runtime/dlpack.h"
#include "runtime/memory.h"

namespace opdsl {
namespace {

constexpr const char* kMemoryCapsule = "opdsl.memory";

void release_memory_capsule(PyObject* capsule) { memory_release(PyCapsule_GetPointer(capsule, kMemoryCapsule)); }

constexpr uint64_t kReadOnlyFlag = 1;

// Owns a consumed tensor until the last view of it is gone.
void delete_managed(PyObject* capsule) {
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "opdsl.dltensor"));
  if (managed->deleter != nullptr) managed->deleter(managed);
}
void delete_managed_versioned(PyObject* capsule) {
  auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, "opdsl.dltensor_versioned"));
  if (managed->deleter != nullptr) managed->deleter(managed);
}

// Steals `owner`, on failure as well.
PyObject* view_of(const DLTensor& tensor, bool writable, PyObject* dtypes, PyObject* owner) {
  const char* name = dlpack_dtype_name(tensor.dtype);
  PyObject* descriptor = name != nullptr ? PyDict_GetItemString(dtypes, name) : nullptr;
  if (descriptor == nullptr || !PyArray_DescrCheck(descriptor)) {
    PyErr_Format(PyExc_TypeError, "its element type (DLPack code %d, %d bits, %d lanes) is not one that kernels have",
                 tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes);
    Py_DECREF(owner);
    return nullptr;
  }
  if (tensor.ndim > NPY_MAXDIMS) {
    PyErr_Format(PyExc_TypeError, "it has %d dims; NumPy arrays have at most %d", tensor.ndim, NPY_MAXDIMS);
    Py_DECREF(owner);
    return nullptr;
  }
  npy_intp shape[NPY_MAXDIMS];
  npy_intp strides[NPY_MAXDIMS];
  const npy_intp item_bytes = tensor.dtype.bits / 8;
  npy_intp contiguous = item_bytes;
  for (int axis = tensor.ndim - 1; axis >= 0; --axis) {
    shape[axis] = tensor.shape[axis];
    strides[axis] = tensor.strides != nullptr ? tensor.strides[axis] * item_bytes : contiguous;
    contiguous *= shape[axis];
  }
  Py_INCREF(descriptor);
  PyObject* array = PyArray_NewFromDescr(&PyArray_Type, reinterpret_cast<PyArray_Descr*>(descriptor), tensor.ndim, shape,
                                         strides, static_cast<char*>(tensor.data) + tensor.byte_offset,
                                         writable ? NPY_ARRAY_WRITEABLE : 0, nullptr);
  if (array == nullptr) {
    Py_DECREF(owner);
    return nullptr;
  }
  PyArray_UpdateFlags(reinterpret_cast<PyArrayObject*>(array),
                      NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS | NPY_ARRAY_ALIGNED);
  if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array), owner) != 0) {
    Py_DECREF(array);
    return nullptr;
  }
  return array;
}

bool is_on_host(const DLTensor& tensor) {
  if (dlpack_is_on_host(tensor)) return true;
  PyErr_Format(PyExc_BufferError, "its memory is on a device (DLPack device type %d)", static_cast<int>(tensor.device_type));
  return false;
}

}  // namespace

PyObject* empty_array(PyObject* shape, PyObject* dtype) {
  PyArray_Dims dims = {nullptr, 0};
  PyArray_Descr* descriptor = nullptr;
  if (!PyArray_IntpConverter(shape, &dims)) return nullptr;
  if (!PyArray_DescrConverter(dtype, &descriptor)) {
    PyDimMem_FREE(dims.ptr);
    return nullptr;
  }
  size_t bytes = static_cast<size_t>(PyDataType_ELSIZE(descriptor));
  bool sane = !PyDataType_REFCHK(descriptor) && bytes > 0;
  if (!sane) PyErr_SetString(PyExc_TypeError, "an array of objects cannot lie in pooled memory");
  for (int axis = 0; sane && axis < dims.len; ++axis) {
    if (dims.ptr[axis] < 0) {
      PyErr_Format(PyExc_ValueError, "a dim cannot be negative: shape[%d] is %zd", axis,
                   static_cast<Py_ssize_t>(dims.ptr[axis]));
      sane = false;
    } else if (__builtin_mul_overflow(bytes, static_cast<size_t>(dims.ptr[axis]), &bytes)) {
      PyErr_NoMemory();
      sane = false;
    }
  }
  void* data = sane ? memory_allocate(bytes) : nullptr;
  if (sane && data == nullptr) PyErr_Format(PyExc_MemoryError, "there is no memory for an array of %zu bytes", bytes);
  PyObject* capsule = data != nullptr ? PyCapsule_New(data, kMemoryCapsule, release_memory_capsule) : nullptr;
  if (capsule == nullptr) {
    memory_release(data);
    PyDimMem_FREE(dims.ptr);
    Py_DECREF(descriptor);
    return nullptr;
  }
  PyObject* array = PyArray_NewFromDescr(&PyArray_Type, descriptor, dims.len, dims.ptr, nullptr, data,
                                         NPY_ARRAY_CARRAY, nullptr);
  PyDimMem_FREE(dims.ptr);
  if (array == nullptr) {
    Py_DECREF(capsule);
    return nullptr;
  }
  if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array), capsule) != 0) {
    Py_DECREF(array);
    return nullptr;
  }
  return array;
}

PyObject* array_from_dlpack_capsule(PyObject* capsule, PyObject* dtypes) {
  if (!PyDict_Check(dtypes)) {
    PyErr_SetString(PyExc_TypeError, "dtypes must be a dict");
    return nullptr;
  }
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    if (managed->major != 1) {
      PyErr_Format(PyExc_BufferError, "it speaks DLPack %d.%d; this is version 1", static_cast<int>(managed->major),
                   static_cast<int>(managed->minor));
      return nullptr;
    }
    if (!is_on_host(managed->tensor)) return nullptr;
    PyObject* owner = PyCapsule_New(managed, "opdsl.dltensor_versioned", delete_managed_versioned);
    if (owner == nullptr || PyCapsule_SetName(capsule, "used_dltensor_versioned") != 0) return nullptr;
    return view_of(managed->tensor, (managed->flags & kReadOnlyFlag) == 0, dtypes, owner);
  }
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  if (managed == nullptr || !is_on_host(managed->tensor)) return nullptr;
  PyObject* owner = PyCapsule_New(managed, "opdsl.dltensor", delete_managed);
  if (owner == nullptr || PyCapsule_SetName(capsule, "used_dltensor") != 0) return nullptr;
  return view_of(managed->tensor, true, dtypes, owner);
}

}  // namespace opdsl
