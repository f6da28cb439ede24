// The functions that Python calls. Their arrays have the chain as first dimension; inside, W chains form a block.

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

extern "C" void gradient(long begin, long end, long chains, const S* q, S* grad, S* value,
                         V* memory, const S* const* K, const int* const* J) {
  V *x = memory, *g = x + D, *v = g + D, *B = v + 1;
  for (long block = begin; block < end; block++) {
    load(q, x, block * W, chains, D);
    model(x, g, v, B, K, J);
    store(g, grad, block * W, chains, D);
    store(v, value, block * W, chains, 1);
  }
}

// One step: kick[0] drift[0] kick[1] ... drift[stages-1] kick[stages].
// With `path` the arrays hold one slice per step, (1 + steps, chain, ...); otherwise only the last state is written.
extern "C" void integrate(long begin, long end, long chains, long path, S* q, S* p, S* grad, S* value,
                          const S* step, const long* steps, const S* inverse_mass,
                          const S* kick, const S* drift, long stages,
                          V* memory, const S* const* K, const int* const* J) {
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
      epsilon[l] = step[c];
      left[l] = (S)steps[c];
      longest = steps[c] > longest ? steps[c] : longest;
    }
    for (long s = 0; s < longest; s++) {
      V e = left > (S)s ? epsilon : fill(0);  // a finished chain does not move
      for (long j = 0; j < stages; j++) {
        V a = e * kick[j], b = e * drift[j];
        for (long d = 0; d < D; d++) {
          r[d] += a * g[d];
          x[d] += b * inverse_mass[d] * r[d];
        }
        model(x, g, v, B, K, J);
      }
      V a = e * kick[stages];
      for (long d = 0; d < D; d++) r[d] += a * g[d];
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
