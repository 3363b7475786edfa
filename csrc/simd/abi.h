// What a generated kernel and its host agree on. Plain C, no system headers: generated code, the prebuilt runtime
// and ahead-of-time libraries all include this one file.
#ifndef OPDSL_ABI_H
#define OPDSL_ABI_H

#ifdef __cplusplus
extern "C" {
#endif

typedef __INT64_TYPE__ opdsl_i64;
typedef __INT32_TYPE__ opdsl_i32;

#define OPDSL_ABI_VERSION 2

// One tensor argument. Strides are in elements and may be zero or negative; shape and strides have `rank` entries,
// a number that the kernel knows.
typedef struct opdsl_array {
  void* data;
  const opdsl_i64* shape;
  const opdsl_i64* strides;
} opdsl_array;

// One scalar argument: integers and booleans in `i`, floats of every width in `f`.
typedef union opdsl_scalar {
  opdsl_i64 i;
  double f;
} opdsl_scalar;

// A value handed to `report`: the elements of a printed scalar or tile, already widened to i64 or double.
typedef struct opdsl_report_value {
  opdsl_i32 is_float;
  opdsl_i32 rank;
  const opdsl_i64* shape;
  const opdsl_scalar* elements;
} opdsl_report_value;

typedef struct opdsl_runtime opdsl_runtime;

// A piece of a parallel loop: runs iterations begin <= i < end. `scratch` is 64-byte aligned memory of this thread, of
// the size that parallel_for was asked for, not initialised, and kept by the thread between the pieces of one call.
typedef void (*opdsl_body)(void* closure, opdsl_i64 begin, opdsl_i64 end, char* scratch);

struct opdsl_runtime {
  // Runs `body` over 0..count in pieces that are multiples of `chunk` (the last may be short), dynamically handed out;
  // the caller takes part and can finish alone. A call made from inside a body runs in the caller.
  // Returns OPDSL_OK, or OPDSL_OUT_OF_MEMORY where there is no scratch memory: some pieces may have run, others not.
  opdsl_i32 (*parallel_for)(const opdsl_runtime*, opdsl_i64 count, opdsl_i64 chunk, opdsl_i64 scratch_bytes,
                            opdsl_body body, void* closure);
  // Pooled, 64-byte aligned (2 MiB aligned and huge-page advised from 2 MiB up) memory for workspaces.
  // Returns null when there is none: the kernel then returns OPDSL_OUT_OF_MEMORY.
  void* (*allocate)(const opdsl_runtime*, opdsl_i64 bytes);
  void (*release)(const opdsl_runtime*, void*);
  // od.print and a failed od.assert_: `site` numbers the call in the kernel's source.
  void (*report)(const opdsl_runtime*, opdsl_i32 site, const opdsl_report_value* values, opdsl_i32 count);
  void* state;
};

enum {
  OPDSL_OK = 0,
  OPDSL_OUT_OF_MEMORY = -1,
  // Any positive result is 1 + the site of the od.assert_ that failed first.
};

// The entry point of every generated kernel.
typedef opdsl_i32 (*opdsl_entry)(const opdsl_runtime*, const opdsl_array* arrays, const opdsl_scalar* scalars);

#ifdef __cplusplus
}
#endif
#endif
