#include "runtime/launcher.h"

#include <limits.h>
#include <string.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/dlpack.h"
#include "runtime/entry.h"

// A Launcher belongs to one kernel, one target and one set of constexprs given by the user. A call checks the arguments,
// makes a key of what the compiler specialises on, and calls the executable registered under that key. Whatever it does
// not understand at once (another type, a dim that disagrees, a key never seen) it answers with MISS, and Python does
// the call the long way, with every check and a clear error. So nothing here needs an error message.

namespace opdsl {
namespace {

constexpr int kMaximumParameters = 64;
constexpr int kMaximumAxes = 256;  // of all tensors together
constexpr int kMaximumSymbols = 64;

// ---- element types --------------------------------------------------------------------------------------------------

enum DTypeCode : int { kNone, F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL };
constexpr const char* kDTypeNames[] = {"",    "f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64",
                                       "i32", "i16", "i8",  "u64", "u32",  "u16",    "u8",     "bool"};

DTypeCode code_named(const char* name) {
  for (int code = F64; code <= BOOL; ++code)
    if (strcmp(kDTypeNames[code], name) == 0) return static_cast<DTypeCode>(code);
  return kNone;
}

DTypeCode signed_code(size_t bytes) { return bytes == 8 ? I64 : bytes == 4 ? I32 : bytes == 2 ? I16 : I8; }
DTypeCode unsigned_code(size_t bytes) { return bytes == 8 ? U64 : bytes == 4 ? U32 : bytes == 2 ? U16 : U8; }

struct RegisteredDType {
  int type_number;
  DTypeCode code;
};
std::vector<RegisteredDType> registered_dtypes;

DTypeCode code_of_type_number(int type_number) {
  switch (type_number) {
    case NPY_DOUBLE: return F64;
    case NPY_FLOAT: return F32;
    case NPY_HALF: return F16;
    case NPY_BOOL: return BOOL;
    case NPY_BYTE: return I8;
    case NPY_SHORT: return I16;
    case NPY_INT: return signed_code(sizeof(int));
    case NPY_LONG: return signed_code(sizeof(long));
    case NPY_LONGLONG: return signed_code(sizeof(long long));
    case NPY_UBYTE: return U8;
    case NPY_USHORT: return U16;
    case NPY_UINT: return unsigned_code(sizeof(int));
    case NPY_ULONG: return unsigned_code(sizeof(long));
    case NPY_ULONGLONG: return unsigned_code(sizeof(long long));
    default: break;
  }
  for (const RegisteredDType& registered : registered_dtypes)
    if (registered.type_number == type_number) return registered.code;
  return kNone;
}

// ---- parameters -----------------------------------------------------------------------------------------------------

enum class DimKind : uint8_t { kAny, kLiteral, kBinds, kCompares };

struct Dim {
  DimKind kind;
  opdsl_i64 value;  // the literal, or the number of the symbol
};

struct Parameter {
  bool is_tensor;
  bool written;
  DTypeCode scalar_dtype;
  std::vector<Dim> dims;
};

struct Compiled {
  uint64_t hash;
  std::vector<uint64_t> key;
  opdsl_entry function;  // null: `executable` is any Python callable of the argument tuple
  PyObject* executable;
};

// What a launcher knows; the Python object holds a pointer to it.
struct Plan {
  std::vector<Parameter> parameters;
  std::vector<int> bound_symbols;  // their values are part of the key
  std::vector<size_t> tensors;      // the places of the tensors among the parameters
  bool writes = false;
  std::vector<Compiled> compiled;
  std::vector<uint32_t> table;  // open addressing: index in `compiled` + 1
};

struct LauncherObject {
  PyObject_HEAD
  vectorcallfunc vectorcall;
  Plan* plan;
};

PyObject* miss = nullptr;

// ---- one call -------------------------------------------------------------------------------------------------------

struct Range {
  const char* begin;
  const char* end;
};

struct Call {
  opdsl_array arrays[kMaximumParameters];
  opdsl_scalar scalars[kMaximumParameters];
  opdsl_i64 extents[2 * kMaximumAxes];
  opdsl_i64 symbols[kMaximumSymbols];
  Range ranges[kMaximumParameters];
  DTypeCode dtypes[kMaximumParameters];
  uint64_t key[1 + kMaximumParameters + kMaximumSymbols];
  size_t key_length;
  bool only_arrays;  // no tensor came by DLPack
};

bool read_integer(PyObject* object, DTypeCode dtype, opdsl_scalar* scalar) {
  PyObject* owned = nullptr;
  if (!PyLong_Check(object)) {
    if (!PyArray_IsScalar(object, Integer)) return false;
    object = owned = PyNumber_Index(object);
    if (object == nullptr) {
      PyErr_Clear();
      return false;
    }
  }
  int overflow = 0;
  long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
  bool fits = overflow == 0;
  if (dtype == U64 && overflow > 0) {
    const unsigned long long wide = PyLong_AsUnsignedLongLong(object);
    fits = PyErr_Occurred() == nullptr;
    PyErr_Clear();
    value = static_cast<long long>(wide);
  } else if (fits) {
    switch (dtype) {
      case I32: fits = value >= INT32_MIN && value <= INT32_MAX; break;
      case I16: fits = value >= INT16_MIN && value <= INT16_MAX; break;
      case I8: fits = value >= INT8_MIN && value <= INT8_MAX; break;
      case U64: fits = value >= 0; break;
      case U32: fits = value >= 0 && value <= UINT32_MAX; break;
      case U16: fits = value >= 0 && value <= UINT16_MAX; break;
      case U8: fits = value >= 0 && value <= UINT8_MAX; break;
      default: break;
    }
  }
  Py_XDECREF(owned);
  scalar->i = value;
  return fits;
}

bool read_scalar(PyObject* object, DTypeCode dtype, opdsl_scalar* scalar) {
  if (dtype == BOOL) {
    if (PyBool_Check(object)) {
      scalar->i = object == Py_True;
      return true;
    }
    if (!PyArray_IsScalar(object, Bool)) return false;
    scalar->i = PyObject_IsTrue(object);
    return true;
  }
  if (dtype >= I64) return read_integer(object, dtype, scalar);
  if (PyFloat_CheckExact(object)) {
    scalar->f = PyFloat_AS_DOUBLE(object);
    return true;
  }
  if (!PyFloat_Check(object) && !PyLong_Check(object) && !PyArray_IsScalar(object, Floating) &&
      !PyArray_IsScalar(object, Integer))
    return false;
  scalar->f = PyFloat_AsDouble(object);
  if (scalar->f == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return false;
  }
  return true;
}

// Whether no two indices of a written tensor are one address, shown by the axes nesting in one another. It may say no
// for a harmless tensor: that one goes the long way.
bool elements_are_distinct(int rank, const opdsl_i64* shape, const opdsl_i64* strides) {
  opdsl_i64 reach = 0;  // of the axes taken so far, the farthest element's distance from the first
  bool taken[NPY_MAXDIMS] = {};
  for (int round = 0; round < rank; ++round) {
    int smallest = -1;
    opdsl_i64 smallest_stride = 0;
    for (int axis = 0; axis < rank; ++axis) {
      if (taken[axis]) continue;
      const opdsl_i64 stride = strides[axis] < 0 ? -strides[axis] : strides[axis];
      if (smallest < 0 || stride < smallest_stride || (stride == smallest_stride && shape[axis] <= 1)) {
        smallest = axis;
        smallest_stride = stride;
      }
    }
    taken[smallest] = true;
    if (shape[smallest] <= 1) continue;
    if (smallest_stride <= reach) return false;
    reach += smallest_stride * (shape[smallest] - 1);
  }
  return true;
}

// A tensor argument, whatever it came as. A stride is `strides[axis] >> shift` elements.
struct View {
  char* data;
  int rank;
  const int64_t* dims;
  const int64_t* strides;  // null: C-contiguous
  int shift;
  int item_bytes;
  DTypeCode dtype;
  bool contiguous;
};

bool view_array(PyObject* object, bool written, View* view) {
  PyArrayObject* array = reinterpret_cast<PyArrayObject*>(object);
  const int needed = NPY_ARRAY_ALIGNED | (written ? NPY_ARRAY_WRITEABLE : 0);
  if ((PyArray_FLAGS(array) & needed) != needed || PyArray_ISBYTESWAPPED(array)) return false;
  PyArray_Descr* descriptor = PyArray_DESCR(array);
  static_assert(sizeof(npy_intp) == sizeof(int64_t), "a 64-bit machine");
  view->data = static_cast<char*>(PyArray_DATA(array));
  view->rank = PyArray_NDIM(array);
  view->dims = reinterpret_cast<const int64_t*>(PyArray_DIMS(array));
  view->strides = reinterpret_cast<const int64_t*>(PyArray_STRIDES(array));
  view->item_bytes = static_cast<int>(PyDataType_ELSIZE(descriptor));
  view->dtype = code_of_type_number(descriptor->type_num);
  view->contiguous = PyArray_IS_C_CONTIGUOUS(array);
  if (view->dtype == kNone) return false;
  view->shift = __builtin_ctz(static_cast<unsigned>(view->item_bytes));
  return true;
}

// The exchange functions of a type that has them itself (a subclass may keep its elements elsewhere), or null.
const DLPackExchange* exchange_of(PyTypeObject* type) {
  struct Known {
    PyTypeObject* type;
    const DLPackExchange* exchange;
  };
  static std::vector<Known> known_types;
  for (const Known& known : known_types)
    if (known.type == type) return known.exchange;
  if (type->tp_dict == nullptr) return nullptr;
  PyObject* capsule = PyDict_GetItemString(type->tp_dict, "__dlpack_c_exchange_api__");
  if (capsule == nullptr || !PyCapsule_IsValid(capsule, kDLPackExchangeCapsule)) return nullptr;
  const auto* exchange = static_cast<const DLPackExchange*>(PyCapsule_GetPointer(capsule, kDLPackExchangeCapsule));
  if (exchange->major != 1) exchange = nullptr;
  Py_INCREF(type);  // remembered by its address
  known_types.push_back({type, exchange});
  return exchange;
}

// Whether an attribute of a tensor is there and true.
bool has_true(PyObject* object, PyObject* name) {
  PyObject* value = PyObject_GetAttr(object, name);
  if (value == nullptr) {
    PyErr_Clear();
    return false;
  }
  const bool result = value != Py_False;
  Py_DECREF(value);
  return result;
}

// Whether a torch tensor is a lazily negated view: its memory holds the opposite of its values, and DLPack does not say so.
// Such a view is the imaginary part of a conjugate, so no axis of it has elements side by side; only then it is asked.
bool may_be_negated(PyObject* object, const DLTensor& tensor) {
  for (int axis = 0; axis < tensor.ndim; ++axis)
    if (tensor.strides == nullptr || (tensor.shape[axis] > 1 && tensor.strides[axis] == 1)) return false;
  static PyObject* is_neg = PyUnicode_InternFromString("is_neg");
  PyObject* answer = PyObject_CallMethodNoArgs(object, is_neg);
  if (answer == nullptr) {  // not a torch tensor
    PyErr_Clear();
    return false;
  }
  Py_DECREF(answer);
  return answer != Py_False;
}

// A torch tensor and the like. What cannot be had without copying is left to the long way.
bool view_dlpack(PyObject* object, View* view) {
  static PyObject* requires_grad = PyUnicode_InternFromString("requires_grad");
  const DLPackExchange* exchange = exchange_of(Py_TYPE(object));
  if (exchange == nullptr || exchange->tensor_from_object == nullptr || has_true(object, requires_grad)) return false;
  DLTensor tensor;
  if (exchange->tensor_from_object(object, &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  const char* name = dlpack_dtype_name(tensor.dtype);
  if (name == nullptr || !dlpack_is_on_host(tensor) || may_be_negated(object, tensor)) return false;
  view->data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view->rank = tensor.ndim;
  view->dims = tensor.shape;
  view->strides = tensor.strides;
  view->shift = 0;
  view->item_bytes = tensor.dtype.bits / 8;
  view->dtype = code_named(name);
  view->contiguous = tensor.strides == nullptr;
  return reinterpret_cast<uintptr_t>(view->data) % static_cast<uintptr_t>(view->item_bytes) == 0;
}

// Reads one tensor argument; adds its word to the key.
bool read_tensor(PyObject* object, const Parameter& parameter, opdsl_i64*& extents, size_t place, Call* call) {
  View view;
  const bool is_array = PyArray_CheckExact(object);
  if (!(is_array ? view_array(object, parameter.written, &view) : view_dlpack(object, &view))) return false;
  call->only_arrays &= is_array;
  const int rank = view.rank;
  if (rank != static_cast<int>(parameter.dims.size())) return false;
  opdsl_i64* shape = extents;
  opdsl_i64* strides = extents + rank;
  extents += 2 * rank;
  const char* begin = view.data;
  const char* end = begin + view.item_bytes;
  const int64_t part_of_stride = (int64_t{1} << view.shift) - 1;
  opdsl_i64 contiguous_stride = 1;
  int unit_axis = -1;
  bool empty = false;
  for (int axis = 0; axis < rank; ++axis) empty |= view.dims[axis] == 0;
  for (int axis = rank - 1; axis >= 0; --axis) {
    const opdsl_i64 size = view.dims[axis];
    const Dim& dim = parameter.dims[static_cast<size_t>(axis)];
    shape[axis] = size;
    if (dim.kind == DimKind::kLiteral && size != dim.value) return false;
    if (size <= 1 || empty || view.strides == nullptr) {
      // The stride of a short axis means nothing: it gets the one that a contiguous array would have.
      strides[axis] = contiguous_stride;
    } else {
      if ((view.strides[axis] & part_of_stride) != 0) return false;
      strides[axis] = view.strides[axis] >> view.shift;
    }
    if (size > 1) (strides[axis] < 0 ? begin : end) += strides[axis] * view.item_bytes * (size - 1);
    if (unit_axis < 0 && strides[axis] == 1) unit_axis = axis;
    contiguous_stride = strides[axis] * size;
  }
  // In order of the axes, so that a symbol is bound before it is compared.
  for (int axis = 0; axis < rank; ++axis) {
    const Dim& dim = parameter.dims[static_cast<size_t>(axis)];
    if (dim.kind == DimKind::kBinds)
      call->symbols[dim.value] = shape[axis];
    else if (dim.kind == DimKind::kCompares && call->symbols[dim.value] != shape[axis])
      return false;
  }
  if (parameter.written && !empty && !view.contiguous && !elements_are_distinct(rank, shape, strides)) return false;
  call->arrays[place] = {view.data, shape, strides};
  call->ranges[place] = empty ? Range{begin, begin} : Range{begin, end};
  call->dtypes[place] = view.dtype;
  call->key[call->key_length++] = static_cast<uint64_t>(view.dtype) | static_cast<uint64_t>(unit_axis + 1) << 8;
  return true;
}

// How written tensors and other arguments share memory, judged by their outermost elements: the key's first word.
enum Sharing : uint64_t {
  kNothingShared = 0,
  kSameViewShared = 1,  // a written tensor and one that is only read are the very same view, as in add(x, y, x)
  kPartlyShared = 2,    // anything else: the long way says whether that is harmless
};

bool is_same_view(const opdsl_array& a, const opdsl_array& b, size_t rank) {
  return a.data == b.data && memcmp(a.shape, b.shape, rank * sizeof(opdsl_i64)) == 0 &&
         memcmp(a.strides, b.strides, rank * sizeof(opdsl_i64)) == 0;
}

Sharing sharing_of(const Plan& plan, const Call& call) {
  Sharing sharing = kNothingShared;
  for (size_t written = 0; written < plan.tensors.size(); ++written) {
    const Parameter& target = plan.parameters[plan.tensors[written]];
    if (!target.written) continue;
    const Range& a = call.ranges[written];
    for (size_t other = 0; other < plan.tensors.size(); ++other) {
      const Range& b = call.ranges[other];
      if (other == written || a.begin >= b.end || b.begin >= a.end || a.begin == a.end || b.begin == b.end) continue;
      const Parameter& source = plan.parameters[plan.tensors[other]];
      const bool same = !source.written && source.dims.size() == target.dims.size() &&
                        call.dtypes[written] == call.dtypes[other] &&
                        is_same_view(call.arrays[written], call.arrays[other], target.dims.size());
      if (!same) return kPartlyShared;
      sharing = kSameViewShared;
    }
  }
  return sharing;
}

bool prepare(const Plan& plan, PyObject* const* arguments, size_t count, Call* call) {
  if (count != plan.parameters.size()) return false;
  call->key_length = 1;
  call->only_arrays = true;
  opdsl_i64* extents = call->extents;
  opdsl_scalar* scalar = call->scalars;
  size_t tensor = 0;
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = plan.parameters[i];
    if (parameter.is_tensor) {
      if (!read_tensor(arguments[i], parameter, extents, tensor++, call)) return false;
    } else if (!read_scalar(arguments[i], parameter.scalar_dtype, scalar++)) {
      return false;
    }
  }
  call->key[0] = plan.writes ? sharing_of(plan, *call) : kNothingShared;
  for (const int symbol : plan.bound_symbols) call->key[call->key_length++] = static_cast<uint64_t>(call->symbols[symbol]);
  return true;
}

uint64_t hash_key(const uint64_t* key, size_t length) {
  uint64_t hash = 0x9e3779b97f4a7c15u;
  for (size_t i = 0; i < length; ++i) {
    hash = (hash ^ key[i]) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
  }
  return hash;
}

const Compiled* find(const Plan& plan, const uint64_t* key, size_t length) {
  if (plan.compiled.empty()) return nullptr;
  const uint64_t hash = hash_key(key, length);
  const size_t mask = plan.table.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    if (plan.table[slot] == 0) return nullptr;
    const Compiled& candidate = plan.compiled[plan.table[slot] - 1];
    if (candidate.hash == hash && candidate.key.size() == length &&
        memcmp(candidate.key.data(), key, length * sizeof(uint64_t)) == 0)
      return &candidate;
  }
}

void rebuild_table(Plan& plan) {
  size_t size = 16;
  while (size < 2 * (plan.compiled.size() + 1)) size *= 2;
  plan.table.assign(size, 0);
  for (size_t i = 0; i < plan.compiled.size(); ++i) {
    size_t slot = plan.compiled[i].hash & (size - 1);
    while (plan.table[slot] != 0) slot = (slot + 1) & (size - 1);
    plan.table[slot] = static_cast<uint32_t>(i + 1);
  }
}

PyObject* launcher_vectorcall(PyObject* object, PyObject* const* arguments, size_t flagged_count, PyObject* names) {
  const Plan& plan = *reinterpret_cast<LauncherObject*>(object)->plan;
  const size_t count = static_cast<size_t>(PyVectorcall_NARGS(flagged_count));
  Call call;
  if ((names != nullptr && PyTuple_GET_SIZE(names) != 0) || !prepare(plan, arguments, count, &call))
    return Py_NewRef(miss);
  const Compiled* compiled = find(plan, call.key, call.key_length);
  // An executable in Python expects arrays.
  if (compiled == nullptr || (compiled->function == nullptr && !call.only_arrays)) return Py_NewRef(miss);
  // Another thread may register an executable while this one runs without the GIL.
  const opdsl_entry function = compiled->function;
  PyObject* executable = Py_NewRef(compiled->executable);
  PyObject* result;
  if (function != nullptr) {
    result = call_entry(function, call.arrays, call.scalars);
  } else {
    PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(count));
    for (size_t i = 0; tuple != nullptr && i < count; ++i)
      PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), Py_NewRef(arguments[i]));
    result = tuple != nullptr ? PyObject_CallOneArg(executable, tuple) : nullptr;
    Py_XDECREF(tuple);
  }
  Py_DECREF(executable);
  return result;
}

// ---- the Python type ------------------------------------------------------------------------------------------------

bool read_dims(PyObject* dims, Parameter* parameter, std::vector<std::string>* symbols) {
  for (Py_ssize_t axis = 0; axis < PyTuple_GET_SIZE(dims); ++axis) {
    PyObject* dim = PyTuple_GET_ITEM(dims, axis);
    if (dim == Py_None) {
      parameter->dims.push_back({DimKind::kAny, 0});
    } else if (PyLong_Check(dim)) {
      const opdsl_i64 value = PyLong_AsLongLong(dim);
      if (value == -1 && PyErr_Occurred() != nullptr) return false;
      parameter->dims.push_back({DimKind::kLiteral, value});
    } else {
      const char* name = PyUnicode_AsUTF8(dim);
      if (name == nullptr) return false;
      size_t number = 0;
      while (number < symbols->size() && (*symbols)[number] != name) ++number;
      const bool first = number == symbols->size();
      if (first) symbols->push_back(name);
      parameter->dims.push_back({first ? DimKind::kBinds : DimKind::kCompares, static_cast<opdsl_i64>(number)});
    }
  }
  return true;
}

bool read_parameter(PyObject* item, Plan* plan, std::vector<std::string>* symbols) {
  const char* kind;
  PyObject* detail;
  int written = 0;
  if (!PyTuple_Check(item)) {
    PyErr_SetString(PyExc_TypeError, "a parameter is (\"tensor\", dims, written) or (\"scalar\", dtype)");
    return false;
  }
  if (!PyArg_ParseTuple(item, "sO|p", &kind, &detail, &written)) return false;
  Parameter parameter{strcmp(kind, "tensor") == 0, written != 0, kNone, {}};
  if (parameter.is_tensor) {
    if (!PyTuple_Check(detail)) {
      PyErr_SetString(PyExc_TypeError, "the dims of a tensor are a tuple of names, numbers and None");
      return false;
    }
    if (!read_dims(detail, &parameter, symbols)) return false;
    plan->tensors.push_back(plan->parameters.size());
    plan->writes |= parameter.written;
  } else {
    const char* name = PyUnicode_AsUTF8(detail);
    if (name == nullptr) return false;
    parameter.scalar_dtype = code_named(name);
    if (parameter.scalar_dtype == kNone) {
      PyErr_Format(PyExc_ValueError, "there is no element type %s", name);
      return false;
    }
  }
  plan->parameters.push_back(std::move(parameter));
  return true;
}

bool read_plan(PyObject* parameters, PyObject* bound, Plan* plan) {
  std::vector<std::string> symbols;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parameters); ++i)
    if (!read_parameter(PyTuple_GET_ITEM(parameters, i), plan, &symbols)) return false;
  size_t axes = 0;
  for (const Parameter& parameter : plan->parameters) axes += parameter.dims.size();
  if (plan->parameters.size() > kMaximumParameters || axes > kMaximumAxes || symbols.size() > kMaximumSymbols) {
    PyErr_Format(PyExc_ValueError, "a kernel has at most %d parameters, %d axes and %d symbolic dims",
                 kMaximumParameters, kMaximumAxes, kMaximumSymbols);
    return false;
  }
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(bound); ++i) {
    const char* name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(bound, i));
    if (name == nullptr) return false;
    size_t number = 0;
    while (number < symbols.size() && symbols[number] != name) ++number;
    if (number == symbols.size()) {
      PyErr_Format(PyExc_ValueError, "no tensor has a dim named %s", name);
      return false;
    }
    plan->bound_symbols.push_back(static_cast<int>(number));
  }
  return true;
}

PyObject* launcher_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"parameters", "bound", nullptr};
  PyObject* parameter_sequence;
  PyObject* bound_sequence = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|O", const_cast<char**>(names), &parameter_sequence,
                                   &bound_sequence))
    return nullptr;
  PyObject* parameters = PySequence_Tuple(parameter_sequence);
  PyObject* bound = parameters == nullptr           ? nullptr
                    : bound_sequence == nullptr     ? PyTuple_New(0)
                                                    : PySequence_Tuple(bound_sequence);
  auto plan = std::make_unique<Plan>();
  const bool good = bound != nullptr && read_plan(parameters, bound, plan.get());
  Py_XDECREF(parameters);
  Py_XDECREF(bound);
  if (!good) return nullptr;
  LauncherObject* launcher = reinterpret_cast<LauncherObject*>(type->tp_alloc(type, 0));
  if (launcher == nullptr) return nullptr;
  launcher->vectorcall = launcher_vectorcall;
  launcher->plan = plan.release();
  return reinterpret_cast<PyObject*>(launcher);
}

int launcher_traverse(PyObject* object, visitproc visit, void* arg) {
  const LauncherObject* launcher = reinterpret_cast<LauncherObject*>(object);
  for (const Compiled& compiled : launcher->plan->compiled) Py_VISIT(compiled.executable);
  return 0;
}

int launcher_clear_references(PyObject* object) {
  Plan& plan = *reinterpret_cast<LauncherObject*>(object)->plan;
  std::vector<Compiled> compiled;
  compiled.swap(plan.compiled);
  plan.table.clear();
  for (Compiled& item : compiled) Py_DECREF(item.executable);
  return 0;
}

void launcher_dealloc(PyObject* object) {
  PyObject_GC_UnTrack(object);
  launcher_clear_references(object);
  delete reinterpret_cast<LauncherObject*>(object)->plan;
  Py_TYPE(object)->tp_free(object);
}

PyObject* launcher_key(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
  const Plan& plan = *reinterpret_cast<LauncherObject*>(object)->plan;
  Call call;
  if (!prepare(plan, arguments, static_cast<size_t>(count), &call)) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(call.key),
                                   static_cast<Py_ssize_t>(call.key_length * sizeof(uint64_t)));
}

PyObject* launcher_register(PyObject* object, PyObject* const* arguments, Py_ssize_t count) {
  Plan& plan = *reinterpret_cast<LauncherObject*>(object)->plan;
  if (count != 2 || !PyBytes_Check(arguments[0]) || PyBytes_GET_SIZE(arguments[0]) % sizeof(uint64_t) != 0) {
    PyErr_SetString(PyExc_TypeError, "register(key, executable): the key is what key() returned");
    return nullptr;
  }
  if (!PyCallable_Check(arguments[1])) {
    PyErr_SetString(PyExc_TypeError, "the executable must be an Entry or a callable of the argument tuple");
    return nullptr;
  }
  std::vector<uint64_t> key(static_cast<size_t>(PyBytes_GET_SIZE(arguments[0])) / sizeof(uint64_t));
  memcpy(key.data(), PyBytes_AS_STRING(arguments[0]), key.size() * sizeof(uint64_t));
  const opdsl_entry function =
      is_entry(arguments[1]) ? reinterpret_cast<EntryObject*>(arguments[1])->function : nullptr;
  const Compiled* known = find(plan, key.data(), key.size());
  if (known != nullptr) {
    Compiled& compiled = plan.compiled[static_cast<size_t>(known - plan.compiled.data())];
    PyObject* previous = compiled.executable;
    compiled.function = function;
    compiled.executable = Py_NewRef(arguments[1]);
    Py_DECREF(previous);
  } else {
    const uint64_t hash = hash_key(key.data(), key.size());
    plan.compiled.push_back({hash, std::move(key), function, Py_NewRef(arguments[1])});
    rebuild_table(plan);
  }
  Py_RETURN_NONE;
}

PyObject* launcher_clear(PyObject* object, PyObject*) {
  launcher_clear_references(object);
  Py_RETURN_NONE;
}

PyObject* launcher_size(PyObject* object, void*) {
  return PyLong_FromSize_t(reinterpret_cast<LauncherObject*>(object)->plan->compiled.size());
}

PyMethodDef launcher_methods[] = {
    {"key", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(launcher_key)), METH_FASTCALL,
     "key(*arguments): what the compiler specialises on, or None where only the long way can say."},
    {"register", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(launcher_register)), METH_FASTCALL,
     "register(key, executable): calls with this key run the executable from now on."},
    {"clear", launcher_clear, METH_NOARGS, "Forgets every executable."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef launcher_properties[] = {
    {"size", launcher_size, nullptr, "How many executables are registered.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyTypeObject launcher_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

// What Python code that chooses between launchers keys its choices on.
PyObject* layout(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  int64_t words[kMaximumAxes];
  size_t length = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (arguments[i] == Py_None) {
      words[length++] = -1;
      if (length == kMaximumAxes) Py_RETURN_NONE;
      continue;
    }
    if (!PyArray_CheckExact(arguments[i])) Py_RETURN_NONE;
    PyArrayObject* array = reinterpret_cast<PyArrayObject*>(arguments[i]);
    const size_t rank = static_cast<size_t>(PyArray_NDIM(array));
    if (length + 2 * rank + 2 > kMaximumAxes) Py_RETURN_NONE;
    words[length++] = static_cast<int64_t>(rank) << 32 | PyArray_DESCR(array)->type_num;
    for (size_t axis = 0; axis < rank; ++axis) {
      words[length++] = PyArray_DIMS(array)[axis];
      words[length++] = PyArray_STRIDES(array)[axis];
    }
  }
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(words), static_cast<Py_ssize_t>(length * sizeof(int64_t)));
}

PyMethodDef functions[] = {
    {"layout", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(layout)), METH_FASTCALL,
     "layout(*arrays): their shapes, strides and element types, as bytes; an array may be None. None if one is no plain\n"
     "NumPy array."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool register_dtype(const char* name, PyObject* descriptor) {
  const DTypeCode code = code_named(name);
  if (code == kNone || !PyArray_DescrCheck(descriptor)) {
    PyErr_Format(PyExc_ValueError, "there is no element type %s", name);
    return false;
  }
  const int type_number = reinterpret_cast<PyArray_Descr*>(descriptor)->type_num;
  if (code_of_type_number(type_number) == kNone) registered_dtypes.push_back({type_number, code});
  return true;
}

bool add_launcher_type(PyObject* module) {
  launcher_type.tp_name = "opdsl._runtime.Launcher";
  launcher_type.tp_doc =
      "Launcher(parameters, bound=()): maps calls to compiled executables. A parameter is (\"tensor\", dims, written) or "
      "(\"scalar\", dtype); `bound` names the dims whose values are part of the key.\n"
      "launcher(*arguments) gives None, (code, reports, dropped), or MISS.";
  launcher_type.tp_basicsize = sizeof(LauncherObject);
  launcher_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_HAVE_GC;
  launcher_type.tp_new = launcher_new;
  launcher_type.tp_dealloc = launcher_dealloc;
  launcher_type.tp_traverse = launcher_traverse;
  launcher_type.tp_clear = launcher_clear_references;
  launcher_type.tp_free = PyObject_GC_Del;
  launcher_type.tp_methods = launcher_methods;
  launcher_type.tp_getset = launcher_properties;
  launcher_type.tp_call = PyVectorcall_Call;
  launcher_type.tp_vectorcall_offset = offsetof(LauncherObject, vectorcall);
  if (PyType_Ready(&launcher_type) != 0) return false;
  miss = PyObject_CallNoArgs(reinterpret_cast<PyObject*>(&PyBaseObject_Type));
  return miss != nullptr && PyModule_AddObjectRef(module, "MISS", miss) == 0 &&
         PyModule_AddFunctions(module, functions) == 0 &&
         PyModule_AddObjectRef(module, "Launcher", reinterpret_cast<PyObject*>(&launcher_type)) == 0;
}

}  // namespace opdsl
