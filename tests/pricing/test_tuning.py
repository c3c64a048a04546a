from __future__ import annotations

import json

import pytest

from promo_ray.artifacts.price_plan import TRIALS
from promo_ray.config import parse, resolve
from promo_ray.errors import ConfigError
from promo_ray.pricing import PricingParams, SearchSpace, holdout_loss, tune_serial
from promo_ray.pricing.proposals import RandomProposals
from promo_ray.pricing.tuning import Losses, successive_halving

SPACE = SearchSpace(holdout_weeks=4, first_weeks=1, reduction=2)


def test_trials_depend_on_seed_and_number_alone():
    one, two = RandomProposals(SPACE, 1), RandomProposals(SPACE, 2)
    assert one.ask(5) == one.ask(9)[:5]
    assert one.ask(5)[1:] != two.ask(5)[1:]
    assert one.ask(1) == [PricingParams()]
    for params in one.ask(50)[1:]:
        low, high = SPACE.level_half_life_weeks
        assert low <= params.level_half_life_weeks <= high
        assert params.week_effect in SPACE.week_effect


def test_halving_keeps_the_better_half_at_each_rung():
    asked = []

    def loss_after(trial, weeks):
        asked.append((trial, weeks))
        return {0: 3.0, 1: 1.0, 2: 2.0, 3: 4.0}[trial] / weeks

    reached = successive_halving(4, SPACE, loss_after)
    assert asked == [(0, 1), (1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 4)]
    assert [weeks for weeks, _ in reached] == [1, 4, 2, 1]


def test_equal_losses_go_by_number():
    reached = successive_halving(4, SPACE, lambda trial, weeks: 1.0)
    assert [weeks for weeks, _ in reached] == [4, 2, 1, 1]


def test_rungs_end_at_all_held_out_weeks():
    assert SearchSpace(holdout_weeks=8, first_weeks=2).rungs() == [2, 4, 8]
    assert SearchSpace(holdout_weeks=7, first_weeks=2, reduction=3).rungs() == [2, 6, 7]
    assert SearchSpace(holdout_weeks=1, first_weeks=1).rungs() == [1]


def test_search_ends_with_the_best_full_trial_and_says_what_it_tried(make_panel):
    panel, _ = make_panel(0, n=30, t=30)
    found = tune_serial(panel, SPACE, 8, seed=5)
    assert found.trials.schema == TRIALS
    rows = found.trials.to_pylist()
    assert [r["trial"] for r in rows] == list(range(8))
    full = [r for r in rows if r["n_iter"] == 4]
    assert found.loss == min(r["loss"] for r in full)
    assert found.loss == holdout_loss(found.best, panel, 4)
    winner = next(r for r in full if r["loss"] == found.loss)
    assert PricingParams(**json.loads(winner["config"])) == found.best
    assert tune_serial(panel, SPACE, 8, seed=5).trials.equals(found.trials)


def test_losses_known_in_part_go_on_where_they_must(make_panel):
    panel, _ = make_panel(1, n=20, t=20)
    fresh = Losses(PricingParams(), panel, SPACE, [])
    known = [fresh.after(1), fresh.after(2)]
    resumed = Losses(PricingParams(), panel, SPACE, known)
    assert resumed.after(2) == known[1]
    assert resumed.after(4) == fresh.after(4)


def test_bad_space_or_number_of_trials_is_refused(make_panel):
    with pytest.raises(ConfigError, match="first_weeks"):
        parse(SearchSpace, {"holdout_weeks": 2, "first_weeks": 3})
    with pytest.raises(ConfigError, match="pooling_strength"):
        parse(SearchSpace, {"pooling_strength": [4.0, 0.5]})
    with pytest.raises(ConfigError, match="n_trials"):
        tune_serial(make_panel(0)[0], SPACE, 0, 0)


def test_optuna_proposes_from_what_it_saw_and_repeats_itself(make_panel):
    pytest.importorskip("optuna")
    panel, _ = make_panel(2, n=15, t=20)
    space = SearchSpace(holdout_weeks=2, first_weeks=1, search="optuna")
    found = tune_serial(panel, space, 18, seed=1)
    assert found.trials.num_rows == 18
    assert json.loads(found.trials["config"][0].as_py()) == resolve(PricingParams())
    assert len(set(found.trials["config"].to_pylist())) == 18
    assert tune_serial(panel, space, 18, seed=1).trials.equals(found.trials)
    assert not tune_serial(panel, space, 18, seed=2).trials.equals(found.trials)
