// Transitions of HMC with windows of states (see `hmc.py`), many in one call.
struct HMCRun {  // mirrored in build.py; arrays of outputs may be null
  const uint32_t* keys;   // (chain, 2)
  const long* steps;      // (transition, chain): steps of the whole trajectory
  const long *window, *offset;  // (transition,)
  long count, first;      // number of transitions, and the number of the first
  double limit;           // of the energy error
  S* draws;               // (transition, chain, dim)
  double *value, *energy, *acceptance;  // (transition, chain)
  unsigned char *diverging, *lost;      // (transition, chain); lost: no state of the accept window was finite
  S *end_q, *end_p;       // (chain, dim): the last state of the last trajectory
};

struct Window {  // the states at one end of a trajectory: log of their total weight, and the one chosen
  double total[W], best[W], energy[W];
  V *q, *g, v;
};

// Another state of the window, chosen in proportion to its weight.
static void enter(Window& A, const HMCRun* R, const double* begin, H h, const V* x, const V* g, V v, long first,
                  long chains, uint64_t transition, int index, long D, unsigned char* lost) {
  M take = M{};
  for (int l = 0; l < W; l++) {
    long c = first + l < chains ? first + l : chains - 1;
    double weight = std::isfinite(h[l]) ? begin[l] - h[l] : -std::numeric_limits<double>::infinity();
    if (lost) lost[l] &= !std::isfinite(h[l]);
    double total = log_add(A.total[l], weight);
    if (uniform(R->keys + 2 * c, transition, index) < std::exp(weight - total)) take[l] = -1, A.energy[l] = h[l];
    A.total[l] = total;
    A.best[l] = weight > A.best[l] ? weight : A.best[l];
  }
  if (!any(take)) return;
  for (long d = 0; d < D; d++) A.q[d] = take ? x[d] : A.q[d], A.g[d] = take ? g[d] : A.g[d];
  A.v = take ? v : A.v;
}

extern "C" void hmc(const Program* P, const Trajectory* T, const HMCRun* R, long begin, long end, long chains, S* q,
                    S* grad, S* value, V* memory) {
  long D = P->dim;
  V *x = memory, *r = x + D, *g = r + D, *x0 = g + D, *r0 = x0 + D, *g0 = r0 + D;
  Window A[2];  // reject, accept
  A[0].q = g0 + D, A[0].g = A[0].q + D, A[1].q = A[0].g + D, A[1].g = A[1].q + D;
  V *v = A[1].g + D, *B = v + 1;
  for (long block = begin; block < end; block++) {
    long first = block * W;
    load(q, x0, first, chains, D);
    load(grad, g0, first, chains, D);
    V v0, epsilon = V{}, scale;
    load(value, &v0, first, chains, 1);
    for (int l = 0; l < W; l++) epsilon[l] = T->step[first + l < chains ? first + l : chains - 1];
    for (long t = 0; t < R->count; t++) {
      uint64_t transition = R->first + t;
      long window = R->window[t], offset = R->offset[t], longest = 0;
      V between = V{};
      unsigned char lost[W];
      for (int l = 0; l < W; l++) lost[l] = 1;
      for (int l = 0; l < W; l++) {
        long c = first + l < chains ? first + l : chains - 1, n = R->steps[t * chains + c] - 2 * (window - 1);
        between[l] = (S)n;
        longest = n > longest ? n : longest;
        normals(R->keys + 2 * c, transition, (S*)r0 + l, W, D);
      }
      for (long d = 0; d < D; d++) r0[d] = r0[d] * (1 / std::sqrt(T->inverse_mass[d]));
      H h = energy(r0, v0, T->inverse_mass, D);
      double start[W];
      for (int l = 0; l < W; l++) {
        start[l] = h[l];
        for (int i = 0; i < 2; i++) A[i].total[l] = A[i].best[l] = -std::numeric_limits<double>::infinity();
      }
      int index = 0;
      copy(x0, x, D), copy(r0, r, D), copy(g0, g, D), *v = v0;
      for (long s = 0; s < offset; s++) {
        step_once(P, T, -epsilon, x, r, g, v, B);
        enter(A[0], R, start, energy(r, *v, T->inverse_mass, D), x, g, *v, first, chains, transition, index++, D, nullptr);
      }
      enter(A[0], R, start, h, x0, g0, v0, first, chains, transition, index++, D, nullptr);
      if (offset) copy(x0, x, D), copy(r0, r, D), copy(g0, g, D), *v = v0;
      for (long s = offset + 1; s < window; s++) {
        step_once(P, T, epsilon, x, r, g, v, B);
        enter(A[0], R, start, energy(r, *v, T->inverse_mass, D), x, g, *v, first, chains, transition, index++, D, nullptr);
      }
      for (long s = 0; s < longest; s++) step_once(P, T, between > (S)s ? epsilon : fill(0), x, r, g, v, B);
      for (long s = 0; s < window; s++) {
        if (s) step_once(P, T, epsilon, x, r, g, v, B);
        enter(A[1], R, start, energy(r, *v, T->inverse_mass, D), x, g, *v, first, chains, transition, index++, D, lost);
      }
      M accepted = M{};
      for (int l = 0; l < W; l++) {
        long c = first + l < chains ? first + l : chains - 1;
        double odds = A[1].total[l] - A[0].total[l], acceptance = odds < 0 ? std::exp(odds) : 1;
        if (uniform(R->keys + 2 * c, transition, index) < acceptance) accepted[l] = -1;
        if (first + l >= chains) continue;
        long at = t * chains + c;
        R->acceptance[at] = acceptance;
        R->energy[at] = A[accepted[l] ? 1 : 0].energy[l];
        R->value[at] = (double)(accepted[l] ? A[1].v[l] : A[0].v[l]);
        R->diverging[at] = A[1].best[l] < -R->limit;
        if (R->lost) R->lost[at] = lost[l];
      }
      for (long d = 0; d < D; d++) {
        x0[d] = accepted ? A[1].q[d] : A[0].q[d];
        g0[d] = accepted ? A[1].g[d] : A[0].g[d];
      }
      v0 = accepted ? A[1].v : A[0].v;
      if (R->draws) store(x0, R->draws + t * chains * D, first, chains, D);
    }
    if (R->end_q) store(x, R->end_q, first, chains, D), store(r, R->end_p, first, chains, D);
    store(x0, q, first, chains, D);
    store(g0, grad, first, chains, D);
    store(&v0, value, first, chains, 1);
  }
}
