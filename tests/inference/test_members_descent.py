HEAD


def test_an_interrupt_keeps_what_is_fitted(monkeypatch):
    count, step = iter(range(100)), members_descent.MembersDescent._step

    def stop(self, share, losses):
        if next(count) == 30:
            raise KeyboardInterrupt
        step(self, share, losses)

    monkeypatch.setattr(members_descent.MembersDescent, "_step", stop)
    with pytest.warns(RuntimeWarning, match=r"Ensemble was interrupted and returns its members .* 30 of 60"):
        posterior = infer(model_of_many_ways, X, Y, method=Ensemble(members=2, **SHORT), seed=0)
    assert posterior.attrs["interrupted"] == 1
    assert len(posterior.history["loss"]) == 30
    assert float(posterior.history["loss"][-1].mean()) < float(posterior.history["loss"][0].mean())


def test_a_step_into_infinity_is_taken_back_and_one_too_many_is_said(monkeypatch):
    def exploding(x, y=None):
        w = pyro.param("w", torch.tensor(0.5))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(torch.exp(w * 3).exp().expand(len(x)), 1.0), obs=y)

    method, y = (
        Ensemble(members=1, learning_rate=1e3, steps=400, progress=False, engine="eager"),
        torch.full((80,), 1e6),
    )
    posterior = infer(exploding, X, y, method=method, seed=0)
    loss = posterior.history["loss"]
    assert bool(torch.isfinite(loss).all())
    assert len(loss) == 400
    monkeypatch.setattr(members_descent, "FAILURES", 0)
    with pytest.raises(ValueError, match=r"expected a finite log joint, got .* try a learning_rate below 1000"):
        infer(exploding, X, y, method=method, seed=0)
