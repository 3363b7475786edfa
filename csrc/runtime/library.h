// What an ahead-of-time library knows of its kernels, as data, and the one function behind all of its C functions.
// `opdsl build` writes the data, and compiles library.cpp, pool.cpp, memory.cpp and machine.cpp into the library.
#ifndef OPDSL_LIBRARY_H
#define OPDSL_LIBRARY_H

#include "simd/abi.h"

namespace opdsl {

// What a C function returns. Any positive result is 1 + the site, counted over the whole library, of the od.assert_ that
// failed.
enum LibraryStatus : opdsl_i32 {
  kOk = OPDSL_OK,
  kOutOfMemory = OPDSL_OUT_OF_MEMORY,
  kBadArgument = -2,
  kOverlap = -3,
  kUnsupportedProcessor = -4,
};

struct LibraryArray {
  const char* name;
  opdsl_i32 rank;
  opdsl_i32 element_bytes;
  bool is_written;
  const opdsl_i64* dims;  // of each axis: its size where that is fixed, else ~(place among the sizes)
};

// One compilation of a kernel. `unit_axes` says of each array which axis must have stride 1; -1: none.
struct LibraryVariant {
  opdsl_i32 isa;  // its place among the library's; each runs wherever the ones before it do
  const signed char* unit_axes;
  opdsl_entry entry;
};

// An od.print or od.assert_. The text has {} for each value; a literal brace is doubled.
struct LibrarySite {
  const char* text;
  const char* place;  // file:line
};

struct LibraryKernel {
  const char* name;
  opdsl_i32 array_count;
  const LibraryArray* arrays;
  opdsl_i32 size_count;
  const char* const* size_names;
  opdsl_i32 variant_count;
  const LibraryVariant* variants;  // the best instruction set first, and in one the most specialised layout first
  opdsl_i32 first_site;            // among the library's sites
  bool in_place;  // compiled for an output that is the very same view as an input
};

struct Library {
  const char* name;
  opdsl_i32 isa_count;
  const char* const* isas;  // the best first
  opdsl_i32 site_count;
  const LibrarySite* sites;
};

// Checks the arguments, chooses the variant for this processor and these strides, runs it. Null strides: contiguous.
opdsl_i32 library_call(const Library& library, const LibraryKernel& kernel, void* const* data,
                       const opdsl_i64* const* strides, const opdsl_i64* sizes, const opdsl_scalar* scalars);

// In words, what a status says; for one of the calling thread's last call, with the argument's name.
const char* library_message(const Library& library, opdsl_i32 status);

// The instruction set that calls use, or an empty text where none of the library's runs here.
const char* library_isa(const Library& library);
opdsl_i32 library_set_isa(const Library& library, const char* isa);

}  // namespace opdsl
#endif
