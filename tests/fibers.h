/* A machine for the text of CUDA kernels: every thread of the grid is a fiber on this processor. A fiber runs until its
   next barrier, and then the next one does, in the order asked for; so a barrier that is missing is missed. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

typedef long long idx;
typedef REAL real;

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 8")
#define KERNEL(name)                                                                                 \
  static void name##_text(const call c, const pointers p);                                           \
  void name(void **given) { name##_text(*(const call *)given[0], *(const pointers *)given[1]); }      \
  static void name##_text(const call c, const pointers p)

int left_out = -1; /* the number of a barrier of the text that is not there */

enum { STACK = 1 << 16 };
enum { RUNS, AT_BLOCK, AT_CLUSTER, AT_GRID, DONE };
typedef struct { ucontext_t context; int state; idx block, slice, thread; char *stack; } fiber;

static struct { fiber *now; ucontext_t back; void (*kernel)(void **); void **given; idx threads, slices, barriers; } on;
#define THREAD (on.now->thread)
#define THREADS (on.threads)
#define BLOCK (on.now->block)
#define SLICE (on.now->slice)
#define SLICES (on.slices)

static void stop(int state) {
  on.now->state = state;
  swapcontext(&on.now->context, &on.back);
}
INLINE void sync_block(void) { stop(AT_BLOCK); }
INLINE void sync_cluster(void) { stop(AT_CLUSTER); }
INLINE void sync_grid(unsigned long long *arrived, idx blocks) {
  if (THREAD == 0) ++*arrived;
  stop(AT_GRID);
  (void)blocks;
}

static void enter(void) {
  on.kernel(on.given);
  stop(DONE);
}

/* Lets `count` fibers go on if all of them stand at this barrier. */
static int release(fiber *f, idx count, int barrier) {
  for (idx i = 0; i < count; i++)
    if (f[i].state != barrier) return 0;
  for (idx i = 0; i < count; i++) f[i].state = RUNS;
  on.barriers++;
  return 1;
}

/* Runs `blocks` blocks side by side, to their end. 1: some threads wait for others that never come. */
static int run_together(fiber *f, idx blocks, unsigned order) {
  const idx count = blocks * on.threads;
  for (unsigned round = 0;; round++) {
    for (idx i = 0; i < count; i++) {
      idx at = order == 0 ? i : order == 1 ? count - 1 - i : (i * 7919 + (idx)round * 31 + order) % count;
      if (order > 1 && count % 7919 == 0) at = i;
      on.now = &f[at];
      if (f[at].state == RUNS) swapcontext(&on.back, &f[at].context);
    }
    idx done = 0;
    for (idx i = 0; i < count; i++) done += f[i].state == DONE;
    if (done == count) return 0;
    int some = release(f, count, AT_CLUSTER) || release(f, count, AT_GRID);
    for (idx b = 0; b < blocks && !some; b++) some |= release(f + b * on.threads, on.threads, AT_BLOCK);
    if (!some) return 1;
  }
}

/* One launch; `together` blocks at a time are side by side. */
int launch(void (*kernel)(void **), void **given, idx blocks, idx slices, idx threads, idx together, unsigned order) {
  const idx count = together * threads;
  fiber *f = calloc(count, sizeof *f);
  char *stacks = malloc(count * STACK);
  int failed = 0;
  on.kernel = kernel, on.given = given, on.threads = threads, on.slices = slices;
  for (idx slice = 0; slice < slices; slice++)
    for (idx b = 0; b < blocks && !failed; b += together) {
      for (idx i = 0; i < count; i++) {
        getcontext(&f[i].context);
        f[i].context.uc_stack.ss_sp = stacks + i * STACK;
        f[i].context.uc_stack.ss_size = STACK;
        f[i].state = RUNS, f[i].slice = slice, f[i].thread = i % threads;
        f[i].block = (order ? blocks - together - b : b) + i / threads;
        makecontext(&f[i].context, enter, 0);
      }
      failed = run_together(f, together, order);
    }
  free(stacks);
  free(f);
  return failed;
}
