/* What a kernel, the runtime and Python say to each other; structs.py reads the last two structs from here. */
#ifndef CONVEYOR_RUNTIME_H
#define CONVEYOR_RUNTIME_H

#include <stddef.h>

typedef REAL real;
typedef ptrdiff_t idx;

/* Operands of a product that lie apart: rows a, a + row, ..., each of `size` elements. */
typedef struct { const real *a; idx row, size; } segment;

/* Rows for a sum over all rows: row r lies at a + map[r] * row (or r * row), and within it each `step` a row of its own. */
typedef struct { const real *a; idx row, step; const idx *map; } operand;

/* One sum over all rows of what `a` and `b` have there, [M][size]; of `a` alone, [M], if size is 0. */
typedef struct { operand b; idx size; real *to; } product;

typedef struct call call;

typedef struct {
  void (*pack)(const real *, idx row, idx column, idx K, idx N, real *, idx k0, idx n0, idx inner, idx width);
  void (*gemm)(idx M, idx N, idx segments, const segment *, const real *packed, real *, idx ldc, int add, idx part, idx parts);
  void (*outer)(idx rows, idx lead, operand a, idx M, idx count, const product *, int add, real *room, idx part, idx parts);
  void (*wait)(const call *);
} functions;

struct call {
  const functions *f;
  struct team *team;
  const idx *d;        /* the numbers of the plan: sizes, strides, offsets */
  const real *k;       /* numbers of the step itself */
  real *const *p;      /* the buffers */
  real *const *room;   /* scratch, for each thread */
  const idx *at;       /* at[t]: the row of a stream where step t begins */
  const idx *before;   /* before[t]: the row of a history where the states before step t begin */
  const idx *count;    /* count[t]: sequences that are still running at step t; they come first */
  const idx *cut;      /* cut[k]: the first sequence of thread k */
  const idx *map;      /* for each row of a stream, the row of a history before it; none if it is the same */
  const idx *row;      /* for each row of a stream, its sequence */
  idx steps, batch, rows, start, threads;
  idx split;           /* threads share each product of a step, and wait for each other; else each has its own rows */
  idx span;            /* steps in a chunk */
  /* Of the chunk of steps that is under way; `rows` is then the chunk's too: */
  idx begin, end, first, add;  /* its steps, its first row in a stream, and whether sums go on from the chunk before */
};

/* PyTorch's own threads, if they could be found: they may still be awake from its last operation, and would be in the
   way of others. */
typedef struct {
  void (*parallel)(void (*)(void *), void *, unsigned threads, unsigned flags);
  int (*number)(void), (*size)(void);
} pool;

/* Rows of `size` elements, set to 0. */
static inline void clear(idx rows, idx size, real *a, idx row) {
  for (idx r = 0; r < rows; r++)
    for (idx j = 0; j < size; j++) a[r * row + j] = 0;
}

#endif
