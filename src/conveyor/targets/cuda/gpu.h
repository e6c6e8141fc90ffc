/* The machine, as the kernels see it: types, threads, barriers. A kernel's text includes this file by name, so that
   the same text can be given another machine. */

typedef long long idx;
typedef REAL real;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

#define INLINE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(MOST_THREADS) name(const call c, const pointers p)

#define THREAD ((idx)threadIdx.x)
#define THREADS ((idx)blockDim.x)
#define BLOCK ((idx)blockIdx.x)
#define SLICE ((idx)blockIdx.y)
#define SLICES ((idx)gridDim.y)

INLINE void sync_block(void) { __syncthreads(); }

/* Of the blocks of a cluster, which the hardware runs side by side. */
INLINE void sync_cluster(void) {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* Of all blocks of the grid, which a cooperative launch runs side by side. `arrived` counts the blocks that have come,
   from 0 at the launch: the next number of them that is a multiple of all lets them go. */
INLINE void sync_grid(unsigned long long *arrived, idx blocks) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    unsigned long long mine = atomicAdd(arrived, 1ULL), all = (unsigned long long)blocks;
    unsigned long long until = (mine / all + 1) * all;
    while (*(volatile unsigned long long *)arrived < until) {
    }
    __threadfence();
  }
  __syncthreads();
}
