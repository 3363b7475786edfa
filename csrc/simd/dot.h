// od.dot on the CPU: micro-kernels and packing for generated code. docs/dot.md is the guide.
#ifndef OPDSL_DOT_H
#define OPDSL_DOT_H

#include "dot_half.h"
#include "dot_integer.h"
#include "dot_kernel.h"
#include "dot_lanes.h"
#include "dot_pack.h"
#include "dot_skinny.h"
#include "dot_tiles.h"
#include "dot_tiles_few.h"

#endif
