from pathlib import Path

import numpy as np
import pyarrow as pa

from promo_ray.artifacts import ArtifactStore
from promo_ray.artifacts.offer_set import OFFER_SET
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.artifacts.users import USERS
from promo_ray.execution import SerialExecutor
from promo_ray.pipeline.scoring import score, scorer_of
from promo_ray.pipeline.stage import Context


def test_users_who_withhold_consent_are_offered_nothing(small_run: Path) -> None:
    store = ArtifactStore(str(small_run))
    context = Context(store=store, executor=SerialExecutor())
    scorer = scorer_of(context, store.read(OFFER_SET).table("offers"))
    profiles = store.read(USER_PROFILES).parts("user_profiles")[0]()
    users = store.read(USERS).parts("users")[0]()
    answers = [True, False, None] * users.num_rows
    place = users.column_names.index("is_consenting")
    column = pa.array(answers[: users.num_rows], pa.bool_())
    asked = users.set_column(place, users.schema.field(place), column)
    scored = score(scorer, profiles, asked)
    is_out = np.isneginf(scored.value).all(axis=1)
    assert is_out.tolist() == [a is False for a in column.to_pylist()]
    assert np.isfinite(scored.value[~is_out]).all()
    contact = scorer.offers["contact_cost"].to_numpy()
    assert (scored.cost >= contact).all()
