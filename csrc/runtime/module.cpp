// The module `opdsl._runtime`: what Python sees of csrc/runtime.
#define OPDSL_IMPORTS_NUMPY
#include "runtime/numpy_api.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "runtime/arrays.h"
#include "runtime/entry.h"
#include "runtime/launcher.h"
#include "runtime/machine.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

namespace py = pybind11;

namespace {

py::object checked(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

void check(bool good) {
  if (!good) throw py::error_already_set();
}

bool import_numpy() { return PyArray_ImportNumPyAPI() == 0; }

py::object load(const std::string& path, const std::string& symbol) {
  return checked(opdsl::load_entry(path.c_str(), symbol.c_str()));
}

std::vector<std::string> features() {
  std::vector<std::string> names;
  for (int feature = 0; feature < opdsl::machine_feature_count(); ++feature)
    if (opdsl::machine_has_feature(feature)) names.push_back(opdsl::machine_feature_name(feature));
  return names;
}

py::dict memory_statistics() {
  const opdsl::MemoryStatistics statistics = opdsl::memory_statistics();
  py::dict result;
  result["in_use_bytes"] = statistics.in_use_bytes;
  result["cached_bytes"] = statistics.cached_bytes;
  result["cache_limit_bytes"] = statistics.cache_limit_bytes;
  result["reused"] = statistics.reused;
  result["fresh"] = statistics.fresh;
  return result;
}

// A parallel loop over Python, for tests: calls body(begin, end) for every piece.
void parallel_for(opdsl_i64 count, opdsl_i64 chunk, const py::function& body) {
  const auto piece = [](void* closure, opdsl_i64 begin, opdsl_i64 end, char*) {
    const py::gil_scoped_acquire gil;
    try {
      (*static_cast<const py::function*>(closure))(begin, end);
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("a parallel loop's body");
    }
  };
  const py::gil_scoped_release no_gil;
  (void)opdsl::pool_parallel_for(nullptr, count, chunk, 0, piece, const_cast<py::function*>(&body));
}

}  // namespace

PYBIND11_MODULE(_runtime, module) {
  module.doc() = "Thread pool, memory pool, loading and launching of compiled kernels.";
  check(import_numpy());
  check(opdsl::add_entry_type(module.ptr()));
  check(opdsl::add_launcher_type(module.ptr()));
  module.attr("ABI_VERSION") = OPDSL_ABI_VERSION;

  module.def("load", &load, py::arg("path"), py::arg("symbol"));
  module.def("register_dtype", [](const std::string& name, const py::object& dtype) {
    check(opdsl::register_dtype(name.c_str(), dtype.ptr()));
  });
  module.def("empty", [](const py::object& shape, const py::object& dtype) {
    return checked(opdsl::empty_array(shape.ptr(), dtype.ptr()));
  });
  module.def("from_dlpack_capsule", [](const py::object& capsule, const py::dict& dtypes) {
    return checked(opdsl::array_from_dlpack_capsule(capsule.ptr(), dtypes.ptr()));
  });

  module.def("get_num_threads", &opdsl::pool_thread_count);
  module.def("set_num_threads", &opdsl::pool_set_thread_count);
  module.def("get_spin_microseconds", &opdsl::pool_spin_microseconds);
  module.def("set_spin_microseconds", &opdsl::pool_set_spin_microseconds);
  module.def("parallel_for", &parallel_for, py::arg("count"), py::arg("chunk"), py::arg("body"));

  module.def("memory_statistics", &memory_statistics);
  module.def("set_memory_cache_limit", &opdsl::memory_set_cache_limit);
  module.def("trim_memory", &opdsl::memory_trim);

  module.def("cpu_features", &features);
  module.def("best_isa", [] { return std::string(opdsl::machine_best_isa()); });
  module.def("supports_isa", [](const std::string& isa) { return opdsl::machine_supports_isa(isa.c_str()); });
  module.def("usable_cores", &opdsl::machine_usable_cores);
  module.def("online_cores", &opdsl::machine_online_cores);
  module.def("cache_bytes", &opdsl::machine_cache_bytes, py::arg("level"));
}
