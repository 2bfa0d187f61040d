//! Fairness of the queue: a tenant with a long backlog does not delay other tenants.
#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{Fixture, author, enter, name, rename, steward, tenant};
use hansa_journal::{Author, Command, limits::BATCH_COMMANDS, tables::change};
use hansa_kernel::record::emit;
use hansa_proto::register::{CityRenamed, city_change::Change};
use hansa_register_domain::City;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

/// Returns a rename by another tenant.
fn others(key: &str) -> Command<City> {
    let author = Author { tenant: Some(tenant(2)), ..author(&steward()) };
    Command::new(name(key), author, |_, _| {
        emit(Change::from(CityRenamed { display_name: "Tunis".into(), ..Default::default() }))
    })
}

/// On one thread, all commands are submitted before the writer takes the first.
#[tokio::test(flavor = "current_thread")]
async fn who_comes_after_anothers_backlog_is_in_the_next_batch() {
    let f = Fixture::sqlite().await;
    let entered = f.journal.submit_each(vec![enter("loud", "0"), enter("quiet", "0")], false).await;
    assert!(entered.iter().all(Result::is_ok));
    let loud = (1..=2 * BATCH_COMMANDS).map(|turn| rename("loud", &turn.to_string()));
    let asked = loud.chain([others("quiet")]).map(|command| f.journal.submit(command, false));
    let answers = futures::future::join_all(asked).await;
    // The commands of the tenant with the backlog are decided in order.
    let versions: Vec<u64> = answers.iter().map(|answer| answer.as_ref().unwrap().version).collect();
    assert!(versions.iter().copied().eq((2..2 + 2 * BATCH_COMMANDS as u64).chain([2])));
    let changes = change::Entity::find().filter(change::Column::Version.gt(1)).order_by_asc(change::Column::Seq);
    let changes = changes.all(f.journal.store().reader()).await.unwrap();
    let place = changes.iter().position(|row| row.record == name("quiet").id.0).unwrap();
    assert!(place < BATCH_COMMANDS, "the command waited for {place} commands of another tenant");
}
