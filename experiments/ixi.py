"""Brain age on real T1 brains: does pretraining on the same few brains help, and does more of it?

Shows:    few-shot brain age (20 and 40 labels) on 60 subjects never seen in pretraining, 3 sizes x 3 durations of a 3D MAE against
          training from scratch, a random encoder, and ridge regression on smoothed voxels
Data:     IXI T1 brains, skull-stripped, one folder `ixi/sub_*/ses_*/t1.nii.gz` with ages in `ixi/participants.tsv`
Command:  scaling run experiments/ixi.py --set data.root=FOLDER   (the folder that holds ixi/)
Ends in:  runs/ixi/report.html, after about an hour on two CPU cores
"""

from scaling.study.config import Data, Estimand, Finetune, Pretrain, Source, Split, Study, Task, Transfer, Volumes

SHAPE = (40, 48, 40)
TRAIN, TEST = Source("ixi", "train"), Source("ixi", "test")

study = Study(
    name="ixi",
    data=Data(
        root="data",
        pretraining=(TRAIN,),
        volumes=Volumes(spacing_mm=4.0, shape=SHAPE),
        split=Split(test_subjects=60),
    ),
    sizes=("xxs", "xs", "s"),
    durations=(16_000, 32_000, 64_000),
    pretrain=Pretrain(crop=SHAPE, batch=16, warmup=1600, augment="flips"),
    tasks=(Task("brain-age", "regression", ("t1",), train=TRAIN, test=(TEST,), shots=(20, 40), draws=5, label="age"),),
    transfer=Transfer(finetune=Finetune(steps=100, batch=8, learning_rates=(3e-4, 1e-3), augment="flips")),
    # All sites are in pretraining and in the test: this asks for new people, not for new scanners.
    estimand=Estimand(domain="in"),
)
