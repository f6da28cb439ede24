cd /tmp/w/run; export PYTHONPATH=/tmp/w/run/src OMP_NUM_THREADS=1 POSTERITY_DATA=/work/shared/data MPLBACKEND=Agg
for x in gan_failing dcgan gan_bayesian; do
  /work/main/.venv/bin/python examples/$x.py --out out/$x > /tmp/w/full_$x.log 2>&1
done
