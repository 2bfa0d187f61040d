"""A Python client of Hansa, which docs/api-tour.md explains: python client.py NODE CITY PARTNER.

The environment contains the tokens: A_OFFICE and A_MAYOR of the city, B_OFFICE and B_MAYOR of its partner.
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
from hansa.type.v1 import agreement_kind_pb2 as kinds
from hansa.type.v1 import attachment_pb2 as attachment
from hansa.type.v1 import council_vote_pb2 as council
from hansa.type.v1 import text_pb2 as text
from hansa.type.v1 import next_step_pb2 as violation

TRIES = 5
WAIT_SECONDS = 30


def refusal(error):
    """Returns the reason and the help of a refusal, and all its violations. Returns None for other errors."""
    status = rpc_status.from_call(error)
    info, found = error_details_pb2.ErrorInfo(), violation.Violations()
    for detail in status.details if status else []:
        detail.Unpack(info)
        detail.Unpack(found)
    return (info.reason, info.metadata.get("help", ""), list(found.violations)) if info.domain == "hansa" else None


def send(call, request, token):
    """Sends a command until the platform answers. With the same request id the command takes effect only once."""
    request.request_id = request.request_id or str(uuid.uuid4())
    for attempt in range(TRIES):
        try:
            return call(request, metadata=[("authorization", f"Bearer {token}")], timeout=WAIT_SECONDS)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) or attempt == TRIES - 1:
                raise
            time.sleep(2**attempt / 10)


def read(call, request, token):
    """Sends a request that changes nothing."""
    return call(request, metadata=[("authorization", f"Bearer {token}")], timeout=WAIT_SECONDS)


def said(words):
    """Returns a text in English."""
    return [text.LocalizedText(language_code="en", text=words)]


def refused(what, call):
    """Makes a call that must be refused, and prints the refusal."""
    try:
        call()
    except grpc.RpcError as error:
        reason, help_text, violations = refusal(error)
        rules = ", ".join(dict.fromkeys(each.rule for each in violations))
        print(f"{what}: {error.code().name}, {reason} ({rules}). {help_text}".rstrip())
    else:
        raise SystemExit(f"{what} was not refused")


def watch(channel, token, after, seen):
    """Follows the feed of the partnerships service after a position, in a thread of its own."""
    request = changes.WatchFeedRequest(name="feeds/partnerships", after_position=after)
    stream = changes_grpc.ChangeServiceStub(channel).WatchFeed(request, metadata=[("authorization", f"Bearer {token}")])

    def follow():
        try:
            for answer in stream:
                # A response without an entry is a heartbeat.
                if answer.HasField("entry"):
                    seen.append(answer.entry.change)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise

    threading.Thread(target=follow, daemon=True).start()
    return stream


def eventually(what, condition):
    """Waits until the condition returns something, and returns that."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise SystemExit(f"{what}: not within {WAIT_SECONDS} s")


def memorandum(desk, city, partner, tokens):
    """Brings an agreement from the proposal to both signatures, with some refusals on the way."""
    proposal = agreements.ProposeAgreementRequest(
        initiator=city,
        partner=partner,
        terms=agreement.AgreementTerms(
            kind=kinds.AGREEMENT_KIND_MEMORANDUM, title=said("Shade and water"), sectors=[agreement.SECTOR_URBAN_PLANNING]
        ),
    )
    made = send(desk.ProposeAgreement, proposal, tokens["A_OFFICE"])
    again = send(desk.ProposeAgreement, proposal, tokens["A_OFFICE"])
    print(f"proposed; sent twice, it is {'the same' if again.name == made.name else 'another'} agreement")

    name = made.name
    early = agreements.SignAgreementRequest(name=name)
    refused("signed too early", lambda: send(desk.SignAgreement, early, tokens["A_MAYOR"]))
    tried = send(desk.OpenDialogue, agreements.OpenDialogueRequest(name=name, validate_only=True), tokens["B_OFFICE"])
    there = read(desk.GetAgreement, agreements.GetAgreementRequest(name=name), tokens["B_OFFICE"])
    state = agreement.AgreementState.Name
    print(f"validated only: {state(tried.state)}; the record is still {state(there.state)}")
    send(desk.OpenDialogue, agreements.OpenDialogueRequest(name=name, etag=there.etag), tokens["B_OFFICE"])
    stale = agreements.DeclineAgreementRequest(name=name, etag=there.etag)
    refused("declined on a stale etag", lambda: send(desk.DeclineAgreement, stale, tokens["B_OFFICE"]))

    why = agreements.ProposeRationaleRequest(name=name, rationale=said("Both cities heat up."))
    put = send(desk.ProposeRationale, why, tokens["A_OFFICE"])
    confirm = agreements.ConfirmRationaleRequest(name=name, revision=put.rationale.revision)
    send(desk.ConfirmRationale, confirm, tokens["B_OFFICE"])
    what = agreements.ProposePlanRequest(name=name, plan=said("A trial of shade and water."))
    put = send(desk.ProposePlan, what, tokens["B_OFFICE"])
    send(desk.ConfirmPlan, agreements.ConfirmPlanRequest(name=name, revision=put.plan.revision), tokens["A_OFFICE"])

    sign = agreements.SignAgreementRequest(name=name)
    refused("signed without guidelines", lambda: send(desk.SignAgreement, sign, tokens["A_MAYOR"]))
    guidelines = party.Guidelines(
        document=attachment.Attachment(uri="https://example.org/guidelines.pdf"),
        grounds=[party.GUIDELINES_GROUND_TECHNICAL],
        influence_mitigation=said("Officers meet officers; no funds are accepted."),
        endorsement_mitigation=said("No joint appearance with national leaders."),
        bind_all_actors=True,
    )
    send(desk.StateGuidelines, agreements.StateGuidelinesRequest(name=name, guidelines=guidelines), tokens["A_OFFICE"])
    for mayor in ("A_MAYOR", "B_MAYOR"):
        signed = send(desk.SignAgreement, agreements.SignAgreementRequest(name=name), tokens[mayor])
    print(f"signed by both: {state(signed.state)}")
    return name


def day(years_ahead=0):
    """Returns today, or the first of this month so many years from now."""
    today = datetime.date.today()
    return date_pb2.Date(year=today.year + years_ahead, month=today.month, day=1 if years_ahead else today.day)


def adopted(desk, city, tokens):
    """Lets the office draft a strategy with two goals, and the mayor adopt it after the vote of the council."""
    draft = strategies.CreateStrategyRequest(strategy=strategy.Strategy(city=city, title=said("Open to the world")))
    name = send(desk.CreateStrategy, draft, tokens["A_OFFICE"]).name
    for goal_id, aim in (("climate", strategy.GOAL_AIM_GLOBAL_CHALLENGES), ("markets", strategy.GOAL_AIM_ECONOMIC_ATTRACTIVENESS)):
        goal = strategy.Goal(
            goal_id=goal_id, aim=aim, dimension=strategy.DIMENSION_ECONOMY, outcomes=[strategy.OUTCOME_ECONOMIC], title=said(goal_id.title()),
            indicator=said("Projects completed"), baseline="0", target="5", target_date=day(3),
        )
        send(desk.SetGoal, strategies.SetGoalRequest(name=name, goal=goal), tokens["A_OFFICE"])
    vote = council.CouncilVote(
        result=council.VOTE_RESULT_APPROVED,
        vote_date=day(),
        minutes=attachment.Attachment(display_name="Council 12/7"),
        tally=council.CouncilVote.Tally(for_count=41, against_count=9, abstention_count=3),
    )
    adopt = strategies.AdoptStrategyRequest(name=name, council_vote=vote, next_election_date=day(2))
    send(desk.AdoptStrategy, adopt, tokens["A_MAYOR"])


def stands(desk, city, name, token):
    """Prints the evaluation of the city, and its score if the agreement served a goal."""
    unserved = evaluation.FINDING_CODE_TOOLS_WITHOUT_GOAL

    def evaluated():
        now = read(desk.GetEvaluation, evaluations.GetEvaluationRequest(city=city), token)
        return now if any(name in found.evidence for found in now.findings if found.code == unserved) else None

    now = eventually("the evaluation", evaluated)
    print(f"evaluated again: {now.overall.basis_points / 100:.2f} of 100")
    for found in now.findings:
        print(f"  {evaluation.FindingCode.Name(found.code)}: {found.advice}")
    link = strategy.ToolLink(tool=name, goal_ids=["climate"], purpose=strategy.TOOL_PURPOSE_CREATE)
    steps = [evaluations.SimulationStep(link_tool=evaluations.SimulationStep.LinkTool(link=link))]
    what_if = read(desk.SimulatePortfolio, evaluations.SimulatePortfolioRequest(city=city, steps=steps), token)
    print(f"simulated with the goal served: {what_if.after.overall.basis_points / 100:.2f}")


def main():
    """Runs the whole example."""
    node, city, partner = sys.argv[1:]
    tokens = {name: os.environ[name] for name in ("A_OFFICE", "A_MAYOR", "B_OFFICE", "B_MAYOR")}
    with grpc.insecure_channel(node) as channel:
        feed = changes_grpc.ChangeServiceStub(channel)
        past = read(feed.ListFeedEntries, changes.ListFeedEntriesRequest(parent="feeds/partnerships"), tokens["B_OFFICE"])
        seen = []
        stream = watch(channel, tokens["B_OFFICE"], past.position, seen)
        name = memorandum(agreements_grpc.AgreementServiceStub(channel), city, partner, tokens)

        def followed():
            # An agreement that becomes public appears in the feed again, so a version can appear twice.
            by_version = {each.version: each.payload_type.rpartition(".")[2] for each in seen if each.record == name}
            found = [by_version[version] for version in sorted(by_version)]
            return found if found.count("AgreementSigned") == 2 and "AgreementEnteredIntoForce" in found else None

        happened = eventually("the second signature", followed)
        print(f"followed: {', '.join(happened[: happened.index('AgreementEnteredIntoForce') + 1])}")
        stream.cancel()

        adopted(strategies_grpc.StrategyServiceStub(channel), city, tokens)
        stands(evaluations_grpc.EvaluationServiceStub(channel), city, name, tokens["A_OFFICE"])


if __name__ == "__main__":
    main()
