"""Measure speed and memory on this machine: medians of several repeats, written to bench/results.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import against_peers
import big_lists
import diagnose_images
import evaluate_size
import full_size
import parts
import semi_epoch
import startup
from timing import HERE, peak_mib, processor_units

MEASURES: dict[str, Callable[[int], dict[str, Any]]] = {
    "train_speedup": against_peers.train_speedup,
    "train_memory_ratio": against_peers.train_memory_ratio,
    "infer_speedup": against_peers.infer_speedup,
    "infer_agreement": against_peers.infer_agreement,
    "int8_infer_speedup": against_peers.int8_infer_speedup,
    "int8_agreement": against_peers.int8_agreement,
    "merged_infer_speedup": against_peers.merged_infer_speedup,
    "merged_int8_infer_speedup": against_peers.merged_int8_infer_speedup,
    "int8_train_speedup": against_peers.int8_train_speedup,
    "int8_train_memory_ratio": against_peers.int8_train_memory_ratio,
    "loss_trajectory": against_peers.loss_trajectory,
    "sweep_speedup": against_peers.sweep_speedup,
    "gla_seconds_8142": full_size.gla_seconds,
    "gla_peak_gb": full_size.gla_peak_gb,
    "predict_peak_gb": full_size.predict_peak_gb,
    "predict_share_of_encoder": full_size.predict_share_of_encoder,
    "two_process_max_diff": full_size.two_process_max_diff,
    "two_process_encode_speedup": full_size.two_process_encode_speedup,
    "two_process_predict_speedup": full_size.two_process_predict_speedup,
    "two_process_rows_max_diff": full_size.two_process_rows_max_diff,
    "evaluate_imagenet_peak_gb": evaluate_size.imagenet_peak_gb,
    "evaluate_imagenet_seconds": evaluate_size.imagenet_seconds,
    "evaluate_inat_peak_gb": evaluate_size.inat_peak_gb,
    "evaluate_inat_seconds": evaluate_size.inat_seconds,
    "run_folder_imagenet_gb": evaluate_size.run_folder_gb,
    "open_list_437513_seconds": big_lists.open_list_seconds,
    "diagnose_first_seconds": diagnose_images.diagnose_first_seconds,
    "diagnose_cached_seconds": diagnose_images.diagnose_cached_seconds,
    "semi_epoch_seconds": semi_epoch.semi_epoch_seconds,
    "help_startup": parts.help_startup,
    "refusal_startup_ratio": startup.refusal_startup_ratio,
    "listing_startup_ratio": startup.listing_startup_ratio,
    "predict_startup_ratio": startup.predict_startup_ratio,
    "renderer_48px": parts.renderer,
    "encode_mini": parts.encoding,
    "close_ups_over_encoder": parts.close_ups_over_encoder,
    "near_duplicates_over_decoding": parts.near_duplicates_over_decoding,
    "interval_batch_speedup": parts.interval_batch_speedup,
    "tune_stratum": parts.tuning,
    "bias_curve": parts.bias_curve,
    "mini_diffusion": parts.mini_diffusion,
}


def main() -> None:
    """Run the measures named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", help=f"of: {', '.join(MEASURES)} (all)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    chosen = arguments.measures or list(MEASURES)
    unknown = [name for name in chosen if name not in MEASURES]
    if unknown:
        parser.error(f"no measure {unknown[0]!r}; choose from {', '.join(MEASURES)}")
    results: dict[str, Any] = {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "units": processor_units(),
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in ("causalft", "torch", "numpy", "open_clip_torch")},
        "measures": {},
    }
    print(f"units of the processor: {', '.join(processor_units()) or 'none of those that matter here'}")
    for name in chosen:
        if name == "mini_diffusion" and find_spec("diffusers") is None:
            print(f"{name:20s} not measured: install the extra `diffusion`")
            continue
        result = MEASURES[name](arguments.repeats)
        results["measures"][name] = result
        results[name] = result["median"]
        print(
            f"{name:20s} {result['median']:10.4g} {result['unit']}  ({result['min']:.4g} to {result['max']:.4g})  "
            f"{' '.join(result.get('units', []))}".rstrip(),
            flush=True,
        )
    results["peak_memory_mib"] = max(peak_mib(), peak_mib(children=True))
    print(f"{'peak memory':20s} {results['peak_memory_mib']:10.0f} MiB")
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
