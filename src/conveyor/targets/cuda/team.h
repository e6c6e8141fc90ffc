/* What a kernel and Python say to each other, and what every kernel calls: teams of threads, and products. */

/* One launch of one part of a plan. Memory that `d`, `k`, `at`, ... point to is the machine's. */
typedef struct {
  const idx *d;                 /* the numbers of the plan: sizes, strides, offsets */
  const real *k;                /* numbers of the step itself */
  const idx *at;                /* at[t]: the row of a stream where step t begins */
  const idx *before;            /* before[t]: the row of a history where the states before step t begin */
  const idx *count;             /* count[t]: sequences that are still running at step t; they come first */
  unsigned long long *arrived;  /* 0 at the launch, for the barrier of a whole grid */
  idx batch, start;             /* sequences; the number of the first step */
  idx begin, end;               /* the steps of this launch */
  idx rows;                     /* sequences of a team */
  idx kind, blocks;             /* what a team is, and how many blocks it has */
  idx only;                     /* -1: the whole part; or its one section between two barriers that this launch does */
} call;

/* The buffers. */
typedef struct { real *at[BUFFERS]; } pointers;

enum { ONE_BLOCK, ONE_CLUSTER, WHOLE_GRID, LAUNCHES };

/* A team owns some sequences, from their first step to the last. Its threads share the work of each step. */
typedef struct { idx rank, size, from, to; } team;

INLINE team team_of(const call *c) {
  team w;
  w.rank = BLOCK % c->blocks * THREADS + THREAD;
  w.size = c->blocks * THREADS;
  w.from = BLOCK / c->blocks * c->rows;
  w.to = w.from + c->rows < c->batch ? w.from + c->rows : c->batch;
  return w;
}

/* The barrier of a team: what one thread has written before it, the others read after it. */
INLINE void sync(const call *c) {
  if (c->kind == ONE_BLOCK) sync_block();
  else if (c->kind == ONE_CLUSTER) sync_cluster();
  else if (c->kind == WHOLE_GRID) sync_grid(c->arrived, c->blocks); /* else the next launch waits for this one's end */
}

/* The first step of a slice of the steps of a launch. */
INLINE idx slice_of(const call *c, idx slice) { return c->begin + (c->end - c->begin) * slice / SLICES; }

/* The remainder by n, by which the number is divided: an index, from the last one to the first. */
INLINE idx take(idx *rest, idx n) {
  idx all = *rest;
  *rest = (all | n) >> 31 ? all / n : (idx)((uint32_t)all / (uint32_t)n); /* 64 bits take a GPU long */
  return all - *rest * n;
}

#ifdef DOUBLE /* rows that a thread multiplies at a time, for each number of the matrix that it reads */
#define TILE 4
#else
#define TILE 8
#endif

/* s[q] += a[q][0..K) b[..][0] for the rows q < TILE, of which the first `rows` are there; the matrix b has N columns. */
INLINE const real *add_product(real *s, const real *a, idx row, idx K, const real *b, idx N, idx rows) {
  const real *of[TILE];
  UNROLL for (int q = 0; q < TILE; q++) of[q] = a + (q < rows ? q : 0) * row;
  for (idx k = 0; k < K; k++, b += N) {
    const real x = *b;
    UNROLL for (int q = 0; q < TILE; q++) s[q] += of[q][k] * x;
  }
  return b;
}

INLINE void store(const real *s, real *to, idx row, idx rows) {
  UNROLL for (int q = 0; q < TILE; q++)
    if (q < rows) to[q * row] = s[q];
}
