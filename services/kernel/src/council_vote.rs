//! Votes of a city's council, as several services record them.

use crate::{
    attachment,
    refusal::{Refusal, Refused},
    time::{self, Moment},
};
use hansa_proto::types::{CouncilVote, VoteResult};

/// Checks a council vote of a command: its result, a day that is not in the future, its minutes, and its tally.
///
/// # Errors
/// `FIELD_INVALID` if one of them is missing or malformed.
pub fn check(field: &str, vote: Option<&CouncilVote>, at: Moment) -> Refused<CouncilVote> {
    let vote = vote.ok_or_else(|| Refusal::field(field, "is required"))?;
    if vote.result() == VoteResult::Unspecified {
        return Err(Refusal::field(format!("{field}.result"), "is required"));
    }
    time::past_day(&format!("{field}.vote_date"), vote.vote_date.as_ref(), at)?;
    attachment::required(&format!("{field}.minutes"), vote.minutes.as_ref())?;
    if let Some(tally) = &vote.tally
        && [tally.for_count, tally.against_count, tally.abstention_count].iter().any(|count| *count < 0)
    {
        return Err(Refusal::field(format!("{field}.tally"), "has a negative number of votes"));
    }
    Ok(vote.clone())
}

/// Returns whether a vote was counted, and more votes were against than for.
#[must_use]
pub fn is_outvoted(vote: &CouncilVote) -> bool {
    vote.tally.as_ref().is_some_and(|tally| tally.for_count <= tally.against_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, NaiveDate};
    use hansa_proto::types::council_vote::Tally;

    #[test]
    fn a_vote_needs_result_day_and_minutes() {
        let at = Moment::at(DateTime::from_timestamp(1_750_000_000, 0).unwrap());
        let good = CouncilVote {
            result: VoteResult::Approved as i32,
            vote_date: Some(time::date(NaiveDate::from_ymd_opt(2025, 6, 1).unwrap())),
            minutes: Some(attachment::link("minutes/12")),
            tally: Some(Tally { for_count: 20, against_count: 3, abstention_count: 0 }),
        };
        assert_eq!(check("vote", Some(&good), at), Ok(good.clone()));
        let tomorrow_but_one = at.today().succ_opt().unwrap().succ_opt().unwrap();
        let bad = [
            (CouncilVote { result: 0, ..good.clone() }, "vote.result"),
            (CouncilVote { vote_date: None, ..good.clone() }, "vote.vote_date"),
            (CouncilVote { vote_date: Some(time::date(tomorrow_but_one)), ..good.clone() }, "vote.vote_date"),
            (CouncilVote { minutes: None, ..good.clone() }, "vote.minutes"),
            (
                CouncilVote { tally: Some(Tally { against_count: -1, ..Tally::default() }), ..good.clone() },
                "vote.tally",
            ),
        ];
        for (vote, field) in bad {
            assert_eq!(check("vote", Some(&vote), at).unwrap_err().missing[0].subject, field);
        }
        assert!(check("vote", None, at).is_err());
        assert!(!is_outvoted(&good) && !is_outvoted(&CouncilVote { tally: None, ..good.clone() }));
        let lost = Tally { for_count: 3, against_count: 3, abstention_count: 9 };
        assert!(is_outvoted(&CouncilVote { tally: Some(lost), ..good }));
    }
}
