"""The designed FOMO26: its tasks are those of the challenge's record."""

from experiments.fomo26 import scales
from scaling.study.challenge import load_challenge
from scaling.study.task_kinds import kind_of


def test_tasks_of_the_experiment_are_the_challenges() -> None:
    challenge = load_challenge("fomo26")
    for study in scales.values():
        assert {task.name for task in study.tasks} | {"fairness"} == {
            task.name for task in challenge.tasks
        }
        for task in study.tasks:
            entered = challenge.task(task.name)
            if entered.kind == "embedding":  # the probe's classes are predicted by readouts
                continue
            assert task.kind == entered.kind
            assert task.sequences == entered.sequences
            rules = tuple(rule.metric for rule in entered.metrics)
            assert kind_of(task).metrics(task) == rules
            if entered.labels > 1:
                assert task.classes == entered.classes[1:]
