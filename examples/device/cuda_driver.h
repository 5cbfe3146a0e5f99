/* The few functions of the CUDA driver that the examples need, opened at run time, so that they
 * build where no CUDA is installed. An engine has CUDA's headers and its own allocator instead.
 * Types as in cuda.h, but for handles, which are plain pointers. */
#ifndef CUDA_DRIVER_H
#define CUDA_DRIVER_H
#include <dlfcn.h>
#include <stddef.h>

typedef struct cuda_driver {
  int (*cuInit)(unsigned flags);
  int (*cuDeviceGet)(int *device, int index);
  int (*cuDevicePrimaryCtxRetain)(void **context, int device);
  int (*cuDevicePrimaryCtxRelease_v2)(int device);
  int (*cuCtxSetCurrent)(void *context);
  int (*cuMemAlloc_v2)(unsigned long long *pointer, size_t bytes);
  int (*cuMemFree_v2)(unsigned long long pointer);
  int (*cuMemcpyHtoD_v2)(unsigned long long to, const void *from, size_t bytes);
  int (*cuMemcpyDtoH_v2)(void *to, unsigned long long from, size_t bytes);
  int (*cuStreamCreate)(void **stream, unsigned flags);
  int (*cuStreamSynchronize)(void *stream);
  int (*cuStreamDestroy_v2)(void *stream);
  int (*cuStreamBeginCapture_v2)(void *stream, int mode);
  int (*cuStreamEndCapture)(void *stream, void **graph);
  int (*cuGraphInstantiateWithFlags)(void **executable, void *graph, unsigned long long flags);
  int (*cuGraphLaunch)(void *executable, void *stream);
  int (*cuGraphExecDestroy)(void *executable);
  int (*cuGraphDestroy)(void *graph);
} cuda_driver;

/* Fills `driver` from the library at `path` (null: the system's). 0 where a function is missing. */
static inline int cuda_driver_open(cuda_driver *driver, const char *path) {
  void *library = dlopen(path ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return 0;
  /* POSIX has functions fit into object pointers; ISO C has no cast for it. */
#define FIND(name)                                                                                 \
  *(void **)(&driver->name) = dlsym(library, #name);                                               \
  if (!driver->name)                                                                               \
    return 0;
  FIND(cuInit)
  FIND(cuDeviceGet)
  FIND(cuDevicePrimaryCtxRetain)
  FIND(cuDevicePrimaryCtxRelease_v2)
  FIND(cuCtxSetCurrent)
  FIND(cuMemAlloc_v2)
  FIND(cuMemFree_v2)
  FIND(cuMemcpyHtoD_v2)
  FIND(cuMemcpyDtoH_v2)
  FIND(cuStreamCreate)
  FIND(cuStreamSynchronize)
  FIND(cuStreamDestroy_v2)
  FIND(cuStreamBeginCapture_v2)
  FIND(cuStreamEndCapture)
  FIND(cuGraphInstantiateWithFlags)
  FIND(cuGraphLaunch)
  FIND(cuGraphExecDestroy)
  FIND(cuGraphDestroy)
#undef FIND
  return 1;
}

#endif
