cd /tmp/w/run; export PYTHONPATH=/tmp/w/run/src OMP_NUM_THREADS=1 POSTERITY_DATA=/work/shared/data MPLBACKEND=Agg
for x in gan_clusters gan_failing dcgan gan_bayesian; do
  /work/main/.venv/bin/python examples/$x.py --out out/$x > /tmp/w/full_$x.log 2>&1
done

export PYTHONPATH=/tmp/w/run/src
/work/main/.venv/bin/python examples/gan_digits.py --out out/gan_digits > /tmp/w/full_gan_digits.log 2>&1

