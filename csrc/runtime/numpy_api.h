// Python's and NumPy's C interfaces, set up so that all files of the module share one import of NumPy (module.cpp).
#ifndef OPDSL_NUMPY_API_H
#define OPDSL_NUMPY_API_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL opdsl_numpy_api
#ifndef OPDSL_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

#endif
