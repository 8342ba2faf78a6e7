"""Brain age on real T1 brains: does pretraining on the same few brains help, and does more of it?

Shows:    brain age read linearly out of frozen features, with 20 and 40 labels, on 60 subjects
          never seen in pretraining: 3 sizes x 3 durations of a 3D masked autoencoder against random
          encoders and ridge regression on smoothed voxels. The network is a U-Net, pretrained on
          crops: how much tissue and fluid a place holds is no linear function of its voxels, so
          that a ViT with patches of 24 mm starts where ridge regression does
Data:     IXI T1 brains, skull-stripped, one folder `ixi/sub_*/ses_*/t1.nii.gz` with ages in
          `ixi/participants.tsv`
Command:  scaling run experiments/ixi.py --set data.root=FOLDER --set execution.mesh=[2,1]
          (the folder that holds ixi/; two CPU cores)
Ends in:  runs/ixi/report.html, after about half an hour; `--set name=ixi-finetune
          --set 'transfer.finetune={}' --set estimand.protocol=finetune --set tasks.0.draws=5`
          finetunes as well, which takes hours
"""

from scaling import (
    Data,
    Estimand,
    Mae,
    Pretrain,
    Source,
    Split,
    Study,
    Task,
    Transfer,
    UNet,
    Volumes,
)

TRAIN, TEST = Source("ixi", "train"), Source("ixi", "test")

study = Study(
    name="ixi",
    data=Data(
        root="data",
        pretraining=(TRAIN,),
        volumes=Volumes(spacing_mm=3.0, shape=(56, 64, 56)),
        split=Split(test_subjects=60),
    ),
    # Half hidden, and all voxels as they are: targets without their mean and contrast leave out
    # what ageing changes.
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    families=(UNet(levels=3, patch=4, skips=False),),
    sizes=("xxs", "xs", "s"),
    durations=(4_000, 8_000, 16_000),
    pretrain=Pretrain(crop=(32, 32, 32), batch=16, learning_rate=6e-3, warmup=800, augment="flips"),
    tasks=(
        Task(
            "brain-age",
            "regression",
            ("t1",),
            train=TRAIN,
            test=(TEST,),
            shots=(20, 40),
            draws=20,
            label="age",
        ),
    ),
    transfer=Transfer(finetune=None),
    # All sites are in pretraining and in the test: this asks for new people, not for new scanners.
    estimand=Estimand(protocol="probe", domain="in"),
)
