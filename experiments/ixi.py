"""Brain age on real T1 brains: does pretraining on the same few brains help, and does more of it?

Shows:    brain age read linearly out of frozen features, with 20 and 40 labels, on 60 subjects never seen in pretraining: 3 sizes x 3
          durations of a 3D autoencoder against a random encoder and ridge regression on smoothed voxels. Masking is mild and the loss is on
          the voxels of all patches as they are: what age changes is how bright a patch is, which normalised targets leave out
Data:     IXI T1 brains, skull-stripped, one folder `ixi/sub_*/ses_*/t1.nii.gz` with ages in `ixi/participants.tsv`
Command:  scaling run experiments/ixi.py --set data.root=FOLDER   (the folder that holds ixi/)
Ends in:  runs/ixi/report.html, after about half an hour on two CPU cores; `--set name=ixi-finetune --set 'transfer.finetune={}'
          --set estimand.protocol=finetune --set tasks.0.draws=5` finetunes as well, which takes hours
"""

from scaling.study.config import Data, Estimand, Pretrain, Source, Split, Study, Task, Transfer, Volumes
from scaling.study.objectives import Mae

SHAPE = (56, 64, 56)
TRAIN, TEST = Source("ixi", "train"), Source("ixi", "test")

study = Study(
    name="ixi",
    data=Data(
        root="data",
        pretraining=(TRAIN,),
        volumes=Volumes(spacing_mm=3.0, shape=SHAPE),
        split=Split(test_subjects=60),
    ),
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    sizes=("xxs", "xs", "s"),
    durations=(8_000, 16_000, 32_000),
    pretrain=Pretrain(crop=SHAPE, batch=16, warmup=1600, augment="spatial"),
    tasks=(Task("brain-age", "regression", ("t1",), train=TRAIN, test=(TEST,), shots=(20, 40), draws=20, label="age"),),
    transfer=Transfer(finetune=None),
    # All sites are in pretraining and in the test: this asks for new people, not for new scanners.
    estimand=Estimand(protocol="probe", domain="in"),
)
