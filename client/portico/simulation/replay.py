"""A deterministic replay that processes events in order of time.

A machine divides its time equally among the models on it. Within a model, prompts are computed one after another, in
steps in which each running answer gets one token. While no prompt is computed, the answers share the measured rate.
Models are loaded and evicted by the daemon's rules: the first call loads a model. An idle model is evicted for a
called one, the least recently used first. A busy model is evicted only after it has stayed for twice its load time, at
least one second.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from portico.errors import InvalidRequest
from portico.simulation.inputs import ClusterPlan, ModelRates, TracedCall
from portico.spelling import nearest

MIN_STAY_FACTOR = 2.0
"""While other models wait, a busy model stays at least this multiple of its load time …"""

MIN_STAY_S = 1.0
"""… and at least this many seconds."""

ROUNDING_TOKENS = 0.01
"""Fewer remaining tokens than this count as zero, to absorb rounding errors in times."""


@dataclass(slots=True)
class SimulatedCall:
    """The result of a call. Times are in seconds since the start of the trace; ``started`` is when its prompt was
    started.

    Example::

        from portico.simulation import ClusterPlan, MachineKind, ModelRates, TracedCall, simulate

        rates = ModelRates(memory_gb=8, load_s=20, prefill=4_000, decode=((1, 40.0),))
        plan = ClusterPlan((MachineKind("l4", 24),), {"small": rates})
        [call] = simulate([TracedCall(0, "small", 200, 50)], plan, (1,)).calls
        print(call.first_token, call.ended)
    """

    call: TracedCall
    started: float = 0.0
    first_token: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """The result of a replay. ``counts``: the number of machines of each kind. ``busy_s``: the total number of seconds
    in which machines computed.

    Example::

        from portico.simulation import ClusterPlan, MachineKind, ModelRates, TracedCall, simulate

        rates = ModelRates(memory_gb=8, load_s=20, prefill=4_000, decode=((1, 40.0),))
        plan = ClusterPlan((MachineKind("l4", 24),), {"small": rates})
        print(simulate([TracedCall(0, "small", 200, 50)], plan, (1,)).busy_s)
    """

    counts: tuple[int, ...]
    calls: Sequence[SimulatedCall]
    loads: int
    evictions: int
    busy_s: float
    span_s: float


def simulate(
    trace: Sequence[TracedCall],
    plan: ClusterPlan,
    counts: Sequence[int],
    progress: Callable[[int], object] | None = None,
) -> SimulationResult:
    """Replay ``trace`` on the machines of ``plan``; ``counts`` is the number of machines of each kind. ``progress`` is
    called with the number of calls that have ended.

    Raises `InvalidRequest` for a model without rates, or a model that does not fit on any of these machines.
    """
    largest = max(kind.memory_gb for kind, number in zip(plan.machines, counts, strict=True) if number)
    for name in dict.fromkeys(call.model for call in trace):
        rates = plan.models.get(name)
        if rates is None:
            raise InvalidRequest(
                f"The trace calls '{name}', which has no rates.{nearest(name, plan.models)}",
                param="models",
            )
        if rates.memory_gb > largest:
            raise InvalidRequest(
                f"'{name}' needs {rates.memory_gb:g} GB, more than any of these machines has.",
                param="machines",
            )
    return _Replay(trace, plan, counts, progress).run()


@dataclass(eq=False, slots=True)
class _SimulatedReplica:
    name: str
    rates: ModelRates
    machine: _SimulatedMachine
    ready_at: float
    ready: bool = False
    draining: bool = False
    used_at: float = 0.0
    queue: deque[int] = field(default_factory=deque)
    prompts: deque[list[float]] = field(default_factory=deque)
    """Pairs: the number of a call, and how many tokens of its prompt remain to be computed."""
    answers: list[tuple[float, int]] = field(default_factory=list)
    """A heap of pairs: the value of `served` at which an answer is complete, and the number of its call."""
    served: float = 0.0
    """Number of tokens that an answer running since the load would have received."""

    @property
    def active(self) -> int:
        return len(self.prompts) + len(self.answers)

    @property
    def idle(self) -> bool:
        return self.ready and not self.active and not self.queue

    def speeds(self) -> tuple[float, float]:
        """Return two rates in tokens per second, assuming that no other model uses the machine: that of the first
        prompt, and that of each answer.
        """
        running = len(self.answers)
        tokens_per_s = decode_rate(self.rates, running) / running if running else 0.0
        if not self.prompts:
            return 0.0, tokens_per_s
        step = self.rates.step_tokens
        return self.rates.prefill * max(1, step - running) / step, min(
            tokens_per_s, self.rates.prefill / step
        )


@dataclass(eq=False, slots=True)
class _SimulatedMachine:
    kind: int
    free_gb: float
    replicas: dict[str, _SimulatedReplica] = field(default_factory=dict)
    at: float = 0.0
    version: int = 0
    busy_s: float = 0.0

    def working(self) -> list[_SimulatedReplica]:
        return [replica for replica in self.replicas.values() if replica.active]


def decode_rate(rates: ModelRates, calls: int) -> float:
    """Return the total tokens per second of ``calls`` concurrent answers, interpolated linearly between the measured
    rates.
    """
    below = (0, 0.0)
    for point in rates.decode:
        if calls <= point[0]:
            return below[1] + (point[1] - below[1]) * (calls - below[0]) / (point[0] - below[0])
        below = point
    return below[1]


class _Replay:
    def __init__(
        self,
        trace: Sequence[TracedCall],
        plan: ClusterPlan,
        counts: Sequence[int],
        progress: Callable[[int], object] | None,
    ) -> None:
        self._plan = plan
        self._counts = tuple(counts)
        self._progress = progress
        self._calls = [SimulatedCall(call) for call in trace]
        self._machines = [
            _SimulatedMachine(kind, plan.machines[kind].memory_gb)
            for kind, number in enumerate(counts)
            for _ in range(number)
        ]
        self._replicas: dict[str, list[_SimulatedReplica]] = defaultdict(list)
        self._pending: dict[str, deque[int]] = {}
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._retries: set[str] = set()
        self._now = 0.0
        self._loads = self._evictions = self._ended_count = 0

    def run(self) -> SimulationResult:
        arrivals = deque(range(len(self._calls)))
        while arrivals or self._events:
            upcoming = self._calls[arrivals[0]].call.at if arrivals else None
            if upcoming is not None and (not self._events or upcoming <= self._events[0][0]):
                self._now = upcoming
                self._route(arrivals.popleft())
            else:
                self._now, _order, happen = heapq.heappop(self._events)
                happen()
        span = max((call.ended for call in self._calls), default=0.0)
        busy = sum(machine.busy_s for machine in self._machines)
        return SimulationResult(self._counts, self._calls, self._loads, self._evictions, busy, span)

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), happen))

    def _route(self, number: int) -> None:
        name = self._calls[number].call.model
        best = self._least_loaded(name)
        if best is not None and best.active + len(best.queue) < best.rates.slots:
            self._assign(best, number)
            return
        further = self._start(name, evicts=best is None)
        if further is not None or best is not None:
            self._assign(further or best, number)  # type: ignore[arg-type]  # one of them is there
            return
        self._pending.setdefault(name, deque()).append(number)
        self._make_room(name)

    def _least_loaded(self, name: str) -> _SimulatedReplica | None:
        open_ones = [replica for replica in self._replicas[name] if not replica.draining]
        return min(open_ones, key=lambda replica: replica.active + len(replica.queue), default=None)

    def _assign(self, replica: _SimulatedReplica, number: int) -> None:
        replica.queue.append(number)
        if replica.ready:
            self._advance(replica.machine)
            self._fill(replica)
            self._schedule(replica.machine)

    def _fill(self, replica: _SimulatedReplica) -> None:
        while replica.queue and replica.active < replica.rates.slots:
            number = replica.queue.popleft()
            call = self._calls[number]
            call.started = self._now
            tokens = max(1, call.call.prompt_tokens - call.call.cached_tokens)
            replica.prompts.append([number, float(tokens)])

    def _start(self, name: str, *, evicts: bool) -> _SimulatedReplica | None:
        """Load a model on a machine with enough space. If ``evicts``, idle models can be evicted to make space. Return
        ``None`` if the model cannot be loaded now.
        """
        rates = self._plan.models[name]
        if rates.replicas and len(self._replicas[name]) >= rates.replicas:
            return None
        simulated_machines = [machine for machine in self._machines if name not in machine.replicas]
        roomy = [machine for machine in simulated_machines if machine.free_gb >= rates.memory_gb]
        if roomy:
            machine = max(roomy, key=lambda one: one.free_gb)
        elif evicts:
            able = [
                simulated_machine
                for simulated_machine in simulated_machines
                if simulated_machine.free_gb + sum(idle.rates.memory_gb for idle in _idle(simulated_machine))
                >= rates.memory_gb
            ]
            if not able:
                return None
            machine = min(able, key=lambda one: min(idle.used_at for idle in _idle(one)))
            for idle in sorted(_idle(machine), key=lambda one: one.used_at):
                if machine.free_gb >= rates.memory_gb:
                    break
                self._unload(idle)
                self._evictions += 1
        else:
            return None
        replica = _SimulatedReplica(name, rates, machine, self._now + rates.load_s, used_at=self._now)
        machine.free_gb -= rates.memory_gb
        machine.replicas[name] = replica
        self._replicas[name].append(replica)
        self._loads += 1
        self._at(replica.ready_at, lambda: self._ready(replica))
        return replica

    def _unload(self, replica: _SimulatedReplica) -> None:
        del replica.machine.replicas[replica.name]
        replica.machine.free_gb += replica.rates.memory_gb
        self._replicas[replica.name].remove(replica)

    def _ready(self, replica: _SimulatedReplica) -> None:
        replica.ready = True
        self._advance(replica.machine)
        self._fill(replica)
        self._schedule(replica.machine)
        if replica.idle:  # the calls that it was loaded for no longer wait
            self._rest(replica)

    def _rest(self, replica: _SimulatedReplica) -> None:
        """Handle a replica that has become idle."""
        replica.used_at = now = self._now
        if replica.draining:
            self._unload(replica)
            self._evictions += 1
        else:
            self._at(now + replica.rates.keep_alive, lambda: self._expire(replica, now))
        self._at(now, self._serve_pending)

    def _expire(self, replica: _SimulatedReplica, used_at: float) -> None:
        simulated_replica = replica.machine.replicas.get(replica.name)
        if simulated_replica is replica and replica.idle and replica.used_at == used_at:
            self._unload(replica)
            self._at(self._now, self._serve_pending)

    def _serve_pending(self) -> None:
        """Load the models for which calls wait, starting with the longest wait."""
        for name in list(self._pending):
            replica = self._least_loaded(name) or self._start(name, evicts=True)
            if replica is None:
                self._make_room(name)
                continue
            for number in self._pending.pop(name):
                self._assign(self._least_loaded(name) or replica, number)

    def _make_room(self, name: str) -> None:
        """Evict busy models to make space for a waiting model. If none can be evicted yet, schedule another attempt."""
        need = self._plan.models[name].memory_gb
        later: list[float] = []
        for machine in self._machines:
            if name in machine.replicas:
                continue
            room, leaving = machine.free_gb, []
            for replica in sorted(machine.replicas.values(), key=lambda one: one.ready_at):
                until = replica.ready_at + max(MIN_STAY_FACTOR * replica.rates.load_s, MIN_STAY_S)
                if until > self._now:
                    later.append(until)
                elif room < need:
                    room += replica.rates.memory_gb
                    leaving.append(replica)
            if room < need:
                continue
            for replica in leaving:
                self._drain(replica)
            return
        if later and name not in self._retries:
            self._retries.add(name)
            self._at(min(later), lambda: self._look_again(name))

    def _drain(self, replica: _SimulatedReplica) -> None:
        if replica.draining:
            return
        replica.draining = True
        if replica.queue:
            waiting_calls = self._pending.setdefault(replica.name, deque())
            waiting_calls.extend(replica.queue)
            replica.queue.clear()
        if replica.idle:
            self._rest(replica)

    def _look_again(self, name: str) -> None:
        self._retries.discard(name)
        self._serve_pending()

    def _advance(self, machine: _SimulatedMachine) -> None:
        """Compute on a machine until now. No prompt or answer ends in between, because each end is an event."""
        elapsed_s, machine.at = self._now - machine.at, self._now
        working = machine.working()
        if not working or elapsed_s <= 0:
            return
        machine.busy_s += elapsed_s
        part = elapsed_s / len(working)
        for replica in working:
            prompt, answer = replica.speeds()
            if replica.prompts:
                replica.prompts[0][1] -= prompt * part
            replica.served += answer * part

    def _schedule(self, machine: _SimulatedMachine) -> None:
        """Schedule an event for the next end of a prompt or an answer on the machine. Previously scheduled events
        become invalid.
        """
        machine.version = version = machine.version + 1
        working = machine.working()
        soonest = min(
            (remaining_s for replica in working for remaining_s in _times_left(replica)), default=None
        )
        if soonest is not None:
            self._at(self._now + max(0.0, soonest) * len(working), lambda: self._step(machine, version))

    def _step(self, machine: _SimulatedMachine, version: int) -> None:
        if machine.version != version:
            return
        self._advance(machine)
        for replica in [
            simulated_replica for simulated_replica in machine.working() if self._take_ends(simulated_replica)
        ]:
            self._rest(replica)
        self._schedule(machine)

    def _take_ends(self, replica: _SimulatedReplica) -> bool:
        """End the prompts and answers that are complete. Return whether the replica has no work left."""
        while replica.prompts and replica.prompts[0][1] <= ROUNDING_TOKENS:
            number = int(replica.prompts.popleft()[0])
            call = self._calls[number]
            call.first_token = self._now
            remaining_tokens = call.call.completion_tokens - 1
            if remaining_tokens > 0:
                heapq.heappush(replica.answers, (replica.served + remaining_tokens, number))
            else:
                self._end(number)
        while replica.answers and replica.answers[0][0] - replica.served <= ROUNDING_TOKENS:
            self._end(heapq.heappop(replica.answers)[1])
        self._fill(replica)
        return replica.idle

    def _end(self, number: int) -> None:
        self._calls[number].ended = self._now
        self._ended_count += 1
        if self._progress is not None:
            self._progress(self._ended_count)


def _idle(machine: _SimulatedMachine) -> list[_SimulatedReplica]:
    return [replica for replica in machine.replicas.values() if replica.idle]


def _times_left(replica: _SimulatedReplica) -> Iterator[float]:
    """Yield the seconds until the first prompt ends and until the first answer ends, if no other model uses the
    machine.
    """
    prompt, answer = replica.speeds()
    if replica.prompts:
        yield replica.prompts[0][1] / prompt
    if replica.answers:
        yield (replica.answers[0][0] - replica.served) / answer
