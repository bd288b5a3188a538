"""Who works on which trial: every trial is asked for once, and a killed one is found, marked and done again. Never imports torch.

A worker holds the trial's lock from asking to telling. A trial that is 'running' for Optuna while nobody holds its lock was
stopped (then it goes on from its saved state) or its worker was killed (then it is marked failed and done once more).
All of this happens under one lock, so two workers never take the same trial, and no more are asked for than wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from kdcore.errors import RunError
from kdcore.jobs.locks import held
from kdcore.jobs.sweep_folder import SweepFolder
from kdcore.jobs.sweep_trials import OF_THE_TEACHER, Role, as_used
from kdcore.settings import Objective, Range, SweepSettings

WARM_UP = 30  # per cent of the budget before which no trial is called hopeless
ASK_SECONDS = 120.0
KILLED = "its worker was killed"


@dataclass(frozen=True)
class Claim:
    """A trial that is ours until its result is told.

    Attributes:
        trial: Optuna's.
        lock: held.
        role, seed: see `TrialRecord`.
        params: every setting of it by name.
    """

    trial: optuna.Trial
    lock: FileLock
    role: Role
    seed: int
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Of the trial."""
        return self.trial.number


class Claims:
    """Asks for trials and tells their results."""

    def __init__(self, sweep: SweepFolder, worker: int = 0) -> None:
        self.sweep = sweep
        self.settings: SweepSettings = sweep.settings
        self.study = sweep.study()
        asked = len(self.study.get_trials(deepcopy=False))
        # One parameter at a time: a student alone has no temperature, and that must not keep the others from being learnt.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.settings.seed + 1000 * worker + asked, multivariate=False
        )
        # Hopeless is what does worse than every finished trial did by then. Below their median, seed variance ends most trials, for those
        # that finish are the better ones, and a sweep is to show the bad settings, too.
        self.study.pruner = optuna.pruners.PercentilePruner(
            100.0, n_startup_trials=self.settings.fixed_trials, n_warmup_steps=WARM_UP
        )

    def next(self) -> Claim | None:
        """A trial to work on, or None where all are done or being worked on.

        Raises:
            RunError: another worker holds the lock for too long.
        """
        asking = FileLock(self.sweep.path / "ask.lock")
        try:
            asking.acquire(timeout=ASK_SECONDS)
        except Timeout as error:
            raise RunError(
                f"{self.sweep.path}: another worker has been asking for a trial for {ASK_SECONDS:.0f} s. Stop it, then resume."
            ) from error
        try:
            self._plan()
            stopped = self._look_after_the_abandoned()
            if stopped is not None:
                return self._claim(stopped)
            if self._counted() >= self.settings.trials:
                return None
            return self._claim(self.study.ask())
        finally:
            asking.release()

    def others_work(self) -> bool:
        """Whether some trial is being worked on; it may yet be abandoned."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(held(self.sweep.trial_lock(trial.number)) for trial in running)

    def report(self, claim: Claim, percent: int, score: float) -> bool:
        """Note a validation, and say whether the trial is hopeless.

        Args:
            claim: of the trial.
            percent: of its budget that is spent.
            score: mean AP.
        """
        if len(self.settings.objectives) > 1:
            return False  # Optuna keeps such values for one objective only
        claim.trial.report(score, percent)
        return claim.role == "search" and self.settings.prunes and percent < 100 and claim.trial.should_prune()

    def finish(self, claim: Claim, measured: dict[Objective, float]) -> None:
        """Tell what was measured."""
        claim.trial.set_user_attr("measured", measured)
        self.study.tell(claim.trial, [measured[name] for name in self.settings.objectives])
        claim.lock.release()

    def prune(self, claim: Claim) -> None:
        """Tell that it was hopeless."""
        self.study.tell(claim.trial, state=TrialState.PRUNED)
        claim.lock.release()

    def fail(self, claim: Claim, message: str) -> None:
        """Tell that it cannot be done, and why."""
        claim.trial.set_user_attr("message", message)
        self.study.tell(claim.trial, state=TrialState.FAIL)
        claim.lock.release()

    def interrupt(self, claim: Claim) -> None:
        """Leave it to whoever comes next; it goes on from its saved state."""
        claim.trial.set_user_attr("stopped", True)
        claim.lock.release()

    def _plan(self) -> None:
        """Put what every sweep does into the queue, unless it is there: the students alone and the repeats of the centre."""
        centre = self.settings.space.centre()
        seed = self.settings.seed
        planned: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (self._searched({**centre, "student": student}, "baseline"), {"role": "baseline", "seed": seed})
            for student in self.settings.space.student
        ]
        planned += [
            (self._searched(centre, "repeat"), {"role": "repeat", "seed": seed + number})
            for number in range(self.settings.repeats)
        ]
        there = [
            (trial.system_attrs.get("fixed_params"), trial.user_attrs)
            for trial in self.study.get_trials(deepcopy=False)
            if "retry_of" not in trial.user_attrs
        ]
        for params, attributes in planned:
            if not any(known == params and attributes.items() <= other.items() for known, other in there):
                self.study.enqueue_trial(params, user_attrs=attributes)

    def _searched(self, params: dict[str, Any], role: Role) -> dict[str, Any]:
        """Of all settings those that are searched and mean something to the role."""
        left_out = OF_THE_TEACHER if role == "baseline" else ()
        return {name: params[name] for name in self.settings.space.searched if name not in left_out}

    def _look_after_the_abandoned(self) -> optuna.Trial | None:
        """Find trials that nobody works on: one that was stopped is given back, killed ones are marked and queued again."""
        trials = self.study.get_trials(deepcopy=False)
        retries = {trial.user_attrs.get("retry_of") for trial in trials}
        for trial in trials:
            if trial.state != TrialState.RUNNING or held(self.sweep.trial_lock(trial.number)):
                continue
            if trial.user_attrs.get("stopped") or self.sweep.run(trial.number).report.exists():
                return optuna.Trial(self.study, trial._trial_id)
            again = trial.number not in retries and "retry_of" not in trial.user_attrs
            if again:  # first the new one: whoever is killed between the two leaves none lost and none twice
                self._enqueue_again(trial)
            dead = optuna.Trial(self.study, trial._trial_id)
            dead.set_user_attr("message", KILLED + ("; it is done again" if again else ""))
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.sweep.log(f"trial {trial.number}: {KILLED}{'; it is done again' if again else ''}")
        return None

    def _enqueue_again(self, trial: FrozenTrial) -> None:
        kept: dict[str, Any] = {name: trial.user_attrs[name] for name in ("role", "seed") if name in trial.user_attrs}
        params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        self.study.enqueue_trial(params, user_attrs={**kept, "retry_of": trial.number})

    def _counted(self) -> int:
        """Trials that are done or being done; a killed one counts as the one that takes its place."""
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        return sum(trial.state != TrialState.WAITING and trial.number not in retried for trial in trials)

    def _claim(self, trial: optuna.Trial) -> Claim:
        file = self.sweep.trial_lock(trial.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(timeout=ASK_SECONDS)
        attributes = trial.user_attrs
        role: Role = attributes.get("role", "search")
        if attributes.get("stopped"):
            trial.set_user_attr("stopped", False)
        searched = {name: self._suggest(trial, name) for name in self._searched(self.settings.space.centre(), role)}
        params = {
            "learning_rate": self.settings.budget.learning_rate,
            **self.settings.space.centre(),
            **searched,
            **({"alpha": 0.0} if role == "baseline" else {}),
        }
        return Claim(trial, lock, role, attributes.get("seed", self.settings.seed), params)

    def _suggest(self, trial: optuna.Trial, name: str) -> float | str:
        """The sampler's choice, or what the trial was planned with."""
        entry = self.settings.space.entries()[name]
        if isinstance(entry, Range):
            return float(as_used(trial.suggest_float(name, entry.low, entry.high, log=entry.log), entry))
        values: Sequence[float | str] = entry
        chosen: Any = trial.suggest_categorical(name, values)
        return chosen if isinstance(chosen, str) else float(chosen)
