// Transitions of microcanonical samplers (see `microcanonical.py` and `isokinetic.py`), many in one call.
struct MicrocanonicalRun {  // mirrored in transitions.py
  const uint32_t* keys;       // (chain, 2)
  const long* steps;          // (transition, chain): steps of the trajectory
  long adjusted;              // with an acceptance step and fresh directions, or neither
  long count, first;          // number of transitions, and the number of the first
  double limit;               // of the energy error
  const double *half, *full;  // (chain,): amounts of refreshment for half a step and a whole one
  S* direction;               // (chain, dim): changed in place, unless adjusted
  S* draws;                   // (transition, chain, dim)
  double *value, *error, *acceptance;  // (transition, chain); error: root of the mean square over steps, or the total
  unsigned char* diverging;   // (transition, chain)
};
static const uint32_t REFRESHMENT = 2;  // the purpose of the first refreshment; those of later steps follow

static void normalise(V* u, H squares, long D) {
  V factor;
  for (int l = 0; l < W; l++) factor[l] = (S)(1 / std::sqrt(squares[l]));
  for (long d = 0; d < D; d++) u[d] *= factor;
}

// The exact solution for the direction at a fixed position, over a step e; adds to the change of kinetic energy.
static void turn(V e, V* u, const V* g, const V* scale, H& change, long D) {
  H squares = H{}, dot = H{};
  for (long d = 0; d < D; d++) {
    H a = __builtin_convertvector(g[d] * scale[d], H);
    squares += a * a, dot += a * __builtin_convertvector(u[d], H);
  }
  V along_g, along_u;
  for (int l = 0; l < W; l++) {
    double size = std::sqrt(squares[l]), unit = size > 1e-300 || size != size ? size : 1e-300;
    double along = dot[l] / unit, delta = e[l] * size / (D - 1), shrink = std::expm1(-delta);
    along = along > 1 ? 1 : along < -1 ? -1 : along;
    double logarithm = std::log1p((1 - along) * shrink * (2 + shrink) / 2);
    change[l] += (D - 1) * (delta + (logarithm < -2 * delta ? -2 * delta : logarithm));
    double of_e = shrink * (along * shrink - shrink - 2), of_u = 2 * (1 + shrink);
    if (of_e == 0 && of_u == 0) of_u = 1;  // against the gradient, an unstable fixed point
    along_g[l] = (S)(of_e / unit), along_u[l] = (S)of_u;
  }
  H norm = H{};
  for (long d = 0; d < D; d++) {
    u[d] = along_g * (g[d] * scale[d]) + along_u * u[d];
    H a = __builtin_convertvector(u[d], H);
    norm += a * a;
  }
  normalise(u, norm, D);
}

// The direction mixed with normals of one purpose.
static void refresh(const MicrocanonicalRun* R, const double* amount, V* u, V* z, uint64_t transition, uint32_t purpose,
                    long first, long chains, long D) {
  V nu;
  for (int l = 0; l < W; l++) {
    long c = first + l < chains ? first + l : chains - 1;
    nu[l] = amount ? (S)amount[c] : 1;
    normals(R->keys + 2 * c, transition, (S*)z + l, W, D, purpose);
  }
  H squares = H{};
  for (long d = 0; d < D; d++) {
    u[d] = u[d] + nu * z[d];
    H a = __builtin_convertvector(u[d], H);
    squares += a * a;
  }
  normalise(u, squares, D);
}

extern "C" void microcanonical(const Program* P, const Trajectory* T, const MicrocanonicalRun* R, long begin, long end,
                               long chains, S* q, S* grad, S* value, V* memory) {
  long D = P->dim;
  V *x = memory, *u = x + D, *g = u + D, *x0 = g + D, *g0 = x0 + D, *z = g0 + D, *scale = z + D, *v = scale + D, *B = v + 1;
  for (long d = 0; d < D; d++) scale[d] = fill((S)std::sqrt(T->inverse_mass[d]));
  for (long block = begin; block < end; block++) {
    long first = block * W;
    V v0, epsilon = V{};
    load(q, x0, first, chains, D), load(grad, g0, first, chains, D), load(value, &v0, first, chains, 1);
    for (int l = 0; l < W; l++) epsilon[l] = T->step[first + l < chains ? first + l : chains - 1];
    if (!R->adjusted) load(R->direction, u, first, chains, D);
    copy(x0, x, D), copy(g0, g, D), *v = v0;
    for (long t = 0; t < R->count; t++) {
      uint64_t transition = R->first + t;
      long longest = 0, steps[W];
      V left;
      for (int l = 0; l < W; l++) {
        long c = first + l < chains ? first + l : chains - 1;
        left[l] = (S)(steps[l] = R->steps[t * chains + c]);
        longest = steps[l] > longest ? steps[l] : longest;
      }
      if (R->adjusted) for (long d = 0; d < D; d++) u[d] = V{};
      refresh(R, R->adjusted ? nullptr : R->half, u, z, transition, R->adjusted ? (uint32_t)MOMENTA : REFRESHMENT, first,
              chains, D);
      double sum[W] = {};
      long good[W] = {};
      bool diverged[W] = {};
      for (long s = 0; s < longest; s++) {
        V e = left > (S)s ? epsilon : fill(0);
        H change = __builtin_convertvector(*v, H);
        for (long j = 0; j < T->stages; j++) {
          turn(e * T->kick[j], u, g, scale, change, D);
          V b = e * T->drift[j];
          for (long d = 0; d < D; d++) x[d] += b * scale[d] * u[d];
          evaluate(P, x, g, v, B);
        }
        turn(e * T->kick[T->stages], u, g, scale, change, D);
        change -= __builtin_convertvector(*v, H);
        if (R->adjusted) {
          for (int l = 0; l < W; l++) if (s < steps[l]) sum[l] += change[l];
          continue;
        }
        M bad = M{};
        for (int l = 0; l < W; l++) {
          if (!(change[l] <= R->limit && change[l] > -std::numeric_limits<double>::infinity())) bad[l] = -1, diverged[l] = true;
          else sum[l] += change[l] * change[l], good[l]++;
        }
        if (any(bad)) {  // back to the last state, with a new direction
          for (long d = 0; d < D; d++) x[d] = bad ? x0[d] : x[d], g[d] = bad ? g0[d] : g[d], u[d] = bad ? V{} : u[d];
          *v = bad ? v0 : *v;
        }
        copy(x, x0, D), copy(g, g0, D), v0 = *v;
        refresh(R, s + 1 < longest ? R->full : R->half, u, z, transition, REFRESHMENT + 1 + s, first, chains, D);
      }
      M accepted = M{};
      for (int l = 0; l < W; l++) {
        long c = first + l < chains ? first + l : chains - 1, at = t * chains + c;
        double acceptance = 1, error;
        if (R->adjusted) {
          error = std::isfinite(sum[l]) ? sum[l] : std::numeric_limits<double>::infinity();
          acceptance = error > 0 ? std::exp(-error) : 1;
          diverged[l] = error > R->limit;
        } else error = std::sqrt(sum[l] / (good[l] ? good[l] : 1));
        if (!R->adjusted || uniform(R->keys + 2 * c, transition, 0) < acceptance) accepted[l] = -1;
        if (first + l >= chains) continue;
        R->acceptance[at] = acceptance, R->error[at] = error, R->diverging[at] = diverged[l];
        R->value[at] = (double)(accepted[l] ? (*v)[l] : v0[l]);
      }
      for (long d = 0; d < D; d++) x0[d] = x[d] = accepted ? x[d] : x0[d], g0[d] = g[d] = accepted ? g[d] : g0[d];
      v0 = *v = accepted ? *v : v0;
      if (R->draws) store(x0, R->draws + t * chains * D, first, chains, D);
    }
    if (!R->adjusted) store(u, R->direction, first, chains, D);
    store(x0, q, first, chains, D), store(g0, grad, first, chains, D), store(&v0, value, first, chains, 1);
  }
}
