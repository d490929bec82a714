"""The options that a fit page's command prints are those that the command has."""

from __future__ import annotations

from causalft.cli.fit import command
from causalft.report.diagnosis import fit_command


def test_the_command_of_a_page_is_one_that_fit_understands() -> None:
    config = {
        "strata": ["clip", "openclip"], "data": "photos", "zoo": "pretrained", "weights": {"clip": "a b.safetensors"},
        "tuning": {"loss": "CE", "lr": 0.02, "epochs": 3, "batch_size": 64, "augmentation": "flip", "seed": 0},
        "learning_rates": [], "fusion": "logit", "stratum_prior": [0.25, 0.75], "control": "seeds",
        "control_of": "clip", "imbalance_factor": 50.0, "profile": "zipf", "order": "class", "n_validation": 5,
        "n_test": 20, "drop_empty_classes": True, "seed": 4, "n_seeds": 2, "device": "cpu",
    }  # fmt: skip
    import shlex

    words = shlex.split(fit_command(config, "runs/x y"))
    assert words[:2] == ["causalft", "fit"]
    read = command.make_context("fit", words[2:]).params
    assert read["strata"] == "clip,openclip" and read["weights"] == ("clip=a b.safetensors",)
    assert read["lr"] == "0.02" and read["stratum_prior"] == "0.25,0.75" and str(read["out"]) == "runs/x y"
    for name in ("data", "zoo", "fusion", "control", "control_of", "imbalance_factor", "profile", "order"):
        assert read[name] == config[name]
    assert (read["n_seeds"], read["seed"], read["n_test"], read["drop_empty_classes"]) == (2, 4, 20, True)
    assert (read["loss"], read["epochs"], read["batch_size"], read["augmentation"]) == ("CE", 3, 64, "flip")
