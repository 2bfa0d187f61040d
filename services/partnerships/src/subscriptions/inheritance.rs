//! Inheritance: when a city has a successor, its agreements pass to the successor (CT-11). This happens when the
//! register reports the succession, or on the day of the succession if that is later.

use crate::{facts::CityFactsReader, views};
use hansa_journal::{Author, Command, Journal, Mirrors, trace};
use hansa_kernel::{ReasonClass, RecordId, RecordName, Refused};
use hansa_partnerships_domain::agreement::{self, Agreement, COLLECTION, CityFacts};
use hansa_register_domain::reference::CityReference;
use std::sync::Arc;
use uuid::Uuid;

/// Maximum length of a chain of successors.
const SUCCESSIONS: usize = 10;
/// Number of agreements per batch.
const PAGE: u64 = 200;

/// Passes the agreements of a city to its successor. Agreements that have already passed or ended stay unchanged. All
/// agreements stay unchanged if the register has deleted the successor as an error (PL-8).
///
/// # Errors
/// `UNAVAILABLE` if the database is unavailable, or the successor is not mirrored yet; the city stays in the queue.
pub async fn inherit(journal: Journal, id: Uuid) -> Refused<()> {
    let city = RecordId(id);
    let Some(since) = ended(&journal, city).await?.map(|(_, since)| since) else { return Ok(()) };
    let heir = last_heir(&journal, city).await?;
    if views::ended_city::is_deleted(journal.store(), heir).await? {
        tracing::warn!(%city, %heir, "a city's successor is deleted; its agreements stay unchanged");
        return Ok(());
    }
    let heir = Arc::new(CityFactsReader::read(&journal, &[heir]).await?.city(heir)?);
    let mut after = None;
    loop {
        let page = views::agreement::standing_of(journal.store(), city, after.as_deref(), PAGE).await?;
        let commands = page.ids.iter().map(|id| follow(RecordId(*id), city, heir.clone(), since)).collect();
        for result in journal.submit_each::<Agreement>(commands, false).await {
            match result {
                Err(refusal)
                    if matches!(refusal.class, ReasonClass::Deleted | ReasonClass::Frozen | ReasonClass::Limit) =>
                {
                    tracing::warn!(%city, %refusal, "an agreement cannot pass to its city's successor");
                }
                result => drop(result?),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn follow(id: RecordId, city: RecordId, heir: Arc<CityFacts>, since: chrono::NaiveDate) -> Command<Agreement> {
    let author = Author { trace: trace::current(), ..Author::default() };
    Command::new(RecordName::new(COLLECTION, id), author, move |state: Option<&Agreement>, _| {
        state.map_or(Ok(Vec::new()), |state| agreement::inherit(state, city, &heir, since))
    })
}

/// Returns the successor of a city and the day of the succession, if that day has come.
async fn ended(journal: &Journal, city: RecordId) -> Refused<Option<(RecordId, chrono::NaiveDate)>> {
    let today = journal.clock().moment().today();
    let known = Mirrors::<CityReference>::new(journal).get(city).await?;
    Ok(known.and_then(|city| city.successor).filter(|(_, since)| *since <= today))
}

/// Follows the chain of successors to its end: a successor may have a successor itself.
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
