// Philox4x32-10, a generator of random numbers by counter (Salmon, Moraes, Dror & Shaw 2011): no state, so every number
// of every chain and transition can be had at once. `streams.py` computes the same numbers with NumPy.
#include <cstdint>
typedef uint32_t U __attribute__((vector_size(W * sizeof(uint32_t))));
typedef uint64_t UU __attribute__((vector_size(W * sizeof(uint64_t))));
enum Purpose { MOMENTA = 0, UNIFORMS = 1 };

static inline void philox(U& a, U& b, U& c, U& d, uint32_t k, uint32_t l) {
  for (int round = 0; round < 10; round++) {
    UU x = __builtin_convertvector(a, UU) * 0xD2511F53u, y = __builtin_convertvector(c, UU) * 0xCD9E8D57u;
    U high = __builtin_convertvector(y >> 32, U) ^ b ^ k, low = __builtin_convertvector(x >> 32, U) ^ d ^ l;
    b = __builtin_convertvector(y, U), d = __builtin_convertvector(x, U), a = high, c = low;
    k += 0x9E3779B9u, l += 0xBB67AE85u;
  }
}

// Standard normals by Box and Muller for one chain: counters (0, 1, ...) give `size` of them, `stride` apart.
static void normals(const uint32_t* key, uint64_t transition, S* to, long stride, long size, uint32_t purpose = MOMENTA) {
  const int each = SINGLE ? 4 : 2;  // normals of one counter
  for (long first = 0; first < size; first += W * each) {
    U a, b = U{} + (uint32_t)transition, c = U{} + (uint32_t)(transition >> 32), d = U{} + purpose;
    for (int l = 0; l < W; l++) a[l] = first / each + l;
    philox(a, b, c, d, key[0], key[1]);
    V z[4];
#if SINGLE
    const S turn = 6.283185307179586f;
    V u[4] = {__builtin_convertvector(a >> 8, V), __builtin_convertvector(b >> 8, V),
              __builtin_convertvector(c >> 8, V), __builtin_convertvector(d >> 8, V)};
    for (int pair = 0; pair < 2; pair++) {
      V radius = v_sqrt(v_log((u[2 * pair] + 0.5f) * 5.9604644775390625e-8f) * -2);
      V angle = u[2 * pair + 1] * 5.9604644775390625e-8f * turn;
      z[2 * pair] = radius * v_cos(angle), z[2 * pair + 1] = radius * v_sin(angle);
    }
#else
    UU high = (__builtin_convertvector(a, UU) << 32 | __builtin_convertvector(b, UU)) >> 11;
    UU low = (__builtin_convertvector(c, UU) << 32 | __builtin_convertvector(d, UU)) >> 11;
    V radius = v_sqrt(v_log((__builtin_convertvector(high, V) + 0.5) * 0x1p-53) * -2);
    V angle = __builtin_convertvector(low, V) * (0x1p-53 * 6.283185307179586);
    z[0] = radius * v_cos(angle), z[1] = radius * v_sin(angle);
#endif
    for (int l = 0; l < W; l++)
      for (int i = 0; i < each; i++)
        if (first + l * each + i < size) to[(first + l * each + i) * stride] = z[i][l];
  }
}

// Uniform number `index` in [0, 1) of one chain and transition.
static double uniform(const uint32_t* key, uint64_t transition, uint32_t index) {
  uint32_t a = index, b = (uint32_t)transition, c = (uint32_t)(transition >> 32), d = UNIFORMS, k = key[0], l = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t x = (uint64_t)a * 0xD2511F53u, y = (uint64_t)c * 0xCD9E8D57u;
    uint32_t high = (uint32_t)(y >> 32) ^ b ^ k, low = (uint32_t)(x >> 32) ^ d ^ l;
    b = (uint32_t)y, d = (uint32_t)x, a = high, c = low;
    k += 0x9E3779B9u, l += 0xBB67AE85u;
  }
  return (double)(((uint64_t)a << 32 | b) >> 11) * 0x1p-53;
}
