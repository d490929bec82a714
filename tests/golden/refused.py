"""Command lines that are refused, one a line; places in capitals are filled in by the test."""

from __future__ import annotations

__all__ = ["LINES"]

LINES = """
fitt
--debugg fit
fit --stratas clip
fit --fusion produkt
fit --epochs 1.5
fit --epochs 0
fit --lr nan
fit --lr 0.1,x
fit --strata clipp
fit --strata clip,clip
fit --zoo MISSING
fit --zoo PHOTOS --data PHOTOS
fit --zoo ZOO --data PHOTOS --strata metaclip
fit --zoo ZOO --strata clip --data MISSING
fit --zoo ZOO --strata clip --data PHOTOS --format tabel
fit --zoo ZOO --strata clip --data EMPTY
fit --zoo ZOO --strata clip --data NOTE
fit --loss LAA
fit --tuner adaptorformer
fit --tuner lora+full
fit --tuner lora@last-0
fit --head cosinus
fit --head-start txt
fit --sampler squareroot
fit --augmentation crop
fit --wise-ft 0
fit --gla --tuner zero-shot
fit --zoo ZOO --strata clip,openclip --data PHOTOS --stratum-prior 0.5,0.6
fit --zoo ZOO --strata clip,openclip --data PHOTOS --stratum-prior 0.5,0.3,0.2
fit --zoo ZOO --strata clip --data PHOTOS --path-column file
fit --zoo ZOO --strata clip --data PHOTOS --imbalance-factor 4 --profile zip
fit --zoo ZOO --strata clip --data PHOTOS --order-by openclip
fit --control-of clipp --control seeds
fit --order reverse
fit --imbalance-factor 0.5
fit --zoo ZOO --strata clip --data PHOTOS --n-test 100
fit --zoo ZOO --strata clip --data PHOTOS --split-as a=b=c
fit --weights clip
fit --weights clip=MISSING --zoo pretrained --strata clip --data PHOTOS
fit --device gpu
fit --out NOTE
fit --out NOTE/run
fit --out PHOTOS
fit --out RUN
verify-confounder --design confoundet
verify-confounder --design MISSING.yaml
verify-confounder --classes bird
verify-confounder --classes bird,truk
verify-confounder --ratio 90
verify-confounder --ratio 90:10 --strength 0.8
verify-confounder --strength 2
verify-confounder --seeds 0
verify-confounder --backbone resnet18
verify-confounder --steps 5
verify-confounder --n-per-class 1
verify-confounder --out NOTE
generate
generate --out NOTE
generate --design papr --out OUT
generate --size 1000000 --out OUT
generate --n-per-class 1 --out OUT
generate --guidance 3 --out OUT
generate --generator stable-difusion --out OUT
generate --check clip --max-rejects nan --out OUT
probe --loss LAA
probe --strata clipp
probe --out NOTE
predict
predict MISSING PHOTOS
predict RUN
predict RUN MISSING
predict RUN NOTE
predict RUN EMPTY
predict RUN PHOTOS --top 0
predict RUN PHOTOS --format parket --out OUT
predict RUN PHOTOS --out OUT.xyz
predict RUN PHOTOS --out OUT.csv --json
predict ZOO PHOTOS
predict INTERRUPTED PHOTOS
evaluate RUN
evaluate RUN --data MISSING
evaluate INTERRUPTED --data PHOTOS
wise-ft MISSING
wise-ft INTERRUPTED
data MISSING
data show MISSING
data show EMPTY
prior estimate
prior estimate --run MISSING
prior estimate --logits MISSING.csv
weights fetch clipp
weights check clipp
weights import MISSING
weights import NOTE --name clip
zoo list --zoo MISSING
zoo show clipp
zoo show metaclip --zoo ZOO
zoo check --zoo MISSING
zoo pretrain
zoo pretrain --out OUT --member clipp
zoo pretrain --out OUT --data PHOTOS --member clip
zoo pretrain --out OUT --data PHOTOS --member clip=uper
zoo pretrain --out OUT --data PHOTOS --n-images 3
zoo pretrain --out OUT --data PHOTOS --member clip=upper --image-size 20
zoo pretrain --out ZOO
graph identify --graph MISSING
graph identify --treatment Q
graph identify --outcome YY
graph identify --graph NOTE
graph identify --adjust Q
graph show --out OUT.xyz
graph design confoundet
graph falsify --data MISSING.csv
experiment run verdict_rate --out OUT
experiment run tab8 --out NOTE
export RUN
export RUN --to onxx
export RUN --to single-file --strata clipp
export RUN --to single-file --pictures float16
export INTERRUPTED --to single-file
card MISSING
card INTERRUPTED
push RUN
push MISSING --to-folder OUT
pull owner/name
pull MISSING --to RUN
cache clear --unused-days x
cache lst
""".strip().splitlines()
