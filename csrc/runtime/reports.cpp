#include "runtime/reports.h"

#include <string.h>

#include "runtime/memory.h"
#include "runtime/pool.h"

namespace opdsl {
namespace {

void* allocate(const opdsl_runtime*, opdsl_i64 bytes) { return memory_allocate(static_cast<size_t>(bytes)); }
void release(const opdsl_runtime*, void* block) { memory_release(block); }

}  // namespace

opdsl_runtime python_runtime(Reports* reports) {
  return opdsl_runtime{pool_parallel_for, allocate, release, Reports::add, reports};
}

void Reports::add(const opdsl_runtime* runtime, opdsl_i32 site, const opdsl_report_value* values, opdsl_i32 count) {
  Reports& self = *static_cast<Reports*>(runtime->state);
  Report report{site, {}};
  report.values.reserve(static_cast<size_t>(count));
  for (opdsl_i32 i = 0; i < count; ++i) {
    const opdsl_report_value& value = values[i];
    size_t elements = 1;
    for (opdsl_i32 axis = 0; axis < value.rank; ++axis) elements *= static_cast<size_t>(value.shape[axis]);
    report.values.push_back(Value{value.is_float != 0, {value.shape, value.shape + value.rank},
                                  {value.elements, value.elements + elements}});
  }
  const std::lock_guard<std::mutex> lock(self.mutex_);
  if (self.reports_.size() < kMaximum)
    self.reports_.push_back(std::move(report));
  else
    ++self.dropped_;
}

PyObject* Reports::value_to_python(const Value& value) {
  if (value.shape.empty())
    return value.is_float ? PyFloat_FromDouble(value.elements[0].f) : PyLong_FromLongLong(value.elements[0].i);
  npy_intp shape[NPY_MAXDIMS];
  for (size_t axis = 0; axis < value.shape.size(); ++axis) shape[axis] = value.shape[axis];
  PyObject* array =
      PyArray_SimpleNew(static_cast<int>(value.shape.size()), shape, value.is_float ? NPY_DOUBLE : NPY_INT64);
  if (array != nullptr && !value.elements.empty())
    memcpy(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)), value.elements.data(),
           value.elements.size() * sizeof(opdsl_scalar));
  return array;
}

PyObject* Reports::to_python(opdsl_i32 code) const {
  PyObject* list = PyList_New(0);
  if (list == nullptr) return nullptr;
  for (const Report& report : reports_) {
    PyObject* values = PyList_New(0);
    for (const Value& value : report.values) {
      PyObject* converted = values != nullptr ? value_to_python(value) : nullptr;
      if (converted == nullptr || PyList_Append(values, converted) != 0) {
        Py_XDECREF(converted);
        Py_XDECREF(values);
        Py_DECREF(list);
        return nullptr;
      }
      Py_DECREF(converted);
    }
    PyObject* pair = values != nullptr ? Py_BuildValue("(iN)", static_cast<int>(report.site), values) : nullptr;
    if (pair == nullptr || PyList_Append(list, pair) != 0) {
      Py_XDECREF(pair);
      Py_DECREF(list);
      return nullptr;
    }
    Py_DECREF(pair);
  }
  return Py_BuildValue("(iNn)", static_cast<int>(code), list, static_cast<Py_ssize_t>(dropped_));
}

}  // namespace opdsl
