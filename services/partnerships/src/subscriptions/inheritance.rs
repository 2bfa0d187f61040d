//! The agreements of a city that is no more follow the city that its records go to (CT-11): as soon as the register says so,
//! or when the day has come that it named.

use super::register::Cities;
use crate::{api::facts::Known, views};
use hansa_journal::{Author, Command, Journal, Mirrors, trace};
use hansa_kernel::{Reason, RecordId, RecordName, Refused};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, CityFacts};
use std::sync::Arc;
use uuid::Uuid;

/// Where cities wait whose agreements are to follow.
pub const QUEUE: &str = "inherit";
/// How many successions, one after the other, are followed at once.
const SUCCESSIONS: usize = 10;
/// Agreements that are decided at once.
const PAGE: u64 = 200;

/// Lets the agreements of a city follow. Those that have, and those that are over, are left as they are; so are all where the
/// successor was an error of the register and is deleted: there is nobody to follow (PL-8).
///
/// # Errors
/// Where the database is away, or the successor is not known here yet: the city stays in the queue.
pub async fn inherit(journal: Journal, id: Uuid) -> Refused<()> {
    let city = RecordId(id);
    let Some(since) = ended(&journal, city).await?.map(|(_, since)| since) else { return Ok(()) };
    let heir = last_heir(&journal, city).await?;
    if views::ended_city::is_deleted(journal.store(), heir).await? {
        tracing::warn!(%city, %heir, "a city's successor is deleted: its agreements stay as they are");
        return Ok(());
    }
    let heir = Arc::new(Known::read(&journal, &[heir]).await?.city(heir)?);
    let mut after = None;
    loop {
        let page = views::agreement::standing_of(journal.store(), city, after.as_deref(), PAGE).await?;
        let commands = page.ids.iter().map(|id| following(RecordId(*id), city, heir.clone(), since)).collect();
        for answer in journal.submit_each::<Agreement>(commands, false).await {
            match answer {
                Err(refusal) if matches!(refusal.reason, Reason::Deleted | Reason::Frozen | Reason::Limit) => {
                    tracing::warn!(%city, %refusal, "an agreement does not follow its city's successor");
                }
                answer => drop(answer?),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn following(id: RecordId, city: RecordId, heir: Arc<CityFacts>, since: chrono::NaiveDate) -> Command<Agreement> {
    let author = Author { trace: trace::current(), ..Author::default() };
    Command::new(RecordName::new(COLLECTION, id), author, move |state: Option<&Agreement>, _| {
        state.map_or(Ok(Vec::new()), |state| agreement::inherit(state, city, &heir, since))
    })
}

/// What the records of a city go to, and since when, where that day has come.
async fn ended(journal: &Journal, city: RecordId) -> Refused<Option<(RecordId, chrono::NaiveDate)>> {
    let today = journal.clock().moment().today();
    let known = Mirrors::<Cities>::of(journal).get(city).await?;
    Ok(known.and_then(|city| city.successor).filter(|(_, since)| *since <= today))
}

/// The end of the chain: a successor may be no more itself.
async fn last_heir(journal: &Journal, city: RecordId) -> Refused<RecordId> {
    let mut heir = city;
    for _ in 0..SUCCESSIONS {
        match ended(journal, heir).await? {
            Some((next, _)) => heir = next,
            None => break,
        }
    }
    Ok(heir)
}
