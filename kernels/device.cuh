/*
 * device.cuh - what every kernel file begins with.
 */
#ifndef EPIDOTE_KERNELS_DEVICE_CUH
#define EPIDOTE_KERNELS_DEVICE_CUH

#include <cuda_runtime.h>

/* The library is compiled with -fvisibility=hidden; this is seen all the same. */
#define K_SHOWN __attribute__((visibility("default")))

#endif
