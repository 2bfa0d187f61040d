"""A client of Hansa in Python, as docs/api-tour.md shows it: python client.py NODE CITY PARTNER.

The tokens come from the environment: A_OFFICE and A_MAYOR of the city, B_OFFICE and B_MAYOR of its partner.
"""

import datetime
import os
import sys
import threading
import time
import uuid

import grpc
from google.rpc import error_details_pb2
from google.type import date_pb2
from grpc_status import rpc_status
from hansa.changes.v1 import change_service_pb2 as changes
from hansa.changes.v1 import change_service_pb2_grpc as changes_grpc
from hansa.partnerships.v1 import agreement_pb2 as agreement
from hansa.partnerships.v1 import agreement_service_pb2 as agreements
from hansa.partnerships.v1 import agreement_service_pb2_grpc as agreements_grpc
from hansa.partnerships.v1 import party_pb2 as party
from hansa.strategy.v1 import evaluation_pb2 as evaluation
from hansa.strategy.v1 import evaluation_service_pb2 as evaluations
from hansa.strategy.v1 import evaluation_service_pb2_grpc as evaluations_grpc
from hansa.strategy.v1 import strategy_pb2 as strategy
from hansa.strategy.v1 import strategy_service_pb2 as strategies
from hansa.strategy.v1 import strategy_service_pb2_grpc as strategies_grpc
from hansa.type.v1 import text_pb2 as text

TRIES = 5
WAIT_SECONDS = 30


def refusal(error):
    """The reason, the rule and the help of a refusal; None where the error is none of the platform's."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason, info.metadata["rule"], info.metadata.get("help", "")
    return None


def send(call, request, token):
    """Sends a command until there is an answer. The request id makes it safe to send again: it has effect once."""
    request.request_id = request.request_id or str(uuid.uuid4())
    for attempt in range(TRIES):
        try:
            return call(request, metadata=[("authorization", f"Bearer {token}")], timeout=WAIT_SECONDS)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) or attempt == TRIES - 1:
                raise
            time.sleep(2**attempt / 10)


def read(call, request, token):
    """Asks something."""
    return call(request, metadata=[("authorization", f"Bearer {token}")], timeout=WAIT_SECONDS)


def said(words):
    """A text in English."""
    return [text.LocalizedText(language_code="en", text=words)]


def refused(what, call):
    """Makes a call that must be refused, and tells how."""
    try:
        call()
    except grpc.RpcError as error:
        reason, rule, help_text = refusal(error)
        print(f"{what}: {error.code().name}, {reason} by {rule}. {help_text}".rstrip())
    else:
        raise SystemExit(f"{what} was not refused")


def watch(channel, token, after, seen):
    """Follows the changes of the agreements from a position on, in a thread of its own."""
    request = changes.WatchChangesRequest(service="services/partnerships", after_position=after)
    stream = changes_grpc.ChangeServiceStub(channel).WatchChanges(request, metadata=[("authorization", f"Bearer {token}")])

    def follow():
        try:
            for answer in stream:
                seen.append(answer.change)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise

    threading.Thread(target=follow, daemon=True).start()
    return stream


def eventually(what, condition):
    """Waits until something holds, and returns it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise SystemExit(f"{what}: not within {WAIT_SECONDS} s")


def memorandum(desk, city, partner, tokens):
    """From a proposal to two signatures, with what goes wrong on the way."""
    proposal = agreements.CreateAgreementRequest(
        initiator=city,
        partner=partner,
        terms=agreement.AgreementTerms(
            kind=agreement.AGREEMENT_KIND_MEMORANDUM, title=said("Shade and water"), sectors=[agreement.SECTOR_URBAN_PLANNING]
        ),
    )
    made = send(desk.CreateAgreement, proposal, tokens["A_OFFICE"])
    again = send(desk.CreateAgreement, proposal, tokens["A_OFFICE"])
    print(f"proposed; sent twice, it is {'the same' if again.name == made.name else 'another'} agreement")

    name = made.name
    early = agreements.SignAgreementRequest(name=name)
    refused("signed too early", lambda: send(desk.SignAgreement, early, tokens["A_MAYOR"]))
    tried = send(desk.OpenDialogue, agreements.OpenDialogueRequest(name=name, validate_only=True), tokens["B_OFFICE"])
    there = read(desk.GetAgreement, agreements.GetAgreementRequest(name=name), tokens["B_OFFICE"])
    state = agreement.AgreementState.Name
    print(f"tried: {state(tried.state)}; it still is {state(there.state)}")
    send(desk.OpenDialogue, agreements.OpenDialogueRequest(name=name, etag=there.etag), tokens["B_OFFICE"])
    stale = agreements.DeclineAgreementRequest(name=name, etag=there.etag)
    refused("declined on a stale etag", lambda: send(desk.DeclineAgreement, stale, tokens["B_OFFICE"]))

    why = agreements.PutForwardRationaleRequest(name=name, rationale=said("Both cities heat up."))
    put = send(desk.PutForwardRationale, why, tokens["A_OFFICE"])
    confirm = agreements.ConfirmRationaleRequest(name=name, revision=put.rationale.revision)
    send(desk.ConfirmRationale, confirm, tokens["B_OFFICE"])
    what = agreements.PutForwardPlanRequest(name=name, plan=said("A trial of shade and water."))
    put = send(desk.PutForwardPlan, what, tokens["B_OFFICE"])
    send(desk.ConfirmPlan, agreements.ConfirmPlanRequest(name=name, revision=put.plan.revision), tokens["A_OFFICE"])

    sign = agreements.SignAgreementRequest(name=name)
    refused("signed without guidelines", lambda: send(desk.SignAgreement, sign, tokens["A_MAYOR"]))
    guidelines = party.Guidelines(
        document="https://example.org/guidelines.pdf",
        grounds=[party.GUIDELINES_GROUND_TECHNICAL],
        influence_answer=said("Officers meet officers; no funds are accepted."),
        endorsement_answer=said("No joint appearance with national leaders."),
        bind_all_actors=True,
    )
    send(desk.StateGuidelines, agreements.StateGuidelinesRequest(name=name, guidelines=guidelines), tokens["A_OFFICE"])
    for mayor in ("A_MAYOR", "B_MAYOR"):
        signed = send(desk.SignAgreement, agreements.SignAgreementRequest(name=name), tokens[mayor])
    print(f"signed by both: {state(signed.state)}")
    return name


def day(years_ahead=0):
    """Today, or the first of its month so many years from now."""
    today = datetime.date.today()
    return date_pb2.Date(year=today.year + years_ahead, month=today.month, day=1 if years_ahead else today.day)


def adopted(desk, city, tokens):
    """A strategy of two goals, drafted by the office and adopted by mayor and council."""
    draft = strategies.CreateStrategyRequest(strategy=strategy.Strategy(city=city, title=said("Open to the world")))
    name = send(desk.CreateStrategy, draft, tokens["A_OFFICE"]).name
    for id, aim in (("climate", strategy.GOAL_AIM_GLOBAL_CHALLENGES), ("markets", strategy.GOAL_AIM_ECONOMIC_ATTRACTIVENESS)):
        goal = strategy.Goal(
            id=id, aim=aim, dimension=strategy.DIMENSION_ECONOMY, outcomes=[strategy.OUTCOME_ECONOMIC], title=said(id.title()),
            indicator=said("Projects completed"), baseline="0", target="5", target_date=day(3),
        )
        send(desk.PutGoal, strategies.PutGoalRequest(name=name, goal=goal), tokens["A_OFFICE"])
    vote = strategy.CouncilVote(date=day(), reference="Council 12/7", in_favour=41, against=9, abstentions=3)
    adopt = strategies.AdoptStrategyRequest(name=name, council_vote=vote, next_election=day(2))
    send(desk.AdoptStrategy, adopt, tokens["A_MAYOR"])


def stands(desk, city, name, token):
    """How the city stands with the agreement, and how it would stand if the agreement served a goal."""
    unserved = evaluation.FINDING_CODE_TOOLS_WITHOUT_GOAL

    def evaluated():
        now = read(desk.GetEvaluation, evaluations.GetEvaluationRequest(city=city), token)
        return now if any(name in found.evidence for found in now.findings if found.code == unserved) else None

    now = eventually("the evaluation", evaluated)
    print(f"evaluated anew: {now.overall.basis_points / 100:.2f} of 100")
    for found in now.findings:
        print(f"  {evaluation.FindingCode.Name(found.code)}: {found.advice}")
    link = strategy.ToolLink(tool=name, goals=["climate"], purpose=strategy.TOOL_PURPOSE_CREATE)
    steps = [evaluations.WhatIf(serve_goals=evaluations.ServeGoals(link=link))]
    what_if = read(desk.SimulatePortfolio, evaluations.SimulatePortfolioRequest(city=city, steps=steps), token)
    print(f"what if it served the goal: {what_if.after.overall.basis_points / 100:.2f}")


def main():
    """Plays it."""
    node, city, partner = sys.argv[1:]
    tokens = {name: os.environ[name] for name in ("A_OFFICE", "A_MAYOR", "B_OFFICE", "B_MAYOR")}
    with grpc.insecure_channel(node) as channel:
        feed = changes_grpc.ChangeServiceStub(channel)
        past = read(feed.ListChanges, changes.ListChangesRequest(service="services/partnerships"), tokens["B_OFFICE"])
        seen = []
        stream = watch(channel, tokens["B_OFFICE"], past.changes[-1].position if past.changes else 0, seen)
        name = memorandum(agreements_grpc.AgreementServiceStub(channel), city, partner, tokens)

        def followed():
            # What is public from now on comes once more: a version that was seen is passed over.
            by_version = {one.change.version: one.change.type.rpartition(".")[2] for one in seen if one.change.record == name}
            kinds = [by_version[version] for version in sorted(by_version)]
            return kinds if kinds.count("AgreementSigned") == 2 and "AgreementEnteredIntoForce" in kinds else None

        kinds = eventually("the second signature", followed)
        print(f"followed as it happened: {', '.join(kinds[: kinds.index('AgreementEnteredIntoForce') + 1])}")
        stream.cancel()

        adopted(strategies_grpc.StrategyServiceStub(channel), city, tokens)
        stands(evaluations_grpc.EvaluationServiceStub(channel), city, name, tokens["A_OFFICE"])


if __name__ == "__main__":
    main()
