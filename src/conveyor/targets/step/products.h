/* Products of a few rows and a packed matrix: y[j] = the sum over k of x[k] * w[k][j].

   A matrix of N columns lies in panels, one after the other, each a row of the matrix after the other: panels of WIDE
   columns as long as there are so many, then of NARROW, the last one filled up with zeros.

   Weights that are stored in less lie in words of 32 bits, of which each has one of each column 8 further on: two of
   bfloat16, or four of int8. What is below one in its word is not masked away, which would cost time: it counts as
   further digits, and the weight was rounded with that in mind. So a weight of bfloat16 is the word, shifted, as a
   float; one of int8 the word, shifted, as an integer, times its column's scale. */

/* What is read of x: count pieces, each of `size` elements, `row` apart from one row of the batch to the next. */
typedef struct { const real *x; idx row, size; } piece;

#if defined(__GNUC__) && !defined(CONVEYOR_SCALAR)

#define LANES ((idx)(32 / sizeof(real)))
typedef real vector __attribute__((vector_size(32), aligned(4), may_alias));
#if defined(INT8)
typedef int words __attribute__((vector_size(32), aligned(4), may_alias));
#define LOAD(p, n) __builtin_convertvector(((const words *)(const void *)(p))[(n) / 4] << (24 - 8 * ((n) % 4)), vector)
#define FEW 4
#elif defined(BFLOAT16)
typedef unsigned words __attribute__((vector_size(32), aligned(4), may_alias));
#define LOAD(p, n) ((vector)(((const words *)(const void *)(p))[(n) / 2] << (16 - 16 * ((n) % 2))))
#define FEW 2
#else
#define LOAD(p, n) (((const vector *)(const void *)(p))[n])
#define FEW 2
#endif
#define WIDE (8 * LANES)
#define NARROW (FEW * LANES)

INLINE void wide(idx count, const piece *s, idx r, const weight *w, real *y) {
  vector a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0};
  for (idx i = 0; i < count; i++) {
    const real *x = s[i].x + r * s[i].row;
    for (idx k = 0; k < s[i].size; k++, w += WIDE) {
      a += LOAD(w, 0) * x[k], b += LOAD(w, 1) * x[k], c += LOAD(w, 2) * x[k], d += LOAD(w, 3) * x[k];
      e += LOAD(w, 4) * x[k], f += LOAD(w, 5) * x[k], g += LOAD(w, 6) * x[k], h += LOAD(w, 7) * x[k];
    }
  }
  vector *to = (vector *)(void *)y;
  to[0] = a, to[1] = b, to[2] = c, to[3] = d, to[4] = e, to[5] = f, to[6] = g, to[7] = h;
}

/* Several k at a time, so that sums need not wait for each other. */
INLINE void narrow(idx count, const piece *s, idx r, const weight *w, real *y) {
  vector a = {0}, b = {0}, c = {0}, d = {0}, e = {0}, f = {0}, g = {0}, h = {0};
#define ADD(to, n) to += LOAD(w + (n) / FEW * NARROW, (n) % FEW) * x[k + (n) / FEW]
  for (idx i = 0; i < count; i++) {
    const real *x = s[i].x + r * s[i].row;
    idx k = 0;
    for (; k + 8 / FEW <= s[i].size; k += 8 / FEW, w += 8 * LANES) {
      ADD(a, 0), ADD(b, 1), ADD(c, 2), ADD(d, 3);
      ADD(e, 4), ADD(f, 5), ADD(g, 6), ADD(h, 7);
    }
    for (; k < s[i].size; k++, w += NARROW) {
      ADD(a, 0), ADD(b, 1);
#if FEW == 4
      ADD(c, 2), ADD(d, 3);
#endif
    }
  }
#undef ADD
  vector *to = (vector *)(void *)y;
#if FEW == 4
  to[0] = a + e, to[1] = b + f, to[2] = c + g, to[3] = d + h;
#else
  to[0] = (a + c) + (e + g), to[1] = (b + d) + (f + h);
#endif
}

#else /* any other compiler */

#define WIDE ((idx)(256 / sizeof(real)))
#if defined(INT8)
#define NARROW 32
static real number(const weight *w, idx j) { /* of the column j of a row */
  uint32_t word;
  int32_t shifted;
  memcpy(&word, w + j / 32 * 32 + j % 8 * 4, sizeof word);
  word <<= 24 - j % 32 / 8 * 8;
  memcpy(&shifted, &word, sizeof shifted);
  return (real)shifted;
}
#elif defined(BFLOAT16)
#define NARROW 16
static real number(const weight *w, idx j) {
  uint32_t word;
  float value;
  memcpy(&word, w + j / 16 * 16 + j % 8 * 2, sizeof word);
  word <<= 16 - j % 16 / 8 * 16;
  memcpy(&value, &word, sizeof value);
  return value;
}
#else
#define NARROW ((idx)(64 / sizeof(real)))
#define number(w, j) (w)[j]
#endif

static void panel(idx count, const piece *s, idx r, const weight *w, real *y, idx width) {
  for (idx j = 0; j < width; j++) y[j] = 0;
  for (idx i = 0; i < count; i++) {
    const real *x = s[i].x + r * s[i].row;
    for (idx k = 0; k < s[i].size; k++, w += width)
      for (idx j = 0; j < width; j++) y[j] += number(w, j) * x[k];
  }
}
#define wide(count, s, r, w, y) panel(count, s, r, w, y, WIDE)
#define narrow(count, s, r, w, y) panel(count, s, r, w, y, NARROW)

#endif

#if defined(__GNUC__) /* which warns of overflows that cannot be, once it knows the sizes of one call */
__attribute__((noinline, unused))
#endif
/* The product with a matrix of K rows and N columns; each column is multiplied by its `scale`, if there are such. */
static void product(idx rows, idx count, const piece *s, const weight *w, const real *scale, idx K, idx N, real *y, idx row) {
  idx n = 0;
  for (; n + WIDE <= N; n += WIDE, w += WIDE * K)
    for (idx r = 0; r < rows; r++) wide(count, s, r, w, y + r * row + n);
  for (; n + NARROW <= N; n += NARROW, w += NARROW * K)
    for (idx r = 0; r < rows; r++) narrow(count, s, r, w, y + r * row + n);
  for (idx r = 0; n < N && r < rows; r++) {
    real last[256 / sizeof(real)];
    narrow(count, s, r, w, last);
    for (idx j = 0; j < NARROW && n + j < N; j++) y[r * row + n + j] = last[j];
  }
  for (idx r = 0; scale && r < rows; r++)
    for (idx j = 0; j < N; j++) y[r * row + j] *= scale[j];
}
