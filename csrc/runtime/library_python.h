// What the Python extension of an ahead-of-time library does with its arguments. `opdsl build` writes the rest.
#ifndef OPDSL_LIBRARY_PYTHON_H
#define OPDSL_LIBRARY_PYTHON_H

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

namespace opdsl_python {

namespace py = pybind11;

// An array parameter. `dims` as in LibraryArray: a fixed size, or ~(place among the sizes).
struct Parameter {
  const char* name;
  const char* dtype;  // NumPy's name
  const char* stand_in;  // for a dtype that NumPy itself does not have: the integers that hold its bits, else null
  bool is_written;
  std::vector<int64_t> dims;
};

inline std::string shown(const py::handle& object) { return py::str(object).cast<std::string>(); }

// The arguments of one call, checked one after another: the first array with a dim gives its size.
class Call {
 public:
  Call(const char* kernel, std::vector<const char*> size_names)
      : kernel_(kernel), names_(std::move(size_names)), sizes_(names_.size(), -1), from_(names_.size()) {}

  void* take(const py::object& object, const Parameter& parameter, std::vector<int64_t>& strides) {
    if (!py::isinstance<py::array>(object))
      throw py::type_error(where(parameter) + " must be a NumPy array, not " +
                           shown(py::type::of(object).attr("__qualname__")) + "; convert it by numpy.asarray");
    const py::array array = py::reinterpret_borrow<py::array>(object);
    check_dtype(array, parameter);
    check_shape(array, parameter);
    if (parameter.is_written && !array.writeable())
      throw py::value_error(where(parameter) + " is read-only, but the kernel writes it; pass a copy, or a fresh array");
    const int64_t item = array.itemsize();
    strides.resize(static_cast<size_t>(array.ndim()));
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      if (array.strides(axis) % item != 0 && array.shape(axis) > 1)
        throw py::value_error(where(parameter) + " has a stride of " + std::to_string(array.strides(axis)) +
                              " bytes, which is not a multiple of its element's; pass a copy");
      strides[static_cast<size_t>(axis)] = array.strides(axis) / item;
    }
    return const_cast<void*>(array.data());
  }

  int64_t size(size_t place) const { return sizes_[place]; }

 private:
  std::string where(const Parameter& parameter) const { return std::string(kernel_) + ": " + parameter.name; }

  void check_dtype(const py::array& array, const Parameter& parameter) const {
    const py::dtype dtype = array.dtype();
    const std::string name = shown(dtype.attr("name"));
    const bool same = name == parameter.dtype || (parameter.stand_in != nullptr && name == parameter.stand_in);
    if (!same)
      throw py::type_error(where(parameter) + " has dtype " + name + ", but " + parameter.dtype +
                           " is needed; convert it by " + parameter.name + ".astype(...)");
    if (!dtype.attr("isnative").cast<bool>())
      throw py::type_error(where(parameter) + " has the byte order of another machine; convert it by " +
                           parameter.name + ".astype(" + parameter.dtype + ")");
  }

  void check_shape(const py::array& array, const Parameter& parameter) {
    if (array.ndim() != static_cast<py::ssize_t>(parameter.dims.size()))
      throw py::value_error(where(parameter) + " has " + std::to_string(array.ndim()) + " dims, but needs " +
                            std::to_string(parameter.dims.size()) + " (" + wanted(parameter) + ")");
    for (size_t axis = 0; axis < parameter.dims.size(); ++axis) {
      const int64_t size = array.shape(static_cast<py::ssize_t>(axis));
      const int64_t dim = parameter.dims[axis];
      if (dim >= 0 && size != dim)
        throw py::value_error(where(parameter) + ": dim " + std::to_string(axis) + " is " + std::to_string(size) +
                              ", but the library is built for " + std::to_string(dim));
      if (dim >= 0) continue;
      const size_t place = static_cast<size_t>(~dim);
      if (sizes_[place] < 0) {
        sizes_[place] = size;
        from_[place] = parameter.name;
      } else if (sizes_[place] != size) {
        throw py::value_error(where(parameter) + ": dim " + std::to_string(axis) + " (" + names_[place] + ") is " +
                              std::to_string(size) + ", but it is " + std::to_string(sizes_[place]) + " in " +
                              from_[place]);
      }
    }
  }

  std::string wanted(const Parameter& parameter) const {
    std::string text;
    for (const int64_t dim : parameter.dims)
      text += (text.empty() ? "" : ", ") + (dim >= 0 ? std::to_string(dim) : std::string(names_[static_cast<size_t>(~dim)]));
    return text.empty() ? "no dims" : text;
  }

  const char* kernel_;
  std::vector<const char*> names_;
  std::vector<int64_t> sizes_;
  std::vector<std::string> from_;
};

// Raises what a status means.
inline void finish(int32_t status, const char* message) {
  if (status == 0) return;
  if (status == -1) {
    PyErr_SetString(PyExc_MemoryError, message);
    throw py::error_already_set();
  }
  if (status > 0) {
    PyErr_SetString(PyExc_AssertionError, message);
    throw py::error_already_set();
  }
  if (status == -4) throw std::runtime_error(message);
  throw py::value_error(message);
}

}  // namespace opdsl_python
#endif
