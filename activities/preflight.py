"""What a preflight asks of the source and the target, and its verdicts."""

from __future__ import annotations

from temporalio import activity

from activities.execution import activity_pulse
from xms.config import Config
from xms.errors import TargetRefusedLogin
from xms.models import job_id
from xms.openstack.check import Candidate, Reading, facts_of, shared_out
from xms.openstack.cloud import connect as connect_target
from xms.orders.preflight import (
    LookAtTarget,
    PreflightOrder,
    PreflightReport,
    Subjects,
    TargetFacts,
    TargetLook,
    TargetWanted,
)
from xms.preflight.judge import judge
from xms.vsphere.sessions import Sessions
from xms.vsphere.subjects import subjects


class PreflightActivities:
    """Read-only: nothing of either side is changed.

    Args:
        config: the worker's.
        sessions: those of the process, which has to close them.
    """

    def __init__(self, config: Config, sessions: Sessions) -> None:
        self.config = config
        self.sessions = sessions

    @activity.defn(no_thread_cancel_exception=True)
    def gather_subjects(self, order: PreflightOrder) -> Subjects:
        """Read the VMs that are meant, with their hosts and datastores."""
        with self.sessions.session(order.source, self.config.source(order.source)) as session:
            return Subjects.of(order.source, subjects(session, order))

    @activity.defn(no_thread_cancel_exception=True)
    def look_at_target(self, order: LookAtTarget) -> Subjects:
        """Look whether the target can take each of them; what is the same for all is asked once."""
        source, found, pulse = order.subjects.source, order.subjects.unpacked(), activity_pulse()
        target = self.config.target_named(order.wanted.target)
        try:
            cloud = connect_target(target, order.wanted.project)
        except TargetRefusedLogin as refusal:
            facts = TargetFacts(looks=_refused(refusal, order.wanted))
            return Subjects.of(source, [subject.model_copy(update={"target": facts}) for subject in found])
        with cloud:
            reading, looked = Reading(cloud, pulse), []
            for subject, wanted in zip(found, shared_out(order.wanted, [one.vm for one in found]), strict=True):
                candidate = Candidate(vm=subject.vm, job_id=order.job_id or job_id(source, subject.vm.name))
                facts = facts_of(reading, target, wanted, candidate)
                looked.append(subject.model_copy(update={"target": facts}))
        return Subjects.of(source, looked)

    @activity.defn(no_thread_cancel_exception=True)
    def judge_subjects(self, order: Subjects) -> PreflightReport:
        """Ask every rule about every subject."""
        return PreflightReport.of(order.source, [judge(subject) for subject in order.unpacked()])


def _refused(refusal: TargetRefusedLogin, wanted: TargetWanted) -> tuple[TargetLook, ...]:
    """Nothing that was wanted can be looked at in a project that lets nobody in."""
    looks = {
        "flavor": wanted.flavor,
        "volume type": wanted.volume_type,
        "availability zone": wanted.availability_zone,
        "network map": wanted.network_map,
        "networks": wanted.network_map,
        "ports": wanted.network_map,
        "quota": wanted.flavor,
    }
    because = "not looked at: the project could not be entered"
    skipped = (TargetLook(what=what, skipped=because) for what, given in looks.items() if given is not None)
    return (TargetLook(what="project", trouble=refusal.trouble()), *skipped)
