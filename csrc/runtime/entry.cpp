#include "runtime/entry.h"

#include <dlfcn.h>

#include <vector>

#include "runtime/reports.h"

namespace opdsl {
namespace {

// entry(arrays, scalars): a launch without any check, for tests and tools.
PyObject* entry_call(PyObject* object, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"arrays", "scalars", nullptr};
  PyObject* array_sequence;
  PyObject* scalar_sequence = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O", const_cast<char**>(names), &array_sequence,
                                   &scalar_sequence))
    return nullptr;
  PyObject* array_list = PySequence_Tuple(array_sequence);
  if (array_list == nullptr) return nullptr;
  const Py_ssize_t array_count = PyTuple_GET_SIZE(array_list);
  std::vector<opdsl_array> arrays(static_cast<size_t>(array_count));
  std::vector<std::vector<opdsl_i64>> extents(static_cast<size_t>(array_count));
  for (Py_ssize_t i = 0; i < array_count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(array_list, i);
    if (!PyArray_Check(item)) {
      Py_DECREF(array_list);
      PyErr_Format(PyExc_TypeError, "arrays[%zd] must be a NumPy array, not %s", i, Py_TYPE(item)->tp_name);
      return nullptr;
    }
    PyArrayObject* array = reinterpret_cast<PyArrayObject*>(item);
    const int rank = PyArray_NDIM(array);
    const npy_intp item_bytes = PyArray_ITEMSIZE(array);
    std::vector<opdsl_i64>& extent = extents[static_cast<size_t>(i)];
    for (int axis = 0; axis < rank; ++axis) extent.push_back(PyArray_DIM(array, axis));
    for (int axis = 0; axis < rank; ++axis) extent.push_back(PyArray_STRIDE(array, axis) / (item_bytes ? item_bytes : 1));
    arrays[static_cast<size_t>(i)] = {PyArray_DATA(array), extent.data(), extent.data() + rank};
  }
  std::vector<opdsl_scalar> scalars;
  if (scalar_sequence != nullptr) {
    PyObject* scalar_list = PySequence_Tuple(scalar_sequence);
    if (scalar_list == nullptr) {
      Py_DECREF(array_list);
      return nullptr;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(scalar_list); ++i) {
      PyObject* item = PyTuple_GET_ITEM(scalar_list, i);
      opdsl_scalar scalar;
      if (PyFloat_Check(item))
        scalar.f = PyFloat_AsDouble(item);
      else
        scalar.i = PyLong_AsLongLong(item);
      scalars.push_back(scalar);
    }
    Py_DECREF(scalar_list);
  }
  PyObject* result = PyErr_Occurred() != nullptr
                         ? nullptr
                         : call_entry(reinterpret_cast<EntryObject*>(object)->function, arrays.data(), scalars.data());
  Py_DECREF(array_list);
  return result;
}

void entry_dealloc(PyObject* object) {
  EntryObject* entry = reinterpret_cast<EntryObject*>(object);
  Py_XDECREF(entry->path);
  Py_XDECREF(entry->symbol);
  Py_TYPE(object)->tp_free(object);
}

PyObject* entry_repr(PyObject* object) {
  EntryObject* entry = reinterpret_cast<EntryObject*>(object);
  return PyUnicode_FromFormat("<opdsl entry %U of %U>", entry->symbol, entry->path);
}

PyObject* entry_path(PyObject* object, void*) { return Py_NewRef(reinterpret_cast<EntryObject*>(object)->path); }
PyObject* entry_symbol(PyObject* object, void*) { return Py_NewRef(reinterpret_cast<EntryObject*>(object)->symbol); }
PyObject* entry_address(PyObject* object, void*) {
  return PyLong_FromVoidPtr(reinterpret_cast<void*>(reinterpret_cast<EntryObject*>(object)->function));
}

PyGetSetDef entry_properties[] = {
    {"path", entry_path, nullptr, "The shared object.", nullptr},
    {"symbol", entry_symbol, nullptr, "The entry point's name.", nullptr},
    {"address", entry_address, nullptr, "The entry point's address.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyTypeObject make_entry_type() {
  PyTypeObject type = {PyVarObject_HEAD_INIT(nullptr, 0)};
  type.tp_name = "opdsl._runtime.Entry";
  type.tp_doc = "A compiled kernel's entry point. entry(arrays, scalars) launches it without any check.";
  type.tp_basicsize = sizeof(EntryObject);
  type.tp_flags = Py_TPFLAGS_DEFAULT;
  type.tp_dealloc = entry_dealloc;
  type.tp_repr = entry_repr;
  type.tp_call = entry_call;
  type.tp_getset = entry_properties;
  return type;
}

PyTypeObject entry_type = make_entry_type();

}  // namespace

bool is_entry(PyObject* object) { return Py_IS_TYPE(object, &entry_type); }

PyObject* load_entry(const char* path, const char* symbol) {
  void* library = nullptr;
  Py_BEGIN_ALLOW_THREADS;
  library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  Py_END_ALLOW_THREADS;
  if (library == nullptr) {
    PyErr_Format(PyExc_OSError, "cannot load the compiled kernel: %s", dlerror());
    return nullptr;
  }
  void* address = dlsym(library, symbol);
  if (address == nullptr) {
    PyErr_Format(PyExc_OSError, "%s has no symbol %s", path, symbol);
    dlclose(library);
    return nullptr;
  }
  EntryObject* entry = PyObject_New(EntryObject, &entry_type);
  if (entry == nullptr) return nullptr;
  entry->function = reinterpret_cast<opdsl_entry>(address);
  entry->path = PyUnicode_DecodeFSDefault(path);
  entry->symbol = PyUnicode_FromString(symbol);
  if (entry->path == nullptr || entry->symbol == nullptr) {
    Py_DECREF(entry);
    return nullptr;
  }
  return reinterpret_cast<PyObject*>(entry);
}

bool add_entry_type(PyObject* module) {
  return PyType_Ready(&entry_type) == 0 &&
         PyModule_AddObjectRef(module, "Entry", reinterpret_cast<PyObject*>(&entry_type)) == 0;
}

PyObject* call_entry(opdsl_entry function, const opdsl_array* arrays, const opdsl_scalar* scalars) {
  Reports reports;
  const opdsl_runtime runtime = python_runtime(&reports);
  opdsl_i32 code;
  Py_BEGIN_ALLOW_THREADS;
  code = function(&runtime, arrays, scalars);
  Py_END_ALLOW_THREADS;
  if (code == OPDSL_OK && reports.empty()) Py_RETURN_NONE;
  return reports.to_python(code);
}

}  // namespace opdsl
