/* A CUDA driver that runs nothing: it writes down what it is asked for, and a test reads it. "Device memory" is the host's. */
#include <cuda.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char journal[1 << 16];
static size_t used;

#define NOTE(...) (used += (size_t)snprintf(journal + used, sizeof journal - used, __VA_ARGS__))

/* Set by the test. */
int pretended_major = 9, pretended_minor = 0, pretended_processors = 132, pretended_blocks = 2;
int pretended_context = 1, pretended_failure = 0; /* the number of the assertion that fails */
int parameter_bytes[64], parameter_count;

const char *read_journal(void) {
  journal[used] = 0; /* nothing of what was read before */
  used = 0;
  return journal;
}

CUresult cuGetErrorName(CUresult error, const char **name) {
  *name = error == CUDA_ERROR_INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR";
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  *device = 0;
  return pretended_context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  (void)device;
  *value = attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT       ? pretended_processors
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? pretended_major
                                                                       : pretended_minor;
  return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *options, void **values, unsigned count,
                           CUlibraryOption *library_options, void **library_values, unsigned library_count) {
  (void)options, (void)values, (void)count, (void)library_options, (void)library_values, (void)library_count;
  NOTE("load %d\n", memcmp(code, "\x7f" "ELF", 4) == 0);
  *library = (CUlibrary)code;
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  (void)library;
  *kernel = (CUkernel)name;
  return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  *function = (CUfunction)kernel;
  return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  (void)kernel, (void)device;
  NOTE("attribute %d %d\n", (int)attribute, value);
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
  (void)function, (void)threads, (void)shared;
  *blocks = pretended_blocks;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,
                        unsigned threads_z, unsigned shared, CUstream stream, void **parameters, void **extra) {
  (void)extra;
  NOTE("launch %s %u %u %u %u %u %u %u %llu", (const char *)function, x, y, z, threads_x, threads_y, threads_z, shared,
       (unsigned long long)(uintptr_t)stream);
  for (int i = 0; i < parameter_count; ++i) {
    unsigned long long value = 0;
    memcpy(&value, parameters[i], (size_t)parameter_bytes[i]);
    NOTE(" %llu", value);
  }
  NOTE("\n");
  return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  (void)stream;
  *pointer = (CUdeviceptr)(uintptr_t)malloc(bytes);
  NOTE("allocate %zu\n", bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
  (void)stream;
  free((void *)(uintptr_t)pointer);
  NOTE("free\n");
  return CUDA_SUCCESS;
}

CUresult cuMemsetD8Async(CUdeviceptr pointer, unsigned char value, size_t count, CUstream stream) {
  (void)stream;
  memset((void *)(uintptr_t)pointer, value, count);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream stream) {
  (void)stream;
  memcpy(target, (const void *)(uintptr_t)source, bytes);
  if (pretended_failure > 0) ((int32_t *)target)[pretended_failure - 1] = 1;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) {
  (void)stream;
  NOTE("wait\n");
  return CUDA_SUCCESS;
}
