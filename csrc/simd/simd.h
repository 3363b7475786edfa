// Everything that generated code uses, except elementary.h (exp, sin, ...) and dot.h, which are included where needed.
#ifndef OPDSL_SIMD_SIMD_H
#define OPDSL_SIMD_SIMD_H

#include "abi.h"
#include "types.h"
#include "arithmetic.h"
#include "convert.h"
#include "memory.h"
#include "parallel.h"
#include "random.h"
#include "reduce.h"

#endif
