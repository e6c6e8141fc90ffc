/* The functions of a step, without branches, so that a compiler can make them run for many numbers at once.

   The exponential is a polynomial on [-ln 2 / 2, ln 2 / 2] (in float with the coefficients of Cephes, S. Moshier 1992)
   times a power of two made of bits. Relative errors: 1e-7 in float (tanh 3e-7), 3e-16 in double. A NaN stays one, and
   what overflows is infinite. */
#ifndef __CUDACC__ /* it has these from the start, and cuda/gpu.h says how a function is inlined */
#include <math.h>
#include <stdint.h>
#include <string.h>
#endif

#if defined(INLINE)
#elif defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline, unused))
#else
#define INLINE static inline
#endif

#ifdef DOUBLE
#define F(name) name
typedef uint64_t bits;
#define MANTISSA 52
#define BIAS 1023
#define MAGIC 6755399441055744.0 /* 1.5 * 2^52 */
#define EXP_HIGH 709.8
#define EXP_LOW -708.0
#define LN2_HIGH 6.93145751953125E-1
#define LN2_LOW 1.42860682030941723212E-6
#else
#define F(name) name##f
typedef uint32_t bits;
#define MANTISSA 23
#define BIAS 127
#define MAGIC 12582912.0f /* 1.5 * 2^23 */
#define EXP_HIGH 88.73f
#define EXP_LOW -87.3f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define TANH_END 7.90531110763549805f
#endif

/* exp(x), for x between EXP_LOW and EXP_HIGH. */
INLINE real exp_within(real x) {
  real shifted = x * (real)1.44269504088896340736 + MAGIC;
  real n = shifted - MAGIC;
  real r = x - n * LN2_HIGH - n * LN2_LOW;
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
  return p * scale * 2;
}

INLINE real clamp_(real x, real low, real high) {
  real y = x > high ? high : x;
  return y < low ? low : y;
}

INLINE real exp_(real x) {
  real y = exp_within(clamp_(x, EXP_LOW, EXP_HIGH));
  y = x > EXP_HIGH ? (real)INFINITY : y;
  return x < EXP_LOW ? 0 : y;
}

INLINE real sigmoid_(real x) { return 1 / (1 + exp_within(clamp_(-x, EXP_LOW, EXP_HIGH))); }

#ifdef DOUBLE
INLINE real tanh_(real x) { /* Cephes' near zero, where 1 - 2 / (exp(2 x) + 1) would lose digits */
  real a = fabs(x), z = x * x;
  real far = copysign(1 - 2 / (exp_within(clamp_(2 * a, 0, 40)) + 1), x);
  real p = (-9.64399179425052238628E-1 * z - 9.92877231001918586564E1) * z - 1.61468768441708447952E3;
  real q = ((z + 1.12811678491632931402E2) * z + 2.23548839060100448583E3) * z + 4.84406305325125486048E3;
  real near = x + x * z * (p / q);
  return a < 0.625 ? near : far;
}
#else
INLINE real tanh_(real x) { /* a quotient of polynomials; at the ends of its range it is 1 */
  real c = clamp_(x, -TANH_END, TANH_END), z = c * c;
  real p = -2.76076847742355e-16f;
  p = p * z + 2.00018790482477e-13f;
  p = p * z - 8.60467152213735e-11f;
  p = p * z + 5.12229709037114e-08f;
  p = p * z + 1.48572235717979e-05f;
  p = p * z + 6.37261928875436e-04f;
  p = p * z + 4.89352455891786e-03f;
  real q = 1.19825839466702e-06f;
  q = q * z + 1.18534705686654e-04f;
  q = q * z + 2.26843463243900e-03f;
  q = q * z + 4.89352518554385e-03f;
  return c * p / q;
}
#endif

INLINE real max_(real a, real b) { return a > b || a != a ? a : b; }
INLINE real min_(real a, real b) { return a < b || a != a ? a : b; }
INLINE real sign_(real x) { return (real)((x > 0) - (x < 0)); }

INLINE real mod_(real x, real y) { /* with the sign of y, as PyTorch has it */
  real r = F(fmod)(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
