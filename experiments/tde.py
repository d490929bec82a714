"""The other causal baseline: the total direct effect of Tang et al. (2020), beside LA and the backdoor mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Experiment

if TYPE_CHECKING:
    from experiments.frame.claims import Claim
    from experiments.frame.scales import Roles
    from experiments.frame.study import Study

TDE, TOTAL, OURS = "TDE", "TDE head, nothing taken out", "strata, mixture"


def study(roles: Roles) -> Study:
    """TDE is trained with CE; the control is its head with alpha = 0."""
    from experiments.frame.arms import fused, singles
    from experiments.frame.measures import Contrast
    from experiments.frame.study import Study

    return Study(
        title="Total direct effect, logit adjustment and the backdoor mixture",
        arms=[
            singles("CE", roles, loss="CE"),
            singles("LA", roles),
            singles(TOTAL, roles, loss="CE", head="tde", tde_alpha=0.0),
            singles(TDE, roles, loss="CE", head="tde", tde_alpha="validation"),
            fused("TDE, mixture", roles, loss="CE", head="tde", tde_alpha="validation"),
            fused(OURS, roles),
        ],
        contrasts=[
            Contrast("TDE over its head alone, D-few", (TDE,), (TOTAL,), "few"),
            Contrast("TDE over CE, D-few", (TDE,), ("CE",), "few"),
            Contrast("LA over TDE", ("LA",), (TDE,)),
            Contrast("mixture over TDE", (OURS,), (TDE,)),
            Contrast("mixture over TDE mixture", (OURS,), ("TDE, mixture",)),
            Contrast("gap fall, TDE", ("CE",), (TDE,), "own_gap"),
        ],
        conclude=lambda shown: [
            f"Taking the mean feature out changes D-few accuracy by {shown('TDE over its head alone, D-few')} points. "
            f"TDE is {shown('TDE over CE, D-few')} from CE there. LA is {shown('LA over TDE')} from TDE on all images.",
            f"The backdoor mixture gains {shown('mixture over TDE')} points over TDE and "
            f"{shown('mixture over TDE mixture')} over a mixture of TDE strata.",
        ],
    )


def claims() -> tuple[Claim, ...]:
    """What the baseline claims of itself, and the paper of its method."""
    from experiments.frame.claims import Claim

    few = "Taking the mean feature out raises D-few accuracy"
    ours = "The backdoor mixture is more accurate than TDE"
    alike = "The backdoor mixture is more accurate than a mixture of TDE strata"
    return (
        Claim(few, "paired/TDE over its head alone, D-few", above=0.0, section="Tab. 5"),
        Claim(ours, "paired/mixture over TDE", above=0.0, section="Tab. 5"),
        Claim(alike, "paired/mixture over TDE mixture", above=0.0, objection=4),
    )


EXPERIMENT = Experiment(
    name="tde",
    reproduces="Sec. 5: the total direct effect as a baseline",
    claim="the backdoor mixture beats TDE; controls: TDE's head with nothing taken out, a mixture of TDE strata",
    scale="creatures-lt, mini zoo, alpha chosen on validation images",
    minutes=9,
    study=study,
    claims=claims,
    source="Tang et al., NeurIPS 2020; Chen et al., ICML 2025",
)
