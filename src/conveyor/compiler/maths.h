/* The functions of a step, without branches, so that a compiler can make them run for many numbers at once.

   The exponential is a polynomial on [-ln 2 / 2, ln 2 / 2] after Cephes (S. Moshier, 1992), and a power of two made of
   bits; tanh is Cephes' near zero, where 1 - 2 / (exp(2 x) + 1) would lose digits. Relative errors are about 1e-7 in
   float and 2e-16 in double. A NaN stays one, and what overflows is infinite. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#ifdef DOUBLE
#define F(name) name
typedef uint64_t bits;
#define MANTISSA 52
#define BIAS 1023
#define MAGIC 0x1.8p52
#define EXP_HIGH 709.8
#define EXP_LOW -708.0
#define LN2_HIGH 6.93145751953125E-1
#define LN2_LOW 1.42860682030941723212E-6
#else
#define F(name) name##f
typedef uint32_t bits;
#define MANTISSA 23
#define BIAS 127
#define MAGIC 0x1.8p23f
#define EXP_HIGH 88.73f
#define EXP_LOW -87.3f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#endif

INLINE real exp_(real x) {
  real y = x > EXP_HIGH ? EXP_HIGH : x;
  y = y < EXP_LOW ? EXP_LOW : y;
  real shifted = y * (real)1.44269504088896340736 + MAGIC;
  real n = shifted - MAGIC;
  real r = y - n * LN2_HIGH - n * LN2_LOW;
#ifdef DOUBLE
  real p = 1 / 6227020800.0;
  p = p * r + 1 / 479001600.0;
  p = p * r + 1 / 39916800.0;
  p = p * r + 1 / 3628800.0;
  p = p * r + 1 / 362880.0;
  p = p * r + 1 / 40320.0;
  p = p * r + 1 / 5040.0;
  p = p * r + 1 / 720.0;
  p = p * r + 1 / 120.0;
  p = p * r + 1 / 24.0;
  p = p * r + 1 / 6.0;
  p = p * r + 0.5;
#else
  real p = 1.9875691500E-4f;
  p = p * r + 1.3981999507E-3f;
  p = p * r + 8.3334519073E-3f;
  p = p * r + 4.1665795894E-2f;
  p = p * r + 1.6666665459E-1f;
  p = p * r + 5.0000001201E-1f;
#endif
  p = p * r * r + r + 1;
  bits k;
  memcpy(&k, &shifted, sizeof k); /* its last bits are n */
  k = (k + BIAS - 1) << MANTISSA; /* 2^(n - 1), which is a number for every n that comes */
  real scale;
  memcpy(&scale, &k, sizeof scale);
  real result = p * scale * 2;
  result = x > EXP_HIGH ? (real)INFINITY : result;
  return x < EXP_LOW ? 0 : result;
}

INLINE real sigmoid_(real x) { return 1 / (1 + exp_(-x)); }

INLINE real tanh_(real x) {
  real a = F(fabs)(x), z = x * x;
  real far = F(copysign)(1 - 2 / (exp_(2 * a) + 1), x);
#ifdef DOUBLE
  real p = (-9.64399179425052238628E-1 * z - 9.92877231001918586564E1) * z - 1.61468768441708447952E3;
  real q = ((z + 1.12811678491632931402E2) * z + 2.23548839060100448583E3) * z + 4.84406305325125486048E3;
  real near = x + x * z * (p / q);
#else
  real p = -5.70498872745E-3f;
  p = p * z + 2.06390887954E-2f;
  p = p * z - 5.37397155531E-2f;
  p = p * z + 1.33314422036E-1f;
  p = p * z - 3.33332819422E-1f;
  real near = p * z * x + x;
#endif
  return a < (real)0.625 ? near : far;
}

INLINE real max_(real a, real b) { return a > b || a != a ? a : b; }
INLINE real min_(real a, real b) { return a < b || a != a ? a : b; }
INLINE real sign_(real x) { return (real)((x > 0) - (x < 0)); }

INLINE real mod_(real x, real y) { /* with the sign of y, as PyTorch has it */
  real r = F(fmod)(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
