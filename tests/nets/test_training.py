from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from offnominal.core.errors import OffnominalError  # noqa: E402
from offnominal.core.progress import shown  # noqa: E402
from offnominal.core.seeds import generator  # noqa: E402
from offnominal.nets import training  # noqa: E402
from offnominal.nets.batches import Batches, minibatches  # noqa: E402
from offnominal.nets.schedules import constant, cosine, drops  # noqa: E402
from offnominal.nets.seeding import seeded  # noqa: E402
from offnominal.nets.training import TrainingFailed, train  # noqa: E402

DATA = np.random.default_rng(0).normal(size=(22, 6)).astype(np.float32)


def batches(size: int = 5, **words: int) -> Batches:
    return minibatches(len(DATA), size, lambda chosen, random: DATA[chosen], **words)


class Network(torch.nn.Module):
    """With all that makes a resume hard: chance in the forward pass, batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.into = torch.nn.Linear(6, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.drop = torch.nn.Dropout(0.3)
        self.back = torch.nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(self.drop(torch.relu(self.norm(self.into(x)))))


def network(seed: int = 0) -> Network:
    with seeded(seed):
        return Network()


def run(net: Network, step=None, **words):
    def loss(batch: torch.Tensor) -> torch.Tensor:
        return (net(batch) - batch).square().mean()

    words.setdefault("epochs", 4)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    return train(net, step or loss, batches(least=2), optimiser, device="cpu", **words)


def weights(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_training_is_the_plain_loop() -> None:
    net, other = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)
    other.load_state_dict(net.state_dict())
    history = train(
        net,
        lambda x: (net(x) - x).square().mean(),
        batches(),
        torch.optim.Adam(net.parameters(), 0.02),
        epochs=3,
        schedule=drops(0.5),
        clip=0.5,
        seed=7,
        device="cpu",
    )
    optimiser = torch.optim.Adam(other.parameters(), 0.02)
    losses, done = [], 0
    for epoch in range(3):
        found = []
        for batch in batches().draw(epoch, generator(7, "batches", str(epoch))):
            x = torch.from_numpy(batch)
            optimiser.param_groups[0]["lr"] = 0.02 if done / 15 < 0.5 else 0.002
            optimiser.zero_grad()
            loss = (other(x) - x).square().mean()
            loss.backward()
            norm = torch.cat([p.grad.reshape(-1) for p in other.parameters()]).norm().item()
            for p in other.parameters():
                p.grad *= min(1.0, 0.5 / (norm + 1e-6))
            optimiser.step()
            found.append(loss.item())
            done += 1
        losses.append(np.mean(found))
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert history.steps == 15
    np.testing.assert_allclose([entry["loss"] for entry in history.losses], losses, rtol=1e-5)
    assert not net.training


def test_the_seed_alone_decides_and_the_callers_chance_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = network()
    run(first, seed=3)
    torch.testing.assert_close(torch.rand(3), expected)
    second, third = network(), network()
    torch.manual_seed(99)
    run(second, seed=3)
    run(third, seed=4)
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(third))


class _Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 9, 17, 23])
def test_a_killed_training_goes_on_to_the_same_weights(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole, killed, resumed = network(), network(), network(1)
    words = {
        "epochs": 6,
        "schedule": cosine(warmup=0.2),
        "validate": lambda x: x.square().mean(),
        "held_out": [DATA],
    }

    def loss_of(net: Network):
        return lambda batch: (net(batch) - batch).square().mean()

    expected = run(whole, loss_of(whole), **words)
    left = after

    def dying(batch: torch.Tensor) -> torch.Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Killed
        return loss_of(killed)(batch)

    with pytest.raises(_Killed):
        run(killed, dying, checkpoint=tmp_path, **words)
    if after < 5:  # nothing was saved yet, so what goes on starts from its own first weights
        resumed = network()
    found = run(resumed, loss_of(resumed), checkpoint=tmp_path, **words)
    assert same(weights(whole), weights(resumed))
    assert found == expected
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_a_finished_training_is_read_not_repeated(tmp_path: Path) -> None:
    first, second = network(), network(1)
    run(first, checkpoint=tmp_path)

    def never(batch: torch.Tensor) -> torch.Tensor:
        raise AssertionError("trained again")

    run(second, never, checkpoint=tmp_path)
    assert same(weights(first), weights(second))


def test_another_or_a_damaged_training_starts_afresh(tmp_path: Path) -> None:
    run(network(), checkpoint=tmp_path)
    expected, found = network(), network()
    run(expected, seed=9)
    run(found, seed=9, checkpoint=tmp_path)
    assert same(weights(expected), weights(found))
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    again = network()
    run(again, seed=9, checkpoint=tmp_path)
    assert same(weights(expected), weights(again))
    header = json.loads((tmp_path / "training.json").read_text())
    header["arrays"] = "../" + header["arrays"]
    (tmp_path / "training.json").write_text(json.dumps(header))
    again = network()
    run(again, seed=9, checkpoint=tmp_path)
    assert same(weights(expected), weights(again))


def test_momentum_without_state_and_plain_numbers_survive_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)

    class Counting(torch.optim.SGD):
        """An optimiser whose state holds a plain number."""

        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["count"] = self.state[p].get("count", 0) + 1

    def go(net: Network, checkpoint: Path | None, limit: int) -> Counting:
        optimiser = Counting(net.parameters(), 0.05, momentum=0.9)
        left = limit

        def step(batch: torch.Tensor) -> torch.Tensor:
            nonlocal left
            left -= 1
            if left < 0:
                raise _Killed
            return (net(batch) - batch).square().mean()

        train(net, step, batches(least=2), optimiser, epochs=3, device="cpu", checkpoint=checkpoint)
        return optimiser

    whole, resumed = network(), network()
    go(whole, None, 99)
    with pytest.raises(_Killed):
        go(network(), tmp_path, 7)
    optimiser = go(resumed, tmp_path, 99)
    assert same(weights(whole), weights(resumed))
    assert all(state["count"] == 15 for state in optimiser.state.values())


def test_adversaries_take_turns_and_move_their_own_weights_only() -> None:
    with seeded(0):
        maker, critic = torch.nn.Linear(6, 6), torch.nn.Linear(6, 1)
    seen: list[str] = []
    first = weights(maker)
    at_first_turn: list[bool] = []

    def criticise(x: torch.Tensor) -> torch.Tensor:
        seen.append("critic")
        return critic(maker(x)).mean() - critic(x).mean() + 0.1 * critic.weight.square().sum()

    def generate(x: torch.Tensor) -> torch.Tensor:
        if not at_first_turn:
            at_first_turn.append(same(first, weights(maker)))
        seen.append("generator")
        return -critic(maker(x)).mean()

    history = train(
        {"maker": maker, "critic": critic},
        {"critic": criticise, "generator": generate},
        batches(),
        {
            "critic": torch.optim.Adam(critic.parameters()),
            "generator": torch.optim.Adam(maker.parameters()),
        },
        steps=7,
        every={"generator": 3},
        device="cpu",
    )
    turn = ["critic", "generator", "critic", "critic"]
    assert seen == [*turn, *turn, "critic", "generator"]
    assert at_first_turn == [True]  # three critic losses went through it, none moved it
    assert not same(first, weights(maker))
    assert history.steps == 7
    assert [sorted(entry) for entry in history.losses] == [["critic", "generator"]] * 2


def test_patience_stops_and_the_best_weights_stay() -> None:
    net = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(2.0)
    one = np.ones((1, 1), np.float32)
    history = train(  # goes down by 0.5 an epoch; the criterion is best at 1
        net,
        lambda x: net(x).sum(),
        minibatches(1, 1, lambda chosen, random: one),
        torch.optim.SGD(net.parameters(), 0.5),
        epochs=50,
        validate=lambda x: (net(x) - 1).abs().sum(),
        held_out=[one],
        patience=3,
        device="cpu",
    )
    assert history.validation == [0.5, 0.0, 0.5, 1.0, 1.5]
    assert history.best_epoch == 1
    assert net.weight.item() == 1.0


def test_validation_is_without_dropout_and_leaves_modes_and_frozen_parts_as_they_are() -> None:
    net = network()
    net.norm.eval()
    before = net.norm.running_mean.clone()
    teacher = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6))
    modes: list[bool] = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        modes.append(net.drop.training and not net.norm.training and not teacher.training)
        return (net(x) - teacher(x)).square().mean()

    def criterion(x: torch.Tensor) -> torch.Tensor:
        modes.append(not net.drop.training)
        return (net(x) - teacher(x)).square().mean()

    run(net, loss, validate=criterion, held_out=[DATA], frozen=[teacher])
    assert all(modes)
    torch.testing.assert_close(net.norm.running_mean, before)


def test_weights_that_do_not_move_are_told() -> None:
    net = network()
    with pytest.raises(TrainingFailed, match=r"no gradient to model\.back\.weight, model\.back\.bias"):
        run(net, lambda x: net.norm(net.into(x)).square().mean())
    with pytest.raises(TrainingFailed, match="no weight"):
        run(net, lambda x: net(x).sum() * 0, schedule=lambda done: 1e-30)
    with pytest.raises(TrainingFailed, match="no parameter has a part in"):
        run(net, lambda x: x.sum())
    with pytest.raises(TrainingFailed, match="one number"):
        run(net, lambda x: net(x).sum(0))


def test_a_warm_up_from_zero_is_no_failure() -> None:
    net = network()
    before = weights(net)
    train(
        net,
        lambda x: net(x).square().mean(),
        batches(22),
        torch.optim.SGD(net.parameters(), 0.1),
        epochs=4,
        schedule=cosine(warmup=0.5),
        device="cpu",
    )
    assert not same(before, weights(net))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    net = network()
    with pytest.raises(TrainingFailed, match=r"not finite by step 1;"):
        run(net, lambda x: net(x).mean() * float("nan"))
    assert all(np.isfinite(value).all() for value in weights(net).values())
    with pytest.raises(OffnominalError, match="criterion is not finite"):
        run(net, validate=lambda x: x.sum() * float("inf"), held_out=[DATA])


def test_arguments_that_do_not_fit_are_refused() -> None:
    net = network()
    with pytest.raises(ValueError, match="epochs or steps"):
        run(net, epochs=None)
    with pytest.raises(ValueError, match="patience needs"):
        run(net, patience=2)
    with pytest.raises(ValueError, match="same names"):
        run(net, {"a": lambda x: x})
    with pytest.raises(ValueError, match="iterator"):
        run(net, validate=lambda x: x, held_out=iter([DATA]))
    with pytest.raises(ValueError, match="none of the models"):
        train(
            torch.nn.Linear(6, 6), net, batches(), torch.optim.SGD(net.parameters()), epochs=1, device="cpu"
        )
    with pytest.raises(ValueError, match="device must be"):
        train(net, net, batches(), torch.optim.SGD(net.parameters()), epochs=1, device="gpu0")
    with pytest.raises(ValueError, match="precision must be"):
        run(net, precision="fp8")
    short = Batches(3, lambda epoch, random: [DATA])
    with pytest.raises(TrainingFailed, match="1 batches, 3 were announced"):
        train(net, lambda x: net(x).sum(), short, torch.optim.SGD(net.parameters()), epochs=1, device="cpu")


def test_bf16_computes_low_and_keeps_weights_high() -> None:
    net = network()
    kinds: list[torch.dtype] = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        kinds.append(net.into(x).dtype)
        return (net(x) - x).square().mean()

    history = run(net, loss, precision="bf16", epochs=10)
    assert set(kinds) == {torch.bfloat16}
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert history.losses[-1]["loss"] < history.losses[0]["loss"]


def test_progress_is_shown_when_asked_and_threads_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    run(network())
    assert capfd.readouterr().err == ""
    with shown():
        run(network())
    assert torch.get_num_threads() == before


def test_minibatches_cover_every_item_once_an_epoch_in_another_order() -> None:
    random = np.random.default_rng(0)
    made = minibatches(10, 4, lambda chosen, _: chosen)
    epochs = [np.concatenate(list(made.draw(epoch, random))) for epoch in range(2)]
    assert made.per_epoch == 3
    for found in epochs:
        assert sorted(found) == list(range(10))
    assert not np.array_equal(*epochs)
    short = minibatches(9, 4, lambda chosen, _: chosen, least=2)
    assert short.per_epoch == len(list(short.draw(0, random))) == 2
    with pytest.raises(ValueError, match="at least 2"):
        minibatches(1, 4, lambda chosen, _: chosen, least=2)


def test_schedules() -> None:
    assert constant(0.5) == 1
    warm = cosine(last=0.1, warmup=0.2)
    assert [round(warm(done), 6) for done in (0.0, 0.1, 0.2, 0.6, 1.0)] == [0.0, 0.5, 1.0, 0.55, 0.1]
    stepped = drops(0.5, 0.9, factor=0.2)
    assert [round(stepped(done), 6) for done in (0.0, 0.5, 0.95)] == [1.0, 0.2, 0.04]
    with pytest.raises(ValueError, match="warmup"):
        cosine(warmup=1.0)


TOGETHER = """
import json, os, sys, numpy as np, torch
from offnominal.nets.batches import Batches
from offnominal.nets.seeding import seeded
from offnominal.nets.training import train
data = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)
size = int(sys.argv[1])
joined = data.reshape(8 // size, size * 4, 6)
with seeded(0):
    net = torch.nn.Linear(6, 6)
loss = lambda x: (net(x) - x).square().mean()
h = train(net, loss, Batches(len(joined), lambda epoch, random: list(joined)),
          torch.optim.Adam(net.parameters(), 0.01), epochs=3, device="cpu",
          validate=loss, held_out=[data[0]])
found = [h.steps, h.best_epoch, *net.weight.detach().reshape(-1).tolist()]
open(f"{sys.argv[2]}/{os.environ.get('RANK', 0)}.json", "w").write(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    environment = {**os.environ, "OFFNOMINAL_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def result(*command: str) -> list[np.ndarray]:
        out = tmp_path / f"out-{command[-1]}"
        out.mkdir()
        done = subprocess.run(
            [sys.executable, *command, str(out)], capture_output=True, text=True, timeout=240, env=environment
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = [json.loads(file.read_text()) for file in sorted(out.iterdir())]
        assert all(steps == 12 and best == 2 for steps, best, *_ in found)
        return [np.array(values) for _, _, *values in found]

    (alone,) = result(str(script), "2")
    pair = result("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), "1")
    assert len(pair) == 2
    for found in pair:
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
