// What a kernel reports during a launch (od.print, failed assertions), kept until Python can be called again.
#ifndef OPDSL_REPORTS_H
#define OPDSL_REPORTS_H

#include "runtime/numpy_api.h"

#include <mutex>
#include <vector>

#include "simd/abi.h"

namespace opdsl {

class Reports {
 public:
  // Beyond this many the rest is only counted.
  static constexpr size_t kMaximum = 4096;

  // opdsl_runtime::report; `state` is the Reports.
  static void add(const opdsl_runtime* runtime, opdsl_i32 site, const opdsl_report_value* values, opdsl_i32 count);

  bool empty() const { return reports_.empty(); }

  // (code, [(site, [int | float | bool | ndarray, ...]), ...], how many were dropped). Needs the GIL.
  PyObject* to_python(opdsl_i32 code) const;

 private:
  struct Value {
    bool is_float;
    std::vector<opdsl_i64> shape;
    std::vector<opdsl_scalar> elements;
  };
  struct Report {
    opdsl_i32 site;
    std::vector<Value> values;
  };
  static PyObject* value_to_python(const Value& value);

  std::mutex mutex_;
  std::vector<Report> reports_;
  size_t dropped_ = 0;
};

// The host side of a launch from Python; its state is `reports`.
opdsl_runtime python_runtime(Reports* reports);

}  // namespace opdsl
#endif
