// One chain per lane: every number of the model is a vector over W chains.
// GCC/Clang vector extensions; S is the scalar type, I the integer type of the same size.
#include <cmath>
#include <cstring>
#include <limits>
typedef S V __attribute__((vector_size(W * sizeof(S))));
typedef I M __attribute__((vector_size(W * sizeof(I))));

static inline V fill(S x) { return V{} + x; }
static inline V bits(M x) { V y; std::memcpy(&y, &x, sizeof y); return y; }
static inline M ints(V x) { M y; std::memcpy(&y, &x, sizeof y); return y; }
static inline M all(bool x) { return M{} - (I)x; }
static const S INF = std::numeric_limits<S>::infinity();
static const S NOT_A_NUMBER = std::numeric_limits<S>::quiet_NaN();

#define BY_LANE(name, call)                              \
  static V name(V x) {                                   \
    V y;                                                 \
    for (int l = 0; l < W; l++) { S a = x[l]; y[l] = call; } \
    return y;                                            \
  }
BY_LANE(v_tan, std::tan(a))
BY_LANE(v_atan, std::atan(a))
BY_LANE(v_asin, std::asin(a))
BY_LANE(v_acos, std::acos(a))
BY_LANE(v_sinh, std::sinh(a))
BY_LANE(v_cosh, std::cosh(a))
BY_LANE(v_erfc, std::erfc(a))
BY_LANE(v_lgamma, std::lgamma(a))
BY_LANE(v_log1p, std::log1p(a))
BY_LANE(v_expm1, std::expm1(a))
BY_LANE(v_floor, std::floor(a))
BY_LANE(v_ceil, std::ceil(a))
BY_LANE(v_sqrt, std::sqrt(a))

static V v_pow(V x, V y) {
  V z;
  for (int l = 0; l < W; l++) z[l] = std::pow(x[l], y[l]);
  return z;
}
static S digamma_(S x) {
  // Recurrence up to 10, then the asymptotic series (Abramowitz & Stegun 6.3.18); reflection for x < 0.
  if (x <= 0) {
    if (x == std::floor(x)) return NOT_A_NUMBER;
    return digamma_(1 - x) - (S)M_PI / std::tan((S)M_PI * x);
  }
  double y = x, r = 0;
  while (y < 10) { r -= 1 / y; y += 1; }
  double f = 1 / (y * y);
  return (S)(r + std::log(y) - 0.5 / y
    - f * (1. / 12 - f * (1. / 120 - f * (1. / 252 - f * (1. / 240 - f * (1. / 132))))));
}
BY_LANE(v_digamma, digamma_(a))

static inline V v_abs(V x) { return bits(ints(x) & std::numeric_limits<I>::max()); }
// Return nan if either argument is nan, as torch does: a comparison with nan is false.
static inline V v_max(V a, V b) { return (a > b) | (a != a) ? a : b; }
static inline V v_min(V a, V b) { return (a < b) | (a != a) ? a : b; }
static inline V v_sign(V x) { return x > 0 ? fill(1) : (x < 0 ? fill(-1) : x * 0); }

#if SINGLE
// exp(x) with x = n ln 2 + r: a polynomial in r (Cephes expf), times 2^n through the exponent bits.
static inline V v_exp(V x) {
  V c = x > 88.72283f ? fill(88.72283f) : (x < -87.33654f ? fill(-87.33654f) : x);
  V n = c * 1.44269504088896341f + 12582912.f;
  n = n - 12582912.f;
  V r = c - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V p = fill(1.9875691500E-4f);
  p = p * r + 1.3981999507E-3f;
  p = p * r + 8.3334519073E-3f;
  p = p * r + 4.1665795894E-2f;
  p = p * r + 1.6666665459E-1f;
  p = p * r + 5.0000001201E-1f;
  p = p * (r * r) + r + 1.0f;
  // Two factors of half the exponent each, because 2^128 is out of range.
  M k = __builtin_convertvector(n, M), h = k >> 1;
  V y = p * bits((h + 127) << 23) * bits((k - h + 127) << 23);
  y = x < -103.97f ? fill(0) : y;
  y = x > 88.72284f ? fill(INF) : y;
  return x != x ? x : y;
}
// log(x): a polynomial in the mantissa, in [sqrt(1/2), sqrt(2)) (Cephes logf), plus the exponent times ln 2.
static inline V v_log(V x) {
  M tiny = x < 1.17549435e-38f;
  V s = tiny ? x * 8388608.f : x;
  M b = ints(s);
  M e = ((b >> 23) & 255) - 126;
  V m = bits((b & 0x007fffff) | 0x3f000000);
  M low = m < 0.707106781186547524f;
  V f = __builtin_convertvector(low ? e - 1 : e, V) - (tiny ? fill(23.f) : fill(0.f));
  m = (low ? m + m : m) - 1.0f;
  V z = m * m;
  V p = fill(7.0376836292E-2f);
  p = p * m - 1.1514610310E-1f;
  p = p * m + 1.1676998740E-1f;
  p = p * m - 1.2420140846E-1f;
  p = p * m + 1.4249322787E-1f;
  p = p * m - 1.6668057665E-1f;
  p = p * m + 2.0000714765E-1f;
  p = p * m - 2.4999993993E-1f;
  p = p * m + 3.3333331174E-1f;
  V y = m * z * p;
  y = y + f * -2.12194440e-4f;
  y = y - 0.5f * z;
  y = m + y + f * 0.693359375f;
  y = x == INF ? x : y;
  y = x == 0 ? fill(-INF) : y;
  return (x < 0) | (x != x) ? fill(NOT_A_NUMBER) : y;
}
// 1/x to the last one or two bits: the hardware's estimate and one Newton step, faster than a division.
// Called by the compiler's builtin name: to include the header of the intrinsics would double the time to compile.
#if defined(__AVX512F__) && W == 16
static inline V v_reciprocal(V x) {
  V r = (V)__builtin_ia32_rcp14ps512_mask(x, V{}, (unsigned short)-1);
  return r * (2 - x * r);
}
#elif defined(__AVX512VL__) && W == 8
static inline V v_reciprocal(V x) {
  V r = (V)__builtin_ia32_rcp14ps256_mask(x, V{}, (unsigned char)-1);
  return r * (2 - x * r);
}
#else
static inline V v_reciprocal(V x) { return 1 / x; }
#endif
// tanh(x): the rational minimax approximation of Eigen and XLA, odd of degree 13 over even of degree 6.
static inline V v_tanh(V x) {
  V c = x > 7.90531110763549805f ? fill(7.90531110763549805f) : x;  // nan stays nan
  c = c < -7.90531110763549805f ? fill(-7.90531110763549805f) : c;
  V z = c * c;
  V p = fill(-2.76076847742355e-16f);
  p = p * z + 2.00018790482477e-13f;
  p = p * z - 8.60467152213735e-11f;
  p = p * z + 5.12229709037114e-08f;
  p = p * z + 1.48572235717979e-05f;
  p = p * z + 6.37261928875436e-04f;
  p = p * z + 4.89352455891786e-03f;
  V q = fill(1.19825839466702e-06f);
  q = q * z + 1.18534705686654e-04f;
  q = q * z + 2.26843463243900e-03f;
  q = q * z + 4.89352518554385e-03f;
  return c * p * v_reciprocal(q);
}
// erf(x): the rational minimax approximation of Eigen and XLA, odd of degree 13 over even of degree 8.
static inline V v_erf(V x) {
  V c = x > 4.f ? fill(4.f) : x;  // nan stays nan
  c = c < -4.f ? fill(-4.f) : c;
  V z = c * c;
  V p = fill(-2.72614225801306e-10f);
  p = p * z + 2.77068142495902e-08f;
  p = p * z - 2.10102402082508e-06f;
  p = p * z - 5.69250639462346e-05f;
  p = p * z - 7.34990630326855e-04f;
  p = p * z - 2.95459980854025e-03f;
  p = p * z - 1.60960333262415e-02f;
  V q = fill(-1.45660718464996e-05f);
  q = q * z - 2.13374055278905e-04f;
  q = q * z - 1.68282697438203e-03f;
  q = q * z - 7.37332916720468e-03f;
  q = q * z - 1.42647390514189e-02f;
  V y = c * p / q;
  return y > 1.f ? fill(1.f) : (y < -1.f ? fill(-1.f) : y);
}
// sin(r) for r in [-pi/2, pi/2]: the minimax polynomial of SLEEF (sinf_u35), times -1 where the lowest bit of `odd` is 1.
static inline V half_turn(V r, M odd) {
  V z = r * r;
  V p = fill(2.6083159809786593541503e-06f);
  p = p * z - 1.981069071916863322258e-04f;
  p = p * z + 8.33307858556509017944336e-03f;
  p = p * z - 1.66666597127914428710938e-01f;
  return bits(ints(z * (p * r) + r) ^ (odd << 31));
}
// Beyond this, pi in four parts is too short; also infinities. These lanes are computed one by one, so that the result
// of a lane never depends on the others.
static inline bool far_from_zero(V x, M& far) {
  far = v_abs(x) > 8192.f;
  I any = 0;
  for (int l = 0; l < W; l++) any |= far[l];
  return any != 0;
}
// x = n pi + r, with pi in four parts; the sum with 1.5 * 2^23 rounds, and its lowest bit is that of n.
static V v_sin(V x) {
  V t = x * 0.318309886183790672f + 12582912.f;
  V n = t - 12582912.f;
  V r = x - n * 3.140625f;
  r = r - n * 9.670257568359375e-04f;
  r = r - n * 6.2771141529083251953e-07f;
  r = r - n * 1.2154201256553420762e-10f;
  V y = half_turn(r, ints(t));
  M far;
  if (far_from_zero(x, far))
    for (int l = 0; l < W; l++) if (far[l]) y[l] = std::sin(x[l]);
  return y;
}
// x = (2 n + 1) pi/2 + r.
static V v_cos(V x) {
  V t = (x * 0.318309886183790672f - 0.5f) + 12582912.f;
  V q = (t - 12582912.f) * 2.f + 1.f;
  V r = x - q * 1.5703125f;
  r = r - q * 4.835128784179687500e-04f;
  r = r - q * 3.13855707645416259765e-07f;
  r = r - q * 6.077100628276710381e-11f;
  V y = half_turn(r, ints(t) + 1);
  M far;
  if (far_from_zero(x, far))
    for (int l = 0; l < W; l++) if (far[l]) y[l] = std::cos(x[l]);
  return y;
}
#else
BY_LANE(v_exp, std::exp(a))
BY_LANE(v_sin, std::sin(a))
BY_LANE(v_cos, std::cos(a))
BY_LANE(v_erf, std::erf(a))
BY_LANE(v_log, std::log(a))
BY_LANE(v_tanh, std::tanh(a))
#endif
// The lower Cholesky factor of a (n, n), in its place; nan if a matrix is not positive definite. Four rows at a time,
// whose sums do not wait for each other.
static void cholesky(V* a, long n) {
  for (long j = 0; j < n; j++) {
    V* b = a + j * n;
    V d = b[j];
    for (long k = 0; k < j; k++) d -= b[k] * b[k];
    b[j] = v_sqrt(d);
    V inverse = 1 / b[j];
    long i = j + 1;
    for (; i + 4 <= n; i += 4) {
      V *c0 = a + i * n, *c1 = c0 + n, *c2 = c1 + n, *c3 = c2 + n;
      V s0 = c0[j], s1 = c1[j], s2 = c2[j], s3 = c3[j];
      for (long k = 0; k < j; k++) s0 -= c0[k] * b[k], s1 -= c1[k] * b[k], s2 -= c2[k] * b[k], s3 -= c3[k] * b[k];
      c0[j] = s0 * inverse, c1[j] = s1 * inverse, c2[j] = s2 * inverse, c3[j] = s3 * inverse;
    }
    for (; i < n; i++) {
      V s = a[i * n + j];
      for (long k = 0; k < j; k++) s -= a[i * n + k] * b[k];
      a[i * n + j] = s * inverse;
    }
    for (long k = j + 1; k < n; k++) b[k] = V{};
  }
}
// The solution of a x = x for a triangular matrix a (n, n), in the place of x (n, m).
static void solve_row(const V* a, V* x, long n, long m, bool unit, long i, long begin, long end) {
  for (long k = begin; k < end; k++) {
    V factor = a[i * n + k];
    for (long c = 0; c < m; c++) x[i * m + c] -= factor * x[k * m + c];
  }
  if (unit) return;
  V inverse = 1 / a[i * n + i];
  for (long c = 0; c < m; c++) x[i * m + c] *= inverse;
}
static void solve_lower(const V* a, V* x, long n, long m, bool unit) {
  for (long i = 0; i < n; i++) solve_row(a, x, n, m, unit, i, 0, i);
}
static void solve_upper(const V* a, V* x, long n, long m, bool unit) {
  for (long i = n - 1; i >= 0; i--) solve_row(a, x, n, m, unit, i, i + 1, n);
}
// A sum that grows by x, with the rounding error of its last digits (Kahan 1965); infinity stays infinity.
static inline void grow(V& sum, V& error, V x) {
  V y = x - error, total = sum + y;
  error = v_abs(total) < INF ? (total - sum) - y : V{};
  sum = total;
}
static inline V v_sigmoid(V x) { return 1 / (1 + v_exp(-x)); }
