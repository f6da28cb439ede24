// Functions that Python calls for any model of one precision and vector width; `model` is the compiled log density.
// Arrays have the chain as first dimension; inside, W chains form a block.
typedef void (*Model)(const V* q, V* grad, V* value, V* memory, const S* const* K, const int* const* J);
typedef double H __attribute__((vector_size(W * sizeof(double))));  // energies

struct Program {  // mirrored in build.py
  Model model;
  long dim;
  const S* basis;  // lower triangular (dim, dim), or null: the model's position is basis times the sampler's
  const S* const* K;
  const int* const* J;
};
struct Trajectory {  // mirrored in build.py
  const S *step, *inverse_mass;  // (chain,), (dim,)
  const S *kick, *drift;         // fractions of a step: kick[0] drift[0] kick[1] ... drift[stages-1] kick[stages]
  long stages;
};

static void load(const S* from, V* to, long first, long chains, long size) {
  for (int l = 0; l < W; l++) {
    long c = first + l < chains ? first + l : chains - 1;
    for (long d = 0; d < size; d++) to[d][l] = from[c * size + d];
  }
}
static void store(const V* from, S* to, long first, long chains, long size) {
  for (int l = 0; l < W && first + l < chains; l++)
    for (long d = 0; d < size; d++) to[(first + l) * size + d] = from[d][l];
}
// Log density and gradient at the sampler's position x.
static void evaluate(const Program* P, const V* x, V* g, V* v, V* B) {
  long D = P->dim;
  if (!P->basis) return P->model(x, g, v, B, P->K, P->J);
  V *y = B, *h = y + D;
  for (long i = 0; i < D; i++) {
    const S* row = P->basis + i * D;
    V sum = V{};
    for (long j = 0; j <= i; j++) sum += row[j] * x[j];
    y[i] = sum;
  }
  P->model(y, h, v, h + D, P->K, P->J);
  for (long j = 0; j < D; j++) g[j] = V{};
  for (long i = 0; i < D; i++) {
    const S* row = P->basis + i * D;
    for (long j = 0; j <= i; j++) g[j] += row[j] * h[i];
  }
}

static void copy(const V* from, V* to, long size) { std::memcpy(to, from, size * sizeof(V)); }

extern "C" void gradient(const Program* P, long begin, long end, long chains, const S* q, S* grad, S* value, V* memory) {
  long D = P->dim;
  V *x = memory, *g = x + D, *v = g + D, *B = v + 1;
  for (long block = begin; block < end; block++) {
    load(q, x, block * W, chains, D);
    evaluate(P, x, g, v, B);
    store(g, grad, block * W, chains, D);
    store(v, value, block * W, chains, 1);
  }
}

// One step of size e (0 for a chain that does not move).
static inline void step_once(const Program* P, const Trajectory* T, V e, V* x, V* r, V* g, V* v, V* B) {
  long D = P->dim;
  for (long j = 0; j < T->stages; j++) {
    V a = e * T->kick[j], b = e * T->drift[j];
    for (long d = 0; d < D; d++) {
      r[d] += a * g[d];
      x[d] += b * T->inverse_mass[d] * r[d];
    }
    evaluate(P, x, g, v, B);
  }
  V a = e * T->kick[T->stages];
  for (long d = 0; d < D; d++) r[d] += a * g[d];
}

// With `path` the arrays hold one slice per step, (1 + steps, chain, ...); otherwise only the last state is written.
extern "C" void integrate(const Program* P, const Trajectory* T, long begin, long end, long chains, long path,
                          S* q, S* p, S* grad, S* value, const long* steps, V* memory) {
  long D = P->dim;
  V *x = memory, *r = x + D, *g = r + D, *v = g + D, *B = v + 1;
  for (long block = begin; block < end; block++) {
    long first = block * W, longest = 0;
    load(q, x, first, chains, D);
    load(p, r, first, chains, D);
    load(grad, g, first, chains, D);
    load(value, v, first, chains, 1);
    V epsilon = V{}, left = V{};
    for (int l = 0; l < W; l++) {
      long c = first + l < chains ? first + l : chains - 1;
      epsilon[l] = T->step[c];
      left[l] = (S)steps[c];
      longest = steps[c] > longest ? steps[c] : longest;
    }
    for (long s = 0; s < longest; s++) {
      step_once(P, T, left > (S)s ? epsilon : fill(0), x, r, g, v, B);  // a finished chain does not move
      if (path) {
        long slice = (s + 1) * chains;
        store(x, q + slice * D, first, chains, D);
        store(r, p + slice * D, first, chains, D);
        store(g, grad + slice * D, first, chains, D);
        store(v, value + slice, first, chains, 1);
      }
    }
    if (path) continue;
    store(x, q, first, chains, D);
    store(r, p, first, chains, D);
    store(g, grad, first, chains, D);
    store(v, value, first, chains, 1);
  }
}

// Kinetic energy minus log density.
static H energy(const V* r, V v, const S* inverse_mass, long D) {
  H sum = H{};
  for (long d = 0; d < D; d++) {
    H x = __builtin_convertvector(r[d], H);
    sum += x * x * (double)inverse_mass[d];
  }
  return sum * 0.5 - __builtin_convertvector(v, H);
}
static double log_add(double a, double b) {
  double high = a > b ? a : b, low = a > b ? b : a;
  return low == -std::numeric_limits<double>::infinity() ? high : high + std::log1p(std::exp(low - high));
}
static inline bool any(M mask) {
  I result = 0;
  for (int l = 0; l < W; l++) result |= mask[l];
  return result != 0;
}
