/* What every kernel calls: matrix products, and the threads. Compiled once for each machine and number type (REAL).

   A matrix product reads its matrix packed: panels of NR columns, each [K][NR], so that the innermost loop reads it in
   order. One tile is m rows of NR columns, held in registers while K is run through. A result does not depend on which
   rows share a tile: every number is summed in the order of K, so one thread and many give the same bits. */

#include "runtime.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VB 64
#define MR 12
#elif defined(__AVX__)
#define VB 32
#define MR 6
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define VB 16
#define MR 12
#else
#define VB 16
#define MR 6
#endif
#define VL ((idx)(VB / sizeof(real)))
#define NR (2 * VL)
_Static_assert(2 * VB / sizeof(real) <= 64, "a packed matrix has room for panels of 64 columns: PANEL in plan.py");
#define FEW 3   /* rows so few that several panels are run at once, or the sums would wait for each other */
#define WIDE 4  /* panels at once then */
#define KC 256  /* rows of an outer product that are packed at once */

typedef real vec __attribute__((vector_size(VB), aligned(sizeof(real)), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

INLINE void store(vec one, vec two, real *c, int add, idx n) {
  if (n >= NR) {
    vec *d = (vec *)c, *e = (vec *)(c + VL);
    if (add) { one += *d; two += *e; }
    *d = one; *e = two;
  } else {
    real t[2 * VB / sizeof(real)];
    *(vec *)t = one; *(vec *)(t + VL) = two;
    for (idx j = 0; j < n; j++) c[j] = (add ? c[j] : 0) + t[j];
  }
}

/* What a tile asks the caches for while it computes: a part of the next panel. */
typedef struct { const char *at; idx step; } ahead;

/* c[i][0..n) (+)= sum over segments and k of a[row + i][k] b[k][..], for m rows; across: a is packed as [k][MR]. */
INLINE void tile(const int m, const int across, idx row, idx segments, const segment *s, const real *b, real *c, idx ldc, int add, idx n, ahead next) {
  vec acc[MR][2];
  UNROLL for (int i = 0; i < m; i++) acc[i][0] = acc[i][1] = (vec){0};
  for (idx q = 0; q < segments; q++) {
    const idx lda = s[q].row;
    const real *p0 = s[q].a + row * lda, *p3 = p0 + 3 * lda, *p6 = p0 + 6 * lda, *p9 = p0 + 9 * lda;
    for (idx k = 0; k < s[q].size; k++, b += NR) {
      vec b0 = *(const vec *)b, b1 = *(const vec *)(b + VL);
      if (!across) { __builtin_prefetch(next.at, 0, 2); next.at += next.step; }
      UNROLL for (int i = 0; i < m; i++) {
        const real *p = i < 3 ? p0 : i < 6 ? p3 : i < 9 ? p6 : p9;
        vec x = (across ? p0[i] : p[(i % 3) * lda]) - (vec){0};
        acc[i][0] += x * b0; acc[i][1] += x * b1;
      }
      if (across) p0 += MR; else { p0++; p3++; p6++; p9++; }
    }
  }
  UNROLL for (int i = 0; i < m; i++) store(acc[i][0], acc[i][1], c + i * ldc, add, n);
}

/* The same for few rows and WIDE panels, the next of which is `panel` numbers on. */
INLINE void wide(const int m, idx row, idx segments, const segment *s, const real *b, idx panel, real *c, idx ldc, int add) {
  vec acc[FEW][WIDE][2];
  UNROLL for (int i = 0; i < m; i++)
    UNROLL for (int w = 0; w < WIDE; w++) acc[i][w][0] = acc[i][w][1] = (vec){0};
  for (idx q = 0; q < segments; q++) {
    const idx lda = s[q].row;
    const real *p = s[q].a + row * lda;
    for (idx k = 0; k < s[q].size; k++, b += NR, p++) {
      UNROLL for (int i = 0; i < m; i++) {
        vec x = p[i * lda] - (vec){0};
        UNROLL for (int w = 0; w < WIDE; w++) {
          acc[i][w][0] += x * *(const vec *)(b + w * panel);
          acc[i][w][1] += x * *(const vec *)(b + w * panel + VL);
        }
      }
    }
  }
  UNROLL for (int i = 0; i < m; i++)
    UNROLL for (int w = 0; w < WIDE; w++) store(acc[i][w][0], acc[i][w][1], c + i * ldc + w * NR, add, NR);
}

typedef void (*tile_fn)(idx, idx, const segment *, const real *, real *, idx, int, idx, ahead);
typedef void (*wide_fn)(idx, idx, const segment *, const real *, idx, real *, idx, int);
#define TILE(m)                                                                                                      \
  static void tile##m(idx row, idx q, const segment *s, const real *b, real *c, idx ldc, int add, idx n, ahead next) { \
    tile(m, 0, row, q, s, b, c, ldc, add, n, next);                                                                  \
  }                                                                                                                  \
  static void across##m(idx row, idx q, const segment *s, const real *b, real *c, idx ldc, int add, idx n, ahead next) { \
    tile(m, 1, row, q, s, b, c, ldc, add, n, next);                                                                  \
  }
#define WIDETILE(m)                                                                                                  \
  static void wide##m(idx row, idx q, const segment *s, const real *b, idx panel, real *c, idx ldc, int add) {       \
    wide(m, row, q, s, b, panel, c, ldc, add);                                                                       \
  }
TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6) WIDETILE(1) WIDETILE(2) WIDETILE(3)
#if MR > 6
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
#define MORE(name) , name##7, name##8, name##9, name##10, name##11, name##12
#else
#define MORE(name)
#endif
static const tile_fn tiles[MR + 1] = {0, tile1, tile2, tile3, tile4, tile5, tile6 MORE(tile)};
static const tile_fn acrosses[MR + 1] = {0, across1, across2, across3, across4, across5, across6 MORE(across)};
static const wide_fn wides[FEW + 1] = {0, wide1, wide2, wide3};

static idx least(idx a, idx b) { return a < b ? a : b; }

/* The share of `part` of `size` things that come in lots of `lot`. */
static idx share(idx size, idx lot, idx part, idx parts) {
  return least(size, (size + lot - 1) / lot * part / parts * lot);
}

/* Lane j of the two rows that a step of a transposition, over blocks of h lanes, makes of two. */
#define UPPER(j, h) ((j) & (h) ? (j) - (h) + VL : (j))
#define LOWER(j, h) ((j) & (h) ? (j) + VL : (j) + (h))
#define EACH2(f, h) f(0, h), f(1, h)
#define EACH4(f, h) EACH2(f, h), f(2, h), f(3, h)
#define EACH8(f, h) EACH4(f, h), f(4, h), f(5, h), f(6, h), f(7, h)
#define EACH16(f, h) EACH8(f, h), f(8, h), f(9, h), f(10, h), f(11, h), f(12, h), f(13, h), f(14, h), f(15, h)
#ifdef DOUBLE
#define LANES (VB / 8)
#else
#define LANES (VB / 4)
#endif
#if LANES == 2
#define EACH EACH2
#elif LANES == 4
#define EACH EACH4
#elif LANES == 8
#define EACH EACH8
#else
#define EACH EACH16
#endif
#define EXCHANGE(h)                                                           \
  UNROLL for (int i = 0; i < VL; i++)                                         \
    if (!(i & (h))) {                                                         \
      vec upper = r[i], lower = r[i + (h)];                                   \
      r[i] = __builtin_shufflevector(upper, lower, EACH(UPPER, h));           \
      r[i + (h)] = __builtin_shufflevector(upper, lower, EACH(LOWER, h));     \
    }
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES
#endif
#endif

/* VL columns of K rows to a panel; where a column lies in one piece, a square of them at a time, in registers. */
static void columns(const real *s, idx row, idx column, idx K, real *panel) {
  idx k = 0;
  if (column == 1)
    for (; k < K; k++) *(vec *)(panel + k * NR) = *(const vec *)(s + k * row);
#ifdef SHUFFLES
  if (row == 1)
    for (; k + VL <= K; k += VL) {
      vec r[LANES];
      UNROLL for (int i = 0; i < VL; i++) r[i] = *(const vec *)(s + k + i * column);
      EXCHANGE(1)
#if LANES > 2
      EXCHANGE(2)
#endif
#if LANES > 4
      EXCHANGE(4)
#endif
#if LANES > 8
      EXCHANGE(8)
#endif
      UNROLL for (int i = 0; i < VL; i++) *(vec *)(panel + (k + i) * NR) = r[i];
    }
#endif
  for (; k < K; k++)
    for (idx j = 0; j < VL; j++) panel[k * NR + j] = s[k * row + j * column];
}

/* [K][N] with these strides to rows k0.. and columns n0.. of a packed matrix of `inner` rows and `width` columns. */
static void pack(const real *s, idx row, idx column, idx K, idx N, real *d, idx k0, idx n0, idx inner, idx width) {
  for (idx n = 0; n < N;) {
    idx at = n0 + n, in = at % NR, count = least(NR - in, N - n), j = 0;
    real *panel = d + at / NR * NR * inner + k0 * NR + in;
    for (; j + VL <= count; j += VL) columns(s + (n + j) * column, row, column, K, panel + j);
    for (idx k = 0; k < K; k++)
      for (idx l = j; l < count; l++) panel[k * NR + l] = s[k * row + (n + l) * column];
    n += count;
  }
  if (n0 + N == width && width % NR) /* the columns that are not there */
    for (idx k = 0; k < K; k++)
      for (idx j = width % NR; j < NR; j++) d[width / NR * NR * inner + (k0 + k) * NR + j] = 0;
}

/* Rows [0, M) of the target; of the panels of columns, the share of `part`. */
static void gemm(idx M, idx N, idx segments, const segment *s, const real *b, real *c, idx ldc, int add, idx part, idx parts) {
  idx inner = 0;
  for (idx q = 0; q < segments; q++) inner += s[q].size;
  idx from = share(N, NR, part, parts), to = share(N, NR, part + 1, parts);
  if (M <= 0 || from >= to) return;
  for (idx r = 0; r < M;) { /* rows of a block stay in the second cache while all panels pass by */
    idx rows = least(M - r, 8 * MR);
    if (M - r < 16 * MR && M - r > 8 * MR) rows = (M - r + 1) / 2;
    idx chunks = (rows + MR - 1) / MR;
    const idx line = NR * (idx)sizeof(real) / chunks; /* of each row of the next panel, the bytes for one chunk to ask for */
    for (idx n = from; n < to;) {
      idx many = rows <= FEW && n + WIDE * NR <= least(to, N) ? WIDE : 1;
      for (idx q = 0; q < chunks; q++) {
        idx lo = rows * q / chunks, m = rows * (q + 1) / chunks - lo;
        real *to_ = c + (r + lo) * ldc + n;
        if (many > 1) wides[m](r + lo, segments, s, b + n * inner, NR * inner, to_, ldc, add);
        else {
          const char *panel = (const char *)(b + (n + NR) * inner);
          ahead next = {panel + q * line * inner, line};
          tiles[m](r + lo, segments, s, b + n * inner, to_, ldc, add, N - n, next);
        }
      }
      n += many * NR;
    }
    r += rows;
  }
}

/* Row r of an operand of `lead` rows for each row of the batch, which may lie elsewhere by `map`. */
INLINE const real *row_of(const operand *o, idx r, idx lead) {
  if (lead == 1) return o->a + (o->map ? o->map[r] : r) * o->row;
  idx row = r / lead;
  return o->a + (o->map ? o->map[row] : row) * o->row + r % lead * o->step;
}

#define COPIES ((MR + VL - 1) / VL)

/* Rows [r, r + size) of columns [from, to) as chunks of MR columns, [size][MR] each. */
static void pack_left(const operand *o, idx r, idx size, idx lead, idx from, idx to, real *d) {
  for (idx m = from; m < to; m += MR, d += size * MR) {
    idx count = least(MR, to - m);
    if (m + COPIES * VL <= to) /* whole vectors: what is too much, the next row or chunk writes over */
      for (idx k = 0; k < size; k++) {
        const real *s = row_of(o, r + k, lead) + m;
        for (idx v = 0; v < COPIES; v++) *(vec *)(d + k * MR + v * VL) = *(const vec *)(s + v * VL);
      }
    else
      for (idx k = 0; k < size; k++) {
        const real *s = row_of(o, r + k, lead) + m;
        for (idx i = 0; i < count; i++) d[k * MR + i] = s[i];
      }
  }
}

/* Rows [r, r + size) of columns [n, n + count) as one panel. */
static void pack_right(const operand *o, idx r, idx size, idx lead, idx n, idx count, real *d) {
  for (idx k = 0; k < size; k++, d += NR) {
    const real *s = row_of(o, r + k, lead) + n;
    if (count == NR) {
      *(vec *)d = *(const vec *)s;
      *(vec *)(d + VL) = *(const vec *)(s + VL);
    } else
      for (idx j = 0; j < NR; j++) d[j] = j < count ? s[j] : 0;
  }
}

/* The sums of chunks of MR columns as pack_left leaves them. */
static void sum_left(const real *left, idx size, idx M, real *c, int add) {
  for (idx m = 0; m < M; m += MR, left += size * MR) {
    real sum[MR] = {0};
    for (idx k = 0; k < size; k++)
      for (idx i = 0; i < MR; i++) sum[i] += left[k * MR + i];
    for (idx i = 0; i < least(MR, M - m); i++) c[m + i] = (add ? c[m + i] : 0) + sum[i];
  }
}

/* For each product, to[M][size] (+)= sum over rows of a[r][M] b[r][size], or to[M] (+)= sum of a if size is 0; of the M
   rows, the share of `part`. A panel of the right side stays in the first cache while all chunks of the left pass by. */
static void outer(idx rows, idx lead, operand a, idx M, idx count, const product *each, int add, real *room, idx part, idx parts) {
  idx m0 = share(M, MR, part, parts), m1 = share(M, MR, part + 1, parts);
  real *right = room, *left = room + KC * NR;
  rows *= lead;
  if (!rows && !add)
    for (idx q = 0; q < count; q++) {
      idx N = each[q].size ? each[q].size : 1;
      memset(each[q].to + m0 * N, 0, (m1 - m0) * N * sizeof(real));
    }
  for (idx r = 0; r < rows; r += KC, add = 1) {
    idx size = least(KC, rows - r);
    pack_left(&a, r, size, lead, m0, m1, left);
    for (idx q = 0; q < count; q++) {
      idx N = each[q].size;
      if (!N) sum_left(left, size, m1 - m0, each[q].to + m0, add);
      for (idx n = 0; n < N; n += NR) {
        pack_right(&each[q].b, r, size, lead, n, least(NR, N - n), right);
        for (idx m = m0; m < m1; m += MR) {
          segment one = {left + (m - m0) * size, 0, size};
          acrosses[least(MR, m1 - m)](0, 1, &one, right, each[q].to + m * N + n, N, add, N - n, (ahead){0, 0});
        }
      }
    }
  }
}

/* --- threads --- */

struct team {
  void (*run)(const call *, idx);
  const call *c;
  atomic_long waiting, round, go;
};

static void wait(const call *c) {
  struct team *t = c->team;
  if (c->threads == 1) return;
  long round = atomic_load_explicit(&t->round, memory_order_relaxed);
  if (atomic_fetch_add(&t->waiting, 1) == c->threads - 1) {
    atomic_store(&t->waiting, 0);
    atomic_store_explicit(&t->round, round + 1, memory_order_release);
    return;
  }
  for (long n = 0; atomic_load_explicit(&t->round, memory_order_acquire) == round; n++) {
    if (n < 4096) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    } else sched_yield();
  }
}

struct member { struct team *team; idx thread; };

enum { NOT_YET, GO, LEAVE };

static void *join_in(void *given) {
  struct member *m = given;
  long go;
  while ((go = atomic_load_explicit(&m->team->go, memory_order_acquire)) == NOT_YET) sched_yield();
  if (go == GO) m->team->run(m->team->c, m->thread);
  return 0;
}

static const functions all = {pack, gemm, outer, wait};

/* Runs a kernel with c->threads threads. Returns 0, or the error of pthread_create, and then nothing has been run. */
int run(void (*kernel)(const call *, idx), call *c) {
  struct team team = {kernel, c, 0, 0, NOT_YET};
  pthread_t threads[c->threads];
  struct member members[c->threads];
  int error = 0;
  idx made = 1;
  c->team = &team;
  c->f = &all;
  for (; made < c->threads && !error; made += !error) {
    members[made] = (struct member){&team, made};
    error = pthread_create(&threads[made], 0, join_in, &members[made]);
  }
  atomic_store_explicit(&team.go, error ? LEAVE : GO, memory_order_release);
  if (!error) kernel(c, 0);
  for (idx i = 1; i < made; i++) pthread_join(threads[i], 0);
  return error;
}

struct pooled { struct team *team; const pool *pool; int missing; };

static void join_pooled(void *given) {
  struct pooled *p = given;
  if (p->pool->size() != p->team->c->threads) p->missing = 1;
  else p->team->run(p->team->c, p->pool->number());
}

/* As `run`, by the threads of a pool. Returns 1 if it does not give so many, and then nothing has been run. */
int run_pooled(void (*kernel)(const call *, idx), call *c, const pool *pool) {
  struct team team = {kernel, c, 0, 0, GO};
  struct pooled p = {&team, pool, 0};
  c->team = &team;
  c->f = &all;
  pool->parallel(join_pooled, &p, c->threads, 0);
  return p.missing;
}

/* How much scratch `outer` needs for a result of M rows. */
idx outer_room(idx M) { return KC * (NR + (M + MR - 1) / MR * MR) + COPIES * VL; }

/* One product by itself, for measurements: c[M][N] = a[M][K] times a packed matrix. */
void multiply(idx M, idx N, idx K, const real *a, const real *packed, real *c) {
  segment one = {a, K, K};
  gemm(M, N, 1, &one, packed, c, N, 0, 0, 1);
}
